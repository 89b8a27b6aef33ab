//! What a thread counts while it loads.

use crate::histogram::Histogram;

/// A command, by how long it took: when and where it was, to be found in a trace of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timed {
    pub(super) nanoseconds: u64,
    /// Of the monotonic clock.
    pub(super) issued: u64,
    pub(super) lba: u64,
}

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
    pub(super) slowest: Option<Timed>,
    /// System calls.
    pub(super) sends: u64,
    pub(super) receives: u64,
}

impl Tally {
    /// Counts how long a command took.
    pub(super) fn time(&mut self, command: Timed) {
        self.latency.add(command.nanoseconds);
        self.slowest = self.slowest.max(Some(command));
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.bad += other.bad;
        self.latency.merge(&other.latency);
        self.slowest = self.slowest.max(other.slowest);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_command_keeps_its_moment_and_place() {
        let timed = |nanoseconds, lba| Timed {
            nanoseconds,
            issued: 1000 + lba,
            lba,
        };
        let mut tallies = [Tally::default(), Tally::default(), Tally::default()];
        tallies[0].time(timed(5, 10));
        tallies[0].time(timed(3, 20));
        tallies[1].time(timed(9, 30));
        tallies[1].time(timed(4, 40));
        let [mut all, other, none] = tallies;
        all.merge(&other);
        all.merge(&none);
        assert_eq!(all.slowest, Some(timed(9, 30)));
        assert_eq!(all.latency.longest_ns(), 9);
        all.clear();
        assert_eq!(all.slowest, None);
    }
}
