//! Task management (RFC 7143 11.5, 4.2.3; RFC 7144): tasks are ended first, in every session they are in, then the logical
//! unit hears of it, then the initiator: no effect of an aborted task comes after the answer, nor, over any connection
//! of the session, the answer to a task that ended before ([`crate::response_fence`]).

use std::{convert::Infallible, sync::Arc};

use iscsi_proto::{
    bhs::{AsyncMessage, Header, TaskManagementRequest, TaskManagementResponse},
    negotiation::TaskReporting,
    reject::RejectReason,
    session::is_before,
    task_management::{TaskManagementFunction as Function, TaskManagementOutcome as Outcome},
};
use target_core::{
    logical_unit::LogicalUnit,
    target::{Nexus, TmfRefusal},
};
use tokio::sync::mpsc::{self, error::TryRecvError};

use crate::{
    ending::Ending,
    link::LinkId,
    response_fence::Answer,
    session::{Early, Session},
    sessions::{CloseReason, Event},
    tasks::CommandFacts,
};

/// Functions that may wait for commands before them.
const POSTPONED: usize = 16;

/// Held by a task that is to end; when the last clone is dropped, all of them have.
pub(crate) type Fence = mpsc::Sender<Infallible>;

/// Which tasks to end.
#[derive(Debug, Clone)]
pub(crate) enum AbortScope {
    /// The one with this tag.
    Task(u32),
    /// Those of a logical unit, by whatever LUN the session sees it.
    Unit(Arc<LogicalUnit>),
    /// All.
    Everything,
}

impl AbortScope {
    /// Is a task of the session behind `nexus` one of them?
    pub(crate) fn covers(&self, facts: &CommandFacts, nexus: &Nexus) -> bool {
        match self {
            Self::Task(tag) => facts.tag == *tag,
            Self::Unit(unit) => nexus
                .logical_unit(facts.lun)
                .is_some_and(|own| Arc::ptr_eq(&own, unit)),
            Self::Everything => true,
        }
    }
}

/// A function that has been performed, to be answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskManagementEnd {
    tag: u32,
    /// The logical unit whose tasks it was about; `None`: all of the target's.
    pub(crate) lun: Option<[u8; 8]>,
    /// The connection the request came by.
    pub(crate) link: LinkId,
    outcome: Outcome,
    /// Additional response information (RFC 7144).
    additional: [u8; 3],
    /// The request took a place in the command window.
    pub(crate) numbered: bool,
    /// It ended all tasks of a unit, or of more.
    pub(crate) has_ended_many: bool,
    /// All connections to the target are to be closed.
    cold_reset: bool,
}

/// What a function comes to.
enum Plan {
    /// These tasks end, then its other effects come.
    Abort(Function, AbortScope),
    /// It only looked: this is what it found, with the additional response information.
    Answer(Outcome, [u8; 3]),
}

