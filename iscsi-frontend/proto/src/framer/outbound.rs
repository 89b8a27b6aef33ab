//! The sending half of the framer.

use std::{collections::VecDeque, io::IoSlice, ops::Range};

use bytes::Bytes;

use crate::{
    bhs::{BHS_LENGTH, Bhs, Header, U24},
    digest::{DIGEST_LENGTH, crc32c, crc32c_padded, padding},
};

/// Data up to this length is copied behind its header: cheaper than a slice of its own.
const COPIED: usize = 512;

/// Data that is made in place lies in the arena up to this length; what comes on top finds room elsewhere. The answers of a batch of
/// 32 short reads, and then some.
const ARENA_ROOM: usize = 256 * 1024;

/// What an arena keeps when nothing happens.
const ARENA_KEPT: usize = 16 * 1024;

/// PDUs on their way to the socket.
#[derive(Debug, Default)]
pub struct Outbound {
    header_digest: bool,
    data_digest: bool,
    /// All of it is initialized; `filled` bytes are in use. It is never cleared: bytes are overwritten, and only those that
    /// were are sent.
    arena: Vec<u8>,
    filled: usize,
    pieces: VecDeque<Piece>,
    /// How much of the first piece is already sent.
    sent: usize,
    pending: usize,
}

#[derive(Debug)]
enum Piece {
    Arena(Range<usize>),
    Payload(Bytes),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Arena(range) => range.len(),
            Self::Payload(data) => data.len(),
        }
    }
}

impl Outbound {
    /// Nothing to send, no digests: as the login phase begins.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds digests to the PDUs pushed from now on.
    pub fn set_digests(&mut self, header: bool, data: bool) {
        self.header_digest = header;
        self.data_digest = data;
    }

    /// Appends a PDU. DataSegmentLength is set here; additional header segments are not sent by targets.
    pub fn push<H: Header>(&mut self, header: &H, data: Bytes) {
        self.push_bhs(header.bytes(), data);
    }

    /// Appends a PDU of any kind, e.g. one that is sent again.
    pub fn push_again(&mut self, header: &Bhs, data: Bytes) {
        self.push_bhs(&header.0, data);
    }

    fn push_bhs(&mut self, header: &[u8; BHS_LENGTH], data: Bytes) {
        if data.len() <= COPIED {
            return self.push_with_bytes(header, &[], &data);
        }
        self.push_header(header, &[], data.len());
        let digest = self.data_digest.then(|| crc32c_padded(&data));
        let padding = padding(data.len());
        self.pending += data.len();
        self.pieces.push_back(Piece::Payload(data));
        self.push_bytes(&[0; 3][..padding]);
        self.push_bytes(digest.as_ref().map_or(&[], <[u8; 4]>::as_slice));
    }

    /// Appends a PDU with a copy of `data`.
    pub fn push_copied<H: Header>(&mut self, header: &H, data: &[u8]) {
        self.push_with_ahs(header, &[], data);
    }

    /// Appends a PDU with additional header segments (whole words), as initiators send them.
    pub fn push_with_ahs<H: Header>(&mut self, header: &H, ahs: &[u8], data: &[u8]) {
        self.push_with_bytes(header.bytes(), ahs, data);
    }

