//! The header that every frame begins with: docs/link.md, "The header".

use crate::{frame::FrameError, packing::Compression};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 32;
/// The most bytes of data in one frame, beside its fixed fields.
pub const MAX_DATA: usize = 1 << 20;
/// The oldest version of the protocol that this program speaks.
pub const LOWEST_VERSION: u16 = 1;
/// The newest one.
pub const HIGHEST_VERSION: u16 = 1;
/// What frames of the handshake carry: their layout is the same in every version.
pub const HANDSHAKE_VERSION: u16 = 0;

/// WRITE and ZERO: to be applied in the order of arrival.
pub const ORDERED: u8 = 1;
/// ZERO: the range may become a hole.
pub const UNMAP: u8 = 2;
/// WRITE and DATA: what follows the fixed fields is compressed by LZ4.
pub const LZ4: u8 = 4;
/// Likewise by zstd.
pub const ZSTD: u8 = 8;

/// Bytes of one digest: SHA-256.
pub const DIGEST_BYTES: usize = 32;
/// The most digests in one frame.
pub const MAX_DIGESTS: usize = 2048;
/// The most bytes that one request asks digests of.
pub const MAX_DIGESTED: usize = 1 << 20;

const MAGIC: [u8; 4] = *b"HFLK";
const CRC_AT: usize = HEADER_BYTES - 4;
/// Bytes before the data of a Write.
const WRITE_FIELDS: usize = 40;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The caller says who it is.
    Hello = 1,
    /// The called one answers who it is, with the version chosen.
    HelloAck = 2,
    /// The called one will not talk.
    Refuse = 3,
    /// Are you there?
    Ping = 4,
    /// I am.
    Pong = 5,
    /// No more requests from here.
    Bye = 6,
    /// What is this volume?
    Describe = 16,
    /// Write bytes.
    Write = 17,
    /// Write zeros.
    Zero = 18,
    /// Read bytes.
    Read = 19,
    /// Make durable what was written.
    Flush = 20,
    /// What begins here, data or a hole?
    Extents = 21,
    /// About a pair.
    Pair = 22,
    /// A replication command for the system on the other side.
    Forward = 23,
    /// What are the digests of these bytes?
    Digest = 24,
    /// Answers Describe.
    Described = 32,
    /// Answers Read: the bytes.
    Data = 33,
    /// Answers Read: nothing was ever written there.
    Hole = 34,
    /// Answers Extents.
    Extent = 35,
    /// Answers Pair.
    PairState = 36,
    /// Answers Forward.
    Forwarded = 37,
    /// Answers Write, Zero and Flush.
    Done = 38,
    /// Answers any request: it was not done.
    Failed = 39,
    /// Answers Digest.
    Digests = 40,
}

/// Every kind, with the least and the most bytes of its payload and the flags it may carry.
const KINDS: [(Kind, usize, usize, u8); 24] = [
    (Kind::Hello, 88, 88, 0),
    (Kind::HelloAck, 88, 88, 0),
    (Kind::Refuse, 8, 8, 0),
    (Kind::Ping, 8, 8, 0),
    (Kind::Pong, 8, 8, 0),
    (Kind::Bye, 8, 8, 0),
    (Kind::Describe, 8, 72, 0),
    (
        Kind::Write,
        WRITE_FIELDS + 1,
        WRITE_FIELDS + MAX_DATA,
        ORDERED | LZ4 | ZSTD,
    ),
    (Kind::Zero, 48, 48, ORDERED | UNMAP),
    (Kind::Read, 48, 48, 0),
    (Kind::Flush, 32, 32, 0),
    (Kind::Extents, 40, 40, 0),
    (Kind::Pair, 56, 56, 0),
    (Kind::Forward, 1, 64 << 10, 0),
    (Kind::Digest, 48, 48, ORDERED),
    (Kind::Described, 41, 104, 0),
    (Kind::Data, 1, MAX_DATA, LZ4 | ZSTD),
    (Kind::Hole, 0, 0, 0),
    (Kind::Extent, 16, 16, 0),
    (Kind::PairState, 40, 40 + 16 * 4096, 0),
    (Kind::Forwarded, 0, MAX_DATA, 0),
    (Kind::Done, 0, 0, 0),
    (Kind::Failed, 4, 4 + 512, 0),
    (Kind::Digests, DIGEST_BYTES, DIGEST_BYTES * MAX_DIGESTS, 0),
];

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        let known = KINDS.iter().map(|(kind, ..)| *kind);
        known.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Least and most bytes of payload, and the flags accepted.
    fn limits(self) -> (usize, usize, u8) {
        let (_, least, most, flags) = KINDS
            .iter()
            .find(|(kind, ..)| *kind == self)
            .expect("the table has every kind");
        (*least, *most, *flags)
    }

    /// A payload must have this many bytes.
    pub(crate) fn check_length(self, length: usize) -> Result<(), FrameError> {
        let (least, most, _) = self.limits();
        if (least..=most).contains(&length) {
            return Ok(());
        }
        Err(FrameError::Length {
            kind: self,
            length,
            least,
            most,
        })
    }

    /// A frame of this kind may carry these flags.
    pub(crate) fn may_have(self, flags: u8) -> bool {
        flags & !self.limits().2 == 0
    }

    /// Bytes before the data, of a kind whose data may be compressed.
    pub(crate) fn fields(self) -> usize {
        if self == Self::Write { WRITE_FIELDS } else { 0 }
    }

    /// It is a request, which its id names.
    pub fn is_request(self) -> bool {
        (16..32).contains(&(self as u8))
    }

    /// It answers a request, which its id names.
    pub fn is_response(self) -> bool {
        (32..48).contains(&(self as u8))
    }
}

