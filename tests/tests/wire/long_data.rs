//! Long data, which goes straight to its place, however it arrives: Data-Out, and what comes with a command that has more to
//! follow (RFC 7143 11.3, 11.7).

use holdfast_tests::{
    Daemon, commands,
    wire::{FINAL, Pdu, WRITE, Wire},
};

use crate::{daemon, error_recovery::daemon_of_level, session, session_of};

/// One R2T asks for so much.
const BURST: usize = 262_144;

const BLOCKS: u32 = (BURST / 512) as u32;

fn content(seed: u8) -> Vec<u8> {
    (0..BURST)
        .map(|at| (at % 251) as u8 ^ (at / 4096) as u8 ^ seed)
        .collect()
}

/// A session that sends all data of a write as it is asked for it, with digests or without.
fn asked(daemon: &Daemon, digests: bool) -> Wire {
    let keys = "InitialR2T=Yes ImmediateData=No MaxBurstLength=262144";
    let kind = if digests { "CRC32C" } else { "None" };
    let mut wire = session(daemon, &format!("{keys} HeaderDigest={kind} DataDigest={kind}"));
    wire.set_digests(digests, digests);
    wire.attentions(0);
    wire
}

/// A write of [`BURST`] bytes from the first block on: gives the transfer tag of its R2T.
fn begin(wire: &mut Wire, tag: u32, data: &[u8]) -> u32 {
    let cdb = commands::write(0, data.to_vec(), false).cdb;
    let pdu = wire.command_pdu(0, tag, FINAL | WRITE, BURST as u32, &cdb);
    wire.send(&pdu);
    let r2t = wire.answer();
    assert_eq!((r2t.bhs.0[0], r2t.get(44)), (0x31, BURST as u32));
    r2t.get(20)
}

/// The burst in two PDUs, the first of a length that is padded, the last with F.
fn in_two(wire: &Wire, tag: u32, transfer: u32, data: &[u8]) -> [Pdu; 2] {
    let (first, second) = data.split_at(100_001);
    [
        wire.data_out(tag, transfer, 0, 0, first).put(1, &[0]),
        wire.data_out(tag, transfer, 1, first.len(), second),
    ]
}

/// Whatever arrives at once, and whether digests are in force: what is sent is what is written.
#[test]
fn it_may_come_in_any_pieces() {
    let daemon = daemon();
    let mut other = session_of(&daemon, "iqn.2026-11.test:other");
    for (case, digests) in [false, true].into_iter().enumerate() {
        let mut wire = asked(&daemon, digests);
        for (round, piece) in [1 << 20, 40_000, 7_001, 47].into_iter().enumerate() {
            let data = content((case * 4 + round) as u8);
            let tag = 50 + round as u32;
            let transfer = begin(&mut wire, tag, &data);
            let bytes: Vec<u8> = in_two(&wire, tag, transfer, &data)
                .iter()
                .flat_map(|pdu| pdu.bytes(digests, digests))
                .collect();
            // A few small pieces at the start; small ones only would take long.
            let (start, rest) = bytes.split_at(piece.min(600) * 10);
            for piece in start.chunks(piece).chain(rest.chunks(piece.max(7_001))) {
                wire.send_bytes(piece);
                if piece.len() < 100 {
                    // The daemon has looked at its sockets meanwhile.
                    other.assert_alive();
                }
            }
            assert!(wire.finish(tag, &[]).is_good(), "pieces of {piece}");
            let read = wire.scsi(0, &commands::read(0, BLOCKS));
            assert!(read.data == data, "pieces of {piece}, digests {digests}");
        }
    }
}

/// RFC 7143 7.8: what a digest shows to be damaged is not written, and fails its task only.
#[test]
fn a_damaged_one_fails_its_task() {
    let daemon = daemon();
    let mut wire = asked(&daemon, true);
    for place in [1, BURST / 2, BURST - 1] {
        let data = content(9);
        let transfer = begin(&mut wire, 70, &data);
        let mut bytes = wire.data_out(70, transfer, 0, 0, &data).bytes(true, true);
        bytes[52 + place] ^= 4;
        wire.send_bytes(&bytes[..60_000]);
        wire.send_bytes(&bytes[60_000..]);
        let reject = wire.answer();
        assert_eq!((reject.bhs.0[0], reject.bhs.0[2]), (0x3f, 0x02));
        wire.exp_stat_sn = reject.get(24).wrapping_add(1);
        let ended = wire.finish(70, &[]);
        assert_eq!((ended.status, ended.sense), (2, (0x0b, 0x47, 0x05)));
    }
    assert!(
        wire.scsi(0, &commands::read(0, BLOCKS))
            .data
            .iter()
            .all(|byte| *byte == 0)
    );
}

