//! Commands through nexuses, on memory volumes: what all tests share.

mod atomic;
mod blocks;
mod logs;
mod nexuses;
mod sanitize;
mod token_histories;
mod tokens;

use std::sync::Arc;

use scsi_model::{control::VolumeNumber, sense::Sense};

use super::*;
use crate::{
    control::{ArrayControl, ControlFuture},
    identities::IdentityStore,
    media::{Faults, FileMedia, MemoryMedia},
    plain::{Backing, PlainVolume, VolumeConfig},
    target::{Access, AccessRules, InitiatorPort, LunEntry, Target, TaskAttribute},
    unit_state::UnitStateStore,
};

const BLOCK: usize = 512;
const BYTES: u64 = 4 << 20;

fn config(number: u32) -> VolumeConfig {
    VolumeConfig {
        number: VolumeNumber(number),
        name: format!("v{number}"),
        mirror_class: false,
        size: Some(BYTES),
        backing: Backing::Memory,
        block_size: 512,
        physical_block_size: 512,
        removable: false,
        thin: true,
        quota: None,
    }
}

fn volume(number: u32) -> (Arc<PlainVolume>, Arc<Faults>) {
    let (media, faults) = MemoryMedia::with_faults(BYTES);
    let volume = PlainVolume::on_media(config(number), Arc::new(media), &IdentityStore::ephemeral()).unwrap();
    (volume, faults)
}

/// A target with volumes 1 and 2 as LUNs 0 and 5.
struct Rig {
    target: Arc<Target>,
    units: Vec<Arc<LogicalUnit>>,
    volumes: Vec<Arc<PlainVolume>>,
    faults: Vec<Arc<Faults>>,
}

impl Rig {
    fn new() -> Self {
        Self::with_control(None)
    }

    fn with_control(control: Option<&Arc<dyn ArrayControl>>) -> Self {
        let (volumes, faults): (Vec<_>, Vec<_>) = [1, 2].map(volume).into_iter().unzip();
        let unit = |volume: &Arc<PlainVolume>| {
            LogicalUnit::new(volume.clone(), control.cloned(), UnitStateStore::ephemeral()).unwrap()
        };
        let units: Vec<_> = volumes.iter().map(unit).collect();
        let target = Target::new("iqn.2026-11.test:t", rules(&units, false));
        Self {
            target,
            units,
            volumes,
            faults,
        }
    }

    /// A nexus that has heard of the power on of both units.
    async fn nexus(&self, name: &str) -> Arc<Nexus> {
        let nexus = self.fresh_nexus(name);
        for lun in [0, 5] {
            assert_eq!(sense(&run(&nexus, lun, &[0; 6], &[]).await), Some((6, 0x29, 0)));
        }
        nexus
    }

    fn fresh_nexus(&self, name: &str) -> Arc<Nexus> {
        self.target.attach(
            InitiatorPort {
                name: name.into(),
                isid: [1; 6],
            },
            1,
        )
    }
}

fn rules(units: &[Arc<LogicalUnit>], control: bool) -> AccessRules {
    let entry = |(unit, lun): (&Arc<LogicalUnit>, u16)| LunEntry {
        lun,
        unit: unit.clone(),
        read_only: false,
    };
    let luns = units.iter().zip([0, 5]).map(entry).collect();
    AccessRules::for_all(Access { control, luns })
}

fn start(nexus: &Arc<Nexus>, lun: u8, cdb: &[u8], data_out: &[u8]) -> Execution {
    let mut padded = cdb.to_vec();
    padded.resize(cdb.len().max(16), 0);
    nexus.execute(ScsiCommand {
        lun: [0, lun, 0, 0, 0, 0, 0, 0],
        cdb: Bytes::from(padded),
        attribute: TaskAttribute::Simple,
        data_out: Bytes::copy_from_slice(data_out),
        data_in_limit: 1 << 20,
    })
}

async fn run(nexus: &Arc<Nexus>, lun: u8, cdb: &[u8], data_out: &[u8]) -> ScsiResponse {
    finish(start(nexus, lun, cdb, data_out)).await
}

fn sense(response: &ScsiResponse) -> Option<(u8, u8, u8)> {
    let sense = Sense::decode(&response.sense)?;
    Some((sense.key as u8, sense.additional.code, sense.additional.qualifier))
}

fn information(response: &ScsiResponse) -> Option<u64> {
    Sense::decode(&response.sense)?.information
}

fn cdb10(opcode: u8, flags: u8, lba: u32, blocks: u16) -> Vec<u8> {
    let mut cdb = vec![opcode, flags];
    cdb.extend(lba.to_be_bytes());
    cdb.push(0);
    cdb.extend(blocks.to_be_bytes());
    cdb.push(0);
    cdb
}

fn cdb16(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Vec<u8> {
    let mut cdb = vec![opcode, flags];
    cdb.extend(lba.to_be_bytes());
    cdb.extend(blocks.to_be_bytes());
    cdb.extend([0, 0]);
    cdb
}

fn read(lba: u32, blocks: u16) -> Vec<u8> {
    cdb10(0x28, 0, lba, blocks)
}

fn write(lba: u32, blocks: u16) -> Vec<u8> {
    cdb10(0x2a, 0, lba, blocks)
}
