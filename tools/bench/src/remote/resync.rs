//! A resync of scattered differences beside what iperf3 moves over the same link.
use super::systems::{Link, SYNC, Systems, loopback};
use crate::clock::now_ns;
use crate::compare::free_port;
use crate::cost::Plan;
use crate::process::CpuTime;
use crate::random::Random;
use holdfast_tests::proxy::Proxy;
use serde_json::Value;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

const TRACK: u64 = 64 << 10;
pub(super) const MIB: f64 = (1 << 20) as f64;
const PAIR: (u32, u32) = (SYNC, SYNC);
const GIGABIT: Option<u64> = Some(125_000_000);
const LINKS: [Link; 4] = [
    Link::new("1 Gbit/s, 1 ms", 1, GIGABIT),
    Link::new("1 Gbit/s, 10 ms", 10, GIGABIT),
    Link::new("proxy, 0 ms", 0, None),
    Link::LOOPBACK,
];

/// Fills a track.
pub(super) type Content = fn(&mut Random, &mut [u8]);

/// What nothing makes shorter.
pub(super) fn random(rng: &mut Random, track: &mut [u8]) {
    for word in track.chunks_exact_mut(8) {
        word.copy_from_slice(&rng.next().to_le_bytes());
    }
}

/// Part 3: the differences are tracks chosen at random out of four times as many.
pub(crate) fn run(plan: &Plan, size: u64) {
    println!(
        "\n| 3. resync | differences, MiB | moved, MiB | / differences | s | MiB/s | iperf3, MiB/s | share |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for link in LINKS {
        let network = iperf(link);
        let systems = Systems::start(plan, link, "4GiB");
        let Resync { moved, seconds, .. } = resync(&systems, size, random);
        let rate = size as f64 / MIB / seconds;
        println!(
            "| {} | {:.0} | {:.0} | {:.3} | {seconds:.2} | {rate:.0} | {network:.0} | {:.2} |",
            link.name,
            size as f64 / MIB,
            moved / MIB,
            moved / size as f64,
            rate / network
        );
    }
}

/// What a resync came to.
pub(super) struct Resync {
    pub(super) moved: f64,
    pub(super) seconds: f64,
    /// CPU seconds of both systems.
    pub(super) used: [f64; 2],
}

/// Splits a pair, writes so many bytes in whole tracks at random places, and has them copied.
pub(super) fn resync(systems: &Systems, size: u64, content: Content) -> Resync {
    systems.pair(SYNC, "sync");
    systems.a.out("split", &[], &[PAIR]);
    systems.a.settled(PAIR);
    scatter(systems, size, content);
    let used = || [&systems.a, &systems.b].map(|side| CpuTime::of(&[side.pid()]).run_ns);
    let (sent, begun, before) = (systems.sent(), now_ns(), used());
    systems.a.out("establish", &[], &[PAIR]);
    systems.a.settled(PAIR);
    let (seconds, after) = ((now_ns() - begun) as f64 / 1e9, used());
    Resync {
        moved: (systems.sent() - sent) as f64,
        seconds,
        used: [0, 1].map(|side| (after[side] - before[side]) as f64 / 1e9),
    }
}

/// Writes whole tracks, each once, in an order of chance.
fn scatter(systems: &Systems, size: u64, content: Content) {
    let mut session = systems.a.session(SYNC);
    let per_track = TRACK / session.block_length as u64;
    let mut tracks: Vec<u64> = (0..session.blocks / per_track).collect();
    let mut rng = Random(0x5eed);
    let mut data = vec![0; TRACK as usize];
    for at in 0..(size / TRACK) as usize {
        let other = at + (rng.next() % (tracks.len() - at) as u64) as usize;
        tracks.swap(at, other);
        content(&mut rng, &mut data);
        session
            .write_once(SYNC as u8, tracks[at] * per_track, &data)
            .expect("a write");
    }
    session.logout();
}

/// MiB a second that iperf3 moves over such a link.
pub(super) fn iperf(link: Link) -> f64 {
    let there = loopback(free_port());
    let port = there.port().to_string();
    let server = Command::new("iperf3")
        .args(["-s", "-1", "-p", &port])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut server) = server else {
        eprintln!("iperf3 is not installed: no figures beside it");
        return f64::NAN;
    };
    // It serves one test; a connection that only looks whether it listens would be taken for that.
    thread::sleep(Duration::from_millis(500));
    let way = link.way(there);
    let port = way.as_ref().map_or(there, Proxy::address).port().to_string();
    let output = Command::new("iperf3")
        .args(["-c", "127.0.0.1", "-p", &port, "-t", "4", "-O", "1", "-J"])
        .output()
        .expect("it started a moment ago");
    drop(way);
    // If it serves still, nobody came.
    drop(TcpStream::connect(there));
    let _ = server.kill();
    let _ = server.wait();
    let line: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let bits = line["end"]["sum_received"]["bits_per_second"].as_f64();
    bits.map_or(f64::NAN, |bits| bits / 8.0 / MIB)
}
