//! ROD tokens of paired volumes: what a restore does to the content under them.

use target_core::{target::ScsiResponse, tokens::TokenTable};

use super::{
    hosts::{BLOCK, Host, Hosts, cdb16, sense, slow},
    *,
};

const REVOKED: Option<(u8, u8, u8)> = Some((5, 0x23, 6));
/// All of a volume.
const BLOCKS: u32 = (SIZE / BLOCK as u64) as u32;

fn with_tokens(rig: Rig) -> Hosts {
    let hosts = Hosts::on(rig);
    let table = TokenTable::in_memory(16 << 20);
    hosts.units.iter().for_each(|unit| unit.set_tokens(table.clone()));
    hosts
}

fn range(blocks: u32) -> Vec<u8> {
    [&[0, 16][..], &[0; 8], &blocks.to_be_bytes(), &[0; 4]].concat()
}

fn copy_cdb(action: u8, length: usize) -> Vec<u8> {
    let mut cdb = vec![0x83, action, 0, 0, 0, 0, 0, 0, 0, 7];
    cdb.extend((length as u32).to_be_bytes());
    cdb.extend([0, 0]);
    cdb
}

impl Host {
    /// A token of the whole of a volume.
    async fn token_of(&self, lun: u8) -> Vec<u8> {
        let list = [&[0; 14][..], &range(BLOCKS)].concat();
        self.good(lun, &copy_cdb(0x10, list.len()), &list).await;
        let receive = [0x84, 7, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
        self.good(lun, &receive, &[]).await[38..].to_vec()
    }

    async fn write_using(&self, lun: u8, token: &[u8]) -> ScsiResponse {
        let list = [&[0; 16][..], token, &[0; 6], &range(BLOCKS)].concat();
        self.run(lun, &copy_cdb(0x11, list.len()), &list).await
    }
}

fn image(value: u8) -> Vec<u8> {
    vec![value; SIZE as usize]
}

/// Writes to a pair set aside what tokens stand for, on the way through the engine as on the plain one.
#[tokio::test]
async fn a_token_of_a_pair_keeps_its_content() {
    let hosts = with_tokens(Rig::duplex(3).await);
    let host = hosts.host("iqn.a").await;
    hosts.rig.write(1, 0, image(1)).await.unwrap();
    let token = host.token_of(1).await;
    host.good(1, &cdb16(0x93, 0, 0, 1000), &[9; BLOCK]).await;
    hosts.rig.split((1, 2)).await;
    host.good(1, &cdb16(0x93, 8, 4000, 1000), &[0; BLOCK]).await;
    assert_eq!(host.write_using(3, &token).await.status, 0);
    assert_eq!(hosts.rig.media(3).await, image(1));
}

/// A copy that a RESTORE races copies what its token stands for, or says that it is revoked; it never takes a byte of the
/// content that the restore brought for the token's.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_token_copied_during_a_restore_shows_no_other_content() {
    for round in 0..12_u64 {
        let rig = Rig::duplex(3).await;
        rig.write(1, 0, image(1)).await.unwrap();
        rig.split((1, 2)).await;
        rig.write(1, 0, image(2)).await.unwrap();
        let hosts = with_tokens(rig);
        let host = hosts.host("iqn.a").await;
        let token = host.token_of(1).await;
        let restore = async {
            tokio::time::sleep(Duration::from_micros(round * 300)).await;
            hosts
                .rig
                .out(OutVerb::Restore, Flags::default(), &[(1, 2)])
                .await
                .unwrap();
        };
        let (used, ()) = tokio::join!(host.write_using(3, &token), restore);
        let copied = hosts.rig.media(3).await;
        if used.status == 0 {
            assert_eq!(copied, image(2), "round {round}");
        } else {
            assert_eq!(sense(&used), REVOKED);
            assert!(copied.iter().all(|byte| [0, 2].contains(byte)), "round {round}");
        }
        assert_eq!(sense(&host.write_using(3, &token).await), REVOKED);
    }
}

/// A restore that is stopped half way leaves another content than hosts saw during it: they hear of it, and tokens made meanwhile are
/// revoked.
#[tokio::test]
async fn a_restore_stopped_half_way_replaces_the_content_again() {
    let rig = slow(3);
    rig.write(1, 0, image(1)).await.unwrap();
    rig.establish((1, 2)).await;
    let hosts = with_tokens(rig);
    let host = hosts.host("iqn.a").await;
    host.hears(2).await;
    let flags = |force, protected| Flags {
        force,
        protected,
        ..Flags::default()
    };
    let instant = Flags {
        instant: true,
        ..Flags::default()
    };
    hosts.rig.out(OutVerb::Split, instant, &[(1, 2)]).await.unwrap();
    host.hears(2).await;
    hosts.rig.write(1, 0, image(2)).await.unwrap();
    let protected = flags(false, true);
    hosts
        .rig
        .out(OutVerb::Restore, protected, &[(1, 2)])
        .await
        .unwrap();
    assert_eq!(host.hears(1).await, Some((6, 0x28, 0)));
    let token = host.token_of(1).await;
    hosts
        .rig
        .out(OutVerb::Split, flags(true, false), &[(1, 2)])
        .await
        .unwrap();
    assert_eq!(host.hears(1).await, Some((6, 0x28, 0)));
    assert_eq!(sense(&host.write_using(3, &token).await), REVOKED);
}
