//! Volumes, LUN maps and the SCSI executor: the shell around scsi-model.

pub mod buffer;
pub mod command;
pub mod control;
pub mod logical_unit;
pub mod lun_map;
mod nexus;
pub mod target;
pub mod volume;

pub use scsi_model;
