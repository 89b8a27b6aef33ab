//! What hosts and users do: anything, anywhere, at any time.

use crate::world::{Checked, World};
use replication_engine::{
    command::{Command, Condition, Verb},
    effects::HostIo,
    ids::VolumeId,
};

/// Of a thousand commands, those that only ask.
const DRY_RUNS: u64 = 30;

impl World {
    pub(crate) fn random_volume(&mut self) -> VolumeId {
        VolumeId(self.rng.between(1, u64::from(self.profile.volumes)) as u32)
    }

    pub(crate) fn random_io(&mut self) -> Checked {
        let mut volume = self.random_volume();
        // Rather one that answers.
        for _ in 0..3 {
            if !self.oracle.ready(volume) {
                volume = self.random_volume();
            }
        }
        let io = match self.rng.below(100) {
            0..40 => HostIo::Read,
            40..85 => HostIo::Write,
            85..95 => HostIo::Update,
            _ => HostIo::Flush,
        };
        let fua = io != HostIo::Read && self.rng.chance(150);
        let blocks = self.random_blocks();
        self.begin(volume, io, blocks, fua)
    }

    fn random_blocks(&mut self) -> core::ops::Range<usize> {
        let (all, track) = (self.profile.blocks, self.profile.track_blocks);
        let near = all.min(self.profile.spot) as u64;
        let spread = if self.rng.chance(800) { near } else { all as u64 };
        let start = self.rng.below(spread) as usize;
        let (start, len) = match self.rng.below(10) {
            // Within a track, mostly.
            0..4 => (start, self.rng.between(1, track as u64) as usize),
            // Whole tracks.
            4..7 => (start / track * track, track * self.rng.between(1, 3) as usize),
            // Several tracks, with ends within one.
            7..9 => (start, self.rng.between(1, 4 * track as u64) as usize),
            _ => (start, self.rng.between(1, all as u64) as usize),
        };
        start..(start + len).min(all)
    }

    pub(crate) fn random_command(&mut self) -> Checked {
        if self.commands.len() >= 3 {
            return Ok(());
        }
        if self.rng.chance(80) {
            let condition = match self.rng.below(10) {
                0 => Condition::Hold,
                1 => Condition::NotReady,
                2..6 => Condition::Ready,
                _ => Condition::Release,
            };
            let volume = self.random_volume();
            let dry_run = self.rng.chance(DRY_RUNS);
            return self.command(Command::Config {
                condition,
                volume,
                dry_run,
            });
        }
        let verb = self.random_verb();
        let members = self.random_members(verb);
        let dry_run = self.rng.chance(DRY_RUNS);
        self.command(Command::Pair {
            verb,
            members,
            dry_run,
        })
    }

    fn random_verb(&mut self) -> Verb {
        let coin = self.rng.chance(500);
        match self.rng.below(100) {
            0..25 => Verb::Establish {
                full: self.rng.chance(150),
            },
            25..60 => Verb::Split {
                instant: coin,
                strict_hold: self.rng.chance(30),
                force: self.rng.chance(200),
            },
            60..90 => Verb::Restore {
                full: self.rng.chance(150),
                protected: coin,
            },
            _ => Verb::Cancel { force: coin },
        }
    }

    fn random_members(&mut self, verb: Verb) -> Vec<(VolumeId, VolumeId)> {
        let known: Vec<_> = self
            .oracle
            .pairs
            .iter()
            .map(|(pair, meta)| (meta.primary, pair.0))
            .collect();
        let new = matches!(verb, Verb::Establish { .. })
            && self.rng.chance(if known.is_empty() { 1000 } else { 400 });
        let count = if self.rng.chance(600) {
            1
        } else {
            self.rng.between(1, 3)
        };
        let mut members = Vec::new();
        for _ in 0..count {
            let any = (self.random_volume(), self.random_volume());
            let member = if new || self.rng.chance(20) {
                any
            } else {
                self.rng.pick(&known).copied().unwrap_or(any)
            };
            if !members.contains(&member) {
                members.push(member);
            }
        }
        members
    }
}
