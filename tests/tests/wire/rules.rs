//! Rules of RFC 7143 that the checklists of the UNH-IOL do not name.

use holdfast_tests::{
    commands,
    wire::{FINAL, IMMEDIATE, WRITE, Wire},
};

use crate::{NAMES, TO_FULL, daemon, session};

/// 13.9: the portal group tag comes with the first response of a normal session, in either stage, and only there.
#[test]
fn the_portal_group_tag_comes_with_the_first_response() {
    let daemon = daemon();
    let tag = "TargetPortalGroupTag=1";
    assert!(Wire::connect(daemon.port()).login(TO_FULL, NAMES).2.contains(tag));
    let mut wire = Wire::connect(daemon.port());
    let security = format!("{NAMES} AuthMethod=None");
    assert!(wire.login(FINAL | 1, &security).2.contains(tag));
    assert!(
        !wire
            .login(TO_FULL, "MaxBurstLength=8192")
            .2
            .contains("PortalGroup")
    );
}

/// 13.22, 6.2: keys and digests that are private, public extensions or just unknown are not understood, whatever they begin with.
#[test]
fn extension_keys_are_not_understood() {
    let daemon = daemon();
    let mut wire = Wire::connect(daemon.port());
    let keys = [
        "X-org.example.a",
        "X#registered",
        "Y-org.example.b",
        "Z-org.example.c",
        "Unheard",
    ];
    let offered: Vec<String> = keys.iter().map(|key| format!("{key}=1")).collect();
    let (status, _, answer) = wire.login(1 << 2, &format!("{NAMES} {}", offered.join(" ")));
    assert_eq!(status, (0, 0), "{answer}");
    for key in keys {
        assert!(
            answer.contains(&format!("{key}=NotUnderstood ")),
            "{key}: {answer}"
        );
    }
}

/// 13.23: response fences, and fast abort with them, are agreed on in the initiator's order, however many connections there may be.
#[test]
fn task_reporting_is_what_is_done() {
    for max_connections in [1, 4] {
        let daemon = daemon();
        let iscsi = "[iscsi]\n";
        daemon.reconfigure(iscsi, &format!("{iscsi}max_connections = {max_connections}\n"));
        let agreed = |offer: &str, key: &str| {
            let text = format!("{NAMES} TaskReporting={offer}");
            let answer = Wire::connect(daemon.port()).login(1 << 2, &text).2;
            answer.contains(&format!("TaskReporting={key} "))
        };
        assert!(agreed("FastAbort,ResponseFence,RFC3720", "FastAbort"));
        assert!(agreed("ResponseFence,FastAbort", "ResponseFence"));
        assert!(agreed("RFC3720", "RFC3720"));
    }
}

/// 11.3.1: reserved task attributes are rejected (invalid PDU field), and the session goes on.
#[test]
fn reserved_task_attributes_are_rejected() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    wire.attentions(0);
    for attribute in 5..8 {
        let pdu = wire.command_pdu(0, 9, FINAL | attribute, 0, &[0; 6]);
        wire.send(&pdu);
        let reject = wire.answer();
        assert_eq!((reject.bhs.0[0], reject.bhs.0[2]), (0x3f, 0x09), "{reject:?}");
        assert_eq!(reject.get(16), u32::MAX);
        wire.exp_stat_sn = reject.get(24).wrapping_add(1);
    }
    assert!(wire.scsi(0, &commands::test_unit_ready()).is_good());
}

/// 4.2.2.1, 11.17.1: immediate commands have no window; those beyond a bound are rejected (06h), the others go on.
#[test]
fn immediate_commands_are_bounded() {
    let daemon = daemon();
    let mut wire = session(&daemon, "InitialR2T=Yes ImmediateData=No");
    wire.attentions(0);
    let cdb = commands::write(0, vec![3; 512], false).cdb;
    let mut waiting = Vec::new();
    let rejected = loop {
        let tag = 100 + waiting.len() as u32;
        let pdu = wire.command_pdu(0, tag, FINAL | WRITE, 512, &cdb);
        wire.cmd_sn = wire.cmd_sn.wrapping_sub(1);
        wire.send(&pdu.put(0, &[0x01 | IMMEDIATE]));
        let answer = wire.answer();
        if answer.bhs.0[0] == 0x3f {
            break answer;
        }
        assert_eq!((answer.bhs.0[0], answer.get(16)), (0x31, tag));
        waiting.push(answer);
        assert!(waiting.len() < 1000, "no bound");
    };
    assert_eq!(rejected.bhs.0[2], 0x06);
    wire.exp_stat_sn = rejected.get(24).wrapping_add(1);
    for r2t in &waiting {
        wire.send_what_is_asked_for(r2t, &[3; 512]);
        assert!(wire.finish(r2t.get(16), &[]).is_good());
    }
}

/// 11.1, 11.18: reserved fields are ignored.
#[test]
fn reserved_fields_are_ignored() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    let nop = wire.nop(IMMEDIATE, 5, wire.cmd_sn).with_data(b"here");
    wire.send(&nop.put(2, &[0xff; 2]).put(32, &[0xff; 16]));
    let answer = wire.answer();
    assert_eq!(
        (answer.bhs.0[0], answer.get(16), answer.data.as_slice()),
        (0x20, 5, &b"here"[..])
    );
    assert_eq!(answer.bhs.0[36..48], [0; 12], "and are zero in answers");
}
