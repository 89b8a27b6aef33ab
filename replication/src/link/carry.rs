//! A connection while it is up.

use super::{
    errors::LinkEnd,
    greeting::failed,
    links::Shared,
    outgoing::Outgoing,
    peer::{Claim, Peer},
    service::{LinkService, Serving},
    wire::Wire,
};
use bytes::BytesMut;
use link_proto::{Event, FailureCode, Farewell, Frame, Hello, Request, Response};
use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::TlsStream;
use tokio_util::task::TaskTracker;

/// A connection whose other side has said who it is.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) wire: Arc<Wire>,
    /// Dropped last: another connection may come when everything of this one is over.
    pub(super) claim: Claim,
    pub(super) hello: Hello,
    pub(super) received: BytesMut,
}

/// What a connection goes over. TLS asks for 4 KiB at a time, the buffer for all that has come.
pub(super) type Stream = TlsStream<BufReader<TcpStream>>;

/// The buffer under TLS.
pub(super) const RECEIVED: usize = 64 << 10;
/// What is taken from the queue at a time.
const BATCH: usize = 256 << 10;
/// What TLS hands over at a time.
const RECORD: usize = 16 << 10;

/// Carries requests and answers both ways until the connection ends; then waits until the answers being made are made.
/// `admit`: the peer has called and is to be let in.
pub(super) async fn carry(shared: &Arc<Shared>, peer: &Arc<Peer>, connection: Connection, admit: bool) {
    let Connection {
        stream,
        wire,
        claim,
        hello,
        received,
    } = connection;
    // The connection before may still have answers in the making.
    let alone = tokio::select! {
        alone = timeout(shared.config.timing.handshake, peer.alone.lock()) => alone,
        () = wire.replaced.cancelled() => return,
        () = peer.gone.cancelled() => return,
    };
    let Ok(alone) = alone else {
        peer.note(&LinkEnd::Timeout);
        return;
    };
    if admit {
        wire.admit();
    }
    peer.went_up(&wire, &hello);
    shared.service.up(peer.id(), hello.boot);
    let lanes = Lanes::new(peer, wire.clone(), shared.service.clone());
    let (read, write) = tokio::io::split(stream);
    let end = tokio::select! {
        end = receive(peer, &wire, &lanes, read, received) => end,
        end = send(peer, &wire, write) => end,
        ended = wire.keep_time() => ended.into(),
        () = wire.replaced.cancelled() => LinkEnd::Replaced,
        () = leave(shared, peer, &wire) => LinkEnd::LeaveTimeout,
    };
    peer.went_down(&end);
    wire.abandon();
    lanes.end().await;
    shared.service.down(peer.id(), &end.to_string());
    drop(alone);
    drop(claim);
}

/// Ends the connection in order when it is time; and after a while without.
async fn leave(shared: &Shared, peer: &Peer, wire: &Wire) {
    let farewell = tokio::select! {
        // A stop is the end of every peer, too.
        biased;
        () = shared.stopping.cancelled() => Farewell::Stopping,
        () = peer.gone.cancelled() => Farewell::Reconfigured,
    };
    wire.leave(farewell);
    sleep(shared.config.timing.leaving).await;
}

async fn receive(
    peer: &Peer,
    wire: &Arc<Wire>,
    lanes: &Lanes,
    mut read: ReadHalf<Stream>,
    mut received: BytesMut,
) -> LinkEnd {
    loop {
        let missing = loop {
            match Frame::take(&mut received) {
                Err(error) => return error.into(),
                Ok(Err(missing)) => break missing,
                Ok(Ok(frame)) => match wire.receive(frame) {
                    Err(ended) => return ended.into(),
                    Ok(event) => lanes.take(event),
                },
            }
        };
        received.reserve(missing.max(RECORD));
        match read.read_buf(&mut received).await {
            Ok(0) => return wire.finished().map_or(LinkEnd::Cut, LinkEnd::Left),
            Ok(count) => {
                let now = wire.heard();
                peer.received.add(count, now);
            }
            Err(error) => return wire.finished().map_or(failed(error), LinkEnd::Left),
        }
    }
}

/// Sends whatever has gathered in the queue as one run, while more gathers.
async fn send(peer: &Peer, wire: &Wire, mut write: WriteHalf<Stream>) -> LinkEnd {
    loop {
        let mut frames = Outgoing::from(wire.take_output(BATCH));
        let count = frames.len();
        if count == 0 {
            if let Some(farewell) = wire.finished() {
                // The other side has all it waits for; whether it hears the end of TLS too changes nothing.
                let _ = write.shutdown().await;
                return LinkEnd::Left(farewell);
            }
            wire.output().await;
            continue;
        }
        let written = async {
            write.write_all_buf(&mut frames).await?;
            write.flush().await
        };
        if let Err(error) = written.await {
            return failed(error);
        }
        peer.sent.add(count, wire.now());
    }
}

/// Requests of the peer on their way to the service, and answers on their way back.
struct Lanes {
    peer: link_proto::SystemId,
    wire: Arc<Wire>,
    service: Arc<dyn LinkService>,
    tasks: TaskTracker,
    ordered: mpsc::UnboundedSender<(Debt, Serving)>,
}

impl Lanes {
    fn new(peer: &Peer, wire: Arc<Wire>, service: Arc<dyn LinkService>) -> Self {
        // Bounded by the session, which takes no more requests than were said.
        let (ordered, mut queue) = mpsc::unbounded_channel::<(Debt, Serving)>();
        let tasks = TaskTracker::new();
        tasks.spawn(async move {
            while let Some((debt, serving)) = queue.recv().await {
                debt.pay(&serving.await);
            }
        });
        Self {
            peer: peer.id().clone(),
            wire,
            service,
            tasks,
            ordered,
        }
    }

    fn take(&self, event: Option<Event<super::wire::Asker>>) {
        match event {
            Some(Event::Request { id, request }) => self.serve(id, request),
            Some(Event::Answer { tag, response }) => {
                // Nobody waits for it any more.
                let _ = tag.send(Ok(response));
            }
            Some(Event::Leaving { unsent, .. }) => {
                for asker in unsent {
                    let _ = asker.send(Err(super::LinkError::Down));
                }
            }
            Some(Event::Greeted(_) | Event::Opened(_)) | None => {}
        }
    }

    fn serve(&self, id: u64, request: Request) {
        let debt = Debt {
            wire: self.wire.clone(),
            id,
            paid: false,
        };
        let (ordered, is_write) = (request.ordered(), matches!(request, Request::Write { .. }));
        let mut serving = self.service.serve(&self.peer, request);
        if ordered {
            // Its receiver lives until this is dropped.
            let _ = self.ordered.send((debt, serving));
            return;
        }
        // Most writes are done where they stand; so the answers of all that have come leave together.
        if is_write
            && let Poll::Ready(response) = serving.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            return debt.pay(&response);
        }
        self.tasks.spawn(async move { debt.pay(&serving.await) });
    }

    /// Until every answer is made.
    async fn end(self) {
        drop(self.ordered);
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// An answer that the peer waits for. It is told also when making it has failed.
struct Debt {
    wire: Arc<Wire>,
    id: u64,
    paid: bool,
}

impl Debt {
    fn pay(mut self, response: &Response) {
        self.paid = true;
        self.wire.answer(self.id, response);
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        if !self.paid {
            let failed = Response::failed(FailureCode::Internal, "the request was given up");
            self.wire.answer(self.id, &failed);
        }
    }
}
