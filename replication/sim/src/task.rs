//! Effects under way. The shell may perform them in any order and take any time, so each is cut into small steps, and the
//! world takes one step of a random one at a time: a read may see a copy half done, if the engine lets it.

use crate::{
    disk::{Disk, Stamp},
    rng::Rng,
};
use replication_engine::{
    effects::Outcome,
    ids::{OpId, Token, VolumeId},
};
use std::{collections::BTreeMap, ops::Range};

/// An effect that was issued and has not ended.
#[derive(Debug, Clone)]
pub struct Task {
    /// Whom its end is reported to.
    pub token: Token,
    /// What it does.
    pub work: Work,
    done: usize,
}

/// What an effect does, in blocks.
#[derive(Debug, Clone)]
pub enum Work {
    /// `Effect::Read` or `Effect::Prepare`.
    Read {
        /// For whom.
        op: OpId,
        /// The disk.
        from: VolumeId,
        /// Where.
        blocks: Range<usize>,
        /// It is the first half of an update.
        prepare: bool,
    },
    /// `Effect::Write`.
    Write {
        /// The disk.
        to: VolumeId,
        /// Where.
        blocks: Range<usize>,
        /// What.
        stamps: Vec<Stamp>,
    },
    /// `Effect::Copy`, with what was read of the source so far.
    Copy {
        /// The source.
        from: VolumeId,
        /// The destinations.
        to: Vec<VolumeId>,
        /// Where.
        blocks: Range<usize>,
        /// What was read.
        stamps: Vec<Stamp>,
    },
    /// `Effect::Flush`, with what it covers.
    Flush {
        /// The disk.
        volume: VolumeId,
        /// See [`Disk::flush_begins`].
        covered: u64,
    },
}

/// What a step came to.
#[derive(Debug)]
pub enum Stepped {
    /// More steps are left.
    More,
    /// The task ended.
    Ended(Outcome),
    /// A read ended with these stamps.
    Read(Vec<Stamp>),
}

impl Task {
    /// A task that has not begun.
    pub fn new(token: Token, work: Work) -> Self {
        Self { token, work, done: 0 }
    }

    /// One step on these disks. `fail`: the task ends with a failure, wherever it is.
    pub fn step(&mut self, disks: &mut BTreeMap<VolumeId, Disk>, rng: &mut Rng, fail: bool) -> Stepped {
        match &mut self.work {
            Work::Read { .. } if fail => Stepped::Ended(Outcome::ReadFailed),
            Work::Read { from, blocks, .. } => {
                Stepped::Read(blocks.clone().map(|block| disks[from].read(block)).collect())
            }
            Work::Write { to, .. } if fail => Stepped::Ended(Outcome::WriteFailed(*to)),
            Work::Write { to, blocks, stamps } => {
                if self.done == stamps.len() {
                    return Stepped::Ended(Outcome::Ok);
                }
                let disk = disks.get_mut(to).expect("effects name known volumes");
                let until = self.done + piece(stamps.len() - self.done, rng);
                for (block, stamp) in blocks.clone().zip(stamps.iter()).take(until).skip(self.done) {
                    disk.write(block, *stamp);
                }
                self.done = until;
                Stepped::More
            }
            Work::Copy { to, stamps, .. } if fail => match to.get(self.done / stamps.len().max(1)) {
                Some(to) if !stamps.is_empty() => Stepped::Ended(Outcome::WriteFailed(*to)),
                _ => Stepped::Ended(Outcome::ReadFailed),
            },
            Work::Copy {
                from,
                to,
                blocks,
                stamps,
            } => {
                if stamps.len() < blocks.len() {
                    let next = blocks.start + stamps.len();
                    let until = next + piece(blocks.end - next, rng);
                    stamps.extend((next..until).map(|block| disks[from].read(block)));
                    return Stepped::More;
                }
                let all = blocks.len() * to.len();
                if self.done == all {
                    // Often wrong, as a hint may be.
                    let ahead = (blocks.start as u64 % 3) << 20;
                    return Stepped::Ended(Outcome::Sparse { holes: 0, ahead });
                }
                let until = self.done + piece(all - self.done, rng);
                for index in self.done..until {
                    let (leg, block) = (to[index / blocks.len()], index % blocks.len());
                    let disk = disks.get_mut(&leg).expect("effects name known volumes");
                    disk.write(blocks.start + block, stamps[block]);
                }
                self.done = until;
                Stepped::More
            }
            Work::Flush { volume, .. } if fail => Stepped::Ended(Outcome::WriteFailed(*volume)),
            Work::Flush { volume, covered } => {
                disks
                    .get_mut(volume)
                    .expect("effects name known volumes")
                    .flush_ends(*covered);
                Stepped::Ended(Outcome::Ok)
            }
        }
    }

    /// The stamps that the task may still write to a block of this volume.
    pub fn may_write(
        &self,
        volume: VolumeId,
        block: usize,
        disks: &BTreeMap<VolumeId, Disk>,
    ) -> Option<Stamp> {
        match &self.work {
            Work::Write { to, blocks, stamps } if *to == volume && blocks.contains(&block) => {
                Some(stamps[block - blocks.start])
            }
            Work::Copy {
                from,
                to,
                blocks,
                stamps,
            } if to.contains(&volume) && blocks.contains(&block) => Some(
                stamps
                    .get(block - blocks.start)
                    .copied()
                    .unwrap_or_else(|| disks[from].read(block)),
            ),
            _ => None,
        }
    }

    /// For the trace.
    pub fn name(&self) -> String {
        match &self.work {
            Work::Read { op, from, blocks, .. } => format!("read {blocks:?} of {} for {op:?}", from.0),
            Work::Write { to, blocks, .. } => format!("write {blocks:?} of {}", to.0),
            Work::Copy { from, to, blocks, .. } => {
                format!(
                    "copy {blocks:?} from {} to {:?}",
                    from.0,
                    to.iter().map(|v| v.0).collect::<Vec<_>>()
                )
            }
            Work::Flush { volume, .. } => format!("flush {}", volume.0),
        }
    }
}

/// All of it, or a part.
fn piece(left: usize, rng: &mut Rng) -> usize {
    if rng.chance(700) {
        left
    } else {
        rng.between(1, left as u64) as usize
    }
}
