//! A crossing: some tracks of a pair's copy go from its source to its destination, under the lock of the job that needs it
//! (the copier's, or a host write that found the tracks in its way).

use crate::{
    effects::{Effect, Effects, Outcome},
    engine::Engine,
    faults::{MIRROR_IO, PRIMARY_IO},
    host_op::HostFlight,
    ids::{PairId, VolumeId},
    job::{Job, Next, Work},
    mutation::Mutation,
    obstacles::Obstacle,
    plan::Target,
    track::TrackRange,
};

/// A copy effect under way.
#[derive(Debug, Clone)]
pub(crate) struct Crossing {
    pair: PairId,
    era: u64,
    tracks: TrackRange,
    from: VolumeId,
    to: Vec<VolumeId>,
}

/// How a crossing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crossed {
    /// The tracks are there.
    Done,
    /// The source could not be read: the pair is suspended.
    NoSource,
    /// This volume could not be written: the pair it is in is suspended.
    NoDestination(VolumeId),
}

impl Engine {
    /// Copies the first part of `run`, or, if a crossing of an older pair must come first, the first part of that.
    pub(crate) fn cross(&mut self, job: &mut Job, pair: PairId, run: TrackRange, out: &mut Effects) -> Next {
        let (mut id, mut run) = (pair, run);
        let target = loop {
            if let Some(older) = self.owed_to_the_source(id, run) {
                (id, run) = older;
                continue;
            }
            let target = self.crossing_target(id, run);
            match self.first_obstacle(&target) {
                Some(Obstacle::Owed(older, tracks)) => (id, run) = (older, tracks),
                Some(unsettled @ Obstacle::Unsettled(_)) => return self.remove_obstacle(job, unsettled, out),
                None => break target,
            }
        };
        self.start_crossing(job, id, target, out)
    }

    /// A destination must get its source's bytes, not what they are promised to become: if the older copy is stopped, the
    /// two would differ without a mark. So the source gets its own first.
    fn owed_to_the_source(&self, id: PairId, run: TrackRange) -> Option<(PairId, TrackRange)> {
        let before = self.as_of(id);
        let owed = |other: &PairId| {
            let other = &self.pairs[other];
            other.since < before && other.bits.todo.any(run)
        };
        let older = self
            .incoming(self.pairs[&id].source(id))
            .filter(|other| *other != id)
            .filter(owed);
        let oldest = older.min_by_key(|other| self.pairs[other].since)?;
        self.pairs[&oldest]
            .bits
            .todo
            .runs_in(run)
            .next()
            .map(|owed| (oldest, owed))
    }

    fn crossing_target(&self, id: PairId, tracks: TrackRange) -> Target {
        let pair = &self.pairs[&id];
        Target {
            volume: pair.destination(id),
            tracks,
            by: Some(id),
            before: self.as_of(id),
            covered: TrackRange::new(0, 0),
        }
    }

    /// A copy that keeps a promise gives the content of that time. For a mirror being synchronized every promise of its
    /// other pairs is in the way.
    fn as_of(&self, id: PairId) -> u64 {
        let pair = &self.pairs[&id];
        if pair.reads_through() {
            pair.since
        } else {
            u64::MAX
        }
    }

    fn start_crossing(&mut self, job: &mut Job, id: PairId, mut target: Target, out: &mut Effects) -> Next {
        let pair = &self.pairs[&id];
        let (from, era) = (pair.source(id), pair.era);
        let longest = pair.queue.reach(target.tracks.start, self.run_tracks());
        target.tracks.end = target.tracks.end.min(target.tracks.start + longest);
        // One effect has one set of destinations: as far as that is the same.
        for leg in self.legs(&target) {
            let edge = if leg.tracks.start > target.tracks.start {
                leg.tracks.start
            } else {
                leg.tracks.end
            };
            target.tracks.end = target.tracks.end.min(edge);
        }
        let legs = self.legs(&target);
        let heat = self.heat_needed(&target, &legs);
        if !self.warm(job.id, &heat, out) {
            return Next::Keep;
        }
        let volumes: Vec<VolumeId> = legs.iter().map(|leg| leg.volume).collect();
        self.hold_heat(job, &heat, &volumes);
        self.set_marks(&target, &legs);
        let range = self.volume(target.volume).geometry.bytes_of(target.tracks);
        let token = self.part(job, 0);
        out.push(Effect::Copy {
            token,
            from,
            to: volumes.clone(),
            range,
        });
        let crossing = Crossing {
            pair: id,
            era,
            tracks: target.tracks,
            from,
            to: volumes,
        };
        match &mut job.work {
            Work::Host(_, flight) => *flight = HostFlight::Crossing(crossing),
            Work::Copy { flight, .. } => *flight = Some(crossing),
            Work::Repair { .. } | Work::Check { .. } => {}
        }
        Next::Keep
    }

