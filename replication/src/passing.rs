//! The short way of an I/O: the engine lets it pass (`replication_engine::passage`), whoever brought it performs it, and the engine hears
//! that it is over.

use std::{borrow::Borrow, sync::Arc};

use bytes::Bytes;
use replication_engine::{
    effects::{Effects, HostIo, Input},
    ids::{ByteRange, VolumeId},
    passage::Passage,
};
use target_core::{
    disk::Disk,
    loan::Stretch,
    scsi_model::control::VolumeNumber,
    volume::{Fast, IoError, IoFuture},
};

use crate::{array::Array, lock};

/// An I/O that passes now. One that is dropped before it [`ends`](Passing::end) may not have reached its mirrors.
pub(crate) struct Passing<A: Borrow<Arc<Array>>> {
    array: A,
    passage: Option<Passage>,
}

/// What came of writing all legs of a passage.
#[derive(Default)]
pub(crate) struct Legs {
    /// Volumes that could not be written.
    pub(crate) failed: Vec<VolumeId>,
    /// Mirrors of other systems whose answer is to be waited for.
    pub(crate) waiting: Vec<(VolumeId, IoFuture<()>)>,
}

impl<A: Borrow<Arc<Array>>> Passing<A> {
    /// Begins it, if the engine lets it pass.
    pub(crate) fn begin(
        array: A,
        volume: VolumeId,
        io: HostIo,
        range: ByteRange,
        by_link: bool,
    ) -> Option<Self> {
        let passage = {
            let array = array.borrow();
            let mut engine = lock(&array.engine);
            if array.is_stopped() {
                return None;
            }
            engine.pass(volume, io, range, by_link)?
        };
        Some(Self {
            array,
            passage: Some(passage),
        })
    }

    /// Writes the volume's own disk and its mirrors. Once the first is written the others are, whether they must be waited for or not:
    /// no leg is left behind. `None`: the volume's own disk or a mirror's would have to be waited for, or, unless that may be, a mirror
    /// of another system; nothing was done.
    pub(crate) fn write(
        &self,
        (volume, disk): (VolumeId, &Disk),
        offset: u64,
        data: &Bytes,
        may_wait: bool,
    ) -> Option<Legs> {
        let mut legs = Legs::default();
        let is_sync = |id: &VolumeId| {
            id.is_foreign()
                && self
                    .array
                    .borrow()
                    .remote
                    .far(*id)
                    .is_some_and(|far| !far.is_async())
        };
        if !may_wait && self.mirrors().iter().any(is_sync) {
            return None;
        }
        let near = |id: &VolumeId| self.array.borrow().volume(VolumeNumber(id.0));
        let is_slow = |id: &VolumeId| {
            !id.is_foreign() && near(id).is_some_and(|mirror| mirror.plain().disk().is_slow())
        };
        if self.mirrors().iter().any(is_slow) {
            return None;
        }
        match disk.try_write(offset, data, false) {
            Fast::Later => return None,
            Fast::Done(Err(_)) => legs.failed.push(volume),
            Fast::Done(Ok(())) => {}
        }
        for id in self.mirrors() {
            self.write_mirror(*id, offset, data, &mut legs);
        }
        Some(legs)
    }

    fn write_mirror(&self, id: VolumeId, offset: u64, data: &Bytes, legs: &mut Legs) {
        let array = self.array.borrow();
        let written = if id.is_foreign() {
            match array.remote.far(id) {
                Some(far) if far.is_async() => Some(far.queue_write(offset, data)),
                Some(far) => return legs.waiting.push((id, far.write(offset, data))),
                None => None,
            }
        } else {
            let mirror = array.volume(VolumeNumber(id.0));
            mirror.map(|mirror| {
                let disk = mirror.plain().disk();
                match disk.try_write(offset, data, false) {
                    Fast::Done(written) => written,
                    // No leg is left behind.
                    Fast::Later => disk.media().write_at(offset, data, false),
                }
            })
        };
        match written {
            Some(Ok(())) => return,
            Some(Err(error)) => array.note_failure(id, &error),
            None => {}
        }
        legs.failed.push(id);
    }

    /// Copies what was lent to the volume's own disk, and from there to its mirrors: what was lent may change meanwhile, and no leg may
    /// have another content than the others. Says whether that can be answered, and which legs failed. With a mirror on another system nothing
    /// is done.
    pub(crate) async fn copy(
        &self,
        disk: &Arc<Disk>,
        range: ByteRange,
        lent: Stretch,
    ) -> (bool, Vec<VolumeId>) {
        let mut failed = Vec::new();
        if self.mirrors().iter().any(|id| id.is_foreign()) {
            return (false, failed);
        }
        let (offset, length) = (range.start, range.end - range.start);
        let copied = lent.copy_to(disk, offset).await.is_ok();
        for id in self.mirrors() {
            let result = match self.array.borrow().volume(VolumeNumber(id.0)) {
                Some(mirror) => {
                    disk.copy_to(offset, (mirror.plain().disk(), offset), length)
                        .await
                }
                None => Err(IoError::Internal(format!("volume {} is not there", id.0))),
            };
            if let Err(error) = result {
                self.array.borrow().note_failure(*id, &error);
                failed.push(*id);
            }
        }
        (copied, failed)
    }

    /// What is written besides the volume addressed.
    fn mirrors(&self) -> &[VolumeId] {
        self.passage.as_ref().map_or(&[], Passage::mirrors)
    }

    /// It was performed, on all its volumes but those that `failed`. `true`: it may be answered, if it succeeded; otherwise it is to be done
    /// the long way, once more if need be.
    pub(crate) fn end(mut self, failed: &[VolumeId]) -> bool {
        self.passage
            .take()
            .is_some_and(|passage| self.leave(&passage, failed))
    }

    fn leave(&self, passage: &Passage, failed: &[VolumeId]) -> bool {
        let array = self.array.borrow();
        let mut effects = Effects::new();
        let passed = {
            let mut engine = lock(&array.engine);
            if array.is_stopped() {
                // As after a power failure: nothing happens any more.
                return false;
            }
            let passed = engine.passed(passage, failed, &mut effects);
            effects.retain(|effect| !array.perform_in_order(effect));
            passed
        };
        if passed.awaited || !effects.is_empty() {
            let mut inputs = vec![Input::Passed];
            for effect in effects {
                array.perform(effect, &mut inputs);
            }
            array.feed(inputs);
        }
        // A failure has consequences, which are not for here.
        passed.answer && failed.is_empty()
    }
}

impl<A: Borrow<Arc<Array>>> Drop for Passing<A> {
    fn drop(&mut self) {
        if let Some(passage) = self.passage.take() {
            self.leave(&passage, passage.mirrors());
        }
    }
}
