//! A remote pair over a link that is slow and breaks all the time, between real daemons and under a host that never pauses.
//!
//! In `./test` the link is the project's proxy: it delays, throttles, swallows for a while, and cuts after any byte. Where the kernel can make network
//! namespaces, the same over a pair of virtual network cards, of which a token bucket drops what comes too fast, and that are taken
//! down and up again; for root, and not in `./test`, because not every machine can:
//!
//!     cargo nextest run -p holdfast-tests --test slow_link --run-ignored only
//!
//! `HOLDFAST_SLOW_SEED=N` repeats a plan.

use std::{
    fmt::Write as _,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use holdfast_tests::{
    Daemon, DaemonConfig, free_port,
    order::Host,
    proxy::Way,
    random::{Random, number_given},
    systems::{Pki, Systems, link, peer, until_arrived, until_link},
    tool,
};

const LONG: Duration = Duration::from_secs(60);
const BLOCKS: usize = 200;

/// Two systems, a host of the first, and a plan.
struct Run<'a> {
    a: &'a Daemon,
    b: &'a mut Daemon,
    host: Host,
    random: Random,
    /// Images of the far side that were looked at while it was equal.
    images: usize,
}

impl<'a> Run<'a> {
    fn new(a: &'a Daemon, b: &'a mut Daemon, mode: &str) -> Self {
        let seed = number_given("HOLDFAST_SLOW_SEED").unwrap_or_else(Random::fresh_seed);
        println!("HOLDFAST_SLOW_SEED={seed} ({mode})");
        let mut host = Host::new(BLOCKS, seed ^ 1);
        host.connect(a);
        host.run(Duration::from_millis(50));
        a.holdfast_ok(&["establish", "1", "HF-B:1", "--mode", mode]);
        let mut run = Self {
            a,
            b,
            host,
            random: Random::new(seed),
            images: 0,
        };
        run.until_equal();
        run
    }

    fn is_equal(&self) -> bool {
        [self.a, &*self.b]
            .iter()
            .all(|daemon| daemon.pair("1", "1")["state"] == "duplex")
    }

    /// It comes back by itself, under load.
    fn until_equal(&mut self) {
        let began = Instant::now();
        while !self.is_equal() {
            assert!(
                began.elapsed() < LONG,
                "the pair does not come back: {} {}\n{}",
                self.a.pair("1", "1"),
                self.b.pair("1", "1"),
                self.a.holdfast_ok(&["events"])
            );
            self.host.run(Duration::from_millis(20));
        }
    }

    fn connections(&self) -> u64 {
        link(self.a)["peers"][0]["connections"]
            .as_u64()
            .expect("a number")
    }

    /// What the far side has while it is equal is a beginning of the writes; with `all`, all that was answered.
    fn look(&mut self, all: bool) {
        self.until_equal();
        let connections = self.connections();
        if !self.is_equal() {
            return;
        }
        let time = self.random.below(100);
        self.host.run(Duration::from_millis(time));
        let now = self.host.ledger.now();
        self.b.kill();
        // Otherwise it was lost meanwhile, and was perhaps being copied to.
        if self.connections() == connections {
            let image = fs::read(self.b.path("prod.img")).expect("the volume's file");
            let found = self.host.ledger.read(&image).expect("whole blocks");
            let ledger = &self.host.ledger;
            let looked = if all {
                ledger.holds(&found, now)
            } else {
                ledger.is_prefix(&found).map(drop)
            };
            looked.unwrap_or_else(|why| panic!("the far side: {why}"));
            self.images += 1;
        }
        self.b.start_again();
        self.until_equal();
    }

    fn end(mut self) {
        self.until_equal();
        self.host.flush();
        until_arrived(self.a);
        let [here, there] =
            [self.a, &*self.b].map(|daemon| fs::read(daemon.path("prod.img")).expect("a file"));
        assert!(here == there, "the volumes differ");
        let found = self.host.ledger.read(&here).expect("whole blocks");
        self.host
            .ledger
            .holds(&found, u64::MAX)
            .expect("what was answered is there");
        println!(
            "{} writes, {} connections, {} images looked at",
            self.host.ledger.answered(),
            self.connections(),
            self.images
        );
    }
}

