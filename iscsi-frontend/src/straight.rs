//! Long data straight into the buffer of its write (RFC 7143 11.3, 11.7).
//!
//! Data that comes by way of the receive buffer is copied once more, out of memory that is cold by then. So when the PDU at the
//! front of what was received is a Data-Out, much of it is still to come, and its write has its buffer, the rest is received where
//! it belongs, with the next header in the same system call. Its numbers and digest are looked at when it is whole, as those of any other ([`crate::data_out`]):
//! until then nobody reads that part of the buffer, and a PDU that is refused then has spoiled only what is asked for again, or fails with
//! its task. A task may end meanwhile; then the rest goes nowhere.
//!
//! Likewise the immediate data of a command, when more is to follow: the write gets its buffer while its first PDU still comes, if there is
//! room for it. The command itself is not looked at before it is whole. What is unusual then (it is not its turn, its data is
//! damaged) is put together again, and goes the way of all PDUs.

use std::{
    io::{self, IoSliceMut},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use iscsi_proto::{
    bhs::{BHS_LENGTH, Bhs, DataOut, ScsiCommand, opcode},
    framer::{Frame, Front},
    session::Delivery,
};
use target_core::buffer::{Buffer, BufferPool};

use crate::{
    link::{Link, LinkId},
    session::Session,
    tasks::Tasks,
};

/// With less than this still to come, the copy costs less than the trouble.
const WORTH: usize = 16 * 1024;

/// Received behind the data by the same call: the tail of the PDU and the next header.
const BEHIND: usize = 4 * 1024;

/// A PDU whose data is received where it belongs.
#[derive(Debug)]
pub(crate) struct Straight {
    bhs: Bhs,
    front: Front,
    to: To,
    /// How much of its data has come.
    come: usize,
}

/// Where data belongs.
#[derive(Debug)]
enum To {
    /// Into the buffer of the write with this tag, from `start` on.
    Task { tag: u32, start: usize },
    /// To the front of the buffer that the write of this command will have.
    New(Buffer),
}

impl To {
    /// The place of a part of the data; `None` when its task has ended.
    fn place<'a>(
        &'a mut self,
        tasks: &'a mut Tasks,
        link: LinkId,
        from: usize,
        length: usize,
    ) -> Option<&'a mut [u8]> {
        match self {
            Self::Task { tag, start } => tasks.place(*tag, link, *start + from, length),
            Self::New(buffer) => buffer.get_mut(from..from + length),
        }
    }
}

impl Straight {
    fn missing(&self) -> usize {
        self.front.data - self.come
    }

    fn is_whole(&self, behind: usize) -> bool {
        self.missing() == 0 && behind >= self.front.tail
    }
}

impl Session {
    /// Begins with the PDU at the front, if it is one that goes straight to its place.
    pub(crate) fn begin_straight(&mut self, at: usize) {
        let link = &mut self.links[at];
        if link.receive.missing() < WORTH || link.straight.is_some() || !link.takes_more() {
            return;
        }
        let bytes = link.receive.bytes();
        let Some((bhs, front)) = link.framer.front(bytes) else {
            return;
        };
        let bhs = *bhs;
        let mut to = match bhs.opcode() {
            opcode::DATA_OUT => {
                let pdu = bhs.view::<DataOut>();
                To::Task {
                    tag: pdu.initiator_task_tag.get(),
                    start: pdu.buffer_offset.get() as usize,
                }
            }
            opcode::SCSI_COMMAND => match self.buffer_ahead(&bhs, front.data) {
                Some(buffer) => To::New(buffer),
                None => return,
            },
            _ => return,
        };
        let link = &mut self.links[at];
        let Some(place) = to.place(&mut self.tasks, link.id, 0, front.data) else {
            return;
        };
        let bytes = link.receive.bytes();
        let come = bytes.len() - front.header;
        place[..come].copy_from_slice(&bytes[front.header..]);
        link.receive.take(front.header + come);
        link.straight = Some(Box::new(Straight { bhs, front, to, come }));
    }

    /// A buffer for the write that this command seems to begin, with so much immediate data and more to follow. `None` when it is unusual, or
    /// when there is no room now: then the data waits where it is received.
    fn buffer_ahead(&self, bhs: &Bhs, immediate: usize) -> Option<Buffer> {
        let command = bhs.view::<ScsiCommand>();
        let expected = command.expected_data_transfer_length.get();
        let is_plain = command.write() && !command.read() && !command.immediate() && bhs.ahs_length() == 0;
        let limits = &self.limits;
        let is_agreed = limits.immediate_data && immediate <= limits.first_burst as usize;
        let more_follows = immediate < expected as usize;
        let is_taken = expected <= self.shared.config.load().tuning.longest_write;
        let held = self.tasks.collected_bytes;
        let is_room = held == 0 || held + expected as usize <= self.data_out_budget;
        let may = is_plain && is_agreed && more_follows && is_taken && is_room;
        (may && self.tasks.waiting.is_empty()).then(|| BufferPool::shared().get(expected as usize))
    }

