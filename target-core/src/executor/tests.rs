//! Every family of commands through a nexus, on memory volumes.

use std::sync::Arc;

use scsi_model::{control::VolumeNumber, sense::Sense};

use super::*;
use crate::{
    control::{ArrayControl, ControlFuture},
    identities::IdentityStore,
    media::{Faults, FileMedia, MemoryMedia},
    plain::{Backing, PlainVolume, VolumeConfig},
    target::{Access, AccessRules, InitiatorPort, LunEntry, Target, TaskAttribute},
    unit_state::UnitStateStore,
};

const BLOCK: usize = 512;
const BYTES: u64 = 4 << 20;

fn config(number: u32) -> VolumeConfig {
    VolumeConfig {
        number: VolumeNumber(number),
        name: format!("v{number}"),
        mirror_class: false,
        size: Some(BYTES),
        backing: Backing::Memory,
        block_size: 512,
        physical_block_size: 512,
        removable: false,
        thin: true,
    }
}

fn volume(number: u32) -> (Arc<PlainVolume>, Arc<Faults>) {
    let (media, faults) = MemoryMedia::with_faults(BYTES);
    let volume = PlainVolume::on_media(config(number), Arc::new(media), &IdentityStore::ephemeral()).unwrap();
    (volume, faults)
}

/// A target with volumes 1 and 2 as LUNs 0 and 5.
struct Rig {
    target: Arc<Target>,
    units: Vec<Arc<LogicalUnit>>,
    volumes: Vec<Arc<PlainVolume>>,
    faults: Vec<Arc<Faults>>,
}

impl Rig {
    fn new() -> Self {
        Self::with_control(None)
    }

    fn with_control(control: Option<Arc<dyn ArrayControl>>) -> Self {
        let (volumes, faults): (Vec<_>, Vec<_>) = [1, 2].map(volume).into_iter().unzip();
        let unit = |volume: &Arc<PlainVolume>| {
            LogicalUnit::new(volume.clone(), control.clone(), UnitStateStore::ephemeral()).unwrap()
        };
        let units: Vec<_> = volumes.iter().map(unit).collect();
        let target = Target::new("iqn.2026-11.test:t", rules(&units, false));
        Self {
            target,
            units,
            volumes,
            faults,
        }
    }

    /// A nexus that has heard of the power on of both units.
    async fn nexus(&self, name: &str) -> Arc<Nexus> {
        let nexus = self.fresh_nexus(name);
        for lun in [0, 5] {
            assert_eq!(sense(&run(&nexus, lun, &[0; 6], &[]).await), Some((6, 0x29, 0)));
        }
        nexus
    }

    fn fresh_nexus(&self, name: &str) -> Arc<Nexus> {
        self.target.attach(
            InitiatorPort {
                name: name.into(),
                isid: [1; 6],
            },
            1,
        )
    }
}

fn rules(units: &[Arc<LogicalUnit>], control: bool) -> AccessRules {
    let entry = |(unit, lun): (&Arc<LogicalUnit>, u16)| LunEntry {
        lun,
        unit: unit.clone(),
        read_only: false,
    };
    let luns = units.iter().zip([0, 5]).map(entry).collect();
    AccessRules {
        default: Some(Access { control, luns }),
        ..AccessRules::default()
    }
}

fn begin(nexus: &Arc<Nexus>, lun: u8, cdb: &[u8], data_out: &[u8]) -> Execution {
    let mut padded = cdb.to_vec();
    padded.resize(cdb.len().max(16), 0);
    nexus.execute(ScsiCommand {
        lun: [0, lun, 0, 0, 0, 0, 0, 0],
        cdb: Bytes::from(padded),
        attribute: TaskAttribute::Simple,
        data_out: Bytes::copy_from_slice(data_out),
        data_in_limit: 1 << 20,
    })
}

async fn finish(execution: Execution) -> ScsiResponse {
    match execution {
        Execution::Done(response) => response,
        Execution::Later(future) => future.await,
    }
}

