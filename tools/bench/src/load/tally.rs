//! What a thread counts while it loads.

use crate::histogram::Histogram;

#[derive(Default)]
pub(super) struct Tally {
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) bytes: u64,
    /// Commands with another status than GOOD, short reads, answers to nothing.
    pub(super) errors: u64,
    /// Data-In PDUs whose content was not what had been written there.
    pub(super) bad: u64,
    pub(super) latency: Histogram,
    /// System calls.
    pub(super) sends: u64,
    pub(super) receives: u64,
}

impl Tally {
    pub(super) fn merge(&mut self, other: &Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.bad += other.bad;
        self.latency.merge(&other.latency);
        self.sends += other.sends;
        self.receives += other.receives;
    }

    /// Forgets everything, and keeps the memory of the histogram, which is warm.
    pub(super) fn clear(&mut self) {
        let mut latency = std::mem::take(&mut self.latency);
        latency.clear();
        *self = Self {
            latency,
            ..Self::default()
        };
    }
}
