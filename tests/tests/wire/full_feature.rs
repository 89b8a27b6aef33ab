//! Full feature phase (RFC 7143 4.2, 11), by the checklist of the UNH-IOL's full feature phase test suite.

use holdfast_tests::{
    commands,
    wire::{FINAL, IMMEDIATE, Pdu, READ, WRITE, Wire},
};

use crate::{TO_FULL, daemon, session};

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

/// 512-byte blocks that tell where they belong.
fn pattern(blocks: usize) -> Vec<u8> {
    (0..blocks * 512).map(|at| (at / 512 + at % 7) as u8).collect()
}

/// RFC 7143 4.2.2.1: an immediate command takes no `CmdSN`; a command sent again is ignored; the window only moves on.
#[test]
fn immediate_and_repeated_commands() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    let base = wire.cmd_sn;
    wire.send(&wire.nop(IMMEDIATE, 1, base));
    assert_eq!(wire.answer().get(28), base, "ExpCmdSN stays");
    wire.send(&wire.nop(0, 2, base));
    let answer = wire.answer();
    assert_eq!(answer.get(28), base + 1);
    let limit = answer.get(32);
    // Once more: it has been taken, and is not answered again.
    wire.send(&wire.nop(0, 2, base));
    wire.send(&wire.nop(0, 3, base + 1));
    let answer = wire.answer();
    assert_eq!(answer.get(16), 3);
    assert!(
        answer.get(32).wrapping_sub(limit) < 1 << 31,
        "MaxCmdSN does not go back"
    );
}

/// RFC 7143 11.18, 11.19: NOP-Out with a tag comes back with its data, cut to what the initiator takes; one with the reserved tag
/// is not answered.
#[test]
fn nop_out_is_echoed_or_not() {
    let daemon = daemon();
    let mut wire = session(&daemon, "MaxRecvDataSegmentLength=512");
    let data = pattern(2);
    let nop = wire.nop(IMMEDIATE, 4, wire.cmd_sn).with_data(&data);
    wire.send(&wire.nop(IMMEDIATE, u32::MAX, wire.cmd_sn));
    wire.send(&nop);
    let answer = wire.answer();
    assert_eq!(
        (answer.bhs.0[0], answer.get(16), answer.get(20)),
        (0x20, 4, u32::MAX)
    );
    assert_eq!(answer.data, data[..512]);
}

/// RFC 7143 11.7, 4.2.2.3: Data-In comes in order, no longer than the initiator takes, `DataSN` from 0, F at the end of each burst;
/// GOOD status comes with the last PDU or alone.
#[test]
fn data_in_is_cut_numbered_and_ended() {
    let daemon = daemon();
    let keys = "MaxRecvDataSegmentLength=1024 MaxBurstLength=4096 FirstBurstLength=4096";
    let mut wire = session(&daemon, keys);
    wire.attentions(0);
    let data = pattern(20);
    assert!(wire.scsi(0, &commands::write(0, data.clone(), false)).is_good());
    let pdu = wire.command_pdu(0, 77, FINAL | READ, 10_240, &commands::read(0, 20).cdb);
    wire.send(&pdu);
    let (mut got, mut data_sn, mut burst) = (Vec::new(), 0, 0);
    loop {
        let pdu = wire.answer();
        if pdu.bhs.0[0] == 0x21 {
            assert_eq!((pdu.bhs.0[3], pdu.get(36)), (0, data_sn), "status and ExpDataSN");
            break;
        }
        assert_eq!((pdu.bhs.0[0], pdu.get(16), pdu.get(20)), (0x25, 77, u32::MAX));
        assert_eq!((pdu.get(36), pdu.get(40) as usize), (data_sn, got.len()));
        assert!(pdu.data.len() <= 1024);
        data_sn += 1;
        burst += pdu.data.len();
        got.extend_from_slice(&pdu.data);
        assert!(burst <= 4096, "a sequence is no longer than MaxBurstLength");
        if pdu.bhs.0[1] & FINAL != 0 {
            burst = 0;
        }
        if pdu.bhs.0[1] & 1 != 0 {
            assert_ne!(pdu.bhs.0[1] & FINAL, 0, "S comes with F");
            assert_eq!(pdu.bhs.0[3], 0);
            break;
        }
    }
    assert_eq!(got, data);
}

