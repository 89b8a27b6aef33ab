//! `[[volume]]`: what is served, and what it lives on.

use std::{collections::BTreeMap, path::PathBuf};

use admin_api::Size;
use target_core::identities::{self, ConfiguredDesignators};

use super::{
    problem::Problems,
    raw::RawVolume,
    shared::{SharedConfig, shared},
    validate::size,
};

/// What a volume lives on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Media {
    /// A file or a block device.
    File(PathBuf),
    /// Memory: lost at the end.
    Memory,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeConfig {
    /// Number.
    pub(crate) number: u32,
    /// Name.
    pub(crate) name: String,
    /// Meant as a mirror.
    pub(crate) mirror: bool,
    /// Bytes; `None` takes the size of the file, which then must exist.
    pub(crate) size: Option<u64>,
    /// What it lives on.
    pub(crate) media: Media,
    /// Past the page cache.
    pub(crate) direct: bool,
    /// Bytes per logical block.
    pub(crate) block_size: u32,
    /// Bytes per physical block.
    pub(crate) physical_block_size: u32,
    /// RMB.
    pub(crate) removable: bool,
    /// Holes where nothing was written.
    pub(crate) thin: bool,
    /// Most bytes that it may allocate in its file.
    pub(crate) quota: Option<u64>,
    /// Who it is to hosts, if that was not to be made up.
    pub(crate) naa: Option<[u8; 16]>,
    /// Its other designators, if they are not to follow from that.
    pub(crate) designators: ConfiguredDesignators,
    /// Another system shows it as the same unit.
    pub(crate) shared: Option<SharedConfig>,
}

/// Numbers above are selectors on the wire.
const LARGEST_NUMBER: u32 = 0xffff_fffd;
/// The volume descriptor's field.
const NAME_BYTES: usize = 32;

pub(super) fn volumes(raw: Vec<(String, RawVolume)>, problems: &mut Problems) -> BTreeMap<u32, VolumeConfig> {
    let mut volumes: BTreeMap<u32, VolumeConfig> = BTreeMap::new();
    for (key, raw) in raw {
        let volume = volume(&key, &raw, problems);
        clash(&key, &volume, volumes.values(), problems);
        volumes.entry(volume.number).or_insert(volume);
    }
    volumes
}

/// A volume against those already there.
pub(crate) fn clash<'a>(
    key: &str,
    volume: &VolumeConfig,
    others: impl Iterator<Item = &'a VolumeConfig>,
    problems: &mut Problems,
) {
    for other in others {
        if other.number == volume.number {
            problems.add(
                format!("{key}.number"),
                format!("{} is taken by volume {}", volume.number, other.name),
            );
        }
        if other.name == volume.name {
            problems.add(
                format!("{key}.name"),
                format!("{:?} is taken by volume {}", volume.name, other.number),
            );
        }
        if volume.naa.is_some() && other.naa == volume.naa {
            problems.add(
                format!("{key}.naa"),
                format!("is the naa of volume {} already", other.name),
            );
        }
        let half = |volume: &VolumeConfig| volume.naa.map(|naa| naa[8..].to_vec());
        if volume.naa != other.naa && volume.naa.is_some() && half(volume) == half(other) {
            problems.add(
                format!("{key}.naa"),
                format!(
                    "ends as the naa of volume {} does: the last 16 digits are the serial number, which must be another",
                    other.name
                ),
            );
        }
        let (ours, theirs) = (volume.designators, other.designators);
        if ours.eui64.is_some() && theirs.eui64 == ours.eui64 {
            problems.add(
                format!("{key}.eui64"),
                format!("is the eui64 of volume {} already", other.name),
            );
        }
        if ours.uuid.is_some() && theirs.uuid == ours.uuid {
            problems.add(
                format!("{key}.uuid"),
                format!("is the uuid of volume {} already", other.name),
            );
        }
        if let (Some(ours), Some(theirs)) = (&volume.shared, &other.shared)
            && (&ours.peer, ours.volume) == (&theirs.peer, theirs.volume)
        {
            problems.add(
                format!("{key}.shared.with"),
                format!("volume {} is shared with that one already", other.name),
            );
        }
        if volume.media != Media::Memory && other.media == volume.media {
            problems.add(
                format!("{key}.file"),
                format!("is the file of volume {} already", other.name),
            );
        }
    }
}

