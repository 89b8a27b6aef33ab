//! The async mode of a far volume: what is on its way, in which order, and how much of it.
//!
//! A write ends when it is on its way, in its place: the requests of all async pairs to a system leave in the order in which the engine issued them, and the
//! far system carries them out one after another, so what it has is always the beginning of what was written here.
//!
//! How much may be on its way is limited. From half of that on writes go into the [queue on disk](crate::remote::backlog), or, without one, wait for
//! [`room`](crate::remote::room) before they begin; one that waits in vain, or goes beyond the limit, is missing there, which suspends the pair with
//! marks, and with it, at once, every async pair to that system: a later write of another pair would arrive where this one is missing.
//!
//! A flush waits for everything that is on its way when it begins, and then for the far system's flush; a read likewise. (Not until nothing is on its way:
//! hosts that never pause would keep it waiting for ever.) Answers come in the order of the writes; one task for each volume takes them in that
//! order, so that the number of those that have come says which.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use link_proto::{Request, Response};
use target_core::volume::{IoError, IoFuture};
use tokio::sync::mpsc;

use super::FarVolume;
use crate::{
    array::Array,
    lock,
    machine::Mutation,
    remote::{
        PathFuture,
        backlog::{Backlog, Refused, What},
        room::{Line, Patience, Room, Turn, Vain},
    },
};

/// Those of all async pairs to one system, in pairs of which each has as much as it may have alone.
const PAIRS_IN_FULL: u64 = 4;
/// What a request counts at least: there may be only so many, too.
const LEAST_COST: u64 = 4096;
/// Nothing is answered for such a part of the longest wait: hosts do not wait for this link.
const STANDSTILL: f64 = 0.6;
/// Likewise for a system that this one follows: it must not take this link's standstill for its own.
const STANDSTILL_BY_LINK: f64 = 0.2;
/// Likewise for copies, in all. A link that nothing is heard from is lost before that.
const STANDSTILL_OF_COPIES: Duration = Duration::from_secs(10);
/// Async writes this long are copied, into pieces of memory of this length.
pub(super) const SHORT: usize = 64 << 10;

/// Requests of async writes, in the order in which they went out.
#[derive(Default)]
pub(super) struct Sent {
    count: u64,
    ends: Option<mpsc::UnboundedSender<OnTheWay>>,
}

/// One request of them: where, what it counts, and its answer.
type OnTheWay = (u64, u64, PathFuture);

impl FarVolume {
    /// So many async pairs to that system share what may be on its way.
    pub(in crate::remote) fn share(&self, enough: u64, pairs: u64) {
        self.room
            .set_enough(enough.min(PAIRS_IN_FULL * enough / pairs.max(1)));
    }

    /// A write can begin without waiting for room.
    pub(crate) fn has_room(&self) -> bool {
        match &*self.backlog.load() {
            Some(backlog) => backlog.has_room(),
            None => self.room.is_free(),
        }
    }

    /// Async only: waits until a host's write of so many bytes should begin; by link: that of a system that this one follows. It keeps the room
    /// until it is on its way.
    pub(crate) async fn wait_for_room(&self, bytes: u64, by_link: bool) -> Option<Turn> {
        if self.has_room() {
            return None;
        }
        let longest = self.array.upgrade()?.remote.longest_hold();
        if longest.is_zero() {
            return None;
        }
        let standstill = longest.mul_f64(if by_link { STANDSTILL_BY_LINK } else { STANDSTILL });
        let begun = Instant::now();
        let room = match &*self.backlog.load() {
            Some(backlog) => backlog.room(),
            None => Arc::clone(&self.room),
        };
        let patience = Patience { longest, standstill };
        let turn = self.wait(&room, bytes, Line::Hosts, patience).await;
        let array = self.array.upgrade()?;
        array.remote.note_held(&array, self, begun.elapsed());
        turn
    }

    async fn wait(&self, room: &Arc<Room>, bytes: u64, line: Line, patience: Patience) -> Option<Turn> {
        match room.wait(bytes.max(LEAST_COST), line, patience).await {
            Ok(turn) => turn,
            Err(Vain(waited)) => {
                if let Some(array) = self.array.upgrade() {
                    let (peer, waited) = (&self.peer, waited.as_millis());
                    self.leave_gap(
                        &array,
                        &format!("a write waited {waited} ms in vain for the link to {peer}"),
                    );
                }
                None
            }
        }
    }

