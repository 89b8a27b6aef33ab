//! SANITIZE, from the command to the medium and through a stop of the daemon.

use super::*;

const OVERWRITE: u8 = 0x01;
const ERASE: u8 = 0x02;
const EXIT: u8 = 0x1F;
const IMMED: u8 = 0x80;
const AUSE: u8 = 0x20;

async fn sanitize(nexus: &Arc<Nexus>, flags: u8, list: &[u8]) -> ScsiResponse {
    let cdb = [0x48, flags, 0, 0, 0, 0, 0, 0, list.len() as u8, 0];
    run(nexus, 0, &cdb, list).await
}

#[tokio::test]
async fn overwriting_reaches_every_block_and_erasing_leaves_holes() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    let last = (BYTES / 512 - 1) as u32;
    // Two passes with INVERT: what stays is the complement.
    assert_eq!(
        sanitize(&nexus, OVERWRITE, &[0x82, 0, 0, 2, 0x0F, 0xF0])
            .await
            .status,
        0
    );
    for lba in [0, 1000, last] {
        assert_eq!(
            run(&nexus, 0, &read(lba, 1), &[]).await.data_in[..],
            [0xF0, 0x0F].repeat(256)
        );
    }
    assert_eq!(sanitize(&nexus, ERASE, &[]).await.status, 0);
    let status = run(
        &nexus,
        0,
        &[0x9E, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0],
        &[],
    )
    .await
    .data_in;
    assert_eq!(status.len(), 24, "one hole");
    assert_eq!(status[20], 1);
}

#[tokio::test]
async fn meanwhile_the_unit_tells_how_far_it_is() {
    let rig = Rig::new();
    let (a, b) = (rig.nexus("iqn.a").await, rig.nexus("iqn.b").await);
    rig.faults[0].hold_writes(true);
    assert_eq!(sanitize(&a, OVERWRITE | IMMED, &[31, 0, 0, 1, 9]).await.status, 0);
    for nexus in [&a, &b] {
        assert_eq!(
            sense(&run(nexus, 0, &read(0, 1), &[]).await),
            Some((2, 0x04, 0x1B))
        );
        assert_eq!(run(nexus, 0, &[0x12, 0, 0, 0, 96, 0], &[]).await.status, 0);
    }
    assert!(rig.units[0].is_reserved());
    a.logical_unit_reset([0; 8]).unwrap();
    rig.faults[0].hold_writes(false);
    let mut progress = 0;
    loop {
        let told = run(&b, 0, &[0x03, 0, 0, 0, 252, 0], &[]).await.data_in;
        let told = Sense::decode(&told).unwrap();
        if told.key == SenseKey::NoSense {
            break;
        }
        if let Some(now) = told.progress {
            assert!(now >= progress, "{now} after {progress}");
            progress = now;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(
        run(&b, 0, &read(7, 1), &[]).await.data_in[..],
        [9; BLOCK],
        "a reset does not stop it"
    );
}

#[tokio::test]
async fn a_failure_stays_until_it_is_left_or_made_good() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    rig.faults[0].fail_writes(1 << 20..(1 << 20) + 1);
    let list = [1, 0, 0, 1, 9];
    assert_eq!(
        sense(&sanitize(&nexus, OVERWRITE, &list).await),
        Some((3, 0x0C, 0))
    );
    assert_eq!(
        sense(&run(&nexus, 0, &read(0, 1), &[]).await),
        Some((3, 0x31, 0x03))
    );
    assert_eq!(
        sense(&sanitize(&nexus, EXIT, &[]).await),
        Some((5, 0x24, 0)),
        "restricted"
    );
    sanitize(&nexus, OVERWRITE | AUSE, &list).await;
    assert_eq!(sanitize(&nexus, EXIT, &[]).await.status, 0);
    assert_eq!(run(&nexus, 0, &read(0, 1), &[]).await.status, 0);
    assert_eq!(sense(&sanitize(&nexus, EXIT, &[]).await), Some((5, 0x24, 0)));
}

#[tokio::test]
async fn a_daemon_that_stopped_in_the_middle_starts_with_the_unit_failed() {
    let directory = tempfile::tempdir().unwrap();
    let attach = |volume: Arc<PlainVolume>| {
        let store = UnitStateStore::open(directory.path(), VolumeNumber(1)).unwrap();
        let unit = LogicalUnit::new(volume, None, store).unwrap();
        let target = Target::new("iqn.t", rules(&[unit], false));
        let port = InitiatorPort {
            name: "iqn.a".into(),
            isid: [0; 6],
        };
        target.attach(port, 1)
    };
    let (hung, faults) = volume(1);
    faults.hold_writes(true);
    let nexus = attach(hung);
    run(&nexus, 0, &[0; 6], &[]).await;
    assert_eq!(
        sanitize(&nexus, OVERWRITE | IMMED | AUSE, &[1, 0, 0, 1, 9])
            .await
            .status,
        0
    );
    // Answered, so it is stored that it has begun; nothing has been written yet.
    let nexus = attach(volume(1).0);
    run(&nexus, 0, &[0; 6], &[]).await;
    assert_eq!(
        sense(&run(&nexus, 0, &read(0, 1), &[]).await),
        Some((3, 0x31, 0x03))
    );
    assert_eq!(sanitize(&nexus, ERASE, &[]).await.status, 0);
    let nexus = attach(volume(1).0);
    run(&nexus, 0, &[0; 6], &[]).await;
    assert_eq!(run(&nexus, 0, &read(0, 1), &[]).await.status, 0);
}

/// Two daemons, one after the other: what the first one has in the background ends with its runtime.
#[test]
fn a_format_makes_zeros_and_one_cut_short_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (media, faults) = MemoryMedia::with_faults(BYTES);
    let media: Arc<dyn crate::media::Media> = Arc::new(media);
    let attach = || {
        let volume = PlainVolume::on_media(config(1), media.clone(), &IdentityStore::ephemeral()).unwrap();
        let store = UnitStateStore::open(directory.path(), VolumeNumber(1)).unwrap();
        let unit = LogicalUnit::new(volume, None, store).unwrap();
        let target = Target::new("iqn.t", rules(&[unit], false));
        let port = InitiatorPort {
            name: "iqn.a".into(),
            isid: [0; 6],
        };
        target.attach(port, 1)
    };
    let daemon = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    daemon().block_on(async {
        let nexus = attach();
        run(&nexus, 0, &[0; 6], &[]).await;
        assert_eq!(run(&nexus, 0, &write(5, 1), &[8; BLOCK]).await.status, 0);
        faults.hold_writes(true);
        let immediate = ([0x04, 0x10, 0, 0, 0, 0], [0, 0x02, 0, 0]);
        assert_eq!(run(&nexus, 0, &immediate.0, &immediate.1).await.status, 0);
        assert_eq!(
            sense(&run(&nexus, 0, &read(5, 1), &[]).await),
            Some((2, 0x04, 0x04))
        );
    });
    faults.hold_writes(false);
    // Stored before it was answered, and not done.
    daemon().block_on(async {
        let nexus = attach();
        run(&nexus, 0, &[0; 6], &[]).await;
        assert_eq!(sense(&run(&nexus, 0, &read(5, 1), &[]).await), Some((3, 0x31, 0)));
        assert_eq!(sense(&sanitize(&nexus, EXIT, &[]).await), Some((3, 0x31, 0)));
        assert_eq!(run(&nexus, 0, &[0x04, 0, 0, 0, 0, 0], &[]).await.status, 0);
        assert_eq!(run(&nexus, 0, &read(5, 1), &[]).await.data_in[..], [0; BLOCK]);
    });
}
