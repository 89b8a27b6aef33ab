//! The login phase (RFC 7143 6.3, 11.12, 11.13, 13), by the checklist of the UNH-IOL's login test suite.

use holdfast_tests::wire::{FINAL, IMMEDIATE, Pdu, Wire};

use crate::{NAMES, TO_FULL, daemon, session};

/// RFC 7143 11.13: the T bit is not answered with T unless asked; a TSIH other than 0 comes with the last response only.
#[test]
fn t_bit_and_tsih() {
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
fn refusals_name_their_cause() {
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
fn keys_are_answered_by_their_rules() {
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
fn text_continues_with_the_c_bit() {
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

/// RFC 7143 11.13: a Login Response gives back task tag and ISID, counts its `StatSN` on from the initiator's `ExpStatSN`, and
/// takes no `CmdSN`: Login Requests are immediate (4.2.2.1).
#[test]
fn fields_of_responses_follow_the_requests() {
    let daemon = daemon();
    let mut wire = Wire::connect(daemon.port());
    (wire.cmd_sn, wire.exp_stat_sn) = (0xffff_fffe, 0xffff_ffff);
    let stages = [
        (0, NAMES, 0),
        (FINAL | 1, "", 0),
        (1 << 2, "", 0),
        (TO_FULL, "", 1),
    ];
    let mut last = None;
    for (stage, text, tsih) in stages {
        let (status, pdu, _) = wire.login(stage, text);
        assert_eq!(status, (0, 0));
        assert_eq!((pdu.get(16), &pdu.bhs.0[8..14]), (7, &[0x80, 0, 0, 0, 0, 1][..]));
        assert_eq!((pdu.bhs.0[2], pdu.bhs.0[3]), (0, 0), "versions");
        assert_eq!(pdu.bhs.0[1] & 0x0c, stage & 0x0c, "CSG");
        assert_eq!(
            u8::from(pdu.bhs.0[14..16] != [0, 0]),
            tsih,
            "TSIH with the last response only"
        );
        assert_eq!(pdu.get(28), 0xffff_fffe, "ExpCmdSN");
        assert!(pdu.get(32).wrapping_sub(pdu.get(28)) < 1 << 31, "MaxCmdSN");
        let stat_sn = pdu.get(24);
        assert_eq!(
            stat_sn,
            last.map_or(0xffff_ffff, |last: u32| last.wrapping_add(1)),
            "StatSN"
        );
        last = Some(stat_sn);
    }
    // The numbers go on where login has left them, and wrap.
    let reply = wire.scsi(0, &holdfast_tests::commands::report_luns());
    assert!(reply.is_good() && reply.data.len() > 8);
    wire.attentions(0);
    wire.assert_alive();
}

/// RFC 7143 11.12: what identifies the connection may not change while it logs in.
#[test]
fn identity_may_not_change_during_login() {
    let daemon = daemon();
    for (place, bytes, what) in [
        (8, &[0x80, 0, 0, 0, 0, 2][..], "ISID"),
        (14, &[0, 9], "TSIH"),
        (16, &[0, 0, 0, 8], "initiator task tag"),
        (20, &[0, 3], "CID"),
    ] {
        let mut wire = Wire::connect(daemon.port());
        assert_eq!(wire.login(1 << 2, NAMES).0, (0, 0));
        let request = wire.login_request(TO_FULL, "").put(place, bytes);
        let (status, ..) = wire.login_with(&request);
        assert_eq!(status.0, 2, "{what}");
        assert!(wire.receive().is_none());
    }
}

/// RFC 7143 6.3, 11.12.3: stages go forward only, and each request names the stage the login is in.
#[test]
fn stages_go_forward_only() {
    let daemon = daemon();
    let second = |first: u8, second: u8| {
        let mut wire = Wire::connect(daemon.port());
        assert_eq!(wire.login(first, NAMES).0, (0, 0));
        wire.login(second, "").0
    };
    assert_eq!(second(FINAL | 1, FINAL | 1).0, 2, "security again");
    assert_eq!(second(1 << 2, FINAL | 1).0, 2, "back to security");
    assert_eq!(second(FINAL | 1, FINAL | 1 << 2), (2, 0), "NSG behind CSG");
    assert_eq!(
        second(0, FINAL | 3),
        (0, 0),
        "security straight to full feature phase"
    );
}

/// RFC 7143 6.3: nothing but Login Requests before full feature phase.
#[test]
fn other_requests_during_login_are_refused() {
    let daemon = daemon();
    for login_first in [false, true] {
        let mut wire = Wire::connect(daemon.port());
        if login_first {
            wire.login(1 << 2, NAMES);
        }
        wire.send(
            &Pdu::new(0x01, FINAL | 0x40)
                .word(16, 3)
                .word(20, 36)
                .put(32, &[0x12, 0, 0, 0, 36, 0]),
        );
        let answer = wire.receive();
        if let Some(answer) = answer {
            assert_eq!(
                (answer.bhs.0[0], answer.bhs.0[36], answer.bhs.0[37]),
                (0x23, 2, 0x0b)
            );
            assert!(wire.receive().is_none());
        }
    }
}

/// RFC 7143 13: lists take the first common value, booleans AND or OR, numbers the smaller or larger; what is no value of the key
/// is rejected.
#[test]
fn results_of_negotiation_by_type() {
    let daemon = daemon();
    for (offer, answers) in [
        ("HeaderDigest=CRC32C,None", &["CRC32C"][..]),
        ("HeaderDigest=None,CRC32C", &["None"]),
        ("HeaderDigest=X-unknown", &["Reject"]),
        ("DataDigest=X-unknown,CRC32C", &["CRC32C"]),
        ("InitialR2T=Yes", &["Yes"]),
        ("ImmediateData=No", &["No"]),
        ("ImmediateData=Maybe", &["Reject"]),
        ("DataPDUInOrder=Yes", &["Yes"]),
        ("DataSequenceInOrder=Yes", &["Yes"]),
        ("MaxBurstLength=0x1000", &["4096"]),
        ("MaxBurstLength=511", &["Reject"]),
        ("MaxBurstLength=99999999", &["Reject"]),
        ("MaxOutstandingR2T=1", &["1"]),
        ("MaxOutstandingR2T=0", &["Reject"]),
        ("DefaultTime2Retain=0", &["0"]),
        ("DefaultTime2Wait=3600", &["3600"]),
        ("IFMarker=Yes", &["Reject", "No", "NotUnderstood"]),
        ("OFMarker=No", &["Reject", "No", "NotUnderstood"]),
        ("SendTargets=All", &["Reject"]),
        ("X-com.example.key=1", &["NotUnderstood"]),
        ("OtherKey=1", &["NotUnderstood"]),
    ] {
        let (key, _) = offer.split_once('=').unwrap_or((offer, ""));
        let mut wire = Wire::connect(daemon.port());
        let (status, _, answer) = wire.login(1 << 2, &format!("{NAMES} {offer}"));
        if status != (0, 0) {
            assert_eq!((status.0, answers), (2, &["Reject"][..]), "{offer}");
            continue;
        }
        let found = answer
            .split(' ')
            .find_map(|pair| pair.strip_prefix(&format!("{key}=")));
        assert!(
            found.is_some_and(|found| answers.contains(&found)),
            "{offer}: {answer}"
        );
    }
}

/// RFC 7143 6.1: keys are case-sensitive, names may come in any order within the first request, and malformed text is refused.
#[test]
fn text_is_read_strictly() {
    let daemon = daemon();
    let first = |data: &[u8]| {
        let mut wire = Wire::connect(daemon.port());
        let request = wire.login_request(1 << 2, "").with_data(data);
        wire.login_with(&request).0
    };
    let any_order =
        b"SessionType=Normal\0TargetName=iqn.2026-11.io.holdfast:test\0InitiatorName=iqn.2026-11.test:wire\0";
    assert_eq!(first(any_order), (0, 0));
    assert_eq!(first(b"initiatorname=iqn.2026-11.test:wire\0").0, 2, "case");
    assert_eq!(first(b"InitiatorName\0").0, 2, "no =");
    assert_eq!(first(b"=iqn.2026-11.test:wire\0").0, 2, "no key");
    assert_eq!(
        first(b"InitiatorName=iqn.2026-11.test:wire").0,
        2,
        "no NUL at the end"
    );
    let long = format!("{}\0{}=1\0", NAMES.replace(' ', "\0"), "K".repeat(64));
    assert_eq!(first(long.as_bytes()).0, 2, "a key of 64 bytes");
}

/// RFC 7143 6.3.5: the same initiator port with TSIH 0 ends its old session; another ISID, or another initiator, is a session beside it.
#[test]
fn reinstatement_ends_the_old_session_only() {
    let daemon = daemon();
    let mut old = session(&daemon, "");
    let name = "iqn.2026-11.test:wire";
    let mut other_isid = Wire::session_as(daemon.port(), daemon.iqn(), name, 9, "");
    let mut other_name = Wire::session_as(daemon.port(), daemon.iqn(), "iqn.2026-11.test:b", 1, "");
    let mut new = session(&daemon, "");
    assert_ne!(old.tsih, new.tsih);
    assert!(old.receive().is_none());
    for wire in [&mut new, &mut other_isid, &mut other_name] {
        wire.assert_alive();
    }
}

/// RFC 7143 4.3, 13.21: a discovery session takes no SCSI, and answers SendTargets.
#[test]
fn discovery_sessions_are_for_discovery() {
    let daemon = daemon();
    let mut wire = Wire::connect(daemon.port());
    let text = "InitiatorName=iqn.2026-11.test:wire SessionType=Discovery";
    assert_eq!(wire.login(TO_FULL, text).0, (0, 0));
    let pdu = wire.command_pdu(0, 5, FINAL, 0, &[0; 6]);
    wire.send(&pdu);
    let reject = wire.answer();
    assert_eq!((reject.bhs.0[0], reject.bhs.0[2]), (0x3f, 0x04));
    wire.exp_stat_sn = reject.get(24).wrapping_add(1);
    let request = Pdu::new(0x04 | IMMEDIATE, FINAL)
        .word(16, 6)
        .word(20, u32::MAX)
        .word(24, wire.cmd_sn)
        .word(28, wire.exp_stat_sn)
        .with_data(b"SendTargets=All\0");
    wire.send(&request);
    let answer = wire.answer();
    let text = String::from_utf8_lossy(&answer.data).into_owned();
    let expected = format!(
        "TargetName={}\0TargetAddress=127.0.0.1:{},1\0",
        daemon.iqn(),
        daemon.port()
    );
    assert_eq!((answer.bhs.0[0], text), (0x24, expected));
}
