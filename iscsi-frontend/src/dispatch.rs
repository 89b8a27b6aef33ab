//! Which PDU goes where: numbering, operation codes, and what is refused (RFC 7143 4.2.2.1, 11.17).

use std::time::Instant;

use bytes::{Buf, Bytes};
use iscsi_proto::{
    bhs::{Bhs, Header, LogoutRequest, NopIn, NopOut, RESERVED_TAG, opcode},
    framer::Frame,
    misbehaviour::{Misbehaviour, Reaction},
    reject::{RejectReason, reject},
    session::{CommandWindow, Delivery},
};

use crate::{
    ending::Ending,
    link::Link,
    session::{Early, Session},
};

/// Stop handling PDUs while this much waits to be sent: answers must not pile up faster than they leave.
const SEND_PENDING: usize = 2 << 20;

/// Bytes of commands that may be held because one before them is missing.
const EARLY_BYTES: usize = 1 << 20;

impl Session {
    /// Handles the PDUs received on a connection, as long as their answers find room.
    pub(crate) fn handle_received(&mut self, at: usize) {
        self.end_straight(at);
        if !self.links[at].batch.is_empty() {
            self.handle_batch(at);
        }
        if self.links[at].batch.is_empty() {
            self.begin_straight(at);
        }
    }

    fn handle_batch(&mut self, at: usize) {
        let link = &mut self.links[at];
        let mut batch = std::mem::take(&mut link.batch);
        loop {
            let link = &self.links[at];
            if !link.takes_more() || link.out.pending() >= SEND_PENDING {
                break;
            }
            let Some(frame) = link.framer.open(&batch) else {
                break;
            };
            let length = frame.length;
            self.pdu(at, &batch, &frame);
            batch.advance(length);
        }
        self.links[at].batch = batch;
    }

    /// One PDU, at the front of `pdu`.
    pub(crate) fn pdu(&mut self, at: usize, pdu: &Bytes, frame: &Frame<'_>) {
        let opcode = frame.bhs.opcode();
        self.links[at].acknowledged(frame.bhs.exp_stat_sn());
        if opcode == opcode::DATA_OUT {
            return self.data_out(at, pdu, frame);
        }
        if !frame.data_intact {
            self.reject(at, frame.bhs, RejectReason::DataDigestError);
            // Without recovery within a connection, a command that is not understood ends it. With recovery, the initiator
            // sends the command again: its CmdSN is still to come.
            if self.parameters.error_recovery_level == 0 {
                self.links[at].end(Misbehaviour::DataDigest.into());
            }
            return;
        }
        match opcode {
            opcode::SCSI_COMMAND
            | opcode::NOP_OUT
            | opcode::TASK_MANAGEMENT_REQUEST
            | opcode::TEXT_REQUEST
            | opcode::LOGOUT_REQUEST => self.numbered(at, pdu, frame),
            opcode::SNACK => self.snack(at, frame.bhs),
            opcode::LOGIN_REQUEST => self.refuse(at, frame.bhs, Misbehaviour::OutOfPlace(opcode)),
            _ => self.refuse(at, frame.bhs, Misbehaviour::Opcode(opcode)),
        }
    }

    /// A PDU with a CmdSN: delivered in order, whichever connection it came by (RFC 7143 4.2.2.1).
    fn numbered(&mut self, at: usize, pdu: &Bytes, frame: &Frame<'_>) {
        let cmd_sn = frame.bhs.cmd_sn();
        match self.window.receive(cmd_sn, frame.bhs.immediate()) {
            Delivery::Ignore => return,
            Delivery::Early => return self.keep(at, cmd_sn, pdu.slice(..frame.length)),
            Delivery::Now => self.deliver(at, pdu, frame),
        }
        self.deliver_early();
    }

    /// Delivers the commands whose turn has come.
    pub(crate) fn deliver_early(&mut self) {
        while !self.early.is_empty() {
            let next = self.window.exp_cmd_sn();
            if self.window.receive(next, false) != Delivery::Now {
                break;
            }
            match self.early.remove(&next) {
                Some(Early::Command { link, pdu }) => {
                    // Those of a connection that has gone have gone with it.
                    let Some(at) = self.at(link) else { continue };
                    if let Some(frame) = self.links[at].framer.open(&pdu) {
                        self.deliver(at, &pdu, &frame);
                    }
                }
                Some(Early::Struck) => {
                    self.window.begin();
                    self.window.end();
                }
                None => break,
            }
        }
        if !self.postponed.is_empty() {
            self.resume_task_management();
        }
    }

