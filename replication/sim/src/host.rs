//! Hosts: I/O from its beginning to the check of what it found.

use crate::{
    content::{Content, Time},
    disk::Stamp,
    world::{BLOCK, Broken, Checked, World, ensure, show},
};
use replication_engine::{
    effects::{HostError, HostIo, Input},
    ids::{ByteRange, OpId, VolumeId},
};
use std::ops::Range;

/// A host I/O that was not answered yet.
#[derive(Debug)]
pub struct Op {
    /// The volume addressed.
    pub volume: VolumeId,
    /// What it does.
    pub io: HostIo,
    /// Where.
    pub blocks: Range<usize>,
    /// When it began.
    pub began: Time,
    /// Force unit access.
    pub fua: bool,
    /// What it writes, block by block.
    pub stamps: Vec<Stamp>,
    /// What it read, block by block.
    pub found: Vec<Option<Stamp>>,
    /// A write that is refused after all may have happened, because it passed before.
    pub may_have_happened: bool,
    /// The volume answered hosts at some time since.
    pub was_ready: bool,
    /// And it did not.
    pub was_unready: bool,
    /// Contents that the volume had since, and that a change of state replaced.
    pub replaced: Vec<Content>,
}

impl Op {
    /// Does it put its stamps on the volume?
    pub fn writes(&self) -> bool {
        matches!(self.io, HostIo::Write | HostIo::Update)
    }

    /// Does it read?
    pub fn reads(&self) -> bool {
        matches!(self.io, HostIo::Read | HostIo::Update)
    }

    /// Each block with its stamp.
    pub fn stamped(&self) -> impl Iterator<Item = (usize, Stamp)> + '_ {
        self.blocks.clone().zip(self.stamps.iter().copied())
    }
}

impl World {
    /// A host I/O begins.
    pub(crate) fn begin(&mut self, volume: VolumeId, io: HostIo, range: Range<usize>, fua: bool) -> Checked {
        let id = OpId(self.name());
        self.time += 1;
        let (began, ready) = (self.time, self.oracle.ready(volume));
        let writes = matches!(io, HostIo::Write | HostIo::Update);
        let stamps: Vec<Stamp> = if writes {
            range.clone().map(|block| id.0 << 20 | block as u64).collect()
        } else {
            Vec::new()
        };
        let found = if io == HostIo::Flush {
            Vec::new()
        } else {
            vec![None; range.len()]
        };
        let op = Op {
            volume,
            io,
            blocks: range.clone(),
            began,
            fua,
            stamps,
            found,
            may_have_happened: false,
            was_ready: ready,
            was_unready: !ready,
            replaced: Vec::new(),
        };
        for (block, stamp) in op.stamped() {
            self.oracle
                .tell(volume, |content| content.begin(block, stamp, began));
        }
        self.ops.insert(id, op);
        let range = ByteRange {
            start: range.start as u64 * BLOCK,
            end: range.end as u64 * BLOCK,
        };
        let input = Input::Host {
            op: id,
            volume,
            io,
            range,
            fua,
            by_link: false,
        };
        if fua || self.rng.chance(300) || !self.pass(&input)? {
            return self.feed(input);
        }
        Ok(())
    }

    pub(crate) fn reply(&mut self, id: OpId, result: Result<(), HostError>) -> Checked {
        let op = self
            .ops
            .remove(&id)
            .ok_or_else(|| Broken(format!("a second answer to {id:?}")))?;
        self.counts.ops += 1;
        self.time += 1;
        let (now, volume) = (self.time, op.volume);
        match result {
            Ok(()) => {
                ensure(op.was_ready, || {
                    format!("{id:?} succeeded on {}, which is not ready", volume.0)
                })?;
                if op.reads() {
                    self.check_read(id, &op)?;
                    self.last_read = op.found.iter().flatten().copied().collect();
                }
                for (block, stamp) in op.stamped() {
                    self.oracle
                        .tell(volume, |content| content.acknowledge(block, stamp, op.fua, now));
                }
                if op.io == HostIo::Flush {
                    self.oracle.tell(volume, |content| content.flush(op.began));
                }
            }
            Err(error @ (HostError::Write | HostError::Journal)) => {
                let reason = match error {
                    HostError::Journal => self.journal.failed(),
                    _ => self.profile.fault_rate > 0,
                };
                ensure(reason, || format!("{id:?} failed although nothing did"))?;
                for (block, stamp) in op.stamped() {
                    self.oracle
                        .tell(volume, |content| content.fail(block, stamp, now));
                }
            }
            Err(error) => {
                let reason = match error {
                    HostError::NotReady => op.was_unready,
                    HostError::Declined => op.io == HostIo::Update,
                    _ => self.profile.fault_rate > 0,
                };
                ensure(reason, || {
                    format!("{id:?} on {} failed without a reason: {error:?}", volume.0)
                })?;
                if error == HostError::Declined {
                    self.check_read(id, &op)?;
                }
                for (block, stamp) in op.stamped() {
                    self.oracle.tell(volume, |content| {
                        if op.may_have_happened {
                            content.fail(block, stamp, now);
                        } else {
                            content.refuse(block, stamp);
                        }
                    });
                }
            }
        }
        let oldest = self.ops.values().map(|op| op.began).min().unwrap_or(now);
        if op.writes() {
            self.oracle.tell(volume, |content| content.prune(oldest));
        }
        Ok(())
    }

    fn check_read(&self, id: OpId, op: &Op) -> Checked {
        let content = &self.oracle.contents[&op.volume];
        for (block, found) in op.blocks.clone().zip(&op.found) {
            let stamp = found.ok_or_else(|| Broken(format!("{id:?} did not read block {block}")))?;
            let fits = |content: &Content| content.allows(block, stamp, op.began);
            // An update may find its own stamp only after it was answered.
            let own = op.stamps.contains(&stamp);
            ensure(!own && (fits(content) || op.replaced.iter().any(fits)), || {
                format!(
                    "{id:?} found {} in block {block} of volume {}; possible: {:?}",
                    show(stamp),
                    op.volume.0,
                    content
                        .possible(block, op.began)
                        .into_iter()
                        .map(show)
                        .collect::<Vec<_>>()
                )
            })?;
        }
        Ok(())
    }
}