async fn run(nexus: &Arc<Nexus>, lun: u8, cdb: &[u8], data_out: &[u8]) -> ScsiResponse {
    finish(begin(nexus, lun, cdb, data_out)).await
}

fn sense(response: &ScsiResponse) -> Option<(u8, u8, u8)> {
    let sense = Sense::decode(&response.sense)?;
    Some((sense.key as u8, sense.additional.code, sense.additional.qualifier))
}

fn information(response: &ScsiResponse) -> Option<u64> {
    Sense::decode(&response.sense)?.information
}

fn cdb10(opcode: u8, flags: u8, lba: u32, blocks: u16) -> Vec<u8> {
    let mut cdb = vec![opcode, flags];
    cdb.extend(lba.to_be_bytes());
    cdb.push(0);
    cdb.extend(blocks.to_be_bytes());
    cdb.push(0);
    cdb
}

fn cdb16(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Vec<u8> {
    let mut cdb = vec![opcode, flags];
    cdb.extend(lba.to_be_bytes());
    cdb.extend(blocks.to_be_bytes());
    cdb.extend([0, 0]);
    cdb
}

fn read(lba: u32, blocks: u16) -> Vec<u8> {
    cdb10(0x28, 0, lba, blocks)
}

fn write(lba: u32, blocks: u16) -> Vec<u8> {
    cdb10(0x2a, 0, lba, blocks)
}

#[tokio::test]
async fn reads_and_writes_of_a_calm_nexus_are_done_inline() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    let data = vec![7; 4 * BLOCK];
    let Execution::Done(written) = begin(&nexus, 0, &write(10, 4), &data) else {
        panic!("not inline")
    };
    assert_eq!((written.status, written.data_out_length), (0, 2048));
    let Execution::Done(done) = begin(&nexus, 0, &read(9, 6), &[]) else {
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
    let execution = begin(&nexus, 0, &write(0, 1), &[3; BLOCK]);
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
    let status = run(&nexus, 0, &status, &[]).await.data_in;
    let described: Vec<(u64, u32, u8)> = status[8..]
        .chunks(16)
        .map(|entry| {
            let lba = u64::from_be_bytes(entry[..8].try_into().unwrap());
            (
                lba,
                u32::from_be_bytes(entry[8..12].try_into().unwrap()),
                entry[12],
            )
        })
        .collect();
    assert_eq!(
        described,
        [(0, 8, 0), (8, 8, 1), (16, 16, 0), (32, 16, 1), (48, all - 48, 0)]
    );
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
    run(&nexus, 5, &write(100, 64), &[1; 64 * BLOCK]).await;
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
async fn masked_units_are_not_there_and_lun_0_always_answers() {
    let rig = Rig::new();
    let only_5 = Access {
        control: false,
        luns: vec![LunEntry {
            lun: 5,
            unit: rig.units[1].clone(),
            read_only: true,
        }],
    };
    let mut rules = rules(&rig.units, false);
    rules.by_initiator.insert("iqn.b".into(), only_5);
    rig.target.set_rules(rules);
    let nexus = rig.fresh_nexus("iqn.b");
    assert!(!nexus.lun_exists([0; 8]) && nexus.lun_exists([0, 5, 0, 0, 0, 0, 0, 0]));
    let inquiry = run(&nexus, 0, &[0x12, 0, 0, 0, 36, 0], &[]).await;
    assert_eq!((inquiry.status, inquiry.data_in[0] >> 5), (0, 0b011));
    let luns = run(&nexus, 0, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], &[])
        .await
        .data_in;
    assert_eq!(luns[..], [0, 0, 0, 8, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0]);
    assert_eq!(sense(&run(&nexus, 0, &[0; 6], &[]).await), Some((5, 0x25, 0)));
    run(&nexus, 5, &[0; 6], &[]).await;
    assert_eq!(
        sense(&run(&nexus, 5, &write(0, 1), &[0; BLOCK]).await),
        Some((7, 0x27, 0))
    );
}

#[tokio::test]
async fn a_changed_map_is_told_once_and_keeps_state() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    assert_eq!(
        run(&nexus, 0, &[0x16, 0, 0, 0, 0, 0], &[]).await.status,
        0,
        "RESERVE(6)"
    );
    rig.target.set_rules(rules(&rig.units, true));
    assert_eq!(
        run(&nexus, 0, &[0; 6], &[]).await.status,
        0,
        "the same units: nothing to tell"
    );
    rig.target.set_rules(rules(&rig.units[..1], true));
    assert_eq!(sense(&run(&nexus, 0, &[0; 6], &[]).await), Some((6, 0x3f, 0x0e)));
    assert_eq!(run(&nexus, 0, &[0; 6], &[]).await.status, 0);
    assert!(
        rig.units[0].is_reserved(),
        "the unit that stayed kept its reservation"
    );
    assert_eq!(sense(&run(&nexus, 5, &[0; 6], &[]).await), Some((5, 0x25, 0)));
    nexus.close();
    assert!(!rig.units[0].is_reserved(), "it ended with the session");
}

