//! Userspace initiators on this machine: libiscsi's tools, qemu-img and qemu-io, and our own `holdfast --iscsi`.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use holdfast_tests::{Daemon, DaemonConfig, VolumeSpec, program, tool};

/// S45: a user's program hangs on a change of state: it follows the events, and when the pair has split it takes a copy of the image.
#[test]
fn a_user_program_acts_on_a_change_of_state() {
    let daemon = Daemon::start(&DaemonConfig::trio("8MiB"));
    write(&daemon, 0, &["write -P 0x31 1M 1M"]);
    let mut follower = Command::new(program("holdfast"))
        .arg("--admin")
        .arg(daemon.path("admin.sock"))
        .args(["events", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("our own program");
    let lines = BufReader::new(follower.stdout.take().expect("a pipe")).lines();
    let (mirror, copy) = (daemon.path("bcv1.img"), daemon.path("copy.img"));
    let (tell, told) = mpsc::channel();
    let hook = thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if line.contains("1 -> 2") && line.contains("became split") {
                fs::copy(&mirror, &copy).expect("both are ours");
                // Who waits may have given up.
                let _ = tell.send(fs::read(&copy).expect("just made"));
                return;
            }
        }
    });
    daemon.holdfast_ok(&["establish", "1", "2", "--wait"]);
    daemon.holdfast_ok(&["split", "1", "2"]);
    let image = told.recv_timeout(Duration::from_secs(60));
    follower.kill().expect("it runs");
    follower.wait().expect("it was killed");
    hook.join().expect("the hook");
    let image = image.expect("no event of the split was heard");
    assert!(image[1 << 20..2 << 20].iter().all(|byte| *byte == 0x31));
}

#[test]
fn discovery_and_inquiry() {
    let daemon = Daemon::start(&DaemonConfig::trio("64MiB"));
    let portal = format!("iscsi://127.0.0.1:{}", daemon.port());
    let listing = tool::ok("iscsi-ls", &["-s", &portal]);
    assert!(listing.contains(daemon.iqn()), "{listing}");
    assert!(
        listing.contains("Lun:0") && listing.contains("Lun:2"),
        "{listing}"
    );
    let inquiry = tool::ok("iscsi-inq", &[daemon.url(0)]);
    assert!(inquiry.contains("HOLDFAST"), "{inquiry}");
    let capacity = tool::ok("iscsi-readcapacity16", &["-s", &daemon.url(0)]);
    assert_eq!(capacity.trim(), (64 << 20).to_string());
}

#[test]
fn an_image_goes_in_and_comes_out() {
    let daemon = Daemon::start(&DaemonConfig::trio("64MiB"));
    let (image, back) = (daemon.path("image"), daemon.path("back"));
    // Data, a hole, data: qemu-img skips the hole and must read it back as zeros.
    let mut content = vec![0u8; 64 << 20];
    for (index, byte) in content[..8 << 20].iter_mut().enumerate() {
        *byte = (index.wrapping_mul(2_654_435_761) >> 13) as u8;
    }
    content.copy_within(0..8 << 20, 40 << 20);
    fs::write(&image, &content).expect("ours");
    let url = daemon.url(0);
    let paths = [image.to_str().expect("UTF-8"), back.to_str().expect("UTF-8")];
    tool::ok(
        "qemu-img",
        &["convert", "-n", "-f", "raw", "-O", "raw", paths[0], &url],
    );
    tool::ok("qemu-img", &["compare", "-f", "raw", "-F", "raw", paths[0], &url]);
    tool::ok("qemu-img", &["convert", "-f", "raw", "-O", "raw", &url, paths[1]]);
    assert!(
        fs::read(&back).expect("qemu-img wrote it") == content,
        "what came out is not what went in"
    );
}

