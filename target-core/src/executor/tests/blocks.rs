//! Every family of block commands.

use super::*;

#[tokio::test]
async fn reads_and_writes_of_a_calm_nexus_are_done_inline() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    let data = vec![7; 4 * BLOCK];
    let Execution::Done(written) = start(&nexus, 0, &write(10, 4), &data) else {
        panic!("not inline")
    };
    assert_eq!((written.status, written.data_out_length), (0, 2048));
    let Execution::Done(done) = start(&nexus, 0, &read(9, 6), &[]) else {
        panic!("not inline")
    };
    assert_eq!(done.data_in_length, 6 * 512);
    assert_eq!(done.data_in[512..2560], data[..]);
    assert!(
        done.data_in[..512]
            .iter()
            .chain(&done.data_in[2560..])
            .all(|&byte| byte == 0)
    );
}

#[tokio::test]
async fn a_slow_disk_makes_them_wait_and_the_result_is_the_same() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    rig.faults[0].be_slow(true);
    let execution = start(&nexus, 0, &write(0, 1), &[3; BLOCK]);
    assert!(matches!(execution, Execution::Later(_)));
    assert_eq!(finish(execution).await.status, 0);
    assert_eq!(
        run(&nexus, 0, &cdb16(0x88, 0x08, 0, 1), &[]).await.data_in[..],
        [3; BLOCK]
    );
}

#[tokio::test]
async fn data_in_is_cut_at_what_the_initiator_takes() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    for slow in [false, true] {
        rig.faults[0].be_slow(slow);
        let cdb = Bytes::from([read(0, 4), vec![0; 6]].concat());
        let command = ScsiCommand {
            lun: [0; 8],
            cdb,
            attribute: TaskAttribute::Simple,
            data_out: Bytes::new(),
            data_in_limit: 700,
        };
        let response = finish(nexus.execute(command)).await;
        assert_eq!((response.data_in.len(), response.data_in_length), (700, 2048));
    }
}

#[tokio::test]
async fn failures_become_sense_data_with_the_block() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    rig.faults[0].fail_reads(5120..5121);
    let failed = run(&nexus, 0, &read(8, 4), &[]).await;
    assert_eq!(
        (sense(&failed), information(&failed)),
        (Some((3, 0x11, 0)), Some(10))
    );
    rig.faults[0].fail_writes(0..1);
    assert_eq!(
        sense(&run(&nexus, 0, &write(0, 1), &[0; BLOCK]).await),
        Some((3, 0x0c, 0))
    );
    rig.faults[0].heal();
    rig.faults[0].fill_up_from(0);
    assert_eq!(
        sense(&run(&nexus, 0, &write(0, 1), &[0; BLOCK]).await),
        Some((7, 0x27, 7))
    );
    rig.faults[0].heal();
    rig.faults[0].fail_flushes(true);
    assert_eq!(
        sense(&run(&nexus, 0, &cdb10(0x35, 0, 0, 0), &[]).await),
        Some((3, 0x0c, 0))
    );
    rig.faults[0].heal();
    assert_eq!(
        sense(&run(&nexus, 0, &cdb10(0x35, 0, 0, 0), &[]).await),
        Some((3, 0x0c, 0)),
        "for ever"
    );
}

#[tokio::test]
async fn verify_compares_and_write_and_verify_writes() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    let mut data = vec![4; 3 * BLOCK];
    assert_eq!(run(&nexus, 0, &cdb10(0x2e, 0x02, 0, 3), &data).await.status, 0);
    assert_eq!(run(&nexus, 0, &cdb10(0x2f, 0x02, 0, 3), &data).await.status, 0);
    data[1000] = 5;
    let differs = run(&nexus, 0, &cdb10(0x2f, 0x02, 0, 3), &data).await;
    assert_eq!(
        (sense(&differs), information(&differs)),
        (Some((0xe, 0x1d, 0)), Some(1000))
    );
    assert_eq!(
        run(&nexus, 0, &cdb10(0x2f, 0x06, 0, 3), &[4; BLOCK]).await.status,
        0
    );
    let differs = run(&nexus, 0, &cdb10(0x2f, 0x06, 1, 3), &[4; BLOCK]).await;
    assert_eq!(
        information(&differs),
        Some(1024),
        "the block after the data is zeros"
    );
    rig.faults[0].fail_reads(512..513);
    assert_eq!(
        sense(&run(&nexus, 0, &cdb10(0x2f, 0, 0, 8), &[]).await),
        Some((3, 0x11, 0))
    );
}

