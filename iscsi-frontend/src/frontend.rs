//! The frontend as a whole: portals that accept, connections that are served, and the way to stop.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use iscsi_proto::login::Admission;
use target_core::{buffer::BufferPool, throttle::Throttle};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    arrival::arrive,
    config::{FrontendConfig, Portal},
    homes::Homes,
    isns,
    listener::{BindError, listen},
    logins::Logins,
    looking,
    sessions::{CloseReason, Event, SessionHandle, SessionInfo, Sessions},
};

/// How often buffers that nobody needs are given back.
const TRIM_INTERVAL: Duration = Duration::from_secs(5);

/// After an error of accept, such as too many open files, this long passes before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Knows which targets are to be used through another system at the moment.
pub trait Guide: Send + Sync {
    /// The portal there of this target, `host:port` as in TargetAddress; `None`: it is served here. Asked at every login, so it must not
    /// wait.
    fn elsewhere(&self, target: &str) -> Option<String>;
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) config: ArcSwap<FrontendConfig>,
    guide: OnceLock<Arc<dyn Guide>>,
    /// Told when the configuration, or what is open, was replaced.
    pub(crate) changed: watch::Sender<()>,
    /// The name server knows what is served.
    pub(crate) registered: AtomicBool,
    pub(crate) sessions: Sessions,
    /// The portals as they are open: with the ports that port 0 came to.
    open: ArcSwap<Vec<Portal>>,
    places: Arc<Semaphore>,
    /// Sessions that may look at their sockets at once.
    pub(crate) looks: Semaphore,
    pub(crate) connections: TaskTracker,
    homes: Homes,
    /// Tells connections that the target stops.
    pub(crate) stop: CancellationToken,
    pub(crate) logins: Arc<Logins>,
    /// For what is logged of logins: some initiators try for ever.
    pub(crate) login_failures: Throttle,
}

impl Shared {
    /// The portal group that this open portal is in.
    pub(crate) fn group_of(&self, address: SocketAddr) -> u16 {
        self.open
            .load()
            .iter()
            .find(|portal| portal.address == address)
            .map_or(1, |portal| portal.group)
    }

    /// The portal where this target is to be used instead of here.
    pub(crate) fn elsewhere(&self, target: &str) -> Option<String> {
        self.guide.get()?.elsewhere(target)
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

    /// Closes a session, or connections of it, that the configuration does not allow any more.
    pub(crate) fn close_what_may_not_go_on(&self, session: &SessionHandle) {
        let (config, open) = (self.config.load(), self.open.load());
        let Some(access) = config.target(&session.key.target) else {
            session.send(Event::Close(CloseReason::TargetRemoved));
            return;
        };
        let (initiator, group) = (&session.key.initiator, session.key.portal_group);
        for connection in session.connections().iter() {
            let admission = access.admission(initiator, group, connection.local.ip());
            let reason = if !matches!(admission, Admission::Admit(_)) {
                CloseReason::NotAdmitted
            } else if self.elsewhere(access.target.name()).is_some() {
                CloseReason::Elsewhere
            } else if !open.contains(&Portal {
                address: connection.portal,
                group,
            }) {
                CloseReason::PortalClosed
            } else {
                continue;
            };
            session.send(Event::CloseConnection(connection.cid, reason));
        }
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
    /// served by [`Frontend::run`], at `homes`. Must be called within a tokio runtime.
    pub fn bind(config: FrontendConfig, homes: Homes) -> Result<Self, BindError> {
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
            looks: Semaphore::new(looking::places()),
            connections: TaskTracker::new(),
            homes,
            stop: CancellationToken::new(),
            logins: Arc::default(),
            login_failures: Throttle::new(10, Duration::from_secs(10)),
            config: ArcSwap::from_pointee(config),
            guide: OnceLock::new(),
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
        for session in self.shared.sessions.all() {
            session.send(Event::Reconfigured);
            self.shared.close_what_may_not_go_on(&session);
        }
        Ok(())
    }

    /// From now on who logs in to a target is sent to where `guide` says (RFC 7143 11.13.5, status 0101h). Once; later calls change nothing.
    pub fn set_guide(&self, guide: Arc<dyn Guide>) {
        let _ = self.shared.guide.set(guide);
    }

    /// The guide says otherwise than before: sessions of targets that are to be used elsewhere are asked to log out, and closed after
    /// a grace.
    pub fn follow(&self) {
        for session in self.shared.sessions.all() {
            self.shared.close_what_may_not_go_on(&session);
        }
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
                shared.homes.take_in(&shared.connections, socket, move |socket| {
                    arrive(socket, peer, portal, place, shared_by_it)
                });
            }
            Err(error) => {
                tracing::warn!(%portal, %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
