//! Volumes, and the families that pairs join them to.
//!
//! A family is a tree: its root is the standard that nobody mirrors. It has one lock table for all its volumes, by track
//! number. A volume in no pair is a family of its own, made when it is first needed. A command that joins or parts families closes
//! admission to them: what is in flight ends, what arrives waits here, and the new families start with empty tables.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    command::VolumeSpec,
    engine::Engine,
    heat::Cooling,
    heat::HotRegion,
    host_op::HostOp,
    ids::{PairId, Region, VolumeId},
    job::JobId,
    journal::{Hold, VolumeConfig},
    passage::Passing,
    track::{Geometry, TrackRange},
    track_lock::LockTable,
};

/// A volume.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    pub(crate) spec: VolumeSpec,
    pub(crate) geometry: Geometry,
    /// Holds, NOT READY, inconsistency: what is on the volume itself.
    pub(crate) config: VolumeConfig,
    /// Its mirrors.
    pub(crate) below: BTreeSet<VolumeId>,
    /// The standard it is a mirror of.
    pub(crate) above: Option<VolumeId>,
    /// State changes of its family that are not durable yet.
    pub(crate) gate: u32,
    /// Regions with writes that may not be stable or marked.
    pub(crate) hot: BTreeMap<Region, HotRegion>,
    /// Regions on their way out of `hot`.
    pub(crate) cooling: Option<Cooling>,
    /// The journal knows its size.
    pub(crate) introduced: bool,
}

impl Volume {
    pub(crate) fn new(id: VolumeId, spec: VolumeSpec, track_size: u32) -> Self {
        Self {
            spec,
            geometry: Geometry::new(spec.bytes, track_size),
            config: VolumeConfig {
                volume: id,
                hold: Hold::None,
                not_ready: false,
                inconsistent: false,
            },
            below: BTreeSet::new(),
            above: None,
            gate: 0,
            hot: BTreeMap::new(),
            cooling: None,
            introduced: false,
        }
    }

    /// May a write go to this region without waiting: is it durably hot, and not about to cool?
    pub(crate) fn lets_pass(&self, region: Region) -> bool {
        let cooling = self
            .cooling
            .as_ref()
            .is_some_and(|cooling| cooling.concerns(region));
        !cooling && self.hot.get(&region).is_some_and(HotRegion::is_durable)
    }

    /// The pairs that it is in under its own number: as the mirror, then as the primary.
    pub(crate) fn pairs(&self, own: VolumeId) -> impl Iterator<Item = PairId> + '_ {
        let as_mirror = self.above.map(|_| PairId(own));
        as_mirror
            .into_iter()
            .chain(self.below.iter().copied().map(PairId))
    }

    /// Is it in a pair?
    pub(crate) fn paired(&self) -> bool {
        self.above.is_some() || !self.below.is_empty()
    }
}

/// What the volumes of a tree share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Family {
    pub(crate) locks: LockTable,
    /// Host I/O that passes now (`passage`).
    pub(crate) passing: Vec<Passing>,
    /// Jobs that want a lock of these tracks and wait for what passes there, or for others that do.
    pub(crate) behind: Vec<(JobId, TrackRange)>,
    /// I/O admitted and not ended.
    pub(crate) jobs: usize,
    /// A command waits for them to end.
    pub(crate) closed: bool,
    /// Host I/O that waits for the command.
    pub(crate) held_back: VecDeque<HostOp>,
}

impl Family {
    /// Nobody is in it.
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs == 0 && self.passing.is_empty()
    }

    /// Does anybody wait for what passes in these tracks?
    pub(crate) fn awaits(&self, tracks: TrackRange) -> bool {
        self.behind.iter().any(|(_, awaited)| awaited.overlaps(tracks))
    }

    /// Has a lock of these tracks to wait for what passes?
    pub(crate) fn is_behind(&self, tracks: TrackRange) -> bool {
        self.passing.iter().any(|passing| passing.tracks.overlaps(tracks)) || self.awaits(tracks)
    }
}

impl Engine {
    /// The standard at the top of the tree.
    pub(crate) fn root(&self, volume: VolumeId) -> VolumeId {
        let mut root = volume;
        while let Some(above) = self.volumes.get(&root).and_then(|v| v.above) {
            root = above;
        }
        root
    }

    /// Every volume of the tree, top down.
    pub(crate) fn tree(&self, root: VolumeId) -> Vec<VolumeId> {
        let mut tree = vec![root];
        let mut next = 0;
        while let Some(volume) = tree.get(next).and_then(|id| self.volumes.get(id)) {
            tree.extend(volume.below.iter().copied());
            next += 1;
        }
        tree
    }

    /// A volume the engine was told of.
    pub(crate) fn volume(&self, id: VolumeId) -> &Volume {
        self.volumes
            .get(&id)
            .expect("pairs and jobs name only known volumes")
    }

    pub(crate) fn volume_mut(&mut self, id: VolumeId) -> &mut Volume {
        self.volumes
            .get_mut(&id)
            .expect("pairs and jobs name only known volumes")
    }

    /// The pairs this volume is in: as the mirror, then as the primary.
    pub(crate) fn pairs_of(&self, id: VolumeId) -> impl Iterator<Item = PairId> + '_ {
        self.volume(id).pairs(id)
    }

    /// The families of these volumes let nobody in; `true` when they are idle.
    pub(crate) fn close(&mut self, volumes: &[VolumeId]) -> bool {
        let mut idle = true;
        for volume in volumes {
            let family = self.families.entry(self.root(*volume)).or_default();
            family.closed = true;
            idle &= family.is_idle();
        }
        idle
    }

    /// Opens every closed family: who was held back enters, by the tree as it is now.
    pub(crate) fn reopen(&mut self, out: &mut crate::effects::Effects) {
        let mut held_back = VecDeque::new();
        for family in self.families.values_mut() {
            family.closed = false;
            held_back.append(&mut family.held_back);
        }
        let volumes = &self.volumes;
        self.families.retain(|root, family| {
            !family.is_idle()
                || volumes
                    .get(root)
                    .is_some_and(|v| v.above.is_none() && !v.below.is_empty())
        });
        for op in held_back {
            self.host_begin(op, out);
        }
    }
}
