mod arbitrary;
mod samples;

use super::*;
use crate::{
    header::{MAX_DATA, ORDERED},
    request::VolumeName,
    response::{MAX_RUNS, PairReport, Run},
};
use arbitrary::message;
pub(crate) use arbitrary::request;
use proptest::prelude::*;
use samples::{compressed_samples, samples};
use std::fmt::Write as _;

/// The bytes of any message.
pub(crate) fn encode(message: &Message) -> BytesMut {
    let encoded = match message {
        Message::Hello(hello) => plain(0, &Plain::Hello(hello)),
        Message::HelloAck(hello) => plain(0, &Plain::HelloAck(hello)),
        Message::Refuse(refusal) => plain(0, &Plain::Refuse(*refusal)),
        Message::Ping(number) => plain(1, &Plain::Ping(*number)),
        Message::Pong(number) => plain(1, &Plain::Pong(*number)),
        Message::Bye(farewell) => plain(1, &Plain::Bye(*farewell)),
        Message::Request(id, request) => Sealed::request(request).unwrap().frame(1, *id),
        Message::Response(id, response) => Sealed::response(response).unwrap().frame(1, *id),
    };
    BytesMut::from(&[encoded.head, encoded.data].concat()[..])
}

fn decode(mut bytes: BytesMut) -> Result<Message, FrameError> {
    let frame = Frame::take(&mut bytes)?.expect("a whole frame");
    assert!(bytes.is_empty());
    Ok(frame.message)
}

proptest! {
    #[test]
    fn every_message_is_read_back(message in message()) {
        prop_assert_eq!(decode(encode(&message)).unwrap(), message);
    }

    /// Checksums are there to be believed: one flipped bit anywhere is refused, and never read as something else.
    #[test]
    fn one_flipped_bit_anywhere_is_refused(message in message(), place in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = encode(&message);
        let at = place.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        prop_assert!(Frame::take(&mut bytes).is_err());
    }

    #[test]
    fn a_frame_cut_short_asks_for_what_is_missing(message in message(), place in any::<prop::sample::Index>()) {
        let whole = encode(&message);
        let at = place.index(whole.len());
        let mut part = BytesMut::from(&whole[..at]);
        let needed = Frame::take(&mut part).unwrap().unwrap_err();
        prop_assert!(needed >= 1 && at + needed <= whole.len());
        prop_assert_eq!(part.len(), at, "nothing was taken");
    }
}

/// The same fixed fields with a value changed, under right checksums.
fn forge(message: &Message, at: usize, value: &[u8]) -> Result<Message, FrameError> {
    let whole = encode(message);
    let header = Header::decode(&whole).unwrap().unwrap();
    let mut payload = whole[HEADER_BYTES..].to_vec();
    payload[at..at + value.len()].copy_from_slice(value);
    reseal(header, &payload)
}

fn reseal(header: Header, payload: &[u8]) -> Result<Message, FrameError> {
    let header = Header {
        length: payload.len(),
        payload_crc: crc_fast::crc32_iscsi(payload),
        ..header
    };
    decode(BytesMut::from(&[&header.encode()[..], payload].concat()[..]))
}

fn a_write() -> Message {
    Message::Request(
        7,
        Request::Write {
            pair: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
            epoch: 3,
            volume: 2,
            offset: 0x1_0000,
            ordered: true,
            data: Bytes::from_static(b"holdfast"),
        },
    )
}

