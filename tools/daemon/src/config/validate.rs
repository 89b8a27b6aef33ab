//! From what is written to what makes sense. Every check adds to the list and goes on, so that one run names all faults.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use admin_api::Size;
use replication_engine::Limits;
use target_core::{
    identities::{self, ConfiguredDesignators},
    lun_map::LARGEST_LUN,
    scsi_model::control::SystemId,
};

use super::{
    Admin, Chap, Config, GenerationsConfig, InitiatorConfig, Isns, LunConfig, Media, Replication, Secret,
    SessionLimits, System, TargetConfig, VolumeConfig, link,
    problem::Problems,
    raw::{
        Raw, RawAdmin, RawChap, RawGenerations, RawInitiator, RawIscsi, RawIsns, RawReplication, RawSize,
        RawSystem, RawTarget, RawVolume,
    },
};

const TRACK_SIZE: u32 = 64 << 10;
const TRACK_SIZE_RANGE: std::ops::RangeInclusive<u64> = 8 << 10..=1 << 20;
/// Numbers above are selectors on the wire.
const LARGEST_NUMBER: u32 = 0xffff_fffd;
/// The volume descriptor's field.
const NAME_BYTES: usize = 32;

/// The most connections that a session may be given.
const MAX_CONNECTIONS: u16 = 64;

/// The highest ErrorRecoveryLevel there is.
const MAX_RECOVERY: u8 = 2;

/// The whole configuration; `None` when `[system]` or `[iscsi]` is so broken that nothing can be built on it. Whether it
/// is any good is for `problems` to say.
pub(super) fn config(source: &str, raw: Raw, problems: &mut Problems) -> Option<Config> {
    let system = raw.system.and_then(|raw| system(raw, problems));
    let sessions = raw
        .iscsi
        .as_ref()
        .map(|raw| session_limits(raw, problems))
        .unwrap_or_default();
    let portals = raw.iscsi.and_then(|raw| portals(raw, problems));
    let isns = raw.isns.and_then(|raw| isns(raw, problems));
    let volumes = volumes(raw.volumes, problems);
    let known = (!raw.volumes_incomplete).then_some(&volumes);
    let targets = targets(raw.targets, known, problems);
    let replication = replication(raw.replication.unwrap_or_default(), known, problems);
    let generations = generations(raw.generations.unwrap_or_default(), known, problems);
    let id = system.as_ref().map(|system| &system.id);
    let linked = raw.link.is_some();
    let link = raw.link.and_then(|raw| link::link(raw, id, problems));
    let peers = link::peers(raw.peers, linked, id, problems);
    let raw_admin = raw.admin.unwrap_or_default();
    let state_dir = system.as_ref().map_or(Path::new("."), |system| &system.state_dir);
    let admin = admin(raw_admin, state_dir, problems);
    match (&system, &portals) {
        (Some(_), Some(_)) => {}
        // A table that did not fit has been reported; one that is not there has not.
        _ if problems.is_empty() => problems.add(
            "system, iscsi",
            "both tables are needed: [system] with id and state_dir, [iscsi] with portals",
        ),
        _ => {}
    }
    let (system, portals) = (system?, portals?);
    open_portals(&portals, &targets, problems);
    Some(Config {
        source: source.to_owned(),
        system,
        portals,
        isns,
        sessions,
        admin,
        replication,
        generations,
        link,
        peers,
        volumes,
        targets,
    })
}

fn system(raw: RawSystem, problems: &mut Problems) -> Option<System> {
    let id = match raw.id.map(SystemId::new) {
        Some(Ok(id)) => Some(id),
        Some(Err(error)) => {
            problems.add("system.id", error.to_string());
            None
        }
        None => {
            problems.add("system.id", "is needed: 1 to 16 characters A-Z a-z 0-9 - . _");
            None
        }
    };
    let state_dir = match raw.state_dir {
        Some(path) if !path.is_empty() => Some(PathBuf::from(path)),
        _ => {
            problems.add("system.state_dir", "is needed: the path of a directory");
            None
        }
    };
    let track_size = raw
        .track_size
        .and_then(|raw| size("system.track_size", &raw, problems));
    let track_size = match track_size {
        None => Some(TRACK_SIZE),
        Some(bytes) if bytes.is_power_of_two() && TRACK_SIZE_RANGE.contains(&bytes) => Some(bytes as u32),
        Some(bytes) => {
            let text = format!(
                "{} is not accepted: a power of two from 8KiB to 1MiB is",
                Size(bytes)
            );
            problems.add("system.track_size", text);
            None
        }
    };
    Some(System {
        id: id?,
        state_dir: state_dir?,
        track_size: track_size?,
        workers: usize::from(raw.workers.unwrap_or(0)),
    })
}

