//! C0h and C1h CDBs and their parameter lists: bytes to [`Request`] for the target, [`Request`] to bytes for the
//! command line (docs/control-cdb.md, "CDB").

mod encode;

pub use encode::{EncodedCdb, encode_cdb};

use super::{
    Condition, CopyMode, Flags, OnLinkLoss, OutVerb, PairSelector, PendingSide, Request, SystemId,
    VolumeNumber, VolumePair,
};
use crate::{
    big_endian::field,
    failure::Failure,
    opcode_table::{self, Lookup},
    sense::Sense,
    sense_codes,
};

/// OPERATION CODE of REPLICATION IN.
pub const REPLICATION_IN: u8 = 0xC0;
/// OPERATION CODE of REPLICATION OUT.
pub const REPLICATION_OUT: u8 = 0xC1;
/// Most descriptors of a LIST.
pub const MAX_LIST: usize = 1024;

/// PRIMARY: the volume behind the LUN. MIRROR: the only pair, or every pair.
const THIS_OR_ANY: u32 = 0xFFFF_FFFF;
/// PRIMARY and MIRROR: everything on this system.
const EVERYTHING: u32 = 0xFFFF_FFFE;
/// SELECT of VERIFY: any settled state.
const ANY_SETTLED: u8 = 0xFF;
const HIGHEST_STATE: u8 = 0x08;
/// SELECT of READ PENDING MAP.
const CONTINUE: u8 = 0x80;

const FULL: u8 = 1 << 0;
const INSTANT: u8 = 1 << 1;
const PROTECTED: u8 = 1 << 2;
const STRICT_HOLD: u8 = 1 << 3;
const REMOTE: u8 = 1 << 4;
const FORCE: u8 = 1 << 5;
/// Byte 3 of ESTABLISH and RESTORE.
const CHECKSUM: u8 = 1 << 4;
const DRY_RUN: u8 = 1 << 6;
const LIST: u8 = 1 << 7;

/// A CDB and its parameter list, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedCdb {
    /// What is asked.
    pub request: Request,
    /// ALLOCATION LENGTH of C0h, else 0.
    pub allocation_length: u32,
    /// PARAMETER LIST LENGTH of C1h, else 0.
    pub parameter_list_length: u32,
    /// READ PENDING MAP: go on where the last one ended.
    pub continues: bool,
}

/// Reads a CDB of 16 bytes. Reserved bits, and flags that the service action does not take, have been refused by
/// the opcode table. `here` is the volume behind the LUN that received it.
pub fn decode_cdb(cdb: &[u8], data_out: &[u8], here: VolumeNumber) -> Result<DecodedCdb, Failure> {
    let length = field(cdb, 12..15) as u32;
    if cdb[0] == REPLICATION_OUT {
        let list = data_out.get(..length as usize).ok_or_else(wrong_list_length)?;
        let request = decode_out(cdb, list, here)?;
        return Ok(DecodedCdb {
            request,
            allocation_length: 0,
            parameter_list_length: length,
            continues: false,
        });
    }
    let continues = cdb[1] & 0x1F == 0x04 && cdb[2] & CONTINUE != 0;
    let request = decode_in(cdb, here)?;
    Ok(DecodedCdb {
        request,
        allocation_length: length,
        parameter_list_length: 0,
        continues,
    })
}

fn decode_in(cdb: &[u8], here: VolumeNumber) -> Result<Request, Failure> {
    Ok(match cdb[1] & 0x1F {
        0x00 => Request::Query(decode_selector(cdb, here)?),
        0x01 => {
            let state = match cdb[2] {
                ANY_SETTLED => None,
                state if state <= HIGHEST_STATE => Some(state),
                _ => return Err(Sense::invalid_cdb_field(2, Some(7)).into()),
            };
            Request::Verify {
                pairs: decode_selector(cdb, here)?,
                state,
            }
        }
        0x02 => Request::Setup,
        0x03 => Request::ReportCapabilities,
        0x04 => {
            let side = match cdb[2] & !CONTINUE {
                0 => PendingSide::Union,
                1 => PendingSide::Primary,
                2 => PendingSide::Mirror,
                3 => PendingSide::Remaining,
                _ => return Err(Sense::invalid_cdb_field(2, Some(6)).into()),
            };
            Request::ReadPendingMap {
                pair: decode_pair(cdb, here)?,
                side,
            }
        }
        0x05 => Request::CopyManagementTable(decode_primary(cdb, here)?),
        0x06 => decode_preview(cdb, here)?,
        _ => return Err(Sense::invalid_cdb_field(1, Some(4)).into()),
    })
}

