//! From the journal that was found and the volumes that are configured to an engine that may serve hosts.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use replication_engine::{
    Engine, EngineConfig,
    command::VolumeSpec,
    effects::Effect,
    ids::{PairId, VolumeId},
    journal::{Header, Image, PairMeta, Record},
};
use target_core::{
    plain::PlainVolume,
    scsi_model::control::{SystemId, VolumeNumber},
    volume::Volume,
};

use crate::{
    array::spec,
    array_error::ArrayError,
    events::{ArrayEvent, Level, event_of},
    journal_file::{Found, JournalFileError},
    remote::Remote,
};

/// What recovery gives.
pub(crate) struct Recovered {
    pub(crate) engine: Engine,
    /// Of the journal file to be started.
    pub(crate) header: Header,
    /// What that file begins with.
    pub(crate) snapshot: Vec<Record>,
    /// What changed by it.
    pub(crate) events: Vec<ArrayEvent>,
}

/// Replays the journal, if one was found, dissolves the pairs of volumes that are `fresh`, that is without the content
/// they had, leads again where a swap was cut before the other side could begin, and lets the engine mark what a crash may have left different.
pub(crate) fn recover(
    system: &SystemId,
    config: EngineConfig,
    found: Option<Found>,
    volumes: &[Arc<PlainVolume>],
    remote: &Remote,
    fresh: &BTreeSet<VolumeNumber>,
) -> Result<Recovered, ArrayError> {
    let mut specs = specs(volumes)?;
    specs.extend(remote.specs());
    let mut header = Header {
        epoch: 1,
        system_id: system.to_wire(),
        track_size: config.track_size,
    };
    let mut image = match found {
        None => Image::new(config.track_size),
        Some(found) => {
            check_header(&found, &header)?;
            header.epoch = found.journal.header.epoch + 1;
            replay(&found)?
        }
    };
    let lost = fresh.iter().map(|number| VolumeId(number.0)).collect();
    let dissolved = image.dissolve_pairs_of(&lost);
    check_pairs(&image, &specs)?;
    let turned = remote.undrained(|mirror| image.pairs.get(&PairId(mirror)).map(|pair| pair.meta.primary));
    for (primary, mirror) in &turned {
        image.turn_back(*primary, *mirror);
    }
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
    let changed = effects.into_iter().filter_map(|effect| match effect {
        Effect::Event(event) => event_of(&event, remote),
        // The members are asked for one by one when the volumes are made.
        _ => None,
    });
    let dissolved = dissolved
        .iter()
        .map(|(pair, meta)| dissolution(*pair, meta, &lost));
    let turned = turned
        .iter()
        .map(|(foreign, local)| led_again(*local, remote.name(*foreign)));
    Ok(Recovered {
        engine,
        header,
        snapshot,
        events: dissolved.chain(turned).chain(changed).collect(),
    })
}

/// The pair that was is no more: why, and what became of the volume that is left.
fn dissolution(pair: PairId, meta: &PairMeta, lost: &BTreeSet<VolumeId>) -> ArrayEvent {
    let (primary, mirror) = (meta.primary, pair.0);
    let who = match (lost.contains(&primary), lost.contains(&mirror)) {
        (true, true) => "both volumes have".to_owned(),
        (true, false) => format!("volume {} has", primary.0),
        (false, _) => format!("volume {} has", mirror.0),
    };
    let destination = if meta.state.restores() { primary } else { mirror };
    let half = if meta.state.is_copying() && !lost.contains(&destination) {
        format!(
            "; volume {} is inconsistent: the copy to it was not complete",
            destination.0
        )
    } else {
        String::new()
    };
    ArrayEvent::Told {
        kind: "pair",
        level: Level::Warning,
        text: format!(
            "pair {} -> {} was {} and is cancelled, because {who} come up without content (a new file, or memory){half}",
            primary.0, mirror.0, meta.state
        ),
    }
}

fn led_again(local: VolumeId, far: Option<String>) -> ArrayEvent {
    let far = far.unwrap_or_default();
    ArrayEvent::Told {
        kind: "pair",
        level: Level::Warning,
        text: format!(
            "pair {} {far}: the swap did not come to be, because this system stopped before all that was written had arrived there: it leads",
            local.0
        ),
    }
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
