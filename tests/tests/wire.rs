//! iSCSI over the wire, PDU by PDU, right and wrong. Each test says which section of RFC 7143 it checks.

use std::fs;

use holdfast_tests::{
    Daemon, DaemonConfig, VolumeSpec,
    wire::{FINAL, IMMEDIATE, Pdu, Wire},
};

const NAMES: &str =
    "InitiatorName=iqn.2026-11.test:wire TargetName=iqn.2026-11.io.holdfast:test SessionType=Normal";
/// T=1 from the operational stage to full feature phase.
const TO_FULL: u8 = FINAL | 1 << 2 | 3;

fn daemon() -> Daemon {
    Daemon::start(&DaemonConfig {
        volumes: vec![VolumeSpec::standard("disk", "64MiB")],
        initiators: String::new(),
        extra: String::new(),
    })
}

fn session(daemon: &Daemon, keys: &str) -> Wire {
    Wire::session(daemon.port(), daemon.iqn(), keys)
}

/// Resident memory of the daemon in KiB.
fn resident(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let figure = line.and_then(|line| line.split_whitespace().nth(1));
    figure.expect("Linux says VmRSS").parse().expect("a number")
}

/// RFC 7143 11.13: the T bit is not answered with T unless asked; a TSIH other than 0 comes with the last response only.
#[test]
fn login_t_bit_and_tsih() {
    let daemon = daemon();
    let mut wire = Wire::connect(daemon.port());
    let (status, pdu, _) = wire.login(1 << 2, NAMES);
    assert_eq!((status, pdu.bhs.0[1] & FINAL), ((0, 0), 0));
    let (status, pdu, _) = wire.login(TO_FULL, "");
    assert_eq!((status, pdu.bhs.0[1]), ((0, 0), TO_FULL));
    assert_ne!(pdu.bhs.0[14..16], [0, 0]);
    wire.assert_alive();
}

/// RFC 7143 11.13.5: what a Login Request may not say is refused with the status that names it.
#[test]
fn login_refusals_name_their_cause() {
    let daemon = daemon();
    let login = |stages, text: &str, place: usize, bytes: &[u8]| {
        let mut wire = Wire::connect(daemon.port());
        let request = wire.login_request(stages, text).put(place, bytes);
        let (status, ..) = wire.login_with(&request);
        assert!(
            wire.receive().is_none(),
            "the connection is closed after {status:?}"
        );
        status
    };
    assert_eq!(login(TO_FULL, NAMES, 2, &[2, 1]), (2, 5), "version");
    assert_eq!(login(FINAL | 2 << 2 | 3, NAMES, 2, &[]), (2, 0), "CSG 2");
    assert_eq!(login(FINAL | 1 << 2 | 2, NAMES, 2, &[]), (2, 0), "NSG 2");
    assert_eq!(login(TO_FULL | 0x40, NAMES, 2, &[]), (2, 0), "T and C");
    assert_eq!(
        login(TO_FULL, NAMES, 14, &[0x7f, 0xff]),
        (2, 0x0a),
        "TSIH of nobody"
    );
    assert_eq!(
        login(TO_FULL, "SessionType=Discovery", 2, &[]),
        (2, 7),
        "no InitiatorName"
    );
    let text = "InitiatorName=iqn.2026-11.test:wire SessionType=Normal";
    assert_eq!(login(TO_FULL, text, 2, &[]), (2, 7), "no TargetName");
    let text = "InitiatorName=iqn.2026-11.test:wire SessionType=Other";
    assert_eq!(login(TO_FULL, text, 2, &[]), (2, 9), "SessionType");
    let text = NAMES.replace(":test ", ":none ");
    assert_eq!(login(TO_FULL, &text, 2, &[]), (2, 3), "unknown target");
    let text = format!("{NAMES} InitialR2T=No InitialR2T=No");
    assert_eq!(login(TO_FULL, &text, 2, &[]), (2, 0), "a key twice");
}

