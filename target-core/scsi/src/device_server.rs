//! One logical unit: CDBs in, [`Plan`]s out.
//!
//! The order in which a command is looked at is SAM-5's: a pending unit attention first, then whether the command
//! exists, then reservations, then its reserved bits, then whether there is a medium, then the command itself. All of
//! that comes from its row of the opcode table.

mod control_calls;
mod copies;
mod holders;
mod medium;
mod nexus_state;
mod nexuses;
mod stored;

use std::collections::BTreeMap;

use copies::{copy_allocation_length, plan_copy, plan_if};
use nexus_state::NexusState;

pub use crate::absent_unit::answer as answer_absent_unit;
pub use stored::Kept;

use crate::{
    access_state::{self, PortGroup},
    block_commands, buffers, capacity,
    failure::Failure,
    format_unit, inquiry,
    log_pages::{self, LogFacts, LogRequest},
    logical_block_provisioning::Space,
    mode_pages::{self, ModePages, ModeParameters},
    opcode_table::{self, ADDITIONAL_LENGTH, Handler, Lookup, Opcode, VARIABLE_LENGTH},
    orwrite::{Generations, NewGeneration},
    persistent_reserve,
    plan::{Action, Answer, Plan},
    reports,
    reservations::Reservations,
    rod_tokens,
    sanitize::{self, SanitizeState, Unfinished},
    sense::{Sense, SenseKey},
    sense_codes,
    status::Status,
    third_party_copy,
    unit::{ControlAccess, NexusId, UnitFacts},
    unit_attention::UnitAttention,
    unmap,
};

/// The state of a logical unit that is not its data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceServer {
    reservations: Reservations,
    /// RESERVE(6) or (10) of SPC-2.
    reserved_by: Option<NexusId>,
    modes: ModePages,
    nexuses: BTreeMap<NexusId, NexusState>,
    /// A removable medium is out.
    ejected: bool,
    sanitize: SanitizeState,
    port_group: PortGroup,
    /// Thresholds reached, the available and the used one, that have not been left since.
    reached: [bool; 2],
    generations: Generations,
    /// START STOP UNIT commands that stopped it.
    stops: u32,
    /// Nothing may be written until the next start.
    refuses_writes: bool,
}

impl DeviceServer {
    /// A unit after a start, with what was stored of it. PRGENERATION starts anew (SPC-4 6.16.2).
    pub fn new(mut reservations: Reservations, saved: ModeParameters) -> Self {
        reservations.generation = 0;
        Self {
            reservations,
            modes: ModePages::starting_with(saved),
            ..Self::default()
        }
    }

    /// Does a threshold want the space to be looked at from time to time?
    pub const fn watches_space(&self) -> bool {
        self.modes.current.thresholds.any()
    }

    /// The space of the unit is this now: a threshold that has been reached is told to every nexus (6h/38h/07h).
    pub fn space(&mut self, space: Space) {
        let reached = self.modes.current.thresholds.reached(space);
        let newly = (0..reached.len()).any(|index| reached[index] && !self.reached[index]);
        self.reached = reached;
        if newly {
            self.raise(UnitAttention::ThresholdReached, None);
        }
    }

    /// The bits of a bitmap are cleared, stably or not as the command asked: its users have another generation (SBC-4 4.27.3).
    pub fn generation_changed(&mut self, new: NewGeneration) {
        self.generations.change(new);
    }

    /// Answers a LOG SENSE with what was gathered for it.
    pub fn log_sense(&self, request: LogRequest, facts: &LogFacts) -> Answer {
        log_pages::sense(request, facts, self.stops).unwrap_or_else(|failure| self.answer_failure(failure))
    }

    /// CHECK CONDITION with sense data in the unit's format.
    pub fn check_condition(&self, sense: &Sense) -> Answer {
        Answer {
            status: Status::CheckCondition,
            sense: sense.encode(self.modes.sense_format()),
            data_in: Vec::new(),
        }
    }

