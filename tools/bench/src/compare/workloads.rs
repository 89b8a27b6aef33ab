//! Loads on volumes in memory: against floor and tgt, and of paired volumes against a plain one.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Plan, fill,
    gate::{Accepted, Figure, is_worse},
    median,
    servers::{Server, Volume, command, floor, product, tgt},
    shuffled,
};

/// A load: its name, the generator's arguments, and the goals as ratios of CPU time to the floor and to tgt.
struct Workload {
    name: &'static str,
    arguments: &'static [&'static str],
    /// The generator's CPU; servers have 0.
    cpu: &'static str,
    floor: Option<f64>,
    tgt: Option<f64>,
}

const fn workload(
    name: &'static str,
    arguments: &'static [&'static str],
    floor: Option<f64>,
    tgt: Option<f64>,
) -> Workload {
    Workload {
        name,
        arguments,
        cpu: "1",
        floor,
        tgt,
    }
}

const READ: &str = "random read 4k QD32";
const READ_128K: &str = "sequential read 128k QD8";
const WRITE_128K: &str = "sequential write 128k QD8";
const WAKING: &str = "random read 4k QD1, two CPUs";

const WORKLOADS: &[Workload] = &[
    workload(READ, &["--bs", "4k", "--qd", "32"], Some(1.2), Some(0.25)),
    workload(
        "random read 4k QD32 x4",
        &["--bs", "4k", "--qd", "32", "--sessions", "4"],
        Some(1.2),
        Some(0.25),
    ),
    workload(
        "random write 4k QD32",
        &["--bs", "4k", "--qd", "32", "--read", "0"],
        Some(1.3),
        None,
    ),
    workload(
        "70/30 4k QD32",
        &["--bs", "4k", "--qd", "32", "--read", "70"],
        Some(1.3),
        None,
    ),
    workload(
        READ_128K,
        &["--bs", "128k", "--qd", "8", "--seq"],
        Some(1.1),
        None,
    ),
    workload(
        "sequential read 1m QD8",
        &["--bs", "1m", "--qd", "8", "--seq"],
        Some(1.1),
        None,
    ),
    workload(
        WRITE_128K,
        &["--bs", "128k", "--qd", "8", "--seq", "--read", "0"],
        Some(1.2),
        None,
    ),
    workload(
        "sequential write 1m QD8",
        &["--bs", "1m", "--qd", "8", "--seq", "--read", "0"],
        Some(1.2),
        None,
    ),
    Workload {
        cpu: "0",
        ..workload(
            "random read 4k QD1, one CPU",
            &["--bs", "4k", "--qd", "1"],
            Some(1.3),
            None,
        )
    },
    workload(WAKING, &["--bs", "4k", "--qd", "1"], None, None),
];

/// Loads with both digests, and the same without.
const DIGESTS: &[(&str, &str, &[&str])] = &[
    (
        "random read 4k QD32, both digests",
        READ,
        &["--bs", "4k", "--qd", "32"],
    ),
    (
        "sequential read 128k QD8, both digests",
        READ_128K,
        &["--bs", "128k", "--qd", "8", "--seq"],
    ),
    (
        "sequential write 128k QD8, both digests",
        WRITE_128K,
        &["--bs", "128k", "--qd", "8", "--seq", "--read", "0"],
    ),
];

const HOT_WRITES: &[&str] = &["--bs", "4k", "--qd", "32", "--read", "0", "--span", "64m"];
/// Name, LUN, goal over the plain volume.
const PAIRED: &[(&str, &str, f64)] = &[("DUPLEX", "1", 1.8), ("SPLIT, hot working set", "3", 1.03)];
const PLAIN: &str = "plain volume, hot writes";

/// Rounds of a load that looks worse than accepted, before it is believed.
const MORE: u64 = 3;

/// What the generator said, by load and server.
type Lines = BTreeMap<(&'static str, &'static str), Vec<Value>>;

/// Measures all of it.
pub(super) fn measure(plan: &Plan, accepted: Option<&Accepted>) -> Vec<Figure> {
    let volume = |name: &'static str| Volume {
        name,
        mirror: name.ends_with("-m"),
        direct: false,
    };
    let volumes = ["plain", "duplex", "duplex-m", "split", "split-m"].map(volume);
    let mut servers = vec![floor(&plan.dir), product(plan, &plan.dir, &volumes)];
    for arguments in [
        &["establish", "2", "3", "--wait"][..],
        &["establish", "4", "5", "--wait"],
        &["split", "4", "5"],
        &["verify", "4", "5", "--state", "split", "--wait"],
    ] {
        command(plan, &plan.dir, arguments);
    }
    servers.extend(tgt(&plan.dir, "rdwr"));
    servers.iter().for_each(fill);
    let mut lines = Lines::new();
    for _ in 0..plan.rounds {
        for workload in WORKLOADS {
            beside(plan, &servers, workload, &mut lines);
        }
        digests(plan, &servers, &mut lines);
        pairs(plan, &servers, &mut lines);
    }
    if let Some(accepted) = accepted {
        again(plan, &servers, accepted, &mut lines);
    }
    figures(&lines)
}

fn beside(plan: &Plan, servers: &[Server], workload: &Workload, lines: &mut Lines) {
    for index in shuffled(servers.len()) {
        let server = &servers[index];
        let line = server.load(&server.lun, workload.arguments, &plan.seconds, workload.cpu);
        lines.entry((workload.name, server.name)).or_default().push(line);
    }
}

