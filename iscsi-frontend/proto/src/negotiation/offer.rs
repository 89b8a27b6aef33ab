//! What one side wants of the operational keys.

use super::Wish;
use super::parameters::{DigestKind, TaskReporting};
use crate::keys::{Key, Rule};

/// Our side of the negotiation. Numbers outside the range of their key count as the nearest end of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Header digests we take, best first. An initiator offers them in this order, a target takes the initiator's
    /// first that is here (RFC 7143 6.2.1). Without [`DigestKind::None`] digests are required.
    pub header_digest: Vec<DigestKind>,
    /// Data digests we take, in the same way.
    pub data_digest: Vec<DigestKind>,
    /// Connections in a session, at most (RFC 7143 13.2).
    pub max_connections: u16,
    /// True to forbid unsolicited data after the command (RFC 7143 13.10).
    pub initial_r2t: bool,
    /// True to allow data in the command PDU (RFC 7143 13.11).
    pub immediate_data: bool,
    /// Bytes of the longest data segment we receive (RFC 7143 13.12).
    pub max_recv_data_segment_length: u32,
    /// Bytes of the longest sequence of data PDUs (RFC 7143 13.13).
    pub max_burst_length: u32,
    /// Bytes of unsolicited data per command, at most (RFC 7143 13.14).
    pub first_burst_length: u32,
    /// Seconds to wait before a reconnect, at least (RFC 7143 13.15).
    pub default_time2wait: u16,
    /// Seconds that tasks are kept after a connection ended, at most (RFC 7143 13.16).
    pub default_time2retain: u16,
    /// R2Ts in flight for one task, at most (RFC 7143 13.17).
    pub max_outstanding_r2t: u16,
    /// True to require increasing offsets within a sequence (RFC 7143 13.18).
    pub data_pdu_in_order: bool,
    /// True to require increasing offsets of sequences (RFC 7143 13.19).
    pub data_sequence_in_order: bool,
    /// Highest error recovery level (RFC 7143 13.20).
    pub error_recovery_level: u8,
    /// Task reporting semantics we take, best first (RFC 7143 13.23). Where a session may have several connections only
    /// RFC3720 is.
    pub task_reporting: Vec<TaskReporting>,
    /// Highest protocol level; 2 has the task management functions of RFC 7144 (RFC 7143 13.24).
    pub protocol_level: u8,
}

/// What the target offers: its operational keys and what it declares about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetOffer {
    /// The operational keys.
    pub keys: Offer,
    /// The tag of the portal group that the connection came in through (RFC 7143 13.9).
    pub portal_group_tag: u16,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            header_digest: vec![DigestKind::None, DigestKind::Crc32c],
            data_digest: vec![DigestKind::None, DigestKind::Crc32c],
            max_connections: 1,
            initial_r2t: false,
            immediate_data: true,
            max_recv_data_segment_length: 262_144,
            max_burst_length: 1 << 20,
            first_burst_length: 262_144,
            default_time2wait: 2,
            default_time2retain: 20,
            max_outstanding_r2t: 16,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            error_recovery_level: 0,
            task_reporting: vec![
                TaskReporting::Rfc3720,
                TaskReporting::ResponseFence,
                TaskReporting::FastAbort,
            ],
            protocol_level: 2,
        }
    }
}

impl Default for TargetOffer {
    fn default() -> Self {
        Self {
            keys: Offer::default(),
            portal_group_tag: 1,
        }
    }
}

impl Offer {
    /// MaxRecvDataSegmentLength, brought into its range.
    pub(super) fn max_recv_data_segment_length(&self) -> u32 {
        in_range(Key::MaxRecvDataSegmentLength, self.max_recv_data_segment_length)
    }

    /// What we want of `key`; `None` for keys that are not negotiated.
    pub(super) fn wish(&self, key: Key) -> Option<Wish> {
        let number = |value: u32| Wish::Number(in_range(key, value));
        Some(match key {
            Key::HeaderDigest => digests(&self.header_digest),
            Key::DataDigest => digests(&self.data_digest),
            Key::MaxConnections => number(self.max_connections.into()),
            Key::InitialR2T => Wish::Flag(self.initial_r2t),
            Key::ImmediateData => Wish::Flag(self.immediate_data),
            Key::MaxBurstLength => number(self.max_burst_length),
            Key::FirstBurstLength => {
                number(self.first_burst_length.min(in_range(key, self.max_burst_length)))
            }
            Key::DefaultTime2Wait => number(self.default_time2wait.into()),
            Key::DefaultTime2Retain => number(self.default_time2retain.into()),
            Key::MaxOutstandingR2T => number(self.max_outstanding_r2t.into()),
            Key::DataPduInOrder => Wish::Flag(self.data_pdu_in_order),
            Key::DataSequenceInOrder => Wish::Flag(self.data_sequence_in_order),
            Key::ErrorRecoveryLevel => number(self.error_recovery_level.into()),
            Key::TaskReporting if self.task_reporting.is_empty() => {
                Wish::Words(vec![TaskReporting::Rfc3720.name()])
            }
            Key::TaskReporting => Wish::Words(self.task_reporting.iter().map(|kind| kind.name()).collect()),
            Key::ProtocolLevel => number(self.protocol_level.into()),
            _ => return None,
        })
    }
}

/// An empty list means that nothing but None is wanted.
fn digests(kinds: &[DigestKind]) -> Wish {
    if kinds.is_empty() {
        return Wish::Words(vec![DigestKind::None.name()]);
    }
    Wish::Words(kinds.iter().map(|kind| kind.name()).collect())
}

fn in_range(key: Key, value: u32) -> u32 {
    match key.spec().rule {
        Rule::Minimum(low, high) | Rule::Maximum(low, high) | Rule::DeclaredNumber(low, high) => {
            value.clamp(low, high)
        }
        _ => value,
    }
}
