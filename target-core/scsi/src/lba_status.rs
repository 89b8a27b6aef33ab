//! GET LBA STATUS parameter data (SBC-3 5.6; report types and the completion condition are SBC-4's).

/// How the answer to a GET LBA STATUS looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LbaStatusLayout {
    /// Bytes per logical block.
    pub block_size: u32,
    /// ALLOCATION LENGTH.
    pub allocation_length: u32,
    /// Which stretches are asked for.
    pub report: ReportType,
    /// What is looked at ends with the unit (else with the SCAN LENGTH).
    pub capacity: bool,
}

/// REPORT TYPE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportType {
    /// 00h: everything.
    All,
    /// 01h and 03h: what is not mapped, which here is always deallocated.
    Deallocated,
    /// 02h: data.
    Mapped,
    /// 04h, anchored, and 10h, where reads may fail: nothing here is told to be so.
    Nothing,
}

impl ReportType {
    /// From the CDB; `None` is reserved.
    pub(crate) const fn of(code: u8) -> Option<Self> {
        Some(match code {
            0x00 => Self::All,
            0x01 | 0x03 => Self::Deallocated,
            0x02 => Self::Mapped,
            0x04 | 0x10 => Self::Nothing,
            _ => return None,
        })
    }

    /// Is it worth looking?
    pub fn shows_any(self) -> bool {
        self != Self::Nothing
    }

    /// Does the answer tell of this stretch?
    pub const fn shows(self, extent: &StatusExtent) -> bool {
        match self {
            Self::All => true,
            Self::Deallocated => !extent.mapped,
            Self::Mapped => extent.mapped,
            Self::Nothing => false,
        }
    }
}

/// A stretch of the unit, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusExtent {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Data (0h MAPPED) or a hole (1h DEALLOCATED).
    pub mapped: bool,
}

/// COMPLETION CONDITION.
const ALLOCATION_LENGTH_MET: u8 = 1;
const SCAN_LENGTH_MET: u8 = 2;
const CAPACITY_MET: u8 = 3;
/// RTP: the report type was honoured.
const REPORT_TYPE_PROCESSED: u8 = 1;

impl LbaStatusLayout {
    /// Parameter data with a descriptor an extent; with `limit` of them there may be more. An extent of more than
    /// 2^32 - 1 blocks is cut there: the next command goes on after it.
    pub fn encode(&self, extents: impl IntoIterator<Item = StatusExtent>, limit: usize) -> Vec<u8> {
        let mut data = vec![0; 8];
        let mut condition = if self.capacity {
            CAPACITY_MET
        } else {
            SCAN_LENGTH_MET
        };
        for (index, extent) in extents.into_iter().enumerate() {
            let blocks = extent.length / u64::from(self.block_size);
            let described = u32::try_from(blocks).unwrap_or(u32::MAX);
            data.extend((extent.offset / u64::from(self.block_size)).to_be_bytes());
            data.extend(described.to_be_bytes());
            data.extend([u8::from(!extent.mapped), 0, 0, 0]);
            if index + 1 == limit {
                condition = ALLOCATION_LENGTH_MET;
            }
            if u64::from(described) < blocks {
                condition = 0;
                break;
            }
        }
        let length = (data.len() - 4) as u32;
        data[..4].copy_from_slice(&length.to_be_bytes());
        data[7] = condition << 1 | REPORT_TYPE_PROCESSED;
        data.truncate(self.allocation_length as usize);
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: LbaStatusLayout = LbaStatusLayout {
        block_size: 512,
        allocation_length: 4096,
        report: ReportType::All,
        capacity: true,
    };

    #[test]
    fn descriptors_follow_an_eight_byte_header() {
        let extents = [
            StatusExtent {
                offset: 512,
                length: 1024,
                mapped: true,
            },
            StatusExtent {
                offset: 1536,
                length: 512,
                mapped: false,
            },
        ];
        let data = LAYOUT.encode(extents, 9);
        assert_eq!(data[..8], [0, 0, 0, 36, 0, 0, 0, 7]);
        assert_eq!(data[8..24], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0]);
        assert_eq!(data[24..40], [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 1, 0, 0, 0]);
        assert_eq!(LAYOUT.encode(extents, 2)[7], 3);
        let scanned = LbaStatusLayout {
            capacity: false,
            ..LAYOUT
        };
        assert_eq!(scanned.encode(extents, 9)[7], 5);
    }

    #[test]
    fn an_extent_too_long_for_its_field_ends_the_list() {
        let long = StatusExtent {
            offset: 0,
            length: 512 << 33,
            mapped: false,
        };
        let data = LAYOUT.encode([long, long], 9);
        assert_eq!((data.len(), data[7]), (24, 1));
        assert_eq!(data[16..20], [0xFF; 4]);
    }
}
