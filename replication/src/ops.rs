//! Host I/Os inside the engine: their payload waits here, under an [`OpId`], until the engine answers.
//!
//! The engine never sees data. What a host wants written, the buffer it wants filled and the closure that decides an
//! update are kept by the [`OpTable`]; effects name the op and a byte range, and [`Op`] cuts the range out.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use replication_engine::ids::{ByteRange, OpId, VolumeId};
use target_core::{
    buffer::Buffer,
    gate::OwnedPass,
    volume::{IoError, Modify},
};

use crate::lock;

/// What a host I/O carries.
pub(crate) enum Payload {
    /// A read: the buffer to fill (absent while an effect reads into it).
    Read(Option<Buffer>),
    /// A write of these bytes.
    Data(Bytes),
    /// A write of zeros.
    Zero {
        /// Give the space back.
        unmap: bool,
    },
    /// An update: the closure, until it has run and left [`Payload::Data`].
    Update(Option<Modify>),
    /// A flush.
    Flush,
}

/// What one write effect puts into its range.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// These bytes.
    Data(Bytes),
    /// Zeros.
    Zero {
        /// Give the space back.
        unmap: bool,
    },
}

/// One host I/O.
pub(crate) struct Op {
    /// The volume addressed.
    pub(crate) volume: VolumeId,
    /// The range addressed.
    pub(crate) range: ByteRange,
    state: Mutex<OpState>,
}

struct OpState {
    payload: Payload,
    /// Inside the volume's gate until the end.
    pass: Option<OwnedPass>,
    /// The first error an effect met; the host is told this one.
    cause: Option<IoError>,
    end: End,
}

enum End {
    /// Under way; the waker of whoever awaits it.
    Waiting(Option<Waker>),
    /// Ended, and not yet collected.
    Ready(Result<Option<Buffer>, IoError>),
    /// Collected.
    Taken,
}

impl Op {
    pub(crate) fn new(volume: VolumeId, range: ByteRange, payload: Payload, pass: Option<OwnedPass>) -> Self {
        let state = OpState {
            payload,
            pass,
            cause: None,
            end: End::Waiting(None),
        };
        Self {
            volume,
            range,
            state: Mutex::new(state),
        }
    }

    /// Length in bytes.
    fn length(&self) -> usize {
        (self.range.end - self.range.start) as usize
    }

    /// A buffer to read `range` into: the host's own when the range is all of it, else one to be copied from.
    pub(crate) fn take_buffer(&self, range: ByteRange) -> Buffer {
        if range != self.range {
            return Buffer::new((range.end - range.start) as usize);
        }
        match &mut lock(&self.state).payload {
            Payload::Read(buffer) => buffer.take().unwrap_or_else(|| Buffer::new(self.length())),
            _ => Buffer::new(self.length()),
        }
    }

    /// Gives back what [`Op::take_buffer`] gave, filled.
    pub(crate) fn put_buffer(&self, range: ByteRange, filled: Buffer) {
        let mut state = lock(&self.state);
        let Payload::Read(buffer) = &mut state.payload else {
            return;
        };
        if range == self.range {
            *buffer = Some(filled);
            return;
        }
        let whole = buffer.get_or_insert_with(|| Buffer::new(self.length()));
        let start = (range.start - self.range.start) as usize;
        whole[start..start + filled.len()].copy_from_slice(&filled);
    }

    /// What a write effect for `range` writes; `None` for an op that writes nothing (a defect of the engine).
    pub(crate) fn piece(&self, range: ByteRange) -> Option<Piece> {
        match &lock(&self.state).payload {
            Payload::Data(data) => {
                let start = (range.start - self.range.start) as usize;
                let end = (range.end - self.range.start) as usize;
                Some(Piece::Data(data.slice(start..end)))
            }
            Payload::Zero { unmap } => Some(Piece::Zero { unmap: *unmap }),
            Payload::Read(_) | Payload::Update(_) | Payload::Flush => None,
        }
    }

    /// Shows the current content to the update's closure and keeps what it wants written. `false`: it declined.
    pub(crate) fn prepare(&self, current: &[u8]) -> bool {
        let modify = match &mut lock(&self.state).payload {
            Payload::Update(modify) => modify.take(),
            _ => None,
        };
        let Some(modify) = modify else {
            self.blame(IoError::Internal("an update was prepared twice".into()));
            return false;
        };
        match modify(current) {
            Ok(data) if data.len() == self.length() => {
                lock(&self.state).payload = Payload::Data(data);
                true
            }
            Ok(data) => {
                let reason = format!("an update of {} bytes gave {}", self.length(), data.len());
                self.blame(IoError::Internal(reason));
                false
            }
            Err(error) => {
                self.blame(error);
                false
            }
        }
    }

    /// Keeps the cause of a failure, for the answer. Of several, the first counts.
    pub(crate) fn blame(&self, error: IoError) {
        lock(&self.state).cause.get_or_insert(error);
    }

