//! Remote pairs: a pair of which one volume is *foreign*, that is another system's.
//!
//! # The leader
//!
//! The system that has the primary leads. For its engine the far volume is a mirror like any other: it has legs to it, copies to it
//! and from it, flushes it before regions cool, and marks what it does not have. Only the shell knows that effects on it go over a
//! link. So every promise about states, marks, images and crashes is kept by the code that keeps it for local pairs.
//!
//! A link that is lost is one fault for all that was under way, and for what the far side was told and has perhaps not made
//! stable. [`Input::Link`](crate::effects::Input::Link) marks the hot regions that were written there and suspends the pair, with two
//! exceptions that the transition table has: a pair that is apart stays so, and a protected restore waits, for its image is on the far side only.
//!
//! Hosts go on meanwhile, and leave marks; unless the mirror is *needed* ([`Engine::set_needed`]). Then as long as a fault keeps the pair
//! SUSPENDED, writes and flushes of hosts are refused, and so are those that were on their way when the fault came: what hosts were told is done
//! is on both sides. That a refused write may have reached one of them nobody relies on, and its track is marked. What comes over a link is
//! another system's affair, and passes.
//!
//! A mirror that is written in async mode *trails* ([`Engine::set_trailing`]). SYNCHRONIZE CACHE and FUA make this side stable and do not wait for
//! it, for what is on its way there may be gigabytes. Nothing is counted on for that: a region stays hot until a flush of the engine's own, which
//! waits for all of it, has ended. So do SPLIT and a settle. Only what this volume would have to be read from after a crash, in a restore, is
//! flushed all the same.
//!
//! # The follower
//!
//! The system that has the mirror knows the same pair with a foreign primary. It copies nothing and decides nothing: it is told. Its
//! pair is COPY or DUPLEX (established: the volume answers no host, and takes writes from the link), SPLIT (the volume is its
//! hosts', whose writes leave marks) or SUSPENDED (a fault of its own). What the link writes keeps its regions hot like any
//! write, so that a crash marks here what may be lost here; and it reaches the volume's own mirrors and generations like any write.
//!
//! In COPY the follower's `todo` is not what is left to copy, which only the leader knows, but what it has told the leader that it may
//! differ in. It is kept until the leader says that the two are equal ([`RemoteAct::Arrive`]), so whatever is lost on the
//! way, it is told again.
//!
//! # Changing parts
//!
//! SWAP dissolves the pair and makes it anew the other way round, in one record. Together, both are DUPLEX before and after.
//! Alone, the follower becomes a leader that is SUSPENDED and marks what its hosts write; it must have been DUPLEX, for the image of a
//! copy that was under way is nobody's.
//!
//! A leader that has stopped, before the other has begun, may lead again ([`RemoteAct::Regain`]): SUSPENDED, with what a crash has marked meanwhile.

use std::collections::BTreeSet;

use crate::{
    change::PairChange,
    command::{RemoteAct, Why},
    effects::Effects,
    engine::Engine,
    family::Volume,
    faults::LINK_DOWN,
    ids::{PairId, Region, VolumeId},
    journal::{Hold, MarkWord, PairMeta, StateChange},
    pair_bits::{Change, Which},
    state::PairState,
    track::TrackRange,
    validation::{Accepted, conflict},
};

impl Engine {
    /// Can effects on this volume be performed now?
    pub(crate) fn is_within_reach(&self, volume: VolumeId) -> bool {
        !volume.is_foreign() || self.linked.contains(&volume)
    }

    /// Is the volume the established mirror of a foreign primary?
    pub fn follows(&self, volume: VolumeId) -> bool {
        self.pairs.get(&PairId(volume)).is_some_and(|pair| {
            pair.meta.primary.is_foreign() && pair.meta.state.keeps_two_legs() && !pair.meta.state.restores()
        })
    }

    /// Is a mirror away that hosts of this volume, or of one that is kept equal to it, must not write without?
    pub(crate) fn misses_a_mirror(&self, volume: VolumeId) -> bool {
        if self.needed.is_empty() {
            return false;
        }
        let away = |mirror: &VolumeId| {
            let meta = self.pairs[&PairId(*mirror)].meta;
            self.needed.contains(mirror) && meta.state == PairState::Suspended && meta.reason != 0
        };
        let equal = self.with_equal_mirrors(volume);
        equal
            .iter()
            .any(|volume| self.volume(*volume).below.iter().any(away))
    }

    /// A link came or went.
    pub(crate) fn link(&mut self, volume: VolumeId, up: bool, out: &mut Effects) {
        if up {
            self.linked.insert(volume);
            return;
        }
        self.linked.remove(&volume);
        let id = PairId(volume);
        let Some(primary) = self.pairs.get(&id).map(|pair| pair.meta.primary) else {
            return;
        };
        let geometry = self.volume(primary).geometry;
        for region in self.forget_leg(primary, volume) {
            self.set_mark(id, Which::PrimaryChanged, geometry.tracks_of(region));
        }
        let state = self.pairs[&id].meta.state;
        if state.keeps_two_legs() || state == PairState::Splitting {
            self.suspend(id, LINK_DOWN, TrackRange::new(0, 0), out);
        }
    }

