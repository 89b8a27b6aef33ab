//! How a peer is seen, for people and for meters.

use link_proto::{Compression, SystemId};
use std::time::{Duration, SystemTime};

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its id.
    pub id: SystemId,
    /// Where it is called.
    pub address: String,
    /// Requests can be made.
    pub up: bool,
    /// When that became so.
    pub since: SystemTime,
    /// Its boot id and software version, when it was seen last.
    pub seen: Option<(u128, String)>,
    /// The round trip of the last Ping of this connection.
    pub rtt: Option<Duration>,
    /// What data to it is compressed by: as configured, if it reads that.
    pub compression: Option<Compression>,
    /// Bytes sent since the daemon started, encryption not counted.
    pub sent: u64,
    /// Bytes received, likewise.
    pub received: u64,
    /// What those sent would have been without compression.
    pub sent_uncompressed: u64,
    /// What those received would have been.
    pub received_uncompressed: u64,
    /// Bytes a second sent of late.
    pub send_rate: u64,
    /// Bytes a second received of late.
    pub receive_rate: u64,
    /// Requests to it that are not answered.
    pub outstanding: usize,
    /// Their bytes, by what they take of the peer's window.
    pub outstanding_bytes: u64,
    /// Connections that were up since the daemon started.
    pub connections: u64,
    /// Why the last connection ended, or the last call failed; kept while the link is up.
    pub last_error: Option<String>,
}
