//! Commands: the queue, validation of all members before anything changes, and what an accepted one does.
//!
//! Commands are taken one by one, in the order they came. One that joins or parts families waits at the head of the queue until the
//! families are idle, and is validated again then, for faults may have come in between.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    change::{Answer, Decided, PairChange},
    command::{Command, Condition, Refused, Summary, Verb, Why},
    effects::{Effect, Effects},
    engine::Engine,
    ids::{CommandId, PairId, VolumeId},
    job::Wait,
    journal::{Hold, PairMeta, VolumeConfig},
    pair_bits::Change,
    state::PairState,
    transition_table::{self, Decision, Transition},
};

/// A command that waits for its turn.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) id: CommandId,
    pub(crate) command: Command,
    pub(crate) now_ms: u64,
}

/// What an accepted command does.
#[derive(Debug, Clone, Default)]
struct Accepted {
    decided: Decided,
    summary: Summary,
    /// Volumes whose families must be idle first.
    joins: Vec<VolumeId>,
    /// Volumes that hold the images taken or restored, and must be stable before the answer.
    images: BTreeSet<VolumeId>,
}

/// The tree as it is becoming while the members of one command are looked at.
#[derive(Clone, Default)]
struct Scratch {
    above: BTreeMap<VolumeId, VolumeId>,
    /// Primaries being restored by members before.
    restoring: BTreeSet<VolumeId>,
    /// Mirrors that these restores made active.
    active: BTreeSet<VolumeId>,
    /// Primaries of protected restores that members before stop.
    stopped: BTreeSet<VolumeId>,
    /// Primaries that members before take an image of.
    imaged: BTreeSet<VolumeId>,
    /// Mirrors named so far.
    seen: BTreeSet<VolumeId>,
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
            // A no-op says that something is in force already: it waits until that is durable.
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

    /// Is a change of one of the command's volumes not durable yet?
    fn is_changing(&self, command: &Command) -> bool {
        let shut = |id: &VolumeId| self.volumes.get(id).is_some_and(|volume| volume.gate > 0);
        match command {
            Command::Config { volume, .. } => shut(volume),
            Command::Pair { members, .. } => members
                .iter()
                .any(|(primary, mirror)| shut(primary) || shut(mirror)),
        }
    }

    fn apply(&mut self, id: CommandId, accepted: Accepted, out: &mut Effects) {
        let left = 1 + accepted.images.len();
        self.answers.insert(
            id,
            Answer {
                summary: accepted.summary,
                left,
                unstable: None,
            },
        );
        self.make(accepted.decided, Some(id), out);
        for volume in accepted.images {
            let token = self.token(Wait::SplitFlush { volume, command: id });
            out.push(Effect::Flush { token, volume });
        }
    }

    fn validate(&self, command: &Command) -> Result<Accepted, Refused> {
        if self.journal_failed {
            return Err(Refused {
                member: 0,
                why: Why::Journal,
            });
        }
        match command {
            Command::Config {
                condition, volume, ..
            } => self
                .configure(*condition, *volume)
                .map_err(|why| Refused { member: 0, why }),
            Command::Pair { verb, members, .. } => {
                let mut scratch = Scratch {
                    above: self
                        .pairs
                        .iter()
                        .map(|(id, pair)| (id.0, pair.meta.primary))
                        .collect(),
                    ..Scratch::default()
                };
                let mut accepted = Accepted::default();
                for (member, (primary, mirror)) in members.iter().enumerate() {
                    self.member_of(*verb, *primary, *mirror, &mut scratch, &mut accepted)
                        .map_err(|why| Refused { member, why })?;
                }
                Ok(accepted)
            }
        }
    }

    /// What a command would change that needs no family to be idle; `None` if it would be refused.
    pub(crate) fn decide_alone(&self, command: &Command) -> Option<Decided> {
        let accepted = self.validate(command).ok()?;
        accepted.joins.is_empty().then_some(accepted.decided)
    }

    fn configure(&self, condition: Condition, volume: VolumeId) -> Result<Accepted, Why> {
        let config = self
            .volumes
            .get(&volume)
            .ok_or(Why::NoSuchVolume { volume })?
            .config;
        let changed = match condition {
            Condition::Hold => VolumeConfig {
                hold: Hold::Strict,
                ..config
            },
            Condition::Release => VolumeConfig {
                hold: Hold::None,
                ..config
            },
            Condition::NotReady => VolumeConfig {
                not_ready: true,
                ..config
            },
            Condition::Ready => VolumeConfig {
                not_ready: false,
                ..config
            },
        };
        let configs = if changed == config {
            Vec::new()
        } else {
            vec![changed]
        };
        Ok(Accepted {
            decided: Decided {
                configs,
                ..Decided::default()
            },
            ..Accepted::default()
        })
    }

