//! Hosts' writes to remote pairs: how long they take, and what they cost the primary's system.
use super::systems::{ASYNC, Link, PLAIN, SYNC, Systems, loopback};
use crate::clock::now_ns;
use crate::compare::median;
use crate::cost::Plan;
use crate::cost::daemon::{Daemon, result};
use crate::histogram::Histogram;
use holdfast_tests::proxy::Proxy;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

const LINKS: [Link; 4] = [
    Link::LOOPBACK,
    Link::new("proxy, 0 ms", 0, None),
    Link::new("proxy, 1 ms", 1, None),
    Link::new("proxy, 10 ms", 10, None),
];

/// Part 1.
pub(crate) fn latency(plan: &Plan) {
    println!(
        "\n| 1. 4 KiB write at QD1, us (median of {} rounds' p50) | round trip | local | far | sync | above local | allowed: round trip + far | async | / local |",
        plan.rounds
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for link in LINKS {
        let systems = Systems::start(plan, link, "64MiB");
        systems.pair(SYNC, "sync");
        systems.pair(ASYNC, "async");
        let mut times: [Vec<f64>; 5] = Default::default();
        for _ in 0..plan.rounds {
            let p50 = |daemon, lun| p50(plan, daemon, lun);
            times[0].push(round_trip(link));
            times[1].push(p50(&systems.a, PLAIN));
            times[2].push(p50(&systems.b, PLAIN));
            times[3].push(p50(&systems.a, SYNC));
            times[4].push(p50(&systems.a, ASYNC));
        }
        let [trip, local, far, sync, queued] = times.map(|mut times| median(&mut times));
        println!(
            "| {} | {trip:.0} | {local:.0} | {far:.0} | {sync:.0} | {:.0} | {:.0} | {queued:.0} | {:.2} |",
            link.name,
            sync - local,
            trip + far,
            queued / local
        );
    }
}

/// Part 2.
pub(crate) fn processor(plan: &Plan) {
    println!(
        "\n| 2. random 4 KiB writes, loopback, median of {} rounds | CPU us of the primary's system | / plain | switches | p50 us | IOPS |",
        plan.rounds
    );
    println!("|---|---:|---:|---:|---:|---:|");
    let systems = Systems::start(plan, Link::LOOPBACK, "64MiB");
    systems.pair(SYNC, "sync");
    systems.pair(ASYNC, "async");
    for depth in ["1", "32"] {
        let volumes = [("plain", PLAIN), ("sync", SYNC), ("async", ASYNC)];
        let mut values: [[Vec<f64>; 4]; 3] = Default::default();
        for _ in 0..plan.rounds {
            for ((_, lun), values) in volumes.iter().zip(&mut values) {
                let line = result(systems.a.load(*lun, &writes(depth), &plan.seconds));
                let keys = ["tgt_cpu_us_per_io", "tgt_vcsw_per_io", "p50_us", "iops"];
                for (key, values) in keys.iter().zip(values) {
                    values.push(line[*key].as_f64().unwrap_or(f64::NAN));
                }
            }
        }
        let values = values.map(|of| of.map(|mut values| median(&mut values)));
        for ((name, _), [cpu, switches, p50, iops]) in volumes.iter().zip(values) {
            println!(
                "| {name}, QD{depth} | {cpu:.2} | {:.2} | {switches:.2} | {p50:.0} | {iops:.0} |",
                cpu / values[0][0]
            );
        }
    }
}

fn writes(depth: &str) -> [&str; 6] {
    ["--bs", "4k", "--qd", depth, "--read", "0"]
}

/// Half of the writes one at a time take less, in microseconds.
fn p50(plan: &Plan, daemon: &Daemon, lun: u32) -> f64 {
    let line = result(daemon.load(lun, &writes("1"), &plan.seconds));
    line["p50_us"].as_f64().unwrap_or(f64::NAN)
}

/// Microseconds that 4 KiB there and 32 bytes back take over such a link between two threads that do nothing else.
fn round_trip(link: Link) -> f64 {
    let listener = TcpListener::bind(loopback(0)).expect("loopback has free ports");
    let there = listener.local_addr().expect("it is bound");
    let way = link.way(there);
    let mut caller = TcpStream::connect(way.as_ref().map_or(there, Proxy::address)).expect("it listens");
    let (mut called, _) = listener.accept().expect("somebody called");
    for end in [&caller, &called] {
        end.set_nodelay(true).expect("a socket");
    }
    let answering = thread::spawn(move || {
        let mut data = [0; 4096];
        while called.read_exact(&mut data).is_ok() {
            called.write_all(&data[..32]).expect("the caller reads");
        }
    });
    let mut times = Histogram::default();
    for _ in 0..200 {
        let begun = now_ns();
        caller.write_all(&[7; 4096]).expect("connected");
        caller.read_exact(&mut [0; 32]).expect("connected");
        times.add(now_ns() - begun);
    }
    drop(caller);
    drop(way);
    answering.join().expect("it ends with the connection");
    times.quantile_us(0.5)
}
