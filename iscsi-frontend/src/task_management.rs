//! Task management (RFC 7143 11.5, 4.2.3): tasks are ended first, in every session they are in, then the logical
//! unit hears of it, then the initiator. The answer is a fence: no effect of an aborted task comes after it.

use std::{convert::Infallible, sync::Arc};

use iscsi_proto::{
    bhs::{Header, TaskManagementRequest, TaskManagementResponse},
    task_management::{TaskManagementFunction as Function, TaskManagementOutcome as Outcome},
};
use target_core::{
    logical_unit::LogicalUnit,
    target::{Nexus, TmfRefusal},
};
use tokio::sync::mpsc::{self, error::TryRecvError};

use crate::{
    connection::Connection,
    ending::{Ending, Phase},
    sessions::{CloseReason, Event},
    tasks::CommandFacts,
};

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
    outcome: Outcome,
    /// The request took a place in the command window.
    numbered: bool,
    /// All connections to the target are to be closed.
    cold_reset: bool,
}

impl Connection {
    /// A Task Management Function Request.
    pub(crate) fn task_management(&mut self, request: &TaskManagementRequest, numbered: bool) {
        let Some(nexus) = self.nexus.clone() else { return };
        let function = Function::from_code(request.function());
        let mut end = TaskManagementEnd {
            tag: request.initiator_task_tag.get(),
            outcome: Outcome::Complete,
            numbered,
            cold_reset: function == Some(Function::TargetColdReset),
        };
        let (function, scope) = match self.plan(request, &nexus, function) {
            Ok(plan) => plan,
            Err(outcome) => {
                end.outcome = outcome;
                return self.end_task_management(end);
            }
        };
        let (fence, mut ended) = mpsc::channel(1);
        self.abort(&scope, &fence);
        if !matches!(function, Function::AbortTask | Function::AbortTaskSet) {
            self.abort_elsewhere(&scope, &fence);
        }
        drop(fence);
        let lun = request.lun;
        if ended.try_recv() == Err(TryRecvError::Disconnected) {
            end.outcome = perform(&nexus, function, lun);
            return self.end_task_management(end);
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            ended.recv().await;
            end.outcome = perform(&nexus, function, lun);
            // The connection may be gone by now; the effect counts all the same.
            let _ = events.send(Event::TaskManagement(end));
        });
    }

    /// Which tasks the function ends, or why it does not come to that.
    fn plan(
        &self,
        request: &TaskManagementRequest,
        nexus: &Nexus,
        function: Option<Function>,
    ) -> Result<(Function, AbortScope), Outcome> {
        let function = function.ok_or(Outcome::NotSupported)?;
        let scope = match function {
            Function::AbortTask => {
                let tag = request.referenced_task_tag.get();
                // Commands arrive in order on the one connection of a session: a task that is not here has ended.
                if !self.tasks.contains(tag) {
                    return Err(Outcome::TaskDoesNotExist);
                }
                AbortScope::Task(tag)
            }
            Function::AbortTaskSet | Function::ClearTaskSet | Function::LogicalUnitReset => {
                AbortScope::Unit(nexus.logical_unit(request.lun).ok_or(Outcome::LunDoesNotExist)?)
            }
            Function::TargetWarmReset | Function::TargetColdReset => AbortScope::Everything,
            // NACA=1 is refused, so no ACA condition can exist.
            Function::ClearAca => return Err(Outcome::NotSupported),
            Function::TaskReassign => return Err(Outcome::ReassignmentNotSupported),
        };
        Ok((function, scope))
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

    fn abort_elsewhere(&self, scope: &AbortScope, fence: &Fence) {
        let own = self.handle.as_ref();
        let target = own.map_or("", |own| own.key.target.as_str());
        for session in self.shared.sessions.of_target(target) {
            if !own.is_some_and(|own| Arc::ptr_eq(own, &session)) {
                session.send(Event::Abort {
                    scope: scope.clone(),
                    fence: fence.clone(),
                });
            }
        }
    }

    /// Answers.
    pub(crate) fn end_task_management(&mut self, end: TaskManagementEnd) {
        if end.numbered {
            self.window.end();
        }
        let mut response = TaskManagementResponse::new();
        response.response = end.outcome as u8;
        response.initiator_task_tag = end.tag.into();
        response.stat_sn = self.status.take().into();
        response.exp_cmd_sn = self.window.exp_cmd_sn().into();
        response.max_cmd_sn = self.window.max_cmd_sn().into();
        self.out.push_copied(&response, &[]);
        if end.cold_reset {
            let target = self.handle.as_ref().map_or("", |own| own.key.target.as_str());
            for session in self.shared.sessions.of_target(target) {
                session.send(Event::Close(CloseReason::ColdReset));
            }
            self.phase = Phase::Ended(Ending::Closed(CloseReason::ColdReset));
        }
    }
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
        Function::AbortTask | Function::ClearAca | Function::TaskReassign => Ok(()),
    };
    match done {
        Ok(()) => Outcome::Complete,
        Err(TmfRefusal::LunDoesNotExist) => Outcome::LunDoesNotExist,
    }
}
