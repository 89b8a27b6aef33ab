//! One peer: the connection that counts, and what is known of it.

use super::{
    config::PeerConfig,
    errors::{LinkEnd, LinkError},
    meter::Meter,
    status::PeerStatus,
    wire::Wire,
};
use crate::lock;
use arc_swap::ArcSwapOption;
use link_proto::{
    Compression, Hello, Request, Response, Sealed, SystemId,
    contest::{Contest, Verdict},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Another system.
#[derive(Debug)]
pub struct Peer {
    id: SystemId,
    origin: Instant,
    config: Mutex<PeerConfig>,
    seat: Mutex<Seat>,
    /// The connection that is up.
    current: ArcSwapOption<Wire>,
    history: Mutex<History>,
    /// Held from before a connection goes up until after it is down: never two at a time, also when the peer is removed and
    /// added again meanwhile.
    pub(super) alone: Arc<tokio::sync::Mutex<()>>,
    /// The seat has become free.
    vacated: Notify,
    /// It is to be called at once.
    pub(super) hurry: Notify,
    /// It is no peer any more.
    pub(super) gone: CancellationToken,
    pub(super) sent: Meter,
    pub(super) received: Meter,
    /// Bytes that compression spared of each.
    pub(super) sent_spared: AtomicU64,
    pub(super) received_spared: AtomicU64,
}

/// The one connection that counts, up or about to be.
#[derive(Debug)]
struct Seat {
    contest: Contest,
    holder: Option<Arc<Wire>>,
}

/// What happened of late.
#[derive(Debug)]
struct History {
    since: SystemTime,
    seen: Option<(u128, String)>,
    /// The features that it said last.
    features: Option<u32>,
    connections: u64,
    last_error: Option<String>,
}

/// A connection's hold on the seat, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    peer: Arc<Peer>,
    wire: Arc<Wire>,
}

impl Peer {
    pub(super) fn new(
        own: &SystemId,
        config: PeerConfig,
        alone: Arc<tokio::sync::Mutex<()>>,
        origin: Instant,
    ) -> Self {
        Self {
            origin,
            seat: Mutex::new(Seat {
                contest: Contest::new(own, &config.id),
                holder: None,
            }),
            id: config.id.clone(),
            config: Mutex::new(config),
            current: ArcSwapOption::empty(),
            history: Mutex::new(History {
                since: SystemTime::now(),
                seen: None,
                features: None,
                connections: 0,
                last_error: None,
            }),
            alone,
            vacated: Notify::new(),
            hurry: Notify::new(),
            gone: CancellationToken::new(),
            sent: Meter::default(),
            received: Meter::default(),
            sent_spared: AtomicU64::new(0),
            received_spared: AtomicU64::new(0),
        }
    }

    /// Its id.
    pub fn id(&self) -> &SystemId {
        &self.id
    }

