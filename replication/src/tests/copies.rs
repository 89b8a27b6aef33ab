//! EXTENDED COPY and WRITE USING TOKEN between volumes of the array, in pairs and not: what is not carried is right all the same.

use super::{
    hosts::{BLOCK, Host, Hosts, cdb16, slow_duplex},
    *,
};

/// Blocks.
const PART: u16 = 2048;

impl Host {
    /// EXTENDED COPY(LID1) of so many blocks from one volume to another.
    async fn extended_copy(&self, hosts: &Hosts, (from, lba): (u32, u64), (to, at): (u32, u64), blocks: u16) {
        let mut list = vec![7, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0];
        for number in [from, to] {
            list.extend([0xe4, 0, 0, 0, 1, 3, 0, 16]);
            list.extend(hosts.rig.volume(number).info().naa);
            list.extend([0, 0, 0, 0, 0, 0, 2, 0]);
        }
        list.extend([2, 0, 0, 24, 0, 0, 0, 1, 0, 0]);
        list.extend(blocks.to_be_bytes());
        list.extend(lba.to_be_bytes());
        list.extend(at.to_be_bytes());
        let mut cdb = vec![0; 16];
        cdb[0] = 0x83;
        cdb[13] = list.len() as u8;
        self.good(from as u8, &cdb, &list).await;
    }
}

/// What hosts read of a volume, in bytes, as its counters have it.
fn carried(rig: &Rig, number: u32) -> u64 {
    rig.volume(number).statistics().view().read_bytes
}

const BYTES: usize = PART as usize * BLOCK;

#[tokio::test]
async fn between_volumes_in_no_pair_nothing_is_carried() {
    let rig = Rig::new(2);
    rig.write(1, 0, pattern(1, BYTES / 2)).await.unwrap();
    rig.write(2, 0, pattern(2, SIZE as usize)).await.unwrap();
    let hosts = Hosts::on(rig);
    let host = hosts.host("iqn.a").await;
    host.extended_copy(&hosts, (1, 0), (2, 7), PART).await;
    assert_eq!(carried(&hosts.rig, 1), 0);
    let copied = host.read(2, 0, u32::from(PART) + 8).await;
    let expected = [
        &pattern(2, 7 * BLOCK)[..],
        &pattern(1, BYTES / 2),
        &vec![0; BYTES / 2],
        &pattern(2, BYTES + 8 * BLOCK)[BYTES + 7 * BLOCK..],
    ];
    assert!(copied == expected.concat());
    // Within one volume too; over itself it is read and written.
    host.extended_copy(&hosts, (1, 0), (1, u64::from(PART)), PART)
        .await;
    assert_eq!(carried(&hosts.rig, 1), 0);
    host.extended_copy(&hosts, (1, 0), (1, 1), 16).await;
    assert_eq!(carried(&hosts.rig, 1), 16 * BLOCK as u64);
    assert!(host.read(1, 1, 16).await == pattern(1, 16 * BLOCK));
}

/// A split image keeps what it has, the copy leaves its marks, and an incremental copy brings it.
#[tokio::test]
async fn into_a_split_pair_and_out_of_it() {
    let rig = Rig::duplex(3).await;
    rig.write(3, 0, pattern(3, BYTES)).await.unwrap();
    rig.split((1, 2)).await;
    rig.await_state((1, 2), PairState::Split).await;
    let (before, hosts) = (rig.media(2).await, Hosts::on(rig));
    let host = hosts.host("iqn.a").await;
    // The first write to a region is recorded, and carried; what follows it passes.
    host.good(1, &cdb16(0x93, 0, 0, u32::from(PART)), &[9; BLOCK])
        .await;
    host.extended_copy(&hosts, (3, 0), (1, 0), PART).await;
    assert_eq!(carried(&hosts.rig, 3), 0);
    assert!(hosts.rig.media(1).await[..BYTES] == pattern(3, BYTES));
    assert!(
        hosts.rig.media(2).await == before,
        "the image is that of the split"
    );
    host.extended_copy(&hosts, (2, 0), (3, 0), PART).await;
    assert_eq!(carried(&hosts.rig, 2), 0);
    assert!(hosts.rig.media(3).await[..BYTES] == before[..BYTES]);
    hosts.rig.establish((1, 2)).await;
    hosts.rig.await_state((1, 2), PairState::Duplex).await;
    assert!(
        hosts.rig.media(2).await[..BYTES] == pattern(3, BYTES),
        "the copy was marked"
    );
}

#[tokio::test]
async fn into_a_duplex_pair_both_get_it() {
    let rig = Rig::duplex(3).await;
    rig.write(3, 0, pattern(3, BYTES)).await.unwrap();
    rig.write(1, 0, pattern(2, BYTES)).await.unwrap();
    let hosts = Hosts::on(rig);
    let host = hosts.host("iqn.a").await;
    host.extended_copy(&hosts, (3, 0), (1, 0), PART).await;
    assert_eq!(carried(&hosts.rig, 3), 0);
    for volume in [1, 2] {
        assert!(
            hosts.rig.media(volume).await[..BYTES] == pattern(3, BYTES),
            "{volume}"
        );
    }
    // A mirror that cannot be written parts, and the copy is done.
    hosts.rig.faults[1].fill_up_from(0);
    host.extended_copy(&hosts, (3, 64), (1, 0), 64).await;
    hosts.rig.await_state((1, 2), PairState::Suspended).await;
    assert!(host.read(1, 0, 64).await == pattern(3, BYTES)[64 * BLOCK..128 * BLOCK]);
}

/// What a volume shows while a restore goes on is elsewhere: it is read there.
#[tokio::test]
async fn out_of_a_volume_that_is_being_restored() {
    let hosts = slow_duplex(3).await;
    let rig = &hosts.rig;
    rig.split((1, 2)).await;
    rig.await_state((1, 2), PairState::Split).await;
    rig.write(1, 0, pattern(9, SIZE as usize)).await.unwrap();
    let protected = Flags {
        protected: true,
        ..Flags::default()
    };
    rig.out(OutVerb::Restore, protected, &[(1, 2)]).await.unwrap();
    let host = hosts.host("iqn.a").await;
    host.extended_copy(&hosts, (1, 0), (3, 0), PART).await;
    assert!(rig.media(3).await[..BYTES] == pattern(1, BYTES));
}
