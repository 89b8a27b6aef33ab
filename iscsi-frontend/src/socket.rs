//! The two ends of a socket: a large reused receive buffer, and one vectored write for many PDUs.

use std::io::{self, IoSlice, Read as _};

use bytes::{BufMut, Bytes, BytesMut};
use iscsi_proto::framer::{FrameError, Framer, Outbound};
use socket2::SockRef;
use tokio::{io::AsyncReadExt, net::TcpStream};

/// What an idle connection holds.
const SMALL: usize = 4 * 1024;

/// What a busy one holds: a data segment of the largest size we declare, and commands behind it.
const LARGE: usize = 288 * 1024;

/// Read by one look: a command, and the data of a short write.
const LOOKED_FOR: usize = 4 * 1024 + 256;

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
        self.make_room();
        let missing = self.missing();
        let count = socket
            .read_buf(&mut (&mut self.bytes).limit(missing.max(most)))
            .await?;
        self.large |= self.bytes.len() == self.bytes.capacity();
        Ok(count)
    }

    fn make_room(&mut self) {
        let wanted = if self.large { LARGE } else { SMALL };
        let missing = self.missing();
        let spare = self.bytes.capacity() - self.bytes.len();
        // Making room may move a PDU that is not yet whole, so it is not done for every read.
        if spare < missing.max(wanted / 4) {
            self.bytes
                .reserve(missing.max(wanted.saturating_sub(self.bytes.len())));
        }
    }

    /// Reads what the socket has at this moment, [`LOOKED_FOR`] bytes at most, without asking the runtime whether there is
    /// anything; `None`: there is nothing.
    pub(crate) fn look(&mut self, socket: &TcpStream) -> Option<io::Result<usize>> {
        self.make_room();
        let start = self.bytes.len();
        self.bytes.resize(start + LOOKED_FOR, 0);
        let received = (&*SockRef::from(socket)).read(&mut self.bytes[start..]);
        let count = received.as_ref().map_or(0, |count| *count);
        self.bytes.truncate(start + count);
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            received => Some(received),
        }
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

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// Looking goes past what the runtime knows of the socket, waiting by it: whatever the order of the two, no byte is lost, and no
    /// wait is for bytes that were there.
    #[tokio::test]
    async fn looks_and_waits_share_a_socket() {
        let (mut far, mut near) = connected().await;
        let mut buffer = ReceiveBuffer::new();
        let mut sent: Vec<u8> = Vec::new();
        let mut received = 0;
        for round in 0..400_usize {
            // Shorter than what one look takes, and longer; longer than the buffer of an idle connection, too.
            let length = [1, 48, 4144, LOOKED_FOR, LOOKED_FOR + 1, 3 * LOOKED_FOR][round % 6];
            let bytes: Vec<u8> = (0..length).map(|at| (round + at) as u8).collect();
            far.write_all(&bytes).await.unwrap();
            sent.extend(&bytes);
            if round % 7 < 4 {
                while let Some(count) = buffer.look(&near) {
                    received += count.unwrap();
                }
            }
            if round % 5 == 0 {
                while received < sent.len() {
                    received += buffer.fill(&mut near, usize::MAX).await.unwrap();
                }
                assert!(buffer.look(&near).is_none(), "all of it has come");
            }
        }
        while received < sent.len() {
            received += buffer.fill(&mut near, usize::MAX).await.unwrap();
        }
        assert_eq!(buffer.bytes(), sent);
        drop(far);
        assert_eq!(buffer.fill(&mut near, usize::MAX).await.unwrap(), 0);
        assert_eq!(buffer.look(&near).unwrap().unwrap(), 0, "its end is seen as well");
    }
}
