//! EXTENDED COPY (LID1 and LID4) with block-to-block segments, and what RECEIVE COPY RESULTS tells of those with one-byte
//! list identifiers (SPC-4 6.4, 6.22, 6.24, 7.8.17); [`crate::copy_operations`] has the others.

use crate::{
    big_endian::field,
    copy_operations::{EXTENDED_COPY_LID4, Ended, MAX_OPERATIONS},
    failure::Failure,
    plan::{CopyListId, CopyOutcome, CopyPlan, CopySegment, CopyUnit},
    rod_tokens,
    sense::{Sense, SenseFormat, SenseKey},
    sense_codes,
};

pub(crate) const MAX_TARGETS: usize = 16;
pub(crate) const MAX_SEGMENTS: usize = 64;
const MAX_DESCRIPTOR_BYTES: usize = MAX_TARGETS * TARGET + MAX_SEGMENTS * SEGMENT;
/// Most that a segment's 16-bit block count can say, with blocks of 4096 bytes.
const MAX_SEGMENT_BYTES: u32 = 256 << 20;
/// Copy statuses kept for each nexus, and copies that may run at once.
pub(crate) const MAX_COPIES: u8 = 32;

const HEADER: usize = 16;
const LONG_HEADER: usize = 48;
const TARGET: usize = 32;
const SEGMENT: usize = 28;
const IDENTIFICATION_DESCRIPTOR: u8 = 0xE4;
const BLOCK_TO_BLOCK: u8 = 0x02;

/// Reads an EXTENDED COPY parameter list; `None` when its length is zero, which copies nothing.
pub(crate) fn parse(cdb: &[u8], data_out: &[u8]) -> Result<Option<CopyPlan>, Failure> {
    let length = field(cdb, 10..14) as usize;
    if length == 0 {
        return Ok(None);
    }
    let wrong_length = Failure::from(Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR));
    let long = cdb[1] & 0x1F == EXTENDED_COPY_LID4;
    let least = if long { LONG_HEADER } else { HEADER };
    let list = data_out
        .get(..length)
        .filter(|list| list.len() >= least)
        .ok_or(wrong_length)?;
    let header = if long {
        long_header(list)?
    } else {
        short_header(list)
    };
    if header.inline != 0 {
        let code = sense_codes::INLINE_DATA_LENGTH_EXCEEDED;
        return Err(Sense::in_parameter_list(code, header.inline_at, None).into());
    }
    let described = header.targets.saturating_add(header.segments);
    if described > MAX_DESCRIPTOR_BYTES || described > length - header.length {
        return Err(wrong_length);
    }
    let list_id = parse_list_id(list, long)?;
    let (targets, rest) = list[header.length..].split_at(header.targets);
    let targets = parse_targets(targets, &header)?;
    let segments = parse_segments(&rest[..header.segments], &header, &targets)?;
    Ok(Some(CopyPlan { list_id, segments }))
}

/// The lengths that the header of a parameter list gives, and where, for field pointers.
#[derive(Debug, Clone, Copy)]
struct Header {
    length: usize,
    targets: usize,
    targets_at: u16,
    segments: usize,
    segments_at: u16,
    inline: u64,
    inline_at: u16,
}

fn short_header(list: &[u8]) -> Header {
    Header {
        length: HEADER,
        targets: field(list, 2..4) as usize,
        targets_at: 2,
        segments: field(list, 8..12) as usize,
        segments_at: 8,
        inline: field(list, 12..16),
        inline_at: 12,
    }
}

/// The header is itself shaped like a CSCD descriptor. IMMED is refused: every copy ends before its command does.
fn long_header(list: &[u8]) -> Result<Header, Failure> {
    let must_be = [(0, 0x01), (2, 0x00), (3, 0x20), (16, 0xFF)];
    if let Some((at, _)) = must_be.into_iter().find(|(at, value)| list[*at] != *value) {
        return Err(Sense::invalid_parameter(at as u16, None).into());
    }
    if list[15] & 0x01 != 0 {
        return Err(Sense::invalid_parameter(15, Some(0)).into());
    }
    Ok(Header {
        length: LONG_HEADER,
        targets: field(list, 42..44) as usize,
        targets_at: 42,
        segments: field(list, 44..46) as usize,
        segments_at: 44,
        inline: field(list, 46..48),
        inline_at: 46,
    })
}

