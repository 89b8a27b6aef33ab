//! What the figures were taken on.

use std::{fs, process::Command};

/// Prints the machine, the commit and the peers.
pub(super) fn describe() {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let model = text("/proc/cpuinfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name")
                .map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
        })
        .unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "{cpus} CPUs ({model}), Linux {}, commit {}, tgt {}",
        text("/proc/sys/kernel/osrelease"),
        said("git", &["rev-parse", "--short", "HEAD"]),
        said("tgtadm", &["--version"]),
    );
    load_average();
}

/// Prints the load average, and says so when others use the machine.
pub(super) fn load_average() {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "load average {}",
        text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
    );
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| "none".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
