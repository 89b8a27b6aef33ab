//! Volumes, LUN maps and the SCSI executor: the shell around scsi-model.

mod atomic_write;
pub mod buffer;
pub mod command;
pub mod command_counts;
pub mod control;
pub mod copies;
pub mod disk;
mod executor;
pub mod gate;
pub mod gauge;
pub mod identities;
pub mod initiator_pattern;
pub mod loan;
pub mod logical_unit;
pub mod lun_map;
pub mod media;
mod nexus;
pub mod plain;
mod quiet;
pub mod redo;
pub mod state_file;
pub mod target;
pub mod throttle;
pub mod tokens;
pub mod unit_state;
pub mod volume;

pub use scsi_model;
