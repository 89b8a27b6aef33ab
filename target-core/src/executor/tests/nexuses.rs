//! What initiators see, and what they see of each other: masking, unit attentions, reservations, control.

use super::*;
use crate::{command_counts::CountedCommands, initiator_pattern::InitiatorPattern};

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
    rules.0.insert(InitiatorPattern::exactly("iqn.b"), only_5);
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
    let in_flight = start(&b, 0, &write(0, 1), &[2; BLOCK]);
    assert!(matches!(in_flight, Execution::Later(_)));
    let (cdb, list) = reserve_out(5, 3, 1, 2);
    let mut preempt = Box::pin(finish(start(&a, 0, &cdb, &list)));
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
async fn two_that_preempt_each_other_both_end() {
    let rig = Rig::new();
    let (a, b) = (rig.nexus("iqn.a").await, rig.nexus("iqn.b").await);
    assert_eq!(reserve(&a, 0, 0, 0, 1).await, 0);
    assert_eq!(reserve(&b, 0, 0, 0, 2).await, 0);
    assert_eq!(reserve(&b, 1, 5, 2, 0).await, 0);
    let (cdb, list) = reserve_out(5, 5, 2, 1);
    let first = start(&b, 0, &cdb, &list);
    // Preempted, a registers again and preempts b while b's command has not ended.
    while reserve(&a, 0, 0, 0, 1).await != 0 {}
    let (cdb, list) = reserve_out(5, 5, 1, 2);
    let second = start(&a, 0, &cdb, &list);
    let both = async { tokio::join!(finish(first), finish(second)) };
    let (first, second) = tokio::time::timeout(std::time::Duration::from_secs(2), both)
        .await
        .unwrap();
    assert_eq!((first.status, second.status), (0, 0));
}

#[tokio::test]
async fn a_reset_is_told_to_everybody() {
    let rig = Rig::new();
    let (a, b) = (rig.nexus("iqn.a").await, rig.nexus("iqn.b").await);
    a.logical_unit_reset([0; 8]).unwrap();
    for nexus in [&a, &b] {
        assert_eq!(
            sense(&run(nexus, 0, &read(0, 1), &[]).await).map(|sense| sense.1),
            Some(0x29)
        );
    }
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
    let rig = Rig::with_control(Some(&(Arc::new(Echo) as Arc<dyn ArrayControl>)));
    let nexus = rig.nexus("iqn.a").await;
    assert_eq!(sense(&run(&nexus, 0, &split, &[]).await), Some((5, 0x20, 2)));
    rig.target.set_rules(rules(&rig.units, true));
    assert_eq!(run(&nexus, 0, &split, &[]).await.status, 0);
}

#[tokio::test]
async fn the_time_is_told() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.a").await;
    let told = run(&nexus, 0, &[0xA3, 0x0F, 0, 0, 0, 0, 0, 0, 0, 10], &[])
        .await
        .data_in;
    assert_eq!((told.len(), &told[..4]), (10, &[0, 10, 3, 0][..]));
    let milliseconds = told[4..]
        .iter()
        .fold(0, |time, byte| time << 8 | u64::from(*byte));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    assert!((now - 60_000..=now).contains(&milliseconds));
}

#[tokio::test]
async fn commands_are_counted_by_who_sent_them_and_kept_by_their_unit() {
    let rig = Rig::new();
    let (a, b) = (rig.fresh_nexus("iqn.a"), rig.fresh_nexus("iqn.b"));
    for nexus in [&a, &b] {
        run(nexus, 0, &[0; 6], &[]).await;
    }
    for _ in 0..3 {
        run(&a, 0, &read(0, 1), &[]).await;
    }
    run(&b, 0, &read(0, 1), &[]).await;
    run(&b, 0, &[0xDB; 16], &[]).await;
    let told = |counts: &CountedCommands| counts.by_operation().collect::<Vec<_>>();
    let commands = rig.units[0].commands();
    let names = |name: &str| (name.to_owned(), "iqn.2026-11.test:t".to_owned());
    assert_eq!(
        told(&commands.by_nexus[&names("iqn.a")]),
        [("TEST UNIT READY", 1), ("READ(10)", 3)]
    );
    let all = [("TEST UNIT READY", 2), ("READ(10)", 4), ("unknown", 1)];
    assert_eq!(told(&commands.all), all);
    b.close();
    drop(b);
    let commands = rig.units[0].commands();
    assert_eq!((commands.by_nexus.len(), told(&commands.all)), (1, all.to_vec()));
    assert_eq!(told(&rig.units[1].commands().all), []);
}
