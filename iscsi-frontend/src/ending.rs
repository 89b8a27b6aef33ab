//! Why and how connections and sessions end.

use std::{io, time::Duration};

use iscsi_proto::{
    bhs::{AsyncMessage, Header, LogoutRequest},
    framer::FrameError,
    misbehaviour::Misbehaviour,
};

use crate::{
    link::{Link, LinkId, Newcomer, Rest},
    session::{Early, Session},
    sessions::CloseReason,
    socket::send_all,
};

/// How long the last answers may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ending {
    #[error("the initiator logged out")]
    Logout,
    #[error("the initiator logged it out over another connection")]
    LoggedOutByAnother,
    #[error("the initiator logged it out for recovery")]
    LoggedOutForRecovery,
    #[error("the initiator logged it out for recovery over another connection")]
    RecoveredByAnother,
    #[error("another connection with its CID has logged in")]
    Replaced,
    #[error("the initiator closed the connection")]
    Hangup,
    #[error("the socket failed: {0}")]
    Socket(#[from] io::Error),
    #[error("protocol error: {0}")]
    Misbehaviour(#[from] Misbehaviour),
    #[error("protocol error: {0}")]
    Frame(#[from] FrameError),
    #[error("more than {0} bytes of commands out of order")]
    TooManyEarly(usize),
    #[error("{0}")]
    Closed(CloseReason),
    #[error("no answer to NOP-In")]
    Silent,
}

impl Ending {
    /// Is there somebody to hear what is still to be sent?
    pub(crate) fn has_last_words(&self) -> bool {
        !matches!(
            self,
            Self::Hangup
                | Self::Socket(_)
                | Self::Silent
                | Self::LoggedOutByAnother
                | Self::RecoveredByAnother
                | Self::Replaced
                | Self::Closed(CloseReason::Reinstated)
        )
    }

    /// Can the tasks be meant to go on over another connection?
    pub(crate) fn leaves_tasks(&self) -> bool {
        !matches!(self, Self::Logout | Self::LoggedOutByAnother | Self::Closed(_))
    }
}

/// Where a connection stands in its life after login.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Full feature phase.
    Open,
    /// It was logged out, which is answered when the last command has ended.
    LoggingOut,
    /// It ends once what is to be sent has been sent.
    Ended(Ending),
}

/// Whose tasks have to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Session,
    Link(LinkId),
    /// Nobody's.
    None,
}

/// Something to be done when tasks have ended.
#[derive(Debug)]
pub(crate) struct Settling {
    /// These tasks.
    pub(crate) of: Scope,
    pub(crate) then: Then,
}

#[derive(Debug)]
pub(crate) enum Then {
    /// Answer this logout over this connection.
    AnswerLogout(LogoutRequest, LinkId),
    /// Let this connection in.
    Admit(Box<Newcomer>),
}

impl Session {
    /// Does what has waited for tasks that have ended by now. Was there any?
    pub(crate) fn settle(&mut self) -> bool {
        let mut has_settled = false;
        let mut at = 0;
        while let Some(waiting) = self.settling.get(at) {
            let is_busy = match waiting.of {
                Scope::Session => self.tasks.any_executing(),
                Scope::Link(id) => self.tasks.any_executing_of(id),
                Scope::None => false,
            } || self.fence.holds(waiting.of);
            // One that comes in place of another comes in when that is parted from.
            let is_early = matches!(
                &waiting.then,
                Then::Admit(newcomer) if self.links.iter().any(|link| link.cid == newcomer.cid)
            );
            if is_busy || is_early {
                at += 1;
                continue;
            }
            has_settled = true;
            let settled = self.settling.remove(at);
            match settled.then {
                Then::AnswerLogout(request, link) => self.logged_out(settled.of, &request, link),
                Then::Admit(newcomer) => self.admit(newcomer),
            }
        }
        has_settled
    }

