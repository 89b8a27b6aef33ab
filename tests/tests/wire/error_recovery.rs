//! ErrorRecoveryLevel 1: what is lost or damaged is sent again (RFC 7143 7.2.1, 7.8, 7.9, 11.16).
//!
//! TCP loses nothing, so a "lost" PDU here is one that the test has received and asks for again; it must come back as it was.

use holdfast_tests::{
    Daemon, DaemonConfig, VolumeSpec, commands,
    wire::{FINAL, Pdu, READ, WRITE, Wire},
};

use crate::{daemon, session};

/// A daemon with this ErrorRecoveryLevel.
pub(crate) fn daemon_of_level(level: &str) -> Daemon {
    let config = DaemonConfig {
        volumes: vec![VolumeSpec::standard("disk", "64MiB")],
        initiators: String::new(),
        extra: String::new(),
    };
    Daemon::start_with(&config, &[("HOLDFAST__ISCSI__ERROR_RECOVERY_LEVEL", level)])
}

/// A session of level 1 without unit attentions.
fn recovering(daemon: &Daemon, keys: &str) -> Wire {
    let mut wire = session(daemon, &format!("ErrorRecoveryLevel=1 {keys}"));
    if keys.contains("Digest") {
        wire.use_digests();
    }
    wire.attentions(0);
    wire
}

fn pattern(blocks: usize) -> Vec<u8> {
    (0..blocks * 512).map(|at| (at % 251) as u8).collect()
}

/// The fields that may differ in a PDU that is sent again are ExpCmdSN and MaxCmdSN.
fn assert_same(again: &Pdu, first: &Pdu) {
    let without_window = |pdu: &Pdu| pdu.clone().put(28, &[0; 8]).bhs.0;
    assert_eq!(without_window(again), without_window(first));
    assert_eq!(again.data, first.data);
}

/// Sends a read of `blocks` and receives its PDUs, without acknowledging the status.
fn read_pdus(wire: &mut Wire, tag: u32, blocks: u32) -> Vec<Pdu> {
    let command = commands::read(0, blocks);
    let pdu = wire.command_pdu(0, tag, FINAL | READ, blocks * 512, &command.cdb);
    wire.send(&pdu);
    let mut pdus = Vec::new();
    loop {
        let pdu = wire.answer();
        assert_eq!((pdu.bhs.0[0], pdu.get(16)), (0x25, tag));
        let is_last = pdu.bhs.0[1] & 1 != 0;
        pdus.push(pdu);
        if is_last {
            return pdus;
        }
    }
}

fn assert_rejected(wire: &mut Wire, reason: u8) {
    let pdu = wire.answer();
    assert_eq!((pdu.bhs.0[0], pdu.bhs.0[2]), (0x3f, reason), "{pdu:?}");
}

/// RFC 7143 13.20, 13.19: the lower level is agreed on, and with it one R2T at a time; 0 unless configured otherwise.
#[test]
fn the_level_is_agreed_on() {
    let (plain, one) = (daemon(), daemon_of_level("1"));
    for (daemon, offered, agreed, r2ts) in [(&plain, 2, 0, 8), (&one, 0, 0, 8), (&one, 1, 1, 1)] {
        let mut wire = Wire::connect(daemon.port());
        let keys = format!(
            "{} ErrorRecoveryLevel={offered} MaxOutstandingR2T=8",
            crate::NAMES
        );
        let (status, _, answer) = wire.login(crate::TO_FULL, &keys);
        assert_eq!(status, (0, 0));
        for key in [
            format!("ErrorRecoveryLevel={agreed}"),
            format!("MaxOutstandingR2T={r2ts}"),
        ] {
            assert!(answer.split(' ').any(|pair| pair == key), "{key}: {answer}");
        }
    }
}

