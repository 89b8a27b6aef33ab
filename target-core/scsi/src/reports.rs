//! The reports of SPC-4: REPORT LUNS (6.33), SUPPORTED OPERATION CODES (6.35), SUPPORTED TASK MANAGEMENT FUNCTIONS
//! (6.36) and TIMESTAMP (6.41). TARGET PORT GROUPS are in [`crate::access_state`].

use crate::{
    big_endian::field,
    failure::Failure,
    lun,
    opcode_table::{self, Lookup, Opcode},
    plan::{Action, Answer},
    sense::Sense,
};

/// Task management functions that the target carries out: ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT
/// RESET, QUERY TASK, TARGET RESET; then QUERY ASYNCHRONOUS EVENT, QUERY TASK SET, I_T NEXUS RESET.
const TASK_MANAGEMENT: [u8; 2] = [0x80 | 0x40 | 0x10 | 0x08 | 0x04 | 0x02, 0x04 | 0x02 | 0x01];

/// SELECT REPORT 00h and 02h: all LUNs; 01h: well known ones, of which there are none.
pub(crate) fn report_luns(cdb: &[u8], luns: &[u16]) -> Result<Answer, Failure> {
    let listed = match cdb[2] {
        0x00 | 0x02 => luns,
        0x01 => &[],
        _ => return Err(Sense::invalid_cdb_field(2, Some(7)).into()),
    };
    let allocation_length = field(cdb, 6..10) as usize;
    if allocation_length < 16 {
        return Err(Sense::invalid_cdb_field(6, Some(7)).into());
    }
    let mut data = ((listed.len() * 8) as u32).to_be_bytes().to_vec();
    data.extend([0; 4]);
    data.extend(listed.iter().flat_map(|lun| lun::encode(*lun)));
    Ok(Answer::data(data, allocation_length))
}

/// REPD adds the extended data: no timeouts to tell.
pub(crate) fn report_task_management(cdb: &[u8]) -> Answer {
    let extended = cdb[2] & 0x80 != 0;
    let [first, second] = TASK_MANAGEMENT;
    let mut data = vec![first, second, 0, if extended { 12 } else { 0 }];
    if extended {
        data.resize(16, 0);
    }
    Answer::data(data, field(cdb, 6..10) as usize)
}

/// REPORT TIMESTAMP wants the clock.
pub(crate) fn timestamp_action(cdb: &[u8]) -> Action {
    Action::ReportTimestamp {
        allocation_length: field(cdb, 6..10) as u32,
    }
}

/// REPORT TIMESTAMP parameter data (SPC-4 6.41): milliseconds since 1970, set by other means than SET TIMESTAMP.
pub fn timestamp(milliseconds: u64) -> [u8; 12] {
    let [_, _, time @ ..] = milliseconds.to_be_bytes();
    let mut data = [0, 10, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    data[4..10].copy_from_slice(&time);
    data
}

/// All four reporting options, with RCTD. `served` tells which commands this unit has.
pub(crate) fn report_opcodes(cdb: &[u8], served: &dyn Fn(&Opcode) -> bool) -> Result<Answer, Failure> {
    let timeouts = cdb[2] & 0x80 != 0;
    let option = cdb[2] & 0x07;
    let (code, action) = (cdb[3], field(cdb, 4..6));
    let data = match option {
        0 => all_commands(timeouts, served),
        1..=3 => one_command(
            find_requested(option, code, action)?.filter(|entry| served(entry)),
            timeouts,
        ),
        _ => return Err(Sense::invalid_cdb_field(2, Some(2)).into()),
    };
    Ok(Answer::data(data, field(cdb, 6..10) as usize))
}

/// Option 1 is for operation codes without service actions, 2 for those with, 3 takes either.
fn find_requested(option: u8, code: u8, action: u64) -> Result<Option<&'static Opcode>, Failure> {
    let has_actions = opcode_table::table()
        .iter()
        .any(|entry| entry.code() == code && entry.service_action.is_some());
    match opcode_table::find(code, action as u16) {
        _ if option == 1 && has_actions => Err(Sense::invalid_cdb_field(2, Some(2)).into()),
        Lookup::Found(_) if option == 2 && !has_actions => Err(Sense::invalid_cdb_field(2, Some(2)).into()),
        Lookup::Found(_) if option == 3 && !has_actions && action != 0 => Ok(None),
        Lookup::Found(entry) => Ok(Some(entry)),
        Lookup::NoSuchServiceAction | Lookup::Unknown => Ok(None),
    }
}

