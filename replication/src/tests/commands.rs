//! Requests, refusals and reports.

use target_core::scsi_model::control::{
    Condition, CopyMode, PendingExtent, PendingSide, Preview, RefusalKind, VerifySummary,
};

use super::*;
use crate::control::HostUse;

fn establish() -> OutVerb {
    OutVerb::Establish { remote: None }
}

async fn refused(rig: &Rig, verb: OutVerb, flags: Flags, pairs: &[(u32, u32)]) -> Refusal {
    rig.out(verb, flags, pairs).await.expect_err("it must be refused")
}

async fn verify(rig: &Rig, pairs: PairSelector, state: Option<u8>) -> Result<VerifySummary, Refusal> {
    match rig.array.execute(Request::Verify { pairs, state }).await? {
        Reply::Verify(summary) => Ok(summary),
        other => panic!("{other:?}"),
    }
}

/// S49.
#[tokio::test]
async fn refusals_say_what_and_why() {
    let rig = Rig::duplex(3).await;
    let none = Flags::default();
    let kind = |refusal: Refusal| refusal.kind;
    assert_eq!(
        kind(refused(&rig, establish(), none, &[(1, 9)]).await),
        RefusalKind::NoSuchVolume
    );
    assert_eq!(
        kind(refused(&rig, OutVerb::Split, none, &[(1, 3)]).await),
        RefusalKind::NoSuchPair
    );
    assert_eq!(
        kind(refused(&rig, establish(), none, &[(3, 2)]).await),
        RefusalKind::OtherStandard
    );
    assert_eq!(
        kind(refused(&rig, OutVerb::Swap, none, &[(1, 2)]).await),
        RefusalKind::NoPath
    );
    assert_eq!(
        kind(refused(&rig, OutVerb::Suspend, none, &[(1, 2)]).await),
        RefusalKind::NoPath
    );
    let remote = OutVerb::Establish {
        remote: Some((SystemId::new("HF-B").unwrap(), CopyMode::Sync)),
    };
    let flags = Flags { remote: true, ..none };
    assert!(
        refused(&rig, remote, flags, &[(1, 2)])
            .await
            .message
            .contains("HF-B")
    );
    let protected = Flags {
        protected: true,
        ..none
    };
    assert_eq!(
        kind(refused(&rig, OutVerb::Cancel, protected, &[(1, 2)]).await),
        RefusalKind::InvalidField {
            byte: 2,
            bit: Some(2)
        }
    );
    let state = refused(&rig, OutVerb::Restore, none, &[(1, 2)]).await;
    assert_eq!(state.kind, RefusalKind::State);
    assert!(
        state.message.contains("duplex") && state.message.contains("split"),
        "{}",
        state.message
    );
    let listed = refused(&rig, OutVerb::Split, none, &[(1, 2), (1, 3)]).await;
    assert_eq!((listed.kind, listed.member), (RefusalKind::NoSuchPair, Some(1)));
    assert_eq!(
        rig.pair((1, 2)).await.state,
        PairState::Duplex.code(),
        "a refused list changes nothing"
    );
    let twice = refused(&rig, OutVerb::Split, none, &[(1, 2), (1, 2)]).await;
    assert_eq!(
        (twice.kind, twice.member),
        (RefusalKind::InvalidParameter { byte: 20 }, Some(1))
    );
}

#[tokio::test]
async fn the_only_pair_of_a_primary_needs_no_name() {
    let rig = Rig::duplex(3).await;
    let split = |primary| Request::Out {
        verb: OutVerb::Split,
        flags: Flags::default(),
        members: vec![VolumePair {
            primary: VolumeNumber(primary),
            mirror: None,
        }],
        dry_run: false,
    };
    let none = rig.array.execute(split(3)).await.unwrap_err();
    assert_eq!(none.kind, RefusalKind::NoSuchPair);
    rig.establish((1, 3)).await;
    let several = rig.array.execute(split(1)).await.unwrap_err();
    assert!(
        several.message.contains("vol2") && several.message.contains("vol3"),
        "{}",
        several.message
    );
    rig.out(OutVerb::Cancel, Flags::default(), &[(1, 3)])
        .await
        .unwrap();
    rig.array.execute(split(1)).await.unwrap();
    rig.await_state((1, 2), PairState::Split).await;
}

