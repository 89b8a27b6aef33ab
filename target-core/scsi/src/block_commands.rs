//! The commands of SBC-3 that move or check blocks: CDB and data-out become a [`Plan`] with a validated range.
//!
//! An initiator may send less data than its CDB asks for; what came, in whole blocks, is written and the transport
//! reports the residual. Commands whose data has a meaning as a whole (COMPARE AND WRITE, WRITE SAME, VERIFY with a
//! compare) are refused when it has the wrong length.

use crate::{
    big_endian::field,
    failure::Failure,
    lba_status::{LbaStatusLayout, ReportType},
    opcode_table::{Handler, VARIABLE_LENGTH},
    plan::{Action, Plan},
    sense::{Sense, SenseKey},
    sense_codes,
    unit::UnitFacts,
};

/// MAXIMUM TRANSFER LENGTH in bytes, of every command that carries its blocks.
pub const MAX_TRANSFER_BYTES: u32 = 32 << 20;

/// MAXIMUM ATOMIC TRANSFER LENGTH in bytes.
pub const MAX_ATOMIC_BYTES: u32 = 1 << 20;

/// MAXIMUM COMPARE AND WRITE LENGTH in blocks.
pub const MAX_COMPARE_AND_WRITE_BLOCKS: u8 = 255;

/// MAXIMUM WRITE SAME LENGTH in bytes.
pub const MAX_WRITE_SAME_BYTES: u64 = 256 << 20;

const DPO_FUA: u8 = 0x08;
const BYTCHK: u8 = 0x06;
const WRITE_SAME_ANCHOR: u8 = 0x10;
const WRITE_SAME_UNMAP: u8 = 0x08;
const WRITE_SAME_NDOB: u8 = 0x01;
const IMMED: u8 = 0x02;

/// Plans one block command.
pub(crate) fn plan(
    handler: Handler,
    cdb: &[u8],
    data_out: &[u8],
    facts: &UnitFacts<'_>,
) -> Result<Plan, Failure> {
    match handler {
        Handler::Read => read(cdb, facts),
        Handler::Write => write(cdb, data_out.len(), facts),
        Handler::WriteAtomic => write_atomic(cdb, data_out, facts),
        Handler::WriteAndVerify => write_and_verify(cdb, data_out, facts),
        Handler::Verify => verify(cdb, data_out, facts),
        Handler::CompareAndWrite => compare_and_write(cdb, data_out, facts),
        Handler::WriteSame => write_same(cdb, data_out, facts),
        Handler::Prefetch => prefetch(cdb, facts),
        Handler::SynchronizeCache => synchronize_cache(cdb, facts),
        Handler::GetLbaStatus => get_lba_status(cdb, facts),
        _ => Err(Sense::illegal(sense_codes::INVALID_OPERATION_CODE).into()),
    }
}

/// LBA and number of blocks of a CDB, not yet checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Blocks {
    lba: u64,
    count: u64,
    /// Byte of the CDB where the count starts, for the field pointer.
    count_byte: u16,
}

impl Blocks {
    fn of(cdb: &[u8]) -> Self {
        match cdb[0] >> 5 {
            0 => {
                let count = if cdb[4] == 0 { 256 } else { u64::from(cdb[4]) };
                Self {
                    lba: field(cdb, 1..4) & 0x1F_FFFF,
                    count,
                    count_byte: 4,
                }
            }
            3 => Self {
                lba: field(cdb, 12..20),
                count: field(cdb, 28..32),
                count_byte: 28,
            },
            4 => Self {
                lba: field(cdb, 2..10),
                count: field(cdb, 10..14),
                count_byte: 10,
            },
            5 => Self {
                lba: field(cdb, 2..6),
                count: field(cdb, 6..10),
                count_byte: 6,
            },
            _ => Self {
                lba: field(cdb, 2..6),
                count: field(cdb, 7..9),
                count_byte: 7,
            },
        }
    }

