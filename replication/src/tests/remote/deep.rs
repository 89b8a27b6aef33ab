//! `verify --deep` and copies that compare first, over a link and without one.

use super::*;
use crate::control::DeepSlice;

/// Goes through a whole pair.
async fn deep(rig: &Rig, pair: (u32, u32), repair: bool) -> Result<DeepSlice, Refusal> {
    let (mut all, mut from) = (DeepSlice::default(), 0);
    loop {
        let pair = (VolumeNumber(pair.0), VolumeNumber(pair.1));
        let slice = rig.array.verify_deep(pair, from, repair).await?;
        all.tracks = slice.tracks;
        all.compared += slice.compared;
        all.marked += slice.marked;
        all.differing.extend(slice.differing);
        all.repaired |= slice.repaired;
        match slice.next {
            Some(next) => from = next,
            None => return Ok(all),
        }
    }
}

/// The disk under a volume lies, from this byte on.
async fn damage(rig: &Rig, number: u32, offset: u64) {
    let disk = Arc::clone(rig.plain[number as usize - 1].disk());
    disk.write(offset, vec![0xEE; 512].into(), false).await.unwrap();
}

const TRACKS: u64 = SIZE / TRACK as u64;

/// An established local pair: found, said, and with repair copied from the primary.
#[tokio::test(flavor = "multi_thread")]
async fn a_local_pair_that_differs_is_found_and_repaired() {
    let rig = Rig::duplex(2).await;
    let clean = deep(&rig, (1, 2), false).await.unwrap();
    assert_eq!((clean.compared, clean.marked), (TRACKS, 0));
    assert!(clean.differing.is_empty());
    damage(&rig, 2, 3 * 8192 + 512).await;
    damage(&rig, 2, 4 * 8192).await;
    damage(&rig, 2, 200 * 8192).await;
    let found = deep(&rig, (1, 2), false).await.unwrap();
    assert_eq!(found.differing, [(3, 2), (200, 1)]);
    assert!(!found.repaired);
    assert_eq!(rig.pair((1, 2)).await.state, PairState::Duplex.code());
    let events = rig.array.events().since(0);
    assert!(
        events
            .iter()
            .any(|event| event.event.to_string().contains("differ without a mark"))
    );
    let found = deep(&rig, (1, 2), true).await.unwrap();
    assert!(found.repaired);
    rig.await_state((1, 2), PairState::Duplex).await;
    assert!(rig.media(1).await == rig.media(2).await);
    assert!(deep(&rig, (1, 2), true).await.unwrap().differing.is_empty());
}

/// A pair that is apart: what only one side changed is no difference, and what differs without a mark gets one.
#[tokio::test(flavor = "multi_thread")]
async fn a_split_pair_is_marked() {
    let rig = Rig::duplex(2).await;
    rig.split((1, 2)).await;
    rig.write(1, 0, pattern(9, 8192)).await.unwrap();
    rig.write(2, 16 * 8192, pattern(9, 8192)).await.unwrap();
    damage(&rig, 2, 5 * 8192).await;
    let found = deep(&rig, (1, 2), false).await.unwrap();
    assert_eq!((found.marked, found.differing.as_slice()), (2, &[(5, 1)][..]));
    assert!(found.repaired);
    assert_eq!(deep(&rig, (1, 2), false).await.unwrap().marked, 3);
    rig.establish((1, 2)).await;
    rig.await_state((1, 2), PairState::Duplex).await;
    assert!(rig.media(1).await == rig.media(2).await);
}

/// The same over a link, in both modes, while hosts write to the track in question.
#[tokio::test(flavor = "multi_thread")]
async fn a_remote_pair_is_compared_under_load() {
    for mode in [CopyMode::Sync, CopyMode::Async] {
        let systems = Systems::remote(mode).await;
        let near = systems.near.volume(1);
        let writing = Arc::new(AtomicBool::new(true));
        let writer = tokio::spawn({
            let writing = Arc::clone(&writing);
            async move {
                let mut round = 0_u64;
                while writing.load(Ordering::Acquire) {
                    let data = Bytes::from(pattern(round as u8, 8192));
                    let volume = Arc::clone(&near);
                    volume.write(round % 32 * 8192, data, false).await.unwrap();
                    round += 1;
                    tokio::task::yield_now().await;
                }
            }
        });
        for _ in 0..4 {
            let clean = deep(&systems.near, (1, 1), false).await.unwrap();
            assert!(clean.differing.is_empty(), "{mode:?}: {clean:?}");
        }
        damage(&systems.far, 1, 300 * 8192).await;
        let found = deep(&systems.near, (1, 1), true).await.unwrap();
        assert_eq!(
            (found.differing.as_slice(), found.repaired),
            (&[(300, 1)][..], true)
        );
        writing.store(false, Ordering::Release);
        writer.await.unwrap();
        systems.near.await_state((1, 1), PairState::Duplex).await;
        systems.near.arrived(1).await;
        systems.check_equal().await;
    }
}

