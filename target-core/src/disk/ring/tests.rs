//! Disks with a ring and without one: they do the same.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    disk::Disk,
    media::{DirectMedia, FileMedia, QuotaMedia},
    volume::IoError,
};

const LENGTH: u64 = 4 << 20;

/// Every store that has anything to wait for, with and without a ring.
fn disks(directory: &std::path::Path) -> Vec<(String, Arc<Disk>)> {
    let mut disks = Vec::new();
    for ring in [true, false] {
        let path = |store: &str| directory.join(format!("{store}-{ring}"));
        let file = FileMedia::open(&path("file"), Some(LENGTH)).unwrap();
        let mut stores: Vec<(&str, Arc<dyn Media>)> = vec![("file", Arc::new(file))];
        for store in ["direct", "quota"] {
            match DirectMedia::open(&path(store), Some(LENGTH), 4096) {
                Ok(media) if store == "direct" => stores.push((store, Arc::new(media))),
                Ok(media) => stores.push((store, QuotaMedia::new(Arc::new(media), 2 * LENGTH).unwrap())),
                Err(error) => eprintln!("NOT RUN with O_DIRECT: {error}"),
            }
        }
        for (store, media) in stores {
            let way = if ring { Ring::new() } else { Ring::refused() };
            disks.push((format!("{store}, ring {ring}"), Disk::on("test", media, way)));
        }
    }
    disks
}

fn expected(round: u64, offset: u64, length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|at| ((offset + at) / 512 * 7 + round) as u8)
        .collect()
}

#[tokio::test]
async fn a_disk_with_a_ring_and_one_without_hold_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    for (name, disk) in disks(directory.path()) {
        let mut model = vec![0; LENGTH as usize];
        for round in 1..=4 {
            let mut under_way = Vec::new();
            // Side by side and of all lengths; from memory that is aligned, and that lies behind a header; some stable.
            for (index, slot) in (0..LENGTH).step_by(64 << 10).enumerate() {
                let length = [512, 4096, 20_480, 65_536][(index + round as usize) % 4];
                let data = expected(round, slot, length);
                model[slot as usize..slot as usize + length].copy_from_slice(&data);
                let skew = [0, 48][index % 2];
                let mut memory = Buffer::zeroed(skew + length);
                memory[skew..].copy_from_slice(&data);
                under_way.push(disk.write(slot, memory.freeze().slice(skew..), index % 16 == 0));
            }
            for write in under_way {
                assert_eq!(write.await, Ok(()), "{name}");
            }
            disk.flush().await.unwrap();
            let reads: Vec<_> = (0..LENGTH)
                .step_by(32 << 10)
                .map(|at| (at, disk.read(at, Buffer::new(32 << 10))))
                .collect();
            for (at, read) in reads {
                let found = read.await.unwrap();
                assert!(
                    found[..] == model[at as usize..at as usize + found.len()],
                    "{name}, round {round}, at {at}"
                );
            }
            let odd = disk.read(512, Buffer::new(1024)).await.unwrap();
            assert!(odd[..] == model[512..1536], "{name}");
        }
        let made = name.ends_with("true") && Kernel::new().is_ok();
        assert_eq!(disk.ring.is_made(), made, "{name}");
    }
}

#[tokio::test]
async fn what_fails_says_the_same_with_a_ring_and_without() {
    let directory = tempfile::tempdir().unwrap();
    for (name, disk) in disks(directory.path()) {
        let beyond = disk.read(LENGTH - 4096, Buffer::new(8192)).await;
        assert!(
            matches!(beyond, Err(IoError::Read { offset: LENGTH, .. })),
            "{name}: {beyond:?}"
        );
    }
}

#[tokio::test]
async fn more_than_a_ring_holds_waits_its_turn() {
    let directory = tempfile::tempdir().unwrap();
    for (name, disk) in disks(directory.path()) {
        let block = Bytes::from(vec![9; LENGTH as usize]);
        disk.write(0, block, false).await.unwrap();
        let reads: Vec<_> = (0..1000)
            .map(|index| disk.read(index % 1024 * 4096, Buffer::new(4096)))
            .collect();
        for read in reads {
            assert!(read.await.unwrap().iter().all(|&byte| byte == 9), "{name}");
        }
    }
}

#[test]
fn the_end_of_the_runtime_is_not_the_end_of_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    for (name, disk) in disks(directory.path()) {
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
        };
        // Begun and not waited for.
        let left: Vec<_> = runtime().block_on(async {
            disk.write(0, Bytes::from(vec![3; 65536]), false).await.unwrap();
            (0..200).map(|_| disk.read(0, Buffer::new(65536))).collect()
        });
        runtime().block_on(async {
            for read in left {
                assert!(read.await.unwrap().iter().all(|&byte| byte == 3), "{name}");
            }
            let again = disk.read(4096, Buffer::new(4096)).await.unwrap();
            assert!(again.iter().all(|&byte| byte == 3), "{name}");
        });
    }
}

#[tokio::test]
async fn a_disk_that_is_let_go_is_closed_when_its_last_io_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    for (name, disk) in disks(directory.path()) {
        drop(
            (0..100)
                .map(|_| disk.read(0, Buffer::new(65536)))
                .collect::<Vec<_>>(),
        );
        let media = Arc::downgrade(disk.media());
        drop(disk);
        let closed = async {
            while media.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let bound = Duration::from_secs(60);
        assert!(tokio::time::timeout(bound, closed).await.is_ok(), "{name}");
    }
}
