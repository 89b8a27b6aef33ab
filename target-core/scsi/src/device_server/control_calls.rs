//! C0h and C1h: CDB to request, reply to data.

use super::DeviceServer;
use crate::{
    control::{self, Refusal, Reply, VolumeNumber},
    failure::Failure,
    plan::{Action, Answer, ControlCall, Plan},
    sense::Sense,
    sense_codes,
    unit::{ControlAccess, NexusId, UnitFacts},
};

impl DeviceServer {
    /// Answers a C0h or C1h whose request has been executed. `lun_of` tells through which LUN this nexus sees a
    /// volume. Keeps where a READ PENDING MAP was cut.
    pub fn control_answer(
        &mut self,
        nexus: NexusId,
        call: &ControlCall,
        result: Result<Reply, Refusal>,
        lun_of: &dyn Fn(VolumeNumber) -> Option<u16>,
    ) -> Answer {
        let reply = match result {
            Ok(reply) => reply,
            Err(refusal) => return self.check_condition(&control::sense_of(&refusal)),
        };
        let encoded = control::encode_reply(&reply, call, lun_of);
        if let Some(state) = self.nexuses.get_mut(&nexus) {
            state.note_map_position(call, encoded.next_lba);
        }
        Answer::data(encoded.data, call.allocation_length as usize)
    }

    pub(super) fn plan_control(
        &self,
        nexus: NexusId,
        cdb: &[u8],
        data_out: &[u8],
        facts: &UnitFacts<'_>,
    ) -> Result<Plan, Failure> {
        if facts.control == ControlAccess::Denied {
            return Err(Sense::illegal(sense_codes::ACCESS_DENIED_NO_RIGHTS).into());
        }
        let decoded = control::decode_cdb(cdb, data_out, facts.identity.number)?;
        let mut call = ControlCall {
            request: decoded.request,
            allocation_length: decoded.allocation_length,
            continue_at: 0,
        };
        if decoded.continues {
            call.continue_at = self.state(nexus)?.map_position(&call.request)?;
        }
        Ok(Plan::of(Action::Control(call)).expecting(u64::from(decoded.parameter_list_length)))
    }
}
