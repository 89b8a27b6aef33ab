//! The frontend as a whole: portals that accept, connections that are served, and the way to stop.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use iscsi_proto::login::{Admission, Membership};
use iscsi_proto::{
    data_flow::TransferLimits,
    framer::{Framer, MAX_AHS},
    negotiation::{ConnectionParameters, DigestKind, SessionParameters},
    nop::Keepalive,
};
use target_core::{
    buffer::BufferPool,
    target::{InitiatorPort, Nexus},
    throttle::Throttle,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{FrontendConfig, Portal, TargetAccess},
    connection::Connection,
    ending::Phase,
    isns,
    listener::{BindError, listen},
    login::{Entrance, LoggedIn, LoginFailure, login, session_key},
    logins::Logins,
    sessions::{CloseReason, Event, SessionHandle, SessionInfo, Sessions},
    socket::ReceiveBuffer,
    statistics::{Cells, Counters},
    tasks::Tasks,
    text::TextExchange,
};

/// How often buffers that nobody needs are given back.
const TRIM_INTERVAL: Duration = Duration::from_secs(5);

/// After an error of accept, such as too many open files, this long passes before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) config: ArcSwap<FrontendConfig>,
    /// Told when the configuration, or what is open, was replaced.
    pub(crate) changed: watch::Sender<()>,
    /// The name server knows what is served.
    pub(crate) registered: AtomicBool,
    pub(crate) sessions: Sessions,
    /// The portals as they are open: with the ports that port 0 came to.
    open: ArcSwap<Vec<Portal>>,
    places: Arc<Semaphore>,
    connections: TaskTracker,
    /// Tells connections that the target stops.
    stop: CancellationToken,
    logins: Arc<Logins>,
    /// For what is logged of logins: some initiators try for ever.
    login_failures: Throttle,
}

impl Shared {
    /// The portal group that this open portal is in.
    fn group_of(&self, address: SocketAddr) -> u16 {
        self.open
            .load()
            .iter()
            .find(|portal| portal.address == address)
            .map_or(1, |portal| portal.group)
    }

    /// The portals as they are open.
    pub(crate) fn open_portals(&self) -> Arc<Vec<Portal>> {
        self.open.load_full()
    }

    /// The addresses to tell an initiator that came to `local`: its own first. A portal that listens on all addresses
    /// is told as the one that was used.
    pub(crate) fn portals_seen_from(&self, local: SocketAddr) -> Vec<Portal> {
        let mut portals: Vec<Portal> = self
            .open
            .load()
            .iter()
            .filter_map(|portal| seen_from(*portal, local))
            .collect();
        portals.sort_by_key(|portal| portal.address != local);
        portals
    }
}

fn seen_from(portal: Portal, local: SocketAddr) -> Option<Portal> {
    match portal.address.ip() {
        ip if !ip.is_unspecified() => Some(portal),
        IpAddr::V4(_) | IpAddr::V6(_) if portal.address.is_ipv4() == local.is_ipv4() => Some(Portal {
            address: SocketAddr::new(local.ip(), portal.address.port()),
            ..portal
        }),
        _ => None,
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Shared({:?})", self.open.load())
    }
}

/// A portal that is open.
#[derive(Debug)]
struct OpenPortal {
    /// As configured.
    portal: Portal,
    /// As it came to be.
    address: SocketAddr,
    /// Taken by the task that accepts.
    listener: Option<TcpListener>,
    stop: CancellationToken,
    accepting: Option<JoinHandle<()>>,
}

/// The iSCSI side of a daemon.
#[derive(Debug)]
pub struct Frontend {
    shared: Arc<Shared>,
    portals: Mutex<Portals>,
}

#[derive(Debug, Default)]
struct Portals {
    open: Vec<OpenPortal>,
    running: bool,
}

