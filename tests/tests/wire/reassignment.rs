//! ErrorRecoveryLevel 2: tasks survive their connection (RFC 7143 7.2.2, 11.5.6, 11.14).

use std::time::{Duration, Instant};

use holdfast_tests::{
    Daemon, commands,
    wire::{FINAL, Pdu, READ, WRITE, Wire},
};

use crate::{error_recovery::daemon_of_level, session};

/// Small steps, so that there is a middle to be cut in.
const KEYS: &str = "ErrorRecoveryLevel=2 InitialR2T=Yes ImmediateData=No MaxBurstLength=2048";

fn pattern(blocks: usize) -> Vec<u8> {
    (0..blocks * 512).map(|at| (at % 251) as u8).collect()
}

/// A session of two connections, CIDs 0 and 1, without unit attentions.
fn pair(daemon: &Daemon, keys: &str) -> (Wire, Wire) {
    let mut first = session(daemon, &format!("MaxConnections=2 {KEYS} {keys}"));
    first.attentions(0);
    let second = Wire::join(
        daemon.port(),
        &first,
        daemon.iqn(),
        1,
        "MaxRecvDataSegmentLength=8192",
    );
    (first, second)
}

/// Begins a write of 8 blocks with the tag 9, and is cut off after 1024 bytes of the second 2048.
fn write_and_be_cut_off(mut wire: Wire, lba: u64, data: &[u8]) -> u32 {
    let command = commands::write(lba, data.to_vec(), false);
    let pdu = wire.command_pdu(0, 9, FINAL | WRITE, 4096, &command.cdb);
    wire.send(&pdu);
    let r2t = wire.answer();
    wire.send_what_is_asked_for(&r2t, data);
    let r2t = wire.answer();
    assert_eq!((r2t.bhs.0[0], r2t.get(40), r2t.get(44)), (0x31, 2048, 2048));
    let half = wire.data_out(9, r2t.get(20), 0, 2048, &data[2048..3072]);
    wire.send(&half.put(1, &[0]));
    // All that was sent has arrived.
    wire.assert_alive();
    wire.cmd_sn
}

/// The rest of the write that [`write_and_be_cut_off`] began, over another connection.
fn finish_write(wire: &mut Wire, lba: u64, data: &[u8]) {
    assert_eq!(wire.reassign(9, 0), 0);
    let r2t = wire.answer();
    assert_eq!(
        (r2t.bhs.0[0], r2t.get(36), r2t.get(40), r2t.get(44)),
        (0x31, 2, 3072, 1024),
        "what is missing"
    );
    wire.send_what_is_asked_for(&r2t, data);
    assert!(wire.finish(9, data).is_good());
    assert_eq!(wire.scsi(0, &commands::read(lba, 8)).data, data);
}

/// Sends a read of 64 blocks with the tag 9 and receives its PDUs, without acknowledging the status.
fn read_pdus(wire: &mut Wire) -> Vec<Pdu> {
    let command = commands::read(0, 64);
    let pdu = wire.command_pdu(0, 9, FINAL | READ, 64 * 512, &command.cdb);
    wire.send(&pdu);
    let mut pdus = Vec::new();
    while pdus.last().is_none_or(|pdu: &Pdu| pdu.bhs.0[1] & 1 == 0) {
        pdus.push(wire.answer());
    }
    pdus
}

/// RFC 7143 13.20: level 2 is agreed on where it is configured.
#[test]
fn level_2_is_agreed_on() {
    let daemon = daemon_of_level("2");
    let mut wire = Wire::connect(daemon.port());
    let keys = format!("{} ErrorRecoveryLevel=2", crate::NAMES);
    let (_, _, answer) = wire.login(crate::TO_FULL, &keys);
    assert!(
        answer.split(' ').any(|pair| pair == "ErrorRecoveryLevel=2"),
        "{answer}"
    );
}

/// RFC 7143 7.2.2, 11.14: a connection is cut in the middle of a write; logged out for recovery over another, which is told how long
/// its tasks wait, and the write goes on there with what is missing.
#[test]
fn a_write_goes_on_over_another_connection() {
    let daemon = daemon_of_level("2");
    let (first, mut second) = pair(&daemon, "");
    let data = pattern(8);
    second.cmd_sn = write_and_be_cut_off(first, 0, &data);
    second.send(&second.logout_request(2, 0));
    let answer = second.answer();
    second.exp_stat_sn = answer.get(24).wrapping_add(1);
    let times = (answer.get(40) >> 16, answer.get(40) & 0xffff);
    assert_eq!((answer.bhs.0[0], answer.bhs.0[2], times), (0x26, 0, (2, 20)));
    finish_write(&mut second, 0, &data);
    assert_eq!(second.reassign(9, 0), 1, "it has ended");
}

