//! WRITE ATOMIC: all or nothing, for whoever reads meanwhile and for whoever finds the unit after a loss of power.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

use super::*;
use crate::{
    buffer::Buffer,
    media::Media,
    redo::Redo,
    volume::{Extent, IoFuture, Modify, Volume, VolumeInfo, VolumeWatcher},
};

const LENGTH: usize = 64 << 10;
const LBA: u64 = 100;

/// A volume that stops in the middle of an update, as a disk does that loses power, until it is let go on.
struct Halting {
    inner: Arc<PlainVolume>,
    halts: AtomicBool,
    /// What it halted in fails when let go on.
    fails: AtomicBool,
    reached: Notify,
    go_on: Notify,
}

impl Halting {
    fn on(media: &Arc<MemoryMedia>) -> Arc<Self> {
        let media: Arc<dyn Media> = media.clone();
        let inner = PlainVolume::on_media(config(1), media, &IdentityStore::ephemeral()).unwrap();
        Arc::new(Self {
            inner,
            halts: AtomicBool::new(false),
            fails: AtomicBool::new(false),
            reached: Notify::new(),
            go_on: Notify::new(),
        })
    }

    fn halt(&self) {
        self.halts.store(true, Ordering::SeqCst);
    }
}

impl Volume for Halting {
    fn info(&self) -> Arc<VolumeInfo> {
        self.inner.info()
    }

    fn content_epoch(&self) -> u64 {
        0
    }

    fn ready(&self) -> bool {
        true
    }

    fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Fast<()> {
        self.inner.try_read(offset, buffer)
    }

    fn read(self: Arc<Self>, offset: u64, buffer: Buffer) -> IoFuture<Buffer> {
        self.inner.clone().read(offset, buffer)
    }

    fn try_write(&self, offset: u64, data: &Bytes, fua: bool) -> Fast<()> {
        self.inner.try_write(offset, data, fua)
    }

    fn write(self: Arc<Self>, offset: u64, data: Bytes, fua: bool) -> IoFuture<()> {
        self.inner.clone().write(offset, data, fua)
    }

    fn flush(self: Arc<Self>) -> IoFuture<()> {
        self.inner.clone().flush()
    }

    fn zero(self: Arc<Self>, offset: u64, length: u64, unmap: bool, fua: bool) -> IoFuture<()> {
        self.inner.clone().zero(offset, length, unmap, fua)
    }

    fn update(self: Arc<Self>, offset: u64, length: u64, modify: Modify, fua: bool) -> IoFuture<()> {
        if !self.halts.swap(false, Ordering::SeqCst) {
            return self.inner.clone().update(offset, length, modify, fua);
        }
        Box::pin(async move {
            let current = self
                .inner
                .clone()
                .read(offset, Buffer::new(length as usize))
                .await?;
            let data = modify(&current)?;
            let half = data.len() / 2;
            self.inner.clone().write(offset, data.slice(..half), true).await?;
            self.reached.notify_one();
            self.go_on.notified().await;
            if self.fails.load(Ordering::SeqCst) {
                return Err(IoError::NoSpace { offset });
            }
            let rest = offset + half as u64;
            self.inner.clone().write(rest, data.slice(half..), fua).await
        })
    }

    fn extents(self: Arc<Self>, offset: u64, limit: usize) -> IoFuture<Vec<Extent>> {
        self.inner.clone().extents(offset, limit)
    }

    fn watch(&self, watcher: Arc<dyn VolumeWatcher>) {
        self.inner.watch(watcher);
    }
}

/// A daemon's worth of one unit, on a disk and a state directory that outlive it.
struct Started {
    volume: Arc<Halting>,
    target: Arc<Target>,
}

impl Started {
    async fn new(media: &Arc<MemoryMedia>, state: &Path) -> Self {
        let volume = Halting::on(media);
        let store = UnitStateStore::open(state, VolumeNumber(1)).unwrap();
        let unit = LogicalUnit::new(volume.clone(), None, store).unwrap();
        unit.recover().await.unwrap();
        Self {
            volume,
            target: Target::new("iqn.t", rules(&[unit], false)),
        }
    }

