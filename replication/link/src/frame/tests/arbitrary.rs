//! Any message there can be.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use scsi_model::control::{CopyMode, SystemId};

use crate::{
    header::MAX_DATA,
    message::{Farewell, Hello, LEAST_WINDOW, Message, Refusal, RefusalCause},
    request::{Action, PairOrder, Request, VolumeName},
    response::{Description, FailureCode, PairReport, Response, Run},
};

fn system() -> impl Strategy<Value = SystemId> {
    "[A-Za-z0-9._-]{1,16}".prop_map(|text| SystemId::new(text).unwrap())
}

fn hello() -> impl Strategy<Value = Hello> {
    let versions = (1u16..9, 0u16..9);
    let window = (1..=u32::MAX, LEAST_WINDOW..=u64::MAX);
    (
        versions,
        any::<u32>(),
        window,
        any::<u128>(),
        system(),
        "[!-~]{0,32}",
    )
        .prop_map(
            |((lowest, more), features, (requests, bytes), boot, system, software)| Hello {
                lowest,
                highest: lowest + more,
                features,
                requests,
                bytes,
                boot,
                system,
                software,
            },
        )
}

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 1..most).prop_map(Bytes::from)
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    let place = || (any::<u128>(), any::<u64>(), any::<u32>(), 0..1u64 << 62);
    let name = prop_oneof![
        any::<u32>().prop_map(VolumeName::Number),
        "[a-zäß]{1,32}".prop_map(VolumeName::Name)
    ];
    let action = (0..Action::ALL.len()).prop_map(|index| Action::ALL[index]);
    let numbers = (
        any::<u32>(),
        any::<u32>(),
        any::<u32>(),
        any::<u64>(),
        any::<u64>(),
    );
    let order = (
        any::<u128>(),
        any::<u64>(),
        action,
        any::<u16>(),
        any::<bool>(),
        numbers,
    );
    prop_oneof![
        name.prop_map(Request::Describe),
        (place(), any::<bool>(), bytes(300)).prop_map(|((pair, epoch, volume, offset), ordered, data)| {
            Request::Write {
                pair,
                epoch,
                volume,
                offset,
                ordered,
                data,
            }
        }),
        (place(), 1..1u64 << 62, any::<bool>(), any::<bool>()).prop_map(
            |((pair, epoch, volume, offset), length, unmap, ordered)| Request::Zero {
                pair,
                epoch,
                volume,
                offset,
                length,
                unmap,
                ordered,
            }
        ),
        (place(), 1..=MAX_DATA as u32).prop_map(|((pair, epoch, volume, offset), length)| Request::Read {
            pair,
            epoch,
            volume,
            offset,
            length,
        }),
        place().prop_map(|(pair, epoch, volume, _)| Request::Flush { pair, epoch, volume }),
        place().prop_map(|(pair, epoch, volume, offset)| Request::Extents {
            pair,
            epoch,
            volume,
            offset,
        }),
        order.prop_map(
            |(pair, epoch, action, flags, sync, (primary, mirror, track_size, bytes, from))| {
                Request::Pair(PairOrder {
                    pair,
                    epoch,
                    action,
                    flags,
                    primary,
                    mirror,
                    mode: if sync { CopyMode::Sync } else { CopyMode::Async },
                    bytes,
                    track_size,
                    from,
                })
            }
        ),
        bytes(200).prop_map(Request::Forward),
        (
            any::<(u128, u64, u32, bool)>(),
            0..u64::MAX >> 1,
            1..=1024_u32,
            512..=4096_u32
        )
            .prop_map(
                |((pair, epoch, volume, ordered), offset, tenths, piece)| Request::Digest {
                    pair,
                    epoch,
                    volume,
                    offset,
                    length: tenths * 1024,
                    piece,
                    ordered,
                }
            ),
    ]
}

fn report() -> impl Strategy<Value = PairReport> {
    let runs = vec((0..100u64, 1..100u64), 0..20).prop_map(|gaps| {
        let mut free = 0;
        let run = |(gap, tracks)| {
            let first = free + gap;
            free = first + tracks;
            Run { first, tracks }
        };
        gaps.into_iter().map(run).collect::<Vec<_>>()
    });
    let next = option::of(4000..u64::MAX);
    (any::<u128>(), any::<u64>(), any::<u8>(), any::<u16>(), runs, next).prop_map(
        |(pair, epoch, state, flags, runs, next)| PairReport {
            pair,
            epoch,
            state,
            flags,
            runs,
            next,
        },
    )
}

fn response() -> impl Strategy<Value = Response> {
    let code = (0..FailureCode::ALL.len()).prop_map(|index| FailureCode::ALL[index]);
    let described = (
        any::<[u32; 3]>(),
        any::<u64>(),
        any::<bool>(),
        any::<u128>(),
        "[a-z]{1,64}",
    )
        .prop_map(
            |([number, block_size, track_size], bytes, mirror_class, boot, name)| Description {
                number,
                name,
                bytes,
                block_size,
                track_size,
                mirror_class,
                boot,
            },
        );
    prop_oneof![
        Just(Response::Done),
        Just(Response::Hole),
        (code, "\\PC{0,100}").prop_map(|(code, message)| Response::failed(code, message)),
        described.prop_map(Response::Described),
        bytes(300).prop_map(Response::Data),
        (any::<bool>(), any::<u64>()).prop_map(|(mapped, length)| Response::Extent { mapped, length }),
        report().prop_map(Response::PairState),
        bytes(300).prop_map(Response::Forwarded),
        bytes(9).prop_map(|bytes| Response::Digests(bytes.repeat(32).into())),
    ]
}

pub(super) fn message() -> impl Strategy<Value = Message> {
    let cause = (0..RefusalCause::ALL.len()).prop_map(|index| RefusalCause::ALL[index]);
    prop_oneof![
        hello().prop_map(Message::Hello),
        hello().prop_map(Message::HelloAck),
        (cause, any::<u16>(), any::<u16>()).prop_map(|(cause, lowest, highest)| Message::Refuse(Refusal {
            cause,
            lowest,
            highest,
        })),
        any::<u64>().prop_map(Message::Ping),
        any::<u64>().prop_map(Message::Pong),
        (0..Farewell::ALL.len()).prop_map(|index| Message::Bye(Farewell::ALL[index])),
        (1u64.., request()).prop_map(|(id, request)| Message::Request(id, request)),
        (1u64.., response()).prop_map(|(id, response)| Message::Response(id, response)),
    ]
}