    /// Plans one command. `data_out` is everything that the initiator sent.
    pub fn plan(&mut self, nexus: NexusId, cdb: &[u8], data_out: &[u8], facts: &UnitFacts<'_>) -> Plan {
        match self.try_plan(nexus, cdb, data_out, facts) {
            Ok(mut plan) => {
                plan.write_through = !self.modes.current.write_cache;
                plan
            }
            Err(failure) => Plan::answer(self.answer_failure(failure)),
        }
    }

    fn answer_failure(&self, failure: Failure) -> Answer {
        match failure {
            Failure::Check(sense) => self.check_condition(&sense),
            Failure::Conflict => Answer::status(Status::ReservationConflict),
            Failure::Busy => Answer::status(Status::Busy),
        }
    }

    fn try_plan(
        &mut self,
        nexus: NexusId,
        cdb: &[u8],
        data_out: &[u8],
        facts: &UnitFacts<'_>,
    ) -> Result<Plan, Failure> {
        let lookup = opcode_table::lookup(cdb);
        if !matches!(lookup, Lookup::Found(entry) if passes_attentions(entry.handler)) {
            self.report_attention(nexus)?;
        }
        let entry = match lookup {
            Lookup::Found(entry) if is_served(entry, facts) => entry,
            Lookup::NoSuchServiceAction if cdb[0] == VARIABLE_LENGTH => {
                return Err(Sense::invalid_cdb_field(8, Some(7)).into());
            }
            Lookup::NoSuchServiceAction => return Err(Sense::invalid_cdb_field(1, Some(4)).into()),
            Lookup::Found(_) | Lookup::Unknown => {
                return Err(Sense::illegal(sense_codes::INVALID_OPERATION_CODE).into());
            }
        };
        if entry.code() == VARIABLE_LENGTH && (cdb[7] != ADDITIONAL_LENGTH || cdb.len() < entry.usage.len()) {
            return Err(Sense::invalid_cdb_field(7, Some(7)).into());
        }
        let Some(cdb) = cdb.get(..entry.usage.len()) else {
            return Err(Sense::illegal(sense_codes::INVALID_OPERATION_CODE).into());
        };
        self.check_reservations(nexus, entry, cdb)?;
        if let Some((byte, bit)) = entry.reserved_bit(cdb) {
            return Err(Sense::invalid_cdb_field(byte, Some(bit)).into());
        }
        self.check_not_lost(entry, cdb)?;
        self.port_group.state(facts.shared).check(entry.handler)?;
        self.sanitize.check(entry.handler)?;
        self.check_medium(entry, facts)?;
        self.dispatch(nexus, entry.handler, cdb, data_out, facts)
    }

