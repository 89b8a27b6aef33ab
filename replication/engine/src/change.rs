//! A change of state: of all members of a command, or of one pair by itself, in memory within one step and in the journal as
//! one record.
//!
//! What a change permits is in force at once. What it destroys waits: until the record is durable the gates of all
//! volumes of the families concerned are closed, which holds back new writes and copies, not reads.

use std::collections::BTreeSet;

use crate::{
    bitmap::Bitmap,
    effects::{Effect, Effects},
    engine::Engine,
    events::Event,
    ids::{CommandId, PairId, Region, VolumeId},
    job::{JobId, Wait},
    journal::{Hold, Member, PairMeta, Record, StateChange, VolumeConfig},
    mutation::Mutation,
    pair::Pair,
    pair_bits::{Change, PairBits, Which},
    state::PairState,
    track::TrackRange,
    transition_table::Transition,
};

/// A pair's part in a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PairChange {
    pub(crate) pair: PairId,
    /// The pair afterwards.
    pub(crate) meta: PairMeta,
    pub(crate) change: Change,
}

/// A change of any number of pairs and volumes, decided and not yet made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decided {
    pub(crate) pairs: Vec<PairChange>,
    pub(crate) configs: Vec<VolumeConfig>,
    /// The primaries whose content is another from now on.
    pub(crate) restored: Vec<VolumeId>,
    /// Tracks that count as changed on the mirror, besides (a far side's marks).
    pub(crate) adopted: Vec<(PairId, TrackRange)>,
}

impl Decided {
    pub(crate) fn is_nothing(&self) -> bool {
        self.pairs.is_empty() && self.configs.is_empty() && self.adopted.is_empty()
    }
}

impl Engine {
    /// Makes a change, in memory at once, and journals it.
    pub(crate) fn make(&mut self, decided: Decided, command: Option<CommandId>, out: &mut Effects) {
        if self.mutation == Some(Mutation::SplitMembersOneByOne) && decided.pairs.len() > 1 {
            return self.make_one_by_one(decided, command, out);
        }
        let concerned: BTreeSet<VolumeId> = decided
            .pairs
            .iter()
            .flat_map(|change| [change.meta.primary, change.pair.0])
            .chain(
                decided
                    .pairs
                    .iter()
                    .filter_map(|change| self.pairs.get(&change.pair))
                    .map(|p| p.meta.primary),
            )
            .chain(decided.configs.iter().map(|config| config.volume))
            .chain(decided.adopted.iter().map(|(pair, _)| pair.0))
            .collect();
        let replaced: BTreeSet<VolumeId> = decided
            .restored
            .iter()
            .copied()
            .chain(
                decided
                    .pairs
                    .iter()
                    .filter_map(|change| self.half_restored(change)),
            )
            .collect();
        let before: Vec<(VolumeId, bool, bool)> = concerned
            .iter()
            .map(|id| (*id, self.ready(*id), self.volume(*id).paired()))
            .collect();
        self.introduce(&concerned, out);

        let mut record = StateChange {
            at_ms: self.now_ms,
            configs: decided.configs.clone(),
            ..StateChange::default()
        };
        let mut adopted = decided.adopted;
        self.adopt_changes(&mut adopted, &mut record);
        let mut woken = Vec::new();
        for change in &decided.pairs {
            self.mark_what_is_still_to_come(change, &mut record);
            self.owe_what_is_not_stable(change);
            // Marks are replayed before the members that make their pair what it is: those of one that an earlier member makes would
            // come after it.
            if record.members.iter().all(|member| member.pair != change.pair) {
                self.mark_hot_words(change, &mut record);
            }
            let member = Member {
                pair: change.pair,
                meta: change.meta,
                change: change.change,
            };
            record.members.push(member);
            woken.append(&mut self.shift(change, out));
        }
        self.adopt_changes(&mut adopted, &mut record);
        for config in &decided.configs {
            self.volume_mut(config.volume).config = *config;
        }
        let gated = self.close_gates(&concerned);
        self.journal(
            Record::StateChange(record),
            Wait::Change {
                volumes: gated,
                command,
            },
            out,
        );
        self.wake(&mut woken);
        for change in &decided.pairs {
            if change.change == Change::Part {
                self.settle_for(change.pair, None, out);
            }
        }

        for (id, ready, paired) in before {
            if self.volume(id).paired() != paired {
                out.push(Effect::Member {
                    volume: id,
                    member: !paired,
                });
            }
            let now = self.ready(id);
            if now != ready || (now && replaced.contains(&id)) {
                out.push(Effect::Ready {
                    volume: id,
                    ready: now,
                });
            }
        }
    }