    /// Asks the peer something. The request is in the queue for the wire when this returns, behind those of earlier calls,
    /// whether or not the future is ever polled. When the link is down, or goes down, the answer is an error.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a request is given away, and may be large"
    )]
    pub fn request(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Response, LinkError>> + Send + 'static + use<> {
        let (asker, answer) = oneshot::channel();
        match (self.current.load().as_ref(), Sealed::request(&request)) {
            (_, Err(error)) => drop(asker.send(Err(error.into()))),
            (None, _) => drop(asker.send(Err(LinkError::Down))),
            (Some(wire), Ok(sealed)) => wire.ask(sealed, asker),
        }
        async move { answer.await.unwrap_or(Err(LinkError::Lost)) }
    }

    /// Requests can be made.
    pub fn is_up(&self) -> bool {
        self.current.load().as_ref().is_some_and(|wire| wire.is_open())
    }

    /// Requests to it that are not answered, and what they take of its window.
    pub fn outstanding(&self) -> (usize, u64) {
        let current = self.current.load();
        let (requests, bytes, _) = current.as_ref().map_or((0, 0, None), |wire| wire.load());
        (requests, bytes)
    }

    /// How it is.
    pub fn status(&self) -> PeerStatus {
        let now = self.origin.elapsed();
        let current = self.current.load_full();
        let (outstanding, outstanding_bytes, rtt) = current.as_ref().map_or((0, 0, None), |wire| wire.load());
        let spared = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
        let (sent, received) = (self.sent.total(), self.received.total());
        let history = lock(&self.history);
        PeerStatus {
            id: self.id.clone(),
            address: self.address(),
            up: current.is_some_and(|wire| wire.is_open()),
            since: history.since,
            seen: history.seen.clone(),
            rtt,
            compression: self.compression(history.features.unwrap_or(Compression::FEATURES)),
            sent,
            received,
            sent_uncompressed: sent + spared(&self.sent_spared),
            received_uncompressed: received + spared(&self.received_spared),
            send_rate: self.sent.rate(now),
            receive_rate: self.received.rate(now),
            outstanding,
            outstanding_bytes,
            connections: history.connections,
            last_error: history.last_error.clone(),
        }
    }

    pub(super) fn address(&self) -> String {
        lock(&self.config).address.clone()
    }

    /// What data is compressed by to a system with these features.
    pub(super) fn compression(&self, features: u32) -> Option<Compression> {
        let by = lock(&self.config).compression;
        by.filter(|by| features & by.feature() != 0)
    }

    /// It is called at this address from now on, and what leaves for it is compressed by this; the present connection stays.
    pub(super) fn configure(&self, config: PeerConfig) {
        let before = std::mem::replace(&mut *lock(&self.config), config);
        if before.address != self.address() {
            self.hurry.notify_one();
        }
    }

    /// Our call is about to say Hello; `None`: there is a connection already.
    pub(super) fn call(self: &Arc<Self>, wire: &Arc<Wire>) -> Option<Claim> {
        let mut seat = lock(&self.seat);
        if !seat.contest.call(wire.id) {
            return None;
        }
        seat.holder = Some(wire.clone());
        Some(self.claim(wire))
    }

    /// The peer has said Hello; `None`: another connection counts. One whose place is taken is told so.
    pub(super) fn called(self: &Arc<Self>, wire: &Arc<Wire>, boot: u128) -> Option<Claim> {
        let mut seat = lock(&self.seat);
        match seat.contest.called(wire.id, boot) {
            Verdict::Duplicate => None,
            Verdict::Admit(_) => {
                if let Some(before) = seat.holder.replace(wire.clone()) {
                    before.replaced.cancel();
                }
                Some(self.claim(wire))
            }
        }
    }

    fn claim(self: &Arc<Self>, wire: &Arc<Wire>) -> Claim {
        Claim {
            peer: self.clone(),
            wire: wire.clone(),
        }
    }

    /// Until no connection counts; at once if there is none.
    pub(super) async fn vacant(&self) {
        loop {
            let vacated = self.vacated.notified();
            if !lock(&self.seat).contest.is_held() {
                return;
            }
            vacated.await;
        }
    }

    pub(super) fn went_up(&self, wire: &Arc<Wire>, hello: &Hello) {
        {
            let mut history = lock(&self.history);
            history.since = SystemTime::now();
            history.seen = Some((hello.boot, hello.software.clone()));
            history.features = Some(hello.features);
            history.connections += 1;
        }
        self.current.store(Some(wire.clone()));
        tracing::info!(peer = %self.id, software = hello.software, "the link is up");
    }

    /// Requests fail from now on.
    pub(super) fn went_down(&self, end: &LinkEnd) {
        self.current.store(None);
        lock(&self.history).since = SystemTime::now();
        self.note(end);
    }

    /// Remembers what went wrong; says it once.
    pub(super) fn note(&self, end: &LinkEnd) {
        let text = end.to_string();
        let mut history = lock(&self.history);
        if history.last_error.as_ref() != Some(&text) {
            tracing::warn!(peer = %self.id, "the link is down: {text}");
            history.last_error = Some(text);
        }
    }
}

impl Claim {
    /// Our call was answered; `false`: another connection has taken its place in the meantime.
    pub(super) fn opened(&self, boot: u128) -> bool {
        lock(&self.peer.seat).contest.opened(self.wire.id, boot)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut seat = lock(&self.peer.seat);
        seat.contest.ended(self.wire.id);
        seat.holder.take_if(|holder| holder.id == self.wire.id);
        drop(seat);
        self.peer.vacated.notify_waiters();
    }
}
