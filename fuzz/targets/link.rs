#![no_main]
//! Any bytes as what a connection of the link receives: read or refused, never a panic; what is read is written again as
//! the same bytes; a session takes it or ends.
//!
//! Checksums would stop the fuzzer at the door, so the target puts right ones where docs/link.md says they are. The length before
//! compression is the fuzzer's where the frame says that it is compressed; the checksum of what the data becomes cannot be known here, so
//! what is compressed well comes as a frame that this program made of the fuzzer's bytes, and is spoilt where the fuzzer says.
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use link_proto::{
    Compression, Encoded, Frame, Hello, Message, Packer, Request, Sealed, Session, SessionConfig, SystemId, Unpacker,
};
use std::time::Duration;

/// Frames of 32 bytes and what the fuzzer's length says.
fn seal(mut stream: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while stream.len() >= at + 32 {
        let room = stream.len() - at - 32;
        let length = usize::from(u16::from_le_bytes([stream[at + 8], stream[at + 9]])).min(room);
        stream[at..at + 4].copy_from_slice(b"HFLK");
        stream[at + 8..at + 12].copy_from_slice(&(length as u32).to_le_bytes());
        // A Write or a Data that says it is compressed.
        if stream[at + 7] & 12 == 0 || !matches!(stream[at + 6], 17 | 33) {
            stream[at + 12..at + 16].fill(0);
        }
        let sum = crc32c::crc32c(&stream[at + 32..at + 32 + length]);
        stream[at + 24..at + 28].copy_from_slice(&sum.to_le_bytes());
        let sum = crc32c::crc32c(&stream[at..at + 28]);
        stream[at + 28..at + 32].copy_from_slice(&sum.to_le_bytes());
        at += 32 + length;
    }
    stream
}

fn config(system: &str) -> (SessionConfig, SystemId) {
    let system = SystemId::new(system).expect("it is one");
    let config = SessionConfig {
        hello: Hello {
            lowest: 1,
            highest: 1,
            features: Compression::FEATURES,
            requests: 4,
            bytes: 4 << 20,
            boot: 1,
            system: system.clone(),
            software: String::new(),
        },
        queue_requests: 4,
        queue_bytes: 4 << 20,
        handshake: Duration::from_secs(5),
        interval: Duration::from_secs(2),
        silence: Duration::from_secs(8),
    };
    (config, system)
}

/// A connection on which the other side may say what it likes.
fn open() -> Session<u32> {
    let ((a, name_a), (b, name_b)) = (config("HF-A"), config("HF-B"));
    let mut caller = Session::<u32>::call(a, name_b, Duration::ZERO);
    let mut called = Session::called(b, name_a, Duration::ZERO);
    let hello = caller.next_output().expect("a caller says Hello");
    let hello = Frame::take(&mut BytesMut::from(&hello.head[..])).expect("good").expect("whole");
    called.receive(hello, Duration::ZERO).expect("believed");
    called.admit(Duration::ZERO);
    called
}

fn read(bytes: &[u8]) {
    let mut received = BytesMut::from(bytes);
    let mut session = open();
    let mut unpacker = Unpacker::new(Compression::FEATURES);
    loop {
        let before = received.clone();
        let Ok(Ok(frame)) = Frame::take_packed(&mut received, &mut unpacker) else { break };
        let same = match &frame.message {
            // Other bytes may say the same.
            _ if frame.spared > 0 => None,
            Message::Request(id, request) => Some(Sealed::request(request).expect("read").frame(frame.version, *id)),
            Message::Response(id, response) => Some(Sealed::response(response).expect("read").frame(frame.version, *id)),
            _ => None,
        };
        if let Some(same) = same {
            assert_eq!([same.head, same.data].concat(), before[..before.len() - received.len()]);
        }
        if session.receive(frame, Duration::ZERO).is_err() {
            break;
        }
    }
}

/// The first byte says how, the next two where something is spoilt, and by what.
fn read_packed(data: &[u8]) {
    let [how, at, by, data @ ..] = data else { return };
    // Long enough to be compressed, and mostly repetitive.
    let data: Bytes = data.iter().copied().cycle().take(1024.max(data.len()) * usize::from(!data.is_empty())).collect();
    if data.is_empty() {
        return;
    }
    let request = Request::Write { pair: 1, epoch: 2, volume: 3, offset: 4, ordered: how & 2 != 0, data };
    let plain = Sealed::request(&request).expect("it is one").frame(1, 7);
    let packed = Packer::default().pack(Compression::ALL[usize::from(how & 1)], plain);
    let Encoded { head, data } = &packed;
    let mut bytes = BytesMut::from(&[&head[..], data].concat()[..]);
    let place = head.len() + usize::from(*at) % data.len();
    bytes[place] ^= by;
    let taken = Frame::take_packed(&mut bytes, &mut Unpacker::new(Compression::FEATURES));
    match taken {
        Ok(Ok(frame)) => assert_eq!(frame.message, Message::Request(7, request)),
        Ok(Err(_)) => panic!("it is whole"),
        Err(_) => assert_ne!(*by, 0, "it was good"),
    }
}

fuzz_target!(|data: &[u8]| {
    read(data);
    read(&seal(data.to_vec()));
    read_packed(data);
});
