//! Users: commands from the request to the check of the answer, and the changes of state they make.

use crate::{
    oracle::Pending,
    world::{Broken, Checked, Machine, World, ensure},
};
use replication_engine::{
    command::{Command, Refused, Summary, VolumeSpec, Why},
    effects::Input,
    ids::{CommandId, VolumeId},
    journal::StateChange,
    state::PairState,
    transition_table::{Decision, Transition, decide},
};

use std::collections::BTreeSet;

/// A command that was not answered yet.
#[derive(Debug)]
pub struct Issued {
    /// What was asked.
    pub command: Command,
    /// The states of its members then.
    pub states: Vec<PairState>,
    /// It changed something.
    pub changed: bool,
}

impl World {
    /// The engine changed states: the oracle is told.
    pub(crate) fn change(&mut self, seq: u64, command: Option<CommandId>, change: &StateChange) -> Checked {
        let command = command.or_else(|| self.command_of(change));
        if let Some(issued) = command.and_then(|id| self.commands.get_mut(&id)) {
            issued.changed = true;
        }
        for member in &change.members {
            let old = self.oracle.state(member.meta.primary, member.pair.0);
            ensure(reachable(old, member.meta.state), || {
                format!("a pair went from {old} to {}", member.meta.state)
            })?;
            let shown = old == PairState::Split && member.meta.state == PairState::ProtectedRestoring;
            ensure(!shown || member.meta.mirror_ready, || {
                "a protected restore took the mirror away".to_owned()
            })?;
        }
        let before = self.oracle.contents.clone();
        let machine = Machine {
            disks: &self.disks,
            tasks: &self.tasks,
            ops: &self.ops,
        };
        self.time = self.oracle.change(seq, command, change, &machine, self.time + 1);
        for op in self.ops.values_mut().filter(|op| op.reads()) {
            if before[&op.volume] != self.oracle.contents[&op.volume] {
                op.replaced.push(before[&op.volume].clone());
            }
        }
        self.note_readiness();
        Ok(())
    }

    /// The command that waited for its families to be still, and makes this change now.
    fn command_of(&self, change: &StateChange) -> Option<CommandId> {
        let makes = |issued: &Issued| {
            let Command::Pair {
                verb,
                members,
                dry_run: false,
            } = &issued.command
            else {
                return false;
            };
            // Of a group, those that were in the right state already are not in the record.
            let due = members.iter().filter_map(|(primary, mirror)| {
                match decide(self.oracle.state(*primary, *mirror), *verb) {
                    Decision::Go(made) => Some((*primary, *mirror, made)),
                    _ => None,
                }
            });
            let made = change.members.iter().map(|member| {
                let made = Transition {
                    to: member.meta.state,
                    change: member.change,
                };
                (member.meta.primary, member.pair.0, made)
            });
            !issued.changed && !change.members.is_empty() && due.eq(made)
        };
        self.commands
            .iter()
            .find(|(_, issued)| makes(issued))
            .map(|(id, _)| *id)
    }

    /// Whether volumes answer may have changed for what is in flight.
    pub(crate) fn note_readiness(&mut self) {
        for op in self.ops.values_mut() {
            let ready = self.oracle.ready(op.volume);
            op.was_ready |= ready;
            op.was_unready |= !ready;
        }
    }

    /// A command arrives.
    pub(crate) fn command(&mut self, command: Command) -> Checked {
        self.volumes_in_pairs_stay()?;
        let id = CommandId(self.name());
        let states = match &command {
            Command::Pair { members, .. } => members.iter().map(|(p, m)| self.oracle.state(*p, *m)).collect(),
            Command::Config { .. } | Command::Remote { .. } => Vec::new(),
        };
        self.commands.insert(
            id,
            Issued {
                command: command.clone(),
                states,
                changed: false,
            },
        );
        self.feed(Input::Command {
            id,
            command,
            now_ms: 1_000_000 + self.now / 1_000_000,
        })
    }