    fn dispatch(
        &mut self,
        nexus: NexusId,
        handler: Handler,
        cdb: &[u8],
        data_out: &[u8],
        facts: &UnitFacts<'_>,
    ) -> Result<Plan, Failure> {
        let identity = facts.identity;
        let answer = match handler {
            Handler::TestUnitReady => Answer::good(),
            Handler::RequestSense => self.request_sense(nexus, cdb, facts),
            Handler::Inquiry => inquiry::inquiry(cdb, facts, &self.state(nexus)?.ports.target)?,
            Handler::ModeSense => self.modes.sense(cdb, facts)?,
            Handler::ModeSelect => return self.mode_select(nexus, cdb, data_out, facts),
            Handler::Reserve => {
                self.reserved_by = Some(nexus);
                Answer::good()
            }
            Handler::Release => {
                if self.reserved_by == Some(nexus) {
                    self.reserved_by = None;
                }
                Answer::good()
            }
            Handler::StartStopUnit => return self.start_stop(nexus, cdb, facts),
            Handler::PreventAllow => {
                self.state_mut(nexus)?.prevents_removal = cdb[4] & 0x01 != 0;
                Answer::good()
            }
            Handler::ReadCapacity10 => capacity::read_capacity_10(identity),
            Handler::ReadCapacity16 => capacity::read_capacity_16(cdb, identity),
            Handler::ReadDefectData => buffers::read_defect_data(cdb),
            Handler::ReceiveDiagnostic => buffers::receive_diagnostic(cdb)?,
            Handler::SendDiagnostic => {
                let length = buffers::send_diagnostic(cdb, data_out)?;
                return Ok(Plan::answer(Answer::good()).expecting(length));
            }
            Handler::WriteBuffer => {
                let length = self.state_mut(nexus)?.buffers.write(cdb, data_out)?;
                return Ok(Plan::answer(Answer::good()).expecting(length));
            }
            Handler::ReadBuffer => self.state(nexus)?.buffers.read(cdb)?,
            Handler::LogSense => return Ok(Plan::of(Action::LogSense(log_pages::parse_sense(cdb)?))),
            Handler::LogSelect => return self.log_select(nexus, cdb),
            Handler::PersistentReserveIn => {
                let length = usize::from(u16::from_be_bytes([cdb[7], cdb[8]]));
                Answer::data(persistent_reserve::data_in(cdb, &self.reservations)?, length)
            }
            Handler::PersistentReserveOut => return self.reserve_out(nexus, cdb, data_out, facts),
            Handler::ReportLuns => {
                let answer = reports::report_luns(cdb, facts.luns)?;
                if let Some(state) = self.nexuses.get_mut(&nexus) {
                    state.attentions.clear(UnitAttention::ReportedLunsChanged);
                }
                answer
            }
            Handler::ReportTargetPortGroups => {
                self.port_group.report(cdb, facts.target_ports, facts.shared)?
            }
            Handler::SetTargetPortGroups => return self.set_port_group(nexus, cdb, data_out),
            Handler::ReportOpcodes => reports::report_opcodes(cdb, &|entry| is_served(entry, facts))?,
            Handler::ReportTaskManagement => reports::report_task_management(cdb),
            Handler::ReportTimestamp => return Ok(Plan::of(reports::timestamp_action(cdb))),
            Handler::ExtendedCopy => return plan_copy(cdb, data_out),
            Handler::ReceiveCopyStatus => {
                let data = self.state(nexus)?.copies.report(cdb)?;
                Answer::data(data, copy_allocation_length(cdb))
            }
            Handler::ReceiveCopyFailure => {
                let format = self.modes.sense_format();
                let data = self.state(nexus)?.copies.failure_details(cdb, format)?;
                Answer::data(data, copy_allocation_length(cdb))
            }
            Handler::ReceiveOperationStatus | Handler::ReceiveTokenInformation => {
                let tokens = handler == Handler::ReceiveTokenInformation;
                let format = self.modes.sense_format();
                let data = self.state(nexus)?.operations.report(cdb, tokens, format)?;
                Answer::data(data, copy_allocation_length(cdb))
            }
            Handler::ReportTokens => {
                let allocation_length = copy_allocation_length(cdb) as u32;
                return Ok(Plan::of(Action::ReportTokens { allocation_length }));
            }
            Handler::CopyAbort => {
                self.state_mut(nexus)?.operations.abort(cdb)?;
                Answer::good()
            }
            Handler::PopulateToken => {
                let populate = rod_tokens::parse_populate(cdb, data_out, facts)?;
                return Ok(plan_if(populate.map(Action::PopulateToken), cdb));
            }
            Handler::WriteUsingToken => {
                let write = rod_tokens::parse_write(cdb, data_out, facts)?;
                return Ok(plan_if(write.map(Action::WriteUsingToken), cdb));
            }
            Handler::ReceiveCopyParameters => Answer::data(
                third_party_copy::operating_parameters(),
                copy_allocation_length(cdb),
            ),
            Handler::OrWrite => return self.generations.plan(cdb, data_out, facts),
            Handler::Unmap => return unmap::plan(cdb, data_out, facts),
            Handler::FormatUnit => {
                let (format, length) = format_unit::parse(cdb, data_out)?;
                return Ok(self.begin_wiping(format, Unfinished::Format, length));
            }
            Handler::Sanitize => {
                let sanitize = sanitize::parse(cdb, data_out, facts)?;
                let end = if sanitize.unrestricted {
                    Unfinished::UnrestrictedSanitize
                } else {
                    Unfinished::Sanitize
                };
                return Ok(self.begin_wiping(sanitize, end, sanitize::list_length(cdb)));
            }
            Handler::SanitizeExit => {
                self.sanitize.exit_failure()?;
                Answer::good()
            }
            Handler::ReplicationIn | Handler::ReplicationOut => {
                return self.plan_control(nexus, cdb, data_out, facts);
            }
            Handler::Read
            | Handler::Write
            | Handler::WriteAtomic
            | Handler::WriteAndVerify
            | Handler::Verify
            | Handler::Prefetch
            | Handler::SynchronizeCache
            | Handler::WriteSame
            | Handler::CompareAndWrite
            | Handler::GetLbaStatus => return block_commands::plan(handler, cdb, data_out, facts),
        };
        Ok(Plan::answer(answer))
    }

