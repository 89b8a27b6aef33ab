//! Reject (RFC 7143 11.17).

use crate::bhs::{self, Header, RESERVED_TAG};

/// Why a PDU is rejected (RFC 7143 11.17.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RejectReason {
    /// Data (payload) digest error.
    DataDigestError = 0x02,
    /// SNACK reject.
    SnackReject = 0x03,
    /// Protocol error.
    ProtocolError = 0x04,
    /// Command not supported.
    CommandNotSupported = 0x05,
    /// Immediate command reject: too many immediate commands.
    ImmediateCommandReject = 0x06,
    /// Task in progress.
    TaskInProgress = 0x07,
    /// Invalid DataACK.
    InvalidDataAck = 0x08,
    /// Invalid PDU field.
    InvalidPduField = 0x09,
    /// Long operation reject: cannot generate a target transfer tag.
    LongOperationReject = 0x0a,
    /// Waiting for logout.
    WaitingForLogout = 0x0c,
}

/// A Reject. Its data segment is the header that is rejected; the caller fills in the sequence numbers.
pub fn reject(reason: RejectReason) -> bhs::Reject {
    let mut header = bhs::Reject::new();
    header.reason = reason as u8;
    header.initiator_task_tag = RESERVED_TAG.into();
    header
}
