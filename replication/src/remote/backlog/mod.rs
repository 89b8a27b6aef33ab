//! The queue on disk for async writes to one other system.
//!
//! What a link does not carry yet goes into memory first ([`room`](super::room)). Where that is used up, writes go into a file, one behind the
//! other, and hosts do not wait; a task takes them out again and sends them as room in memory comes free. All async pairs to a system are
//! one order, so they have one file.
//!
//! # Order
//!
//! A write may go straight to the link only while the queue is not in use, which each looks at first. It comes to be in use under the lock, before
//! the first write in it is answered, and ceases to be under the lock, after the last one has been handed to the link. So whatever was answered
//! before a write is issued left, or leaves, before it. (Of two that are under way at once neither depends on the other.)
//!
//! # For as long as the link holds
//!
//! Nothing in the file outlives the link, a gap or the process. What was in it is in regions that are hot, for a region cools after a flush of the
//! far side, and that waits for what is in the file too; so the loss of the link marks all of it, as it does what was on its way. What is given up
//! here counts as having ended badly, for whoever waits for it. Why it is not sent again after a loss: docs/decisions/0019.

mod record;
mod ring;
mod sending;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use crc_fast::crc32_iscsi;
use target_core::{disk::Disk, scsi_model::control::SystemId, throttle::Throttle, volume::IoError};

use self::{
    record::{Head, Kind},
    ring::Ring,
};
use super::{
    far::{FarVolume, pieces},
    room::Room,
};
use crate::{
    array::Array,
    events::{ArrayEvent, Level},
    lock,
};

/// The smallest file that makes sense: half of it is for writes that are under way when hosts begin to wait.
pub const LEAST_QUEUE: u64 = 2 * UNDER_WAY;
/// So much is left of a file for those, and for hosts that do not wait; of a large one an eighth.
const UNDER_WAY: u64 = 32 << 20;

/// A file for the writes to one other system that its link does not carry yet.
#[derive(Debug, Clone)]
pub struct Queue {
    /// It is used from its first byte to its last.
    pub disk: Arc<Disk>,
    /// What people call it: its path.
    pub name: String,
}

/// What a write writes.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    Data(&'a Bytes),
    Zero { length: u64, unmap: bool },
}

/// See the module's page.
pub(crate) struct Backlog {
    peer: SystemId,
    queue: Queue,
    in_use: AtomicBool,
    /// For hosts that find the file nearly full. A new one for each time it comes to be in use.
    room: ArcSwap<Room>,
    state: Mutex<State>,
    said: Throttle,
}

struct State {
    ring: Ring,
    /// One ends when it is empty, or is given up: what was read in it is nobody's from then on.
    round: u64,
    /// Whose writes are in it, by their lives.
    far: BTreeMap<u64, Weak<FarVolume>>,
    /// It takes nothing any more.
    closed: bool,
    /// It was said that it is in use.
    told: bool,
    /// One record as bytes, reused.
    scratch: Vec<u8>,
}

/// Why a write does not go into the queue.
pub(super) enum Refused {
    /// There is no such queue any more.
    Closed,
    /// A gap: it cannot hold the write.
    Gap(String),
}

impl Backlog {
    pub(super) fn new(peer: SystemId, queue: Queue) -> Arc<Self> {
        let size = queue.disk.media().length();
        Arc::new(Self {
            peer,
            in_use: AtomicBool::new(false),
            room: ArcSwap::new(room_of(size)),
            state: Mutex::new(State {
                ring: Ring::new(size),
                round: 0,
                far: BTreeMap::new(),
                closed: false,
                told: false,
                scratch: Vec::new(),
            }),
            said: Throttle::new(1, Duration::from_secs(60)),
            queue,
        })
    }

