//! Which bytes of a file hold what waits in it: a ring, in the order in which it was filled.
//!
//! Places in the ring are positions that only go up, also when all of it is given up: so a record that an earlier round left behind is never
//! taken for one that is due. What is at a position is in the file at that position modulo its size, in one piece or two.

/// See the module's page.
#[derive(Debug)]
pub(super) struct Ring {
    size: u64,
    /// What was put in last ends here.
    head: u64,
    /// What is to be taken out next begins here.
    tail: u64,
}

impl Ring {
    /// An empty one, of a file of so many bytes.
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            head: 0,
            tail: 0,
        }
    }

    /// Where what is put in next begins.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Where what is taken out next begins.
    pub(super) fn tail(&self) -> u64 {
        self.tail
    }

    /// Bytes in it.
    pub(super) fn filled(&self) -> u64 {
        self.head - self.tail
    }

    /// Do so many more fit?
    pub(super) fn fits(&self, bytes: u64) -> bool {
        bytes <= self.size - self.filled()
    }

    /// So many were put in. They must fit.
    pub(super) fn put(&mut self, bytes: u64) {
        debug_assert!(self.fits(bytes));
        self.head += bytes;
    }

    /// So many, of those in it, were taken out.
    pub(super) fn take(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.filled());
        self.tail += bytes;
    }

    /// All that is in it is given up.
    pub(super) fn clear(&mut self) {
        self.tail = self.head;
    }

    /// The pieces of the file that hold so many bytes from this position on: offset and length of each. The second may be empty.
    pub(super) fn pieces(&self, position: u64, bytes: u64) -> [(u64, u64); 2] {
        let offset = position % self.size;
        let first = bytes.min(self.size - offset);
        [(offset, first), (0, bytes - first)]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Put(u64),
        Take(u64),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0_u64..40).prop_map(Step::Put),
            6 => (0_u64..40).prop_map(Step::Take),
            1 => Just(Step::Clear),
        ]
    }

    proptest! {
        /// It is a queue of bytes with a limit.
        #[test]
        fn it_does_what_a_deque_does(size in 1_u64..60, steps in prop::collection::vec(step(), 1..200)) {
            let (mut ring, mut oracle) = (Ring::new(size), VecDeque::new());
            let mut file = vec![0_u8; size as usize];
            let mut next = 0_u8;
            for step in steps {
                match step {
                    Step::Put(bytes) => {
                        prop_assert_eq!(ring.fits(bytes), oracle.len() as u64 + bytes <= size);
                        if !ring.fits(bytes) {
                            continue;
                        }
                        for (offset, length) in ring.pieces(ring.head(), bytes) {
                            for byte in &mut file[offset as usize..(offset + length) as usize] {
                                next = next.wrapping_add(1);
                                *byte = next;
                                oracle.push_back(next);
                            }
                        }
                        ring.put(bytes);
                    }
                    Step::Take(bytes) => {
                        let bytes = bytes.min(ring.filled());
                        for (offset, length) in ring.pieces(ring.tail(), bytes) {
                            for byte in &file[offset as usize..(offset + length) as usize] {
                                prop_assert_eq!(Some(*byte), oracle.pop_front());
                            }
                        }
                        ring.take(bytes);
                    }
                    Step::Clear => {
                        ring.clear();
                        oracle.clear();
                    }
                }
                prop_assert_eq!(ring.filled(), oracle.len() as u64);
            }
        }
    }
}