/// LIST ID USAGE 00b and 10b use the list id, 11b does not and wants it zero.
fn parse_list_id(list: &[u8], long: bool) -> Result<Option<CopyListId>, Failure> {
    let (id, at) = if long {
        (CopyListId::Long(field(list, 20..24) as u32), 20)
    } else {
        (CopyListId::Short(list[0]), 0)
    };
    let zero = matches!(id, CopyListId::Short(0) | CopyListId::Long(0));
    match list[1] >> 3 & 0x03 {
        0b00 | 0b10 => Ok(Some(id)),
        0b11 if zero => Ok(None),
        0b11 => Err(Sense::invalid_parameter(at, None).into()),
        _ => Err(Sense::invalid_parameter(1, Some(4)).into()),
    }
}

/// A target that cannot be reached is `None`: an error only for the segment that uses it.
fn parse_targets(list: &[u8], header: &Header) -> Result<Vec<Option<CopyUnit>>, Failure> {
    if list.len() > MAX_TARGETS * TARGET {
        let sense =
            Sense::in_parameter_list(sense_codes::TOO_MANY_TARGET_DESCRIPTORS, header.targets_at, None);
        return Err(sense.into());
    }
    let mut targets = Vec::new();
    for (index, target) in list.chunks(TARGET).enumerate() {
        let at = (header.length + index * TARGET) as u16;
        if target[0] != IDENTIFICATION_DESCRIPTOR {
            let code = sense_codes::UNSUPPORTED_TARGET_DESCRIPTOR_TYPE;
            return Err(Sense::in_parameter_list(code, at, None).into());
        }
        if target.len() < TARGET {
            return Err(Sense::invalid_parameter(header.targets_at, None).into());
        }
        targets.push(parse_unit(target));
    }
    Ok(targets)
}

/// A direct access unit by its NAA type 6 designator. LU ID TYPE and NUL are obsolete in SPC-4 and not looked at.
fn parse_unit(target: &[u8]) -> Option<CopyUnit> {
    let direct_access = target[1] << 3 == 0;
    let naa = target[4] & 0x0F == 0x01 && target[5] & 0x3F == 0x03 && target[7] == 16;
    (direct_access && naa).then(|| CopyUnit {
        naa: std::array::from_fn(|index| target[8 + index]),
        block_size: field(target, 29..32) as u32,
    })
}

fn parse_segments(
    list: &[u8],
    header: &Header,
    targets: &[Option<CopyUnit>],
) -> Result<Vec<CopySegment>, Failure> {
    let start = header.length + header.targets;
    let mut segments = Vec::new();
    let mut at = 0;
    while at < list.len() {
        let pointer = (start + at) as u16;
        if segments.len() == MAX_SEGMENTS {
            let code = sense_codes::TOO_MANY_SEGMENT_DESCRIPTORS;
            return Err(Sense::in_parameter_list(code, header.segments_at, None).into());
        }
        if list[at] != BLOCK_TO_BLOCK {
            let code = sense_codes::UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE;
            return Err(Sense::in_parameter_list(code, pointer, None).into());
        }
        let segment = list
            .get(at..at + SEGMENT)
            .ok_or(Sense::invalid_parameter(header.segments_at, None))?;
        if field(segment, 2..4) as usize != SEGMENT - 4 {
            return Err(Sense::invalid_parameter(pointer + 2, None).into());
        }
        segments.push(parse_segment(segment, targets, segments.len())?);
        at += SEGMENT;
    }
    Ok(segments)
}

fn parse_segment(
    segment: &[u8],
    targets: &[Option<CopyUnit>],
    number: usize,
) -> Result<CopySegment, Failure> {
    let unreachable = Sense::new(SenseKey::CopyAborted, sense_codes::COPY_TARGET_NOT_REACHABLE)
        .with_information(number as u64);
    let unit = |index: u64| targets.get(index as usize).cloned().flatten().ok_or(unreachable);
    Ok(CopySegment {
        source: unit(field(segment, 4..6))?,
        source_lba: field(segment, 12..20),
        destination: unit(field(segment, 6..8))?,
        destination_lba: field(segment, 20..28),
        blocks: field(segment, 10..12),
        destination_count: segment[1] & 0x02 != 0,
    })
}

