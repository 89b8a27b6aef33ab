//! Host I/O that passes (`replication_engine::passage`): the shell performs it at once, here as tasks like all others, so
//! that anything may happen in between.

use crate::{
    task::Work,
    world::{Broken, Checked, World, blocks},
};
use replication_engine::{
    effects::{Input, Outcome},
    ids::{Token, VolumeId},
    passage::Passage,
};

/// An I/O that passes.
#[derive(Debug)]
pub(crate) struct Passing {
    passage: Passage,
    /// The same I/O the long way.
    input: Input,
    /// Tasks that have not ended.
    left: usize,
    /// A task failed.
    failed: bool,
    /// Volumes that could not be written.
    unwritten: Vec<VolumeId>,
}

/// Names of tasks that are not the engine's begin here.
const OURS: u64 = 1 << 60;

impl World {
    /// Lets a host's I/O pass, if the engine does.
    pub(crate) fn pass(&mut self, input: &Input) -> Result<bool, Broken> {
        let Input::Host {
            op,
            volume,
            io,
            range,
            ..
        } = *input
        else {
            return Ok(false);
        };
        let Some(passage) = self.engine.pass(volume, io, range, false) else {
            return Ok(false);
        };
        self.counts.passages += 1;
        if self.trace.is_some() {
            self.note(format!("> {input:?} passes: {passage:?}"));
        }
        let token = Token(OURS + self.name());
        let stamps = self.ops[&op].stamps.clone();
        let mut tasks = Vec::new();
        if stamps.is_empty() {
            tasks.push(Work::Read {
                op,
                from: volume,
                blocks: blocks(range),
                prepare: false,
            });
        } else {
            for leg in [volume].iter().chain(passage.mirrors()) {
                tasks.push(Work::Write {
                    to: *leg,
                    blocks: blocks(range),
                    stamps: stamps.clone(),
                });
            }
        }
        let passing = Passing {
            passage,
            input: input.clone(),
            left: tasks.len(),
            failed: false,
            unwritten: Vec::new(),
        };
        self.passing.insert(token, passing);
        for work in tasks {
            self.issue(token, work)?;
        }
        Ok(true)
    }

    pub(crate) fn passing_task_ended(&mut self, token: Token, outcome: Outcome) -> Checked {
        let Some(passing) = self.passing.get_mut(&token) else {
            return Ok(());
        };
        passing.left -= 1;
        passing.failed |= outcome != Outcome::Ok;
        if let Outcome::WriteFailed(volume) = outcome {
            passing.unwritten.push(volume);
        }
        if passing.left > 0 {
            return Ok(());
        }
        let Some(Passing {
            passage,
            input,
            failed,
            unwritten,
            ..
        }) = self.passing.remove(&token)
        else {
            return Ok(());
        };
        let mut effects = Vec::new();
        let passed = self.engine.passed(&passage, &unwritten, &mut effects);
        if self.trace.is_some() {
            self.note(format!("> passed: {passage:?}: {passed:?}, failed: {failed}"));
        }
        for effect in effects {
            self.perform(effect, None)?;
        }
        if passed.awaited {
            self.feed(Input::Passed)?;
        }
        let Input::Host { op, .. } = input else {
            return Ok(());
        };
        if passed.answer && !failed {
            return self.reply(op, Ok(()));
        }
        if let Some(op) = self.ops.get_mut(&op) {
            op.may_have_happened = true;
        }
        self.feed(input)
    }
}
