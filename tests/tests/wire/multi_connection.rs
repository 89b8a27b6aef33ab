//! Several connections in a session (RFC 7143 4.2.2, 6.3.1, 6.3.4, 11.5, 11.14).

use holdfast_tests::{
    Daemon, commands,
    wire::{FINAL, Pdu, WRITE, Wire},
};

use crate::{daemon, session};

/// A session of two connections, CIDs 0 and 1, without unit attentions.
pub(crate) fn pair(daemon: &Daemon, keys: &str) -> (Wire, Wire) {
    let mut first = session(daemon, &format!("MaxConnections=8 {keys}"));
    first.attentions(0);
    let second = Wire::join(daemon.port(), &first, daemon.iqn(), 1, "");
    (first, second)
}

/// A write of one block that is asked for its data, sent over `wire`; gives the R2T.
pub(crate) fn begin_write(wire: &mut Wire, tag: u32, lba: u64, data: &[u8]) -> Pdu {
    let command = commands::write(lba, data.to_vec(), false);
    let pdu = wire.command_pdu(0, tag, FINAL | WRITE, data.len() as u32, &command.cdb);
    wire.send(&pdu);
    let r2t = wire.answer();
    assert_eq!((r2t.bhs.0[0], r2t.get(16)), (0x31, tag));
    r2t
}

/// TEST UNIT READY with this tag.
pub(crate) fn test_unit_ready(wire: &mut Wire, tag: u32) -> Pdu {
    wire.command_pdu(0, tag, FINAL, 0, &[0; 16])
}

/// The answer to TEST UNIT READY: GOOD for this tag.
pub(crate) fn assert_good(wire: &mut Wire, tag: u32) {
    assert!(wire.finish(tag, &[]).is_good());
}

/// RFC 7143 13.2: what both sides take is agreed on, as configured.
#[test]
fn the_lower_number_of_connections_is_agreed_on() {
    let daemon = daemon();
    for (offered, agreed) in [(1, 1), (3, 3), (32, 4)] {
        let mut wire = Wire::connect(daemon.port());
        let keys = format!("{} MaxConnections={offered}", crate::NAMES);
        let (status, _, answer) = wire.login(crate::TO_FULL, &keys);
        assert_eq!(status, (0, 0));
        let answered = format!("MaxConnections={agreed}");
        assert!(answer.split(' ').any(|pair| pair == answered), "{answer}");
    }
}

/// RFC 7143 4.2.2.1: commands are executed in the order of CmdSN, whichever connection they come by; the responses carry the
/// session's ExpCmdSN, and each connection counts its own StatSN.
#[test]
fn commands_go_by_cmd_sn_over_all_connections() {
    let daemon = daemon();
    let (mut first, mut second) = pair(&daemon, "");
    second.cmd_sn = first.cmd_sn + 1;
    let later = test_unit_ready(&mut second, 20);
    second.send(&later);
    let early = test_unit_ready(&mut first, 10);
    // The one on the second connection waits for the one before it.
    let nop = second.nop(0x40, 0xa11e, first.cmd_sn - 1);
    second.send(&nop);
    let answer = second.answer();
    assert_eq!(
        (answer.bhs.0[0], answer.get(28)),
        (0x20, first.cmd_sn - 1),
        "ExpCmdSN is still that of the command that misses"
    );
    let stat_sn = answer.get(24);
    first.send(&early);
    assert_good(&mut first, 10);
    assert_good(&mut second, 20);
    assert_eq!(second.exp_stat_sn, stat_sn + 2, "StatSN counts by connection");
    first.cmd_sn += 1;
    first.assert_alive();
}

/// RFC 7143 4.2.2.1, 3.2.4.1: the data and the answer of a command go over the connection it came by; data over another is refused
/// and does no harm.
#[test]
fn data_out_over_another_connection_is_refused() {
    let daemon = daemon();
    let (mut first, mut second) = pair(&daemon, "InitialR2T=Yes ImmediateData=No");
    let data = vec![7; 512];
    let r2t = begin_write(&mut first, 6, 0, &data);
    second.send_what_is_asked_for(&r2t, &[9; 512]);
    let reject = second.answer();
    assert_eq!((reject.bhs.0[0], reject.bhs.0[2]), (0x3f, 0x04), "protocol error");
    first.send_what_is_asked_for(&r2t, &data);
    assert!(first.finish(6, &data).is_good());
    assert_eq!(first.scsi(0, &commands::read(0, 1)).data, data);
}

