//! What must happen to a track before it may be written: the heart of the protected restore (Fig. 8 and 10), of the
//! split of a pair that still copies, and of every combination of them.
//!
//! # Promises as edges
//!
//! A pair in SPLITTING, RESTORING or PROTECTED-RESTORING is a promise, track by track: the destination's track *is* what the
//! source's track was when the pair entered that state, although the bytes are not there yet. Each such pair is an edge source
//! -> destination for the tracks in `todo`, and `since` numbers the edges in the order the promises were given. The content of
//! a volume's track as of number `n` is found by following, of the edges into it that are older than `n`, the newest, and
//! from its source again only edges older than that edge; with no edge, it is the bytes of the volume
//! (`Engine::source`). A host reads as of now: every edge counts.
//!
//! A write destroys the bytes of its volume and of each of its legs. So at every leg, before the write:
//!
//! - an edge *out of* the leg that has the track in `todo`: its destination still lives on these bytes, so it is copied
//!   first. This is the push of a split (S12), and Fig. 10 of the protected restore.
//! - an edge *into* the leg that has the track in `todo`: the write would lie under the copy that comes later, or merge with stale
//!   bytes, so the copy is made first (S24). A host's write of a whole track needs no copy from a restore: the mark is cleared with
//!   the write.
//! - an edge at the leg that has copied the track but whose clearing is not durable: after a crash the copy would be
//!   made again, with or over the new bytes. It is settled first (O5, O6, O6').
//!
//! Removing an obstacle is a copy, which is a write to the destination of its edge and has obstacles of its own. For it only
//! edges *older* than its own edge count: a newer promise was given when this one was already part of the content, so the
//! copy changes nothing for it. An older one is in the way even of the copy: it wants the bytes that are there now, or would
//! be copied over ours later.
//!
//! # Why it ends, and nobody waits for himself
//!
//! From an obstacle to an obstacle of its copy `since` gets strictly smaller, so the search ends; oldest first, each found copy
//! takes tracks out of a `todo`, and while the job holds its exclusive lock nothing but a command puts tracks into one.
//! The copies are made under the job's own lock, which covers the track on all volumes of the family: no second lock is taken, so
//! there is no order of locks to get wrong. What a job waits for while it holds a lock is a copy of its own, a settle
//! (flushes and a journal record), a record of heat or of a change of state: none of these waits for any lock. So every lock
//! is given up after finitely many effects, and the lock table serves in the order of arrival.

use crate::{
    effects::Effects,
    engine::Engine,
    ids::PairId,
    job::{Job, Next},
    mutation::Mutation,
    plan::Target,
    state::PairState,
    track::TrackRange,
};

/// Something to be done before a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// These tracks of the pair's copy must be made.
    Owed(PairId, TrackRange),
    /// The clearing of the pair's copies must become durable.
    Unsettled(PairId),
}

impl Engine {
    /// The oldest obstacle to a write, if any.
    pub(crate) fn first_obstacle(&self, target: &Target) -> Option<Obstacle> {
        let mut oldest: Option<(u64, Obstacle)> = None;
        for leg in self.legs(target) {
            for id in self.pairs_of(leg.volume) {
                let pair = &self.pairs[&id];
                let apart_from_it = Some(id) != target.by && Some(id) != leg.via;
                let older = oldest.is_none_or(|(since, _)| pair.since < since);
                let counts = pair.reads_through() || pair.must_settle();
                if !(apart_from_it && older && counts && pair.since < target.before) {
                    continue;
                }
                if let Some(obstacle) = self.obstacle_at(id, leg.tracks, target) {
                    oldest = Some((pair.since, obstacle));
                }
            }
        }
        oldest.map(|(_, obstacle)| obstacle)
    }

    fn obstacle_at(&self, id: PairId, tracks: TrackRange, target: &Target) -> Option<Obstacle> {
        let pair = &self.pairs[&id];
        let into_the_target = pair.destination(id) == target.volume;
        let overtaken = if into_the_target && pair.meta.state.restores() {
            target.covered
        } else {
            TrackRange::new(0, 0)
        };
        if pair.must_settle()
            && pair.is_unsettled(tracks)
            && self.mutation != Some(Mutation::SkipUnsettledWait)
        {
            return Some(Obstacle::Unsettled(id));
        }
        let overlooked = self.mutation == Some(self.mutation_that_skips(id, into_the_target));
        if overlooked || !pair.reads_through() {
            return None;
        }
        let mut owed = pair.bits.todo.runs_in(tracks);
        owed.find_map(|run| outside(run, overtaken))
            .map(|run| Obstacle::Owed(id, run))
    }

    /// Which planted bug would overlook this obstacle.
    fn mutation_that_skips(&self, id: PairId, into_the_target: bool) -> Mutation {
        match self.pairs[&id].meta.state {
            PairState::Splitting if !into_the_target => Mutation::SkipPush,
            PairState::ProtectedRestoring if !into_the_target => Mutation::SkipFig10,
            _ => Mutation::SkipMerge,
        }
    }

    /// Works on an obstacle under the job's lock; afterwards, the job looks again from the start.
    pub(crate) fn remove_obstacle(&mut self, job: &mut Job, obstacle: Obstacle, out: &mut Effects) -> Next {
        match obstacle {
            Obstacle::Owed(pair, run) => self.cross(job, pair, run, out),
            Obstacle::Unsettled(pair) => {
                self.settle_for(pair, Some(job.id), out);
                Next::Keep
            }
        }
    }
}

/// The first part of `run` that is not in `hole`.
fn outside(run: TrackRange, hole: TrackRange) -> Option<TrackRange> {
    if !run.overlaps(hole) {
        return Some(run);
    }
    if run.start < hole.start {
        return Some(TrackRange::new(run.start, hole.start));
    }
    (hole.end < run.end).then(|| TrackRange::new(hole.end, run.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_write_covers_is_no_obstacle() {
        let r = TrackRange::new;
        assert_eq!(outside(r(2, 6), r(2, 6)), None);
        assert_eq!(outside(r(2, 6), r(3, 6)), Some(r(2, 3)));
        assert_eq!(outside(r(2, 6), r(0, 4)), Some(r(4, 6)));
        assert_eq!(outside(r(2, 6), r(6, 9)), Some(r(2, 6)));
        assert_eq!(outside(r(2, 6), r(0, 0)), Some(r(2, 6)));
    }
}
