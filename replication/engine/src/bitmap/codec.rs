//! A bitmap as bytes, for the journal's snapshots (docs/journal.md).
//!
//! Tracks (u64), then groups of neighbouring chunks of one kind: kind (u8: 0 empty, 1 full, 2 mixed), three zero
//! bytes, number of chunks (u32), and for mixed ones 4096 bytes each. Little-endian.

use super::{Bitmap, CHUNK_BYTES, CHUNK_WORDS, Chunk, chunks_of, count_ones};
use crate::{ids::Region, track::REGION_TRACKS};

const EMPTY: u8 = 0;
const FULL: u8 = 1;
const MIXED: u8 = 2;
const GROUP_HEAD: usize = 8;

/// Most tracks a decoded bitmap may have: 2^35, the most that 256 TiB have in the smallest tracks. It bounds what
/// a damaged length may make us allocate (16 MiB).
const MAX_TRACKS: u64 = 1 << 35;

/// Bytes that are no bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BitmapError {
    /// The bytes end within a field.
    #[error("the bitmap is cut short")]
    Short,
    /// The chunks do not add up to the tracks, or a count is zero.
    #[error("the bitmap's chunks do not add up to its tracks")]
    Chunks,
    /// A kind that does not exist, or a reserved byte that is set.
    #[error("the bitmap has a chunk of an unknown kind")]
    Kind,
    /// A mixed chunk that is empty or full, or has bits past the last track.
    #[error("the bitmap has a mixed chunk that is not mixed")]
    NotNormal,
    /// More tracks than any volume has.
    #[error("the bitmap has too many tracks")]
    TooLong,
}

impl Bitmap {
    /// Appends the bitmap's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tracks.to_le_bytes());
        for group in self.chunks.chunk_by(|a, b| kind(a) == kind(b)) {
            let count = u32::try_from(group.len()).expect("a bitmap has at most 2^20 chunks");
            out.extend_from_slice(&[kind(&group[0]), 0, 0, 0]);
            out.extend_from_slice(&count.to_le_bytes());
            for chunk in group {
                if let Chunk::Mixed { words, .. } = chunk {
                    out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
                }
            }
        }
    }

    /// Reads a bitmap from the front of `bytes`, which then begin behind it.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, BitmapError> {
        let tracks = u64::from_le_bytes(take(bytes)?);
        if tracks > MAX_TRACKS {
            return Err(BitmapError::TooLong);
        }
        let wanted = chunks_of(tracks);
        let mut chunks = Vec::new();
        while chunks.len() < wanted {
            let head: [u8; GROUP_HEAD] = take(bytes)?;
            let [kind, 0, 0, 0, count @ ..] = head else {
                return Err(BitmapError::Kind);
            };
            let count = u32::from_le_bytes(count) as usize;
            if count == 0 || count > wanted - chunks.len() {
                return Err(BitmapError::Chunks);
            }
            match kind {
                EMPTY => chunks.resize(chunks.len() + count, Chunk::Empty),
                FULL => chunks.resize(chunks.len() + count, Chunk::Full),
                MIXED => {
                    for _ in 0..count {
                        chunks.push(mixed(&take::<CHUNK_BYTES>(bytes)?));
                    }
                }
                _ => return Err(BitmapError::Kind),
            }
        }
        let mut bitmap = Self {
            tracks,
            count: 0,
            chunks,
        };
        bitmap.check_mixed()?;
        bitmap.count = (0..wanted).map(|index| bitmap.chunk_count(index)).sum();
        Ok(bitmap)
    }

    fn check_mixed(&self) -> Result<(), BitmapError> {
        for (index, chunk) in self.chunks.iter().enumerate() {
            let Chunk::Mixed { ones, words } = chunk else {
                continue;
            };
            let first = index as u64 * CHUNK_WORDS as u64;
            let stray = (first..)
                .zip(words.iter())
                .any(|(region, word)| word & !self.valid(Region(region)) != 0);
            if stray || *ones == 0 || u64::from(*ones) == self.chunk_range(index).len() {
                return Err(BitmapError::NotNormal);
            }
        }
        Ok(())
    }
}

fn kind(chunk: &Chunk) -> u8 {
    match chunk {
        Chunk::Empty => EMPTY,
        Chunk::Full => FULL,
        Chunk::Mixed { .. } => MIXED,
    }
}

fn mixed(bytes: &[u8; CHUNK_BYTES]) -> Chunk {
    let mut words = Box::new([0; CHUNK_WORDS]);
    let (parts, _) = bytes.as_chunks::<{ (REGION_TRACKS / 8) as usize }>();
    for (word, part) in words.iter_mut().zip(parts) {
        *word = u64::from_le_bytes(*part);
    }
    Chunk::Mixed {
        ones: count_ones(&words),
        words,
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], BitmapError> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(BitmapError::Short)?;
    *bytes = rest;
    Ok(*head)
}
