//! The submission and the completion queue of an `io_uring`, and the memory that the kernel works on meanwhile.
//!
//! The one file of this package that is unsafe: the kernel reads and writes memory that the compiler knows nothing of. What makes it
//! sound is ownership. A request is moved into a slot before the kernel learns of it, nothing touches it there, and it
//! leaves the slot only when the kernel has said that it is done with it. If that can never be known, its memory is given up for ever.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
};

use io_uring::{IoUring, Probe, opcode, types::Fd};
use tokio::io::{Interest, unix::AsyncFd};

use super::ring::{Request, Transfer};

/// Requests under way at once. More wait in the queue.
const SLOTS: u32 = 128;

/// See the module's page.
pub(super) struct Kernel {
    ring: IoUring,
    slots: Vec<Option<Request>>,
    /// Slots with nothing in them.
    free: Vec<usize>,
}

/// A request that the kernel is done with.
pub(super) struct Finished {
    pub(super) request: Request,
    /// All of it was transferred.
    pub(super) complete: bool,
}

impl Kernel {
    /// An error where the kernel has no `io_uring`, forbids it, or does not know reading and writing.
    pub(super) fn new() -> io::Result<Self> {
        let ring = IoUring::new(SLOTS)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let known = [opcode::Read::CODE, opcode::Write::CODE]
            .into_iter()
            .all(|code| probe.is_supported(code));
        // Without it, what does not fit into the completion queue would be lost.
        if !known || !ring.params().is_feature_nodrop() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self {
            ring,
            slots: (0..SLOTS).map(|_| None).collect(),
            free: (0..SLOTS as usize).rev().collect(),
        })
    }

    /// Inside a runtime: tells when something has ended.
    pub(super) fn watched(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the descriptor is the ring's, open and the same until the ring is dropped, which is after the registration.
        let watched = unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) };
        watched.map_err(io::Error::from)
    }

    /// May a request be begun?
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Is none under way?
    pub(super) fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Takes a request, of which the kernel learns with the next [`Self::submit`]. There must be room, and the request's store must have
    /// a file; without either it is dropped, which its owner hears.
    pub(super) fn begin(&mut self, request: Request) {
        if request.media.asynchronous().is_none() {
            return;
        }
        let Some(slot) = self.free.pop() else { return };
        let request = self.slots[slot].insert(request);
        let length = u32::try_from(request.transfer.length()).unwrap_or(u32::MAX);
        let way = request.media.asynchronous().expect("it was there a moment ago");
        let file = Fd(way.file.as_raw_fd());
        let entry = match &mut request.transfer {
            Transfer::Read(buffer) => opcode::Read::new(file, buffer.as_mut_ptr(), length)
                .offset(request.offset)
                .build(),
            Transfer::Write(data) => opcode::Write::new(file, data.as_ptr(), length)
                .offset(request.offset)
                .build(),
        };
        let entry = entry.user_data(slot as u64);
        // SAFETY: the memory belongs to the request in the slot (a `Buffer` or `Bytes` does not move its content when it is moved), for
        // reading into it exclusively, and so does the store that keeps the descriptor open. The slot is emptied only in `reap`, after
        // the kernel's completion of this very entry, or given up in `drop`.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            // The kernel has not seen it. (Never: there are as many entries as slots.)
            self.slots[slot] = None;
            self.free.push(slot);
        }
    }

    /// Tells the kernel of all that was begun. [`io::ErrorKind::WouldBlock`]: not now.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Calls `each` with what has ended.
    pub(super) fn reap(&mut self, mut each: impl FnMut(Finished)) {
        for completion in self.ring.completion() {
            let slot = completion.user_data() as usize;
            let Some(request) = self.slots.get_mut(slot).and_then(Option::take) else {
                continue;
            };
            self.free.push(slot);
            let complete = usize::try_from(completion.result()) == Ok(request.transfer.length());
            each(Finished { request, complete });
        }
    }
}

impl AsRawFd for Kernel {
    /// Readable when something has ended.
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl Drop for Kernel {
    /// Waits for what is under way: the kernel may still write there.
    fn drop(&mut self) {
        while !self.is_idle() {
            match self.ring.submit_and_wait(1) {
                Ok(_) => self.reap(drop),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // What may still be under way is never freed. Its owners hear that it has gone.
        for request in self.slots.iter_mut().filter_map(Option::take) {
            let Request { media, transfer, .. } = request;
            std::mem::forget((media, transfer));
        }
    }
}