    fn member_of(
        &self,
        verb: Verb,
        primary: VolumeId,
        mirror: VolumeId,
        scratch: &mut Scratch,
        accepted: &mut Accepted,
    ) -> Result<(), Why> {
        self.volumes_accept(primary, mirror)?;
        if !scratch.seen.insert(mirror) {
            return conflict(format!("volume {} is named as a mirror twice", mirror.0));
        }
        let id = PairId(mirror);
        let known = self.pairs.get(&id).filter(|pair| pair.meta.primary == primary);
        if known.is_none() {
            return match verb {
                Verb::Establish { .. } => self.new_pair(primary, mirror, scratch, accepted),
                Verb::Split { .. } | Verb::Restore { .. } | Verb::Cancel { .. } => {
                    Err(Why::NoSuchPair { primary, mirror })
                }
            };
        }
        let state = known.map_or(PairState::Simplex, |pair| pair.meta.state);
        match transition_table::decide(state, verb) {
            Decision::Refuse => Err(Why::State {
                verb: transition_table::name(verb),
                state,
                accepted: transition_table::accepted(state),
            }),
            Decision::NoOp => {
                if let Verb::Split {
                    strict_hold: true, ..
                } = verb
                {
                    accepted
                        .decided
                        .configs
                        .extend(self.with_hold(mirror, Hold::Strict));
                }
                Ok(())
            }
            Decision::Go(transition) => match verb {
                Verb::Establish { .. } => self.establish(id, transition, accepted),
                Verb::Split {
                    instant, strict_hold, ..
                } => self.split(id, transition, (instant, strict_hold), scratch, accepted),
                Verb::Restore { .. } => self.restore(id, transition, scratch, accepted),
                Verb::Cancel { .. } => self.cancel(id, transition, accepted),
            },
        }
    }

    /// What both volumes must be for any command.
    fn volumes_accept(&self, primary: VolumeId, mirror: VolumeId) -> Result<(), Why> {
        let known = |volume| self.volumes.get(&volume).ok_or(Why::NoSuchVolume { volume });
        let (p, m) = (known(primary)?, known(mirror)?);
        if primary == mirror {
            return conflict(format!("volume {} cannot be a mirror of itself", primary.0));
        }
        for (volume, known) in [(mirror, m), (primary, p)] {
            if known.config.not_ready {
                return Err(Why::NotReady { volume });
            }
            if known.config.hold == Hold::Strict {
                return Err(Why::Held { volume });
            }
        }
        Ok(())
    }

    fn new_pair(
        &self,
        primary: VolumeId,
        mirror: VolumeId,
        scratch: &mut Scratch,
        accepted: &mut Accepted,
    ) -> Result<(), Why> {
        let (p, m) = (self.volume(primary), self.volume(mirror));
        for (same, what) in [
            (p.spec.bytes == m.spec.bytes, "capacity"),
            (p.spec.block_size == m.spec.block_size, "block size"),
        ] {
            if !same {
                return Err(Why::Geometry {
                    a: primary,
                    b: mirror,
                    what,
                });
            }
        }
        if let Some(old) = self.pairs.get(&PairId(mirror)) {
            let settled = matches!(old.meta.state, PairState::Split | PairState::Suspended);
            if !settled || m.config.hold != Hold::None {
                return Err(Why::OtherStandard {
                    mirror,
                    standard: old.meta.primary,
                });
            }
        }
        self.not_busy_below(mirror)?;
        let mut above = Some(primary);
        while let Some(at) = above {
            if at == mirror {
                return conflict(format!(
                    "volume {} is, over its pairs, a mirror of volume {}",
                    primary.0, mirror.0
                ));
            }
            above = scratch.above.get(&at).copied();
        }
        scratch.above.insert(mirror, primary);
        let limit = self.config.limits.pairs_per_volume;
        for volume in [primary, mirror] {
            let pairs = scratch.above.values().filter(|p| **p == volume).count()
                + usize::from(scratch.above.contains_key(&volume));
            if pairs > limit as usize {
                return Err(Why::TooManyPairs { volume, limit });
            }
        }
        let meta = PairMeta {
            primary,
            state: PairState::Copy,
            mirror_ready: false,
            full: true,
            inconsistent: true,
            reason: 0,
            split_at_ms: 0,
        };
        accepted.decided.pairs.push(PairChange {
            pair: PairId(mirror),
            meta,
            change: Change::OweAll,
        });
        accepted.summary.tracks += m.geometry.tracks();
        accepted.joins.extend([primary, mirror]);
        Ok(())
    }

