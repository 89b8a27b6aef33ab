//! The queue of one connection: what any thread may put in, and the connection's task takes out.

use super::errors::LinkError;
use crate::lock;
use link_proto::{
    Encoded, Ended, Event, FailureCode, Farewell, Frame, RefusalCause, Response, Sealed, Session,
    contest::ConnectionId, session::NotTaken,
};
use std::{
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

/// Whom an answer is for.
pub(super) type Asker = oneshot::Sender<Result<Response, LinkError>>;

/// A connection, from any thread.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) id: ConnectionId,
    origin: Instant,
    session: Mutex<Session<Asker>>,
    /// There is something to send.
    output: Notify,
    /// Why the connection ends in order, once one side has said so.
    farewell: OnceLock<Farewell>,
    /// A newer connection takes its place.
    pub(super) replaced: CancellationToken,
}

impl Wire {
    pub(super) fn new(id: ConnectionId, origin: Instant, session: Session<Asker>) -> Self {
        Self {
            id,
            origin,
            session: Mutex::new(session),
            output: Notify::new(),
            farewell: OnceLock::new(),
            replaced: CancellationToken::new(),
        }
    }

    /// Time as the session counts it.
    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Queues a request, or answers at once that it was not sent.
    pub(super) fn ask(&self, request: Sealed, asker: Asker) {
        let taken = lock(&self.session).request(request, asker);
        match taken {
            Ok(()) => self.output.notify_one(),
            Err((why, asker)) => {
                let why = match why {
                    NotTaken::Down => LinkError::Down,
                    NotTaken::QueueFull => LinkError::QueueFull,
                };
                // Nobody listens any more: nobody is to be told.
                let _ = asker.send(Err(why));
            }
        }
    }

    /// Queues an answer.
    pub(super) fn answer(&self, id: u64, response: &Response) {
        let sealed = Sealed::response(response)
            .unwrap_or_else(|error| Sealed::failed(FailureCode::Internal, &error.to_string()));
        lock(&self.session).answer(id, sealed);
        self.output.notify_one();
    }

    /// A frame came.
    pub(super) fn receive(&self, frame: Frame) -> Result<Option<Event<Asker>>, Ended> {
        let event = lock(&self.session).receive(frame, self.now());
        if let Ok(Some(Event::Leaving { farewell, .. })) = &event {
            self.farewell.get_or_init(|| *farewell);
        }
        // It may have made room for waiting requests, or wants a Pong.
        self.output.notify_one();
        event
    }

    /// Bytes came; gives the time.
    pub(super) fn heard(&self) -> Duration {
        let now = self.now();
        lock(&self.session).heard(now);
        now
    }

    /// Lets the caller in.
    pub(super) fn admit(&self) {
        lock(&self.session).admit(self.now());
    }

    /// Sends the caller away.
    pub(super) fn refuse(&self, cause: RefusalCause) -> Ended {
        lock(&self.session).refuse(cause)
    }

    /// Frames for the wire, about so many bytes at most.
    pub(super) fn take_output(&self, bytes: usize) -> Vec<Encoded> {
        let mut session = lock(&self.session);
        let (mut frames, mut taken) = (Vec::new(), 0);
        while taken < bytes
            && let Some(frame) = session.next_output()
        {
            taken += frame.len();
            frames.push(frame);
        }
        frames
    }

    /// Until there may be something to send.
    pub(super) async fn output(&self) {
        self.output.notified().await;
    }

    /// Keeps the session's time until it ends for it.
    pub(super) async fn keep_time(&self) -> Ended {
        loop {
            let wake = lock(&self.session).wakes_at();
            let Some(wake) = wake else {
                // Whoever ended it says so.
                return std::future::pending().await;
            };
            // Deadlines only ever move away, so that it is enough to look again then.
            tokio::time::sleep_until((self.origin + wake).into()).await;
            if let Err(ended) = lock(&self.session).tick(self.now()) {
                return ended;
            }
            self.output.notify_one();
        }
    }

    /// Leaves in order.
    pub(super) fn leave(&self, farewell: Farewell) {
        self.farewell.get_or_init(|| farewell);
        let unsent = lock(&self.session).leave(farewell);
        for asker in unsent {
            let _ = asker.send(Err(LinkError::Down));
        }
        self.output.notify_one();
    }

    /// It is over: every request under way fails.
    pub(super) fn abandon(&self) {
        let askers = lock(&self.session).abandon();
        for asker in askers {
            let _ = asker.send(Err(LinkError::Lost));
        }
    }

    /// Both sides have left and all is answered: why.
    pub(super) fn finished(&self) -> Option<Farewell> {
        let finished = lock(&self.session).finished();
        self.farewell.get().copied().filter(|_| finished)
    }

    /// Requests can be made.
    pub(super) fn is_open(&self) -> bool {
        lock(&self.session).is_open()
    }

    /// Requests not answered, their bytes, and the last round trip.
    pub(super) fn load(&self) -> (usize, u64, Option<Duration>) {
        let session = lock(&self.session);
        let (requests, bytes) = session.outstanding();
        (requests, bytes, session.rtt())
    }
}