    /// All that went to this foreign volume before it led has arrived there. Until then the regions in which that was stay hot, for a loss of
    /// the link to mark them should the parts change back.
    pub fn has_arrived(&mut self, leader: VolumeId) {
        let follows = |(id, volume): (&VolumeId, &Volume)| (volume.above == Some(leader)).then_some(*id);
        let following: Vec<_> = self.volumes.iter().filter_map(follows).collect();
        for local in following {
            self.forget_leg(local, leader);
        }
    }

    /// What `RemoteAct` does to the pair, if it is accepted.
    pub(crate) fn remote(
        &self,
        (primary, mirror): (VolumeId, VolumeId),
        act: &RemoteAct,
    ) -> Result<Accepted, Why> {
        let id = PairId(mirror);
        let known = self.pairs.get(&id).filter(|pair| pair.meta.primary == primary);
        let Some(meta) = known.map(|pair| pair.meta) else {
            return Err(Why::NoSuchPair { primary, mirror });
        };
        let mut accepted = Accepted::default();
        match act {
            RemoteAct::Adopt(changed) => {
                if !matches!(meta.state, PairState::Split | PairState::Suspended) {
                    return conflict(format!("a pair that is {} adopts no changes", meta.state));
                }
                self.changed_there(id, changed, &mut accepted)?;
            }
            RemoteAct::Owe(differing) => {
                let equal = matches!(
                    meta.state,
                    PairState::Copy | PairState::Duplex | PairState::Restored
                );
                if !equal || primary.is_foreign() {
                    return conflict(format!(
                        "the pair is {}: what differs is copied in one that is established, where it is led",
                        meta.state
                    ));
                }
                self.changed_there(id, differing, &mut accepted)?;
                if !accepted.decided.adopted.is_empty() {
                    accepted.summary.tracks = differing.iter().map(|run| run.len()).sum();
                    accepted.decided.pairs.push(PairChange {
                        pair: id,
                        meta: PairMeta {
                            state: PairState::Copy,
                            mirror_ready: false,
                            inconsistent: true,
                            reason: 0,
                            resumes: false,
                            ..meta
                        },
                        change: Change::OweUnion,
                    });
                }
            }
            RemoteAct::Depart | RemoteAct::Arrive if !self.follows(mirror) => {
                return conflict(format!("the pair is {} and follows nobody", meta.state));
            }
            RemoteAct::Depart => {
                if meta.state != PairState::Copy {
                    let meta = PairMeta {
                        state: PairState::Copy,
                        inconsistent: true,
                        ..meta
                    };
                    let change = Change::Keep;
                    accepted.decided.pairs.push(PairChange {
                        pair: id,
                        meta,
                        change,
                    });
                }
            }
            RemoteAct::Arrive => {
                if meta.state == PairState::Copy {
                    accepted.decided.pairs.push(PairChange {
                        pair: id,
                        meta: PairMeta {
                            state: PairState::Duplex,
                            full: false,
                            inconsistent: false,
                            ..meta
                        },
                        change: Change::Equal,
                    });
                    let config = self.volume(mirror).config;
                    if config.inconsistent {
                        accepted.decided.configs.push(crate::journal::VolumeConfig {
                            inconsistent: false,
                            ..config
                        });
                    }
                }
            }
            RemoteAct::Suspend => {
                if !matches!(
                    meta.state,
                    PairState::Copy | PairState::Duplex | PairState::Suspended
                ) {
                    return conflict(format!(
                        "the pair is {}: suspend is for pairs that copy or are duplex",
                        meta.state
                    ));
                }
                if meta.state != PairState::Suspended || meta.resumes {
                    let half = meta.state == PairState::Copy;
                    accepted.decided.pairs.push(PairChange {
                        pair: id,
                        meta: PairMeta {
                            state: PairState::Suspended,
                            reason: 0,
                            resumes: false,
                            full: false,
                            inconsistent: half || meta.inconsistent,
                            ..meta
                        },
                        change: Change::StopIntoPrimary,
                    });
                }
            }
            RemoteAct::Yield => {
                let bits = &self.pairs[&id].bits;
                let nothing =
                    bits.primary_changed.is_empty() && bits.mirror_changed.is_empty() && bits.todo.is_empty();
                if meta.state != PairState::Suspended || !nothing || primary.is_foreign() {
                    return conflict(format!(
                        "the pair is {}, and holds what the other side does not have",
                        meta.state
                    ));
                }
                let follows = PairMeta {
                    state: PairState::Copy,
                    inconsistent: true,
                    ..turned_round(id, meta)
                };
                self.turn_round(id, meta, vec![(follows, Change::Keep)], &mut accepted);
            }
            RemoteAct::Swap { alone } => self.swap(id, meta, *alone, &mut accepted)?,
            RemoteAct::Regain => {
                let was = PairMeta {
                    state: if meta.state == PairState::Copy {
                        PairState::Duplex
                    } else {
                        meta.state
                    },
                    ..meta
                };
                self.swap(id, was, true, &mut accepted)?;
                let bits = &self.pairs[&id].bits;
                let mut marks = bits.owed();
                marks.union(&bits.primary_changed);
                marks.union(&bits.mirror_changed);
                let turned = PairId(primary);
                accepted
                    .decided
                    .adopted
                    .extend(marks.runs().map(|run| (turned, run)));
            }
        }
        Ok(accepted)
    }

