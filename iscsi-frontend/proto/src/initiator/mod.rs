//! The initiator side of the login phase (RFC 7143 6.3), pure like the target side.
//!
//! [`InitiatorLogin::start`] makes the first Login Request, [`InitiatorLogin::handle`] takes each response and says
//! what to send next. It goes through SecurityNegotiation when told to (always with CHAP), then settles the
//! operational keys, and asks for every change of stage in the first request where it can. After it, [`data_out`] answers R2Ts.

mod chap;
mod failure;
mod transfer;

use std::time::Duration;

use crate::bhs::{self, Header as _};
use crate::chap::{Algorithm, Credentials, ENTROPY_LENGTH};
use crate::keys::{Key, Rule};
use crate::limits::{LOGIN_EXCHANGES_MAX, TEXT_SEGMENT_DEFAULT};
use crate::login::{LoginReply, LoginRequestView, Stage, VERSION};
use crate::negotiation::{
    ConnectionParameters, Declarations, Negotiation, NegotiationError, Offer, Role, SessionParameters,
    SessionType, UnknownKeys, check_sender, is_security_phase,
};
use crate::text::{self, Collector, NONE, Pair, Pieces, TextWriter};
use chap::{AlgorithmOffered, ResponseSent};
pub use failure::LoginFailure;
pub use transfer::data_out;

/// Who logs in where, and how.
#[derive(Clone, Debug)]
pub struct InitiatorConfig {
    /// InitiatorName.
    pub name: String,
    /// InitiatorAlias.
    pub alias: Option<String>,
    /// TargetName; `None` opens a discovery session.
    pub target: Option<String>,
    /// Initiator session id.
    pub isid: [u8; 6],
    /// 0 for a new session, else the session to join.
    pub tsih: u16,
    /// Connection id.
    pub cid: u16,
    /// What we want of the operational keys.
    pub keys: Offer,
    /// What we prove. With it, and without `mutual`, a target may still do without authentication.
    pub chap: Option<Credentials>,
    /// What the target must prove. Needs `chap`.
    pub mutual: Option<Credentials>,
    /// Hashes we offer, best first.
    pub algorithms: Vec<Algorithm>,
    /// True to start in SecurityNegotiation even without CHAP, offering AuthMethod=None.
    pub security_stage: bool,
}

impl InitiatorConfig {
    /// A new session with `target` (`None`: discovery), without authentication, with the usual keys.
    pub fn new(name: impl Into<String>, target: Option<String>, isid: [u8; 6]) -> Self {
        Self {
            name: name.into(),
            alias: None,
            target,
            isid,
            tsih: 0,
            cid: 0,
            keys: Offer::default(),
            chap: None,
            mutual: None,
            algorithms: Algorithm::PREFERENCE.to_vec(),
            security_stage: false,
        }
    }
}

/// A Login Request without the fields the caller counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRequest {
    /// T bit.
    pub transit: bool,
    /// C bit.
    pub cont: bool,
    /// Current stage.
    pub csg: u8,
    /// Next stage; 0 without `transit`.
    pub nsg: u8,
    /// Initiator session id.
    pub isid: [u8; 6],
    /// Session to join, or 0.
    pub tsih: u16,
    /// Connection id.
    pub cid: u16,
    /// The data segment without padding.
    pub data: Vec<u8>,
}

impl LoginRequest {
    /// The PDU's header, with the caller's counters.
    pub fn header(&self, cmd_sn: u32, exp_stat_sn: u32) -> bhs::LoginRequest {
        let mut header = bhs::LoginRequest::new();
        header.opcode |= bhs::IMMEDIATE;
        header.flags = u8::from(self.transit) << 7 | u8::from(self.cont) << 6 | self.csg << 2 | self.nsg;
        header.isid = self.isid;
        header.tsih = self.tsih.into();
        header.cid = self.cid.into();
        header.cmd_sn = cmd_sn.into();
        header.exp_stat_sn = exp_stat_sn.into();
        header
    }

    /// The same as a target sees it, with the caller's counters.
    pub fn view(&self, itt: u32, cmd_sn: u32, exp_stat_sn: u32) -> LoginRequestView<'_> {
        LoginRequestView {
            transit: self.transit,
            cont: self.cont,
            csg: self.csg,
            nsg: self.nsg,
            version_max: VERSION,
            version_min: VERSION,
            isid: self.isid,
            tsih: self.tsih,
            itt,
            cid: self.cid,
            cmd_sn,
            exp_stat_sn,
            data: &self.data,
        }
    }
}

