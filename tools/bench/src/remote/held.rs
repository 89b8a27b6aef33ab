//! Hosts that write to an async pair faster than its link carries, once they are held back.
use super::resync::{MIB, iperf};
use super::systems::{ASYNC, Link, PLAIN, Systems};
use crate::cost::Plan;
use crate::cost::daemon::result;

const LINK: Link = Link::new("100 Mbit/s, 10 ms", 10, Some(12_500_000));
/// Commands in flight, and bytes of each.
const LOADS: [(u32, u32); 3] = [(1, 4 << 10), (32, 4 << 10), (8, 64 << 10)];
/// Until what may be on its way without waiting is there, and for how long the load goes on at least.
const FILL: &str = "5";
const LEAST: f64 = 5.0;

/// Part 4. A host gets what the link carries: then a command takes as long as those in flight take to be carried, and no more than that is the
/// price of waiting.
pub(crate) fn back(plan: &Plan) {
    println!(
        "\n| 4. random writes to an async pair, {} | MiB/s | / iperf3 | p50, ms | QD x size / rate, ms | p99, ms | longest, ms | plain beside it, p99, ms | the pair |",
        LINK.name
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---|");
    let network = iperf(LINK);
    let seconds = plan.seconds.parse().unwrap_or(LEAST).max(LEAST).to_string();
    for (depth, size) in LOADS {
        let systems = Systems::start(plan, LINK, "64MiB");
        systems.pair(ASYNC, "async");
        let (qd, bs) = (depth.to_string(), size.to_string());
        let shape = ["--bs", &bs, "--qd", &qd, "--read", "0"];
        result(systems.a.load(ASYNC, &shape, FILL));
        let held = systems.a.load(ASYNC, &shape, &seconds);
        let beside = systems
            .a
            .load(PLAIN, &["--bs", "4k", "--qd", "1", "--read", "0"], &seconds);
        let (held, beside) = (result(held), result(beside));
        let milliseconds = |key: &str| held[key].as_f64().unwrap_or(f64::NAN) / 1000.0;
        let rate = held["iops"].as_f64().unwrap_or(f64::NAN) * f64::from(size) / MIB;
        let parted = systems
            .a
            .holdfast(&["events"])
            .matches("became suspended")
            .count();
        println!(
            "| QD{depth}, {} KiB | {rate:.1} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | parted {parted} times |",
            size >> 10,
            rate / network,
            milliseconds("p50_us"),
            f64::from(depth) * f64::from(size) / MIB / rate * 1000.0,
            milliseconds("p99_us"),
            milliseconds("max_us"),
            beside["p99_us"].as_f64().unwrap_or(f64::NAN) / 1000.0,
        );
    }
}