impl Frontend {
    /// Checks the configuration and opens all portals. From then on connections are accepted by the system; they are
    /// served by [`Frontend::run`]. Must be called within a tokio runtime.
    pub fn bind(config: FrontendConfig) -> Result<Self, BindError> {
        config.check()?;
        let portals = config
            .portals
            .iter()
            .map(|portal| open(*portal))
            .collect::<Result<Vec<_>, _>>()?;
        let shared = Shared {
            sessions: Sessions::default(),
            open: ArcSwap::from_pointee(seen(&portals)),
            places: Arc::new(Semaphore::new(config.tuning.connections)),
            connections: TaskTracker::new(),
            stop: CancellationToken::new(),
            logins: Arc::default(),
            login_failures: Throttle::new(10, Duration::from_secs(10)),
            config: ArcSwap::from_pointee(config),
            changed: watch::Sender::new(()),
            registered: AtomicBool::new(false),
        };
        let portals = Portals {
            open: portals,
            running: false,
        };
        Ok(Self {
            shared: Arc::new(shared),
            portals: Mutex::new(portals),
        })
    }

    /// Serves until `shutdown`. Then the portals are closed first, sessions are asked to log out and, after a grace,
    /// closed. Returns when the last command has ended and the last connection is closed.
    pub async fn run(&self, shutdown: CancellationToken) {
        {
            let mut portals = self.portals();
            portals.running = true;
            portals
                .open
                .iter_mut()
                .for_each(|portal| portal.accept(&self.shared));
        }
        let isns = tokio::spawn(isns::run(self.shared.clone(), shutdown.clone()));
        let mut trim = tokio::time::interval(TRIM_INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = trim.tick() => BufferPool::shared().trim(),
            }
        }
        // Nobody may be accepted and closed at once: initiators take that for a fault, and a refused connection for
        // what it is.
        let open = {
            let mut portals = self.portals();
            portals.running = false;
            std::mem::take(&mut portals.open)
        };
        for portal in open {
            portal.close().await;
        }
        self.shared.stop.cancel();
        self.shared.connections.close();
        self.shared.connections.wait().await;
        if let Err(error) = isns.await {
            tracing::error!(%error, "the iSNS client failed");
        }
    }

    /// Replaces the configuration while serving, whole or not at all. Portals are opened and closed. Sessions whose target
    /// or portal is gone, or whose initiator is not admitted any more, are asked to log out, and closed after a grace;
    /// others go on undisturbed. What initiators have to prove holds for new logins. The connection limit stays as
    /// it was.
    pub async fn reconfigure(&self, config: FrontendConfig) -> Result<(), BindError> {
        config.check()?;
        let closed = {
            let mut portals = self.portals();
            let is_open = |portal: &&Portal| {
                portals
                    .open
                    .iter()
                    .any(|open| open.portal.address == portal.address)
            };
            let new = config.portals.iter().filter(|portal| !is_open(portal));
            let opened = new.map(|portal| open(*portal)).collect::<Result<Vec<_>, _>>()?;
            let mut kept = Vec::new();
            let mut closed = Vec::new();
            for mut open in std::mem::take(&mut portals.open) {
                match config
                    .portals
                    .iter()
                    .find(|portal| portal.address == open.portal.address)
                {
                    Some(portal) => {
                        open.portal = *portal;
                        kept.push(open);
                    }
                    None => closed.push(open),
                }
            }
            kept.extend(opened);
            portals.open = kept;
            self.shared.open.store(Arc::new(seen(&portals.open)));
            self.shared.config.store(Arc::new(config));
            if portals.running {
                portals
                    .open
                    .iter_mut()
                    .for_each(|portal| portal.accept(&self.shared));
            }
            closed
        };
        for portal in closed {
            portal.close().await;
        }
        self.shared.changed.send_replace(());
        let config = self.shared.config.load_full();
        let open = self.shared.open.load_full();
        self.shared
            .sessions
            .close_where(|session| reason_to_close(session, &config, &open));
        Ok(())
    }

    /// The addresses it listens on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.portals().open.iter().map(|portal| portal.address).collect()
    }

    /// The sessions there are, without discovery sessions.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.shared.sessions.list()
    }

    /// Whether the name server knows what is served; `None` when none is configured.
    pub fn is_registered(&self) -> Option<bool> {
        let configured = self.shared.config.load().isns.is_some();
        configured.then(|| self.shared.registered.load(Ordering::Relaxed))
    }

    fn portals(&self) -> MutexGuard<'_, Portals> {
        self.portals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a session may not go on, if so.
