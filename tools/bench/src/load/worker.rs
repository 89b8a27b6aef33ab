//! One thread: it issues, sends, receives and counts for its sessions.

use std::{os::fd::OwnedFd, time::Duration};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    net::{RecvFlags, SendFlags},
};

use super::{
    Phase, Session, SessionError, Stage,
    content::{Pattern, Sources},
    tally::Tally,
};
use crate::{
    arguments::{Access, Shape},
    clock::now_ns,
};

/// What commands in flight are given at the end.
const ENDING: u64 = 5_000_000_000;
/// How often a thread looks at the stage while nothing happens.
const LOOK: Duration = Duration::from_millis(200);
const EVENTS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Every session writes its stretch once.
    Fill,
    /// Commands as they were asked for, until the stage ends.
    Load,
}

/// What is to be done.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) access: &'a Access,
    pub(super) shape: &'a Shape,
    pub(super) work: Work,
}

pub(super) struct Worker<'a> {
    order: Order<'a>,
    sessions: Vec<Session>,
    /// Commands that each may still issue.
    budgets: Vec<u64>,
    pattern: Pattern,
    tally: Tally,
    epoll: OwnedFd,
}

impl<'a> Worker<'a> {
    /// A session that is alone is received from with a timeout instead of being polled: one system call less per turn.
    pub(super) fn new(order: Order<'a>, sessions: Vec<Session>) -> Result<Self, SessionError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(poll_error)?;
        for (index, session) in sessions.iter().enumerate() {
            if sessions.len() == 1 {
                session.socket.set_read_timeout(Some(LOOK))
            } else {
                session.socket.set_nonblocking(true)
            }
            .map_err(SessionError::Poll)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &session.socket, data, epoll::EventFlags::IN).map_err(poll_error)?;
        }
        let budget = |session: &Session| match order.work {
            Work::Fill => session.stretch.length,
            Work::Load => u64::MAX,
        };
        Ok(Self {
            order,
            budgets: sessions.iter().map(budget).collect(),
            sessions,
            pattern: Pattern::new(order.shape.bs.max(4096)),
            tally: Tally::default(),
            epoll,
        })
    }

    /// Ends after so many commands of each session.
    #[cfg(test)]
    pub(super) fn limit(&mut self, commands: u64) {
        self.budgets.fill(commands);
    }

    /// Until the stage ends, or the fill; gives back the sessions, with nothing in flight.
    pub(super) fn run(mut self, stage: &Stage) -> Result<(Tally, Vec<Session>), SessionError> {
        let mut phase = Phase::Warming;
        let mut give_up = u64::MAX;
        let mut ready: Vec<usize> = (0..self.sessions.len()).collect();
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let entered = stage.phase();
            if entered != phase {
                phase = entered;
                match phase {
                    Phase::Measuring => self.tally.clear(),
                    Phase::Ending => give_up = now_ns() + ENDING,
                    Phase::Warming => {}
                }
            }
            let stopping = phase == Phase::Ending || self.budgets.iter().all(|budget| *budget == 0);
            if stopping && self.sessions.iter().all(|session| session.in_flight == 0) {
                return Ok((self.tally, self.sessions));
            }
            if stopping && now_ns() > give_up {
                return Err(SessionError::Unanswered);
            }
            let now = now_ns();
            for index in ready.drain(..) {
                self.send(index, stopping, now)?;
            }
            if self.sessions.len() == 1 && !self.sessions[0].is_stuck {
                self.receive(0, RecvFlags::empty())?;
                ready.push(0);
            } else {
                self.wait(&mut events, &mut ready)?;
            }
        }
    }

    /// Fills the queue of a session, and sends what the socket takes of it.
    fn send(&mut self, index: usize, stopping: bool, now: u64) -> Result<(), SessionError> {
        let session = &mut self.sessions[index];
        let budget = &mut self.budgets[index];
        while !stopping && *budget > 0 && session.issue(self.order, &mut self.pattern, now) {
            *budget -= 1;
        }
        if session.out.is_empty() {
            return Ok(());
        }
        let sources = Sources {
            pattern: self.pattern.bytes(),
            slots: &session.slots,
        };
        let sent = session.out.flush(
            &session.socket,
            sources,
            SendFlags::DONTWAIT,
            &mut self.tally.sends,
        );
        let is_stuck = !sent.map_err(SessionError::Send)?;
        if is_stuck != session.is_stuck {
            session.is_stuck = is_stuck;
            let mut interest = epoll::EventFlags::IN;
            interest.set(epoll::EventFlags::OUT, is_stuck);
            let data = epoll::EventData::new_u64(index as u64);
            epoll::modify(&self.epoll, &session.socket, data, interest).map_err(poll_error)?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, flags: RecvFlags) -> Result<(), SessionError> {
        let session = &mut self.sessions[index];
        if session.receive(self.order, &mut self.tally, flags)? {
            session.take_answers(self.order, &mut self.pattern, now_ns(), &mut self.tally)?;
        }
        Ok(())
    }

    /// Receives from all that have something; they, and those that take more, are ready. After a while without any, all are.
    fn wait(&mut self, events: &mut Vec<epoll::Event>, ready: &mut Vec<usize>) -> Result<(), SessionError> {
        events.clear();
        let timeout = Timespec::try_from(LOOK).expect("a fraction of a second");
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(poll_error(error)),
        }
        for event in &*events {
            let (flags, data) = (event.flags, event.data);
            let index = data.u64() as usize;
            if flags != epoll::EventFlags::OUT {
                self.receive(index, RecvFlags::DONTWAIT)?;
            }
            ready.push(index);
        }
        if events.is_empty() {
            ready.extend(0..self.sessions.len());
        }
        Ok(())
    }
}

fn poll_error(error: rustix::io::Errno) -> SessionError {
    SessionError::Poll(error.into())
}
