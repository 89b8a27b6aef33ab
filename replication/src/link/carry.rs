//! A connection while it is up.

use super::{
    errors::LinkEnd,
    links::Shared,
    network::Stream,
    peer::{Claim, Peer},
    service::{LinkService, Serving},
    traffic::Traffic,
    wire::Wire,
};
use bytes::BytesMut;
use link_proto::{Event, FailureCode, Farewell, Hello, Request, Response};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
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

/// The buffer under TLS, which asks for 4 KiB at a time; the buffer does for all that has come.
pub(super) const RECEIVED: usize = 64 << 10;

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
        biased;
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
    let traffic = Traffic::new(peer, &wire, &lanes, stream, received, hello.features);
    let end = tokio::select! {
        // Time first: traffic that never ends would leave it no turn.
        biased;
        ended = wire.keep_time() => ended.into(),
        end = traffic.run() => end,
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

/// Requests of the peer on their way to the service, and answers on their way back.
pub(super) struct Lanes {
    peer: link_proto::SystemId,
    wire: Arc<Wire>,
    service: Arc<dyn LinkService>,
    tasks: TaskTracker,
    ordered: mpsc::UnboundedSender<(Debt, Serving)>,
    /// Ordered requests that are not answered.
    ordered_ahead: Arc<AtomicUsize>,
}

impl Lanes {
    fn new(peer: &Peer, wire: Arc<Wire>, service: Arc<dyn LinkService>) -> Self {
        // Bounded by the session, which takes no more requests than were said.
        let (ordered, mut queue) = mpsc::unbounded_channel::<(Debt, Serving)>();
        let ordered_ahead = Arc::new(AtomicUsize::new(0));
        let ahead = Arc::clone(&ordered_ahead);
        let tasks = TaskTracker::new();
        tasks.spawn(async move {
            while let Some((debt, serving)) = queue.recv().await {
                debt.pay(&serving.await);
                ahead.fetch_sub(1, Ordering::Release);
            }
        });
        Self {
            peer: peer.id().clone(),
            wire,
            service,
            tasks,
            ordered,
            ordered_ahead,
        }
    }

    /// Does what a frame that came asks for.
    pub(super) fn take(&self, event: Option<Event<super::wire::Asker>>) {
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
        let (ordered, is_write) = (request.ordered(), matches!(request, Request::Write { .. }));
        // Most writes are done where they stand; so the answers of all that have come leave together. An ordered one has its turn when
        // those before it are answered.
        let at_once = is_write && !(ordered && self.ordered_ahead.load(Ordering::Acquire) > 0);
        if at_once {
            // What panics here must end the request, and not the connection.
            let written = catch_unwind(AssertUnwindSafe(|| {
                self.service.write_at_once(&self.peer, &request)
            }));
            match written {
                Ok(None) => {}
                Ok(Some(response)) => return self.wire.answer(id, &response),
                Err(_) => return self.wire.answer(id, &given_up()),
            }
        }
        let debt = Debt {
            wire: self.wire.clone(),
            id,
            paid: false,
        };
        let mut serving = self.service.serve(&self.peer, request);
        if at_once {
            let mut context = Context::from_waker(Waker::noop());
            match catch_unwind(AssertUnwindSafe(|| serving.as_mut().poll(&mut context))) {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(response)) => return debt.pay(&response),
                Err(_) => return drop(debt),
            }
        }
        if ordered {
            self.ordered_ahead.fetch_add(1, Ordering::Relaxed);
            // Its receiver lives until this is dropped.
            let _ = self.ordered.send((debt, serving));
            return;
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
            self.wire.answer(self.id, &given_up());
        }
    }
}

fn given_up() -> Response {
    Response::failed(FailureCode::Internal, "the request was given up")
}
