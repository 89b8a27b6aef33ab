//! `kill -9` of each of three systems under load, in turn: A mirrors a volume to B in sync mode and to C in async mode.
//!
//! A host writes to A over iSCSI and knows the order of what it wrote (`holdfast_tests::order`). When a system dies, the files of those that
//! were mirrors at that moment are looked at: B holds every write that was answered before, C a beginning of the writes. Then
//! the system is started again, and nobody does anything more: both pairs come back, under load, and nothing that was answered is missing at A.
//! Often another one dies before they have. In the end all three volumes are the same byte by byte; and then A dies for good, and
//! both mirrors are taken over and read by a host.
//!
//! One seed drives a run and is printed, in a failure as well (the plan, that is: the moment of the kill is the machine's).
//! `HOLDFAST_REMOTE_KILLS=200` kills as often, `HOLDFAST_REMOTE_SEED=N` repeats a plan.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use holdfast_tests::{
    Daemon, DaemonConfig, free_port,
    order::{Found, Host},
    random::{Random, number_given},
    systems::{Pki, link, peer, until_arrived},
};

const NAMES: [&str; 3] = ["HF-A", "HF-B", "HF-C"];
/// The mirrors, and as A names them.
const MIRRORS: [(usize, &str, &str); 2] = [(1, "HF-B:1", "sync"), (2, "HF-C:1", "async")];
/// A pair comes back within that.
const LONG: Duration = Duration::from_secs(60);
/// Blocks written to: one a track of 64 KiB.
const BLOCKS: usize = 240;

struct Three {
    /// A, B and C.
    daemons: Vec<Daemon>,
    host: Host,
    random: Random,
    _pki: Pki,
}

/// What was promised of a mirror when the kill came.
struct Promise {
    mirror: usize,
    /// As who looks at the link from the side that lives says: another number later, and the pair has been COPY again.
    connections: u64,
}

/// What was done.
#[derive(Debug, Default)]
struct Figures {
    kills: [usize; 3],
    /// Images looked at, of B and C.
    images: [usize; 2],
    /// Answered writes that were not in images of C.
    behind: usize,
    slowest: Duration,
}