/// RFC 7143 11.8: R2Ts ask for the whole, in order, each no more than `MaxBurstLength`, no more at once than agreed, `R2TSN` from 0.
#[test]
fn r2ts_ask_for_the_whole_within_the_limits() {
    let daemon = daemon();
    let keys = "InitialR2T=Yes ImmediateData=No MaxBurstLength=4096 MaxOutstandingR2T=2";
    let mut wire = session(&daemon, keys);
    wire.attentions(0);
    let data = pattern(30);
    let pdu = wire.command_pdu(
        0,
        5,
        FINAL | WRITE,
        15_360,
        &commands::write(8, data.clone(), false).cdb,
    );
    wire.send(&pdu);
    let (mut next, mut r2t_sn) = (0, 0);
    let mut open = Vec::new();
    loop {
        // The target is silent once it may not ask for more.
        while open.len() == 2 || next == data.len() && !open.is_empty() {
            let r2t: Pdu = open.remove(0);
            wire.send_what_is_asked_for(&r2t, &data);
        }
        let pdu = wire.answer();
        if pdu.bhs.0[0] == 0x21 {
            assert_eq!((pdu.bhs.0[3], open.len()), (0, 0));
            break;
        }
        assert_eq!((pdu.bhs.0[0], pdu.get(16)), (0x31, 5));
        assert_ne!(pdu.get(20), u32::MAX, "target transfer tag");
        assert_eq!((pdu.get(36), pdu.get(40) as usize), (r2t_sn, next));
        let length = pdu.get(44) as usize;
        assert!((1..=4096).contains(&length));
        (next, r2t_sn) = (next + length, r2t_sn + 1);
        open.push(pdu);
        assert!(open.len() <= 2, "MaxOutstandingR2T");
    }
    assert_eq!(next, data.len());
    wire.exp_stat_sn = wire.exp_stat_sn.wrapping_add(1);
    assert_eq!(wire.scsi(0, &commands::read(8, 30)).data, data);
}

/// RFC 7143 11.7.2-11.7.5, 11.4.7.2: a Data-Out with a wrong number, place or length fails its task with ABORTED COMMAND; the session
/// goes on and other data is unharmed.
#[test]
fn wrong_data_out_fails_its_task_only() {
    let daemon = daemon();
    let mut wire = session(&daemon, "InitialR2T=Yes ImmediateData=No");
    wire.attentions(0);
    let data = pattern(8);
    for case in 0..4 {
        let tag = 100 + case;
        let pdu = wire.command_pdu(
            0,
            tag,
            FINAL | WRITE,
            4096,
            &commands::write(0, data.clone(), false).cdb,
        );
        wire.send(&pdu);
        let r2t = wire.answer();
        assert_eq!(r2t.bhs.0[0], 0x31);
        let transfer = r2t.get(20);
        let wrong = match case {
            0 => wire.data_out(tag, transfer, 3, 0, &data),
            1 => wire.data_out(tag, transfer, 0, 512, &data[..3584]),
            2 => wire.data_out(tag, transfer, 0, 0, &data[..512]),
            _ => wire.data_out(tag, transfer, 0, 0, &[data.clone(), data.clone()].concat()),
        };
        wire.send(&wrong);
        let ended = wire.finish(tag, &[]);
        assert_eq!((ended.status, ended.sense.0), (2, 0x0b), "case {case}: {ended:?}");
    }
    wire.assert_alive();
    assert!(wire.scsi(0, &commands::write(0, data.clone(), false)).is_good());
    assert_eq!(wire.scsi(0, &commands::read(0, 8)).data, data);
}

