//! What the records say, taken together.

use super::{
    file::{Entry, JournalError},
    record::{Hold, MarkWord, Member, PairMeta, Record, StateChange, VolumeConfig},
};
use crate::{
    command::VolumeSpec,
    ids::{PairId, Region, VolumeId},
    pair_bits::{Change, PairBits},
    remote::turned_round,
    state::PairState,
    track::Geometry,
};
use std::collections::{BTreeMap, BTreeSet};

/// A volume, as the journal knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeImage {
    /// Its size.
    pub spec: VolumeSpec,
    /// Its configuration.
    pub config: VolumeConfig,
}

/// A pair, as the journal knows it. Two are equal whatever the numbers that order them.
#[derive(Debug, Clone, Eq)]
pub struct PairImage {
    /// Everything but the bitmaps.
    pub meta: PairMeta,
    /// The bitmaps; `unsettled` is empty.
    pub bits: PairBits,
    /// Orders the pairs by when they entered their states: what one is owed may have to be read through an older one.
    /// A snapshot gives the pairs in this order; the number itself is not in the journal.
    pub since: u64,
}

impl PartialEq for PairImage {
    fn eq(&self, other: &Self) -> bool {
        self.meta == other.meta && self.bits == other.bits
    }
}

/// Everything the journal knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Bytes a track.
    pub track_size: u32,
    /// Volumes.
    pub volumes: BTreeMap<VolumeId, VolumeImage>,
    /// Pairs.
    pub pairs: BTreeMap<PairId, PairImage>,
    /// Regions that were written to and may not be stable.
    pub hot: BTreeSet<(VolumeId, Region)>,
}

/// A record that does not fit what the records before it made: the journal is whole, but not a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// A pair that does not exist.
    #[error("there is no pair with mirror {}", .0.0.0)]
    NoPair(PairId),
    /// A volume that was not introduced.
    #[error("there is no volume {}", .0.0)]
    NoVolume(VolumeId),
    /// Bitmaps, or tracks, that the volume does not have.
    #[error("the pair with mirror {} has not that many tracks", .0.0.0)]
    Tracks(PairId),
}

impl Image {
    /// Nothing yet.
    pub fn new(track_size: u32) -> Self {
        Self {
            track_size,
            volumes: BTreeMap::new(),
            pairs: BTreeMap::new(),
            hot: BTreeSet::new(),
        }
    }

    /// The image that a file's records give. They must begin with a complete snapshot.
    pub fn replay(track_size: u32, entries: &[Entry]) -> Result<Self, JournalError> {
        let begins = matches!(
            entries.first(),
            Some(Entry {
                record: Record::SnapshotBegin { .. },
                ..
            })
        );
        if !begins || !entries.iter().any(|entry| entry.record == Record::SnapshotEnd) {
            return Err(JournalError::NoSnapshot);
        }
        let mut image = Self::new(track_size);
        for Entry { offset, seq, record } in entries {
            image.apply(record).map_err(|why| JournalError::Replay {
                offset: *offset,
                seq: *seq,
                why,
            })?;
        }
        Ok(image)
    }

    /// The records that a fresh file begins with.
    pub fn records(&self, at_ms: u64) -> Vec<Record> {
        let mut records = vec![Record::SnapshotBegin { at_ms }];
        for (volume, image) in &self.volumes {
            records.push(Record::Volume {
                volume: *volume,
                spec: image.spec,
            });
            records.push(Record::Config(image.config));
        }
        let mut pairs: Vec<(&PairId, &PairImage)> = self.pairs.iter().collect();
        pairs.sort_by_key(|(_, image)| image.since);
        for (pair, image) in pairs {
            records.push(Record::Pair {
                pair: *pair,
                meta: image.meta,
                bits: Box::new(image.bits.clone()),
            });
        }
        records.push(Record::Hot(self.hot.iter().copied().collect()));
        records.push(Record::SnapshotEnd);
        records
    }

    /// One more record.
    pub fn apply(&mut self, record: &Record) -> Result<(), ReplayError> {
        match record {
            Record::SnapshotBegin { .. } | Record::SnapshotEnd => {}
            Record::Volume { volume, spec } => self.introduce(*volume, *spec),
            Record::Config(config) => self.configure(*config)?,
            Record::Pair { pair, meta, bits } => {
                if self.geometry(meta.primary)?.tracks() != bits.tracks() {
                    return Err(ReplayError::Tracks(*pair));
                }
                let since = self.next_since();
                let image = PairImage {
                    meta: *meta,
                    bits: (**bits).clone(),
                    since,
                };
                self.pairs.insert(*pair, image);
            }
            Record::StateChange(change) => self.change(change)?,
            Record::Hot(regions) => self.hot.extend(regions),
            Record::Cold { regions, marks } => {
                for mark in marks {
                    self.mark(*mark)?;
                }
                for region in regions {
                    self.hot.remove(region);
                }
            }
            Record::Cleared { pair, runs } => {
                let bits = &mut self.pair(*pair)?.bits;
                for run in runs {
                    bits.replay_cleared(*run);
                }
            }
        }
        Ok(())
    }

