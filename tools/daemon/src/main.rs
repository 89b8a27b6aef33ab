//! holdfastd: the Holdfast daemon.

mod config;
mod lock;
mod systemd;

fn main() {}
