//! Offloaded copies with ROD tokens (SPC-4 5.16.6, SBC-3 4.28, 5.11, 5.53): POPULATE TOKEN and WRITE USING TOKEN.
//!
//! A token stands for the content of some ranges of a unit at the moment it was made, whatever is written there later. Its type is
//! *point in time copy, default* (00800000h): it may be revoked at any time. The well-known token of type FFFF0001h
//! stands for zeros.

use crate::{
    big_endian::field,
    block_commands::out_of_range,
    failure::Failure,
    plan::ByteRange,
    sense::Sense,
    sense_codes,
    unit::{UnitFacts, UnitIdentity},
};

/// Bytes of a token.
pub const TOKEN_BYTES: usize = 512;
/// Bytes of a ROD management token.
const MANAGEMENT_TOKEN_BYTES: usize = 96;
/// MAXIMUM RANGE DESCRIPTORS.
pub(crate) const MAX_RANGES: usize = 64;
/// MAXIMUM TOKEN TRANSFER SIZE: what is copied in the few seconds that initiators wait.
pub(crate) const MAX_TOKEN_BYTES: u64 = 256 << 20;
/// OPTIMAL TRANSFER COUNT.
pub(crate) const OPTIMAL_TOKEN_BYTES: u64 = 64 << 20;
/// DEFAULT INACTIVITY TIMEOUT, in seconds.
pub(crate) const DEFAULT_INACTIVITY: u32 = 60;
/// MAXIMUM INACTIVITY TIMEOUT, in seconds.
pub(crate) const MAX_INACTIVITY: u32 = 3600;

/// ROD TYPE: point in time copy, default.
const POINT_IN_TIME: u32 = 0x0080_0000;
/// ROD TYPE of a request: any point in time copy.
const ANY_POINT_IN_TIME: u32 = 0x0080_FFFF;
/// ROD TYPE: block device zero.
const ZEROS: u32 = 0xFFFF_0001;
/// ROD TOKEN LENGTH.
const TOKEN_LENGTH: u16 = 0x01F8;

const POPULATE_HEADER: usize = 16;
const WRITE_HEADER: usize = 536;
const RANGE: usize = 16;
const TOKEN_AT: usize = 16;

/// A POPULATE TOKEN that may be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PopulateToken {
    /// LIST IDENTIFIER.
    pub list_id: u32,
    /// What the token is to stand for, in this order.
    pub ranges: Vec<ByteRange>,
    /// Seconds after which a token that is not used ends.
    pub inactivity: u32,
}

/// A WRITE USING TOKEN that may be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteUsingToken {
    /// LIST IDENTIFIER.
    pub list_id: u32,
    /// What is written.
    pub source: TokenSource,
    /// OFFSET INTO ROD, in blocks of the token's unit.
    pub offset: u64,
    /// Where it is written, in this order.
    pub ranges: Vec<ByteRange>,
    /// DEL_TKN: the token ends with this command.
    pub delete: bool,
}

/// What a token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// Zeros, as many as are wanted.
    Zeros,
    /// What the token with these bytes stands for.
    Token(Box<[u8; TOKEN_BYTES]>),
}

/// Reads a POPULATE TOKEN; `None` when its list is empty, which makes no token.
pub(crate) fn parse_populate(
    cdb: &[u8],
    data_out: &[u8],
    facts: &UnitFacts<'_>,
) -> Result<Option<PopulateToken>, Failure> {
    let Some(list) = list(cdb, data_out, POPULATE_HEADER)? else {
        return Ok(None);
    };
    refuse_immediate(list)?;
    let asked = field(list, 8..12) as u32;
    let any = list[2] & 0x02 == 0;
    if !any && asked != POINT_IN_TIME && asked != ANY_POINT_IN_TIME {
        return Err(Sense::invalid_parameter(8, None).into());
    }
    let inactivity = match field(list, 4..8) as u32 {
        0 => DEFAULT_INACTIVITY,
        seconds if seconds > MAX_INACTIVITY => return Err(Sense::invalid_parameter(4, None).into()),
        seconds => seconds,
    };
    Ok(Some(PopulateToken {
        list_id: list_id(cdb),
        ranges: parse_ranges(list, POPULATE_HEADER, facts)?,
        inactivity,
    }))
}

