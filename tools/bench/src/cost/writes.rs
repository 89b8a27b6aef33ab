//! What a host's writes cost with many mirrors, and with marks to be kept over more than a working set.
use super::Plan;
use super::commands::pair_and_plain;
use super::daemon::{Daemon, result, volumes};
use crate::compare::median;
use std::os::unix::fs::MetadataExt as _;

const WRITES: [&str; 6] = ["--bs", "4k", "--qd", "32", "--read", "0"];

/// Part 2.
pub(crate) fn mirrors(plan: &Plan) {
    println!(
        "\n| 2. mirrors split from one standard | CPU us a write | IOPS | bytes copied to mirrors by the writes |"
    );
    println!("|---|---:|---:|---:|");
    for count in [0, 1, 8, 32] {
        let daemon = Daemon::start(plan, &plan.dir, &volumes(1, count, "256MiB"), "");
        let pairs: Vec<_> = (2..2 + count).map(|mirror| (1, mirror)).collect();
        // So that there is something to copy, if somebody would.
        result(daemon.load(1, &["--bs", "1m", "--qd", "4", "--seq", "--read", "0"], "1"));
        if count > 0 {
            daemon.out("establish", &[], &pairs);
            daemon.all_settled(&pairs);
            daemon.out("split", &[], &pairs);
            daemon.all_settled(&pairs);
        }
        let modified = |daemon: &Daemon| -> Vec<_> {
            let of = |mirror: &(u32, u32)| {
                std::fs::metadata(daemon.image(mirror.1)).map(|m| (m.mtime_nsec(), m.blocks()))
            };
            pairs.iter().map(|mirror| of(mirror).expect("an image")).collect()
        };
        let before = modified(&daemon);
        let (mut cpu, mut iops) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            let line = result(daemon.load(1, &WRITES, &plan.seconds));
            cpu.push(line["tgt_cpu_us_per_io"].as_f64().unwrap_or(f64::NAN));
            iops.push(line["iops"].as_f64().unwrap_or(f64::NAN));
        }
        let copied = if modified(&daemon) == before {
            "none: no mirror's file changed"
        } else {
            "some"
        };
        println!(
            "| {count} | {:.2} | {:.0} | {copied} |",
            median(&mut cpu),
            median(&mut iops)
        );
    }
}

/// Part 3.
pub(crate) fn activity_log(plan: &Plan) {
    let daemon = Daemon::start(plan, &plan.dir, &pair_and_plain("64GiB"), "");
    daemon.out("establish", &[], &[(1, 2)]);
    daemon.settled((1, 2));
    daemon.out("split", &[], &[(1, 2)]);
    daemon.settled((1, 2));
    let mut values: [[Vec<f64>; 3]; 2] = Default::default();
    for _ in 0..plan.rounds {
        for (lun, values) in [1, 3].into_iter().zip(&mut values) {
            let line = result(daemon.load(lun, &WRITES, &plan.seconds));
            for (key, values) in ["iops", "tgt_cpu_us_per_io", "p99_us"].iter().zip(values) {
                values.push(line[*key].as_f64().unwrap_or(f64::NAN));
            }
        }
    }
    println!("\n| 3. 4 KiB random writes over 64 GiB, queue depth 32 | IOPS | CPU us a write | p99 us |");
    println!("|---|---:|---:|---:|");
    let [split, plain] = values.map(|values| values.map(|mut values| median(&mut values)));
    for (name, of) in [("SPLIT pair", split), ("unpaired volume", plain)] {
        println!("| {name} | {:.0} | {:.2} | {:.0} |", of[0], of[1], of[2]);
    }
    let ratio = |at: usize| split[at] / plain[at];
    println!("| ratio | {:.2} | {:.2} | {:.2} |", ratio(0), ratio(1), ratio(2));
}
