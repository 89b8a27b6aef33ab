//! LOG SENSE (SPC-4 6.8, 7.3): supported pages, self-test results, informational exceptions.

use crate::{big_endian::field, failure::Failure, plan::Answer, sense::Sense};

const SUPPORTED: u8 = 0x00;
const SELF_TEST: u8 = 0x10;
const EXCEPTIONS: u8 = 0x2F;
pub(crate) const PAGES: [u8; 3] = [SUPPORTED, SELF_TEST, EXCEPTIONS];

/// Answers a LOG SENSE. PARAMETER POINTER asks for parameters from that code on.
pub(crate) fn log_sense(cdb: &[u8]) -> Result<Answer, Failure> {
    let (page, subpage) = (cdb[2] & 0x3F, cdb[3]);
    let list_subpages = page == SUPPORTED && subpage == 0xFF;
    if subpage != 0 && !list_subpages {
        return Err(Sense::invalid_cdb_field(3, Some(7)).into());
    }
    let pointer = field(cdb, 5..7) as u16;
    let body = match page {
        SUPPORTED if list_subpages => PAGES.into_iter().flat_map(|page| [page, 0]).collect(),
        SUPPORTED => PAGES.to_vec(),
        SELF_TEST => parameters(1..=20, pointer, &[0; 16]),
        EXCEPTIONS => parameters(0..=0, pointer, &[0; 4]),
        _ => return Err(Sense::invalid_cdb_field(2, Some(5)).into()),
    };
    if (page == SUPPORTED && pointer != 0) || body.is_empty() {
        return Err(Sense::invalid_cdb_field(5, Some(7)).into());
    }
    let mut data = vec![
        page | u8::from(list_subpages) << 6,
        if list_subpages { 0xFF } else { 0 },
    ];
    data.extend((body.len() as u16).to_be_bytes());
    data.extend(body);
    Ok(Answer::data(data, field(cdb, 7..9) as usize))
}

/// Parameters in the binary list format, all with the same value.
fn parameters(codes: std::ops::RangeInclusive<u16>, pointer: u16, value: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for code in codes.filter(|code| *code >= pointer) {
        body.extend(code.to_be_bytes());
        body.extend([0x03, value.len() as u8]);
        body.extend(value);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sense(page: u8, pointer: u8) -> Result<Vec<u8>, Failure> {
        log_sense(&[0x4D, 0, 0x40 | page, 0, 0, 0, pointer, 2, 0, 0]).map(|answer| answer.data_in)
    }

    #[test]
    fn the_pages_are_there() {
        assert_eq!(sense(0, 0).unwrap(), [0, 0, 0, 3, 0, 0x10, 0x2F]);
        assert_eq!(sense(0x2F, 0).unwrap(), [0x2F, 0, 0, 8, 0, 0, 3, 4, 0, 0, 0, 0]);
        assert_eq!(sense(0x10, 0).unwrap().len(), 404);
        assert_eq!(sense(0x10, 20).unwrap().len(), 24);
        assert!(sense(0x10, 21).is_err() && sense(0x0D, 0).is_err());
    }
}
