//! The two ends of a socket: a large reused receive buffer, and one vectored write for many PDUs.

use std::io::{self, IoSlice};

use bytes::{BufMut, Bytes, BytesMut};
use iscsi_proto::framer::{FrameError, Framer, Outbound};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// What an idle connection holds.
const SMALL: usize = 4 * 1024;

/// What a busy one holds: a data segment of the largest size we declare, and commands behind it.
const LARGE: usize = 288 * 1024;

/// Slices of one write.
const SLICES: usize = 256;

/// Received bytes. Whole PDUs are taken off the front as one shared piece; once nobody holds on to those pieces the
/// same memory is filled again.
#[derive(Debug)]
pub(crate) struct ReceiveBuffer {
    bytes: BytesMut,
    large: bool,
    /// Length of the PDU at the front, as far as it is known.
    next: usize,
}

impl ReceiveBuffer {
    pub(crate) fn new() -> Self {
        Self {
            bytes: BytesMut::with_capacity(SMALL),
            large: false,
            next: 0,
        }
    }

    /// Reads what the socket has, 0 at its end: the rest of the PDU at the front, and not much more than `most` bytes behind it. Safe
    /// to cancel.
    pub(crate) async fn fill(&mut self, socket: &mut TcpStream, most: usize) -> io::Result<usize> {
        let wanted = if self.large { LARGE } else { SMALL };
        let missing = self.missing();
        let spare = self.bytes.capacity() - self.bytes.len();
        // Making room may move a PDU that is not yet whole, so it is not done for every read.
        if spare < missing.max(wanted / 4) {
            self.bytes
                .reserve(missing.max(wanted.saturating_sub(self.bytes.len())));
        }
        let count = socket
            .read_buf(&mut (&mut self.bytes).limit(missing.max(most)))
            .await?;
        self.large |= self.bytes.len() == self.bytes.capacity();
        Ok(count)
    }

    /// What has come and was not taken.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How much the PDU at the front still needs, as far as is known.
    pub(crate) fn missing(&self) -> usize {
        self.next.saturating_sub(self.bytes.len())
    }

    /// Takes bytes off the front, of which there are so many, that are no whole PDU.
    pub(crate) fn take(&mut self, count: usize) -> Bytes {
        self.next = 0;
        self.bytes.split_to(count).freeze()
    }

    /// Adds what was received elsewhere.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the whole PDUs off the front; empty when there is none.
    pub(crate) fn take_whole(&mut self, framer: &Framer) -> Result<Bytes, FrameError> {
        let survey = framer.survey(&self.bytes)?;
        self.next = survey.next;
        Ok(self.bytes.split_to(survey.whole).freeze())
    }

    /// Takes the first PDU only, if it is whole: while each one may change how the next is read.
    pub(crate) fn take_one(&mut self, framer: &Framer) -> Result<Option<Bytes>, FrameError> {
        let survey = framer.survey(&self.bytes)?;
        self.next = survey.next;
        let length = framer.open(&self.bytes[..survey.whole]).map(|frame| frame.length);
        Ok(length.map(|length| self.bytes.split_to(length).freeze()))
    }

    /// Gives the large buffer back, if nothing is in it. The connection is idle.
    pub(crate) fn shrink(&mut self) {
        if self.large && self.bytes.is_empty() {
            *self = Self::new();
        }
    }
}

/// Sends as much as the socket takes now, and says how many bytes that was.
pub(crate) fn send(socket: &TcpStream, out: &mut Outbound) -> io::Result<u64> {
    let mut sent = 0;
    while !out.is_empty() {
        let result = {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = out.slices(&mut slices);
            socket.try_write_vectored(&slices[..used])
        };
        match result {
            Ok(count) => {
                out.advance(count);
                sent += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Sends everything.
pub(crate) async fn send_all(socket: &TcpStream, out: &mut Outbound) -> io::Result<u64> {
    let mut sent = send(socket, out)?;
    while !out.is_empty() {
        socket.writable().await?;
        sent += send(socket, out)?;
    }
    Ok(sent)
}
