//! Listening sockets.

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::config::ConfigError;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Why a frontend does not serve.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A portal cannot be opened.
    #[error("cannot listen on portal {portal}: {source}")]
    Portal {
        /// Its address.
        portal: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens a portal. It accepts connections from now on, though nobody serves them yet.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    open(address).map_err(|source| BindError::Portal {
        portal: address,
        source,
    })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted daemon must not wait for the old connections to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` beside `0.0.0.0` on one port is a usual configuration.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}