    /// Keeps a command that came before its turn. The first that came with its CmdSN counts.
    fn keep(&mut self, at: usize, cmd_sn: u32, pdu: Bytes) {
        let held: usize = self.early.values().map(Early::bytes).sum();
        if held + pdu.len() > EARLY_BYTES {
            return self.links[at].end(Ending::TooManyEarly(EARLY_BYTES));
        }
        let link = self.links[at].id;
        self.early.entry(cmd_sn).or_insert(Early::Command { link, pdu });
    }

    fn deliver(&mut self, at: usize, pdu: &Bytes, frame: &Frame<'_>) {
        let numbered = !frame.bhs.immediate();
        if numbered {
            self.window.begin();
        }
        let opcode = frame.bhs.opcode();
        // A discovery session has no SCSI (RFC 7143 4.3).
        if self.nexus.is_none() && matches!(opcode, opcode::SCSI_COMMAND | opcode::TASK_MANAGEMENT_REQUEST) {
            if numbered {
                self.window.end();
            }
            return self.refuse(at, frame.bhs, Misbehaviour::OutOfPlace(opcode));
        }
        let done = match opcode {
            // Tasks free their place in the window when they end.
            opcode::SCSI_COMMAND => self.scsi_command(at, pdu, frame),
            // While answers are held an immediate one would wait for its own without a bound.
            opcode::TASK_MANAGEMENT_REQUEST if !numbered && self.fence.is_up() => self
                .admit_immediate()
                .map(|()| self.task_management(at, frame.bhs.view(), numbered)),
            opcode::TASK_MANAGEMENT_REQUEST => {
                self.task_management(at, frame.bhs.view(), numbered);
                Ok(())
            }
            other => {
                if numbered {
                    self.window.end();
                }
                match other {
                    opcode::NOP_OUT => {
                        self.links[at].nop_out(&self.window, pdu, frame);
                        Ok(())
                    }
                    opcode::TEXT_REQUEST => self.text(at, pdu, frame),
                    _ => self.logout(at, frame.bhs.view::<LogoutRequest>()),
                }
            }
        };
        if let Err(why) = done {
            self.refuse(at, frame.bhs, why);
        }
    }

    /// Reacts to a breach that is not about the data of a task.
    pub(crate) fn refuse(&mut self, at: usize, bhs: &Bhs, why: Misbehaviour) {
        if let Some(left_out) = self.complaints.admit(Instant::now()) {
            tracing::warn!(initiator = self.initiator(), %why, left_out = left_out.noted(), "PDU refused");
        }
        match why.reaction() {
            Reaction::Reject(reason) => self.reject(at, bhs, reason),
            Reaction::FailTask { .. } | Reaction::Drop => self.links[at].end(why.into()),
        }
    }

    /// Sends a Reject.
    pub(crate) fn reject(&mut self, at: usize, rejected: &Bhs, reason: RejectReason) {
        self.links[at].send_status(&self.window, reject(reason), &rejected.0);
    }
}

impl Early {
    fn bytes(&self) -> usize {
        match self {
            Self::Command { pdu, .. } => pdu.len(),
            Self::Struck => 0,
        }
    }
}

impl Link {
    /// Answers a NOP-Out, or takes it as the answer to ours.
    fn nop_out(&mut self, window: &CommandWindow, pdu: &Bytes, frame: &Frame<'_>) {
        let request = frame.bhs.view::<NopOut>();
        let answered = request.target_transfer_tag.get();
        if answered != RESERVED_TAG
            && let Some(time) = self.keepalive.answered(answered, self.now)
        {
            self.statistics.round_trip(time);
        }
        if request.initiator_task_tag.get() == RESERVED_TAG {
            return;
        }
        let mut answer = NopIn::new();
        answer.initiator_task_tag = request.initiator_task_tag;
        answer.target_transfer_tag = RESERVED_TAG.into();
        let mut data = &pdu[frame.data.clone()];
        data = &data[..data
            .len()
            .min(self.parameters.peer_max_recv_data_segment_length as usize)];
        self.send_status(window, answer, data);
    }

    /// Asks whether the initiator is there.
    pub(crate) fn ask_nop(&mut self, window: &CommandWindow, tag: u32) {
        let mut question = NopIn::new();
        question.initiator_task_tag = RESERVED_TAG.into();
        question.target_transfer_tag = tag.into();
        self.send_question(window, question);
    }
}
