//! Commands: the queue, and what an accepted one sets going. What is accepted is found in `validation`.
//!
//! Commands are taken one by one, in the order they came. One that joins or parts families waits at the head of the queue until the
//! families are idle, and is validated again then, for faults may have come in between.

use std::collections::BTreeSet;

use crate::{
    change::Decided,
    command::{Command, Refused, Summary, Why},
    effects::{Effect, Effects},
    engine::Engine,
    ids::{CommandId, VolumeId},
    job::Wait,
    validation::Accepted,
};

/// A command that waits for its turn.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) id: CommandId,
    pub(crate) command: Command,
    pub(crate) now_ms: u64,
}

/// A command that was applied and is not answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) summary: Summary,
    /// What it waits for.
    pub(crate) left: usize,
    /// The volumes it promises to be stable.
    images: BTreeSet<VolumeId>,
    /// A volume it promises to be stable and whose flush failed.
    pub(crate) unstable: Option<VolumeId>,
}

impl Engine {
    /// Takes commands from the queue until one must wait.
    pub(crate) fn take_commands(&mut self, out: &mut Effects) {
        while let Some(pending) = self.commands.pop_front() {
            self.now_ms = self.now_ms.max(pending.now_ms);
            let accepted = match self.validate(&pending.command) {
                Err(refused) => {
                    self.reopen(out);
                    out.push(Effect::Answer {
                        id: pending.id,
                        result: Err(refused),
                    });
                    continue;
                }
                Ok(accepted) => accepted,
            };
            // A no-op says that something is in force already: it waits until that is durable, and stable where it promised to be.
            if !is_dry(&pending.command)
                && accepted.decided.is_nothing()
                && self.is_changing(&pending.command)
            {
                self.commands.push_front(pending);
                return;
            }
            if is_dry(&pending.command) || accepted.decided.is_nothing() {
                self.reopen(out);
                out.push(Effect::Answer {
                    id: pending.id,
                    result: Ok(accepted.summary),
                });
                continue;
            }
            if !accepted.joins.is_empty() && !self.close(&accepted.joins) {
                self.commands.push_front(pending);
                return;
            }
            self.apply(pending.id, accepted, out);
            self.reopen(out);
        }
    }

    /// Is a change of one of the command's volumes not durable yet, or the image that one promises not stable?
    fn is_changing(&self, command: &Command) -> bool {
        let shut = |id: &VolumeId| {
            self.volumes.get(id).is_some_and(|volume| volume.gate > 0)
                || self.answers.values().any(|answer| answer.images.contains(id))
        };
        match command {
            Command::Config { volume, .. } => shut(volume),
            Command::Remote {
                pair: (primary, mirror),
                ..
            } => shut(primary) || shut(mirror),
            Command::Pair { members, .. } => members
                .iter()
                .any(|(primary, mirror)| shut(primary) || shut(mirror)),
        }
    }

    fn apply(&mut self, id: CommandId, accepted: Accepted, out: &mut Effects) {
        let images = accepted.images;
        self.answers.insert(
            id,
            Answer {
                summary: accepted.summary,
                left: 1 + images.len(),
                images: images.clone(),
                unstable: None,
            },
        );
        self.make(accepted.decided, Some(id), out);
        for volume in images {
            let token = self.token(Wait::SplitFlush { volume, command: id });
            out.push(Effect::Flush { token, volume });
        }
    }

    /// What a command would change that needs no family to be idle; `None` if it would be refused.
    pub(crate) fn decide_alone(&self, command: &Command) -> Option<Decided> {
        let accepted = self.validate(command).ok()?;
        accepted.joins.is_empty().then_some(accepted.decided)
    }

    /// One thing less that a command's answer waits for.
    pub(crate) fn answer_part(&mut self, command: CommandId, out: &mut Effects) {
        let Some(answer) = self.answers.get_mut(&command) else {
            return;
        };
        answer.left -= 1;
        if answer.left == 0 {
            let result = match answer.unstable {
                None => Ok(answer.summary),
                Some(volume) => Err(Refused {
                    member: 0,
                    why: Why::Unstable { volume },
                }),
            };
            self.answers.remove(&command);
            out.push(Effect::Answer { id: command, result });
        }
    }
}

fn is_dry(command: &Command) -> bool {
    match command {
        Command::Pair { dry_run, .. } | Command::Config { dry_run, .. } | Command::Remote { dry_run, .. } => {
            *dry_run
        }
    }
}
