//! What hosts did with a volume, for metrics and for the pace of copies.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

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
