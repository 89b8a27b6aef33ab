//! Why and how a connection ends.

use std::{io, time::Duration};

use iscsi_proto::{
    bhs::{AsyncMessage, Header, LogoutRequest, LogoutResponse, RESERVED_TAG},
    framer::FrameError,
    logout::{LogoutOutcome, LogoutReason, judge_logout},
    misbehaviour::Misbehaviour,
};

use crate::{connection::Connection, sessions::CloseReason};

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ending {
    #[error("the initiator logged out")]
    Logout,
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
            Self::Hangup | Self::Socket(_) | Self::Silent | Self::Closed(CloseReason::Reinstated)
        )
    }
}

/// Where a connection stands in its life after login.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Full feature phase.
    Open,
    /// A Logout Request has come; it is answered when the last command has ended.
    LoggingOut(LogoutRequest),
    /// It ends once what is to be sent has been sent.
    Ended(Ending),
}

impl Connection {
    /// A Logout Request (RFC 7143 11.14).
    pub(crate) fn logout(&mut self, request: &LogoutRequest) -> Result<(), Misbehaviour> {
        let reason =
            LogoutReason::from_code(request.reason()).ok_or(Misbehaviour::OutOfPlace(request.opcode))?;
        match judge_logout(reason, request.cid.get(), self.cid) {
            LogoutOutcome::Closed => {
                self.drop_collecting();
                self.phase = Phase::LoggingOut(*request);
                self.finish_logout_if_idle();
            }
            outcome => self.answer_logout(request, outcome),
        }
        Ok(())
    }

    /// Answers the logout once nothing is executed any more. The nexus is closed before, and with it its
    /// reservations are released: whoever has seen the answer finds them gone.
    pub(crate) fn finish_logout_if_idle(&mut self) {
        let Phase::LoggingOut(request) = self.phase else {
            return;
        };
        if self.tasks.any_executing() {
            return;
        }
        self.close_nexus();
        self.answer_logout(&request, LogoutOutcome::Closed);
        self.phase = Phase::Ended(Ending::Logout);
    }

    fn answer_logout(&mut self, request: &LogoutRequest, outcome: LogoutOutcome) {
        let mut response = LogoutResponse::new();
        response.response = outcome as u8;
        response.initiator_task_tag = request.initiator_task_tag;
        response.stat_sn = self.status.take().into();
        response.exp_cmd_sn = self.window.exp_cmd_sn().into();
        response.max_cmd_sn = self.window.max_cmd_sn().into();
        response.time2wait = self.session.default_time2wait.into();
        // Nothing of a closed session is kept.
        response.time2retain = 0.into();
        self.out.push_copied(&response, &[]);
    }

    /// Ends the connection for a reason from outside. One that the initiator cannot expect is announced: a normal session
    /// is asked to log out, and dropped when the grace is over (see [`Self::drop_if_overdue`]). A discovery session
    /// just ends.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        let grace = self.shared.config.load().tuning.logout_grace;
        if self.handle.is_none() || grace.is_zero() || !reason.is_announced() {
            self.phase = Phase::Ended(Ending::Closed(reason));
        } else if self.logout_deadline.is_none() {
            self.ask_for_logout(u16::try_from(grace.as_secs().max(1)).unwrap_or(u16::MAX));
            self.logout_deadline = Some((self.origin.elapsed() + grace, reason));
        }
    }

    /// Drops the connection when the logout that was asked for has not come. Gives the time by which it has to.
    pub(crate) fn drop_if_overdue(&mut self, now: Duration) -> Option<Duration> {
        let (deadline, reason) = self.logout_deadline?;
        if now >= deadline {
            self.announce_drop();
            self.phase = Phase::Ended(Ending::Closed(reason));
        }
        Some(deadline)
    }

    /// Asks the initiator to log out within the grace (RFC 7143 11.9.1, event 1).
    fn ask_for_logout(&mut self, grace_seconds: u16) {
        let mut message = AsyncMessage::new();
        message.event = AsyncMessage::LOGOUT_REQUEST;
        message.parameter3 = grace_seconds.into();
        self.send_async(message);
    }

    /// Says that the connection is dropped now (event 2).
    fn announce_drop(&mut self) {
        let mut message = AsyncMessage::new();
        message.event = AsyncMessage::DROP_CONNECTION;
        message.parameter1 = self.cid.into();
        message.parameter2 = self.session.default_time2wait.into();
        self.send_async(message);
    }

    fn send_async(&mut self, mut message: AsyncMessage) {
        message.initiator_task_tag = RESERVED_TAG.into();
        message.stat_sn = self.status.take().into();
        message.exp_cmd_sn = self.window.exp_cmd_sn().into();
        message.max_cmd_sn = self.window.max_cmd_sn().into();
        self.out.push_copied(&message, &[]);
    }
}
