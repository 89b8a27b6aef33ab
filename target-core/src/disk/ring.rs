//! I/O that waits for a device, asked for in batches: `io_uring`.
//!
//! A call that waits on a thread costs a hand-over, a sleep and a wake for each I/O, ten times what the I/O itself costs. Here a
//! session's batch of commands queues its reads and writes, one task (the *driver*) gives all of them to the kernel with one system
//! call, and takes what is done in one go too; the answers leave together as well.
//!
//! Each disk has a ring of its own, as it has threads of its own, made when it first has to wait. Where the kernel refuses (an old one,
//! `kernel.io_uring_disabled`, a seccomp filter) it has none, and threads do all the work. **A ring only ever takes the good way**:
//! whatever is not done in full by it is done again by the blocking call, whose answer is the one that counts. That is why
//! there is one place that knows errors, and why nothing depends on there being a ring.
//!
//! A request keeps its store open, the ring does not: a disk that is let go is closed at once. A process that is killed leaves its last
//! requests to the kernel, which holds the file, and the lock on it, until they have ended.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::Bytes;
use tokio::{
    io::unix::AsyncFd,
    runtime::Handle,
    sync::{Notify, oneshot},
};

use super::kernel::{Finished, Kernel};
use crate::{buffer::Buffer, media::Media};

/// See the module's page.
pub(super) struct Ring {
    /// `None` inside: the kernel refuses.
    queue: OnceLock<Option<Arc<Queue>>>,
}

/// What the kernel is asked for.
pub(super) struct Request {
    pub(super) media: Arc<dyn Media>,
    /// Bytes from the start of the store.
    pub(super) offset: u64,
    pub(super) transfer: Transfer,
    /// Hears of the end, if all of it was done.
    pub(super) answer: oneshot::Sender<Transfer>,
}

/// Memory, and which way.
pub(super) enum Transfer {
    Read(Buffer),
    Write(Bytes),
}

impl Transfer {
    /// Bytes.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Read(buffer) => buffer.len(),
            Self::Write(data) => data.len(),
        }
    }
}

/// Between who asks and the driver.
struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Request>,
    /// The disk has gone: end when all is done.
    closed: bool,
    /// The driver has gone, and its runtime with it.
    abandoned: bool,
}

impl Ring {
    /// None is made yet.
    pub(super) fn new() -> Self {
        Self {
            queue: OnceLock::new(),
        }
    }

    /// A disk without one.
    #[cfg(test)]
    pub(super) fn refused() -> Self {
        Self {
            queue: OnceLock::from(None),
        }
    }

    /// Is there a ring, or none yet?
    #[cfg(test)]
    pub(super) fn is_made(&self) -> bool {
        self.queue.get().is_some_and(Option::is_some)
    }

