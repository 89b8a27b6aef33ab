//! Basic header segments: every PDU of RFC 7143 11.2-11.19 as a 48-byte big-endian structure.
//!
//! A header is looked at in place: [`Bhs::view`] turns the 48 bytes into the structure of their opcode without a
//! copy. It is built with [`Header::new`] (zeros, opcode, the final bit) and written with [`Header::bytes`]. The
//! lengths in bytes 4-7 belong to the framer, which sets them when it encodes.

mod ahs;
mod command;
mod connection;
mod data;
mod negotiation;

pub use ahs::{AdditionalHeaders, AhsError};
pub use command::{ScsiCommand, ScsiResponse, TaskAttribute, TaskManagementRequest, TaskManagementResponse};
pub use connection::{AsyncMessage, LogoutRequest, LogoutResponse, NopIn, NopOut, Reject};
pub use data::{DataIn, DataOut, ReadyToTransfer, Snack};
pub use negotiation::{LoginRequest, LoginResponse, TextRequest, TextResponse};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of a basic header segment.
pub const BHS_LENGTH: usize = 48;

/// The reserved value of a task tag: "none" (RFC 7143 11.2.1.8, 11.7.4).
pub const RESERVED_TAG: u32 = 0xffff_ffff;

/// The F bit of byte 1 (T in login PDUs).
pub const FINAL: u8 = 0x80;

/// The I bit of byte 0: deliver at once, outside of the CmdSN order (RFC 7143 11.2.1.1).
pub const IMMEDIATE: u8 = 0x40;

/// Operation codes (RFC 7143 11.2.1.2).
pub mod opcode {
    /// NOP-Out.
    pub const NOP_OUT: u8 = 0x00;
    /// SCSI Command.
    pub const SCSI_COMMAND: u8 = 0x01;
    /// SCSI Task Management Function Request.
    pub const TASK_MANAGEMENT_REQUEST: u8 = 0x02;
    /// Login Request.
    pub const LOGIN_REQUEST: u8 = 0x03;
    /// Text Request.
    pub const TEXT_REQUEST: u8 = 0x04;
    /// SCSI Data-Out.
    pub const DATA_OUT: u8 = 0x05;
    /// Logout Request.
    pub const LOGOUT_REQUEST: u8 = 0x06;
    /// SNACK Request.
    pub const SNACK: u8 = 0x10;
    /// NOP-In.
    pub const NOP_IN: u8 = 0x20;
    /// SCSI Response.
    pub const SCSI_RESPONSE: u8 = 0x21;
    /// SCSI Task Management Function Response.
    pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    /// Login Response.
    pub const LOGIN_RESPONSE: u8 = 0x23;
    /// Text Response.
    pub const TEXT_RESPONSE: u8 = 0x24;
    /// SCSI Data-In.
    pub const DATA_IN: u8 = 0x25;
    /// Logout Response.
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    /// Ready To Transfer.
    pub const READY_TO_TRANSFER: u8 = 0x31;
    /// Asynchronous Message.
    pub const ASYNC_MESSAGE: u8 = 0x32;
    /// Reject.
    pub const REJECT: u8 = 0x3f;
}

/// A 24-bit big-endian integer: the DataSegmentLength.
#[derive(Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(transparent)]
pub struct U24([u8; 3]);

impl U24 {
    /// The largest value.
    pub const MAX: u32 = 0x00ff_ffff;

    /// The low 24 bits of `value`; callers have bounded it by a DataSegmentLength.
    pub fn new(value: u32) -> Self {
        debug_assert!(value <= Self::MAX);
        let [_, high, middle, low] = value.to_be_bytes();
        Self([high, middle, low])
    }

    /// The value.
    pub fn get(self) -> u32 {
        let [high, middle, low] = self.0;
        u32::from_be_bytes([0, high, middle, low])
    }
}

impl std::fmt::Debug for U24 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(formatter)
    }
}

