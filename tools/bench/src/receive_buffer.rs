//! What has been received and not yet looked at.

/// Bytes between `start` and `end` of a buffer of fixed length.
pub(crate) struct ReceiveBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReceiveBuffer {
    pub(crate) fn new(length: usize) -> Self {
        Self {
            bytes: vec![0; length],
            start: 0,
            end: 0,
        }
    }

    /// What is there.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// How much is there.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Where more may be received to; [`Self::received`] says how much that was.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    pub(crate) fn received(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.bytes.len());
    }

    /// Goes past bytes that were looked at, of which there are as many.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
    }

    /// The longest that can be in it.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Makes the whole of it room again. What is in it is lost.
    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Moves what is there to the front, if room for `least` bytes is missing, or it lies behind `middle`.
    pub(crate) fn tidy(&mut self, least: usize, middle: usize) {
        if self.is_empty() {
            self.clear();
        } else if self.bytes.len() - self.end < least || self.start > middle {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tidying_keeps_what_is_pending_and_makes_room() {
        let mut buffer = ReceiveBuffer::new(8);
        buffer.room()[..6].copy_from_slice(b"abcdef");
        buffer.received(6);
        buffer.consume(4);
        buffer.tidy(2, 8);
        assert_eq!(buffer.pending(), b"ef");
        assert_eq!(buffer.room().len(), 2);
        buffer.tidy(3, 8);
        assert_eq!(buffer.pending(), b"ef");
        assert_eq!(buffer.room().len(), 6);
        buffer.consume(1);
        buffer.tidy(1, 0);
        assert_eq!(buffer.pending(), b"f");
        assert_eq!(buffer.room().len(), 7);
        buffer.consume(1);
        buffer.tidy(0, 8);
        assert!(buffer.is_empty());
        assert_eq!(buffer.room().len(), 8);
    }
}