/// Reads a WRITE USING TOKEN; `None` when its list is empty, which writes nothing.
pub(crate) fn parse_write(
    cdb: &[u8],
    data_out: &[u8],
    facts: &UnitFacts<'_>,
) -> Result<Option<WriteUsingToken>, Failure> {
    let Some(list) = list(cdb, data_out, WRITE_HEADER)? else {
        return Ok(None);
    };
    refuse_immediate(list)?;
    let token: [u8; TOKEN_BYTES] = std::array::from_fn(|index| list[TOKEN_AT + index]);
    Ok(Some(WriteUsingToken {
        list_id: list_id(cdb),
        source: source_of(&token)?,
        offset: field(list, 8..16),
        ranges: parse_ranges(list, WRITE_HEADER, facts)?,
        delete: list[2] & 0x02 != 0,
    }))
}

fn list_id(cdb: &[u8]) -> u32 {
    field(cdb, 6..10) as u32
}

/// The parameter list, at least its header.
fn list<'a>(cdb: &[u8], data_out: &'a [u8], header: usize) -> Result<Option<&'a [u8]>, Failure> {
    let length = field(cdb, 10..14) as usize;
    if length == 0 {
        return Ok(None);
    }
    let list = data_out.get(..length).filter(|list| list.len() >= header);
    Ok(Some(list.ok_or(Sense::illegal(
        sense_codes::PARAMETER_LIST_LENGTH_ERROR,
    ))?))
}

/// IMMED: every operation ends before its command does.
fn refuse_immediate(list: &[u8]) -> Result<(), Failure> {
    if list[2] & 0x01 != 0 {
        return Err(Sense::invalid_parameter(2, Some(0)).into());
    }
    Ok(())
}

fn source_of(token: &[u8; TOKEN_BYTES]) -> Result<TokenSource, Failure> {
    if field(token, 6..8) != u64::from(TOKEN_LENGTH) {
        return Err(Sense::illegal(sense_codes::INVALID_TOKEN_LENGTH).into());
    }
    match field(token, 0..4) as u32 {
        ZEROS => Ok(TokenSource::Zeros),
        POINT_IN_TIME => Ok(TokenSource::Token(Box::new(*token))),
        _ => Err(Sense::illegal(sense_codes::UNSUPPORTED_TOKEN_TYPE).into()),
    }
}

/// Block device range descriptors: inside the unit, none over another, not too many, not too much. Empty ones are left out.
fn parse_ranges(list: &[u8], header: usize, facts: &UnitFacts<'_>) -> Result<Vec<ByteRange>, Failure> {
    let length_at = header - 2;
    let length = field(list, length_at..header) as usize;
    let wrong_length = Sense::invalid_parameter(length_at as u16, None);
    if length < RANGE || !length.is_multiple_of(RANGE) {
        return Err(wrong_length.into());
    }
    let descriptors = list.get(header..header + length).ok_or(wrong_length)?;
    if length / RANGE > MAX_RANGES {
        let code = sense_codes::TOO_MANY_SEGMENT_DESCRIPTORS;
        return Err(Sense::in_parameter_list(code, length_at as u16, None).into());
    }
    let (block, capacity) = (u64::from(facts.identity.block_size), facts.identity.blocks);
    let mut ranges: Vec<ByteRange> = Vec::new();
    let mut total = 0;
    for (index, descriptor) in descriptors.chunks(RANGE).enumerate() {
        let at = (header + index * RANGE) as u16;
        let (lba, blocks) = (field(descriptor, 0..8), field(descriptor, 8..12));
        if lba > capacity || blocks > capacity - lba {
            return Err(out_of_range(lba.max(capacity)).into());
        }
        let range = ByteRange {
            offset: lba * block,
            length: blocks * block,
        };
        total += range.length;
        let overlaps = |other: &ByteRange| {
            range.offset < other.offset + other.length && other.offset < range.offset + range.length
        };
        if total > MAX_TOKEN_BYTES || ranges.iter().any(overlaps) {
            return Err(Sense::invalid_parameter(at, None).into());
        }
        if range.length > 0 {
            ranges.push(range);
        }
    }
    Ok(ranges)
}

