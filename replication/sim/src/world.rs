//! The simulated machine: an engine, its disks and its journal, hosts, time, and the oracle that watches.

use crate::{
    commands::Issued,
    content::{Content, Time},
    disk::{Disk, Stamp},
    host::Op,
    journal_disk::JournalDisk,
    options::Profile,
    oracle::{Bytes, Oracle},
    passing::Passing,
    rng::Rng,
    task::{Stepped, Task, Work},
};
use replication_engine::{
    Engine, Mutation,
    command::VolumeSpec,
    effects::{Effect, Input, Outcome},
    ids::{ByteRange, CommandId, OpId, Tick, Token, VolumeId},
    journal::{Image, Record},
};
use std::collections::BTreeMap;

/// Bytes of a block.
pub const BLOCK: u64 = 512;

/// A promise that was not kept, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

/// Nothing, or a broken promise.
pub type Checked = Result<(), Broken>;

/// Makes a [`Broken`] when the condition does not hold.
pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Broken(what())) }
}

/// The machine.
pub struct World {
    pub(crate) profile: Profile,
    pub(crate) rng: Rng,
    /// The oracle's clock: one tick an event.
    pub(crate) time: Time,
    /// The engine's clock, nanoseconds.
    pub(crate) now: u64,
    pub(crate) engine: Engine,
    pub(crate) disks: BTreeMap<VolumeId, Disk>,
    pub(crate) journal: JournalDisk,
    /// What the journal's records say, taken together.
    pub(crate) image: Image,
    pub(crate) tasks: Vec<Task>,
    pub(crate) ops: BTreeMap<OpId, Op>,
    /// Host I/O that passes, by the token its tasks have.
    pub(crate) passing: BTreeMap<Token, Passing>,
    pub(crate) commands: BTreeMap<CommandId, Issued>,
    pub(crate) oracle: Oracle,
    /// Effects may fail.
    pub(crate) faults: bool,
    pub(crate) counts: Counts,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) next_name: u64,
    /// What the last read found.
    pub(crate) last_read: Vec<Stamp>,
    pub(crate) mutation: Option<Mutation>,
}

/// What happened in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Inputs to the engine.
    pub steps: u64,
    /// Host I/O answered.
    pub ops: u64,
    /// Of them, those that passed at first.
    pub passages: u64,
    /// Commands that changed something.
    pub commands: u64,
    /// Kills and power failures.
    pub crashes: u64,
    /// Failures of the journal.
    pub journal_failures: u64,
    /// Changes of volumes in pairs that were tried in vain.
    pub volumes_kept: u64,
    /// Times everything was still and was compared.
    pub quiet: u64,
}

/// Disks and what is under way to them, for the oracle.
pub(crate) struct Machine<'a> {
    pub(crate) disks: &'a BTreeMap<VolumeId, Disk>,
    pub(crate) tasks: &'a [Task],
    pub(crate) ops: &'a BTreeMap<OpId, Op>,
}

impl Bytes for Machine<'_> {
    fn content(&self, volume: VolumeId, now: Time) -> Content {
        let disk = &self.disks[&volume];
        let blocks = disk.blocks();
        let mut content = Content::new(&vec![0; blocks]);
        for block in 0..blocks {
            content.versions(block, disk.versions(block), now);
            for task in self.tasks {
                if let Some(stamp) = task.may_write(volume, block, self.disks) {
                    content.also(block, stamp, now);
                }
            }
        }
        // A host's write to a volume above may have planned this one, and those below it, as legs, and have reached
        // some of them.
        for op in self.ops.values().filter(|op| op.volume != volume && op.writes()) {
            content.anything(op.blocks.clone(), now);
        }
        content
    }
}

impl World {
    /// Gives the engine an input and performs what comes out.
    pub(crate) fn feed(&mut self, input: Input) -> Checked {
        self.counts.steps += 1;
        self.time += 1;
        let command = match &input {
            Input::Command { id, .. } => Some(*id),
            _ => None,
        };
        if self.trace.is_some() {
            self.note(format!("> {input:?}"));
        }
        let mut effects = Vec::new();
        self.engine.step(Tick(self.now), input, &mut effects);
        for effect in effects {
            if self.trace.is_some() {
                self.note(format!("    {effect:?}"));
            }
            self.perform(effect, command)?;
        }
        Ok(())
    }

