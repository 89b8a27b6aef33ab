//! Answers kept until the initiator has acknowledged them, for ErrorRecoveryLevel 1 and above (RFC 7143 4.2.2.2, 11.16).
//!
//! Every PDU that takes a StatSN is kept as it was sent, and with the answer to a read all of its data, which is shared
//! and not copied. The ExpStatSN of any PDU of the initiator releases what is before it. Until then a SNACK can have it again:
//! one status or a run of them ([`KeptAnswers::statuses`]), or PDUs of the data of a read by their DataSN
//! ([`KeptAnswers::read`], [`KeptRead::segments`]).
//!
//! An initiator may leave many answers unacknowledged, so they are kept within a budget. Over that the oldest goes: a SNACK
//! for it is rejected, which RFC 7143 11.16 allows, and the initiator is left with recovery of the session.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    bhs::{BHS_LENGTH, Bhs, opcode},
    data_flow::{DataInFlow, DataInSegment},
    session::is_before,
};

/// What an answer costs besides its bytes.
const ENTRY: usize = 192;

/// The data of a read, as it was cut into PDUs.
#[derive(Debug, Clone)]
pub struct KeptRead {
    /// All of it.
    pub data: Bytes,
    /// Logical unit number of the command.
    pub lun: [u8; 8],
    /// The initiator's MaxRecvDataSegmentLength when it was sent.
    pub max_segment: u32,
    /// MaxBurstLength.
    pub max_burst: u32,
    /// The DataSN that the first PDU has: not 0 after a reassignment.
    pub first_data_sn: u32,
    /// The buffer offset of the first PDU.
    pub first_offset: u32,
    /// The data acknowledgement reference number: the first DataSN that is not acknowledged (RFC 7143 11.5.6).
    pub acknowledged: u32,
}

impl KeptRead {
    /// How it is cut, all of it.
    pub fn flow(&self) -> DataInFlow {
        let total = self.data.len() as u32;
        DataInFlow::new(total, self.max_segment, self.max_burst)
            .starting_at(self.first_data_sn, self.first_offset)
    }

    /// One past the last DataSN.
    fn end(&self) -> u32 {
        self.flow()
            .last()
            .map_or(self.first_data_sn, |last| last.data_sn + 1)
    }

    /// The PDUs of the run of `count` from `begin` on; a count of 0 means all from there on, and both 0 all that is not
    /// acknowledged (RFC 7143 11.16.1). `None` when the run goes beyond the data, or before what was acknowledged.
    pub fn segments(&self, begin: u32, count: u32) -> Option<impl Iterator<Item = DataInSegment> + use<>> {
        let end = self.end();
        let (begin, run_end) = match (begin, count) {
            (0, 0) => (self.acknowledged, end),
            (begin, 0) => (begin, end),
            (begin, count) => (begin, begin.checked_add(count)?),
        };
        if begin < self.acknowledged || begin >= run_end || run_end > end {
            return None;
        }
        let segments = self.flow();
        Some(segments.filter(move |segment| (begin..run_end).contains(&segment.data_sn)))
    }

    /// The initiator has all data before `data_sn` (DataACK, RFC 7143 11.16). `false` when that cannot be.
    #[must_use]
    pub fn acknowledge(&mut self, data_sn: u32) -> bool {
        let is_plausible = data_sn >= self.acknowledged && data_sn <= self.end();
        if is_plausible {
            self.acknowledged = data_sn;
        }
        is_plausible
    }

    /// The same data for another connection, from the DataSN on that the initiator expects; 0 is what it acknowledged, and
    /// so is any number that cannot be (RFC 7143 11.5.6). Cut anew for `max_segment`.
    #[must_use]
    pub fn resumed(&self, exp_data_sn: u32, max_segment: u32) -> Self {
        let is_plausible = exp_data_sn >= self.acknowledged && exp_data_sn <= self.end();
        let first = if is_plausible && exp_data_sn != 0 {
            exp_data_sn
        } else {
            self.acknowledged
        };
        let skipped = self.flow().filter(|segment| segment.data_sn < first);
        let skipped: u32 = skipped.map(|segment| segment.length).sum();
        Self {
            data: self.data.slice(skipped as usize..),
            max_segment,
            first_data_sn: first.max(self.first_data_sn),
            first_offset: self.first_offset + skipped,
            acknowledged: first.max(self.first_data_sn),
            ..self.clone()
        }
    }
}

