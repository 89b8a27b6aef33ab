//! Logout (RFC 7143 11.14, 11.15).

use iscsi_proto::{
    bhs::{Header, LogoutRequest, LogoutResponse},
    logout::{LogoutOutcome, LogoutReason},
    misbehaviour::Misbehaviour,
};

use crate::{
    ending::{Ending, Phase, Scope, Settling, Then},
    link::LinkId,
    session::Session,
};

impl Session {
    /// A Logout Request over one of the connections.
    pub(crate) fn logout(&mut self, at: usize, request: &LogoutRequest) -> Result<(), Misbehaviour> {
        let reason =
            LogoutReason::from_code(request.reason()).ok_or(Misbehaviour::OutOfPlace(request.opcode))?;
        let cid = request.cid.get();
        let named = self.links.iter().position(|link| link.cid == cid);
        match (reason, named) {
            (LogoutReason::CloseSession, _) => self.log_session_out(at, request),
            (LogoutReason::CloseConnection, Some(_)) if self.links.len() == 1 && self.lost.is_empty() => {
                self.log_session_out(at, request);
            }
            (LogoutReason::CloseConnection, Some(named)) => self.log_link_out(at, named, request),
            (LogoutReason::CloseConnection, None) => match self.remember(cid, None) {
                Some(lost) => {
                    self.forget_tasks_of(lost);
                    self.answer_when_settled(at, lost, request);
                }
                None => self.answer_logout(at, request, LogoutOutcome::CidNotFound, 0),
            },
            (LogoutReason::RemoveForRecovery, _) if self.parameters.error_recovery_level < 2 => {
                self.answer_logout(at, request, LogoutOutcome::RecoveryNotSupported, 0);
            }
            (LogoutReason::RemoveForRecovery, named) => self.remove_for_recovery(at, named, request),
        }
        Ok(())
    }

    fn log_session_out(&mut self, at: usize, request: &LogoutRequest) {
        self.drop_collecting(|_| true);
        self.early.clear();
        self.postponed.clear();
        self.forget_all_lost();
        for link in &mut self.links {
            if link.takes_more() {
                link.phase = Phase::LoggingOut;
            }
        }
        self.settling.push(Settling {
            of: Scope::Session,
            then: Then::AnswerLogout(*request, self.links[at].id),
        });
        self.settle();
    }

    /// Logs the connection at `named` out, at the request of the one at `at`, which may be the same.
    fn log_link_out(&mut self, at: usize, named: usize, request: &LogoutRequest) {
        let id = self.links[named].id;
        self.drop_tasks_of(id);
        if named == at {
            self.links[at].phase = Phase::LoggingOut;
        } else {
            self.links[named].end(Ending::LoggedOutByAnother);
        }
        self.answer_when_settled(at, id, request);
    }

    fn answer_when_settled(&mut self, at: usize, id: LinkId, request: &LogoutRequest) {
        self.settling.push(Settling {
            of: Scope::Link(id),
            then: Then::AnswerLogout(*request, self.links[at].id),
        });
        self.settle();
    }

    /// Reason 2: the tasks of the connection, which may be gone already, wait for another one.
    fn remove_for_recovery(&mut self, at: usize, named: Option<usize>, request: &LogoutRequest) {
        let retain = self.parameters.default_time2retain;
        match named {
            None if self.remember(request.cid.get(), None).is_none() => {
                self.answer_logout(at, request, LogoutOutcome::CidNotFound, 0);
            }
            Some(named) if named == at => {
                self.answer_logout(at, request, LogoutOutcome::Closed, retain);
                self.links[at].end(Ending::LoggedOutForRecovery);
            }
            Some(named) => {
                self.links[named].end(Ending::RecoveredByAnother);
                self.answer_logout(at, request, LogoutOutcome::Closed, retain);
            }
            None => self.answer_logout(at, request, LogoutOutcome::Closed, retain),
        }
    }

    /// Answers the logout once nothing is executed any more. The nexus is closed before, and with it its
    /// reservations are released: whoever has seen the answer finds them gone.
    pub(crate) fn logged_out(&mut self, of: Scope, request: &LogoutRequest, link: LinkId) {
        if of == Scope::Session {
            self.close_nexus();
        }
        if let Some(at) = self.at(link) {
            // Nothing of it is kept.
            self.answer_logout(at, request, LogoutOutcome::Closed, 0);
            if of == Scope::Link(link) {
                self.links[at].end(Ending::Logout);
            }
        }
        if of == Scope::Session {
            for link in &mut self.links {
                link.end(Ending::Logout);
            }
        }
    }

    /// Answers, with the time that tasks wait for another connection.
    fn answer_logout(&mut self, at: usize, request: &LogoutRequest, outcome: LogoutOutcome, retain: u16) {
        let mut response = LogoutResponse::new();
        response.response = outcome as u8;
        response.initiator_task_tag = request.initiator_task_tag;
        response.time2wait = self.parameters.default_time2wait.into();
        response.time2retain = retain.into();
        self.links[at].send_status(&self.window, response, &[]);
    }
}