    /// The I/O has ended. Of an error, the cause that an effect left is what the host hears.
    pub(crate) fn finish(&self, result: Result<(), IoError>) {
        let waker = {
            let mut state = lock(&self.state);
            state.pass = None;
            let result = match result {
                Ok(()) => Ok(match &mut state.payload {
                    Payload::Read(buffer) => buffer.take(),
                    _ => None,
                }),
                Err(error) => Err(state.cause.take().unwrap_or(error)),
            };
            match std::mem::replace(&mut state.end, End::Ready(result)) {
                End::Waiting(waker) => waker,
                End::Ready(_) | End::Taken => None,
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Waits for the end of one op.
pub(crate) struct OpFuture(pub(crate) Arc<Op>);

impl Future for OpFuture {
    type Output = Result<Option<Buffer>, IoError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.0.state);
        match std::mem::replace(&mut state.end, End::Taken) {
            End::Ready(result) => Poll::Ready(result),
            End::Waiting(_) => {
                state.end = End::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
            End::Taken => Poll::Ready(Err(IoError::Internal("an answer was collected twice".into()))),
        }
    }
}

/// All ops under way, by name. Sharded: hosts on different threads seldom meet.
pub(crate) struct OpTable {
    shards: [Mutex<Shard>; SHARDS],
    next: AtomicUsize,
}

const SHARDS: usize = 8;

#[derive(Default)]
struct Shard {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    /// Counts the uses of the slot: part of the name, so that a stale name finds nothing.
    turn: u32,
    op: Option<Arc<Op>>,
}

impl OpTable {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            next: AtomicUsize::new(0),
        }
    }

    /// Keeps an op and names it.
    pub(crate) fn insert(&self, op: Arc<Op>) -> OpId {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let mut shard = lock(&self.shards[number]);
        let index = shard.free.pop().unwrap_or_else(|| {
            shard.slots.push(Slot::default());
            shard.slots.len() as u32 - 1
        });
        let slot = &mut shard.slots[index as usize];
        slot.turn = slot.turn.wrapping_add(1);
        slot.op = Some(op);
        OpId((u64::from(slot.turn) << 32) | (u64::from(index) * SHARDS as u64 + number as u64))
    }

    /// The op of that name.
    pub(crate) fn get(&self, id: OpId) -> Option<Arc<Op>> {
        let (number, index, turn) = split(id);
        let shard = lock(&self.shards[number]);
        let slot = shard.slots.get(index).filter(|slot| slot.turn == turn)?;
        slot.op.clone()
    }

    /// Frees the name.
    pub(crate) fn remove(&self, id: OpId) -> Option<Arc<Op>> {
        let (number, index, turn) = split(id);
        let mut shard = lock(&self.shards[number]);
        let op = shard
            .slots
            .get_mut(index)
            .filter(|slot| slot.turn == turn)?
            .op
            .take()?;
        shard.free.push(index as u32);
        Some(op)
    }

    /// Takes every op out: the array goes down.
    pub(crate) fn drain(&self) -> Vec<Arc<Op>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let Shard { slots, free } = &mut *shard;
            for (index, slot) in slots.iter_mut().enumerate() {
                if let Some(op) = slot.op.take() {
                    free.push(index as u32);
                    all.push(op);
                }
            }
        }
        all
    }
}

fn split(id: OpId) -> (usize, usize, u32) {
    let low = (id.0 & u64::from(u32::MAX)) as usize;
    (low % SHARDS, low / SHARDS, (id.0 >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(payload: Payload) -> Arc<Op> {
        Arc::new(Op::new(
            VolumeId(1),
            ByteRange {
                start: 4096,
                end: 4096 + 2048,
            },
            payload,
            None,
        ))
    }

    #[test]
    fn names_are_not_reused_while_they_mean_something() {
        let table = OpTable::new();
        let first = table.insert(op(Payload::Flush));
        assert!(table.get(first).is_some());
        assert!(table.remove(first).is_some());
        assert!(table.remove(first).is_none());
        let later: Vec<_> = (0..20).map(|_| table.insert(op(Payload::Flush))).collect();
        assert!(!later.contains(&first));
        assert!(table.get(first).is_none());
        assert_eq!(table.drain().len(), 20);
    }

    #[tokio::test]
    async fn a_read_in_two_parts_fills_one_buffer() {
        let op = op(Payload::Read(Some(Buffer::zeroed(2048))));
        for (start, byte) in [(4096, 1), (5120, 2)] {
            let range = ByteRange {
                start,
                end: start + 1024,
            };
            let mut part = op.take_buffer(range);
            part.fill(byte);
            op.put_buffer(range, part);
        }
        op.finish(Ok(()));
        let buffer = OpFuture(op).await.unwrap().unwrap();
        assert!(buffer[..1024].iter().all(|&b| b == 1) && buffer[1024..].iter().all(|&b| b == 2));
    }

    #[tokio::test]
    async fn the_first_cause_is_what_the_host_hears() {
        let op = op(Payload::Data(Bytes::from(vec![0; 2048])));
        op.blame(IoError::NoSpace { offset: 7 });
        op.blame(IoError::NotReady);
        op.finish(Err(IoError::Internal("?".into())));
        assert_eq!(OpFuture(op).await.unwrap_err(), IoError::NoSpace { offset: 7 });
    }

    #[test]
    fn an_update_leaves_what_it_wants_written() {
        let modify: Modify =
            Box::new(|current| Ok(Bytes::from(current.iter().map(|b| b + 1).collect::<Vec<_>>())));
        let op = op(Payload::Update(Some(modify)));
        assert!(op.piece(op.range).is_none());
        assert!(op.prepare(&[4; 2048]));
        let Some(Piece::Data(data)) = op.piece(ByteRange {
            start: 5120,
            end: 6144,
        }) else {
            panic!("no data")
        };
        assert_eq!(data, vec![5; 1024]);
        assert!(!op.prepare(&[4; 2048]), "once only");
    }
}
