//! A volume of another system: what the engine's effects on a foreign volume come to.
//!
//! # Sync and async
//!
//! In sync mode a write ends when the far system has answered it. In async mode it ends when it is on its way, in its place: the
//! requests of all async pairs to a system leave in the order in which the engine issued them, and the far system carries
//! them out one after another, so what it has is always the beginning of what was written here. How much may be on its way is
//! limited. From half of that on writes go into the [queue on disk](super::backlog), or, without one, wait for [`room`](super::room) before they begin; one that waits in vain, or goes beyond the limit, is
//! missing there, which suspends the pair with marks, and with it, at once, every async pair to that system: a later
//! write of another pair would arrive where this one is missing. What was on its way and is not answered is one
//! loss for all, told to the engine as a loss of the link: it marks every region that was written and not flushed since. A flush waits
//! for everything that is on its way when it begins, and then for the far system's flush; a read likewise. (Not until nothing is on its way:
//! hosts that never pause would keep it waiting for ever.)
//!
//! Answers of async writes come in the order of the writes; one task for each volume takes them in that order, so that the number of
//! those that have come says which.

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use link_proto::{
    FailureCode, Request, Response,
    header::{DIGEST_BYTES, MAX_DATA},
};
use replication_engine::ids::{ByteRange, VolumeId};
use target_core::{
    buffer::Buffer,
    copies::Copies,
    scsi_model::control::{CopyMode, SystemId, VolumeNumber},
    volume::{Extent, IoError, IoFuture},
};
use tokio::sync::mpsc;