#[test]
fn every_size_and_alignment_on_4096_byte_blocks() {
    let volume = VolumeSpec {
        block_size: 4096,
        physical_block_size: 4096,
        ..VolumeSpec::standard("disk", "64MiB")
    };
    let config = DaemonConfig {
        volumes: vec![volume],
        initiators: String::new(),
        extra: String::new(),
    };
    let daemon = Daemon::start(&config);
    // Writes and reads in processes of their own, and no read of 32 KiB or more: qemu 7.2 asks itself for the block status of a range
    // that is no multiple of 4096 when it remembers a hole or reads much, and stops at its own assertion
    // (block/iscsi.c, iscsi_co_block_status).
    write(
        &daemon,
        0,
        &[
            "write -P 0x11 0 16M",
            "write -P 0x22 4096 4096",
            "write -P 0x33 1M 3M",
            "write -z 2M 64k",
            "discard 8M 1M",
            "flush",
        ],
    );
    write(
        &daemon,
        0,
        &[
            "read -P 0x11 0 4096",
            "read -P 0x22 4096 4096",
            "read -P 0x11 8192 16k",
            "read -P 0x33 1M 28k",
            "read -P 0 2M 28k",
            "read -P 0x33 3M 28k",
            "read -P 0 8M 28k",
            "read -P 0x11 9M 28k",
        ],
    );
}

/// Writes a pattern to a LUN with qemu-io.
fn write(daemon: &Daemon, lun: u16, steps: &[&str]) {
    let mut command = Command::new("qemu-io");
    command.args(["-f", "raw"]);
    for step in steps {
        command.args(["-c", step]);
    }
    let run = tool::run(command.arg(daemon.url(lun)), Duration::from_secs(60));
    assert!(run.status.success(), "{}", run.said());
    assert!(
        !run.said().contains("Pattern verification failed"),
        "{}",
        run.said()
    );
}

/// S15, S20, S26, S34, S37, S46: twice from one mirror, the second time with a kill.
#[test]
fn the_story_over_the_admin_socket() {
    let mut daemon = Daemon::start(&DaemonConfig {
        extra: "[replication]\ncopy_rate = \"4MiB\"\n".to_owned(),
        ..DaemonConfig::trio("64MiB")
    });
    write(&daemon, 0, &["write -P 0xa1 0 12M", "write -P 0xa2 20M 100k"]);
    daemon.holdfast_ok(&["establish", "1", "2", "--wait"]);
    assert_eq!(daemon.pair("1", "2")["state"], "duplex");
    daemon.holdfast_ok(&["split", "prod", "bcv1"]);
    daemon.holdfast_ok(&["verify", "1", "2", "--state", "split", "--wait"]);
    let mirror = fs::read(daemon.path("bcv1.img")).expect("the mirror's file");
    write(&daemon, 1, &["read -P 0xa1 0 12M", "read -P 0xa2 20M 100k"]);

    for round in 0..2 {
        write(&daemon, 0, &["write -P 0xbb 0 12M", "write -P 0xbc 20M 1M"]);
        daemon.holdfast_ok(&["restore", "1", "2", "--protected"]);
        // At once: the old image, while most of it is still to be copied; and new data stays.
        write(
            &daemon,
            0,
            &[
                "read -P 0xa1 0 12M",
                "read -P 0xa2 20M 100k",
                "write -P 0xcc 700k 1000",
                "read -P 0xa1 710k 1M",
            ],
        );
        let pair = daemon.pair("1", "2");
        assert_eq!(pair["state"], "protected-restoring", "round {round}: {pair}");
        assert!(pair["remaining"].as_u64().expect("a number") > 0, "{pair}");
        if round == 1 {
            // The same after a kill in the middle.
            daemon.kill();
            daemon.start_again();
            write(
                &daemon,
                0,
                &[
                    "read -P 0xa1 0 700k",
                    "read -P 0xcc 700k 1000",
                    "read -P 0xa1 710k 1M",
                    "read -P 0xa2 20M 100k",
                ],
            );
        }
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
        write(
            &daemon,
            0,
            &[
                "read -P 0xa1 0 700k",
                "read -P 0xcc 700k 1000",
                "read -P 0xa1 710k 1M",
                "read -P 0xa2 20M 100k",
            ],
        );
        assert!(
            fs::read(daemon.path("bcv1.img")).expect("the mirror's file") == mirror,
            "round {round}: the mirror changed"
        );
    }
    daemon.stop();
    daemon.start_again();
    assert_eq!(daemon.pair("1", "2")["state"], "split");
    daemon.holdfast_ok(&["establish", "1", "2", "--wait"]);
    write(&daemon, 0, &["read -P 0xcc 700k 1000"]);
    daemon.holdfast_ok(&["split", "1", "2"]);
    daemon.holdfast_ok(&["verify", "1", "2", "--state", "split", "--wait"]);
    write(&daemon, 1, &["read -P 0xcc 700k 1000", "read -P 0xa2 20M 100k"]);
}

