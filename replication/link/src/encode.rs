//! Payloads written: docs/link.md, "Payloads".

use crate::{
    fields::Put,
    frame::Plain,
    header::{Kind, ORDERED, UNMAP},
    message::{Hello, SOFTWARE_BYTES},
    request::{Request, VolumeName},
    response::Response,
};
use bytes::Bytes;
use scsi_model::control::CopyMode;

/// The kind and payload of what is neither request nor answer.
pub(crate) fn plain(message: &Plain<'_>) -> (Kind, Put) {
    let mut put = Put::default();
    let kind = match message {
        Plain::Hello(told) => {
            hello(&mut put, told);
            Kind::Hello
        }
        Plain::HelloAck(told) => {
            hello(&mut put, told);
            Kind::HelloAck
        }
        Plain::Refuse(refusal) => {
            put.u16(refusal.cause as u16)
                .u16(refusal.lowest)
                .u16(refusal.highest)
                .zeros(2);
            Kind::Refuse
        }
        Plain::Ping(number) => {
            put.u64(*number);
            Kind::Ping
        }
        Plain::Pong(number) => {
            put.u64(*number);
            Kind::Pong
        }
        Plain::Bye(farewell) => {
            put.u16(*farewell as u16).zeros(6);
            Kind::Bye
        }
    };
    (kind, put)
}

fn hello(put: &mut Put, hello: &Hello) {
    // What people read only may lose what does not fit.
    let software: String = hello
        .software
        .chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(SOFTWARE_BYTES)
        .collect();
    put.u16(hello.lowest)
        .u16(hello.highest)
        .u32(hello.features)
        .u32(hello.requests)
        .zeros(4)
        .u64(hello.bytes)
        .u128(hello.boot)
        .bytes(&hello.system.to_wire())
        .padded(&software, SOFTWARE_BYTES);
}

/// The flags, fixed fields and data of a request.
pub(crate) fn request(request: &Request) -> (u8, Put, Bytes) {
    let mut put = Put::default();
    let mut flags = 0;
    let mut data = Bytes::new();
    match request {
        Request::Describe(VolumeName::Number(number)) => {
            put.u8(0).zeros(3).u32(*number);
        }
        Request::Describe(VolumeName::Name(name)) => {
            put.u8(1).zeros(7).bytes(name.as_bytes());
        }
        Request::Write {
            pair,
            epoch,
            volume,
            offset,
            ordered,
            data: written,
        } => {
            place(&mut put, *pair, *epoch, *volume).u64(*offset);
            flags = ordered_flag(*ordered);
            data = written.clone();
        }
        Request::Zero {
            pair,
            epoch,
            volume,
            offset,
            length,
            unmap,
            ordered,
        } => {
            place(&mut put, *pair, *epoch, *volume).u64(*offset).u64(*length);
            flags = ordered_flag(*ordered) | if *unmap { UNMAP } else { 0 };
        }
        Request::Read {
            pair,
            epoch,
            volume,
            offset,
            length,
        } => {
            place(&mut put, *pair, *epoch, *volume)
                .u64(*offset)
                .u32(*length)
                .zeros(4);
        }
        Request::Flush { pair, epoch, volume } => {
            place(&mut put, *pair, *epoch, *volume);
        }
        Request::Extents {
            pair,
            epoch,
            volume,
            offset,
        } => {
            place(&mut put, *pair, *epoch, *volume).u64(*offset);
        }
        Request::Pair(order) => {
            let mode = match order.mode {
                CopyMode::Async => 0,
                CopyMode::Sync => 1,
            };
            put.u128(order.pair)
                .u64(order.epoch)
                .u8(order.action as u8)
                .u8(mode)
                .u16(order.flags)
                .u32(order.primary)
                .u32(order.mirror)
                .u32(order.track_size)
                .u64(order.bytes)
                .u64(order.from);
        }
        Request::Forward(command) => data = command.clone(),
        Request::Digest {
            pair,
            epoch,
            volume,
            offset,
            length,
            piece,
            ordered,
        } => {
            place(&mut put, *pair, *epoch, *volume)
                .u64(*offset)
                .u32(*length)
                .u32(*piece);
            flags = ordered_flag(*ordered);
        }
    }
    (flags, put, data)
}

/// What every request about data begins with.
fn place(put: &mut Put, pair: u128, epoch: u64, volume: u32) -> &mut Put {
    put.u128(pair).u64(epoch).u32(volume).zeros(4)
}

fn ordered_flag(ordered: bool) -> u8 {
    if ordered { ORDERED } else { 0 }
}

/// The fixed fields and data of an answer.
pub(crate) fn response(response: &Response) -> (Put, Bytes) {
    let mut put = match response {
        Response::Done => Put::of(0),
        _ => Put::default(),
    };
    let mut data = Bytes::new();
    match response {
        Response::Done | Response::Hole => {}
        Response::Failed { code, message } => {
            put.u16(*code as u16).zeros(2).bytes(message.as_bytes());
        }
        Response::Described(volume) => {
            put.u32(volume.number)
                .u32(volume.block_size)
                .u64(volume.bytes)
                .u32(volume.track_size)
                .u8(u8::from(volume.mirror_class))
                .zeros(3)
                .u128(volume.boot)
                .bytes(volume.name.as_bytes());
        }
        Response::Data(read) | Response::Forwarded(read) | Response::Digests(read) => data = read.clone(),
        Response::Extent { mapped, length } => {
            put.u8(u8::from(*mapped)).zeros(7).u64(*length);
        }
        Response::PairState(report) => {
            put.u128(report.pair)
                .u64(report.epoch)
                .u8(report.state)
                .zeros(1)
                .u16(report.flags)
                .u32(report.runs.len() as u32)
                .u64(report.next.unwrap_or(u64::MAX));
            for run in &report.runs {
                put.u64(run.first).u64(run.tracks);
            }
        }
    }
    (put, data)
}
