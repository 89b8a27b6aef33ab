//! The configuration: docs/surface.md, "Configuration".
//!
//! It comes to be in three steps, and each collects every fault it finds before the next one begins: the text is parsed
//! and environment variables are laid over it ([`source`]); each table becomes its [`raw`] structure, which refuses unknown
//! keys and wrong types; [`validate`] turns all of them into [`Config`], which holds only what makes sense. Nothing is
//! opened on the way, except the secret files that it names.

mod authentication;
pub(crate) mod embedded;
mod initiator;
mod iscsi;
mod keys;
mod link;
pub(crate) mod problem;
mod raw;
mod secret;
mod shared;
mod source;
mod target;
mod validate;
mod volume;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use iscsi_frontend::{Algorithm, Portal};
use target_core::scsi_model::control::SystemId;

use self::problem::{ConfigError, Problems};
pub(crate) use self::{
    authentication::{Authentication, Chap},
    initiator::InitiatorConfig,
    iscsi::{Isns, algorithm_name},
    keys::{SessionKeys, offer},
    link::{Link, Peer, QueueConfig, peer_configs},
    raw::{RawSize, RawVolume},
    secret::Secret,
    target::{LunConfig, LunConfigs, TargetConfig},
    volume::{
        Media, VolumeConfig, clash as validate_clash, name as validate_name, volume as validate_volume,
    },
};

/// A configuration that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where it came from, as messages name it.
    pub(crate) source: String,
    /// `[system]`.
    pub(crate) system: System,
    /// `[iscsi]`.
    pub(crate) portals: Vec<Portal>,
    /// `[isns]`.
    pub(crate) isns: Option<Isns>,
    /// What sessions may agree on, where target and initiator do not say otherwise.
    pub(crate) sessions: SessionKeys,
    /// `[iscsi.discovery]`: what a discovery session must prove.
    pub(crate) discovery: Authentication,
    /// How long a session looks at its socket before it sleeps; zero: not at all.
    pub(crate) longest_look: Duration,
    /// Hashes of CHAP that logins may use, best first.
    pub(crate) chap_algorithms: Vec<Algorithm>,
    /// `[admin]`.
    pub(crate) admin: Admin,
    /// `[replication]`.
    pub(crate) replication: Replication,
    /// `[generations]`.
    pub(crate) generations: GenerationsConfig,
    /// `[link]`.
    pub(crate) link: Option<Link>,
    /// `[[peer]]`: addresses by system id.
    pub(crate) peers: BTreeMap<SystemId, Peer>,
    /// `[[volume]]`, by number.
    pub(crate) volumes: BTreeMap<u32, VolumeConfig>,
    /// `[[target]]`, by name.
    pub(crate) targets: BTreeMap<String, TargetConfig>,
}

/// `[system]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct System {
    /// System id.
    pub(crate) id: SystemId,
    /// State directory.
    pub(crate) state_dir: PathBuf,
    /// Bytes per track.
    pub(crate) track_size: u32,
    /// Threads that serve; 0 is one for each core.
    pub(crate) workers: usize,
    /// Sessions share them with all else; otherwise each stays on a thread, of which there are as many.
    pub(crate) work_stealing: bool,
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Admin {
    /// The Unix socket.
    pub(crate) socket: PathBuf,
    /// The read-only HTTP port.
    pub(crate) http: Option<SocketAddr>,
}

/// `[replication]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replication {
    /// Bytes per second that all background copies together may move; `None` as fast as the disks.
    pub(crate) copy_rate: Option<u64>,
    /// How long hosts' I/O may take while copies run, in percent of what it takes without; 0: copies do not care.
    pub(crate) latency_factor: u32,
    /// How long a host's write to an async pair may wait for the link; zero: none waits.
    pub(crate) longest_hold: Duration,
    /// Bytes above which the metadata journal is written anew.
    pub(crate) journal_limit: Option<u64>,
    /// Pairs that a fault suspended resume by themselves where the direction is certain.
    pub(crate) auto_resume: bool,
    /// Mirrors of pairs that do not.
    pub(crate) resume_by_command: BTreeSet<u32>,
}

/// `[generations]`: where their mirrors come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GenerationsConfig {
    /// Mirror volumes that belong to generations.
    pub(crate) pool: BTreeSet<u32>,
    /// Where mirrors are made on demand; `None` they are not.
    pub(crate) directory: Option<PathBuf>,
}

impl Config {
    /// Reads `file`, or takes the embedded default, lays `environment` over it, and checks everything.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        match file {
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
                    file: name.clone(),
                    source,
                })?;
                Self::parse(&name, &text, environment)
            }
            None => Self::parse(embedded::NAME, embedded::TEXT, environment).map(embedded::gathered),
        }
    }

    /// The same of a text.
    pub(crate) fn parse(
        name: &str,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut problems = Problems::new(name);
        let Some(mut table) = source::parse(text, &mut problems) else {
            return Err(problems.into());
        };
        source::overlay(&mut table, environment, &mut problems);
        let raw = raw::Raw::from_table(table, &mut problems);
        let config = validate::config(name, raw, &mut problems);
        match (config, problems.is_empty()) {
            (Some(config), true) => Ok(config),
            _ => Err(problems.into()),
        }
    }

    /// The volume a LUN map entry names, for messages.
    pub(crate) fn volume_named(&self, number: u32) -> String {
        self.volumes
            .get(&number)
            .map_or_else(|| number.to_string(), |volume| volume.name.clone())
    }
}
