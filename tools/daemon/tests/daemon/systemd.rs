//! What systemd is told (sd_notify(3)), and the unit file that relies on it.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::rig::{CONFIG, Daemon};

/// The states in the next datagram. Fails after 10 s.
fn hear(socket: &UnixDatagram) -> Vec<String> {
    let mut message = [0; 4096];
    let length = socket.recv(&mut message).expect("systemd is told something");
    let text = std::str::from_utf8(&message[..length]).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn systemd_hears_ready_watchdog_and_stopping() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.toml"), CONFIG).unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // As systemd does: the watchdog is meant for this very process.
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg("export WATCHDOG_PID=$$; exec \"$0\" --config a.toml")
        .arg(env!("CARGO_BIN_EXE_holdfastd"))
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .current_dir(directory.path())
        .stdin(Stdio::null());
    let daemon = Daemon::start_as(directory, command);
    let ready = hear(&socket);
    assert!(ready.contains(&"READY=1".to_owned()), "{ready:?}");
    assert!(
        ready.contains(&"STATUS=serving 2 volumes".to_owned()),
        "{ready:?}"
    );
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(hear(&socket), ["WATCHDOG=1"]);
    }
    // Twice in each period: the fifth beat is due after 0.4 s, and has to be there before a period more.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    daemon.signal(Signal::TERM);
    while hear(&socket) != ["STOPPING=1"] {}
    daemon.ended();
}

#[test]
fn nothing_is_said_to_nobody() {
    let daemon = Daemon::start();
    assert!(!daemon.log().contains("systemd"), "{}", daemon.log());
    daemon.stop();
}

/// The packaged configuration is one that the daemon accepts.
#[test]
fn the_example_configuration_is_good() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging");
    let output = Command::new(env!("CARGO_BIN_EXE_holdfastd"))
        .args(["--check", "--config"])
        .arg(packaging.join("holdfast.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
