//! From what is written to what makes sense. Every check adds to the list and goes on, so that one run names all faults.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use admin_api::Size;
use replication::remote::DEFAULT_HOLD;
use replication_engine::Limits;
use target_core::scsi_model::control::SystemId;

use super::{
    Admin, Config, GenerationsConfig, Replication, System, VolumeConfig, iscsi, keys, link,
    problem::Problems,
    raw::{Raw, RawAdmin, RawGenerations, RawReplication, RawSize, RawSystem},
    shared, target, volume,
};

const TRACK_SIZE: u32 = 64 << 10;
const TRACK_SIZE_RANGE: std::ops::RangeInclusive<u64> = 8 << 10..=1 << 20;

/// The whole configuration; `None` when `[system]` or `[iscsi]` is so broken that nothing can be built on it. Whether it
/// is any good is for `problems` to say.
pub(super) fn config(source: &str, raw: Raw, problems: &mut Problems) -> Option<Config> {
    let system = raw.system.and_then(|raw| system(raw, problems));
    let sessions = raw
        .iscsi
        .as_ref()
        .map(|raw| keys::general(raw, problems))
        .unwrap_or_default();
    let longest_look = raw.iscsi.as_ref().and_then(|raw| raw.look_before_sleep);
    let longest_look = iscsi::longest_look(longest_look, problems);
    let chap_algorithms = raw.iscsi.as_ref().and_then(|raw| raw.chap_algorithms.as_deref());
    let chap_algorithms = iscsi::chap_algorithms(chap_algorithms, problems);
    let mut iscsi = raw.iscsi;
    let discovery = iscsi.as_mut().and_then(|raw| raw.discovery.take());
    let discovery = discovery
        .map(|raw| iscsi::discovery(raw, problems))
        .unwrap_or_default();
    let portals = iscsi.and_then(|raw| iscsi::portals(raw, problems));
    let isns = raw.isns.and_then(|raw| iscsi::isns(raw, problems));
    let volumes = volume::volumes(raw.volumes, problems);
    let known = (!raw.volumes_incomplete).then_some(&volumes);
    let targets = target::targets(raw.targets, &sessions, known, problems);
    let replication = replication(raw.replication.unwrap_or_default(), known, problems);
    let generations = generations(raw.generations.unwrap_or_default(), known, problems);
    let id = system.as_ref().map(|system| &system.id);
    let linked = raw.link.is_some();
    let link = raw.link.and_then(|raw| link::link(raw, id, problems));
    let raw_admin = raw.admin.unwrap_or_default();
    let state_dir = system.as_ref().map_or(Path::new("."), |system| &system.state_dir);
    let peers = link::peers(raw.peers, linked, id, (state_dir, &volumes), problems);
    shared::peers_are_known(&volumes, &peers, problems);
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
    target::check_portal_groups(&portals, &targets, problems);
    target::open_portals(&portals, &targets, problems);
    shared::redirects_lead_somewhere(&targets, &volumes, problems);
    Some(Config {
        source: source.to_owned(),
        system,
        portals,
        isns,
        sessions,
        discovery,
        longest_look,
        chap_algorithms,
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
        work_stealing: raw.work_stealing.unwrap_or(true),
    })
}

/// `ADDRESS:PORT`.
pub(super) fn address(key: &str, text: &str, problems: &mut Problems) -> Option<SocketAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        let text =
            format!("{text:?} is not accepted: ADDRESS:PORT is, like \"127.0.0.1:3260\" or \"[::1]:3260\"");
        problems.add(key, text);
    }
    address
}

/// What a side may say of itself in a text key, and in an attribute of iSNS.
pub(super) fn is_declarable(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.contains(char::is_control)
}

pub(super) const DECLARABLE: &str = "1 to 255 bytes without control characters are accepted";

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

fn longest_hold(raw: Option<f64>, problems: &mut Problems) -> Duration {
    match raw {
        None => DEFAULT_HOLD,
        Some(seconds) if (0.0..=60.0).contains(&seconds) => Duration::from_secs_f64(seconds),
        Some(seconds) => {
            let text = format!(
                "{seconds} is not accepted: 0 to 60 seconds are, and 0 parts a pair rather than keep hosts waiting"
            );
            problems.add("replication.longest_hold", text);
            DEFAULT_HOLD
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
    let longest_hold = longest_hold(raw.longest_hold, problems);
    Replication {
        copy_rate,
        latency_factor,
        longest_hold,
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

pub(super) fn size(key: &str, raw: &RawSize, problems: &mut Problems) -> Option<u64> {
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