/// What one Login Response led to.
#[derive(Debug)]
pub enum InitiatorProgress {
    /// Send this.
    Send(LoginRequest),
    /// Full feature phase.
    Done(Box<InitiatorOutcome>),
    /// Close the connection.
    Failed(LoginFailure),
}

/// A completed login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitiatorOutcome {
    /// The session's handle.
    pub tsih: u16,
    /// Values of the session; they count only for its leading connection.
    pub session: SessionParameters,
    /// Values of this connection.
    pub connection: ConnectionParameters,
    /// The target's name for people.
    pub target_alias: Option<String>,
    /// The portal group we came in through.
    pub portal_group_tag: Option<u16>,
}

/// The login phase of one connection, initiator side.
#[derive(Debug)]
pub struct InitiatorLogin {
    config: InitiatorConfig,
    entropy: [u8; ENTROPY_LENGTH],
    deadline: Duration,
    exchanges: u32,
    collector: Collector,
    outbox: Pieces,
    /// Where the last piece in the outbox asks to go.
    outbox_next: Option<Stage>,
    stage: Stage,
    declarations: Declarations,
    unknown: UnknownKeys,
    /// `None` once the login is over.
    step: Option<Step>,
}

/// What was sent last, so what must come back.
#[derive(Debug)]
enum Step {
    AuthMethodOffered,
    AlgorithmOffered(AlgorithmOffered),
    ResponseSent(ResponseSent),
    /// Authenticated, waiting for the T bit.
    LeavingSecurity,
    Operational(Box<Negotiation>),
}

/// What a step wants next.
enum Next {
    Send(Step, TextWriter, Option<Stage>),
    Done(Box<InitiatorOutcome>),
}

impl InitiatorLogin {
    /// A login that starts at `now` and may take `limit`. `entropy` is random and used for one CHAP challenge.
    pub fn new(
        config: InitiatorConfig,
        entropy: [u8; ENTROPY_LENGTH],
        now: Duration,
        limit: Duration,
    ) -> Self {
        let stage = if config.chap.is_some() || config.security_stage {
            Stage::Security
        } else {
            Stage::Operational
        };
        Self {
            config,
            entropy,
            deadline: now.saturating_add(limit),
            exchanges: 0,
            collector: Collector::default(),
            outbox: Pieces::default(),
            outbox_next: None,
            stage,
            declarations: Declarations::default(),
            unknown: UnknownKeys::default(),
            step: None,
        }
    }

    /// The first Login Request.
    pub fn start(&mut self) -> Result<LoginRequest, LoginFailure> {
        if let (Some(ours), Some(theirs)) = (&self.config.chap, &self.config.mutual)
            && ours.secret.same_as(&theirs.secret)
        {
            return Err(LoginFailure::SameSecretBothWays);
        }
        let mut out = TextWriter::new();
        out.put(Key::InitiatorName.name(), &self.config.name);
        if let Some(alias) = &self.config.alias {
            out.put(Key::InitiatorAlias.name(), alias);
        }
        match &self.config.target {
            Some(target) => {
                out.put(Key::SessionType.name(), "Normal");
                out.put(Key::TargetName.name(), target);
            }
            None => out.put(Key::SessionType.name(), "Discovery"),
        }
        Ok(match self.stage {
            Stage::Security => {
                out.put(Key::AuthMethod.name(), self.auth_methods());
                self.send(Step::AuthMethodOffered, out, Some(Stage::Operational))
            }
            _ => self.enter_operational(out),
        })
    }

    /// Takes one Login Response received at `now`.
    pub fn handle(&mut self, reply: &LoginReply, now: Duration) -> InitiatorProgress {
        match self.react(reply, now) {
            Ok(progress) => progress,
            Err(why) => {
                self.step = None;
                InitiatorProgress::Failed(why)
            }
        }
    }

    fn react(&mut self, reply: &LoginReply, now: Duration) -> Result<InitiatorProgress, LoginFailure> {
        let step = self.step.take().ok_or(LoginFailure::AlreadyOver)?;
        self.check_reply(reply, now)?;
        if self.outbox.more() {
            if !reply.data.is_empty() || reply.cont || reply.transit {
                return Err(LoginFailure::TextDuringContinuedRequest);
            }
            return Ok(InitiatorProgress::Send(self.send_rest(step)));
        }
        self.collector.push(&reply.data)?;
        if reply.cont {
            return Ok(InitiatorProgress::Send(self.send(step, TextWriter::new(), None)));
        }
        let text = self.collector.take();
        let pairs = text::parse(&text)?;
        let next = match step {
            Step::Operational(negotiation) => self.operational(negotiation, &pairs, reply)?,
            step => self.security(step, &pairs, reply)?,
        };
        Ok(match next {
            Next::Send(step, out, next) => InitiatorProgress::Send(self.send(step, out, next)),
            Next::Done(outcome) => InitiatorProgress::Done(outcome),
        })
    }

