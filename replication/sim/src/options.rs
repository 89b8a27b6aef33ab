//! What a run is made of: everything follows from its seed.

use crate::{rng::Rng, world::BLOCK};
use replication_engine::{EngineConfig, Limits, Mutation};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Events of the random phase.
    pub steps: u64,
    /// A planted bug.
    pub mutation: Option<Mutation>,
}

/// What the seed makes of it.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Volumes, numbered from 1.
    pub volumes: u32,
    /// Blocks of each.
    pub blocks: usize,
    /// Blocks of a track.
    pub track_blocks: usize,
    /// Most host I/O in flight.
    pub depth: usize,
    /// Of a thousand events, those that are commands.
    pub command_rate: u64,
    /// Of a thousand events, those that are crashes.
    pub crash_rate: u64,
    /// Of a hundred events, those that are steps of the journal's disk.
    pub sync_rate: u64,
    /// Of a thousand crashes, those that are power failures.
    pub power_rate: u64,
    /// Of a thousand steps of effects, those that fail.
    pub fault_rate: u64,
    /// Of a thousand events, those in which the journal fails for good.
    pub journal_fault_rate: u64,
    /// Of a thousand events, those that make everything wait until all is still, and compare.
    pub quiet_rate: u64,
    /// Blocks that most I/O is near to each other.
    pub spot: usize,
    /// The engine's limits.
    pub limits: Limits,
}

impl Profile {
    /// The profile of a seed.
    pub fn new(rng: &mut Rng) -> Self {
        let track_blocks = *rng.pick(&[4, 4, 2, 8]).expect("not empty");
        let tracks: usize = *rng.pick(&[6, 40, 70, 130, 200]).expect("not empty");
        let limits = Limits {
            pairs_per_volume: 8,
            copy_run_bytes: rng.between(1, 12) * track_blocks as u64 * BLOCK,
            copies_per_pair: rng.between(1, 4) as usize,
            copies: 8,
            far_copy_bytes: 1 << 20,
            pace: 0,
            latency_factor: 0,
            front: 16,
            settle_tracks: *rng.pick(&[1, 8, 64, 1000]).expect("not empty"),
            settle_after: *rng.pick(&[0, 200_000_000, 1_000_000_000]).expect("not empty"),
            cool_after: *rng
                .pick(&[100_000_000, 500_000_000, 5_000_000_000])
                .expect("not empty"),
            hot_regions: rng.between(1, 6) as usize,
            auto_resume: true,
            resume_after: 200_000_000,
            resume_after_most: 2_000_000_000,
        };
        // Drawn aside: the other dice of a seed stay as they were.
        let mut aside = rng.clone();
        let journal_fault_rate = *aside.pick(&[0, 0, 0, 1, 4]).expect("not empty");
        Self {
            journal_fault_rate,
            volumes: rng.between(2, 6) as u32,
            // The last track may be short.
            blocks: tracks * track_blocks - rng.below(track_blocks as u64) as usize,
            track_blocks,
            depth: *rng.pick(&[1, 4, 12]).expect("not empty"),
            command_rate: *rng.pick(&[5, 20, 60]).expect("not empty"),
            crash_rate: *rng.pick(&[0, 2, 5]).expect("not empty"),
            sync_rate: *rng.pick(&[8, 8, 1]).expect("not empty"),
            power_rate: *rng.pick(&[1000, 500, 0]).expect("not empty"),
            fault_rate: *rng.pick(&[0, 0, 0, 3]).expect("not empty"),
            quiet_rate: *rng.pick(&[0, 1, 3]).expect("not empty"),
            spot: *rng.pick(&[8, 30, 1000]).expect("not empty"),
            limits,
        }
    }

    /// Bytes a track.
    pub fn track_size(&self) -> u32 {
        self.track_blocks as u32 * BLOCK as u32
    }

    /// The engine's configuration.
    pub fn config(&self) -> EngineConfig {
        EngineConfig {
            track_size: self.track_size(),
            limits: self.limits,
        }
    }
}
