//! The plan of a data transfer (RFC 7143 4.2.5, 11.7, 11.8).
//!
//! **To the target** ([`WriteFlow`]). The data of a write comes in up to three ways: immediate, in the command itself;
//! unsolicited, in Data-Out PDUs that follow unasked, both together at most FirstBurstLength; solicited, as answers
//! to R2Ts of at most MaxBurstLength each, of which MaxOutstandingR2T may be open at once. DataPDUInOrder and
//! DataSequenceInOrder are always Yes here, so the data arrives in ascending order without a gap and is appended; an
//! R2T is answered after those before it. Each sequence counts DataSN from 0 and ends with the F bit. Whatever
//! departs from that is a named [`Misbehaviour`].
//!
//! From ErrorRecoveryLevel 1 on, Data-Out that was lost or damaged is no end of the write: what is missing of a sequence is
//! noted, and asked for again at its end, before anything else is (recovery R2Ts, RFC 7143 7.2.1).
//!
//! **To the initiator** ([`DataInFlow`]). Data-In PDUs of at most the initiator's MaxRecvDataSegmentLength, the F bit at
//! the end of each MaxBurstLength, the status in the last one.

mod losses;

use std::{cmp::Ordering, collections::VecDeque};

use crate::{bhs::RESERVED_TAG, misbehaviour::Misbehaviour, session::is_before};
use losses::Losses;

/// What the two sides agreed on about data transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferLimits {
    /// InitialR2T.
    pub initial_r2t: bool,
    /// ImmediateData.
    pub immediate_data: bool,
    /// FirstBurstLength in bytes.
    pub first_burst: u32,
    /// MaxBurstLength in bytes.
    pub max_burst: u32,
    /// MaxOutstandingR2T.
    pub max_outstanding_r2t: u16,
    /// Lost Data-Out is asked for again: ErrorRecoveryLevel 1 or 2.
    pub recovers: bool,
}

/// An R2T to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct R2t {
    /// Target transfer tag.
    pub target_transfer_tag: u32,
    /// R2TSN.
    pub r2t_sn: u32,
    /// Buffer offset in bytes.
    pub offset: u32,
    /// Desired data transfer length in bytes.
    pub length: u32,
}

impl R2t {
    /// Offset of the byte behind the data asked for.
    fn end(&self) -> u32 {
        self.offset + self.length
    }
}

/// The fields of a Data-Out that matter to the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataOutFacts {
    /// Target transfer tag, FFFFFFFFh for unsolicited data.
    pub target_transfer_tag: u32,
    /// DataSN.
    pub data_sn: u32,
    /// Buffer offset in bytes.
    pub offset: u32,
    /// Data segment length in bytes.
    pub length: u32,
    /// The F bit.
    pub is_final: bool,
    /// The data digest matches, or there is none.
    pub is_intact: bool,
}

/// One write on its way in.
#[derive(Debug, Clone)]
pub struct WriteFlow {
    expected: u32,
    received: u32,
    max_burst: u32,
    max_outstanding: usize,
    /// End of the unsolicited data as long as it is still coming.
    unsolicited_end: Option<u32>,
    /// DataSN of the next PDU of the current sequence.
    data_sn: u32,
    /// Open R2Ts in order.
    open: VecDeque<R2t>,
    /// Up to where data was asked for.
    requested: u32,
    r2t_sn: u32,
    /// What did not arrive. `None` at ErrorRecoveryLevel 0.
    losses: Option<Losses>,
}

impl WriteFlow {
    /// Begins with the command: `expected` is its expected data transfer length, `immediate` the length of its data
    /// segment, `is_final` its F bit.
    pub fn begin(
        expected: u32,
        immediate: u32,
        is_final: bool,
        limits: &TransferLimits,
    ) -> Result<Self, Misbehaviour> {
        if immediate > 0 && !limits.immediate_data {
            return Err(Misbehaviour::ImmediateDataNotAgreed);
        }
        if !is_final && limits.initial_r2t {
            return Err(Misbehaviour::UnsolicitedDataNotAgreed);
        }
        let unsolicited = limits.first_burst.min(expected);
        if immediate > unsolicited {
            return Err(Misbehaviour::Overrun {
                end: u64::from(immediate),
                limit: unsolicited,
            });
        }
        if !is_final && immediate == unsolicited {
            return Err(Misbehaviour::FinalBitMissing(immediate));
        }
        Ok(Self {
            expected,
            received: immediate,
            max_burst: limits.max_burst,
            max_outstanding: usize::from(limits.max_outstanding_r2t.max(1)),
            unsolicited_end: (!is_final).then_some(unsolicited),
            data_sn: 0,
            open: VecDeque::new(),
            requested: immediate,
            r2t_sn: 0,
            losses: limits.recovers.then(Losses::default),
        })
    }

