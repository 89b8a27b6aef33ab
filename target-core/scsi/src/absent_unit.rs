//! What a LUN without a logical unit answers.

use crate::{
    failure::Failure,
    inquiry,
    opcode_table::{self, Handler, Lookup},
    plan::Answer,
    reports,
    sense::{Sense, SenseFormat},
    sense_codes,
    status::Status,
};

/// A command for a LUN where no unit is (SAM-5 4.11.4, SPC-4 5.11): `luns` are those that the initiator sees.
pub fn answer(cdb: &[u8], luns: &[u16]) -> Answer {
    let absent = Sense::illegal(sense_codes::LOGICAL_UNIT_NOT_SUPPORTED);
    let answered = match opcode_table::lookup(cdb) {
        Lookup::Found(entry) if cdb.len() >= entry.usage.len() => match entry.handler {
            Handler::Inquiry if cdb[1] == 0 && cdb[2] == 0 => {
                let length = usize::from(u16::from_be_bytes([cdb[3], cdb[4]]));
                Ok(Answer::data(inquiry::absent_unit_data(), length))
            }
            Handler::Inquiry => Err(Sense::invalid_cdb_field(1, None).into()),
            Handler::ReportLuns => reports::report_luns(cdb, luns),
            Handler::RequestSense => Ok(Answer::data(
                absent.encode(SenseFormat::Fixed),
                usize::from(cdb[4]),
            )),
            _ => Err(absent.into()),
        },
        _ => Err(absent.into()),
    };
    let check = |sense: Sense| Answer {
        status: Status::CheckCondition,
        sense: sense.encode(SenseFormat::Fixed),
        data_in: Vec::new(),
    };
    answered.unwrap_or_else(|failure| match failure {
        Failure::Check(sense) => check(sense),
        Failure::Conflict | Failure::Busy => check(absent),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_commands_are_answered() {
        assert_eq!(answer(&[0x12, 0, 0, 0, 96, 0], &[1]).data_in[0], 0x7F);
        let luns = answer(&[0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], &[1]);
        assert_eq!(luns.data_in[3], 8);
        assert_eq!(answer(&[0x28; 10], &[1]).sense[12], 0x25);
        assert_eq!(answer(&[0x12], &[1]).sense[12], 0x25);
    }
}