    /// Takes into account what a crash may have left different, and forgets the hot regions: the pairs as they are when
    /// hosts are let in again. Returns those whose state changed by it, with the state before.
    pub fn after_crash(&mut self) -> Vec<(PairId, PairState)> {
        let hot = core::mem::take(&mut self.hot);
        let regions = |volume| {
            hot.range((volume, Region(0))..=(volume, Region(u64::MAX)))
                .map(|(_, region)| *region)
        };
        let mut changed = Vec::new();
        for (pair, PairImage { meta, bits, .. }) in &mut self.pairs {
            let Some(primary) = self.volumes.get(&meta.primary) else {
                continue;
            };
            let geometry = Geometry::new(primary.spec.bytes, self.track_size);
            let before = meta.state;
            meta.state = bits.after_crash(before, geometry, regions(meta.primary), regions(pair.0));
            if meta.state != before {
                meta.reason = CRASH_RECOVERY;
                changed.push((*pair, before));
            }
        }
        changed
    }

    /// A leader that had stopped, and died before the other system could begin, leads again: the pair has its parts back. All that may differ is copied from
    /// its volume, hot regions by [`Image::after_crash`].
    pub fn turn_back(&mut self, follows: VolumeId, leads: VolumeId) {
        let Some(known) = self.pairs.remove(&PairId(leads)) else {
            return;
        };
        let mut turned = PairImage {
            meta: turned_round(PairId(leads), known.meta),
            bits: known.bits,
            since: self.next_since(),
        };
        turned.bits.apply(Change::OweUnion);
        self.pairs.insert(PairId(follows), turned);
    }

    /// The tracks of a volume.
    pub fn geometry(&self, volume: VolumeId) -> Result<Geometry, ReplayError> {
        let image = self.volumes.get(&volume).ok_or(ReplayError::NoVolume(volume))?;
        Ok(Geometry::new(image.spec.bytes, self.track_size))
    }

    fn introduce(&mut self, volume: VolumeId, spec: VolumeSpec) {
        let config = VolumeConfig {
            volume,
            hold: Hold::None,
            not_ready: false,
            inconsistent: false,
        };
        self.volumes
            .entry(volume)
            .or_insert(VolumeImage { spec, config })
            .spec = spec;
    }

    fn configure(&mut self, config: VolumeConfig) -> Result<(), ReplayError> {
        let volume = self
            .volumes
            .get_mut(&config.volume)
            .ok_or(ReplayError::NoVolume(config.volume))?;
        volume.config = config;
        Ok(())
    }

    fn change(&mut self, change: &StateChange) -> Result<(), ReplayError> {
        // Those of pairs that the members make come after them.
        let (known, made): (Vec<MarkWord>, Vec<_>) = change
            .marks
            .iter()
            .partition(|mark| self.pairs.contains_key(&mark.pair));
        for mark in known {
            self.mark(mark)?;
        }
        for member in &change.members {
            self.member(*member)?;
        }
        for mark in made {
            self.mark(mark)?;
        }
        for config in &change.configs {
            self.configure(*config)?;
        }
        Ok(())
    }

    fn member(&mut self, Member { pair, meta, change }: Member) -> Result<(), ReplayError> {
        let known = self
            .pairs
            .get(&pair)
            .is_some_and(|image| image.meta.primary == meta.primary);
        if meta.state == PairState::Simplex {
            return self
                .pairs
                .remove(&pair)
                .map(drop)
                .ok_or(ReplayError::NoPair(pair));
        }
        if !known {
            let bits = PairBits::new(self.geometry(meta.primary)?.tracks());
            self.pairs.insert(pair, PairImage { meta, bits, since: 0 });
        }
        let since = self.next_since();
        let image = self.pair(pair)?;
        image.meta = meta;
        image.since = since;
        image.bits.apply(change);
        Ok(())
    }

    fn mark(&mut self, mark: MarkWord) -> Result<(), ReplayError> {
        self.pair(mark.pair)?
            .bits
            .replay_word(mark.which, mark.region, mark.bits);
        Ok(())
    }

    fn next_since(&self) -> u64 {
        self.pairs
            .values()
            .map(|image| image.since + 1)
            .max()
            .unwrap_or(0)
    }

    fn pair(&mut self, pair: PairId) -> Result<&mut PairImage, ReplayError> {
        self.pairs.get_mut(&pair).ok_or(ReplayError::NoPair(pair))
    }
}

/// The reason code of docs/control-cdb.md.
const CRASH_RECOVERY: u8 = 4;