#[tokio::test]
async fn write_same_unmap_and_lba_status() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    let all = (BYTES / 512) as u32;
    assert_eq!(
        run(&nexus, 0, &cdb16(0x93, 0, 0, all), &[0xab; BLOCK])
            .await
            .status,
        0
    );
    assert_eq!(
        run(&nexus, 0, &read(u32::from(u16::MAX) % all, 1), &[])
            .await
            .data_in[..],
        [0xab; BLOCK]
    );
    assert_eq!(
        run(&nexus, 0, &cdb16(0x93, 0x08, 8, 8), &[0; BLOCK]).await.status,
        0
    );
    let mut unmap = vec![0, 22, 0, 16, 0, 0, 0, 0];
    unmap.extend(32_u64.to_be_bytes());
    unmap.extend(16_u32.to_be_bytes());
    unmap.extend([0; 4]);
    assert_eq!(
        run(&nexus, 0, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &unmap)
            .await
            .status,
        0
    );
    let mut status = cdb16(0x9e, 0x12, 0, 0);
    status[13] = 8 + 5 * 16;
    assert_eq!(
        lba_status(&nexus, &status).await,
        (
            3,
            vec![(0, 8, 0), (8, 8, 1), (16, 16, 0), (32, 16, 1), (48, all - 48, 0)]
        ),
        "as many as there was room for"
    );
    status[14] = 2;
    let mapped = vec![(0, 8, 0), (16, 16, 0), (48, all - 48, 0)];
    assert_eq!(
        lba_status(&nexus, &status).await,
        (7, mapped),
        "to the end of the unit"
    );
    let mut status = vec![0; 32];
    (status[0], status[7], status[9], status[10]) = (0x7f, 0x18, 0x12, 3);
    (status[19], status[23], status[31]) = (10, 24, 200);
    let holes = vec![(10, 6, 1), (32, 2, 1)];
    assert_eq!(
        lba_status(&nexus, &status).await,
        (5, holes),
        "as far as it scanned"
    );
    status[10] = 4;
    assert_eq!(lba_status(&nexus, &status).await, (5, vec![]), "anchored");
    assert!(
        run(&nexus, 0, &read(8, 8), &[])
            .await
            .data_in
            .iter()
            .all(|&byte| byte == 0)
    );
}

#[tokio::test]
async fn compare_and_write_and_orwrite() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    let mut caw = cdb16(0x89, 0, 4, 0);
    caw[13] = 1;
    let from_zero = [vec![0; BLOCK], vec![0x0f; BLOCK]].concat();
    assert_eq!(run(&nexus, 0, &caw, &from_zero).await.status, 0);
    let again = run(&nexus, 0, &caw, &from_zero).await;
    assert_eq!(
        (sense(&again), information(&again)),
        (Some((0xe, 0x1d, 0)), Some(0))
    );
    assert_eq!(
        run(&nexus, 0, &cdb16(0x8b, 0, 4, 1), &[0xf0; BLOCK]).await.status,
        0
    );
    assert_eq!(run(&nexus, 0, &read(4, 1), &[]).await.data_in[..], [0xff; BLOCK]);
}

/// SBC-4 4.27.3: bits are cleared and the generation changes in one, kept over a logical unit reset and forgotten by a hard one.
#[tokio::test]
async fn bits_are_cleared_with_a_new_generation() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    let orwrite = |operation: u8, expected: u8, new: u8| {
        let mut cdb = vec![0; 32];
        (cdb[0], cdb[2], cdb[3], cdb[7], cdb[9]) = (0x7F, operation, 7, 0x18, 0x0E);
        (cdb[19], cdb[23], cdb[27], cdb[31]) = (4, expected, new, 1);
        cdb
    };
    let mismatch = Some((5, 0x2C, 0x0C));
    assert_eq!(run(&nexus, 0, &orwrite(0, 0, 0), &[0xFF; BLOCK]).await.status, 0);
    assert_eq!(
        sense(&run(&nexus, 0, &orwrite(1, 9, 1), &[0; BLOCK]).await),
        mismatch
    );
    assert_eq!(run(&nexus, 0, &orwrite(1, 0, 1), &[0x3C; BLOCK]).await.status, 0);
    assert_eq!(run(&nexus, 0, &read(4, 1), &[]).await.data_in[..], [0x3C; BLOCK]);
    assert_eq!(
        sense(&run(&nexus, 0, &orwrite(0, 0, 0), &[1; BLOCK]).await),
        mismatch
    );
    assert_eq!(run(&nexus, 0, &orwrite(0, 1, 0), &[1; BLOCK]).await.status, 0);
    assert_eq!(run(&nexus, 0, &read(4, 1), &[]).await.data_in[..], [0x3D; BLOCK]);
    let short = cdb16(0x8b, 0, 4, 1);
    nexus.logical_unit_reset([0; 8]).unwrap();
    assert_eq!(sense(&run(&nexus, 0, &read(4, 1), &[]).await), Some((6, 0x29, 3)));
    assert_eq!(sense(&run(&nexus, 0, &short, &[2; BLOCK]).await), mismatch);
    nexus.target_reset();
    assert_eq!(sense(&run(&nexus, 0, &read(4, 1), &[]).await), Some((6, 0x29, 3)));
    assert_eq!(run(&nexus, 0, &short, &[2; BLOCK]).await.status, 0);
    assert_eq!(run(&nexus, 0, &read(4, 1), &[]).await.data_in[..], [0x3F; BLOCK]);
}