/// RFC 7143 6.3.1, 11.13.5: a connection more than was agreed on is refused (0206h), as one that joins no session (020Ah).
#[test]
fn connections_beyond_the_agreed_number_are_refused() {
    let daemon = daemon();
    let first = session(&daemon, "MaxConnections=2");
    let _second = Wire::join(daemon.port(), &first, daemon.iqn(), 1, "");
    let mut third = Wire::connect(daemon.port());
    let request = third.joining_request(&first, daemon.iqn(), 2, "");
    assert_eq!(third.login_with(&request).0, (2, 6));
    let mut stranger = Wire::connect(daemon.port());
    let request = stranger.joining_request(&first, daemon.iqn(), 2, "");
    let request = request.put(14, &(first.tsih ^ 0x55).to_be_bytes());
    assert_eq!(stranger.login_with(&request).0, (2, 10));
}

/// RFC 7143 11.14: reason 1 over another connection ends the named one with its tasks and nothing else; an unknown CID is 1.
#[test]
fn a_connection_is_logged_out_over_another() {
    let daemon = daemon();
    let (mut first, mut second) = pair(&daemon, "InitialR2T=Yes ImmediateData=No");
    second.cmd_sn = first.cmd_sn;
    begin_write(&mut second, 6, 0, &[7; 512]);
    first.cmd_sn = second.cmd_sn;
    assert_eq!(first.logout(1, 5), 1, "no such connection");
    assert_eq!(first.logout(1, 1), 0);
    assert!(second.receive().is_none());
    // The tag is free, and the write was never done.
    let read = first.scsi(0, &commands::read(0, 1));
    assert_eq!(read.data, [0; 512]);
    let data = vec![3; 512];
    let r2t = begin_write(&mut first, 6, 0, &data);
    first.send_what_is_asked_for(&r2t, &data);
    assert!(first.finish(6, &data).is_good());
}

/// RFC 7143 11.14: a connection that logs itself out leaves the session to the others; reason 0 ends all of them.
#[test]
fn one_connection_or_the_session_is_logged_out() {
    let daemon = daemon();
    let (mut first, mut second) = pair(&daemon, "");
    assert_eq!(first.logout(1, 0), 0);
    assert!(first.receive().is_none());
    second.cmd_sn = first.cmd_sn;
    assert!(second.scsi(0, &commands::read(0, 1)).is_good());
    let mut third = Wire::join(daemon.port(), &second, daemon.iqn(), 2, "");
    assert_eq!(third.logout(0, 0), 0);
    assert!(third.receive().is_none() && second.receive().is_none());
    // The session is gone: nobody can join it.
    let mut late = Wire::connect(daemon.port());
    let request = late.joining_request(&third, daemon.iqn(), 3, "");
    assert_eq!(late.login_with(&request).0, (2, 10));
}

/// RFC 7143 11.14.3, 7.1.4.1: the tasks of a lost connection end; a command of it that had not its turn yet may be sent again over
/// another, and the session goes on.
#[test]
fn a_lost_connection_takes_its_tasks_with_it() {
    let daemon = daemon();
    let (mut first, mut second) = pair(&daemon, "InitialR2T=Yes ImmediateData=No");
    second.cmd_sn = first.cmd_sn;
    begin_write(&mut second, 6, 0, &[7; 512]);
    // A command that comes before its turn is held.
    second.cmd_sn += 1;
    let early = test_unit_ready(&mut second, 8);
    second.send(&early);
    second.assert_alive();
    let missing = second.cmd_sn - 2;
    drop(second);
    // Once the connection's end is noticed, its CID is free without anything to replace.
    first.cmd_sn = missing;
    while first.logout(1, 1) != 1 {}
    let again = test_unit_ready(&mut first, 7);
    first.send(&again);
    assert_good(&mut first, 7);
    // The held command went with its connection: its number is to be sent again.
    let again = test_unit_ready(&mut first, 8);
    first.send(&again);
    assert_good(&mut first, 8);
    assert_eq!(first.scsi(0, &commands::read(0, 1)).data, [0; 512]);
}

