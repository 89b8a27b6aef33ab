//! Both ways of a connection, by turns in one task.
//!
//! All that has come is carried out before anything is sent, and all that there is to send then leaves as one run: the answers to what came
//! together, and the requests that were made meanwhile. The task sleeps when there is nothing left of either; only then has anybody to
//! wake it. A way that is blocked does not keep the other from going on.

use super::{
    carry::Lanes, errors::LinkEnd, greeting::failed, network::Stream, outgoing::Outgoing, peer::Peer,
    wire::Wire,
};
use bytes::{Buf as _, BytesMut};
use link_proto::Frame;
use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};

/// What is taken from the queue at a time, and about what is carried out before its answers are sent.
pub(super) const BATCH: usize = 256 << 10;
/// What TLS hands over at a time.
const RECORD: usize = 16 << 10;

/// See the module's page.
pub(super) struct Traffic<'a> {
    peer: &'a Peer,
    wire: &'a Wire,
    lanes: &'a Lanes,
    stream: Stream,
    received: BytesMut,
    out: Outgoing,
    /// Bytes given to TLS that may not have left yet.
    unflushed: usize,
}

impl<'a> Traffic<'a> {
    /// `received`: what came behind the handshake.
    pub(super) fn new(
        peer: &'a Peer,
        wire: &'a Wire,
        lanes: &'a Lanes,
        stream: Stream,
        received: BytesMut,
    ) -> Self {
        Self {
            peer,
            wire,
            lanes,
            stream,
            received,
            out: Outgoing::from(Vec::new()),
            unflushed: 0,
        }
    }

    /// Until the connection ends.
    pub(super) async fn run(mut self) -> LinkEnd {
        if let Err(end) = self.take_frames(self.wire.now()) {
            return end;
        }
        let end = poll_fn(|context| self.poll(context)).await;
        if matches!(end, LinkEnd::Left(_)) {
            // The other side has all it waits for; whether it hears the end of TLS too changes nothing.
            let _ = self.stream.shutdown().await;
        }
        end
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<LinkEnd> {
        self.wire.awake();
        loop {
            let received = self.poll_receive(context);
            if let Poll::Ready(Err(end)) = received {
                return Poll::Ready(end);
            }
            if let Poll::Ready(Err(end)) = self.poll_send(context) {
                return Poll::Ready(end);
            }
            if received.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Ready after much, or at the end; pending when all that has come is carried out.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LinkEnd>> {
        let mut taken = 0;
        while taken < BATCH {
            let read = pin!(self.stream.read_buf(&mut self.received));
            match ready!(read.poll(context)) {
                Ok(0) => return Poll::Ready(Err(self.wire.finished().map_or(LinkEnd::Cut, LinkEnd::Left))),
                Ok(count) => {
                    taken += count;
                    let now = self.wire.now();
                    self.wire.heard(now);
                    self.peer.received.add(count, now);
                    self.take_frames(now)?;
                }
                Err(error) => {
                    let end = self.wire.finished();
                    return Poll::Ready(Err(end.map_or_else(|| failed(error), LinkEnd::Left)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Carries out the frames that are whole, and makes room for what follows.
    fn take_frames(&mut self, now: Duration) -> Result<(), LinkEnd> {
        loop {
            match Frame::take(&mut self.received)? {
                Ok(frame) => self.lanes.take(self.wire.receive(frame, now)?),
                Err(missing) => {
                    self.received.reserve(missing.max(RECORD));
                    return Ok(());
                }
            }
        }
    }

    /// Pending when there is nothing to send, or no room for it.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LinkEnd>> {
        loop {
            while self.out.has_remaining() {
                let written = ready!(pin!(self.stream.write_buf(&mut self.out)).poll(context));
                match written.map_err(failed)? {
                    0 => return Poll::Ready(Err(failed(io::ErrorKind::WriteZero.into()))),
                    count => self.unflushed += count,
                }
            }
            if self.unflushed > 0 {
                ready!(Pin::new(&mut self.stream).poll_flush(context)).map_err(failed)?;
                self.peer.sent.add(self.unflushed, self.wire.now());
                self.unflushed = 0;
            }
            self.out = Outgoing::from(self.wire.output_or_wake(BATCH, context.waker()));
            if self.out.len() == 0 {
                return match self.wire.finished() {
                    Some(farewell) => Poll::Ready(Err(LinkEnd::Left(farewell))),
                    None => Poll::Pending,
                };
            }
        }
    }
}