/// RFC 7143 7.2.1, at `ErrorRecoveryLevel` 1: it is asked for again, and what was damaged leaves nothing behind.
#[test]
fn a_damaged_one_is_asked_for_again() {
    let daemon = daemon_of_level("1");
    let keys = "InitialR2T=Yes ImmediateData=No MaxBurstLength=262144 DataDigest=CRC32C ErrorRecoveryLevel=1";
    let mut wire = session(&daemon, keys);
    wire.set_digests(false, true);
    wire.attentions(0);
    let data = content(3);
    let transfer = begin(&mut wire, 71, &data);
    let mut bytes = wire.data_out(71, transfer, 0, 0, &data).bytes(false, true);
    bytes[48 + BURST / 3] ^= 1;
    wire.send_bytes(&bytes);
    let reject = wire.answer();
    assert_eq!((reject.bhs.0[0], reject.bhs.0[2]), (0x3f, 0x02));
    wire.exp_stat_sn = reject.get(24).wrapping_add(1);
    assert!(wire.finish(71, &data).is_good());
    assert!(wire.scsi(0, &commands::read(0, BLOCKS)).data == data);
}

/// Its task ends while it comes: the rest of it is of no use, and the next PDU is found behind it.
#[test]
fn its_task_may_end_before_it_is_whole() {
    let daemon = daemon();
    let mut other = session_of(&daemon, "iqn.2026-11.test:other");
    other.attentions(0);
    let mut wire = asked(&daemon, false);
    let data = content(5);
    let transfer = begin(&mut wire, 72, &data);
    let bytes = wire.data_out(72, transfer, 0, 0, &data).bytes(false, false);
    wire.send_bytes(&bytes[..100_000]);
    assert_eq!(other.manage(5, 0, u32::MAX, 0), 0, "LOGICAL UNIT RESET");
    wire.send_bytes(&bytes[100_000..]);
    wire.assert_alive();
    wire.attentions(0);
    // The same tag again, for another write.
    let data = content(6);
    let transfer = begin(&mut wire, 72, &data);
    wire.send(&wire.data_out(72, transfer, 0, 0, &data));
    assert!(wire.finish(72, &[]).is_good());
    assert!(wire.scsi(0, &commands::read(0, BLOCKS)).data == data);
}

/// Keys of a session whose commands bring a burst with them.
const IMMEDIATE: &str = "InitialR2T=Yes ImmediateData=Yes FirstBurstLength=262144 MaxBurstLength=262144";

/// A write of two bursts, the first of which comes with the command.
fn half_immediate(wire: &mut Wire, tag: u32, data: &[u8]) -> Pdu {
    let cdb = commands::write(0, data.to_vec(), false).cdb;
    wire.command_pdu(0, tag, FINAL | WRITE, data.len() as u32, &cdb)
        .with_data(&data[..BURST])
}

fn two_bursts(seed: u8) -> Vec<u8> {
    [content(seed), content(seed ^ 0x55)].concat()
}

/// What comes with a command is written, with what is asked for then, in whatever pieces it comes.
#[test]
fn what_comes_with_a_command_may_come_in_any_pieces() {
    let daemon = daemon();
    for (case, kind) in ["None", "CRC32C"].into_iter().enumerate() {
        let digests = kind == "CRC32C";
        let mut wire = session(
            &daemon,
            &format!("{IMMEDIATE} HeaderDigest={kind} DataDigest={kind}"),
        );
        wire.set_digests(digests, digests);
        wire.attentions(0);
        for (round, piece) in [1 << 20, 40_000, 7_001, 300].into_iter().enumerate() {
            let data = two_bursts((case * 4 + round) as u8);
            let tag = 90 + round as u32;
            let bytes = half_immediate(&mut wire, tag, &data).bytes(digests, digests);
            for piece in bytes.chunks(piece) {
                wire.send_bytes(piece);
            }
            assert!(wire.finish(tag, &data).is_good(), "pieces of {piece}");
            let read = wire.scsi(0, &commands::read(0, 2 * BLOCKS));
            assert!(read.data == data, "pieces of {piece}, digests {digests}");
        }
    }
}

