//! What a caller may see of the pairs: QUERY, READ PENDING MAP, COPY MANAGEMENT TABLE, SETUP.

use std::borrow::Cow;

use crate::{
    bitmap::Bitmap,
    command::{Extent, PairView, Side, VolumeSpec},
    engine::Engine,
    ids::{PairId, VolumeId},
    journal::{Hold, VolumeConfig},
    pair::Pair,
};

/// A volume as SETUP sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeView {
    /// Its size.
    pub spec: VolumeSpec,
    /// Hold, NOT READY, inconsistent.
    pub config: VolumeConfig,
    /// It answers hosts.
    pub ready: bool,
    /// Pairs it is in.
    pub pairs: u32,
}

impl Engine {
    /// All pairs, by mirror.
    pub fn pairs(&self) -> Vec<PairView> {
        self.pairs.iter().map(|(id, pair)| self.view(*id, pair)).collect()
    }

    /// One pair.
    pub fn pair(&self, id: PairId) -> Option<PairView> {
        self.pairs.get(&id).map(|pair| self.view(id, pair))
    }

    /// The pairs a volume is in: as the mirror first, then as the primary by mirror (the copy management table).
    pub fn table(&self, volume: VolumeId) -> Vec<PairView> {
        if !self.volumes.contains_key(&volume) {
            return Vec::new();
        }
        self.pairs_of(volume)
            .map(|id| self.view(id, &self.pairs[&id]))
            .collect()
    }

    /// A volume.
    pub fn volume_view(&self, id: VolumeId) -> Option<VolumeView> {
        let volume = self.volumes.get(&id)?;
        let pairs = u32::from(volume.above.is_some()) + volume.below.len() as u32;
        Some(VolumeView {
            spec: volume.spec,
            config: volume.config,
            ready: self.ready(id),
            pairs,
        })
    }

    /// Is the volume held, and how?
    pub fn held(&self, volume: VolumeId) -> Hold {
        self.volumes
            .get(&volume)
            .map_or(Hold::None, |volume| volume.config.hold)
    }

    /// Is the volume in a pair?
    pub fn member(&self, volume: VolumeId) -> bool {
        self.volumes
            .get(&volume)
            .is_some_and(crate::family::Volume::paired)
    }

    /// Does the volume answer hosts? (Unknown volumes do not.)
    pub fn ready(&self, volume: VolumeId) -> bool {
        let Some(known) = self.volumes.get(&volume) else {
            return false;
        };
        let pair = self.pairs.get(&PairId(volume));
        !known.config.not_ready && pair.is_none_or(|pair| pair.meta.mirror_ready)
    }

    /// Where the two volumes of a pair differ, in bytes: ascending, merged, clipped. No such pair: nothing.
    ///
    /// READ PENDING MAP: the primary's changes are what the mirror does not have; while a copy runs, what it has left
    /// counts for the side it is owed to.
    pub fn pending(&self, id: PairId, side: Side) -> Vec<Extent> {
        let Some(pair) = self.pairs.get(&id) else {
            return Vec::new();
        };
        let tracks = match side {
            Side::Primary => owed_to_mirror(pair),
            Side::Mirror => owed_to_primary(pair),
            Side::Remaining => Cow::Borrowed(&pair.bits.todo),
            Side::Union => {
                let mut both = owed_to_mirror(pair).into_owned();
                both.union(&owed_to_primary(pair));
                Cow::Owned(both)
            }
        };
        let geometry = self.volume(id.0).geometry;
        tracks.runs().map(|run| geometry.bytes_of(run)).collect()
    }

    fn view(&self, id: PairId, pair: &Pair) -> PairView {
        let config = self.volume(id.0).config;
        let (bits, restores) = (&pair.bits, pair.meta.state.restores());
        let remaining = bits.todo.count();
        // Counted, not made: a table of large volumes is looked at often, and hosts wait meanwhile.
        let (primary, mirror) = (&bits.primary_changed, &bits.mirror_changed);
        let (mirror_invalid, primary_invalid) = if restores {
            (primary.count(), Bitmap::union_count(&[mirror, &bits.todo]))
        } else {
            (Bitmap::union_count(&[primary, &bits.todo]), mirror.count())
        };
        let rate = if pair.meta.state.is_copying() {
            pair.queue.rate
        } else {
            0
        };
        let bytes = u128::from(remaining) * u128::from(self.config.track_size);
        let eta = (rate > 0).then(|| u32::try_from(bytes.div_ceil(u128::from(rate))).unwrap_or(u32::MAX));
        PairView {
            primary: pair.meta.primary,
            mirror: id.0,
            state: pair.meta.state,
            held: config.hold != Hold::None,
            strictly_held: config.hold == Hold::Strict,
            mirror_ready: self.ready(id.0),
            history: true,
            full: pair.meta.full,
            mirror_inconsistent: pair.meta.inconsistent,
            tracks: pair.bits.tracks(),
            mirror_invalid,
            primary_invalid,
            remaining,
            split_at_ms: pair.meta.split_at_ms,
            rate,
            eta_seconds: eta,
            reason: pair.meta.reason,
            resumes: pair.meta.resumes,
        }
    }
}

fn owed_to_mirror(pair: &Pair) -> Cow<'_, Bitmap> {
    either(
        &pair.bits.primary_changed,
        (!pair.meta.state.restores()).then_some(&pair.bits.todo),
    )
}

fn owed_to_primary(pair: &Pair) -> Cow<'_, Bitmap> {
    either(
        &pair.bits.mirror_changed,
        pair.meta.state.restores().then_some(&pair.bits.todo),
    )
}

/// The union. Nothing is copied where one of them is empty, as they are in a pair that copies nothing.
fn either<'a>(changed: &'a Bitmap, todo: Option<&'a Bitmap>) -> Cow<'a, Bitmap> {
    match todo.filter(|todo| !todo.is_empty()) {
        None => Cow::Borrowed(changed),
        Some(todo) if changed.is_empty() => Cow::Borrowed(todo),
        Some(todo) => {
            let mut both = changed.clone();
            both.union(todo);
            Cow::Owned(both)
        }
    }
}
