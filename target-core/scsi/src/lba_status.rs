//! GET LBA STATUS parameter data (SBC-3 5.6).

/// How the answer to a GET LBA STATUS looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LbaStatusLayout {
    /// Bytes per logical block.
    pub block_size: u32,
    /// ALLOCATION LENGTH.
    pub allocation_length: u32,
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

impl LbaStatusLayout {
    /// Parameter data with a descriptor an extent. An extent of more than 2^32 - 1 blocks is cut there: the next
    /// command goes on after it.
    pub fn encode(&self, extents: impl IntoIterator<Item = StatusExtent>) -> Vec<u8> {
        let mut data = vec![0; 8];
        for extent in extents {
            let blocks = extent.length / u64::from(self.block_size);
            let described = u32::try_from(blocks).unwrap_or(u32::MAX);
            data.extend((extent.offset / u64::from(self.block_size)).to_be_bytes());
            data.extend(described.to_be_bytes());
            data.extend([u8::from(!extent.mapped), 0, 0, 0]);
            if u64::from(described) < blocks {
                break;
            }
        }
        let length = (data.len() - 4) as u32;
        data[..4].copy_from_slice(&length.to_be_bytes());
        data.truncate(self.allocation_length as usize);
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_follow_an_eight_byte_header() {
        let layout = LbaStatusLayout {
            block_size: 512,
            allocation_length: 4096,
        };
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
        let data = layout.encode(extents);
        assert_eq!(data[..8], [0, 0, 0, 36, 0, 0, 0, 0]);
        assert_eq!(data[8..24], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0]);
        assert_eq!(data[24..40], [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn an_extent_too_long_for_its_field_ends_the_list() {
        let layout = LbaStatusLayout {
            block_size: 512,
            allocation_length: 4096,
        };
        let long = StatusExtent {
            offset: 0,
            length: 512 << 33,
            mapped: false,
        };
        let data = layout.encode([long, long]);
        assert_eq!(data.len(), 24);
        assert_eq!(data[16..20], [0xFF; 4]);
    }
}