    /// What comes out of the queue on disk waits for room where hosts do that have none, for as long as the link is there.
    pub(in crate::remote) async fn wait_in_line(&self, bytes: u64, longest: Duration) -> Option<Turn> {
        if self.room.is_free() {
            return None;
        }
        let standstill = longest;
        let patience = Patience { longest, standstill };
        self.wait(&self.room, bytes, Line::Hosts, patience).await
    }

    /// A write of a copy, which waits for room first where others do.
    pub(crate) fn copy(self: &Arc<Self>, offset: u64, data: Bytes) -> IoFuture<()> {
        if !self.is_async() {
            return self.write(offset, &data);
        }
        let far = Arc::clone(self);
        Box::pin(async move {
            let patience = Patience {
                longest: Duration::MAX,
                standstill: STANDSTILL_OF_COPIES,
            };
            let bytes = data.len() as u64;
            // Like hosts, so that the queue on disk never overflows by copies; and then beside what comes out of it, so that the two get on at the same pace.
            // (The other way round what comes out would wait for who waits for it.) Who has no place there looks again, for others may have come first.
            let _waited = loop {
                let backlog = far.backlog.load_full();
                let is_full = || backlog.as_ref().is_some_and(|backlog| !backlog.has_room());
                let place = match &backlog {
                    Some(backlog) if is_full() => {
                        far.wait(&backlog.room(), bytes, Line::Copies, patience).await
                    }
                    _ => None,
                };
                let turn = if far.room.is_free() {
                    None
                } else {
                    far.wait(&far.room, bytes, Line::Copies, patience).await
                };
                if place.is_some() || far.has_gap() || !is_full() {
                    break (place, turn);
                }
            };
            far.queue_write(offset, &data)
        })
    }

    /// In async mode: puts a write on its way, in its place, or says why not.
    pub(crate) fn queue_write(self: &Arc<Self>, offset: u64, data: &Bytes) -> Result<(), IoError> {
        self.queue(offset, What::Data(data))
    }

    /// In async mode: it is on its way when this returns, in its place.
    pub(super) fn queue(self: &Arc<Self>, offset: u64, what: What<'_>) -> Result<(), IoError> {
        let refused = |reason| Err(IoError::Write { offset, reason });
        let Some(array) = self.array.upgrade() else {
            return refused("the array is shutting down".to_owned());
        };
        let peer = &self.peer;
        if self.has_gap() {
            return refused(format!("an earlier write is missing at {peer}"));
        }
        let (cost, most) = (what.cost().max(LEAST_COST), 2 * self.room.enough());
        let too_much = self.room.taken() + cost > most;
        let behind = |backlog: &&Arc<Backlog>| {
            let in_use = backlog.is_in_use() && self.mutation != Some(Mutation::OvertakeQueue);
            in_use || too_much || !self.room.is_free()
        };
        if let Some(backlog) = self.backlog.load().as_ref().filter(behind) {
            match backlog.append(&array, self, offset, what) {
                Ok(()) => return Ok(()),
                Err(Refused::Closed) => {}
                Err(Refused::Gap(reason)) => {
                    // A gap that is known is no new one for the others, which may have compared notes since.
                    if !self.has_gap() {
                        self.leave_gap(&array, &reason);
                    }
                    return refused(reason);
                }
            }
        }
        if too_much {
            let reason = format!("more than {most} bytes would be on their way to {peer}");
            self.leave_gap(&array, &reason);
            return refused(reason);
        }
        match what {
            What::Data(data) => {
                // It would keep the whole buffer that it came in for as long as the link is long.
                let copy = (data.len() <= SHORT).then(|| lock(&self.copies).copy(data));
                let data = copy.as_ref().unwrap_or(data);
                self.go(&array, offset, cost, self.writes(offset, data), true);
            }
            What::Zero { length, unmap } => {
                self.go(&array, offset, cost, [self.zeroing(offset, length, unmap)], true);
            }
        }
        Ok(())
    }

    /// Sends one record of the queue on disk: all of it fits into one request.
    pub(in crate::remote) fn send_queued(self: &Arc<Self>, array: &Arc<Array>, offset: u64, what: What<'_>) {
        let cost = what.cost();
        self.queued[0].fetch_sub(1, Ordering::Relaxed);
        self.queued[1].fetch_sub(cost, Ordering::Relaxed);
        let cost = cost.max(LEAST_COST);
        match what {
            What::Data(data) => self.go(array, offset, cost, self.writes(offset, data), false),
            What::Zero { length, unmap } => {
                self.go(array, offset, cost, [self.zeroing(offset, length, unmap)], false);
            }
        }
    }

