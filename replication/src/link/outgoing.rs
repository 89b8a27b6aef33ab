//! Frames on their way out, one behind the other, each where it lies.

use bytes::{Buf, Bytes};
use link_proto::Encoded;
use std::{collections::VecDeque, io::IoSlice};

/// Frames as one run of bytes.
#[derive(Debug)]
pub(super) struct Outgoing {
    parts: VecDeque<Bytes>,
    left: usize,
}

impl Outgoing {
    /// Bytes not sent yet.
    pub(super) fn len(&self) -> usize {
        self.left
    }
}

impl From<Vec<Encoded>> for Outgoing {
    fn from(frames: Vec<Encoded>) -> Self {
        let left = frames.iter().map(Encoded::len).sum();
        let mut parts = VecDeque::with_capacity(2 * frames.len());
        let all = frames.into_iter().flat_map(|frame| [frame.head, frame.data]);
        parts.extend(all.filter(|part| !part.is_empty()));
        Self { parts, left }
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.left, "no more can be sent than there is");
        self.left -= count;
        while let Some(part) = self.parts.front_mut() {
            if count < part.len() {
                part.advance(count);
                return;
            }
            count -= part.len();
            self.parts.pop_front();
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.parts);
        filled.map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Outgoing {
        let frame = |head: &'static str, data: &'static str| Encoded {
            head: Bytes::from_static(head.as_bytes()),
            data: Bytes::from_static(data.as_bytes()),
        };
        Outgoing::from(vec![frame("ab", "cde"), frame("f", ""), frame("gh", "i")])
    }

    #[test]
    fn any_part_of_the_run_can_be_sent_first() {
        for first in 0..=9 {
            let mut out = frames();
            assert_eq!(out.len(), 9);
            let mut sent = out.copy_to_bytes(first).to_vec();
            assert_eq!(out.remaining(), 9 - first);
            let mut slices = [IoSlice::new(&[]); 8];
            let count = out.chunks_vectored(&mut slices);
            sent.extend(slices[..count].iter().flat_map(|slice| slice.iter()));
            assert_eq!(sent, b"abcdefghi", "{first} first");
        }
        let out = frames();
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(
            out.chunks_vectored(&mut slices),
            2,
            "no more than there is room for"
        );
        assert_eq!(Outgoing::from(Vec::new()).chunk(), b"");
    }
}
