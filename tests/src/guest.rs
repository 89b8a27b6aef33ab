//! The Linux kernel's initiator: scripts of `tests/real-initiator` run in a virtual machine against a [`Daemon`].

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{Daemon, repository};

/// A request of the guest (`on_host NAME` in its script) and what the host does then.
pub type OnHost<'a> = &'a mut dyn FnMut(&str, &mut Daemon);

/// Runs `tests/real-initiator/examples/NAME.sh` against the daemon, passing `variables` to it, and fails unless every step
/// passed. `on_host` is called for each request the script makes of the host.
pub fn run(daemon: &mut Daemon, name: &str, variables: &[(&str, &str)], on_host: OnHost<'_>) {
    let share = daemon.path("share");
    fs::create_dir_all(&share).expect("the test's directory is ours");
    let harness = repository().join("tests/real-initiator");
    let log = daemon.path(format!("{name}.out"));
    let output = fs::File::create(&log).expect("the test's directory is ours");
    let mut command = Command::new(harness.join("run-guest"));
    command
        .arg(harness.join(format!("examples/{name}.sh")))
        .args(["--timeout", "600", "--verbose", "--share"])
        .arg(&share)
        .env("TARGET_PORT", daemon.port().to_string())
        .env("TARGET_IQN", daemon.iqn())
        .stdin(Stdio::null())
        .stderr(output.try_clone().expect("a file can be shared"))
        .stdout(output);
    for (name, value) in variables {
        command.arg("--env").arg(format!("{name}={value}"));
    }
    let mut guest = command.spawn().expect("run-guest starts");
    let status = attend(&mut guest, &share, daemon, on_host);
    let said = fs::read_to_string(&log).unwrap_or_default();
    println!("{said}");
    assert!(
        status == Some(0),
        "{name}: run-guest ended with {status:?} (124 time-out, 125 the guest itself failed):\n{said}"
    );
    assert!(
        said.contains("\nok ") || said.starts_with("ok "),
        "{name}: no step was reported:\n{said}"
    );
}

/// Serves the guest's requests until it ends.
fn attend(guest: &mut Child, share: &Path, daemon: &mut Daemon, on_host: OnHost<'_>) -> Option<i32> {
    let started = Instant::now();
    loop {
        if let Some(status) = guest.try_wait().expect("our child") {
            return status.code();
        }
        if started.elapsed() > Duration::from_secs(700) {
            guest.kill().expect("our child");
            guest.wait().expect("our child");
            return Some(124);
        }
        for request in requests(share) {
            on_host(&request, daemon);
            fs::write(share.join(format!("{request}.done")), "").expect("the test's directory is ours");
        }
        // The guest speaks through files on a 9p share, which tells nobody: look ten times a second.
        thread::park_timeout(Duration::from_millis(100));
    }
}

fn requests(share: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(share) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("host-") || name == "restart-target")
        .filter(|name| {
            Path::new(name)
                .extension()
                .is_none_or(|extension| extension != "done")
        })
        .filter(|name| !share.join(format!("{name}.done")).exists())
        .collect()
}
