//! PDUs on their way out, sent with as few system calls as the socket allows.
//!
//! Headers, padding and digests are short and lie in the queue. Payload is not copied: the queue has only a name of it ([`Payload`]), and
//! its owner says where the bytes are when they are sent. So nothing is counted or locked for an I/O, and nothing is unsafe.

use std::{collections::VecDeque, io, io::IoSlice, os::fd::AsFd};

use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, sendmsg},
};
use smallvec::SmallVec;

use crate::header::{self, Header};

/// Parts of one `sendmsg`; the kernel takes 1,024.
const PARTS: usize = 512;
/// So many need no allocation: a system call that sends more is worth one.
const FEW: usize = 16;

/// The name of bytes that somebody keeps until they are sent.
pub(crate) trait Payload {
    /// Who keeps them.
    type Keeper<'a>: Copy;

    fn length(&self) -> usize;

    /// As many bytes as [`Self::length`] says.
    fn bytes<'a, 'k: 'a>(&'a self, keeper: Self::Keeper<'k>) -> &'a [u8];

    /// All has been sent. A buffer that is free by that may be put with the others that are.
    fn sent(self, free: &mut Vec<Vec<u8>>);
}

enum Segment<P> {
    Short { bytes: [u8; 64], length: u8 },
    Payload(P),
}

impl<P: Payload> Segment<P> {
    fn length(&self) -> usize {
        match self {
            Self::Short { length, .. } => usize::from(*length),
            Self::Payload(payload) => payload.length(),
        }
    }

    fn bytes<'a, 'k: 'a>(&'a self, keeper: P::Keeper<'k>) -> &'a [u8] {
        match self {
            Self::Short { bytes, length } => &bytes[..usize::from(*length)],
            Self::Payload(payload) => payload.bytes(keeper),
        }
    }
}

/// What waits to be sent on one connection.
pub(crate) struct OutQueue<P> {
    segments: VecDeque<Segment<P>>,
    /// Bytes of the first segment that have been sent.
    sent_of_first: usize,
    /// Bytes that wait.
    waiting: usize,
    free: Vec<Vec<u8>>,
}

impl<P> Default for OutQueue<P> {
    fn default() -> Self {
        Self {
            segments: VecDeque::new(),
            sent_of_first: 0,
            waiting: 0,
            free: Vec::new(),
        }
    }
}

impl<P: Payload> OutQueue<P> {
    /// A header, with its digest if there is to be one.
    pub(crate) fn header(&mut self, header: &Header, digest: bool) {
        let mut bytes = [0; 64];
        bytes[..header::LENGTH].copy_from_slice(&header.0);
        let mut length = header::LENGTH;
        if digest {
            bytes[length..length + 4].copy_from_slice(&crc32c::crc32c(&header.0).to_le_bytes());
            length += 4;
        }
        self.short(bytes, length);
    }

    /// A data segment with padding, and with its digest if there is to be one; nothing if it is empty.
    pub(crate) fn payload(&mut self, payload: P, digest: Option<u32>) {
        let length = payload.length();
        if length == 0 {
            return;
        }
        self.waiting += length;
        self.segments.push_back(Segment::Payload(payload));
        let mut end = header::padded(length) - length;
        let mut bytes = [0; 64];
        if let Some(digest) = digest {
            bytes[end..end + 4].copy_from_slice(&digest.to_le_bytes());
            end += 4;
        }
        if end > 0 {
            self.short(bytes, end);
        }
    }

    fn short(&mut self, bytes: [u8; 64], length: usize) {
        self.waiting += length;
        self.segments.push_back(Segment::Short {
            bytes,
            length: length as u8,
        });
    }

