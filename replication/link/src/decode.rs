//! Payloads read: docs/link.md, "Payloads".

use crate::{
    fields::Take,
    frame::FrameError,
    header::{Header, Kind, ORDERED, UNMAP},
    message::{Farewell, Hello, LEAST_WINDOW, Message, Refusal, RefusalCause, SOFTWARE_BYTES},
    request::{Action, PairOrder, Request, VolumeName},
    response::{Description, FailureCode, PairReport, Response, Run},
};
use bytes::Bytes;
use scsi_model::control::{CopyMode, SystemId};

/// The message of a frame whose checksums are good.
pub(crate) fn message(header: &Header, payload: Bytes) -> Result<Message, FrameError> {
    let kind = header.kind;
    let take = &mut Take::new(kind, payload);
    let message = match kind {
        Kind::Hello => Message::Hello(hello(take)?),
        Kind::HelloAck => Message::HelloAck(hello(take)?),
        Kind::Refuse => Message::Refuse(refusal(take)?),
        Kind::Ping => Message::Ping(take.u64()?),
        Kind::Pong => Message::Pong(take.u64()?),
        Kind::Bye => Message::Bye(farewell(take)?),
        _ if kind.is_request() => {
            let request = request(kind, header.flags, take)?;
            request.check()?;
            Message::Request(header.id, request)
        }
        _ => {
            let response = response(kind, take)?;
            response.check()?;
            Message::Response(header.id, response)
        }
    };
    take.end()?;
    Ok(message)
}

fn hello(take: &mut Take) -> Result<Hello, FrameError> {
    let (lowest, highest, features) = (take.u16()?, take.u16()?, take.u32()?);
    if lowest == 0 || highest < lowest {
        return Err(take.bad("versions"));
    }
    let requests = take.u32()?;
    take.zeros(4)?;
    let bytes = take.u64()?;
    if requests == 0 || bytes < LEAST_WINDOW {
        return Err(take.bad("window"));
    }
    Ok(Hello {
        lowest,
        highest,
        features,
        requests,
        bytes,
        boot: take.u128()?,
        system: {
            let text = take.padded::<16>("system")?;
            SystemId::new(text).map_err(|_| take.bad("system"))?
        },
        software: take.padded::<SOFTWARE_BYTES>("software")?,
    })
}

fn refusal(take: &mut Take) -> Result<Refusal, FrameError> {
    let code = take.u16()?;
    let cause = RefusalCause::ALL.into_iter().find(|cause| *cause as u16 == code);
    let refusal = Refusal {
        cause: cause.ok_or_else(|| take.bad("cause"))?,
        lowest: take.u16()?,
        highest: take.u16()?,
    };
    take.zeros(2)?;
    Ok(refusal)
}

fn farewell(take: &mut Take) -> Result<Farewell, FrameError> {
    let code = take.u16()?;
    let farewell = Farewell::ALL
        .into_iter()
        .find(|farewell| *farewell as u16 == code);
    take.zeros(6)?;
    farewell.ok_or_else(|| take.bad("reason"))
}

fn request(kind: Kind, flags: u8, take: &mut Take) -> Result<Request, FrameError> {
    match kind {
        Kind::Describe => {
            let by_name = take.flag("selector")?;
            take.zeros(3)?;
            if !by_name {
                return Ok(Request::Describe(VolumeName::Number(take.u32()?)));
            }
            take.zeros(4)?;
            return Ok(Request::Describe(VolumeName::Name(take.text("name")?)));
        }
        Kind::Pair => return Ok(Request::Pair(pair_order(take)?)),
        Kind::Forward => return Ok(Request::Forward(take.rest())),
        _ => {}
    }
    // The others are about data, and begin alike.
    let (pair, epoch, volume) = (take.u128()?, take.u64()?, take.u32()?);
    take.zeros(4)?;
    let ordered = flags & ORDERED != 0;
    Ok(match kind {
        Kind::Flush => Request::Flush { pair, epoch, volume },
        Kind::Extents => Request::Extents {
            pair,
            epoch,
            volume,
            offset: take.u64()?,
        },
        Kind::Read => {
            let (offset, length) = (take.u64()?, take.u32()?);
            take.zeros(4)?;
            Request::Read {
                pair,
                epoch,
                volume,
                offset,
                length,
            }
        }
        Kind::Digest => Request::Digest {
            pair,
            epoch,
            volume,
            offset: take.u64()?,
            length: take.u32()?,
            piece: take.u32()?,
            ordered,
        },
        Kind::Zero => Request::Zero {
            pair,
            epoch,
            volume,
            offset: take.u64()?,
            length: take.u64()?,
            unmap: flags & UNMAP != 0,
            ordered,
        },
        _ => Request::Write {
            pair,
            epoch,
            volume,
            offset: take.u64()?,
            ordered,
            data: take.rest(),
        },
    })
}

fn pair_order(take: &mut Take) -> Result<PairOrder, FrameError> {
    let (pair, epoch) = (take.u128()?, take.u64()?);
    let code = take.u8()?;
    let action = Action::ALL.into_iter().find(|action| *action as u8 == code);
    let action = action.ok_or_else(|| take.bad("action"))?;
    let mode = if take.flag("mode")? {
        CopyMode::Sync
    } else {
        CopyMode::Async
    };
    Ok(PairOrder {
        pair,
        epoch,
        action,
        mode,
        flags: take.u16()?,
        primary: take.u32()?,
        mirror: take.u32()?,
        track_size: take.u32()?,
        bytes: take.u64()?,
        from: take.u64()?,
    })
}

fn response(kind: Kind, take: &mut Take) -> Result<Response, FrameError> {
    Ok(match kind {
        Kind::Described => Response::Described(description(take)?),
        Kind::Data => Response::Data(take.rest()),
        Kind::Hole => Response::Hole,
        Kind::Extent => {
            let mapped = take.flag("mapped")?;
            take.zeros(7)?;
            Response::Extent {
                mapped,
                length: take.u64()?,
            }
        }
        Kind::PairState => Response::PairState(pair_report(take)?),
        Kind::Forwarded => Response::Forwarded(take.rest()),
        Kind::Digests => Response::Digests(take.rest()),
        Kind::Failed => {
            let code = take.u16()?;
            let code = FailureCode::ALL.into_iter().find(|known| *known as u16 == code);
            let code = code.ok_or_else(|| take.bad("code"))?;
            take.zeros(2)?;
            Response::Failed {
                code,
                message: take.text("message")?,
            }
        }
        _ => Response::Done,
    })
}

fn description(take: &mut Take) -> Result<Description, FrameError> {
    let (number, block_size, bytes, track_size) = (take.u32()?, take.u32()?, take.u64()?, take.u32()?);
    let mirror_class = take.flag("class")?;
    take.zeros(3)?;
    Ok(Description {
        number,
        bytes,
        block_size,
        track_size,
        mirror_class,
        boot: take.u128()?,
        name: take.text("name")?,
    })
}

fn pair_report(take: &mut Take) -> Result<PairReport, FrameError> {
    let (pair, epoch, state) = (take.u128()?, take.u64()?, take.u8()?);
    take.zeros(1)?;
    let flags = take.u16()?;
    let count = take.u32()?;
    let next = take.u64()?;
    // No memory is taken for a count: each run is read, and the payload ends where it ends.
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push(Run {
            first: take.u64()?,
            tracks: take.u64()?,
        });
    }
    Ok(PairReport {
        pair,
        epoch,
        state,
        flags,
        runs,
        next: (next != u64::MAX).then_some(next),
    })
}
