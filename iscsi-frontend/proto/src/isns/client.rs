//! When which request is sent, and what its answer means.
//!
//! The owner of a [`Client`] does what [`Client::next`] says, one step after the other, and tells it what happened: connected,
//! a message, the connection lost. One request is under way at a time.
//!
//! A registration is looked up after half of the period that the server grants, and after a lost connection. That keeps it,
//! and shows whether it is still whole; if it is not, for the server was away and has forgotten it, it is registered again. Some servers do not show a node to itself (discovery domains, RFC 4171 2.2.2).
//! So what is not seen right after it was registered again is believed to be there.
//!
//! Times are counted from an instant of the caller's choice; randomness comes from the caller.

use std::time::Duration;

use super::{
    message::{IsnsError, Message, Status, function},
    registration::{Registration, period, response},
};

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The time before the first new attempt, and before any later one, at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// A registration is looked up this often even when it does not expire. Servers close what is silent for five minutes.
const LOOK_UP: Duration = Duration::from_secs(240);

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Connect, then call [`Client::connected`] or [`Client::lost`].
    Connect,
    /// Send this.
    Send(Message),
    /// Close the connection and call [`Client::lost`].
    Disconnect,
    /// Wait for a message, for a change, or until this time.
    Wait(Option<Duration>),
    /// Close the connection; that was all.
    End,
}

/// What a message meant, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The server knows everything now.
    Registered,
    /// Nodes that are gone are deregistered.
    Deregistered,
    /// The server still knows everything.
    Kept,
    /// The server had forgotten something; it is registered again.
    Forgotten,
    /// The server does not send inquiries; it is registered without.
    NoInquiries,
    /// The server refuses; it is asked again later.
    Refused(Status),
    /// The message answers nothing that was asked.
    Ignored,
}

/// The client's side of one server.
#[derive(Debug)]
pub struct Client {
    wanted: Registration,
    /// What the server has said yes to.
    registered: Option<Registration>,
    /// Whether it still stands by it.
    trust: Trust,
    /// It sends inquiries, as far as we know.
    inquires: bool,
    /// The registration was not seen, and registered again since.
    unseen: bool,
    leaving: bool,
    phase: Phase,
    attempts: u32,
    transaction: u16,
    look_up_at: Duration,
    period: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// It was said over an earlier connection.
    Unsure,
    Sure,
    /// It is known to have forgotten something.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Not connected, until this time.
    Apart(Duration),
    Connecting,
    /// Connected, nothing is under way.
    Idle,
    /// A request is under way.
    Asking {
        request: Request,
        transaction: u16,
        deadline: Duration,
    },
    /// To be disconnected.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Request {
    Register(Registration),
    DeregisterNodes(Registration),
    DeregisterAll,
    LookUp,
}

impl Client {
    /// Begins with a connection at once. There is nothing to register until [`Self::want`] is called.
    pub fn new() -> Self {
        Self {
            wanted: Registration::default(),
            registered: None,
            trust: Trust::Unsure,
            inquires: true,
            unseen: false,
            leaving: false,
            phase: Phase::Apart(Duration::ZERO),
            attempts: 0,
            transaction: 0,
            look_up_at: Duration::ZERO,
            period: LOOK_UP,
        }
    }

    /// This is to be known to the server from now on.
    pub fn want(&mut self, wanted: Registration) {
        self.wanted = wanted;
    }

    /// Everything is to be deregistered, if that can be done over the connection there is.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// Does the server know all that it should?
    pub fn is_registered(&self) -> bool {
        self.trust == Trust::Sure
            && self.registered.as_ref() == Some(&self.in_force())
            && !self.wanted.is_empty()
    }

    /// The connection stands.
    pub fn connected(&mut self) {
        self.phase = Phase::Idle;
        (self.trust, self.unseen) = (Trust::Unsure, false);
    }

    /// There is no connection, or no longer. `random` is any number: all clients of a server that comes back must not come at once.
    pub fn lost(&mut self, now: Duration, random: u32) {
        let (first, longest) = BACK_OFF;
        let longest = longest.min(first.saturating_mul(1 << self.attempts.min(16)));
        let wait = longest / 2 + longest.mul_f64(f64::from(random) / f64::from(u32::MAX)) / 2;
        self.attempts += 1;
        self.trust = Trust::Unsure;
        self.phase = Phase::Apart(now + wait);
    }

