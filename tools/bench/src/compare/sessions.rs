//! What sessions cost: system calls of a read, logins, memory while idle.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    Plan, fill,
    gate::Figure,
    median,
    servers::{Server, Volume, floor, product},
    shuffled,
};
use crate::process::resident_kib;

/// Idle sessions whose memory counts.
const IDLE: &str = "100";

/// Measures all of it.
pub(super) fn measure(plan: &Plan) -> Vec<Figure> {
    let volume = Volume {
        name: "sessions",
        mirror: false,
        direct: false,
    };
    let servers = [product(plan, &plan.dir, &[volume]), floor(&plan.dir)];
    servers.iter().for_each(fill);
    let mut figures: Vec<Figure> = calls(&servers[0]).into_iter().collect();
    figures.push(logins(plan, &servers));
    figures.push(memory(&servers[0]));
    figures
}

/// Counted by perf while a load runs; without perf there is no figure.
fn calls(server: &Server) -> Option<Figure> {
    let load = ["--bs", "4k", "--qd", "32"];
    let mut counter = Command::new("perf")
        .args([
            "stat",
            "-x",
            ",",
            "-e",
            "raw_syscalls:sys_enter",
            "-p",
            &server.child.id().to_string(),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    // All of the load lies inside the time that is counted, its login and its end too: some hundred calls.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let line = server.load(&server.lun, &[&load[..], &["--warm", "0"]].concat(), "1.5", "1");
    kill_process(Pid::from_child(&counter), Signal::INT).ok()?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut counter.stderr.take()?, &mut text).ok()?;
    let _ = counter.wait();
    let counted: f64 = text
        .lines()
        .find(|line| line.contains("sys_enter"))?
        .split(',')
        .next()?
        .parse()
        .ok()?;
    let reads = line["reads"].as_f64()?;
    Some(Figure {
        name: "system calls of a cached 4k read, QD32".into(),
        value: counted / reads,
        goal: Some(1.1),
        judged: true,
        measured: format!("{counted:.0} calls, {reads:.0} reads"),
    })
}

fn logins(plan: &Plan, servers: &[Server]) -> Figure {
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..plan.rounds {
        for index in shuffled(servers.len()) {
            let line = servers[index].generator("login", &["--time", "1"], "1");
            rates[index].push(line["per_s"].as_f64().unwrap_or(f64::NAN));
        }
    }
    let [product, floor] = rates.map(|mut rates| median(&mut rates));
    Figure {
        name: "time of a login / F".into(),
        value: floor / product,
        goal: Some(1.25),
        judged: true,
        measured: format!("{product:.0} a second, F {floor:.0}"),
    }
}

fn memory(server: &Server) -> Figure {
    let before = resident_kib(server.child.id()) as f64 / 1024.0;
    // Buffers are given back some seconds after they were last needed.
    let line = server.generator("idle", &["--sessions", IDLE, "--time", "12"], "1");
    let after = resident_kib(server.child.id()) as f64 / 1024.0;
    let cpu = line["idle_cpu_pct"].as_f64().unwrap_or(f64::NAN);
    Figure {
        name: format!("MiB of memory with {IDLE} idle sessions after load"),
        value: after,
        goal: Some(16.0),
        judged: true,
        measured: format!("{before:.1} before they logged in; {cpu:.2} % of a CPU"),
    }
}
