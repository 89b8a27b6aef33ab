//! Room on the way to an async mirror, and who waits for it.
//!
//! An async write ends when it is on its way, so a host may write faster than the link carries. Up to half of what may be on its way
//! nobody notices. From there on a write waits until the far system has answered enough of those before it: hosts get what the link
//! carries, and the pair stays as it is. Nothing is ordered here: a write gets its place among the others when it goes out.
//!
//! Hosts wait in one line and copies in another; both lines move, at the same pace in bytes, so that neither a host that never pauses
//! keeps a copy from its end, nor a copy a host from going on. Within a line it is first come, first served.
//!
//! A wait is bounded ([`Patience`]): who waited in vain gives up, and the pair is parted with marks, as without any waiting. A link on
//! which nothing is answered at all is no reason to wait for long.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::lock;

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Writes of hosts, and of a system that this one follows.
    Hosts,
    /// What copies write.
    Copies,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// At most.
    pub(super) longest: Duration,
    /// While nothing at all is answered.
    pub(super) standstill: Duration,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Room {
    /// Bytes on their way.
    taken: AtomicU64,
    /// From so many on writes wait.
    enough: AtomicU64,
    /// How often bytes were given back.
    answered: AtomicU64,
    /// Somebody waits.
    crowded: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Bytes whose turn has come, and which are not on their way yet.
    called: u64,
    lines: [VecDeque<Waiting>; 2],
    /// Bytes that were called from each, since both have somebody.
    moved: [u64; 2],
    /// Nobody has to wait any more.
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    bytes: u64,
    turn: oneshot::Sender<Turn>,
}

/// Somebody's turn, until what it is for is on its way, or given up.
#[derive(Debug)]
pub(crate) struct Turn {
    room: Option<Arc<Room>>,
    bytes: u64,
}

/// Why there is no turn: so long was waited for it in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vain(pub(super) Duration);

impl Room {
    /// Where writes wait when so many bytes are on their way.
    pub(super) fn new(enough: u64) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicU64::new(0),
            enough: AtomicU64::new(enough),
            answered: AtomicU64::new(0),
            crowded: AtomicBool::new(false),
            queue: Mutex::default(),
        })
    }

    /// Bytes on their way.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }

    /// From how many on writes wait; twice as many are the most there may be.
    pub(super) fn enough(&self) -> u64 {
        self.enough.load(Ordering::Relaxed)
    }

    pub(super) fn set_enough(&self, bytes: u64) {
        self.enough.store(bytes, Ordering::Relaxed);
    }

    /// A write need not wait.
    pub(super) fn is_free(&self) -> bool {
        !self.crowded.load(Ordering::SeqCst) && self.taken() < self.enough()
    }

    /// So many bytes go out.
    pub(super) fn take(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::SeqCst);
    }

    /// So many are answered, or will never be.
    pub(super) fn give_back(self: &Arc<Self>, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::SeqCst);
        self.answered.fetch_add(1, Ordering::Relaxed);
        // Whoever has come to wait in the meantime looks at the bytes after it has said that it waits.
        if self.crowded.load(Ordering::SeqCst) {
            self.call(&mut lock(&self.queue));
        }
    }

    /// Nobody waits here from now on.
    pub(super) fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        queue.lines = Default::default();
        self.crowded.store(false, Ordering::SeqCst);
    }

    /// Until there is room. `None`: nobody has to wait any more.
    pub(super) async fn wait(
        self: &Arc<Self>,
        bytes: u64,
        line: Line,
        patience: Patience,
    ) -> Result<Option<Turn>, Vain> {
        let (turn, mut called) = oneshot::channel();
        {
            let mut queue = lock(&self.queue);
            if queue.closed {
                return Ok(None);
            }
            queue.lines[line as usize].push_back(Waiting { bytes, turn });
            self.crowded.store(true, Ordering::SeqCst);
            self.call(&mut queue);
        }
        let begun = Instant::now();
        loop {
            let answered = self.answered.load(Ordering::Relaxed);
            let left = patience.longest.saturating_sub(begun.elapsed());
            match timeout(left.min(patience.standstill), &mut called).await {
                Ok(turn) => return Ok(turn.ok()),
                Err(_) if left > patience.standstill && self.answered.load(Ordering::Relaxed) != answered => {
                }
                Err(_) => return Err(Vain(begun.elapsed())),
            }
        }
    }

    /// Calls those for whom there is room.
    fn call(self: &Arc<Self>, queue: &mut Queue) {
        while self.taken() + queue.called < self.enough() {
            let Some(Waiting { bytes, turn }) = queue.next() else {
                self.crowded.store(false, Ordering::SeqCst);
                return;
            };
            queue.called += bytes;
            let room = Some(Arc::clone(self));
            if let Err(mut given_up) = turn.send(Turn { room, bytes }) {
                given_up.room = None;
                queue.called -= bytes;
            }
        }
    }
}

impl Queue {
    fn next(&mut self) -> Option<Waiting> {
        let Self { lines, moved, .. } = self;
        if lines.iter().any(VecDeque::is_empty) {
            *moved = [0; 2];
        }
        let copies_next = lines[0].is_empty() || (!lines[1].is_empty() && moved[1] < moved[0]);
        let line = usize::from(copies_next);
        let next = lines[line].pop_front()?;
        moved[line] += next.bytes;
        Some(next)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            let mut queue = lock(&room.queue);
            queue.called -= self.bytes;
            room.call(&mut queue);
        }
    }
}

#[cfg(test)]
mod tests;
