//! The Linux kernel's initiator (open-iscsi, multipath, sg3_utils) in a virtual machine, one script a test. The
//! scripts are in `tests/real-initiator/examples`; each overwrites what it is given.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use holdfast_tests::{Daemon, DaemonConfig, VolumeSpec, free_port, guest, systems::Systems, tool};

fn one_disk(size: &'static str) -> DaemonConfig {
    DaemonConfig {
        volumes: vec![VolumeSpec::standard("disk", size)],
        initiators: String::new(),
        extra: String::new(),
    }
}

fn nothing(request: &str, _: &mut Daemon) {
    panic!("the script asks the host for {request:?}, which this test does not do");
}

#[test]
fn ext4_with_real_files() {
    guest::run(
        &mut Daemon::start(&one_disk("512MiB")),
        "login-mkfs-fsck",
        &[],
        &mut nothing,
    );
}

#[test]
fn xfs_with_real_files() {
    file_system("xfs");
}

#[test]
fn btrfs_with_real_files() {
    file_system("btrfs");
}

fn file_system(name: &str) {
    guest::run(
        &mut Daemon::start(&one_disk("512MiB")),
        "login-mkfs-fsck",
        &[("FS", name)],
        &mut nothing,
    );
}

/// S5, S9, S11: a standard and its images on one host, which all have one UUID.
#[test]
fn images_of_xfs_beside_their_standard() {
    let config = DaemonConfig {
        volumes: vec![
            VolumeSpec::standard("prod", "400MiB"),
            VolumeSpec::mirror("bcv", "400MiB"),
        ],
        ..one_disk("400MiB")
    };
    guest::run(&mut Daemon::start(&config), "xfs-images", &[], &mut nothing);
}

/// One LUN grows by the configuration, the other by command.
#[test]
fn luns_grow_under_file_systems_in_use() {
    let config = DaemonConfig {
        volumes: vec![
            VolumeSpec::standard("ext4", "256MiB"),
            VolumeSpec::standard("xfs", "320MiB"),
        ],
        ..one_disk("256MiB")
    };
    let mut serve = |request: &str, daemon: &mut Daemon| {
        let (before, after) = match request {
            "host-grow-1" => ("256MiB", "512MiB"),
            "host-grow-2" => ("512MiB", "768MiB"),
            _ => panic!("{request} is no request of the script"),
        };
        daemon.reconfigure(&format!("size = \"{before}\""), &format!("size = \"{after}\""));
        daemon.holdfast_ok(&["volume", "resize", "xfs", after]);
    };
    guest::run(&mut Daemon::start(&config), "resize", &[], &mut serve);
}

#[test]
fn block_users_other_than_file_systems() {
    guest::run(
        &mut Daemon::start(&one_disk("512MiB")),
        "raw-io",
        &[],
        &mut nothing,
    );
}

#[test]
fn scsi_commands_one_by_one() {
    guest::run(
        &mut Daemon::start(&one_disk("256MiB")),
        "sg-tools",
        &[],
        &mut nothing,
    );
}

#[test]
fn whole_devices_and_copies_between_them() {
    let config = DaemonConfig {
        volumes: vec![
            VolumeSpec::standard("disk", "128MiB"),
            VolumeSpec::standard("other", "32MiB"),
        ],
        ..one_disk("128MiB")
    };
    guest::run(&mut Daemon::start(&config), "sg-devices", &[], &mut nothing);
}

#[test]
fn persistent_reservations_between_two_initiators() {
    guest::run(
        &mut Daemon::start(&one_disk("256MiB")),
        "reservations",
        &[],
        &mut nothing,
    );
}

/// One initiator sees the target's LUNs, the other a map of its own, which a reload changes.
#[test]
fn lun_maps_of_two_initiators() {
    let before = "luns = [{ lun = 5, volume = 1, read_only = true }, { lun = 6, volume = 2 }]";
    let after = "luns = [{ lun = 5, volume = 1 }, { lun = 7, volume = 2 }]";
    let names = "iqn.2004-10.example.initiator:";
    let config = DaemonConfig {
        volumes: ["one", "two", "three"]
            .map(|name| VolumeSpec::standard(name, "64MiB"))
            .into(),
        initiators: format!(
            "[[target.initiator]]\nname = \"{names}*\"\n\
             [[target.initiator]]\nname = \"{names}*-b\"\n{before}\n"
        ),
        ..one_disk("64MiB")
    };
    let mut remap = |request: &str, daemon: &mut Daemon| {
        assert_eq!(request, "host-remap");
        daemon.reconfigure(before, after);
    };
    guest::run(&mut Daemon::start(&config), "lun-masks", &[], &mut remap);
}

#[test]
fn multipath_loses_and_finds_a_path() {
    let mut daemon = Daemon::start(&one_disk("256MiB"));
    let (first, second) = (daemon.port(), free_port());
    let one = format!("portals = [\"127.0.0.1:{first}\"]");
    let both = format!("portals = [\"127.0.0.1:{first}\", \"127.0.0.1:{second}\"]");
    daemon.reconfigure(&one, &both);
    let mut serve = |request: &str, daemon: &mut Daemon| match request {
        "host-portal-out" => drop(daemon.reconfigure(&both, &one)),
        "host-portal-in" => drop(daemon.reconfigure(&one, &both)),
        _ => panic!("{request} is no request of the script"),
    };
    let portals = format!("10.0.2.2:{first} 10.0.3.2:{second}");
    let variables = [("MULTIPATH_PORTALS", portals.as_str())];
    guest::run(&mut daemon, "multipath", &variables, &mut serve);
}