/// RFC 7143 6.2, 13: the results of negotiation, and `NotUnderstood` for a key nobody knows. Without unsolicited data
/// `FirstBurstLength` is irrelevant (13.14).
#[test]
fn login_keys_are_answered_by_their_rules() {
    let daemon = daemon();
    let mut wire = Wire::connect(daemon.port());
    let text = format!(
        "{NAMES} InitialR2T=Yes ImmediateData=No MaxBurstLength=4096 FirstBurstLength=2048 DataPDUInOrder=Yes X-org.example.none=1"
    );
    let (status, _, answer) = wire.login(1 << 2, &text);
    assert_eq!(status, (0, 0));
    for pair in [
        "InitialR2T=Yes",
        "ImmediateData=No",
        "MaxBurstLength=4096",
        "FirstBurstLength=Irrelevant",
        "DataPDUInOrder=Yes",
        "X-org.example.none=NotUnderstood",
    ] {
        assert!(answer.split(' ').any(|found| found == pair), "{pair}: {answer}");
    }
}

/// RFC 7143 6.2: text split with the C bit counts when it is complete; the pieces are answered by empty responses.
#[test]
fn login_text_continues_with_the_c_bit() {
    let daemon = daemon();
    let mut wire = Wire::connect(daemon.port());
    let mut first = wire.login_request(0x40 | 1 << 2, "");
    first = first.with_data(b"InitiatorName=iqn.2026-11.te");
    let (status, pdu, text) = wire.login_with(&first);
    assert_eq!((status, pdu.bhs.0[1] & FINAL, text.as_str()), ((0, 0), 0, ""));
    let rest = NAMES.strip_prefix("InitiatorName=iqn.2026-11.te").unwrap();
    let (status, pdu, _) = wire.login(TO_FULL, rest);
    assert_eq!((status, pdu.bhs.0[1]), ((0, 0), TO_FULL));
}

/// RFC 7143 4.2.2.1: commands are executed by `CmdSN`, whatever the order they come in; outside the window they are ignored.
#[test]
fn commands_go_by_cmd_sn_and_window() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    let base = wire.cmd_sn;
    for distance in [u32::MAX, 100_000] {
        wire.send(&wire.nop(0, 99, base.wrapping_add(distance)));
    }
    wire.send(&wire.nop(0, 12, base + 1));
    wire.send(&wire.nop(0, 11, base));
    let (first, second) = (wire.answer(), wire.answer());
    assert_eq!((first.get(16), second.get(16)), (11, 12));
    assert_eq!(second.get(24), first.get(24).wrapping_add(1), "StatSN");
    assert_eq!(second.get(28), base + 2, "ExpCmdSN");
    wire.cmd_sn = base + 2;
    wire.assert_alive();
}

/// RFC 7143 11.17: an unknown opcode and a PDU out of place are rejected with the header, and the session lives.
#[test]
fn unknown_and_misplaced_pdus_are_rejected() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    for (pdu, reason) in [
        (Pdu::new(0x1c, FINAL), 0x05),
        (Pdu::new(0x10, FINAL), 0x03),
        (wire.login_request(TO_FULL, ""), 0x04),
    ] {
        wire.send(&pdu);
        let reject = wire.answer();
        assert_eq!((reject.bhs.0[0], reject.bhs.0[2]), (0x3f, reason));
        assert_eq!(reject.data, pdu.bhs.0);
        assert_eq!(reject.get(16), u32::MAX);
        wire.exp_stat_sn = reject.get(24).wrapping_add(1);
    }
    wire.assert_alive();
}

/// RFC 7143 11.15: a logout that closes the session is answered with 0 and the connection ends.
#[test]
fn logout_closes_the_session() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    wire.send(
        &Pdu::new(0x06 | IMMEDIATE, FINAL)
            .word(16, 5)
            .word(24, wire.cmd_sn)
            .word(28, wire.exp_stat_sn),
    );
    let pdu = wire.answer();
    assert_eq!((pdu.bhs.0[0], pdu.bhs.0[2], pdu.get(16)), (0x26, 0, 5));
    assert!(wire.receive().is_none());
}