/// A token: what SPC-4 wants to be readable in it, and `secret` in the fields that are ours.
pub fn encode_token(secret: &[u8; 32], identity: &UnitIdentity, bytes: u64) -> [u8; TOKEN_BYTES] {
    let mut token = [0; TOKEN_BYTES];
    token[0..4].copy_from_slice(&POINT_IN_TIME.to_be_bytes());
    token[6..8].copy_from_slice(&TOKEN_LENGTH.to_be_bytes());
    token[8..16].copy_from_slice(&secret[..8]);
    // The creator: an identification descriptor with the NAA designator, and the block size.
    token[16..24].copy_from_slice(&[0xE4, 0, 0, 0, 0x01, 0x03, 0, 16]);
    token[24..40].copy_from_slice(&identity.naa);
    token[44..48].copy_from_slice(&identity.block_size.to_be_bytes());
    token[48..64].copy_from_slice(&u128::from(bytes).to_be_bytes());
    token[96..100].copy_from_slice(&identity.block_size.to_be_bytes());
    token[128..152].copy_from_slice(&secret[8..]);
    token
}

/// REPORT ALL ROD TOKENS parameter data (SPC-4 6.31): the management token of each, which is how it begins. Of the secret that has
/// a quarter, so that who sees a management token cannot use the token.
pub fn report<'a>(tokens: impl Iterator<Item = &'a [u8; TOKEN_BYTES]>) -> Vec<u8> {
    let mut data = vec![0; 8];
    data.extend(tokens.flat_map(|token| &token[..MANAGEMENT_TOKEN_BYTES]));
    let available = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&available.to_be_bytes());
    data
}

/// The secret in a token.
pub fn secret_of(token: &[u8; TOKEN_BYTES]) -> [u8; 32] {
    std::array::from_fn(|index| {
        if index < 8 {
            token[8 + index]
        } else {
            token[120 + index]
        }
    })
}

/// The descriptors of VPD page 8Fh that tell of tokens: the limits of a block device, features, types.
pub(crate) fn vpd_descriptors(block_size: u32) -> Vec<u8> {
    let blocks = |bytes: u64| (bytes / u64::from(block_size)).to_be_bytes();
    let mut data = vec![0x00, 0x00, 0, 0x20, 0, 0, 0, 0, 0, 0];
    data.extend((MAX_RANGES as u16).to_be_bytes());
    data.extend(MAX_INACTIVITY.to_be_bytes());
    data.extend(DEFAULT_INACTIVITY.to_be_bytes());
    data.extend(blocks(MAX_TOKEN_BYTES));
    data.extend(blocks(OPTIMAL_TOKEN_BYTES));
    data
}