    /// A pending unit attention goes out as data here, and ends.
    fn request_sense(&mut self, nexus: NexusId, cdb: &[u8], facts: &UnitFacts<'_>) -> Answer {
        let pending = self
            .nexuses
            .get_mut(&nexus)
            .and_then(|state| state.attentions.take());
        let sense = pending
            .map(UnitAttention::sense)
            .or_else(|| self.port_group.state(facts.shared).sense())
            .or_else(|| self.no_medium(facts))
            .or_else(|| self.sanitize.sense())
            .unwrap_or(Sense::new(SenseKey::NoSense, sense_codes::NO_ADDITIONAL_SENSE));
        let format = if cdb[1] & 0x01 == 0 {
            crate::sense::SenseFormat::Fixed
        } else {
            crate::sense::SenseFormat::Descriptor
        };
        Answer::data(sense.encode(format), usize::from(cdb[4]))
    }

    fn mode_select(
        &mut self,
        nexus: NexusId,
        cdb: &[u8],
        data_out: &[u8],
        facts: &UnitFacts<'_>,
    ) -> Result<Plan, Failure> {
        let selected = self.modes.select(cdb, data_out, facts.identity)?;
        if selected.changed {
            self.reached = [false; 2];
            self.raise(UnitAttention::ModeParametersChanged, Some(nexus));
        }
        let mut plan = Plan::answer(Answer::good()).expecting(mode_pages::list_length(cdb) as u64);
        plan.persist_modes = selected.save;
        Ok(plan)
    }

    /// The state is everybody's: the others hear of it (6h/2Ah/06h).
    fn set_port_group(&mut self, nexus: NexusId, cdb: &[u8], data_out: &[u8]) -> Result<Plan, Failure> {
        if let Some(state) = access_state::parse_set(cdb, data_out)?
            && self.port_group.set(state)
        {
            self.raise(UnitAttention::AccessStateChanged, Some(nexus));
        }
        Ok(Plan::answer(Answer::good()).expecting(access_state::list_length(cdb) as u64))
    }

    fn log_select(&mut self, nexus: NexusId, cdb: &[u8]) -> Result<Plan, Failure> {
        let reset = log_pages::parse_select(cdb)?;
        if reset.start_stop {
            self.stops = 0;
        }
        if reset.changes() {
            self.raise(UnitAttention::LogParametersChanged, Some(nexus));
        }
        Ok(if reset.statistics {
            Plan::of(Action::ResetStatistics)
        } else {
            Plan::answer(Answer::good())
        })
    }
}

/// These three are carried out with a unit attention pending (SAM-5 5.14).
const fn passes_attentions(handler: Handler) -> bool {
    matches!(
        handler,
        Handler::Inquiry | Handler::ReportLuns | Handler::RequestSense
    )
}

/// Does this unit have the command at all?
fn is_served(entry: &Opcode, facts: &UnitFacts<'_>) -> bool {
    match entry.handler {
        Handler::Unmap => facts.identity.thin,
        Handler::SetTargetPortGroups => facts.shared.is_none(),
        Handler::ReplicationIn | Handler::ReplicationOut => facts.control != ControlAccess::None,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
