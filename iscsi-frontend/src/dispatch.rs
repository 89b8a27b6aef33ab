//! Which PDU goes where: numbering, operation codes, and what is refused (RFC 7143 4.2.2.1, 11.17).

use std::time::Instant;

use bytes::{Buf, Bytes};
use iscsi_proto::{
    bhs::{Bhs, Header, LogoutRequest, NopIn, NopOut, RESERVED_TAG, TaskManagementRequest, opcode},
    framer::Frame,
    misbehaviour::{Misbehaviour, Reaction},
    reject::{RejectReason, reject},
    session::Delivery,
};

use crate::{
    connection::Connection,
    ending::{Ending, Phase},
};

/// Stop handling PDUs while this much waits to be sent: answers must not pile up faster than they leave.
const SEND_PENDING: usize = 2 << 20;

/// Bytes of commands that may be held because one before them is missing.
const EARLY_BYTES: usize = 1 << 20;

impl Connection {
    /// Handles the received PDUs, as long as their answers find room.
    pub(crate) fn handle_batch(&mut self) -> Result<(), Ending> {
        let mut batch = std::mem::take(&mut self.batch);
        while self.takes_more() && self.out.pending() < SEND_PENDING {
            let Some(frame) = self.framer.open(&batch) else {
                break;
            };
            let length = frame.length;
            self.pdu(&batch, &frame)?;
            batch.advance(length);
        }
        self.batch = batch;
        Ok(())
    }

    /// Is the connection in a state to take PDUs?
    pub(crate) fn takes_more(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// One PDU, at the front of `pdu`.
    fn pdu(&mut self, pdu: &Bytes, frame: &Frame<'_>) -> Result<(), Ending> {
        let opcode = frame.bhs.opcode();
        if opcode == opcode::DATA_OUT {
            self.data_out(pdu, frame);
            return Ok(());
        }
        if !frame.data_intact {
            // Without recovery within a connection, a command that is not understood ends the connection.
            self.reject(frame.bhs, RejectReason::DataDigestError);
            return Err(Misbehaviour::DataDigest.into());
        }
        match opcode {
            opcode::SCSI_COMMAND
            | opcode::NOP_OUT
            | opcode::TASK_MANAGEMENT_REQUEST
            | opcode::TEXT_REQUEST
            | opcode::LOGOUT_REQUEST => self.numbered(pdu, frame),
            // SNACK needs ErrorRecoveryLevel 1.
            opcode::SNACK => {
                self.reject(frame.bhs, RejectReason::SnackReject);
                Ok(())
            }
            opcode::LOGIN_REQUEST => self.refuse(frame.bhs, Misbehaviour::OutOfPlace(opcode)),
            _ => self.refuse(frame.bhs, Misbehaviour::Opcode(opcode)),
        }
    }

    /// A PDU with a CmdSN: delivered in order.
    fn numbered(&mut self, pdu: &Bytes, frame: &Frame<'_>) -> Result<(), Ending> {
        let cmd_sn = frame.bhs.cmd_sn();
        match self.window.receive(cmd_sn, frame.bhs.immediate()) {
            Delivery::Ignore => return Ok(()),
            Delivery::Early => return self.keep(cmd_sn, pdu.slice(..frame.length)),
            Delivery::Now => self.deliver(pdu, frame)?,
        }
        while !self.early.is_empty() {
            let next = self.window.exp_cmd_sn();
            if self.window.receive(next, false) != Delivery::Now {
                break;
            }
            let Some(pdu) = self.early.remove(&next) else {
                break;
            };
            if let Some(frame) = self.framer.open(&pdu) {
                self.deliver(&pdu, &frame)?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, cmd_sn: u32, pdu: Bytes) -> Result<(), Ending> {
        let held: usize = self.early.values().map(Bytes::len).sum();
        if held + pdu.len() > EARLY_BYTES {
            return Err(Ending::TooManyEarly(EARLY_BYTES));
        }
        self.early.insert(cmd_sn, pdu);
        Ok(())
    }

    fn deliver(&mut self, pdu: &Bytes, frame: &Frame<'_>) -> Result<(), Ending> {
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
            return self.refuse(frame.bhs, Misbehaviour::OutOfPlace(opcode));
        }
        let done = match opcode {
            // Tasks free their place in the window when they end.
            opcode::SCSI_COMMAND => self.scsi_command(pdu, frame),
            opcode::TASK_MANAGEMENT_REQUEST => {
                self.task_management(frame.bhs.view::<TaskManagementRequest>(), numbered);
                Ok(())
            }
            other => {
                if numbered {
                    self.window.end();
                }
                match other {
                    opcode::NOP_OUT => {
                        self.nop_out(pdu, frame);
                        Ok(())
                    }
                    opcode::TEXT_REQUEST => self.text(pdu, frame),
                    _ => self.logout(frame.bhs.view::<LogoutRequest>()),
                }
            }
        };
        done.or_else(|why| self.refuse(frame.bhs, why))
    }

    /// Answers a NOP-Out, or takes it as the answer to ours.
    fn nop_out(&mut self, pdu: &Bytes, frame: &Frame<'_>) {
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
        answer.stat_sn = self.status.take().into();
        answer.exp_cmd_sn = self.window.exp_cmd_sn().into();
        answer.max_cmd_sn = self.window.max_cmd_sn().into();
        let mut data = pdu.slice(frame.data.clone());
        data.truncate(self.parameters.peer_max_recv_data_segment_length as usize);
        self.out.push(&answer, data);
    }

    /// Asks whether the initiator is there.
    pub(crate) fn ask_nop(&mut self, tag: u32) {
        let mut question = NopIn::new();
        question.initiator_task_tag = RESERVED_TAG.into();
        question.target_transfer_tag = tag.into();
        question.stat_sn = self.status.peek().into();
        question.exp_cmd_sn = self.window.exp_cmd_sn().into();
        question.max_cmd_sn = self.window.max_cmd_sn().into();
        self.out.push_copied(&question, &[]);
    }

    /// Reacts to a breach that is not about the data of a task.
    fn refuse(&mut self, bhs: &Bhs, why: Misbehaviour) -> Result<(), Ending> {
        if let Some(left_out) = self.complaints.admit(Instant::now()) {
            tracing::warn!(initiator = self.initiator(), %why, left_out = left_out.noted(), "PDU refused");
        }
        match why.reaction() {
            Reaction::Reject(reason) => {
                self.reject(bhs, reason);
                Ok(())
            }
            Reaction::FailTask { .. } | Reaction::Drop => Err(why.into()),
        }
    }

    /// Sends a Reject.
    pub(crate) fn reject(&mut self, rejected: &Bhs, reason: RejectReason) {
        let mut header = reject(reason);
        header.stat_sn = self.status.take().into();
        header.exp_cmd_sn = self.window.exp_cmd_sn().into();
        header.max_cmd_sn = self.window.max_cmd_sn().into();
        self.out.push_copied(&header, &rejected.0);
    }
}