fn session_limits(raw: &RawIscsi, problems: &mut Problems) -> SessionLimits {
    let mut limits = SessionLimits::default();
    match raw.max_connections.map(u16::try_from) {
        None => {}
        Some(Ok(count @ 1..=MAX_CONNECTIONS)) => limits.max_connections = count,
        Some(_) => problems.add(
            "iscsi.max_connections",
            format!("is 1 to {MAX_CONNECTIONS}: the connections that a session may have"),
        ),
    }
    match raw.error_recovery_level.map(u8::try_from) {
        None => {}
        Some(Ok(level @ 0..=MAX_RECOVERY)) => limits.error_recovery_level = level,
        Some(_) => problems.add(
            "iscsi.error_recovery_level",
            format!("is 0 to {MAX_RECOVERY}: what initiators may agree on"),
        ),
    }
    limits
}

fn portals(raw: RawIscsi, problems: &mut Problems) -> Option<Vec<SocketAddr>> {
    const KEY: &str = "iscsi.portals";
    let Some(texts) = raw.portals.filter(|texts| !texts.is_empty()) else {
        problems.add(
            KEY,
            "at least one ADDRESS:PORT is needed, like \"127.0.0.1:3260\"",
        );
        return None;
    };
    let mut portals: Vec<SocketAddr> = Vec::new();
    for text in texts {
        match address(KEY, &text, problems) {
            Some(portal) if portals.contains(&portal) => {
                problems.add(KEY, format!("{portal} is listed twice"));
            }
            Some(portal) => portals.push(portal),
            None => {}
        }
    }
    Some(portals)
}

fn address(key: &str, text: &str, problems: &mut Problems) -> Option<SocketAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        let text =
            format!("{text:?} is not accepted: ADDRESS:PORT is, like \"127.0.0.1:3260\" or \"[::1]:3260\"");
        problems.add(key, text);
    }
    address
}

/// Seconds between inquiries when nothing is said.
const ESI_INTERVAL: u32 = 60;

fn isns(raw: RawIsns, problems: &mut Problems) -> Option<Isns> {
    let host_and_port = raw.server.rsplit_once(':');
    let reachable = host_and_port.is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let named = !host.is_empty() && (bracketed || !host.contains(':'));
        named && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !reachable {
        let text = format!(
            "{:?} is not accepted: HOST:PORT is, like \"isns.example.org:3205\" or \"192.0.2.5:3205\"",
            raw.server
        );
        problems.add("isns.server", text);
    }
    if let Some(entity) = &raw.entity
        && !is_declarable(entity)
    {
        problems.add("isns.entity", DECLARABLE);
    }
    reachable.then_some(Isns {
        server: raw.server,
        entity: raw.entity,
        esi_interval: raw.esi_interval.unwrap_or(ESI_INTERVAL),
    })
}

/// What a side may say of itself in a text key, and in an attribute of iSNS.
fn is_declarable(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.contains(char::is_control)
}

const DECLARABLE: &str = "1 to 255 bytes without control characters are accepted";

fn admin(raw: RawAdmin, state_dir: &Path, problems: &mut Problems) -> Admin {
    let socket = raw
        .socket
        .map_or_else(|| state_dir.join("admin.sock"), PathBuf::from);
    // sun_path of unix(7) holds 108 bytes with the end.
    if socket.as_os_str().len() > 107 {
        problems.add(
            "admin.socket",
            format!("{} is too long: at most 107 bytes are accepted", socket.display()),
        );
    }
    let http = raw.http.and_then(|text| address("admin.http", &text, problems));
    Admin { socket, http }
}

/// In percent.
#[expect(clippy::cast_sign_loss, reason = "only what lies between 1.1 and 100 is cast")]
fn latency_factor(raw: Option<f64>, problems: &mut Problems) -> u32 {
    match raw {
        None => Limits::default().latency_factor,
        Some(0.0) => 0,
        Some(factor) if (1.1..=100.0).contains(&factor) => (factor * 100.0).round() as u32,
        Some(factor) => {
            let text =
                format!("{factor} is not accepted: 1.1 to 100 is, or 0 for copies that do not mind hosts");
            problems.add("replication.latency_factor", text);
            0
        }
    }
}

/// Bytes; less would replace the file at every command.
const SMALLEST_JOURNAL: u64 = 4 << 10;

