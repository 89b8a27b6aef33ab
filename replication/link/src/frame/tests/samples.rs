//! One message of each kind, as docs/link.md shows them.

use bytes::{Bytes, BytesMut};
use scsi_model::control::{CopyMode, SystemId};

use crate::{
    Compression, Sealed,
    header::{HIGHEST_VERSION, Kind, LOWEST_VERSION},
    message::{Farewell, Hello, Message, Refusal, RefusalCause},
    packing::Packer,
    request::{Action, PairOrder, Request, VolumeName},
    response::{Description, FailureCode, PairReport, Response, Run},
};

/// One of each kind.
pub(super) fn samples() -> Vec<(Kind, Message)> {
    let pair = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;
    let (epoch, volume, offset) = (3, 2, 0x1_0000);
    let boot = 0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20;
    let hello = Hello {
        lowest: LOWEST_VERSION,
        highest: HIGHEST_VERSION,
        features: 0,
        requests: 256,
        bytes: 32 << 20,
        boot,
        system: SystemId::new("HF-A").unwrap(),
        software: "holdfast 0.1.0".to_owned(),
    };
    let ack = Hello {
        system: SystemId::new("HF-B").unwrap(),
        ..hello.clone()
    };
    let refusal = Refusal {
        cause: RefusalCause::Duplicate,
        lowest: 1,
        highest: 1,
    };
    let order = PairOrder {
        pair,
        epoch,
        action: Action::Establish,
        flags: 1,
        primary: 1,
        mirror: 2,
        mode: CopyMode::Sync,
        bytes: 1 << 30,
        track_size: 65536,
        from: 0,
    };
    let description = Description {
        number: 2,
        name: "bcv1".to_owned(),
        bytes: 1 << 30,
        block_size: 512,
        track_size: 65536,
        mirror_class: true,
        boot,
    };
    let report = PairReport {
        pair,
        epoch,
        state: 4,
        flags: PairReport::READY,
        runs: vec![Run { first: 0, tracks: 3 }, Run { first: 64, tracks: 1 }],
        next: Some(4096),
    };
    let requests = [
        Request::Describe(VolumeName::Name("bcv1".to_owned())),
        Request::Write {
            pair,
            epoch,
            volume,
            offset,
            ordered: true,
            data: Bytes::from_static(b"holdfast"),
        },
        Request::Zero {
            pair,
            epoch,
            volume,
            offset,
            length: 0x2_0000,
            unmap: true,
            ordered: false,
        },
        Request::Read {
            pair,
            epoch,
            volume,
            offset,
            length: 4096,
        },
        Request::Flush { pair, epoch, volume },
        Request::Extents {
            pair,
            epoch,
            volume,
            offset,
        },
        Request::Pair(order),
        Request::Forward(Bytes::from_static(b"split")),
        Request::Digest {
            pair,
            epoch,
            volume,
            offset,
            length: 0x2_0000,
            piece: 0x1_0000,
            ordered: true,
        },
    ];
    let responses = [
        Response::Described(description),
        Response::Data(Bytes::from_static(b"holdfast")),
        Response::Hole,
        Response::Extent {
            mapped: true,
            length: 0x2_0000,
        },
        Response::PairState(report),
        Response::Forwarded(Bytes::from_static(b"done")),
        Response::Done,
        Response::failed(FailureCode::WrongEpoch, "epoch 4"),
        Response::Digests(Bytes::from((0..64).collect::<Vec<u8>>())),
    ];
    let mut samples = vec![
        (Kind::Hello, Message::Hello(hello)),
        (Kind::HelloAck, Message::HelloAck(ack)),
        (Kind::Refuse, Message::Refuse(refusal)),
        (Kind::Ping, Message::Ping(1)),
        (Kind::Pong, Message::Pong(1)),
        (Kind::Bye, Message::Bye(Farewell::Stopping)),
    ];
    samples.extend(requests.map(|request| (request.kind(), Message::Request(7, request))));
    samples.extend(responses.map(|response| (response.kind(), Message::Response(7, response))));
    samples
}

/// Of data that is long enough, one by each compression.
pub(super) fn compressed_samples() -> [(String, BytesMut); 2] {
    let data = Bytes::from(b"holdfast".repeat(128));
    let mut samples = samples().into_iter();
    let sample = samples.find(|(kind, _)| *kind == Kind::Write);
    let Some((_, Message::Request(id, mut write))) = sample else {
        unreachable!("there is one of each kind");
    };
    if let Request::Write { data: short, .. } = &mut write {
        *short = data.clone();
    }
    let write = Sealed::request(&write).unwrap().frame(1, id);
    let answer = Sealed::response(&Response::Data(data)).unwrap().frame(1, id);
    [
        ("Write", Compression::Lz4, write),
        ("Data", Compression::Zstd, answer),
    ]
    .map(|(kind, by, frame)| {
        let packed = Packer::default().pack(by, frame);
        let bytes = [packed.head, packed.data].concat();
        (
            format!("{kind}, by {by}, of 128 times \"holdfast\""),
            BytesMut::from(&bytes[..]),
        )
    })
}
