//! What calls between systems go over: TCP and TLS, or what a simulation has instead.

use link_proto::SystemId;
use std::{fmt, io, pin::Pin};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};

/// Both ways of a connection.
pub trait Duplex: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Duplex for S {}

/// What a connection goes over.
pub type Stream = Box<dyn Duplex>;

/// A call that is made: it goes over this, to or from this system.
pub type Called = (Stream, SystemId);

/// A call on its way.
pub type Calling = Pin<Box<dyn Future<Output = io::Result<Called>> + Send>>;

/// The network of a simulation. Who is at the other end it knows for certain.
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Calls an address.
    fn call(&self, address: &str) -> Calling;

    /// The calls of others, from now on. Asked for once.
    fn calls(&self) -> mpsc::UnboundedReceiver<Called>;

    /// Spreads calls; any value will do.
    fn jitter(&self) -> u32;
}
