//! UNMAP (SBC-3 5.28).

use crate::{
    big_endian::field,
    block_commands::out_of_range,
    failure::Failure,
    plan::{Action, ByteRange, Plan},
    sense::Sense,
    sense_codes,
    unit::UnitFacts,
};

/// MAXIMUM UNMAP LBA COUNT, over all descriptors of a command.
pub const MAX_UNMAP_BLOCKS: u32 = 1 << 20;

/// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT.
pub const MAX_UNMAP_DESCRIPTORS: usize = 256;

const HEADER: usize = 8;
const DESCRIPTOR: usize = 16;

/// Plans an UNMAP. A list of length zero, and a descriptor without blocks, are no errors. ANCHOR keeps the space:
/// the ranges become zeros.
pub(crate) fn plan(cdb: &[u8], data_out: &[u8], facts: &UnitFacts<'_>) -> Result<Plan, Failure> {
    if !facts.identity.thin {
        return Err(Sense::illegal(sense_codes::INVALID_OPERATION_CODE).into());
    }
    if cdb[1] & 0x01 != 0 {
        return Err(Sense::invalid_cdb_field(1, Some(0)).into());
    }
    let length = field(cdb, 7..9) as usize;
    if length == 0 {
        return Ok(Plan::of(Action::Unmap(Vec::new())));
    }
    let wrong_length = Failure::from(Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR));
    let list = data_out
        .get(..length)
        .filter(|list| list.len() >= HEADER)
        .ok_or(wrong_length)?;
    let described = field(list, 2..4) as usize;
    if described > length - HEADER {
        return Err(wrong_length);
    }
    let descriptors = &list[HEADER..HEADER + described / DESCRIPTOR * DESCRIPTOR];
    if descriptors.len() > MAX_UNMAP_DESCRIPTORS * DESCRIPTOR {
        return Err(Sense::invalid_parameter(2, None).into());
    }
    let ranges = parse_ranges(descriptors, facts)?;
    Ok(Plan::of(Action::Unmap(ranges)).expecting(length as u64))
}

fn parse_ranges(descriptors: &[u8], facts: &UnitFacts<'_>) -> Result<Vec<ByteRange>, Failure> {
    let block = u64::from(facts.identity.block_size);
    let capacity = facts.identity.blocks;
    let mut ranges = Vec::new();
    let mut total = 0;
    for (index, descriptor) in descriptors.chunks_exact(DESCRIPTOR).enumerate() {
        let lba = field(descriptor, 0..8);
        let count = field(descriptor, 8..12);
        if lba > capacity || count > capacity - lba {
            return Err(out_of_range(lba.max(capacity)).into());
        }
        total += count;
        if total > u64::from(MAX_UNMAP_BLOCKS) {
            return Err(Sense::invalid_parameter((HEADER + index * DESCRIPTOR + 8) as u16, None).into());
        }
        if count > 0 {
            ranges.push(ByteRange {
                offset: lba * block,
                length: count * block,
            });
        }
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_commands::tests::{facts, identity};

    fn list(descriptors: &[(u64, u32)]) -> Vec<u8> {
        let described = (descriptors.len() * DESCRIPTOR) as u16;
        let mut list = (described + 6).to_be_bytes().to_vec();
        list.extend(described.to_be_bytes());
        list.extend([0; 4]);
        for (lba, count) in descriptors {
            list.extend(lba.to_be_bytes());
            list.extend(count.to_be_bytes());
            list.extend([0; 4]);
        }
        list
    }

    fn run(list: &[u8]) -> Result<Action, Failure> {
        let identity = identity();
        let [high, low] = (list.len() as u16).to_be_bytes();
        let cdb = [0x42, 0, 0, 0, 0, 0, 0, high, low, 0];
        plan(&cdb, list, &facts(&identity)).map(|plan| plan.action)
    }

    #[test]
    fn ranges_are_taken_and_empty_ones_left_out() {
        let ranges = vec![ByteRange {
            offset: 1024,
            length: 512,
        }];
        assert_eq!(run(&list(&[(2, 1), (2048, 0)])), Ok(Action::Unmap(ranges)));
        assert_eq!(run(&[]), Ok(Action::Unmap(Vec::new())));
    }

    #[test]
    fn what_is_beyond_the_end_is_refused() {
        assert_eq!(run(&list(&[(2048, 1)])), Err(out_of_range(2048).into()));
        assert_eq!(run(&list(&[(u64::MAX, 0)])), Err(out_of_range(u64::MAX).into()));
        assert_eq!(
            run(&list(&[(0, 1)])[..7]),
            Err(Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR).into())
        );
    }
}
