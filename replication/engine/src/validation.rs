//! Validation: would a command be accepted, and what would it do? Nothing changes here, so all members of a command are looked at
//! before anything does. What the verbs ask of the other pairs is in `verbs`.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    change::Decided,
    command::{Command, Condition, Refused, Summary, Verb, Why},
    engine::Engine,
    ids::{PairId, VolumeId},
    journal::{Hold, VolumeConfig},
    state::PairState,
    transition_table::{self, Decision},
};

/// What an accepted command does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accepted {
    pub(crate) decided: Decided,
    pub(crate) summary: Summary,
    /// Volumes whose families must be idle first.
    pub(crate) joins: Vec<VolumeId>,
    /// Volumes that hold the images taken or restored, and must be stable before the answer.
    pub(crate) images: BTreeSet<VolumeId>,
}

/// The tree as it is becoming while the members of one command are looked at.
#[derive(Clone, Default)]
pub(crate) struct Scratch {
    pub(crate) above: BTreeMap<VolumeId, VolumeId>,
    /// Primaries being restored by members before.
    pub(crate) restoring: BTreeSet<VolumeId>,
    /// Mirrors that these restores made active.
    pub(crate) active: BTreeSet<VolumeId>,
    /// Primaries of protected restores that members before stop.
    pub(crate) stopped: BTreeSet<VolumeId>,
    /// Primaries that members before take an image of.
    pub(crate) imaged: BTreeSet<VolumeId>,
    /// Mirrors named so far.
    pub(crate) seen: BTreeSet<VolumeId>,
}

impl Engine {
    pub(crate) fn validate(&self, command: &Command) -> Result<Accepted, Refused> {
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
            Command::Remote { pair, act, .. } => {
                self.remote(*pair, act).map_err(|why| Refused { member: 0, why })
            }
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
}

pub(crate) fn conflict<T>(reason: String) -> Result<T, Why> {
    Err(Why::Conflict { reason })
}