    /// The primary that this change leaves with a part of a restore only: until now its hosts saw all of what is restored, from now on
    /// what had not come yet is what it was before.
    fn half_restored(&self, change: &PairChange) -> Option<VolumeId> {
        let pair = self.pairs.get(&change.pair)?;
        let restoring = |state| matches!(state, PairState::Restoring | PairState::ProtectedRestoring);
        let stops = restoring(pair.meta.state) && !restoring(change.meta.state);
        (stops && !pair.bits.todo.is_empty()).then_some(pair.meta.primary)
    }

    /// The planted bug: each member has a record of its own.
    fn make_one_by_one(&mut self, decided: Decided, command: Option<CommandId>, out: &mut Effects) {
        let last = decided.pairs.len() - 1;
        for (index, change) in decided.pairs.into_iter().enumerate() {
            let own = |config: &&VolumeConfig| config.volume == change.pair.0;
            let configs = decided.configs.iter().filter(own).copied().collect();
            let one = Decided {
                pairs: vec![change],
                configs,
                restored: decided.restored.clone(),
                adopted: Vec::new(),
            };
            self.make(one, command.filter(|_| index == last), out);
        }
    }

    /// The journal learns of volumes before it hears of their pairs.
    fn introduce(&mut self, volumes: &BTreeSet<VolumeId>, out: &mut Effects) {
        for id in volumes {
            let volume = self.volume_mut(*id);
            if !core::mem::replace(&mut volume.introduced, true) {
                let record = Record::Volume {
                    volume: *id,
                    spec: volume.spec,
                };
                out.push(Effect::Journal { record, token: None });
            }
        }
    }

    /// Tracks that other pairs owe this volume: its content for hosts, though not its bytes yet.
    pub(crate) fn to_come(&self, volume: VolumeId, except: PairId) -> Bitmap {
        let mut tracks = Bitmap::new(self.volume(volume).geometry.tracks());
        for id in self.incoming(volume).filter(|id| *id != except) {
            tracks.union(&self.pairs[&id].bits.todo);
        }
        tracks
    }

    /// What a primary is *to hosts* counts, not its bytes. The image of a SPLIT has the tracks that are still to come to
    /// the primary, so the mirror is owed them too; and for a RESTORE they are tracks that the primary changed.
    fn mark_what_is_still_to_come(&mut self, change: &PairChange, record: &mut StateChange) {
        let which = match change.meta.state {
            PairState::Splitting => Which::Owed,
            PairState::Restoring | PairState::ProtectedRestoring => Which::PrimaryChanged,
            _ => return,
        };
        let to_come = self.to_come(change.meta.primary, change.pair);
        if to_come.is_empty() {
            return;
        }
        let era = self.names.next();
        let Some(pair) = self.pairs.get_mut(&change.pair) else {
            return;
        };
        // A copy under way may carry the bytes that are there now: it does not count as one of the image.
        pair.era = era;
        let mut regions: BTreeSet<Region> = BTreeSet::new();
        for run in to_come.runs() {
            regions.extend(run.regions());
            if let Some(pair) = self.pairs.get_mut(&change.pair) {
                pair.bits.unsettled.clear(run);
            }
            self.set_mark(change.pair, which, run);
        }
        let words = self.words(change.pair, regions);
        record
            .marks
            .extend(words.into_iter().filter(|word| word.which == which));
    }

    /// A split's image may be in the mirror's cache only: what was written to both legs since the last flush, which is in a hot
    /// region of the volume that was addressed. The primary may have it stable, by a flush of its own or because a restore
    /// brings it again; a split mirror would keep what it had before a power failure, without a mark. So these tracks
    /// count as copied and not settled: hosts' writes wait for the settle, and after a crash they are owed.
    fn owe_what_is_not_stable(&mut self, change: &PairChange) {
        // A follower has nowhere to read them again; what a crash takes from its image it marks.
        if change.change != Change::Part || change.meta.primary.is_foreign() {
            return;
        }
        let unsettled = self.not_stable_at(change.pair.0);
        let now = self.now;
        if let Some(pair) = self.pairs.get_mut(&change.pair).filter(|_| !unsettled.is_empty()) {
            for run in unsettled {
                pair.bits.unsettle(run);
            }
            pair.settle.begin_anew(now);
        }
    }

    /// The tracks that were written to this mirror, by way of any volume above, and may be in its cache only.
    pub(crate) fn not_stable_at(&self, mirror: VolumeId) -> Vec<TrackRange> {
        self.hot_of_those_above(mirror, Self::written_to)
    }

    /// Those of them that a write is on its way to.
    pub(crate) fn flying_tracks(&self, mirror: VolumeId) -> Vec<TrackRange> {
        self.hot_of_those_above(mirror, Self::flying_to)
    }

