//! Commands: how long they take for small and large volumes, how long a group's split holds writes back, and what bitmaps weigh.
use super::daemon::{Daemon, Volume, result, volumes};
use super::{Plan, ms};
use crate::clock::now_ns;
use crate::histogram::Histogram;
use crate::process::resident_kib;
use crate::random::Random;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const PAIR: (u32, u32) = (1, 2);

/// Part 1.
pub(crate) fn latency(plan: &Plan) {
    println!(
        "\n| 1. command (ms), median and maximum of {} rounds | median | max |",
        plan.rounds
    );
    println!("|---|---:|---:|");
    for size in ["64MiB", "16TiB"] {
        let daemon = Daemon::start(plan, &plan.dir, &volumes(1, 1, size), "");
        let begun = now_ns();
        daemon.out("establish", &[], &[PAIR]);
        daemon.settled(PAIR);
        println!(
            "| {size}: first copy of a sparse volume, all of it | {:.0} | |",
            (now_ns() - begun) as f64 / 1e6
        );
        rounds(plan, &daemon, size);
    }
}

/// SPLIT, ESTABLISH, RESTORE in turns, with a hundred tracks changed between; begins and ends with equal volumes.
fn rounds(plan: &Plan, daemon: &Daemon, name: &str) {
    let mut session = daemon.session(PAIR.0);
    let mut times: [Histogram; 5] = Default::default();
    let mut rng = Random(now_ns() | 1);
    for _ in 0..plan.rounds {
        times[0].add(daemon.out("split", &[], &[PAIR]));
        daemon.settled(PAIR);
        let mut change = |session: &mut crate::load::Session| {
            for _ in 0..100 {
                let lba = rng.next() % (session.blocks / 8) * 8;
                session
                    .write_once(PAIR.0 as u8, lba, &[7; 4096])
                    .expect("a write");
            }
        };
        change(&mut session);
        times[1].add(daemon.query(PAIR).1);
        times[2].add(daemon.out("establish", &[], &[PAIR]));
        daemon.settled(PAIR);
        daemon.out("split", &[], &[PAIR]);
        daemon.settled(PAIR);
        change(&mut session);
        times[3].add(daemon.out("restore", &[], &[PAIR]));
        let lba = rng.next() % (session.blocks / 8) * 8;
        times[4].add(session.read_once(PAIR.0 as u8, lba, 4096).expect("a read"));
        daemon.settled(PAIR);
    }
    let names = [
        "SPLIT",
        "QUERY",
        "ESTABLISH",
        "RESTORE",
        "first read after RESTORE",
    ];
    for (command, times) in names.iter().zip(&times) {
        println!("| {name}: {command} | {} |", ms(times));
    }
}

/// Part 6, and the commands again with marks everywhere.
pub(crate) fn memory(plan: &Plan) {
    let daemon = Daemon::start(plan, &plan.dir, &volumes(1, 1, "16TiB"), "");
    let bare = resident_kib(daemon.pid());
    daemon.out("establish", &[], &[PAIR]);
    daemon.settled(PAIR);
    let paired = resident_kib(daemon.pid());
    daemon.out("split", &[], &[PAIR]);
    daemon.settled(PAIR);
    println!("\n| 6. memory of a 16 TiB pair | RSS MiB | MiB a TiB above the daemon without pairs |");
    println!("|---|---:|---:|");
    let row = |name: &str, kib: u64| {
        let mib = kib as f64 / 1024.0;
        println!(
            "| {name} | {mib:.1} | {:.2} |",
            (mib - bare as f64 / 1024.0) / 16.0
        );
    };
    row("two volumes, no pair", bare);
    row("DUPLEX", paired);
    for lun in [PAIR.0, PAIR.1] {
        let line = result(daemon.load(lun, &["--bs", "4k", "--qd", "32", "--read", "0"], "12"));
        let writes = line["writes"].as_u64().unwrap_or(0);
        row(
            &format!("SPLIT, {writes} random writes to volume {lun}"),
            resident_kib(daemon.pid()),
        );
    }
    let (pair, query) = daemon.query(PAIR);
    println!(
        "\nMarks: {} tracks of the primary, {} of the mirror.",
        pair["mirror_invalid"], pair["primary_invalid"]
    );
    let restore = daemon.out("restore", &[], &[PAIR]);
    let mut session = daemon.session(PAIR.0);
    let lba = Random(now_ns() | 1).next() % (session.blocks / 8) * 8;
    let read = session.read_once(PAIR.0 as u8, lba, 4096).expect("a read");
    let begun = now_ns();
    daemon.settled(PAIR);
    println!(
        "With them: QUERY {:.2} ms, RESTORE {:.2} ms, first read {:.2} ms, the whole restore {:.1} s.",
        query as f64 / 1e6,
        restore as f64 / 1e6,
        read as f64 / 1e6,
        (now_ns() - begun) as f64 / 1e9
    );
    row("after the restore", resident_kib(daemon.pid()));
}

