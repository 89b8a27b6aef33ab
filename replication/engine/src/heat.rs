//! The activity log: which regions were written to and may not be equal, marked or stable everywhere.
//!
//! A region is *hot* from its `Hot` record until its `Cold` record. A write to a region that is not durably hot waits for the record; all that
//! wait at the time share one. While it is hot, marks live in memory only, and a crash marks the whole region. A region
//! cools when nothing is in flight in it and it was not touched for a while: if writes went to mirrors as well, all of
//! them are flushed first (also those of pairs that were split since: the data went there while they were equal), then
//! `Cold` carries the words of every bitmap concerned.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use crate::{
    effects::{Effect, Effects, Outcome},
    engine::Engine,
    family::Volume,
    ids::{PairId, Region, Tick, VolumeId},
    job::{Job, JobId, Wait},
    journal::{MarkWord, Record},
    limits::Limits,
    mutation::Mutation,
    pair_bits::Which,
    track::TrackRange,
};

/// A region that is hot, or about to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct HotRegion {
    /// Its record is durable.
    durable: bool,
    /// Writes in flight.
    in_flight: u32,
    /// The last write's end.
    touched: Tick,
    legs: Legs,
}

/// Every volume that writes went to. Mostly there are one or two.
#[derive(Debug, Clone, Default)]
struct Legs(SmallVec<[Leg; 2]>);

/// One of them.
#[derive(Debug, Clone, Copy)]
struct Leg {
    volume: VolumeId,
    /// Writes on their way there.
    flying: u32,
    /// Something that went there is to be stable there before the region cools. When that is given up ([`Engine::forget_leg`]) those on
    /// their way are still to end, others may go there beside them, and which of them ends nobody can tell.
    counts: bool,
}

/// Regions of a volume whose legs are being flushed.
#[derive(Debug, Clone)]
pub(crate) struct Cooling {
    regions: BTreeMap<Region, Tick>,
    left: usize,
    failed: bool,
}

impl HotRegion {
    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    fn enter(&mut self, legs: impl IntoIterator<Item = VolumeId>) {
        self.in_flight += 1;
        for leg in legs {
            match self.legs.find(leg) {
                Some(known) => (known.flying, known.counts) = (known.flying + 1, true),
                None => self.legs.0.push(Leg {
                    volume: leg,
                    flying: 1,
                    counts: true,
                }),
            }
        }
    }

    fn leave(&mut self, legs: impl IntoIterator<Item = VolumeId>, now: Tick) {
        self.in_flight -= 1;
        self.touched = now;
        for leg in legs {
            if let Some(known) = self.legs.find(leg) {
                known.flying -= 1;
                if !known.counts {
                    self.legs.drop_forgotten();
                }
            }
        }
    }
}

impl Legs {
    fn find(&mut self, leg: VolumeId) -> Option<&mut Leg> {
        self.0.iter_mut().find(|known| known.volume == leg)
    }

    /// Those that count.
    fn volumes(&self) -> impl Iterator<Item = VolumeId> + '_ {
        self.0.iter().filter(|leg| leg.counts).map(|leg| leg.volume)
    }

    fn contains(&self, leg: VolumeId) -> bool {
        self.volumes().any(|id| id == leg)
    }

    /// `true`: it was one.
    fn forget(&mut self, leg: VolumeId) -> bool {
        let known = self.find(leg).map(|known| core::mem::take(&mut known.counts));
        self.drop_forgotten();
        known == Some(true)
    }

    fn drop_forgotten(&mut self) {
        self.0.retain(|leg| leg.counts || leg.flying > 0);
    }
}

impl Volume {
    /// A write passes into a region that lets it (`passage`); it goes to these mirrors as well.
    pub(crate) fn enter_hot(&mut self, own: VolumeId, region: Region, mirrors: &[VolumeId]) {
        if let Some(hot) = self.hot.get_mut(&region) {
            hot.enter(mirrors.iter().copied().chain([own]));
        }
    }

    /// It has ended.
    pub(crate) fn leave_hot(&mut self, own: VolumeId, region: Region, mirrors: &[VolumeId], now: Tick) {
        if let Some(hot) = self.hot.get_mut(&region) {
            hot.leave(mirrors.iter().copied().chain([own]), now);
        }
    }

    /// The idle regions that were not touched for long; and when there are too many hot ones, as many of those left alone
    /// longest as there are too many. (All that are idle at the moment would be nearly all of a large working set, and
    /// would have to be hot again at once.)
    fn cool_enough(&self, now: Tick, limits: &Limits) -> BTreeMap<Region, Tick> {
        // What went to the system that leads now may still be on its way ([`Engine::has_arrived`]).
        let leader = self.above.filter(|above| above.is_foreign());
        let arrived = |hot: &HotRegion| leader.is_none_or(|leader| !hot.legs.contains(leader));
        let idle = self
            .hot
            .iter()
            .filter(|(_, hot)| hot.durable && hot.in_flight == 0 && arrived(hot));
        let old = |touched: Tick| now.0.saturating_sub(touched.0) >= limits.cool_after;
        let too_many = self.hot.len().saturating_sub(limits.hot_regions);
        if too_many == 0 {
            return idle
                .filter(|(_, hot)| old(hot.touched))
                .map(|(region, hot)| (*region, hot.touched))
                .collect();
        }
        let mut idle: Vec<(Tick, Region)> = idle.map(|(region, hot)| (hot.touched, *region)).collect();
        idle.sort_unstable();
        let chosen = idle.into_iter().enumerate();
        chosen
            .filter(|(place, (touched, _))| *place < too_many || old(*touched))
            .map(|(_, (touched, region))| (region, touched))
            .collect()
    }
}

