//! Remote pairs between two real daemons, over a link that is cut, with hosts on both.

use std::{
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use holdfast_tests::{
    Daemon, DaemonConfig, commands,
    initiator::{Completion, GOOD},
    stamps::SECTOR,
    systems::{self, Systems},
    tool,
};

/// 2h/04h/03h: the volume does not answer hosts.
const NOT_READY: (u8, u8, u8) = (2, 4, 3);
/// Sectors written at a time.
const SECTORS: usize = 128;

fn write(daemon: &Daemon, lun: u16, block: u64, byte: u8) -> Completion {
    let data = vec![byte; SECTORS * SECTOR];
    daemon.run(lun, &commands::write(block * SECTORS as u64, data, false))
}

fn read(daemon: &Daemon, lun: u16, block: u64) -> Vec<u8> {
    let read = commands::read(block * SECTORS as u64, SECTORS as u32);
    let completion = daemon.run(lun, &read);
    assert_eq!(completion.status, GOOD, "{completion:?}");
    completion.data
}

fn holds(daemon: &Daemon, lun: u16, block: u64, byte: u8) {
    let data = read(daemon, lun, block);
    assert!(
        data.iter().all(|found| *found == byte),
        "block {block} of LUN {lun} holds {}, not {byte}",
        data[0]
    );
}

fn until_state(daemon: &Daemon, state: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let pair = daemon.pair("1", "1");
        if pair["state"] == state {
            return;
        }
        assert!(Instant::now() < deadline, "not {state}: {pair}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Volume 1 of both systems, a pair of this mode.
fn remote(mode: &str) -> Systems {
    let config = DaemonConfig::trio("16MiB");
    let systems = Systems::start(&config, &config);
    systems.until_linked(true);
    assert_eq!(write(&systems.a, 0, 0, 7).status, GOOD);
    systems
        .a
        .holdfast_ok(&["establish", "1", "HF-B:1", "--mode", mode, "--wait"]);
    until_state(&systems.b, "duplex");
    systems
}

/// S50, S51, S58, S74: hosts go on without the link, and what they wrote follows; swap turns the pair round and back.
#[test]
fn two_systems_keep_a_volume_equal_through_cuts_kills_and_swaps() {
    for mode in ["sync", "async"] {
        let mut systems = remote(mode);
        let pair = systems.a.pair("1", "1");
        assert_eq!(
            (&pair["kind"], &pair["peer"], &pair["mode"]),
            (&"remote".into(), &"HF-B".into(), &mode.into()),
            "{pair}"
        );
        assert_eq!(write(&systems.b, 0, 0, 9).sense_code(), NOT_READY);
        systems.part();
        assert_eq!(write(&systems.a, 0, 1, 8).status, GOOD);
        until_state(&systems.a, "suspended");
        systems.mend();
        until_state(&systems.a, "duplex");
        systems.b.kill();
        assert_eq!(write(&systems.a, 0, 2, 9).status, GOOD);
        systems.b.start_again();
        until_state(&systems.a, "duplex");
        assert_eq!(write(&systems.a, 0, 3, 10).status, GOOD);
        systems.a.kill();
        systems.a.start_again();
        until_state(&systems.a, "duplex");
        until_state(&systems.b, "duplex");
        assert_eq!(write(&systems.a, 0, 4, 11).status, GOOD);
        systems.a.holdfast_ok(&["swap", "1", "1"]);
        assert_eq!(write(&systems.a, 0, 0, 12).sense_code(), NOT_READY);
        for (block, byte) in [(0, 7), (1, 8), (2, 9), (3, 10), (4, 11)] {
            holds(&systems.b, 0, block, byte);
        }
        assert_eq!(write(&systems.b, 0, 5, 13).status, GOOD);
        until_state(&systems.b, "duplex");
        systems.a.holdfast_ok(&["swap", "HF-B:1", "1"]);
        holds(&systems.a, 0, 5, 13);
    }
}

/// What happens to an ESTABLISH whose answer is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    LeaderDies,
    FollowerDies,
    LinkBreaks,
}

/// S49: the follower has the pair, and its leader has not heard so when one of them is killed, or the link breaks: neither has it afterwards,
/// by itself. (A machine that is slow enough lets the answer arrive: then both have it.)
#[test]
fn a_pair_is_made_on_both_systems_or_on_neither() {
    let config = DaemonConfig::trio("16MiB");
    let mut systems = Systems::start(&config, &config);
    for fate in [Fate::LeaderDies, Fate::FollowerDies, Fate::LinkBreaks] {
        systems.until_linked(true);
        for proxy in [&systems.a_to_b, &systems.b_to_a] {
            proxy.delay(Duration::from_millis(700));
        }
        let establish = ["establish", "1", "HF-B:1", "--mode", "sync"];
        let mut command = std::process::Command::new(holdfast_tests::program("holdfast"));
        command
            .arg("--admin")
            .arg(systems.a.path("admin.sock"))
            .args(establish);
        let command = std::thread::spawn(move || tool::run(&mut command, Duration::from_secs(60)));
        while remote_pairs(&systems.b) == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        match fate {
            Fate::LeaderDies => systems.a.kill(),
            Fate::FollowerDies => {
                // What it has sent would arrive.
                systems.part();
                systems.b.kill();
            }
            Fate::LinkBreaks => systems.part(),
        }
        let answer = command.join().expect("it ends");
        for proxy in [&systems.a_to_b, &systems.b_to_a] {
            proxy.delay(Duration::ZERO);
        }
        match fate {
            Fate::LeaderDies => systems.a.start_again(),
            Fate::FollowerDies => {
                systems.b.start_again();
                systems.mend();
            }
            Fate::LinkBreaks => systems.mend(),
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        while remote_pairs(&systems.a) != remote_pairs(&systems.b) {
            let tables = [&systems.a, &systems.b].map(|daemon| daemon.holdfast_ok(&["query"]));
            assert!(Instant::now() < deadline, "{fate:?}: {tables:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("{fate:?}: {} pairs; {}", remote_pairs(&systems.a), answer.said());
        if remote_pairs(&systems.b) == 0 {
            assert_eq!(write(&systems.b, 0, 0, 5).status, GOOD);
            systems.until_linked(true);
            systems.a.holdfast_ok(&establish);
        }
        until_state(&systems.a, "duplex");
        until_state(&systems.b, "duplex");
        systems.a.holdfast_ok(&["cancel", "1", "1"]);
    }
}

/// How many remote pairs a system has.
fn remote_pairs(daemon: &Daemon) -> usize {
    let text = daemon.holdfast_ok(&["--json", "query"]);
    text.matches("\"kind\":\"remote\"").count()
}

/// S60, S61, S62, S63, S64, S65, S66, S67: a backup at the far site by a command given at the near one, in band and by the command line.
#[test]
fn a_backup_at_the_far_site() {
    let systems = remote("async");
    systems.b.holdfast_ok(&["establish", "1", "2", "--wait"]);
    systems.a.holdfast_ok(&["split", "--remote", "1", "2"]);
    assert_eq!(write(&systems.a, 0, 0, 20).status, GOOD);
    holds(&systems.b, 1, 0, 7);
    until_state(&systems.a, "duplex");
    // C1h, SPLIT, REMOTE, volume 1, mirror 2 there.
    let split = commands::raw(&[0xc1, 1, 1 << 4, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0], 0);
    assert_eq!(systems.a.run(0, &split).status, GOOD);
    holds(&systems.b, 1, 0, 20);
    until_state(&systems.a, "duplex");
    // With hooks: what is written before the image is in it, what comes after is not.
    let trace = systems.a.path("hooks");
    let hook = |word: &str| format!("echo {word} >> {}", trace.display());
    assert_eq!(write(&systems.a, 0, 0, 21).status, GOOD);
    let (before, after) = (hook("frozen"), hook("thawed"));
    let backup = [
        "backup", "1", "--to", "HF-B:2", "--before", &before, "--after", &after,
    ];
    systems.a.holdfast_ok(&backup);
    assert_eq!(write(&systems.a, 0, 0, 22).status, GOOD);
    holds(&systems.b, 1, 0, 21);
    assert_eq!(std::fs::read_to_string(&trace).unwrap(), "frozen\nthawed\n");
    let failing = systems
        .a
        .holdfast(&["backup", "1", "--to", "2", "--before", "exit 3"]);
    assert_eq!(failing.code(), 1, "{}", failing.said());
    holds(&systems.b, 1, 0, 21);
    until_state(&systems.a, "duplex");
    let events = systems.a.holdfast_ok(&["events"]);
    assert!(events.contains("were held back for"), "{events}");
    systems.part();
    // Told in other words while it is being lost.
    systems.until_linked(false);
    let refused = systems.a.holdfast(&["split", "--remote", "1", "2"]);
    assert_eq!(refused.code(), 1, "{}", refused.said());
    assert!(
        refused.said().contains("the link to HF-B is down"),
        "{}",
        refused.said()
    );
}

/// 2h/04h/01h: writes are refused until the far side is back.
const BECOMING_READY: (u8, u8, u8) = (2, 4, 1);

/// S58, S76: a mirror that must not be missed; both sides compared; and a pair that is made again sends only what differs.
#[test]
fn a_mirror_that_is_needed_compared_and_made_again() {
    let systems = remote("sync");
    let (a, b) = (&systems.a, &systems.b);
    a.holdfast_ok(&["on-link-loss", "refuse", "1", "HF-B:1"]);
    assert_eq!(a.pair("1", "1")["on_link_loss"], "refuse");
    systems.part();
    until_state(a, "suspended");
    assert_eq!(write(a, 0, 0, 8).sense_code(), BECOMING_READY);
    holds(a, 0, 0, 7);
    systems.mend();
    until_state(a, "duplex");
    for block in 0..32 {
        assert_eq!(write(a, 0, block, 8 + block as u8).status, GOOD);
    }
    until_state(b, "duplex");

    assert!(a.holdfast_ok(&["verify", "--deep"]).contains("no difference"));
    let image = std::fs::OpenOptions::new()
        .write(true)
        .open(b.path("prod.img"))
        .expect("the far image");
    image
        .write_all_at(&[99; 512], 5 * 65_536)
        .expect("the disk lies from now on");
    let found = a.holdfast(&["--json", "verify", "--deep", "1", "HF-B:1"]);
    assert_eq!(found.code(), 4, "{}", found.said());
    assert!(
        found.stdout.contains(r#""differing":[{"first":5,"tracks":1}]"#),
        "{}",
        found.said()
    );
    a.holdfast_ok(&["verify", "--deep", "--repair"]);
    until_state(a, "duplex");
    a.holdfast_ok(&["verify", "--deep"]);

    a.holdfast_ok(&["cancel", "1", "1"]);
    assert_eq!(write(a, 0, 3, 99).status, GOOD);
    let sent = || systems::link(a)["peers"][0]["sent"].as_u64().expect("a number");
    let before = sent();
    a.holdfast_ok(&[
        "establish",
        "1",
        "HF-B:1",
        "--mode",
        "sync",
        "--checksum",
        "--wait",
    ]);
    let sent = sent() - before;
    // 2 MiB of data on either side, of which one track of 64 KiB differs.
    assert!((65_536..200_000).contains(&sent), "{sent} bytes were sent");
    a.holdfast_ok(&["swap", "1", "1"]);
    holds(b, 0, 3, 99);
    holds(b, 0, 31, 39);
}

/// A first copy, a host's writes, a resync there and one back: with fewer bytes on the link where that is asked for, and the same data.
#[test]
fn a_pair_over_a_link_that_compresses() {
    let config = DaemonConfig::trio("16MiB");
    let systems = Systems::start(&config, &config);
    let (a, b) = (&systems.a, &systems.b);
    let compress = |daemon: &Daemon, peer: &str, by: &str| {
        let table = format!("[[peer]]\nid = \"{peer}\"\n");
        let said = daemon.reconfigure(&table, &format!("{table}compression = \"{by}\"\n"));
        assert!(
            said.contains(&format!("data to peer {peer} is compressed by {by}")),
            "{said}"
        );
    };
    // What compression spared of what a system sent, so far.
    let spared = |daemon: &Daemon| {
        let link = systems::link(daemon);
        let number = |key: &str| link["peers"][0][key].as_u64().expect("a number");
        number("sent_uncompressed") - number("sent")
    };
    for block in 0..32 {
        assert_eq!(write(a, 0, block, 8 + block as u8).status, GOOD);
    }
    compress(a, "HF-B", "zstd");
    assert_eq!(systems::link(a)["peers"][0]["compression"], "zstd");
    a.holdfast_ok(&["establish", "1", "HF-B:1", "--mode", "sync", "--wait"]);
    // 2 MiB were copied, each track of one byte.
    let first = spared(a);
    assert!(first > 15 << 17, "{first} bytes spared by the first copy");
    assert_eq!(write(a, 0, 0, 50).status, GOOD);
    let host = spared(a);
    assert!(host > first + 60_000, "{host} after {first}: a host's write");
    let text = a.holdfast_ok(&["link"]);
    assert!(text.contains("zstd, out "), "{text}");

    a.holdfast_ok(&["split", "1", "HF-B:1"]);
    for block in 8..24 {
        assert_eq!(write(a, 0, block, 60).status, GOOD);
    }
    let before = spared(a);
    a.holdfast_ok(&["establish", "1", "HF-B:1", "--mode", "sync", "--wait"]);
    let resync = spared(a) - before;
    assert!(resync > 15 << 16, "{resync} bytes spared by the resync");
    assert!(a.holdfast_ok(&["verify", "--deep"]).contains("no difference"));

    // Back, once as before and once compressed by the other side, with the other kind.
    for (byte, by) in [(70, None), (80, Some("lz4"))] {
        if let Some(by) = by {
            compress(b, "HF-A", by);
        }
        a.holdfast_ok(&["split", "1", "HF-B:1"]);
        for block in 8..24 {
            assert_eq!(write(b, 0, block, byte).status, GOOD);
        }
        let before = spared(b);
        a.holdfast_ok(&["restore", "1", "HF-B:1", "--wait"]);
        let back = spared(b) - before;
        assert_eq!(back > 15 << 16, by.is_some(), "{back} bytes spared by {by:?}");
        assert!(by.is_some() || back == 0, "{back} bytes spared by nothing");
        for (block, byte) in [(0, 50), (7, 15), (8, byte), (23, byte), (31, 39)] {
            holds(a, 0, block, byte);
        }
    }
    let metrics = systems::metrics(b);
    assert!(
        metrics.contains("holdfast_link_sent_uncompressed_bytes_total{peer=\"HF-A\"} "),
        "{metrics}"
    );
}

/// The far site is lost, then this one; the far volume goes on alone, and this one follows or waits.
#[test]
fn a_takeover_without_the_peer_is_never_guessed_about() {
    let mut systems = remote("sync");
    systems.a.kill();
    let refused = systems.b.holdfast(&["swap", "1", "1"]);
    assert_eq!(refused.code(), 1, "{}", refused.said());
    systems.b.holdfast_ok(&["swap", "1", "1", "--force"]);
    holds(&systems.b, 0, 0, 7);
    assert_eq!(write(&systems.b, 0, 0, 30).status, GOOD);
    systems.a.start_again();
    // The kill left marks here: both sides have something, as far as anybody can know.
    let deadline = Instant::now() + Duration::from_secs(30);
    // In the moment in which its part changes there is no pair to be shown.
    let follows = || {
        let seen = systems.a.holdfast(&["--json", "query", "1", "1"]);
        seen.code() == 0 && seen.stdout.contains("\"role\":\"mirror\"")
    };
    while !systems.a.holdfast_ok(&["events"]).contains("HF-B took over") && !follows() {
        assert!(
            Instant::now() < deadline,
            "{}",
            systems.a.holdfast_ok(&["events"])
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    if !follows() {
        systems.a.holdfast_ok(&["cancel", "1", "1", "--force"]);
        systems.b.holdfast_ok(&["cancel", "1", "1", "--force"]);
        systems
            .b
            .holdfast_ok(&["establish", "1", "HF-A:1", "--mode", "sync", "--wait"]);
    }
    until_state(&systems.b, "duplex");
    assert_eq!(write(&systems.a, 0, 0, 31).sense_code(), NOT_READY);
    systems.b.holdfast_ok(&["swap", "1", "1"]);
    holds(&systems.a, 0, 0, 30);
}

/// MiB of a volume that is written flat out.
const WIDE: u64 = 72;

/// Two systems with such volumes.
fn wide(longest_hold: &str) -> Systems {
    let mut config = DaemonConfig::trio("72MiB");
    config.extra = format!("[replication]\nlongest_hold = {longest_hold}\n");
    Systems::start(&config, &config)
}

/// Writes all of LUN 0, a MiB at a time.
fn flat_out(daemon: &Daemon) {
    const SECTORS: u64 = (1 << 20) / SECTOR as u64;
    let mut host = daemon.host();
    for block in 0..WIDE {
        let write = commands::write(block * SECTORS, vec![block as u8; 1 << 20], false);
        assert_eq!(
            host.run(0, &write).expect("connected").status,
            GOOD,
            "block {block}"
        );
    }
}

/// S51: a host that writes faster than the link carries, beside the first copy, does not make it part the pair.
#[test]
fn a_slow_link_slows_the_host_down_and_parts_nobody() {
    // However slow this machine is.
    let systems = wide("60");
    let a = &systems.a;
    flat_out(a);
    for proxy in [&systems.a_to_b, &systems.b_to_a] {
        proxy.throttle(Some(16 << 20));
    }
    a.holdfast_ok(&["establish", "1", "HF-B:1", "--mode", "async"]);
    flat_out(a);
    until_state(a, "duplex");
    let events = a.holdfast_ok(&["events"]);
    assert!(!events.contains("suspended"), "{events}");
    assert!(a.holdfast_ok(&["verify", "--deep"]).contains("no difference"));
}

/// A link over which nothing goes any more keeps hosts waiting once; then they go on, and the pair comes back with the link.
#[test]
fn a_link_that_stops_keeps_hosts_waiting_once() {
    let systems = wide("0.5");
    let a = &systems.a;
    a.holdfast_ok(&["establish", "1", "HF-B:1", "--mode", "async", "--wait"]);
    for proxy in [&systems.a_to_b, &systems.b_to_a] {
        proxy.hold(true);
    }
    flat_out(a);
    until_state(a, "suspended");
    for proxy in [&systems.a_to_b, &systems.b_to_a] {
        proxy.hold(false);
    }
    until_state(a, "duplex");
    assert!(a.holdfast_ok(&["verify", "--deep"]).contains("no difference"));
}