fn digests(plan: &Plan, servers: &[Server], lines: &mut Lines) {
    let server = holdfast(servers);
    for (name, _, arguments) in DIGESTS {
        let digests = ["--digest", "both", "--no-check-digest"];
        let line = server.load(
            &server.lun,
            &[arguments, &digests[..]].concat(),
            &plan.seconds,
            "1",
        );
        lines.entry((name, server.name)).or_default().push(line);
    }
}

fn pairs(plan: &Plan, servers: &[Server], lines: &mut Lines) {
    let server = holdfast(servers);
    let loads: Vec<(&str, &str)> = PAIRED
        .iter()
        .map(|(name, lun, _)| (*name, *lun))
        .chain([(PLAIN, "0")])
        .collect();
    for index in shuffled(loads.len()) {
        let (name, lun) = loads[index];
        let line = server.load(lun, HOT_WRITES, &plan.seconds, "1");
        lines.entry((name, server.name)).or_default().push(line);
    }
}

fn holdfast(servers: &[Server]) -> &Server {
    servers
        .iter()
        .find(|s| s.name == "holdfast")
        .expect("it was started")
}

/// More rounds of what looks worse than accepted: one stretch of a busy neighbour is no regression.
fn again(plan: &Plan, servers: &[Server], accepted: &Accepted, lines: &mut Lines) {
    let suspects: Vec<String> = figures(lines)
        .into_iter()
        .filter(|figure| is_worse(accepted, figure))
        .map(|figure| figure.name)
        .collect();
    for _ in 0..if suspects.is_empty() { 0 } else { MORE } {
        for workload in WORKLOADS {
            if suspects.iter().any(|name| name.starts_with(workload.name)) {
                beside(plan, servers, workload, lines);
            }
        }
        if suspects.iter().any(|name| name.contains("digests")) {
            digests(plan, servers, lines);
        }
        if suspects.iter().any(|name| name.contains("plain")) {
            pairs(plan, servers, lines);
        }
    }
}

fn figures(lines: &Lines) -> Vec<Figure> {
    let of = |name: &'static str, server: &'static str, key: &str| {
        let mut values: Vec<f64> = lines
            .get(&(name, server))
            .into_iter()
            .flatten()
            .map(|line| line[key].as_f64().unwrap_or(f64::NAN))
            .collect();
        median(&mut values)
    };
    let cpu = |name, server| of(name, server, "tgt_cpu_us_per_io");
    let mut figures = Vec::new();
    for Workload { name, floor, tgt, .. } in WORKLOADS {
        let (p, f, t) = (cpu(name, "holdfast"), cpu(name, "floor"), cpu(name, "tgt"));
        let measured = format!(
            "{p:.2} us, F {f:.2}, T {t:.2}; {:.0} IOPS, F {:.0}, T {:.0}",
            of(name, "holdfast", "iops"),
            of(name, "floor", "iops"),
            of(name, "tgt", "iops"),
        );
        let figure = |peer: &str, value, goal, measured| Figure {
            name: format!("{name} / {peer}"),
            value,
            goal,
            // Across CPUs it measures the machine's waking.
            judged: *name != WAKING,
            measured,
        };
        figures.push(figure("F", p / f, *floor, measured));
        if t.is_finite() {
            figures.push(figure("T", p / t, *tgt, String::new()));
        }
    }
    for (name, without, _) in DIGESTS {
        let (with, without) = (cpu(name, "holdfast"), cpu(without, "holdfast"));
        figures.push(Figure {
            name: format!("{name} / none"),
            value: with / without,
            goal: Some(1.1),
            judged: true,
            measured: format!("{with:.2} us, {without:.2}"),
        });
    }
    let plain = cpu(PLAIN, "holdfast");
    for (name, _, goal) in PAIRED {
        let paired = cpu(name, "holdfast");
        figures.push(Figure {
            name: format!("{name}, random write 4k QD32 / plain"),
            value: paired / plain,
            goal: Some(*goal),
            judged: true,
            measured: format!("{paired:.2} us, {plain:.2}"),
        });
    }
    let latency = |name: String, value, goal, measured| Figure {
        name,
        value,
        goal: Some(goal),
        judged: false,
        measured,
    };
    let (p, f) = (of(WAKING, "holdfast", "p50_us"), of(WAKING, "floor", "p50_us"));
    figures.push(latency(
        format!("{WAKING}, p50 / F"),
        p / f,
        0.5,
        format!("{p:.0} us, F {f:.0}"),
    ));
    let (p, t) = (of(READ, "holdfast", "p99_us"), of(READ, "tgt", "p99_us"));
    figures.push(latency(
        format!("{READ}, p99 / T"),
        p / t,
        0.5,
        format!("{p:.0} us, T {t:.0}"),
    ));
    let longest = lines
        .iter()
        .filter(|((_, server), _)| *server == "holdfast")
        .flat_map(|((name, _), lines)| {
            lines
                .iter()
                .map(move |line| (line["max_us"].as_f64().unwrap_or(0.0) / 1000.0, *name, line))
        })
        .max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((milliseconds, name, line)) = longest {
        figures.push(latency(
            "longest latency of all these loads, ms".into(),
            milliseconds,
            10.0,
            format!(
                "{name}, block {}; it waited {} % of that run for a CPU",
                line["max_lba"], line["tgt_wait_pct"]
            ),
        ));
    }
    figures
}