    /// Handles the PDU that went straight to its place, once it is whole, and looks at what came behind it.
    pub(crate) fn end_straight(&mut self, at: usize) {
        let link = &mut self.links[at];
        let behind = link.receive.bytes().len();
        let Some(straight) = link.straight.take_if(|straight| straight.is_whole(behind)) else {
            return;
        };
        let Straight {
            bhs, front, mut to, ..
        } = *straight;
        let tail = link.receive.take(front.tail);
        if link.takes_more() {
            link.acknowledged(bhs.exp_stat_sn());
            let framer = link.framer;
            let place = to.place(&mut self.tasks, link.id, 0, front.data);
            // Without a place its task has ended.
            if let Some(is_intact) = place.map(|data| framer.is_intact(data, &tail)) {
                match to {
                    To::Task { .. } => self.data_has_come(at, &bhs, front.data, is_intact),
                    To::New(buffer) if is_intact && self.is_next(&bhs) => {
                        self.command_has_come(at, &bhs, buffer, front.data);
                    }
                    To::New(buffer) => self.pdu_has_come(at, &bhs, front, &buffer, &tail),
                }
            }
        }
        self.links[at].look_at_received();
    }

    /// Is it the turn of this command?
    fn is_next(&self, bhs: &Bhs) -> bool {
        self.nexus.is_some() && self.window.receive(bhs.cmd_sn(), false) == Delivery::Now
    }

    /// A command whose immediate data is at the front of the buffer of its write already.
    fn command_has_come(&mut self, at: usize, bhs: &Bhs, buffer: Buffer, immediate: usize) {
        self.window.begin();
        let link = &mut self.links[at];
        link.counters.commands += 1;
        let link = link.id;
        let header = Bytes::copy_from_slice(&bhs.0);
        let frame = Frame {
            bhs,
            ahs: &[],
            data: BHS_LENGTH..BHS_LENGTH,
            data_intact: true,
            length: BHS_LENGTH,
        };
        let command = bhs.view::<ScsiCommand>();
        match self.facts(link, &header, &frame, command) {
            Ok(facts) => self.begin_write_in(buffer, facts, immediate, command.is_final()),
            Err(why) => {
                self.window.end();
                self.refuse(at, bhs, why);
            }
        }
        self.deliver_early();
    }

    /// Puts a PDU together as it was sent, and handles it as any other.
    fn pdu_has_come(&mut self, at: usize, bhs: &Bhs, front: Front, data: &[u8], tail: &[u8]) {
        let mut pdu = Vec::with_capacity(front.header + front.data + front.tail);
        pdu.extend_from_slice(&bhs.0);
        // Its header digest has been looked at.
        pdu.resize(front.header, 0);
        pdu.extend_from_slice(&data[..front.data]);
        pdu.extend_from_slice(tail);
        let (pdu, framer) = (Bytes::from(pdu), self.links[at].framer);
        if let Some(frame) = framer.open(&pdu) {
            self.pdu(at, &pdu, &frame);
        }
    }
}

impl Link {
    /// Is all that is received now data of one PDU, which goes straight to its place?
    pub(crate) fn goes_straight(&self) -> bool {
        self.straight
            .as_ref()
            .is_some_and(|straight| straight.missing() > 0)
    }

    /// Receives more of it, 0 at the end of the connection.
    pub(crate) fn poll_straight(
        &mut self,
        tasks: &mut Tasks,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let id = self.id;
        let Some(straight) = &mut self.straight else {
            return Poll::Pending;
        };
        let missing = straight.missing();
        loop {
            ready!(self.socket.poll_read_ready(context))?;
            let mut behind = [0; BEHIND];
            let received = match straight.to.place(tasks, id, straight.come, missing) {
                Some(place) => self
                    .socket
                    .try_read_vectored(&mut [IoSliceMut::new(place), IoSliceMut::new(&mut behind)]),
                None => self.socket.try_read(&mut behind[..missing.min(BEHIND)]),
            };
            match received {
                Ok(count) => {
                    let data = count.min(missing);
                    straight.come += data;
                    self.receive.append(&behind[..count - data]);
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}
