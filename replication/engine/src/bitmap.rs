//! A bit a track, for volumes of any size.
//!
//! Commands move whole bitmaps ("copy every track", "the union of both", "none"), and they must take the same time for
//! 16 TiB as for 16 MiB. So the bits lie in chunks of 32768 tracks, and a chunk whose tracks all agree is one word:
//! [`Chunk::Empty`] or [`Chunk::Full`]. Only a mixed chunk owns its 4 KiB of bits, and it gives them back as soon as
//! it agrees again. A 16 TiB volume of 64 KiB tracks has 8192 chunks: filling or clearing it writes 128 KiB of chunk
//! heads, and its bits never take more than 32 MiB.
//!
//! Three things always hold, and make equality of bitmaps plain equality of values: a mixed chunk has at least one bit
//! set and one clear; bits past the last track are clear; `count` is the number of bits set.

mod codec;
#[cfg(test)]
mod tests;

pub use codec::BitmapError;

use crate::{
    ids::Region,
    track::{REGION_TRACKS, TrackRange},
};

/// Tracks in a chunk.
pub const CHUNK_TRACKS: u64 = 32768;
const CHUNK_WORDS: usize = (CHUNK_TRACKS / REGION_TRACKS) as usize;
/// Bytes of a mixed chunk's bits.
const CHUNK_BYTES: usize = CHUNK_WORDS * size_of::<u64>();

type Words = [u64; CHUNK_WORDS];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Chunk {
    Empty,
    Full,
    /// `ones` counts the bits set in `words`.
    Mixed {
        ones: u32,
        words: Box<Words>,
    },
}

/// A set of the tracks of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    tracks: u64,
    count: u64,
    chunks: Vec<Chunk>,
}

impl Bitmap {
    /// No track of a volume that has `tracks`.
    pub fn new(tracks: u64) -> Self {
        Self {
            tracks,
            count: 0,
            chunks: vec![Chunk::Empty; chunks_of(tracks)],
        }
    }

    /// All tracks of a volume that has `tracks`.
    pub fn full(tracks: u64) -> Self {
        Self {
            tracks,
            count: tracks,
            chunks: vec![Chunk::Full; chunks_of(tracks)],
        }
    }

    /// Tracks of the volume, in the set or not.
    pub fn tracks(&self) -> u64 {
        self.tracks
    }

    /// Tracks in the set. Costs nothing: it is kept.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// No track is in the set.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Every track is in the set.
    pub fn is_full(&self) -> bool {
        self.count == self.tracks
    }

    /// Is this track in the set? (A track that does not exist is not.)
    pub fn test(&self, track: u64) -> bool {
        self.word(crate::track::region_of(track)) >> (track % REGION_TRACKS) & 1 == 1
    }

    /// Is any of these tracks in the set?
    pub fn any(&self, range: TrackRange) -> bool {
        let end = range.end.min(self.tracks);
        self.find(range.start, end, true) < end
    }

    /// Are all of these tracks in the set? (True of no tracks.)
    pub fn all(&self, range: TrackRange) -> bool {
        range.is_empty()
            || (range.end <= self.tracks && self.find(range.start, range.end, false) >= range.end)
    }

    /// Adds tracks (those that exist); says how many were new.
    pub fn set(&mut self, range: TrackRange) -> u64 {
        self.put(range, true)
    }

    /// Takes tracks out; says how many were in.
    pub fn clear(&mut self, range: TrackRange) -> u64 {
        self.put(range, false)
    }

    /// Adds every track.
    pub fn fill(&mut self) {
        self.chunks.fill(Chunk::Full);
        self.count = self.tracks;
    }

    /// Takes every track out.
    pub fn reset(&mut self) {
        self.chunks.fill(Chunk::Empty);
        self.count = 0;
    }

