//! FORMAT UNIT (SBC-3 5.2): everything becomes zeros, and of a thin unit holes.
//!
//! There are no defects to list, and the block size and the capacity are the configuration's. So a format is the work of
//! a SANITIZE, BLOCK ERASE with another name for its state; see [`crate::sanitize`].

use crate::{
    big_endian::field,
    failure::Failure,
    plan::{Sanitize, SanitizeMethod},
    sense::Sense,
    sense_codes,
};

const LONGLIST: u8 = 0x20;
const FMTDATA: u8 = 0x10;
const FOV: u8 = 0x80;
/// DPRY, DCRT and STPF: how to go about certification and defects, of which there are none. Good with FOV only.
const OPTIONS: u8 = 0x70;
const IMMED: u8 = 0x02;

/// Reads a FORMAT UNIT; gives how many bytes of parameter list it has.
pub(crate) fn parse(cdb: &[u8], data_out: &[u8]) -> Result<(Sanitize, usize), Failure> {
    let mut format = Sanitize {
        method: SanitizeMethod::Erase,
        immediate: false,
        unrestricted: false,
    };
    if cdb[1] & FMTDATA == 0 {
        // What describes a parameter list makes no sense without one.
        let wrong = cdb[1] & 0x3F;
        if wrong != 0 {
            return Err(Sense::invalid_cdb_field(1, Some(7 - wrong.leading_zeros() as u8)).into());
        }
        return Ok((format, 0));
    }
    let long = cdb[1] & LONGLIST != 0;
    let length = if long { 8 } else { 4 };
    let header = data_out
        .get(..length)
        .ok_or(Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR))?;
    let allowed = if header[1] & FOV == 0 {
        IMMED
    } else {
        FOV | OPTIONS | IMMED
    };
    let defects = if long { 4..8 } else { 2..4 };
    let wrong = header[1] & !allowed;
    if header[0] != 0 {
        return Err(Sense::invalid_parameter(0, None).into());
    }
    if wrong != 0 {
        return Err(Sense::invalid_parameter(1, Some(7 - wrong.leading_zeros() as u8)).into());
    }
    if long && header[3] != 0 {
        return Err(Sense::invalid_parameter(3, None).into());
    }
    if field(header, defects.clone()) != 0 {
        return Err(Sense::invalid_parameter(defects.start as u16, None).into());
    }
    format.immediate = header[1] & IMMED != 0;
    Ok((format, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(flags: u8, list: &[u8]) -> Result<(bool, usize), Failure> {
        parse(&[0x04, flags, 0, 0, 0, 0], list).map(|(format, length)| (format.immediate, length))
    }

    #[test]
    fn lists_short_and_long_say_the_same() {
        assert_eq!(format(0, &[]), Ok((false, 0)));
        assert_eq!(format(0x10, &[0, 0, 0, 0]), Ok((false, 4)));
        assert_eq!(format(0x18, &[0, 0x02, 0, 0]), Ok((true, 4)));
        assert_eq!(format(0x30, &[0, 0xF2, 0, 0, 0, 0, 0, 0]), Ok((true, 8)));
    }

    #[test]
    fn what_cannot_be_done_is_pointed_at() {
        let wrong = |at, bit| Err(Sense::invalid_parameter(at, bit).into());
        assert_eq!(
            format(0x08, &[]),
            Err(Sense::invalid_cdb_field(1, Some(3)).into())
        );
        assert_eq!(
            format(0x10, &[1, 0, 0, 0]),
            wrong(0, None),
            "protection information"
        );
        assert_eq!(
            format(0x10, &[0, 0x20, 0, 0]),
            wrong(1, Some(5)),
            "DCRT without FOV"
        );
        assert_eq!(format(0x10, &[0, 0x88, 0, 0]), wrong(1, Some(3)), "a pattern");
        assert_eq!(format(0x10, &[0, 0, 0, 4]), wrong(2, None), "defects");
        assert_eq!(format(0x30, &[0, 0, 0, 1, 0, 0, 0, 0]), wrong(3, None));
        assert_eq!(format(0x30, &[0, 0, 0, 0, 0, 0, 1, 0]), wrong(4, None));
        let short = Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR);
        assert_eq!(format(0x30, &[0; 4]), Err(short.into()));
    }
}
