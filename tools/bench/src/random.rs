//! Numbers by chance, the same for the same seed: xorshift64*.

/// A row of numbers. The seed must not be 0.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next one, of all 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// One below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