    /// Ends what a connection leaves behind: its tasks, the commands that came over it before their turn.
    pub(crate) fn lose(&mut self, mut link: Link) {
        let Phase::Ended(ending) = std::mem::replace(&mut link.phase, Phase::LoggingOut) else {
            return;
        };
        tracing::info!(initiator = self.initiator(), cid = link.cid, %ending, "connection closed");
        if let Some(handle) = &self.handle {
            handle.forget(link.cid);
        }
        // One that was asked to log out has been told that it ends.
        let is_asked_out = link.logout_deadline.is_some();
        if self.keeps_tasks_after(&ending) && !is_asked_out {
            self.retain_tasks_of(&mut link);
        } else {
            self.drop_tasks_of(link.id);
        }
        self.release_held_of(link.id);
        if ending.has_last_words() {
            // A Reject, a Logout Response. The initiator may not be there any more to take it.
            let rest = link.into_rest();
            self.shared.connections.spawn(say_last_words(rest));
        }
    }

    /// What came over this connection is not carried on. Commands in progress end, but are not answered.
    pub(crate) fn drop_tasks_of(&mut self, id: LinkId) {
        self.drop_early_of(id);
        self.drop_collecting(|facts| facts.link == id);
        self.grant_buffers();
    }

    /// What came over this connection and has not had its turn goes with it.
    pub(crate) fn drop_early_of(&mut self, id: LinkId) {
        self.early
            .retain(|_, early| !matches!(early, Early::Command { link, .. } if *link == id));
        self.postponed.retain(|(link, _)| *link != id);
    }

    /// Ends all connections for a reason from outside.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.forget_all_lost();
        for at in 0..self.links.len() {
            self.close_link(at, reason);
        }
    }

    /// Ends one connection for a reason from outside.
    pub(crate) fn close_connection(&mut self, cid: u16, reason: CloseReason) {
        if let Some(at) = self.links.iter().position(|link| link.cid == cid) {
            self.close_link(at, reason);
        }
    }

    /// One that the initiator cannot expect is announced: in a normal session it
    /// is asked to log out, and dropped when the grace is over (see [`Self::drop_if_overdue`]). A discovery session
    /// just ends.
    fn close_link(&mut self, at: usize, reason: CloseReason) {
        let grace = self.shared.config.load().tuning.logout_grace;
        if self.handle.is_none() || grace.is_zero() || !reason.is_announced() {
            self.links[at].end(Ending::Closed(reason));
        } else if self.links[at].logout_deadline.is_none() {
            self.ask_for_logout(at, u16::try_from(grace.as_secs().max(1)).unwrap_or(u16::MAX));
            self.links[at].logout_deadline = Some((self.origin.elapsed() + grace, reason));
            self.look = true;
        }
    }

    /// Drops the connection when the logout that was asked for has not come. Gives the time by which it has to.
    pub(crate) fn drop_if_overdue(&mut self, at: usize, now: Duration) -> Option<Duration> {
        let (deadline, reason) = self.links[at].logout_deadline?;
        if now >= deadline {
            self.announce_drop(at, reason);
            self.links[at].end(Ending::Closed(reason));
        }
        Some(deadline)
    }

    /// Asks the initiator to log out within the grace (RFC 7143 11.9.1, event 1).
    fn ask_for_logout(&mut self, at: usize, grace_seconds: u16) {
        let mut message = AsyncMessage::new();
        message.event = AsyncMessage::LOGOUT_REQUEST;
        message.parameter3 = grace_seconds.into();
        self.send_async(at, message, &[]);
    }

    /// Says that the connection is dropped now (event 2), or all of the session are (event 3).
    fn announce_drop(&mut self, at: usize, reason: CloseReason) {
        let mut message = AsyncMessage::new();
        if reason.is_about_session() {
            message.event = AsyncMessage::DROP_SESSION;
        } else {
            message.event = AsyncMessage::DROP_CONNECTION;
            message.parameter1 = self.links[at].cid.into();
        }
        message.parameter2 = self.parameters.default_time2wait.into();
        self.send_async(at, message, &[]);
    }
}

async fn say_last_words(mut rest: Rest) {
    // Nobody is left to be told when they cannot be said.
    let _ = tokio::time::timeout(LAST_WORDS, send_all(&rest.socket, &mut rest.out)).await;
}
