use std::net::{TcpListener, TcpStream};

use super::*;
use crate::{
    arguments::{Access, Shape},
    load::worker::Work,
};

/// A session with a read in slot 0 and a write in slot 1, and the target's end of it.
fn session(shape: &Shape) -> (Session, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let access = Access {
        addr: listener.local_addr().unwrap().to_string(),
        ..Access::default()
    };
    let mut session = Session::connect(&access, 0, shape, 4096).unwrap();
    for slot in 0..2 {
        assert_eq!(session.free.pop(), Some(slot));
        let task = &mut session.slots[slot];
        (task.busy, task.read, task.length) = (true, slot == 0, 4096);
        session.in_flight += 1;
    }
    (session, listener.accept().unwrap().0)
}

fn shape() -> Shape {
    Shape {
        qd: 2,
        ..Shape::default()
    }
}

/// What becomes of these PDUs.
fn heard(session: &mut Session, shape: &Shape, bytes: &[u8]) -> Result<Tally, String> {
    session.received.room()[..bytes.len()].copy_from_slice(bytes);
    session.received.received(bytes.len());
    let order = Order {
        access: &Access::default(),
        shape,
        work: Work::Load,
    };
    let mut tally = Tally::default();
    let heard = session.take_answers(order, &mut Pattern::new(4096), 7, &mut tally);
    heard.map(|()| tally).map_err(|error| error.to_string())
}

fn r2t(itt: u32, offset: u32, length: u32) -> Header {
    Header::new(opcode::R2T, FINAL)
        .with(word::ITT, itt)
        .with(word::TTT, 5)
        .with(word::BUFFER_OFFSET, offset)
        .with(word::DESIRED_LENGTH, length)
}

#[test]
fn nonsense_is_refused_by_name() {
    let data_in = Header::new(opcode::DATA_IN, FINAL | 1).with(word::ITT, 2);
    let mut long = Header::new(opcode::SCSI_RESPONSE, FINAL);
    long.set_data_length(0x00ff_ffff);
    let mut reject = Header::new(opcode::REJECT, FINAL);
    reject.0[2] = 4;
    for (header, refusal) in [
        (data_in, "opcode 0x25 with unknown ITT 0x2"),
        (r2t(9, 0, 4096), "opcode 0x31 with unknown ITT 0x9"),
        (
            r2t(1, 4000, 97),
            "an R2T asks for 97 bytes at 4000 of a write of 4096",
        ),
        (
            r2t(1, u32::MAX, u32::MAX),
            "an R2T asks for 4294967295 bytes at 4294967295 of a write of 4096",
        ),
        (
            r2t(0, 0, 4096),
            "an R2T asks for 4096 bytes at 0 of a write of 4096",
        ),
        (long, "PDU of 16777215 bytes is larger than declared"),
        (reject, "Reject, reason 0x4"),
        (Header::new(0x3c, 0), "unexpected opcode 0x3c"),
    ] {
        let (mut session, _target) = session(&shape());
        assert_eq!(
            heard(&mut session, &shape(), &header.0).err().as_deref(),
            Some(refusal)
        );
    }
}

#[test]
fn digests_are_checked_unless_they_are_not_to_be() {
    let mut pdu = Header::new(opcode::DATA_IN, FINAL | 1);
    pdu.set_data_length(4);
    for (header_digest, data_digest, refusal) in
        [(1, 0, "header digest mismatch"), (0, 1, "data digest mismatch")]
    {
        let mut bytes = pdu.0.to_vec();
        bytes.extend((crc32c::crc32c(&pdu.0) ^ header_digest).to_le_bytes());
        bytes.extend(b"data");
        bytes.extend((crc32c::crc32c(b"data") ^ data_digest).to_le_bytes());
        for no_check_digest in [false, true] {
            let shape = Shape {
                no_check_digest,
                ..shape()
            };
            let (mut session, _target) = session(&shape);
            (session.terms.header_digest, session.terms.data_digest) = (true, true);
            let refused = heard(&mut session, &shape, &bytes).err();
            assert_eq!(refused.as_deref(), Some(refusal).filter(|_| !no_check_digest));
        }
    }
}

#[test]
fn a_short_read_a_bad_status_and_an_answer_to_nothing_are_errors() {
    let (mut session, _target) = session(&shape());
    let mut short = Header::new(opcode::DATA_IN, FINAL | 1);
    short.set_data_length(512);
    let mut bytes = short.0.to_vec();
    bytes.resize(48 + 512, 0);
    let mut busy = Header::new(opcode::SCSI_RESPONSE, FINAL).with(word::ITT, 1);
    busy.0[3] = 8;
    bytes.extend(busy.0);
    bytes.extend(busy.0);
    let tally = heard(&mut session, &shape(), &bytes).unwrap();
    assert_eq!((tally.reads, tally.writes, tally.errors), (1, 1, 3));
    assert_eq!((session.in_flight, session.free.len()), (0, 2));
}

#[test]
fn an_r2t_and_a_ping_are_answered_and_others_go_by() {
    let (mut session, _target) = session(&shape());
    let ping = |ttt| {
        Header::new(opcode::NOP_IN, FINAL)
            .with(word::ITT, NO_TAG)
            .with(word::TTT, ttt)
    };
    for (header, queued) in [
        (r2t(1, 0, 4096), 48 + 4096),
        (ping(3), 48),
        (ping(NO_TAG), 0),
        (Header::new(opcode::ASYNC, FINAL), 0),
    ] {
        let before = session.out.waiting();
        heard(&mut session, &shape(), &header.0).unwrap();
        assert_eq!(session.out.waiting() - before, queued);
    }
    assert_eq!(later(u32::MAX, 0), 0);
    assert_eq!(later(5, 4), 5);
}

#[test]
fn the_end_of_the_stream_is_an_error() {
    let (mut session, target) = session(&shape());
    drop(target);
    let order = Order {
        access: &Access::default(),
        shape: &shape(),
        work: Work::Load,
    };
    let ended = session.receive(order, &mut Tally::default(), RecvFlags::empty());
    assert!(matches!(ended, Err(SessionError::Closed)));
}
