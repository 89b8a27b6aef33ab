//! Volumes, LUN maps and the SCSI executor: the shell around scsi-model.

pub mod buffer;
pub mod control;
pub mod volume;

pub use scsi_model;