/// SELECT holds the flags of the OUT command, byte 3 its service action. CONFIG copies nothing and has no preview.
fn decode_preview(cdb: &[u8], here: VolumeNumber) -> Result<Request, Failure> {
    let action = cdb[3] & 0x0F;
    let verb = match decode_verb(action) {
        Some(verb) if action != 0x03 => verb,
        _ => return Err(Sense::invalid_cdb_field(3, Some(3)).into()),
    };
    let Lookup::Found(entry) = opcode_table::find(REPLICATION_OUT, action.into()) else {
        return Err(Sense::invalid_cdb_field(3, Some(3)).into());
    };
    let not_taken = cdb[2] & !(entry.usage[2] & !LIST);
    if not_taken != 0 {
        return Err(Sense::invalid_cdb_field(2, Some(7 - not_taken.leading_zeros() as u8)).into());
    }
    Ok(Request::Preview {
        verb,
        flags: decode_flags(cdb[2]),
        pair: decode_pair(cdb, here)?,
    })
}

fn decode_out(cdb: &[u8], list: &[u8], here: VolumeNumber) -> Result<Request, Failure> {
    let (action, bits) = (cdb[1] & 0x1F, cdb[2]);
    let mut verb = decode_verb(action).ok_or_else(|| Failure::from(Sense::invalid_cdb_field(1, Some(4))))?;
    if let OutVerb::Config(_) = verb {
        verb = decode_condition(cdb[3])?;
    }
    let establishes_remote = action == 0x00 && bits & REMOTE != 0;
    let members = if bits & LIST != 0 {
        if establishes_remote {
            return Err(Sense::invalid_cdb_field(2, Some(4)).into());
        }
        if field(cdb, 4..12) != 0 {
            return Err(Sense::invalid_cdb_field(if field(cdb, 4..8) == 0 { 8 } else { 4 }, None).into());
        }
        decode_list(list, here)?
    } else {
        if list.len() != if establishes_remote { 32 } else { 0 } {
            return Err(wrong_list_length());
        }
        let pair = if action == 0x03 {
            decode_config_pair(cdb, here)?
        } else {
            decode_pair(cdb, here)?
        };
        vec![pair]
    };
    if establishes_remote {
        verb = OutVerb::Establish {
            remote: Some(decode_remote(list)?),
        };
    }
    Ok(Request::Out {
        verb,
        flags: Flags {
            checksum: cdb[3] & CHECKSUM != 0,
            ..decode_flags(bits)
        },
        members,
        dry_run: bits & DRY_RUN != 0,
    })
}

/// CONFIG comes with a condition to be filled in.
fn decode_verb(action: u8) -> Option<OutVerb> {
    Some(match action {
        0x00 => OutVerb::Establish { remote: None },
        0x01 => OutVerb::Split,
        0x02 => OutVerb::Restore,
        0x03 => OutVerb::Config(Condition::Hold),
        0x04 => OutVerb::Cancel,
        0x05 => OutVerb::Swap,
        0x06 => OutVerb::Suspend,
        _ => return None,
    })
}

fn decode_condition(byte: u8) -> Result<OutVerb, Failure> {
    Ok(match byte & 0x0F {
        1 => OutVerb::Config(Condition::Hold),
        2 => OutVerb::Config(Condition::Release),
        3 => OutVerb::Config(Condition::NotReady),
        4 => OutVerb::Config(Condition::Ready),
        5 => OutVerb::OnLinkLoss(OnLinkLoss::Refuse),
        6 => OutVerb::OnLinkLoss(OnLinkLoss::Mark),
        _ => return Err(Sense::invalid_cdb_field(3, Some(3)).into()),
    })
}

fn decode_flags(bits: u8) -> Flags {
    Flags {
        full: bits & FULL != 0,
        instant: bits & INSTANT != 0,
        protected: bits & PROTECTED != 0,
        strict_hold: bits & STRICT_HOLD != 0,
        remote: bits & REMOTE != 0,
        force: bits & FORCE != 0,
        checksum: false,
    }
}

