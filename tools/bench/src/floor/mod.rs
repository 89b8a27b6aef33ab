//! A null iSCSI target: the least work that still answers an initiator correctly.
//!
//! It is a measuring instrument (a floor for CPU per I/O), not a product: one LUN, no authentication, no task management, no checks of
//! sequence numbers.

mod commands;
mod connection;
mod engines;
mod memory;
mod negotiation;
mod payload;
mod store;

use std::{io, net::TcpListener};

use thiserror::Error;

pub(crate) use self::store::Store;

use crate::{
    arguments::{Engine, FloorArguments},
    clock::now_ns,
};

/// Why it could not serve.
#[derive(Debug, Error)]
pub(crate) enum FloorError {
    #[error("--file {0}: {1}")]
    File(String, io::Error),
    #[error("--back pread needs --file")]
    NoFile,
    #[error("no memory for the LUN: {0}")]
    Memory(io::Error),
    #[error("--addr {0}: {1}")]
    Listen(String, io::Error),
    #[error("the engine: {0}")]
    Engine(#[from] io::Error),
}

/// Serves until its time is over.
pub(crate) fn run(arguments: &FloorArguments) -> Result<(), FloorError> {
    // Threads and tasks use it until the process ends.
    let store: &'static Store = Box::leak(Box::new(Store::open(arguments)?));
    let listener = TcpListener::bind(&arguments.addr)
        .map_err(|error| FloorError::Listen(arguments.addr.clone(), error))?;
    serve(arguments, store, listener)
}

/// Likewise, who connects there.
pub(crate) fn serve(
    arguments: &FloorArguments,
    store: &'static Store,
    listener: TcpListener,
) -> Result<(), FloorError> {
    let until = now_ns().saturating_add(arguments.seconds.saturating_mul(1_000_000_000));
    match arguments.engine {
        Engine::Epoll => engines::epoll(&listener, store, true, arguments.spin_us, until)?,
        Engine::EpollUnbatched => engines::epoll(&listener, store, false, arguments.spin_us, until)?,
        Engine::Threads => engines::threads(listener, store, until),
        Engine::Tokio => engines::tokio(listener, store, until, engines::Runtime::CurrentThread)?,
        Engine::TokioMulti => engines::tokio(listener, store, until, engines::Runtime::TwoWorkers)?,
        Engine::TokioHandoff => engines::tokio(listener, store, until, engines::Runtime::HandingOver)?,
    }
    Ok(())
}
