//! The reports of C0h over the wire: CDB bytes in, exact bytes out, from real pairs.

use super::{
    hosts::{Host, Hosts, control, sense, slow_duplex},
    *,
};

/// Pair 1 -> 2 is SPLIT; track 0 and tracks 3 and 4 of the standard have changed, and the last of the mirror.
async fn split() -> (Hosts, Host) {
    let hosts = Hosts::on(Rig::duplex(3).await);
    let rig = &hosts.rig;
    rig.split((1, 2)).await;
    rig.await_state((1, 2), PairState::Split).await;
    rig.write(1, 0, pattern(4, 4096)).await.unwrap();
    rig.write(1, 3 * 8192 + 512, pattern(4, 8192)).await.unwrap();
    rig.write(2, SIZE - 512, pattern(4, 512)).await.unwrap();
    let host = hosts.host("iqn.a").await;
    (hosts, host)
}

fn extent(lba: u64, blocks: u64) -> Vec<u8> {
    [lba.to_be_bytes(), blocks.to_be_bytes()].concat()
}

/// S25, S56: READ PENDING MAP, cut by its allocation length and continued where it ended, of each side.
#[tokio::test]
async fn a_pending_map_is_read_in_parts() {
    let (_hosts, host) = split().await;
    let map = async |select: u8, length: u32| {
        let cdb = control(0xc0, 4, select, (1, 2), length);
        host.good(1, &cdb, &[]).await.to_vec()
    };
    let whole = map(0, 4096).await;
    let mut expected = vec![0, 0, 0, 60, 1, 0, 0, 16, 0, 0, 0, 3, 0, 0, 0, 0];
    expected.extend([extent(0, 16), extent(48, 32), extent(511 * 16, 16)].concat());
    assert_eq!(whole, expected);
    // Room for one extent, twice; then for what is left.
    let mut first = vec![0, 0, 0, 60, 1, 0, 0, 16, 0, 0, 0, 3, 0, 0, 0, 1];
    first.extend(extent(0, 16));
    assert_eq!(map(0, 32).await, first);
    let mut second = vec![0, 0, 0, 44, 1, 0, 0, 16, 0, 0, 0, 2, 0, 0, 0, 1];
    second.extend(extent(48, 32));
    assert_eq!(map(0x80, 32).await, second);
    let mut third = vec![0, 0, 0, 28, 1, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0];
    third.extend(extent(511 * 16, 16));
    assert_eq!(map(0x80, 4096).await, third);
    let end = [0, 0, 0, 12, 1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(map(0x80, 4096).await, end);
    // The sides; and a continuation belongs to its side.
    assert_eq!(map(1, 4096).await[16..], [extent(0, 16), extent(48, 32)].concat());
    assert_eq!(map(2, 4096).await[16..], extent(511 * 16, 16));
    assert_eq!(map(3, 4096).await, end);
    let other = host.run(1, &control(0xc0, 4, 0x80, (1, 2), 64), &[]).await;
    assert_eq!(sense(&other), Some((5, 0x2c, 0)));
}

/// S25: during a restore SELECT 3 shows what is not restored yet.
#[tokio::test]
async fn what_is_not_restored_is_shown() {
    let hosts = slow_duplex(2).await;
    hosts.rig.split((1, 2)).await;
    let changed = vec![9; 100 * 8192];
    hosts.rig.write(1, 300 * 8192, changed).await.unwrap();
    let host = hosts.host("iqn.a").await;
    host.good(1, &control(0xc1, 2, 0x04, (1, 2), 0), &[]).await;
    assert_eq!(host.hears(1).await, Some((6, 0x28, 0)));
    hosts.rig.write(1, 390 * 8192, vec![7; 8192]).await.unwrap();
    let map = host.good(1, &control(0xc0, 4, 3, (1, 2), 4096), &[]).await;
    // The copier takes from the front; track 390 is off the list.
    assert_eq!(map[8..16], [0, 0, 0, 2, 0, 0, 0, 0]);
    let end = |at: usize| {
        let number = |at: usize| u64::from_be_bytes(map[at..at + 8].try_into().unwrap());
        number(at) + number(at + 8)
    };
    assert_eq!((end(16), end(32)), (390 * 16, 400 * 16));
    assert_eq!(map[32..40], (391 * 16_u64).to_be_bytes());
}

/// S54, S53: every volume of every pair has its table; the one in the middle of a cascade has two.
#[tokio::test]
async fn each_volume_has_a_table_for_each_of_its_pairs() {
    let (hosts, host) = split().await;
    hosts.rig.establish((2, 3)).await;
    hosts.rig.await_state((2, 3), PairState::Duplex).await;
    let table = async |volume: u32| {
        let cdb = control(0xc0, 5, 0, (volume, 0), 4096);
        host.good(1, &cdb, &[]).await.to_vec()
    };
    let entry = |primary: u8, status: u8, other: u8, pending: u8| {
        let mut entry = vec![0, primary, status, 0, 0, 0, 0, other];
        entry.extend(b"HF-A            ");
        entry.extend([0, 0, 0, 0, 0, 0, 0, pending, 0, 0, 0x20, 0]);
        entry.resize(64, 0);
        entry
    };
    let expected = |entries: &[Vec<u8>]| {
        let count = entries.len() as u8;
        let mut data = vec![0, 0, 0, 12 + 64 * count, 1, 0, 0, 64, 0, 0, 0, count, 0, 0, 0, 0];
        data.extend(entries.concat());
        data
    };
    assert_eq!(table(1).await, expected(&[entry(1, 4, 2, 3)]));
    assert_eq!(table(2).await, expected(&[entry(0, 4, 1, 1), entry(1, 2, 3, 0)]));
    assert_eq!(table(3).await, expected(&[entry(0, 2, 2, 0)]));
}

/// PREVIEW: what a verb would copy, or its refusal; DRY-RUN and LIST; and nothing has changed.
#[tokio::test]
async fn previews_and_dry_runs_change_nothing() {
    let (hosts, host) = split().await;
    let preview = |action: u8, flags: u8| {
        let mut cdb = control(0xc0, 6, flags, (1, 2), 32);
        cdb[3] = action;
        cdb
    };
    let answer = |tracks: u16| {
        let bytes = u32::from(tracks) * TRACK;
        let mut data = vec![0, 0, 0, 28, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        data.extend(tracks.to_be_bytes());
        data.extend([0; 4]);
        data.extend(bytes.to_be_bytes());
        data.extend([0; 8]);
        data
    };
    for (action, flags, tracks) in [
        (0, 0x00, 4),
        (0, 0x01, 512),
        (1, 0x02, 0),
        (2, 0x00, 4),
        (2, 0x04, 4),
        (2, 0x05, 512),
        (4, 0x00, 0),
    ] {
        assert_eq!(
            host.good(1, &preview(action, flags), &[]).await,
            answer(tracks),
            "{action} {flags:x}"
        );
        assert_eq!(host.out(action, flags | 0x40, 1, 2).await.status, 0, "DRY-RUN");
    }
    let list = |pairs: &[(u32, u32)]| {
        let mut list = vec![0, pairs.len() as u8, 0, 0, 0, 0, 0, 0];
        for (primary, mirror) in pairs {
            list.extend([primary.to_be_bytes(), mirror.to_be_bytes()].concat());
        }
        list
    };
    let both = list(&[(1, 2), (1, 3)]);
    let dry = host.run(1, &control(0xc1, 0, 0xc0, (0, 0), 24), &both).await;
    assert_eq!(dry.status, 0, "DRY-RUN of a LIST");
    assert_eq!(hosts.rig.pair((1, 2)).await.state, PairState::Split.code());
    assert_eq!(hosts.rig.array.pairs().len(), 1);
    // A list is all or nothing: the second is no pair.
    let refused = host.run(1, &control(0xc1, 2, 0x80, (0, 0), 24), &both).await;
    assert_eq!(sense(&refused), Some((5, 0x2c, 0x84)));
    let information = target_core::scsi_model::sense::Sense::decode(&refused.sense)
        .unwrap()
        .information;
    assert_eq!(information, Some(1), "the index of the first refused descriptor");
    assert_eq!(hosts.rig.pair((1, 2)).await.state, PairState::Split.code());
    // What would be refused is answered with the refusal.
    hosts.rig.establish((1, 2)).await;
    hosts.rig.await_state((1, 2), PairState::Duplex).await;
    let refused = host.run(1, &preview(2, 0), &[]).await;
    assert_eq!(sense(&refused), Some((5, 0x2c, 0x80)));
}
