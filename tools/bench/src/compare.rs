//! `iscsi-bench compare`: the product, the floor and, where installed, tgt, interleaved in one run.
//!
//! Each server gets a sparse file of its own in the same directory (tmpfs unless `--dir` says otherwise), is pinned to CPU 0
//! and loaded from CPU 1. The order is shuffled inside every round; the figures are medians over the rounds. What
//! holds on a shared machine is the CPU time of the target per I/O, and of that the ratio to the floor F (`floor
//! --engine tokio --back pread`) and to tgt T (rdwr) of the same run.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::util::{Args, now_ns};

/// A row of the table: name and the load generator's arguments.
const WORKLOADS: &[(&str, &[&str])] = &[
    ("random read 4k QD32", &["--bs", "4k", "--qd", "32"]),
    (
        "random read 4k QD32 x4",
        &["--bs", "4k", "--qd", "32", "--sessions", "4"],
    ),
    (
        "random write 4k QD32",
        &["--bs", "4k", "--qd", "32", "--read", "0"],
    ),
    ("70/30 4k QD32", &["--bs", "4k", "--qd", "32", "--read", "70"]),
    (
        "sequential read 128k QD8",
        &["--bs", "128k", "--qd", "8", "--seq"],
    ),
    (
        "sequential write 128k QD8",
        &["--bs", "128k", "--qd", "8", "--seq", "--read", "0"],
    ),
    ("sequential read 1m QD8", &["--bs", "1m", "--qd", "8", "--seq"]),
    ("random read 4k QD1", &["--bs", "4k", "--qd", "1"]),
    (
        "random read 4k QD32, both digests",
        &[
            "--bs",
            "4k",
            "--qd",
            "32",
            "--digest",
            "both",
            "--no-check-digest",
        ],
    ),
];

/// Rows that only the product has: volume pairs. LUN 1 is the primary of a DUPLEX pair, LUN 3 of a SPLIT one.
const PAIRED: &[(&str, &str, &[&str])] = &[
    (
        "DUPLEX pair, random write 4k QD32",
        "1",
        &["--bs", "4k", "--qd", "32", "--read", "0", "--span", "64m"],
    ),
    (
        "SPLIT pair, hot working set, random write 4k QD32",
        "3",
        &["--bs", "4k", "--qd", "32", "--read", "0", "--span", "64m"],
    ),
    (
        "plain volume, the same",
        "0",
        &["--bs", "4k", "--qd", "32", "--read", "0", "--span", "64m"],
    ),
];

const SIZE: &str = "1GiB";

struct Server {
    name: &'static str,
    addr: String,
    iqn: &'static str,
    lun: &'static str,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pinned(cpu: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(cpu).arg(program).stdin(Stdio::null());
    command
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .map_or(3260, |a| a.port())
}