/// A header that makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Version of the protocol that the payload follows.
    pub version: u16,
    /// What the frame is.
    pub kind: Kind,
    /// [`ORDERED`], [`UNMAP`]; [`LZ4`] or [`ZSTD`].
    pub flags: u8,
    /// Bytes of payload on the wire.
    pub length: usize,
    /// Those of a compressed payload before it was compressed; else 0.
    pub unpacked: usize,
    /// The request, for requests and what answers them; else 0.
    pub id: u64,
    /// CRC-32C of the payload as it was before it was compressed.
    pub payload_crc: u32,
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&self.version.to_le_bytes());
        bytes[6] = self.kind as u8;
        bytes[7] = self.flags;
        bytes[8..12].copy_from_slice(&(self.length as u32).to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.unpacked as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.id.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc_fast::crc32_iscsi(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header; `None` when more bytes are needed. What cannot become one is refused by its first bytes.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let magic = bytes.len().min(MAGIC.len());
        if bytes[..magic] != MAGIC[..magic] {
            return Err(FrameError::Magic);
        }
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let u32_at = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("inside the header"));
        if u32_at(CRC_AT) != crc_fast::crc32_iscsi(&bytes[..CRC_AT]) {
            return Err(FrameError::HeaderCrc);
        }
        let kind = Kind::from_byte(bytes[6]).ok_or(FrameError::Kind(bytes[6]))?;
        let header = Self {
            version: u16::from_le_bytes([bytes[4], bytes[5]]),
            kind,
            flags: bytes[7],
            length: u32_at(8) as usize,
            unpacked: u32_at(12) as usize,
            id: u64::from(u32_at(16)) | u64::from(u32_at(20)) << 32,
            payload_crc: u32_at(24),
        };
        if !kind.may_have(header.flags) || header.flags & (LZ4 | ZSTD) == LZ4 | ZSTD {
            return Err(FrameError::Flags {
                kind,
                flags: header.flags,
            });
        }
        if (kind.is_request() || kind.is_response()) == (header.id == 0) {
            return Err(FrameError::Id { kind, id: header.id });
        }
        header.check_lengths()?;
        Ok(Some(header))
    }

    /// What the data is compressed by.
    pub fn compression(&self) -> Option<Compression> {
        Compression::ALL
            .into_iter()
            .find(|by| self.flags & by.flag() != 0)
    }

    /// A compressed payload must be shorter than what it stands for, and that no longer than it could be without.
    fn check_lengths(&self) -> Result<(), FrameError> {
        let Self {
            kind,
            length,
            unpacked,
            ..
        } = *self;
        if self.compression().is_none() {
            if unpacked != 0 {
                return Err(FrameError::Reserved { kind, at: 12 });
            }
            return kind.check_length(length);
        }
        kind.check_length(unpacked)?;
        if length <= kind.fields() || length >= unpacked {
            return Err(FrameError::Packed {
                kind,
                length,
                unpacked,
            });
        }
        Ok(())
    }
}