    /// Nobody can resize a volume that is in a pair, or take it away, whatever is under way.
    fn volumes_in_pairs_stay(&mut self) -> Checked {
        let pairs = self.oracle.pairs.iter();
        let paired: BTreeSet<VolumeId> = pairs.flat_map(|(pair, meta)| [meta.primary, pair.0]).collect();
        let other = VolumeSpec {
            bytes: 2 * self.spec().bytes,
            ..self.spec()
        };
        for volume in paired {
            let kept = !self.engine.define_volume(volume, other) && !self.engine.remove_volume(volume);
            ensure(kept, || {
                format!("volume {} was resized or removed, and is in a pair", volume.0)
            })?;
            self.counts.volumes_kept += 1;
        }
        Ok(())
    }

    pub(crate) fn answer(&mut self, id: CommandId, result: &Result<Summary, Refused>) -> Checked {
        let issued = self
            .commands
            .remove(&id)
            .ok_or_else(|| Broken(format!("a second answer to {id:?}")))?;
        self.counts.commands += u64::from(issued.changed);
        self.oracle.durable(self.journal.durable());
        let lost = matches!(
            result,
            Err(Refused {
                why: Why::Journal,
                ..
            })
        );
        if !lost {
            self.oracle.answered(id, result.is_ok());
        }
        ensure(!lost || self.journal.failed(), || {
            format!("{id:?} was refused for the journal, which works")
        })?;
        // One that found its work done by another may be answered when the other could be.
        let relies = |pending: &Pending| {
            pending.command.is_some_and(|other| other < id) && pending.concerns(&issued.command)
        };
        let early = result.is_ok() && !issued.changed && !is_dry_run(&issued.command);
        ensure(!(early && self.oracle.pending.iter().any(relies)), || {
            format!("{id:?} relies on a change that is not durable")
        })?;
        let undone = self
            .oracle
            .pending
            .iter()
            .any(|pending| pending.command == Some(id));
        // An image that could not be flushed: the command is in force all the same.
        let in_force = result
            .as_ref()
            .map_or_else(|refused| matches!(refused.why, Why::Unstable { .. }), |_| true);
        ensure(!(in_force && undone), || {
            format!("{id:?} was answered before it was durable")
        })?;
        ensure(in_force || lost || !issued.changed, || {
            format!("{id:?} was refused, but changed something")
        })?;
        let Command::Pair {
            verb,
            dry_run,
            members,
        } = &issued.command
        else {
            return Ok(());
        };
        ensure(!(*dry_run && issued.changed), || {
            format!("{id:?} was a dry run, but changed something")
        })?;
        if let Err(Refused {
            member,
            why: Why::State { state, .. },
        }) = result
        {
            let cell = decide(*state, *verb);
            ensure(cell == Decision::Refuse, || {
                format!(
                    "{verb:?} of {:?} was refused in {state}, which accepts it",
                    members[*member]
                )
            })?;
        }
        Ok(())
    }
}

fn is_dry_run(command: &Command) -> bool {
    matches!(
        command,
        Command::Pair { dry_run: true, .. } | Command::Config { dry_run: true, .. }
    )
}

/// Can a pair get from one state to the other at all? (The cells of the table are the engine's tests.)
fn reachable(from: PairState, to: PairState) -> bool {
    use PairState::{Copy, ProtectedRestoring, Restoring, Simplex, Split, Splitting, Suspended};
    match to {
        Simplex | Copy => true,
        // DUPLEX and RESTORED: when a restore to the primary is running, the mirror is still owed its tracks.
        Splitting => matches!(from, Copy | PairState::Duplex | PairState::Restored),
        PairState::Duplex => from == Copy,
        PairState::Restored => from == Restoring,
        Restoring | ProtectedRestoring => matches!(from, Split | Suspended),
        Split => !matches!(from, Simplex | Copy | Restoring),
        Suspended => from != Simplex,
    }
}