/// RFC 7143 11.5.6: data and status of a read that were not acknowledged are sent over the other connection from the DataSN that is
/// expected on, in segments as that one takes them.
#[test]
fn a_read_is_answered_over_another_connection() {
    let daemon = daemon_of_level("2");
    let (mut first, mut second) = pair(&daemon, "MaxRecvDataSegmentLength=1024");
    let data = pattern(64);
    assert!(first.scsi(0, &commands::write(0, data.clone(), false)).is_good());
    let pdus = read_pdus(&mut first);
    assert_eq!(pdus.len(), 32);
    // Four segments of 1024 bytes are acknowledged.
    first.send(&first.snack(2, u32::MAX, pdus[3].get(20), 4, 0));
    first.assert_alive_without_acknowledging();
    second.cmd_sn = first.cmd_sn;
    drop(first);
    assert_eq!(second.logout(2, 0), 0);
    assert_eq!(second.reassign(9, 6), 0);
    let mut sent = Vec::new();
    let mut data_sn = 6;
    let response = loop {
        let pdu = second.answer();
        if pdu.bhs.0[0] != 0x25 {
            break pdu;
        }
        assert_eq!(
            (pdu.get(36), pdu.get(40) as usize),
            (data_sn, 6 * 1024 + sent.len())
        );
        assert_eq!(
            pdu.data.len(),
            2048,
            "MaxBurstLength cuts what 8192 bytes would take"
        );
        sent.extend_from_slice(&pdu.data);
        data_sn += 1;
    };
    assert_eq!(sent, data[6 * 1024..]);
    assert_eq!(
        (response.bhs.0[0], response.get(16), response.bhs.0[3]),
        (0x21, 9, 0)
    );
    assert_eq!(response.get(36), data_sn, "ExpDataSN");
    // And that can get lost as well.
    second.send(&second.snack(0, 9, u32::MAX, data_sn - 1, 1));
    assert_eq!(second.answer().data, data[30 * 1024..]);
    second.exp_stat_sn = response.get(24).wrapping_add(1);
    assert_eq!(second.reassign(9, 0), 1);
}

/// RFC 7143 7.2.2: a status that was lost with its connection comes over the other; the command is not executed again.
#[test]
fn a_lost_status_comes_over_another_connection() {
    let daemon = daemon_of_level("2");
    let (mut first, mut second) = pair(&daemon, "");
    let stat_sn = first.exp_stat_sn;
    let unknown = first.command_pdu(0, 5, FINAL, 0, &[0xff; 16]);
    first.send(&unknown);
    let sense = first.answer();
    first.exp_stat_sn = stat_sn;
    second.cmd_sn = first.cmd_sn;
    assert_eq!(second.reassign(5, 0), 1, "nothing is lost yet");
    drop(first);
    assert_eq!(second.logout(2, 0), 0);
    assert_eq!(second.reassign(5, 0), 0);
    let again = second.answer();
    assert_eq!((again.bhs.0[0], again.bhs.0[3], again.get(16)), (0x21, 2, 5));
    assert_eq!(again.data, sense.data);
}

/// RFC 7143 7.2.2: a connection is cut while a command is executed. Whether it has ended by then, or ends later, before or after the
/// task is moved: its status comes over the other connection, once.
#[test]
fn a_command_in_progress_is_answered_over_another_connection() {
    let daemon = daemon_of_level("2");
    let mut keeper = session(&daemon, "MaxConnections=2 ErrorRecoveryLevel=2");
    keeper.attentions(0);
    for round in 1..=20 {
        let mut other = Wire::join(daemon.port(), &keeper, daemon.iqn(), round, "");
        let tag = 0x100 + u32::from(round);
        let data = vec![round as u8; 65_536];
        // With FUA it waits for the disk.
        let command = commands::write(0, data.clone(), true);
        let pdu = other.command_pdu(0, tag, FINAL | WRITE, 65_536, &command.cdb);
        other.send(&pdu.with_data(&data));
        let nop = other.nop(0x40, 0xa11e, other.cmd_sn);
        other.send(&nop);
        // The command has arrived when the NOP-Out behind it is answered.
        while other.answer().get(16) != 0xa11e {}
        keeper.cmd_sn = other.cmd_sn;
        drop(other);
        assert_eq!(keeper.logout(2, round), 0);
        assert_eq!(keeper.reassign(tag, 0), 0);
        assert!(keeper.finish(tag, &[]).is_good());
        assert_ne!(keeper.reassign(tag, 0), 0, "once");
        assert_eq!(keeper.scsi(0, &commands::read(0, 128)).data, data);
    }
}

