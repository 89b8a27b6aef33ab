//! The link of this system: one listener, any number of peers.

use super::{
    calling,
    config::{LinkConfig, PeerConfig},
    errors::{LinkEnd, LinkStartError},
    identity::Tls,
    listener,
    network::Network,
    peer::Peer,
    service::LinkService,
    wire::{Asker, Wire},
};
use crate::lock;
use link_proto::{Session, SessionConfig, SystemId};
use rustls::pki_types::UnixTime;
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The link, running.
#[derive(Debug)]
pub struct Links {
    shared: Arc<Shared>,
    address: SocketAddr,
    until: Option<UnixTime>,
}

/// What the tasks of the link share.
pub(super) struct Shared {
    pub(super) config: LinkConfig,
    pub(super) road: Road,
    pub(super) service: Arc<dyn LinkService>,
    pub(super) stopping: CancellationToken,
    pub(super) tasks: TaskTracker,
    origin: Instant,
    connections: AtomicU64,
    peers: Mutex<BTreeMap<SystemId, Arc<Peer>>>,
    /// See `Peer::alone`; kept for every peer there ever was.
    alone: Mutex<BTreeMap<SystemId, Arc<tokio::sync::Mutex<()>>>>,
    refusals: Mutex<Refusals>,
}

/// What calls go over.
#[derive(Debug)]
pub(super) enum Road {
    Tls(Tls),
    Given(Arc<dyn Network>),
}

impl Road {
    /// Spreads calls; which value it is matters to nobody.
    pub(super) fn jitter(&self) -> u32 {
        match self {
            Self::Tls(_) => getrandom::u32().unwrap_or_default(),
            Self::Given(network) => network.jitter(),
        }
    }
}

/// Calls that came in and were not let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    /// How many since the daemon started.
    pub count: u64,
    /// From where the last one came, and why it was refused.
    pub last: Option<(SocketAddr, String)>,
}

impl Links {
    /// Reads the certificates, listens, and begins to call the peers. Must be called inside a runtime, in which all of
    /// it then runs.
    pub async fn start(
        config: LinkConfig,
        service: Arc<dyn LinkService>,
    ) -> Result<Arc<Self>, LinkStartError> {
        let tls = Tls::load(&config)?;
        let until = tls.until;
        let by_id = by_id(&config.system, &config.peers)?;
        let at = |why| LinkStartError::Listen {
            address: config.listen,
            why,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(at)?;
        let address = listener.local_addr().map_err(at)?;
        let shared = Shared::new(config, Road::Tls(tls.clone()), service);
        shared
            .tasks
            .spawn(listener::listen(shared.clone(), tls, listener));
        shared.adopt(by_id);
        Ok(Arc::new(Self {
            shared,
            address,
            until,
        }))
    }

    /// [`Links::start`] over a network of the caller's; the files of the configuration, and where it listens, are not looked at.
    pub fn start_over(
        network: Arc<dyn Network>,
        config: LinkConfig,
        service: Arc<dyn LinkService>,
    ) -> Result<Arc<Self>, LinkStartError> {
        let by_id = by_id(&config.system, &config.peers)?;
        let (address, calls) = (config.listen, network.calls());
        let shared = Shared::new(config, Road::Given(network), service);
        shared.tasks.spawn(listener::take_calls(shared.clone(), calls));
        shared.adopt(by_id);
        Ok(Arc::new(Self {
            shared,
            address,
            until: None,
        }))
    }

    /// Until when the certificate is good that this system shows; `None` where that is not known.
    pub fn certificate_until(&self) -> Option<SystemTime> {
        self.until
            .and_then(|until| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(until.as_secs())))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A configured peer, connected or not.
    pub fn peer(&self, id: &SystemId) -> Option<Arc<Peer>> {
        self.shared.peer(id)
    }

    /// All of them, by id.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        lock(&self.shared.peers).values().cloned().collect()
    }

    /// Calls that were not let in.
    pub fn refusals(&self) -> Refusals {
        lock(&self.shared.refusals).clone()
    }

    /// Adds and removes peers, and learns new addresses and what to compress by. Connections of peers that stay, stay; those of peers that are removed
    /// end in order. Nothing changes when it is an error.
    pub fn reconfigure(&self, peers: &[PeerConfig]) -> Result<(), LinkStartError> {
        let by_id = by_id(&self.shared.config.system, peers)?;
        self.shared.adopt(by_id);
        Ok(())
    }

    /// Takes no more calls, ends every connection in order (or, after a while, without), and returns when the last one is
    /// down.
    pub async fn stop(&self) {
        self.shared.stopping.cancel();
        for peer in self.peers() {
            peer.gone.cancel();
        }
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// Reads the certificates and looks at the peers, and starts nothing.
pub fn check(config: &LinkConfig) -> Result<(), LinkStartError> {
    by_id(&config.system, &config.peers)?;
    Tls::load(config).map(drop)
}

/// What is configured, by id.
fn by_id(own: &SystemId, peers: &[PeerConfig]) -> Result<BTreeMap<SystemId, PeerConfig>, LinkStartError> {
    let mut by_id = BTreeMap::new();
    for peer in peers {
        if peer.id == *own || by_id.insert(peer.id.clone(), peer.clone()).is_some() {
            return Err(LinkStartError::Peer(peer.id.clone()));
        }
    }
    Ok(by_id)
}

impl Shared {
    fn new(config: LinkConfig, road: Road, service: Arc<dyn LinkService>) -> Arc<Self> {
        Arc::new(Self {
            road,
            service,
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            origin: Instant::now(),
            connections: AtomicU64::new(0),
            peers: Mutex::default(),
            alone: Mutex::default(),
            refusals: Mutex::default(),
            config,
        })
    }

    pub(super) fn peer(&self, id: &SystemId) -> Option<Arc<Peer>> {
        lock(&self.peers).get(id).cloned()
    }

    /// These are the peers from now on.
    fn adopt(self: &Arc<Self>, peers: BTreeMap<SystemId, PeerConfig>) {
        let mut known = lock(&self.peers);
        known.retain(|id, peer| {
            let stays = peers.contains_key(id);
            if !stays {
                peer.gone.cancel();
            }
            stays
        });
        for (id, config) in peers {
            if let Some(peer) = known.get(&id) {
                peer.configure(config);
                continue;
            }
            let alone = lock(&self.alone).entry(id.clone()).or_default().clone();
            let peer = Arc::new(Peer::new(&self.config.system, config, alone, self.origin));
            known.insert(id, peer.clone());
            self.tasks.spawn(calling::keep_calling(self.clone(), peer));
        }
    }

    /// A new connection's queue.
    pub(super) fn wire(&self, session: impl FnOnce(SessionConfig, Duration) -> Session<Asker>) -> Arc<Wire> {
        let id = self.connections.fetch_add(1, Ordering::Relaxed);
        let session = session(self.config.session(), self.origin.elapsed());
        Arc::new(Wire::new(id, self.origin, session))
    }

    /// Remembers a call that was not let in, and says it.
    pub(super) fn refused(&self, from: SocketAddr, why: &LinkEnd) {
        let mut refusals = lock(&self.refusals);
        refusals.count += 1;
        let last = Some((from, why.to_string()));
        // The same again from the same machine says nothing new; its port does not matter.
        let known = |(address, why): &(SocketAddr, String)| (address.ip(), why.clone());
        if refusals.last.as_ref().map(known) != last.as_ref().map(known) {
            tracing::warn!(%from, "a call of the link was refused: {why}");
        }
        refusals.last = last;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
