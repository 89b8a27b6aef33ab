//! What hosts see of the states of a pair.

use std::sync::atomic::{AtomicU32, Ordering};

use target_core::volume::{Modify, VolumeChange, VolumeWatcher};

use super::*;

#[derive(Default)]
struct Told(AtomicU32);

impl VolumeWatcher for Told {
    fn changed(&self, change: VolumeChange) {
        assert_eq!(change, VolumeChange::Medium);
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_volume_in_no_pair_takes_the_fast_path() {
    let rig = Rig::new(1);
    let volume = rig.volume(1);
    assert!(!volume.in_pair());
    let data = Bytes::from(pattern(1, 4096));
    assert!(matches!(volume.try_write(4096, &data, false), Fast::Done(Ok(()))));
    assert_eq!(read_at_once(&volume, 4096, 4096), data);
    let view = volume.statistics().view();
    assert_eq!(
        (view.reads, view.read_bytes, view.writes, view.written_bytes),
        (1, 4096, 1, 4096)
    );
}

#[tokio::test]
async fn establish_copies_and_split_parts() {
    let rig = Rig::new(2);
    let told = Arc::new(Told::default());
    rig.volume(2).watch(told.clone());
    rig.write(1, 0, pattern(1, 1 << 20)).await.unwrap();
    rig.write(1, 3 << 20, pattern(2, 65536)).await.unwrap();
    rig.establish((1, 2)).await;
    assert!(rig.volume(1).in_pair() && rig.volume(2).in_pair());
    assert!(!rig.volume(2).ready());
    assert_eq!(rig.read(2, 0, 512).await, Err(IoError::NotReady));
    rig.write(1, 512, pattern(3, 1024)).await.unwrap();
    rig.await_state((1, 2), PairState::Duplex).await;
    rig.write(1, 2 << 20, pattern(4, 100 << 10)).await.unwrap();
    assert_eq!(rig.media(1).await, rig.media(2).await);
    let hole = rig.plain[1].disk().extents(1 << 20, 1).await.unwrap()[0];
    assert!(
        !hole.mapped,
        "what was never written is not allocated on the mirror"
    );
    assert_eq!(told.0.load(Ordering::SeqCst), 0);

    rig.split((1, 2)).await;
    rig.await_state((1, 2), PairState::Split).await;
    assert!(rig.volume(2).ready());
    assert!(
        told.0.load(Ordering::SeqCst) > 0,
        "hosts hear that the mirror is ready"
    );
    let image = rig.media(2).await;
    rig.write(1, 0, pattern(5, 4096)).await.unwrap();
    assert_eq!(rig.media(2).await, image);
    assert_eq!(rig.read(2, 0, 4096).await.unwrap(), image[..4096]);
    let pair = rig.pair((1, 2)).await;
    assert_eq!(
        (pair.mirror_invalid, pair.primary_invalid, pair.held),
        (1, 0, true)
    );

    rig.establish((1, 2)).await;
    rig.await_state((1, 2), PairState::Duplex).await;
    assert_eq!(rig.media(1).await, rig.media(2).await);
}

#[tokio::test]
async fn a_protected_restore_is_seen_at_once_and_leaves_the_mirror_alone() {
    let rig = Rig::duplex(2).await;
    rig.split((1, 2)).await;
    rig.await_state((1, 2), PairState::Split).await;
    let image = rig.media(2).await;
    rig.write(1, 0, pattern(9, 1 << 20)).await.unwrap();
    rig.write(1, 2 << 20, pattern(9, 1 << 20)).await.unwrap();
    let protected = Flags {
        protected: true,
        ..Flags::default()
    };
    rig.out(OutVerb::Restore, protected, &[(1, 2)]).await.unwrap();
    // Straight after the answer, whatever the copier has done: the image is there, and a small write merges into it.
    assert_eq!(
        rig.read(1, 900 << 10, 65536).await.unwrap(),
        image[900 << 10..][..65536]
    );
    rig.write(1, (2 << 20) + 512, pattern(10, 512)).await.unwrap();
    assert_eq!(rig.read(1, 2 << 20, 512).await.unwrap(), image[2 << 20..][..512]);
    // The mirror stays a volume of its own.
    rig.write(2, 512 << 10, pattern(11, 512)).await.unwrap();
    rig.await_state((1, 2), PairState::Split).await;
    let mut expected = image.clone();
    expected[(2 << 20) + 512..][..512].copy_from_slice(&pattern(10, 512));
    assert_eq!(rig.media(1).await, expected);
    let mut mirror = image;
    mirror[512 << 10..][..512].copy_from_slice(&pattern(11, 512));
    assert_eq!(rig.media(2).await, mirror);
}

/// S13, S90.
#[tokio::test]
async fn a_restore_makes_both_equal_and_tells_the_primarys_hosts() {
    let rig = Rig::duplex(2).await;
    rig.split((1, 2)).await;
    rig.await_state((1, 2), PairState::Split).await;
    rig.write(1, 0, pattern(9, 4096)).await.unwrap();
    rig.write(2, 8192, pattern(10, 4096)).await.unwrap();
    let told = Arc::new(Told::default());
    rig.volume(1).watch(told.clone());
    rig.out(OutVerb::Restore, Flags::default(), &[(1, 2)])
        .await
        .unwrap();
    rig.await_state((1, 2), PairState::Restored).await;
    assert_eq!(rig.media(1).await, rig.media(2).await);
    assert_eq!(rig.read(1, 0, 4096).await.unwrap(), pattern(1, 4096));
    assert_eq!(rig.read(1, 8192, 4096).await.unwrap(), pattern(10, 4096));
    assert!(
        told.0.load(Ordering::SeqCst) > 0,
        "what the primary holds was replaced"
    );
}

/// S93.
#[tokio::test]
async fn zeros_and_unmaps_reach_the_mirror() {
    let rig = Rig::duplex(2).await;
    rig.volume(1).zero(0, 512 << 10, true, false).await.unwrap();
    rig.volume(1).zero(512 << 10, 4096, false, true).await.unwrap();
    assert_eq!(rig.media(1).await, rig.media(2).await);
    assert!(
        rig.media(2).await[..(512 << 10) + 4096]
            .iter()
            .all(|byte| *byte == 0)
    );
    assert!(!rig.plain[1].disk().extents(0, 1).await.unwrap()[0].mapped);
    rig.volume(1).flush().await.unwrap();
}

/// S33, S93: COMPARE AND WRITE and its like, many at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_of_one_block_are_atomic() {
    let rig = Arc::new(Rig::duplex(2).await);
    rig.write(1, 0, vec![0; 512]).await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let rig = Arc::clone(&rig);
        tasks.push(tokio::spawn(async move {
            for _ in 0..50 {
                let increment: Modify = Box::new(|current| {
                    let mut next = current.to_vec();
                    let count = u32::from_le_bytes(next[..4].try_into().unwrap()) + 1;
                    next[..4].copy_from_slice(&count.to_le_bytes());
                    Ok(Bytes::from(next))
                });
                rig.volume(1).update(0, 512, increment, false).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(rig.read(1, 0, 4).await.unwrap(), 200_u32.to_le_bytes());
    assert_eq!(rig.media(1).await, rig.media(2).await);
    let refuse: Modify = Box::new(|_| Err(IoError::Miscompare { offset: 3 }));
    let refused = rig.volume(1).update(0, 512, refuse, false).await;
    assert_eq!(refused, Err(IoError::Miscompare { offset: 3 }));
}

/// S58, decision 10: with its reason.
#[tokio::test]
async fn a_mirror_that_fails_suspends_the_pair_and_the_host_goes_on() {
    let rig = Rig::duplex(2).await;
    rig.faults[1].fail_writes(0..SIZE);
    rig.write(1, 0, pattern(5, 4096)).await.unwrap();
    rig.await_state((1, 2), PairState::Suspended).await;
    assert_eq!(
        rig.pair((1, 2)).await.reason,
        target_core::scsi_model::control::Reason::MirrorIo
    );
    rig.faults[1].heal();
    rig.establish((1, 2)).await;
    rig.await_state((1, 2), PairState::Duplex).await;
    assert_eq!(rig.media(1).await, rig.media(2).await);
}

#[tokio::test]
async fn cancel_gives_the_volumes_back_to_the_fast_path() {
    let rig = Rig::duplex(3).await;
    rig.out(OutVerb::Cancel, Flags::default(), &[(1, 2)])
        .await
        .unwrap();
    tokio::time::timeout(SOON, async {
        while rig.volume(1).in_pair() || rig.volume(2).in_pair() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(read_at_once(&rig.volume(2), 0, 512), pattern(1, 512));
    rig.establish((2, 3)).await;
    rig.await_state((2, 3), PairState::Duplex).await;
    assert_eq!(rig.media(2).await, rig.media(3).await);
}
