//! A resync over a slow link, with and without compression.
use super::resync::{Content, MIB, Resync, iperf, random, resync};
use super::systems::{Link, Systems};
use crate::cost::Plan;
use crate::random::Random;
use std::io::Write as _;

const LINK: Link = Link::new("100 Mbit/s, 10 ms", 10, Some(12_500_000));

/// Part 5.
pub(crate) fn run(plan: &Plan, size: u64) {
    println!(
        "\n| 5. resync of {} MiB, {} | compression | moved, MiB | / differences | MiB/s of differences | / iperf3 | CPU s, primary's | far | ",
        size >> 20,
        LINK.name
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    let network = iperf(LINK);
    let contents: [(&str, Content); 2] = [("lines of a log", lines), ("random", random)];
    for (name, content) in contents {
        for compression in ["none", "lz4", "zstd"] {
            let systems = Systems::start_with(plan, LINK, "4GiB", compression);
            let Resync { moved, seconds, used } = resync(&systems, size, content);
            let rate = size as f64 / MIB / seconds;
            let [near, far] = used;
            println!(
                "| {name} | {compression} | {:.1} | {:.3} | {rate:.1} | {:.2} | {near:.2} | {far:.2} |",
                moved / MIB,
                moved / size as f64,
                rate / network
            );
        }
    }
}

/// What servers write: words that come again, numbers that do not.
fn lines(rng: &mut Random, track: &mut [u8]) {
    let mut rest = track;
    loop {
        let [host, item, took] = [64, 1_000_000, 2000].map(|most| rng.next() % most);
        let verb = ["GET", "PUT", "POST", "DELETE"][(rng.next() % 4) as usize];
        // The last one is cut where the track ends.
        let written = writeln!(
            rest,
            "2026-11-22T05:{:02}:{:02}Z web{host} httpd[{}]: {verb} /shop/items/{item} 200, {took} us",
            took % 60,
            item % 60,
            4000 + host
        );
        if written.is_err() {
            return;
        }
    }
}