    /// Is all of the data here?
    pub fn is_complete(&self) -> bool {
        self.received == self.expected && self.losses.as_ref().is_none_or(Losses::is_empty)
    }

    /// Is unsolicited data still to come?
    pub fn awaits_unsolicited(&self) -> bool {
        self.unsolicited_end.is_some()
    }

    /// How many R2Ts were sent: ExpDataSN of the response (RFC 7143 11.4.8).
    pub fn r2ts_sent(&self) -> u32 {
        self.r2t_sn
    }

    /// The next R2T that may be sent now. `tag` is a fresh target transfer tag.
    pub fn next_r2t(&mut self, tag: u32) -> Option<R2t> {
        if self.unsolicited_end.is_some() || self.open.len() >= self.max_outstanding {
            return None;
        }
        // With recovery only one R2T is open at a time, so the data asked for again comes alone.
        let lost = self.losses.as_mut().and_then(|losses| losses.ask(self.max_burst));
        let (offset, length) = match lost {
            Some(range) => (range.start, range.end - range.start),
            None if self.requested == self.expected => return None,
            None => (self.requested, self.max_burst.min(self.expected - self.requested)),
        };
        let r2t = R2t {
            target_transfer_tag: tag,
            r2t_sn: self.r2t_sn,
            offset,
            length,
        };
        self.requested = self.requested.max(r2t.end());
        self.r2t_sn += 1;
        self.open.push_back(r2t);
        Some(r2t)
    }

    /// The open R2Ts of the run of `count` from R2TSN `begin` on, 0 meaning all from there on: those a SNACK can have
    /// again (RFC 7143 11.16).
    pub fn open_r2ts(&self, begin: u32, count: u32) -> impl Iterator<Item = &R2t> {
        let is_in_run = move |r2t: &&R2t| {
            let place = r2t.r2t_sn.checked_sub(begin);
            place.is_some_and(|place| count == 0 || place < count)
        };
        self.open.iter().filter(is_in_run)
    }

    /// Begins again with what is missing, for another connection: no R2T is open and no unsolicited data comes any more
    /// (RFC 7143 7.2.2).
    pub fn resume(&mut self) {
        if let Some(losses) = &mut self.losses {
            losses.give_up_asking();
        }
        self.open.clear();
        self.unsolicited_end = None;
        self.requested = self.received;
        self.data_sn = 0;
    }

    /// Checks a Data-Out that arrived and counts its data as received, if it is intact.
    pub fn data_out(&mut self, pdu: &DataOutFacts) -> Result<(), Misbehaviour> {
        if !pdu.is_intact && self.losses.is_none() {
            return Err(Misbehaviour::DataDigest);
        }
        let (tag, limit) = match (self.unsolicited_end, self.open.front()) {
            (Some(end), _) => (RESERVED_TAG, end),
            (None, Some(r2t)) => (r2t.target_transfer_tag, r2t.end()),
            // Nothing is asked for: only a tag that was never given out can be named as expected.
            (None, None) => (RESERVED_TAG, self.received),
        };
        if pdu.target_transfer_tag != tag {
            return Err(Misbehaviour::TransferTag {
                got: pdu.target_transfer_tag,
                expected: tag,
            });
        }
        if self.unsolicited_end.is_none() && self.open.is_empty() {
            return Err(Misbehaviour::UnsolicitedDataNotAgreed);
        }
        let place = self
            .losses
            .as_ref()
            .and_then(Losses::place)
            .unwrap_or(self.received);
        // With recovery, PDUs before this one may have been lost.
        let skips = self.losses.is_some() && is_before(self.data_sn, pdu.data_sn);
        if pdu.data_sn != self.data_sn && !skips {
            return Err(Misbehaviour::DataSn {
                got: pdu.data_sn,
                expected: self.data_sn,
            });
        }
        if pdu.offset != place && !(skips && pdu.offset > place) {
            return Err(Misbehaviour::BufferOffset {
                got: pdu.offset,
                expected: place,
            });
        }
        let end = u64::from(pdu.offset) + u64::from(pdu.length);
        if end > u64::from(limit) {
            return Err(Misbehaviour::Overrun { end, limit });
        }
        let end = pdu.offset + pdu.length;
        if !pdu.is_final && end == limit {
            return Err(Misbehaviour::FinalBitMissing(end));
        }
        if pdu.is_final && end < limit && self.unsolicited_end.is_none() {
            return Err(Misbehaviour::SequenceTooShort { end, limit });
        }
        if let Some(losses) = &mut self.losses {
            let lost = place..if pdu.is_intact { pdu.offset } else { end };
            if !losses.note(lost, end) {
                return Err(Misbehaviour::DataSn {
                    got: pdu.data_sn,
                    expected: self.data_sn,
                });
            }
        }
        // Data that was asked for again lies below what was received before.
        self.received = self.received.max(end);
        self.data_sn = pdu.data_sn.wrapping_add(1);
        if pdu.is_final {
            self.sequence_ended();
        }
        Ok(())
    }

