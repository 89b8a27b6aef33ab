//! Performs the engine's effects.
//!
//! [`Array::feed`] is the heart of the shell: it steps the engine with one input, performs what comes out, and feeds what
//! ended at once back in, until nothing is left that ends at once. So a host's write whose legs fit into the page
//! cache runs from the first lock to the answer on one stack, with no task switch. What has to wait becomes a task, which
//! feeds its end back in the same way.
//!
//! Steps are made under the engine's mutex; effects are performed outside it, with one exception. What must keep the
//! order of the steps is done before the mutex is let go: queueing journal records, events, and the flags that say
//! whether a volume answers and which way its I/O goes.

use std::{cell::RefCell, future::Future, sync::Arc};

use replication_engine::{
    command::{Refused, Summary},
    effects::{Effect, Effects, HostError, HostIo, Input, Outcome},
    events::Event,
    ids::{ByteRange, CommandId, OpId, Token, VolumeId},
    state::PairState,
};
use target_core::{
    scsi_model::control::VolumeNumber,
    volume::{Fast, IoError, Volume, VolumeChange},
};

use crate::{
    array::Array,
    compare, copy_worker,
    events::event_of,
    leg::Leg,
    lock,
    ops::{Op, Piece},
};

/// How a journal token ends when its record is durable.
pub(crate) const DURABLE: Outcome = Outcome::Ok;
/// How it ends otherwise. The journal is on no volume; the engine knows its tokens.
pub(crate) const NOT_DURABLE: Outcome = Outcome::WriteFailed(VolumeId(u32::MAX));

thread_local! {
    /// The buffers of [`Array::feed`], reused.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    inputs: Vec<Input>,
    effects: Effects,
}

impl Array {
    /// A host I/O begins. Its payload is in `op`, which hears of the end.
    pub(crate) fn host(self: &Arc<Self>, op: Arc<Op>, io: HostIo, fua: bool, by_link: bool) {
        let (volume, range) = (op.volume, op.range);
        let id = self.ops.insert(op);
        self.feed([Input::Host {
            op: id,
            volume,
            io,
            range,
            fua,
            by_link,
        }]);
        if self.is_stopped()
            && let Some(op) = self.ops.remove(id)
        {
            op.finish(Err(IoError::Internal("the array is shutting down".into())));
        }
    }

    /// Steps the engine with these inputs and with all that follows from them at once.
    pub(crate) fn feed(self: &Arc<Self>, inputs: impl IntoIterator<Item = Input>) {
        // Taken out, not borrowed: whoever is woken or told on the way may come back here on the same stack.
        let mut scratch = SCRATCH.with_borrow_mut(std::mem::take);
        scratch.inputs.extend(inputs);
        while !scratch.inputs.is_empty() {
            self.step(&mut scratch);
            for effect in scratch.effects.drain(..) {
                self.perform(effect, &mut scratch.inputs);
            }
        }
        SCRATCH.with_borrow_mut(|kept| *kept = scratch);
    }

    fn step(&self, Scratch { inputs, effects }: &mut Scratch) {
        let mut engine = lock(&self.engine);
        if self.is_stopped() {
            // As after a power failure: nothing happens any more.
            inputs.clear();
            return;
        }
        for input in inputs.drain(..) {
            engine.step(self.clock.now(), input, effects);
        }
        effects.retain(|effect| !self.perform_in_order(effect));
        let busy = engine.busy();
        drop(engine);
        self.note_busy(busy);
    }

