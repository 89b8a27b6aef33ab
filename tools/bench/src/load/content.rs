//! What is written: the same pattern at every address, or what only belongs at one.

use crate::{header::data_digest, out_queue::Payload};

/// Digests that are remembered: one for each position of a Data-Out PDU in a command.
const DIGESTS: usize = 4096;

/// The pattern, as long as a command, and the digests of its parts, each computed once.
pub(super) struct Pattern {
    bytes: Vec<u8>,
    digests: Vec<((usize, usize), u32)>,
}

impl Pattern {
    pub(super) fn new(length: usize) -> Self {
        let bytes = (0..length)
            .map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8))
            .collect();
        Self {
            bytes,
            digests: Vec::new(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn digest(&mut self, offset: usize, length: usize) -> u32 {
        let known = self.digests.iter().find(|(part, _)| *part == (offset, length));
        if let Some((_, digest)) = known {
            return *digest;
        }
        let digest = data_digest(&self.bytes[offset..offset + length]);
        if self.digests.len() < DIGESTS {
            self.digests.push(((offset, length), digest));
        }
        digest
    }
}

/// A command in flight, or room for one.
#[derive(Clone, Default)]
pub(super) struct Slot {
    pub(super) busy: bool,
    pub(super) read: bool,
    pub(super) lba: u64,
    /// Bytes of the command, and those received of them.
    pub(super) length: usize,
    pub(super) got: usize,
    /// When it was issued, in nanoseconds.
    pub(super) issued: u64,
    /// What a write writes that is to be verified.
    pub(super) content: Vec<u8>,
}

/// Part of what a write writes.
pub(super) struct WriteData {
    pub(super) source: Source,
    pub(super) offset: usize,
    pub(super) length: usize,
}

/// What it is a part of.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Pattern,
    /// The content of this slot.
    Slot(usize),
}

/// Both, to look it up in.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) pattern: &'a [u8],
    pub(super) slots: &'a [Slot],
}

impl Payload for WriteData {
    type Keeper<'a> = Sources<'a>;

    fn length(&self) -> usize {
        self.length
    }

    fn bytes<'a, 'k: 'a>(&'a self, sources: Sources<'k>) -> &'a [u8] {
        let whole = match self.source {
            Source::Pattern => sources.pattern,
            Source::Slot(slot) => &sources.slots[slot].content,
        };
        &whole[self.offset..self.offset + self.length]
    }

    fn sent(self, _free: &mut Vec<Vec<u8>>) {}
}

/// Makes `content` what belongs at this byte of the LUN, which is a multiple of 8.
pub(super) fn fill(content: &mut [u8], at: u64, seed: u64) {
    for (word, number) in content.chunks_exact_mut(8).zip(at / 8..) {
        word.copy_from_slice(&stamp(number, seed).to_le_bytes());
    }
}

/// Is this what belongs there?
pub(super) fn is_right(content: &[u8], at: u64, seed: u64) -> bool {
    content
        .chunks_exact(8)
        .zip(at / 8..)
        .all(|(word, number)| word == stamp(number, seed).to_le_bytes())
}

/// The content of a word: the finaliser of splitmix64, a function of its address and the seed only.
fn stamp(number: u64, seed: u64) -> u64 {
    let mut word = number.wrapping_add(seed).wrapping_add(0x9E37_79B9_7F4A_7C15);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_right_where_it_belongs_and_nowhere_else() {
        let mut content = vec![0; 4096];
        fill(&mut content, 8192, 1);
        assert!(is_right(&content, 8192, 1));
        assert!(is_right(&content[512..], 8192 + 512, 1));
        assert!(!is_right(&content, 8192 + 4096, 1));
        assert!(!is_right(&content, 8192, 2));
        content[4095] ^= 1;
        assert!(!is_right(&content, 8192, 1));
    }

    #[test]
    fn a_remembered_digest_is_that_of_the_part() {
        let mut pattern = Pattern::new(4096);
        for (offset, length) in [(0, 4096), (512, 1024), (0, 4096)] {
            let right = crc32c::crc32c(&pattern.bytes()[offset..offset + length]);
            assert_eq!(pattern.digest(offset, length), right);
        }
        assert_eq!(pattern.digests.len(), 2);
    }
}
