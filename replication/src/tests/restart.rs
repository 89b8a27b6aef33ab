//! Kills and what is found afterwards.

use std::{fs, os::unix::fs::FileExt};

use super::*;
use crate::array_error::ArrayError;

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

/// The mirror loses the newest write, as if power had failed before it left the cache: the journal must know where.
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