/// S36, S37, S38, S39, S42, S43, S44: every verb of S37, by CDBs only.
#[test]
fn the_same_verbs_in_band() {
    let daemon = Daemon::start(&DaemonConfig::trio("64MiB"));
    write(&daemon, 0, &["write -P 0x5a 0 4M"]);
    let in_band = |arguments: &[&str], code: i32| {
        let mut command = Command::new(program("holdfast"));
        command.args(["--iscsi", &daemon.url(0)]).args(arguments);
        let run = tool::run(&mut command, Duration::from_secs(60));
        assert_eq!(run.code(), code, "{arguments:?}: {}", run.said());
        run.said()
    };
    assert!(in_band(&["setup"], 0).contains("bcv2"));
    in_band(&["establish", "1", "2", "--wait"], 0);
    in_band(&["verify", "1", "2", "--state", "duplex"], 0);
    in_band(&["verify", "1", "2", "--state", "split"], 3);
    let refused = in_band(&["restore", "1", "2"], 1);
    assert!(refused.contains("state"), "{refused}");
    in_band(&["restore", "1"], 2);
    in_band(&["split", "1", "2", "--instant"], 0);
    in_band(&["verify", "1", "2", "--state", "split", "--wait"], 0);
    write(&daemon, 0, &["write -P 0x5b 1M 64k"]);
    let pending = in_band(&["--json", "pending", "1", "2"], 0);
    assert!(pending.contains("2048"), "1 MiB is block 2048: {pending}");
    let pairs = in_band(&["--json", "query", "1", "2"], 0);
    assert!(pairs.contains("\"state\":\"split\""), "{pairs}");
    in_band(&["config", "hold", "2"], 0);
    in_band(&["establish", "1", "2"], 1);
    in_band(&["config", "release", "2"], 0);
    in_band(&["restore", "1", "2", "--protected", "--wait"], 0);
    write(&daemon, 0, &["read -P 0x5a 0 4M"]);
    in_band(&["restore", "1", "2", "--full", "--wait"], 0);
    in_band(&["verify", "1", "2", "--state", "restored"], 0);
    in_band(&["cancel", "1", "2"], 0);
}

/// S4, S40.
#[test]
fn a_mirror_answers_only_when_it_may() {
    let daemon = Daemon::start(&DaemonConfig::trio("64MiB"));
    daemon.holdfast_ok(&["establish", "1", "2", "--wait"]);
    let read = tool::call("qemu-io", &["-f", "raw", "-c", "read 0 4k", &daemon.url(1)]);
    assert!(
        !read.status.success() || read.said().contains("failed"),
        "an established mirror answered: {}",
        read.said()
    );
    daemon.holdfast_ok(&["split", "1", "2"]);
    write(&daemon, 1, &["read -P 0 0 4k"]);
    daemon.holdfast_ok(&["config", "not-ready", "2"]);
    let read = tool::call("qemu-io", &["-f", "raw", "-c", "read 0 4k", &daemon.url(1)]);
    assert!(
        !read.status.success() || read.said().contains("failed"),
        "CONFIG NOT READY is without effect: {}",
        read.said()
    );
    daemon.holdfast_ok(&["config", "ready", "2"]);
    write(&daemon, 1, &["read -P 0 0 4k"]);
}
