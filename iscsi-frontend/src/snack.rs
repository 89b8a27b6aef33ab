//! SNACK: what the initiator wants again, or acknowledges (RFC 7143 11.16), from ErrorRecoveryLevel 1 on.

use bytes::Bytes;
use iscsi_proto::{
    bhs::{Bhs, Header, Snack},
    kept::Kept,
    misbehaviour::Misbehaviour,
    reject::RejectReason,
    session::CommandWindow,
};

use crate::{
    command::carrying,
    data_out::asking,
    link::Link,
    reassignment::{response_of, send_rest},
    session::Session,
};

impl Session {
    /// A SNACK. What cannot be sent again is rejected; the initiator then has recovery of the session.
    pub(crate) fn snack(&mut self, at: usize, bhs: &Bhs) {
        if self.parameters.error_recovery_level == 0 {
            return self.reject(at, bhs, RejectReason::SnackReject);
        }
        let snack = bhs.view::<Snack>();
        let (begin, count) = (snack.begin_run.get(), snack.run_length.get());
        let tag = snack.initiator_task_tag.get();
        let is_done = match snack.kind() {
            Snack::DATA_OR_R2T => match self.tasks.link_of(tag) {
                Some(link) if link != self.links[at].id => {
                    return self.refuse(at, bhs, Misbehaviour::OutOfPlace(bhs.opcode()));
                }
                _ => {
                    self.ask_again(at, tag, begin, count)
                        || self.links[at].send_data_again(&self.window, tag, begin, count)
                }
            },
            Snack::STATUS => self.links[at].send_statuses_again(&self.window, begin, count),
            Snack::DATA_ACK => {
                if !self.links[at].data_acknowledged(snack.target_transfer_tag.get(), begin) {
                    self.reject(at, bhs, RejectReason::InvalidDataAck);
                }
                return;
            }
            Snack::R_DATA => {
                let snack_tag = snack.target_transfer_tag.get();
                self.links[at].send_data_cut_anew(&self.window, tag, snack_tag)
            }
            _ => false,
        };
        if !is_done {
            self.reject(at, bhs, RejectReason::SnackReject);
        }
    }

    /// Sends R2Ts again that are not answered yet. Was there any?
    fn ask_again(&mut self, at: usize, tag: u32, begin: u32, count: u32) -> bool {
        let Some(task) = self.tasks.collecting(tag) else {
            return false;
        };
        let mut is_any = false;
        for r2t in task.flow.open_r2ts(begin, count) {
            self.links[at].send_question(&self.window, asking(&task.facts, r2t));
            is_any = true;
        }
        is_any
    }
}

impl Link {
    /// Sends a run of the data of a read again.
    fn send_data_again(&mut self, window: &CommandWindow, tag: u32, begin: u32, count: u32) -> bool {
        let Some(answer) = self.kept.as_ref().and_then(|kept| kept.read(tag)) else {
            return false;
        };
        let Some(read) = &answer.read else { return false };
        // In one piece it would be more than the initiator takes by now.
        let fits = read.max_segment <= self.parameters.peer_max_recv_data_segment_length;
        let Some(run) = read.segments(begin, count).filter(|_| fits) else {
            return false;
        };
        let carries_status = !answer.is_response();
        for segment in run {
            if segment.is_last && carries_status {
                again(&mut self.out, window, answer);
                continue;
            }
            let mut header = carrying(&segment, tag, read.lun, Some(answer.header.stat_sn()));
            header.exp_cmd_sn = window.exp_cmd_sn().into();
            header.max_cmd_sn = window.max_cmd_sn().into();
            let start = (segment.offset - read.first_offset) as usize;
            self.out
                .push(&header, read.data.slice(start..start + segment.length as usize));
        }
        true
    }

    /// Sends the data of a read that is not acknowledged again, as the initiator takes it by now, and then its status in a PDU of
    /// its own, which names the request (RFC 7143 11.16.3).
    fn send_data_cut_anew(&mut self, window: &CommandWindow, tag: u32, snack_tag: u32) -> bool {
        let limit = self.parameters.peer_max_recv_data_segment_length;
        let kept = self.kept.as_mut();
        let Some(answer) = kept.and_then(|kept| kept.read_mut(tag)) else {
            return false;
        };
        let Some(read) = answer.read.as_ref().map(|read| read.resumed(0, limit)) else {
            return false;
        };
        let stat_sn = answer.header.stat_sn();
        let mut header = response_of(answer);
        if !answer.is_response() {
            answer.segment = Bytes::new();
        }
        header.stat_sn = stat_sn.into();
        header.snack_tag = snack_tag.into();
        header.exp_data_sn = send_rest(&mut self.out, window, tag, &read, stat_sn).into();
        answer.header = header.to_bhs();
        answer.read = Some(read);
        again(&mut self.out, window, answer);
        true
    }

    /// Sends a run of answers again.
    fn send_statuses_again(&mut self, window: &CommandWindow, begin: u32, count: u32) -> bool {
        let run = self.kept.as_ref().and_then(|kept| kept.statuses(begin, count));
        let Some(run) = run else { return false };
        for answer in run {
            again(&mut self.out, window, answer);
        }
        true
    }

    /// The initiator has the data before this DataSN of the read whose Data-In had this transfer tag.
    fn data_acknowledged(&mut self, transfer_tag: u32, data_sn: u32) -> bool {
        let Some(kept) = &mut self.kept else { return false };
        // The request itself may have acknowledged the status of the read, and with it the data.
        kept.is_released(transfer_tag)
            || kept
                .read_by_stat_sn(transfer_tag)
                .is_some_and(|read| read.acknowledge(data_sn))
    }
}

/// Sends an answer again, as it was but for the window.
fn again(out: &mut iscsi_proto::framer::Outbound, window: &CommandWindow, answer: &Kept) {
    let mut header = answer.header;
    header.set_window(window.exp_cmd_sn(), window.max_cmd_sn());
    out.push_again(&header, answer.segment.clone());
}