/// ESTABLISH with REMOTE: peer and mode.
fn decode_remote(list: &[u8]) -> Result<(SystemId, CopyMode), Failure> {
    let bad = |byte: u16| Failure::from(Sense::invalid_parameter(byte, None));
    let name = std::str::from_utf8(&list[..16]).map_err(|_| bad(0))?;
    let peer = SystemId::new(name.trim_end_matches(' ')).map_err(|_| bad(0))?;
    let mode = match list[16] {
        0 => CopyMode::Async,
        1 => CopyMode::Sync,
        _ => return Err(bad(16)),
    };
    match list[17..].iter().position(|byte| *byte != 0) {
        Some(reserved) => Err(bad(17 + reserved as u16)),
        None => Ok((peer, mode)),
    }
}

fn decode_list(list: &[u8], here: VolumeNumber) -> Result<Vec<VolumePair>, Failure> {
    if list.len() < 8 {
        return Err(wrong_list_length());
    }
    let count = field(list, 0..2) as usize;
    if count == 0 || count > MAX_LIST {
        return Err(Sense::invalid_parameter(0, None).into());
    }
    if list.len() != 8 + 8 * count {
        return Err(wrong_list_length());
    }
    if let Some(reserved) = list[2..8].iter().position(|byte| *byte != 0) {
        return Err(Sense::invalid_parameter(2 + reserved as u16, None).into());
    }
    let mut members = Vec::new();
    for (index, descriptor) in list[8..].chunks_exact(8).enumerate() {
        let at = (8 + 8 * index) as u16;
        let (primary, mirror) = (field(descriptor, 0..4) as u32, field(descriptor, 4..8) as u32);
        if primary == EVERYTHING || mirror == EVERYTHING {
            let at = if primary == EVERYTHING { at } else { at + 4 };
            return Err(Sense::invalid_parameter(at, None)
                .with_information(index as u64)
                .into());
        }
        members.push(VolumePair {
            primary: primary_of(primary, here),
            mirror: mirror_of(mirror),
        });
    }
    Ok(members)
}

fn decode_pair(cdb: &[u8], here: VolumeNumber) -> Result<VolumePair, Failure> {
    let primary = decode_primary(cdb, here)?;
    let mirror = field(cdb, 8..12) as u32;
    if mirror == EVERYTHING {
        return Err(Sense::invalid_cdb_field(8, None).into());
    }
    Ok(VolumePair {
        primary,
        mirror: mirror_of(mirror),
    })
}

/// CONFIG ignores PRIMARY.
fn decode_config_pair(cdb: &[u8], here: VolumeNumber) -> Result<VolumePair, Failure> {
    let mirror = field(cdb, 8..12) as u32;
    if mirror == EVERYTHING {
        return Err(Sense::invalid_cdb_field(8, None).into());
    }
    Ok(VolumePair {
        primary: primary_of(field(cdb, 4..8) as u32, here),
        mirror: mirror_of(mirror),
    })
}

fn decode_primary(cdb: &[u8], here: VolumeNumber) -> Result<VolumeNumber, Failure> {
    match field(cdb, 4..8) as u32 {
        EVERYTHING => Err(Sense::invalid_cdb_field(4, None).into()),
        primary => Ok(primary_of(primary, here)),
    }
}

fn decode_selector(cdb: &[u8], here: VolumeNumber) -> Result<PairSelector, Failure> {
    if (field(cdb, 4..8) as u32, field(cdb, 8..12) as u32) == (EVERYTHING, EVERYTHING) {
        return Ok(PairSelector::All);
    }
    let pair = decode_pair(cdb, here)?;
    Ok(match pair.mirror {
        Some(mirror) => PairSelector::One(pair.primary, mirror),
        None => PairSelector::OfPrimary(pair.primary),
    })
}

fn primary_of(number: u32, here: VolumeNumber) -> VolumeNumber {
    if number == THIS_OR_ANY {
        here
    } else {
        VolumeNumber(number)
    }
}

fn mirror_of(number: u32) -> Option<VolumeNumber> {
    (number != THIS_OR_ANY).then_some(VolumeNumber(number))
}

fn wrong_list_length() -> Failure {
    Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR).into()
}

#[cfg(test)]
mod tests;