impl Three {
    fn start(seed: u64) -> Self {
        let pki = Pki::new(&NAMES);
        let ports = NAMES.map(|_| free_port());
        let address = |system: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[system]));
        let daemons = (0..3).map(|system| {
            let mut config = DaemonConfig::trio("16MiB");
            let others = if system == 0 { vec![1, 2] } else { vec![0] };
            write!(config.extra, "\n{}", pki.link(NAMES[system], ports[system])).expect("a String takes all");
            for other in others {
                config.extra += &peer(NAMES[other], address(other));
            }
            Daemon::start_with(&config, &[("HOLDFAST__SYSTEM__ID", NAMES[system])])
        });
        let mut three = Self {
            daemons: daemons.collect(),
            host: Host::new(BLOCKS, seed ^ 1),
            random: Random::new(seed),
            _pki: pki,
        };
        three.host.connect(&three.daemons[0]);
        three.host.run(Duration::from_millis(100));
        three.host.rest();
        for (_, far, mode) in MIRRORS {
            three.until(
                || {
                    three.daemons[0]
                        .holdfast(&["establish", "1", far, "--mode", mode])
                        .code()
                        == 0
                },
                "it is linked",
            );
        }
        three
    }

    fn until(&self, done: impl Fn() -> bool, what: &str) {
        let began = Instant::now();
        while !done() {
            let tables: Vec<_> = self
                .daemons
                .iter()
                .map(|daemon| daemon.holdfast(&["query"]).stdout)
                .collect();
            assert!(
                began.elapsed() < LONG,
                "not within {LONG:?}: {what}\n{}",
                tables.join("\n")
            );
            thread::sleep(Duration::from_millis(30));
        }
    }

    fn state(&self, system: usize, primary: &str, mirror: &str) -> String {
        self.daemons[system].pair(primary, mirror)["state"]
            .as_str()
            .expect("a state")
            .to_owned()
    }

    fn is_equal(&self, (mirror, far, _): (usize, &str, &str)) -> bool {
        self.state(0, "1", far) == "duplex" && self.state(mirror, "1", "1") == "duplex"
    }

    /// Both pairs have come back; the host writes meanwhile.
    fn until_equal(&mut self) {
        let began = Instant::now();
        while !MIRRORS.iter().all(|mirror| self.is_equal(*mirror)) {
            let at = |system: usize| self.daemons[system].holdfast(&["query"]).stdout;
            assert!(
                began.elapsed() < LONG,
                "the pairs do not come back:\n{}{}{}{}",
                at(0),
                at(1),
                at(2),
                self.daemons[0].holdfast(&["events"]).stdout
            );
            self.host.run(Duration::from_millis(20));
        }
    }

    /// How often this system was linked with its first peer, or with that one.
    fn connections(&self, system: usize, peer: &str) -> u64 {
        let link = link(&self.daemons[system]);
        let peers = link["peers"].as_array().expect("a list");
        let known = peers.iter().find(|known| known["id"] == peer).expect("a peer");
        known["connections"].as_u64().expect("a number")
    }

    /// The mirrors that are equal now, seen from the side that will live.
    fn promises(&self, victim: usize) -> Vec<Promise> {
        let mut promises = Vec::new();
        for mirror in MIRRORS
            .into_iter()
            .filter(|(mirror, ..)| victim == 0 || victim == *mirror)
        {
            let connections = self.seen(victim, mirror.0);
            if self.is_equal(mirror) {
                promises.push(Promise {
                    mirror: mirror.0,
                    connections,
                });
            }
        }
        promises
    }

    fn seen(&self, victim: usize, mirror: usize) -> u64 {
        if victim == 0 {
            self.connections(mirror, NAMES[0])
        } else {
            self.connections(0, NAMES[mirror])
        }
    }

    /// Writes on for a while, kills, and looks at what the mirrors have.
    fn kill(&mut self, victim: usize, figures: &mut Figures) {
        let promises = self.promises(victim);
        let time = 20 + self.random.below(150);
        self.host.run(Duration::from_millis(time));
        let now = self.host.ledger.now();
        self.daemons[victim].kill();
        figures.kills[victim] += 1;
        if victim == 0 {
            self.host.lose();
        }
        for promise in promises {
            if self.seen(victim, promise.mirror) != promise.connections {
                println!("{}: the link was lost before", NAMES[promise.mirror]);
                continue;
            }
            let found = self.file(promise.mirror);
            let ledger = &self.host.ledger;
            if promise.mirror == 1 {
                // What A answered while it was dying was at B, too.
                let until = if victim == 0 { u64::MAX } else { now };
                ledger
                    .holds(&found, until)
                    .unwrap_or_else(|why| panic!("B: {why}"));
            } else {
                figures.behind += ledger.is_prefix(&found).unwrap_or_else(|why| panic!("C: {why}"));
            }
            figures.images[promise.mirror - 1] += 1;
        }
    }

    fn start_again(&mut self, victim: usize) {
        self.daemons[victim].start_again();
        if victim == 0 {
            self.host.connect(&self.daemons[0]);
            let found = self.read();
            let ledger = &self.host.ledger;
            ledger
                .holds(&found, u64::MAX)
                .unwrap_or_else(|why| panic!("A: {why}"));
        }
    }

    fn read(&mut self) -> Found {
        let image = self.host.image();
        self.host.ledger.read(&image).expect("whole blocks")
    }

    /// What a system's volume holds now, without asking it.
    fn file(&self, system: usize) -> Found {
        let image = fs::read(self.daemons[system].path("prod.img")).expect("the volume's file");
        self.host.ledger.read(&image).expect("whole blocks")
    }

    fn round(&mut self, victim: usize, figures: &mut Figures) {
        let began = Instant::now();
        self.kill(victim, figures);
        if victim != 0 {
            // The host goes on without it.
            let time = self.random.below(200);
            self.host.run(Duration::from_millis(time));
        }
        self.start_again(victim);
        if self.random.chance(40) {
            let time = self.random.below(100);
            self.host.run(Duration::from_millis(time));
            let next = self.random.below(3) as usize;
            println!("and {} before that is over", NAMES[next]);
            self.kill(next, figures);
            self.start_again(next);
        }
        self.until_equal();
        figures.slowest = figures.slowest.max(began.elapsed());
    }

    /// All three hold the same.
    fn compare(&mut self) {
        self.host.flush();
        until_arrived(&self.daemons[0]);
        let found = self.read();
        let ledger = &self.host.ledger;
        ledger
            .holds(&found, u64::MAX)
            .expect("what was answered is there");
        let volume =
            |system: usize| fs::read(self.daemons[system].path("prod.img")).expect("the volume's file");
        let here = volume(0);
        for mirror in [1, 2] {
            assert!(volume(mirror) == here, "{} differs", NAMES[mirror]);
        }
    }

    /// A is lost under load, and the mirrors go on without it.
    fn take_over(&mut self, figures: &mut Figures) {
        self.kill(0, figures);
        for mirror in [1, 2] {
            let daemon = &self.daemons[mirror];
            self.until(|| link(daemon)["peers"][0]["up"] == false, "A is missed");
            daemon.holdfast_ok(&["swap", "1", "1", "--force"]);
            self.host.connect(daemon);
            let found = self.read();
            let ledger = &self.host.ledger;
            let checked = if mirror == 1 {
                ledger.holds(&found, u64::MAX)
            } else {
                ledger.is_prefix(&found).map(drop)
            };
            checked.unwrap_or_else(|why| panic!("{} was taken over: {why}", NAMES[mirror]));
            // It takes writes.
            self.host.run(Duration::from_millis(20));
            self.host.rest();
        }
    }
}

/// S50, S51, S58, S84.
#[test]
fn each_of_three_systems_dies_under_load() {
    let seed = number_given("HOLDFAST_REMOTE_SEED").unwrap_or_else(Random::fresh_seed);
    let kills = number_given("HOLDFAST_REMOTE_KILLS").unwrap_or(6) as usize;
    println!("HOLDFAST_REMOTE_SEED={seed}");
    let mut three = Three::start(seed);
    three.until_equal();
    let mut figures = Figures::default();
    while figures.kills.iter().sum::<usize>() < kills {
        let first = three.random.below(3) as usize;
        for victim in [first, first + 1, first + 2].map(|turn| turn % 3) {
            println!("{} dies", NAMES[victim]);
            three.round(victim, &mut figures);
        }
        three.compare();
    }
    three.take_over(&mut figures);
    println!("{figures:?}; {} writes", three.host.ledger.answered());
}