    async fn nexus(&self, name: &str) -> Arc<Nexus> {
        let nexus = self.target.attach(
            InitiatorPort {
                name: name.into(),
                isid: [0; 6],
            },
            1,
        );
        run(&nexus, 0, &[0; 6], &[]).await;
        nexus
    }
}

fn write_atomic(lba: u64, blocks: u16) -> Vec<u8> {
    cdb16(0x9C, 0, lba, blocks.into())
}

fn atomic(fill: u8) -> (Vec<u8>, Vec<u8>) {
    (write_atomic(LBA, (LENGTH / BLOCK) as u16), vec![fill; LENGTH])
}

async fn content(nexus: &Arc<Nexus>) -> Vec<u8> {
    let cdb = cdb16(0x88, 0, LBA, (LENGTH / BLOCK) as u32);
    run(nexus, 0, &cdb, &[]).await.data_in.to_vec()
}

#[tokio::test]
async fn lengths_and_places_are_checked_before_anything_is_written() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    let (cdb, data) = atomic(7);
    assert_eq!(run(&nexus, 0, &cdb, &data).await.status, 0);
    assert_eq!(content(&nexus).await, data);
    let short = run(&nexus, 0, &cdb, &data[..LENGTH - BLOCK]).await;
    assert_eq!(sense(&short), Some((5, 0x0E, 3)));
    let long = run(&nexus, 0, &write_atomic(0, 2049), &vec![1; 2049 * BLOCK]).await;
    assert_eq!(sense(&long), Some((5, 0x24, 0)));
    let beyond = run(&nexus, 0, &write_atomic(BYTES / 512 - 1, 2), &[1; 2 * BLOCK]).await;
    assert_eq!(
        (sense(&beyond), information(&beyond)),
        (Some((5, 0x21, 0)), Some(BYTES / 512))
    );
    let mut boundary = cdb;
    boundary[11] = 1;
    assert_eq!(sense(&run(&nexus, 0, &boundary, &data).await), Some((5, 0x24, 0)));
    assert_eq!(run(&nexus, 0, &write_atomic(0, 0), &[]).await.status, 0);
    assert_eq!(content(&nexus).await, data);
}

#[tokio::test]
async fn power_lost_between_record_and_data_leaves_all_of_it() {
    let state = tempfile::tempdir().unwrap();
    let media = Arc::new(MemoryMedia::new(BYTES));
    let first = Started::new(&media, state.path()).await;
    let nexus = first.nexus("iqn.a").await;
    let (cdb, old) = atomic(1);
    assert_eq!(run(&nexus, 0, &cdb, &old).await.status, 0);
    first.volume.halt();
    let (cdb, new) = atomic(2);
    let command = tokio::spawn(finish(start(&nexus, 0, &cdb, &new)));
    first.volume.reached.notified().await;
    let mut medium = vec![0; LENGTH];
    media.read_at(LBA * 512, &mut medium).unwrap();
    assert!(medium[..LENGTH / 2] == new[..LENGTH / 2] && medium[LENGTH / 2..] == old[LENGTH / 2..]);
    command.abort();
    assert!(command.await.unwrap_err().is_cancelled());
    drop((nexus, first));

    let second = Started::new(&media, state.path()).await;
    let nexus = second.nexus("iqn.a").await;
    assert_eq!(content(&nexus).await, new, "the record is as good as the data");
    // The record is void: what is written now stays through another start.
    let ordinary = cdb16(0x8A, 0, LBA, 1);
    assert_eq!(run(&nexus, 0, &ordinary, &[9; BLOCK]).await.status, 0);
    drop((nexus, second));
    let third = Started::new(&media, state.path()).await;
    let nexus = third.nexus("iqn.a").await;
    assert_eq!(content(&nexus).await[..=BLOCK], [&[9; BLOCK][..], &[2]].concat());
}

