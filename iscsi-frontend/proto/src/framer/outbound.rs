//! The sending half of the framer.

use std::{collections::VecDeque, io::IoSlice, ops::Range};

use bytes::Bytes;

use crate::{
    bhs::{BHS_LENGTH, Bhs, Header, U24},
    digest::{crc32c, crc32c_padded, padding},
};

/// Data up to this length is copied behind its header: cheaper than a slice of its own.
const COPIED: usize = 512;

/// An arena larger than this is given back when it has been sent.
const ARENA_KEPT: usize = 16 * 1024;

/// PDUs on their way to the socket.
#[derive(Debug, Default)]
pub struct Outbound {
    header_digest: bool,
    data_digest: bool,
    arena: Vec<u8>,
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
            let digest = crc32c(&self.arena[self.arena.len() - BHS_LENGTH - ahs.len()..]);
            self.push_bytes(&digest);
        }
    }

    /// Appends to the arena, and to its last piece when that is the last one.
    fn push_bytes(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        self.pending += bytes.len();
        match self.pieces.back_mut() {
            Some(Piece::Arena(range)) => range.end = self.arena.len(),
            _ => self.pieces.push_back(Piece::Arena(start..self.arena.len())),
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
        if self.pieces.is_empty() {
            self.arena.clear();
            if self.arena.capacity() > ARENA_KEPT {
                self.arena = Vec::new();
            }
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