#[test]
fn values_that_are_not_accepted_are_refused_by_name() {
    let samples = samples();
    let find = |kind: Kind| &samples.iter().find(|(named, _)| *named == kind).unwrap().1;
    let field = |kind, field| FrameError::Field { kind, field };
    let cases: [(Kind, usize, &[u8], FrameError); 23] = [
        (Kind::Hello, 0, &[0, 0], field(Kind::Hello, "versions")),
        (Kind::Hello, 0, &[9, 0], field(Kind::Hello, "versions")),
        (Kind::Hello, 8, &[0; 4], field(Kind::Hello, "window")),
        (Kind::Hello, 16, &[0; 8], field(Kind::Hello, "window")),
        (
            Kind::Hello,
            13,
            &[1],
            FrameError::Reserved {
                kind: Kind::Hello,
                at: 13,
            },
        ),
        (Kind::Hello, 40, b"A B", field(Kind::Hello, "system")),
        (Kind::Hello, 40, &[b' '; 16], field(Kind::Hello, "system")),
        (Kind::Hello, 56, &[0xFF], field(Kind::Hello, "software")),
        (Kind::Refuse, 0, &[99], field(Kind::Refuse, "cause")),
        (Kind::Bye, 0, &[99], field(Kind::Bye, "reason")),
        (Kind::Describe, 0, &[2], field(Kind::Describe, "selector")),
        (
            Kind::Write,
            28,
            &[1],
            FrameError::Reserved {
                kind: Kind::Write,
                at: 28,
            },
        ),
        (
            Kind::Write,
            32,
            &[0xFF; 8],
            FrameError::Range {
                kind: Kind::Write,
                offset: u64::MAX,
                length: 8,
            },
        ),
        (
            Kind::Zero,
            40,
            &[0; 8],
            FrameError::Range {
                kind: Kind::Zero,
                offset: 0x1_0000,
                length: 0,
            },
        ),
        (Kind::Read, 40, &[1, 0, 16, 0], field(Kind::Read, "length")),
        (Kind::Digest, 40, &[0, 0, 65, 0], field(Kind::Digest, "length")),
        (Kind::Digest, 44, &[0; 4], field(Kind::Digest, "piece")),
        (Kind::Digest, 44, &[1, 0, 0, 0], field(Kind::Digest, "piece")),
        (Kind::Pair, 24, &[9], field(Kind::Pair, "action")),
        (Kind::Pair, 25, &[2], field(Kind::Pair, "mode")),
        (Kind::Failed, 0, &[0], field(Kind::Failed, "code")),
        (Kind::PairState, 32, &[1, 0], field(Kind::PairState, "next")),
        (
            Kind::PairState,
            28,
            &[9],
            FrameError::Truncated {
                kind: Kind::PairState,
                at: 72,
            },
        ),
    ];
    for (kind, at, value, error) in cases {
        assert_eq!(forge(find(kind), at, value), Err(error), "{kind:?} byte {at}");
    }
    let fewer_runs = forge(find(Kind::PairState), 28, &[1]);
    assert_eq!(
        fewer_runs,
        Err(FrameError::Surplus {
            kind: Kind::PairState,
            at: 56
        })
    );
    let overlapping = forge(find(Kind::PairState), 56, &[1]);
    assert_eq!(overlapping, Err(field(Kind::PairState, "runs")));
}

#[test]
fn headers_that_are_not_accepted_are_refused_by_name() {
    let whole = encode(&a_write());
    let header = Header::decode(&whole).unwrap().unwrap();
    let refused = |header: Header| Header::decode(&header.encode()).unwrap_err();
    assert_eq!(
        refused(Header { flags: 16, ..header }),
        FrameError::Flags {
            kind: Kind::Write,
            flags: 16
        }
    );
    assert_eq!(
        refused(Header {
            kind: Kind::Read,
            flags: ORDERED,
            ..header
        }),
        FrameError::Flags {
            kind: Kind::Read,
            flags: 1
        }
    );
    assert_eq!(
        refused(Header { id: 0, ..header }),
        FrameError::Id {
            kind: Kind::Write,
            id: 0
        }
    );
    assert_eq!(
        refused(Header {
            kind: Kind::Ping,
            flags: 0,
            length: 8,
            ..header
        }),
        FrameError::Id {
            kind: Kind::Ping,
            id: 7
        }
    );
    for length in [40, 40 + MAX_DATA + 1, u32::MAX as usize] {
        assert_eq!(
            refused(Header { length, ..header }),
            FrameError::Length {
                kind: Kind::Write,
                length,
                least: 41,
                most: 40 + MAX_DATA
            }
        );
    }
    let mut bytes = header.encode();
    bytes[6] = 200;
    let crc = crc_fast::crc32_iscsi(&bytes[..28]).to_le_bytes();
    bytes[28..].copy_from_slice(&crc);
    assert_eq!(Header::decode(&bytes), Err(FrameError::Kind(200)));
    let mut bytes = header.encode();
    bytes[12] = 1;
    let crc = crc_fast::crc32_iscsi(&bytes[..28]).to_le_bytes();
    bytes[28..].copy_from_slice(&crc);
    assert_eq!(
        Header::decode(&bytes),
        Err(FrameError::Reserved {
            kind: Kind::Write,
            at: 12
        })
    );
    assert_eq!(Header::decode(b"HF"), Ok(None));
    assert_eq!(Header::decode(b"GE"), Err(FrameError::Magic));
}