/// S38-S41, decision 5.
#[tokio::test]
async fn config_holds_and_unreadies() {
    let rig = Rig::duplex(3).await;
    rig.split((1, 2)).await;
    let config = |condition| OutVerb::Config(condition);
    rig.out(config(Condition::Hold), Flags::default(), &[(1, 2)])
        .await
        .unwrap();
    assert_eq!(
        refused(&rig, establish(), Flags::default(), &[(1, 2)]).await.kind,
        RefusalKind::Held
    );
    rig.out(config(Condition::Release), Flags::default(), &[(1, 2)])
        .await
        .unwrap();
    rig.out(config(Condition::NotReady), Flags::default(), &[(1, 2)])
        .await
        .unwrap();
    assert_eq!(rig.read(2, 0, 512).await, Err(IoError::NotReady));
    assert_eq!(
        refused(&rig, establish(), Flags::default(), &[(1, 2)]).await.kind,
        RefusalKind::NotReady
    );
    rig.out(config(Condition::Ready), Flags::default(), &[(1, 2)])
        .await
        .unwrap();
    assert!(rig.read(2, 0, 512).await.is_ok());
}

/// S43.
#[tokio::test]
async fn verify_counts_what_is_asked() {
    let rig = Rig::duplex(3).await;
    let one = PairSelector::One(VolumeNumber(1), VolumeNumber(2));
    let duplex = verify(&rig, one, Some(2)).await.unwrap();
    assert_eq!(
        (
            duplex.selected,
            duplex.in_state,
            duplex.settled,
            duplex.lowest_share
        ),
        (1, 1, 1, 10_000)
    );
    rig.split((1, 2)).await;
    rig.write(1, 0, pattern(4, 4096)).await.unwrap();
    let split = verify(&rig, PairSelector::All, Some(2)).await.unwrap();
    assert_eq!(
        (
            split.selected,
            split.in_state,
            split.settled,
            split.invalid_tracks
        ),
        (1, 0, 1, 1)
    );
    assert_eq!(split.lowest_share, 9980, "one of 512 tracks differs");
    let simplex = PairSelector::One(VolumeNumber(1), VolumeNumber(3));
    assert_eq!(verify(&rig, simplex, Some(0)).await.unwrap().in_state, 1);
    assert_eq!(
        verify(&rig, simplex, Some(2)).await.unwrap_err().kind,
        RefusalKind::NoSuchPair
    );
    assert!(verify(&rig, one, Some(77)).await.is_err());
    let waited = rig
        .array
        .wait_until(one, Some(2), Duration::from_millis(20))
        .await
        .unwrap();
    assert!(waited.1, "it must time out");
}

