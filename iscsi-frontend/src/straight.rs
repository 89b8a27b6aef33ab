//! Long Data-Out straight into the buffer of its write (RFC 7143 11.7).
//!
//! Data that comes by way of the receive buffer is copied once more, out of memory that is cold by then. So when the PDU at the
//! front of what was received is a Data-Out, much of it is still to come, and its write has its buffer, the rest is received where
//! it belongs, with the next header in the same system call. Its numbers and digest are looked at when it is whole, as those of any other ([`crate::data_out`]):
//! until then nobody reads that part of the buffer, and a PDU that is refused then has spoiled only what is asked for again, or fails with
//! its task. A task may end meanwhile; then the rest goes nowhere.

use std::{
    io::{self, IoSliceMut},
    task::{Context, Poll, ready},
};

use iscsi_proto::{
    bhs::{Bhs, DataOut, opcode},
    framer::Front,
};

use crate::{link::Link, session::Session, tasks::Tasks};

/// With less than this still to come, the copy costs less than the trouble.
const WORTH: usize = 16 * 1024;

/// Received behind the data by the same call: the tail of the PDU and the next header.
const BEHIND: usize = 4 * 1024;

/// A Data-Out whose data is received where it belongs.
#[derive(Debug)]
pub(crate) struct Straight {
    bhs: Bhs,
    front: Front,
    tag: u32,
    /// Where its data starts in the buffer.
    start: usize,
    /// How much of its data has come.
    come: usize,
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
        if bhs.opcode() != opcode::DATA_OUT {
            return;
        }
        let pdu = bhs.view::<DataOut>();
        let (tag, start) = (pdu.initiator_task_tag.get(), pdu.buffer_offset.get() as usize);
        let Some(place) = self.tasks.place(tag, link.id, start, front.data) else {
            return;
        };
        let come = bytes.len() - front.header;
        place[..come].copy_from_slice(&bytes[front.header..]);
        let bhs = *bhs;
        link.receive.take(front.header + come);
        link.straight = Some(Box::new(Straight {
            bhs,
            front,
            tag,
            start,
            come,
        }));
    }

    /// Handles the PDU that went straight to its place, once it is whole, and looks at what came behind it.
    pub(crate) fn end_straight(&mut self, at: usize) {
        let link = &mut self.links[at];
        let behind = link.receive.bytes().len();
        let Some(straight) = link.straight.take_if(|straight| straight.is_whole(behind)) else {
            return;
        };
        let Straight {
            bhs,
            front,
            tag,
            start,
            ..
        } = *straight;
        let tail = link.receive.take(front.tail);
        if link.takes_more() {
            link.acknowledged(bhs.exp_stat_sn());
            let framer = link.framer;
            let place = self.tasks.place(tag, link.id, start, front.data);
            // Without a place its task has ended.
            if let Some(is_intact) = place.map(|data| framer.is_intact(data, &tail)) {
                self.data_has_come(at, &bhs, front.data, is_intact);
            }
        }
        self.links[at].look_at_received();
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
        let from = straight.start + straight.come;
        loop {
            ready!(self.socket.poll_read_ready(context))?;
            let mut behind = [0; BEHIND];
            let received = match tasks.place(straight.tag, id, from, missing) {
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
