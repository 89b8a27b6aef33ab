//! `[link]` and `[[peer]]`: the systems that this one talks to.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use admin_api::Size;
use replication::{
    link::{Compression, LinkConfig, LinkStartError, PeerConfig, Timing},
    remote::LEAST_QUEUE,
};
use target_core::scsi_model::control::SystemId;

use super::{
    problem::Problems,
    raw::{RawLink, RawPeer, RawQueue},
    validate::size,
    volume::{Media, VolumeConfig},
};

/// `[link]`: where peers call, and who this system is to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Where peers call.
    pub(crate) listen: SocketAddr,
    /// Certificate.
    pub(crate) cert: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// The authority's certificate.
    pub(crate) ca: PathBuf,
}

/// `[[peer]]`: another system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Where it listens: `HOST:PORT`.
    pub(crate) address: String,
    /// What data to it is compressed by.
    pub(crate) compression: Option<Compression>,
    /// Where async writes go that its link does not carry.
    pub(crate) queue: Option<QueueConfig>,
}

/// `queue` of a peer: a file of this process alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueConfig {
    /// Where.
    pub(crate) file: PathBuf,
    /// Bytes.
    pub(crate) size: u64,
}

impl std::fmt::Display for QueueConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", Size(self.size), self.file.display())
    }
}

impl Peer {
    /// How the configuration calls it.
    pub(crate) fn compression_name(&self) -> &'static str {
        self.compression.map_or("none", Compression::name)
    }
}

impl Link {
    /// What the link is started with. `boot` is drawn at each start.
    pub(crate) fn start_with(
        &self,
        system: &SystemId,
        boot: u128,
        peers: &BTreeMap<SystemId, Peer>,
    ) -> LinkConfig {
        LinkConfig {
            system: system.clone(),
            boot,
            listen: self.listen,
            cert: self.cert.clone(),
            key: self.key.clone(),
            ca: self.ca.clone(),
            peers: peer_configs(peers),
            timing: Timing::default(),
        }
    }
}

/// The peers as the link takes them.
pub(crate) fn peer_configs(peers: &BTreeMap<SystemId, Peer>) -> Vec<PeerConfig> {
    let config = |(id, peer): (&SystemId, &Peer)| PeerConfig {
        id: id.clone(),
        address: peer.address.clone(),
        compression: peer.compression,
    };
    peers.iter().map(config).collect()
}

/// `[link]`. The certificates are read: a system whose certificate is not its own would find out only when it is called.
pub(super) fn link(raw: RawLink, system: Option<&SystemId>, problems: &mut Problems) -> Option<Link> {
    let before = problems.len();
    let listen = raw.listen.and_then(|text| text.parse::<SocketAddr>().ok());
    if listen.is_none() {
        problems.add("link.listen", "ADDRESS:PORT is needed, like \"127.0.0.1:3261\"");
    }
    let mut path = |key: &str, path: Option<String>| {
        let path = path.filter(|path| !path.is_empty()).map(PathBuf::from);
        if path.is_none() {
            problems.add(
                format!("link.{key}"),
                "the path of a PEM file is needed; `holdfast pki` makes them",
            );
        }
        path
    };
    let (cert, key, ca) = (path("cert", raw.cert), path("key", raw.key), path("ca", raw.ca));
    let link = Link {
        listen: listen?,
        cert: cert?,
        key: key?,
        ca: ca?,
    };
    if let (Some(system), true) = (system, problems.len() == before)
        && let Err(error) = replication::link::check(&link.start_with(system, 0, &BTreeMap::new()))
    {
        let key = match &error {
            LinkStartError::File { file, .. } if *file == link.ca => "link.ca",
            LinkStartError::File { file, .. } if *file == link.key => "link.key",
            LinkStartError::KeyMode { .. } => "link.key",
            LinkStartError::File { .. } | LinkStartError::Identity { .. } => "link.cert",
            _ => "link",
        };
        problems.add(key, error.to_string());
    }
    Some(link)
}

/// `[[peer]]`, by id.
pub(super) fn peers(
    raw: Vec<(String, RawPeer)>,
    linked: bool,
    system: Option<&SystemId>,
    (state_dir, volumes): (&Path, &BTreeMap<u32, VolumeConfig>),
    problems: &mut Problems,
) -> BTreeMap<SystemId, Peer> {
    if let (Some((key, _)), false) = (raw.first(), linked) {
        problems.add(
            key,
            "needs [link] with listen, cert, key and ca: systems know each other by certificates",
        );
    }
    let mut peers: BTreeMap<SystemId, Peer> = BTreeMap::new();
    for (key, raw) in raw {
        if !is_address(&raw.address) {
            let text = format!(
                "{:?} is not accepted: HOST:PORT is, like \"192.0.2.7:3261\"",
                raw.address
            );
            problems.add(format!("{key}.address"), text);
        }
        let compression = match raw.compression.as_deref() {
            None | Some("none") => None,
            Some(name) => {
                let found = Compression::ALL.into_iter().find(|by| by.name() == name);
                if found.is_none() {
                    let text = format!("{name:?} is not accepted: \"none\", \"lz4\" and \"zstd\" are");
                    problems.add(format!("{key}.compression"), text);
                }
                found
            }
        };
        let id = match SystemId::new(raw.id) {
            Ok(id) => id,
            Err(error) => {
                problems.add(format!("{key}.id"), error.to_string());
                continue;
            }
        };
        let queue = raw.queue.and_then(|raw| {
            let others = peers.values().filter_map(|peer| peer.queue.as_ref());
            let taken = (
                volumes,
                others.map(|queue| queue.file.as_path()).collect::<Vec<_>>(),
            );
            queue(
                &format!("{key}.queue"),
                raw,
                &state_dir.join(format!("queue-{id}")),
                &taken,
                problems,
            )
        });
        let peer = Peer {
            address: raw.address,
            compression,
            queue,
        };
        if Some(&id) == system {
            problems.add(format!("{key}.id"), format!("{id} is this system itself"));
        } else if peers.insert(id.clone(), peer).is_some() {
            problems.add(format!("{key}.id"), format!("{id} is given twice"));
        }
    }
    peers
}

/// `queue` of a peer, whose file is in the state directory if nothing else is said.
fn queue(
    key: &str,
    raw: RawQueue,
    default: &Path,
    (volumes, queues): &(&BTreeMap<u32, VolumeConfig>, Vec<&Path>),
    problems: &mut Problems,
) -> Option<QueueConfig> {
    let bytes = size(&format!("{key}.size"), &raw.size, problems)?;
    if bytes < LEAST_QUEUE {
        let text = format!(
            "{} is not accepted: {} and more is",
            Size(bytes),
            Size(LEAST_QUEUE)
        );
        problems.add(format!("{key}.size"), text);
        return None;
    }
    let file = raw.file.map_or_else(|| default.to_owned(), PathBuf::from);
    let why = if file != default && file.is_relative() {
        Some("is not accepted: the path of a file from the root is".to_owned())
    } else if queues.contains(&file.as_path()) {
        Some("is the queue of another peer already".to_owned())
    } else {
        let holds = |volume: &&VolumeConfig| volume.media == Media::File(file.clone());
        let volume = volumes.values().find(holds);
        volume.map(|volume| format!("is the file of volume {} already", volume.name))
    };
    if let Some(why) = why {
        problems.add(
            format!("{key}.file"),
            format!("{:?} {why}", file.display().to_string()),
        );
        return None;
    }
    Some(QueueConfig { file, size: bytes })
}

fn is_address(text: &str) -> bool {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return address.port() != 0;
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && host.chars().all(legal) && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}
