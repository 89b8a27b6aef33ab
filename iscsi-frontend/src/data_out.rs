//! Collecting the data of writes: Data-Out, R2T and the memory for them (RFC 7143 11.7, 11.8).
//!
//! A write gets the buffer for all its data before the first R2T. What all collecting writes of a connection hold
//! stays within a budget; a write that finds no room waits, first come first served, and its R2T with it. Unsolicited
//! data cannot wait: it is bounded by FirstBurstLength times the command window, and is let in over the budget.

use bytes::Bytes;
use iscsi_proto::{
    bhs::{self, Bhs, Header, ReadyToTransfer},
    data_flow::{DataOutFacts, R2t},
    framer::Frame,
    misbehaviour::Misbehaviour,
    reject::RejectReason,
};
use target_core::buffer::BufferPool;

use crate::{
    session::Session,
    tasks::{Collecting, CommandFacts},
};

impl Session {
    /// Takes a write in whose data is not complete yet.
    pub(crate) fn collect(&mut self, task: Collecting) {
        let tag = task.facts.tag;
        let urgent = task.flow.awaits_unsolicited();
        let has_buffer = task.buffer.is_some();
        self.tasks.insert_collecting(task);
        if has_buffer {
            self.ask_for_data(tag);
        } else if urgent {
            self.give_buffer(tag);
        } else {
            self.tasks.waiting.push_back(tag);
            self.grant_buffers();
        }
    }

    /// Gives buffers to the writes that wait, as far as the budget goes. One alone may be larger than the budget.
    pub(crate) fn grant_buffers(&mut self) {
        let budget = self.data_out_budget;
        while let Some(&tag) = self.tasks.waiting.front() {
            let held = self.tasks.collected_bytes;
            // A write that was aborted while it waited is not there any more.
            let wanted = self
                .tasks
                .collecting(tag)
                .map(|task| task.facts.expected as usize);
            if let Some(wanted) = wanted {
                if held > 0 && held + wanted > budget {
                    return;
                }
                self.give_buffer(tag);
                self.ask_for_data(tag);
            }
            self.tasks.waiting.pop_front();
        }
    }

    fn give_buffer(&mut self, tag: u32) {
        let Some(task) = self.tasks.collecting(tag) else {
            return;
        };
        if task.buffer.is_some() {
            return;
        }
        let mut buffer = BufferPool::shared().get(task.facts.expected as usize);
        buffer[..task.immediate.len()].copy_from_slice(&task.immediate);
        task.immediate = Bytes::new();
        let length = buffer.len();
        task.buffer = Some(buffer);
        self.tasks.collected_bytes += length;
    }

    /// Sends the R2Ts that may be sent now.
    pub(crate) fn ask_for_data(&mut self, tag: u32) {
        let Some(task) = self.tasks.collecting(tag) else {
            return;
        };
        let Some(link) = self.links.iter_mut().find(|link| link.id == task.facts.link) else {
            return;
        };
        while let Some(r2t) = task.flow.next_r2t(self.next_transfer_tag) {
            self.next_transfer_tag = match self.next_transfer_tag.wrapping_add(1) {
                bhs::RESERVED_TAG => 0,
                tag => tag,
            };
            link.send_question(&self.window, asking(&task.facts, &r2t));
        }
    }

    /// A Data-Out.
    pub(crate) fn data_out(&mut self, at: usize, pdu: &Bytes, frame: &Frame<'_>) {
        let data = &pdu[frame.data.clone()];
        self.take_data(at, frame.bhs, Data::Here(data), frame.data_intact);
    }

    /// A Data-Out whose data is in the buffer of its write already.
    pub(crate) fn data_has_come(&mut self, at: usize, bhs: &Bhs, length: usize, is_intact: bool) {
        self.take_data(at, bhs, Data::InPlace(length), is_intact);
    }

    /// It comes over the connection its command came by (RFC 7143 4.2.2.1: allegiance).
    fn take_data(&mut self, at: usize, bhs: &Bhs, data: Data<'_>, is_intact: bool) {
        let header = bhs.view::<bhs::DataOut>();
        let tag = header.initiator_task_tag.get();
        // Data of a task that has been failed or aborted may still be on its way: it is of no use.
        let Some(task) = self.tasks.collecting(tag) else {
            return;
        };
        if task.facts.link != self.links[at].id {
            return self.refuse(at, bhs, Misbehaviour::OutOfPlace(bhs.opcode()));
        }
        let start = header.buffer_offset.get() as usize;
        let facts = DataOutFacts {
            target_transfer_tag: header.target_transfer_tag.get(),
            data_sn: header.data_sn.get(),
            offset: header.buffer_offset.get(),
            length: data.length() as u32,
            is_final: header.is_final(),
            is_intact,
        };
        match (task.flow.data_out(&facts), &mut task.buffer) {
            // It is asked for again.
            (Ok(()), Some(_)) if !is_intact => {}
            (Ok(()), Some(buffer)) => {
                if let Data::Here(data) = data {
                    buffer[start..start + data.len()].copy_from_slice(data);
                }
            }
            // Without a buffer nothing was asked for.
            (Ok(()), None) => return self.fail_collecting(tag, Misbehaviour::UnsolicitedDataNotAgreed),
            (Err(why), _) => {
                if why == Misbehaviour::DataDigest {
                    self.reject(at, bhs, RejectReason::DataDigestError);
                }
                return self.fail_collecting(tag, why);
            }
        }
        let is_complete = task.flow.is_complete();
        if !is_intact {
            self.reject(at, bhs, RejectReason::DataDigestError);
        }
        if is_complete {
            self.write_is_complete(tag);
        } else {
            self.ask_for_data(tag);
        }
    }

    fn write_is_complete(&mut self, tag: u32) {
        if let Some(mut task) = self.tasks.remove_collecting(tag) {
            task.facts.r2ts = task.flow.r2ts_sent();
            let data = task
                .buffer
                .map_or_else(Bytes::new, target_core::buffer::Buffer::freeze);
            self.execute(task.facts, data, false);
            self.grant_buffers();
        }
    }

    fn fail_collecting(&mut self, tag: u32, why: Misbehaviour) {
        if let Some(mut task) = self.tasks.remove_collecting(tag) {
            task.facts.r2ts = task.flow.r2ts_sent();
            self.fail(task.facts, why);
            self.grant_buffers();
        }
    }

    /// Forgets those of the writes whose data is not complete that are `such`: nobody waits for them any more.
    pub(crate) fn drop_collecting(&mut self, such: impl Fn(&CommandFacts) -> bool) {
        for task in self.tasks.take_collecting(such) {
            self.release_place(&task.facts);
        }
    }
}

/// Where the data of a PDU is.
#[derive(Clone, Copy)]
enum Data<'a> {
    /// Here, to be copied into the buffer of its write.
    Here(&'a [u8]),
    /// There, this much.
    InPlace(usize),
}

impl Data<'_> {
    fn length(self) -> usize {
        match self {
            Self::Here(data) => data.len(),
            Self::InPlace(length) => length,
        }
    }
}

/// An R2T as it is sent.
pub(crate) fn asking(facts: &CommandFacts, r2t: &R2t) -> ReadyToTransfer {
    let mut header = ReadyToTransfer::new();
    header.lun = facts.lun;
    header.initiator_task_tag = facts.tag.into();
    header.target_transfer_tag = r2t.target_transfer_tag.into();
    header.r2t_sn = r2t.r2t_sn.into();
    header.buffer_offset = r2t.offset.into();
    header.desired_data_transfer_length = r2t.length.into();
    header
}