/// RFC 7143 11.3.4, 13.10, 13.11: data that was not agreed on fails its task.
#[test]
fn unsolicited_data_only_as_agreed() {
    let daemon = daemon();
    let data = pattern(8);
    let cdb = commands::write(0, data.clone(), false).cdb;
    let mut wire = session(&daemon, "InitialR2T=Yes ImmediateData=No");
    wire.attentions(0);
    let pdu = wire.command_pdu(0, 1, FINAL | WRITE, 4096, &cdb).with_data(&data);
    wire.send(&pdu);
    assert_eq!(wire.finish(1, &[]).sense, (0x0b, 0x0c, 0x0c), "immediate data");
    let pdu = wire.command_pdu(0, 2, WRITE, 4096, &cdb);
    wire.send(&pdu);
    assert_eq!(
        wire.finish(2, &[]).sense,
        (0x0b, 0x0c, 0x0c),
        "unsolicited data announced"
    );
    // As agreed: part with the command, part unsolicited, and the rest asked for.
    let mut wire = session(&daemon, "InitialR2T=No ImmediateData=Yes FirstBurstLength=2048");
    wire.attentions(0);
    let pdu = wire.command_pdu(0, 3, WRITE, 4096, &cdb).with_data(&data[..1024]);
    wire.send(&pdu);
    wire.send(&wire.data_out(3, u32::MAX, 0, 1024, &data[1024..2048]));
    assert!(wire.finish(3, &data).is_good());
    assert_eq!(wire.scsi(0, &commands::read(0, 8)).data, data);
    // More than FirstBurstLength.
    let pdu = wire.command_pdu(0, 4, FINAL | WRITE, 4096, &cdb).with_data(&data);
    wire.send(&pdu);
    assert_eq!(wire.finish(4, &[]).sense.0, 0x0b);
    wire.assert_alive();
}

/// RFC 7143 11.4.5: what was expected and what was there are compared, and the difference said.
#[test]
fn residuals_over_and_under() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    wire.attentions(0);
    let inquiry = commands::inquiry(None, 36);
    for (expected, flag, residual, length) in [(36, 0, 0, 36), (100, 2, 64, 36), (16, 4, 20, 16)] {
        let pdu = wire.command_pdu(0, expected, FINAL | READ, expected, &inquiry.cdb);
        wire.send(&pdu);
        let ended = wire.finish(expected, &[]);
        assert_eq!((ended.status, ended.data.len()), (0, length));
        assert_eq!(
            (ended.flags & 6, ended.residual),
            (flag, residual),
            "{expected} expected"
        );
    }
}

/// RFC 7143 11.5: task management functions answer with the code that fits.
#[test]
fn task_management_answers() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    wire.attentions(0);
    let cmd_sn = wire.cmd_sn;
    assert_eq!(
        wire.manage(1, 0, 0x1234, cmd_sn.wrapping_sub(1)),
        1,
        "ABORT TASK of none"
    );
    assert_eq!(wire.manage(2, 0, u32::MAX, 0), 0, "ABORT TASK SET");
    assert_eq!(wire.manage(4, 0, u32::MAX, 0), 0, "CLEAR TASK SET");
    assert_eq!(wire.manage(5, 9, u32::MAX, 0), 2, "LUN 9 is not there");
    assert_eq!(
        wire.manage(8, 0, 0x1234, cmd_sn),
        4,
        "TASK REASSIGN without recovery"
    );
    assert_eq!(wire.manage(0x7f, 0, u32::MAX, 0), 5, "a reserved function");
    assert_eq!(wire.manage(5, 0, u32::MAX, 0), 0, "LOGICAL UNIT RESET");
    wire.attentions(0);
    wire.assert_alive();
}