    /// The range in bytes. One that ends beyond the capacity is 21h/00h with the first LBA that is not there; an
    /// empty one may start at the capacity, not after it.
    fn range(self, facts: &UnitFacts<'_>) -> Result<(u64, u64), Failure> {
        let capacity = facts.identity.blocks;
        if self.lba > capacity || self.count > capacity - self.lba {
            return Err(out_of_range(self.lba.max(capacity)).into());
        }
        let block = u64::from(facts.identity.block_size);
        Ok((self.lba * block, self.count * block))
    }

    /// The range of a command that carries its blocks: not longer than the maximum transfer.
    fn transfer(self, facts: &UnitFacts<'_>) -> Result<(u64, u64), Failure> {
        let (offset, length) = self.range(facts)?;
        if length > u64::from(MAX_TRANSFER_BYTES) {
            return Err(Sense::invalid_cdb_field(self.count_byte, Some(7)).into());
        }
        Ok((offset, length))
    }
}

/// 5h/21h/00h with the LBA in INFORMATION.
pub(crate) fn out_of_range(lba: u64) -> Sense {
    Sense::new(SenseKey::IllegalRequest, sense_codes::LBA_OUT_OF_RANGE).with_information(lba)
}

/// The data sent is not what the CDB describes.
pub(crate) fn wrong_data_length() -> Failure {
    Sense::illegal(sense_codes::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT).into()
}

/// The byte with DPO, FUA, BYTCHK, UNMAP and the like: 10 in CDBs of 32 bytes, in others 1.
fn flags_byte(cdb: &[u8]) -> u16 {
    if cdb[0] == VARIABLE_LENGTH { 10 } else { 1 }
}

fn flags(cdb: &[u8]) -> u8 {
    cdb[usize::from(flags_byte(cdb))]
}

/// READ(6) and WRITE(6) have no flags: their byte 1 is part of the LBA.
fn fua(cdb: &[u8]) -> bool {
    cdb[0] >> 5 != 0 && flags(cdb) & DPO_FUA != 0
}

/// What of `length` the initiator sent, in whole blocks.
fn sent(length: u64, data_out_length: usize, facts: &UnitFacts<'_>) -> u64 {
    let block = u64::from(facts.identity.block_size);
    length.min(data_out_length as u64 / block * block)
}

/// What a command moves that carries its blocks and may come with fewer of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// First byte.
    pub(crate) offset: u64,
    /// Bytes that the CDB asks for.
    pub(crate) asked: u64,
    /// Bytes that came, in whole blocks.
    pub(crate) length: u64,
    pub(crate) fua: bool,
}

impl Transfer {
    pub(crate) fn of(cdb: &[u8], data_out_length: usize, facts: &UnitFacts<'_>) -> Result<Self, Failure> {
        let (offset, asked) = Blocks::of(cdb).transfer(facts)?;
        Ok(Self {
            offset,
            asked,
            length: sent(asked, data_out_length, facts),
            fua: fua(cdb),
        })
    }
}

pub(crate) fn read(cdb: &[u8], facts: &UnitFacts<'_>) -> Result<Plan, Failure> {
    let (offset, length) = Blocks::of(cdb).transfer(facts)?;
    Ok(Plan::of(Action::Read {
        offset,
        length,
        fua: fua(cdb),
    }))
}

pub(crate) fn write(cdb: &[u8], data_out_length: usize, facts: &UnitFacts<'_>) -> Result<Plan, Failure> {
    let transfer = Transfer::of(cdb, data_out_length, facts)?;
    Ok(Plan::of(Action::Write {
        offset: transfer.offset,
        length: transfer.length,
        fua: transfer.fua,
    })
    .expecting(transfer.asked))
}

