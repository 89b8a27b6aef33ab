//! SCSI (SAM-5, SPC-4, SBC-3) as pure functions and state machines: no I/O, no clock.
//!
//! [`device_server::DeviceServer`] is one logical unit: a CDB and its data-out go in, a [`plan::Plan`] comes out,
//! which is either the answer or what the shell must do to get it.

mod absent_unit;
mod access_state;
mod big_endian;
pub mod block_commands;
mod buffers;
mod capacity;
pub mod control;
pub mod copy_operations;
pub mod device_server;
pub mod failure;
pub mod fast_path;
mod format_unit;
pub mod inquiry;
pub mod lba_status;
pub mod log_pages;
pub mod logical_block_provisioning;
pub mod lun;
pub mod mode_pages;
pub mod opcode_table;
pub mod orwrite;
mod persistent_reserve;
pub mod plan;
pub mod reference;
pub mod reports;
pub mod reservations;
pub mod rod_tokens;
pub mod sanitize;
pub mod sense;
pub mod sense_codes;
pub mod status;
mod third_party_copy;
pub mod transport_id;
pub mod unit;
pub mod unit_attention;
pub mod unmap;
pub mod vpd;
