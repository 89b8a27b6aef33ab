//! What an initiator did wrong in full feature phase, by name, and what the target does about it at
//! ErrorRecoveryLevel 0 (RFC 7143 7.7-7.10).

use crate::{bhs::AhsError, framer::FrameError, reject::RejectReason};

/// A breach of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misbehaviour {
    /// Immediate data although ImmediateData=No.
    #[error("immediate data, but ImmediateData=No was agreed on")]
    ImmediateDataNotAgreed,
    /// F=0 in a write command although InitialR2T=Yes.
    #[error("unsolicited data announced, but InitialR2T=Yes was agreed on")]
    UnsolicitedDataNotAgreed,
    /// Immediate data in a command that does not write.
    #[error("{0} bytes of immediate data in a command that does not write")]
    DataWithoutWrite(u32),
    /// More data than the sequence may carry.
    #[error("data up to byte {end}, the sequence ends at byte {limit}")]
    Overrun {
        /// One past the last byte that came.
        end: u64,
        /// One past the last byte allowed.
        limit: u32,
    },
    /// Wrong DataSN.
    #[error("DataSN {got}, expected {expected}")]
    DataSn {
        /// What came.
        got: u32,
        /// What was due.
        expected: u32,
    },
    /// Wrong buffer offset, with DataPDUInOrder and DataSequenceInOrder in force.
    #[error("buffer offset {got}, expected {expected}")]
    BufferOffset {
        /// What came.
        got: u32,
        /// What was due.
        expected: u32,
    },
    /// A sequence is at its end without the F bit.
    #[error("no F bit at byte {0}, the end of the sequence")]
    FinalBitMissing(u32),
    /// The F bit before all data asked for by an R2T.
    #[error("F bit at byte {end}, the R2T asked for data up to byte {limit}")]
    SequenceTooShort {
        /// One past the last byte that came.
        end: u32,
        /// One past the last byte asked for.
        limit: u32,
    },
    /// Data-Out that no R2T asked for, or in the wrong order.
    #[error("target transfer tag {got:08x}h, expected {expected:08x}h")]
    TransferTag {
        /// What came.
        got: u32,
        /// What was due.
        expected: u32,
    },
    /// A data digest that does not match.
    #[error("data digest error")]
    DataDigest,
    /// A task tag that is in use.
    #[error("initiator task tag {0:08x}h is in use")]
    TaskTagInUse(u32),
    /// Too many immediate commands at once.
    #[error("more than {0} immediate commands at once")]
    TooManyImmediate(u32),
    /// The task attribute is reserved.
    #[error("reserved task attribute")]
    TaskAttribute,
    /// Additional header segments that are not understood.
    #[error(transparent)]
    Ahs(#[from] AhsError),
    /// An opcode this target does not take in this phase.
    #[error("operation code {0:02x}h is not taken here")]
    Opcode(u8),
    /// A PDU where it is not allowed, such as a Login Request after login.
    #[error("operation code {0:02x}h is out of place")]
    OutOfPlace(u8),
    /// The framing is lost or refused.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// What the target does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// End the task with CHECK CONDITION, ABORTED COMMAND and this ASC and ASCQ (RFC 7143 11.4.7.2).
    FailTask {
        /// Additional sense code.
        asc: u8,
        /// Additional sense code qualifier.
        ascq: u8,
    },
    /// Answer with a Reject and go on.
    Reject(RejectReason),
    /// Close the connection: nothing after this can be understood.
    Drop,
}

impl Misbehaviour {
    /// The answer to it.
    pub fn reaction(&self) -> Reaction {
        match self {
            // "Unexpected unsolicited data" and "incorrect amount of data" of the table in RFC 7143 11.4.7.2.
            Self::ImmediateDataNotAgreed | Self::UnsolicitedDataNotAgreed | Self::DataWithoutWrite(_) => {
                Reaction::FailTask {
                    asc: 0x0c,
                    ascq: 0x0c,
                }
            }
            Self::Overrun { .. } | Self::FinalBitMissing(_) | Self::SequenceTooShort { .. } => {
                Reaction::FailTask {
                    asc: 0x0c,
                    ascq: 0x0d,
                }
            }
            // DATA PHASE ERROR, and DATA OFFSET ERROR.
            Self::DataSn { .. } | Self::TransferTag { .. } => Reaction::FailTask {
                asc: 0x4b,
                ascq: 0x00,
            },
            Self::BufferOffset { .. } => Reaction::FailTask {
                asc: 0x4b,
                ascq: 0x05,
            },
            // "Protocol service CRC error".
            Self::DataDigest => Reaction::FailTask {
                asc: 0x47,
                ascq: 0x05,
            },
            Self::TaskTagInUse(_) => Reaction::Reject(RejectReason::TaskInProgress),
            Self::TooManyImmediate(_) => Reaction::Reject(RejectReason::ImmediateCommandReject),
            Self::TaskAttribute | Self::Ahs(_) => Reaction::Reject(RejectReason::InvalidPduField),
            Self::Opcode(_) => Reaction::Reject(RejectReason::CommandNotSupported),
            Self::OutOfPlace(_) => Reaction::Reject(RejectReason::ProtocolError),
            Self::Frame(_) => Reaction::Drop,
        }
    }
}