/// ROD token features and supported ROD types: after the descriptors with lower codes.
pub(crate) fn vpd_features() -> Vec<u8> {
    let mut data = vec![0x01, 0x06, 0, 0x5C];
    data.extend([0; 12]);
    // No token is kept for its lifetime's sake: minimum zero, maximum and inactivity the same.
    data.extend(0_u32.to_be_bytes());
    data.extend(MAX_INACTIVITY.to_be_bytes());
    data.extend(MAX_INACTIVITY.to_be_bytes());
    data.extend([0; 18]);
    data.extend([0, 0x30]);
    data.extend([0, 0, 0, 0x2C, 0, 0, 0, 0]);
    for bytes in [
        MAX_TOKEN_BYTES,
        OPTIMAL_TOKEN_BYTES,
        OPTIMAL_TOKEN_BYTES,
        OPTIMAL_TOKEN_BYTES,
    ] {
        data.extend(bytes.to_be_bytes());
    }
    data.extend([0; 8]);

    data.extend([0x01, 0x08, 0, 0x84, 0, 0, 0, 0x80]);
    // Made and taken; taken only.
    for (kind, uses) in [(POINT_IN_TIME, 0x03), (ZEROS, 0x02)] {
        data.extend(kind.to_be_bytes());
        data.extend([uses, 0, 0, 0]);
        data.extend([0; 56]);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_commands::tests::{facts, identity};

    fn ranges(of: &[(u64, u32)]) -> Vec<u8> {
        let mut data = ((of.len() * RANGE) as u16).to_be_bytes().to_vec();
        for (lba, blocks) in of {
            data.extend(lba.to_be_bytes());
            data.extend(blocks.to_be_bytes());
            data.extend([0; 4]);
        }
        data
    }

    fn cdb(length: usize) -> Vec<u8> {
        let mut cdb = vec![0x83, 0x10, 0, 0, 0, 0, 0, 0, 0, 9];
        cdb.extend((length as u32).to_be_bytes());
        cdb.extend([0, 0]);
        cdb
    }

    fn populate(head: [u8; 14], of: &[(u64, u32)]) -> Result<Option<PopulateToken>, Failure> {
        let identity = identity();
        let list = [&head[..], &ranges(of)].concat();
        parse_populate(&cdb(list.len()), &list, &facts(&identity))
    }

    const PLAIN: [u8; 14] = [0; 14];

    #[test]
    fn ranges_are_checked_one_by_one() {
        let plan = populate(PLAIN, &[(8, 2), (100, 0), (0, 8)]).unwrap().unwrap();
        let range = |offset, length| ByteRange { offset, length };
        assert_eq!(plan.ranges, [range(4096, 1024), range(0, 4096)]);
        assert_eq!((plan.list_id, plan.inactivity), (9, DEFAULT_INACTIVITY));
        let wrong = |at| Err(Sense::invalid_parameter(at, None).into());
        assert_eq!(populate(PLAIN, &[(0, 8), (7, 1)]), wrong(32), "over another");
        assert_eq!(populate(PLAIN, &[]), wrong(14));
        assert_eq!(populate(PLAIN, &[(2047, 2)]), Err(out_of_range(2048).into()));
        let many: Vec<_> = (0..65).map(|lba| (lba, 1)).collect();
        let code = sense_codes::TOO_MANY_SEGMENT_DESCRIPTORS;
        assert_eq!(
            populate(PLAIN, &many),
            Err(Sense::in_parameter_list(code, 14, None).into())
        );
    }

    #[test]
    fn types_times_and_immed_have_their_limits() {
        let with = |at: usize, bytes: &[u8]| {
            let mut head = PLAIN;
            head[at..at + bytes.len()].copy_from_slice(bytes);
            populate(head, &[(0, 1)])
        };
        assert!(with(2, &[2, 0, 0, 0, 0, 0, 0, 0x80, 0, 0]).is_ok());
        assert!(with(2, &[2, 0, 0, 0, 0, 0, 0, 0x80, 0xFF, 0xFF]).is_ok());
        assert_eq!(
            with(2, &[2, 0, 0, 0, 0, 0, 0, 1, 0, 0]),
            Err(Sense::invalid_parameter(8, None).into())
        );
        assert_eq!(
            with(4, &[0, 0, 0x0E, 0x11]),
            Err(Sense::invalid_parameter(4, None).into())
        );
        assert_eq!(with(2, &[1]), Err(Sense::invalid_parameter(2, Some(0)).into()));
    }

    #[test]
    fn a_token_is_told_by_type_and_length() {
        let identity = identity();
        let secret = std::array::from_fn(|index| index as u8 + 1);
        let token = encode_token(&secret, &identity, 4096);
        assert_eq!(secret_of(&token), secret);
        assert_eq!(report([].into_iter()), [0, 0, 0, 4, 0, 0, 0, 0]);
        let listed = report([&token, &token].into_iter());
        assert_eq!((listed.len(), listed[3]), (8 + 2 * 96, 196));
        assert_eq!(listed[8..104], token[..96]);
        let told = secret
            .windows(9)
            .any(|part| listed.windows(9).any(|bytes| bytes == part));
        assert!(!told, "no more than eight bytes of the secret are in it");
        assert_eq!(source_of(&token), Ok(TokenSource::Token(Box::new(token))));
        let with = |at: usize, value: u8| {
            let mut token = token;
            token[at] = value;
            source_of(&token)
        };
        let code = |result: Result<TokenSource, Failure>| match result {
            Err(Failure::Check(sense)) => sense.additional,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(with(7, 0)), sense_codes::INVALID_TOKEN_LENGTH);
        assert_eq!(code(with(3, 7)), sense_codes::UNSUPPORTED_TOKEN_TYPE);
        let mut zeros = [0; TOKEN_BYTES];
        zeros[..8].copy_from_slice(&[0xFF, 0xFF, 0, 1, 0, 0, 1, 0xF8]);
        assert_eq!(source_of(&zeros), Ok(TokenSource::Zeros));
    }

    #[test]
    fn descriptors_are_as_long_as_they_say() {
        for data in [vpd_descriptors(512), vpd_features()] {
            let mut rest = &data[..];
            while !rest.is_empty() {
                let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
                rest = &rest[4 + length..];
            }
        }
    }
}