/// S42, S44: and what the other reports say of the same pair.
#[tokio::test]
async fn pending_table_preview_and_setup() {
    let rig = Rig::duplex(2).await;
    rig.split((1, 2)).await;
    rig.await_state((1, 2), PairState::Split).await;
    rig.write(1, 0, pattern(4, 4096)).await.unwrap();
    rig.write(1, 3 * 8192 + 512, pattern(4, 8192)).await.unwrap();
    rig.write(2, SIZE - 512, pattern(4, 512)).await.unwrap();
    let pair = VolumePair {
        primary: VolumeNumber(1),
        mirror: None,
    };
    let pending = |side| {
        rig.array.execute(Request::ReadPendingMap {
            pair: pair.clone(),
            side,
        })
    };
    let extent = |track: u64, count: u64| PendingExtent {
        lba: track * 16,
        blocks: count * 16,
    };
    let primary = pending(PendingSide::Primary).await.unwrap();
    assert_eq!(primary, Reply::Pending(vec![extent(0, 1), extent(3, 2)]));
    assert_eq!(
        pending(PendingSide::Mirror).await.unwrap(),
        Reply::Pending(vec![extent(511, 1)])
    );
    let union = vec![extent(0, 1), extent(3, 2), extent(511, 1)];
    assert_eq!(pending(PendingSide::Union).await.unwrap(), Reply::Pending(union));

    let preview = Request::Preview {
        verb: establish(),
        flags: Flags::default(),
        pair,
    };
    let expected = Preview {
        tracks: 4,
        bytes: 4 * u64::from(TRACK),
    };
    assert_eq!(
        rig.array.execute(preview).await.unwrap(),
        Reply::Preview(expected)
    );
    assert_eq!(
        rig.pair((1, 2)).await.state,
        PairState::Split.code(),
        "a preview changes nothing"
    );

    let Reply::Table(table) = rig
        .array
        .execute(Request::CopyManagementTable(VolumeNumber(2)))
        .await
        .unwrap()
    else {
        panic!("no table")
    };
    assert_eq!(
        (table.len(), table[0].primary, table[0].other, table[0].pending),
        (1, false, VolumeNumber(1), 1)
    );
    let Reply::Volumes(volumes) = rig.array.execute(Request::Setup).await.unwrap() else {
        panic!("no volumes")
    };
    assert_eq!(
        (
            volumes.len(),
            volumes[1].pairs,
            volumes[1].ready,
            volumes[1].blocks
        ),
        (2, 1, true, SIZE / 512)
    );
    let Reply::Capabilities(can) = rig.array.execute(Request::ReportCapabilities).await.unwrap() else {
        panic!()
    };
    assert_eq!(
        (can.system.as_str(), can.track_size, can.list_descriptors),
        ("HF-A", TRACK, 1024)
    );
}

struct Reserved;

impl HostUse for Reserved {
    fn in_use(&self, volume: VolumeNumber) -> Option<String> {
        (volume == VolumeNumber(2)).then(|| "initiator iqn.example:host-a holds a reservation".to_owned())
    }
}

/// Unlike a standard, a reserved mirror is not taken from its host.
#[tokio::test]
async fn a_reserved_mirror_is_not_taken_away() {
    let rig = Rig::new(3);
    rig.array.set_host_use(Arc::new(Reserved));
    let refusal = refused(&rig, establish(), Flags::default(), &[(1, 2)]).await;
    assert_eq!(refusal.kind, RefusalKind::InUse);
    assert!(refusal.message.contains("host-a"), "{}", refusal.message);
    rig.establish((1, 3)).await;
}

/// S47: also a size that changed after the volume was made.
#[tokio::test]
async fn volumes_come_and_go() {
    let rig = Rig::duplex(2).await;
    let (plain, _) = memory(7, SIZE, &IdentityStore::ephemeral());
    rig.array.add_volume(plain.clone()).await.unwrap();
    assert!(rig.array.add_volume(plain).await.is_err());
    rig.establish((1, 7)).await;
    rig.await_state((1, 7), PairState::Duplex).await;
    assert_eq!(rig.array.volume(VolumeNumber(7)).unwrap().bytes(), SIZE);
    let busy = rig.array.remove_volume(VolumeNumber(7)).await.unwrap_err();
    assert!(busy.to_string().contains("cancel 1 7"), "{busy}");
    assert!(rig.array.resize_volume(VolumeNumber(7), 2 * SIZE).await.is_err());
    rig.out(OutVerb::Cancel, Flags::default(), &[(1, 7)])
        .await
        .unwrap();
    rig.array.resize_volume(VolumeNumber(7), 2 * SIZE).await.unwrap();
    assert_eq!(
        refused(&rig, establish(), Flags::default(), &[(1, 7)]).await.kind,
        RefusalKind::Geometry
    );
    rig.array.remove_volume(VolumeNumber(7)).await.unwrap();
    assert!(rig.array.volume(VolumeNumber(7)).is_none());
    assert_eq!(
        refused(&rig, establish(), Flags::default(), &[(1, 7)]).await.kind,
        RefusalKind::NoSuchVolume
    );
}