/// RFC 7143 6.3.4: a login with a CID that is in use ends that connection and its tasks, and takes its place; also where one
/// connection is all that was agreed on. The session, its reservations and its other connections stay.
#[test]
fn a_connection_is_reinstated() {
    let daemon = daemon();
    for keys in ["MaxConnections=1", "MaxConnections=2"] {
        let mut first = session(&daemon, &format!("{keys} InitialR2T=Yes ImmediateData=No"));
        first.attentions(0);
        begin_write(&mut first, 6, 0, &[7; 512]);
        let mut again = Wire::join(daemon.port(), &first, daemon.iqn(), 0, "");
        assert!(first.receive().is_none(), "{keys}");
        // No unit attention: the I_T nexus was never lost.
        assert_eq!(again.scsi(0, &commands::read(0, 1)).data, [0; 512], "{keys}");
        assert_eq!(again.logout(0, 0), 0);
    }
}

/// RFC 7143 11.6.1: ABORT TASK of a command that has not arrived counts its CmdSN as received; the command is never executed.
#[test]
fn a_task_is_aborted_before_it_arrives() {
    let daemon = daemon();
    let (mut first, mut second) = pair(&daemon, "");
    let late = test_unit_ready(&mut first, 6);
    second.cmd_sn = first.cmd_sn;
    let behind = test_unit_ready(&mut second, 7);
    second.send(&behind);
    assert_eq!(
        second.manage(1, 0, 6, first.cmd_sn - 1),
        0,
        "it counts as received"
    );
    assert_good(&mut second, 7);
    first.send(&late);
    first.cmd_sn = second.cmd_sn;
    // The late command is ignored like any that was taken already.
    first.assert_alive();
    // Numbers out of the window, or of another task that waits, are of no task.
    assert_eq!(first.manage(1, 0, 6, first.cmd_sn - 1), 1);
    second.cmd_sn += 1;
    let waiting = test_unit_ready(&mut second, 8);
    second.send(&waiting);
    second.assert_alive();
    first.cmd_sn += 2;
    assert_eq!(first.manage(1, 0, 99, first.cmd_sn - 1), 1);
    // One that has come and waits is struck out as well.
    assert_eq!(first.manage(1, 0, 8, first.cmd_sn - 1), 0);
    first.cmd_sn -= 2;
    let missing = test_unit_ready(&mut first, 9);
    first.send(&missing);
    assert_good(&mut first, 9);
    first.cmd_sn += 1;
    assert!(first.scsi(0, &commands::read(0, 1)).is_good());
    second.cmd_sn = first.cmd_sn;
    second.assert_alive();
}

/// RFC 7143 11.5.1: a function that ends the tasks of a unit ends those of the commands before it, also the ones that are still on
/// their way over another connection; the initiator hears of it when all are here.
#[test]
fn functions_wait_for_the_commands_before_them() {
    let daemon = daemon();
    let (mut first, mut second) = pair(&daemon, "InitialR2T=Yes ImmediateData=No");
    let data = vec![5; 512];
    let command = commands::write(0, data.clone(), false);
    let late = first.command_pdu(0, 6, FINAL | WRITE, 512, &command.cdb);
    second.cmd_sn = first.cmd_sn;
    let reset = Pdu::new(0x42, FINAL | 2)
        .word(16, 0x7a5c)
        .word(20, u32::MAX)
        .word(24, second.cmd_sn)
        .word(28, second.exp_stat_sn);
    second.send(&reset);
    second.assert_alive();
    first.send(&late);
    let answer = second.answer();
    assert_eq!((answer.bhs.0[0], answer.bhs.0[2]), (0x22, 0), "{answer:?}");
    second.exp_stat_sn = answer.get(24).wrapping_add(1);
    // The late write was ended by it, so its data is of no use any more.
    let r2t = first.answer();
    assert_eq!(r2t.bhs.0[0], 0x31);
    first.send_what_is_asked_for(&r2t, &data);
    first.assert_alive();
    assert_eq!(second.scsi(0, &commands::read(0, 1)).data, [0; 512]);
}
