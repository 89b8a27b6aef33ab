//! ROD tokens and copies with four-byte list identifiers.

use std::time::Duration;

use scsi_model::{plan::ByteRange, rod_tokens::TOKEN_BYTES, sense_codes};

use super::*;
use crate::tokens::{TokenTable, Watched};

fn ranges(of: &[(u64, u32)]) -> Vec<u8> {
    let mut data = ((of.len() * 16) as u16).to_be_bytes().to_vec();
    for (lba, blocks) in of {
        data.extend(lba.to_be_bytes());
        data.extend(blocks.to_be_bytes());
        data.extend([0; 4]);
    }
    data
}

fn copy_cdb(action: u8, list_id: u8, length: usize) -> Vec<u8> {
    let mut cdb = vec![0x83, action, 0, 0, 0, 0, 0, 0, 0, list_id];
    cdb.extend((length as u32).to_be_bytes());
    cdb.extend([0, 0]);
    cdb
}

async fn populate(nexus: &Arc<Nexus>, lun: u8, list_id: u8, of: &[(u64, u32)]) -> ScsiResponse {
    let list = [&[0; 14][..], &ranges(of)].concat();
    run(nexus, lun, &copy_cdb(0x10, list_id, list.len()), &list).await
}

pub(super) async fn write_using(
    nexus: &Arc<Nexus>,
    lun: u8,
    (list_id, offset, token): (u8, u64, &[u8]),
    of: &[(u64, u32)],
) -> ScsiResponse {
    let head = [&[0; 8][..], &offset.to_be_bytes(), token, &[0; 6]].concat();
    let list = [head, ranges(of)].concat();
    run(nexus, lun, &copy_cdb(0x11, list_id, list.len()), &list).await
}