    /// A message came.
    pub fn received(&mut self, message: &Message, now: Duration) -> Result<News, IsnsError> {
        let Phase::Asking {
            request, transaction, ..
        } = &self.phase
        else {
            return Ok(News::Ignored);
        };
        let asked = match request {
            Request::Register(_) => function::REGISTER,
            Request::DeregisterNodes(_) | Request::DeregisterAll => function::DEREGISTER,
            Request::LookUp => function::QUERY,
        };
        if message.function != asked | function::RESPONSE || message.transaction != *transaction {
            return Ok(News::Ignored);
        }
        let (status, attributes) = response(message)?;
        let request = request.clone();
        self.phase = Phase::Idle;
        let news = match (request, status) {
            (Request::Register(registration), Status::SUCCESS) => {
                self.registered = Some(registration);
                (self.trust, self.attempts) = (Trust::Sure, 0);
                self.period = period(&attributes).map_or(LOOK_UP, |seconds| {
                    LOOK_UP.min(Duration::from_secs(seconds.into()) / 2)
                });
                self.look_up_at = now + self.period;
                News::Registered
            }
            (Request::DeregisterNodes(rest), Status::SUCCESS) => {
                self.registered = Some(rest);
                News::Deregistered
            }
            (Request::DeregisterAll, Status::SUCCESS) => {
                self.registered = None;
                News::Deregistered
            }
            (Request::LookUp, Status::SUCCESS | Status::NO_SUCH_ENTRY) => {
                self.look_up_at = now + self.period;
                let whole = self.registered.as_ref().is_some_and(|own| own.is_in(&attributes));
                let (trust, news) = if whole || self.unseen {
                    (Trust::Sure, News::Kept)
                } else {
                    (Trust::Lost, News::Forgotten)
                };
                (self.trust, self.unseen, self.attempts) = (trust, !whole, 0);
                news
            }
            (Request::Register(_), Status::ESI_NOT_AVAILABLE) if self.inquires => {
                self.inquires = false;
                News::NoInquiries
            }
            (request, refusal) => {
                if request == Request::DeregisterAll {
                    // What the server does not let go ends with the inquiries, or expires.
                    self.registered = None;
                }
                self.phase = Phase::Failed;
                News::Refused(refusal)
            }
        };
        Ok(news)
    }

    /// What to do at `now`.
    pub fn next(&mut self, now: Duration) -> Step {
        match &self.phase {
            Phase::Apart(_) | Phase::Connecting | Phase::Failed if self.leaving => Step::End,
            Phase::Apart(until) if now < *until => Step::Wait(Some(*until)),
            Phase::Apart(_) => {
                self.phase = Phase::Connecting;
                Step::Connect
            }
            // Its owner connects meanwhile.
            Phase::Connecting => Step::Wait(None),
            Phase::Asking { deadline, .. } if now < *deadline => Step::Wait(Some(*deadline)),
            Phase::Asking { .. } | Phase::Failed => {
                self.phase = Phase::Failed;
                Step::Disconnect
            }
            Phase::Idle => self.next_request(now),
        }
    }

    /// What is to be registered, as far as the server offers it.
    fn in_force(&self) -> Registration {
        if self.inquires {
            self.wanted.clone()
        } else {
            self.wanted.clone().without_esi()
        }
    }

    fn next_request(&mut self, now: Duration) -> Step {
        let wanted = self.in_force();
        let transaction = self.transaction.wrapping_add(1);
        let old = self.registered.as_ref();
        // A node that the server knows speaks for the entity.
        let known = old.and_then(|old| old.nodes.iter().find(|node| wanted.has_node(&node.name)));
        let (request, message) = match (old, known) {
            (Some(old), _) if self.leaving || wanted.is_empty() || known.is_none() => {
                let source = old.nodes.first().map_or("", |node| node.name.as_str());
                (Request::DeregisterAll, old.deregister(transaction, source))
            }
            _ if self.leaving => return Step::End,
            _ if wanted.is_empty() => return Step::Wait(None),
            (Some(old), Some(source)) if self.trust != Trust::Lost && *old == wanted => {
                if self.trust == Trust::Sure && now < self.look_up_at {
                    return Step::Wait(Some(self.look_up_at));
                }
                (Request::LookUp, old.look_up(transaction, &source.name))
            }
            (Some(old), Some(source)) if self.trust == Trust::Sure && is_rest_of(&wanted, old) => {
                let gone = old.nodes.iter().filter(|node| !wanted.has_node(&node.name));
                let names = gone.map(|node| node.name.as_str());
                let message = Registration::deregister_nodes(transaction, &source.name, names);
                (Request::DeregisterNodes(wanted), message)
            }
            _ => {
                let source = known.or(wanted.nodes.first()).map_or("", |node| &node.name);
                let message = wanted.register(transaction, source);
                (Request::Register(wanted), message)
            }
        };
        self.transaction = transaction;
        self.phase = Phase::Asking {
            request,
            transaction,
            deadline: now + PATIENCE,
        };
        Step::Send(message)
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

/// Is `new` `old` without some of its nodes, and the same otherwise?
fn is_rest_of(new: &Registration, old: &Registration) -> bool {
    new.entity == old.entity
        && new.portals == old.portals
        && new.nodes.iter().all(|node| old.nodes.contains(node))
}
