//! Faults: what suspends a pair. Never silent: a reason in QUERY, an event, and marks for all that may differ.

use crate::{
    change::{Decided, PairChange},
    effects::{Effect, Effects},
    engine::Engine,
    events::Event,
    ids::{PairId, Region, VolumeId},
    journal::PairMeta,
    pair_bits::{Change, Which},
    resume::Retry,
    state::PairState,
    track::TrackRange,
};

/// The link to the far side of the pair is lost (reason 1 of docs/control-cdb.md).
pub(crate) const LINK_DOWN: u8 = 1;
/// The mirror could not be read or written (reason 2 of docs/control-cdb.md).
pub(crate) const MIRROR_IO: u8 = 2;
/// The primary could not (reason 3).
pub(crate) const PRIMARY_IO: u8 = 3;

impl Engine {
    /// The volumes of the pair may differ in these tracks, and are not kept equal from now on.
    ///
    /// A pair that is apart already and owes nothing only gets the marks.
    pub(crate) fn suspend(&mut self, id: PairId, reason: u8, tracks: TrackRange, out: &mut Effects) {
        if !self.pairs.contains_key(&id) {
            return;
        }
        let mut pairs = Vec::new();
        let mut configs = Vec::new();
        let mut broken = vec![(id, reason, tracks)];
        while let Some((id, reason, tracks)) = broken.pop() {
            self.set_mark(id, Which::PrimaryChanged, tracks);
            let pair = &self.pairs[&id];
            let known = pairs.iter().any(|change: &PairChange| change.pair == id);
            let state = pair.meta.state;
            let half = pair.is_unfinished();
            let apart = state == PairState::Suspended || (state == PairState::Split && !half);
            if known || apart {
                continue;
            }
            // Splits that live on what this copy was to bring have lost their image with it.
            for other in self.dependents(id) {
                broken.push((other, reason, TrackRange::new(0, 0)));
            }
            let mirror_half = half && !state.restores();
            let certain = matches!(state, PairState::Copy | PairState::Duplex);
            let unreachable = reason == MIRROR_IO && !self.is_within_reach(id.0);
            let mut meta = PairMeta {
                state: PairState::Suspended,
                full: false,
                reason: if unreachable { LINK_DOWN } else { reason },
                resumes: certain,
                ..pair.meta
            };
            meta.inconsistent = mirror_half;
            meta.mirror_ready &= !mirror_half;
            if half {
                let config = self.volume(pair.destination(id)).config;
                configs.push(crate::journal::VolumeConfig {
                    inconsistent: true,
                    ..config
                });
            }
            let change = if state == PairState::Restoring {
                Change::StopIntoMirror
            } else {
                Change::StopIntoPrimary
            };
            pairs.push(PairChange {
                pair: id,
                meta,
                change,
            });
            let (now, limits) = (self.now, self.config.limits);
            if let Some(pair) = self.pairs.get_mut(&id) {
                pair.retry = certain.then(|| Retry::next(pair.retry, now, &limits));
            }
        }
        if !pairs.is_empty() {
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
    }

    /// Pairs whose owed tracks are to be read through this pair's copy.
    pub(crate) fn dependents(&self, id: PairId) -> Vec<PairId> {
        let pair = &self.pairs[&id];
        if !pair.reads_through() {
            return Vec::new();
        }
        let destination = pair.destination(id);
        self.pairs_of(destination)
            .filter(|other| {
                let newer = &self.pairs[other];
                *other != id
                    && newer.reads_through()
                    && newer.source(*other) == destination
                    && newer.since > pair.since
                    && newer.bits.todo.runs().any(|run| pair.bits.todo.any(run))
            })
            .collect()
    }

    /// A flush failed: what the volume was to keep in its hot regions may be lost. Its copies differ there, whether they are
    /// kept equal to it, and then the pair is suspended, or are apart, and then these tracks are marked.
    pub(crate) fn cache_lost(&mut self, volume: VolumeId, out: &mut Effects) {
        let Some(known) = self.volumes.get(&volume) else {
            return;
        };
        if volume.is_foreign() && known.above.is_none() {
            // It was a mirror when the flush began; its own system answers for it by now.
            return;
        }
        out.push(Effect::Event(Event::CacheLost { volume }));
        let above = known.above.map(|primary| (PairId(volume), primary, MIRROR_IO));
        let below = known
            .below
            .iter()
            .map(|mirror| (PairId(*mirror), volume, PRIMARY_IO));
        let pairs: Vec<_> = above.into_iter().chain(below).collect();
        for (id, primary, reason) in pairs {
            // What reached a mirror while it was kept equal went there under its primary's heat.
            let mut hot = self.hot_tracks(primary);
            let equal = self.pairs[&id].meta.state.keeps_two_legs();
            if !equal && volume != primary {
                hot.append(&mut self.hot_tracks(volume));
            }
            for tracks in hot {
                self.set_mark(id, Which::PrimaryChanged, tracks);
            }
            if equal {
                self.suspend(id, reason, TrackRange::new(0, 0), out);
            }
        }
    }

    fn hot_tracks(&self, volume: VolumeId) -> Vec<TrackRange> {
        let known = self.volume(volume);
        let tracks = |region: &Region| known.geometry.tracks_of(*region);
        known.hot.keys().map(tracks).collect()
    }
}