    fn hot_of_those_above(
        &self,
        mirror: VolumeId,
        regions: impl Fn(&Self, VolumeId, VolumeId) -> Vec<Region>,
    ) -> Vec<TrackRange> {
        let geometry = self.volume(mirror).geometry;
        let mut tracks = Vec::new();
        let mut at = Some(mirror);
        while let Some(volume) = at {
            let hot = regions(self, mirror, volume).into_iter();
            tracks.extend(hot.map(|region| geometry.tracks_of(region)));
            at = self.volume(volume).above;
        }
        tracks
    }

    /// Replay must start from the same words as memory (`pair_bits`).
    fn mark_hot_words(&self, change: &PairChange, record: &mut StateChange) {
        let Some(pair) = self
            .pairs
            .get(&change.pair)
            .filter(|p| p.meta.primary == change.meta.primary)
        else {
            return;
        };
        let hot = |id: VolumeId| self.volume(id).hot.keys().copied();
        let regions: BTreeSet<Region> = hot(pair.meta.primary).chain(hot(change.pair.0)).collect();
        record.marks.extend(self.words(change.pair, regions));
    }

    /// Moves one pair. Returns the jobs that waited for its settle.
    fn shift(&mut self, change: &PairChange, out: &mut Effects) -> Vec<JobId> {
        let id = change.pair;
        let (now, since) = (self.now, self.names.next());
        let known = self
            .pairs
            .get(&id)
            .map(|pair| (pair.meta.primary, pair.meta.state));
        let from = known
            .filter(|(primary, _)| *primary == change.meta.primary)
            .map(|(_, state)| state);
        out.push(Effect::Event(Event::State {
            primary: change.meta.primary,
            mirror: id.0,
            from: from.unwrap_or(PairState::Simplex),
            to: change.meta.state,
            reason: change.meta.reason,
        }));
        let mut woken = Vec::new();
        if from.is_none() || change.meta.state == PairState::Simplex {
            // Re-assigned, dissolved or new: what was known of the mirror's pair is gone.
            if let Some(mut old) = self.pairs.remove(&id) {
                woken = old.settle.abandon();
                self.volume_mut(old.meta.primary).below.remove(&id.0);
            }
            self.volume_mut(id.0).above = None;
            self.copying.remove(&id);
            if change.meta.state == PairState::Simplex {
                return woken;
            }
            let tracks = self.volume(id.0).geometry.tracks();
            self.volume_mut(id.0).above = Some(change.meta.primary);
            self.volume_mut(change.meta.primary).below.insert(id.0);
            self.pairs
                .insert(id, Pair::new(change.meta, PairBits::new(tracks), since, since));
        }
        let forgets =
            self.mutation == Some(Mutation::ForgetMirrorChanges) && change.change == Change::OweUnion;
        let Some(pair) = self.pairs.get_mut(&id) else {
            return woken;
        };
        if forgets {
            pair.bits.mirror_changed.reset();
        }
        pair.meta = change.meta;
        pair.since = since;
        // What somebody asks for, or what has come to its end, starts over.
        if !matches!(change.meta.state, PairState::Copy | PairState::Suspended) {
            pair.retry = None;
        }
        pair.bits.apply(change.change);
        if !matches!(change.change, Change::Keep | Change::Part) {
            pair.era = since;
            pair.queue.restart(now);
            woken.append(&mut pair.settle.abandon());
        }
        if change.meta.state.is_copying() && !change.meta.primary.is_foreign() {
            self.copying.insert(id);
        } else {
            self.copying.remove(&id);
        }
        woken
    }

    /// A pair's copy has nothing left, durably.
    pub(crate) fn copy_finished(&mut self, id: PairId, transition: Transition, out: &mut Effects) {
        let pair = &self.pairs[&id];
        let mut meta = PairMeta {
            state: transition.to,
            full: false,
            ..pair.meta
        };
        meta.inconsistent = transition.to == PairState::Copy;
        meta.mirror_ready = transition.to == PairState::Split;
        let to = if pair.meta.state.restores() {
            pair.meta.primary
        } else {
            id.0
        };
        let config = self.volume(to).config;
        let mut configs = Vec::new();
        if config.inconsistent && transition.to != PairState::Copy {
            configs.push(VolumeConfig {
                inconsistent: false,
                ..config
            });
        }
        let pairs = vec![PairChange {
            pair: id,
            meta,
            change: transition.change,
        }];
        self.make(
            Decided {
                pairs,
                configs,
                ..Decided::default()
            },
            None,
            out,
        );
    }

    /// The volume's configuration with another hold.
    pub(crate) fn with_hold(&self, volume: VolumeId, hold: Hold) -> Option<VolumeConfig> {
        let config = self.volume(volume).config;
        (config.hold != hold).then_some(VolumeConfig { hold, ..config })
    }
}
