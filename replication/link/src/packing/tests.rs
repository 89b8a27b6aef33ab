use super::*;
use crate::{
    frame::{Frame, Sealed},
    header::{Kind, MAX_DATA},
    message::Message,
    request::Request,
    response::Response,
};
use proptest::{collection::vec, prelude::*};

const BOTH: [Compression; 2] = Compression::ALL;

/// What a compressor cannot make shorter.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let word = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut noise: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(word).collect();
    noise.truncate(bytes);
    noise
}

fn write(data: impl Into<Bytes>) -> Request {
    Request::Write {
        pair: 0x0102_0304,
        epoch: 3,
        volume: 2,
        offset: 0x1_0000,
        ordered: true,
        data: data.into(),
    }
}

fn frame(request: &Request) -> Encoded {
    Sealed::request(request).unwrap().frame(1, 7)
}

fn take(encoded: &Encoded) -> Result<Frame, FrameError> {
    take_as(encoded, Compression::FEATURES)
}

fn take_as(encoded: &Encoded, features: u32) -> Result<Frame, FrameError> {
    let mut received = BytesMut::from(&[&encoded.head[..], &encoded.data].concat()[..]);
    let frame = Frame::take_packed(&mut received, &mut Unpacker::new(features))?.expect("a whole frame");
    assert!(received.is_empty());
    Ok(frame)
}

fn header(encoded: &Encoded) -> Header {
    Header::decode(&encoded.head).unwrap().unwrap()
}

/// A compressed Write of these bytes under a header that says what it likes.
fn forge(by: Compression, packed: &[u8], change: impl FnOnce(&mut Header)) -> Encoded {
    let plain = frame(&write(vec![b'x'; 4096]));
    let mut header = Header {
        flags: header(&plain).flags | by.flag(),
        length: 40 + packed.len(),
        unpacked: 40 + 4096,
        ..header(&plain)
    };
    change(&mut header);
    Encoded {
        head: [&header.encode()[..], &plain.head[HEADER_BYTES..]]
            .concat()
            .into(),
        data: Bytes::copy_from_slice(packed),
    }
}

fn packed(by: Compression, data: &[u8]) -> Bytes {
    Packer::default().compress(by, data).expect("it becomes shorter")
}

proptest! {
    /// Whatever it is, it is read as it was said; and what is repetitive enough went with fewer bytes.
    #[test]
    fn data_comes_back_as_it_was(
        pattern in vec(any::<u8>(), 1..300),
        length in 1..20_000_usize,
        random in any::<bool>(),
        by in prop::sample::select(&BOTH),
        is_write in any::<bool>(),
    ) {
        let data: Bytes = if random {
            noise(length).into()
        } else {
            pattern.iter().copied().cycle().take(length).collect()
        };
        let (message, plain) = if is_write {
            (Message::Request(7, write(data.clone())), frame(&write(data)))
        } else {
            let response = Response::Data(data);
            let plain = Sealed::response(&response).unwrap().frame(1, 7);
            (Message::Response(7, response), plain)
        };
        let sent = Packer::default().pack(by, plain.clone());
        let frame = take(&sent).unwrap();
        prop_assert_eq!(frame.spared, plain.len() - sent.len());
        prop_assert_eq!(&frame.message, &message);
        if random || length < LEAST_PACKED {
            prop_assert_eq!(frame.spared, 0);
        } else if length >= 3 * pattern.len() {
            prop_assert!(frame.spared > 0);
        }
        if frame.spared > 0 {
            prop_assert_eq!(header(&sent).payload_crc, header(&plain).payload_crc, "made at its source");
        } else {
            prop_assert_eq!(sent, plain);
        }
    }

    /// One flipped bit anywhere is refused: what it was before compression is what is checked.
    #[test]
    fn one_flipped_bit_in_compressed_data_is_refused(
        by in prop::sample::select(&BOTH),
        place in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let data: Vec<u8> = noise(200).repeat(10);
        let sent = Packer::default().pack(by, frame(&write(data.clone())));
        let mut bytes = sent.data.to_vec();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // A bit that means nothing to the format may be anything; the data is the same then.
        if let Ok(frame) = take(&Encoded { data: bytes.into(), ..sent }) {
            prop_assert_eq!(frame.message, Message::Request(7, write(data)));
        }
    }

    /// Garbage that says it is compressed.
    #[test]
    fn any_bytes_as_compressed_data_are_refused(
        garbage in vec(any::<u8>(), 1..300),
        by in prop::sample::select(&BOTH),
    ) {
        let forged = forge(by, &garbage, |_| {});
        prop_assert!(take(&forged).is_err());
    }
}

#[test]
fn the_longest_data_goes_both_ways() {
    for by in BOTH {
        let request = write(noise(1 << 10).repeat(1 << 10));
        let sent = Packer::default().pack(by, frame(&request));
        assert!(sent.len() < MAX_DATA / 50, "{by}: {} bytes", sent.len());
        assert_eq!(take(&sent).unwrap().message, Message::Request(7, request));
    }
}

