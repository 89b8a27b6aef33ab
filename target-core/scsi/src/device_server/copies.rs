//! Third-party copies: their statuses and operations, and how they become plans.

use super::DeviceServer;
use crate::{
    copy_operations::Ended,
    failure::Failure,
    plan::{Action, Answer, CopyListId, CopyOutcome, CopyPlan, Plan},
    third_party_copy,
    unit::NexusId,
};

impl DeviceServer {
    /// Answers an EXTENDED COPY whose plan has been carried out, and keeps its status.
    pub fn copy_finished(&mut self, nexus: NexusId, plan: &CopyPlan, outcome: &CopyOutcome) -> Answer {
        if let Some(state) = self.nexuses.get_mut(&nexus) {
            let segments = plan.segments.len();
            match plan.list_id {
                Some(CopyListId::Short(list_id)) => state.copies.remember(list_id, segments, outcome),
                Some(CopyListId::Long(list_id)) => {
                    state
                        .operations
                        .end(list_id, third_party_copy::ended(segments, outcome));
                }
                None => {}
            }
        }
        match outcome {
            CopyOutcome::Done { .. } => Answer::good(),
            CopyOutcome::Failed { segment, sense, .. } => {
                self.check_condition(&third_party_copy::aborted(*segment, sense))
            }
        }
    }

    /// An operation with a four-byte list identifier begins; `Err` is the answer when it may not. `action` is its SERVICE
    /// ACTION.
    pub fn begin_operation(&mut self, nexus: NexusId, list_id: u32, action: u8) -> Result<(), Answer> {
        let begun = self
            .state_mut(nexus)
            .and_then(|state| state.operations.begin(list_id, action));
        begun.map_err(|failure| self.answer_failure(failure))
    }

    /// Has nothing ended the operation, neither COPY OPERATION ABORT nor a reset?
    pub fn operation_goes_on(&self, nexus: NexusId, list_id: u32) -> bool {
        let state = self.nexuses.get(&nexus);
        state.is_some_and(|state| state.operations.goes_on(list_id))
    }

    /// Answers an operation that has ended, and holds how it did.
    pub fn end_operation(&mut self, nexus: NexusId, list_id: u32, end: Ended) -> Answer {
        let answer = match &end.failure {
            None => Answer::good(),
            Some(sense) => self.check_condition(sense),
        };
        if let Some(state) = self.nexuses.get_mut(&nexus) {
            state.operations.end(list_id, end);
        }
        answer
    }
}

pub(super) fn plan_copy(cdb: &[u8], data_out: &[u8]) -> Result<Plan, Failure> {
    Ok(plan_if(
        third_party_copy::parse(cdb, data_out)?.map(Action::Copy),
        cdb,
    ))
}

/// A third-party copy; without a parameter list there is nothing to do.
pub(super) fn plan_if(action: Option<Action>, cdb: &[u8]) -> Plan {
    let action = action.unwrap_or_else(|| Action::Answer(Answer::good()));
    Plan::of(action).expecting(copy_allocation_length(cdb) as u64)
}

/// Bytes 10 to 13: ALLOCATION LENGTH of 84h, PARAMETER LIST LENGTH of 83h.
pub(super) fn copy_allocation_length(cdb: &[u8]) -> usize {
    u32::from_be_bytes([cdb[10], cdb[11], cdb[12], cdb[13]]) as usize
}
