//! The target side of the login phase (RFC 7143 6.3).
//!
//! A connection starts in the login phase and leaves it for full feature phase or for good. In between, the two
//! sides pass through one or two stages: SecurityNegotiation, where they say who they are and prove it, and
//! LoginOperationalNegotiation, where they settle the operational keys. The initiator leads: it names the stage it
//! is in (CSG) and asks with the T bit to move on (NSG); the target grants by setting T in its response. Either
//! stage may be left out, and from either one the way to full feature phase is open.
//!
//! The states are types. Each `Expect..` struct holds what is known once its state is reached and consumes itself
//! to make the next, so a password check cannot be jumped over by a message that comes early:
//!
//! ```text
//!   ExpectFirstRequest --+--> ExpectAuthMethod --> ExpectChapAlgorithm --> ExpectChapResponse
//!                        |          |                                             |
//!                        |          +--------------> ExpectSecurityEnd <----------+
//!                        |                              |          |
//!                        +--> ExpectOperational <-------+          |
//!                                   |                              |
//!                                   +------> full feature phase <--+
//! ```
//!
//! [`Login`] around them knows nothing of keys. It checks what holds for every Login Request (header fields that
//! may not change, stage numbers, the time limit), collects text that was split with the C bit, cuts answers that
//! are too long for one PDU, and sets the T bit only on the last piece.
//!
//! Every refusal is a [`Misbehaviour`] with its status class and detail (RFC 7143 11.13.5).

mod chap;
mod facts;
mod first;
mod message;
mod misbehaviour;
mod operational;
mod security;

use std::time::Duration;

pub use facts::{Admission, AuthPolicy, InitiatorPort, Joining, LoginFacts};
pub use message::{LoginOutcome, LoginProgress, LoginReply, LoginRequestView, Membership, Stage, VERSION};
pub use misbehaviour::Misbehaviour;

use crate::chap::ENTROPY_LENGTH;
use crate::limits::{LOGIN_EXCHANGES_MAX, TEXT_SEGMENT_DEFAULT};
use crate::negotiation::TargetOffer;
use crate::text::{self, Collector, Pair, Pieces, TextWriter};
use chap::{ExpectChapAlgorithm, ExpectChapResponse};
use first::ExpectFirstRequest;
use operational::ExpectOperational;
use security::{ExpectAuthMethod, ExpectSecurityEnd};

/// The login phase of one connection, target side.
#[derive(Debug)]
pub struct Login {
    deadline: Duration,
    exchanges: u32,
    fixed: Option<FixedFields>,
    collector: Collector,
    /// The stage of the text in the collector.
    collecting: Option<Stage>,
    outbox: Pieces,
    /// `None` once the login is over.
    state: Option<State>,
}

impl Login {
    /// A fresh connection, accepted at `now`, that must reach full feature phase within `limit`
    /// ([`crate::limits::LOGIN_TIMEOUT`] is the usual one). `entropy` is random and used for one CHAP challenge.
    pub fn new(offer: TargetOffer, entropy: [u8; ENTROPY_LENGTH], now: Duration, limit: Duration) -> Self {
        Self {
            deadline: now.saturating_add(limit),
            exchanges: 0,
            fixed: None,
            collector: Collector::default(),
            collecting: None,
            outbox: Pieces::default(),
            state: Some(State::First(ExpectFirstRequest::new(offer, entropy))),
        }
    }

    /// When [`Self::expire`] has something to say.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Takes one Login Request received at `now`.
    pub fn handle(
        &mut self,
        request: &LoginRequestView<'_>,
        facts: &mut dyn LoginFacts,
        now: Duration,
    ) -> LoginProgress {
        let progress = self.step(request, facts, now);
        progress.unwrap_or_else(|why| self.refuse(request.csg, request.nsg, request.tsih, why))
    }

    /// Ends the login when its time is up. The response may be left unsent.
    pub fn expire(&mut self, now: Duration) -> Option<LoginProgress> {
        (self.state.is_some() && now >= self.deadline).then(|| self.refuse(0, 0, 0, Misbehaviour::TimedOut))
    }

    /// Ends the login because a PDU other than a Login Request came (RFC 7143 11.13.5, detail 0Bh).
    pub fn refuse_other_request(&mut self) -> LoginProgress {
        self.refuse(0, 0, 0, Misbehaviour::NotALoginRequest)
    }