/// Part 5.
pub(crate) fn group_split(plan: &Plan) {
    const STANDARDS: u32 = 8;
    let daemon = Daemon::start(plan, &plan.dir, &volumes(STANDARDS, 1, "256MiB"), "");
    let pairs: Vec<_> = (1..=STANDARDS)
        .map(|primary| (primary, primary + STANDARDS))
        .collect();
    let (mut all, mut held) = (Histogram::default(), Histogram::default());
    let mut command = Histogram::default();
    for _ in 0..plan.rounds {
        daemon.out("establish", &[], &pairs);
        daemon.all_settled(&pairs);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = (1..=STANDARDS)
                .map(|lun| {
                    let (daemon, stop) = (&daemon, &stop);
                    scope.spawn(move || writer(daemon, lun, stop))
                })
                .collect();
            thread::sleep(Duration::from_millis(500));
            let begun = now_ns();
            let nanos = daemon.out("split", &[], &pairs);
            command.add(nanos);
            thread::sleep(Duration::from_millis(500));
            stop.store(true, Relaxed);
            for writer in writers {
                for (start, took) in writer.join().expect("the writer ends") {
                    all.add(took);
                    // Under way at some moment of the command.
                    if start < begun + nanos && start + took > begun {
                        held.add(took);
                    }
                }
            }
        });
        daemon.all_settled(&pairs);
    }
    println!(
        "\n| 5. SPLIT of 8 pairs, 8 hosts that write 4 KiB at queue depth 1 (ms) | median | p99 | max |"
    );
    println!("|---|---:|---:|---:|");
    for (name, hist) in [
        ("the command", &command),
        ("writes under way during it", &held),
        ("all writes", &all),
    ] {
        let (p50, p99) = (hist.quantile_us(0.5) / 1e3, hist.quantile_us(0.99) / 1e3);
        println!(
            "| {name} ({}) | {p50:.2} | {p99:.2} | {:.2} |",
            hist.count(),
            hist.longest_ns() as f64 / 1e6
        );
    }
}

/// Writes until told to stop: begin and nanoseconds of each.
fn writer(daemon: &Daemon, lun: u32, stop: &AtomicBool) -> Vec<(u64, u64)> {
    let mut session = daemon.session(lun);
    let mut rng = Random(u64::from(lun) << 32 | 1);
    let mut times = Vec::new();
    while !stop.load(Relaxed) {
        let lba = rng.next() % (session.blocks / 8) * 8;
        let begun = now_ns();
        let took = session.write_once(lun as u8, lba, &[7; 4096]).expect("a write");
        times.push((begun, took));
    }
    session.logout();
    times
}

/// One unpaired volume and one pair, for comparisons.
pub(crate) fn pair_and_plain(size: &'static str) -> Vec<Volume> {
    let mut all = volumes(1, 1, size);
    all.push(Volume {
        number: 3,
        mirror: false,
        size,
    });
    all
}
