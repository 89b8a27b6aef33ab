//! Two systems and the link between them.
use crate::compare::free_port;
use crate::cost::Plan;
use crate::cost::daemon::{Daemon, volumes};
use holdfast_tests::proxy::{Proxy, Way};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// The volume of a pair; both systems have it by this number.
pub(crate) const SYNC: u32 = 1;
pub(crate) const ASYNC: u32 = 2;
/// One in no pair.
pub(crate) const PLAIN: u32 = 3;

/// What is between the two.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub(crate) name: &'static str,
    /// `None`: no proxy. Else it is added to the way there and back together.
    pub(crate) round_trip: Option<Duration>,
    /// Bytes a second, each way.
    pub(crate) rate: Option<u64>,
}

impl Link {
    pub(crate) const fn new(name: &'static str, round_trip_ms: u64, rate: Option<u64>) -> Self {
        let round_trip = Some(Duration::from_millis(round_trip_ms));
        Self {
            name,
            round_trip,
            rate,
        }
    }

    pub(crate) const LOOPBACK: Self = Self {
        name: "loopback, no proxy",
        round_trip: None,
        rate: None,
    };

    /// A way to this address that is like the link.
    pub(crate) fn way(&self, to: SocketAddr) -> Option<Proxy> {
        let proxy = Proxy::start(to);
        proxy.delay(self.round_trip? / 2);
        proxy.throttle(self.rate);
        Some(proxy)
    }
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

pub(crate) struct Systems {
    pub(crate) a: Daemon,
    pub(crate) b: Daemon,
    ways: [Option<Proxy>; 2],
}

impl Systems {
    pub(crate) fn start(plan: &Plan, link: Link, size: &'static str) -> Self {
        Self::start_with(plan, link, size, "none")
    }

    /// With this compression both ways.
    pub(crate) fn start_with(plan: &Plan, link: Link, size: &'static str, compression: &str) -> Self {
        let pki = plan.disk.join("pki");
        if !pki.exists() {
            for words in [&["init"][..], &["issue", "HF-A"], &["issue", "HF-B"]] {
                let mut command = Command::new(plan.product.join("holdfast"));
                let made = command
                    .args(["pki", words[0]])
                    .arg(&pki)
                    .args(&words[1..])
                    .output();
                assert!(made.is_ok_and(|made| made.status.success()), "pki {words:?}");
            }
        }
        let (port_a, port_b) = (free_port(), free_port());
        let ways = [link.way(loopback(port_b)), link.way(loopback(port_a))];
        let daemon = |system: &str, port, peer: &str, there, way: &Option<Proxy>| {
            let address = way.as_ref().map_or(loopback(there), Proxy::address);
            let pki = pki.display();
            let extra = format!(
                "[link]\nlisten = \"127.0.0.1:{port}\"\ncert = \"{pki}/{system}.pem\"\nkey = \"{pki}/{system}.key\"\nca = \"{pki}/ca.pem\"\n\
                 [[peer]]\nid = \"{peer}\"\naddress = \"{address}\"\ncompression = \"{compression}\"\n"
            );
            Daemon::start_as(system, plan, &plan.dir, &volumes(3, 0, size), &extra)
        };
        let systems = Self {
            a: daemon("HF-A", port_a, "HF-B", port_b, &ways[0]),
            b: daemon("HF-B", port_b, "HF-A", port_a, &ways[1]),
            ways,
        };
        let until = Instant::now() + Duration::from_secs(30);
        while [&systems.a, &systems.b]
            .iter()
            .any(|side| peer(side)["up"] != true)
        {
            assert!(Instant::now() < until, "the link does not come up");
            thread::sleep(Duration::from_millis(20));
        }
        systems
    }

    /// Makes the pair of this volume.
    pub(crate) fn pair(&self, volume: u32, mode: &str) {
        let (primary, mirror) = (volume.to_string(), format!("HF-B:{volume}"));
        self.a
            .holdfast(&["establish", &primary, &mirror, "--mode", mode, "--wait"]);
    }

    /// Bytes that have gone to B: through the proxy, all of them; without one, before encryption.
    pub(crate) fn sent(&self) -> u64 {
        match &self.ways {
            [Some(forth), Some(back)] => forth.passed(Way::Forth) + back.passed(Way::Back),
            _ => peer(&self.a)["sent"].as_u64().unwrap_or(0),
        }
    }
}

fn peer(daemon: &Daemon) -> Value {
    let link: Value = serde_json::from_str(&daemon.holdfast(&["--json", "link"])).expect("a document");
    link["peers"][0].clone()
}