/// A PDU with a StatSN.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Logical unit number of the command that it answers; of no meaning otherwise.
    pub lun: [u8; 8],
    /// Its header.
    pub header: Bhs,
    /// Its data segment.
    pub segment: Bytes,
    /// What the command has read.
    pub read: Option<KeptRead>,
}

impl Kept {
    /// Is it a PDU of its own, not the last Data-In?
    pub fn is_response(&self) -> bool {
        self.header.opcode() != opcode::DATA_IN
    }

    /// Does it answer a SCSI command?
    fn is_to_command(&self) -> bool {
        matches!(self.header.opcode(), opcode::SCSI_RESPONSE | opcode::DATA_IN)
    }

    /// Is it the answer to the SCSI command with this task tag?
    fn is_to(&self, tag: u32) -> bool {
        self.is_to_command() && self.header.initiator_task_tag() == tag
    }

    /// Nothing, in the place of an answer: the numbers of the others stay.
    fn nothing() -> Self {
        Self {
            lun: [0; 8],
            header: Bhs([0; BHS_LENGTH]),
            segment: Bytes::new(),
            read: None,
        }
    }

    fn cost(&self) -> usize {
        ENTRY + self.segment.len() + self.read.as_ref().map_or(0, |read| read.data.len())
    }
}

/// The answers of one connection that are not acknowledged, in order of StatSN.
#[derive(Debug)]
pub struct KeptAnswers {
    /// StatSN of the first.
    first: u32,
    answers: VecDeque<Kept>,
    bytes: usize,
    budget: usize,
}

impl KeptAnswers {
    /// None yet; the first will have the StatSN `next`. They take `budget` bytes at most.
    pub fn new(next: u32, budget: usize) -> Self {
        Self {
            first: next,
            answers: VecDeque::new(),
            bytes: 0,
            budget,
        }
    }

    /// Keeps the answer with the next StatSN.
    pub fn keep(&mut self, answer: Kept) {
        self.bytes += answer.cost();
        self.answers.push_back(answer);
        while self.bytes > self.budget {
            self.release_first();
        }
    }

    /// The initiator has everything before `exp_stat_sn`. A number beyond the next StatSN says nothing.
    pub fn acknowledge(&mut self, exp_stat_sn: u32) {
        if is_before(self.end(), exp_stat_sn) {
            return;
        }
        while is_before(self.first, exp_stat_sn) {
            self.release_first();
        }
    }