fn reason_to_close(session: &SessionHandle, config: &FrontendConfig, open: &[Portal]) -> Option<CloseReason> {
    let Some(access) = config.target(&session.key.target) else {
        return Some(CloseReason::TargetRemoved);
    };
    let (initiator, group) = (&session.key.initiator, session.key.portal_group);
    if !matches!(
        access.admission(initiator, group, session.local.ip()),
        Admission::Admit(_)
    ) {
        return Some(CloseReason::NotAdmitted);
    }
    let is_open = open.iter().any(|portal| portal.address == session.portal);
    (!is_open).then_some(CloseReason::PortalClosed)
}

fn open(portal: Portal) -> Result<OpenPortal, BindError> {
    let listener = listen(portal.address)?;
    let address = listener.local_addr().map_err(|source| BindError::Portal {
        portal: portal.address,
        source,
    })?;
    Ok(OpenPortal {
        portal,
        address,
        listener: Some(listener),
        stop: CancellationToken::new(),
        accepting: None,
    })
}

fn seen(portals: &[OpenPortal]) -> Vec<Portal> {
    portals
        .iter()
        .map(|open| Portal {
            address: open.address,
            group: open.portal.group,
        })
        .collect()
}

impl OpenPortal {
    /// Begins to accept, once.
    fn accept(&mut self, shared: &Arc<Shared>) {
        let Some(listener) = self.listener.take() else {
            return;
        };
        let (shared, stop, address) = (shared.clone(), self.stop.clone(), self.address);
        self.accepting = Some(tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = accept(&listener, &shared, address) => {}
            }
        }));
    }

    /// Stops listening; the socket is closed when this returns.
    async fn close(mut self) {
        self.stop.cancel();
        if let Some(accepting) = self.accepting.take() {
            // It ends by the token, or has panicked: the socket is closed either way.
            let _ = accepting.await;
        }
    }
}