    /// What has to keep the order of the steps. `true`: that was all of it.
    pub(crate) fn perform_in_order(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Journal { record, token } => {
                self.journal.append(record, *token);
                true
            }
            Effect::Ready { volume, ready } => {
                if let Some(volume) = self.volume(number(*volume)) {
                    // Before any read of hosts finds what the step has made of it.
                    volume.plain().content_replaced();
                    volume.set_ready(*ready);
                }
                !ready
            }
            Effect::Member { volume, member: true } => {
                // Its gate is closed: `Array::command` opens it again after the answer.
                if let Some(volume) = self.volume(number(*volume)) {
                    volume.set_member(true);
                }
                true
            }
            Effect::Event(event) => {
                self.note_event(event);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn perform(self: &Arc<Self>, effect: Effect, inputs: &mut Vec<Input>) {
        match effect {
            Effect::Read {
                token,
                op,
                from,
                range,
            } => self.perform_read(token, op, from, range, inputs),
            Effect::Prepare { token, op, from } => self.perform_prepare(token, op, from, inputs),
            Effect::Write { token, op, to, range } => self.perform_write(token, op, to, range, inputs),
            Effect::Copy {
                token,
                from,
                to,
                range,
            } => self.perform_copy(token, from, &to, range, inputs),
            Effect::Compare {
                token,
                volumes,
                range,
            } => self.perform_compare(token, volumes, range, inputs),
            Effect::Checked { id, found } => {
                if let Some(asked) = lock(&self.checks).remove(&id) {
                    // Who asked may have gone.
                    let _ = asked.send(found);
                }
            }
            Effect::Flush { token, volume } => self.perform_flush(token, volume, inputs),
            Effect::Reply { op, result } => {
                if let Some(op) = self.ops.remove(op) {
                    op.finish(result.map_err(host_error));
                }
            }
            Effect::Answer { id, result } => self.answer(id, result),
            Effect::Ready { volume, ready } => {
                if let Some(volume) = self.volume(number(volume)).filter(|_| ready) {
                    volume.tell(VolumeChange::Medium);
                }
            }
            Effect::Member { volume, member } => {
                if !member {
                    self.let_go(volume);
                }
            }
            // Done in order, under the engine's mutex.
            Effect::Journal { .. } | Effect::Event(_) => {}
        }
    }

    fn perform_read(
        self: &Arc<Self>,
        token: Token,
        op: OpId,
        from: VolumeId,
        range: ByteRange,
        inputs: &mut Vec<Input>,
    ) {
        let (Some(op), Some(disk)) = (self.ops.get(op), self.leg(from)) else {
            return done(token, Outcome::ReadFailed, inputs);
        };
        let mut buffer = op.take_buffer(range);
        match disk.try_read(range.start, &mut buffer) {
            Fast::Done(Ok(())) => {
                op.put_buffer(range, buffer);
                done(token, Outcome::Ok, inputs);
            }
            Fast::Done(Err(error)) => done(token, self.blame_read(&op, from, error), inputs),
            Fast::Later => {
                let read = disk.read(range.start, buffer);
                self.job(token, async move |array| match read.await {
                    Ok(buffer) => {
                        op.put_buffer(range, buffer);
                        Outcome::Ok
                    }
                    Err(error) => array.blame_read(&op, from, error),
                });
            }
        }
    }

    fn perform_prepare(self: &Arc<Self>, token: Token, op: OpId, from: VolumeId, inputs: &mut Vec<Input>) {
        let (Some(op), Some(disk)) = (self.ops.get(op), self.leg(from)) else {
            return done(token, Outcome::ReadFailed, inputs);
        };
        let range = op.range;
        let mut buffer = op.take_buffer(range);
        match disk.try_read(range.start, &mut buffer) {
            Fast::Done(Ok(())) => done(token, prepared(&op, &buffer), inputs),
            Fast::Done(Err(error)) => done(token, self.blame_read(&op, from, error), inputs),
            Fast::Later => {
                let read = disk.read(range.start, buffer);
                self.job(token, async move |array| match read.await {
                    Ok(buffer) => prepared(&op, &buffer),
                    Err(error) => array.blame_read(&op, from, error),
                });
            }
        }
    }

    fn perform_write(
        self: &Arc<Self>,
        token: Token,
        op: OpId,
        to: VolumeId,
        range: ByteRange,
        inputs: &mut Vec<Input>,
    ) {
        let (Some(op), Some(disk)) = (self.ops.get(op), self.leg(to)) else {
            return done(token, Outcome::WriteFailed(to), inputs);
        };
        let write = match op.piece(range) {
            Some(Piece::Data(data)) => match disk.try_write(range.start, &data) {
                Fast::Done(Ok(())) => return done(token, Outcome::Ok, inputs),
                Fast::Done(Err(error)) => return done(token, self.blame_write(&op, to, error), inputs),
                Fast::Later => disk.write(range.start, data),
            },
            Some(Piece::Zero { unmap }) => {
                // Whether a foreign volume is thin, its own system knows.
                let thick = self.volume(number(to)).is_some_and(|volume| !volume.info().thin);
                disk.zero(range.start, range.end - range.start, unmap && !thick)
            }
            None => return done(token, Outcome::WriteFailed(to), inputs),
        };
        self.job(token, async move |array| match write.await {
            Ok(()) => Outcome::Ok,
            Err(error) => array.blame_write(&op, to, error),
        });
    }

    fn perform_copy(
        self: &Arc<Self>,
        token: Token,
        from: VolumeId,
        to: &[VolumeId],
        range: ByteRange,
        inputs: &mut Vec<Input>,
    ) {
        let Some(source) = self.leg(from) else {
            return done(token, Outcome::ReadFailed, inputs);
        };
        let mut destinations = Vec::with_capacity(to.len());
        for volume in to {
            let Some(disk) = self.leg(*volume) else {
                return done(token, Outcome::WriteFailed(*volume), inputs);
            };
            destinations.push((*volume, disk));
        }
        self.job(token, async move |array| {
            let copied = if array.is_checksummed(from, &destinations) {
                let piece = u64::from(array.track_size());
                copy_worker::copy_differing((from, source), destinations, range, piece).await
            } else {
                copy_worker::copy((from, source), destinations, range).await
            };
            match copied {
                Ok(copied) if copied.data == range.end - range.start => Outcome::Ok,
                Ok(copied) => Outcome::Sparse {
                    holes: range.end - range.start - copied.data,
                    ahead: copied.hole_ahead,
                },
                Err(failure) => {
                    array.note_failure(failure.volume, &failure.error);
                    failure.outcome
                }
            }
        });
    }

    fn perform_compare(
        self: &Arc<Self>,
        token: Token,
        volumes: [VolumeId; 2],
        range: ByteRange,
        inputs: &mut Vec<Input>,
    ) {
        let [Some(one), Some(other)] = volumes.map(|volume| self.leg(volume)) else {
            return done(token, Outcome::ReadFailed, inputs);
        };
        let piece = u64::from(self.track_size());
        self.job(token, async move |array| {
            match compare::differing([&one, &other], range, piece).await {
                Ok(runs) if runs.is_empty() => Outcome::Ok,
                Ok(_) => Outcome::Differs,
                Err((which, error)) => {
                    array.note_failure(volumes[which], &error);
                    Outcome::ReadFailed
                }
            }
        });
    }

    fn perform_flush(self: &Arc<Self>, token: Token, volume: VolumeId, inputs: &mut Vec<Input>) {
        let Some(disk) = self.leg(volume) else {
            return done(token, Outcome::WriteFailed(volume), inputs);
        };
        let flush = disk.flush();
        self.job(token, async move |array| match flush.await {
            Ok(()) => Outcome::Ok,
            Err(error) => {
                array.note_failure(volume, &error);
                Outcome::WriteFailed(volume)
            }
        });
    }

    fn answer(&self, id: CommandId, result: Result<Summary, Refused>) {
        if let Some(waiting) = lock(&self.commands).remove(&id) {
            // Who asked may have gone; the command is done all the same.
            let _ = waiting.send(result);
        }
        self.note_change();
    }

    /// Runs a part of an effect that has to wait, and feeds its end back.
    fn job<F>(self: &Arc<Self>, token: Token, work: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let running = self.jobs.start();
        let work = work(Arc::clone(self));
        let array = Arc::clone(self);
        self.runtime.spawn(async move {
            let outcome = work.await;
            array.feed([Input::Done { token, outcome }]);
            drop(running);
        });
    }

    pub(crate) fn leg(&self, volume: VolumeId) -> Option<Leg> {
        if volume.is_foreign() {
            return self.remote.far(volume).map(Leg::Far);
        }
        self.volume(number(volume))
            .map(|volume| Leg::Near(Arc::clone(volume.plain().disk())))
    }

    fn blame_read(&self, op: &Op, volume: VolumeId, error: IoError) -> Outcome {
        self.note_failure(volume, &error);
        op.blame(error);
        Outcome::ReadFailed
    }

    fn blame_write(&self, op: &Op, volume: VolumeId, error: IoError) -> Outcome {
        self.note_failure(volume, &error);
        // A mirror's failure is the pair's affair: the host hears only of the volume it addressed.
        if volume == op.volume {
            op.blame(error);
        }
        Outcome::WriteFailed(volume)
    }

    /// Is this a copy of a pair whose copies send only what differs? A mirror names its pair.
    fn is_checksummed(&self, from: VolumeId, to: &[(VolumeId, Leg)]) -> bool {
        let checksummed = lock(&self.checksummed);
        checksummed.contains(&from) || to.first().is_some_and(|(to, _)| checksummed.contains(to))
    }

    pub(crate) fn note_event(&self, event: &Event) {
        // The copy that compared is over.
        if let Event::State { mirror, to, .. } = event
            && !(to.is_copying() || *to == PairState::Suspended)
        {
            lock(&self.checksummed).remove(mirror);
        }
        if let Some(event) = event_of(event, &self.remote) {
            self.events.push(event);
        }
        self.note_change();
    }

    pub(crate) fn note_failure(&self, volume: VolumeId, error: &IoError) {
        self.events.push_failure(number(volume), error.to_string());
    }
}

fn prepared(op: &Op, current: &[u8]) -> Outcome {
    if op.prepare(current) {
        Outcome::Ok
    } else {
        Outcome::Declined
    }
}

fn done(token: Token, outcome: Outcome, inputs: &mut Vec<Input>) {
    inputs.push(Input::Done { token, outcome });
}

fn number(volume: VolumeId) -> VolumeNumber {
    VolumeNumber(volume.0)
}

/// What the host hears when no effect has left a cause with its op.
fn host_error(error: HostError) -> IoError {
    match error {
        HostError::NotReady => IoError::NotReady,
        HostError::Read => IoError::Read {
            offset: 0,
            reason: "the pair could not be read".into(),
        },
        HostError::Write => IoError::Write {
            offset: 0,
            reason: "the pair could not be written".into(),
        },
        HostError::Declined => IoError::Internal("an update was declined without a reason".into()),
        HostError::MirrorAway => IoError::MirrorAway,
        HostError::Journal => IoError::Internal("the metadata journal could not be written".into()),
    }
}
