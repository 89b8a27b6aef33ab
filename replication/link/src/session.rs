//! One connection between two systems, from its first frame to its last.
//!
//! # The handshake
//!
//! The caller sends Hello, the called one answers HelloAck with the version chosen, or Refuse. Each side checks that
//! the id the other says is the one in its certificate, and not its own. Whether the peer is configured, and whether
//! this connection or another one counts (`contest`), is decided by the shell between [`Event::Greeted`] and
//! [`Session::admit`] or [`Session::refuse`].
//!
//! # Credit
//!
//! In its Hello each side says how many requests, and how many bytes of requests ([`crate::Request::cost`]), it takes that
//! are not answered yet. A request that does not fit waits here, in order; each answer makes room. So what a system
//! keeps for its peer is bounded by what it said, with no message of flow control, and a peer that sends more is in error.
//! Answers always fit: their bytes were counted with their requests.
//!
//! # Keepalive
//!
//! Every `interval` a Ping goes out, which overtakes whatever waits; nothing heard for `silence` ends the connection. A link
//! that is dead one way is found dead by the side that hears nothing.
//!
//! # The end
//!
//! Bye says that no more requests come from its side. The other side answers with its own, both answer what they
//! have, and the connection is [`Session::finished`].

mod handshake;
#[cfg(test)]
mod tests;

use crate::{
    frame::{self, Encoded, Frame, FrameError, Plain, Sealed},
    header::Kind,
    message::{Farewell, Hello, Message, Refusal, RefusalCause},
    request::{Expects, Request},
    response::{FailureCode, Response},
};
use scsi_model::control::SystemId;
use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Duration,
};

/// What one side brings to each of its connections.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Who it is and what it takes.
    pub hello: Hello,
    /// Requests that may wait here for the other side's credit.
    pub queue_requests: usize,
    /// Bytes of them.
    pub queue_bytes: u64,
    /// How long the handshake may take.
    pub handshake: Duration,
    /// Between two Pings.
    pub interval: Duration,
    /// Nothing heard for so long is the end.
    pub silence: Duration,
}

/// What a frame received comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// A caller whose identity is proven asks to be admitted.
    Greeted(Hello),
    /// The called one has admitted us.
    Opened(Hello),
    /// To be carried out, and answered with this id.
    Request {
        /// For [`Session::answer`].
        id: u64,
        /// What is asked.
        request: Request,
    },
    /// A request of ours is answered.
    Answer {
        /// What was given with the request.
        tag: T,
        /// The answer.
        response: Response,
    },
    /// The other side leaves. Requests that were not sent yet never will be.
    Leaving {
        /// Why.
        farewell: Farewell,
        /// What was given with those requests.
        unsent: Vec<T>,
    },
}

/// Why a connection ended other than by both sides' leaving.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Not a frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A frame out of place.
    #[error("a {0} came at a time when none may come")]
    Unexpected(&'static str),
    /// A frame of another version than the one agreed on.
    #[error("a frame of version {found} came on a connection of version {agreed}")]
    FrameVersion {
        /// Its version.
        found: u16,
        /// The connection's.
        agreed: u16,
    },
    /// No version is spoken by both.
    #[error(
        "it speaks versions {lowest} to {highest} of the protocol, this program {ours_lowest} to {ours_highest}"
    )]
    Version {
        /// Its oldest.
        lowest: u16,
        /// Its newest.
        highest: u16,
        /// Our oldest.
        ours_lowest: u16,
        /// Our newest.
        ours_highest: u16,
    },
    /// The id said is not the certificate's.
    #[error("it says it is {claimed}, its certificate says {certificate}")]
    Identity {
        /// The id said.
        claimed: SystemId,
        /// The certificate's.
        certificate: SystemId,
    },
    /// It has our id.
    #[error("it has the same system id as this one, {0}")]
    SameSystem(SystemId),
    /// We were refused.
    #[error("it refused the connection: {}", .0.cause)]
    Refused(Refusal),
    /// We refused.
    #[error("the connection was refused: {0}")]
    Refusing(RefusalCause),
    /// The handshake took too long.
    #[error("the handshake was not finished in time")]
    HandshakeTimeout,
    /// Nothing was heard.
    #[error("nothing was heard for {} ms", .0.as_millis())]
    Silent(Duration),
    /// More requests, or more bytes of them, than were said to be taken.
    #[error("more requests came than this system said it takes")]
    Credit,
    /// A request with the id of one that is not answered yet.
    #[error("a second request with the id {0} came")]
    DuplicateId(u64),
    /// An answer to nothing.
    #[error("an answer came to the request {0}, which is not under way")]
    UnknownId(u64),
    /// An answer of another kind, or another length, than was asked for.
    #[error("a {kind:?} came that does not answer the request {id}")]
    WrongAnswer {
        /// What came.
        kind: Kind,
        /// To which request.
        id: u64,
    },
    /// A request after Bye.
    #[error("a request came after Bye")]
    AfterBye,
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The connection is not open, or one side is leaving.
    #[error("the link is down")]
    Down,
    /// Too many wait already.
    #[error("too many requests wait for the link")]
    QueueFull,
}