#[tokio::test]
async fn prefetch_and_synchronize_cache() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    assert_eq!(
        run(&nexus, 0, &cdb10(0x34, 0, 0, 16), &[]).await.status,
        Status::ConditionMet as u8
    );
    assert_eq!(run(&nexus, 0, &cdb10(0x35, 0, 0, 0), &[]).await.status, 0);
    assert_eq!(run(&nexus, 0, &cdb10(0x35, 0x02, 0, 0), &[]).await.status, 0);
}

#[tokio::test]
async fn a_resize_reaches_hosts() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    let last = (BYTES / 512) as u32;
    assert_eq!(
        sense(&run(&nexus, 0, &read(last, 1), &[]).await),
        Some((5, 0x21, 0))
    );
    rig.volumes[0].clone().resize(2 * BYTES).await.unwrap();
    assert_eq!(
        sense(&run(&nexus, 0, &read(last, 1), &[]).await),
        Some((6, 0x2a, 9))
    );
    assert_eq!(run(&nexus, 0, &read(last, 1), &[]).await.status, 0);
}

fn extended_copy(rig: &Rig, blocks: u16, from: u64, to: u64) -> Vec<u8> {
    let mut list = vec![7, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0];
    for volume in &rig.volumes {
        let mut target = vec![0xe4, 0, 0, 0, 1, 3, 0, 16];
        target.extend(volume.info().naa);
        target.extend([0, 0, 0, 0, 0, 0, 2, 0]);
        list.extend(target);
    }
    list.extend([2, 0, 0, 24, 0, 0, 0, 1, 0, 0]);
    list.extend(blocks.to_be_bytes());
    list.extend(from.to_be_bytes());
    list.extend(to.to_be_bytes());
    list
}

fn extended_copy_cdb(list: &[u8]) -> Vec<u8> {
    let mut cdb = vec![0; 16];
    cdb[0] = 0x83;
    cdb[13] = list.len() as u8;
    cdb
}

#[tokio::test]
async fn extended_copy_copies_data_and_holes() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    run(&nexus, 0, &write(16, 4), &[9; 4 * BLOCK]).await;
    run(&nexus, 5, &write(100, 64), &vec![1; 64 * BLOCK]).await;
    let list = extended_copy(&rig, 32, 8, 100);
    assert_eq!(run(&nexus, 0, &extended_copy_cdb(&list), &list).await.status, 0);
    let copied = run(&nexus, 5, &read(100, 64), &[]).await.data_in;
    assert!(copied[..8 * BLOCK].iter().all(|&byte| byte == 0));
    assert!(copied[8 * BLOCK..12 * BLOCK].iter().all(|&byte| byte == 9));
    assert!(copied[12 * BLOCK..32 * BLOCK].iter().all(|&byte| byte == 0));
    assert!(copied[32 * BLOCK..].iter().all(|&byte| byte == 1));
    let beyond = extended_copy(&rig, 32, BYTES / 512 - 1, 0);
    assert_eq!(
        sense(&run(&nexus, 0, &extended_copy_cdb(&beyond), &beyond).await)
            .unwrap()
            .0,
        0xa
    );
}

#[tokio::test]
async fn a_file_volume_serves_reads_inline_once_cached() {
    let directory = tempfile::tempdir().unwrap();
    let media = FileMedia::open(&directory.path().join("v.img"), Some(BYTES)).unwrap();
    let volume = PlainVolume::on_media(config(1), Arc::new(media), &IdentityStore::ephemeral()).unwrap();
    let unit = LogicalUnit::new(volume, None, UnitStateStore::ephemeral()).unwrap();
    let target = Target::new("iqn.t", rules(&[unit], false));
    let nexus = target.attach(
        InitiatorPort {
            name: "iqn.a".into(),
            isid: [0; 6],
        },
        1,
    );
    run(&nexus, 0, &[0; 6], &[]).await;
    assert_eq!(run(&nexus, 0, &write(0, 8), &[6; 8 * BLOCK]).await.status, 0);
    assert_eq!(
        run(&nexus, 0, &cdb10(0x2a, 0x08, 8, 8), &[6; 8 * BLOCK])
            .await
            .status,
        0,
        "FUA"
    );
    assert_eq!(run(&nexus, 0, &cdb10(0x35, 0, 0, 0), &[]).await.status, 0);
    let response = run(&nexus, 0, &read(0, 16), &[]).await;
    assert!(response.data_in.len() == 8192 && response.data_in.iter().all(|&byte| byte == 6));
}

/// Completion condition with RTP, and the descriptors.
async fn lba_status(nexus: &Arc<Nexus>, cdb: &[u8]) -> (u8, Vec<(u64, u32, u8)>) {
    let status = run(nexus, 0, cdb, &[]).await.data_in;
    let lba = |entry: &[u8]| u64::from_be_bytes(entry[..8].try_into().unwrap());
    let blocks = |entry: &[u8]| u32::from_be_bytes(entry[8..12].try_into().unwrap());
    let descriptors = status[8..].chunks(16);
    let described = descriptors.map(|entry| (lba(entry), blocks(entry), entry[12]));
    (status[7], described.collect())
}
