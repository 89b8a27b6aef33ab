//! The frontend over loopback, talked to by a small initiator.

mod held_volume;
mod initiator;
mod rig;
mod sessions;
mod tasks;
mod transfers;
