//! What the link is told when it starts.

use link_proto::{Compression, Hello, SessionConfig, SystemId, header};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The link of this system.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// This system; its certificate must say the same.
    pub system: SystemId,
    /// Drawn anew at each start of the daemon.
    pub boot: u128,
    /// Where peers call.
    pub listen: SocketAddr,
    /// This system's certificate, and those between it and the authority's: PEM.
    pub cert: PathBuf,
    /// Its key, readable by nobody else: PEM.
    pub key: PathBuf,
    /// The authority's certificate: PEM.
    pub ca: PathBuf,
    /// The other systems.
    pub peers: Vec<PeerConfig>,
    /// How long things may take; [`Timing::default`] outside of tests.
    pub timing: Timing,
}

/// Another system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its id.
    pub id: SystemId,
    /// Where it listens: `HOST:PORT`.
    pub address: String,
    /// What data to it is compressed by, if it reads that.
    pub compression: Option<Compression>,
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// TCP, TLS and the handshake of the link together.
    pub handshake: Duration,
    /// Between two Pings.
    pub interval: Duration,
    /// Nothing heard for so long: the link is down.
    pub silence: Duration,
    /// The shortest wait before another call.
    pub first_wait: Duration,
    /// The longest.
    pub longest_wait: Duration,
    /// How long a connection may take to end in order.
    pub leaving: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            interval: Duration::from_secs(2),
            silence: Duration::from_secs(8),
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(3),
            leaving: Duration::from_secs(3),
        }
    }
}

/// Requests of a peer that are carried out at the same time.
const REQUESTS: u32 = 256;
/// Their bytes.
const REQUEST_BYTES: u64 = 32 << 20;
/// Requests to a peer that wait for it.
const QUEUE_REQUESTS: usize = 1 << 16;
/// Their bytes.
const QUEUE_BYTES: u64 = 256 << 20;

impl LinkConfig {
    /// What each connection is told.
    pub(super) fn session(&self) -> SessionConfig {
        SessionConfig {
            hello: Hello {
                lowest: header::LOWEST_VERSION,
                highest: header::HIGHEST_VERSION,
                features: Compression::FEATURES,
                requests: REQUESTS,
                bytes: REQUEST_BYTES,
                boot: self.boot,
                system: self.system.clone(),
                software: concat!("holdfast ", env!("CARGO_PKG_VERSION")).to_owned(),
            },
            queue_requests: QUEUE_REQUESTS,
            queue_bytes: QUEUE_BYTES,
            handshake: self.timing.handshake,
            interval: self.timing.interval,
            silence: self.timing.silence,
        }
    }
}
