//! Text requests in full feature phase (RFC 7143 6.2, 11.10, 11.11, Appendix C).

use holdfast_tests::wire::{FINAL, IMMEDIATE, Pdu, Wire};

use crate::{daemon, session};

fn request(wire: &Wire, flags: u8, tag: u32, transfer_tag: u32, text: &str) -> Pdu {
    Pdu::new(0x04 | IMMEDIATE, flags)
        .word(16, tag)
        .word(20, transfer_tag)
        .word(24, wire.cmd_sn)
        .word(28, wire.exp_stat_sn)
        .with_data(text.replace(' ', "\0").as_bytes())
}

pub(crate) fn ask(wire: &mut Wire, text: &str) -> String {
    wire.send(&request(wire, FINAL, 3, u32::MAX, text));
    let answer = wire.answer();
    assert_eq!((answer.bhs.0[0], answer.get(16)), (0x24, 3), "{answer:?}");
    assert_eq!(
        (answer.bhs.0[1], answer.get(20)),
        (FINAL, u32::MAX),
        "F and no transfer tag"
    );
    wire.exp_stat_sn = answer.get(24).wrapping_add(1);
    String::from_utf8_lossy(&answer.data).replace('\0', " ")
}

/// RFC 7143 13.3, Appendix C: a normal session hears of its own target only.
#[test]
fn send_targets_in_a_normal_session() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    let own = format!(
        "TargetName={} TargetAddress=127.0.0.1:{},1 ",
        daemon.iqn(),
        daemon.port()
    );
    assert_eq!(ask(&mut wire, "SendTargets= "), own);
    assert_eq!(ask(&mut wire, &format!("SendTargets={} ", daemon.iqn())), own);
    assert_eq!(ask(&mut wire, "SendTargets=iqn.2026-11.io.holdfast:other "), "");
}

/// RFC 7143 6.2: unknown keys are NotUnderstood; a key of login only is refused; an empty request has an empty answer.
#[test]
fn keys_after_login() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    assert_eq!(ask(&mut wire, ""), "");
    assert_eq!(
        ask(&mut wire, "X-org.example.none=1 "),
        "X-org.example.none=NotUnderstood "
    );
    let answer = ask(&mut wire, "MaxRecvDataSegmentLength=4096 ");
    assert!(!answer.contains("Reject"), "{answer}");
    wire.send(&request(&wire, FINAL, 4, u32::MAX, "HeaderDigest=CRC32C "));
    let answer = wire.answer();
    let text = String::from_utf8_lossy(&answer.data).into_owned();
    assert!(answer.bhs.0[0] == 0x3f || text.contains("Reject"), "{answer:?}");
    wire.exp_stat_sn = answer.get(24).wrapping_add(1);
    wire.assert_alive();
}

/// RFC 7143 11.10.2: text split by the C bit is answered when it is whole.
#[test]
fn split_text_counts_when_whole() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    wire.send(&request(&wire, 0x40, 8, u32::MAX, "SendTar"));
    let piece = wire.answer();
    assert_eq!(
        (piece.bhs.0[0], piece.bhs.0[1] & FINAL, piece.data.len()),
        (0x24, 0, 0)
    );
    wire.exp_stat_sn = piece.get(24).wrapping_add(1);
    wire.send(&request(&wire, FINAL, 8, piece.get(20), "gets= "));
    let whole = wire.answer();
    assert_eq!((whole.bhs.0[0], whole.bhs.0[1]), (0x24, FINAL));
    assert!(whole.data.starts_with(b"TargetName="));
}

/// RFC 7143 6.1: malformed text is rejected, and the session lives.
#[test]
fn malformed_text_is_rejected() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    for text in ["NoEquals ", "=x ", "SendTargets=All"] {
        wire.send(&request(&wire, FINAL, 9, u32::MAX, text));
        let reject = wire.answer();
        assert_eq!(reject.bhs.0[0], 0x3f, "{text:?}: {reject:?}");
        wire.exp_stat_sn = reject.get(24).wrapping_add(1);
    }
    wire.assert_alive();
}

/// RFC 7143 6.1: text that never ends is cut off, here at 64 KiB.
#[test]
fn endless_text_is_refused() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    let piece = format!("X-org.example.k={} ", "v".repeat(4000));
    for round in 0.. {
        assert!(round < 64, "the target collects without end");
        wire.send(&request(&wire, 0x40, 9, u32::MAX, &piece));
        let answer = wire.answer();
        wire.exp_stat_sn = answer.get(24).wrapping_add(1);
        if answer.bhs.0[0] == 0x3f {
            break;
        }
    }
    wire.assert_alive();
}