/// Ah with the number of the segment in INFORMATION.
pub(crate) fn aborted(segment: u16, cause: &Sense) -> Sense {
    let reachable = cause.additional != sense_codes::COPY_TARGET_NOT_REACHABLE;
    let additional = if reachable {
        sense_codes::NO_ADDITIONAL_SENSE
    } else {
        sense_codes::COPY_TARGET_NOT_REACHABLE
    };
    Sense::new(SenseKey::CopyAborted, additional).with_information(u64::from(segment))
}

/// The same for operations with four-byte list identifiers.
pub(crate) fn ended(segments: usize, outcome: &CopyOutcome) -> Ended {
    let (count, segments, failure) = match outcome {
        CopyOutcome::Done { bytes } => (*bytes, segments as u16, None),
        CopyOutcome::Failed {
            segment,
            bytes,
            sense,
        } => (*bytes, *segment, Some(aborted(*segment, sense))),
    };
    Ended {
        count,
        segments,
        failure,
        token: None,
    }
}

/// What is remembered of finished copies of a nexus: the newest few, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CopyStatuses(Vec<(u8, CopyStatus)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CopyStatus {
    failure: Option<Sense>,
    segments: u16,
    bytes: u64,
}

impl CopyStatuses {
    pub(crate) fn remember(&mut self, list_id: u8, segments: usize, outcome: &CopyOutcome) {
        let status = match *outcome {
            CopyOutcome::Done { bytes } => CopyStatus {
                failure: None,
                segments: segments as u16,
                bytes,
            },
            CopyOutcome::Failed {
                segment,
                bytes,
                sense,
            } => CopyStatus {
                failure: Some(sense),
                segments: segment,
                bytes,
            },
        };
        self.0.retain(|(id, _)| *id != list_id);
        if self.0.len() == usize::from(MAX_COPIES) {
            self.0.remove(0);
        }
        self.0.push((list_id, status));
    }

    /// RECEIVE COPY STATUS (LID1): an unknown list id is 24h/00h.
    pub(crate) fn report(&self, cdb: &[u8]) -> Result<Vec<u8>, Failure> {
        let known = self.0.iter().find(|(id, _)| *id == cdb[2]);
        let (_, status) = known.ok_or(Sense::invalid_cdb_field(2, Some(7)))?;
        let mut data = vec![0, 0, 0, 8, if status.failure.is_some() { 0x02 } else { 0x01 }];
        data.extend(status.segments.to_be_bytes());
        // TRANSFER COUNT UNITS: bytes, or KiB when the count would not fit.
        let (units, count) = match u32::try_from(status.bytes) {
            Ok(bytes) => (0x00, bytes),
            Err(_) => (0x01, u32::try_from(status.bytes >> 10).unwrap_or(u32::MAX)),
        };
        data.push(units);
        data.extend(count.to_be_bytes());
        Ok(data)
    }
}

impl CopyStatuses {
    /// RECEIVE COPY FAILURE DETAILS (LID1): of a copy that failed.
    pub(crate) fn failure_details(&self, cdb: &[u8], format: SenseFormat) -> Result<Vec<u8>, Failure> {
        let known = self.0.iter().find(|(id, _)| *id == cdb[2]);
        let failure = known.and_then(|(_, status)| Some((status.segments, status.failure?)));
        let (segment, cause) = failure.ok_or(Sense::invalid_cdb_field(2, Some(7)))?;
        let sense = aborted(segment, &cause).encode(format);
        let mut data = vec![0; 56];
        data.extend([0x02, 0]);
        data.extend((sense.len() as u16).to_be_bytes());
        data.extend(sense);
        let length = (data.len() - 4) as u32;
        data[..4].copy_from_slice(&length.to_be_bytes());
        Ok(data)
    }
}

/// RECEIVE COPY OPERATING PARAMETERS.
pub(crate) fn operating_parameters() -> Vec<u8> {
    let mut data = vec![0, 0, 0, 42, 0x01, 0, 0, 0];
    data.extend((MAX_TARGETS as u16).to_be_bytes());
    data.extend((MAX_SEGMENTS as u16).to_be_bytes());
    data.extend((MAX_DESCRIPTOR_BYTES as u32).to_be_bytes());
    data.extend(MAX_SEGMENT_BYTES.to_be_bytes());
    data.extend([0; 14]);
    data.extend(u16::from(MAX_COPIES).to_be_bytes());
    data.extend([
        MAX_COPIES,
        9,
        0,
        0,
        0,
        0,
        0,
        2,
        BLOCK_TO_BLOCK,
        IDENTIFICATION_DESCRIPTOR,
    ]);
    data
}