/// RFC 7143 7.8: a header digest error ends the connection at `ErrorRecoveryLevel` 0; others go on.
#[test]
fn header_digest_error_ends_the_connection() {
    let daemon = daemon();
    let mut other = session(&daemon, "InitialR2T=Yes");
    other.assert_alive();
    let mut wire = Wire::connect(daemon.port());
    let mut request = wire.login_request(TO_FULL, &format!("{NAMES} HeaderDigest=CRC32C DataDigest=CRC32C"));
    request = request.put(8, &[0x80, 0, 0, 0, 0, 2]);
    assert_eq!(wire.login_with(&request).0, (0, 0));
    wire.use_digests();
    wire.assert_alive();
    let mut bytes = wire.nop(IMMEDIATE, 9, wire.cmd_sn).bytes(true, true);
    bytes[48] ^= 1;
    wire.send_bytes(&bytes);
    assert!(wire.receive().is_none());
    other.assert_alive();
}

/// RFC 7143 7.8: a data digest error in a command is rejected with reason 02h; at `ErrorRecoveryLevel` 0 the connection
/// then ends.
#[test]
fn data_digest_error_in_a_command_is_rejected_and_ends_the_connection() {
    let daemon = daemon();
    let mut wire = session(&daemon, "HeaderDigest=CRC32C DataDigest=CRC32C");
    wire.use_digests();
    let mut bytes = wire
        .nop(IMMEDIATE, 9, wire.cmd_sn)
        .with_data(b"damaged!")
        .bytes(true, true);
    *bytes.last_mut().unwrap() ^= 1;
    wire.send_bytes(&bytes);
    let reject = wire.answer();
    assert_eq!((reject.bhs.0[0], reject.bhs.0[2]), (0x3f, 0x02));
    assert!(wire.receive().is_none());
}

/// RFC 7143 7.7: what is no PDU ends its connection, and costs the daemon neither its life nor its memory.
#[test]
fn malformed_input_leaves_the_daemon_alive_and_small() {
    let daemon = daemon();
    session(&daemon, "").assert_alive();
    let before = resident(&daemon);
    let mut garbage = 1u32;
    for round in 0..200 {
        // Before login: garbage, a login of 16 MiB, additional headers, a header cut short.
        let mut wire = Wire::connect(daemon.port());
        match round % 4 {
            0 => {
                let bytes: Vec<u8> = (0..4096)
                    .map(|_| {
                        garbage = garbage.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        garbage.to_be_bytes()[0]
                    })
                    .collect();
                wire.send_bytes(&bytes);
            }
            1 => wire.send(&wire.login_request(TO_FULL, "").put(5, &[0xff; 3])),
            2 => wire.send(&wire.login_request(TO_FULL, "").put(4, &[0xff])),
            _ => wire.send_bytes(&[0x43; 20]),
        }
    }
    let mut wire = session(&daemon, "");
    wire.send(&wire.nop(IMMEDIATE, 9, wire.cmd_sn).put(5, &[0xff; 3]));
    assert!(wire.receive().is_none(), "oversize data segment");
    session(&daemon, "").assert_alive();
    let after = resident(&daemon);
    assert!(
        after < before + 32 * 1024,
        "{before} KiB before, {after} KiB after"
    );
}

/// RFC 7143 6.3: logins that never end do not keep others out.
#[test]
fn slow_logins_do_not_keep_others_out() {
    let daemon = daemon();
    let before = resident(&daemon);
    let mut slow: Vec<Wire> = (0..20).map(|_| Wire::connect(daemon.port())).collect();
    for wire in &mut slow {
        wire.send_bytes(&[0x43]);
    }
    session(&daemon, "").assert_alive();
    let after = resident(&daemon);
    assert!(
        after < before + 32 * 1024,
        "{before} KiB before, {after} KiB after"
    );
}

/// Every test that docs/rfc-compliance.md names as `wire::...` is in this file.
#[test]
fn compliance_names_tests_that_exist() {
    let document = fs::read_to_string(holdfast_tests::repository().join("docs/rfc-compliance.md")).unwrap();
    let names: Vec<&str> = document
        .split("`wire::")
        .skip(1)
        .map(|rest| rest.split('`').next().unwrap())
        .collect();
    assert!(names.len() > 9, "{names:?}");
    for name in names {
        let attribute = format!("#[test]\nfn {name}()");
        assert!(include_str!("wire.rs").contains(&attribute), "no test {name}");
    }
}