/// RFC 7143 11.6.1: what is on a living connection is "still allegiant", what is not there does not exist.
#[test]
fn only_lost_tasks_can_be_moved() {
    let daemon = daemon_of_level("2");
    let (mut first, mut second) = pair(&daemon, "");
    let data = pattern(1);
    let command = commands::write(0, data.clone(), false);
    let pdu = first.command_pdu(0, 9, FINAL | WRITE, 512, &command.cdb);
    first.send(&pdu);
    let r2t = first.answer();
    second.cmd_sn = first.cmd_sn;
    assert_eq!(second.reassign(9, 0), 3);
    assert_eq!(second.reassign(77, 0), 1);
    assert_eq!(second.logout(2, 7), 1, "no such connection");
    first.send_what_is_asked_for(&r2t, &data);
    assert!(first.finish(9, &data).is_good());
    // Logged out for good, tasks do not wait.
    let pdu = first.command_pdu(0, 9, FINAL | WRITE, 512, &command.cdb);
    first.send(&pdu);
    first.answer();
    second.cmd_sn = first.cmd_sn;
    assert_eq!(second.logout(1, 0), 0);
    assert_eq!(second.reassign(9, 0), 1);
}

/// RFC 7143 6.3.4, 7.2.2: a session that has lost its only connection waits for one; it comes back with the same CID or another,
/// and finds task, CmdSN and reservation as they were.
#[test]
fn a_session_goes_on_after_its_last_connection() {
    let daemon = daemon_of_level("2");
    for (round, cid) in [(0, 0), (1, 5)] {
        let mut first = session(&daemon, KEYS);
        first.attentions(0);
        assert!(first.scsi(0, &commands::reserve_out(0, 0, 0, 7, false)).is_good());
        let names = Wire::connect(daemon.port());
        let (lba, data) = (round * 8, pattern(8));
        let mut leading = names;
        (leading.tsih, leading.cmd_sn) = (first.tsih, first.cmd_sn + 1);
        write_and_be_cut_off(first, lba, &data);
        let mut again = Wire::join(daemon.port(), &leading, daemon.iqn(), cid, "");
        if cid != 0 {
            assert_eq!(again.logout(2, 0), 0, "the old one is cleaned up first");
        }
        finish_write(&mut again, lba, &data);
        let keys = again.scsi(0, &commands::reserve_in(0)).data;
        assert_eq!(keys[7], 8, "the registration is there: {keys:?}");
        assert!(again.scsi(0, &commands::reserve_out(0, 0, 7, 0, false)).is_good());
        assert_eq!(again.logout(0, 0), 0);
    }
}

/// RFC 7143 11.14: a connection that logs itself out for recovery leaves its tasks.
#[test]
fn a_connection_logs_itself_out_for_recovery() {
    let daemon = daemon_of_level("2");
    let (mut first, mut second) = pair(&daemon, "");
    let data = pattern(1);
    let command = commands::write(0, data.clone(), false);
    let pdu = first.command_pdu(0, 9, FINAL | WRITE, 512, &command.cdb);
    first.send(&pdu);
    first.answer();
    assert_eq!(first.logout(2, 0), 0);
    assert!(first.receive().is_none());
    second.cmd_sn = first.cmd_sn;
    assert_eq!(second.reassign(9, 0), 0);
    let r2t = second.answer();
    second.send_what_is_asked_for(&r2t, &data);
    assert!(second.finish(9, &data).is_good());
}

/// RFC 7143 11.14.3, 13.15, 13.16: what nobody has moved in Time2Wait and Time2Retain ends without effect.
#[test]
fn tasks_wait_for_so_long_only() {
    let daemon = daemon_of_level("2");
    let (first, mut second) = pair(&daemon, "DefaultTime2Wait=0 DefaultTime2Retain=1");
    let data = pattern(8);
    second.cmd_sn = write_and_be_cut_off(first, 0, &data);
    assert_eq!(second.logout(2, 0), 0);
    let begun = Instant::now();
    // While the write waits its tag is in use.
    loop {
        let probe = second.command_pdu(0, 9, FINAL, 0, &[0; 16]);
        second.send(&probe);
        let answer = second.answer();
        second.exp_stat_sn = answer.get(24).wrapping_add(1);
        if answer.bhs.0[0] == 0x21 {
            break;
        }
        assert_eq!((answer.bhs.0[0], answer.bhs.0[2]), (0x3f, 7));
        assert!(begun.elapsed() < Duration::from_secs(60), "it waits for ever");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "Time2Wait and Time2Retain"
    );
    assert_eq!(second.reassign(9, 0), 1);
    assert_eq!(second.scsi(0, &commands::read(0, 8)).data, [0; 4096]);
}
