//! A journal file as bytes: a header, then records one behind the other, then zeros or a torn end.
//!
//! # What a crash may leave, and what is damage
//!
//! Records are appended, and made durable in batches. When power fails, any part of what was not yet durable may be
//! missing, pages in the middle included: a bad record may well be followed by good ones. That is a torn end; nothing in it
//! was ever promised, and the file counts up to the first bad record. But a record that *was* durable and is bad now is
//! damage, and what it said is lost: then nothing behind it can be trusted and the daemon must not guess. To tell the
//! two apart each record says up to which number the journal was durable when it was written (`synced`). A bad record
//! number `n` with a good later one that says `synced >= n` is damage, named with its offset.
//!
//! The epoch, one higher in each new file, keeps the leftovers of another file from being taken for records.

use super::{
    codec::{self, RecordError},
    image::ReplayError,
    record::Record,
};
use crc_fast::{CrcAlgorithm, Digest};

/// Bytes of the file's header.
pub const HEADER_BYTES: usize = 64;
/// The format's version.
pub const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"HFJOURNL";
const HEADER_CRC_AT: usize = HEADER_BYTES - 4;
/// Bytes before a record's payload.
const RECORD_HEAD: usize = 32;
const ALIGN: usize = 8;

/// The file's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// One higher in each new file of a system.
    pub epoch: u64,
    /// The system's id, ASCII, padded with spaces.
    pub system_id: [u8; 16],
    /// Bytes a track.
    pub track_size: u32,
}

/// Bytes that are no journal, or a damaged one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The file does not begin as a journal does.
    #[error("this is not a journal")]
    NotAJournal,
    /// A version this program does not know.
    #[error("the journal has version {0}, this program reads version {VERSION}")]
    Version(u32),
    /// The header's checksum is wrong.
    #[error("the journal's header is damaged")]
    Header,
    /// A record that was durable is damaged.
    #[error(
        "the journal is damaged at offset {offset}: record {seq} cannot be read, but record {later} behind it can"
    )]
    Damaged {
        /// Where the bad record is.
        offset: u64,
        /// Its number.
        seq: u64,
        /// The number of a good record that was written after it was durable.
        later: u64,
    },
    /// A record that is whole but means nothing to this program.
    #[error("the journal's record {seq} at offset {offset} cannot be understood: {why}")]
    Record {
        /// Where.
        offset: u64,
        /// Its number.
        seq: u64,
        /// Why.
        why: RecordError,
    },
    /// A record that does not fit those before it.
    #[error("the journal's record {seq} at offset {offset} does not fit those before it: {why}")]
    Replay {
        /// Where.
        offset: u64,
        /// Its number.
        seq: u64,
        /// Why.
        why: ReplayError,
    },
    /// The file does not begin with a complete snapshot.
    #[error("the journal does not begin with a complete snapshot")]
    NoSnapshot,
}

/// A record with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its number, from 1.
    pub seq: u64,
    /// What it says.
    pub record: Record,
}

/// A journal that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// The header.
    pub header: Header,
    /// The records, in order.
    pub entries: Vec<Entry>,
    /// Bytes up to the end of the last record.
    pub valid_len: u64,
    /// What is behind it is not all zero: the end of the file was torn.
    pub torn: bool,
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.track_size.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.system_id);
        let crc = crc(&[&bytes[..HEADER_CRC_AT]]);
        bytes[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header.
    pub fn decode(bytes: &[u8]) -> Result<Self, JournalError> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(JournalError::NotAJournal)?;
        if bytes[..8] != MAGIC {
            return Err(JournalError::NotAJournal);
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(JournalError::Version(version));
        }
        let track_size = u32_at(bytes, 12);
        if u32_at(bytes, HEADER_CRC_AT) != crc(&[&bytes[..HEADER_CRC_AT]])
            || bytes[40..HEADER_CRC_AT].iter().any(|byte| *byte != 0)
            || track_size == 0
        {
            return Err(JournalError::Header);
        }
        let mut system_id = [0; 16];
        system_id.copy_from_slice(&bytes[24..40]);
        Ok(Self {
            epoch: u64_at(bytes, 16),
            system_id,
            track_size,
        })
    }
}

/// Numbers records and makes bytes of them.
#[derive(Debug, Clone)]
pub struct Writer {
    epoch: u32,
    next: u64,
    synced: u64,
}

