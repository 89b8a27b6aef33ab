//! The first frames of a connection.

use super::{Ended, Event, Phase, Session, SessionConfig};
use crate::{
    frame::{Frame, Plain},
    header::HANDSHAKE_VERSION,
    message::{Hello, Message, Refusal, RefusalCause},
};
use scsi_model::control::SystemId;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

impl<T> Session<T> {
    /// The caller's side: says Hello to the system whose certificate was seen.
    pub fn call(config: SessionConfig, certificate: SystemId, now: Duration) -> Self {
        let mut session = Self::new(config, certificate, Phase::Calling, now);
        let hello = session.config.hello.clone();
        session.say(&Plain::Hello(&hello));
        session
    }

    /// The called one's side: waits for the Hello of the system whose certificate was seen.
    pub fn called(config: SessionConfig, certificate: SystemId, now: Duration) -> Self {
        Self::new(config, certificate, Phase::Called, now)
    }

    fn new(config: SessionConfig, certificate: SystemId, phase: Phase, now: Duration) -> Self {
        Self {
            config,
            certificate,
            phase,
            version: HANDSHAKE_VERSION,
            peer: None,
            urgent: VecDeque::new(),
            output: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            asked: BTreeMap::new(),
            asked_bytes: 0,
            serving: BTreeMap::new(),
            serving_bytes: 0,
            next_id: 1,
            leaving: false,
            left: false,
            began: now,
            heard: now,
            next_ping: now,
            ping: None,
            pings: 0,
            rtt: None,
        }
    }

    /// Lets the caller in, after [`Event::Greeted`].
    ///
    /// # Panics
    /// When nobody has greeted.
    pub fn admit(&mut self, now: Duration) {
        assert_eq!(self.phase, Phase::Greeted, "who is admitted has greeted");
        let mut hello = self.config.hello.clone();
        (hello.lowest, hello.highest) = (self.version, self.version);
        self.say(&Plain::HelloAck(&hello));
        self.open(now);
    }

    /// Sends the caller away, after [`Event::Greeted`].
    pub fn refuse(&mut self, cause: RefusalCause) -> Ended {
        self.phase = Phase::Closed;
        self.say(&Plain::Refuse(Refusal {
            cause,
            lowest: self.config.hello.lowest,
            highest: self.config.hello.highest,
        }));
        Ended::Refusing(cause)
    }

    pub(super) fn receive_handshake(&mut self, frame: Frame, now: Duration) -> Result<Event<T>, Ended> {
        match (self.phase, frame.message) {
            (Phase::Called, Message::Hello(hello)) => {
                self.believe(frame.version, &hello)?;
                self.version = self.choose(&hello)?;
                self.peer = Some(hello.clone());
                self.phase = Phase::Greeted;
                Ok(Event::Greeted(hello))
            }
            (Phase::Calling, Message::HelloAck(hello)) => {
                self.believe(frame.version, &hello)?;
                self.version = self.choose(&hello)?;
                self.peer = Some(hello.clone());
                self.open(now);
                Ok(Event::Opened(hello))
            }
            (Phase::Calling, Message::Refuse(refusal)) => Err(Ended::Refused(refusal)),
            _ => {
                self.refuse(RefusalCause::Handshake);
                Err(Ended::Unexpected("frame that begins no connection"))
            }
        }
    }

    /// The other side is who its certificate says, and not ourselves.
    fn believe(&mut self, version: u16, hello: &Hello) -> Result<(), Ended> {
        if version != HANDSHAKE_VERSION {
            self.refuse(RefusalCause::Handshake);
            return Err(Ended::FrameVersion {
                found: version,
                agreed: HANDSHAKE_VERSION,
            });
        }
        if hello.system != self.certificate {
            self.refuse(RefusalCause::Identity);
            return Err(Ended::Identity {
                claimed: hello.system.clone(),
                certificate: self.certificate.clone(),
            });
        }
        if hello.system == self.config.hello.system {
            self.refuse(RefusalCause::SameSystem);
            return Err(Ended::SameSystem(hello.system.clone()));
        }
        Ok(())
    }

    /// The newest version that both speak. An acknowledgement offers only one.
    fn choose(&mut self, hello: &Hello) -> Result<u16, Ended> {
        let ours = &self.config.hello;
        let (lowest, highest) = (ours.lowest, ours.highest);
        let version = hello.highest.min(highest);
        if version >= hello.lowest.max(lowest) {
            return Ok(version);
        }
        self.refuse(RefusalCause::Version);
        Err(Ended::Version {
            lowest: hello.lowest,
            highest: hello.highest,
            ours_lowest: lowest,
            ours_highest: highest,
        })
    }

    fn open(&mut self, now: Duration) {
        self.phase = Phase::Open;
        self.heard = now;
        self.next_ping = now;
    }
}