    /// A volume that becomes an established mirror must not be the primary of a copy that reads its owed tracks
    /// elsewhere: its content is about to be replaced under it.
    fn not_busy_below(&self, volume: VolumeId) -> Result<(), Why> {
        for below in &self.volume(volume).below {
            let pair = &self.pairs[&PairId(*below)];
            if pair.reads_through() {
                return conflict(format!(
                    "volume {} is the primary of volume {}, which is {}: wait until that has ended",
                    volume.0, below.0, pair.meta.state
                ));
            }
        }
        Ok(())
    }

    fn establish(&self, id: PairId, transition: Transition, accepted: &mut Accepted) -> Result<(), Why> {
        self.not_busy_below(id.0)?;
        let pair = &self.pairs[&id];
        let full = transition.change == Change::OweAll;
        let meta = PairMeta {
            state: transition.to,
            mirror_ready: false,
            full,
            inconsistent: true,
            reason: 0,
            ..pair.meta
        };
        accepted.summary.tracks += self.owed_after(id, transition.change);
        accepted.decided.configs.extend(self.with_hold(id.0, Hold::None));
        accepted.decided.pairs.push(PairChange {
            pair: id,
            meta,
            change: transition.change,
        });
        Ok(())
    }

    fn split(
        &self,
        id: PairId,
        transition: Transition,
        (instant, strict_hold): (bool, bool),
        scratch: &mut Scratch,
        accepted: &mut Accepted,
    ) -> Result<(), Why> {
        let pair = &self.pairs[&id];
        let primary = pair.meta.primary;
        if pair.reads_through() {
            // FORCE of a protected restore.
            self.nobody_depends(id)?;
            scratch.stopped.insert(primary);
        }
        let mut to = transition.to;
        if pair.meta.state.keeps_two_legs() {
            scratch.imaged.insert(primary);
            self.nothing_to_come_above(pair.meta.primary)?;
            let to_come = self.to_come(primary, id).count();
            if to_come > 0 {
                to = PairState::Splitting;
            }
            accepted.summary.tracks += pair.bits.todo.count() + to_come;
            accepted.images.insert(id.0);
        }
        if scratch.stopped.contains(&primary) && scratch.imaged.contains(&primary) {
            return conflict(format!(
                "a restore of volume {} cannot be stopped at the instant that another mirror takes its image",
                primary.0
            ));
        }
        let splitting = to == PairState::Splitting;
        if splitting {
            accepted.images.insert(primary);
        }
        let meta = PairMeta {
            state: to,
            mirror_ready: !splitting || instant,
            full: pair.meta.full && splitting,
            inconsistent: splitting,
            reason: 0,
            split_at_ms: self.now_ms,
            ..pair.meta
        };
        let hold = if strict_hold { Hold::Strict } else { Hold::Own };
        accepted.decided.configs.extend(self.with_hold(id.0, hold));
        accepted.decided.pairs.push(PairChange {
            pair: id,
            meta,
            change: transition.change,
        });
        Ok(())
    }

    /// A mirror that a copy has not filled yet holds an image of nothing: a split from it would too. And one that is kept equal to a
    /// volume which is still owed tracks has an image that is nowhere yet; a split from it would have to follow that
    /// through two pairs that may part meanwhile. Both wait.
    fn nothing_to_come_above(&self, primary: VolumeId) -> Result<(), Why> {
        let mut at = primary;
        while let Some(above) = self.volume(at).above {
            let pair = &self.pairs[&PairId(at)];
            if !pair.meta.state.keeps_two_legs() {
                return Ok(());
            }
            if pair.meta.state == PairState::Copy && !pair.bits.todo.is_empty() {
                return conflict(format!(
                    "volume {} is itself being copied from volume {}: wait until that has ended",
                    at.0, above.0
                ));
            }
            if let Some(owed) = self.incoming(above).find(|id| *id != PairId(at)) {
                return conflict(format!(
                    "volume {} gets tracks over the pair with mirror {}: wait until that has ended",
                    above.0, owed.0.0
                ));
            }
            at = above;
        }
        Ok(())
    }

