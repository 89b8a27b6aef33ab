//! A PC that boots from a LUN: firmware, boot loader, kernel and root file system come over iSCSI. `tests/real-initiator/boot-disk`
//! makes what is on the LUN.
//!
//! What a boot leaves on its root, the next finds: the first comes from a standard whose mirror is kept equal, the second from that
//! mirror after its split, by another initiator. During the first the daemon is killed and started again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

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
    let mut daemon = Daemon::start(&DaemonConfig {
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
    let mut pc = Pc::start(
        &daemon.path("serial-1"),
        &["-drive", &drive, "-iscsi", "initiator-name=iqn.2026-11.test:pc"],
    );
    pc.wait_for("boot-main: root is");
    daemon.kill();
    daemon.start_again();
    expect(
        &pc.end(),
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
    let card = "virtio-net-pci,netdev=n0";
    let pc = Pc::start(
        &daemon.path("serial-2"),
        &["-boot", "order=n", "-netdev", &network, "-device", card],
    );
    expect(
        &pc.end(),
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
    let logins = |initiator: &str| {
        let of = format!("initiator=\"{initiator}\"");
        log.lines()
            .filter(|line| line.contains("logged in peer") && line.contains(&of))
            .count()
    };
    assert_eq!(
        logins("iqn.2026-11.test:pc"),
        2,
        "before the kill, and after it:\n{log}"
    );
    // The firmware, and the kernel with the name that it left.
    assert_eq!(logins("iqn.2026-11.test:ipxe"), 2, "{log}");
    assert_eq!(daemon.pair("1", "2")["state"], "split");
}

/// A PC that switches itself off in the end. Dropped before, it is killed.
struct Pc {
    qemu: Child,
    /// What it says on its serial port.
    serial: PathBuf,
    until: Instant,
}

impl Pc {
    fn start(serial: &Path, hardware: &[&str]) -> Self {
        let qemu = Command::new("qemu-system-x86_64")
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
            .arg("-serial")
            .arg(format!("file:{}", serial.display()))
            .args(hardware)
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-system-x86_64 starts");
        Self {
            qemu,
            serial: serial.to_path_buf(),
            until: Instant::now() + LIMIT,
        }
    }

    fn said(&self) -> String {
        let said = fs::read(&self.serial).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Waits until the PC says this.
    fn wait_for(&mut self, line: &str) {
        while !self.said().contains(line) {
            assert!(
                !self.is_over(),
                "it ended without saying {line:?}:\n{}",
                self.said()
            );
        }
    }

    /// Waits until it has switched itself off; returns all it said.
    fn end(mut self) -> String {
        while !self.is_over() {}
        let said = self.said();
        println!("{said}");
        assert!(
            said.contains("boot-main: done") && !said.contains("DAMAGED"),
            "it did not come through:\n{said}"
        );
        said
    }

    /// Has it ended? Takes a moment; fails when it takes too long.
    fn is_over(&mut self) -> bool {
        assert!(
            Instant::now() < self.until,
            "it took more than {LIMIT:?}:\n{}",
            self.said()
        );
        // A file of qemu's tells nobody that it has grown: look ten times a second.
        thread::park_timeout(Duration::from_millis(100));
        let status = self.qemu.try_wait().expect("our child");
        assert!(
            status.is_none_or(|status| status.success()),
            "qemu ended with {status:?}:\n{}",
            self.said()
        );
        status.is_some()
    }
}

impl Drop for Pc {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn expect(said: &str, wanted: &[&str]) {
    for line in wanted {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
}
