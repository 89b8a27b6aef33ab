//! The first frames of a connection, one after another.

use super::{
    errors::LinkEnd,
    wire::{Asker, Wire},
};
use bytes::BytesMut;
use link_proto::{Ended, Event, Frame, Hello};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

/// How long a refusal may take to be said.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Sends what there is to send, and receives frames, until the other side has said who it is. What was received behind
/// that stays in `received`.
pub(super) async fn greet<S>(stream: &mut S, wire: &Wire, received: &mut BytesMut) -> Result<Hello, LinkEnd>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    say(stream, wire).await.map_err(failed)?;
    let missing = loop {
        let missing = match Frame::take(received)? {
            Ok(frame) => break wire.receive(frame, wire.now()),
            Err(missing) => missing,
        };
        received.reserve(missing);
        if stream.read_buf(received).await.map_err(failed)? == 0 {
            return Err(LinkEnd::Cut);
        }
    };
    match missing {
        Ok(event) => said(event),
        Err(ended) => Err(refuse(stream, wire, ended).await),
    }
}

fn said(event: Option<Event<Asker>>) -> Result<Hello, LinkEnd> {
    match event {
        Some(Event::Greeted(hello) | Event::Opened(hello)) => Ok(hello),
        _ => Err(Ended::Unexpected("frame that begins no connection").into()),
    }
}

/// Says what the session still has to say, a refusal, before the connection is closed.
pub(super) async fn refuse<S>(stream: &mut S, wire: &Wire, ended: Ended) -> LinkEnd
where
    S: AsyncWrite + Unpin,
{
    let words = async {
        say(stream, wire).await?;
        stream.shutdown().await
    };
    // Whether it is heard changes nothing.
    let _ = timeout(LAST_WORDS, words).await;
    ended.into()
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, wire: &Wire) -> io::Result<()> {
    for frame in wire.take_output(usize::MAX) {
        stream.write_all(&frame.head).await?;
        stream.write_all(&frame.data).await?;
    }
    stream.flush().await
}

/// What TLS itself finds wrong, be it here or there, is said by name.
pub(super) fn failed(error: io::Error) -> LinkEnd {
    match error.kind() {
        io::ErrorKind::InvalidData => LinkEnd::Tls(error),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            LinkEnd::Cut
        }
        _ => LinkEnd::Io(error),
    }
}