/// RFC 7143 11.16: a run of Data-In, or all from a DataSN on, comes again as it was; the one with the status as well.
#[test]
fn lost_data_in_comes_again() {
    let daemon = daemon_of_level("1");
    let mut wire = recovering(&daemon, "MaxRecvDataSegmentLength=4096");
    assert!(wire.scsi(0, &commands::write(0, pattern(64), false)).is_good());
    let pdus = read_pdus(&mut wire, 9, 64);
    assert_eq!(pdus.len(), 8);
    for (begin, run, wanted) in [(3, 2, 3..5), (6, 0, 6..8), (0, 0, 0..8), (7, 1, 7..8)] {
        wire.send(&wire.snack(0, 9, u32::MAX, begin, run));
        for first in &pdus[wanted] {
            assert_same(&wire.answer(), first);
        }
    }
    wire.assert_alive();
    // Beyond the data, of no task, and of one whose status was acknowledged.
    wire.send(&wire.snack(0, 9, u32::MAX, 7, 2));
    assert_rejected(&mut wire, 3);
    wire.send(&wire.snack(0, 77, u32::MAX, 0, 0));
    assert_rejected(&mut wire, 3);
    wire.exp_stat_sn = pdus[7].get(24).wrapping_add(1);
    wire.send(&wire.snack(0, 9, u32::MAX, 0, 0));
    assert_rejected(&mut wire, 3);
    wire.send(&wire.snack(9, 9, u32::MAX, 0, 0));
    assert_rejected(&mut wire, 3);
}

/// RFC 7143 11.16, 4.2.2.2: statuses come again in order, with sense and text, until ExpStatSN has acknowledged them.
#[test]
fn lost_statuses_come_again() {
    let daemon = daemon_of_level("1");
    let mut wire = recovering(&daemon, "");
    let exp_stat_sn = wire.exp_stat_sn;
    let unknown = wire.command_pdu(0, 5, FINAL, 0, &[0xff; 16]);
    wire.send(&unknown);
    let sense = wire.answer();
    assert_eq!((sense.bhs.0[0], sense.bhs.0[3]), (0x21, 2));
    let data = read_pdus(&mut wire, 6, 1).remove(0);
    let nop = wire.nop(0x40, 7, wire.cmd_sn).with_data(b"ping");
    wire.send(&nop);
    let echo = wire.answer();
    for (begin, run, wanted) in [
        (exp_stat_sn, 1, vec![&sense]),
        (exp_stat_sn + 1, 0, vec![&data, &echo]),
        (0, 0, vec![&sense, &data, &echo]),
    ] {
        wire.send(&wire.snack(1, u32::MAX, u32::MAX, begin, run));
        for first in wanted {
            assert_same(&wire.answer(), first);
        }
    }
    // One that was not sent yet.
    wire.send(&wire.snack(1, u32::MAX, u32::MAX, exp_stat_sn, 9));
    assert_rejected(&mut wire, 3);
    wire.exp_stat_sn = exp_stat_sn + 1;
    wire.send(&wire.snack(1, u32::MAX, u32::MAX, exp_stat_sn, 1));
    assert_rejected(&mut wire, 3);
}

/// RFC 7143 11.7.2, 11.16: the end of each sequence but the last asks for a DataACK, after which its data does not come again.
#[test]
fn data_is_acknowledged() {
    let daemon = daemon_of_level("1");
    let mut wire = recovering(&daemon, "MaxRecvDataSegmentLength=4096 MaxBurstLength=8192");
    let pdus = read_pdus(&mut wire, 9, 64);
    for (number, pdu) in pdus.iter().enumerate() {
        let asks = number % 2 == 1 && number < 7;
        assert_eq!(pdu.bhs.0[1] & 0x40 != 0, asks, "A of {number}");
        assert_eq!(pdu.get(20) != u32::MAX, asks, "the transfer tag of {number}");
    }
    let transfer_tag = pdus[1].get(20);
    wire.send(&wire.snack(2, u32::MAX, transfer_tag, 4, 0));
    wire.send(&wire.snack(0, 9, u32::MAX, 3, 1));
    assert_rejected(&mut wire, 3);
    wire.send(&wire.snack(0, 9, u32::MAX, 0, 0));
    for first in &pdus[4..] {
        assert_same(&wire.answer(), first);
    }
    // What was acknowledged, what was never sent, and data of no read.
    for (tag, data_sn) in [(transfer_tag, 3), (transfer_tag, 9), (transfer_tag ^ 0x40, 4)] {
        wire.send(&wire.snack(2, u32::MAX, tag, data_sn, 0));
        assert_rejected(&mut wire, 8);
    }
    wire.assert_alive();
}