    fn check_reply(&mut self, reply: &LoginReply, now: Duration) -> Result<(), LoginFailure> {
        if now >= self.deadline {
            return Err(LoginFailure::TimedOut);
        }
        self.exchanges += 1;
        if self.exchanges > LOGIN_EXCHANGES_MAX {
            return Err(LoginFailure::TooManyExchanges);
        }
        match reply.status {
            (0, _) => {}
            (1, detail) => return Err(redirected(reply, detail)),
            (class, detail) => return Err(LoginFailure::Refused { class, detail }),
        }
        if reply.version_active != VERSION {
            return Err(LoginFailure::UnsupportedVersion);
        }
        if reply.csg != self.stage.number() || (reply.transit && reply.cont) {
            return Err(LoginFailure::BadStage);
        }
        Ok(())
    }

    /// SecurityNegotiation: sorts the pairs, then asks the step.
    fn security(&mut self, step: Step, pairs: &[Pair<'_>], reply: &LoginReply) -> Result<Next, LoginFailure> {
        let mut out = TextWriter::new();
        let mut kept: Vec<(Key, &str)> = Vec::new();
        for pair in pairs {
            match Key::from_name(pair.key) {
                None => self.answer_unknown(pair, &mut out)?,
                Some(key) if !is_security_phase(key.spec().phase) => {
                    return Err(NegotiationError::OutOfPhase(key).into());
                }
                Some(key) if key.spec().rule == Rule::DeclaredText => self.declare(key, pair.value)?,
                Some(key) if kept.iter().any(|(earlier, _)| *earlier == key) => {
                    return Err(NegotiationError::Repeated(key).into());
                }
                Some(key) => kept.push((key, pair.value)),
            }
        }
        let value = |key: Key| {
            kept.iter()
                .find(|(found, _)| *found == key)
                .map(|(_, value)| *value)
        };
        match step {
            Step::AuthMethodOffered => match (value(Key::AuthMethod), self.config.mutual.is_some()) {
                (Some("CHAP"), _) => self.offer_algorithms(out, reply),
                (Some(NONE), false) => self.leave_security(out, reply),
                // A target without any authentication may leave the key out when it grants the transit.
                (None, false) if reply.transit => self.leave_security(out, reply),
                (None, _) if !reply.transit => {
                    Ok(Next::Send(Step::AuthMethodOffered, out, Some(Stage::Operational)))
                }
                (Some(NONE) | None, _) => Err(LoginFailure::TargetNotAuthenticated),
                (Some(_), _) => Err(LoginFailure::AuthMethodNotOffered),
            },
            Step::AlgorithmOffered(offered) => {
                if reply.transit {
                    return Err(LoginFailure::EarlyTransit);
                }
                let mutual = self.config.mutual.clone();
                let sent = offered.respond(&value, mutual, &self.entropy, &mut out)?;
                Ok(Next::Send(
                    Step::ResponseSent(sent),
                    out,
                    Some(Stage::Operational),
                ))
            }
            Step::ResponseSent(sent) => {
                sent.check(&value)?;
                self.leave_security(out, reply)
            }
            Step::LeavingSecurity | Step::Operational(_) => self.leave_security(out, reply),
        }
    }

    fn offer_algorithms(&mut self, mut out: TextWriter, reply: &LoginReply) -> Result<Next, LoginFailure> {
        let ours = self
            .config
            .chap
            .clone()
            .ok_or(LoginFailure::AuthMethodNotOffered)?;
        if reply.transit {
            return Err(LoginFailure::EarlyTransit);
        }
        let (offered, list) = AlgorithmOffered::new(ours, self.config.algorithms.clone());
        out.put(Key::ChapA.name(), &list);
        Ok(Next::Send(Step::AlgorithmOffered(offered), out, None))
    }

    fn leave_security(&mut self, out: TextWriter, reply: &LoginReply) -> Result<Next, LoginFailure> {
        if !reply.transit {
            return Ok(Next::Send(Step::LeavingSecurity, out, Some(Stage::Operational)));
        }
        if reply.nsg != Stage::Operational.number() {
            return Err(LoginFailure::BadStage);
        }
        self.stage = Stage::Operational;
        let (negotiation, out) = self.opening(out);
        Ok(Next::Send(
            Step::Operational(negotiation),
            out,
            Some(Stage::FullFeature),
        ))
    }

    /// LoginOperationalNegotiation.
    fn operational(
        &mut self,
        mut negotiation: Box<Negotiation>,
        pairs: &[Pair<'_>],
        reply: &LoginReply,
    ) -> Result<Next, LoginFailure> {
        let mut out = TextWriter::new();
        let mut operational = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match Key::from_name(pair.key).map(|key| (key, key.spec().rule)) {
                Some((key, Rule::DeclaredText)) => self.declare(key, pair.value)?,
                Some((key, Rule::Authentication | Rule::Request)) => {
                    return Err(NegotiationError::OutOfPhase(key).into());
                }
                _ => operational.push(*pair),
            }
        }
        negotiation.receive(&operational, &mut out)?;
        if !reply.transit {
            return Ok(Next::Send(
                Step::Operational(negotiation),
                out,
                Some(Stage::FullFeature),
            ));
        }
        if reply.nsg != Stage::FullFeature.number() || !out.is_empty() {
            return Err(LoginFailure::BadStage);
        }
        if !negotiation.is_settled() {
            return Err(LoginFailure::Unanswered);
        }
        let (session, connection) = negotiation.finish()?;
        let tag = self
            .declarations
            .get(Key::TargetPortalGroupTag)
            .and_then(text::number);
        Ok(Next::Done(Box::new(InitiatorOutcome {
            tsih: reply.tsih,
            session,
            connection,
            target_alias: self.declarations.get(Key::TargetAlias).map(str::to_owned),
            portal_group_tag: tag.and_then(|tag| u16::try_from(tag).ok()),
        })))
    }

    fn enter_operational(&mut self, out: TextWriter) -> LoginRequest {
        let (negotiation, out) = self.opening(out);
        self.send(Step::Operational(negotiation), out, Some(Stage::FullFeature))
    }

    /// Our declaration and offers, behind what `out` has already.
    fn opening(&self, mut out: TextWriter) -> (Box<Negotiation>, TextWriter) {
        let session_type = if self.config.target.is_some() {
            SessionType::Normal
        } else {
            SessionType::Discovery
        };
        let leading = self.config.tsih == 0;
        let mut negotiation =
            Negotiation::new(Role::Initiator, session_type, leading, self.config.keys.clone());
        negotiation.declare_own(&mut out);
        negotiation.offer_all(&mut out);
        (Box::new(negotiation), out)
    }

    fn send(&mut self, step: Step, out: TextWriter, next: Option<Stage>) -> LoginRequest {
        self.outbox = Pieces::new(out.into_bytes());
        self.outbox_next = next;
        self.send_rest(step)
    }

    fn send_rest(&mut self, step: Step) -> LoginRequest {
        self.step = Some(step);
        let data = self.outbox.next_piece(TEXT_SEGMENT_DEFAULT);
        let cont = self.outbox.more();
        let next = self.outbox_next.filter(|_| !cont);
        LoginRequest {
            transit: next.is_some(),
            cont,
            csg: self.stage.number(),
            nsg: next.map_or(0, Stage::number),
            isid: self.config.isid,
            tsih: self.config.tsih,
            cid: self.config.cid,
            data,
        }
    }

    fn auth_methods(&self) -> &'static str {
        match (&self.config.chap, &self.config.mutual) {
            (None, _) => NONE,
            (Some(_), None) => "CHAP,None",
            (Some(_), Some(_)) => "CHAP",
        }
    }

    fn answer_unknown(&mut self, pair: &Pair<'_>, out: &mut TextWriter) -> Result<(), LoginFailure> {
        if let Some(answer) = self.unknown.answer(pair)? {
            out.put(pair.key, answer);
        }
        Ok(())
    }

    fn declare(&mut self, key: Key, value: &str) -> Result<(), LoginFailure> {
        check_sender(key, Role::Initiator)?;
        Ok(self.declarations.declare(key, value)?)
    }
}

fn redirected(reply: &LoginReply, detail: u8) -> LoginFailure {
    let pairs = text::parse(&reply.data).unwrap_or_default();
    match pairs.iter().find(|pair| pair.key == Key::TargetAddress.name()) {
        Some(pair) => LoginFailure::Redirected {
            permanent: detail == 2,
            address: pair.value.to_owned(),
        },
        None => LoginFailure::Refused { class: 1, detail },
    }
}

#[cfg(test)]
mod tests;