/// One volume by itself; also used for volumes made at run time.
pub(crate) fn volume(key: &str, raw: &RawVolume, problems: &mut Problems) -> VolumeConfig {
    if raw.number > LARGEST_NUMBER {
        let text = format!("{} is not accepted: 0 to {LARGEST_NUMBER} is", raw.number);
        problems.add(format!("{key}.number"), text);
    }
    if let Err(text) = name(&raw.name) {
        problems.add(format!("{key}.name"), text);
    }
    let mirror = match raw.class.as_str() {
        "standard" => false,
        "mirror" => true,
        other => {
            problems.add(
                format!("{key}.class"),
                format!("{other:?} is not accepted: \"standard\" or \"mirror\" is"),
            );
            false
        }
    };
    let block_size = raw.block_size;
    if !matches!(block_size, 512 | 4096) {
        problems.add(
            format!("{key}.block_size"),
            format!("{block_size} is not accepted: 512 or 4096 is"),
        );
    }
    let physical_block_size = raw.physical_block_size.unwrap_or(block_size);
    if !matches!(physical_block_size, 512 | 4096) || physical_block_size < block_size {
        let text =
            format!("{physical_block_size} is not accepted: 512 or 4096, and not less than block_size, is");
        problems.add(format!("{key}.physical_block_size"), text);
    }
    if raw.direct && raw.memory {
        problems.add(
            format!("{key}.direct"),
            "is accepted for a file or a block device only",
        );
    }
    VolumeConfig {
        number: raw.number,
        name: raw.name.clone(),
        mirror,
        size: volume_size(key, raw, problems),
        media: media(key, raw, problems),
        direct: raw.direct,
        block_size,
        physical_block_size,
        removable: raw.removable,
        thin: raw.thin,
        quota: quota(key, raw, problems),
        naa: naa(key, raw, problems),
        designators: designators(key, raw, problems),
        shared: shared(key, raw, problems),
    }
}

fn designators(key: &str, raw: &RawVolume, problems: &mut Problems) -> ConfiguredDesignators {
    let eui64 = raw.eui64.as_ref().and_then(|text| {
        let eui64 = identities::parse_eui64(text);
        if eui64.is_none() {
            let wrong = format!("{text:?} is not accepted: 16 hexadecimal digits are");
            problems.add(format!("{key}.eui64"), wrong);
        }
        eui64
    });
    let uuid = raw.uuid.as_ref().and_then(|text| {
        let uuid = identities::parse_uuid(text);
        if uuid.is_none() {
            let wrong =
                format!("{text:?} is not accepted: a UUID like \"0f8fad5b-d9cb-469f-a165-70867728950e\" is");
            problems.add(format!("{key}.uuid"), wrong);
        }
        uuid
    });
    ConfiguredDesignators { eui64, uuid }
}

fn naa(key: &str, raw: &RawVolume, problems: &mut Problems) -> Option<[u8; 16]> {
    let text = raw.naa.as_ref()?;
    let identity = identities::parse(text);
    if identity.is_none() {
        problems.add(
            format!("{key}.naa"),
            format!("{text:?} is not accepted: 32 hexadecimal digits, the first a 6, are"),
        );
    }
    identity.map(|identity| identity.naa)
}

/// What a thick volume, or one without a file, allocates is all of its size from the start.
fn quota(key: &str, raw: &RawVolume, problems: &mut Problems) -> Option<u64> {
    let key = format!("{key}.quota");
    let bytes = raw.quota.as_ref().and_then(|raw| size(&key, raw, problems))?;
    if raw.memory || !raw.thin {
        problems.add(key, "is accepted for a thin volume on a file only");
        return None;
    }
    Some(bytes)
}

/// A name that cannot be taken for a number.
pub(crate) fn name(text: &str) -> Result<(), String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    if digits || text.len() > NAME_BYTES || !text.chars().all(legal) {
        return Err(format!(
            "{text:?} is not accepted: 1 to {NAME_BYTES} bytes of letters, digits and - . _ are, and not digits alone"
        ));
    }
    Ok(())
}

fn volume_size(key: &str, raw: &RawVolume, problems: &mut Problems) -> Option<u64> {
    let key = format!("{key}.size");
    let bytes = raw.size.as_ref().and_then(|raw| size(&key, raw, problems));
    if raw.memory && raw.size.is_none() {
        problems.add(key, "is needed for a volume in memory");
        return None;
    }
    let unit = u64::from(raw.block_size.max(raw.physical_block_size.unwrap_or(0))).max(1);
    if let Some(bytes) = bytes.filter(|bytes| *bytes == 0 || bytes % unit != 0 || *bytes > 1 << 60) {
        problems.add(
            key,
            format!(
                "{} is not accepted: a multiple of {unit} bytes above 0 is",
                Size(bytes)
            ),
        );
    }
    bytes
}

fn media(key: &str, raw: &RawVolume, problems: &mut Problems) -> Media {
    match (&raw.file, raw.memory) {
        (Some(file), false) if !file.is_empty() => Media::File(PathBuf::from(file)),
        (None, true) => Media::Memory,
        _ => {
            problems.add(
                format!("{key}.file"),
                "either file = \"PATH\" or memory = true is accepted",
            );
            Media::Memory
        }
    }
}
