//! What was true before a stop is true after it: a clean one, and `kill -9`.

use std::{process::Command, time::Duration};

use holdfast_tests::{Daemon, DaemonConfig, tool};
use serde_json::Value;

fn io(daemon: &Daemon, lun: u16, steps: &[&str]) {
    let mut command = Command::new("qemu-io");
    command.args(["-f", "raw"]);
    for step in steps {
        command.args(["-c", step]);
    }
    let run = tool::run(command.arg(daemon.url(lun)), Duration::from_secs(60));
    assert!(
        run.status.success() && !run.said().contains("failed"),
        "{}",
        run.said()
    );
}

/// What a restart must not change: everything of QUERY but the speed of a copy.
fn picture(daemon: &Daemon) -> Value {
    let text = daemon.holdfast_ok(&["--json", "query"]);
    let mut document: Value = serde_json::from_str(&text).expect("one JSON document");
    for pair in document["pairs"].as_array_mut().expect("a list") {
        for volatile in ["rate", "eta_seconds"] {
            pair[volatile] = Value::Null;
        }
    }
    document
}

/// Brings the pair 1 -> 2 to SPLIT with changes on both sides and 1 -> 3 to DUPLEX.
fn prepare(daemon: &Daemon) {
    io(daemon, 0, &["write -P 0x10 0 8M"]);
    daemon.holdfast_ok(&["establish", "1", "2", "--wait"]);
    daemon.holdfast_ok(&["establish", "1", "3", "--wait"]);
    daemon.holdfast_ok(&["split", "1", "2"]);
    daemon.holdfast_ok(&["verify", "1", "2", "--state", "split", "--wait"]);
    io(daemon, 0, &["write -P 0x11 1M 256k", "flush"]);
    io(daemon, 1, &["write -P 0x12 4M 64k", "flush"]);
}

#[test]
fn a_clean_restart_changes_nothing() {
    let mut daemon = Daemon::start(&DaemonConfig::trio("64MiB"));
    prepare(&daemon);
    daemon.holdfast_ok(&["config", "hold", "2"]);
    let before = picture(&daemon);
    daemon.stop();
    daemon.start_again();
    assert_eq!(picture(&daemon), before);
    // What each side holds, and that an incremental establish brings exactly the difference.
    io(&daemon, 1, &["read -P 0x12 4M 64k", "read -P 0x10 1M 256k"]);
    daemon.holdfast_ok(&["config", "release", "2"]);
    daemon.holdfast_ok(&["establish", "1", "2", "--wait"]);
    daemon.holdfast_ok(&["split", "1", "2"]);
    daemon.holdfast_ok(&["verify", "1", "2", "--state", "split", "--wait"]);
    io(&daemon, 1, &["read -P 0x11 1M 256k", "read -P 0x10 4M 64k"]);
}

#[test]
fn a_kill_loses_no_pair_and_no_mark() {
    let mut daemon = Daemon::start(&DaemonConfig::trio("64MiB"));
    prepare(&daemon);
    let before = picture(&daemon);
    daemon.kill();
    daemon.start_again();
    let after = picture(&daemon);
    for (was, is) in before["pairs"]
        .as_array()
        .expect("a list")
        .iter()
        .zip(after["pairs"].as_array().expect("a list"))
    {
        assert_eq!(
            (&was["primary"], &was["mirror"], &was["held"]),
            (&is["primary"], &is["mirror"], &is["held"])
        );
        if was["state"] == "split" {
            // A mark may come back wider (a hot region is 64 tracks), never narrower.
            assert_eq!(is["state"], "split");
            for side in ["primary_invalid", "mirror_invalid"] {
                assert!(
                    is[side].as_u64() >= was[side].as_u64(),
                    "{side}: {was} became {is}"
                );
            }
        }
    }
    daemon.holdfast_ok(&[
        "verify",
        "1",
        "3",
        "--state",
        "duplex",
        "--wait",
        "--timeout",
        "60",
    ]);
    io(&daemon, 0, &["read -P 0x11 1M 256k", "read -P 0x10 4M 64k"]);
    io(&daemon, 1, &["read -P 0x12 4M 64k", "read -P 0x10 1M 256k"]);
    daemon.holdfast_ok(&["establish", "1", "2", "--wait"]);
    for mirror in ["2", "3"] {
        daemon.holdfast_ok(&["split", "1", mirror]);
        daemon.holdfast_ok(&["verify", "1", mirror, "--state", "split", "--wait"]);
    }
    for lun in [1, 2] {
        io(
            &daemon,
            lun,
            &["read -P 0x11 1M 256k", "read -P 0x10 4M 64k", "read -P 0x10 0 1M"],
        );
    }
}

