//! The volumes as `setup`, `volume list` and `GET /v1/volumes` show them.

use scsi_model::control::VolumeDescriptor;
use serde::{Deserialize, Serialize};

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesDocument {
    /// This system.
    pub system: String,
    /// Its volumes, by number.
    pub volumes: Vec<VolumeDocument>,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeDocument {
    /// Number.
    pub number: u32,
    /// Name.
    pub name: String,
    /// `standard` or `mirror`.
    pub class: String,
    /// Bytes.
    pub size: u64,
    /// Bytes per logical block.
    pub block_size: u32,
    /// Bytes per track.
    pub track_size: u32,
    /// NAA identifier of VPD 83h, lower-case hexadecimal.
    pub naa: String,
    /// Unit serial number.
    pub serial: String,
    /// Answers hosts.
    pub ready: bool,
    /// Read-only for hosts.
    pub read_only: bool,
    /// Holes where nothing was written.
    pub thin: bool,
    /// Pairs it is in.
    pub pairs: u16,
    /// LUN through which the target that was asked exports it; over the admin socket the lowest one that a target
    /// shows to all its initiators, else the lowest of those that only some see.
    pub lun: Option<u16>,
    /// Every LUN of every target; empty in band, where only the own target can be seen.
    pub luns: Vec<LunMap>,
    /// The file or device it lives on, `memory`, or `None` when it was asked in band.
    pub media: Option<String>,
    /// Block device of this host that is this volume, if one was found.
    pub host_device: Option<String>,
}

/// A volume's place in a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LunMap {
    /// Name of the target.
    pub target: String,
    /// LUN.
    pub lun: u16,
    /// The LUN is write protected.
    pub read_only: bool,
    /// The initiator, or the pattern of such, that sees it there; `None`: everybody without LUNs of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator: Option<String>,
}

impl From<&VolumeDescriptor> for VolumeDocument {
    fn from(volume: &VolumeDescriptor) -> Self {
        Self {
            number: volume.number.0,
            name: volume.name.clone(),
            class: if volume.mirror_class { "mirror" } else { "standard" }.to_owned(),
            size: volume.blocks.saturating_mul(u64::from(volume.block_size)),
            block_size: volume.block_size,
            track_size: volume.track_size,
            naa: format!("{:032x}", u128::from_be_bytes(volume.naa)),
            serial: volume.serial.clone(),
            ready: volume.ready,
            read_only: volume.read_only,
            thin: volume.thin,
            pairs: volume.pairs,
            lun: volume.lun,
            luns: Vec::new(),
            media: None,
            host_device: None,
        }
    }
}