    fn changed_there(&self, id: PairId, changed: &[TrackRange], accepted: &mut Accepted) -> Result<(), Why> {
        let tracks = self.volume(id.0).geometry.tracks();
        if changed.iter().any(|run| run.end > tracks) {
            return conflict(format!(
                "the volume has {tracks} tracks, not as many as the far side says"
            ));
        }
        let runs = changed.iter().filter(|run| !run.is_empty());
        accepted.decided.adopted.extend(runs.map(|run| (id, *run)));
        Ok(())
    }

    fn swap(&self, id: PairId, meta: PairMeta, alone: bool, accepted: &mut Accepted) -> Result<(), Why> {
        let (primary, mirror) = (meta.primary, id.0);
        let equal = matches!(meta.state, PairState::Duplex | PairState::Restored);
        let follower = primary.is_foreign();
        if !follower && !mirror.is_foreign() {
            return conflict("both volumes are here: swap is for remote pairs".to_owned());
        }
        if alone && !follower {
            return conflict(format!("volume {primary} is the primary already"));
        }
        if !equal {
            return conflict(format!(
                "the pair is {}: its volumes are not known to be equal{}",
                meta.state,
                if alone {
                    "; `cancel --force` frees the mirror as it is"
                } else {
                    ""
                }
            ));
        }
        let local = if follower { mirror } else { primary };
        let beside = self
            .volume(local)
            .below
            .iter()
            .find(|below| !below.is_foreign() && self.pairs[&PairId(**below)].reads_through());
        if let Some(beside) = beside {
            return conflict(format!(
                "volume {local} is in a copy with volume {beside}: wait until that has ended"
            ));
        }
        let new = turned_round(id, meta);
        let mut changes = vec![(new, Change::Equal)];
        if alone {
            let suspended = PairMeta {
                state: PairState::Suspended,
                reason: LINK_DOWN,
                // Once the other side has given up its part, this one is right for certain.
                resumes: true,
                ..new
            };
            changes.push((suspended, Change::StopIntoPrimary));
        }
        self.turn_round(id, meta, changes, accepted);
        Ok(())
    }

    /// The pair is dissolved and made anew the other way round, with these changes.
    fn turn_round(
        &self,
        id: PairId,
        meta: PairMeta,
        changes: Vec<(PairMeta, Change)>,
        accepted: &mut Accepted,
    ) {
        let (primary, mirror) = (meta.primary, id.0);
        let gone = PairMeta {
            state: PairState::Simplex,
            mirror_ready: true,
            ..meta
        };
        let pairs = &mut accepted.decided.pairs;
        pairs.push(PairChange {
            pair: id,
            meta: gone,
            change: Change::Keep,
        });
        let turned = PairId(primary);
        pairs.extend(changes.into_iter().map(|(meta, change)| PairChange {
            pair: turned,
            meta,
            change,
        }));
        for volume in [primary, mirror] {
            let config = self.volume(volume).config;
            if config.hold != Hold::None {
                accepted.decided.configs.push(crate::journal::VolumeConfig {
                    hold: Hold::None,
                    ..config
                });
            }
        }
        let local = if primary.is_foreign() { mirror } else { primary };
        accepted.joins.extend([primary, mirror]);
        accepted.decided.restored.push(local);
    }

    /// Marks that the far side kept, or that are kept through a change of parts, in memory and in the record: of the pairs that there are. Those of
    /// pairs that the change makes come after it.
    pub(crate) fn adopt_changes(
        &mut self,
        adopted: &mut Vec<(PairId, TrackRange)>,
        record: &mut StateChange,
    ) {
        let mut regions: BTreeSet<(PairId, Region)> = BTreeSet::new();
        adopted.retain(|(id, run)| {
            let known = self.pairs.contains_key(id);
            if known {
                self.set_mark(*id, Which::MirrorChanged, *run);
                regions.extend(run.regions().map(|region| (*id, region)));
            }
            !known
        });
        record
            .marks
            .extend(regions.into_iter().map(|(pair, region)| MarkWord {
                pair,
                which: Which::MirrorChanged,
                region,
                bits: self.pairs[&pair].bits.word(Which::MirrorChanged, region),
            }));
    }
}

/// DUPLEX, with the mirror as the primary.
pub(crate) fn turned_round(id: PairId, meta: PairMeta) -> PairMeta {
    PairMeta {
        primary: id.0,
        state: PairState::Duplex,
        mirror_ready: false,
        full: false,
        inconsistent: false,
        reason: 0,
        resumes: false,
        split_at_ms: meta.split_at_ms,
    }
}
