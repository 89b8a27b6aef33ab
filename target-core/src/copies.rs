//! Copies of short data that has to outlive the buffer it came in, several in one piece of memory.

use bytes::{Bytes, BytesMut};

/// Makes copies, one behind the other. A piece of memory is free again when all copies in it have gone.
#[derive(Debug)]
pub struct Copies {
    room: BytesMut,
    piece: usize,
}

impl Copies {
    /// In pieces of so many bytes.
    pub fn new(piece: usize) -> Self {
        let room = BytesMut::new();
        Self { room, piece }
    }

    /// A copy of `data`, which is no longer than a piece.
    pub fn copy(&mut self, data: &[u8]) -> Bytes {
        if self.room.capacity() < data.len() {
            self.room = BytesMut::with_capacity(self.piece);
        }
        self.room.extend_from_slice(data);
        self.room.split().freeze()
    }

    /// Lets go of the piece that the next copies would lie in.
    pub fn release(&mut self) {
        self.room = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_a_piece_and_stay_as_they_are() {
        let mut copies = Copies::new(8);
        let made: Vec<_> = ["one", "three", "12345678", "", "four"]
            .map(|text| (text, copies.copy(text.as_bytes())))
            .into();
        copies.release();
        assert!(made.iter().all(|(text, copy)| copy == text.as_bytes()));
        let [one, three] = [&made[0].1, &made[1].1].map(|copy| copy.as_ptr() as usize);
        assert_eq!(three, one + 3, "in the same piece");
    }
}
