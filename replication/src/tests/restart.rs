//! Kills and what is found afterwards.

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
};

use target_core::plain::open_volume;

use super::*;
use crate::array_error::ArrayError;

/// S26, O1.
#[tokio::test]
async fn states_bitmaps_and_images_survive_a_kill() {
    let mut rig = Rig::duplex(3).await;
    rig.split((1, 2)).await;
    rig.await_state((1, 2), PairState::Split).await;
    let image = rig.media(2).await;
    rig.write(1, 0, pattern(7, 65536)).await.unwrap();
    rig.establish((1, 3)).await;
    rig.await_state((1, 3), PairState::Duplex).await;
    rig.restart().await;
    assert_eq!(rig.pair((1, 2)).await.state, PairState::Split.code());
    assert!(
        rig.pair((1, 2)).await.mirror_invalid >= 8,
        "what differs is marked"
    );
    assert!(rig.volume(2).ready() && !rig.volume(3).ready());
    assert_eq!(rig.read(2, 0, 65536).await.unwrap(), image[..65536]);
    rig.write(1, 1 << 20, pattern(8, 4096)).await.unwrap();
    rig.await_state((1, 3), PairState::Duplex).await;
    assert_eq!(rig.media(1).await, rig.media(3).await);
    rig.out(OutVerb::Restore, Flags::default(), &[(1, 2)])
        .await
        .unwrap();
    rig.await_state((1, 2), PairState::Restored).await;
    assert_eq!(rig.media(1).await, image);
}

#[tokio::test]
async fn a_copy_goes_on_after_a_kill() {
    let mut rig = Rig::new(2);
    for version in 0..4 {
        rig.write(1, u64::from(version) << 20, pattern(version, 1 << 20))
            .await
            .unwrap();
    }
    rig.establish((1, 2)).await;
    for _ in 0..3 {
        rig.restart().await;
        rig.write(1, 4096, pattern(9, 512)).await.unwrap();
    }
    rig.await_state((1, 2), PairState::Duplex).await;
    assert_eq!(rig.media(1).await, rig.media(2).await);
}

/// O4: the mirror loses the newest write, as if power had failed before it left the cache: the journal must know where.
#[tokio::test]
async fn a_write_that_reached_one_leg_only_is_made_good() {
    let mut rig = Rig::duplex(2).await;
    rig.write(1, 8192, pattern(5, 512)).await.unwrap();
    rig.array.abandon().await;
    let lost = Bytes::from(pattern(0, 512));
    rig.plain[1].disk().write(8192, lost, false).await.unwrap();
    rig.restart().await;
    rig.await_state((1, 2), PairState::Duplex).await;
    assert_eq!(rig.media(1).await, rig.media(2).await);
    assert_eq!(rig.read(1, 8192, 512).await.unwrap(), pattern(5, 512));
}

/// S26, O5.
#[tokio::test]
async fn a_protected_restore_goes_on_after_a_kill() {
    let mut rig = Rig::duplex(2).await;
    rig.split((1, 2)).await;
    rig.await_state((1, 2), PairState::Split).await;
    let image = rig.media(2).await;
    rig.write(1, 0, pattern(9, 1 << 20)).await.unwrap();
    let protected = Flags {
        protected: true,
        ..Flags::default()
    };
    rig.out(OutVerb::Restore, protected, &[(1, 2)]).await.unwrap();
    rig.write(1, 512, pattern(3, 512)).await.unwrap();
    rig.restart().await;
    assert_eq!(rig.read(1, 8192, 65536).await.unwrap(), image[8192..][..65536]);
    rig.await_state((1, 2), PairState::Split).await;
    let mut expected = image.clone();
    expected[512..1024].copy_from_slice(&pattern(3, 512));
    assert_eq!(rig.media(1).await, expected);
    assert_eq!(rig.media(2).await, image);
}

#[tokio::test]
async fn an_orderly_shutdown_leaves_nothing_to_copy() {
    let mut rig = Rig::duplex(2).await;
    rig.write(1, 8192, pattern(5, 512)).await.unwrap();
    rig.array.shutdown().await;
    rig.array = open(rig.state.path(), &rig.plain);
    assert_eq!(rig.pair((1, 2)).await.state, PairState::Duplex.code());
    assert_eq!(rig.media(1).await, rig.media(2).await);
}