    pub(crate) fn note(&mut self, line: String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
    }

    pub(crate) fn perform(&mut self, effect: Effect, command: Option<CommandId>) -> Checked {
        match effect {
            Effect::Read {
                token,
                op,
                from,
                range,
            } => self.issue(
                token,
                Work::Read {
                    op,
                    from,
                    blocks: blocks(range),
                    prepare: false,
                },
            ),
            Effect::Prepare { token, op, from } => {
                let blocks = self.op(op)?.blocks.clone();
                self.issue(
                    token,
                    Work::Read {
                        op,
                        from,
                        blocks,
                        prepare: true,
                    },
                )
            }
            Effect::Write { token, op, to, range } => {
                let op = self.op(op)?;
                let blocks = blocks(range);
                ensure(
                    op.blocks.start <= blocks.start && blocks.end <= op.blocks.end,
                    || format!("a write of {blocks:?} for an I/O of {:?}", op.blocks),
                )?;
                let first = blocks.start - op.blocks.start;
                let stamps = op.stamps[first..first + blocks.len()].to_vec();
                self.issue(token, Work::Write { to, blocks, stamps })
            }
            Effect::Copy {
                token,
                from,
                to,
                range,
            } => {
                ensure(!to.is_empty() && !to.contains(&from), || {
                    "a copy to nowhere, or to itself".to_owned()
                })?;
                self.issue(
                    token,
                    Work::Copy {
                        from,
                        to,
                        blocks: blocks(range),
                        stamps: Vec::new(),
                    },
                )
            }
            Effect::Flush { token, volume } => {
                let covered = self.disks[&volume].flush_begins();
                self.issue(token, Work::Flush { volume, covered })
            }
            Effect::Journal { record, token } => {
                let seq = self.journal.append(&record, token);
                self.image
                    .apply(&record)
                    .map_err(|why| Broken(format!("a record that does not fit: {why}")))?;
                match record {
                    Record::StateChange(change) => self.change(seq, command, &change),
                    Record::Config(config) => {
                        self.oracle.configs.insert(config.volume, config);
                        self.note_readiness();
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            Effect::Reply { op, result } => self.reply(op, result),
            Effect::Answer { id, result } => self.answer(id, &result),
            Effect::Ready { .. }
            | Effect::Member { .. }
            | Effect::Compare { .. }
            | Effect::Checked { .. }
            | Effect::Event(_) => Ok(()),
        }
    }

    pub(crate) fn issue(&mut self, token: Token, work: Work) -> Checked {
        let task = Task::new(token, work);
        let (volumes, blocks) = match &task.work {
            Work::Read { from, blocks, .. } => (vec![*from], blocks.clone()),
            Work::Write { to, blocks, .. } => (vec![*to], blocks.clone()),
            Work::Copy { from, to, blocks, .. } => ([&[*from], &to[..]].concat(), blocks.clone()),
            Work::Flush { volume, .. } => (vec![*volume], 0..1),
        };
        for volume in volumes {
            let size = self.disks.get(&volume).map_or(0, Disk::blocks);
            ensure(blocks.start < blocks.end && blocks.end <= size, || {
                format!("{} leaves the disk", task.name())
            })?;
        }
        self.tasks.push(task);
        Ok(())
    }

    fn op(&self, id: OpId) -> Result<&Op, Broken> {
        self.ops
            .get(&id)
            .ok_or_else(|| Broken(format!("an effect for {id:?}, which ended")))
    }

    /// A step of a task.
    pub(crate) fn work(&mut self, index: usize) -> Checked {
        let fail = self.faults && self.rng.chance(self.profile.fault_rate);
        let stepped = self.tasks[index].step(&mut self.disks, &mut self.rng, fail);
        let outcome = match stepped {
            Stepped::More => return Ok(()),
            Stepped::Ended(outcome) => outcome,
            Stepped::Read(stamps) => self.read(index, &stamps)?,
        };
        let task = self.tasks.swap_remove(index);
        if self.passing.contains_key(&task.token) {
            return self.passing_task_ended(task.token, outcome);
        }
        self.feed(Input::Done {
            token: task.token,
            outcome,
        })
    }

    fn read(&mut self, index: usize, stamps: &[Stamp]) -> Result<Outcome, Broken> {
        let Work::Read {
            op: id,
            blocks,
            prepare,
            ..
        } = self.tasks[index].work.clone()
        else {
            return Ok(Outcome::Ok);
        };
        let decline = prepare && self.rng.chance(250);
        let op = self
            .ops
            .get_mut(&id)
            .ok_or_else(|| Broken(format!("a read for {id:?}, which ended")))?;
        for (block, stamp) in blocks.zip(stamps) {
            let at = block
                .checked_sub(op.blocks.start)
                .filter(|at| *at < op.found.len());
            let at = at.ok_or_else(|| Broken(format!("a read of block {block} for {id:?}")))?;
            op.found[at] = Some(*stamp);
        }
        Ok(if decline { Outcome::Declined } else { Outcome::Ok })
    }

    /// One more sync of the journal begins or ends.
    pub(crate) fn sync_journal(&mut self) -> Checked {
        if self.journal.failed() {
            return self.refuse_journaled();
        }
        let tokens = self.journal.sync();
        self.durable(tokens)
    }

    /// The journal's disk fails: nothing becomes durable any more until a crash.
    pub(crate) fn fail_journal(&mut self) -> Checked {
        self.counts.journal_failures += 1;
        self.note("= the journal fails".to_owned());
        self.journal.fail();
        self.refuse_journaled()
    }

    fn refuse_journaled(&mut self) -> Checked {
        for token in self.journal.refuse() {
            self.feed(Input::Done {
                token,
                // The journal is on no volume.
                outcome: Outcome::WriteFailed(VolumeId(u32::MAX)),
            })?;
        }
        Ok(())
    }

    /// The journal begins a new file.
    pub(crate) fn rotate_journal(&mut self) -> Checked {
        if self.journal.failed() {
            return Ok(());
        }
        let records = self.engine.snapshot();
        self.note(format!(
            "= rotate the journal, epoch {}",
            self.journal.epoch() + 1
        ));
        let tokens = self.journal.rotate(&records);
        // The numbers begin anew, and nothing can be undone.
        self.oracle.durable(u64::MAX);
        self.image = Image::new(self.profile.track_size());
        for record in &records {
            self.image
                .apply(record)
                .map_err(|why| Broken(format!("a snapshot that does not fit: {why}")))?;
        }
        self.durable(tokens)
    }

    fn durable(&mut self, tokens: Vec<Token>) -> Checked {
        self.oracle.durable(self.journal.durable());
        for token in tokens {
            self.feed(Input::Done {
                token,
                outcome: Outcome::Ok,
            })?;
        }
        Ok(())
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, nanoseconds: u64) -> Checked {
        self.now += nanoseconds;
        self.feed(Input::Tick)
    }

    pub(crate) fn name(&mut self) -> u64 {
        self.next_name += 1;
        self.next_name
    }

    pub(crate) fn spec(&self) -> VolumeSpec {
        VolumeSpec {
            bytes: self.profile.blocks as u64 * BLOCK,
            block_size: BLOCK as u32,
        }
    }
}

/// The blocks of a range.
pub(crate) fn blocks(range: ByteRange) -> core::ops::Range<usize> {
    (range.start / BLOCK) as usize..(range.end / BLOCK) as usize
}

/// A stamp, as who wrote it and where.
pub(crate) fn show(stamp: Stamp) -> String {
    let (writer, block) = (stamp >> 20, stamp & 0xF_FFFF);
    if writer < FIRST_NAME {
        format!("the first content of volume {writer} (block {block})")
    } else {
        format!("op {writer}'s block {block}")
    }
}

/// Names below are volumes.
pub(crate) const FIRST_NAME: u64 = 100;