use crate::{
    array::Array,
    digest::Digest,
    lock,
    machine::Mutation,
    remote::{
        NoPath, PathFuture, Paths, RemotePair,
        backlog::{Backlog, Refused, What},
        room::{Line, Patience, Room, Turn, Vain},
    },
    tally::Tally,
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
const SHORT: usize = 64 << 10;

/// See the module's page.
pub(crate) struct FarVolume {
    id: VolumeId,
    /// None of those that there were since the start has the same.
    life: u64,
    peer: SystemId,
    number: u32,
    pair: u128,
    epoch: AtomicU64,
    mode: CopyMode,
    bytes: u64,
    array: Weak<Array>,
    paths: Arc<dyn Paths>,
    /// The volume here.
    local: VolumeNumber,
    /// For bytes written and not answered, async only.
    room: Arc<Room>,
    /// Where writes go that find no room.
    backlog: ArcSwapOption<Backlog>,
    /// Requests and bytes in there.
    queued: [AtomicU64; 2],
    /// Copies of async writes. They leave in the order in which they were made.
    copies: Mutex<Copies>,
    /// Requests of async writes: how many were sent, or came into the queue on disk, and who hears of their ends.
    sent: Mutex<Sent>,
    /// How many of them have ended.
    arrived: Tally,
    /// Why a write did not arrive, async only: no flush counts from then on.
    lost: Mutex<Option<String>>,
    /// A write to this system is missing there: nothing may follow it until both sides have compared notes, which makes a new one of
    /// these. Async only.
    gap: AtomicBool,
    /// The link was lost since: another one of these is made when both sides have compared notes.
    outdated: AtomicBool,
    mutation: Option<Mutation>,
}

/// Requests of async writes, in the order in which they went out.
#[derive(Default)]
struct Sent {
    count: u64,
    ends: Option<mpsc::UnboundedSender<OnTheWay>>,
}

/// One request of them: where, what it counts, and its answer.
type OnTheWay = (u64, u64, PathFuture);

impl FarVolume {
    pub(crate) fn new(pair: &RemotePair, array: &Arc<Array>, paths: Arc<dyn Paths>) -> Arc<Self> {
        Arc::new(Self {
            id: pair.foreign_id(),
            life: array.remote.new_life(),
            peer: pair.peer.clone(),
            number: pair.far.0,
            pair: pair.wire_id(),
            epoch: AtomicU64::new(pair.epoch),
            mode: pair.mode,
            bytes: pair.bytes,
            array: Arc::downgrade(array),
            paths,
            local: pair.local,
            room: Room::new(array.remote.enough()),
            backlog: ArcSwapOption::new(array.remote.backlog(&pair.peer)),
            queued: Default::default(),
            copies: Mutex::new(Copies::new(SHORT)),
            sent: Mutex::default(),
            arrived: Tally::default(),
            lost: Mutex::new(None),
            gap: AtomicBool::new(false),
            outdated: AtomicBool::new(false),
            mutation: array.machine.mutation(),
        })
    }

    pub(crate) fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// What is on its way will not arrive for certain.
    pub(super) fn outdate(&self) {
        self.outdated.store(true, Ordering::Release);
    }

    pub(super) fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Acquire)
    }

    /// Bytes written that the far system has not answered yet, be they sent or in the queue on disk.
    pub(crate) fn on_the_way(&self) -> u64 {
        self.room.taken() + self.queued[1].load(Ordering::Relaxed)
    }

    pub(super) fn life(&self) -> u64 {
        self.life
    }

    pub(super) fn set_backlog(&self, backlog: Option<Arc<Backlog>>) {
        self.backlog.store(backlog);
    }

    pub(super) fn peer(&self) -> &SystemId {
        &self.peer
    }

    pub(super) fn local(&self) -> VolumeNumber {
        self.local
    }

    /// So many async pairs to that system share what may be on its way.
    pub(super) fn share(&self, enough: u64, pairs: u64) {
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
    pub(super) async fn wait_in_line(&self, bytes: u64, longest: Duration) -> Option<Turn> {
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

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// What is on its way counts: it is waited for first.
    pub(crate) fn read(self: &Arc<Self>, offset: u64, mut buffer: Buffer) -> IoFuture<Buffer> {
        let far = Arc::clone(self);
        Box::pin(async move {
            let failed = |reason| IoError::Read { offset, reason };
            far.all_there().await.map_err(failed)?;
            let (pair, epoch, volume) = (far.pair, far.epoch(), far.number);
            let asked: Vec<_> = pieces(offset, buffer.len() as u64)
                .map(|(offset, length)| {
                    let request = Request::Read {
                        pair,
                        epoch,
                        volume,
                        offset,
                        length: length as u32,
                    };
                    (offset, length as usize, far.paths.request(&far.peer, request))
                })
                .collect();
            for (at, length, answer) in asked {
                let start = (at - offset) as usize;
                let part = &mut buffer[start..start + length];
                let failed = |reason| IoError::Read { offset: at, reason };
                match answer.await {
                    Ok(Response::Data(data)) if data.len() == length => part.copy_from_slice(&data),
                    Ok(Response::Hole) => part.fill(0),
                    Ok(other) => return Err(failed(far.told(&other))),
                    Err(error) => return Err(failed(far.link_lost(&error))),
                }
            }
            Ok(buffer)
        })
    }

    pub(crate) fn write(self: &Arc<Self>, offset: u64, data: &Bytes) -> IoFuture<()> {
        if self.is_async() {
            return Box::pin(std::future::ready(self.queue_write(offset, data)));
        }
        let sent = self.send(offset, self.writes(offset, data));
        if self.mutation == Some(Mutation::AnswerBeforeFar) {
            tokio::spawn(sent);
            return Box::pin(std::future::ready(Ok(())));
        }
        sent
    }

    /// In async mode: puts a write on its way, in its place, or says why not.
    pub(crate) fn queue_write(self: &Arc<Self>, offset: u64, data: &Bytes) -> Result<(), IoError> {
        self.queue(offset, What::Data(data))
    }

    fn writes(&self, offset: u64, data: &Bytes) -> impl Iterator<Item = Request> {
        let ordered = self.is_async() && self.mutation != Some(Mutation::BreakOrder);
        let (pair, epoch, volume) = (self.pair, self.epoch(), self.number);
        pieces(offset, data.len() as u64).map(move |(at, length)| {
            let start = (at - offset) as usize;
            Request::Write {
                pair,
                epoch,
                volume,
                offset: at,
                ordered,
                data: data.slice(start..start + length as usize),
            }
        })
    }

    pub(crate) fn zero(self: &Arc<Self>, offset: u64, length: u64, unmap: bool) -> IoFuture<()> {
        if self.is_async() {
            return Box::pin(std::future::ready(
                self.queue(offset, What::Zero { length, unmap }),
            ));
        }
        self.send(offset, [self.zeroing(offset, length, unmap)])
    }

    fn zeroing(&self, offset: u64, length: u64, unmap: bool) -> Request {
        Request::Zero {
            pair: self.pair,
            epoch: self.epoch(),
            volume: self.number,
            offset,
            length,
            unmap,
            ordered: self.is_async(),
        }
    }

    pub(crate) fn flush(self: &Arc<Self>) -> IoFuture<()> {
        let far = Arc::clone(self);
        Box::pin(async move {
            far.all_arrived().await;
            if let Some(reason) = lock(&far.lost).clone() {
                return Err(IoError::Write { offset: 0, reason });
            }
            let request = Request::Flush {
                pair: far.pair,
                epoch: far.epoch(),
                volume: far.number,
            };
            let failed = |reason| IoError::Write { offset: 0, reason };
            match far.paths.request(&far.peer, request).await {
                Ok(Response::Done) => Ok(()),
                Ok(other) => Err(failed(far.told(&other))),
                Err(error) => Err(failed(far.link_lost(&error))),
            }
        })
    }

    /// What begins there: one extent. As for a read, what is on its way counts.
    pub(crate) fn extents(self: &Arc<Self>, offset: u64) -> IoFuture<Vec<Extent>> {
        let far = Arc::clone(self);
        Box::pin(async move {
            let failed = |reason| IoError::Read { offset, reason };
            far.all_there().await.map_err(failed)?;
            let request = Request::Extents {
                pair: far.pair,
                epoch: far.epoch(),
                volume: far.number,
                offset,
            };
            match far.paths.request(&far.peer, request).await {
                Ok(Response::Extent { mapped, length }) => {
                    let length = length.clamp(1, far.bytes.saturating_sub(offset).max(1));
                    Ok(vec![Extent {
                        offset,
                        length,
                        mapped,
                    }])
                }
                Ok(other) => Err(failed(far.told(&other))),
                Err(error) => Err(failed(far.link_lost(&error))),
            }
        })
    }

    /// Digests made there; in async mode behind all that is on its way. What the far side does not do is an error, and
    /// the link serves on.
    pub(crate) fn digests(self: &Arc<Self>, range: ByteRange, piece: u64) -> IoFuture<Vec<Digest>> {
        let offset = range.start;
        let request = Request::Digest {
            pair: self.pair,
            epoch: self.epoch(),
            volume: self.number,
            offset,
            length: (range.end - range.start) as u32,
            piece: piece as u32,
            ordered: self.is_async(),
        };
        let far = Arc::clone(self);
        // It would overtake what is in the queue on disk.
        let waits = self
            .backlog
            .load()
            .as_ref()
            .is_some_and(|backlog| backlog.is_in_use());
        let answer = (!waits).then(|| self.paths.request(&self.peer, request.clone()));
        Box::pin(async move {
            let failed = |reason| IoError::Read { offset, reason };
            let answer = if let Some(answer) = answer {
                answer
            } else {
                far.all_there().await.map_err(failed)?;
                far.paths.request(&far.peer, request)
            };
            match answer.await {
                Ok(Response::Digests(digests)) => {
                    let whole = digests.chunks_exact(DIGEST_BYTES);
                    Ok(whole.filter_map(|digest| digest.try_into().ok()).collect())
                }
                Ok(Response::Failed { message, .. }) => Err(failed(format!("{}: {message}", far.peer))),
                Ok(other) => Err(failed(far.told(&other))),
                Err(error) => Err(failed(far.link_lost(&error))),
            }
        })
    }

    pub(crate) fn is_async(&self) -> bool {
        self.mode == CopyMode::Async
    }

    /// In sync mode: sends writes, now and in this order; the future is their end.
    fn send(self: &Arc<Self>, offset: u64, requests: impl IntoIterator<Item = Request>) -> IoFuture<()> {
        let mut answers = requests
            .into_iter()
            .map(|request| self.paths.request(&self.peer, request));
        let first = answers.next();
        // Mostly there is one.
        let others: Vec<_> = answers.collect();
        let far = Arc::clone(self);
        Box::pin(async move {
            for answer in first.into_iter().chain(others) {
                far.end(offset, answer).await?;
            }
            Ok(())
        })
    }

    /// In async mode: it is on its way when this returns, in its place.
    fn queue(self: &Arc<Self>, offset: u64, what: What<'_>) -> Result<(), IoError> {
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
    pub(super) fn send_queued(self: &Arc<Self>, array: &Arc<Array>, offset: u64, what: What<'_>) {
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
    pub(super) fn note_queued(&self, requests: u64, bytes: u64) {
        self.queued[0].fetch_add(requests, Ordering::Relaxed);
        self.queued[1].fetch_add(bytes, Ordering::Relaxed);
        lock(&self.sent).count += requests;
    }

    /// What is in the queue on disk will not be sent.
    pub(super) fn give_up_queued(&self, reason: &str) {
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
    pub(super) fn note_gap(&self) -> bool {
        let new = !self.gap.swap(true, Ordering::AcqRel);
        self.room.close();
        new
    }

    pub(super) fn has_gap(&self) -> bool {
        self.gap.load(Ordering::Acquire)
    }

    async fn end(&self, offset: u64, answer: PathFuture) -> Result<(), IoError> {
        let failed = |reason| IoError::Write { offset, reason };
        match answer.await {
            Ok(Response::Done) => Ok(()),
            Ok(other) => Err(failed(self.told(&other))),
            Err(error) => Err(failed(self.link_lost(&error))),
        }
    }

    /// Until what is on its way now has arrived.
    pub(crate) async fn all_arrived(&self) {
        let count = lock(&self.sent).count;
        self.arrived.reach(count).await;
    }

    /// Likewise; an error if something is missing there, so that what would be found is not what was written.
    async fn all_there(&self) -> Result<(), String> {
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

    /// A refusal for people.
    fn told(&self, response: &Response) -> String {
        match response {
            Response::Failed { code, message } => {
                // The far side has moved on, or lost what was between us: nothing more may be sent until both have compared notes.
                if matches!(
                    code,
                    FailureCode::WrongEpoch
                        | FailureCode::NoSuchPair
                        | FailureCode::State
                        | FailureCode::NotReady
                ) {
                    self.lose(message);
                }
                format!("{}: {message}", self.peer)
            }
            other => format!(
                "{}: an answer of kind {:?} was not asked for",
                self.peer,
                other.kind()
            ),
        }
    }

    fn link_lost(&self, error: &NoPath) -> String {
        self.lose(&error.0);
        format!("{}: {error}", self.peer)
    }

    /// The engine hears of the loss before it hears what failed by it; of a gap of async writes ([`Self::leave_gap`]) afterwards, when nothing
    /// follows any more.
    pub(super) fn lose(&self, reason: &str) {
        if let Some(array) = self.array.upgrade()
            && self.is_in_use(&array)
        {
            array.remote.lost(&array, self.id, reason);
        }
    }

    /// Since both sides compared notes last: what went out before that is marked already.
    fn is_in_use(&self, array: &Array) -> bool {
        let is_me = |far: Arc<Self>| std::ptr::eq(Arc::as_ptr(&far), self);
        array.remote.far(self.id).is_some_and(is_me)
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

/// A range in pieces that a request can carry.
pub(super) fn pieces(offset: u64, length: u64) -> impl Iterator<Item = (u64, u64)> {
    let most = MAX_DATA as u64;
    (0..length.div_ceil(most)).map(move |index| {
        let start = index * most;
        (offset + start, most.min(length - start))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ranges_go_in_pieces() {
        let most = MAX_DATA as u64;
        assert_eq!(pieces(5, 0).count(), 0);
        assert_eq!(pieces(5, most).collect::<Vec<_>>(), [(5, most)]);
        assert_eq!(
            pieces(5, most + 1).collect::<Vec<_>>(),
            [(5, most), (5 + most, 1)]
        );
    }
}