impl Cooling {
    pub(crate) fn concerns(&self, region: Region) -> bool {
        self.regions.contains_key(&region)
    }
}

/// Regions that wait for their record, and who waits with them.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeatQueue {
    asked: BTreeSet<(VolumeId, Region)>,
    writing: Vec<(VolumeId, Region)>,
    waiting: Vec<JobId>,
}

impl Engine {
    /// Are all these regions durably hot? If not, the job is woken when they are.
    pub(crate) fn warm(&mut self, job: JobId, regions: &[(VolumeId, Region)], out: &mut Effects) -> bool {
        if self.mutation == Some(Mutation::SkipHot) {
            return true;
        }
        let mut warm = true;
        for (id, region) in regions {
            let volume = self.volume_mut(*id);
            let known = volume.hot.contains_key(region);
            let hot = volume.hot.entry(*region).or_default();
            warm &= hot.durable;
            if !known {
                self.heat.asked.insert((*id, *region));
            }
        }
        self.write_hot(out);
        if self.mutation == Some(Mutation::AckBeforeMark) {
            return true;
        }
        if !warm {
            self.heat.waiting.push(job);
        }
        warm
    }

    fn write_hot(&mut self, out: &mut Effects) {
        if self.heat.asked.is_empty() || !self.heat.writing.is_empty() || self.journal_failed {
            return;
        }
        let regions: Vec<_> = core::mem::take(&mut self.heat.asked).into_iter().collect();
        self.heat.writing.clone_from(&regions);
        self.journal(Record::Hot(regions), Wait::Hot, out);
    }

    /// The record of heat is durable.
    pub(crate) fn hot_written(&mut self, out: &mut Effects) {
        let now = self.now;
        for (id, region) in core::mem::take(&mut self.heat.writing) {
            if let Some(hot) = self
                .volumes
                .get_mut(&id)
                .and_then(|volume| volume.hot.get_mut(&region))
            {
                hot.durable = true;
                hot.touched = now;
            }
        }
        self.wake_heat();
        self.write_hot(out);
    }

    /// Whoever waits for heat looks again.
    pub(crate) fn wake_heat(&mut self) {
        let mut waiting = core::mem::take(&mut self.heat.waiting);
        self.wake(&mut waiting);
    }

    /// The job's writes keep these regions hot until it drops them; they go to these volumes.
    pub(crate) fn hold_heat(&mut self, job: &mut Job, regions: &[(VolumeId, Region)], legs: &[VolumeId]) {
        for (id, region) in regions {
            if let Some(hot) = self.volume_mut(*id).hot.get_mut(region) {
                hot.enter(legs.iter().copied());
                job.heat.push((*id, *region));
            }
            // The flush may have begun, and may be long: the region is not among those that cool, and writes pass in it again.
            if let Some(cooling) = &mut self.volume_mut(*id).cooling {
                cooling.regions.remove(region);
            }
        }
        job.heat_legs.clear();
        job.heat_legs.extend_from_slice(legs);
    }

    /// Its writes have ended.
    pub(crate) fn drop_heat(&mut self, job: &mut Job) {
        let now = self.now;
        for (id, region) in job.heat.drain(..) {
            if let Some(hot) = self
                .volumes
                .get_mut(&id)
                .and_then(|volume| volume.hot.get_mut(&region))
            {
                hot.leave(job.heat_legs.iter().copied(), now);
            }
        }
    }

    /// Marks tracks of a pair in memory.
    pub(crate) fn set_mark(&mut self, id: PairId, which: Which, tracks: TrackRange) {
        let Some(pair) = self.pairs.get_mut(&id) else {
            return;
        };
        match which {
            Which::PrimaryChanged => pair.bits.primary_changed.set(tracks),
            Which::MirrorChanged => pair.bits.mirror_changed.set(tracks),
            Which::Owed => pair.bits.todo.set(tracks),
        };
    }

    /// Nothing that was written to this leg counts on being stable there any more; returns the hot regions of the volume in
    /// which something was.
    pub(crate) fn forget_leg(&mut self, volume: VolumeId, leg: VolumeId) -> Vec<Region> {
        let hot = self.volume_mut(volume).hot.iter_mut();
        hot.filter_map(|(region, hot)| hot.legs.forget(leg).then_some(*region))
            .collect()
    }