async fn accept(listener: &TcpListener, shared: &Arc<Shared>, portal: SocketAddr) {
    loop {
        // A place first: a connection too many waits in the backlog instead of being closed.
        let Ok(place) = shared.places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((socket, peer)) => {
                let shared_by_it = shared.clone();
                shared.connections.spawn(async move {
                    serve(socket, peer, portal, shared_by_it).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%portal, %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection from its first byte to its last.
async fn serve(mut socket: TcpStream, peer: SocketAddr, portal: SocketAddr, shared: Arc<Shared>) {
    let local = socket.local_addr().unwrap_or(portal);
    let entrance = Entrance {
        local,
        group: shared.group_of(portal),
    };
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY");
    }
    let mut receive = ReceiveBuffer::new();
    let (limit, most) = {
        let tuning = &shared.config.load().tuning;
        (tuning.login_timeout, tuning.logins_per_address)
    };
    let Some(login_place) = shared.logins.begin(peer.ip().to_canonical(), most) else {
        if let Some(left_out) = shared.login_failures.admit(Instant::now()) {
            tracing::warn!(%peer, left_out = left_out.noted(), "refused: {most} connections of this address have not logged in yet");
        }
        return;
    };
    let stop = shared.stop.child_token();
    let logged_in = tokio::select! {
        result = timeout(limit, login(&mut socket, &mut receive, &shared, entrance)) => {
            result.unwrap_or(Err(LoginFailure::TimedOut(limit)))
        }
        () = stop.cancelled() => return,
    };
    let LoggedIn {
        outcome,
        status,
        window,
        out,
    } = match logged_in {
        Ok(logged_in) => logged_in,
        Err(failure) => {
            if let Some(left_out) = shared.login_failures.admit(Instant::now()) {
                tracing::info!(%peer, %failure, left_out = left_out.noted(), "login failed");
            }
            return;
        }
    };
    let Membership::Leading {
        parameters: session, ..
    } = outcome.membership
    else {
        return tracing::error!(%peer, "a connection joined a session of one connection");
    };
    drop(login_place);
    let (events, inbox) = mpsc::unbounded_channel();
    let statistics = Arc::new(Cells::default());
    let initiator = outcome.port.name.to_lowercase();
    let digests = digests(&outcome.connection);
    let mut seat = None;
    if let Some(name) = &outcome.target {
        let config = shared.config.load_full();
        let Some(access) = config.target(name) else {
            return tracing::info!(%peer, target = %name, "login failed: the target was removed meanwhile");
        };
        let handle = Arc::new(SessionHandle {
            key: session_key(&outcome.port, access.target.name(), entrance.group),
            tsih: outcome.tsih,
            cid: outcome.cid,
            peer,
            local,
            portal,
            since: SystemTime::now(),
            digests,
            statistics: statistics.clone(),
            events: events.clone(),
            closed: CancellationToken::new(),
        });
        // An older session of the same initiator port ends before the answer to this login.
        if timeout(limit, shared.sessions.establish(handle.clone()))
            .await
            .is_err()
        {
            return tracing::warn!(%peer, initiator, "login failed: the old session does not end");
        }
        // The configuration may have been replaced since this login was admitted.
        let (config_now, open) = (shared.config.load(), shared.open.load());
        if let Some(reason) = reason_to_close(&handle, &config_now, &open) {
            handle.send(Event::Close(reason));
        }
        seat = Some((
            attach(access, &initiator, outcome.port.isid, entrance.group),
            handle,
        ));
    }
    tracing::info!(%peer, initiator, target = outcome.target.as_deref().unwrap_or("(discovery)"), "logged in");
    let tuning = &shared.config.load().tuning;
    let origin = Instant::now();
    let (nexus, handle) = seat.unzip();
    let connection = Connection {
        framer: Framer {
            header_digest: digests.0,
            data_digest: digests.1,
            max_data_segment: outcome.connection.own_max_recv_data_segment_length,
            max_ahs: MAX_AHS,
        },
        out: {
            // The last Login Response is in it, without digests.
            let mut out = out;
            out.set_digests(digests.0, digests.1);
            out
        },
        limits: transfer_limits(&session),
        keepalive: Keepalive::new(tuning.nop_interval, tuning.nop_patience, Duration::ZERO),
        data_out_budget: tuning.data_out_budget,
        initiator,
        local,
        cid: outcome.cid,
        window,
        status,
        session,
        parameters: outcome.connection,
        nexus,
        handle,
        tasks: Tasks::default(),
        early: std::collections::BTreeMap::new(),
        text: TextExchange::default(),
        next_transfer_tag: 1,
        phase: Phase::Open,
        batch: Bytes::new(),
        origin,
        now: Duration::ZERO,
        logout_deadline: None,
        complaints: Throttle::per_io(),
        counters: Counters::default(),
        statistics,
        events,
        shared: shared.clone(),
    };
    connection.run(socket, receive, inbox, stop).await;
}

fn attach(access: &TargetAccess, initiator: &str, isid: [u8; 6], group: u16) -> Arc<Nexus> {
    access.target.attach(
        InitiatorPort {
            name: initiator.to_owned(),
            isid,
        },
        group,
    )
}

/// Which of header and data digest are in force.
fn digests(connection: &ConnectionParameters) -> (bool, bool) {
    (
        connection.header_digest == DigestKind::Crc32c,
        connection.data_digest == DigestKind::Crc32c,
    )
}

fn transfer_limits(session: &SessionParameters) -> TransferLimits {
    TransferLimits {
        initial_r2t: session.initial_r2t,
        immediate_data: session.immediate_data,
        first_burst: session.first_burst_length,
        max_burst: session.max_burst_length,
        max_outstanding_r2t: session.max_outstanding_r2t,
    }
}
