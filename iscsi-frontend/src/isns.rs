//! Telling a name server what is served here (RFC 4171): the sockets around [`iscsi_proto::isns`].
//!
//! One task holds the connection to the server and keeps what is registered in step with the configuration. Inquiries
//! of the server come over connections of their own; one listener for each address of a portal answers them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use iscsi_proto::isns::{
    client::{Client, News, PATIENCE, Step},
    esi,
    message::{Assembler, IsnsError, Message},
    registration::{EsiWish, RegisteredNode, RegisteredPortal, Registration, tellable},
};
use target_core::throttle::Throttle;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{config::IsnsConfig, frontend::Shared};

/// How long deregistering may hold up the end of the daemon.
const LEAVE: Duration = Duration::from_secs(3);

/// Bytes of a message that the server may send: as long as what is registered, and more.
const ANSWER_MAX: usize = 1 << 20;

/// Bytes of an inquiry, which has four attributes.
const INQUIRY_MAX: usize = 4096;

/// An inquiry is asked within this time after its connection was opened, or after the one before.
const INQUIRY_TIME: Duration = Duration::from_secs(10);

/// Connections with inquiries at once; each listener has so many.
const INQUIRIES: usize = 16;

/// Registers with the server that the configuration names, for as long as it does; deregisters at the end.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut changed = shared.changed.subscribe();
    let leave_by = async {
        stop.cancelled().await;
        tokio::time::sleep(LEAVE).await;
    };
    let serve = async {
        while !stop.is_cancelled() {
            let config = shared.config.load().isns.clone();
            if let Some(config) = config {
                Registrar::new(shared.clone(), config).run(&stop).await;
            } else {
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = changed.changed() => {}
                }
            }
        }
    };
    tokio::select! {
        () = serve => {}
        () = leave_by => tracing::warn!("iSNS: not deregistered, the server is too slow"),
    }
}

/// The client of one server.
struct Registrar {
    shared: Arc<Shared>,
    config: IsnsConfig,
    client: Client,
    link: Option<Link>,
    /// By address.
    inquiries: BTreeMap<IpAddr, Inquiries>,
    origin: Instant,
    complaints: Throttle,
}

impl Registrar {
    fn new(shared: Arc<Shared>, config: IsnsConfig) -> Self {
        Self {
            shared,
            config,
            client: Client::new(),
            link: None,
            inquiries: BTreeMap::new(),
            origin: Instant::now(),
            complaints: Throttle::new(3, Duration::from_secs(60)),
        }
    }

    /// Until `stop`, or until the configuration names another server; deregisters then.
    async fn run(mut self, stop: &CancellationToken) {
        let mut changed = self.shared.changed.subscribe();
        let mut leaving = false;
        loop {
            if !leaving
                && (stop.is_cancelled() || self.shared.config.load().isns.as_ref() != Some(&self.config))
            {
                leaving = true;
                self.client.leave();
            }
            let until = match self.client.next(self.origin.elapsed()) {
                Step::Connect => {
                    let linked = tokio::select! {
                        linked = Link::to(&self.config.server) => linked,
                        () = stop.cancelled() => continue,
                    };
                    self.linked(linked).await;
                    continue;
                }
                Step::Send(message) => {
                    let sent = match &mut self.link {
                        Some(link) => link.send(&message).await,
                        None => Err(LinkError::Hangup),
                    };
                    if let Err(error) = sent {
                        self.lost(Some(&error));
                    }
                    continue;
                }
                Step::Disconnect => {
                    self.lost(None);
                    continue;
                }
                Step::End => return,
                Step::Wait(until) => until,
            };
            let registered = self.client.is_registered();
            self.shared.registered.store(registered, Ordering::Relaxed);
            let time = async {
                match until {
                    Some(until) => tokio::time::sleep_until((self.origin + until).into()).await,
                    None => std::future::pending().await,
                }
            };
            let received = async {
                match &mut self.link {
                    Some(link) => link.receive().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled(), if !leaving => {}
                () = time => {}
                received = received => self.received(received),
                _ = changed.changed() => self.want().await,
            }
        }
    }

    async fn linked(&mut self, linked: Result<Link, LinkError>) {
        match linked {
            Ok(link) => {
                self.link = Some(link);
                self.client.connected();
                self.want().await;
            }
            Err(error) => self.lost(Some(&error)),
        }
    }

    fn lost(&mut self, why: Option<&LinkError>) {
        self.link = None;
        // Without randomness all clients come back at once: no reason not to come back.
        let mut random = [0; 4];
        let _ = getrandom::fill(&mut random);
        self.client
            .lost(self.origin.elapsed(), u32::from_be_bytes(random));
        if let Some(why) = why {
            self.complain(&format_args!("{why}"));
        }
    }

    fn received(&mut self, received: Result<Message, LinkError>) {
        let registered = self.client.is_registered();
        let news = match received {
            Ok(message) => self
                .client
                .received(&message, self.origin.elapsed())
                .map_err(LinkError::from),
            Err(error) => Err(error),
        };
        let server = &self.config.server;
        match news {
            Ok(News::Registered) => tracing::info!(%server, "iSNS: registered"),
            Ok(News::Deregistered) => {
                tracing::info!(%server, "iSNS: deregistered what is not served any more");
            }
            Ok(News::Forgotten) => tracing::info!(%server, "iSNS: the server has forgotten something"),
            Ok(News::NoInquiries) => tracing::info!(%server, "iSNS: the server sends no inquiries"),
            Ok(News::Refused(status)) => self.complain(&format_args!("it refuses: {status}")),
            Ok(News::Kept | News::Ignored) => {}
            // Servers close what is silent.
            Err(LinkError::Hangup) if registered => self.lost(None),
            Err(error) => self.lost(Some(&error)),
        }
    }

    fn complain(&self, why: &dyn std::fmt::Display) {
        if let Some(left_out) = self.complaints.admit(Instant::now()) {
            tracing::warn!(server = %self.config.server, %why, left_out = left_out.noted(), "iSNS: not registered, tried again later");
        }
    }

    /// Tells the client what is to be registered, as seen from the server.
    async fn want(&mut self) {
        let Some(local) = self.link.as_ref().and_then(Link::local) else {
            return;
        };
        let config = self.shared.config.load_full();
        let open = self.shared.open_portals();
        let mut told = BTreeMap::new();
        for portal in open.iter() {
            if let Some(address) = tellable(portal.address, local) {
                told.insert(address, portal.group);
            }
        }
        let nodes = config.targets.iter().filter(|access| {
            let mut portals = told.iter();
            portals
                .any(|(address, group)| access.is_in_group(*group) && access.is_reached_through(address.ip()))
        });
        let nodes = nodes.map(|access| RegisteredNode {
            name: access.target.name().to_owned(),
            alias: access.alias.clone(),
            portal_groups: access.portal_groups.clone(),
        });
        let nodes = nodes.collect();
        let addresses: BTreeSet<IpAddr> = told.keys().map(SocketAddr::ip).collect();
        self.listen(&addresses).await;
        let portals = told.into_iter().map(|(address, group)| RegisteredPortal {
            address,
            group,
            esi: self.inquiries.get(&address.ip()).map(|inquiries| EsiWish {
                port: inquiries.port,
                interval: self.config.esi_interval,
            }),
        });
        let wanted = Registration {
            entity: self.config.entity.clone(),
            portals: portals.collect(),
            nodes,
        };
        self.client.want(wanted);
    }

    /// Listens for inquiries at these addresses, and no others.
    async fn listen(&mut self, addresses: &BTreeSet<IpAddr>) {
        self.inquiries.retain(|address, _| addresses.contains(address));
        if self.config.esi_interval == 0 {
            return;
        }
        for address in addresses {
            if self.inquiries.contains_key(address) {
                continue;
            }
            match Inquiries::at(*address, self.config.entity.clone()).await {
                Ok(inquiries) => drop(self.inquiries.insert(*address, inquiries)),
                // The registration is kept by looking it up as well.
                Err(error) => tracing::warn!(%address, %error, "iSNS: no inquiries can be answered here"),
            }
        }
    }
}

/// The connection to the server.
struct Link {
    socket: TcpStream,
    assembler: Assembler,
}

/// Why a connection to the server is of no use.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("the server closed the connection")]
    Hangup,
    #[error("the server is not reached within {PATIENCE:?}")]
    TimedOut,
    #[error("{0}")]
    Message(#[from] IsnsError),
}

impl Link {
    async fn to(server: &str) -> Result<Self, LinkError> {
        let connecting = timeout(PATIENCE, TcpStream::connect(server)).await;
        Ok(Self {
            socket: connecting.map_err(|_| LinkError::TimedOut)??,
            assembler: Assembler::new(ANSWER_MAX),
        })
    }