/// A connection. `T` is what the shell gives with a request and gets back with its answer.
#[derive(Debug)]
pub struct Session<T> {
    config: SessionConfig,
    certificate: SystemId,
    phase: Phase,
    version: u16,
    peer: Option<Hello>,
    /// Frames that overtake.
    urgent: VecDeque<Encoded>,
    output: VecDeque<Encoded>,
    waiting: VecDeque<(Sealed, T)>,
    waiting_bytes: u64,
    asked: BTreeMap<u64, Asked<T>>,
    asked_bytes: u64,
    serving: BTreeMap<u64, Serving>,
    serving_bytes: u64,
    next_id: u64,
    leaving: bool,
    left: bool,
    began: Duration,
    heard: Duration,
    next_ping: Duration,
    ping: Option<(u64, Duration)>,
    pings: u64,
    rtt: Option<Duration>,
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// We have sent Hello.
    Calling,
    /// We wait for Hello.
    Called,
    /// Hello came; the shell decides.
    Greeted,
    /// Requests may go.
    Open,
    /// It is over.
    Closed,
}

/// A request of ours under way.
#[derive(Debug)]
struct Asked<T> {
    tag: T,
    expects: Expects,
    cost: u64,
}

/// A request of theirs under way.
#[derive(Debug)]
struct Serving {
    expects: Expects,
    cost: u64,
}

impl<T> Session<T> {
    /// Requests of ours that are not answered, and their cost: those under way and those that wait.
    pub fn outstanding(&self) -> (usize, u64) {
        (
            self.asked.len() + self.waiting.len(),
            self.asked_bytes + self.waiting_bytes,
        )
    }

    /// The round trip of the last Ping.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// The other side, once it has said who it is.
    pub fn peer(&self) -> Option<&Hello> {
        self.peer.as_ref()
    }

