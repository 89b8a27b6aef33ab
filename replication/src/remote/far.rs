//! A volume of another system: what the engine's effects on a foreign volume come to.
//!
//! In sync mode a write ends when the far system has answered it; in async mode when it is on its way, in its place ([`trailing`]).
//!
//! What was on its way when the link went and is not answered is one loss for all, told to the engine as a loss of the link: it marks every region that was
//! written and not flushed since.

mod trailing;

use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
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

use self::trailing::{SHORT, Sent};
use crate::{
    array::Array,
    digest::Digest,
    lock,
    machine::Mutation,
    remote::{
        NoPath, PathFuture, Paths, RemotePair,
        backlog::{Backlog, What},
        room::Room,
    },
    tally::Tally,
};

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

    async fn end(&self, offset: u64, answer: PathFuture) -> Result<(), IoError> {
        let failed = |reason| IoError::Write { offset, reason };
        match answer.await {
            Ok(Response::Done) => Ok(()),
            Ok(other) => Err(failed(self.told(&other))),
            Err(error) => Err(failed(self.link_lost(&error))),
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
