//! The program itself, as a process.
#![allow(clippy::unwrap_used, reason = "a test")]

mod life;
mod rig;
mod systemd;
mod volumes;
