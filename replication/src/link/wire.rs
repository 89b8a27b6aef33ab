//! The queue of one connection: what any thread may put in, and the connection's task takes out.

use super::errors::LinkError;
use crate::lock;
use link_proto::{
    Encoded, Ended, Event, FailureCode, Farewell, Frame, RefusalCause, Response, Sealed, Session,
    contest::ConnectionId, session::NotTaken,
};
use std::{
    sync::{Mutex, OnceLock},
    task::Waker,
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

/// Whom an answer is for.
pub(super) type Asker = oneshot::Sender<Result<Response, LinkError>>;

/// A connection, from any thread.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) id: ConnectionId,
    origin: Instant,
    queue: Mutex<Queue>,
    /// Why the connection ends in order, once one side has said so.
    farewell: OnceLock<Farewell>,
    /// A newer connection takes its place.
    pub(super) replaced: CancellationToken,
}

#[derive(Debug)]
struct Queue {
    session: Session<Asker>,
    /// The connection's task, while it sleeps: to be woken once there may be something to send. Who works on the connection looks at the
    /// queue before it sleeps, and is not woken meanwhile.
    sleeper: Option<Waker>,
}

impl Wire {
    pub(super) fn new(id: ConnectionId, origin: Instant, session: Session<Asker>) -> Self {
        Self {
            id,
            origin,
            queue: Mutex::new(Queue {
                session,
                sleeper: None,
            }),
            farewell: OnceLock::new(),
            replaced: CancellationToken::new(),
        }
    }

    /// Time as the session counts it.
    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Does something that may give the connection's task something to send.
    fn change<R>(&self, change: impl FnOnce(&mut Session<Asker>) -> R) -> R {
        let mut queue = lock(&self.queue);
        let result = change(&mut queue.session);
        let sleeper = queue.sleeper.take();
        drop(queue);
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
        result
    }

    /// The connection's task is awake.
    pub(super) fn awake(&self) {
        lock(&self.queue).sleeper = None;
    }

    /// Queues a request, or answers at once that it was not sent.
    pub(super) fn ask(&self, request: Sealed, asker: Asker) {
        if let Err((why, asker)) = self.change(|session| session.request(request, asker)) {
            let why = match why {
                NotTaken::Down => LinkError::Down,
                NotTaken::QueueFull => LinkError::QueueFull,
            };
            // Nobody listens any more: nobody is to be told.
            let _ = asker.send(Err(why));
        }
    }

    /// Queues an answer.
    pub(super) fn answer(&self, id: u64, response: &Response) {
        let sealed = Sealed::response(response)
            .unwrap_or_else(|error| Sealed::failed(FailureCode::Internal, &error.to_string()));
        self.change(|session| session.answer(id, sealed));
    }

    /// A frame came. What there is to send because of it (it may have made room for waiting requests, or wants a Pong), is for the
    /// connection's own task, whose call this is.
    pub(super) fn receive(&self, frame: Frame, now: Duration) -> Result<Option<Event<Asker>>, Ended> {
        let event = lock(&self.queue).session.receive(frame, now);
        if let Ok(Some(Event::Leaving { farewell, .. })) = &event {
            self.farewell.get_or_init(|| *farewell);
        }
        event
    }

    /// Bytes came, be they a whole frame or not.
    pub(super) fn heard(&self, now: Duration) {
        lock(&self.queue).session.heard(now);
    }

    /// Lets the caller in.
    pub(super) fn admit(&self) {
        lock(&self.queue).session.admit(self.now());
    }

    /// Sends the caller away.
    pub(super) fn refuse(&self, cause: RefusalCause) -> Ended {
        lock(&self.queue).session.refuse(cause)
    }

    /// Frames for the wire, about so many bytes at most.
    pub(super) fn take_output(&self, bytes: usize) -> Vec<Encoded> {
        lock(&self.queue).take_output(bytes)
    }

    /// Likewise for the connection's task, which is woken when there is something, if there is nothing now.
    pub(super) fn output_or_wake(&self, bytes: usize, task: &Waker) -> Vec<Encoded> {
        let mut queue = lock(&self.queue);
        let frames = queue.take_output(bytes);
        if frames.is_empty() {
            queue.sleeper = Some(task.clone());
        }
        frames
    }

    /// Keeps the session's time until it ends for it.
    pub(super) async fn keep_time(&self) -> Ended {
        loop {
            let wake = lock(&self.queue).session.wakes_at();
            let Some(wake) = wake else {
                // Whoever ended it says so.
                return std::future::pending().await;
            };
            // Deadlines only ever move away, so that it is enough to look again then.
            tokio::time::sleep_until(self.origin + wake).await;
            if let Err(ended) = self.change(|session| session.tick(self.now())) {
                return ended;
            }
        }
    }

    /// Leaves in order.
    pub(super) fn leave(&self, farewell: Farewell) {
        self.farewell.get_or_init(|| farewell);
        for asker in self.change(|session| session.leave(farewell)) {
            let _ = asker.send(Err(LinkError::Down));
        }
    }

    /// It is over: every request under way fails.
    pub(super) fn abandon(&self) {
        let askers = lock(&self.queue).session.abandon();
        for asker in askers {
            let _ = asker.send(Err(LinkError::Lost));
        }
    }

    /// Both sides have left and all is answered: why.
    pub(super) fn finished(&self) -> Option<Farewell> {
        let finished = lock(&self.queue).session.finished();
        self.farewell.get().copied().filter(|_| finished)
    }

    /// Requests can be made.
    pub(super) fn is_open(&self) -> bool {
        lock(&self.queue).session.is_open()
    }

    /// Requests not answered, their bytes, and the last round trip.
    pub(super) fn load(&self) -> (usize, u64, Option<Duration>) {
        let queue = lock(&self.queue);
        let (requests, bytes) = queue.session.outstanding();
        (requests, bytes, queue.session.rtt())
    }
}

impl Queue {
    fn take_output(&mut self, bytes: usize) -> Vec<Encoded> {
        let (mut frames, mut taken) = (Vec::with_capacity(self.session.queued()), 0);
        while taken < bytes
            && let Some(frame) = self.session.next_output()
        {
            taken += frame.len();
            frames.push(frame);
        }
        frames
    }
}
