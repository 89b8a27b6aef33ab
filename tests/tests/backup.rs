//! Backups at the far site of several volumes, mirrored to several systems: three real daemons, by the command line.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    process::{Command as Process, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use holdfast_tests::{
    Daemon, DaemonConfig, VolumeSpec, commands, free_port,
    initiator::GOOD,
    program,
    stamps::SECTOR,
    systems::{self, Pki},
    tool,
};

/// Sectors written at a time.
const SECTORS: usize = 128;
/// What is waited for comes sooner.
const LONG: Duration = Duration::from_secs(60);

/// `HF-A`, whose volumes 1 and 2 are mirrored to volume 1 of `HF-B` and volume 2 of `HF-C`. These have mirrors 3 there; volume 4 of `HF-A` has its
/// mirror 3 here.
struct Three {
    a: Daemon,
    b: Daemon,
    c: Daemon,
    /// Their certificates, which are read again by a reload and a start.
    _pki: Pki,
}

impl Three {
    fn start() -> Self {
        let names = ["HF-A", "HF-B", "HF-C"];
        let pki = Pki::new(&names);
        let ports = names.map(|_| free_port());
        let at = |system: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[system]));
        let daemon = |system: usize, peers: &[usize]| {
            let mut config = DaemonConfig::trio("16MiB");
            config.volumes = vec![
                VolumeSpec::standard("prod", "16MiB"),
                VolumeSpec::standard("logs", "16MiB"),
                VolumeSpec::mirror("bcv", "16MiB"),
                VolumeSpec::standard("local", "16MiB"),
            ];
            config.extra = pki.link(names[system], ports[system]);
            for peer in peers {
                let peer = systems::peer(names[*peer], at(*peer));
                write!(config.extra, "{peer}").expect("a String takes all");
            }
            Daemon::start_with(&config, &[("HOLDFAST__SYSTEM__ID", names[system])])
        };
        let three = Self {
            a: daemon(0, &[1, 2]),
            b: daemon(1, &[0]),
            c: daemon(2, &[0]),
            _pki: pki,
        };
        let up = |peer: &serde_json::Value| peer["up"] == true;
        systems::until_link(&three.a, |link| {
            link["peers"].as_array().is_some_and(|peers| peers.iter().all(up))
        });
        three
    }

    /// All pairs, in sync mode.
    fn establish(&self) {
        self.a
            .holdfast_ok(&["establish", "1", "HF-B:1", "--mode", "sync", "--wait"]);
        self.establish_others();
        self.b.holdfast_ok(&["establish", "1", "3", "--wait"]);
    }

    fn establish_others(&self) {
        self.a
            .holdfast_ok(&["establish", "2", "HF-C:2", "--mode", "sync", "--wait"]);
        self.a.holdfast_ok(&["establish", "4", "3", "--wait"]);
        self.c.holdfast_ok(&["establish", "2", "3", "--wait"]);
    }

    /// The same byte everywhere on the first blocks of the three volumes.
    fn write(&self, byte: u8) {
        for lun in [0, 1, 3] {
            write(&self.a, lun, 0, byte);
        }
    }

    /// The three images hold it.
    fn images_hold(&self, byte: u8) {
        for daemon in [&self.a, &self.b, &self.c] {
            image_holds(daemon, byte);
        }
    }

    /// No mirror is split, and the remote pairs are equal.
    fn nothing_is_split(&self) {
        for (daemon, primary, mirror) in [
            (&self.a, "1", "HF-B:1"),
            (&self.a, "2", "HF-C:2"),
            (&self.a, "4", "3"),
            (&self.b, "1", "3"),
            (&self.c, "2", "3"),
        ] {
            until_state(daemon, (primary, mirror), "duplex");
        }
    }
}

fn image_holds(daemon: &Daemon, byte: u8) {
    let completion = daemon.run(2, &commands::read(0, SECTORS as u32));
    assert_eq!(completion.status, GOOD, "{completion:?}");
    assert!(
        completion.data.iter().all(|found| *found == byte),
        "{}, not {byte}",
        completion.data[0]
    );
}

fn write(daemon: &Daemon, lun: u16, block: u64, byte: u8) {
    let data = vec![byte; SECTORS * SECTOR];
    let completion = daemon.run(lun, &commands::write(block * SECTORS as u64, data, false));
    assert_eq!(completion.status, GOOD, "{completion:?}");
}

