use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

fn config(size: Option<u64>, backing: Backing) -> VolumeConfig {
    VolumeConfig {
        number: VolumeNumber(1),
        name: "prod".into(),
        mirror_class: false,
        size,
        backing,
        block_size: 512,
        physical_block_size: 4096,
        removable: false,
        thin: true,
        quota: None,
    }
}

fn memory_volume() -> Arc<PlainVolume> {
    open_volume(
        config(Some(1 << 20), Backing::Memory),
        &IdentityStore::ephemeral(),
    )
    .unwrap()
}

#[test]
fn bad_geometry_is_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    let identities = IdentityStore::ephemeral();
    let open = |change: fn(&mut VolumeConfig)| {
        let mut config = config(Some(1 << 20), Backing::File(path.clone()));
        change(&mut config);
        open_volume(config, &identities)
    };
    assert!(matches!(
        open(|c| c.block_size = 520),
        Err(OpenError::BlockSize { .. })
    ));
    assert!(matches!(
        open(|c| c.physical_block_size = 1536),
        Err(OpenError::BlockSize { .. })
    ));
    assert!(matches!(
        open(|c| c.physical_block_size = 0),
        Err(OpenError::BlockSize { .. })
    ));
    assert!(matches!(
        open(|c| c.size = Some(1000)),
        Err(OpenError::Capacity { .. })
    ));
    assert!(matches!(
        open(|c| c.size = Some(0)),
        Err(OpenError::Capacity { .. })
    ));
    assert!(matches!(
        open(|c| c.size = Some(1 << 63)),
        Err(OpenError::Capacity { .. })
    ));
    assert!(!path.exists());
    assert!(open(|_| ()).is_ok());
}

#[test]
fn one_file_is_no_two_volumes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    let identities = IdentityStore::ephemeral();
    let _first = open_volume(config(Some(1 << 20), Backing::File(path.clone())), &identities).unwrap();
    let second = open_volume(config(Some(1 << 20), Backing::File(path)), &identities);
    assert!(matches!(second, Err(OpenError::InUse { .. })));
}

/// Updates increment a counter that plain writes also touch: none may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn updates_are_atomic_among_themselves_and_against_writes() {
    let volume = memory_volume();
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let volume = volume.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..100 {
                let modify: Modify = Box::new(|current| {
                    let mut next = current.to_vec();
                    let count = u32::from_be_bytes([next[0], next[1], next[2], next[3]]);
                    next[..4].copy_from_slice(&(count + 1).to_be_bytes());
                    Ok(Bytes::from(next))
                });
                volume.clone().update(0, 512, modify, false).await.unwrap();
                volume
                    .clone()
                    .write(4096, Bytes::from_static(&[1; 512]), false)
                    .await
                    .unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let mut block = [0; 512];
    assert!(matches!(volume.try_read(0, &mut block), Fast::Done(Ok(()))));
    assert_eq!(block[..4], 400_u32.to_be_bytes());
}

#[tokio::test]
async fn a_refused_update_writes_nothing() {
    let volume = memory_volume();
    let refuse: Modify = Box::new(|_| Err(IoError::Miscompare { offset: 3 }));
    assert_eq!(
        volume.clone().update(0, 512, refuse, false).await,
        Err(IoError::Miscompare { offset: 3 })
    );
    assert!(!volume.clone().extents(0, 1).await.unwrap()[0].mapped);
    assert!(volume.writes.enter().is_some(), "the gate is open again");
}

#[derive(Default)]
struct Count(AtomicU32);

impl VolumeWatcher for Count {
    fn changed(&self, change: VolumeChange) {
        assert_eq!(change, VolumeChange::Capacity);
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_resize_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    let volume = open_volume(
        config(Some(1 << 20), Backing::File(path.clone())),
        &IdentityStore::ephemeral(),
    )
    .unwrap();
    let count = Arc::new(Count::default());
    volume.watch(count.clone());
    volume.clone().resize(1 << 20).await.unwrap();
    assert_eq!(count.0.load(Ordering::Relaxed), 0, "nothing changed");
    volume.clone().resize(2 << 20).await.unwrap();
    assert_eq!(volume.info().blocks, 4096);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 << 20);
    assert!(matches!(
        volume.clone().resize(1000).await,
        Err(ResizeError::Size(_))
    ));
    volume.clone().resize(1 << 19).await.unwrap();
    assert_eq!(volume.info().blocks, 1024);
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
}

#[test]
fn extents_are_rounded_out_to_blocks() {
    let extent = |offset, length, mapped| Extent {
        offset,
        length,
        mapped,
    };
    let rounded = on_blocks(
        &[
            extent(0, 1024, false),
            extent(1024, 1024, true),
            extent(2048, 2048, false),
            extent(4096, 512, true),
        ],
        4096,
    );
    assert_eq!(rounded, [extent(0, 8192, true)]);
    let kept = on_blocks(&[extent(0, 4096, false), extent(4096, 4096, true)], 4096);
    assert_eq!(kept, [extent(0, 4096, false), extent(4096, 4096, true)]);
}
