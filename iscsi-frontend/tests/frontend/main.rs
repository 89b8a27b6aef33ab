//! The frontend over loopback, talked to by a small initiator.

mod initiator;
mod rig;
mod sessions;