/// A mirror that a restore was reading from comes up empty: not one of its zeros may reach the primary.
#[tokio::test]
async fn a_volume_without_its_content_leaves_its_pairs_before_a_copy_begins() {
    for lost in [1, 2] {
        let mut rig = Rig::duplex(3).await;
        rig.split((1, 2)).await;
        rig.await_state((1, 2), PairState::Split).await;
        rig.establish((1, 3)).await;
        rig.await_state((1, 3), PairState::Duplex).await;
        rig.split((1, 3)).await;
        rig.await_state((1, 3), PairState::Split).await;
        rig.write(1, 0, pattern(9, 1 << 20)).await.unwrap();
        // The restore cannot get on, so that the kill finds it half way.
        rig.faults[1].be_slow(true);
        rig.out(OutVerb::Restore, Flags::default(), &[(1, 2)])
            .await
            .unwrap();
        rig.array.abandon().await;
        rig.faults[1].be_slow(false);
        let before = [rig.media(1).await, rig.media(3).await];
        let identities = IdentityStore::ephemeral();
        rig.plain[lost - 1] = memory(lost as u32, SIZE, &identities).0;
        rig.array = Array::open_with(
            rig.state.path(),
            SystemId::new("HF-A").unwrap(),
            TRACK,
            Tuning::default(),
            rig.plain.clone(),
            &[VolumeNumber(lost as u32)].into(),
        )
        .unwrap();
        let left: Vec<_> = rig.array.pairs().iter().map(|pair| pair.mirror.0).collect();
        assert_eq!(left, if lost == 1 { vec![] } else { vec![3] });
        let events = rig.array.events().since(0);
        let told = |text: &str| {
            events
                .iter()
                .any(|record| record.event.to_string().contains(text))
        };
        assert!(told("pair 1 -> 2 was"), "{events:?}");
        if lost == 2 {
            assert!(told("volume 1 is inconsistent"), "{events:?}");
            assert_eq!(rig.media(1).await, before[0]);
        }
        assert_eq!(rig.media(3).await, before[1]);
        // What was dissolved stays so.
        rig.restart().await;
        assert_eq!(rig.array.pairs().len(), left.len());
        // And the volumes are as good as any: the lost one is made anew from another.
        rig.out(
            OutVerb::Establish { remote: None },
            Flags {
                full: true,
                ..Flags::default()
            },
            &[(1, 2)],
        )
        .await
        .unwrap();
        rig.await_state((1, 2), PairState::Duplex).await;
        assert_eq!(rig.media(1).await, rig.media(2).await);
    }
}

/// S3: nor is one volume there twice under one number.
#[tokio::test]
async fn damage_and_strangers_are_refused() {
    let rig = Rig::duplex(2).await;
    rig.array.abandon().await;
    let reopen = |system: &str, track: u32, volumes: &[Arc<PlainVolume>]| {
        Array::open(
            rig.state.path(),
            SystemId::new(system).unwrap(),
            track,
            volumes.to_vec(),
        )
    };
    assert!(matches!(
        reopen("HF-B", TRACK, &rig.plain),
        Err(ArrayError::OtherSystem { .. })
    ));
    assert!(matches!(
        reopen("HF-A", 65536, &rig.plain),
        Err(ArrayError::TrackSize { found: TRACK, .. })
    ));
    let missing = reopen("HF-A", TRACK, &rig.plain[..1]);
    assert!(matches!(
        missing,
        Err(ArrayError::PairedVolumeMissing {
            number: VolumeNumber(2),
            ..
        })
    ));
    let (smaller, _) = memory(2, SIZE / 2, &IdentityStore::ephemeral());
    let resized = reopen("HF-A", TRACK, &[rig.plain[0].clone(), smaller]);
    assert!(matches!(
        resized,
        Err(ArrayError::PairedVolumeResized {
            number: VolumeNumber(2),
            ..
        })
    ));
    assert!(matches!(
        reopen("HF-A", TRACK, &[rig.plain[0].clone(), rig.plain[0].clone()]),
        Err(ArrayError::VolumeExists { .. })
    ));

    let directory = rig.state.path().join("journal");
    let path = fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xff; 8], 64 + 40).unwrap();
    let damaged = reopen("HF-A", TRACK, &rig.plain).unwrap_err().to_string();
    assert!(
        damaged.contains(path.to_str().unwrap()) && damaged.contains("offset"),
        "{damaged}"
    );
}

