//! The ways to drive the floor's connections.

mod polling;
mod tasks;
mod threads;

pub(super) use self::{
    polling::epoll,
    tasks::{Runtime, tokio},
    threads::threads,
};
