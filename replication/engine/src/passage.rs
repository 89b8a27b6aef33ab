//! Passages: host I/O that has nothing in its way and nothing to wait for, which is almost all of it once a working set is
//! hot. It is let through by one call and reported over by another, without a job, a lock of tracks or a token.
//!
//! A write may pass when its region is durably hot, so that no record is needed, and each pair of its volume is SPLIT or
//! SUSPENDED with nothing unsettled there, so that it only leaves a mark, or DUPLEX or RESTORED, so that it goes to the mirror as
//! well, be that here or another system's. A read may pass when its tracks are the volume's own. What comes over a link may pass into
//! a volume that follows. Whatever else is true goes the long way (`host_op`).
//!
//! # Why this is the same as the long way
//!
//! The marks are set in memory before the data is written, as there. What the long way excludes by locks of tracks is excluded
//! by the tracks of the passage here: nothing passes in a track that anybody has a lock of or waits for, and whoever wants a lock of tracks in
//! which something passes waits until that is over (`Family::behind`), as does who comes after him and wants one of them. A passage is a few
//! system calls long, or a round trip to a sync mirror of another system, so that wait is short, and since nothing passes where he waits
//! he cannot starve. A passage waits for nobody, so there is no circle.
//!
//! Passages exclude one another only where two orders could be told apart: two writes of the same bytes to two legs might end
//! with one on the primary and the other on the mirror, and after a SPLIT in between, who reads the mirror must find what was
//! on its way to both legs before. On one leg they are what I/Os of a plain volume are.
//!
//! A region does not cool while a passage is in it, and none enters one that is cooling: its flush may have begun.
//!
//! When a leg fails, the pairs it is in are suspended with marks before the lock of the engine is let go, as on the long way. And a
//! state may change while something passes: by a fault elsewhere, or by CONFIG NOT READY. The legs that were planned were
//! written, and the region is hot; but the answer must not come before the change is durable. In both cases the caller is told
//! to take the long way after all. Writing the same bytes again is harmless, for nobody was told that they were there;
//! only a refusal then no longer means that nothing was written. So is a host's write that found a mirror away which it needs: the
//! long way refuses it.

use smallvec::SmallVec;

use crate::{
    effects::{Effects, HostIo},
    engine::Engine,
    faults::{MIRROR_IO, PRIMARY_IO},
    ids::{ByteRange, PairId, Region, VolumeId},
    state::PairState,
    track::TrackRange,
};

/// Leave to perform one I/O at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    volume: VolumeId,
    root: VolumeId,
    range: ByteRange,
    tracks: TrackRange,
    region: Option<Region>,
    mirrors: Mirrors,
    by_link: bool,
}

/// Mostly there is one.
type Mirrors = SmallVec<[VolumeId; 2]>;

impl Passage {
    /// What else a write goes to, besides the volume addressed.
    pub fn mirrors(&self) -> &[VolumeId] {
        &self.mirrors
    }

    fn passing(&self) -> Passing {
        Passing {
            range: self.range,
            tracks: self.tracks,
            writes: self.region.is_some(),
            legs: !self.mirrors.is_empty(),
        }
    }
}

/// What the family knows of a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passing {
    range: ByteRange,
    pub(crate) tracks: TrackRange,
    writes: bool,
    /// To more than one volume.
    legs: bool,
}

impl Passing {
    fn crosses(&self, range: ByteRange) -> bool {
        self.range.start < range.end && range.start < self.range.end
    }
}

/// What to do when the I/O has been performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassedBy {
    /// It may be answered. Otherwise it is done once more, as [`crate::effects::Input::Host`].
    pub answer: bool,
    /// Somebody waited for it: [`crate::effects::Input::Passed`] is due.
    pub awaited: bool,
}

impl Engine {
    /// May this I/O, of a host or `by_link`, be performed at once? If so it must be, and [`Engine::passed`] called.
    pub fn pass(&mut self, volume: VolumeId, io: HostIo, range: ByteRange, by_link: bool) -> Option<Passage> {
        if self.journal_failed || !self.answers(volume, by_link) {
            return None;
        }
        let known = self.volumes.get(&volume)?;
        let root = known.above.map_or(volume, |above| self.root(above));
        let tracks = known.geometry.touched(range);
        let family = self.families.get(&root)?;
        if family.closed || family.locks.touches(tracks) || family.awaits(tracks) {
            return None;
        }
        let mut is_written = false;
        for other in family.passing.iter().filter(|other| other.crosses(range)) {
            if other.legs {
                return None;
            }
            is_written |= other.writes;
        }
        let passage = match io {
            HostIo::Read => self.pass_read(volume, root, (range, tracks)),
            HostIo::Write => self.pass_write(volume, root, (range, tracks), (by_link, is_written)),
            HostIo::Update | HostIo::Flush => None,
        }?;
        let passing = passage.passing();
        self.family(root).passing.push(passing);
        Some(passage)
    }

