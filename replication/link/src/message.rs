//! What is said beside requests and what answers them: the handshake, keepalive, the end.

use crate::{request::Request, response::Response};
use scsi_model::control::SystemId;

/// The most bytes of a software version.
pub const SOFTWARE_BYTES: usize = 32;
/// The least request bytes that a system must take: so much room that every single request fits.
pub const LEAST_WINDOW: u64 = 4 << 20;

/// Anything one side says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The caller's first frame.
    Hello(Hello),
    /// The called one's first frame.
    HelloAck(Hello),
    /// The called one's only frame, or the caller's answer to an acknowledgement it does not believe.
    Refuse(Refusal),
    /// To be answered by a Pong of the same number.
    Ping(u64),
    /// Answers a Ping.
    Pong(u64),
    /// No more requests come from here; those under way are answered.
    Bye(Farewell),
    /// A request and its id.
    Request(u64, Request),
    /// What answers the request of this id.
    Response(u64, Response),
}

/// Who one side is, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The oldest version it speaks; in an acknowledgement the one chosen.
    pub lowest: u16,
    /// The newest version it speaks; in an acknowledgement the one chosen.
    pub highest: u16,
    /// What it can do beyond the version; what both can is used: [`Hello::LZ4`], [`Hello::ZSTD`]. Others mean nothing
    /// to this program.
    pub features: u32,
    /// Requests it takes that are not answered yet.
    pub requests: u32,
    /// Bytes of such requests that it takes, counted by [`Request::cost`].
    pub bytes: u64,
    /// Drawn anew at each start of the daemon.
    pub boot: u128,
    /// The system.
    pub system: SystemId,
    /// The program's version, for people: ASCII, at most [`SOFTWARE_BYTES`].
    pub software: String,
}

impl Hello {
    /// Feature: it reads data that is compressed by LZ4.
    pub const LZ4: u32 = 1;
    /// Feature: likewise by zstd.
    pub const ZSTD: u32 = 2;
}

/// Why a connection is not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub cause: RefusalCause,
    /// The oldest version that the refusing side speaks.
    pub lowest: u16,
    /// The newest one.
    pub highest: u16,
}

/// The reasons of a [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(u16)]
pub enum RefusalCause {
    /// No version is spoken by both.
    #[error("no version of the protocol is spoken by both systems")]
    Version = 1,
    /// The id said is not the certificate's.
    #[error("the system id said is not the one of the certificate")]
    Identity = 2,
    /// The id is not that of a configured peer.
    #[error("the system is not configured as a peer there")]
    UnknownPeer = 3,
    /// Both sides have the same id.
    #[error("both systems have the same id")]
    SameSystem = 4,
    /// Another connection of the two counts.
    #[error("another connection between the two systems is kept")]
    Duplicate = 5,
    /// The system is about to stop.
    #[error("the system is stopping")]
    Stopping = 6,
    /// The first frame was none that a handshake begins with.
    #[error("the first message was not one that a connection begins with")]
    Handshake = 7,
}

impl RefusalCause {
    pub(crate) const ALL: [Self; 7] = [
        Self::Version,
        Self::Identity,
        Self::UnknownPeer,
        Self::SameSystem,
        Self::Duplicate,
        Self::Stopping,
        Self::Handshake,
    ];
}

/// Why one side leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(u16)]
pub enum Farewell {
    /// The daemon stops.
    #[error("the system is stopping")]
    Stopping = 1,
    /// The peer was taken out of the configuration, or its address changed.
    #[error("the peer was reconfigured")]
    Reconfigured = 2,
    /// A newer connection takes this one's place.
    #[error("a newer connection took its place")]
    Replaced = 3,
}

impl Farewell {
    pub(crate) const ALL: [Self; 3] = [Self::Stopping, Self::Reconfigured, Self::Replaced];
}
