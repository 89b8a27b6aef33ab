//! Every SCSI command that writes, on a volume in a pair: the same as on a plain one, and to the pair each is a write.

use super::{
    hosts::{BLOCK, Host, Hosts, cdb16, sense, slow_duplex},
    *,
};
use target_core::scsi_model::control::PendingSide;

/// Blocks of a track.
const TRACK_BLOCKS: u64 = TRACK as u64 / 512;

/// One of each kind, two tracks apart from each other, in parts of tracks and over their ends; `content` is what hosts see of the volume, and
/// becomes what they must see. Returns the tracks written.
async fn one_of_each(hosts: &Hosts, host: &Host, content: &mut [u8]) -> Vec<u64> {
    let lba_of = |track: u64| track * TRACK_BLOCKS;
    let mut tracks = Vec::new();
    let mut put = |content: &mut [u8], lba: u64, data: &[u8]| {
        content[lba as usize * BLOCK..][..data.len()].copy_from_slice(data);
        let last = lba + (data.len() / BLOCK) as u64 - 1;
        tracks.extend(lba / TRACK_BLOCKS..=last / TRACK_BLOCKS);
    };

    // WRITE(16) with FUA; WRITE AND VERIFY(16).
    for (opcode, flags, lba) in [(0x8a, 0x08, lba_of(300) + 3), (0x8e, 0, lba_of(304) + 14)] {
        let data = vec![0xd1; 3 * BLOCK];
        host.good(1, &cdb16(opcode, flags, lba, 3), &data).await;
        put(content, lba, &data);
    }
    // WRITE SAME(16): data over three tracks; zeros that may unmap.
    let lba = lba_of(308) + 15;
    host.good(1, &cdb16(0x93, 0, lba, 20), &[0xd2; BLOCK]).await;
    put(content, lba, &[0xd2; 20 * BLOCK]);
    let lba = lba_of(312) + 2;
    host.good(1, &cdb16(0x93, 0x08, lba, 5), &[0; BLOCK]).await;
    put(content, lba, &[0; 5 * BLOCK]);
    // UNMAP.
    let lba = lba_of(316) + 8;
    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
    list.extend(lba.to_be_bytes());
    list.extend([0, 0, 0, 16, 0, 0, 0, 0]);
    host.good(1, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list).await;
    put(content, lba, &[0; 16 * BLOCK]);
    // COMPARE AND WRITE: compares with what hosts see, be it here or on the mirror.
    let lba = lba_of(320) + 1;
    let current = content[lba as usize * BLOCK..][..BLOCK].to_vec();
    let mut cdb = cdb16(0x89, 0, lba, 0);
    cdb[13] = 1;
    host.good(1, &cdb, &[current.clone(), vec![0xd3; BLOCK]].concat())
        .await;
    put(content, lba, &[0xd3; BLOCK]);
    let miscompare = host.run(1, &cdb, &[current, vec![0xd4; BLOCK]].concat()).await;
    assert_eq!(sense(&miscompare), Some((0xe, 0x1d, 0)));
    // ORWRITE(16).
    let lba = lba_of(324) + 15;
    let or: Vec<u8> = content[lba as usize * BLOCK..][..2 * BLOCK]
        .iter()
        .map(|byte| byte | 0x0f)
        .collect();
    host.good(1, &cdb16(0x8b, 0, lba, 2), &[0x0f; 2 * BLOCK]).await;
    put(content, lba, &or);
    // EXTENDED COPY within the volume, from tracks nobody has touched.
    let (from, to) = (lba_of(340) + 5, lba_of(328) + 12);
    let mut list = vec![7, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0];
    list.extend([0xe4, 0, 0, 0, 1, 3, 0, 16]);
    list.extend(hosts.rig.volume(1).plain().info().naa);
    list.extend([0, 0, 0, 0, 0, 0, 2, 0]);
    list.extend([2, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 9]);
    list.extend(from.to_be_bytes());
    list.extend(to.to_be_bytes());
    let mut cdb = vec![0; 16];
    (cdb[0], cdb[13]) = (0x83, list.len() as u8);
    host.good(1, &cdb, &list).await;
    let copied = content[from as usize * BLOCK..][..9 * BLOCK].to_vec();
    put(content, to, &copied);
    // SYNCHRONIZE CACHE(16).
    host.good(1, &cdb16(0x91, 0, 0, 0), &[]).await;
    tracks.sort_unstable();
    tracks.dedup();
    tracks
}

/// All of the volume, as a host reads it.
async fn seen(host: &Host, lun: u8) -> Vec<u8> {
    host.read(lun, 0, (SIZE / 512) as u32).await.to_vec()
}

/// What became ready or was replaced is told first.
async fn hear_what_changed(host: &Host) {
    for lun in [1, 2] {
        while host.hears(lun).await.is_some_and(|(key, ..)| key == 6) {}
    }
}

