//! Two daemons that are each other's peers, with a proxy on each way between them.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Daemon, DaemonConfig, free_port, program, proxy::Proxy, tool};

/// Nothing between two daemons takes as long.
const LONG: Duration = Duration::from_secs(60);

/// An authority and certificates, made by `holdfast pki`.
#[derive(Debug)]
pub struct Pki {
    directory: TempDir,
}

impl Pki {
    /// An authority and certificates of these systems.
    pub fn new(systems: &[&str]) -> Self {
        let pki = Self {
            directory: tempfile::Builder::new()
                .prefix("holdfast-pki-")
                .tempdir()
                .expect("a temporary directory"),
        };
        pki.holdfast(&["init"], &[]);
        for system in systems {
            pki.issue(system);
        }
        pki
    }

    /// A certificate for one more.
    pub fn issue(&self, system: &str) {
        self.holdfast(&["issue"], &[system]);
    }

    fn holdfast(&self, verb: &[&str], arguments: &[&str]) {
        let mut command = Command::new(program("holdfast"));
        command
            .arg("pki")
            .args(verb)
            .arg(self.path("authority"))
            .args(arguments);
        let run = tool::run(&mut command, LONG);
        assert_eq!(run.code(), 0, "{}", run.said());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file of the authority.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path("authority").join(name)
    }

    /// `[link]` of a system, listening on a port of loopback.
    pub fn link(&self, system: &str, port: u16) -> String {
        let file = |name: &str| self.file(name).display().to_string();
        format!(
            "[link]\nlisten = \"127.0.0.1:{port}\"\ncert = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n\n",
            file(&format!("{system}.pem")),
            file(&format!("{system}.key")),
            file("ca.pem"),
        )
    }
}

/// `[[peer]]`.
pub fn peer(system: &str, address: SocketAddr) -> String {
    format!("[[peer]]\nid = \"{system}\"\naddress = \"{address}\"\n\n")
}

/// Systems `HF-A` and `HF-B`.
#[derive(Debug)]
pub struct Systems {
    /// `HF-A`.
    pub a: Daemon,
    /// `HF-B`.
    pub b: Daemon,
    /// Where A calls B: Forth is what A says on connections that it made.
    pub a_to_b: Proxy,
    /// Where B calls A. Which of the two connections is kept is the systems' business: cut both to cut the link.
    pub b_to_a: Proxy,
    /// Their certificates.
    pub pki: Pki,
}

impl Systems {
    /// Starts both, and returns when each says that the other is connected.
    pub fn start(a: &DaemonConfig, b: &DaemonConfig) -> Self {
        let pki = Pki::new(&["HF-A", "HF-B"]);
        let (port_a, port_b) = (free_port(), free_port());
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (a_to_b, b_to_a) = (Proxy::start(loopback(port_b)), Proxy::start(loopback(port_a)));
        let daemon = |config: &DaemonConfig, system: &str, port, other: &str, proxy: &Proxy| {
            let mut config = config.clone();
            let (link, peer) = (pki.link(system, port), peer(other, proxy.address()));
            write!(config.extra, "\n{link}{peer}").expect("a String takes all");
            Daemon::start_with(&config, &[("HOLDFAST__SYSTEM__ID", system)])
        };
        let systems = Self {
            a: daemon(a, "HF-A", port_a, "HF-B", &a_to_b),
            b: daemon(b, "HF-B", port_b, "HF-A", &b_to_a),
            a_to_b,
            b_to_a,
            pki,
        };
        systems.until_linked(true);
        systems
    }

    /// Starts two whose volume 1 is one unit to hosts; their targets have the same name, and ports of their own.
    pub fn start_shared(size: &'static str) -> Self {
        let daemon = |peer: &str, offset: u16| {
            let mut config = DaemonConfig::trio(size);
            let naa = "60248460000000010000000000000002";
            config.volumes[0].keys = format!("naa = \"{naa}\"\nshared = {{ with = \"{peer}:1\" }}\n");
            config.initiators = format!("relative_port_offset = {offset}\n");
            config
        };
        Self::start(&daemon("HF-B", 100), &daemon("HF-A", 200))
    }

    /// Waits until both sides see the link up, or down.
    pub fn until_linked(&self, up: bool) {
        for daemon in [&self.a, &self.b] {
            until_link(daemon, |link| link["peers"][0]["up"] == up);
        }
    }

    /// Cuts whatever connection there is.
    pub fn cut(&self) {
        self.a_to_b.cut();
        self.b_to_a.cut();
    }

    /// Cuts the link, and lets no new one come to be until [`Self::mend`].
    pub fn part(&self) {
        self.a_to_b.refuse(true);
        self.b_to_a.refuse(true);
        self.cut();
    }

    /// Undoes [`Self::part`].
    pub fn mend(&self) {
        self.a_to_b.refuse(false);
        self.b_to_a.refuse(false);
    }
}

/// `holdfast link --json` of a daemon.
pub fn link(daemon: &Daemon) -> Value {
    let run = daemon.holdfast(&["--json", "link"]);
    assert_eq!(run.code(), 0, "{}", run.said());
    serde_json::from_str(&run.stdout).expect("a document")
}

/// The daemon's metrics.
pub fn metrics(daemon: &Daemon) -> String {
    let socket = daemon.path("admin.sock").display().to_string();
    let arguments = ["-sS", "--unix-socket", &socket, "http://holdfastd/metrics"];
    tool::call("curl", &arguments.map(str::to_owned)).stdout
}

/// Waits until all that was written has arrived at the daemon's peers.
pub fn until_arrived(daemon: &Daemon) {
    let rests = |peer: &Value| peer["queue"] == 0 && peer["disk_queue"]["bytes"].as_u64().unwrap_or(0) == 0;
    until_link(daemon, |link| {
        link["peers"]
            .as_array()
            .is_some_and(|peers| peers.iter().all(rests))
    });
}

/// Waits until the daemon's link is as it should be.
pub fn until_link(daemon: &Daemon, look: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let link = link(daemon);
        if look(&link) {
            return link;
        }
        assert!(began.elapsed() < LONG, "the link is {link}\n{}", daemon.log());
        thread::sleep(Duration::from_millis(50));
    }
}