    fn step(
        &mut self,
        request: &LoginRequestView<'_>,
        facts: &mut dyn LoginFacts,
        now: Duration,
    ) -> Result<LoginProgress, Misbehaviour> {
        let state = self.state.take().ok_or(Misbehaviour::AlreadyOver)?;
        let header = self.check_header(request, &state, now)?;
        if self.outbox.more() {
            if !request.data.is_empty() || request.cont {
                return Err(Misbehaviour::TextDuringContinuedAnswer);
            }
            let rest = self.outbox.next_piece(state.text_segment_max());
            return self.answer(header, state, rest, facts);
        }
        self.collector.push(request.data)?;
        self.collecting = request.cont.then_some(header.stage);
        if request.cont {
            self.state = Some(state);
            return Ok(LoginProgress::Reply(header.reply(Vec::new())));
        }
        let text = self.collector.take();
        let mut out = TextWriter::new();
        let state = state.receive(header.stage, request, &text::parse(&text)?, facts, &mut out)?;
        self.answer(header, state, out.into_bytes(), facts)
    }

    /// Sends `bytes`, and grants the change of stage when they are the last of an answer.
    fn answer(
        &mut self,
        header: Header,
        state: State,
        mut bytes: Vec<u8>,
        facts: &mut dyn LoginFacts,
    ) -> Result<LoginProgress, Misbehaviour> {
        let segment = state.text_segment_max();
        let last = bytes.len() <= segment && !self.outbox.more();
        let Some(next) = header.next.filter(|_| last) else {
            return Ok(self.send(header, state, bytes, last));
        };
        let mut out = TextWriter::new();
        match state.transit(next, facts, &mut out)? {
            Transit::Held(state) => {
                bytes.extend(out.into_bytes());
                let last = bytes.len() <= segment;
                Ok(self.send(header, state, bytes, last))
            }
            Transit::To(state) => {
                self.state = Some(state);
                Ok(LoginProgress::Reply(header.granting(next, header.tsih, bytes)))
            }
            Transit::Finished(outcome) => Ok(LoginProgress::Done {
                reply: header.granting(next, outcome.tsih, bytes),
                outcome,
            }),
        }
    }

    /// Sends `bytes` without a change of stage, in pieces when they are not the last of an answer.
    fn send(&mut self, header: Header, state: State, bytes: Vec<u8>, last: bool) -> LoginProgress {
        let mut reply = header.reply(bytes);
        if !last {
            if !self.outbox.more() {
                self.outbox = Pieces::new(std::mem::take(&mut reply.data));
                reply.data = self.outbox.next_piece(state.text_segment_max());
            }
            reply.cont = true;
        }
        self.state = Some(state);
        LoginProgress::Reply(reply)
    }

    /// What must hold for every Login Request (RFC 7143 6.3, 11.12).
    fn check_header(
        &mut self,
        request: &LoginRequestView<'_>,
        state: &State,
        now: Duration,
    ) -> Result<Header, Misbehaviour> {
        if now >= self.deadline {
            return Err(Misbehaviour::TimedOut);
        }
        self.exchanges += 1;
        if self.exchanges > LOGIN_EXCHANGES_MAX {
            return Err(Misbehaviour::TooManyExchanges);
        }
        if request.version_min > VERSION {
            return Err(Misbehaviour::UnsupportedVersion);
        }
        let fixed = FixedFields::of(request);
        match self.fixed.get_or_insert(fixed) {
            first if *first == fixed => {}
            first => return Err(first.changed_in(fixed)),
        }
        let stage = Stage::from_number(request.csg)
            .filter(|stage| *stage != Stage::FullFeature)
            .ok_or(Misbehaviour::BadCurrentStage)?;
        if state
            .stage()
            .or(self.collecting)
            .is_some_and(|expected| expected != stage)
        {
            return Err(Misbehaviour::WrongCurrentStage);
        }
        if request.transit && request.cont {
            return Err(Misbehaviour::TransitWithContinuation);
        }
        let next = if request.transit {
            let next = Stage::from_number(request.nsg).filter(|next| *next > stage);
            Some(next.ok_or(Misbehaviour::BadNextStage)?)
        } else {
            None
        };
        Ok(Header {
            stage,
            next,
            tsih: request.tsih,
        })
    }

    fn refuse(&mut self, csg: u8, nsg: u8, tsih: u16, why: Misbehaviour) -> LoginProgress {
        self.state = None;
        let mut out = TextWriter::new();
        if let Misbehaviour::Moved { address, .. } = &why {
            out.put(crate::keys::Key::TargetAddress.name(), address);
        }
        let reply = LoginReply {
            transit: false,
            cont: false,
            csg,
            nsg,
            status: why.status(),
            tsih,
            data: out.into_bytes(),
            version_max: VERSION,
            version_active: VERSION,
        };
        LoginProgress::Refuse { reply, why }
    }
}