    /// Room in the arena for the data of the next PDU: whoever fills it says so with [`Self::push_in_place`], before anything
    /// else is pushed. Until then nothing has happened. `None`: too much waits to be sent.
    pub fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        let start = self.filled + BHS_LENGTH + if self.header_digest { DIGEST_LENGTH } else { 0 };
        let end = start + length;
        if end + padding(length) + DIGEST_LENGTH > ARENA_ROOM {
            return None;
        }
        self.grow(end);
        Some(&mut self.arena[start..end])
    }

    /// Appends a PDU whose data, of `length` bytes, has been put into the [`Self::room`] asked for last.
    pub fn push_in_place<H: Header>(&mut self, header: &H, length: usize) {
        self.push_header(header.bytes(), &[], length);
        let start = self.filled;
        self.append(length);
        let digest = self
            .data_digest
            .then(|| crc32c_padded(&self.arena[start..self.filled]));
        self.push_bytes(&[0; 3][..padding(length)]);
        if length > 0 {
            self.push_bytes(digest.as_ref().map_or(&[], <[u8; 4]>::as_slice));
        }
    }

    fn push_with_bytes(&mut self, header: &[u8; BHS_LENGTH], ahs: &[u8], data: &[u8]) {
        self.push_header(header, ahs, data.len());
        if data.is_empty() {
            return;
        }
        self.push_bytes(data);
        self.push_bytes(&[0; 3][..padding(data.len())]);
        if self.data_digest {
            self.push_bytes(&crc32c_padded(data));
        }
    }

    fn push_header(&mut self, header: &[u8; BHS_LENGTH], ahs: &[u8], data_length: usize) {
        let mut bytes = *header;
        bytes[4] = (ahs.len() / 4) as u8;
        let [_, high, middle, low] = (data_length as u32 & U24::MAX).to_be_bytes();
        bytes[5..8].copy_from_slice(&[high, middle, low]);
        self.push_bytes(&bytes);
        self.push_bytes(ahs);
        if self.header_digest {
            let digest = crc32c(&self.arena[self.filled - BHS_LENGTH - ahs.len()..self.filled]);
            self.push_bytes(&digest);
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        let end = self.filled + bytes.len();
        self.grow(end);
        self.arena[self.filled..end].copy_from_slice(bytes);
        self.append(bytes.len());
    }

    /// Makes the arena `end` bytes long at least: twice as long as it was while it is small, then step by step.
    fn grow(&mut self, end: usize) {
        const STEP: usize = 64 * 1024;
        if self.arena.len() < end {
            let length = if end < STEP {
                end.next_power_of_two()
            } else {
                end.next_multiple_of(STEP)
            };
            self.arena.resize(length, 0);
        }
    }

    /// The next `count` bytes of the arena are to be sent: they go to the last piece when that lies before them.
    fn append(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let start = self.filled;
        self.filled += count;
        self.pending += count;
        match self.pieces.back_mut() {
            Some(Piece::Arena(range)) => range.end = self.filled,
            _ => self.pieces.push_back(Piece::Arena(start..self.filled)),
        }
    }

    /// Bytes not yet sent.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Is everything sent?
    pub fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// Fills `slices` with what is to be sent next, in order, and says how many were used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.sent;
        let mut used = 0;
        for (slot, piece) in slices.iter_mut().zip(&self.pieces) {
            let bytes: &[u8] = match piece {
                Piece::Arena(range) => &self.arena[range.clone()],
                Piece::Payload(data) => data,
            };
            *slot = IoSlice::new(&bytes[skip..]);
            skip = 0;
            used += 1;
        }
        used
    }

    /// `count` more bytes were sent.
    pub fn advance(&mut self, count: usize) {
        self.pending -= count;
        let mut left = self.sent + count;
        while let Some(piece) = self.pieces.front() {
            if left < piece.len() {
                break;
            }
            left -= piece.len();
            self.pieces.pop_front();
        }
        self.sent = left;
        if let Some(Piece::Arena(range)) = self.pieces.front_mut() {
            range.start += std::mem::take(&mut self.sent);
        }
        self.reclaim();
    }

    /// Uses the part of the arena again that has been sent. While the queue never empties what is left moves to the front, when that
    /// is the smaller half of a large arena: a connection that is always behind must not fill memory with what has left.
    fn reclaim(&mut self) {
        let first = self.pieces.iter().find_map(|piece| match piece {
            Piece::Arena(range) => Some(range.start),
            Piece::Payload(_) => None,
        });
        let sent = first.unwrap_or(self.filled);
        if sent == self.filled {
            self.filled = 0;
            if self.arena.len() > ARENA_ROOM {
                self.arena = Vec::new();
            }
        } else if sent > ARENA_KEPT && sent > self.filled / 2 {
            self.arena.copy_within(sent..self.filled, 0);
            self.filled -= sent;
            for piece in &mut self.pieces {
                if let Piece::Arena(range) = piece {
                    *range = range.start - sent..range.end - sent;
                }
            }
        }
    }

    /// Gives memory back: nothing happens on the connection.
    pub fn shrink(&mut self) {
        if self.pending == 0 && self.arena.len() > ARENA_KEPT {
            self.arena = Vec::new();
        }
    }

    /// Everything not yet sent as one piece: for tests and simple clients.
    pub fn take(&mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.pending);
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); 16];
            let used = self.slices(&mut slices);
            let count = slices[..used].iter().map(|slice| slice.len()).sum();
            for slice in &slices[..used] {
                bytes.extend_from_slice(slice);
            }
            self.advance(count);
        }
        bytes
    }
}
