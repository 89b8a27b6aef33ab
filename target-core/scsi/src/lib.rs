//! SCSI (SAM-5, SPC-4, SBC-3) as pure functions and state machines: no I/O, no clock.
//!
//! [`device_server::DeviceServer`] is one logical unit: a CDB and its data-out go in, a [`plan::Plan`] comes out,
//! which is either the answer or what the shell must do to get it.

pub mod control;
pub mod lba_status;
pub mod plan;
pub mod sense;
pub mod sense_codes;
pub mod status;
pub mod unit;