    fn pass_read(
        &self,
        volume: VolumeId,
        root: VolumeId,
        (range, tracks): (ByteRange, TrackRange),
    ) -> Option<Passage> {
        let elsewhere = self
            .incoming(volume)
            .any(|id| self.pairs[&id].bits.todo.any(tracks));
        // What a host reads of a protected restore's mirror is restored next (Fig. 9): the copier must hear of it.
        let restores = self.pairs.get(&PairId(volume)).is_some_and(|pair| {
            pair.meta.state == PairState::ProtectedRestoring && pair.bits.todo.any(tracks)
        });
        (!elsewhere && !restores).then_some(Passage {
            volume,
            root,
            range,
            tracks,
            region: None,
            mirrors: Mirrors::new(),
            by_link: false,
        })
    }

    /// `is_written`: another write of these bytes passes.
    fn pass_write(
        &mut self,
        id: VolumeId,
        root: VolumeId,
        (range, tracks): (ByteRange, TrackRange),
        (by_link, is_written): (bool, bool),
    ) -> Option<Passage> {
        let volume = self.volume(id);
        let mut regions = tracks.regions();
        let (region, None) = (regions.next()?, regions.next()) else {
            return None;
        };
        if volume.gate > 0 || !volume.lets_pass(region) || !by_link && self.misses_a_mirror(id) {
            return None;
        }
        // The pair over whose link it comes is established: it has no mark there, and no leg.
        let came_by = by_link.then_some(PairId(id));
        let mut mirrors = Mirrors::new();
        for pair_id in volume.pairs(id).filter(|pair| Some(*pair) != came_by) {
            let pair = &self.pairs[&pair_id];
            match pair.meta.state {
                PairState::Split | PairState::Suspended if !pair.is_unsettled(tracks) => {}
                PairState::Duplex | PairState::Restored
                    if pair_id.0 != id
                        && pair.is_equal(tracks)
                        && self.volume(pair_id.0).below.is_empty() =>
                {
                    mirrors.push(pair_id.0);
                }
                _ => return None,
            }
        }
        if is_written && !mirrors.is_empty() {
            return None;
        }
        let Self { volumes, pairs, .. } = self;
        let volume = volumes.get_mut(&id)?;
        for apart in volume
            .pairs(id)
            .filter(|pair| !mirrors.contains(&pair.0) && Some(*pair) != came_by)
        {
            if let Some(pair) = pairs.get_mut(&apart) {
                if apart.0 == id {
                    pair.bits.mirror_changed.set(tracks);
                } else {
                    pair.bits.primary_changed.set(tracks);
                }
            }
        }
        volume.enter_hot(id, region, &mirrors);
        Some(Passage {
            volume: id,
            root,
            range,
            tracks,
            region: Some(region),
            mirrors,
            by_link,
        })
    }

    /// The I/O of a passage was performed, on all its volumes but those that `failed`. A read that failed is not told: it
    /// goes the long way, and finds another source.
    pub fn passed(&mut self, passage: &Passage, failed: &[VolumeId], out: &mut Effects) -> PassedBy {
        if !failed.is_empty() {
            self.suspend_torn(passage, failed, out);
        }
        let now = self.now;
        let volume = self.volume_mut(passage.volume);
        if let Some(region) = passage.region {
            volume.leave_hot(passage.volume, region, &passage.mirrors, now);
        }
        let changing = volume.gate > 0;
        let passing = passage.passing();
        let family = self.family(passage.root);
        if let Some(at) = family.passing.iter().position(|other| *other == passing) {
            family.passing.swap_remove(at);
        }
        let empty = family.closed && family.passing.is_empty();
        let let_in = !family.behind.is_empty() && self.let_in_behind(passage.root);
        let awaited = let_in || empty || !self.settles_behind.is_empty();
        let refused = !passage.by_link && self.misses_a_mirror(passage.volume);
        PassedBy {
            answer: !(changing || refused || self.journal_failed) || passage.region.is_none(),
            awaited,
        }
    }

    /// Of two legs one was not written, or perhaps in part.
    fn suspend_torn(&mut self, passage: &Passage, failed: &[VolumeId], out: &mut Effects) {
        let tracks = passage.tracks;
        for mirror in &passage.mirrors {
            if failed.contains(mirror) {
                self.suspend(PairId(*mirror), MIRROR_IO, tracks, out);
            } else if failed.contains(&passage.volume) {
                self.suspend(PairId(*mirror), PRIMARY_IO, tracks, out);
            }
        }
    }
}