    /// Every write goes through it now.
    pub(super) fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::SeqCst)
    }

    /// A host's write need not wait.
    pub(super) fn has_room(&self) -> bool {
        !self.is_in_use() || self.room.load().is_free()
    }

    /// Where hosts' writes wait when it is nearly full.
    pub(super) fn room(&self) -> Arc<Room> {
        self.room.load_full()
    }

    /// Bytes in the file, and its size.
    pub(super) fn figures(&self) -> (u64, u64) {
        (lock(&self.state).ring.filled(), self.queue.disk.media().length())
    }

    /// Puts a write behind all others; it counts as sent.
    pub(super) fn append(
        self: &Arc<Self>,
        array: &Arc<Array>,
        far: &Arc<FarVolume>,
        offset: u64,
        what: What<'_>,
    ) -> Result<(), Refused> {
        let parts = parts(offset, what);
        let whole: u64 = parts.iter().map(|(head, _)| head.whole()).sum();
        let state = &mut *lock(&self.state);
        if state.closed {
            return Err(Refused::Closed);
        }
        if far.has_gap() {
            return Err(Refused::Gap(format!(
                "an earlier write is missing at {}",
                self.peer
            )));
        }
        if !state.ring.fits(whole) {
            let (name, peer) = (&self.queue.name, &self.peer);
            return Err(Refused::Gap(format!(
                "the queue on disk {name} is full: the link to {peer} carries less than hosts write"
            )));
        }
        for (head, data) in &parts {
            let head = Head {
                position: state.ring.head(),
                life: far.life(),
                ..*head
            };
            if let Err(error) = self.store(state, &head, data) {
                return Err(Refused::Gap(format!(
                    "the queue on disk {}: {error}",
                    self.queue.name
                )));
            }
            state.ring.put(head.whole());
        }
        state.far.entry(far.life()).or_insert_with(|| Arc::downgrade(far));
        self.room.load().take(whole);
        far.note_queued(parts.len() as u64, what.cost());
        if !self.in_use.swap(true, Ordering::SeqCst) {
            state.told = self.said.admit(Instant::now()).is_some();
            if state.told {
                let (name, peer) = (&self.queue.name, &self.peer);
                tell(
                    array,
                    format!(
                        "writes to {peer} go to the queue on disk {name}: its link carries less than hosts write"
                    ),
                );
            }
            let sending = sending::send(Arc::clone(self), Arc::downgrade(array), state.round);
            array.runtime.spawn(sending);
        }
        Ok(())
    }

    fn store(&self, state: &mut State, head: &Head, data: &[u8]) -> Result<(), IoError> {
        let State { ring, scratch, .. } = state;
        scratch.clear();
        scratch.extend_from_slice(&head.encode());
        scratch.extend_from_slice(data);
        let mut rest = &scratch[..];
        for (offset, length) in ring.pieces(head.position, head.whole()) {
            let (piece, behind) = rest.split_at(length as usize);
            rest = behind;
            if !piece.is_empty() {
                self.queue.disk.media().write_at(offset, piece, false)?;
            }
        }
        Ok(())
    }

    /// Gives up all that is in it.
    pub(super) fn give_up(&self, reason: &str) {
        self.empty(&mut lock(&self.state), reason);
    }

    /// Likewise; and it takes nothing any more.
    pub(super) fn close(&self, reason: &str) {
        let mut state = lock(&self.state);
        state.closed = true;
        self.empty(&mut state, reason);
    }

    /// It takes nothing any more, unless something is in it: how many bytes.
    pub(super) fn retire(&self) -> Result<(), u64> {
        let mut state = lock(&self.state);
        if self.is_in_use() {
            return Err(state.ring.filled());
        }
        state.closed = true;
        Ok(())
    }

    /// What this one has in it is given up, and nothing of it will be sent.
    pub(super) fn forget(&self, far: &FarVolume, reason: &str) {
        let mut state = lock(&self.state);
        if state.far.remove(&far.life()).is_some() {
            far.give_up_queued(reason);
        }
    }

    fn empty(&self, state: &mut State, reason: &str) {
        state.ring.clear();
        for far in std::mem::take(&mut state.far).into_values() {
            if let Some(far) = far.upgrade() {
                far.give_up_queued(reason);
            }
        }
        self.rest(state);
    }

    /// Nothing is in it: a round has ended.
    fn rest(&self, state: &mut State) {
        state.round += 1;
        state.far.clear();
        state.told = false;
        self.in_use.store(false, Ordering::SeqCst);
        // Whoever waits need not any more.
        self.room.swap(room_of(self.queue.disk.media().length())).close();
    }
}

impl What<'_> {
    /// Bytes that it sends.
    pub(super) fn cost(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Zero { .. } => 0,
        }
    }
}

fn room_of(size: u64) -> Arc<Room> {
    Room::new(size - (size / 8).max(UNDER_WAY).min(size / 2))
}

/// The records that a write comes to, each as long as one request.
fn parts(offset: u64, what: What<'_>) -> Vec<(Head, &[u8])> {
    let head = |offset, length, kind, crc| Head {
        position: 0,
        life: 0,
        offset,
        length,
        kind,
        crc,
    };
    match what {
        What::Zero { length, unmap } => vec![(head(offset, length, Kind::Zero { unmap }, 0), &[])],
        What::Data(data) => pieces(offset, data.len() as u64)
            .map(|(at, length)| {
                let start = (at - offset) as usize;
                let part = &data[start..start + length as usize];
                (head(at, length, Kind::Data, crc32_iscsi(part)), part)
            })
            .collect(),
    }
}

fn tell(array: &Array, text: String) {
    array.events.push(ArrayEvent::Told {
        kind: "link",
        level: Level::Info,
        text,
    });
}

impl std::fmt::Debug for Backlog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Backlog({} to {})", self.queue.name, self.peer)
    }
}