#[test]
fn a_payload_changed_under_way_is_refused_before_anyone_sees_it() {
    let mut bytes = encode(&a_write());
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(
        Frame::take(&mut bytes),
        Err(FrameError::PayloadCrc {
            kind: Kind::Write,
            id: 7
        })
    );
}

#[test]
fn what_the_other_side_would_refuse_is_not_sealed() {
    let write = |length: usize| {
        Sealed::request(&Request::Write {
            pair: 1,
            epoch: 1,
            volume: 1,
            offset: 0,
            ordered: false,
            data: vec![0; length].into(),
        })
    };
    assert!(write(MAX_DATA).is_ok());
    assert!(matches!(write(MAX_DATA + 1), Err(FrameError::Length { .. })));
    assert!(matches!(write(0), Err(FrameError::Range { .. })));
    let forward = Request::Forward(vec![0; (64 << 10) + 1].into());
    assert!(matches!(
        Sealed::request(&forward),
        Err(FrameError::Length { .. })
    ));
    for name in [String::new(), "x".repeat(65)] {
        let describe = Request::Describe(VolumeName::Name(name));
        assert!(matches!(
            Sealed::request(&describe),
            Err(FrameError::Field { .. })
        ));
    }
    let runs = (0..=MAX_RUNS as u64).map(|n| Run {
        first: 2 * n,
        tracks: 1,
    });
    let report = PairReport {
        pair: 1,
        epoch: 1,
        state: 0,
        flags: 0,
        runs: runs.collect(),
        next: None,
    };
    assert!(Sealed::response(&Response::PairState(report)).is_err());
}

#[test]
fn a_failure_s_message_is_cut_at_a_character() {
    let Response::Failed { message, .. } = Response::failed(FailureCode::Internal, "ä".repeat(400)) else {
        unreachable!("it is a failure");
    };
    assert_eq!(message.len(), 512);
    let Response::Failed { message, .. } =
        Response::failed(FailureCode::Internal, format!("x{}", "ä".repeat(400)))
    else {
        unreachable!("it is a failure");
    };
    assert_eq!(message.len(), 511);
}

/// docs/link.md ends with the bytes of one frame of each kind.
#[test]
fn the_page_shows_the_bytes_that_the_code_writes() {
    const TITLE: &str = "## One frame of each kind\n\n";
    let mut expected = String::new();
    let plain = samples().into_iter();
    let plain = plain.map(|(kind, message)| (format!("{kind:?}"), encode(&message)));
    for (title, bytes) in plain.chain(compressed_samples()) {
        let _ = writeln!(expected, "    {title}");
        for (line, bytes) in bytes.chunks(32).enumerate() {
            let _ = write!(expected, "    {:04x} ", line * 32);
            for word in bytes.chunks(4) {
                expected.push(' ');
                for byte in word {
                    let _ = write!(expected, "{byte:02x}");
                }
            }
            expected.push('\n');
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/link.md");
    let page = std::fs::read_to_string(path).unwrap();
    let prose = page.find(TITLE).unwrap() + TITLE.len();
    if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{}{expected}", &page[..prose])).unwrap();
    } else {
        assert!(
            page[prose..] == expected,
            "docs/link.md shows other bytes than the code writes:\n{expected}"
        );
    }
}
