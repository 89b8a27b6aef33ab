//! What goes wrong on a link, by name.

use link_proto::{Ended, Farewell, FrameError, RefusalCause, SystemId};
use std::{io, net::SocketAddr, path::PathBuf};

/// Why the link cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LinkStartError {
    /// A certificate or key cannot be read.
    #[error("{} cannot be read: {why}", .file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// A key that others can read.
    #[error("{} has mode {mode:03o}: others can read or change the key; 600 or 400 is accepted", .file.display())]
    KeyMode {
        /// The key's file.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Certificate, key and authority do not make a configuration.
    #[error("the certificates of the link cannot be used: {0}")]
    Tls(String),
    /// The certificate names no system, or another one.
    #[error("{} is no certificate of {system}: {why}", .file.display())]
    Identity {
        /// The certificate's file.
        file: PathBuf,
        /// This system.
        system: SystemId,
        /// Why.
        why: IdentityError,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        why: io::Error,
    },
    /// A peer that is this system, or that is given twice.
    #[error("peer {0}: it is this system itself, or it is given twice")]
    Peer(SystemId),
}

/// Why a certificate names no system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// None was shown.
    #[error("no certificate was shown")]
    NoCertificate,
    /// It cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// It has no name of ours.
    #[error("the certificate has no name holdfast:SYSTEM-ID")]
    Nameless,
    /// It has more than one.
    #[error("the certificate has more than one name holdfast:SYSTEM-ID")]
    Ambiguous,
    /// Its name is no system id.
    #[error("the certificate's name holdfast:{0} is no system id")]
    NotAnId(String),
    /// It is another system's.
    #[error("the certificate is that of {0}")]
    Another(SystemId),
}

/// Why a connection ended, or did not come to be.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    /// Nobody listens there, or the network does not go there.
    #[error("{address} cannot be reached: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        why: io::Error,
    },
    /// TLS failed: a certificate of another authority, none, an old version of TLS, or no TLS at all.
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    /// Too many calls are in their handshake.
    #[error("too many calls are being answered")]
    Crowded,
    /// It took too long.
    #[error("the connection was not made in time")]
    Timeout,
    /// Its certificate is not what it should be.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// A system that is not configured.
    #[error("{0} is not configured as a peer")]
    UnknownPeer(SystemId),
    /// The protocol was broken, or the peer refused, or was refused, or was silent.
    #[error("{0}")]
    Session(#[from] Ended),
    /// The connection was cut.
    #[error("the connection was cut")]
    Cut,
    /// Reading or writing failed.
    #[error("the connection failed: {0}")]
    Io(io::Error),
    /// Another connection counts.
    #[error("another connection to the peer is kept")]
    Superseded,
    /// A newer connection took its place.
    #[error("a newer connection took its place")]
    Replaced,
    /// It ended in order.
    #[error("{0}")]
    Left(Farewell),
    /// The end in order took too long.
    #[error("it did not end in time")]
    LeaveTimeout,
}

impl LinkEnd {
    /// Nothing is wrong: of two connections the other one counts.
    pub(super) fn is_usual(&self) -> bool {
        match self {
            Self::Superseded | Self::Session(Ended::Refusing(RefusalCause::Duplicate)) => true,
            Self::Session(Ended::Refused(refusal)) => refusal.cause == RefusalCause::Duplicate,
            _ => false,
        }
    }
}

impl From<FrameError> for LinkEnd {
    fn from(error: FrameError) -> Self {
        Self::Session(Ended::Frame(error))
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The link is down: the request was not sent.
    #[error("the link is down")]
    Down,
    /// The link went down: whether the request was carried out is not known.
    #[error("the link went down before the answer came")]
    Lost,
    /// Too many requests wait already: it was not sent.
    #[error("too many requests wait for the link")]
    QueueFull,
    /// The request cannot be said: it was not sent.
    #[error("{0}")]
    Request(#[from] FrameError),
}