    /// Fills `buffer`, or gives `None` inside the future when that has to be tried otherwise. `Err`: nothing was begun.
    pub(super) fn read(
        &self,
        media: &Arc<dyn Media>,
        offset: u64,
        buffer: Buffer,
    ) -> Result<impl Future<Output = Option<Buffer>> + Send + 'static, Buffer> {
        let fits = media
            .asynchronous()
            .is_some_and(|way| is_aligned(way.unit, offset, buffer.len()) && is_at(way.unit, &buffer));
        if !fits {
            return Err(buffer);
        }
        let done = match self.begin(media, offset, Transfer::Read(buffer)) {
            Ok(done) => done,
            Err(Transfer::Read(buffer)) => return Err(buffer),
            Err(Transfer::Write(_)) => unreachable!("it was a read"),
        };
        Ok(async move {
            match done.await {
                Ok(Transfer::Read(buffer)) => Some(buffer),
                _ => None,
            }
        })
    }

    /// Writes `data`, or gives `false` inside the future when that has to be tried otherwise. `None`: nothing was begun.
    pub(super) fn write(
        &self,
        media: &Arc<dyn Media>,
        offset: u64,
        data: &Bytes,
    ) -> Option<impl Future<Output = bool> + Send + 'static> {
        let way = media.asynchronous().filter(|way| way.writes)?;
        if !is_aligned(way.unit, offset, data.len()) || self.queue().is_none() {
            return None;
        }
        // Immediate data lies behind its header.
        let data = if is_at(way.unit, data) {
            data.clone()
        } else {
            Buffer::copy_of(data).freeze()
        };
        let done = self.begin(media, offset, Transfer::Write(data)).ok()?;
        Some(async move { done.await.is_ok() })
    }

    fn begin(
        &self,
        media: &Arc<dyn Media>,
        offset: u64,
        transfer: Transfer,
    ) -> Result<oneshot::Receiver<Transfer>, Transfer> {
        let Some(queue) = self.queue() else {
            return Err(transfer);
        };
        let (answer, done) = oneshot::channel();
        let request = Request {
            media: media.clone(),
            offset,
            transfer,
            answer,
        };
        let mut state = queue.lock();
        if state.abandoned {
            return Err(request.transfer);
        }
        let first = state.requests.is_empty();
        state.requests.push_back(request);
        drop(state);
        if first {
            queue.changed.notify_one();
        }
        Ok(done)
    }

    /// The queue of the ring, which is made if there may be one and a runtime to drive it.
    fn queue(&self) -> Option<&Arc<Queue>> {
        if let Some(queue) = self.queue.get() {
            return queue.as_ref();
        }
        let runtime = Handle::try_current().ok()?;
        self.queue.get_or_init(|| start(&runtime)).as_ref()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if let Some(Some(queue)) = self.queue.get() {
            queue.lock().closed = true;
            queue.changed.notify_one();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(runtime: &Handle) -> Option<Arc<Queue>> {
    match Kernel::new().and_then(Kernel::watched) {
        Ok(kernel) => {
            let queue = Arc::new(Queue {
                state: Mutex::default(),
                changed: Notify::new(),
            });
            let driver = Driver {
                kernel,
                queue: queue.clone(),
            };
            runtime.spawn(driver.run());
            Some(queue)
        }
        Err(error) => {
            static TOLD: OnceLock<()> = OnceLock::new();
            if TOLD.set(()).is_ok() {
                tracing::info!(%error, "no io_uring here: threads wait for the disks");
            }
            None
        }
    }
}

/// Its own end is the end of the ring.
struct Driver {
    kernel: AsyncFd<Kernel>,
    queue: Arc<Queue>,
}

impl Driver {
    async fn run(mut self) {
        let mut waiting = VecDeque::new();
        loop {
            let closed = self.take(&mut waiting);
            let kernel = self.kernel.get_mut();
            while kernel.has_room()
                && let Some(request) = waiting.pop_front()
            {
                kernel.begin(request);
            }
            let submitted = kernel.submit();
            kernel.reap(answer);
            match submitted {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "io_uring gave up: threads wait for the disk from now on");
                    return;
                }
            }
            if !waiting.is_empty() && kernel.has_room() {
                continue;
            }
            if closed && kernel.is_idle() {
                return;
            }
            tokio::select! {
                () = self.queue.changed.notified() => {}
                readable = self.kernel.readable_mut() => match readable {
                    Ok(mut readable) => readable.clear_ready(),
                    // The runtime is shutting down.
                    Err(_) => return,
                },
            }
        }
    }

    /// What was asked for since; `true`: nothing more will be.
    fn take(&self, waiting: &mut VecDeque<Request>) -> bool {
        let mut state = self.queue.lock();
        waiting.append(&mut state.requests);
        state.closed
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.abandoned = true;
        // Whoever waits for these hears that they have gone, and calls for itself.
        state.requests.clear();
    }
}

fn answer(finished: Finished) {
    if finished.complete {
        // Nobody may be listening any more: the work was done all the same.
        let _ = finished.request.answer.send(finished.request.transfer);
    }
}

fn is_aligned(unit: u64, offset: u64, length: usize) -> bool {
    length > 0 && (offset | length as u64).is_multiple_of(unit)
}

fn is_at(unit: u64, memory: &[u8]) -> bool {
    (memory.as_ptr().addr() as u64).is_multiple_of(unit)
}

#[cfg(test)]
mod tests;
