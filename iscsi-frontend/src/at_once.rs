//! Commands that are answered where they stand: the short way through this package.
//!
//! Of what a busy session sends nearly all are plain READs of cached data, and WRITEs that come with all of their data. Neither
//! waits for anything. They have a way of their own, on which nothing is kept of a command and nothing is allocated:
//! what it does is what [`crate::command`] does for all commands, and whatever is unusual about one sends it there, before
//! anything has happened.

use bytes::Bytes;
use iscsi_proto::{
    bhs::{self, DataIn, FINAL, Header, RESERVED_TAG, ScsiResponse as ResponsePdu},
    data_flow::{Residual, WriteFlow},
    framer::{Frame, Outbound},
};
use target_core::target::{ReadAtOnce, Room, WriteAtOnce};

use crate::{command::in_flags, session::Session};

/// Longer data is read into a buffer of its own: it makes no difference then, and would fill the queue's.
const IN_PLACE: u32 = 16 * 1024;

/// What came of trying to answer a command at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtOnce {
    Answered,
    /// It has to wait.
    Waits,
    /// It is something else.
    Other,
}

/// The data segment of the PDU that is sent next.
struct NextPdu<'a> {
    out: &'a mut Outbound,
    longest: usize,
}

impl Room for NextPdu<'_> {
    fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        if length > self.longest {
            return None;
        }
        self.out.room(length)
    }
}

impl Session {
    /// Answers a plain READ whose data is at hand, or a WRITE that came with all of its data and need not wait: nearly all that a
    /// busy session does. Nothing of the command is kept, and nothing allocated.
    pub(crate) fn answer_at_once(
        &mut self,
        at: usize,
        frame: &Frame<'_>,
        header: &bhs::ScsiCommand,
        data: &Bytes,
    ) -> AtOnce {
        let is_plain = !self.fence.is_up()
            && !header.immediate()
            && frame.ahs.is_empty()
            && header.attribute().is_some()
            && !self.tasks.contains(header.initiator_task_tag.get());
        match (header.read(), header.write()) {
            (true, false) if is_plain && data.is_empty() => self.read_at_once(at, header),
            (false, true) if is_plain => self.write_at_once(at, header, data),
            _ => AtOnce::Other,
        }
    }

    /// The data is read to where it is sent from, behind the header of the one Data-In that carries the status, too.
    fn read_at_once(&mut self, at: usize, header: &bhs::ScsiCommand) -> AtOnce {
        let Some(nexus) = &self.nexus else {
            return AtOnce::Other;
        };
        let link = &mut self.links[at];
        if link.kept.is_some() {
            return AtOnce::Other;
        }
        let expected = header.expected_data_transfer_length.get();
        // One PDU is one sequence, too.
        let longest = link
            .parameters
            .peer_max_recv_data_segment_length
            .min(self.parameters.max_burst_length)
            .min(IN_PLACE);
        let mut room = NextPdu {
            out: &mut link.out,
            longest: longest as usize,
        };
        let (length, available) = match nexus.read_at_once(header.lun, &header.cdb, expected, &mut room) {
            ReadAtOnce::Done {
                length,
                data_in_length,
            } => (length, data_in_length),
            ReadAtOnce::Waits => return AtOnce::Waits,
            ReadAtOnce::Other => return AtOnce::Other,
        };
        self.window.end();
        let residual = Residual::of(expected, available);
        let mut answer = DataIn::new();
        answer.flags = FINAL | DataIn::STATUS | in_flags(residual, DataIn::OVERFLOW, DataIn::UNDERFLOW);
        answer.initiator_task_tag = header.initiator_task_tag;
        answer.target_transfer_tag = RESERVED_TAG.into();
        answer.residual_count = residual.count().into();
        answer.stamp(
            link.status.take(),
            self.window.exp_cmd_sn(),
            self.window.max_cmd_sn(),
        );
        link.out.push_in_place(&answer, length as usize);
        AtOnce::Answered
    }

    fn write_at_once(&mut self, at: usize, header: &bhs::ScsiCommand, data: &Bytes) -> AtOnce {
        let Some(nexus) = &self.nexus else {
            return AtOnce::Other;
        };
        let expected = header.expected_data_transfer_length.get();
        if data.len() != expected as usize {
            return AtOnce::Other;
        }
        let flow = WriteFlow::begin(expected, data.len() as u32, header.is_final(), &self.limits);
        if !flow.is_ok_and(|flow| flow.is_complete()) {
            return AtOnce::Other;
        }
        let available = match nexus.write_at_once(header.lun, &header.cdb, data) {
            WriteAtOnce::Done { data_out_length } => data_out_length,
            WriteAtOnce::Waits => return AtOnce::Waits,
            WriteAtOnce::Other => return AtOnce::Other,
        };
        self.window.end();
        let residual = Residual::of(expected, available);
        let mut answer = ResponsePdu::new();
        answer.flags |= in_flags(residual, ResponsePdu::OVERFLOW, ResponsePdu::UNDERFLOW);
        answer.initiator_task_tag = header.initiator_task_tag;
        answer.residual_count = residual.count().into();
        self.links[at].send_status(&self.window, answer, &[]);
        AtOnce::Answered
    }
}
