//! Header and data digests (RFC 7143 7.8, 13.1).

use holdfast_tests::{
    commands,
    wire::{FINAL, IMMEDIATE, WRITE, Wire},
};

use crate::{NAMES, TO_FULL, daemon, session};

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

/// RFC 7143 13.1: each digest is used as negotiated, alone and together; reads and writes go through.
#[test]
fn each_combination_carries_data() {
    let daemon = daemon();
    let data: Vec<u8> = (0..1536_u32).map(|at| (at % 251) as u8).collect();
    for (header, payload) in [(false, false), (true, false), (false, true), (true, true)] {
        let kind = |on| if on { "CRC32C" } else { "None" };
        let keys = format!("HeaderDigest={} DataDigest={}", kind(header), kind(payload));
        let mut wire = session(&daemon, &keys);
        wire.set_digests(header, payload);
        wire.attentions(0);
        assert!(wire.scsi(0, &commands::write(0, data.clone(), false)).is_good());
        assert_eq!(wire.scsi(0, &commands::read(0, 3)).data, data, "{keys}");
        wire.assert_alive();
    }
}

/// RFC 7143 7.8, 11.4.7.2: a data digest error in Data-Out fails the task (protocol service CRC error, Bh/47h/05h); nothing of it is written
/// and the session lives.
#[test]
fn data_digest_error_in_data_out_fails_the_task() {
    let daemon = daemon();
    let mut wire = session(
        &daemon,
        "HeaderDigest=CRC32C DataDigest=CRC32C InitialR2T=Yes ImmediateData=No",
    );
    wire.use_digests();
    wire.attentions(0);
    let pdu = wire.command_pdu(
        0,
        9,
        FINAL | WRITE,
        512,
        &commands::write(0, vec![1; 512], false).cdb,
    );
    wire.send(&pdu);
    let r2t = wire.answer();
    let mut bytes = wire.data_out(9, r2t.get(20), 0, 0, &[1; 512]).bytes(true, true);
    bytes[60] ^= 0x10;
    wire.send_bytes(&bytes);
    let mut answer = wire.answer();
    if answer.bhs.0[0] == 0x3f {
        // A Reject with reason 02h may come first.
        assert_eq!(answer.bhs.0[2], 0x02);
        answer = wire.answer();
    }
    assert_eq!((answer.bhs.0[0], answer.bhs.0[3]), (0x21, 2));
    assert_eq!(
        (answer.data[2 + 2] & 15, answer.data[2 + 12], answer.data[2 + 13]),
        (0x0b, 0x47, 0x05)
    );
    wire.exp_stat_sn = answer.get(24).wrapping_add(1);
    assert_eq!(wire.scsi(0, &commands::read(0, 1)).data, [0; 512]);
}
