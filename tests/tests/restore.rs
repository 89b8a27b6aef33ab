//! Fig. 4, 5 and 6 between two real daemons: a backup at the far site, something lost at the near one, and a restore commanded at the far one.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use holdfast_tests::{
    Daemon, DaemonConfig, VolumeSpec, commands, guest, initiator::GOOD, program, stamps::SECTOR,
    systems::Systems, tool,
};

/// Bytes written at a time.
const PIECE: usize = 1 << 20;
/// Nothing here takes as long.
const LONG: Duration = Duration::from_secs(60);

fn write(daemon: &Daemon, piece: usize, byte: u8) {
    let sector = (piece * PIECE / SECTOR) as u64;
    for part in 0..PIECE / (64 << 10) {
        let at = sector + (part * (64 << 10) / SECTOR) as u64;
        let completion = daemon.run(0, &commands::write(at, vec![byte; 64 << 10], false));
        assert_eq!(completion.status, GOOD, "{completion:?}");
    }
}

fn holds(daemon: &Daemon, lun: u16, piece: usize, byte: u8) {
    let sector = (piece * PIECE / SECTOR) as u64;
    let completion = daemon.run(lun, &commands::read(sector, 128));
    assert_eq!(completion.status, GOOD, "{completion:?}");
    let found = completion.data[0];
    assert!(
        completion.data.iter().all(|each| *each == byte),
        "piece {piece} of LUN {lun} holds {found}, not {byte}"
    );
}