    /// So many requests came into the queue on disk, which have so many bytes.
    pub(in crate::remote) fn note_queued(&self, requests: u64, bytes: u64) {
        self.queued[0].fetch_add(requests, Ordering::Relaxed);
        self.queued[1].fetch_add(bytes, Ordering::Relaxed);
        lock(&self.sent).count += requests;
    }

    /// What is in the queue on disk will not be sent.
    pub(in crate::remote) fn give_up_queued(&self, reason: &str) {
        *lock(&self.lost) = Some(reason.to_owned());
        self.queued[1].store(0, Ordering::Relaxed);
        self.arrived.add(self.queued[0].swap(0, Ordering::Relaxed));
    }

    /// They are on their way when this returns, in this order. Those that were counted in the queue on disk are not counted again.
    fn go(
        self: &Arc<Self>,
        array: &Arc<Array>,
        offset: u64,
        cost: u64,
        requests: impl IntoIterator<Item = Request>,
        count_them: bool,
    ) {
        self.room.take(cost);
        let Sent { count, ends } = &mut *lock(&self.sent);
        let ends = ends.get_or_insert_with(|| {
            let (ends, arriving) = mpsc::unbounded_channel();
            array.runtime.spawn(take_ends(Arc::downgrade(self), arriving));
            ends
        });
        let mut requests = requests.into_iter().peekable();
        while let Some(request) = requests.next() {
            *count += u64::from(count_them);
            // They arrive in this order.
            let cost = if requests.peek().is_none() { cost } else { 0 };
            // Its receiver lives as long as this volume.
            let _ = ends.send((offset, cost, self.paths.request(&self.peer, request)));
        }
    }

    /// A write of this pair will not arrive: no async pair to that system sends anything from here on. The write is not answered
    /// before this has returned, so whatever a host does because of it comes after.
    fn leave_gap(&self, array: &Arc<Array>, reason: &str) {
        if self.is_in_use(array) {
            array.remote.leave_gap(array, &self.peer, reason);
        }
    }

    /// There is a gap before whatever would be sent now. `false`: that is known.
    pub(in crate::remote) fn note_gap(&self) -> bool {
        let new = !self.gap.swap(true, Ordering::AcqRel);
        self.room.close();
        new
    }

    pub(in crate::remote) fn has_gap(&self) -> bool {
        self.gap.load(Ordering::Acquire)
    }

    /// Until what is on its way now has arrived.
    pub(crate) async fn all_arrived(&self) {
        let count = lock(&self.sent).count;
        self.arrived.reach(count).await;
    }

    /// Likewise; an error if something is missing there, so that what would be found is not what was written.
    pub(super) async fn all_there(&self) -> Result<(), String> {
        self.all_arrived().await;
        if self.has_gap() {
            return Err(format!("an earlier write is missing at {}", self.peer));
        }
        Ok(())
    }

    /// Until all that is on its way has arrived; an error if anything has not that went out since both sides compared notes.
    pub(crate) async fn drained(&self) -> Result<(), String> {
        self.all_arrived().await;
        lock(&self.lost).clone().map_or(Ok(()), Err)
    }

    /// [`Self::drained`], and stable there: hosts were told so of what is stable here. For who has stopped, after this epoch.
    pub(crate) async fn handed(&self, epoch: u64) -> Result<(), String> {
        self.drained().await?;
        let (pair, volume) = (self.pair, self.number);
        let request = Request::Flush { pair, epoch, volume };
        match self.paths.request(&self.peer, request).await {
            Ok(Response::Done) => Ok(()),
            Ok(other) => Err(self.told(&other)),
            Err(error) => Err(self.link_lost(&error)),
        }
    }
}

/// Takes the ends of async writes, one after another, while the volume is there.
async fn take_ends(far: Weak<FarVolume>, mut arriving: mpsc::UnboundedReceiver<OnTheWay>) {
    while let Some((offset, cost, answer)) = arriving.recv().await {
        let Some(far) = far.upgrade() else { return };
        if let Err(error) = far.end(offset, answer).await {
            *lock(&far.lost) = Some(error.to_string());
            // The host has its answer: what the far side does not have is known by the regions that are hot.
            if let Some(array) = far.array.upgrade() {
                far.leave_gap(&array, &error.to_string());
            }
        }
        far.room.give_back(cost);
        far.arrived.add_one();
    }
}
