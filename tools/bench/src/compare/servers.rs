//! The servers under comparison, each pinned to CPU 0.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use holdfast_tests::free_port;
use serde_json::Value;

use super::Plan;

const PRODUCT: &str = "iqn.2026-11.io.holdfast:bench";
const PEER: &str = "iqn.2026-11.io.holdfast:peer";

/// A server that runs, until it is dropped.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) addr: String,
    pub(super) iqn: &'static str,
    pub(super) lun: String,
    pub(super) child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// One run of the load generator on CPU `cpu`; its JSON line.
    pub(super) fn load(&self, lun: &str, arguments: &[&str], seconds: &str, cpu: &str) -> Value {
        let timing = ["--lun", lun, "--warm", "0.3", "--time", seconds];
        self.generator("load", &[&timing, arguments].concat(), cpu)
    }

    /// A subcommand of the generator.
    pub(super) fn generator(&self, command: &str, arguments: &[&str], cpu: &str) -> Value {
        let own = std::env::current_exe().expect("a running program has a path");
        let output = pinned(cpu, &own)
            .args([command, "--addr", &self.addr, "--iqn", self.iqn])
            .args(["--pid", &self.child.id().to_string()])
            .args(arguments)
            .stderr(Stdio::inherit())
            .output()
            .expect("the generator starts");
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(text.trim())
            .unwrap_or_else(|_| panic!("{}: the generator said {text:?}", self.name))
    }
}

fn pinned(cpu: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(cpu).arg(program).stdin(Stdio::null());
    command
}

fn await_port(addr: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(addr).is_err() {
        assert!(Instant::now() < until, "nobody listens on {addr} after 20 s");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn image(dir: &Path, name: &str) -> std::path::PathBuf {
    let file = dir.join(name);
    fs::File::create(&file)
        .and_then(|f| f.set_len(1 << 30))
        .expect("the directory is writable");
    file
}

/// The target that does the least a target can do.
pub(super) fn floor(dir: &Path) -> Server {
    let addr = format!("127.0.0.1:{}", free_port());
    let own = std::env::current_exe().expect("a running program has a path");
    let arguments = [
        "floor", "--addr", &addr, "--engine", "tokio", "--back", "pread", "--size", "1g", "--for", "3600",
        "--file",
    ];
    let child = pinned("0", &own)
        .args(arguments)
        .arg(image(dir, "floor.img"))
        .spawn()
        .expect("the floor starts");
    await_port(&addr);
    Server {
        name: "floor",
        addr,
        iqn: "iqn.floor",
        lun: "0".into(),
        child,
    }
}

/// tgt with one of its backing stores (`rdwr`, `aio`); `None` where it is not installed.
pub(super) fn tgt(dir: &Path, store: &str) -> Option<Server> {
    let tgtd = ["/usr/sbin/tgtd", "/usr/local/sbin/tgtd"]
        .iter()
        .map(Path::new)
        .find(|p| p.exists())?;
    let (port, control) = (free_port(), (free_port() % 30000).to_string());
    let file = image(dir, &format!("tgt-{store}.img")).display().to_string();
    let child = pinned("0", tgtd)
        .args([
            "-f",
            "-C",
            &control,
            "--iscsi",
            &format!("portal=127.0.0.1:{port}"),
        ])
        .stderr(Stdio::null())
        .spawn()
        .expect("tgtd starts");
    let server = Server {
        name: "tgt",
        addr: format!("127.0.0.1:{port}"),
        iqn: PEER,
        lun: "1".into(),
        child,
    };
    await_port(&server.addr);
    let target = |op, more: &[&str]| {
        let status = Command::new("tgtadm")
            .args([
                "-C", &control, "--lld", "iscsi", "--mode", "target", "--op", op, "--tid", "1",
            ])
            .args(more)
            .status();
        assert!(status.is_ok_and(|s| s.success()), "tgtadm refuses {op} {more:?}");
    };
    target("new", &["-T", PEER]);
    let status = Command::new("tgtadm")
        .args([
            "-C",
            &control,
            "--lld",
            "iscsi",
            "--mode",
            "logicalunit",
            "--op",
            "new",
            "--tid",
            "1",
        ])
        .args(["--lun", "1", "--bstype", store, "-b", &file])
        .status();
    assert!(status.is_ok_and(|s| s.success()), "tgtadm refuses a logical unit");
    target("bind", &["-I", "ALL"]);
    for digest in ["HeaderDigest", "DataDigest"] {
        target("update", &["-n", digest, "-v", "CRC32C,None"]);
    }
    Some(server)
}

/// A volume of the product: LUN `number - 1`, in `dir`.
pub(super) struct Volume {
    pub(super) name: &'static str,
    pub(super) mirror: bool,
    pub(super) direct: bool,
}

/// The product with these volumes, which lie in `dir`, as its state does: of this daemon alone, for another part may have left pairs.
pub(super) fn product(plan: &Plan, dir: &Path, volumes: &[Volume]) -> Server {
    let port = free_port();
    let mut text = format!(
        "[system]\nid = \"BENCH\"\nstate_dir = \"{0}/state-{port}\"\n[iscsi]\nportals = [\"127.0.0.1:{port}\"]\n[admin]\nsocket = \"{0}/admin.sock\"\n",
        dir.display()
    );
    let mut luns = Vec::new();
    for (lun, Volume { name, mirror, direct }) in volumes.iter().enumerate() {
        let class = if *mirror { "mirror" } else { "standard" };
        let number = lun + 1;
        let _ = write!(
            text,
            "[[volume]]\nnumber = {number}\nname = \"{name}\"\nclass = \"{class}\"\nsize = \"1GiB\"\nfile = \"{}/{name}.img\"\ndirect = {direct}\n",
            dir.display()
        );
        luns.push(format!("{{ lun = {lun}, volume = {number} }}"));
    }
    let _ = write!(
        text,
        "[[target]]\niqn = \"{PRODUCT}\"\nluns = [{}]\n",
        luns.join(", ")
    );
    let config = dir.join("bench.toml");
    fs::write(&config, text).expect("the directory is writable");
    let mut child = pinned("0", &plan.program.join("holdfastd"))
        .arg("--config")
        .arg(&config)
        .env("RUST_LOG", "warn")
        .stdout(Stdio::piped())
        .spawn()
        .expect("holdfastd starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(
        lines.any(|line| line.is_ok_and(|line| line == "ready")),
        "holdfastd ended before it was ready"
    );
    std::thread::spawn(move || lines.for_each(drop));
    Server {
        name: "holdfast",
        addr: format!("127.0.0.1:{port}"),
        iqn: PRODUCT,
        lun: "0".into(),
        child,
    }
}

/// A command to a product that was started in `dir`.
pub(super) fn command(plan: &Plan, dir: &Path, arguments: &[&str]) {
    let status = Command::new(plan.program.join("holdfast"))
        .arg("--admin")
        .arg(dir.join("admin.sock"))
        .args(arguments)
        .status();
    assert!(status.is_ok_and(|s| s.success()), "holdfast {arguments:?}");
}