#[test]
fn a_copy_goes_on_after_a_kill() {
    let (slow, fast) = (
        "[replication]\ncopy_rate = \"64KiB\"\n",
        "[replication]\ncopy_rate = \"64MiB\"\n",
    );
    let mut daemon = Daemon::start(&DaemonConfig {
        extra: slow.to_owned(),
        ..DaemonConfig::trio("64MiB")
    });
    io(&daemon, 0, &["write -P 0x21 0 12M"]);
    daemon.holdfast_ok(&["establish", "1", "2"]);
    daemon.kill();
    daemon.start_again();
    assert_eq!(daemon.pair("1", "2")["state"], "copy");
    daemon.reconfigure(slow, fast);
    daemon.holdfast_ok(&[
        "verify",
        "1",
        "2",
        "--state",
        "duplex",
        "--wait",
        "--timeout",
        "60",
    ]);
    // An instant split is usable at once, and stays right over a kill.
    io(&daemon, 0, &["write -P 0x22 0 12M"]);
    daemon.reconfigure(fast, slow);
    daemon.holdfast_ok(&["establish", "1", "2", "--full"]);
    daemon.holdfast_ok(&["split", "1", "2", "--instant"]);
    assert_eq!(daemon.pair("1", "2")["state"], "splitting");
    io(&daemon, 0, &["write -P 0x23 2M 100k"]);
    io(&daemon, 1, &["read -P 0x22 0 12M"]);
    daemon.kill();
    daemon.start_again();
    io(&daemon, 1, &["read -P 0x22 0 12M"]);
    io(&daemon, 0, &["read -P 0x23 2M 100k", "read -P 0x22 0 2M"]);
    assert_eq!(daemon.pair("1", "2")["state"], "splitting");
    daemon.reconfigure(slow, fast);
    daemon.holdfast_ok(&[
        "verify",
        "1",
        "2",
        "--state",
        "split",
        "--wait",
        "--timeout",
        "60",
    ]);
    io(&daemon, 1, &["read -P 0x22 0 12M"]);
}

#[test]
fn one_daemon_per_state_directory() {
    let daemon = Daemon::start(&DaemonConfig::trio("64MiB"));
    let mut second = Command::new(holdfast_tests::program("holdfastd"));
    second.arg("--config").arg(daemon.path("config.toml"));
    let run = tool::run(&mut second, Duration::from_secs(30));
    assert_ne!(run.code(), 0);
    assert!(
        run.stderr.contains("state"),
        "it does not name the state directory: {}",
        run.said()
    );
}

/// One setting moves the whole of the embedded default; nothing is made where the daemon was started.
#[test]
fn the_default_lies_where_its_state_directory_is_put() {
    let mut daemon = Daemon::start_default(&[("HOLDFAST__SYSTEM__STATE_DIR", "elsewhere/state")]);
    io(&daemon, 0, &["write -P 0x21 0 1M"]);
    daemon.stop();
    daemon.start_again();
    io(&daemon, 0, &["read -P 0x21 0 1M"]);
    assert!(daemon.path("elsewhere/state/prod.img").exists());
    assert!(!daemon.path("holdfast-data").exists());
}
