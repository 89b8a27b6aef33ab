//! Where a write goes and what it marks; where a read finds its data.
//!
//! A write is a host's, or the write half of a copy. It reaches the volume it is for and, recursively, every mirror below whose
//! pair keeps two legs equal there: those are its *legs*. At each leg it leaves *marks* in the pairs that are
//! apart, and needs the region *hot* if the leg is in any pair but the one the data comes by.

use std::collections::BTreeSet;

use crate::{
    bitmap::Bitmap,
    engine::Engine,
    ids::{PairId, Region, VolumeId},
    mutation::Mutation,
    pair_bits::Which,
    state::PairState,
    track::TrackRange,
};

/// A write that is planned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// What is written.
    pub(crate) volume: VolumeId,
    /// Where.
    pub(crate) tracks: TrackRange,
    /// The pair whose copy it is; a host's write has none.
    pub(crate) by: Option<PairId>,
    /// Only what pairs became before this counts (see `obstacles`).
    pub(crate) before: u64,
    /// Tracks of which a host's plain write replaces every byte.
    pub(crate) covered: TrackRange,
}

/// A volume that a write reaches, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leg {
    pub(crate) volume: VolumeId,
    /// It is reached as the mirror of this pair.
    pub(crate) via: Option<PairId>,
    pub(crate) tracks: TrackRange,
}

impl Engine {
    /// The legs of a write, the volume it is for first.
    pub(crate) fn legs(&self, target: &Target) -> Vec<Leg> {
        let mut legs = vec![Leg {
            volume: target.volume,
            via: None,
            tracks: target.tracks,
        }];
        if self.mutation == Some(Mutation::ForgetOtherPairs) && target.by.is_some() {
            return legs;
        }
        let mut next = 0;
        while let Some(leg) = legs.get(next).copied() {
            next += 1;
            for mirror in &self.volume(leg.volume).below {
                let id = PairId(*mirror);
                let pair = &self.pairs[&id];
                if Some(id) == target.by || !pair.meta.state.keeps_two_legs() {
                    continue;
                }
                // What a restore has not brought over yet, a host's write overtakes: it reaches both (obstacles are
                // gone by then, or it covers the track).
                let tracks = if target.by.is_none() && pair.meta.state == PairState::Restoring {
                    vec![leg.tracks]
                } else {
                    gaps(&pair.bits.todo, leg.tracks)
                };
                legs.extend(tracks.into_iter().map(|tracks| Leg {
                    volume: *mirror,
                    via: Some(id),
                    tracks,
                }));
            }
        }
        legs
    }

    /// The marks that a write of these legs leaves.
    pub(crate) fn marks(&self, target: &Target, legs: &[Leg]) -> Vec<(PairId, Which, TrackRange)> {
        let mut marks = Vec::new();
        if self.mutation == Some(Mutation::ForgetOtherPairs) && target.by.is_some() {
            return marks;
        }
        for leg in legs {
            for id in self.pairs_of(leg.volume) {
                let came_by = Some(id) == target.by || Some(id) == leg.via;
                if !came_by && self.pairs[&id].meta.state.is_apart() {
                    let which = if id.0 == leg.volume {
                        Which::MirrorChanged
                    } else {
                        Which::PrimaryChanged
                    };
                    marks.push((id, which, leg.tracks));
                }
            }
        }
        marks
    }

    /// Leaves them.
    pub(crate) fn set_marks(&mut self, target: &Target, legs: &[Leg]) {
        for (pair, which, tracks) in self.marks(target, legs) {
            self.set_mark(pair, which, tracks);
        }
    }

    /// The regions that must be hot before a write of these legs is issued.
    pub(crate) fn heat_needed(&self, target: &Target, legs: &[Leg]) -> Vec<(VolumeId, Region)> {
        let mut regions = BTreeSet::new();
        for leg in legs {
            let others = self
                .pairs_of(leg.volume)
                .any(|id| Some(id) != target.by && Some(id) != leg.via);
            if others {
                regions.extend(leg.tracks.regions().map(|region| (leg.volume, region)));
            }
        }
        regions.into_iter().collect()
    }

    /// Which volume holds what `volume` is to hold at the first of `tracks`, and for how many tracks that is so.
    /// Changes of state from number `before` on do not count: the content asked for is that of before them.
    pub(crate) fn source(&self, volume: VolumeId, tracks: TrackRange, before: u64) -> (VolumeId, TrackRange) {
        let first = self.source_of_track(volume, tracks.start, before);
        if self.incoming(volume).next().is_none() {
            return (first, tracks);
        }
        let same = |track: &u64| self.source_of_track(volume, *track, before) == first;
        let end = (tracks.start + 1..tracks.end)
            .take_while(same)
            .last()
            .unwrap_or(tracks.start)
            + 1;
        (first, TrackRange::new(tracks.start, end))
    }

    /// The newest pair through which this track of the volume is read, if any.
    pub(crate) fn read_through(&self, volume: VolumeId, track: u64, before: u64) -> Option<PairId> {
        self.incoming(volume)
            .filter(|id| self.pairs[id].since < before && self.pairs[id].bits.todo.test(track))
            .max_by_key(|id| self.pairs[id].since)
    }

    fn source_of_track(&self, volume: VolumeId, track: u64, before: u64) -> VolumeId {
        if self.mutation == Some(Mutation::ReadStale) {
            return volume;
        }
        let (mut at, mut before) = (volume, before);
        while let Some(id) = self.read_through(at, track, before) {
            let pair = &self.pairs[&id];
            (at, before) = (pair.source(id), pair.since);
        }
        at
    }

    /// Pairs that owe this volume tracks which are meanwhile read at their source.
    pub(crate) fn incoming(&self, volume: VolumeId) -> impl Iterator<Item = PairId> + '_ {
        self.pairs_of(volume).filter(move |id| {
            let pair = &self.pairs[id];
            pair.reads_through() && pair.destination(*id) == volume
        })
    }
}

/// The tracks of `range` that are not in the set, as runs.
pub(crate) fn gaps(set: &Bitmap, range: TrackRange) -> Vec<TrackRange> {
    let mut gaps = Vec::new();
    let mut from = range.start;
    for run in set.runs_in(range) {
        if run.start > from {
            gaps.push(TrackRange::new(from, run.start));
        }
        from = run.end;
    }
    if from < range.end {
        gaps.push(TrackRange::new(from, range.end));
    }
    gaps
}