    /// Takes the set out, leaving none.
    #[must_use]
    pub fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new(self.tracks))
    }

    /// Adds what is in the other set.
    ///
    /// # Panics
    /// When the two are of volumes with different numbers of tracks, which cannot be a pair.
    pub fn union(&mut self, other: &Self) {
        assert_eq!(self.tracks, other.tracks, "bitmaps of one pair have one length");
        for (index, theirs) in other.chunks.iter().enumerate() {
            match (&mut self.chunks[index], theirs) {
                (Chunk::Full, _) | (_, Chunk::Empty) => {}
                (ours @ Chunk::Empty, _) | (ours, Chunk::Full) => *ours = theirs.clone(),
                (Chunk::Mixed { .. }, Chunk::Mixed { words: more, .. }) => self.merge(index, more),
            }
        }
        self.recount();
    }

    /// [`Bitmap::union`] with a set that nobody needs any more: its bits move where they can, and nothing is allocated.
    ///
    /// # Panics
    /// Like [`Bitmap::union`].
    pub fn absorb(&mut self, other: Self) {
        assert_eq!(self.tracks, other.tracks, "bitmaps of one pair have one length");
        if other.is_empty() {
            return;
        }
        for (index, theirs) in other.chunks.into_iter().enumerate() {
            match (&mut self.chunks[index], theirs) {
                (Chunk::Full, _) | (_, Chunk::Empty) => {}
                (ours @ Chunk::Empty, theirs) | (ours, theirs @ Chunk::Full) => *ours = theirs,
                (Chunk::Mixed { .. }, Chunk::Mixed { words: more, .. }) => self.merge(index, &more),
            }
        }
        self.recount();
    }

    /// Tracks in any of these sets, counted without making another: 0 of none.
    ///
    /// # Panics
    /// Like [`Bitmap::union`].
    #[must_use]
    pub fn union_count(sets: &[&Self]) -> u64 {
        let tracks = sets.first().map_or(0, |set| set.tracks);
        assert!(
            sets.iter().all(|set| set.tracks == tracks),
            "bitmaps of one pair have one length"
        );
        let some: Vec<&Self> = sets.iter().copied().filter(|set| !set.is_empty()).collect();
        if let [one] = some[..] {
            return one.count;
        }
        (0..some.first().map_or(0, |set| set.chunks.len()))
            .map(|index| union_of_chunks(&some, index))
            .sum()
    }

    /// The 64 tracks of a region, lowest track in the lowest bit.
    pub fn word(&self, region: Region) -> u64 {
        let (chunk, word) = place(region);
        match self.chunks.get(chunk) {
            None | Some(Chunk::Empty) => 0,
            Some(Chunk::Full) => self.valid(region),
            Some(Chunk::Mixed { words, .. }) => words[word],
        }
    }

    /// Replaces the 64 tracks of a region; bits of tracks that do not exist are dropped.
    pub fn set_word(&mut self, region: Region, value: u64) {
        let value = value & self.valid(region);
        let old = self.word(region);
        if value == old {
            return;
        }
        let (chunk, word) = place(region);
        let (ones, words) = self.mixed(chunk);
        words[word] = value;
        *ones = *ones - old.count_ones() + value.count_ones();
        self.count = self.count - u64::from(old.count_ones()) + u64::from(value.count_ones());
        self.normalise(chunk);
    }

    /// The first run of tracks in the set at or after `from`, at most `limit` tracks of it.
    pub fn next_run(&self, from: u64, limit: u64) -> Option<TrackRange> {
        let start = self.find(from, self.tracks, true);
        if start >= self.tracks {
            return None;
        }
        let most = start.saturating_add(limit.max(1)).min(self.tracks);
        Some(TrackRange::new(start, self.find(start, most, false)))
    }

    /// Every run of tracks in the set, ascending, as long as they come.
    pub fn runs(&self) -> impl Iterator<Item = TrackRange> + '_ {
        let mut from = 0;
        core::iter::from_fn(move || {
            let run = self.next_run(from, u64::MAX)?;
            from = run.end;
            Some(run)
        })
    }

    /// Every run within `range`.
    pub fn runs_in(&self, range: TrackRange) -> impl Iterator<Item = TrackRange> + '_ {
        let (mut from, end) = (range.start, range.end.min(self.tracks));
        core::iter::from_fn(move || {
            let start = self.find(from, end, true);
            (start < end).then(|| {
                from = self.find(start, end, false);
                TrackRange::new(start, from)
            })
        })
    }

    /// Bytes on the heap: 16 a chunk, and 4096 for each mixed one.
    pub fn heap_bytes(&self) -> usize {
        let mixed = self
            .chunks
            .iter()
            .filter(|chunk| matches!(chunk, Chunk::Mixed { .. }))
            .count();
        self.chunks.len() * size_of::<Chunk>() + mixed * CHUNK_BYTES
    }

    fn put(&mut self, range: TrackRange, value: bool) -> u64 {
        let range = range.intersection(TrackRange::new(0, self.tracks));
        if range.is_empty() {
            return 0;
        }
        let mut changed = 0;
        for chunk in (range.start / CHUNK_TRACKS) as usize..=((range.end - 1) / CHUNK_TRACKS) as usize {
            let whole = self.chunk_range(chunk);
            changed += self.put_chunk(chunk, range.intersection(whole), whole, value);
        }
        if value {
            self.count += changed;
        } else {
            self.count -= changed;
        }
        changed
    }

    /// `part` lies in chunk `index`, whose tracks are `whole`.
    fn put_chunk(&mut self, index: usize, part: TrackRange, whole: TrackRange, value: bool) -> u64 {
        let agreed = if value { Chunk::Full } else { Chunk::Empty };
        if part == whole {
            let before = self.chunk_count(index);
            self.chunks[index] = agreed;
            return if value { whole.len() - before } else { before };
        }
        if self.chunks[index] == agreed {
            return 0;
        }
        let (ones, words) = self.mixed(index);
        let before = *ones;
        for region in part.regions() {
            let first = region.0 * REGION_TRACKS;
            let low = part.start.saturating_sub(first);
            let high = (part.end - first).min(REGION_TRACKS);
            let mask = u64::MAX >> (REGION_TRACKS - (high - low)) << low;
            let word = &mut words[place(region).1];
            let old = word.count_ones();
            *word = if value { *word | mask } else { *word & !mask };
            *ones = *ones - old + word.count_ones();
        }
        let changed = u64::from(ones.abs_diff(before));
        self.normalise(index);
        changed
    }

    /// The first track from `from` on that is (or is not) in the set; `end`, or what is behind it, when none before `end` is. Nothing
    /// behind `end` is looked at: who asks about a few tracks does not pay for the whole volume.
    fn find(&self, from: u64, end: u64, value: bool) -> u64 {
        let mut at = from;
        while at < end {
            let index = (at / CHUNK_TRACKS) as usize;
            let chunk = self.chunk_range(index);
            match &self.chunks[index] {
                Chunk::Empty if value => at = chunk.end,
                Chunk::Full if !value => at = chunk.end,
                Chunk::Empty | Chunk::Full => return at,
                Chunk::Mixed { words, .. } => {
                    let first = ((at % CHUNK_TRACKS) / REGION_TRACKS) as usize;
                    let last = (end.min(chunk.end) - chunk.start).div_ceil(REGION_TRACKS) as usize;
                    let mut skip = u64::MAX << (at % REGION_TRACKS);
                    for (index, word) in words.iter().enumerate().take(last).skip(first) {
                        let hits = if value { *word } else { !*word } & skip;
                        skip = u64::MAX;
                        if hits != 0 {
                            let track =
                                chunk.start + index as u64 * REGION_TRACKS + u64::from(hits.trailing_zeros());
                            return track.min(end);
                        }
                    }
                    at = chunk.end;
                }
            }
        }
        end
    }

    /// The bits of a chunk, made if it has none.
    fn mixed(&mut self, index: usize) -> (&mut u32, &mut Words) {
        let whole = self.chunk_range(index);
        let chunk = &mut self.chunks[index];
        if *chunk == Chunk::Empty {
            *chunk = Chunk::Mixed {
                ones: 0,
                words: Box::new([0; CHUNK_WORDS]),
            };
        } else if *chunk == Chunk::Full {
            let mut words = Box::new([0; CHUNK_WORDS]);
            for (word, first) in words
                .iter_mut()
                .zip((whole.start..whole.end).step_by(REGION_TRACKS as usize))
            {
                *word = u64::MAX >> (REGION_TRACKS - (whole.end - first).min(REGION_TRACKS));
            }
            *chunk = Chunk::Mixed {
                ones: whole.len() as u32,
                words,
            };
        }
        match chunk {
            Chunk::Mixed { ones, words } => (ones, words),
            Chunk::Empty | Chunk::Full => unreachable!("both were made mixed above"),
        }
    }

    /// Adds bits to a mixed chunk.
    fn merge(&mut self, index: usize, more: &Words) {
        if let Chunk::Mixed { ones, words } = &mut self.chunks[index] {
            for (word, more) in words.iter_mut().zip(more) {
                *word |= more;
            }
            *ones = count_ones(words);
            self.normalise(index);
        }
    }

    fn recount(&mut self) {
        self.count = (0..self.chunks.len()).map(|index| self.chunk_count(index)).sum();
    }

    /// A mixed chunk that agrees with itself again gives its bits back.
    fn normalise(&mut self, index: usize) {
        let whole = self.chunk_range(index).len();
        if let Chunk::Mixed { ones, .. } = self.chunks[index] {
            if ones == 0 {
                self.chunks[index] = Chunk::Empty;
            } else if u64::from(ones) == whole {
                self.chunks[index] = Chunk::Full;
            }
        }
    }

    fn chunk_count(&self, index: usize) -> u64 {
        match &self.chunks[index] {
            Chunk::Empty => 0,
            Chunk::Full => self.chunk_range(index).len(),
            Chunk::Mixed { ones, .. } => u64::from(*ones),
        }
    }

    fn chunk_range(&self, index: usize) -> TrackRange {
        let start = index as u64 * CHUNK_TRACKS;
        TrackRange::new(start, (start + CHUNK_TRACKS).min(self.tracks))
    }

    /// The bits of a region that stand for tracks that exist.
    fn valid(&self, region: Region) -> u64 {
        let left = self
            .tracks
            .saturating_sub(region.0.saturating_mul(REGION_TRACKS))
            .min(REGION_TRACKS);
        if left == 0 {
            0
        } else {
            u64::MAX >> (REGION_TRACKS - left)
        }
    }
}

