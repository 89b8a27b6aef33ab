//! A volume that cannot be read (S7): the host is served from another that has the same bytes, and the bad range is written again.
//!
//! The two sides of a pair hold the same wherever none of its bitmaps has a mark, be the pair established or apart: that is
//! what the marks are for. So a split mirror is read from its primary as long as neither has changed the track, and a primary from
//! any of its generations. Not so in SUSPENDED, where a fault is known already, and not for what only one volume holds.
//!
//! The rewrite locks the tracks exclusively and looks at the marks again. It writes what should be there already, so it
//! marks nothing. The mirror of a protected restore is never written, not even with its own bytes.

use crate::{
    effects::{Effect, Effects},
    engine::Engine,
    ids::{ByteRange, PairId, VolumeId},
    job::{Job, Next, Work},
    mutation::Mutation,
    state::PairState,
    track::TrackRange,
    track_lock::Mode,
};

impl Engine {
    /// Another volume with the same bytes in these tracks, now, and the pair that says so.
    pub(crate) fn twin(&self, volume: VolumeId, tracks: TrackRange) -> Option<(PairId, VolumeId)> {
        self.pairs_of(volume)
            .find(|id| self.agrees(*id, tracks))
            .map(|id| (id, self.other_side(id, volume)))
    }

    /// Writes the twin's bytes over a range of `bad` that could not be read.
    pub(crate) fn repair(&mut self, pair: PairId, bad: VolumeId, tracks: TrackRange, range: ByteRange) {
        let root = self.root(pair.0);
        if !self.family(root).closed {
            self.admit(
                root,
                tracks,
                Some(Mode::Exclusive),
                Work::Repair {
                    pair,
                    bad,
                    range,
                    flying: false,
                },
            );
        }
    }

    /// Looks at a repair.
    pub(crate) fn advance_repair(&mut self, job: &mut Job, out: &mut Effects) -> Next {
        let Work::Repair {
            pair: id,
            bad,
            range,
            flying,
        } = job.work
        else {
            return Next::Over;
        };
        // Without a journal no gate opens any more, and nobody may wait behind this.
        if flying || self.journal_failed || !self.agrees(id, job.tracks) {
            return Next::Over;
        }
        let pair = &self.pairs[&id];
        if bad == id.0 && pair.meta.state == PairState::ProtectedRestoring {
            return Next::Over;
        }
        if self.gated(bad, job.id) {
            return Next::Keep;
        }
        let from = self.other_side(id, bad);
        let token = self.part(job, 0);
        out.push(Effect::Copy {
            token,
            from,
            to: vec![bad],
            range,
        });
        job.work = Work::Repair {
            pair: id,
            bad,
            range,
            flying: true,
        };
        Next::Keep
    }

    /// Do both sides of the pair hold the same in these tracks?
    fn agrees(&self, id: PairId, tracks: TrackRange) -> bool {
        let pair = self.pairs.get(&id);
        if self.mutation == Some(Mutation::RepairBlindly) {
            return pair.is_some();
        }
        pair.is_some_and(|pair| pair.meta.state != PairState::Suspended && pair.is_equal(tracks))
    }

    fn other_side(&self, id: PairId, volume: VolumeId) -> VolumeId {
        if volume == id.0 {
            self.pairs[&id].meta.primary
        } else {
            id.0
        }
    }
}
