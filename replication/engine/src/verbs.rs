//! The verbs: what each does to one pair that the transition table lets it change, and which other pairs forbid it (`Conflict`,
//! with a sentence that names them; docs/decisions/0005).

use crate::{
    change::PairChange,
    command::Why,
    engine::Engine,
    ids::{PairId, VolumeId},
    journal::{Hold, PairMeta, VolumeConfig},
    pair_bits::Change,
    state::PairState,
    transition_table::Transition,
    validation::{Accepted, Scratch, conflict},
};

impl Engine {
    pub(crate) fn new_pair(
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
            resumes: false,
            split_at_ms: 0,
        };
        accepted.decided.pairs.push(PairChange {
            pair: PairId(mirror),
            meta,
            // What is left to copy to a follower, its leader knows.
            change: if primary.is_foreign() {
                Change::Keep
            } else {
                Change::OweAll
            },
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

    pub(crate) fn establish(
        &self,
        id: PairId,
        transition: Transition,
        accepted: &mut Accepted,
    ) -> Result<(), Why> {
        self.not_busy_below(id.0)?;
        let pair = &self.pairs[&id];
        let full = transition.change == Change::OweAll;
        let meta = PairMeta {
            state: transition.to,
            mirror_ready: false,
            full,
            inconsistent: true,
            reason: 0,
            resumes: false,
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

    pub(crate) fn split(
        &self,
        id: PairId,
        transition: Transition,
        (instant, strict_hold): (bool, bool),
        scratch: &mut Scratch,
        accepted: &mut Accepted,
    ) -> Result<(), Why> {
        let pair = &self.pairs[&id];
        let primary = pair.meta.primary;
        if pair.meta.state == PairState::Suspended && id.0.is_foreign() {
            return conflict(
                "the pair is suspended, and what the other system has is not the image of this moment"
                    .to_owned(),
            );
        }
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
        // The image is read at the primary, now or after a crash, wherever the mirror is owed tracks of it or was not stable at
        // this instant: so it must be stable there too.
        let parts = pair.meta.state.keeps_two_legs();
        if splitting || parts && !primary.is_foreign() && !self.not_stable_at(id.0).is_empty() {
            accepted.images.insert(primary);
        }
        // And where a restore brings it from: after a crash it brings again what it brought last.
        if parts {
            accepted
                .images
                .extend(self.incoming(primary).map(|other| other.0));
        }
        let meta = PairMeta {
            state: to,
            mirror_ready: !splitting || instant,
            full: pair.meta.full && splitting,
            inconsistent: splitting,
            reason: 0,
            resumes: false,
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
            // How much a leader still owes its follower, only the leader knows.
            let owes = !pair.bits.todo.is_empty() || above.is_foreign();
            if pair.meta.state == PairState::Copy && owes {
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

    pub(crate) fn restore(
        &self,
        id: PairId,
        transition: Transition,
        scratch: &mut Scratch,
        accepted: &mut Accepted,
    ) -> Result<(), Why> {
        let pair = &self.pairs[&id];
        let primary = pair.meta.primary;
        // Part of one image and part of another would take the place of the only copy.
        if pair.meta.inconsistent || self.volume(id.0).config.inconsistent {
            return conflict(format!(
                "volume {} holds no image: a copy into it was cut short; establish the pair again, or cancel it",
                id.0.0
            ));
        }
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
            resumes: false,
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

    pub(crate) fn cancel(
        &self,
        id: PairId,
        transition: Transition,
        accepted: &mut Accepted,
    ) -> Result<(), Why> {
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
        pair.bits.todo_after(change, &self.to_come(pair.meta.primary, id))
    }
}