impl Writer {
    /// The writer of a new file with this header.
    pub fn new(header: &Header) -> Self {
        Self {
            epoch: header.epoch as u32,
            next: 1,
            synced: 0,
        }
    }

    /// Appends a record's bytes, and gives its number.
    ///
    /// # Panics
    /// When a payload has 4 GiB: a bitmap of the longest volume has 4 GiB / 4, and every list is bounded by what is hot.
    pub fn append(&mut self, record: &Record, out: &mut Vec<u8>) -> u64 {
        let seq = self.next;
        self.next += 1;
        let start = out.len();
        out.resize(start + RECORD_HEAD, 0);
        codec::encode(record, out);
        let len = u32::try_from(out.len() - start - RECORD_HEAD).expect("a payload is shorter than 4 GiB");
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        let head = &mut out[start..start + RECORD_HEAD];
        head[..4].copy_from_slice(&len.to_le_bytes());
        head[8..16].copy_from_slice(&seq.to_le_bytes());
        head[16..24].copy_from_slice(&self.synced.to_le_bytes());
        head[24..26].copy_from_slice(&codec::type_code(record).to_le_bytes());
        head[28..32].copy_from_slice(&self.epoch.to_le_bytes());
        let crc = crc(&[&out[start..start + 4], &out[start + 8..]]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        seq
    }

    /// Every record up to this number is durable now.
    pub fn synced(&mut self, seq: u64) {
        self.synced = self.synced.max(seq);
    }

    /// The number of the last record, 0 before the first.
    pub fn last(&self) -> u64 {
        self.next - 1
    }
}

/// Reads a whole file.
pub fn parse(bytes: &[u8]) -> Result<Journal, JournalError> {
    let header = Header::decode(bytes)?;
    let epoch = header.epoch as u32;
    let mut entries = Vec::new();
    let mut offset = HEADER_BYTES;
    let mut seq = 1;
    while let Some(frame) = Frame::read(&bytes[offset..], epoch).filter(|frame| frame.seq == seq) {
        let record = codec::decode(frame.type_code, frame.payload).map_err(|why| JournalError::Record {
            offset: offset as u64,
            seq,
            why,
        })?;
        entries.push(Entry {
            offset: offset as u64,
            seq,
            record,
        });
        offset += frame.len;
        seq += 1;
    }
    if let Some(later) = witness(&bytes[offset..], epoch, seq) {
        return Err(JournalError::Damaged {
            offset: offset as u64,
            seq,
            later,
        });
    }
    let torn = bytes[offset..].iter().any(|byte| *byte != 0);
    Ok(Journal {
        header,
        entries,
        valid_len: offset as u64,
        torn,
    })
}

/// A good record in `rest` that was written when `seq` was durable.
fn witness(rest: &[u8], epoch: u32, seq: u64) -> Option<u64> {
    (0..rest.len())
        .step_by(ALIGN)
        // Cheap looks first: a checksum only where the fields could be those of a witness.
        .filter(|at| rest.len() - at >= RECORD_HEAD && u32_at(&rest[*at..], 28) == epoch)
        .filter(|at| u64_at(&rest[*at..], 16) >= seq && u64_at(&rest[*at..], 8) > u64_at(&rest[*at..], 16))
        .find_map(|at| Frame::read(&rest[at..], epoch))
        .map(|frame| frame.seq)
}

/// A record whose checksum is right.
struct Frame<'a> {
    seq: u64,
    type_code: u16,
    payload: &'a [u8],
    /// Padding included.
    len: usize,
}

impl<'a> Frame<'a> {
    fn read(bytes: &'a [u8], epoch: u32) -> Option<Self> {
        let head: &[u8; RECORD_HEAD] = bytes.first_chunk()?;
        let payload_len = u32_at(head, 0) as usize;
        let len = RECORD_HEAD
            .checked_add(payload_len)?
            .checked_next_multiple_of(ALIGN)?;
        let whole = bytes.get(..len)?;
        let good = u32_at(head, 28) == epoch
            && head[26..28] == [0, 0]
            && u32_at(head, 4) == crc(&[&whole[..4], &whole[8..]]);
        good.then(|| Self {
            seq: u64_at(head, 8),
            type_code: u16::from_le_bytes([head[24], head[25]]),
            payload: &whole[RECORD_HEAD..RECORD_HEAD + payload_len],
            len,
        })
    }
}

fn crc(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}

/// The caller has checked that the bytes are there.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |four| u32::from_le_bytes(*four))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |eight| u64::from_le_bytes(*eight))
}