fn replication(
    raw: RawReplication,
    volumes: Option<&BTreeMap<u32, VolumeConfig>>,
    problems: &mut Problems,
) -> Replication {
    let copy_rate = raw
        .copy_rate
        .and_then(|raw| size("replication.copy_rate", &raw, problems));
    if copy_rate == Some(0) {
        problems.add(
            "replication.copy_rate",
            "0 is not accepted: bytes per second are, like \"100MiB\"; leave it out for no limit",
        );
    }
    let journal_limit = raw
        .journal_limit
        .and_then(|raw| size("replication.journal_limit", &raw, problems));
    if journal_limit.is_some_and(|bytes| bytes < SMALLEST_JOURNAL) {
        problems.add("replication.journal_limit", "at least \"4KiB\" is accepted");
    }
    for number in &raw.resume_by_command {
        if volumes.is_some_and(|volumes| !volumes.contains_key(number)) {
            problems.add(
                "replication.resume_by_command",
                format!("there is no volume {number}: numbers of mirrors are accepted"),
            );
        }
    }
    let latency_factor = latency_factor(raw.latency_factor, problems);
    Replication {
        copy_rate,
        latency_factor,
        journal_limit,
        auto_resume: raw.auto_resume.unwrap_or(true),
        resume_by_command: raw.resume_by_command.into_iter().collect(),
    }
}

fn generations(
    raw: RawGenerations,
    volumes: Option<&BTreeMap<u32, VolumeConfig>>,
    problems: &mut Problems,
) -> GenerationsConfig {
    const POOL: &str = "generations.pool";
    for number in &raw.pool {
        let Some(volumes) = volumes else { continue };
        match volumes.get(number) {
            None => problems.add(POOL, format!("there is no volume {number}")),
            Some(volume) if !volume.mirror => {
                let text = format!(
                    "volume {number} ({}) is a standard; mirrors are accepted",
                    volume.name
                );
                problems.add(POOL, text);
            }
            Some(_) => {}
        }
    }
    if raw.directory.as_deref() == Some("") {
        problems.add("generations.directory", "the path of a directory is accepted");
    }
    GenerationsConfig {
        pool: raw.pool.into_iter().collect(),
        directory: raw.directory.map(PathBuf::from),
    }
}

fn size(key: &str, raw: &RawSize, problems: &mut Problems) -> Option<u64> {
    match raw {
        RawSize::Bytes(bytes) => Some(*bytes),
        RawSize::Text(text) => match text.parse::<Size>() {
            Ok(size) => Some(size.0),
            Err(error) => {
                problems.add(key, error.to_string());
                None
            }
        },
    }
}

