//! A PC that boots from a LUN: firmware, boot loader, kernel and root file system come over iSCSI. `tests/real-initiator/boot-disk`
//! makes what is on the LUN.
//!
//! What a boot leaves on its root, the next finds: the first comes from a standard whose mirror is kept equal, the second from that
//! mirror after its split, by another initiator.

use std::{fs, process::Command, time::Duration};

use holdfast_tests::{Daemon, DaemonConfig, VolumeSpec, repository, tool};

/// A boot takes some 20 s of a core in software emulation, by iPXE 45 s.
const LIMIT: Duration = Duration::from_secs(240);
const SECRET: &str = "alices-secret-1";

/// S5, S8: qemu's own initiator, then iPXE with the kernel's (open-iscsi's iscsistart), both with CHAP.
#[test]
fn a_pc_boots_from_a_standard_by_qemu_and_from_its_split_mirror_by_ipxe() {
    let secrets = tempfile::tempdir().expect("a temporary directory");
    let secret = secrets.path().join("alice");
    fs::write(&secret, SECRET).expect("ours");
    tool::ok("chmod", &["600".as_ref(), secret.as_os_str()]);
    let daemon = Daemon::start(&DaemonConfig {
        volumes: vec![
            VolumeSpec::standard("disk", "448MiB"),
            VolumeSpec::mirror("image", "448MiB"),
        ],
        initiators: format!(
            "[[target.initiator]]\nname = \"*\"\nchap = {{ user = \"alice\", secret_file = \"{}\" }}\n",
            secret.display()
        ),
        extra: String::new(),
    });
    let disk = daemon.path("boot-disk.img");
    let make = repository().join("tests/real-initiator/boot-disk");
    let made = tool::run(Command::new(make).arg(&disk), LIMIT);
    assert!(made.status.success(), "boot-disk: {}", made.said());
    let url = daemon
        .url(0)
        .replace("iscsi://", &format!("iscsi://alice%{SECRET}@"));
    let disk = disk.display().to_string();
    let convert = ["convert", "-n", "-f", "raw", "-O", "raw", disk.as_str(), &url];
    tool::ok("qemu-img", &convert);
    daemon.holdfast_ok(&["establish", "1", "2", "--wait"]);

    let drive = format!("file={url},format=raw,if=virtio");
    let said = boot(&["-drive", &drive, "-iscsi", "initiator-name=iqn.2026-11.test:pc"]);
    expect(
        &said,
        &[
            "boot-main: root is /dev/vda2",
            "earlier boots 0",
            "/boots/1: written and read back",
        ],
    );
    daemon.holdfast_ok(&["split", "1", "2"]);
    daemon.holdfast_ok(&["verify", "1", "2", "--state", "split", "--wait"]);

    let script = format!(
        "#!ipxe\nset initiator-iqn iqn.2026-11.test:ipxe\nset username alice\nset password {SECRET}\n\
         sanboot iscsi:10.0.2.2::{}:1:{}\n",
        daemon.port(),
        daemon.iqn()
    );
    let served = daemon.path("tftp");
    fs::create_dir(&served).expect("the test's directory is ours");
    fs::write(served.join("boot.ipxe"), script).expect("the test's directory is ours");
    let network = format!(
        "user,id=n0,net=10.0.2.0/24,host=10.0.2.2,tftp={},bootfile=boot.ipxe",
        served.display()
    );
    let said = boot(&[
        "-boot",
        "order=n",
        "-netdev",
        &network,
        "-device",
        "virtio-net-pci,netdev=n0",
    ]);
    expect(
        &said,
        &[
            "Booting from SAN device 0x80",
            &format!("boot-init: iBFT names {}", daemon.iqn()),
            "boot-main: root is /dev/sda2",
            "earlier boots 1",
            "/boots/1: intact",
            "/boots/2: written and read back",
        ],
    );
    let log = daemon.log();
    for initiator in ["iqn.2026-11.test:pc", "iqn.2026-11.test:ipxe"] {
        assert!(log.contains(initiator), "{initiator} has not logged in:\n{log}");
    }
    assert_eq!(daemon.pair("1", "2")["state"], "split");
}

/// Runs a PC with these disks or cards until it switches itself off; returns what it said on its serial port.
fn boot(hardware: &[&str]) -> String {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-machine", "pc,usb=off,vmport=off,hpet=off,graphics=off"])
        .args([
            "-cpu",
            "max",
            "-accel",
            "tcg,thread=multi",
            "-smp",
            "2",
            "-m",
            "512",
        ])
        .args(["-serial", "stdio"])
        .args(hardware);
    let run = tool::run(&mut command, LIMIT);
    let said = run.said();
    println!("{said}");
    assert!(run.status.success(), "{command:?} ended with {}", run.status);
    assert!(
        said.contains("boot-main: done") && !said.contains("DAMAGED"),
        "{command:?} did not come through:\n{said}"
    );
    said
}

fn expect(said: &str, wanted: &[&str]) {
    for line in wanted {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
}
