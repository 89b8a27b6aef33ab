//! What bounds the engine: memory, copies in flight, and the pace of the copies.

/// What an engine is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// Bytes a track: a power of two, 8 KiB to 1 MiB (the configuration checks).
    pub track_size: u32,
    /// The limits.
    pub limits: Limits,
}

/// Limits; [`Limits::default`] is right for a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pairs a volume can have, as a primary and as a mirror together.
    pub pairs_per_volume: u32,
    /// Bytes of one copy effect at most (at least a track is copied).
    pub copy_run_bytes: u64,
    /// Copies in flight for one pair.
    pub copies_per_pair: usize,
    /// Copies in flight for all pairs.
    pub copies: usize,
    /// Bytes in flight for all pairs with another system, whose copies are counted by these instead: a link is as long as it is wide.
    pub far_copy_bytes: u64,
    /// Bytes a second that the copiers of all pairs may start to copy; 0: no limit. Copies that a host waits for are
    /// not held back.
    pub pace: u64,
    /// While copies run, hosts' I/O may take so many percent of the time that it takes without; 0: copies do not care.
    pub latency_factor: u32,
    /// Tracks that wait at the front of a pair's copy queue because a host read them.
    pub front: usize,
    /// Copied tracks that are not settled: as soon as there are this many, they are.
    pub settle_tracks: u64,
    /// Nanoseconds after which copied tracks are settled however few they are.
    pub settle_after: u64,
    /// Nanoseconds without a write after which a region cools.
    pub cool_after: u64,
    /// Hot regions of one volume; above this, those left alone longest cool at the next tick. A region is 64 tracks: at
    /// 64 KiB a track, so many cover a working set of 256 GiB.
    pub hot_regions: usize,
    /// Pairs that a fault suspended resume by themselves where the direction is certain.
    pub auto_resume: bool,
    /// Nanoseconds from a fault to the first try; each one that fails doubles it.
    pub resume_after: u64,
    /// The longest pause between two tries, in nanoseconds.
    pub resume_after_most: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pairs_per_volume: 64,
            copy_run_bytes: 1 << 20,
            copies_per_pair: 4,
            copies: 32,
            far_copy_bytes: 16 << 20,
            pace: 0,
            latency_factor: 200,
            front: 1024,
            settle_tracks: 1024,
            settle_after: 1_000_000_000,
            cool_after: 5_000_000_000,
            hot_regions: 65_536,
            auto_resume: true,
            resume_after: 1_000_000_000,
            resume_after_most: 60_000_000_000,
        }
    }
}