/// RFC 7143 4.2.2.1: one that comes before its turn waits for it, and loses nothing.
#[test]
fn a_command_with_long_data_waits_for_its_turn() {
    let daemon = daemon();
    let mut wire = session(&daemon, IMMEDIATE);
    wire.attentions(0);
    let data = two_bursts(17);
    let before = wire.command_pdu(0, 101, FINAL, 0, &[0; 6]);
    let write = half_immediate(&mut wire, 102, &data);
    wire.send(&write);
    wire.assert_alive();
    wire.send(&before);
    assert!(wire.finish(101, &[]).is_good());
    assert!(wire.finish(102, &data).is_good());
    assert!(wire.scsi(0, &commands::read(0, 2 * BLOCKS)).data == data);
}

/// RFC 7143 7.8, 7.2.1: one that is damaged is rejected, and carried out when it is sent again.
#[test]
fn a_damaged_command_with_long_data_is_sent_again() {
    let daemon = daemon_of_level("1");
    let mut wire = session(
        &daemon,
        &format!("{IMMEDIATE} DataDigest=CRC32C ErrorRecoveryLevel=1"),
    );
    wire.set_digests(false, true);
    wire.attentions(0);
    let data = two_bursts(19);
    let write = half_immediate(&mut wire, 103, &data);
    let mut bytes = write.bytes(false, true);
    bytes[48 + BURST / 2] ^= 1;
    wire.send_bytes(&bytes);
    let reject = wire.answer();
    assert_eq!((reject.bhs.0[0], reject.bhs.0[2]), (0x3f, 0x02));
    wire.exp_stat_sn = reject.get(24).wrapping_add(1);
    wire.send(&write);
    assert!(wire.finish(103, &data).is_good());
    assert!(wire.scsi(0, &commands::read(0, 2 * BLOCKS)).data == data);
}

/// Several at once share what memory there is for their data, and each is written as it was sent.
#[test]
fn many_commands_with_long_data_take_turns() {
    let daemon = daemon();
    let mut wire = session(&daemon, IMMEDIATE);
    wire.attentions(0);
    let writes: Vec<(u32, Vec<u8>)> = (0..6)
        .map(|round| (110 + round, two_bursts(round as u8 * 7)))
        .collect();
    for (at, (tag, data)) in writes.iter().enumerate() {
        let cdb = commands::write(at as u64 * 2 * u64::from(BLOCKS), data.clone(), false).cdb;
        let pdu = wire
            .command_pdu(0, *tag, FINAL | WRITE, data.len() as u32, &cdb)
            .with_data(&data[..BURST]);
        wire.send(&pdu);
    }
    let mut good = 0;
    while good < writes.len() {
        let pdu = wire.answer();
        let (_, data) = &writes[(pdu.get(16) - 110) as usize];
        if pdu.bhs.0[0] == 0x31 {
            wire.send_what_is_asked_for(&pdu, data);
        } else {
            assert_eq!((pdu.bhs.0[0], pdu.bhs.0[3]), (0x21, 0));
            wire.exp_stat_sn = pdu.get(24).wrapping_add(1);
            good += 1;
        }
    }
    for (at, (tag, data)) in writes.iter().enumerate() {
        let read = wire.scsi(0, &commands::read(at as u64 * 2 * u64::from(BLOCKS), 2 * BLOCKS));
        assert!(read.data == *data, "task {tag}");
    }
}

/// Data beyond the write, or out of its order, fails its task, however long it is.
#[test]
fn a_wrong_one_fails_its_task() {
    let daemon = daemon();
    let mut wire = asked(&daemon, false);
    let data = content(7);
    for (number, offset) in [(0, 512), (1, 0), (0, BURST)] {
        let transfer = begin(&mut wire, 73, &data);
        let wrong = wire.data_out(73, transfer, number, offset, &data);
        wire.send(&wrong);
        let ended = wire.finish(73, &[]);
        assert_eq!(
            (ended.status, ended.sense.0),
            (2, 0x0b),
            "{number} {offset}: {ended:?}"
        );
    }
    wire.assert_alive();
    assert!(
        wire.scsi(0, &commands::read(0, BLOCKS))
            .data
            .iter()
            .all(|byte| *byte == 0)
    );
}