    /// The address the server sees.
    fn local(&self) -> Option<IpAddr> {
        Some(self.socket.local_addr().ok()?.ip())
    }

    async fn send(&mut self, message: &Message) -> Result<(), LinkError> {
        let bytes = message.to_bytes();
        let sending = timeout(PATIENCE, self.socket.write_all(&bytes)).await;
        Ok(sending.map_err(|_| LinkError::TimedOut)??)
    }

    /// The next message. Safe to cancel.
    async fn receive(&mut self) -> Result<Message, LinkError> {
        let mut piece = [0; 4096];
        loop {
            if let Some(message) = self.assembler.take()? {
                return Ok(message);
            }
            match self.socket.read(&mut piece).await? {
                0 => return Err(LinkError::Hangup),
                count => self.assembler.push(&piece[..count]),
            }
        }
    }
}

/// Answers inquiries at one address until it is dropped.
struct Inquiries {
    port: u16,
    _task: AbortOnDropHandle<()>,
}

impl Inquiries {
    async fn at(address: IpAddr, entity: String) -> io::Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(answer_inquiries(listener, entity.into()));
        Ok(Self {
            port,
            _task: AbortOnDropHandle::new(task),
        })
    }
}

async fn answer_inquiries(listener: TcpListener, entity: Arc<str>) {
    let places = Arc::new(Semaphore::new(INQUIRIES));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((socket, _)) => {
                let entity = entity.clone();
                tokio::spawn(async move {
                    answer_on(socket, &entity).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "iSNS: accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers what is asked over one connection, until something else is asked, or nothing for a while.
async fn answer_on(mut socket: TcpStream, entity: &str) {
    let mut assembler = Assembler::new(INQUIRY_MAX);
    let mut piece = [0; 1024];
    let mut asked_at = tokio::time::Instant::now();
    loop {
        let answered = match assembler.take() {
            Ok(Some(message)) => match esi::answer(&message, entity) {
                Some(answer) => {
                    asked_at = tokio::time::Instant::now();
                    let bytes = answer.to_bytes();
                    timeout(INQUIRY_TIME, socket.write_all(&bytes))
                        .await
                        .is_ok_and(|sent| sent.is_ok())
                }
                None => false,
            },
            Ok(None) => match tokio::time::timeout_at(asked_at + INQUIRY_TIME, socket.read(&mut piece)).await
            {
                Ok(Ok(count @ 1..)) => {
                    assembler.push(&piece[..count]);
                    true
                }
                _ => false,
            },
            Err(_) => false,
        };
        if !answered {
            return;
        }
    }
}