/// The descriptors of VPD page 8Fh: supported commands, parameter data, supported descriptors, general copy
/// operations, held data.
pub(crate) fn vpd_descriptors(block_size: u32) -> Vec<u8> {
    let mut data = rod_tokens::vpd_descriptors(block_size);
    data.extend([0x00, 0x01, 0, 0x10, 0x0F]);
    data.extend([0x83, 5, 0x00, 0x01, 0x10, 0x11, 0x1C]);
    data.extend([0x84, 6, 0x00, 0x03, 0x04, 0x05, 0x07, 0x08]);

    data.extend([0x00, 0x04, 0, 0x1C, 0, 0, 0, 0]);
    data.extend((MAX_TARGETS as u16).to_be_bytes());
    data.extend((MAX_SEGMENTS as u16).to_be_bytes());
    data.extend((MAX_DESCRIPTOR_BYTES as u32).to_be_bytes());
    data.extend([0; 16]);

    data.extend([0x00, 0x08, 0, 4, 2, BLOCK_TO_BLOCK, IDENTIFICATION_DESCRIPTOR, 0]);

    data.extend(rod_tokens::vpd_features());

    data.extend([0x80, 0x01, 0, 0x20]);
    data.extend(u32::from(MAX_COPIES).to_be_bytes());
    data.extend(u32::from(MAX_COPIES).to_be_bytes());
    data.extend(MAX_SEGMENT_BYTES.to_be_bytes());
    data.extend([9, 0]);
    data.extend([0; 18]);

    data.extend([0x80, 0x04, 0, 0x1C]);
    data.extend((MAX_OPERATIONS as u32).to_be_bytes());
    data.extend([0; 24]);
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(lu_id_type: u8) -> Vec<u8> {
        let mut target = vec![IDENTIFICATION_DESCRIPTOR, lu_id_type, 0, 0, 1, 3, 0, 16];
        target.extend([0x6A; 16]);
        target.resize(28, 0);
        target.extend([0, 0, 2, 0]);
        target
    }

    fn segment(destination: u8) -> Vec<u8> {
        let mut segment = vec![BLOCK_TO_BLOCK, 0, 0, 24, 0, 0, 0, destination, 0, 0, 0, 8];
        segment.extend(300_u64.to_be_bytes());
        segment.extend(400_u64.to_be_bytes());
        segment
    }

    fn run(targets: &[u8], segments: &[u8]) -> Result<Option<CopyPlan>, Failure> {
        let mut list = vec![7, 0];
        list.extend((targets.len() as u16).to_be_bytes());
        list.extend([0; 4]);
        list.extend((segments.len() as u32).to_be_bytes());
        list.extend([0; 4]);
        list.extend(targets);
        list.extend(segments);
        let mut cdb = [0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        cdb[10..14].copy_from_slice(&(list.len() as u32).to_be_bytes());
        parse(&cdb, &list)
    }

    fn code(result: Result<Option<CopyPlan>, Failure>) -> (SenseKey, sense_codes::AdditionalSense) {
        match result {
            Err(Failure::Check(sense)) => (sense.key, sense.additional),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_block_to_block_segment_is_read() {
        let plan = run(&target(0), &segment(0)).unwrap().unwrap();
        assert_eq!(plan.list_id, Some(CopyListId::Short(7)));
        let unit = CopyUnit {
            naa: [0x6A; 16],
            block_size: 512,
        };
        let wanted = CopySegment {
            source: unit.clone(),
            source_lba: 300,
            destination: unit,
            destination_lba: 400,
            blocks: 8,
            destination_count: false,
        };
        assert_eq!(plan.segments, [wanted]);
    }

    #[test]
    fn limits_and_types_have_their_codes() {
        let illegal = SenseKey::IllegalRequest;
        let many = code(run(&target(0).repeat(17), &segment(0)));
        assert_eq!(many, (illegal, sense_codes::TOO_MANY_TARGET_DESCRIPTORS));
        let many = code(run(&target(0), &segment(0).repeat(65)));
        assert_eq!(many, (illegal, sense_codes::TOO_MANY_SEGMENT_DESCRIPTORS));
        let both = code(run(&target(0).repeat(17), &segment(0).repeat(65)));
        assert_eq!(both, (illegal, sense_codes::PARAMETER_LIST_LENGTH_ERROR));
        let tape = code(run(&target(0x01), &segment(0)));
        assert_eq!(
            tape,
            (SenseKey::CopyAborted, sense_codes::COPY_TARGET_NOT_REACHABLE)
        );
        let index = code(run(&target(0), &segment(1)));
        assert_eq!(
            index,
            (SenseKey::CopyAborted, sense_codes::COPY_TARGET_NOT_REACHABLE)
        );
        assert!(
            run(&target(0xE0), &segment(0)).is_ok(),
            "LU ID TYPE and NUL are obsolete"
        );
        let mut kind = target(0);
        kind[0] = 0xE0;
        let kind = code(run(&kind, &segment(0)));
        assert_eq!(kind, (illegal, sense_codes::UNSUPPORTED_TARGET_DESCRIPTOR_TYPE));
    }

    #[test]
    fn four_byte_list_ids_have_a_header_of_their_own() {
        let (targets, segments) = (target(0), segment(0));
        let mut list = vec![1, 0, 0, 0x20];
        list.resize(LONG_HEADER, 0);
        list[16] = 0xFF;
        list[20..24].copy_from_slice(&0xA0B0_C0D0_u32.to_be_bytes());
        list[43] = targets.len() as u8;
        list[45] = segments.len() as u8;
        list.extend([targets, segments].concat());
        let mut cdb = [0x83, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        cdb[13] = list.len() as u8;
        let plan = parse(&cdb, &list).unwrap().unwrap();
        assert_eq!(plan.list_id, Some(CopyListId::Long(0xA0B0_C0D0)));
        assert_eq!(plan.segments.len(), 1);
        for (at, value, bit) in [(0, 2, None), (3, 0, None), (16, 0, None), (15, 1, Some(0))] {
            let mut wrong = list.clone();
            wrong[at] = value;
            assert_eq!(
                parse(&cdb, &wrong),
                Err(Sense::invalid_parameter(at as u16, bit).into())
            );
        }
        list[47] = 1;
        let inline = Sense::in_parameter_list(sense_codes::INLINE_DATA_LENGTH_EXCEEDED, 46, None);
        assert_eq!(parse(&cdb, &list), Err(inline.into()));
    }

    #[test]
    fn failure_details_are_of_failures() {
        let mut statuses = CopyStatuses::default();
        let outcome = CopyOutcome::Failed {
            segment: 3,
            bytes: 512,
            sense: Sense::new(SenseKey::DataProtect, sense_codes::WRITE_PROTECTED),
        };
        statuses.remember(9, 5, &outcome);
        statuses.remember(8, 5, &CopyOutcome::Done { bytes: 512 });
        let data = statuses
            .failure_details(&[0x84, 4, 9], SenseFormat::Fixed)
            .unwrap();
        assert_eq!((data.len(), data[3], data[56], data[59]), (78, 74, 2, 18));
        assert_eq!(data[62], 0x0A);
        assert!(
            statuses
                .failure_details(&[0x84, 4, 8], SenseFormat::Fixed)
                .is_err()
        );
    }

    #[test]
    fn statuses_are_held_by_list_id() {
        let mut statuses = CopyStatuses::default();
        let cdb = [0x84, 0, 7];
        assert!(statuses.report(&cdb).is_err());
        statuses.remember(7, 1, &CopyOutcome::Done { bytes: 4096 });
        assert_eq!(
            statuses.report(&cdb).unwrap(),
            [0, 0, 0, 8, 1, 0, 1, 0, 0, 0, 0x10, 0]
        );
    }

    #[test]
    fn operating_parameters_count_themselves() {
        let data = operating_parameters();
        assert_eq!(data.len(), 46);
        assert_eq!(data[34..37], [0, MAX_COPIES, MAX_COPIES]);
        assert_eq!(data[43..], [2, 2, 0xE4]);
        assert_eq!(vpd_descriptors(512).len() % 4, 0);
    }
}