/// Real files: a process that dies leaves the locks to the next one, and everything else as it was.
#[tokio::test]
async fn files_survive_a_kill() {
    let state = TempDir::new().unwrap();
    let open_files = || {
        let identities = IdentityStore::ephemeral();
        let file = |number: u32| {
            let config = VolumeConfig {
                name: format!("file{number}"),
                size: Some(SIZE),
                backing: Backing::File(state.path().join(format!("{number}.img"))),
                ..in_memory(number, number > 1)
            };
            open_volume(config, &identities).unwrap()
        };
        (1..=2).map(file).collect::<Vec<_>>()
    };
    let mut plain = open_files();
    let mut array = open(state.path(), &plain);
    let out = |verb, array: &Arc<Array>| array.execute(order(verb, Flags::default(), &[(1, 2)]));
    let one = PairSelector::One(VolumeNumber(1), VolumeNumber(2));
    let primary = array.volume(VolumeNumber(1)).unwrap();
    primary
        .write(1 << 20, Bytes::from(pattern(1, 1 << 20)), true)
        .await
        .unwrap();
    out(OutVerb::Establish { remote: None }, &array).await.unwrap();
    for version in 2..5 {
        array.abandon().await;
        drop((array, plain));
        plain = open_files();
        array = open(state.path(), &plain);
        let primary = array.volume(VolumeNumber(1)).unwrap();
        primary
            .write(
                u64::from(version) * 8192,
                Bytes::from(pattern(version, 4096)),
                true,
            )
            .await
            .unwrap();
        let state = Some(PairState::Duplex.code());
        assert!(
            !array.wait_until(one, state, SOON).await.unwrap().1,
            "{:?}",
            array.pairs()
        );
    }
    out(OutVerb::Split, &array).await.unwrap();
    assert!(
        !array
            .wait_until(one, Some(PairState::Split.code()), SOON)
            .await
            .unwrap()
            .1
    );
    array.shutdown().await;
    let [primary, mirror] =
        [1, 2].map(|number| fs::read(state.path().join(format!("{number}.img"))).unwrap());
    assert_eq!(primary, mirror);
    assert_eq!(primary[4 * 8192..][..4096], pattern(4, 4096));
    let allocated = |number: u32| {
        fs::metadata(state.path().join(format!("{number}.img")))
            .unwrap()
            .blocks()
            * 512
    };
    assert!(allocated(2) < SIZE / 2, "the mirror has the holes of the primary");
}

/// Writers that are cut off by a kill: what was answered is there, and the two legs become equal.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_answered_is_lost_in_kills_under_load() {
    let mut rig = Rig::duplex(2).await;
    rig.write(1, 0, vec![0; 1 << 20]).await.unwrap();
    let mut answered = vec![0_u64; 8];
    for _ in 0..6 {
        let writers = answered.iter().enumerate().map(|(writer, last)| {
            let (volume, mut stamp) = (rig.volume(1), *last);
            tokio::spawn(async move {
                loop {
                    let block = Bytes::from((stamp + 1).to_le_bytes().repeat(64));
                    if volume
                        .clone()
                        .write(writer as u64 * 100_352, block, stamp % 16 == 0)
                        .await
                        .is_err()
                    {
                        return stamp;
                    }
                    stamp += 1;
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        tokio::time::sleep(Duration::from_millis(60)).await;
        rig.restart().await;
        for (writer, last) in writers.into_iter().zip(&mut answered) {
            *last = writer.await.unwrap();
        }
        rig.await_state((1, 2), PairState::Duplex).await;
        let primary = rig.media(1).await;
        assert!(primary == rig.media(2).await, "the legs differ");
        for (writer, last) in answered.iter_mut().enumerate() {
            let block = &primary[writer * 100_352..][..512];
            let found = u64::from_le_bytes(block[..8].try_into().unwrap());
            assert!(block.chunks(8).all(|stamp| stamp == &block[..8]), "half a write");
            assert!(
                (*last..=*last + 1).contains(&found),
                "writer {writer}: {found} was found, {last} answered"
            );
            *last = found;
        }
    }
    assert!(
        answered.iter().all(|last| *last > 0),
        "every writer wrote: {answered:?}"
    );
}