    /// The copy effect ended: the tracks leave `todo`, or a pair is suspended.
    pub(crate) fn crossed(&mut self, job: &mut Job, crossing: &Crossing, out: &mut Effects) -> Crossed {
        self.drop_heat(job);
        let failure = job.failures.pop().map(|(_, outcome)| outcome);
        job.failures.clear();
        let now = self.now;
        let bytes = self.volume(crossing.from).geometry.bytes_of(crossing.tracks);
        let current = self
            .pairs
            .get_mut(&crossing.pair)
            .filter(|pair| pair.era == crossing.era);
        match failure {
            None | Some(Outcome::Ok | Outcome::Sparse { .. }) => {
                if let Some(pair) = current {
                    if let Some(Outcome::Sparse { ahead, .. }) = failure {
                        let ahead = ahead / u64::from(self.config.track_size);
                        pair.queue.hole_ahead(crossing.tracks.end, ahead);
                    }
                    pair.bits.copied(crossing.tracks);
                    let volumes = crossing.to.iter().copied().chain([crossing.from]);
                    pair.settle.copied(volumes, now);
                    pair.queue.count(bytes.end - bytes.start);
                }
                Crossed::Done
            }
            Some(Outcome::ReadFailed | Outcome::Declined | Outcome::Differs) => {
                let current = current.is_some();
                // What a lost link stops is `link`'s affair: a protected restore waits.
                if current && self.is_within_reach(crossing.from) {
                    let reason = if crossing.from == crossing.pair.0 {
                        MIRROR_IO
                    } else {
                        PRIMARY_IO
                    };
                    // Its own tracks are in `todo` still.
                    self.suspend(crossing.pair, reason, TrackRange::new(0, 0), out);
                }
                Crossed::NoSource
            }
            Some(Outcome::WriteFailed(volume)) => {
                // The destination itself, or a mirror that was to be kept equal to it.
                let destination = crossing.to.first() == Some(&volume);
                if !destination {
                    self.suspend(PairId(volume), MIRROR_IO, crossing.tracks, out);
                } else if current.is_some() {
                    let reason = if volume == crossing.pair.0 {
                        MIRROR_IO
                    } else {
                        PRIMARY_IO
                    };
                    // Its own tracks are in `todo` still.
                    self.suspend(crossing.pair, reason, TrackRange::new(0, 0), out);
                    // Legs may have got what the destination did not.
                    for leg in crossing.to.iter().skip(1) {
                        self.suspend(PairId(*leg), PRIMARY_IO, crossing.tracks, out);
                    }
                }
                Crossed::NoDestination(volume)
            }
        }
    }

    /// Looks at a job of the copier.
    pub(crate) fn advance_copy(&mut self, job: &mut Job, out: &mut Effects) -> Next {
        let Work::Copy {
            pair: id,
            era,
            flight,
        } = &mut job.work
        else {
            return Next::Over;
        };
        let (id, era) = (*id, *era);
        let mut blind = self.mutation == Some(Mutation::SkipRecheck);
        if let Some(crossing) = flight.take() {
            blind = false;
            if self.crossed(job, &crossing, out) != Crossed::Done && !self.pairs.contains_key(&id) {
                return Next::Over;
            }
        }
        let Some(pair) = self.pairs.get(&id).filter(|pair| pair.era == era) else {
            return Next::Over;
        };
        if !pair.meta.state.is_copying() || self.journal_failed || !self.is_within_reach(id.0) {
            return Next::Over;
        }
        // Somebody may have copied or overtaken tracks while this job waited for its lock (S33).
        let left = pair.bits.todo.runs_in(job.tracks).next();
        let Some(run) = left.or(blind.then_some(job.tracks)) else {
            return Next::Over;
        };
        if self.gated(pair.meta.primary, job.id) {
            return Next::Keep;
        }
        self.cross(job, id, run, out)
    }
}
