//! Both ways of a connection, by turns in one task.
//!
//! All that has come is carried out before anything is sent, and all that there is to send then leaves as one run: the answers to what came
//! together, and the requests that were made meanwhile. The task sleeps when there is nothing left of either; only then has anybody to
//! wake it. A way that is blocked does not keep the other from going on.
//!
//! Compression is done here as well, in the order in which frames leave, whatever their number: whoever made them does not wait for it. It takes
//! longer than all else, up to some milliseconds for the longest frame; so after about a batch others of this thread have a turn.

use super::{
    carry::Lanes, errors::LinkEnd, greeting::failed, network::Stream, outgoing::Outgoing, peer::Peer,
    wire::Wire,
};
use bytes::{Buf as _, BytesMut};
use link_proto::{Compression, Encoded, Frame, Packer, Unpacker};
use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::atomic::Ordering,
    task::{Context, Poll, ready},
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
    unpacker: Unpacker,
    /// What the other side reads.
    features: u32,
    packer: Packer,
    /// Bytes that were given to it in this turn.
    packed: usize,
    out: Outgoing,
    /// Bytes given to TLS that may not have left yet.
    unflushed: usize,
}

impl<'a> Traffic<'a> {
    /// `received`: what came behind the handshake; `features`: what the other side said it can do.
    pub(super) fn new(
        peer: &'a Peer,
        wire: &'a Wire,
        lanes: &'a Lanes,
        stream: Stream,
        received: BytesMut,
        features: u32,
    ) -> Self {
        Self {
            peer,
            wire,
            lanes,
            stream,
            received,
            unpacker: Unpacker::new(Compression::FEATURES),
            features,
            packer: Packer::default(),
            packed: 0,
            out: Outgoing::from(Vec::new()),
            unflushed: 0,
        }
    }

    /// Until the connection ends.
    pub(super) async fn run(mut self) -> LinkEnd {
        let end = poll_fn(|context| self.poll(context)).await;
        if matches!(end, LinkEnd::Left(_)) {
            // The other side has all it waits for; whether it hears the end of TLS too changes nothing.
            let _ = self.stream.shutdown().await;
        }
        end
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<LinkEnd> {
        self.wire.awake();
        self.packed = 0;
        loop {
            let received = self.poll_receive(context);
            if let Poll::Ready(Err(end)) = received {
                return Poll::Ready(end);
            }
            if let Poll::Ready(Err(end)) = self.poll_send(context) {
                return Poll::Ready(end);
            }
            if self.packed >= BATCH {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if received.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Ready after much, or at the end; pending when all that has come is carried out.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LinkEnd>> {
        let mut taken = 0;
        let mut now = self.wire.now();
        while taken < BATCH {
            // What compression has made few bytes is work all the same.
            match Frame::take_packed(&mut self.received, &mut self.unpacker)? {
                Ok(frame) => {
                    taken += frame.spared;
                    if frame.spared > 0 {
                        let spared = &self.peer.received_spared;
                        spared.fetch_add(frame.spared as u64, Ordering::Relaxed);
                    }
                    self.lanes.take(self.wire.receive(frame, now)?);
                    continue;
                }
                Err(missing) => self.received.reserve(missing.max(RECORD)),
            }
            let read = pin!(self.stream.read_buf(&mut self.received));
            match ready!(read.poll(context)) {
                Ok(0) => return Poll::Ready(Err(self.wire.finished().map_or(LinkEnd::Cut, LinkEnd::Left))),
                Ok(count) => {
                    taken += count;
                    now = self.wire.now();
                    self.wire.heard(now);
                    self.peer.received.add(count, now);
                }
                Err(error) => {
                    let end = self.wire.finished();
                    return Poll::Ready(Err(end.map_or_else(|| failed(error), LinkEnd::Left)));
                }
            }
        }
        Poll::Ready(Ok(()))
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
            if self.packed >= BATCH {
                return Poll::Pending;
            }
            let mut frames = self.wire.output_or_wake(BATCH, context.waker());
            if let Some(by) = self.peer.compression(self.features) {
                self.pack(by, &mut frames);
            }
            self.out = Outgoing::from(frames);
            if self.out.len() == 0 {
                return match self.wire.finished() {
                    Some(farewell) => Poll::Ready(Err(LinkEnd::Left(farewell))),
                    None => Poll::Pending,
                };
            }
        }
    }

    fn pack(&mut self, by: Compression, frames: &mut Vec<Encoded>) {
        let bytes = |frames: &[Encoded]| frames.iter().map(Encoded::len).sum::<usize>();
        let before = bytes(frames);
        self.packed += before;
        *frames = frames
            .drain(..)
            .map(|frame| self.packer.pack(by, frame))
            .collect();
        let spared = before - bytes(frames);
        self.peer.sent_spared.fetch_add(spared as u64, Ordering::Relaxed);
    }
}
