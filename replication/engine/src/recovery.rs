//! Starting from what the journal knows, and writing that down anew.

use std::collections::BTreeMap;

use crate::{
    command::VolumeSpec,
    effects::{Effect, Effects},
    engine::Engine,
    events::Event,
    family::Volume,
    ids::{PairId, VolumeId},
    journal::{Image, PairImage, Record, ReplayError, VolumeImage},
    limits::EngineConfig,
    pair::Pair,
    resume::Retry,
    state::PairState,
};

/// What a recovery found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Regions that may differ or be unmarked because of the crash; none after a clean stop.
    pub hot_regions: u64,
    /// Pairs, by mirror, with their states before and after; only those that changed.
    pub changed: Vec<(PairId, PairState, PairState)>,
    /// Tracks that copies have left, all pairs together.
    pub owed: u64,
}

/// Why the journal cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The records contradict each other.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A volume of a pair is not configured.
    #[error("volume {} is in a pair, but there is no such volume", .0.0)]
    NoVolume(VolumeId),
    /// A volume of a pair has another size than when the pair was made.
    #[error("volume {} is in a pair and had {was} bytes; it has {now}", .volume.0)]
    Size {
        /// Which.
        volume: VolumeId,
        /// As the journal has it.
        was: u64,
        /// As it is configured.
        now: u64,
    },
}

impl Engine {
    /// An engine that goes on from a journal's records. `out` gets the members and the events; hosts may be let in
    /// when the caller has written [`Engine::snapshot`] to a fresh journal and made it durable.
    pub fn recover(
        config: EngineConfig,
        volumes: impl IntoIterator<Item = (VolumeId, VolumeSpec)>,
        records: impl IntoIterator<Item = Record>,
        out: &mut Effects,
    ) -> Result<(Self, Recovery), RecoverError> {
        let mut image = Image::new(config.track_size);
        for record in records {
            image.apply(&record)?;
        }
        Self::from_image(config, volumes, image, out)
    }

    /// Likewise, from the image the records gave.
    pub fn from_image(
        config: EngineConfig,
        volumes: impl IntoIterator<Item = (VolumeId, VolumeSpec)>,
        mut image: Image,
        out: &mut Effects,
    ) -> Result<(Self, Recovery), RecoverError> {
        let mut recovery = Recovery {
            hot_regions: image.hot.len() as u64,
            ..Recovery::default()
        };
        let before = image.after_crash();
        let mut engine = Self::new(config);
        for (id, spec) in volumes {
            engine.define_volume(id, spec);
        }
        for (id, known) in &image.volumes {
            if let Some(volume) = engine.volumes.get_mut(id) {
                volume.config = known.config;
            }
        }
        // The order in which the pairs came to their states is the order of what depends on what.
        let mut pairs: Vec<(PairId, PairImage)> = image.pairs.into_iter().collect();
        pairs.sort_by_key(|(_, pair)| pair.since);
        for (id, pair) in pairs {
            for volume in [pair.meta.primary, id.0] {
                let was = image.volumes.get(&volume).map_or(0, |known| known.spec.bytes);
                let now = engine
                    .volumes
                    .get(&volume)
                    .ok_or(RecoverError::NoVolume(volume))?
                    .spec
                    .bytes;
                if was != now {
                    return Err(RecoverError::Size { volume, was, now });
                }
            }
            recovery.owed += pair.bits.todo.count();
            engine.adopt(id, pair);
        }
        for (id, was) in before {
            let meta = engine.pairs[&id].meta;
            recovery.changed.push((id, was, meta.state));
            out.push(Effect::Event(Event::State {
                primary: meta.primary,
                mirror: id.0,
                from: was,
                to: meta.state,
                reason: meta.reason,
            }));
        }
        let members = engine.volumes.iter().filter(|(_, volume)| volume.paired());
        out.extend(members.map(|(id, _)| Effect::Member {
            volume: *id,
            member: true,
        }));
        Ok((engine, recovery))
    }

    /// The content of a fresh journal file: everything the engine knows now, what is not durable included.
    pub fn snapshot(&self) -> Vec<Record> {
        self.image().records(self.now_ms)
    }

    fn image(&self) -> Image {
        let mut image = Image::new(self.config.track_size);
        for (id, volume) in &self.volumes {
            image.volumes.insert(
                *id,
                VolumeImage {
                    spec: volume.spec,
                    config: volume.config,
                },
            );
            image.hot.extend(volume.hot.keys().map(|region| (*id, *region)));
        }
        for (id, pair) in &self.pairs {
            let mut bits = pair.bits.clone();
            bits.todo = bits.owed();
            bits.unsettled.reset();
            image.pairs.insert(
                *id,
                PairImage {
                    meta: pair.meta,
                    bits,
                    since: pair.since,
                },
            );
        }
        image
    }

    fn adopt(&mut self, id: PairId, pair: PairImage) {
        let since = self.names.next();
        self.volume_mut(id.0).above = Some(pair.meta.primary);
        self.volume_mut(pair.meta.primary).below.insert(id.0);
        // The copies of a follower's pair are made by its leader.
        if pair.meta.state.is_copying() && !pair.meta.primary.is_foreign() {
            self.copying.insert(id);
        }
        let resumes = pair.meta.state == PairState::Suspended && pair.meta.resumes;
        let mut pair = Pair::new(pair.meta, pair.bits, since, since);
        pair.retry = resumes.then(|| Retry::next(None, self.now, &self.config.limits));
        self.pairs.insert(id, pair);
    }
}

/// The volumes of an engine, by number.
pub(crate) type Volumes = BTreeMap<VolumeId, Volume>;