/// RFC 7143 11.16.3: an initiator that takes shorter segments by now has all data that it did not acknowledge again, cut anew, and a
/// status that names its request, with the StatSN of the first.
#[test]
fn data_is_cut_anew() {
    let daemon = daemon_of_level("1");
    let mut wire = recovering(&daemon, "MaxRecvDataSegmentLength=8192 MaxBurstLength=8192");
    assert!(wire.scsi(0, &commands::write(0, pattern(64), false)).is_good());
    let pdus = read_pdus(&mut wire, 9, 64);
    wire.send(&wire.snack(2, u32::MAX, pdus[0].get(20), 1, 0));
    let shorter = Pdu::new(0x44, FINAL)
        .word(16, 3)
        .word(20, u32::MAX)
        .word(24, wire.cmd_sn)
        .word(28, wire.exp_stat_sn)
        .with_data(b"MaxRecvDataSegmentLength=4096\0");
    wire.send(&shorter);
    assert_eq!(wire.answer().bhs.0[0], 0x24);
    // As they were, the PDUs are too long by now.
    wire.send(&wire.snack(0, 9, u32::MAX, 1, 1));
    assert_rejected(&mut wire, 3);
    wire.send(&wire.snack(3, 9, 0x5ac4, 0, 0));
    let mut data = Vec::new();
    for number in 1..=6 {
        let pdu = wire.answer();
        assert_eq!((pdu.bhs.0[0], pdu.get(36)), (0x25, number));
        assert_eq!((pdu.get(40) as usize, pdu.data.len()), (8192 + data.len(), 4096));
        data.extend_from_slice(&pdu.data);
    }
    assert_eq!(data, pattern(64)[8192..]);
    let response = wire.answer();
    assert_eq!(
        (response.bhs.0[0], response.bhs.0[3], response.get(20)),
        (0x21, 0, 0x5ac4)
    );
    assert_eq!(response.get(24), pdus[3].get(24), "the same StatSN");
    assert_eq!(response.get(36), 7, "ExpDataSN");
    wire.send(&wire.snack(1, u32::MAX, u32::MAX, pdus[3].get(24), 1));
    assert_same(&wire.answer(), &response);
}

/// RFC 7143 7.8: damaged Data-Out is rejected (02h), and asked for again at the end of its sequence, wherever in it; the write is
/// done whole.
#[test]
fn damaged_data_out_is_asked_for_again() {
    let daemon = daemon_of_level("1");
    let keys = "HeaderDigest=CRC32C DataDigest=CRC32C InitialR2T=Yes ImmediateData=No";
    let mut wire = recovering(&daemon, keys);
    let data = pattern(8);
    for damaged in 0..4 {
        let lba = damaged * 8;
        let command = commands::write(lba, data.clone(), false);
        let pdu = wire.command_pdu(0, 9, FINAL | WRITE, 4096, &command.cdb);
        wire.send(&pdu);
        let r2t = wire.answer();
        for number in 0..4 {
            let start = number as usize * 1024;
            let last = if number == 3 { FINAL } else { 0 };
            let pdu = wire
                .data_out(9, r2t.get(20), number, start, &data[start..start + 1024])
                .put(1, &[last]);
            let mut bytes = pdu.bytes(true, true);
            if u64::from(number) == damaged {
                bytes[100] ^= 0x10;
            }
            wire.send_bytes(&bytes);
        }
        assert_rejected(&mut wire, 2);
        let again = wire.answer();
        assert_eq!((again.bhs.0[0], again.get(16), again.get(36)), (0x31, 9, 1));
        assert_eq!((u64::from(again.get(40)), again.get(44)), (damaged * 1024, 1024));
        wire.send_what_is_asked_for(&again, &data);
        assert!(wire.finish(9, &data).is_good());
        assert_eq!(wire.scsi(0, &commands::read(lba, 8)).data, data);
    }
}

/// RFC 7143 7.9: Data-Out that is missing, by its DataSN, is asked for again, also unsolicited data.
#[test]
fn missing_data_out_is_asked_for_again() {
    let daemon = daemon_of_level("1");
    let mut wire = recovering(&daemon, "InitialR2T=No ImmediateData=No FirstBurstLength=2048");
    let data = pattern(8);
    let command = commands::write(0, data.clone(), false);
    let pdu = wire.command_pdu(0, 9, WRITE, 4096, &command.cdb);
    wire.send(&pdu);
    // Of the unsolicited 2048 bytes the first half gets lost.
    wire.send(&wire.data_out(9, u32::MAX, 2, 1024, &data[1024..2048]));
    let again = wire.answer();
    assert_eq!((again.bhs.0[0], again.get(40), again.get(44)), (0x31, 0, 1024));
    // And the answer comes in pieces without the middle.
    let first = wire.data_out(9, again.get(20), 0, 0, &data[..512]);
    wire.send(&first.put(1, &[0]));
    wire.send(&wire.data_out(9, again.get(20), 3, 768, &data[768..1024]));
    let middle = wire.answer();
    assert_eq!((middle.get(40), middle.get(44)), (512, 256));
    wire.send_what_is_asked_for(&middle, &data);
    let rest = wire.answer();
    assert_eq!((rest.get(36), rest.get(40), rest.get(44)), (2, 2048, 2048));
    wire.send_what_is_asked_for(&rest, &data);
    let ended = wire.finish(9, &data);
    assert!(ended.is_good());
    assert_eq!(wire.scsi(0, &commands::read(0, 8)).data, data);
}

