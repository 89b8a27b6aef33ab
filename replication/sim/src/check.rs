//! What must hold whenever nothing is in flight.

use crate::world::{Broken, Checked, World, ensure, show};
use replication_engine::{
    effects::HostIo,
    ids::{PairId, VolumeId},
    journal::{Image, PairImage},
    state::PairState,
    track::TrackRange,
};

impl World {
    /// The engine shows the pairs that the oracle knows.
    pub(crate) fn check_pairs(&self) -> Checked {
        let shown: Vec<_> = self
            .engine
            .pairs()
            .iter()
            .map(|view| (view.primary, view.mirror, view.state))
            .collect();
        let known: Vec<_> = self
            .oracle
            .pairs
            .iter()
            .map(|(pair, meta)| (meta.primary, pair.0, meta.state))
            .collect();
        ensure(shown == known, || {
            format!("the engine shows {shown:?}, the records said {known:?}")
        })
    }

    /// No two tracks of a pair differ without a mark.
    pub(crate) fn check_marks(&self) -> Checked {
        let image = self.live_image()?;
        for (pair, PairImage { meta, bits, .. }) in &image.pairs {
            let owed = match meta.state {
                PairState::Simplex | PairState::Duplex | PairState::Restored => vec![],
                PairState::Copy => vec![&bits.todo],
                PairState::Restoring => vec![&bits.todo, &bits.primary_changed],
                _ => vec![&bits.todo, &bits.primary_changed, &bits.mirror_changed],
            };
            for track in 0..bits.tracks() {
                if owed.iter().any(|map| map.test(track)) {
                    continue;
                }
                if let Some(block) = self.difference(meta.primary, pair.0, track) {
                    return Err(Broken(format!(
                        "volumes {} and {} ({}) differ in block {block} of track {track} without a mark: {}, {}",
                        meta.primary.0,
                        pair.0.0,
                        meta.state,
                        show(self.disks[&meta.primary].read(block)),
                        show(self.disks[&pair.0].read(block)),
                    )));
                }
            }
        }
        Ok(())
    }

    fn difference(&self, primary: VolumeId, mirror: VolumeId, track: u64) -> Option<usize> {
        let size = self.profile.track_blocks;
        let start = track as usize * size;
        let (primary, mirror) = (&self.disks[&primary], &self.disks[&mirror]);
        (start..(start + size).min(primary.blocks()))
            .find(|block| primary.read(*block) != mirror.read(*block))
    }

    /// Replaying the journal gives what the engine has in memory, but for marks in hot regions.
    pub(crate) fn check_replay(&self) -> Checked {
        let live = self.live_image()?;
        let replayed = &self.image;
        ensure(live.hot == replayed.hot, || {
            format!(
                "hot in memory: {:?}, in the journal: {:?}",
                live.hot, replayed.hot
            )
        })?;
        ensure(live.pairs.keys().eq(replayed.pairs.keys()), || {
            "other pairs in the journal".to_owned()
        })?;
        for (pair, live) in &live.pairs {
            self.check_replayed_pair(*pair, live, &replayed.pairs[pair])?;
        }
        Ok(())
    }

    fn check_replayed_pair(&self, pair: PairId, live: &PairImage, replayed: &PairImage) -> Checked {
        let mirror = pair.0.0;
        ensure(live.meta == replayed.meta, || {
            format!("{:?} in memory, {:?} in the journal", live.meta, replayed.meta)
        })?;
        ensure(live.bits.todo == replayed.bits.todo, || {
            let runs = |image: &PairImage| image.bits.todo.runs().collect::<Vec<TrackRange>>();
            format!(
                "mirror {mirror} is owed {:?} in memory, {:?} in the journal",
                runs(live),
                runs(replayed)
            )
        })?;
        for region in (TrackRange {
            start: 0,
            end: live.bits.tracks(),
        })
        .regions()
        {
            let hot = [live.meta.primary, pair.0]
                .iter()
                .any(|volume| self.image.hot.contains(&(*volume, region)));
            let words = |image: &PairImage| {
                [
                    image.bits.primary_changed.word(region),
                    image.bits.mirror_changed.word(region),
                ]
            };
            let (memory, journal) = (words(live), words(replayed));
            let covered = memory[0] & journal[0] == journal[0] && memory[1] & journal[1] == journal[1];
            ensure(memory == journal || (hot && covered), || {
                format!(
                    "marks of mirror {mirror} in {region:?} are {memory:x?} in memory, {journal:x?} in the journal"
                )
            })?;
        }
        Ok(())
    }

    fn live_image(&self) -> Result<Image, Broken> {
        let mut image = Image::new(self.profile.track_size());
        for record in self.engine.snapshot() {
            image
                .apply(&record)
                .map_err(|why| Broken(format!("a snapshot that does not fit: {why}")))?;
        }
        Ok(image)
    }

    /// Reads all of every volume that answers, while nobody writes. After a kill or a power failure (`true`) what
    /// is found is what it is from now on.
    pub(crate) fn read_everything(&mut self, after: Option<bool>) -> Checked {
        let volumes: Vec<VolumeId> = self.disks.keys().copied().collect();
        let faults = core::mem::replace(&mut self.faults, false);
        for volume in volumes {
            if !self.oracle.ready(volume) {
                continue;
            }
            self.begin(volume, HostIo::Read, 0..self.profile.blocks, false)?;
            while !self.ops.is_empty() {
                if self.tasks.is_empty() && !self.journal.unsynced() {
                    return Err(Broken(format!("a read of volume {} is not answered", volume.0)));
                }
                let index = self.rng.below(self.tasks.len() as u64) as usize;
                if self.tasks.is_empty() || self.rng.chance(100) {
                    self.sync_journal()?;
                } else {
                    self.work(index)?;
                }
            }
            if let Some(power) = after {
                let found = core::mem::take(&mut self.last_read);
                self.time += 1;
                for (block, stamp) in found.into_iter().enumerate() {
                    let now = self.time;
                    self.oracle
                        .tell(volume, |content| content.settle(block, stamp, power, now));
                }
                self.time += 1;
            }
        }
        self.faults = faults;
        Ok(())
    }
}