/// The 48 bytes of a header whose kind is not yet known.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(transparent)]
pub struct Bhs(pub [u8; BHS_LENGTH]);

impl Bhs {
    /// Operation code, without the I bit.
    pub fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// The I bit.
    pub fn immediate(&self) -> bool {
        self.0[0] & IMMEDIATE != 0
    }

    /// The F bit.
    pub fn is_final(&self) -> bool {
        self.0[1] & FINAL != 0
    }

    /// Length of the additional header segments in bytes.
    pub fn ahs_length(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// DataSegmentLength in bytes, without padding.
    pub fn data_segment_length(&self) -> u32 {
        u32::from_be_bytes([0, self.0[5], self.0[6], self.0[7]])
    }

    /// Initiator task tag: the same place in every PDU.
    pub fn initiator_task_tag(&self) -> u32 {
        u32::from_be_bytes([self.0[16], self.0[17], self.0[18], self.0[19]])
    }

    /// CmdSN: at the same place in every request that has one.
    pub fn cmd_sn(&self) -> u32 {
        u32::from_be_bytes([self.0[24], self.0[25], self.0[26], self.0[27]])
    }

    /// ExpStatSN: at the same place in everything an initiator sends.
    pub fn exp_stat_sn(&self) -> u32 {
        u32::from_be_bytes([self.0[28], self.0[29], self.0[30], self.0[31]])
    }

    /// StatSN: at the same place in everything a target sends.
    pub fn stat_sn(&self) -> u32 {
        u32::from_be_bytes([self.0[24], self.0[25], self.0[26], self.0[27]])
    }

    /// Sets ExpCmdSN and MaxCmdSN, which are current in whatever a target sends again (RFC 7143 11.16).
    pub fn set_window(&mut self, exp_cmd_sn: u32, max_cmd_sn: u32) {
        self.0[28..32].copy_from_slice(&exp_cmd_sn.to_be_bytes());
        self.0[32..36].copy_from_slice(&max_cmd_sn.to_be_bytes());
    }

    /// The header as the structure `H`. The caller has looked at [`Bhs::opcode`].
    pub fn view<H: Header>(&self) -> &H {
        debug_assert_eq!(self.opcode(), H::OPCODE);
        H::ref_from_bytes(&self.0).expect("every header is 48 unaligned bytes")
    }
}

impl std::fmt::Debug for Bhs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Bhs({:02x?})", self.0)
    }
}

/// A basic header segment of a known kind.
pub trait Header: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned + Sized {
    /// Its operation code.
    const OPCODE: u8;

    /// Zeros, the opcode and the F bit.
    fn new() -> Self {
        let mut bytes = [0; BHS_LENGTH];
        bytes[0] = Self::OPCODE;
        bytes[1] = FINAL;
        Self::read_from_bytes(&bytes).expect("every header is 48 bytes")
    }

    /// The 48 bytes.
    fn bytes(&self) -> &[u8; BHS_LENGTH] {
        self.as_bytes().try_into().expect("every header is 48 bytes")
    }

    /// The same bytes without their kind.
    fn to_bhs(&self) -> Bhs {
        Bhs(*self.bytes())
    }

    /// Sets StatSN, ExpCmdSN and MaxCmdSN: they are at the same places in all that a target sends.
    fn stamp(&mut self, stat_sn: u32, exp_cmd_sn: u32, max_cmd_sn: u32) {
        for (at, number) in [(24, stat_sn), (28, exp_cmd_sn), (32, max_cmd_sn)] {
            self.as_mut_bytes()[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
    }
}

/// Declares the header structures: the attributes, the length check and the opcode come with each.
macro_rules! headers {
    ($($(#[$meta:meta])* $name:ident = $opcode:path { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        const _: () = assert!(size_of::<$name>() == crate::bhs::BHS_LENGTH);

        impl crate::bhs::Header for $name {
            const OPCODE: u8 = $opcode;
        }
    )*};
}
use headers;

#[cfg(test)]
mod tests;