    fn sequence_ended(&mut self) {
        self.data_sn = 0;
        if self.unsolicited_end.take().is_some() {
            self.requested = self.received;
        } else {
            self.open.pop_front();
        }
        if let Some(losses) = &mut self.losses {
            losses.answered();
        }
    }
}

/// One Data-In PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataInSegment {
    /// DataSN.
    pub data_sn: u32,
    /// Buffer offset in bytes.
    pub offset: u32,
    /// Length in bytes.
    pub length: u32,
    /// F: the end of a sequence.
    pub is_final: bool,
    /// The end of the data: carries the status (S).
    pub is_last: bool,
}

/// Cuts the data of a read into Data-In PDUs.
#[derive(Debug, Clone)]
pub struct DataInFlow {
    total: u32,
    max_segment: u32,
    max_burst: u32,
    data_sn: u32,
    offset: u32,
    /// Buffer offset of the first byte.
    base: u32,
    burst_left: u32,
}

impl DataInFlow {
    /// `total` bytes in segments of at most `max_segment` (the initiator's MaxRecvDataSegmentLength) and sequences of
    /// at most `max_burst` bytes.
    pub fn new(total: u32, max_segment: u32, max_burst: u32) -> Self {
        debug_assert!(max_segment > 0 && max_burst > 0);
        Self {
            total,
            max_segment,
            max_burst,
            data_sn: 0,
            offset: 0,
            base: 0,
            burst_left: max_burst,
        }
    }

    /// The same for data that is the rest of a command's: its first PDU has this DataSN and buffer offset.
    #[must_use]
    pub fn starting_at(self, data_sn: u32, base: u32) -> Self {
        Self {
            data_sn,
            base,
            ..self
        }
    }
}

impl Iterator for DataInFlow {
    type Item = DataInSegment;

    fn next(&mut self) -> Option<DataInSegment> {
        if self.offset == self.total {
            return None;
        }
        let length = self
            .max_segment
            .min(self.burst_left)
            .min(self.total - self.offset);
        let offset = self.offset;
        self.offset += length;
        self.burst_left -= length;
        let is_last = self.offset == self.total;
        let is_final = is_last || self.burst_left == 0;
        if is_final {
            self.burst_left = self.max_burst;
        }
        let data_sn = self.data_sn;
        self.data_sn += 1;
        Some(DataInSegment {
            data_sn,
            offset: self.base + offset,
            length,
            is_final,
            is_last,
        })
    }
}

/// How the data a command had to move differs from what the initiator expected (RFC 7143 11.4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// As expected.
    None,
    /// Less by this many bytes.
    Underflow(u32),
    /// More by this many bytes.
    Overflow(u32),
}

impl Residual {
    /// `expected` by the initiator, `actual` by the command.
    pub fn of(expected: u32, actual: u64) -> Self {
        let expected = u64::from(expected);
        match actual.cmp(&expected) {
            Ordering::Equal => Self::None,
            Ordering::Less => Self::Underflow((expected - actual) as u32),
            Ordering::Greater => Self::Overflow(u32::try_from(actual - expected).unwrap_or(u32::MAX)),
        }
    }

    /// The count for the header.
    pub fn count(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Underflow(count) | Self::Overflow(count) => count,
        }
    }
}

#[cfg(test)]
mod tests;
