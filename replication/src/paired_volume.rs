//! A volume as hosts see it: plain until it is in a pair, and in the engine from then on.
//!
//! A [`Gate`] stands in front. Every I/O passes it and then looks at `member`, which changes only while the gate is
//! closed and everybody is out: so an I/O runs wholly on the one way or wholly on the other. Without a pair the way is
//! the [`PlainVolume`]'s own: two atomic operations more than nothing, no lock and no allocation. In a pair an I/O that has
//! nothing in its way passes (`replication_engine::passage`); each other
//! becomes an [`Op`] and an input of the engine; what can be done at once is done on the caller's stack, so that the
//! future is often complete when it is first polled.
//!
//! A pass is held to the end of the I/O: closing the gate waits for those in the engine as for those on the plain way. A write that has
//! to wait for room on the way to an async mirror does so before it asks for a pass.

mod by_link;
mod lending;

use std::{
    cell::RefCell,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use replication_engine::{
    effects::HostIo,
    ids::{ByteRange, VolumeId},
};
use target_core::{
    buffer::Buffer,
    gate::{Gate, OwnedPass},
    loan::{CopyFuture, Loan},
    plain::PlainVolume,
    scsi_model::{control::VolumeNumber, unit::SharedAccess},
    volume::{Extent, Fast, IoError, IoFuture, Modify, Volume, VolumeChange, VolumeInfo, VolumeWatcher},
};
use tokio::time::Instant;

use crate::{
    array::Array,
    ops::{Op, OpFuture, Payload},
    passing::Passing,
    remote::{FarVolume, Turn},
    statistics::Statistics,
};

/// See the module's page.
pub struct PairedVolume {
    number: VolumeNumber,
    plain: Arc<PlainVolume>,
    array: Weak<Array>,
    gate: Arc<Gate>,
    /// In the engine. Changes only behind the closed gate.
    member: AtomicBool,
    /// Answers hosts.
    ready: AtomicBool,
    /// It has a mirror on another system that writes may have to wait for.
    waits: AtomicBool,
    /// It has async mirrors on other systems: [`Self::behind`], looked at without the cost of looking.
    trails: AtomicBool,
    /// These; writes to it wait while one of them has no room.
    behind: ArcSwap<Vec<Arc<FarVolume>>>,
    /// How it is shared: twice the target port group, and one when it is active. 0: it is not shared.
    shared: AtomicU32,
    watcher: RwLock<Option<Arc<dyn VolumeWatcher>>>,
    statistics: Statistics,
}

impl PairedVolume {
    pub(crate) fn new(plain: Arc<PlainVolume>, array: Weak<Array>, member: bool, ready: bool) -> Self {
        Self {
            number: plain.info().number,
            plain,
            array,
            gate: Arc::new(Gate::new()),
            member: AtomicBool::new(member),
            ready: AtomicBool::new(ready),
            waits: AtomicBool::new(false),
            trails: AtomicBool::new(false),
            behind: ArcSwap::default(),
            shared: AtomicU32::new(0),
            watcher: RwLock::default(),
            statistics: Statistics::default(),
        }
    }

    /// Its number.
    pub fn number(&self) -> VolumeNumber {
        self.number
    }

    /// Capacity in bytes.
    pub fn bytes(&self) -> u64 {
        self.plain.info().bytes()
    }

    /// Is it in a pair, so that its I/O passes through the engine?
    pub fn in_pair(&self) -> bool {
        self.member.load(Ordering::Acquire)
    }

    /// What hosts did with it.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// What it stands on.
    pub fn plain(&self) -> &Arc<PlainVolume> {
        &self.plain
    }

    pub(crate) fn id(&self) -> VolumeId {
        VolumeId(self.number.0)
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Only behind the closed gate.
    pub(crate) fn set_member(&self, member: bool) {
        self.member.store(member, Ordering::Release);
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Where it is not known, writes find out later.
    pub(crate) fn set_waits(&self, waits: bool, behind: Vec<Arc<FarVolume>>) {
        self.waits.store(waits, Ordering::Release);
        self.trails.store(!behind.is_empty(), Ordering::Release);
        self.behind.store(Arc::new(behind));
    }

    /// A write need not wait for room on the way to an async mirror.
    fn has_room(&self) -> bool {
        !self.trails.load(Ordering::Acquire) || self.behind.load().iter().all(|far| far.has_room())
    }

    /// Waits until there is room for so many bytes on the way to every async mirror, or none is to be waited for.
    async fn wait_for_room(&self, bytes: u64, by_link: bool) -> Vec<Turn> {
        let mut turns = Vec::new();
        if !self.has_room() {
            for far in self.behind.load_full().iter() {
                turns.extend(far.wait_for_room(bytes, by_link).await);
            }
        }
        turns
    }

    /// Another system shows it too, or not any more. `true`: hosts are to be told that the state of the port group has changed.
    pub(crate) fn set_shared(&self, shared: Option<SharedAccess>) -> bool {
        let now = shared.map_or(0, |shared| {
            u32::from(shared.target_port_group) << 1 | u32::from(shared.active)
        });
        let before = self.shared.swap(now, Ordering::AcqRel);
        before != 0 && now != 0 && before != now
    }

    /// It is shared, and hosts are to use the other system. What comes over the link is not concerned.
    fn in_standby(&self) -> bool {
        let shared = self.shared.load(Ordering::Acquire);
        shared != 0 && shared & 1 == 0
    }

    /// Hosts' I/O goes no further while hosts are to use the other system.
    fn serves_hosts(&self) -> Result<(), IoError> {
        if self.in_standby() {
            return Err(IoError::NotReady);
        }
        Ok(())
    }

    /// Tells who watches. No lock of the array may be held.
    pub(crate) fn tell(&self, change: VolumeChange) {
        let watcher = self
            .watcher
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(watcher) = watcher {
            watcher.changed(change);
        }
    }

    /// What `try_*` calls can do at once: the plain way, or in a pair the passage, if the volume answers hosts.
    fn fast(&self, plain: impl FnOnce() -> Fast<()>, pass: impl FnOnce(&Arc<Array>) -> Fast<()>) -> Fast<()> {
        let Some(_pass) = self.gate.enter() else {
            return Fast::Later;
        };
        if let Err(error) = self.serves_hosts() {
            return Fast::Done(Err(error));
        }
        if self.member.load(Ordering::Acquire) {
            return self.array.upgrade().map_or(Fast::Later, |array| pass(&array));
        }
        if !self.ready.load(Ordering::Acquire) {
            return Fast::Done(Err(IoError::NotReady));
        }
        plain()
    }

    /// Enters the gate and says which way; the engine answers for readiness itself.
    async fn enter(&self) -> Result<(OwnedPass, Option<Arc<Array>>), IoError> {
        let pass = Arc::clone(&self.gate).enter_when_open().await;
        if self.member.load(Ordering::Acquire) {
            let gone = || IoError::Internal("the array has shut down".into());
            return Ok((pass, Some(self.array.upgrade().ok_or_else(gone)?)));
        }
        if !self.ready.load(Ordering::Acquire) {
            return Err(IoError::NotReady);
        }
        Ok((pass, None))
    }

    /// One I/O through the engine. The payload waits in the op table; the pass goes with it.
    fn submit(
        &self,
        array: &Arc<Array>,
        pass: OwnedPass,
        (offset, length): (u64, u64),
        (io, payload, fua): (HostIo, Payload, bool),
    ) -> OpFuture {
        let range = byte_range(offset, length);
        let op = Arc::new(Op::new(self.id(), range, payload, Some(pass)));
        array.host(Arc::clone(&op), io, fua, false);
        OpFuture(op)
    }

    /// Passes, if nothing is in the way and no mirror of another system has to be waited for. `false`: it is to be done the long way, once more
    /// if need be.
    fn try_passing(&self, array: &Arc<Array>, offset: u64, data: &Bytes, by_link: bool) -> bool {
        let range = byte_range(offset, data.len() as u64);
        let Some(passing) = Passing::begin(array, self.id(), HostIo::Write, range, by_link) else {
            return false;
        };
        let own = (self.id(), &**self.plain.disk());
        let legs = passing.write(own, offset, data, false);
        let done = legs.is_some();
        passing.end(&legs.unwrap_or_default().failed) && done
    }
}

impl Volume for PairedVolume {
    fn info(&self) -> Arc<VolumeInfo> {
        self.plain.info()
    }

    fn content_epoch(&self) -> u64 {
        self.plain.content_epoch()
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.in_standby()
    }

    fn shared(&self) -> Option<SharedAccess> {
        let shared = self.shared.load(Ordering::Acquire);
        (shared != 0).then_some(SharedAccess {
            target_port_group: (shared >> 1) as u16,
            active: shared & 1 != 0,
            one_path: false,
        })
    }

    fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Fast<()> {
        let bytes = buffer.len() as u64;
        let range = byte_range(offset, bytes);
        // One of the two is called, but both want the buffer.
        let buffer = RefCell::new(buffer);
        let fast = self.fast(
            || self.plain.try_read(offset, &mut buffer.borrow_mut()),
            |array| {
                let Some(passing) = Passing::begin(array, self.id(), HostIo::Read, range, false) else {
                    return Fast::Later;
                };
                let read = self.plain.disk().try_read(offset, &mut buffer.borrow_mut());
                let answer = passing.end(&[]);
                // One that failed finds another source on the long way.
                match read {
                    Fast::Done(Ok(())) if answer => read,
                    _ => Fast::Later,
                }
            },
        );
        if let Fast::Done(result) = &fast {
            self.statistics.read(bytes, result);
        }
        fast
    }

    fn read(self: Arc<Self>, offset: u64, buffer: Buffer) -> IoFuture<Buffer> {
        Box::pin(async move {
            let bytes = buffer.len() as u64;
            let begun = Instant::now();
            self.serves_hosts()?;
            let result = self.read_either_way(offset, buffer).await;
            self.statistics.waited(begun);
            self.statistics.read(bytes, &result);
            result
        })
    }

    fn try_write(&self, offset: u64, data: &Bytes, fua: bool) -> Fast<()> {
        let fast = self.fast(
            || self.plain.try_write(offset, data, fua),
            |array| {
                if fua || self.waits.load(Ordering::Acquire) || !self.has_room() {
                    return Fast::Later;
                }
                if self.try_passing(array, offset, data, false) {
                    Fast::Done(Ok(()))
                } else {
                    Fast::Later
                }
            },
        );
        if let Fast::Done(result) = &fast {
            self.statistics.write(data.len() as u64, result);
        }
        fast
    }

    fn write(self: Arc<Self>, offset: u64, data: Bytes, fua: bool) -> IoFuture<()> {
        Box::pin(async move {
            let bytes = data.len() as u64;
            let begun = Instant::now();
            self.serves_hosts()?;
            let result = self.write_either_way(offset, data, fua).await;
            self.statistics.waited(begun);
            self.statistics.write(bytes, &result);
            result
        })
    }

    fn flush(self: Arc<Self>) -> IoFuture<()> {
        Box::pin(async move {
            let result = self.flush_either_way().await;
            self.statistics.flush(&result);
            result
        })
    }

    fn zero(self: Arc<Self>, offset: u64, length: u64, unmap: bool, fua: bool) -> IoFuture<()> {
        Box::pin(async move {
            self.serves_hosts()?;
            let result = self.zero_either_way(offset, length, unmap, fua).await;
            self.statistics.write(length, &result);
            result
        })
    }

    fn update(self: Arc<Self>, offset: u64, length: u64, modify: Modify, fua: bool) -> IoFuture<()> {
        Box::pin(async move {
            self.serves_hosts()?;
            let result = self.update_either_way(offset, length, modify, fua).await;
            self.statistics.write(length, &result);
            result
        })
    }

    fn lend(&self, offset: u64, length: u64) -> Option<Loan> {
        self.lend_either_way(offset, length)
    }

    fn copy_in(self: Arc<Self>, offset: u64, loan: Loan) -> CopyFuture {
        Box::pin(async move {
            let bytes = loan.length();
            let copied = self.copy_in_either_way(offset, &loan).await;
            if copied {
                self.statistics.write(bytes, &Ok::<_, IoError>(()));
            }
            copied
        })
    }

    fn extents(self: Arc<Self>, offset: u64, limit: usize) -> IoFuture<Vec<Extent>> {
        Box::pin(async move {
            let (_pass, array) = self.enter().await?;
            let extents = Arc::clone(&self.plain).extents(offset, limit).await?;
            let Some(array) = array else { return Ok(extents) };
            if !self.ready() {
                return Err(IoError::NotReady);
            }
            Ok(with_mapped(&extents, &array.elsewhere(self.id()), limit))
        })
    }

    fn watch(&self, watcher: Arc<dyn VolumeWatcher>) {
        self.plain.watch(Arc::clone(&watcher));
        *self.watcher.write().unwrap_or_else(PoisonError::into_inner) = Some(watcher);
    }
}

impl PairedVolume {
    pub(crate) async fn read_either_way(&self, offset: u64, buffer: Buffer) -> Result<Buffer, IoError> {
        let (pass, array) = self.enter().await?;
        let Some(array) = array else {
            return Arc::clone(&self.plain).read(offset, buffer).await;
        };
        if buffer.is_empty() {
            return Ok(buffer);
        }
        let place = (offset, buffer.len() as u64);
        let read = self.submit(
            &array,
            pass,
            place,
            (HostIo::Read, Payload::Read(Some(buffer)), false),
        );
        read.await?
            .ok_or_else(|| IoError::Internal("a read ended without its data".into()))
    }

    async fn write_either_way(&self, offset: u64, data: Bytes, fua: bool) -> Result<(), IoError> {
        let turns = self.wait_for_room(data.len() as u64, false).await;
        let (pass, array) = self.enter().await?;
        let Some(array) = array else {
            return Arc::clone(&self.plain).write(offset, data, fua).await;
        };
        if data.is_empty() {
            return Ok(());
        }
        // Others have tried to pass already.
        if !fua
            && (self.waits.load(Ordering::Acquire) || !turns.is_empty())
            && self.write_passing(&array, offset, &data, false).await
        {
            return Ok(());
        }
        let place = (offset, data.len() as u64);
        self.submit(&array, pass, place, (HostIo::Write, Payload::Data(data), fua))
            .await
            .map(drop)
    }

    /// Passes, if nothing is in the way, and waits for mirrors of other systems. `false`: it is to be done the long way, once more if need be.
    async fn write_passing(&self, array: &Arc<Array>, offset: u64, data: &Bytes, by_link: bool) -> bool {
        let range = byte_range(offset, data.len() as u64);
        let Some(passing) = Passing::begin(array, self.id(), HostIo::Write, range, by_link) else {
            return false;
        };
        let own = (self.id(), &**self.plain.disk());
        let Some(mut legs) = passing.write(own, offset, data, true) else {
            passing.end(&[]);
            return false;
        };
        for (mirror, written) in legs.waiting {
            if let Err(error) = written.await {
                array.note_failure(mirror, &error);
                legs.failed.push(mirror);
            }
        }
        passing.end(&legs.failed)
    }

    async fn flush_either_way(&self) -> Result<(), IoError> {
        let (pass, array) = self.enter().await?;
        let Some(array) = array else {
            return Arc::clone(&self.plain).flush().await;
        };
        self.submit(&array, pass, (0, 0), (HostIo::Flush, Payload::Flush, false))
            .await
            .map(drop)
    }

    async fn zero_either_way(&self, offset: u64, length: u64, unmap: bool, fua: bool) -> Result<(), IoError> {
        let _turns = self.wait_for_room(0, false).await;
        let (pass, array) = self.enter().await?;
        let Some(array) = array else {
            return Arc::clone(&self.plain).zero(offset, length, unmap, fua).await;
        };
        if length == 0 {
            return Ok(());
        }
        let payload = Payload::Zero { unmap };
        self.submit(&array, pass, (offset, length), (HostIo::Write, payload, fua))
            .await
            .map(drop)
    }

    async fn update_either_way(
        &self,
        offset: u64,
        length: u64,
        modify: Modify,
        fua: bool,
    ) -> Result<(), IoError> {
        let _turns = self.wait_for_room(length, false).await;
        let (pass, array) = self.enter().await?;
        let Some(array) = array else {
            return Arc::clone(&self.plain).update(offset, length, modify, fua).await;
        };
        if length == 0 {
            return Ok(());
        }
        let payload = Payload::Update(Some(modify));
        self.submit(&array, pass, (offset, length), (HostIo::Update, payload, fua))
            .await
            .map(drop)
    }
}

fn byte_range(offset: u64, length: u64) -> ByteRange {
    ByteRange {
        start: offset,
        end: offset + length,
    }
}

/// The media's extents with these ranges, ascending, shown as data: their content is another volume's for now, and
/// whether that is a hole is not asked.
fn with_mapped(extents: &[Extent], elsewhere: &[ByteRange], limit: usize) -> Vec<Extent> {
    let mut merged: Vec<Extent> = Vec::new();
    let mut push = |start: u64, end: u64, mapped: bool| match merged.last_mut() {
        _ if start >= end => {}
        Some(last) if last.mapped == mapped => last.length += end - start,
        _ => merged.push(Extent {
            offset: start,
            length: end - start,
            mapped,
        }),
    };
    for extent in extents {
        let end = extent.offset + extent.length;
        let mut at = extent.offset;
        for range in elsewhere
            .iter()
            .filter(|range| range.start < end && range.end > extent.offset)
        {
            let start = range.start.max(at);
            push(at, start, extent.mapped);
            at = range.end.min(end);
            push(start, at, true);
        }
        push(at, end, extent.mapped);
    }
    merged.truncate(limit);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S93: GET LBA STATUS where the data is on another volume.
    #[test]
    fn what_lives_elsewhere_is_shown_as_data() {
        let hole = |offset, length| Extent {
            offset,
            length,
            mapped: false,
        };
        let data = |offset, length| Extent {
            offset,
            length,
            mapped: true,
        };
        let range = |start, end| ByteRange { start, end };
        let media = [hole(0, 100), data(100, 50), hole(150, 50)];
        assert_eq!(with_mapped(&media, &[], 9), media);
        assert_eq!(
            with_mapped(&media, &[range(20, 30), range(90, 160)], 9),
            [
                hole(0, 20),
                data(20, 10),
                hole(30, 60),
                data(90, 70),
                hole(160, 40)
            ]
        );
        assert_eq!(with_mapped(&media, &[range(0, 1000)], 9), [data(0, 200)]);
        assert_eq!(
            with_mapped(&media, &[range(20, 30)], 2),
            [hole(0, 20), data(20, 10)]
        );
    }
}