fn until_state(daemon: &Daemon, (primary, mirror): (&str, &str), states: &[&str]) {
    let deadline = Instant::now() + LONG;
    loop {
        let pair = daemon.pair(primary, mirror);
        if states.iter().any(|state| pair["state"] == *state) {
            return;
        }
        assert!(Instant::now() < deadline, "not {states:?}: {pair}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// HF-A:1 mirrored to HF-B:1, of which HF-B:2 is a mirror; pieces 0 to 7 hold 1 to 8, and a backup of that is on HF-B:2.
fn backed_up(config: &DaemonConfig) -> Systems {
    let systems = Systems::start(config, config);
    for piece in 0..8 {
        write(&systems.a, piece, piece as u8 + 1);
    }
    systems
        .a
        .holdfast_ok(&["establish", "1", "HF-B:1", "--mode", "async", "--wait"]);
    until_state(&systems.b, ("1", "1"), &["duplex"]);
    systems.b.holdfast_ok(&["establish", "1", "2", "--wait"]);
    systems.a.holdfast_ok(&["backup", "1", "--to", "HF-B:2"]);
    until_state(&systems.a, ("1", "1"), &["duplex"]);
    systems
}

/// As [`backed_up`], and then all pieces are lost, on both sides of the remote pair.
fn lost(config: &DaemonConfig) -> Systems {
    let systems = backed_up(config);
    for piece in 0..8 {
        write(&systems.a, piece, 99);
    }
    until_state(&systems.b, ("1", "1"), &["duplex"]);
    systems
}

fn is_restored(systems: &Systems) {
    for piece in 0..8 {
        holds(&systems.a, 0, piece, piece as u8 + 1);
        holds(&systems.b, 1, piece, piece as u8 + 1);
    }
}

/// `restore-volume` at HF-B, which the test goes on beside.
fn restoring(daemon: &Daemon) -> Child {
    let mut command = Command::new(program("holdfast"));
    command.arg("--admin").arg(daemon.path("admin.sock"));
    command.args(["restore-volume", "--from", "2", "--to", "1", "--state"]);
    command.arg(daemon.path("restore.json"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::piped()).spawn().expect("holdfast starts")
}

fn ended(child: Child) -> (i32, String) {
    let output = child.wait_with_output().expect("our child");
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// S70, S71, S77, S78, S79, S80, S81: the volume is restored from the far image by a command at the far system, and the pair goes on.
#[test]
fn a_volume_is_restored_from_the_far_image() {
    let config = DaemonConfig::trio("16MiB");
    let systems = lost(&config);
    let state = systems.b.path("restore.json").display().to_string();
    let restore = |more: &[&str]| {
        let mut all = vec!["restore-volume", "--from", "2", "--to", "1", "--state", &state];
        all.extend(more);
        systems.b.holdfast(&all)
    };
    let refused = |run: tool::Run, word: &str| {
        assert_eq!(run.code(), 1, "{}", run.said());
        assert!(run.said().contains(word), "{}", run.said());
    };
    refused(restore(&["--primary", "HF-A:2"]), "follows HF-A:1");
    refused(restore(&["--before", "exit 3"]), "--before");
    refused(restore(&["--abandon"]), "nothing to abandon");
    let elsewhere = systems
        .a
        .holdfast(&["restore-volume", "--from", "2", "--to", "1", "--state", &state]);
    refused(elsewhere, "is a primary itself");
    let dry = restore(&["--dry-run"]);
    assert_eq!(dry.code(), 0, "{}", dry.said());
    assert!(dry.stdout.contains("at most 8MiB differ"), "{}", dry.said());
    assert_eq!(systems.a.pair("1", "1")["state"], "duplex");
    holds(&systems.a, 0, 0, 99);
    let trace = systems.b.path("hooks");
    let hook = |word: &str| format!("echo {word} >> {}", trace.display());
    let (before, after) = (hook("stopped"), hook("started"));
    let done = restore(&["--primary", "HF-A:1", "--before", &before, "--after", &after]);
    assert_eq!(done.code(), 0, "{}", done.said());
    assert_eq!(
        std::fs::read_to_string(&trace).expect("ours"),
        "stopped\nstarted\n"
    );
    assert!(!systems.b.path("restore.json").exists());
    is_restored(&systems);
    assert_eq!(systems.b.pair("1", "2")["state"], "split", "the image is kept");
    // Restored again from the same image, as JSON.
    write(&systems.a, 3, 50);
    let again = restore(&["--json"]);
    assert_eq!(again.code(), 0, "{}", again.said());
    let document: serde_json::Value = serde_json::from_str(&again.stdout).expect("one document");
    assert_eq!(document["restored"], "volume");
    assert_eq!(document["primary"], "HF-A:1");
    is_restored(&systems);
    // The remote pair goes on.
    write(&systems.a, 4, 60);
    systems.a.holdfast_ok(&["split", "1", "HF-B:1"]);
    until_state(&systems.b, ("1", "1"), &["split"]);
    holds(&systems.b, 0, 4, 60);
}

const FAST: &str = "[replication]\ncopy_rate = \"64MiB\"\n";
/// A copy of some megabytes takes minutes.
const SLOW: &str = "[replication]\ncopy_rate = \"64KiB\"\n";

fn paced() -> DaemonConfig {
    DaemonConfig {
        extra: FAST.to_owned(),
        ..DaemonConfig::trio("16MiB")
    }
}

/// S84: the link is lost while the primary is restored, and the command is interrupted; it goes on from the bitmap.
#[test]
fn a_restore_goes_on_after_the_link_and_after_an_interruption() {
    let systems = lost(&paced());
    systems.a.reconfigure(FAST, SLOW);
    let cut = restoring(&systems.b);
    until_state(&systems.a, ("1", "1"), &["restoring"]);
    systems.part();
    until_state(&systems.a, ("1", "1"), &["suspended"]);
    systems.mend();
    until_state(&systems.a, ("1", "1"), &["restoring"]);
    // The system that follows shows how far the one that leads is.
    until_state(&systems.b, ("1", "1"), &["restoring"]);
    let kill = tool::call("kill", &["-TERM".to_owned(), cut.id().to_string()]);
    assert!(kill.status.success(), "{}", kill.said());
    let (code, said) = ended(cut);
    assert!(
        code == 1 && said.contains("the same command goes on"),
        "{code}: {said}"
    );
    systems.a.reconfigure(SLOW, FAST);
    let (code, said) = ended(restoring(&systems.b));
    assert_eq!(code, 0, "{said}");
    is_restored(&systems);
    assert!(!systems.b.path("restore.json").exists());
}

/// S71: what a host of the primary writes during a restore is not overwritten unasked; the restore can be given up.
#[test]
fn a_primary_that_is_written_is_spared() {
    let systems = lost(&paced());
    systems.b.reconfigure(FAST, SLOW);
    let spared = restoring(&systems.b);
    until_state(&systems.b, ("1", "2"), &["protected-restoring"]);
    write(&systems.a, 0, 77);
    systems.b.reconfigure(SLOW, FAST);
    let (code, said) = ended(spared);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("written since the pair was split"), "{said}");
    let state = systems.b.path("restore.json").display().to_string();
    let give_up = [
        "restore-volume",
        "--from",
        "2",
        "--to",
        "1",
        "--state",
        &state,
        "--abandon",
    ];
    systems.b.holdfast_ok(&give_up);
    until_state(&systems.a, ("1", "1"), &["duplex"]);
    holds(&systems.a, 0, 0, 77);
    holds(&systems.a, 0, 1, 99);
}

fn story(file_system: &str) {
    let config = DaemonConfig {
        volumes: vec![
            VolumeSpec::standard("prod", "400MiB"),
            VolumeSpec::mirror("bcv", "400MiB"),
        ],
        initiators: String::new(),
        extra: String::new(),
    };
    let Systems {
        a,
        mut b,
        a_to_b: _a_to_b,
        b_to_a: _b_to_a,
        pki: _pki,
    } = Systems::start(&config, &config);
    a.holdfast_ok(&["establish", "1", "HF-B:1", "--mode", "async", "--wait"]);
    b.holdfast_ok(&["establish", "1", "2", "--wait"]);
    // The guest sees no admin socket, and the image's LUN is not ready yet: it is from here on.
    b.holdfast_ok(&["split", "1", "2", "--wait"]);
    std::fs::create_dir_all(b.path("share")).expect("ours");
    std::fs::copy(program("holdfast"), b.path("share/holdfast")).expect("ours");
    let mut serve = |request: &str, _: &mut Daemon| {
        assert_eq!(request, "host-backup");
        a.holdfast_ok(&["backup", "1", "--to", "HF-B:2"]);
        until_state(&a, ("1", "1"), &["duplex"]);
    };
    let near = a.port().to_string();
    let variables = [("NEAR_PORT", near.as_str()), ("FS", file_system)];
    guest::run(&mut b, "far-restore", &variables, &mut serve);
}

/// S70, S71, S72, S73, S75, S77, S80, S81, S82: a database in use is backed up at the far site; its files, and then everything, are lost and restored.
#[test]
fn the_story_of_a_database_on_ext4() {
    story("ext4");
}

/// S70, S71, S72, S73, S75, S77, S80, S82: the same on XFS, which wants `nouuid` and a replay of its log.
#[test]
fn the_story_of_a_database_on_xfs() {
    story("xfs");
}