/// The checked header of the request in hand.
#[derive(Clone, Copy, Debug)]
struct Header {
    stage: Stage,
    /// Where the initiator wants to go.
    next: Option<Stage>,
    tsih: u16,
}

impl Header {
    fn reply(self, data: Vec<u8>) -> LoginReply {
        LoginReply {
            transit: false,
            cont: false,
            csg: self.stage.number(),
            nsg: 0,
            status: (0, 0),
            tsih: self.tsih,
            data,
            version_max: VERSION,
            version_active: VERSION,
        }
    }

    fn granting(self, next: Stage, tsih: u16, data: Vec<u8>) -> LoginReply {
        LoginReply {
            transit: true,
            nsg: next.number(),
            tsih,
            ..self.reply(data)
        }
    }
}

/// Fields that stay the same through the login phase (RFC 7143 6.3, 11.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FixedFields {
    isid: [u8; 6],
    tsih: u16,
    cid: u16,
    itt: u32,
    versions: (u8, u8),
}

impl FixedFields {
    fn of(request: &LoginRequestView<'_>) -> Self {
        Self {
            isid: request.isid,
            tsih: request.tsih,
            cid: request.cid,
            itt: request.itt,
            versions: (request.version_min, request.version_max),
        }
    }

    fn changed_in(self, now: Self) -> Misbehaviour {
        match self {
            _ if self.isid != now.isid => Misbehaviour::IsidChanged,
            _ if self.tsih != now.tsih => Misbehaviour::TsihChanged,
            _ if self.cid != now.cid => Misbehaviour::CidChanged,
            _ if self.itt != now.itt => Misbehaviour::TaskTagChanged,
            _ => Misbehaviour::VersionChanged,
        }
    }
}

/// The state of the login, one type each.
#[derive(Debug)]
enum State {
    First(ExpectFirstRequest),
    AuthMethod(ExpectAuthMethod),
    ChapAlgorithm(ExpectChapAlgorithm),
    ChapResponse(ExpectChapResponse),
    SecurityEnd(ExpectSecurityEnd),
    Operational(Box<ExpectOperational>),
}

/// Whether a wish to move on is granted.
enum Transit {
    /// Not yet; the state stays, and more text may go out.
    Held(State),
    /// Granted to the next stage of login.
    To(State),
    /// Granted to full feature phase.
    Finished(Box<LoginOutcome>),
}

impl State {
    /// The stage that requests must name; `None` while the initiator may choose.
    fn stage(&self) -> Option<Stage> {
        match self {
            Self::First(_) => None,
            Self::AuthMethod(_) | Self::ChapAlgorithm(_) | Self::ChapResponse(_) | Self::SecurityEnd(_) => {
                Some(Stage::Security)
            }
            Self::Operational(_) => Some(Stage::Operational),
        }
    }

    /// Bytes of text that one response may carry: the default of RFC 7143 13.12, less when the initiator said so.
    fn text_segment_max(&self) -> usize {
        match self {
            Self::Operational(state) => state.text_segment_max(),
            _ => TEXT_SEGMENT_DEFAULT,
        }
    }

    /// Takes the pairs of one complete text and writes the answers to `out`.
    fn receive(
        self,
        stage: Stage,
        request: &LoginRequestView<'_>,
        pairs: &[Pair<'_>],
        facts: &mut dyn LoginFacts,
        out: &mut TextWriter,
    ) -> Result<Self, Misbehaviour> {
        match self {
            Self::First(state) => state.receive(stage, request, pairs, facts, out),
            Self::AuthMethod(state) => state.receive(pairs, out),
            Self::ChapAlgorithm(state) => state.receive(pairs, out),
            Self::ChapResponse(state) => state.receive(pairs, out),
            Self::SecurityEnd(state) => state.receive(pairs, out),
            Self::Operational(state) => state.receive(pairs, out),
        }
    }

    /// Answers the wish to move on to `next`, which is behind the current stage.
    fn transit(
        self,
        next: Stage,
        facts: &mut dyn LoginFacts,
        out: &mut TextWriter,
    ) -> Result<Transit, Misbehaviour> {
        match self {
            Self::First(_) | Self::ChapAlgorithm(_) | Self::ChapResponse(_) => Ok(Transit::Held(self)),
            Self::AuthMethod(state) => state.transit(next, facts),
            Self::SecurityEnd(state) => state.transit(next, facts),
            Self::Operational(state) => state.transit(facts, out),
        }
    }
}

#[cfg(test)]
mod tests;