/// RFC 7143 11.16: an R2T that got lost comes again as it was, as long as it is open.
#[test]
fn a_lost_r2t_comes_again() {
    let daemon = daemon_of_level("1");
    let mut wire = recovering(&daemon, "InitialR2T=Yes ImmediateData=No MaxBurstLength=1024");
    let data = pattern(4);
    let command = commands::write(0, data.clone(), false);
    let pdu = wire.command_pdu(0, 9, FINAL | WRITE, 2048, &command.cdb);
    wire.send(&pdu);
    let first = wire.answer();
    wire.send(&wire.snack(0, 9, u32::MAX, 0, 0));
    assert_same(&wire.answer(), &first);
    wire.send_what_is_asked_for(&first, &data);
    let second = wire.answer();
    wire.send(&wire.snack(0, 9, u32::MAX, 1, 1));
    assert_same(&wire.answer(), &second);
    wire.send(&wire.snack(0, 9, u32::MAX, 0, 1));
    assert_rejected(&mut wire, 3);
    wire.send_what_is_asked_for(&second, &data);
    assert!(wire.finish(9, &data).is_good());
}

/// RFC 7143 7.8, 7.2.1: a damaged command is rejected (02h) and not executed; those behind it wait, and all is done once it is sent
/// again with its CmdSN.
#[test]
fn a_damaged_command_is_sent_again() {
    let daemon = daemon_of_level("1");
    let mut wire = recovering(&daemon, "HeaderDigest=CRC32C DataDigest=CRC32C");
    let data = pattern(2);
    let command = commands::write(0, data.clone(), false);
    let write = wire.command_pdu(0, 9, FINAL | WRITE, 1024, &command.cdb);
    let write = write.with_data(&data);
    let mut bytes = write.bytes(true, true);
    bytes[60] ^= 1;
    wire.send_bytes(&bytes);
    assert_rejected(&mut wire, 2);
    let read = wire.command_pdu(0, 10, FINAL | READ, 1024, &commands::read(0, 2).cdb);
    wire.send(&read);
    let nop = wire.nop(0x40, 11, wire.cmd_sn);
    wire.send(&nop);
    assert_eq!(wire.answer().get(16), 11, "the read waits");
    wire.send(&write);
    assert!(wire.finish(9, &[]).is_good());
    assert_eq!(wire.finish(10, &[]).data, data);
}

/// RFC 7143 7.8: nothing behind a damaged header can be found, so its connection ends; another of the session goes on.
#[test]
fn a_damaged_header_ends_its_connection_only() {
    let daemon = daemon_of_level("1");
    let mut first = recovering(&daemon, "MaxConnections=2");
    let mut second = Wire::join(
        daemon.port(),
        &first,
        daemon.iqn(),
        1,
        "HeaderDigest=CRC32C DataDigest=None",
    );
    second.set_digests(true, false);
    second.assert_alive();
    let mut bytes = second.nop(0x40, 9, second.cmd_sn).bytes(true, false);
    bytes[48] ^= 1;
    second.send_bytes(&bytes);
    assert!(second.receive().is_none());
    assert!(first.scsi(0, &commands::read(0, 1)).is_good());
}

/// RFC 7143 4.2.2.1: what belongs to a task is asked for over its connection only.
#[test]
fn a_snack_over_another_connection_is_refused() {
    let daemon = daemon_of_level("1");
    let mut first = recovering(&daemon, "MaxConnections=2 InitialR2T=Yes ImmediateData=No");
    let mut second = Wire::join(daemon.port(), &first, daemon.iqn(), 1, "");
    let data = pattern(1);
    let command = commands::write(0, data.clone(), false);
    let pdu = first.command_pdu(0, 9, FINAL | WRITE, 512, &command.cdb);
    first.send(&pdu);
    let r2t = first.answer();
    second.send(&second.snack(0, 9, u32::MAX, 0, 0));
    assert_rejected(&mut second, 4);
    first.send_what_is_asked_for(&r2t, &data);
    assert!(first.finish(9, &data).is_good());
}
