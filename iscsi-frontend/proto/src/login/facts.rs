//! What the login machine must be told by its surroundings.

use crate::{
    chap::{Algorithm, Credentials},
    negotiation::Offer,
};

/// An initiator port: the initiator's name and its session id (RFC 7143 4.4.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InitiatorPort {
    /// InitiatorName.
    pub name: String,
    /// ISID.
    pub isid: [u8; 6],
}

/// Answers about targets and sessions. Calls are made in the middle of a Login Request and must not block.
pub trait LoginFacts {
    /// May `port` log in to `target` through this portal, and what must it prove?
    fn target(&self, port: &InitiatorPort, target: &str) -> Admission;

    /// What people call `target` (TargetAlias, RFC 7143 13.6).
    fn alias(&self, _target: &str) -> Option<String> {
        None
    }

    /// What a session of `port` with `target` may agree on; `None`: what the machine was made with.
    fn offer(&self, _port: &InitiatorPort, _target: &str) -> Option<Offer> {
        None
    }

    /// May `port` open a discovery session here, and what must it prove?
    fn discovery(&self, port: &InitiatorPort) -> Admission;

    /// The TSIH of the live session of `port` with `target` through this portal group, which a new login ends
    /// (RFC 7143 6.3.5).
    fn session_of(&self, port: &InitiatorPort, target: &str) -> Option<u16>;

    /// May `port` add connection `cid` to its session `tsih` with `target`?
    fn join(&self, port: &InitiatorPort, target: &str, tsih: u16, cid: u16) -> Joining;

    /// A handle for a new session, never 0 and not in use; `None` when there is no room for another.
    fn allocate_tsih(&mut self) -> Option<u16>;
}

/// Whether a login may go on (RFC 7143 11.13.5).
#[derive(Clone, Debug)]
pub enum Admission {
    /// Yes, when this is proven.
    Admit(AuthPolicy),
    /// The target is at another address (a TargetAddress value without portal group tag, RFC 7143 13.8).
    Moved {
        /// True to have the initiator remember it.
        permanent: bool,
        /// `domainname[:port]`, or `[ipv6]:port`.
        address: String,
    },
    /// There is no such target.
    NotFound,
    /// The target exists, but not for this initiator.
    NotAllowed,
    /// The target was removed and no forwarding address is known.
    Removed,
    /// Sessions of this type are not served here.
    SessionTypeNotSupported,
    /// Not now: the target starts, stops or moves.
    Unavailable,
    /// No room for another session.
    OutOfResources,
}

/// What an initiator must prove, and what we can prove to it.
#[derive(Clone, Debug, Default)]
pub struct AuthPolicy {
    /// Any of these opens the door; several allow a change of secrets without a gap. Empty: no authentication.
    pub chap: Vec<Credentials>,
    /// What we answer to the initiator's challenge; `None` when target authentication is not configured.
    pub mutual: Option<Credentials>,
    /// Hashes we take, best first. [`Algorithm::PREFERENCE`] is the usual list.
    pub algorithms: Vec<Algorithm>,
}

impl AuthPolicy {
    /// No authentication.
    pub fn none() -> Self {
        Self::default()
    }

    /// One-way CHAP with the usual algorithms.
    pub fn chap(accepted: Vec<Credentials>) -> Self {
        Self {
            chap: accepted,
            mutual: None,
            algorithms: Algorithm::PREFERENCE.to_vec(),
        }
    }

    /// The same with an answer for initiators that challenge us.
    #[must_use]
    pub fn with_mutual(self, ours: Credentials) -> Self {
        Self {
            mutual: Some(ours),
            ..self
        }
    }
}

/// Whether a connection may join a session (RFC 7143 6.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joining {
    /// Yes, as one more connection.
    Added,
    /// Yes, in place of the connection with the same CID.
    Reinstated,
    /// There is no session with that TSIH of this initiator port and target.
    NoSuchSession,
    /// The session has as many connections as were negotiated.
    TooManyConnections,
    /// The session cannot take this connection, e.g. because it came through another portal group.
    CannotInclude,
}
