//! The link to other systems: sockets, TLS, and who is connected. What is said is in the pure package `link-proto` and in
//! docs/link.md.
//!
//! | part | modules |
//! |---|---|
//! | the whole | [`links`], [`config`], `listener`, [`network`] |
//! | one peer | [`peer`], [`status`] |
//! | one connection | `calling`, `greeting`, `wire`, `carry`, `traffic`, `outgoing` |
//! | who it is | [`identity`] |
//! | what is served | [`service`] |
//! | what goes wrong | [`errors`] |
//!
//! A connection lives in one task. Calls of the peer's own system are made by one task per peer, calls of others come in by the
//! `listener`; both end in `carry`. All that a connection keeps is a `link_proto::Session` behind a mutex (`wire`), so that a
//! request is in the queue for the wire when [`Peer::request`] returns.

mod calling;
mod carry;
pub mod config;
pub mod errors;
mod greeting;
pub mod identity;
pub mod links;
mod listener;
mod meter;
pub mod network;
mod outgoing;
pub mod peer;
pub mod service;
pub mod status;
#[cfg(test)]
mod tests;
mod traffic;
mod wire;

pub use config::{LinkConfig, PeerConfig, Timing};
pub use errors::{LinkEnd, LinkError, LinkStartError};
pub use link_proto::{
    Action, Compression, CopyMode, Description, FailureCode, PairOrder, PairReport, Request, Response, Run,
    SystemId, VolumeName,
};
pub use links::{Links, Refusals, check};
pub use network::Network;
pub use peer::Peer;
pub use service::LinkService;
pub use status::PeerStatus;