/// A remote pair that is apart: the far side's own changes are not differences, though only it knows them.
#[tokio::test(flavor = "multi_thread")]
async fn the_far_side_s_changes_are_no_differences() {
    let systems = Systems::remote(CopyMode::Sync).await;
    systems.near.split((1, 1)).await;
    systems.far.await_state((1, 1), PairState::Split).await;
    systems.far.write(1, 7 * 8192, pattern(9, 8192)).await.unwrap();
    assert!(
        deep(&systems.near, (1, 1), false)
            .await
            .unwrap()
            .differing
            .is_empty()
    );
    damage(&systems.far, 1, 8 * 8192).await;
    let found = deep(&systems.near, (1, 1), false).await.unwrap();
    assert_eq!(found.differing, [(8, 1)]);
    systems.again().await;
    systems.near.await_state((1, 1), PairState::Duplex).await;
    systems.check_equal().await;
}

/// Who cannot say is refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_is_refused() {
    let systems = Systems::remote(CopyMode::Sync).await;
    let refused = deep(&systems.far, (1, 1), false).await.unwrap_err();
    assert!(refused.message.contains("HF-A leads"), "{refused:?}");
    systems.link(false);
    let refused = deep(&systems.near, (1, 1), false).await.unwrap_err();
    assert!(refused.message.contains("suspended"), "{refused:?}");
    let refused = deep(&systems.near, (1, 2), false).await.unwrap_err();
    assert!(refused.message.contains("not a mirror"), "{refused:?}");
}

const CHECKSUM: Flags = Flags {
    full: true,
    instant: false,
    protected: false,
    strict_hold: false,
    remote: false,
    force: false,
    checksum: true,
};

/// S76: a pair that is made again compares digests and sends only what differs; also a full copy, also the other way.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_differs_is_sent() {
    for mode in [CopyMode::Sync, CopyMode::Async] {
        let systems = Systems::remote(mode).await;
        let near = &systems.near;
        near.out(OutVerb::Cancel, Flags::default(), &[(1, 1)])
            .await
            .unwrap();
        near.write(1, 10 * 8192, pattern(7, 8192)).await.unwrap();
        let before = systems.written.load(Ordering::Relaxed);
        let remote = Some((id("HF-B"), mode));
        let flags = Flags {
            remote: true,
            ..CHECKSUM
        };
        near.out(OutVerb::Establish { remote }, flags, &[(1, 1)])
            .await
            .unwrap();
        near.await_state((1, 1), PairState::Duplex).await;
        systems.check_equal().await;
        assert_eq!(systems.written.load(Ordering::Relaxed) - before, 8192, "{mode:?}");

        near.split((1, 1)).await;
        systems.far.await_state((1, 1), PairState::Split).await;
        systems.far.write(1, 20 * 8192, pattern(8, 8192)).await.unwrap();
        let read = systems.read.load(Ordering::Relaxed);
        near.out(OutVerb::Restore, CHECKSUM, &[(1, 1)]).await.unwrap();
        near.await_state((1, 1), PairState::Restored).await;
        systems.check_equal().await;
        let read = systems.read.load(Ordering::Relaxed) - read;
        assert_eq!(read, 8192, "{mode:?}");
    }
}

/// The same between two disks of one system.
#[tokio::test(flavor = "multi_thread")]
async fn a_local_copy_that_compares() {
    let rig = Rig::duplex(2).await;
    rig.out(OutVerb::Cancel, Flags::default(), &[(1, 2)])
        .await
        .unwrap();
    rig.write(2, 10 * 8192, pattern(7, 8192)).await.unwrap();
    let establish = OutVerb::Establish { remote: None };
    rig.out(establish, CHECKSUM, &[(1, 2)]).await.unwrap();
    rig.await_state((1, 2), PairState::Duplex).await;
    assert!(rig.media(1).await == rig.media(2).await);
    let refused = rig.out(OutVerb::Split, CHECKSUM, &[(1, 2)]).await.unwrap_err();
    assert!(refused.message.contains("full") || refused.message.contains("checksum"));
}
