//! From the queue's file to the link: one task, from the first write that goes into the file until it is empty again.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use crc_fast::crc32_iscsi;
use link_proto::header::MAX_DATA;
use target_core::buffer::Buffer;

use super::{
    Backlog, What,
    record::{HEAD, Head, Kind},
    tell,
};
use crate::{array::Array, lock, remote::far::FarVolume};

/// What is read at a time: some of the longest records.
const RUN: u64 = 4 * (HEAD + MAX_DATA as u64);

/// Sends what is in the file, until it is empty or was given up.
pub(super) async fn send(backlog: Arc<Backlog>, array: Weak<Array>, round: u64) {
    while let Some((position, bytes)) = backlog.next_run(round) {
        let read = backlog.read(position, bytes).await;
        let Some(array) = array.upgrade() else { return };
        let sent = match read {
            Ok(run) => backlog.send_run(&array, round, position, &run).await,
            Err(reason) => Err(reason),
        };
        if let Err(reason) = sent {
            // What was read in a round that has ended may be anything.
            if !backlog.is_in(round) {
                return;
            }
            let text = format!("the queue on disk {}: {reason}", backlog.queue.name);
            array.remote.leave_gap(&array, &backlog.peer, &text);
            // Also if nobody is left who would hear of it.
            backlog.give_up_round(round, &text);
            return;
        }
    }
}

impl Backlog {
    /// What is to be sent next; `None`: the round has ended.
    fn next_run(&self, round: u64) -> Option<(u64, u64)> {
        let state = lock(&self.state);
        let more = state.round == round && state.ring.filled() > 0;
        more.then(|| (state.ring.tail(), state.ring.filled().min(RUN)))
    }

    fn is_in(&self, round: u64) -> bool {
        lock(&self.state).round == round
    }

    async fn read(&self, position: u64, bytes: u64) -> Result<Bytes, String> {
        let pieces = lock(&self.state).ring.pieces(position, bytes);
        let mut run = Vec::new();
        for (offset, length) in pieces.into_iter().filter(|(_, length)| *length > 0) {
            let read = self.queue.disk.read(offset, Buffer::new(length as usize)).await;
            let read = read.map_err(|error| error.to_string())?;
            if run.is_empty() {
                run.reserve_exact(bytes as usize);
            }
            run.extend_from_slice(&read);
        }
        Ok(run.into())
    }

    /// Sends the whole records of a run. An error: something else is there.
    async fn send_run(&self, array: &Arc<Array>, round: u64, start: u64, run: &Bytes) -> Result<(), String> {
        let mut at = 0;
        while at < run.len() {
            let position = start + at as u64;
            if run.len() - at < HEAD as usize {
                break;
            }
            let bad = || format!("what it has at {position} is not what was written");
            let head = Head::decode(&run[at..], position).ok_or_else(bad)?;
            let end = at + head.whole() as usize;
            if end > run.len() {
                break;
            }
            let data = run.slice(at + HEAD as usize..end);
            if head.kind == Kind::Data && crc32_iscsi(&data) != head.crc {
                return Err(bad());
            }
            if !self.send_record(array, round, &head, &data).await {
                return Ok(());
            }
            at = end;
        }
        // The longest record is shorter than a run.
        if at == 0 {
            return Err(format!("what it has at {start} is longer than any write"));
        }
        Ok(())
    }

    /// `false`: the round has ended.
    async fn send_record(&self, array: &Arc<Array>, round: u64, head: &Head, data: &Bytes) -> bool {
        let what = match head.kind {
            Kind::Data => What::Data(data),
            Kind::Zero { unmap } => What::Zero {
                length: head.length,
                unmap,
            },
        };
        // Those that the pair's loss has taken out are passed over.
        let far = lock(&self.state).far.get(&head.life).and_then(Weak::upgrade);
        let turn = match &far {
            Some(far) => far.wait_in_line(what.cost(), Duration::MAX).await,
            None => None,
        };
        let room = self.room();
        let state = &mut *lock(&self.state);
        if state.round != round {
            return false;
        }
        let is_there = |far: &&Arc<FarVolume>| state.far.contains_key(&far.life());
        if let Some(far) = far.as_ref().filter(is_there) {
            far.send_queued(array, head.offset, what);
        }
        drop(turn);
        state.ring.take(head.whole());
        if state.ring.filled() > 0 {
            room.give_back(head.whole());
            return true;
        }
        if state.told {
            tell(
                array,
                format!("the queue on disk {} is empty again", self.queue.name),
            );
        }
        self.rest(state);
        false
    }

    fn give_up_round(&self, round: u64, reason: &str) {
        let mut state = lock(&self.state);
        if state.round == round {
            self.empty(&mut state, reason);
        }
    }
}
