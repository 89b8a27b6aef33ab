//! Driving the login machine over a socket (RFC 7143 6.3).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Instant,
};

use iscsi_proto::{
    bhs::{Header, LoginRequest, LoginResponse, opcode},
    chap::ENTROPY_LENGTH,
    framer::{FrameError, Framer, Outbound},
    login::{
        Admission, InitiatorPort, Joining, Login, LoginFacts, LoginOutcome, LoginProgress, LoginReply,
        LoginRequestView, Misbehaviour,
    },
    negotiation::{Offer, TargetOffer},
    session::{CommandWindow, StatusNumber},
};
use tokio::net::TcpStream;

use crate::{
    config::FrontendConfig,
    frontend::Shared,
    sessions::{SessionHandle, SessionKey},
    socket::{ReceiveBuffer, send_all},
};

/// Why a connection did not get into full feature phase.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginFailure {
    #[error("refused: {0}")]
    Refused(Misbehaviour),
    #[error("the initiator closed the connection")]
    Hangup,
    #[error("the socket failed: {0}")]
    Socket(#[from] io::Error),
    #[error("protocol error: {0}")]
    Frame(#[from] FrameError),
    #[error("it took longer than {0:?}")]
    TimedOut(std::time::Duration),
    #[error("the session it was to join has ended")]
    SessionGone,
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

/// A login that has succeeded; the initiator does not know yet.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) outcome: LoginOutcome,
    pub(crate) status: StatusNumber,
    /// Of the first Login Request.
    pub(crate) exp_stat_sn: u32,
    /// That of a new session.
    pub(crate) window: CommandWindow,
    pub(crate) response: FinalResponse,
    /// The session it belongs to, if that was there before.
    pub(crate) joins: Option<Arc<SessionHandle>>,
}

/// The last Login Response, to be sent once the connection has its place in a session: it carries the numbers of that.
#[derive(Debug)]
pub(crate) struct FinalResponse {
    pub(crate) header: LoginResponse,
    pub(crate) data: Vec<u8>,
}

/// Where a connection came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entrance {
    pub(crate) local: SocketAddr,
    pub(crate) group: u16,
}

/// Exchanges Login Requests and Responses until the login has succeeded or failed. The last response of a success is
/// left to the caller, who has to put the session in place before.
pub(crate) async fn login(
    socket: &mut TcpStream,
    receive: &mut ReceiveBuffer,
    shared: &Shared,
    entrance: Entrance,
) -> Result<LoggedIn, LoginFailure> {
    let config = shared.config.load_full();
    let mut entropy = [0; ENTROPY_LENGTH];
    getrandom::fill(&mut entropy).map_err(LoginFailure::Random)?;
    let offer = TargetOffer {
        keys: config.tuning.offer.clone(),
        portal_group_tag: entrance.group,
    };
    let origin = Instant::now();
    let mut machine = Login::new(offer, entropy, origin.elapsed(), config.tuning.login_timeout);
    let mut facts = Facts {
        config: &config,
        shared,
        entrance,
        joins: OnceLock::new(),
    };
    let framer = Framer::login();
    let mut numbers = None;
    let mut out = Outbound::new();
    loop {
        let pdu = loop {
            match receive.take_one(&framer)? {
                Some(pdu) => break pdu,
                None if receive.fill(socket, usize::MAX).await? == 0 => return Err(LoginFailure::Hangup),
                None => {}
            }
        };
        let Some(frame) = framer.open(&pdu) else {
            return Err(LoginFailure::Hangup);
        };
        let (request, progress) = if frame.bhs.opcode() == opcode::LOGIN_REQUEST {
            let request = *frame.bhs.view::<LoginRequest>();
            let view = view(&request, &pdu[frame.data.clone()]);
            (request, machine.handle(&view, &mut facts, origin.elapsed()))
        } else {
            let mut request = LoginRequest::new();
            request.initiator_task_tag = frame.bhs.initiator_task_tag().into();
            (request, machine.refuse_other_request())
        };
        let (exp_stat_sn, status, window) = numbers.get_or_insert_with(|| {
            let window = CommandWindow::new(request.cmd_sn.get(), config.tuning.command_window);
            let exp_stat_sn = request.exp_stat_sn.get();
            (exp_stat_sn, StatusNumber::new(exp_stat_sn), window)
        });
        let (reply, end) = match progress {
            LoginProgress::Reply(reply) => (reply, None),
            LoginProgress::Done { reply, outcome } => (reply, Some(Ok(outcome))),
            LoginProgress::Refuse { reply, why } => (reply, Some(Err(LoginFailure::Refused(why)))),
        };
        let mut header = response(&request, &reply);
        if let Some(Ok(outcome)) = end {
            return Ok(LoggedIn {
                outcome: *outcome,
                status: *status,
                exp_stat_sn: *exp_stat_sn,
                window: window.clone(),
                response: FinalResponse {
                    header,
                    data: reply.data,
                },
                joins: facts.joins.into_inner(),
            });
        }
        let (exp_cmd_sn, max_cmd_sn) = match facts.joins.get() {
            // The numbers are the session's, of which this request may have nothing new to tell.
            Some(session) => session.numbers().await.ok_or(LoginFailure::SessionGone)?,
            None => (window.exp_cmd_sn(), window.max_cmd_sn()),
        };
        header.stamp(status.take(), exp_cmd_sn, max_cmd_sn);
        out.push_copied(&header, &reply.data);
        send_all(socket, &mut out).await?;
        if let Some(Err(failure)) = end {
            return Err(failure);
        }
    }
}