fn volumes(raw: Vec<(String, RawVolume)>, problems: &mut Problems) -> BTreeMap<u32, VolumeConfig> {
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

fn targets(
    raw: Vec<(String, RawTarget)>,
    volumes: Option<&BTreeMap<u32, VolumeConfig>>,
    problems: &mut Problems,
) -> BTreeMap<String, TargetConfig> {
    let mut targets = BTreeMap::new();
    for (key, raw) in raw {
        // iSCSI names compare without case (RFC 7143 4.2.7.1).
        let iqn = raw.iqn.to_lowercase();
        if !iscsi_name(&iqn) {
            let text = format!(
                "{:?} is no iSCSI name: iqn.YYYY-MM.reversed.domain[:text], eui. and naa. names are accepted",
                raw.iqn
            );
            problems.add(format!("{key}.iqn"), text);
        }
        if targets.contains_key(&iqn) {
            problems.add(
                format!("{key}.iqn"),
                format!("{iqn} is the name of another target already"),
            );
        }
        if let Some(alias) = &raw.alias
            && !is_declarable(alias)
        {
            problems.add(format!("{key}.alias"), DECLARABLE);
        }
        let luns = luns(&key, &raw, volumes, problems);
        let initiators = initiators(&key, raw.initiator, problems);
        targets.entry(iqn.clone()).or_insert(TargetConfig {
            iqn,
            alias: raw.alias,
            luns,
            initiators,
        });
    }
    targets
}

/// RFC 7143 4.2.7: at most 223 bytes, one of three types.
fn iscsi_name(name: &str) -> bool {
    let hex = |text: &str, lengths: &[usize]| {
        lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let legal = |c: char| !c.is_control() && !c.is_whitespace() && c != ',' && c != '/';
    let iqn = |text: &str| {
        let (date, rest) = text.split_once('.').unwrap_or((text, ""));
        let date = date.as_bytes();
        let digits = |range: &[u8]| range.iter().all(u8::is_ascii_digit);
        date.len() == 7 && digits(&date[..4]) && date[4] == b'-' && digits(&date[5..]) && !rest.is_empty()
    };
    name.len() <= 223
        && name.chars().all(legal)
        && (name.strip_prefix("iqn.").is_some_and(iqn)
            || name.strip_prefix("eui.").is_some_and(|rest| hex(rest, &[16]))
            || name.strip_prefix("naa.").is_some_and(|rest| hex(rest, &[16, 32])))
}

fn luns(
    key: &str,
    raw: &RawTarget,
    volumes: Option<&BTreeMap<u32, VolumeConfig>>,
    problems: &mut Problems,
) -> BTreeMap<u16, LunConfig> {
    let mut luns = BTreeMap::new();
    for (index, entry) in raw.luns.iter().enumerate() {
        let key = format!("{key}.luns[{}]", index + 1);
        if entry.lun > LARGEST_LUN {
            problems.add(
                format!("{key}.lun"),
                format!("{} is not accepted: 0 to {LARGEST_LUN} is", entry.lun),
            );
        }
        if let Some(volumes) = volumes.filter(|volumes| !volumes.contains_key(&entry.volume)) {
            let known = volumes
                .keys()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            let text = format!("there is no volume {}; accepted are {known}", entry.volume);
            problems.add(format!("{key}.volume"), text);
        }
        let lun = LunConfig {
            volume: entry.volume,
            read_only: entry.read_only,
        };
        if luns.insert(entry.lun, lun).is_some() {
            problems.add(format!("{key}.lun"), format!("LUN {} is given twice", entry.lun));
        }
    }
    luns
}

fn initiators(key: &str, raw: Vec<RawInitiator>, problems: &mut Problems) -> Vec<InitiatorConfig> {
    let mut seen = BTreeSet::new();
    let mut initiators = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("{key}.initiator[{}]", index + 1);
        let name = raw.name.to_lowercase();
        if name != "*" && !iscsi_name(&name) {
            let text = format!(
                "{:?} is no iSCSI name; one, or \"*\" for every other initiator, is accepted",
                raw.name
            );
            problems.add(format!("{key}.name"), text);
        }
        if !seen.insert(name.clone()) {
            problems.add(format!("{key}.name"), format!("{name:?} is given twice"));
        }
        let mutual_alone = raw.mutual.is_some() && raw.chap.is_none();
        if mutual_alone {
            problems.add(
                format!("{key}.mutual"),
                "is accepted only with chap: the target answers only to whom it has asked",
            );
        }
        let chap = raw
            .chap
            .and_then(|raw| chap(&format!("{key}.chap"), raw, problems));
        let mutual = raw
            .mutual
            .and_then(|raw| self::chap(&format!("{key}.mutual"), raw, problems));
        if let (Some(chap), Some(mutual)) = (&chap, &mutual)
            && chap.secret == mutual.secret
        {
            problems.add(
                format!("{key}.mutual.secret_file"),
                "holds the same secret as chap; two different ones are accepted (RFC 7143 12.1.3)",
            );
        }
        let moved = raw.moved.and_then(|raw| {
            let to = address(&format!("{key}.moved.to"), &raw.to, problems)?;
            Some((to, raw.permanent))
        });
        initiators.push(InitiatorConfig {
            name: (name != "*").then_some(name),
            control: raw.control,
            chap,
            mutual,
            moved,
        });
    }
    initiators
}

fn chap(key: &str, raw: RawChap, problems: &mut Problems) -> Option<Chap> {
    if raw.user.is_empty() || raw.user.len() > 255 {
        problems.add(format!("{key}.user"), "1 to 255 bytes are accepted");
    }
    match Secret::read(Path::new(&raw.secret_file)) {
        Ok(secret) => Some(Chap {
            user: raw.user,
            secret,
        }),
        Err(text) => {
            problems.add(format!("{key}.secret_file"), text);
            None
        }
    }
}

/// A target that lets anyone in may only be reached from this machine.
fn open_portals(portals: &[SocketAddr], targets: &BTreeMap<String, TargetConfig>, problems: &mut Problems) {
    let Some(portal) = portals.iter().find(|portal| !portal.ip().is_loopback()) else {
        return;
    };
    for target in targets.values().filter(|target| target.initiators.is_empty()) {
        let text = format!(
            "lists no [[target.initiator]], so any initiator may log in, and the portal {portal} is not on loopback; \
             list the initiators (name = \"*\" is any), or listen on 127.0.0.1 or [::1] only"
        );
        problems.add(format!("target {}", target.iqn), text);
    }
}