async fn receive(nexus: &Arc<Nexus>, lun: u8, list_id: u8) -> Vec<u8> {
    let cdb = [0x84, 7, 0, 0, 0, list_id, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
    run(nexus, lun, &cdb, &[]).await.data_in.to_vec()
}

/// A token of these ranges of LUN 0.
pub(super) async fn token_of(nexus: &Arc<Nexus>, of: &[(u64, u32)]) -> Vec<u8> {
    assert_eq!(populate(nexus, 0, 1, of).await.status, 0);
    let information = receive(nexus, 0, 1).await;
    assert_eq!(information.len(), 38 + TOKEN_BYTES);
    let blocks: u32 = of.iter().map(|(_, blocks)| blocks).sum();
    assert_eq!(information[5], 1);
    assert_eq!(information[20..24], blocks.to_be_bytes());
    information[38..].to_vec()
}

async fn fill(nexus: &Arc<Nexus>, lun: u8, lba: u32, fills: &[u8]) {
    for (index, value) in fills.iter().enumerate() {
        let cdb = write(lba + index as u32, 1);
        assert_eq!(run(nexus, lun, &cdb, &[*value; BLOCK]).await.status, 0);
    }
}

/// The first byte of each block.
pub(super) async fn firsts(nexus: &Arc<Nexus>, lun: u8, lba: u32, blocks: u16) -> Vec<u8> {
    let data = run(nexus, lun, &read(lba, blocks), &[]).await.data_in;
    data.chunks(BLOCK).map(|block| block[0]).collect()
}

fn shared(rig: &Rig) {
    let tokens = Arc::new(TokenTable::default());
    for unit in &rig.units {
        unit.set_tokens(tokens.clone());
    }
}

#[tokio::test]
async fn a_token_made_here_is_written_there_by_another() {
    let rig = Rig::new();
    shared(&rig);
    let (maker, user) = (rig.nexus("iqn.a").await, rig.nexus("iqn.b").await);
    fill(&maker, 0, 10, &[1, 2, 3]).await;
    fill(&maker, 0, 50, &[4]).await;
    let token = token_of(&maker, &[(50, 2), (10, 3)]).await;
    let written = write_using(&user, 5, (9, 0, &token), &[(100, 4), (200, 1)]).await;
    assert_eq!(written.status, 0);
    assert_eq!(firsts(&user, 5, 100, 4).await, [4, 0, 1, 2]);
    assert_eq!(firsts(&user, 5, 200, 1).await, [3]);
    let information = receive(&user, 5, 9).await;
    assert_eq!(
        (information.len(), information[4], information[5], information[23]),
        (36, 0x11, 1, 5)
    );
    // From the middle of it.
    let written = write_using(&user, 5, (9, 3, &token), &[(300, 2)]).await;
    assert_eq!((written.status, firsts(&user, 5, 300, 2).await), (0, vec![2, 3]));
    let beyond = write_using(&user, 5, (9, 4, &token), &[(300, 2)]).await;
    assert_eq!(sense(&beyond), Some((5, 0x26, 0)));
    assert_eq!(receive(&user, 5, 9).await[5], 2);
}

#[tokio::test]
async fn a_token_keeps_its_content_whatever_is_written() {
    let rig = Rig::new();
    shared(&rig);
    let nexus = rig.nexus("iqn.a").await;
    let writers: [(Vec<u8>, Vec<u8>); 5] = [
        (write(11, 1), vec![9; BLOCK]),
        (cdb10(0x41, 8, 10, 2), vec![0; BLOCK]),
        (cdb16(0x9C, 0, 9, 2), vec![9; 2 * BLOCK]),
        (cdb16(0x8B, 0, 10, 1), vec![9; BLOCK]),
        (cdb16(0x93, 0, 0, 0), vec![5; BLOCK]),
    ];
    for (cdb, data) in writers {
        fill(&nexus, 0, 10, &[1, 2]).await;
        fill(&nexus, 0, 20, &[3]).await;
        let token = token_of(&nexus, &[(10, 2), (20, 1)]).await;
        assert_eq!(run(&nexus, 0, &cdb, &data).await.status, 0);
        assert_eq!(write_using(&nexus, 5, (2, 0, &token), &[(0, 3)]).await.status, 0);
        assert_eq!(firsts(&nexus, 5, 0, 3).await, [1, 2, 3], "{cdb:02x?}");
    }
    // Also when it is written over its own source.
    fill(&nexus, 0, 10, &[1, 2]).await;
    let token = token_of(&nexus, &[(10, 2)]).await;
    for _ in 0..2 {
        assert_eq!(write_using(&nexus, 0, (2, 0, &token), &[(11, 2)]).await.status, 0);
        assert_eq!(firsts(&nexus, 0, 10, 3).await, [1, 1, 2]);
    }
}

/// SPC-4 6.31: each unit tells of its own, for as long as they stand for something, and nobody can use what it tells.
#[tokio::test]
async fn tokens_are_reported_but_not_given_away() {
    let rig = Rig::new();
    shared(&rig);
    let nexus = rig.nexus("iqn.a").await;
    let report = async |lun: u8, length: u8| {
        let cdb = [0x84, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, length, 0, 0];
        run(&nexus, lun, &cdb, &[]).await.data_in
    };
    assert_eq!(report(0, 0).await[..], [0, 0, 0, 4, 0, 0, 0, 0]);
    let tokens = [
        token_of(&nexus, &[(10, 2)]).await,
        token_of(&nexus, &[(20, 1)]).await,
    ];
    let told = report(0, 0).await;
    assert_eq!((told.len(), told[3]), (8 + 2 * 96, 196));
    for token in &tokens {
        assert!(told[8..].chunks(96).any(|one| *one == token[..96]));
    }
    assert_eq!(report(5, 0).await.len(), 8, "they are not of that unit");

    let mut forged = vec![0; TOKEN_BYTES];
    forged[..96].copy_from_slice(&told[8..104]);
    let used = write_using(&nexus, 5, (2, 0, &forged), &[(0, 1)]).await;
    assert_eq!(sense(&used), Some((5, 0x23, 4)));

    let erase = [0x48, 2, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(run(&nexus, 0, &erase, &[]).await.status, 0);
    assert_eq!(report(0, 0).await.len(), 8, "they are revoked");
}

#[tokio::test]
async fn what_replaces_or_wipes_the_unit_revokes_its_tokens() {
    let rig = Rig::new();
    shared(&rig);
    let nexus = rig.nexus("iqn.a").await;
    let revoked = async |token: &[u8], why: &str| {
        let used = write_using(&nexus, 5, (2, 0, token), &[(0, 2)]).await;
        assert_eq!(sense(&used), Some((5, 0x23, 6)), "{why}");
    };
    let token = token_of(&nexus, &[(10, 2)]).await;
    let erase = [0x48, 2, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(run(&nexus, 0, &erase, &[]).await.status, 0);
    revoked(&token, "sanitized").await;
    let token = token_of(&nexus, &[(10, 2)]).await;
    rig.volumes[0].clone().resize(BYTES / 2).await.unwrap();
    run(&nexus, 0, &[0; 6], &[]).await;
    revoked(&token, "the unit is another now").await;
}

/// Tokens end with the daemon: the table of the next one does not know them.
#[tokio::test]
async fn after_a_restart_a_token_is_unknown() {
    let rig = Rig::new();
    shared(&rig);
    let nexus = rig.nexus("iqn.a").await;
    let token = token_of(&nexus, &[(10, 2)]).await;
    let again = Rig::new();
    let nexus = again.nexus("iqn.a").await;
    let used = write_using(&nexus, 5, (2, 0, &token), &[(0, 2)]).await;
    assert_eq!(sense(&used), Some((5, 0x23, 4)));
}

#[tokio::test]
async fn forged_deleted_and_unknown_tokens_are_told_apart() {
    let rig = Rig::new();
    shared(&rig);
    let nexus = rig.nexus("iqn.a").await;
    fill(&nexus, 0, 10, &[1]).await;
    let token = token_of(&nexus, &[(10, 1)]).await;
    let mut forged = token.clone();
    forged[300] = 1;
    let answer = write_using(&nexus, 5, (2, 0, &forged), &[(0, 1)]).await;
    assert_eq!(sense(&answer), Some((5, 0x23, 5)));
    forged[140] ^= 1;
    let answer = write_using(&nexus, 5, (2, 0, &forged), &[(0, 1)]).await;
    assert_eq!(sense(&answer), Some((5, 0x23, 4)));
    let delete = [
        &[0, 0, 2, 0, 0, 0, 0, 0][..],
        &[0; 8],
        &token,
        &[0; 6],
        &ranges(&[(0, 1)]),
    ]
    .concat();
    assert_eq!(
        run(&nexus, 5, &copy_cdb(0x11, 3, delete.len()), &delete)
            .await
            .status,
        0
    );
    assert_eq!(firsts(&nexus, 5, 0, 1).await, [1]);
    let answer = write_using(&nexus, 5, (2, 0, &token), &[(0, 1)]).await;
    assert_eq!(sense(&answer), Some((5, 0x23, 4)));
    let mut zeros = vec![0; TOKEN_BYTES];
    zeros[..8].copy_from_slice(&[0xFF, 0xFF, 0, 1, 0, 0, 1, 0xF8]);
    assert_eq!(write_using(&nexus, 5, (2, 0, &zeros), &[(0, 1)]).await.status, 0);
    assert_eq!(firsts(&nexus, 5, 0, 1).await, [0]);
}

#[tokio::test]
async fn a_token_not_used_expires() {
    let (volume, _) = volume(1);
    let unit = LogicalUnit::new(volume.clone(), None, UnitStateStore::ephemeral()).unwrap();
    let table = Arc::new(TokenTable::default());
    let range = ByteRange {
        offset: 0,
        length: 512,
    };
    let watched = Watched::new(volume);
    let body = table
        .make(&watched, &unit.identity(), vec![range], Duration::ZERO)
        .unwrap();
    assert_eq!(table.find(&body).unwrap_err(), sense_codes::TOKEN_EXPIRED);
}

#[tokio::test]
async fn a_copy_with_a_long_list_id_is_told_of_and_can_be_aborted() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    fill(&nexus, 0, 10, &[1, 2]).await;
    let mut list = vec![1, 0, 0, 0x20];
    list.resize(48, 0);
    list[16] = 0xFF;
    list[23] = 77;
    (list[43], list[45]) = (64, 28);
    for unit in &rig.units {
        list.extend([0xE4, 0, 0, 0, 1, 3, 0, 16]);
        list.extend(unit.identity().naa);
        list.extend([0, 0, 0, 0, 0, 0, 2, 0]);
    }
    list.extend([2, 0, 0, 24, 0, 0, 0, 1, 0, 0, 0, 2]);
    list.extend(10_u64.to_be_bytes());
    list.extend(30_u64.to_be_bytes());
    let cdb = copy_cdb(1, 0, list.len());
    assert_eq!(run(&nexus, 0, &cdb, &list).await.status, 0);
    assert_eq!(firsts(&nexus, 5, 30, 2).await, [1, 2]);
    let status = [0x84, 5, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
    let told = run(&nexus, 0, &status, &[]).await.data_in;
    assert_eq!((told[4], told[5], &told[22..24]), (1, 1, &[4, 0][..]));

    // It waits for the second unit to write its first segment there; the second one is not begun any more.
    list[45] = 56;
    list.extend_from_within(list.len() - 28..);
    let cdb = copy_cdb(1, 0, list.len());
    let quiet = rig.units[1].quiesce().await;
    let Execution::Later(mut running) = start(&nexus, 0, &cdb, &list) else {
        panic!("it is done")
    };
    let waited = tokio::time::timeout(Duration::from_millis(20), &mut running).await;
    assert!(waited.is_err());
    assert_eq!(run(&nexus, 0, &status, &[]).await.data_in[5], 0x12, "in progress");
    let abort = [0x83, 0x1C, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(run(&nexus, 0, &abort, &[]).await.status, 0);
    drop(quiet);
    assert_eq!(sense(&running.await), Some((0xA, 0, 0)));
    let told = run(&nexus, 0, &status, &[]).await.data_in;
    assert_eq!((told[5], &told[22..26]), (0x60, &[4, 0, 0, 1][..]));
    assert_eq!(sense(&run(&nexus, 0, &abort, &[]).await), Some((5, 0x24, 0)));
}