impl Session {
    /// A Task Management Function Request.
    pub(crate) fn task_management(&mut self, at: usize, request: &TaskManagementRequest, numbered: bool) {
        let Some(nexus) = self.nexus.clone() else { return };
        let function = Function::from_code(request.function(), self.parameters.protocol_level);
        if function.is_some_and(ends_many) && self.misses_commands_before(request.cmd_sn.get()) {
            return self.postpone(at, request);
        }
        let mut end = TaskManagementEnd {
            tag: request.initiator_task_tag.get(),
            lun: Some(request.lun),
            link: self.links[at].id,
            outcome: Outcome::Complete,
            additional: [0; 3],
            numbered,
            has_ended_many: false,
            cold_reset: function == Some(Function::TargetColdReset),
        };
        if function == Some(Function::TaskReassign) && self.parameters.error_recovery_level == 2 {
            end.outcome = self.may_reassign(request.referenced_task_tag.get());
            // No word of the SCSI layer: nothing holds it.
            self.answer_task_management(end);
            if end.outcome == Outcome::Complete {
                self.reassign(at, request);
            }
            return;
        }
        let (function, scope) = match self.plan(request, &nexus, function) {
            Ok(Plan::Abort(function, scope)) => (function, scope),
            Ok(Plan::Answer(outcome, additional)) => {
                (end.outcome, end.additional) = (outcome, additional);
                return self.answer(Answer::TaskManagement(end));
            }
            Err(outcome) => {
                end.outcome = outcome;
                return self.answer(Answer::TaskManagement(end));
            }
        };
        end.has_ended_many = ends_many(function);
        if matches!(scope, AbortScope::Everything) {
            end.lun = None;
        }
        let (fence, mut ended) = mpsc::channel(1);
        if end.has_ended_many && self.parameters.task_reporting == TaskReporting::FastAbort {
            // Over the connection of the request the answer says it.
            self.announce_end_of_tasks(&scope, Some(end.link));
        }
        self.abort(&scope, &fence);
        let is_about_this_session = matches!(
            function,
            Function::AbortTask | Function::AbortTaskSet | Function::ItNexusReset
        );
        if !is_about_this_session {
            self.abort_elsewhere(&scope, &fence, function == Function::ClearTaskSet);
        }
        drop(fence);
        let lun = request.lun;
        if ended.try_recv() == Err(TryRecvError::Disconnected) {
            end.outcome = perform(&nexus, function, lun);
            return self.answer(Answer::TaskManagement(end));
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            ended.recv().await;
            end.outcome = perform(&nexus, function, lun);
            // The connection may be gone by now; the effect counts all the same.
            let _ = events.send(Event::TaskManagement(end));
        });
    }

    /// What the function asks for, or why it does not come to that.
    fn plan(
        &mut self,
        request: &TaskManagementRequest,
        nexus: &Nexus,
        function: Option<Function>,
    ) -> Result<Plan, Outcome> {
        let function = function.ok_or(Outcome::NotSupported)?;
        let scope = match function {
            Function::AbortTask => {
                let tag = request.referenced_task_tag.get();
                if !self.tasks.contains(tag) {
                    return self
                        .strike(request)
                        .map(|()| Plan::Answer(Outcome::Complete, [0; 3]));
                }
                AbortScope::Task(tag)
            }
            Function::AbortTaskSet | Function::ClearTaskSet | Function::LogicalUnitReset => {
                AbortScope::Unit(nexus.logical_unit(request.lun).ok_or(Outcome::LunDoesNotExist)?)
            }
            Function::TargetWarmReset | Function::TargetColdReset | Function::ItNexusReset => {
                AbortScope::Everything
            }
            Function::QueryTask | Function::QueryTaskSet | Function::QueryAsynchronousEvent => {
                return self.query(request, nexus, function);
            }
            // NACA=1 is refused, so no ACA condition can exist.
            Function::ClearAca => return Err(Outcome::NotSupported),
            Function::TaskReassign => return Err(Outcome::ReassignmentNotSupported),
        };
        Ok(Plan::Abort(function, scope))
    }

    /// ABORT TASK of a task that is not here. If its command can still come (a CmdSN in the window, before that of the
    /// function), it counts as received from now on (RFC 7143 11.6.1): it is never executed and holds nothing up.
    fn strike(&mut self, request: &TaskManagementRequest) -> Result<(), Outcome> {
        let cmd_sn = request.ref_cmd_sn.get();
        let (first, last) = (self.window.exp_cmd_sn(), self.window.max_cmd_sn());
        let can_come =
            !is_before(cmd_sn, first) && !is_before(last, cmd_sn) && is_before(cmd_sn, request.cmd_sn.get());
        let is_another = matches!(
            self.early.get(&cmd_sn),
            Some(Early::Command { pdu, .. }) if tag_of(pdu) != Some(request.referenced_task_tag.get())
        );
        if !can_come || is_another {
            return Err(Outcome::TaskDoesNotExist);
        }
        self.early.insert(cmd_sn, Early::Struck);
        Ok(())
    }

    /// Are commands that the initiator sent before this CmdSN still on their way? Only over another connection can they be,
    /// or when one of them was damaged and is sent again.
    fn misses_commands_before(&self, cmd_sn: u32) -> bool {
        (self.links.len() > 1 || self.parameters.error_recovery_level > 0)
            && is_before(self.window.exp_cmd_sn(), cmd_sn)
    }

    /// A function that ends many tasks ends those of all commands before it, so it waits for these (RFC 7143 11.5.1).
    fn postpone(&mut self, at: usize, request: &TaskManagementRequest) {
        if self.postponed.len() >= POSTPONED {
            return self.reject(at, &request.to_bhs(), RejectReason::ImmediateCommandReject);
        }
        self.postponed.push((self.links[at].id, *request));
    }

    /// Carries out what waited for commands that are here now.
    pub(crate) fn resume_task_management(&mut self) {
        for (link, request) in std::mem::take(&mut self.postponed) {
            let Some(at) = self.at(link) else { continue };
            // Only an immediate request can have come before its turn.
            self.task_management(at, &request, false);
        }
    }

    /// The functions that only look (SAM-5 7.8-7.10). A task that was aborted has left the task set.
    fn query(
        &self,
        request: &TaskManagementRequest,
        nexus: &Nexus,
        function: Function,
    ) -> Result<Plan, Outcome> {
        let lun = request.lun;
        let unit = nexus.logical_unit(lun).ok_or(Outcome::LunDoesNotExist)?;
        if function == Function::QueryAsynchronousEvent {
            let pending = nexus
                .pending_event(lun)
                .map_err(|TmfRefusal::LunDoesNotExist| Outcome::LunDoesNotExist)?;
            return Ok(match pending {
                Some(event) => Plan::Answer(Outcome::Succeeded, event),
                None => Plan::Answer(Outcome::Complete, [0; 3]),
            });
        }
        let tag = request.referenced_task_tag.get();
        let of_unit = AbortScope::Unit(unit);
        let found = self.tasks.any(|facts| {
            (function == Function::QueryTaskSet || facts.tag == tag) && of_unit.covers(facts, nexus)
        });
        let outcome = if found {
            Outcome::Succeeded
        } else {
            Outcome::Complete
        };
        Ok(Plan::Answer(outcome, [0; 3]))
    }

    /// Ends tasks of this session without an answer to them.
    pub(crate) fn abort(&mut self, scope: &AbortScope, fence: &Fence) {
        let Some(nexus) = self.nexus.clone() else { return };
        let dropped = self.tasks.abort(|facts| scope.covers(facts, &nexus), fence);
        for task in &dropped {
            self.release_place(&task.facts);
        }
        if !dropped.is_empty() {
            self.grant_buffers();
        }
    }

    /// Ends tasks of this session as another one asks. If that cleared the task set, and took tasks of this one with it, this one
    /// hears of it: COMMANDS CLEARED BY ANOTHER INITIATOR (SAM-5 5.14, 7.5). A reset is told by the unit itself.
    pub(crate) fn abort_for_another(&mut self, scope: &AbortScope, fence: &Fence, cleared: bool) {
        if self.parameters.task_reporting == TaskReporting::FastAbort {
            self.announce_end_of_tasks(scope, None);
        }
        if let (true, AbortScope::Unit(unit), Some(nexus)) = (cleared, scope, &self.nexus)
            && self.tasks.any(|facts| scope.covers(facts, nexus))
        {
            nexus.commands_cleared(unit);
        }
        self.abort(scope, fence);
    }

    /// Fast abort (RFC 7143 4.2.3.4): each connection but `knows` is told of each unit whose tasks on it end (asynchronous event 5), so
    /// that the initiator sends no more data for them. What it has sent is dropped when it comes, acknowledged or not: transfer
    /// tags are not given out again.
    fn announce_end_of_tasks(&mut self, scope: &AbortScope, knows: Option<LinkId>) {
        let Some(nexus) = self.nexus.clone() else { return };
        for (link, lun) in self.tasks.places(|facts| scope.covers(facts, &nexus)) {
            if let Some(at) = self.at(link).filter(|_| Some(link) != knows) {
                let mut message = AsyncMessage::new();
                message.event = AsyncMessage::TASKS_END;
                message.lun = lun;
                self.send_async(at, message, &[]);
            }
        }
    }

    fn abort_elsewhere(&self, scope: &AbortScope, fence: &Fence, cleared: bool) {
        let own = self.handle.as_ref();
        let target = own.map_or("", |own| own.key.target.as_str());
        for session in self.shared.sessions.of_target(target) {
            if !own.is_some_and(|own| Arc::ptr_eq(own, &session)) {
                session.send(Event::Abort {
                    scope: scope.clone(),
                    fence: fence.clone(),
                    cleared,
                });
            }
        }
    }

    /// Sends the answer to a function.
    pub(crate) fn answer_task_management(&mut self, end: TaskManagementEnd) {
        if end.numbered {
            self.window.end();
        }
        let mut response = TaskManagementResponse::new();
        response.response = end.outcome as u8;
        response.additional = end.additional;
        response.initiator_task_tag = end.tag.into();
        if let Some(at) = self.at(end.link) {
            self.links[at].send_status(&self.window, response, &[]);
        }
        if end.cold_reset {
            let target = self.handle.as_ref().map_or("", |own| own.key.target.as_str());
            for session in self.shared.sessions.of_target(target) {
                session.send(Event::Close(CloseReason::ColdReset));
            }
            for link in &mut self.links {
                link.end(Ending::Closed(CloseReason::ColdReset));
            }
        }
    }
}

