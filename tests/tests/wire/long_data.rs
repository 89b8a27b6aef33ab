//! Long Data-Out, which goes straight to its place, however it arrives (RFC 7143 11.7).

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
