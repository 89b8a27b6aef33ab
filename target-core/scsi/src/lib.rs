//! SCSI (SAM-5, SPC-4, SBC-3) as pure functions and state machines: no I/O, no clock.

pub mod control;