fn reserve_out(action: u8, kind: u8, key: u64, service_key: u64) -> (Vec<u8>, Vec<u8>) {
    let cdb = vec![0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0];
    let list = [
        key.to_be_bytes().to_vec(),
        service_key.to_be_bytes().to_vec(),
        vec![0; 8],
    ]
    .concat();
    (cdb, list)
}

async fn reserve(nexus: &Arc<Nexus>, action: u8, kind: u8, key: u64, service_key: u64) -> u8 {
    let (cdb, list) = reserve_out(action, kind, key, service_key);
    run(nexus, 0, &cdb, &list).await.status
}

#[tokio::test]
async fn reservations_keep_others_out_of_the_inline_way_and_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let unit = || {
        let store = UnitStateStore::open(directory.path(), VolumeNumber(1)).unwrap();
        LogicalUnit::new(volume(1).0, None, store).unwrap()
    };
    let target = |unit: Arc<LogicalUnit>| Target::new("iqn.t", rules(&[unit], false));
    let attach = |target: &Arc<Target>, name: &str| {
        target.attach(
            InitiatorPort {
                name: name.into(),
                isid: [0; 6],
            },
            1,
        )
    };
    let first = target(unit());
    let (a, b) = (attach(&first, "iqn.a"), attach(&first, "iqn.b"));
    for nexus in [&a, &b] {
        run(nexus, 0, &[0; 6], &[]).await;
        assert_eq!(reserve(nexus, 0, 0, 0, 77).await, 0, "REGISTER");
    }
    assert_eq!(
        reserve(&a, 1, 5, 77, 0).await,
        0,
        "RESERVE, write exclusive registrants only"
    );
    let c = attach(&first, "iqn.c");
    run(&c, 0, &[0; 6], &[]).await;
    assert_eq!(
        run(&c, 0, &write(0, 1), &[0; BLOCK]).await.status,
        Status::ReservationConflict as u8
    );
    assert_eq!(run(&b, 0, &write(0, 1), &[0; BLOCK]).await.status, 0);
    drop((a, b, c, first));

    let second = target(unit());
    let c = attach(&second, "iqn.c");
    run(&c, 0, &[0; 6], &[]).await;
    let kept_out = run(&c, 0, &write(0, 1), &[0; BLOCK]).await;
    assert_eq!(
        kept_out.status,
        Status::ReservationConflict as u8,
        "although APTPL is zero"
    );
    let a = attach(&second, "iqn.a");
    run(&a, 0, &[0; 6], &[]).await;
    assert_eq!(run(&a, 0, &write(0, 1), &[0; BLOCK]).await.status, 0);
}

