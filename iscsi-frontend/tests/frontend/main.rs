//! The frontend over loopback, talked to by a small initiator.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

mod held_volume;
mod initiator;
mod rig;
mod sessions;
mod tasks;
mod transfers;
