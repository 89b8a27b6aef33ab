//! What hosts did with a volume, for metrics and for the pace of copies.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

/// Counters of one volume, since the daemon started.
#[derive(Debug, Default)]
pub struct Statistics {
    reads: AtomicU64,
    writes: AtomicU64,
    flushes: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    errors: AtomicU64,
    /// I/Os that were not done at once, and the nanoseconds they took together, since the pacer last looked.
    waited: AtomicU64,
    waited_nanos: AtomicU64,
    /// All of them since the start, by how long they took, and their time together.
    waits: [AtomicU64; WAIT_BOUNDS.len() + 1],
    waits_micros: AtomicU64,
}

/// Microseconds: an I/O that took no longer than one of these belongs there, a longer one behind the last.
pub const WAIT_BOUNDS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000,
];

/// I/Os that were not done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// How many, by [`WAIT_BOUNDS`]; the last is of those that took longer than all of them.
    pub counts: [u64; WAIT_BOUNDS.len() + 1],
    /// Microseconds they took together.
    pub micros: u64,
}

/// [`Statistics`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatisticsView {
    /// Read commands.
    pub reads: u64,
    /// Write commands: data, zeros, unmaps and updates.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written, unmapped ones included.
    pub written_bytes: u64,
    /// Commands that failed.
    pub errors: u64,
}

impl Statistics {
    /// The counters now.
    pub fn view(&self) -> StatisticsView {
        StatisticsView {
            reads: self.reads.load(Relaxed),
            writes: self.writes.load(Relaxed),
            flushes: self.flushes.load(Relaxed),
            read_bytes: self.read_bytes.load(Relaxed),
            written_bytes: self.written_bytes.load(Relaxed),
            errors: self.errors.load(Relaxed),
        }
    }

    pub(crate) fn read<T, E>(&self, bytes: u64, result: &Result<T, E>) {
        self.count(&self.reads, &self.read_bytes, bytes, result.is_ok());
    }

    pub(crate) fn write<T, E>(&self, bytes: u64, result: &Result<T, E>) {
        self.count(&self.writes, &self.written_bytes, bytes, result.is_ok());
    }

    /// An I/O that began then has ended, and it was not one that a cache answered at once. Those say nothing of how much copies hinder
    /// hosts, and are too quick to be timed for nothing.
    pub(crate) fn waited(&self, begun: Instant) {
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.waited.fetch_add(1, Relaxed);
        self.waited_nanos.fetch_add(nanos, Relaxed);
        let micros = nanos / 1000;
        let place = WAIT_BOUNDS.partition_point(|bound| *bound < micros);
        self.waits[place].fetch_add(1, Relaxed);
        self.waits_micros.fetch_add(micros, Relaxed);
    }

    /// I/Os that waited since the start.
    pub fn waits(&self) -> Waits {
        Waits {
            counts: std::array::from_fn(|place| self.waits[place].load(Relaxed)),
            micros: self.waits_micros.load(Relaxed),
        }
    }

    /// I/Os that waited since the last call, and the nanoseconds they took.
    pub(crate) fn take_waits(&self) -> (u64, u64) {
        (self.waited.swap(0, Relaxed), self.waited_nanos.swap(0, Relaxed))
    }

    pub(crate) fn flush<T, E>(&self, result: &Result<T, E>) {
        self.flushes.fetch_add(1, Relaxed);
        self.errors.fetch_add(u64::from(result.is_err()), Relaxed);
    }

    fn count(&self, commands: &AtomicU64, total: &AtomicU64, bytes: u64, ok: bool) {
        commands.fetch_add(1, Relaxed);
        if ok {
            total.fetch_add(bytes, Relaxed);
        } else {
            self.errors.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wait_belongs_to_the_first_bound_that_holds_it() {
        let statistics = Statistics::default();
        let ago = |micros| Instant::now().checked_sub(Duration::from_micros(micros)).unwrap();
        for micros in [0, 600, 3_000_000] {
            statistics.waited(ago(micros));
        }
        let waits = statistics.waits();
        assert_eq!((waits.counts.iter().sum::<u64>(), waits.counts[14]), (3, 1));
        assert!(waits.counts[3..14].iter().sum::<u64>() >= 1 && waits.micros >= 3_000_600);
        assert_eq!(statistics.take_waits().0, 3);
    }
}