    /// Requests can be made.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open && !self.leaving
    }

    /// Takes a request for the wire, behind all that were taken before; or gives its tag back.
    pub fn request(&mut self, request: Sealed, tag: T) -> Result<(), (NotTaken, T)> {
        if !self.is_open() {
            return Err((NotTaken::Down, tag));
        }
        if self.waiting.is_empty() && self.fits(request.cost()) {
            self.send(request, tag);
            return Ok(());
        }
        if self.waiting.len() >= self.config.queue_requests
            || self.waiting_bytes + request.cost() > self.config.queue_bytes
        {
            return Err((NotTaken::QueueFull, tag));
        }
        self.waiting_bytes += request.cost();
        self.waiting.push_back((request, tag));
        Ok(())
    }

    /// Answers a request of the other side. An answer that does not fit the request is a fault of this program,
    /// and the other side is told so. Nothing happens when the connection is over.
    pub fn answer(&mut self, id: u64, response: Sealed) {
        if self.phase != Phase::Open {
            return;
        }
        let Some(serving) = self.serving.remove(&id) else {
            return;
        };
        self.serving_bytes -= serving.cost;
        let response = if response.answers(serving.expects) {
            response
        } else {
            Sealed::failed(
                FailureCode::Internal,
                "the answer that was made does not fit the request",
            )
        };
        self.output.push_back(response.frame(self.version, id));
    }

    /// Frames for the wire.
    pub fn queued(&self) -> usize {
        self.urgent.len() + self.output.len()
    }

    /// The next frame for the wire.
    pub fn next_output(&mut self) -> Option<Encoded> {
        self.urgent.pop_front().or_else(|| self.output.pop_front())
    }

    /// Bytes came, be they a whole frame or not.
    pub fn heard(&mut self, now: Duration) {
        self.heard = self.heard.max(now);
    }

    /// A frame came. After an error the connection is over: what [`Session::next_output`] still gives is to be sent, and
    /// [`Session::abandon`] tells what will never be answered.
    pub fn receive(&mut self, frame: Frame, now: Duration) -> Result<Option<Event<T>>, Ended> {
        self.heard(now);
        let event = match self.phase {
            Phase::Open => self.receive_open(frame, now),
            Phase::Calling | Phase::Called => self.receive_handshake(frame, now).map(Some),
            Phase::Greeted | Phase::Closed => Err(Ended::Unexpected("frame")),
        };
        if event.is_err() {
            self.phase = Phase::Closed;
        }
        event
    }

    fn receive_open(&mut self, frame: Frame, now: Duration) -> Result<Option<Event<T>>, Ended> {
        if frame.version != self.version {
            return Err(Ended::FrameVersion {
                found: frame.version,
                agreed: self.version,
            });
        }
        match frame.message {
            Message::Ping(number) => {
                self.say(&Plain::Pong(number));
                Ok(None)
            }
            Message::Pong(number) => {
                if let Some((_, sent)) = self.ping.take_if(|(awaited, _)| *awaited == number) {
                    self.rtt = Some(now.saturating_sub(sent));
                }
                Ok(None)
            }
            Message::Request(id, request) => self.take_request(id, request).map(Some),
            Message::Response(id, response) => self.take_response(id, response).map(Some),
            Message::Bye(farewell) => {
                if mem::replace(&mut self.left, true) {
                    return Err(Ended::AfterBye);
                }
                let unsent = self.leave(farewell);
                Ok(Some(Event::Leaving { farewell, unsent }))
            }
            Message::Hello(_) => Err(Ended::Unexpected("Hello")),
            Message::HelloAck(_) => Err(Ended::Unexpected("HelloAck")),
            Message::Refuse(refusal) => Err(Ended::Refused(refusal)),
        }
    }

    fn take_request(&mut self, id: u64, request: Request) -> Result<Event<T>, Ended> {
        if self.left {
            return Err(Ended::AfterBye);
        }
        let cost = request.cost();
        if self.serving.len() >= self.config.hello.requests as usize
            || self.serving_bytes + cost > self.config.hello.bytes
        {
            return Err(Ended::Credit);
        }
        let serving = Serving {
            expects: request.expects(),
            cost,
        };
        if self.serving.insert(id, serving).is_some() {
            return Err(Ended::DuplicateId(id));
        }
        self.serving_bytes += cost;
        Ok(Event::Request { id, request })
    }

    fn take_response(&mut self, id: u64, response: Response) -> Result<Event<T>, Ended> {
        let kind = response.kind();
        let data = match &response {
            Response::Data(data) | Response::Digests(data) => data.len(),
            _ => 0,
        };
        match self.asked.get(&id) {
            None => return Err(Ended::UnknownId(id)),
            Some(asked) if !asked.expects.fits(kind, data) => return Err(Ended::WrongAnswer { kind, id }),
            Some(_) => {}
        }
        let asked = self.asked.remove(&id).expect("it was there a moment ago");
        self.asked_bytes -= asked.cost;
        while self
            .waiting
            .front()
            .is_some_and(|(request, _)| self.fits(request.cost()))
        {
            let (request, tag) = self.waiting.pop_front().expect("there is a first");
            self.waiting_bytes -= request.cost();
            self.send(request, tag);
        }
        Ok(Event::Answer {
            tag: asked.tag,
            response,
        })
    }

    /// A request of this cost fits into what the other side takes.
    fn fits(&self, cost: u64) -> bool {
        self.peer.as_ref().is_some_and(|peer| {
            self.asked.len() < peer.requests as usize && self.asked_bytes + cost <= peer.bytes
        })
    }

    fn send(&mut self, request: Sealed, tag: T) {
        let id = self.next_id;
        self.next_id += 1;
        let cost = request.cost();
        let expects = request
            .expects()
            .expect("only what was sealed as a request is sent as one");
        self.asked_bytes += cost;
        self.asked.insert(id, Asked { tag, expects, cost });
        self.output.push_back(request.frame(self.version, id));
    }

    /// Says Bye: no more requests from here. Gives the tags of requests that were not sent yet and never will be.
    pub fn leave(&mut self, farewell: Farewell) -> Vec<T> {
        if self.phase != Phase::Open || mem::replace(&mut self.leaving, true) {
            return Vec::new();
        }
        self.waiting_bytes = 0;
        let bye = frame::plain(self.version, &Plain::Bye(farewell));
        self.output.push_back(bye);
        self.waiting.drain(..).map(|(_, tag)| tag).collect()
    }

    /// Both sides have left and everything is answered: once the output is sent the connection can be closed.
    pub fn finished(&self) -> bool {
        self.leaving && self.left && self.asked.is_empty() && self.serving.is_empty()
    }

    /// Ends the connection from this side at once, or after it was cut: gives the tags of all that is not answered.
    pub fn abandon(&mut self) -> Vec<T> {
        self.phase = Phase::Closed;
        self.asked_bytes = 0;
        self.waiting_bytes = 0;
        self.serving.clear();
        self.serving_bytes = 0;
        let asked = mem::take(&mut self.asked).into_values().map(|asked| asked.tag);
        asked.chain(self.waiting.drain(..).map(|(_, tag)| tag)).collect()
    }

    /// The time at which [`Session::tick`] has something to do.
    pub fn wakes_at(&self) -> Option<Duration> {
        match self.phase {
            Phase::Closed => None,
            Phase::Open => Some(self.next_ping.min(self.heard + self.config.silence)),
            Phase::Calling | Phase::Called | Phase::Greeted => Some(self.began + self.config.handshake),
        }
    }

    /// Time has passed.
    ///
    /// A call that comes a whole `interval` after [`Session::wakes_at`] says that it was this side that did not run, as a virtual machine
    /// does that is moved or a process that is stopped. What the peer sent meanwhile may be lying in the socket: it has one more
    /// `interval` to be heard.
    pub fn tick(&mut self, now: Duration) -> Result<(), Ended> {
        if self.phase == Phase::Open
            && let Some(due) = self.wakes_at()
            && now >= due + self.config.interval
        {
            let latest = (now + self.config.interval).saturating_sub(self.config.silence);
            self.heard = self.heard.max(latest);
        }
        let ended = match self.phase {
            Phase::Closed => return Ok(()),
            Phase::Open if now >= self.heard + self.config.silence => Ended::Silent(self.config.silence),
            Phase::Open => {
                if now >= self.next_ping {
                    self.next_ping = now + self.config.interval;
                    if self.ping.is_none() {
                        self.pings += 1;
                        self.ping = Some((self.pings, now));
                        self.say(&Plain::Ping(self.pings));
                    }
                }
                return Ok(());
            }
            _ if now >= self.began + self.config.handshake => Ended::HandshakeTimeout,
            _ => return Ok(()),
        };
        self.phase = Phase::Closed;
        Err(ended)
    }

    fn say(&mut self, message: &Plain<'_>) {
        self.urgent.push_back(frame::plain(self.version, message));
    }
}
