//! READ and WRITE (10) and (16) without the device server's state.

use crate::{block_commands, plan::Plan, unit::UnitFacts};

const FLAGS: u8 = 0x18;

/// The plan of a plain READ or WRITE, valid while
/// [`crate::device_server::DeviceServer::attention_or_reservation`] is false for the nexus. `None` is anything else,
/// also every error: those go to the device server.
pub fn plan(cdb: &[u8], data_out_length: usize, facts: &UnitFacts<'_>) -> Option<Plan> {
    if !facts.ready {
        return None;
    }
    // Everything but the flags, the LBA and the count must be zero.
    let ([0x28 | 0x2A, flags, _, _, _, _, 0, _, _, 0, ..]
    | [0x88 | 0x8A, flags, _, _, _, _, _, _, _, _, _, _, _, _, 0, 0, ..]) = *cdb
    else {
        return None;
    };
    if flags & !FLAGS != 0 {
        return None;
    }
    match cdb[0] {
        0x28 | 0x88 => block_commands::read(cdb, facts).ok(),
        _ if facts.read_only => None,
        _ => block_commands::write(cdb, data_out_length, facts).ok(),
    }
}