/// S50, S51, S58, S84.
#[test]
fn a_pair_over_a_slow_link_that_is_cut_anywhere() {
    for mode in ["sync", "async"] {
        let config = DaemonConfig::trio("16MiB");
        let mut systems = Systems::start(&config, &config);
        let Systems {
            a, b, a_to_b, b_to_a, ..
        } = &mut systems;
        let ways = [&*a_to_b, &*b_to_a];
        for proxy in ways {
            proxy.delay(Duration::from_millis(3));
            proxy.throttle(Some(8 << 20));
        }
        let mut run = Run::new(a, b, mode);
        for turn in 0..6 {
            let time = run.random.below(150);
            run.host.run(Duration::from_millis(time));
            if turn % 3 == 2 {
                for proxy in ways {
                    proxy.hold(true);
                }
                run.host.run(Duration::from_millis(300));
                for proxy in ways {
                    proxy.hold(false);
                }
                run.look(mode == "sync");
                continue;
            }
            let bytes = 1 + run.random.below(200_000);
            let way = if run.random.chance(50) {
                Way::Forth
            } else {
                Way::Back
            };
            let before = run.connections();
            for proxy in ways {
                proxy.cut_after(way, bytes);
            }
            // The answers alone are few bytes.
            let began = Instant::now();
            while run.connections() == before {
                if began.elapsed() > Duration::from_secs(1) {
                    for proxy in ways {
                        proxy.cut();
                    }
                }
                assert!(began.elapsed() < LONG, "it is not linked again");
                run.host.run(Duration::from_millis(20));
            }
            if run.random.chance(50) {
                run.until_equal();
            }
        }
        for proxy in ways {
            proxy.throttle(None);
        }
        run.end();
    }
}

/// A network namespace with a card, and another card here. Dropping it takes all away.
struct Cable {
    namespace: String,
    here: String,
}

const HERE: &str = "10.231.77.1";
const THERE: &str = "10.231.77.2";

impl Cable {
    /// A bucket of 64 KiB at 64 Mbit/s each way; what waits for longer than 5 ms is dropped.
    fn new() -> Self {
        let id = std::process::id();
        let cable = Self {
            namespace: format!("holdfast-{id}"),
            here: format!("hf{id}a"),
        };
        let there = format!("hf{id}b");
        let ip = |text: &str| command("ip", text);
        ip(&format!("netns add {}", cable.namespace));
        ip(&format!("link add {} type veth peer name {there}", cable.here));
        ip(&format!("link set {there} netns {}", cable.namespace));
        ip(&format!("addr add {HERE}/30 dev {}", cable.here));
        ip(&format!("link set {} up", cable.here));
        let inside = |text: &str| ip(&format!("netns exec {} {text}", cable.namespace));
        inside("ip link set lo up");
        inside(&format!("ip addr add {THERE}/30 dev {there}"));
        inside(&format!("ip link set {there} up"));
        let bucket = "root tbf rate 64mbit burst 64kb latency 5ms";
        command("tc", &format!("qdisc add dev {} {bucket}", cable.here));
        inside(&format!("tc qdisc add dev {there} {bucket}"));
        cable
    }

    fn set(&self, state: &str) {
        command("ip", &format!("link set {} {state}", self.here));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // Either takes the cards away: what the second has to say is no news.
        let _ = Command::new("ip").args(["link", "del", &self.here]).output();
        let _ = Command::new("ip")
            .args(["netns", "del", &self.namespace])
            .output();
    }
}

fn command(program: &str, text: &str) {
    let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let run = tool::call(program, &words);
    assert!(
        run.status.success(),
        "{program} {text}: {}; this needs root, and a kernel with network namespaces, veth and sch_tbf",
        run.said()
    );
}

/// S50, S51, S58, S84, over cards that drop packets and go down.
#[test]
#[ignore = "needs root and network namespaces; the head of this file has the command"]
fn a_pair_over_a_lossy_network() {
    for mode in ["sync", "async"] {
        let cable = Cable::new();
        let pki = Pki::new(&["HF-A", "HF-B"]);
        let (port_a, port_b) = (free_port(), free_port());
        let config = |system: &str, own: (&str, u16), other: (&str, &str, u16)| {
            let mut config = DaemonConfig::trio("16MiB");
            let link = pki.link(system, own.1).replace("127.0.0.1", own.0);
            let address = format!("{}:{}", other.1, other.2).parse().expect("an address");
            write!(config.extra, "\n{link}{}", peer(other.0, address)).expect("a String takes all");
            config
        };
        let a = config("HF-A", (HERE, port_a), ("HF-B", THERE, port_b));
        let b = config("HF-B", (THERE, port_b), ("HF-A", HERE, port_a));
        let a = Daemon::start_with(&a, &[("HOLDFAST__SYSTEM__ID", "HF-A")]);
        let launcher = ["ip", "netns", "exec", &cable.namespace];
        let mut b = Daemon::start_by(&launcher, &b, &[("HOLDFAST__SYSTEM__ID", "HF-B")]);
        for daemon in [&a, &b] {
            until_link(daemon, |link| link["peers"][0]["up"] == true);
        }
        let mut run = Run::new(&a, &mut b, mode);
        for _ in 0..4 {
            let time = 100 + run.random.below(500);
            run.host.run(Duration::from_millis(time));
            // Short: TCP sends again what is lost. Long: keepalive ends the connection.
            let away = if run.random.chance(50) { 500 } else { 9500 };
            cable.set("down");
            run.host.run(Duration::from_millis(away));
            cable.set("up");
            run.until_equal();
            run.look(mode == "sync");
        }
        run.end();
        drop((a, b));
    }
}
