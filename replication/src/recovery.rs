//! From the journal that was found and the volumes that are configured to an engine that may serve hosts.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use replication_engine::{
    Engine, EngineConfig,
    command::VolumeSpec,
    effects::Effect,
    events::Event,
    ids::VolumeId,
    journal::{Header, Image, Record},
};
use target_core::{
    plain::PlainVolume,
    scsi_model::control::{SystemId, VolumeNumber},
    volume::Volume,
};

use crate::{
    array::spec,
    array_error::ArrayError,
    journal_file::{Found, JournalFileError},
};

/// What recovery gives.
pub(crate) struct Recovered {
    pub(crate) engine: Engine,
    /// Of the journal file to be started.
    pub(crate) header: Header,
    /// What that file begins with.
    pub(crate) snapshot: Vec<Record>,
    /// What changed by it.
    pub(crate) events: Vec<Event>,
}

/// Replays the journal, if one was found, and lets the engine mark what a crash may have left different.
pub(crate) fn recover(
    system: &SystemId,
    config: EngineConfig,
    found: Option<Found>,
    volumes: &[Arc<PlainVolume>],
) -> Result<Recovered, ArrayError> {
    let specs = specs(volumes)?;
    let mut header = Header {
        epoch: 1,
        system_id: system.to_wire(),
        track_size: config.track_size,
    };
    let image = match found {
        None => Image::new(config.track_size),
        Some(found) => {
            check_header(&found, &header)?;
            header.epoch = found.journal.header.epoch + 1;
            replay(&found)?
        }
    };
    check_pairs(&image, &specs)?;
    let mut effects = Vec::new();
    let (engine, recovery) = Engine::from_image(config, specs, image, &mut effects)?;
    if recovery.hot_regions > 0 || !recovery.changed.is_empty() {
        let (regions, pairs, tracks) = (recovery.hot_regions, recovery.changed.len(), recovery.owed);
        tracing::info!(
            regions,
            pairs,
            tracks,
            "recovered after a crash: tracks are left to copy"
        );
    }
    let snapshot = engine.snapshot();
    let events = effects.into_iter().filter_map(|effect| match effect {
        Effect::Event(event) => Some(event),
        // The members are asked for one by one when the volumes are made.
        _ => None,
    });
    Ok(Recovered {
        engine,
        header,
        snapshot,
        events: events.collect(),
    })
}

fn specs(volumes: &[Arc<PlainVolume>]) -> Result<BTreeMap<VolumeId, VolumeSpec>, ArrayError> {
    let mut specs = BTreeMap::new();
    for volume in volumes {
        let number = volume.info().number;
        match specs.entry(VolumeId(number.0)) {
            Entry::Vacant(entry) => entry.insert(spec(volume)),
            Entry::Occupied(_) => return Err(ArrayError::VolumeExists { number }),
        };
    }
    Ok(specs)
}

fn check_header(found: &Found, expected: &Header) -> Result<(), ArrayError> {
    let header = &found.journal.header;
    let path = found.path.clone();
    if header.system_id != expected.system_id {
        let text = |id: &[u8]| String::from_utf8_lossy(id).trim_end().to_owned();
        let (found, expected) = (text(&header.system_id), text(&expected.system_id));
        return Err(ArrayError::OtherSystem {
            path,
            found,
            expected,
        });
    }
    if header.track_size != expected.track_size {
        return Err(ArrayError::TrackSize {
            path,
            found: header.track_size,
            expected: expected.track_size,
        });
    }
    Ok(())
}

fn replay(found: &Found) -> Result<Image, ArrayError> {
    let journal = &found.journal;
    Image::replay(journal.header.track_size, &journal.entries).map_err(|source| {
        JournalFileError::Content {
            path: found.path.clone(),
            source,
        }
        .into()
    })
}

/// Every volume of a pair must be there, and be what it was.
fn check_pairs(image: &Image, specs: &BTreeMap<VolumeId, VolumeSpec>) -> Result<(), ArrayError> {
    for (pair, known) in &image.pairs {
        let (primary, mirror) = (known.meta.primary, pair.0);
        for id in [primary, mirror] {
            let number = VolumeNumber(id.0);
            let Some(now) = specs.get(&id) else {
                let (primary, mirror) = (VolumeNumber(primary.0), VolumeNumber(mirror.0));
                return Err(ArrayError::PairedVolumeMissing {
                    number,
                    primary,
                    mirror,
                });
            };
            match image.volumes.get(&id) {
                Some(had) if had.spec != *now => {
                    return Err(ArrayError::PairedVolumeResized {
                        number,
                        had: had.spec.bytes,
                        had_block: had.spec.block_size,
                        bytes: now.bytes,
                        block_size: now.block_size,
                    });
                }
                _ => {}
            }
        }
    }
    Ok(())
}