fn all_commands(timeouts: bool, served: &dyn Fn(&Opcode) -> bool) -> Vec<u8> {
    let mut data = vec![0; 4];
    for entry in opcode_table::table().iter().filter(|entry| served(entry)) {
        let action = entry.service_action.unwrap_or(0);
        data.extend([entry.code(), 0]);
        data.extend(action.to_be_bytes());
        data.extend([
            0,
            u8::from(timeouts) << 1 | u8::from(entry.service_action.is_some()),
        ]);
        data.extend((entry.usage.len() as u16).to_be_bytes());
        if timeouts {
            data.extend(timeouts_descriptor(entry));
        }
    }
    let length = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    data
}

/// SUPPORT 001b not supported, 011b as the standard says.
fn one_command(entry: Option<&Opcode>, timeouts: bool) -> Vec<u8> {
    let Some(entry) = entry else {
        return vec![0, 0x01, 0, 0];
    };
    let mut data = vec![0, u8::from(timeouts) << 7 | 0x03];
    data.extend((entry.usage.len() as u16).to_be_bytes());
    data.extend(entry.usage);
    if timeouts {
        data.extend(timeouts_descriptor(entry));
    }
    data
}

/// SPC-4 6.35.4.
fn timeouts_descriptor(entry: &Opcode) -> Vec<u8> {
    let mut data = vec![0, 0x0A, 0, 0];
    data.extend(entry.timeouts.0.to_be_bytes());
    data.extend(entry.timeouts.1.to_be_bytes());
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opcodes(option: u8, code: u8, action: u8) -> Result<Vec<u8>, Failure> {
        report_opcodes(
            &[0xA3, 0x0C, option, code, 0, action, 0, 0, 0xFF, 0xFF, 0, 0],
            &|_| true,
        )
        .map(|answer| answer.data_in)
    }

    #[test]
    fn every_command_is_reported_with_its_usage() {
        let all = opcodes(0x80, 0, 0).unwrap();
        assert_eq!(all.len(), 4 + 20 * opcode_table::table().len());
        assert_eq!(
            all[4..24],
            [0, 0, 0, 0, 0, 2, 0, 6, 0, 10, 0, 0, 0, 0, 0, 1, 0, 0, 0, 30]
        );
        let read = opcodes(1, 0x28, 0).unwrap();
        assert_eq!(
            read,
            [0, 3, 0, 10, 0x28, 0x18, 255, 255, 255, 255, 0, 255, 255, 0]
        );
        assert_eq!(opcodes(2, 0x9E, 0x10).unwrap()[..6], [0, 3, 0, 16, 0x9E, 0x10]);
        let read_32 = opcodes(2, 0x7F, 9).unwrap();
        assert_eq!(read_32[..4], [0, 3, 0, 32]);
        assert_eq!(read_32[4..16], [0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0, 9, 0x18, 0]);
        assert_eq!(opcodes(3, 0xDB, 0).unwrap(), [0, 1, 0, 0]);
        assert!(opcodes(1, 0x9E, 0).is_err() && opcodes(2, 0x28, 0).is_err() && opcodes(4, 0, 0).is_err());
    }

    #[test]
    fn a_timestamp_has_six_bytes() {
        let data = timestamp(0x0102_0304_0506);
        assert_eq!(data, [0, 10, 3, 0, 1, 2, 3, 4, 5, 6, 0, 0]);
    }

    #[test]
    fn luns_beyond_255_are_flat() {
        let cdb = [0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        let data = report_luns(&cdb, &[0, 300]).unwrap().data_in;
        assert_eq!(
            data,
            [
                0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0x2C, 0, 0, 0, 0, 0, 0
            ]
        );
    }
}
