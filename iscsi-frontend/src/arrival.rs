//! A connection from its first byte to its place in a session: it logs in, and becomes the leading one of a new session
//! or is handed over to the one it joins.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use iscsi_proto::{
    data_flow::TransferLimits,
    login::{LoginOutcome, Membership},
    negotiation::SessionParameters,
    nop::{Keepalive, KeepaliveTimes},
    session::CommandWindow,
};
use target_core::{
    copies::Copies,
    target::{InitiatorPort, Nexus},
    throttle::Throttle,
};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    command::COPIES,
    config::TargetAccess,
    frontend::Shared,
    link::{Link, LinkId, Newcomer, Wire},
    login::{Entrance, LoginFailure, login, session_key},
    response_fence::ResponseFence,
    session::Session,
    sessions::{ConnectionView, Event, SessionHandle},
    socket::ReceiveBuffer,
    tasks::Tasks,
    waiting::Waiting,
};

/// One connection that was accepted.
pub(crate) async fn arrive(
    mut socket: TcpStream,
    peer: SocketAddr,
    portal: SocketAddr,
    place: OwnedSemaphorePermit,
    shared: Arc<Shared>,
) {
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
    let logged_in = match logged_in {
        Ok(logged_in) => logged_in,
        Err(failure) => {
            if let Some(left_out) = shared.login_failures.admit(Instant::now()) {
                tracing::info!(%peer, %failure, left_out = left_out.noted(), "login failed");
            }
            return;
        }
    };
    drop(login_place);
    let wire = Wire {
        socket,
        receive,
        peer,
        local,
        portal,
        place,
    };
    match (logged_in.outcome.membership, logged_in.joins.clone()) {
        (Membership::Leading { parameters, .. }, _) => {
            let (outcome, window) = (logged_in.outcome.clone(), logged_in.window.clone());
            let leading = Newcomer::new(wire, logged_in);
            lead(leading, &outcome, parameters, window, entrance, &shared, stop).await;
        }
        (Membership::Joining { .. }, Some(session)) => {
            // When the session has ended meanwhile, the connection ends here.
            session.send(Event::Join(Box::new(Newcomer::new(wire, logged_in))));
        }
        (Membership::Joining { .. }, None) => {
            tracing::error!(%peer, "login failed: it joins a session that was not looked for");
        }
    }
}

/// Makes a new session of its leading connection, and serves it.
async fn lead(
    leading: Newcomer,
    outcome: &LoginOutcome,
    parameters: SessionParameters,
    window: CommandWindow,
    entrance: Entrance,
    shared: &Arc<Shared>,
    stop: CancellationToken,
) {
    let peer = leading.wire.peer;
    let (events, inbox) = mpsc::unbounded_channel();
    let initiator = outcome.port.name.to_lowercase();
    let view = leading.view();
    let mut seat = None;
    if let Some(name) = &outcome.target {
        let config = shared.config.load_full();
        let Some(access) = config.target(name) else {
            return tracing::info!(%peer, target = %name, "login failed: the target was removed meanwhile");
        };
        let handle = SessionHandle {
            key: session_key(&outcome.port, access.target.name(), entrance.group),
            tsih: outcome.tsih,
            connections: Mutex::new(vec![view.clone()]),
            // To clean up after one connection a second is let in where tasks can be moved (RFC 7143 6.3.4).
            max_connections: match parameters.error_recovery_level {
                2 => parameters.max_connections.max(2),
                _ => parameters.max_connections,
            },
            events: events.clone(),
            closed: CancellationToken::new(),
        };
        let limit = config.tuning.login_timeout;
        let Some(handle) = take_seat(handle, limit, shared).await else {
            return tracing::warn!(%peer, initiator, "login failed: the old session does not end");
        };
        let nexus = attach(access, &initiator, outcome.port.isid, entrance.group);
        let inbox = events.clone();
        nexus.on_other_luns(move || {
            // The session may have ended meanwhile.
            let _ = inbox.send(Event::OtherLuns);
        });
        seat = Some((nexus, handle));
    }
    tracing::info!(%peer, initiator, target = outcome.target.as_deref().unwrap_or("(discovery)"), "logged in");
    let (nexus, handle) = seat.unzip();
    let mut session = Session {
        initiator,
        window,
        limits: transfer_limits(&parameters),
        data_out_budget: shared.config.load().tuning.data_out_budget,
        parameters,
        nexus,
        handle,
        tasks: Tasks::default(),
        waiting: Waiting::default(),
        copies: Copies::new(COPIES),
        early: BTreeMap::new(),
        postponed: Vec::new(),
        next_transfer_tag: 1,
        links: Vec::new(),
        fence: ResponseFence::default(),
        last_link: LinkId::default(),
        settling: Vec::new(),
        lost: Vec::new(),
        origin: Instant::now(),
        look: false,
        complaints: Throttle::per_io(),
        events,
        shared: shared.clone(),
    };
    session.add(leading, &view);
    session.run(inbox, stop).await;
}

/// Puts the session into the list. An older one of the same initiator port ends before; `None` when it does not.
async fn take_seat(handle: SessionHandle, limit: Duration, shared: &Shared) -> Option<Arc<SessionHandle>> {
    let handle = Arc::new(handle);
    let established = shared.sessions.establish(handle.clone());
    timeout(limit, established).await.ok()?;
    // The configuration may have been replaced since this login was admitted.
    shared.close_what_may_not_go_on(&handle);
    Some(handle)
}

impl Session {
    /// Adds a connection.
    pub(crate) fn add(&mut self, newcomer: Newcomer, view: &ConnectionView) {
        let keepalive = Keepalive::new(self.keepalive_times(), self.origin.elapsed());
        self.last_link = self.last_link.next();
        let mut link = Link::new(
            self.last_link,
            newcomer,
            keepalive,
            view.statistics.clone(),
            &self.window,
            self.parameters.error_recovery_level > 0,
            self.origin.elapsed(),
        );
        link.looking
            .set_longest(self.shared.config.load().tuning.longest_look);
        self.links.push(link);
        self.look = true;
    }

    /// The configuration may say otherwise when its connections are asked whether they are still there, and how long they are looked at.
    pub(crate) fn reconfigured(&mut self) {
        let times = self.keepalive_times();
        let longest_look = self.shared.config.load().tuning.longest_look;
        for link in &mut self.links {
            link.keepalive.set_times(times);
            link.looking.set_longest(longest_look);
        }
        self.look = true;
    }

    pub(crate) fn keepalive_times(&self) -> KeepaliveTimes {
        let target = self.handle.as_ref().map(|handle| handle.key.target.as_str());
        self.shared.config.load().keepalive(target)
    }
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

fn transfer_limits(session: &SessionParameters) -> TransferLimits {
    TransferLimits {
        initial_r2t: session.initial_r2t,
        immediate_data: session.immediate_data,
        first_burst: session.first_burst_length,
        max_burst: session.max_burst_length,
        max_outstanding_r2t: session.max_outstanding_r2t,
        recovers: session.error_recovery_level > 0,
    }
}