/// RFC 7143 11.5.1: a command waiting for its data is aborted, is not answered, and its data is thrown away.
#[test]
fn abort_task_ends_a_write_that_waits_for_data() {
    let daemon = daemon();
    let mut wire = session(&daemon, "InitialR2T=Yes ImmediateData=No");
    wire.attentions(0);
    let data = pattern(8);
    let before = wire.scsi(0, &commands::read(0, 8)).data;
    let cmd_sn = wire.cmd_sn;
    let pdu = wire.command_pdu(
        0,
        6,
        FINAL | WRITE,
        4096,
        &commands::write(0, data.clone(), false).cdb,
    );
    wire.send(&pdu);
    let r2t = wire.answer();
    assert_eq!(wire.manage(1, 0, 6, cmd_sn), 0);
    wire.send_what_is_asked_for(&r2t, &data);
    wire.assert_alive();
    assert_eq!(wire.scsi(0, &commands::read(0, 8)).data, before);
}

/// RFC 7143 11.17.1: a task tag in use is rejected, and the task goes on.
#[test]
fn a_task_tag_in_use_is_rejected() {
    let daemon = daemon();
    let mut wire = session(&daemon, "InitialR2T=Yes ImmediateData=No");
    wire.attentions(0);
    let data = pattern(1);
    let pdu = wire.command_pdu(
        0,
        6,
        FINAL | WRITE,
        512,
        &commands::write(0, data.clone(), false).cdb,
    );
    wire.send(&pdu);
    let r2t = wire.answer();
    let again = wire.command_pdu(0, 6, FINAL, 0, &[0; 6]);
    wire.send(&again);
    let reject = wire.answer();
    assert_eq!(
        (reject.bhs.0[0], reject.bhs.0[2]),
        (0x3f, 0x07),
        "task in progress"
    );
    wire.send_what_is_asked_for(&r2t, &data);
    assert!(wire.finish(6, &data).is_good());
}

/// RFC 7143 11.14, 11.15: a logout that this session cannot do says so, and the session goes on.
#[test]
fn logouts_that_cannot_be_done() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    for (reason, cid, response) in [(1, 77, 1), (2, 0, 2)] {
        wire.send(
            &Pdu::new(0x06 | IMMEDIATE, FINAL | reason)
                .word(16, 5)
                .put(20, &[0, cid])
                .word(24, wire.cmd_sn)
                .word(28, wire.exp_stat_sn),
        );
        let pdu = wire.answer();
        assert_eq!((pdu.bhs.0[0], pdu.bhs.0[2]), (0x26, response), "reason {reason}");
        wire.exp_stat_sn = pdu.get(24).wrapping_add(1);
    }
    wire.assert_alive();
    wire.send(
        &Pdu::new(0x06 | IMMEDIATE, FINAL | 1)
            .word(16, 5)
            .word(24, wire.cmd_sn),
    );
    assert_eq!(
        wire.answer().bhs.0[2],
        0,
        "close the connection, which is the session's only one"
    );
    assert!(wire.receive().is_none());
}

/// SAM-5, SPC-4: an unknown operation code, a field that is not valid and a LUN that is not there are a CHECK CONDITION each, at
/// once; the connection lives.
#[test]
fn unknown_commands_and_luns_are_check_conditions() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    wire.attentions(0);
    let sense = |wire: &mut Wire, lun, cdb: &[u8]| wire.scsi(lun, &commands::raw(cdb, 36)).sense;
    assert_eq!(sense(&mut wire, 0, &[0xff]), (5, 0x20, 0));
    assert_eq!(
        sense(&mut wire, 0, &[0x12, 0, 0x83, 0, 36]),
        (5, 0x24, 0),
        "a page without EVPD"
    );
    assert_eq!(sense(&mut wire, 9, &[0x00]), (5, 0x25, 0));
    let absent = wire.scsi(9, &commands::inquiry(None, 36));
    assert_eq!((absent.status, absent.data[0]), (0, 0x7f));
    wire.assert_alive();
}