async fn marked(hosts: &Hosts, side: PendingSide) -> Vec<u64> {
    let request = Request::ReadPendingMap {
        pair: VolumePair {
            primary: VolumeNumber(1),
            mirror: Some(VolumeNumber(2)),
        },
        side,
    };
    let Reply::Pending(extents) = hosts.rig.array.execute(request).await.unwrap() else {
        panic!("no map")
    };
    let tracks = |extent: &target_core::scsi_model::control::PendingExtent| {
        extent.lba / TRACK_BLOCKS..(extent.lba + extent.blocks).div_ceil(TRACK_BLOCKS)
    };
    extents.iter().flat_map(tracks).collect()
}

/// S93: on an established pair both legs get it.
#[tokio::test]
async fn every_kind_of_write_reaches_both_legs() {
    let hosts = slow_duplex(2).await;
    let host = hosts.host("iqn.a").await;
    let mut content = pattern(1, SIZE as usize);
    one_of_each(&hosts, &host, &mut content).await;
    assert!(seen(&host, 1).await == content, "the standard");
    assert!(hosts.rig.media(2).await == content, "the mirror");
}

/// S12, S56, S93: on a split pair it marks the tracks it touches, those and no others, and the mirror keeps its image.
#[tokio::test]
async fn every_kind_of_write_marks_a_split_pair() {
    let hosts = slow_duplex(2).await;
    let host = hosts.host("iqn.a").await;
    hosts.rig.split((1, 2)).await;
    hear_what_changed(&host).await;
    let mut content = pattern(1, SIZE as usize);
    let tracks = one_of_each(&hosts, &host, &mut content).await;
    assert_eq!(marked(&hosts, PendingSide::Primary).await, tracks);
    assert!(marked(&hosts, PendingSide::Mirror).await.is_empty());
    assert!(seen(&host, 1).await == content, "the standard");
    assert!(
        seen(&host, 2).await == pattern(1, SIZE as usize),
        "the mirror's image"
    );
}

/// S11, S12, S93, O6: while a split still owes the mirror its tracks, the old data is pushed before any of them, and the image stays that of
/// the command.
#[tokio::test]
async fn every_kind_of_write_spares_the_image_of_a_split_that_still_copies() {
    let hosts = slow_duplex(2).await;
    let host = hosts.host("iqn.a").await;
    let full = Flags {
        full: true,
        ..Flags::default()
    };
    let instant = Flags {
        instant: true,
        ..Flags::default()
    };
    let establish = OutVerb::Establish { remote: None };
    hosts.rig.out(establish, full, &[(1, 2)]).await.unwrap();
    hosts.rig.out(OutVerb::Split, instant, &[(1, 2)]).await.unwrap();
    hear_what_changed(&host).await;
    let mut content = pattern(1, SIZE as usize);
    let tracks = one_of_each(&hosts, &host, &mut content).await;
    assert_eq!(hosts.rig.pair((1, 2)).await.state, PairState::Splitting.code());
    let changed = marked(&hosts, PendingSide::Primary).await;
    assert!(tracks.iter().all(|track| changed.contains(track)));
    assert!(seen(&host, 1).await == content, "the standard");
    assert!(
        seen(&host, 2).await == pattern(1, SIZE as usize),
        "the mirror's image"
    );
}

/// S21, S24, S93, decision 3: in a protected restore, on tracks not restored yet, each lies over the image, COMPARE AND WRITE and ORWRITE look
/// at the image, an EXTENDED COPY copies it, and GET LBA STATUS shows it as data; the mirror stays as it is.
#[tokio::test]
async fn every_kind_of_write_merges_with_what_is_not_restored() {
    let hosts = slow_duplex(2).await;
    let host = hosts.host("iqn.a").await;
    hosts.rig.split((1, 2)).await;
    let zone = 290 * u64::from(TRACK)..400 * u64::from(TRACK);
    let length = zone.end - zone.start;
    // The standard has holes there now, and stale data.
    hosts
        .rig
        .write(1, zone.start, vec![0x77; length as usize])
        .await
        .unwrap();
    hosts
        .rig
        .volume(1)
        .zero(zone.start + length / 2, length / 2, true, false)
        .await
        .unwrap();
    let flags = Flags {
        protected: true,
        ..Flags::default()
    };
    hosts.rig.out(OutVerb::Restore, flags, &[(1, 2)]).await.unwrap();
    hear_what_changed(&host).await;
    let status = cdb16(0x9e, 0x12, zone.end / 512 - 16, 24);
    let mut get_lba_status = status;
    get_lba_status[10..14].copy_from_slice(&24_u32.to_be_bytes());
    let answer = host.good(1, &get_lba_status, &[]).await;
    assert_eq!(answer[8 + 12] & 0x0f, 0, "mapped: the data is on the mirror");
    let mut content = pattern(1, SIZE as usize);
    let tracks = one_of_each(&hosts, &host, &mut content).await;
    assert_eq!(
        hosts.rig.pair((1, 2)).await.state,
        PairState::ProtectedRestoring.code()
    );
    // What was written is not on the list any more (S25).
    let left = marked(&hosts, PendingSide::Remaining).await;
    assert!(tracks.iter().all(|track| !left.contains(track)));
    assert!(left.len() > 50, "{} tracks are not restored", left.len());
    assert!(seen(&host, 1).await == content, "the standard");
    assert!(seen(&host, 2).await == pattern(1, SIZE as usize), "the mirror");
}