/// I/O to the multipath device goes on while the parts of the pair change, and so does that of a single session which is sent to where the unit is led.
#[test]
fn multipath_follows_a_swap() {
    let mut systems = Systems::start_shared("128MiB");
    systems
        .a
        .holdfast_ok(&["establish", "1", "HF-B:1", "--mode", "sync", "--wait"]);
    let portals = [
        format!("10.0.2.2:{}", systems.a.port()),
        format!("10.0.3.2:{}", systems.b.port()),
    ];
    let redirect = |daemon: &Daemon, offset: u16, to: &str| {
        let offset = format!("relative_port_offset = {offset}\n");
        daemon.reconfigure(&offset, &format!("{offset}redirect = \"{to}\"\n"));
    };
    let mut serve = |request: &str, daemon: &mut Daemon| match request {
        // Given at the side that follows it makes it lead. The sides swap while they are equal, which they are soon.
        "host-swap-1" | "host-swap-2" | "host-swap-3" => {
            let deadline = Instant::now() + Duration::from_secs(120);
            loop {
                let swapped = daemon.holdfast(&["swap", "1", "1"]);
                if swapped.code() == 0 {
                    break;
                }
                assert!(Instant::now() < deadline, "{}", swapped.said());
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        "host-redirect" => {
            redirect(daemon, 100, &portals[1]);
            redirect(&systems.b, 200, &portals[0]);
        }
        _ => panic!("{request} is no request of the script"),
    };
    let both = portals.join(" ");
    let variables = [("SYSTEMS", both.as_str())];
    guest::run(&mut systems.a, "shared-unit", &variables, &mut serve);
}

#[test]
fn chap_and_digests_in_all_combinations() {
    let secrets = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, secret: &str| {
        let path = secrets.path().join(name);
        std::fs::write(&path, secret).expect("ours");
        tool::ok("chmod", &["600".as_ref(), path.as_os_str()]);
        path.display().to_string()
    };
    let initiators = format!(
        "[[target.initiator]]\nname = \"*\"\ncontrol = true\n\
         chap = {{ user = \"alice\", secret_file = \"{}\" }}\nmutual = {{ user = \"target\", secret_file = \"{}\" }}\n",
        file("alice", "alices-secret-1"),
        file("target", "targets-secret-1"),
    );
    let mut daemon = Daemon::start(&DaemonConfig {
        initiators,
        ..one_disk("256MiB")
    });
    let variables = [
        ("CHAP_USER", "alice"),
        ("CHAP_PASSWORD", "alices-secret-1"),
        ("CHAP_USER_IN", "target"),
        ("CHAP_PASSWORD_IN", "targets-secret-1"),
        ("CHAP_ALGS", "MD5 SHA1 SHA256 SHA3-256"),
    ];
    guest::run(&mut daemon, "chap-digests", &variables, &mut nothing);
}

fn restart(request: &str, daemon: &mut Daemon) {
    assert_eq!(request, "restart-target");
    daemon.kill();
    daemon.start_again();
}

#[test]
fn reservations_survive_a_kill() {
    guest::run(
        &mut Daemon::start(&one_disk("256MiB")),
        "reservations-restart",
        &[],
        &mut restart,
    );
}

#[test]
fn a_killed_daemon_loses_no_acknowledged_write() {
    guest::run(
        &mut Daemon::start(&one_disk("512MiB")),
        "recovery",
        &[],
        &mut restart,
    );
}

/// The README's tour, line by line: the lines are the README's, and its programs are the ones users have.
#[test]
fn the_readme_tour() {
    let readme = std::fs::read_to_string(holdfast_tests::repository().join("README.md")).expect("README.md");
    let script = holdfast_tests::repository().join("tests/real-initiator/examples/tour.sh");
    let script = std::fs::read_to_string(script)
        .expect("tour.sh")
        .replace(":$TARGET_PORT", "");
    let mut rest = script.as_str();
    for line in readme.lines().filter_map(|line| line.strip_prefix("    # ")) {
        let at = rest
            .find(&format!("\n{line}\n"))
            .unwrap_or_else(|| panic!("the README's {line:?} is not the next line of tour.sh"));
        rest = &rest[at + 1 + line.len()..];
    }
    let mut daemon = Daemon::start_default(&[("HOLDFAST__REPLICATION__COPY_RATE", "4MiB")]);
    std::fs::create_dir_all(daemon.path("share")).expect("ours");
    std::fs::copy(holdfast_tests::program("holdfast"), daemon.path("share/holdfast")).expect("ours");
    guest::run(&mut daemon, "tour", &[], &mut nothing);
}

const FAST: &str = "[replication]\ncopy_rate = \"64MiB\"\n";
/// A restore of some megabytes takes minutes.
const SLOW: &str = "[replication]\ncopy_rate = \"64KiB\"\n";

/// S17, S20, S34, S36, S46: the story of pairs over two hosts, in band with `sg_raw`.
#[test]
fn the_story_protected_restore_twice_from_one_mirror() {
    let config = DaemonConfig {
        extra: FAST.to_owned(),
        ..DaemonConfig::trio("256MiB")
    };
    let mut serve = |request: &str, daemon: &mut Daemon| {
        if let Some(number) = request.strip_prefix("host-sha-") {
            let sum = Command::new("sha256sum")
                .arg(daemon.path("bcv1.img"))
                .output()
                .expect("sha256sum runs");
            assert!(sum.status.success());
            std::fs::write(daemon.path(format!("share/sha-{number}")), &sum.stdout[..64]).expect("ours");
        } else if request.starts_with("host-slow-") {
            daemon.reconfigure(FAST, SLOW);
        } else {
            assert!(
                request.starts_with("host-fast-"),
                "{request} is no request of the script"
            );
            daemon.reconfigure(SLOW, FAST);
        }
    };
    guest::run(&mut Daemon::start(&config), "story", &[], &mut serve);
}