fn chunks_of(tracks: u64) -> usize {
    tracks.div_ceil(CHUNK_TRACKS) as usize
}

/// Chunk, and word in it.
fn place(region: Region) -> (usize, usize) {
    (
        (region.0 / CHUNK_WORDS as u64) as usize,
        (region.0 % CHUNK_WORDS as u64) as usize,
    )
}

/// Tracks of one chunk that are in any of the sets.
fn union_of_chunks(sets: &[&Bitmap], index: usize) -> u64 {
    let chunks = || sets.iter().map(|set| (*set, &set.chunks[index]));
    if let Some((set, _)) = chunks().find(|(_, chunk)| **chunk == Chunk::Full) {
        return set.chunk_range(index).len();
    }
    let mut mixed = chunks().filter_map(|(_, chunk)| match chunk {
        Chunk::Mixed { ones, words } => Some((*ones, words)),
        Chunk::Empty | Chunk::Full => None,
    });
    let Some((ones, first)) = mixed.next() else {
        return 0;
    };
    let Some((_, second)) = mixed.next() else {
        return u64::from(ones);
    };
    let mut all: Words = **first;
    for more in core::iter::once(second).chain(mixed.map(|(_, words)| words)) {
        for (word, more) in all.iter_mut().zip(more.iter()) {
            *word |= more;
        }
    }
    u64::from(count_ones(&all))
}

fn count_ones(words: &Words) -> u32 {
    words.iter().map(|word| word.count_ones()).sum()
}