/// WRITE ATOMIC without boundaries (SBC-4 5.48): a part of the data would be a part of the write. The (16) has two bytes
/// for the boundary before the two for the count.
fn write_atomic(cdb: &[u8], data_out: &[u8], facts: &UnitFacts<'_>) -> Result<Plan, Failure> {
    let blocks = Blocks::of(cdb);
    let (offset, length) = blocks.range(facts)?;
    if length > u64::from(MAX_ATOMIC_BYTES) {
        let count_byte = if cdb[0] == VARIABLE_LENGTH {
            blocks.count_byte
        } else {
            12
        };
        return Err(Sense::invalid_cdb_field(count_byte, Some(7)).into());
    }
    if data_out.len() as u64 != length {
        return Err(wrong_data_length());
    }
    Ok(Plan::of(Action::WriteAtomic { offset, length }).expecting(length))
}

fn write_and_verify(cdb: &[u8], data_out: &[u8], facts: &UnitFacts<'_>) -> Result<Plan, Failure> {
    let compare = match flags(cdb) & BYTCHK {
        0x00 => false,
        0x02 => true,
        _ => return Err(Sense::invalid_cdb_field(flags_byte(cdb), Some(2)).into()),
    };
    let (offset, asked) = Blocks::of(cdb).transfer(facts)?;
    let length = sent(asked, data_out.len(), facts);
    Ok(Plan::of(Action::WriteVerify {
        offset,
        length,
        compare,
    })
    .expecting(asked))
}

/// BYTCHK 00b checks that the range can be read, 01b compares with as many blocks, 11b each with one block.
fn verify(cdb: &[u8], data_out: &[u8], facts: &UnitFacts<'_>) -> Result<Plan, Failure> {
    let blocks = Blocks::of(cdb);
    match flags(cdb) & BYTCHK {
        0x00 => {
            let (offset, length) = blocks.range(facts)?;
            Ok(Plan::of(Action::Verify { offset, length }))
        }
        0x02 => {
            let (offset, asked) = blocks.transfer(facts)?;
            let length = sent(asked, data_out.len(), facts);
            Ok(Plan::of(Action::Compare {
                offset,
                length,
                repeat: false,
            })
            .expecting(asked))
        }
        0x06 => {
            let (offset, length) = blocks.range(facts)?;
            let block = if length == 0 {
                0
            } else {
                u64::from(facts.identity.block_size)
            };
            if (data_out.len() as u64) < block {
                return Err(wrong_data_length());
            }
            Ok(Plan::of(Action::Compare {
                offset,
                length,
                repeat: true,
            })
            .expecting(block))
        }
        _ => Err(Sense::invalid_cdb_field(flags_byte(cdb), Some(2)).into()),
    }
}

/// The length is checked before anything else: too many blocks are 24h/00h even when the data does not fit them.
fn compare_and_write(cdb: &[u8], data_out: &[u8], facts: &UnitFacts<'_>) -> Result<Plan, Failure> {
    let blocks = Blocks {
        lba: field(cdb, 2..10),
        count: u64::from(cdb[13]),
        count_byte: 13,
    };
    // The field holds eight bits: an initiator that wants more blocks shows it only by the data it sends.
    let most = 2 * u64::from(MAX_COMPARE_AND_WRITE_BLOCKS) * u64::from(facts.identity.block_size);
    if data_out.len() as u64 > most {
        return Err(Sense::invalid_cdb_field(13, Some(7)).into());
    }
    let (offset, length) = blocks.range(facts)?;
    if data_out.len() as u64 != 2 * length {
        return Err(wrong_data_length());
    }
    Ok(Plan::of(Action::CompareAndWrite {
        offset,
        length,
        fua: fua(cdb),
    })
    .expecting(2 * length))
}