fn view<'a>(request: &LoginRequest, data: &'a [u8]) -> LoginRequestView<'a> {
    LoginRequestView {
        transit: request.transit(),
        cont: request.continues(),
        csg: request.current_stage(),
        nsg: request.next_stage(),
        version_max: request.version_max,
        version_min: request.version_min,
        isid: request.isid,
        tsih: request.tsih.get(),
        itt: request.initiator_task_tag.get(),
        cid: request.cid.get(),
        cmd_sn: request.cmd_sn.get(),
        exp_stat_sn: request.exp_stat_sn.get(),
        data,
    }
}

fn response(request: &LoginRequest, reply: &LoginReply) -> LoginResponse {
    let mut response = LoginResponse::new();
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    response.flags = bit(reply.transit, iscsi_proto::bhs::FINAL)
        | bit(reply.cont, LoginResponse::CONTINUE)
        | (reply.csg & 3) << 2
        | reply.nsg & 3;
    response.version_max = reply.version_max;
    response.version_active = reply.version_active;
    response.isid = request.isid;
    response.tsih = reply.tsih.into();
    response.initiator_task_tag = request.initiator_task_tag;
    (response.status_class, response.status_detail) = reply.status;
    response
}

/// What the login machine asks about.
struct Facts<'a> {
    config: &'a FrontendConfig,
    shared: &'a Shared,
    entrance: Entrance,
    /// The session that the login asks to be in, when it may.
    joins: OnceLock<Arc<SessionHandle>>,
}

impl Facts<'_> {
    fn ip(&self) -> IpAddr {
        self.entrance.local.ip()
    }

    fn key(&self, port: &InitiatorPort, target: &str) -> Option<SessionKey> {
        let access = self.config.target(target)?;
        Some(session_key(port, access.target.name(), self.entrance.group))
    }
}

/// The key of a session. Names are compared in lower case (RFC 7143 4.2.7.1).
pub(crate) fn session_key(port: &InitiatorPort, target: &str, portal_group: u16) -> SessionKey {
    SessionKey {
        initiator: port.name.to_lowercase(),
        isid: port.isid,
        target: target.to_owned(),
        portal_group,
    }
}

impl LoginFacts for Facts<'_> {
    fn target(&self, port: &InitiatorPort, target: &str) -> Admission {
        let Some(access) = self.config.target(target) else {
            return Admission::NotFound;
        };
        let admission = access.admission(&port.name, self.entrance.group, self.ip());
        match (admission, self.shared.elsewhere(access.target.name())) {
            (Admission::Admit(_), Some(address)) => Admission::Moved {
                permanent: false,
                address,
            },
            (admission, _) => admission,
        }
    }

    fn alias(&self, target: &str) -> Option<String> {
        self.config.target(target)?.alias.clone()
    }

    fn offer(&self, port: &InitiatorPort, target: &str) -> Option<Offer> {
        Some(self.config.offer(target, &port.name).clone())
    }

    fn discovery(&self, _port: &InitiatorPort) -> Admission {
        Admission::Admit(self.config.discovery.clone())
    }

    fn session_of(&self, port: &InitiatorPort, target: &str) -> Option<u16> {
        Some(self.shared.sessions.get(&self.key(port, target)?)?.tsih)
    }

    fn join(&self, port: &InitiatorPort, target: &str, tsih: u16, cid: u16) -> Joining {
        let session = self
            .key(port, target)
            .and_then(|key| self.shared.sessions.get(&key));
        let Some(session) = session.filter(|session| session.tsih == tsih) else {
            return Joining::NoSuchSession;
        };
        let joining = session.joining(cid);
        if matches!(joining, Joining::Added | Joining::Reinstated) {
            self.joins.get_or_init(|| session);
        }
        joining
    }

    fn allocate_tsih(&mut self) -> Option<u16> {
        self.shared.sessions.allocate_tsih()
    }
}
