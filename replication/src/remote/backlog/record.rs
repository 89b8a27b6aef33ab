//! One write in the queue's file: a head of 48 bytes, and its data.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | its position in the ring |
//! | 8..16 | the far volume's life: which of those that were there since the start |
//! | 16..24 | offset |
//! | 24..32 | length |
//! | 32 | 0: data follows; 1: zeros; 2: zeros, which may become a hole |
//! | 40..44 | CRC-32C of the data |
//! | 44..48 | CRC-32C of the head up to here |
//!
//! Numbers are little-endian. The file is this process's own and is never read by another, so the layout has no version.

use crc_fast::crc32_iscsi;

/// Bytes of a head.
pub(super) const HEAD: u64 = 48;
const CRC: usize = 44;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The data behind the head.
    Data,
    /// Zeros.
    Zero { unmap: bool },
}

/// See the module's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) position: u64,
    pub(super) life: u64,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) kind: Kind,
    pub(super) crc: u32,
}

impl Head {
    /// Bytes of data behind it.
    pub(super) fn data(&self) -> u64 {
        match self.kind {
            Kind::Data => self.length,
            Kind::Zero { .. } => 0,
        }
    }

    /// Bytes of the whole record.
    pub(super) fn whole(&self) -> u64 {
        HEAD + self.data()
    }

    pub(super) fn encode(&self) -> [u8; HEAD as usize] {
        let mut bytes = [0; HEAD as usize];
        let numbers = [self.position, self.life, self.offset, self.length];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes[32] = match self.kind {
            Kind::Data => 0,
            Kind::Zero { unmap } => 1 + u8::from(unmap),
        };
        bytes[40..CRC].copy_from_slice(&self.crc.to_le_bytes());
        let crc = crc32_iscsi(&bytes[..CRC]);
        bytes[CRC..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The head that is due at this position; `None`: something else is there.
    pub(super) fn decode(bytes: &[u8], position: u64) -> Option<Self> {
        let bytes: &[u8; HEAD as usize] = bytes.get(..HEAD as usize)?.try_into().ok()?;
        let short = |at: usize| Some(u32::from_le_bytes(bytes[at..at + 4].try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?));
        let head = Self {
            position: long(0)?,
            life: long(8)?,
            offset: long(16)?,
            length: long(24)?,
            kind: match bytes[32] {
                0 => Kind::Data,
                1 => Kind::Zero { unmap: false },
                2 => Kind::Zero { unmap: true },
                _ => return None,
            },
            crc: short(40)?,
        };
        (short(CRC)? == crc32_iscsi(&bytes[..CRC]) && head.position == position).then_some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_what_was_written_at_its_place_or_nothing() {
        for kind in [
            Kind::Data,
            Kind::Zero { unmap: false },
            Kind::Zero { unmap: true },
        ] {
            let head = Head {
                position: 1 << 40,
                life: 7,
                offset: 4096,
                length: 512,
                kind,
                crc: 0xDEAD_BEEF,
            };
            let bytes = head.encode();
            assert_eq!(Head::decode(&bytes, 1 << 40), Some(head));
            assert_eq!(Head::decode(&bytes, 0), None, "one that an earlier round left");
            assert_eq!(Head::decode(&bytes[..47], 1 << 40), None);
            for at in 0..bytes.len() * 8 {
                let mut bad = bytes;
                bad[at / 8] ^= 1 << (at % 8);
                assert_eq!(Head::decode(&bad, 1 << 40), None, "bit {at}");
            }
        }
    }
}