#[tokio::test]
async fn power_lost_in_the_record_leaves_nothing_of_it() {
    let state = tempfile::tempdir().unwrap();
    let media = Arc::new(MemoryMedia::new(BYTES));
    let (_, old) = atomic(1);
    media.write_at(LBA * 512, &old, true).unwrap();
    let path = state.path().join("units/1.redo");
    UnitStateStore::open(state.path(), VolumeNumber(1)).unwrap();
    let redo = Redo::at(path.clone());
    let record = crate::redo::Record {
        offset: LBA * 512,
        data: Bytes::from(vec![2; LENGTH]),
    };
    redo.record(record).await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    for cut in [4095, 4096, 4096 + LENGTH / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let started = Started::new(&media, state.path()).await;
        assert_eq!(content(&started.nexus("iqn.a").await).await, old, "cut at {cut}");
    }
    std::fs::write(&path, &whole).unwrap();
    let started = Started::new(&media, state.path()).await;
    assert_eq!(content(&started.nexus("iqn.a").await).await, vec![2; LENGTH]);
}

#[tokio::test]
async fn readers_see_all_or_nothing_and_wait_for_it() {
    let state = tempfile::tempdir().unwrap();
    let media = Arc::new(MemoryMedia::new(BYTES));
    let started = Started::new(&media, state.path()).await;
    let (writer, reader) = (started.nexus("iqn.a").await, started.nexus("iqn.b").await);
    started.volume.halt();
    let (cdb, data) = atomic(3);
    let command = tokio::spawn(finish(start(&writer, 0, &cdb, &data)));
    started.volume.reached.notified().await;
    let late = started.target.attach(
        InitiatorPort {
            name: "iqn.late".into(),
            isid: [0; 6],
        },
        1,
    );
    for nexus in [&reader, &late] {
        let waiting = tokio::time::timeout(Duration::from_millis(20), content(nexus)).await;
        assert!(waiting.is_err(), "half of it is written");
    }
    started.volume.go_on.notify_one();
    assert_eq!(command.await.unwrap().status, 0);
    assert_eq!(content(&reader).await, data);
    run(&late, 0, &[0; 6], &[]).await;
    assert_eq!(content(&late).await, data);
}

#[tokio::test]
async fn one_that_was_fenced_while_it_waited_writes_nothing() {
    let rig = Rig::new();
    let (a, b) = (rig.nexus("iqn.a").await, rig.nexus("iqn.b").await);
    let (cdb, data) = atomic(4);
    let waiting = start(&a, 0, &cdb, &data);
    assert!(matches!(waiting, Execution::Later(_)));
    let register = [[0; 8], 7_u64.to_be_bytes(), [0; 8]].concat();
    let reserve = [7_u64.to_be_bytes(), [0; 8], [0; 8]].concat();
    let out = |action, kind| [0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0];
    assert_eq!(run(&b, 0, &out(0, 0), &register).await.status, 0);
    assert_eq!(run(&b, 0, &out(1, 3), &reserve).await.status, 0);
    assert_eq!(finish(waiting).await.status, Status::ReservationConflict as u8);
    assert_eq!(content(&b).await, vec![0; LENGTH]);
}

#[tokio::test]
async fn what_fails_half_way_is_put_back() {
    let state = tempfile::tempdir().unwrap();
    let media = Arc::new(MemoryMedia::new(BYTES));
    let started = Started::new(&media, state.path()).await;
    let nexus = started.nexus("iqn.a").await;
    let (cdb, old) = atomic(5);
    assert_eq!(run(&nexus, 0, &cdb, &old).await.status, 0);
    started.volume.halt();
    started.volume.fails.store(true, Ordering::SeqCst);
    let (cdb, new) = atomic(6);
    let command = tokio::spawn(finish(start(&nexus, 0, &cdb, &new)));
    started.volume.reached.notified().await;
    started.volume.go_on.notify_one();
    assert_eq!(sense(&command.await.unwrap()), Some((7, 0x27, 7)));
    assert_eq!(content(&nexus).await, old);
    drop((nexus, started));
    let started = Started::new(&media, state.path()).await;
    assert_eq!(content(&started.nexus("iqn.a").await).await, old);
}