fn until_state(daemon: &Daemon, (primary, mirror): (&str, &str), state: &str) {
    let deadline = Instant::now() + LONG;
    loop {
        let pair = daemon.pair(primary, mirror);
        if pair["state"] == state {
            return;
        }
        assert!(Instant::now() < deadline, "not {state}: {pair}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// S57, S60, S65: one instant over three volumes at three systems, between hooks; what cannot be done at one system is done at none.
#[test]
fn a_backup_of_several_volumes_is_at_all_systems_or_at_none() {
    let mut three = Three::start();
    three.establish();
    three.write(1);
    let trace = three.a.path("hooks");
    let hook = |word: &str| format!("echo {word} >> {}", trace.display());
    let (before, after) = (hook("frozen"), hook("thawed"));
    let hooks = ["--before", &before, "--after", &after];
    let backup = |members: &[&str]| three.a.holdfast(&[&["backup"], members, &hooks].concat());

    // What makes no sense, or is not so: nothing is frozen.
    let counts = backup(&["prod", "logs", "--to", "HF-B:3"]);
    assert_eq!(counts.code(), 2, "{}", counts.said());
    let elsewhere = backup(&["prod", "--to", "HF-B:3", "logs", "--to", "HF-B:3"]);
    assert_eq!(elsewhere.code(), 1, "{}", elsewhere.said());
    assert!(
        elsewhere
            .said()
            .contains("2 (logs) is mirrored to HF-C, not to HF-B"),
        "{}",
        elsewhere.said()
    );
    assert!(!trace.exists());
    let refused = backup(&["prod", "--to", "HF-B:3", "logs", "--to", "HF-C:1"]);
    assert_eq!(refused.code(), 1, "{}", refused.said());
    assert!(
        refused.said().contains("pair 2 of the list") && refused.said().contains("2 (logs)"),
        "{}",
        refused.said()
    );
    assert_eq!(std::fs::read_to_string(&trace).unwrap(), "frozen\nthawed\n");
    three.nothing_is_split();

    let all = [
        "prod", "--to", "HF-B:3", "logs", "--to", "HF-C:3", "local", "--to", "bcv",
    ];
    let dry = three
        .a
        .holdfast_ok(&[&["backup"], &all[..], &["--dry-run"]].concat());
    assert!(dry.contains("would be accepted"), "{dry}");
    three.nothing_is_split();
    let taken = backup(&all);
    assert_eq!(taken.code(), 0, "{}", taken.said());
    assert!(
        taken.stdout.contains("2 (logs): image at HF-C:3"),
        "{}",
        taken.said()
    );
    three.write(2);
    three.images_hold(1);
    let hooked = std::fs::read_to_string(&trace).unwrap();
    assert_eq!(hooked, "frozen\nthawed\nfrozen\nthawed\n");

    // The far mirrors follow again by themselves; one here that is apart would keep its old image.
    let apart = backup(&all);
    assert_eq!(apart.code(), 1, "{}", apart.said());
    assert!(apart.said().contains("4 (local)"), "{}", apart.said());
    three.images_hold(1);
    three.a.holdfast_ok(&["establish", "4", "3", "--wait"]);

    // Again, over the last images, and as a document.
    until_state(&three.a, ("1", "HF-B:1"), "duplex");
    until_state(&three.a, ("2", "HF-C:2"), "duplex");
    let text = three.a.holdfast_ok(&[&["--json", "backup"], &all[..]].concat());
    let document: serde_json::Value = serde_json::from_str(&text).expect("one document");
    assert_eq!(document["done"], true, "{document}");
    assert_eq!(document["members"][1]["system"], "HF-C", "{document}");
    assert!(document["held_ms"].is_u64(), "{document}");
    three.write(3);
    three.images_hold(2);

    // One of the systems is gone.
    three.a.holdfast_ok(&["establish", "4", "3", "--wait"]);
    three.c.kill();
    systems::until_link(&three.a, |link| {
        link["peers"]
            .as_array()
            .is_some_and(|peers| peers.iter().any(|peer| peer["up"] == false))
    });
    let away = three.a.holdfast(&[&["backup"], &all[..]].concat());
    assert_eq!(away.code(), 1, "{}", away.said());
    assert!(away.said().contains("2 (logs)"), "{}", away.said());
    until_state(&three.a, ("4", "3"), "duplex");
    three.c.start_again();
    for daemon in [&three.b, &three.c] {
        image_holds(daemon, 2);
    }
}

/// S57, S60: Ctrl-C while the image is on its way, by a slow copy: no system has it, writes go on to the far site, and who was frozen is thawed.
#[test]
fn a_backup_is_cancelled_by_ctrl_c() {
    let three = Three::start();
    three.establish_others();
    for block in 0..16 * 16 {
        write(&three.a, 0, block, 1);
    }
    three.write(1);
    let pace = "[replication]\ncopy_rate = \"128KiB\"\n\n[link]\n";
    three.a.reconfigure("[link]\n", pace);
    three
        .a
        .holdfast_ok(&["establish", "1", "HF-B:1", "--mode", "async"]);
    three.b.holdfast_ok(&["establish", "1", "3"]);
    let trace = three.a.path("thawed");
    let touch = format!("touch {}", trace.display());
    let child = Process::new(program("holdfast"))
        .arg("--admin")
        .arg(three.a.path("admin.sock"))
        .args([
            "backup", "1", "--to", "HF-B:3", "2", "--to", "HF-C:3", "4", "--to", "3",
        ])
        .args(["--timeout", "600", "--after", &touch])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("holdfast starts");
    let deadline = Instant::now() + LONG;
    while !three
        .a
        .holdfast_ok(&["events"])
        .contains("backup to HF-B:3, HF-C:3 begins")
    {
        assert!(Instant::now() < deadline, "{}", three.a.holdfast_ok(&["events"]));
        thread::sleep(Duration::from_millis(20));
    }
    let kill = tool::call("kill", &["-INT".to_owned(), child.id().to_string()]);
    assert!(kill.status.success(), "kill: {}", kill.said());
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let ended = ended.recv_timeout(LONG).expect("it ends").expect("our child");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("cancelled before the image was there"), "{said}");
    assert!(trace.exists(), "{said}");
    let events = three.a.holdfast_ok(&["events"]);
    assert!(
        events.contains("there is no image, and the pairs go on"),
        "{events}"
    );
    three.write(2);
    three.a.reconfigure(pace, "[link]\n");
    three.nothing_is_split();
    assert!(
        three
            .a
            .holdfast_ok(&["verify", "--deep"])
            .contains("no difference")
    );
    three.a.holdfast_ok(&[
        "backup", "1", "--to", "HF-B:3", "2", "--to", "HF-C:3", "4", "--to", "3",
    ]);
    three.write(3);
    three.images_hold(2);
}
