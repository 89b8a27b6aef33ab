//! The short way of an I/O: the engine lets it pass (`replication_engine::passage`), whoever brought it performs it, and the engine hears
//! that it is over.

use std::{borrow::Borrow, sync::Arc};

use bytes::Bytes;
use replication_engine::{
    effects::{Effects, HostIo, Input},
    ids::{ByteRange, VolumeId},
    passage::Passage,
};
use smallvec::SmallVec;
use target_core::{
    disk::Disk,
    loan::Stretch,
    scsi_model::control::VolumeNumber,
    volume::{Fast, IoError, IoFuture},
};

use crate::{array::Array, lock, paired_volume::PairedVolume, remote::FarVolume};

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
    pub(crate) waiting: SmallVec<[(VolumeId, IoFuture<()>); 1]>,
}

/// Where a mirror is.
enum Mirror {
    Near(Arc<PairedVolume>),
    Far(Arc<FarVolume>),
    Gone,
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
        let found = |id: &VolumeId| (*id, self.mirror(*id));
        let mirrors: SmallVec<[_; 2]> = self.mirrors().iter().map(found).collect();
        let waits = |mirror: &Mirror| match mirror {
            Mirror::Near(volume) => volume.plain().disk().is_slow(),
            Mirror::Far(far) => !may_wait && !far.is_async(),
            Mirror::Gone => false,
        };
        if mirrors.iter().any(|(_, mirror)| waits(mirror)) {
            return None;
        }
        let mut legs = Legs::default();
        match disk.try_write(offset, data, false) {
            Fast::Later => return None,
            Fast::Done(Err(_)) => legs.failed.push(volume),
            Fast::Done(Ok(())) => {}
        }
        for (id, mirror) in mirrors {
            let written = match mirror {
                Mirror::Near(volume) => write_now(volume.plain().disk(), offset, data),
                Mirror::Far(far) if far.is_async() => far.queue_write(offset, data),
                Mirror::Far(far) => {
                    legs.waiting.push((id, far.write(offset, data)));
                    continue;
                }
                Mirror::Gone => {
                    legs.failed.push(id);
                    continue;
                }
            };
            if let Err(error) = written {
                self.array.borrow().note_failure(id, &error);
                legs.failed.push(id);
            }
        }
        Some(legs)
    }

    fn mirror(&self, id: VolumeId) -> Mirror {
        let array = self.array.borrow();
        let found = if id.is_foreign() {
            array.remote.far(id).map(Mirror::Far)
        } else {
            array.volume(VolumeNumber(id.0)).map(Mirror::Near)
        };
        found.unwrap_or(Mirror::Gone)
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

/// Also where that means to wait: no leg is left behind.
fn write_now(disk: &Disk, offset: u64, data: &Bytes) -> Result<(), IoError> {
    match disk.try_write(offset, data, false) {
        Fast::Done(written) => written,
        Fast::Later => disk.media().write_at(offset, data, false),
    }
}

impl<A: Borrow<Arc<Array>>> Drop for Passing<A> {
    fn drop(&mut self) {
        if let Some(passage) = self.passage.take() {
            self.leave(&passage, passage.mirrors());
        }
    }
}
