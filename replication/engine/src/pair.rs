//! One pair: what the journal knows of it, and what only memory does.

use crate::{
    copier::CopyQueue,
    ids::{PairId, VolumeId},
    journal::PairMeta,
    pair_bits::PairBits,
    resume::Retry,
    settle::Settle,
    state::PairState,
    track::TrackRange,
};

/// A pair.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// Everything durable but the bitmaps.
    pub(crate) meta: PairMeta,
    /// The bitmaps.
    pub(crate) bits: PairBits,
    /// When the pair entered its state, counted in changes of state: orders the copies that depend on each other
    /// (see `obstacles`).
    pub(crate) since: u64,
    /// Changes whenever `todo` gets a new meaning: a copy or a settle that began before that is of no account.
    pub(crate) era: u64,
    /// What is copied next, and what is being copied.
    pub(crate) queue: CopyQueue,
    /// How the end of copies is made durable.
    pub(crate) settle: Settle,
    /// When the pair, suspended by a fault, is to resume; kept while it tries.
    pub(crate) retry: Option<Retry>,
}

impl Pair {
    /// A pair as the journal knows it.
    pub(crate) fn new(meta: PairMeta, bits: PairBits, since: u64, era: u64) -> Self {
        Self {
            meta,
            bits,
            since,
            era,
            queue: CopyQueue::default(),
            settle: Settle::default(),
            retry: None,
        }
    }

    /// Is one of its volumes another system's?
    pub(crate) fn is_remote(&self, id: PairId) -> bool {
        id.0.is_foreign() || self.meta.primary.is_foreign()
    }

    /// Where the copy of the pair named `id` reads.
    pub(crate) fn source(&self, id: PairId) -> VolumeId {
        if self.meta.state.restores() {
            id.0
        } else {
            self.meta.primary
        }
    }

    /// Where it writes.
    pub(crate) fn destination(&self, id: PairId) -> VolumeId {
        if self.meta.state.restores() {
            self.meta.primary
        } else {
            id.0
        }
    }

    /// Are the destination's owed tracks to be found at the source by whoever reads them? (Not so in COPY: there the
    /// destination answers nobody, and its content counts for itself.)
    pub(crate) fn reads_through(&self) -> bool {
        matches!(
            self.meta.state,
            PairState::Splitting | PairState::Restoring | PairState::ProtectedRestoring
        )
    }

    /// Do both volumes hold the same in these tracks? What a crash left different while a restore ran is in `primary_changed`
    /// until the restore ends, not in `todo`.
    pub(crate) fn is_equal(&self, tracks: TrackRange) -> bool {
        let bits = &self.bits;
        !bits.todo.any(tracks) && !bits.primary_changed.any(tracks) && !bits.mirror_changed.any(tracks)
    }

    /// Would redoing a copy after a crash hurt once either volume was written?
    pub(crate) fn must_settle(&self) -> bool {
        matches!(
            self.meta.state,
            PairState::Splitting | PairState::Split | PairState::ProtectedRestoring
        )
    }

    /// Is its mirror half of something, so that a fault must stop it?
    pub(crate) fn is_unfinished(&self) -> bool {
        let owes = !self.bits.todo.is_empty() || !self.bits.unsettled.is_empty();
        owes && (self.meta.state.is_copying() || self.meta.state == PairState::Split)
    }

    /// Are copies of these tracks done whose clearing is not durable?
    pub(crate) fn is_unsettled(&self, tracks: TrackRange) -> bool {
        self.bits.unsettled.any(tracks) || self.settle.is_journaling(tracks)
    }
}