    /// A buffer of at least this length that was given back, or a new one. Its content is left over.
    pub(crate) fn buffer(&mut self, length: usize) -> Vec<u8> {
        let mut buffer = self.free.pop().unwrap_or_default();
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        buffer
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Sends until the socket takes no more; `true` when nothing is left. Counts its system calls in `calls`.
    pub(crate) fn flush(
        &mut self,
        socket: impl AsFd,
        keeper: P::Keeper<'_>,
        flags: SendFlags,
        calls: &mut u64,
    ) -> io::Result<bool> {
        while !self.is_empty() {
            *calls += 1;
            match self.send(&socket, keeper, flags) {
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// One system call with all there is.
    pub(crate) fn send(
        &mut self,
        socket: impl AsFd,
        keeper: P::Keeper<'_>,
        flags: SendFlags,
    ) -> rustix::io::Result<()> {
        let slices = self.slices(keeper, PARTS);
        let mut no_control = SendAncillaryBuffer::default();
        let sent = sendmsg(socket, &slices, &mut no_control, flags | SendFlags::NOSIGNAL)?;
        drop(slices);
        self.advance(sent);
        Ok(())
    }

    /// One system call with one PDU, or what follows its header: what a naive target does.
    pub(crate) fn send_one(&mut self, socket: impl AsFd, keeper: P::Keeper<'_>) -> rustix::io::Result<()> {
        let mut slices = self.slices(keeper, 2);
        if slices.iter().all(|slice| slice.len() <= 64) {
            slices.truncate(1);
        }
        let sent = rustix::io::writev(socket, &slices)?;
        drop(slices);
        self.advance(sent);
        Ok(())
    }

    fn slices<'a, 'k: 'a>(&'a self, keeper: P::Keeper<'k>, most: usize) -> SmallVec<[IoSlice<'a>; FEW]> {
        let mut skipped = self.sent_of_first;
        let segments = self.segments.iter().take(most);
        segments
            .map(|segment| IoSlice::new(&segment.bytes(keeper)[std::mem::take(&mut skipped)..]))
            .collect()
    }

    fn advance(&mut self, mut count: usize) {
        self.waiting -= count;
        while count > 0 {
            let first = self.segments.front().expect("no more is sent than waits");
            let left = first.length() - self.sent_of_first;
            if count < left {
                self.sent_of_first += count;
                return;
            }
            count -= left;
            self.sent_of_first = 0;
            if let Some(Segment::Payload(payload)) = self.segments.pop_front() {
                payload.sent(&mut self.free);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::unix::net::UnixStream};

    use super::*;

    /// A part of what the keeper has.
    struct Part(usize, usize);

    impl Payload for Part {
        type Keeper<'a> = &'a [u8];

        fn length(&self) -> usize {
            self.1
        }

        fn bytes<'a, 'k: 'a>(&'a self, keeper: &'k [u8]) -> &'a [u8] {
            &keeper[self.0..self.0 + self.1]
        }

        fn sent(self, free: &mut Vec<Vec<u8>>) {
            free.push(Vec::new());
        }
    }

    /// More than fits into the socket at once, so that sending stops in the middle of a segment.
    #[test]
    fn what_is_queued_arrives_whole_and_in_order() {
        let data: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
        let mut queue = OutQueue::default();
        let mut expected = Vec::new();
        for (index, length) in [5, 400_000, 0, 1021, 600_000].into_iter().enumerate() {
            let header = Header::new(index as u8, 0x80);
            queue.header(&header, true);
            expected.extend(header.0);
            expected.extend(crc32c::crc32c(&header.0).to_le_bytes());
            let part = &data[index..index + length];
            queue.payload(Part(index, length), Some(header::data_digest(part)));
            if length > 0 {
                expected.extend(part);
                expected.resize(expected.len() + header::padded(length) - length, 0);
                expected.extend(header::data_digest(part).to_le_bytes());
            }
        }
        assert_eq!(queue.waiting(), expected.len());
        let (near, mut far) = UnixStream::pair().unwrap();
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            far.read_to_end(&mut received).unwrap();
            received
        });
        let mut calls = 0;
        near.set_nonblocking(true).unwrap();
        while !queue
            .flush(&near, &data, SendFlags::DONTWAIT, &mut calls)
            .unwrap()
        {
            let mut writable = [rustix::event::PollFd::new(&near, rustix::event::PollFlags::OUT)];
            rustix::event::poll(&mut writable, None).unwrap();
        }
        drop(near);
        assert!(reader.join().unwrap() == expected);
        assert!(calls > 1, "it was to stop in the middle");
        assert_eq!((queue.waiting(), queue.free.len()), (0, 4));
    }

    #[test]
    fn one_pdu_at_a_time_is_a_header_with_its_payload() {
        let data = vec![7; 8192];
        let mut queue = OutQueue::default();
        for length in [4096, 0, 8192] {
            queue.header(&Header::new(1, 0), false);
            queue.payload(Part(0, length), None);
        }
        let (near, mut far) = UnixStream::pair().unwrap();
        for length in [48 + 4096, 48, 48 + 8192] {
            queue.send_one(&near, &data).unwrap();
            far.read_exact(&mut vec![0; length]).unwrap();
            far.set_nonblocking(true).unwrap();
            assert!(far.read(&mut [0]).is_err(), "nothing after it");
            far.set_nonblocking(false).unwrap();
        }
        assert!(queue.is_empty());
    }
}
