//! The link to other systems.

use serde::{Deserialize, Serialize};

/// `GET /v1/link`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkDocument {
    /// This system.
    pub system: String,
    /// Where peers call; `None`: no link is configured.
    pub listen: Option<String>,
    /// RFC 3339: until when the certificate is good that this system shows its peers.
    #[serde(default)]
    pub certificate_until: Option<String>,
    /// Calls that were not let in since the daemon started.
    pub refused: u64,
    /// From where the last of them came, and why it was refused.
    pub last_refused: Option<String>,
    /// The configured peers, by id.
    pub peers: Vec<LinkPeer>,
}

/// A queue on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskQueue {
    /// Bytes of the file that hold something.
    pub bytes: u64,
    /// Bytes of the file.
    pub size: u64,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkPeer {
    /// Its system id.
    pub id: String,
    /// Where it is called.
    pub address: String,
    /// Connected.
    pub up: bool,
    /// RFC 3339: since when.
    pub since: String,
    /// Its program, when it was seen last.
    pub software: Option<String>,
    /// Round trip of the last keepalive, in microseconds.
    pub latency_us: Option<u64>,
    /// What data to it is compressed by: `none`, `lz4` or `zstd`. `none` too when it does not read what is configured.
    #[serde(default)]
    pub compression: String,
    /// Bytes sent since the daemon started.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// What those sent would have been without compression.
    #[serde(default)]
    pub sent_uncompressed: u64,
    /// What those received would have been.
    #[serde(default)]
    pub received_uncompressed: u64,
    /// Bytes a second sent of late.
    pub send_rate: u64,
    /// Bytes a second received of late.
    pub receive_rate: u64,
    /// Requests to it that are not answered.
    pub queue: u64,
    /// Their bytes.
    pub queue_bytes: u64,
    /// The queue on disk for writes to async pairs that the link does not carry; null without one.
    #[serde(default)]
    pub disk_queue: Option<DiskQueue>,
    /// Connections that were up since the daemon started.
    pub connections: u64,
    /// Why the last connection ended, or the last call failed; kept while the link is up.
    pub last_error: Option<String>,
}