    fn nobody_depends(&self, id: PairId) -> Result<(), Why> {
        match self.dependents(id).first() {
            None => Ok(()),
            Some(other) => conflict(format!(
                "the pair with mirror {} is still owed tracks that this copy brings: wait until it has them",
                other.0.0
            )),
        }
    }

    fn restore(
        &self,
        id: PairId,
        transition: Transition,
        scratch: &mut Scratch,
        accepted: &mut Accepted,
    ) -> Result<(), Why> {
        let pair = &self.pairs[&id];
        let primary = pair.meta.primary;
        let standard = self.volume(primary);
        if let Some(above) = standard.above
            && self.pairs[&PairId(primary)].meta.state.keeps_two_legs()
        {
            return conflict(format!(
                "volume {} is an established mirror of volume {}: split that pair first",
                primary.0, above.0
            ));
        }
        let running = standard
            .below
            .iter()
            .find(|m| self.pairs[&PairId(**m)].meta.state.restores());
        if let Some(other) = running {
            return conflict(format!(
                "volume {} is being restored from volume {} already",
                primary.0, other.0
            ));
        }
        if !scratch.restoring.insert(primary) {
            return conflict(format!(
                "volume {} can be restored from one mirror at a time",
                primary.0
            ));
        }
        let protected = transition.to == PairState::ProtectedRestoring;
        if !protected {
            scratch.active.insert(id.0);
        }
        for (volume, set) in [(id.0, &scratch.restoring), (primary, &scratch.active)] {
            if set.contains(&volume) {
                return conflict(format!(
                    "volume {} has a part in another restore of this command",
                    volume.0
                ));
            }
        }
        // What this mirror holds is not all there yet, or is being replaced.
        if let Some(owed) = self.incoming(id.0).next() {
            return conflict(format!(
                "volume {} is itself being restored from volume {}: wait until that has ended",
                id.0.0, owed.0.0
            ));
        }
        let meta = PairMeta {
            state: transition.to,
            mirror_ready: protected && pair.meta.mirror_ready,
            full: transition.change == Change::OweAll,
            inconsistent: false,
            reason: 0,
            ..pair.meta
        };
        accepted.summary.tracks += self.owed_after(id, transition.change);
        // Tracks that are equal already are not copied: what the primary holds there must not be lost with its cache.
        accepted.images.insert(primary);
        accepted.decided.restored.push(primary);
        accepted.decided.pairs.push(PairChange {
            pair: id,
            meta,
            change: transition.change,
        });
        Ok(())
    }

    fn cancel(&self, id: PairId, transition: Transition, accepted: &mut Accepted) -> Result<(), Why> {
        self.nobody_depends(id)?;
        let pair = &self.pairs[&id];
        let meta = PairMeta {
            state: PairState::Simplex,
            mirror_ready: true,
            ..pair.meta
        };
        let mirror = self.volume(id.0).config;
        let destination = pair.destination(id);
        let half = pair.meta.state.is_copying();
        let half_mirror = half && destination == id.0;
        let changed = VolumeConfig {
            hold: Hold::None,
            inconsistent: mirror.inconsistent || half_mirror || pair.meta.inconsistent,
            ..mirror
        };
        if changed != mirror {
            accepted.decided.configs.push(changed);
        }
        let primary = self.volume(pair.meta.primary).config;
        if half && !half_mirror && !primary.inconsistent {
            accepted.decided.configs.push(VolumeConfig {
                inconsistent: true,
                ..primary
            });
        }
        accepted.decided.pairs.push(PairChange {
            pair: id,
            meta,
            change: transition.change,
        });
        accepted.joins.extend([pair.meta.primary, id.0]);
        Ok(())
    }

    /// How many tracks the pair's copy has left right after this change.
    fn owed_after(&self, id: PairId, change: Change) -> u64 {
        let pair = &self.pairs[&id];
        let mut bits = pair.bits.clone();
        bits.primary_changed.union(&self.to_come(pair.meta.primary, id));
        bits.apply(change);
        bits.todo.count()
    }
}

fn is_dry(command: &Command) -> bool {
    match command {
        Command::Pair { dry_run, .. } | Command::Config { dry_run, .. } => *dry_run,
    }
}

fn conflict<T>(reason: String) -> Result<T, Why> {
    Err(Why::Conflict { reason })
}