/// The initiator task tag of a whole PDU.
fn tag_of(pdu: &[u8]) -> Option<u32> {
    let bytes = pdu.get(16..20)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// Does the function end all tasks of a unit, or of more?
fn ends_many(function: Function) -> bool {
    matches!(
        function,
        Function::AbortTaskSet
            | Function::ClearTaskSet
            | Function::LogicalUnitReset
            | Function::TargetWarmReset
            | Function::TargetColdReset
            | Function::ItNexusReset
    )
}

/// What the function does besides ending tasks.
fn perform(nexus: &Nexus, function: Function, lun: [u8; 8]) -> Outcome {
    let done = match function {
        Function::AbortTaskSet | Function::ClearTaskSet => nexus.abort_task_set(lun),
        Function::LogicalUnitReset => nexus.logical_unit_reset(lun),
        Function::TargetWarmReset | Function::TargetColdReset => {
            nexus.target_reset();
            Ok(())
        }
        Function::ItNexusReset => {
            nexus.reset();
            Ok(())
        }
        Function::AbortTask
        | Function::ClearAca
        | Function::TaskReassign
        | Function::QueryTask
        | Function::QueryTaskSet
        | Function::QueryAsynchronousEvent => Ok(()),
    };
    match done {
        Ok(()) => Outcome::Complete,
        Err(TmfRefusal::LunDoesNotExist) => Outcome::LunDoesNotExist,
    }
}