#[test]
fn only_data_is_compressed_and_none_that_is_short() {
    for by in BOTH {
        let short = frame(&write(vec![0; LEAST_PACKED - 1]));
        assert_eq!(Packer::default().pack(by, short.clone()), short);
        let long = frame(&write(vec![0; LEAST_PACKED]));
        let sent = Packer::default().pack(by, long.clone());
        assert!(sent.len() < long.len());
        assert_eq!(Packer::default().pack(by, sent.clone()), sent, "once is enough");
        for other in [
            Response::Forwarded(vec![0; 4096].into()),
            Response::Digests(vec![0; 4096].into()),
        ] {
            let frame = Sealed::response(&other).unwrap().frame(1, 7);
            assert_eq!(Packer::default().pack(by, frame.clone()), frame);
        }
    }
}

#[test]
fn what_does_not_become_shorter_is_tried_ever_more_seldom_and_again_after_what_does() {
    for by in BOTH {
        let (noise, text) = (frame(&write(noise(4096))), frame(&write(vec![b'x'; 4096])));
        let mut packer = Packer::default();
        let mut tried = Vec::new();
        for index in 0..1000 {
            let pausing = packer.pause > 0;
            assert_eq!(packer.pack(by, noise.clone()), noise);
            if !pausing {
                tried.push(index);
            }
        }
        assert_eq!(tried[..8], [0, 1, 2, 3, 4, 6, 10, 18], "{by}");
        assert!(tried.len() < 30, "{by}: {}", tried.len());
        // Found out within as many as the longest pause; from then on each one counts.
        let sent = (0..100).map(|_| packer.pack(by, text.clone()).len() < text.len());
        let sent: Vec<bool> = sent.collect();
        let first = sent.iter().position(|shorter| *shorter).unwrap();
        assert!(
            first < 64 && sent[first..].iter().all(|shorter| *shorter),
            "{by}: {first}"
        );
    }
}

#[test]
fn a_side_that_did_not_say_it_reads_it_refuses_it_by_its_header() {
    for by in BOTH {
        let refused = FrameError::NotAgreed {
            kind: Kind::Write,
            by,
        };
        let sent = Packer::default().pack(by, frame(&write(vec![0; 4096])));
        for features in [0, Compression::FEATURES & !by.feature(), !Compression::FEATURES] {
            assert_eq!(take_as(&sent, features), Err(refused));
            // Before the payload has come.
            let mut head = BytesMut::from(&sent.head[..HEADER_BYTES]);
            assert_eq!(
                Frame::take_packed(&mut head, &mut Unpacker::new(features)),
                Err(refused)
            );
        }
        let mut handshake = BytesMut::from(&sent.head[..]);
        assert_eq!(Frame::take(&mut handshake), Err(refused));
    }
}

#[test]
fn lengths_that_lie_are_refused_before_anything_is_decompressed() {
    for by in BOTH {
        let data = packed(by, &[b'x'; 4096]);
        assert!(
            take(&forge(by, &data, |_| {})).is_ok(),
            "the forgery is good without a lie"
        );
        let lie = |unpacked: usize| take(&forge(by, &data, |header| header.unpacked = unpacked));
        for unpacked in [0, 40, 40 + MAX_DATA + 1, u32::MAX as usize] {
            let refused = FrameError::Length {
                kind: Kind::Write,
                length: unpacked,
                least: 41,
                most: 40 + MAX_DATA,
            };
            assert_eq!(lie(unpacked), Err(refused));
        }
        let length = 40 + data.len();
        let refused = FrameError::Packed {
            kind: Kind::Write,
            length,
            unpacked: length,
        };
        assert_eq!(lie(length), Err(refused));
        let empty = forge(by, &[], |_| {});
        assert!(matches!(take(&empty), Err(FrameError::Packed { length: 40, .. })));
        // Not the length that it comes to, by one byte.
        for unpacked in [40 + 4095, 40 + 4097] {
            assert!(
                matches!(lie(unpacked), Err(FrameError::Unpack { .. })),
                "{by} {unpacked}"
            );
        }
    }
    let both = forge(Compression::Lz4, &[0; 100], |header| header.flags |= LZ4 | ZSTD);
    assert!(matches!(take(&both), Err(FrameError::Flags { .. })));
    let other = forge(Compression::Lz4, &[0; 100], |header| header.kind = Kind::Flush);
    assert!(matches!(take(&other), Err(FrameError::Flags { .. })));
}

/// 8 MiB in a few bytes: no more memory is filled than the header may say.
#[test]
fn a_bomb_is_refused() {
    let huge = vec![0; 8 << 20];
    for (by, bomb) in [
        (Compression::Lz4, lz4_flex::block::compress(&huge)),
        (Compression::Zstd, zstd::bulk::compress(&huge, LEVEL).unwrap()),
    ] {
        assert!(bomb.len() < MAX_DATA);
        let forged = forge(by, &bomb, |header| header.unpacked = 40 + MAX_DATA);
        let refused = FrameError::Unpack {
            kind: Kind::Write,
            by,
            unpacked: 40 + MAX_DATA,
            id: 7,
        };
        assert_eq!(take(&forged), Err(refused));
    }
}

#[test]
fn other_data_well_compressed_is_refused_by_the_checksum_of_what_was_made() {
    for by in BOTH {
        let forged = forge(by, &packed(by, &[b'y'; 4096]), |_| {});
        let refused = FrameError::PayloadCrc {
            kind: Kind::Write,
            id: 7,
        };
        assert_eq!(take(&forged), Err(refused));
    }
}