fn await_port(addr: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(addr).is_err() {
        assert!(Instant::now() < until, "nobody listens on {addr} after 20 s");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn floor(dir: &Path) -> Server {
    let addr = format!("127.0.0.1:{}", free_port());
    let own = std::env::current_exe().expect("a running program has a path");
    let file = dir.join("floor.img");
    fs::File::create(&file)
        .and_then(|f| f.set_len(1 << 30))
        .expect("the directory is writable");
    let child = pinned("0", &own)
        .args([
            "floor", "--addr", &addr, "--engine", "tokio", "--back", "pread", "--size", "1g", "--for",
            "3600", "--file",
        ])
        .arg(&file)
        .spawn()
        .expect("the floor starts");
    await_port(&addr);
    Server {
        name: "floor",
        addr,
        iqn: "iqn.floor",
        lun: "0",
        child,
    }
}

fn tgt(dir: &Path) -> Option<Server> {
    let tgtd = ["/usr/sbin/tgtd", "/usr/local/sbin/tgtd"]
        .iter()
        .map(Path::new)
        .find(|p| p.exists())?;
    let (port, control) = (free_port(), (free_port() % 30000).to_string());
    let file = dir.join("tgt.img");
    fs::File::create(&file)
        .and_then(|f| f.set_len(1 << 30))
        .expect("the directory is writable");
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
    let addr = format!("127.0.0.1:{port}");
    let iqn = "iqn.2026-11.io.holdfast:peer";
    let server = Server {
        name: "tgt",
        addr,
        iqn,
        lun: "1",
        child,
    };
    await_port(&server.addr);
    for arguments in [
        vec!["--mode", "target", "--op", "new", "--tid", "1", "-T", iqn],
        vec![
            "--mode",
            "logicalunit",
            "--op",
            "new",
            "--tid",
            "1",
            "--lun",
            "1",
            "-b",
            &file.display().to_string(),
        ],
        vec!["--mode", "target", "--op", "bind", "--tid", "1", "-I", "ALL"],
        vec![
            "--mode",
            "target",
            "--op",
            "update",
            "--tid",
            "1",
            "-n",
            "HeaderDigest",
            "-v",
            "CRC32C,None",
        ],
        vec![
            "--mode",
            "target",
            "--op",
            "update",
            "--tid",
            "1",
            "-n",
            "DataDigest",
            "-v",
            "CRC32C,None",
        ],
    ] {
        let status = Command::new("tgtadm")
            .args(["-C", &control, "--lld", "iscsi"])
            .args(arguments)
            .status();
        assert!(status.is_ok_and(|s| s.success()), "tgtadm refuses");
    }
    Some(server)
}

fn product(dir: &Path, program: &Path) -> Server {
    let port = free_port();
    let mut text = format!(
        "[system]\nid = \"BENCH\"\nstate_dir = \"{0}/state\"\n[iscsi]\nportals = [\"127.0.0.1:{port}\"]\n[admin]\nsocket = \"{0}/admin.sock\"\n",
        dir.display()
    );
    for (number, name) in [
        (1, "plain"),
        (2, "duplex"),
        (3, "duplex-m"),
        (4, "split"),
        (5, "split-m"),
    ] {
        let class = if name.ends_with("-m") {
            "mirror"
        } else {
            "standard"
        };
        text += &format!(
            "[[volume]]\nnumber = {number}\nname = \"{name}\"\nclass = \"{class}\"\nsize = \"{SIZE}\"\nfile = \"{}/{name}.img\"\n",
            dir.display()
        );
    }
    let iqn = "iqn.2026-11.io.holdfast:bench";
    text += &format!(
        "[[target]]\niqn = \"{iqn}\"\nluns = [{{ lun = 0, volume = 1 }}, {{ lun = 1, volume = 2 }}, {{ lun = 3, volume = 4 }}]\n"
    );
    let config = dir.join("bench.toml");
    fs::write(&config, text).expect("the directory is writable");
    let mut child = pinned("0", &program.join("holdfastd"))
        .arg("--config")
        .arg(&config)
        .stdout(Stdio::piped())
        .spawn()
        .expect("holdfastd starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(
        lines.any(|line| line.is_ok_and(|line| line == "ready")),
        "holdfastd ended before it was ready"
    );
    std::thread::spawn(move || lines.for_each(drop));
    for arguments in [
        vec!["establish", "2", "3", "--wait"],
        vec!["establish", "4", "5", "--wait"],
        vec!["split", "4", "5"],
        vec!["verify", "4", "5", "--state", "split", "--wait"],
    ] {
        let status = Command::new(program.join("holdfast"))
            .arg("--admin")
            .arg(dir.join("admin.sock"))
            .args(&arguments)
            .status();
        assert!(status.is_ok_and(|s| s.success()), "holdfast {arguments:?}");
    }
    Server {
        name: "holdfast",
        addr: format!("127.0.0.1:{port}"),
        iqn,
        lun: "0",
        child,
    }
}

/// One run of the load generator against one server; its JSON line.
fn load(server: &Server, lun: &str, arguments: &[&str], seconds: &str) -> Value {
    let own = std::env::current_exe().expect("a running program has a path");
    let output = pinned("1", &own)
        .args([
            "load",
            "--addr",
            &server.addr,
            "--iqn",
            server.iqn,
            "--lun",
            lun,
            "--warm",
            "0.3",
            "--time",
            seconds,
        ])
        .args(["--pid", &server.child.id().to_string()])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .expect("the generator starts");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim())
        .unwrap_or_else(|_| panic!("{}: the generator said {text:?}", server.name))
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs the comparison and prints a Markdown table.
pub fn run(args: &Args) {
    let dir = PathBuf::from(args.s("dir", "/dev/shm")).join(format!("holdfast-bench-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("--dir is writable");
    let rounds = args.n("rounds", 5);
    let seconds = args.s("time", "0.7");
    let program = PathBuf::from(args.s("product", "target/release"));
    {
        let mut servers = vec![floor(&dir), product(&dir, &program)];
        servers.extend(tgt(&dir));
        for server in &servers {
            // Fill, so that reads meet data and not holes.
            load(
                server,
                server.lun,
                &["--bs", "1m", "--qd", "4", "--seq", "--read", "0"],
                "2",
            );
        }
        let mut cpu: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
        let mut iops: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
        let mut paired: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        let mut seed = now_ns();
        for _ in 0..rounds {
            for (row, (_, arguments)) in WORKLOADS.iter().enumerate() {
                let mut order: Vec<usize> = (0..servers.len()).collect();
                for i in (1..order.len()).rev() {
                    seed = seed
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    order.swap(i, (seed >> 33) as usize % (i + 1));
                }
                for index in order {
                    let server = &servers[index];
                    let line = load(server, server.lun, arguments, &seconds);
                    let number = |key: &str| line[key].as_f64().unwrap_or(f64::NAN);
                    cpu.entry((row, server.name))
                        .or_default()
                        .push(number("tgt_cpu_us_per_io"));
                    iops.entry((row, server.name)).or_default().push(number("iops"));
                }
            }
            let server = servers
                .iter()
                .find(|s| s.name == "holdfast")
                .expect("it was started");
            for (row, (_, lun, arguments)) in PAIRED.iter().enumerate() {
                let line = load(server, lun, arguments, &seconds);
                paired
                    .entry(row)
                    .or_default()
                    .push(line["tgt_cpu_us_per_io"].as_f64().unwrap_or(f64::NAN));
            }
        }
        println!("CPU us per I/O of the target, median of {rounds} rounds; ratios in the same run\n");
        println!("| workload | holdfast | floor F | tgt T | / F | / T | IOPS holdfast | IOPS tgt |");
        println!("|---|---:|---:|---:|---:|---:|---:|---:|");
        for (row, (name, _)) in WORKLOADS.iter().enumerate() {
            let mut of = |server| cpu.get_mut(&(row, server)).map_or(f64::NAN, |v| median(v));
            let (p, f, t) = (of("holdfast"), of("floor"), of("tgt"));
            let mut rate = |server| iops.get_mut(&(row, server)).map_or(f64::NAN, |v| median(v));
            let (a, b) = (rate("holdfast"), rate("tgt"));
            println!(
                "| {name} | {p:.2} | {f:.2} | {t:.2} | {:.2} | {:.2} | {a:.0} | {b:.0} |",
                p / f,
                p / t
            );
        }
        println!("\n| pairs | CPU us per I/O | / plain |\n|---|---:|---:|");
        let plain = paired
            .get_mut(&(PAIRED.len() - 1))
            .map_or(f64::NAN, |v| median(v));
        for (row, (name, _, _)) in PAIRED.iter().enumerate() {
            let value = paired.get_mut(&row).map_or(f64::NAN, |v| median(v));
            println!("| {name} | {value:.2} | {:.2} |", value / plain);
        }
    }
    let _ = fs::remove_dir_all(&dir);
}