#[tokio::test]
async fn preempt_and_abort_waits_for_the_commands_of_the_preempted() {
    let rig = Rig::new();
    let (a, b) = (rig.nexus("iqn.a").await, rig.nexus("iqn.b").await);
    assert_eq!(reserve(&a, 0, 0, 0, 1).await, 0);
    assert_eq!(reserve(&b, 0, 0, 0, 2).await, 0);
    assert_eq!(reserve(&b, 1, 3, 2, 0).await, 0, "exclusive access for b");
    run(&a, 0, &[0; 6], &[]).await;
    run(&b, 0, &[0; 6], &[]).await;
    rig.faults[0].be_slow(true);
    let in_flight = begin(&b, 0, &write(0, 1), &[2; BLOCK]);
    assert!(matches!(in_flight, Execution::Later(_)));
    let (cdb, list) = reserve_out(5, 3, 1, 2);
    let mut preempt = Box::pin(finish(begin(&a, 0, &cdb, &list)));
    let waited = tokio::time::timeout(std::time::Duration::from_millis(20), &mut preempt).await;
    assert!(waited.is_err(), "the write of the preempted nexus has not ended");
    assert_eq!(finish(in_flight).await.status, 0);
    assert_eq!(preempt.await.status, 0);
    let late = loop {
        let response = run(&b, 0, &write(0, 1), &[2; BLOCK]).await;
        if response.status != Status::CheckCondition as u8 {
            break response;
        }
    };
    assert_eq!(late.status, Status::ReservationConflict as u8);
}

#[tokio::test]
async fn a_reset_is_told_to_the_others() {
    let rig = Rig::new();
    let (a, b) = (rig.nexus("iqn.a").await, rig.nexus("iqn.b").await);
    a.logical_unit_reset([0; 8]).unwrap();
    assert_eq!(run(&a, 0, &[0; 6], &[]).await.status, 0);
    assert_eq!(
        sense(&run(&b, 0, &read(0, 1), &[]).await).map(|sense| sense.1),
        Some(0x29)
    );
    assert_eq!(run(&b, 5, &[0; 6], &[]).await.status, 0, "another unit");
    assert_eq!(
        a.logical_unit_reset([0, 9, 0, 0, 0, 0, 0, 0]),
        Err(crate::target::TmfRefusal::LunDoesNotExist)
    );
}

#[tokio::test]
async fn without_write_cache_every_write_is_stable() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    let mode_sense = run(&nexus, 0, &[0x1a, 0x08, 0x08, 0, 255, 0], &[])
        .await
        .data_in
        .to_vec();
    let mut list = mode_sense;
    list[0] = 0;
    list[2] = 0;
    list[4] &= 0x3f;
    list[6] &= !0x04;
    let cdb = [0x15, 0x10, 0, 0, list.len() as u8, 0];
    assert_eq!(run(&nexus, 0, &cdb, &list).await.status, 0);
    rig.faults[0].be_slow(true);
    // A stable write on a disk whose flush failed is refused; an unstable one would not be.
    rig.faults[0].fail_flushes(true);
    run(&nexus, 0, &cdb10(0x35, 0, 0, 0), &[]).await;
    assert_eq!(
        sense(&run(&nexus, 0, &write(0, 1), &[0; BLOCK]).await),
        Some((3, 0x0c, 0))
    );
}

struct Echo;

impl ArrayControl for Echo {
    fn execute(&self, request: scsi_model::control::Request) -> ControlFuture {
        assert!(matches!(request, scsi_model::control::Request::Out { .. }));
        Box::pin(async { Ok(scsi_model::control::Reply::Done) })
    }
}

#[tokio::test]
async fn control_is_for_those_who_may() {
    let split = [0xc1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0];
    let without = Rig::new();
    let nexus = without.nexus("iqn.a").await;
    assert_eq!(sense(&run(&nexus, 0, &split, &[]).await), Some((5, 0x20, 0)));
    let rig = Rig::with_control(Some(Arc::new(Echo)));
    let nexus = rig.nexus("iqn.a").await;
    assert_eq!(sense(&run(&nexus, 0, &split, &[]).await), Some((5, 0x20, 2)));
    rig.target.set_rules(rules(&rig.units, true));
    assert_eq!(run(&nexus, 0, &split, &[]).await.status, 0);
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