    fn release_first(&mut self) {
        if let Some(answer) = self.answers.pop_front() {
            self.bytes -= answer.cost();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// The next StatSN.
    fn end(&self) -> u32 {
        self.first.wrapping_add(self.answers.len() as u32)
    }

    /// The run of `count` answers from the StatSN `begin` on; a count of 0 means all from there on, and both 0 all there
    /// are. `None` when one of them was not sent yet, or is not kept any more.
    pub fn statuses(&self, begin: u32, count: u32) -> Option<impl Iterator<Item = &Kept>> {
        let skip = match (begin, count) {
            (0, 0) => 0,
            _ => begin.wrapping_sub(self.first) as usize,
        };
        let left = self.answers.len().checked_sub(skip)?;
        let count = if count == 0 { left } else { count as usize };
        (count > 0 && count <= left).then(|| self.answers.iter().skip(skip).take(count))
    }

    /// The answer to the read with this task tag.
    pub fn read(&self, tag: u32) -> Option<&Kept> {
        self.answers
            .iter()
            .find(|answer| answer.read.is_some() && answer.header.initiator_task_tag() == tag)
    }

    /// As [`Self::read`], to be changed: its data may come to be cut otherwise.
    pub fn read_mut(&mut self, tag: u32) -> Option<&mut Kept> {
        self.answers
            .iter_mut()
            .find(|answer| answer.read.is_some() && answer.header.initiator_task_tag() == tag)
    }

    /// The answer to the SCSI command with this task tag.
    pub fn command(&self, tag: u32) -> Option<&Kept> {
        self.answers.iter().find(|answer| answer.is_to(tag))
    }

    /// Takes that answer out: it goes on elsewhere. The numbers of the others stay.
    pub fn take_command(&mut self, tag: u32) -> Option<Kept> {
        let place = self.answers.iter_mut().find(|answer| answer.is_to(tag))?;
        let taken = std::mem::replace(place, Kept::nothing());
        self.bytes -= taken.cost() - place.cost();
        Some(taken)
    }

    /// Forgets the answers to the commands of a logical unit, or with `None` to all commands. The numbers of the others stay.
    pub fn forget(&mut self, lun: Option<[u8; 8]>) {
        let of_unit = |answer: &&mut Kept| answer.is_to_command() && lun.is_none_or(|lun| answer.lun == lun);
        for place in self.answers.iter_mut().filter(of_unit) {
            let forgotten = std::mem::replace(place, Kept::nothing());
            self.bytes -= forgotten.cost() - place.cost();
        }
    }

    /// The data of the read whose answer has this StatSN.
    pub fn read_by_stat_sn(&mut self, stat_sn: u32) -> Option<&mut KeptRead> {
        let at = stat_sn.wrapping_sub(self.first) as usize;
        self.answers.get_mut(at)?.read.as_mut()
    }

    /// Was the answer with this StatSN acknowledged, or given up?
    pub fn is_released(&self, stat_sn: u32) -> bool {
        is_before(stat_sn, self.first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bhs::{Header, ScsiResponse};

    fn answer(tag: u32) -> Kept {
        let mut header = ScsiResponse::new();
        header.initiator_task_tag = tag.into();
        Kept {
            header: header.to_bhs(),
            ..Kept::nothing()
        }
    }

    fn read(length: usize) -> KeptRead {
        KeptRead {
            data: (0..length).map(|at| at as u8).collect(),
            lun: [0; 8],
            max_segment: 10,
            max_burst: 25,
            first_data_sn: 0,
            first_offset: 0,
            acknowledged: 0,
        }
    }

    fn numbers(run: Option<impl Iterator<Item = DataInSegment>>) -> Option<Vec<u32>> {
        run.map(|run| run.map(|segment| segment.data_sn).collect())
    }

    #[test]
    fn a_run_of_data_is_cut_as_it_was() {
        // 10 10 5, 10 10 5, 10 2
        let mut read = read(62);
        assert_eq!(numbers(read.segments(0, 0)), Some((0..8).collect()));
        assert_eq!(numbers(read.segments(3, 2)), Some(vec![3, 4]));
        assert_eq!(numbers(read.segments(6, 0)), Some(vec![6, 7]));
        assert_eq!(read.segments(7, 1).unwrap().next().unwrap().offset, 60);
        assert_eq!(numbers(read.segments(7, 2)), None, "beyond the data");
        assert_eq!(numbers(read.segments(8, 0)), None);
        assert!(read.acknowledge(3) && !read.acknowledge(2) && !read.acknowledge(9));
        assert_eq!(numbers(read.segments(2, 1)), None, "it was acknowledged");
        assert_eq!(numbers(read.segments(0, 0)), Some(vec![3, 4, 5, 6, 7]));
    }

    #[test]
    fn a_read_goes_on_from_what_the_initiator_has() {
        let mut read = read(62);
        assert!(read.acknowledge(3));
        let at = |exp_data_sn, max_segment| {
            let resumed = read.resumed(exp_data_sn, max_segment);
            let first = resumed.flow().next().unwrap();
            (first.data_sn, first.offset, first.length, resumed.data[0])
        };
        assert_eq!(at(0, 10), (3, 25, 10, 25), "0: what was acknowledged");
        assert_eq!(at(5, 7), (5, 45, 7, 45));
        assert_eq!(at(2, 10), (3, 25, 10, 25), "a number that cannot be");
        assert_eq!(at(9, 10), (3, 25, 10, 25), "a number that cannot be");
        assert!(read.resumed(8, 10).data.is_empty(), "all is there");
        assert_eq!(
            read.resumed(5, 7).resumed(0, 10).flow().next().unwrap().offset,
            45
        );
    }

    #[test]
    fn the_oldest_goes_over_the_budget() {
        let mut kept = KeptAnswers::new(u32::MAX, 3 * ENTRY);
        for tag in 0..4 {
            kept.keep(answer(tag));
        }
        assert!(kept.statuses(u32::MAX, 1).is_none(), "it went");
        assert_eq!(kept.statuses(0, 0).unwrap().count(), 3);
        assert_eq!(kept.statuses(1, 0).unwrap().count(), 2);
        assert!(kept.statuses(2, 2).is_none(), "one of them is not sent yet");
        kept.acknowledge(4);
        assert_eq!(kept.statuses(0, 0).unwrap().count(), 3, "no such StatSN yet");
        kept.acknowledge(2);
        assert!(kept.command(2).is_none() && kept.command(3).is_some());
        kept.keep(answer(4));
        assert!(kept.take_command(3).is_some() && kept.take_command(3).is_none());
        assert_eq!(kept.statuses(3, 0).unwrap().count(), 1, "the numbers stay");
        kept.acknowledge(4);
        assert_eq!(kept.bytes, 0);
    }

    #[test]
    fn those_of_a_unit_are_forgotten() {
        const UNIT: [u8; 8] = [0, 3, 0, 0, 0, 0, 0, 0];
        let mut kept = KeptAnswers::new(0, usize::MAX);
        for (tag, lun) in [(0, UNIT), (1, [0; 8]), (2, UNIT)] {
            kept.keep(Kept { lun, ..answer(tag) });
        }
        kept.forget(Some(UNIT));
        let is_kept = [0, 1, 2].map(|tag| kept.command(tag).is_some());
        assert_eq!(is_kept, [false, true, false]);
        assert_eq!(kept.statuses(2, 1).unwrap().count(), 1, "the numbers stay");
        kept.forget(None);
        assert!(kept.command(1).is_none());
        kept.acknowledge(3);
        assert_eq!(kept.bytes, 0);
    }

    proptest! {
        /// What is kept is what a plain list of (StatSN, tag) would keep, however acknowledgements come.
        #[test]
        fn it_is_a_window_over_all_answers(
            first: u32,
            steps in proptest::collection::vec((any::<bool>(), 0_u32..12), 1..80),
            run in (0_u32..12, 0_u32..6),
        ) {
            let mut kept = KeptAnswers::new(first, usize::MAX);
            let mut list: Vec<(u32, u32)> = Vec::new();
            let mut next = first;
            for (is_answer, number) in steps {
                if is_answer {
                    kept.keep(answer(number));
                    list.push((next, number));
                    next = next.wrapping_add(1);
                } else if number <= list.len() as u32 + 2 {
                    let start = next.wrapping_sub(list.len() as u32);
                    let exp_stat_sn = start.wrapping_add(number);
                    kept.acknowledge(exp_stat_sn);
                    if !is_before(next, exp_stat_sn) {
                        list.retain(|(stat_sn, _)| !is_before(*stat_sn, exp_stat_sn));
                    }
                }
            }
            let start = next.wrapping_sub(list.len() as u32);
            let begin = start.wrapping_add(run.0);
            let tags = |kept: Option<Vec<&Kept>>| {
                kept.map(|kept| kept.iter().map(|kept| kept.header.initiator_task_tag()).collect::<Vec<_>>())
            };
            let expected: Vec<u32> = list
                .iter()
                .filter(|(stat_sn, _)| !is_before(*stat_sn, begin))
                .take(if run.1 == 0 { usize::MAX } else { run.1 as usize })
                .map(|(_, tag)| *tag)
                .collect();
            prop_assume!((begin, run.1) != (0, 0));
            let is_whole = !expected.is_empty() && (run.1 == 0 || expected.len() == run.1 as usize);
            prop_assert_eq!(tags(kept.statuses(begin, run.1).map(Iterator::collect)), is_whole.then_some(expected));
        }
    }
}
