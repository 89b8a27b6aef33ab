//! A second opinion: Wireshark's iSCSI and SCSI dissectors understand all that the daemon says.
//!
//! A capture of the loopback interface, of the daemon's port only, while sessions of all kinds are held; then no packet may be
//! malformed and no expert information of severity error may be left. Capturing needs root: the test asks `sudo -n` if it is not.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use holdfast_tests::{
    Daemon, DaemonConfig, commands, tool,
    wire::{FINAL, IMMEDIATE, Pdu, Wire},
};

/// A capture under way. Dropping it ends it.
struct Capture(Child);

fn as_root(program: &str) -> Command {
    let uid = tool::call("id", &["-u".to_owned()]);
    if uid.stdout.trim() == "0" {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("-n").arg(program);
    command
}

impl Capture {
    /// Captures into `file`; returns once packets are seen.
    fn start(port: u16, file: &Path) -> Self {
        let mut child = as_root("dumpcap")
            .args([
                "-q",
                "-i",
                "lo",
                "-s",
                "0",
                "-B",
                "64",
                "-a",
                "duration:120",
                "-f",
            ])
            .arg(format!("tcp port {port}"))
            .arg("-w")
            .arg(file)
            .stderr(Stdio::piped())
            .spawn()
            .expect("dumpcap starts: it is in the package tshark or wireshark-common");
        let stderr = child.stderr.take().expect("piped");
        let capture = Self(child);
        let (sender, started) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        loop {
            let line = started
                .recv_timeout(Duration::from_secs(20))
                .expect("dumpcap captures");
            if line.starts_with("File: ") {
                return capture;
            }
        }
    }

    fn stop(mut self) {
        self.interrupt();
        self.0.wait().expect("our child");
    }

    fn interrupt(&self) {
        let mut kill = as_root("kill");
        kill.args(["-INT", &self.0.id().to_string()]);
        tool::run(&mut kill, Duration::from_secs(10));
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.interrupt();
        }
    }
}

/// The lines that tshark prints of the packets that fit.
fn dissect(file: &Path, port: u16, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args([
        "-d",
        &format!("tcp.port=={port},iscsi"),
        "-Y",
        filter,
        "-T",
        "fields",
    ]);
    for field in fields {
        command.args(["-e", field]);
    }
    let run = tool::run(&mut command, Duration::from_secs(120));
    assert_eq!(run.code(), 0, "tshark: {}", run.said());
    run.stdout.lines().map(str::to_owned).collect()
}

/// Every kind of PDU that a target sends, and most of what SCSI answers.
fn talk(daemon: &Daemon) {
    for (keys, digests) in [
        ("InitialR2T=No ImmediateData=Yes", false),
        (
            "HeaderDigest=CRC32C DataDigest=CRC32C InitialR2T=Yes ImmediateData=No MaxRecvDataSegmentLength=4096",
            true,
        ),
    ] {
        let mut wire = Wire::session(daemon.port(), daemon.iqn(), keys);
        wire.set_digests(digests, digests);
        wire.attentions(0);
        let data: Vec<u8> = (0..40_960_u32).map(|at| (at / 512) as u8).collect();
        assert!(wire.scsi(0, &commands::write(8, data.clone(), false)).is_good());
        assert_eq!(wire.scsi(0, &commands::read(8, 80)).data, data);
        for page in [
            None,
            Some(0x00),
            Some(0x80),
            Some(0x83),
            Some(0x86),
            Some(0xb0),
            Some(0xb1),
            Some(0xb2),
        ] {
            assert!(wire.scsi(0, &commands::inquiry(page, 255)).is_good());
        }
        for (cdb, length) in [
            (&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], 8),
            (&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], 32),
            (&[0x1a, 0, 0x3f, 0, 255, 0], 255),
            (&[0x5a, 0, 0x3f, 0, 0, 0, 0, 1, 0, 0], 256),
            (&[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0], 4096),
            (&[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 256),
            (&[0x03, 0, 0, 0, 252, 0], 252),
            (&[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0], 256),
        ] {
            assert!(wire.scsi(0, &commands::raw(cdb, length)).is_good(), "{cdb:02x?}");
        }
        assert!(
            wire.scsi(0, &commands::reserve_out(6, 5, 0, 0xfeed, false))
                .is_good()
        );
        assert!(
            wire.scsi(0, &commands::reserve_out(1, 5, 0xfeed, 0, false))
                .is_good()
        );
        for action in 0..4 {
            assert!(wire.scsi(0, &commands::reserve_in(action)).is_good());
        }
        assert!(
            wire.scsi(0, &commands::reserve_out(3, 5, 0xfeed, 0, false))
                .is_good()
        );
        let swap = [data[..512].to_vec(), vec![1; 512]].concat();
        assert_eq!(wire.scsi(0, &commands::compare_and_write(8, 1, swap)).status, 0);
        assert!(wire.scsi(0, &commands::unmap(100, 8)).is_good());
        assert_eq!(wire.scsi(0, &commands::raw(&[0xff], 0)).sense, (5, 0x20, 0));
        assert_eq!(wire.manage(5, 0, u32::MAX, 0), 0);
        wire.attentions(0);
        wire.assert_alive();
        wire.send(&Pdu::new(0x1c, FINAL));
        let reject = wire.answer();
        wire.exp_stat_sn = reject.get(24).wrapping_add(1);
        wire.send(
            &Pdu::new(0x04 | IMMEDIATE, FINAL)
                .word(16, 1)
                .word(20, u32::MAX)
                .word(24, wire.cmd_sn)
                .word(28, wire.exp_stat_sn)
                .with_data(b"SendTargets=\0"),
        );
        assert_eq!(wire.answer().bhs.0[0], 0x24);
        wire.send(
            &Pdu::new(0x06 | IMMEDIATE, FINAL)
                .word(16, 5)
                .word(24, wire.cmd_sn),
        );
        assert_eq!(wire.answer().bhs.0[0], 0x26);
        assert!(wire.receive().is_none());
    }
}

#[test]
fn wireshark_finds_nothing_wrong() {
    let mut daemon = Daemon::start(&DaemonConfig::trio("8MiB"));
    // dumpcap gives its privileges up and must still be allowed to write here.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("capture.pcapng");
    let port = daemon.port();
    let capture = Capture::start(port, &file);
    talk(&daemon);
    // A session that hears of the daemon's end.
    let mut last = Wire::session(port, daemon.iqn(), "");
    last.attentions(0);
    daemon.stop();
    assert_eq!(last.answer().bhs.0[0], 0x32);
    capture.stop();

    let understood = dissect(&file, port, "iscsi", &["iscsi.opcode"]);
    let opcodes: Vec<&str> = understood.iter().flat_map(|line| line.split(',')).collect();
    for answer in [0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3f] {
        let text = format!("0x{answer:02x}");
        assert!(
            opcodes.contains(&text.as_str()),
            "no PDU {text} was seen: {opcodes:?}"
        );
    }
    let wrong = dissect(
        &file,
        port,
        "_ws.malformed || _ws.expert.severity == error",
        &[
            "frame.number",
            "iscsi.opcode",
            "scsi_sbc.opcode",
            "scsi.spc.opcode",
            "_ws.expert.message",
        ],
    );
    assert!(wrong.is_empty(), "Wireshark complains:\n{}", wrong.join("\n"));
}