    /// The hot regions of a volume in which something was written to this leg and may not be stable there.
    pub(crate) fn written_to(&self, leg: VolumeId, volume: VolumeId) -> Vec<Region> {
        let hot = self.volume(volume).hot.iter();
        hot.filter(|(_, hot)| hot.legs.contains(leg))
            .map(|(region, _)| *region)
            .collect()
    }

    /// Those in which a write to it is under way.
    pub(crate) fn flying_to(&self, leg: VolumeId, volume: VolumeId) -> Vec<Region> {
        let hot = self.volume(volume).hot.iter();
        let flies = |known: &Leg| known.volume == leg && known.flying > 0;
        hot.filter(|(_, hot)| hot.legs.0.iter().any(flies))
            .map(|(region, _)| *region)
            .collect()
    }

    /// Begins to cool what is old enough.
    pub(crate) fn cool(&mut self, out: &mut Effects) {
        let ids: Vec<VolumeId> = self
            .volumes
            .iter()
            .filter(|(_, v)| !v.hot.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let (now, limits) = (self.now, self.config.limits);
            let volume = self.volume_mut(id);
            if volume.cooling.is_some() {
                continue;
            }
            let regions = volume.cool_enough(now, &limits);
            let legs_of = |region| volume.hot[region].legs.volumes();
            let mut legs: BTreeSet<VolumeId> = regions.keys().flat_map(legs_of).collect();
            if regions.is_empty() {
                continue;
            }
            // What was a mirror on another system, and is in no pair, takes no flush from here, and needs none.
            legs.retain(|leg| !leg.is_foreign() || volume.below.contains(leg));
            let alone = legs.iter().all(|leg| *leg == id);
            if alone || self.mutation == Some(Mutation::CoolWithoutFlush) {
                legs.clear();
            }
            self.volume_mut(id).cooling = Some(Cooling {
                regions,
                left: legs.len(),
                failed: false,
            });
            for leg in &legs {
                let token = self.token(Wait::Cool {
                    volume: id,
                    flushed: *leg,
                });
                out.push(Effect::Flush { token, volume: *leg });
            }
            if legs.is_empty() {
                self.cooled(id, out);
            }
        }
    }

    /// A flush before cooling ended.
    pub(crate) fn cool_flushed(
        &mut self,
        id: VolumeId,
        flushed: VolumeId,
        outcome: Outcome,
        out: &mut Effects,
    ) {
        if outcome != Outcome::Ok {
            self.cache_lost(flushed, out);
        }
        let Some(cooling) = self
            .volumes
            .get_mut(&id)
            .and_then(|volume| volume.cooling.as_mut())
        else {
            return;
        };
        cooling.left -= 1;
        cooling.failed |= outcome != Outcome::Ok;
        if cooling.left == 0 {
            self.cooled(id, out);
        }
    }

    fn cooled(&mut self, id: VolumeId, out: &mut Effects) {
        let volume = self.volume_mut(id);
        let Some(cooling) = volume.cooling.take() else {
            return;
        };
        // After a failed flush nobody knows what is stable: the regions stay hot, and a restart copies them.
        if cooling.failed || self.journal_failed {
            return;
        }
        let volume = self.volume_mut(id);
        let mut regions = Vec::new();
        for (region, touched) in cooling.regions {
            let still = |hot: &HotRegion| hot.durable && hot.in_flight == 0 && hot.touched == touched;
            if volume.hot.get(&region).is_some_and(still) {
                volume.hot.remove(&region);
                regions.push((id, region));
            }
        }
        if regions.is_empty() {
            return;
        }
        let pairs: Vec<PairId> = self.pairs_of(id).collect();
        let marks = pairs
            .iter()
            .flat_map(|pair| self.words(*pair, regions.iter().map(|(_, region)| *region)))
            .collect();
        out.push(Effect::Journal {
            record: Record::Cold { regions, marks },
            token: None,
        });
    }

    /// The words of a pair's bitmaps in these regions.
    pub(crate) fn words(&self, id: PairId, regions: impl IntoIterator<Item = Region>) -> Vec<MarkWord> {
        let bits = &self.pairs[&id].bits;
        let mut words = Vec::new();
        for region in regions {
            words.extend(Which::ALL.map(|which| MarkWord {
                pair: id,
                which,
                region,
                bits: bits.word(which, region),
            }));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A write that was on its way when the link was lost may end after one that went over the next link.
    #[test]
    fn what_was_forgotten_on_its_way_ends_beside_what_went_later() {
        let (here, far) = (VolumeId(1), VolumeId(VolumeId::FIRST_FOREIGN));
        let mut hot = HotRegion::default();
        hot.enter([here, far]);
        assert!(hot.legs.forget(far));
        assert!(!hot.legs.forget(far), "it is told once");
        hot.enter([here, far]);
        hot.leave([here, far], Tick(1));
        assert!(hot.legs.contains(far), "what went later is not stable there");
        hot.leave([here, far], Tick(2));
        assert_eq!((hot.in_flight, hot.legs.find(far).unwrap().flying), (0, 0));
        assert!(hot.legs.forget(far));
        assert_eq!(hot.legs.0.len(), 1);
    }
}
