//! What a negotiation has settled.

use super::{Negotiation, Value};
use crate::keys::Key;

/// SessionType (RFC 7143 13.21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionType {
    /// SCSI commands flow.
    Normal,
    /// Only SendTargets and logout.
    Discovery,
}

/// A digest (RFC 7143 13.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestKind {
    /// No digest.
    None,
    /// CRC-32C.
    Crc32c,
}

impl DigestKind {
    /// Its name in HeaderDigest and DataDigest.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Crc32c => "CRC32C",
        }
    }
}

/// How task management reports the tasks it ended (RFC 7143 13.23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskReporting {
    /// As in RFC 3720.
    Rfc3720,
    /// With response fences (RFC 7143 4.2.2.3).
    ResponseFence,
    /// With fast multi-task abort, which includes response fences (RFC 7143 4.2.3.4).
    FastAbort,
}

impl TaskReporting {
    /// Its name in TaskReporting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rfc3720 => "RFC3720",
            Self::ResponseFence => "ResponseFence",
            Self::FastAbort => "FastAbort",
        }
    }
}

/// Effective session-wide values (scope SW in RFC 7143 13). Lengths in bytes, times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionParameters {
    /// Connections in the session, at most.
    pub max_connections: u16,
    /// True: no unsolicited data PDUs.
    pub initial_r2t: bool,
    /// True: data may come in the command PDU.
    pub immediate_data: bool,
    /// Longest sequence of data PDUs, 512 to 2^24 - 1.
    pub max_burst_length: u32,
    /// Unsolicited data per command, at most; never more than `max_burst_length`.
    pub first_burst_length: u32,
    /// Wait before reconnecting.
    pub default_time2wait: u16,
    /// Time tasks are kept.
    pub default_time2retain: u16,
    /// R2Ts in flight for one task, at most.
    pub max_outstanding_r2t: u16,
    /// True: PDUs of a sequence come in offset order.
    pub data_pdu_in_order: bool,
    /// True: sequences come in offset order.
    pub data_sequence_in_order: bool,
    /// 0 to 2.
    pub error_recovery_level: u8,
    /// Reporting of ended tasks.
    pub task_reporting: TaskReporting,
    /// 0 to 31; 2 and above allow the functions of RFC 7144.
    pub protocol_level: u8,
}

/// Effective values of one connection (scope CO in RFC 7143 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionParameters {
    /// Digest of headers in full feature phase.
    pub header_digest: DigestKind,
    /// Digest of data segments in full feature phase.
    pub data_digest: DigestKind,
    /// Bytes of the longest data segment we may send.
    pub peer_max_recv_data_segment_length: u32,
    /// Bytes of the longest data segment we take.
    pub own_max_recv_data_segment_length: u32,
}

/// MaxRecvDataSegmentLength before anything is declared (RFC 7143 13.12).
pub(super) const MAX_RECV_DEFAULT: u32 = 8192;

impl Negotiation {
    pub(super) fn session_parameters(&self) -> SessionParameters {
        let max_burst_length = self.number(Key::MaxBurstLength);
        let task_reporting = match self.current(Key::TaskReporting) {
            Value::Word("ResponseFence") => TaskReporting::ResponseFence,
            Value::Word("FastAbort") => TaskReporting::FastAbort,
            _ => TaskReporting::Rfc3720,
        };
        SessionParameters {
            max_connections: self.number(Key::MaxConnections) as u16,
            initial_r2t: self.flag(Key::InitialR2T),
            immediate_data: self.flag(Key::ImmediateData),
            max_burst_length,
            first_burst_length: self.number(Key::FirstBurstLength).min(max_burst_length),
            default_time2wait: self.number(Key::DefaultTime2Wait) as u16,
            default_time2retain: self.number(Key::DefaultTime2Retain) as u16,
            max_outstanding_r2t: self.number(Key::MaxOutstandingR2T) as u16,
            data_pdu_in_order: self.flag(Key::DataPduInOrder),
            data_sequence_in_order: self.flag(Key::DataSequenceInOrder),
            error_recovery_level: self.number(Key::ErrorRecoveryLevel) as u8,
            task_reporting,
            protocol_level: self.number(Key::ProtocolLevel) as u8,
        }
    }

    pub(super) fn connection_parameters(&self) -> ConnectionParameters {
        ConnectionParameters {
            header_digest: self.digest(Key::HeaderDigest),
            data_digest: self.digest(Key::DataDigest),
            peer_max_recv_data_segment_length: self.peer_max_recv.unwrap_or(MAX_RECV_DEFAULT),
            own_max_recv_data_segment_length: self.own_max_recv.unwrap_or(MAX_RECV_DEFAULT),
        }
    }

    fn digest(&self, key: Key) -> DigestKind {
        if self.current(key) == Value::Word(DigestKind::Crc32c.name()) {
            DigestKind::Crc32c
        } else {
            DigestKind::None
        }
    }
}
