//! Random walks over a live daemon: initiators that log in, work and misbehave from a seed, several connections at once, a part of their
//! PDUs damaged on the way. Nobody checks what each of them is answered; after each round the daemon must serve a new session as if
//! nothing had been, a bystander's data must be right, and memory and sessions must be bounded.
//!
//! `HOLDFAST_FUZZ_SECONDS=600 cargo nextest run -p holdfast-tests --release -E 'binary(walks)' --no-capture` walks for ten minutes;
//! `HOLDFAST_FUZZ_SEED=N` takes the path of a failure again, which a daemon of many threads follows only roughly.

mod walker;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use holdfast_tests::{
    Daemon, DaemonConfig, VolumeSpec, commands,
    random::{Random, number_given},
    wire::{IMMEDIATE, Wire},
};

/// How long to walk when nothing is said.
const USUAL: Duration = Duration::from_secs(15);

/// Walkers of one round, each on a connection of its own.
const WALKERS: u64 = 4;

/// The daemon's own memory, in KiB: pool (64 MiB), and for each walker what one session may hold.
const MEMORY: u64 = 256 << 10;

/// The bystander's target; walkers cannot log in there.
const OTHER: &str = "iqn.2026-11.io.holdfast:bystander";
const BYSTANDER: &str = "iqn.2026-11.test:bystander";

#[test]
fn walks_leave_the_daemon_serving() {
    let time = number_given("HOLDFAST_FUZZ_SECONDS").map_or(USUAL, Duration::from_secs);
    let first = number_given("HOLDFAST_FUZZ_SEED").unwrap_or_else(Random::fresh_seed);
    eprintln!("HOLDFAST_FUZZ_SEED={first}");
    let daemon = daemon();
    let mut bystander = Bystander::new(&daemon);
    let began = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || began.elapsed() < time {
        let seed = first.wrapping_add(rounds);
        let _round = Round(seed);
        thread::scope(|scope| {
            for walker in 0..WALKERS {
                let daemon = &daemon;
                let mut random = Random::new(seed.wrapping_mul(WALKERS) ^ walker);
                scope.spawn(move || walker::walk(daemon.port(), daemon.iqn(), &mut random));
            }
            bystander.works(&mut Random::new(seed));
        });
        serves(&daemon);
        rounds += 1;
    }
    bystander.finds_everything();
    leaves_no_session(&daemon);
    eprintln!(
        "{rounds} rounds of {WALKERS} walks, {} KiB at the end",
        memory(&daemon)
    );
}

/// Says which round failed.
struct Round(u64);

impl Drop for Round {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("in the round of HOLDFAST_FUZZ_SEED={}", self.0);
        }
    }
}

fn daemon() -> Daemon {
    let rule = |name: &str| format!("[[target.initiator]]\nname = \"{name}\"\ncontrol = false\n\n");
    let volume = |name| VolumeSpec::standard(name, "8MiB");
    let daemon = Daemon::start(&DaemonConfig {
        volumes: vec![volume("field"), volume("garden")],
        initiators: rule("*"),
        extra: String::new(),
    });
    daemon.reconfigure(
        "[iscsi]\n",
        "[iscsi]\nmax_connections = 4\nerror_recovery_level = 1\n",
    );
    // LUN 1 goes to a target of its own.
    daemon.reconfigure(", { lun = 1, volume = 2, read_only = false }]", "]");
    let path = daemon.path("config.toml");
    let text = fs::read_to_string(&path).expect("it is there");
    let garden = format!(
        "\n[[target]]\niqn = \"{OTHER}\"\nluns = [{{ lun = 0, volume = 2 }}]\n\n{}",
        rule(BYSTANDER)
    );
    fs::write(&path, text + &garden).expect("ours");
    daemon.holdfast_ok(&["reload"]);
    daemon
}

/// One who works all the time and expects his data to be right.
struct Bystander<'a> {
    daemon: &'a Daemon,
    wire: Wire,
    /// What each 4 KiB of the volume holds.
    content: Vec<u8>,
}

const PIECE: usize = 4096;

impl<'a> Bystander<'a> {
    fn new(daemon: &'a Daemon) -> Self {
        let mut bystander = Self {
            daemon,
            wire: Self::login(daemon),
            content: vec![0; (8 << 20) / PIECE],
        };
        bystander.wire.attentions(0);
        bystander
    }

    fn login(daemon: &Daemon) -> Wire {
        let mut wire = Wire::session_as(daemon.port(), OTHER, BYSTANDER, 1, "");
        wire.set_patience(Duration::from_secs(30));
        wire
    }

    fn works(&mut self, random: &mut Random) {
        for _ in 0..20 {
            let place = random.below(self.content.len() as u64);
            let fill = random.number() as u8;
            let write = commands::write(place * 8, vec![fill; PIECE], false);
            let ended = self.wire.scsi(0, &write);
            assert!(ended.is_good(), "{ended:?}");
            self.content[place as usize] = fill;
            self.finds(random.below(self.content.len() as u64));
        }
    }

    fn finds(&mut self, place: u64) {
        let read = self.wire.scsi(0, &commands::read(place * 8, 8));
        assert!(read.is_good(), "{read:?}");
        let expected = self.content[place as usize];
        assert!(
            read.data.len() == PIECE && read.data.iter().all(|byte| *byte == expected),
            "wrong data in piece {place}"
        );
    }

    fn finds_everything(&mut self) {
        self.wire = Self::login(self.daemon);
        self.wire.attentions(0);
        for place in 0..self.content.len() as u64 {
            self.finds(place);
        }
    }
}

/// A new session is served, whatever the walkers left behind: reservations, sanitized or stopped units are allowed to them.
fn serves(daemon: &Daemon) {
    let mut wire = Wire::session_as(daemon.port(), daemon.iqn(), "iqn.2026-11.test:fresh", 1, "");
    wire.set_patience(Duration::from_secs(30));
    let nop = wire.nop(IMMEDIATE, 0xa11e, wire.cmd_sn).with_data(b"alive");
    wire.send(&nop);
    let answer = wire.answer();
    assert_eq!((answer.bhs.0[0], answer.data.as_slice()), (0x20, &b"alive"[..]));
    let inquiry = wire.scsi(0, &commands::inquiry(None, 96));
    assert!(inquiry.is_good() && inquiry.data.len() >= 36, "{inquiry:?}");
    let luns = wire.scsi(0, &commands::report_luns());
    assert!(luns.is_good(), "{luns:?}");
    let now = memory(daemon);
    assert!(now < MEMORY, "{now} KiB");
    assert!(
        !daemon.log().contains("panicked"),
        "a task of the daemon panicked"
    );
}

/// All sessions but the bystander's end within the time that silent initiators have, and what they hold.
fn leaves_no_session(daemon: &Daemon) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let sessions = daemon.holdfast_ok(&["--json", "sessions"]);
        if !sessions.contains("test:walker") {
            return;
        }
        assert!(Instant::now() < deadline, "sessions are left: {sessions}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// The daemon's own memory in KiB.
fn memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("the daemon runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let figure = line.and_then(|line| line.split_whitespace().nth(1));
    figure.expect("Linux says RssAnon").parse().expect("a number")
}
