//! Background copies: how fast they are beside `cp`, and what they do to hosts.
use super::Plan;
use super::commands::pair_and_plain;
use super::daemon::{Daemon, result, volumes};
use crate::clock::now_ns;
use crate::compare::median;
use crate::random::Random;
use rustix::fs::{Advice, fadvise};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// Bytes of what is copied.
const SIZE: u64 = 1 << 30;

const WAYS: [&str; 3] = [
    "holdfast, first copy of a new pair",
    "cp --sparse=never; sync",
    "dd bs=1M conv=fsync",
];

/// Part 4.
pub(crate) fn beside_cp(plan: &Plan) {
    println!(
        "\n| 4. copy of {} MiB of data (ms, median), made stable at the end | {} | MiB/s |",
        SIZE >> 20,
        file_system(&plan.disk)
    );
    println!("|---|---:|---:|");
    let times = copied(plan, &WAYS);
    for (way, time) in WAYS.iter().zip(&times) {
        println!(
            "| {way} | {time:.0} | {:.0} |",
            (SIZE >> 20) as f64 / time * 1000.0
        );
    }
    println!("\nholdfast / cp, by speed: {:.2}", times[1] / times[0]);
}

/// Milliseconds of the product's copy and of cp's.
pub(crate) fn times(plan: &Plan) -> [f64; 2] {
    let times = copied(plan, &WAYS[..2]);
    [times[0], times[1]]
}

/// Medians in milliseconds, of these of [`WAYS`].
fn copied(plan: &Plan, ways: &[&str]) -> Vec<f64> {
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..plan.rounds.min(5) {
        // A daemon a round: a mirror's file is as new as cp's.
        let daemon = Daemon::start(plan, &plan.disk, &volumes(1, 1, "1GiB"), "");
        let source = daemon.image(1);
        fill(&source);
        let begun = now_ns();
        daemon.out("establish", &[], &[(1, 2)]);
        daemon.settled((1, 2));
        times[0].push((now_ns() - begun) as f64 / 1e6);
        let (from, to) = (source.display(), plan.disk.join("copy"));
        for (way, times) in times.iter_mut().enumerate().skip(1) {
            let line = match way {
                1 => format!("cp --sparse=never {from} {0} && sync {0}", to.display()),
                _ => format!("dd if={from} of={} bs=1M conv=fsync status=none", to.display()),
            };
            let begun = now_ns();
            let status = Command::new("sh").args(["-c", &line]).status();
            times.push((now_ns() - begun) as f64 / 1e6);
            assert!(status.is_ok_and(|status| status.success()), "{line}");
            let _ = fs::remove_file(&to);
        }
    }
    times.iter_mut().map(|times| median(times)).collect()
}

/// p99 in us of a host's reads: of an idle volume, and of the primary of a protected restore, with the pace of copies that is the default.
pub(crate) fn protected(plan: &Plan) -> [f64; 2] {
    let daemon = Daemon::start(plan, &plan.disk, &pair_and_plain("1GiB"), "");
    for number in [1, 3] {
        fill(&daemon.image(number));
    }
    // The pacer learns what hosts have without copies.
    let alone = reads(plan, &daemon, 3);
    daemon.out("establish", &[], &[(1, 2)]);
    daemon.settled((1, 2));
    daemon.out("split", &[], &[(1, 2)]);
    daemon.settled((1, 2));
    daemon.out("restore", &["full", "protected"], &[(1, 2)]);
    let (busy, _) = while_copying(plan, &daemon, 1);
    [alone, busy].map(|line| line["p99_us"].as_f64().unwrap_or(f64::NAN))
}

/// Part 7: reads of a volume that is not copied, on the same disk; then of the primary of a protected restore.
pub(crate) fn hosts(plan: &Plan) {
    println!(
        "\n| 7. random 4 KiB reads from the disk, queue depth 4 ({}) | p50 us | p99 us | IOPS | copy MiB/s |",
        file_system(&plan.disk)
    );
    println!("|---|---:|---:|---:|---:|");
    for factor in ["0", "2.0"] {
        let extra = format!("[replication]\nlatency_factor = {factor}");
        let daemon = Daemon::start(plan, &plan.disk, &pair_and_plain("1GiB"), &extra);
        for number in [1, 3] {
            fill(&daemon.image(number));
        }
        // The pacer learns what hosts have without copies.
        let alone = reads(plan, &daemon, 3);
        row("no copy", &alone, "");
        daemon.out("establish", &[], &[(1, 2)]);
        let (busy, rate) = while_copying(plan, &daemon, 3);
        row(&format!("copy, latency_factor = {factor}"), &busy, &rate);
        daemon.settled((1, 2));
        daemon.out("split", &[], &[(1, 2)]);
        daemon.settled((1, 2));
        daemon.out("restore", &["full", "protected"], &[(1, 2)]);
        let (busy, rate) = while_copying(plan, &daemon, 1);
        row(
            &format!("primary in PROTECTED-RESTORING, latency_factor = {factor}"),
            &busy,
            &rate,
        );
    }
}

/// A load while the pair copies, and what was copied in that time; says so when the copy ended before.
fn while_copying(plan: &Plan, daemon: &Daemon, lun: u32) -> (Value, String) {
    let left = || daemon.query((1, 2)).0["remaining"].as_u64().unwrap_or(0);
    let (before, begun) = (left(), now_ns());
    let line = reads(plan, daemon, lun);
    let (after, passed) = (left(), (now_ns() - begun) as f64 / 1e9);
    let mib = (before - after.min(before)) as f64 / 16.0;
    let ended = if after == 0 { ", ended meanwhile" } else { "" };
    (line, format!("{:.0}{ended}", mib / passed))
}

fn reads(plan: &Plan, daemon: &Daemon, lun: u32) -> Value {
    for number in 1..=3 {
        forget(&daemon.image(number));
    }
    let seed = (now_ns() & 0xffff_ffff).to_string();
    result(daemon.load(lun, &["--bs", "4k", "--qd", "4", "--seed", &seed], &plan.seconds))
}

fn row(name: &str, line: &Value, rate: &str) {
    let number = |key: &str| line[key].as_f64().unwrap_or(f64::NAN);
    println!(
        "| {name} | {:.0} | {:.0} | {:.0} | {rate} |",
        number("p50_us"),
        number("p99_us"),
        number("iops")
    );
}

/// Data that no file system can shorten, on the disk.
fn fill(path: &Path) {
    let mut file = File::options().write(true).open(path).expect("an image");
    let mut rng = Random(now_ns() | 1);
    let mut piece = vec![0; 1 << 20];
    for _ in 0..SIZE >> 20 {
        for word in piece.chunks_exact_mut(8) {
            word.copy_from_slice(&rng.next().to_le_bytes());
        }
        file.write_all(&piece).expect("room on the disk");
    }
    file.sync_all().expect("the disk works");
}

/// Takes a file out of the page cache.
fn forget(path: &Path) {
    let file = File::open(path).expect("an image");
    file.sync_all().expect("the disk works");
    fadvise(&file, 0, None, Advice::DontNeed).expect("a file system has a page cache");
}

fn file_system(path: &Path) -> String {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(path).output();
    output.map_or_else(
        |_| "?".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