/// WRITE SAME: a block of zeros (or none, NDOB) becomes a zeroed range; with UNMAP the space is given back, with
/// ANCHOR as well it stays allocated. A block of anything else is written, UNMAP or not, for what is read later
/// must be what was sent. WSNZ is zero: a count of zero is the rest of the unit, if that is not too long.
fn write_same(cdb: &[u8], data_out: &[u8], facts: &UnitFacts<'_>) -> Result<Plan, Failure> {
    let block = facts.identity.block_size as usize;
    let flags = flags(cdb);
    let unmap = flags & WRITE_SAME_UNMAP != 0;
    let anchor = flags & WRITE_SAME_ANCHOR != 0;
    let no_data = cdb[0] != 0x41 && flags & WRITE_SAME_NDOB != 0;
    if anchor && !unmap {
        return Err(Sense::invalid_cdb_field(flags_byte(cdb), Some(4)).into());
    }
    if unmap && !facts.identity.thin {
        return Err(Sense::invalid_cdb_field(flags_byte(cdb), Some(3)).into());
    }
    let blocks = Blocks::of(cdb);
    let wrong_count = Sense::invalid_cdb_field(blocks.count_byte, Some(7));
    if blocks.count > MAX_WRITE_SAME_BYTES / block as u64 {
        return Err(wrong_count.into());
    }
    let (offset, length) = to_the_end(blocks, facts)?;
    if length > MAX_WRITE_SAME_BYTES {
        return Err(wrong_count.into());
    }
    if data_out.len() != if no_data { 0 } else { block } {
        return Err(wrong_data_length());
    }
    let expected = data_out.len() as u64;
    if data_out.iter().all(|byte| *byte == 0) {
        let unmap = unmap && !anchor;
        return Ok(Plan::of(Action::Zero {
            offset,
            length,
            unmap,
        })
        .expecting(expected));
    }
    Ok(Plan::of(Action::WriteSame { offset, length }).expecting(expected))
}

/// A count of zero means to the end of the medium (SBC-3 5.8).
fn prefetch(cdb: &[u8], facts: &UnitFacts<'_>) -> Result<Plan, Failure> {
    let (offset, length) = to_the_end(Blocks::of(cdb), facts)?;
    Ok(Plan::of(Action::Prefetch { offset, length }))
}

/// A count of zero means to the end of the medium (SBC-3 5.22).
fn synchronize_cache(cdb: &[u8], facts: &UnitFacts<'_>) -> Result<Plan, Failure> {
    let (offset, length) = to_the_end(Blocks::of(cdb), facts)?;
    Ok(Plan::of(Action::Flush {
        offset,
        length,
        immediate: cdb[1] & IMMED != 0,
    }))
}

fn to_the_end(blocks: Blocks, facts: &UnitFacts<'_>) -> Result<(u64, u64), Failure> {
    let (offset, length) = blocks.range(facts)?;
    let length = if blocks.count == 0 {
        facts.identity.bytes() - offset
    } else {
        length
    };
    Ok((offset, length))
}

/// An allocation length that holds no descriptor still gets the header (SBC-3 5.6.1). SBC-4 adds the REPORT TYPE, and to
/// the CDB of 32 bytes how far to look (SCAN LENGTH).
fn get_lba_status(cdb: &[u8], facts: &UnitFacts<'_>) -> Result<Plan, Failure> {
    let long = cdb[0] == VARIABLE_LENGTH;
    let (lba_at, length_at, type_at) = if long { (12, 28, 10) } else { (2, 10, 14) };
    let lba = field(cdb, lba_at..lba_at + 8);
    let capacity = facts.identity.blocks;
    if lba >= capacity {
        return Err(out_of_range(lba).into());
    }
    let report = ReportType::of(cdb[type_at]).ok_or(Sense::invalid_cdb_field(type_at as u16, Some(7)))?;
    let scan = match if long { field(cdb, 20..24) } else { 0 } {
        0 => capacity - lba,
        blocks => blocks.min(capacity - lba),
    };
    let allocation_length = field(cdb, length_at..length_at + 4) as u32;
    let room = (allocation_length.saturating_sub(8)).div_ceil(16) as usize;
    let block_size = facts.identity.block_size;
    Ok(Plan::of(Action::Extents {
        offset: lba * u64::from(block_size),
        length: scan * u64::from(block_size),
        limit: room.clamp(1, 4096),
        layout: LbaStatusLayout {
            block_size,
            allocation_length,
            report,
            capacity: lba + scan == capacity,
        },
    }))
}

#[cfg(test)]
pub(crate) mod tests;
