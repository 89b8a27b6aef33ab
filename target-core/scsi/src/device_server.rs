//! One logical unit: CDBs in, [`Plan`]s out.
//!
//! The order in which a command is looked at is SAM-5's: a pending unit attention first, then whether the command
//! exists, then reservations, then its reserved bits, then whether there is a medium, then the command itself. All of
//! that comes from its row of the opcode table.

mod nexus_state;

use std::collections::BTreeMap;

use nexus_state::NexusState;

pub use crate::absent_unit::answer as answer_absent_unit;

use crate::{
    block_commands, buffers, capacity,
    control::{self, Refusal, Reply, VolumeNumber},
    copy_operations::Ended,
    failure::Failure,
    format_unit, inquiry,
    log_pages::{self, LogFacts, LogRequest},
    logical_block_provisioning::Space,
    mode_pages::{self, ModePages, ModeParameters},
    opcode_table::{self, Handler, Lookup, Needs, Opcode, ReservationRule},
    persistent_reserve,
    plan::{Action, Answer, ControlCall, CopyListId, CopyOutcome, CopyPlan, Plan, Sanitize},
    reports,
    reservations::{Effects, RegisteredNexus, Reservations},
    rod_tokens,
    sanitize::{self, SanitizeState, Unfinished},
    sense::{Sense, SenseKey},
    sense_codes,
    status::Status,
    third_party_copy,
    unit::{ControlAccess, NexusId, NexusPorts, UnitFacts},
    unit_attention::{Attentions, UnitAttention},
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
    /// Thresholds reached, the available and the used one, that have not been left since.
    reached: [bool; 2],
    /// START STOP UNIT commands that stopped it.
    stops: u32,
    /// Nothing may be written until the next start.
    refuses_writes: bool,
}

/// What commands change that must be stored before they are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    reservations: Reservations,
    modes: ModePages,
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

    /// The unit was being sanitized or formatted when it stopped: it starts as one where that has failed, with what
    /// [`Self::sanitize_to_store`] said.
    #[must_use]
    pub fn with_sanitize_cut_short(mut self, unfinished: Option<Unfinished>) -> Self {
        if let Some(unfinished) = unfinished {
            self.sanitize = SanitizeState::Failed(unfinished);
        }
        self
    }

    /// An I_T nexus comes to be; its first command hears 29h/00h.
    pub fn attach(&mut self, nexus: NexusId, ports: NexusPorts) {
        let mut state = NexusState::new(ports);
        state.attentions.raise(UnitAttention::PowerOn);
        self.nexuses.insert(nexus, state);
    }

    /// I_T nexus loss: its RESERVE(6), its PREVENT and all that was kept for it end. Registrations stay.
    pub fn detach(&mut self, nexus: NexusId) {
        self.nexuses.remove(&nexus);
        if self.reserved_by == Some(nexus) {
            self.reserved_by = None;
        }
    }

    /// I_T NEXUS RESET (SAM-5 7.6): as [`Self::detach`], but the nexus goes on and hears 29h/07h.
    pub fn nexus_loss(&mut self, nexus: NexusId) {
        if self.reserved_by == Some(nexus) {
            self.reserved_by = None;
        }
        if let Some(state) = self.nexuses.get_mut(&nexus) {
            state.reset();
            state.attentions.raise(UnitAttention::NexusLoss);
        }
    }

    /// QUERY ASYNCHRONOUS EVENT (SAM-5 7.10): what is pending for this nexus stays pending.
    pub fn pending_attentions(&self, nexus: NexusId) -> Option<&Attentions> {
        let state = self.nexuses.get(&nexus)?;
        (!state.attentions.is_empty()).then_some(&state.attentions)
    }

    /// LOGICAL UNIT RESET (SAM-5 6.3.3): every nexus hears of it, also the one that asked. Persistent reservations
    /// stay, and a SANITIZE goes on.
    pub fn logical_unit_reset(&mut self) {
        self.reserved_by = None;
        self.modes.current = self.modes.saved;
        for state in self.nexuses.values_mut() {
            state.reset();
            state.attentions.raise(UnitAttention::Reset);
        }
    }

    /// Raises a unit attention for every nexus but `except`.
    pub fn raise(&mut self, attention: UnitAttention, except: Option<NexusId>) {
        for (nexus, state) in &mut self.nexuses {
            if Some(*nexus) != except {
                state.attentions.raise(attention);
            }
        }
    }

    /// Raises a unit attention for one nexus.
    pub fn raise_for(&mut self, nexus: NexusId, attention: UnitAttention) {
        if let Some(state) = self.nexuses.get_mut(&nexus) {
            state.attentions.raise(attention);
        }
    }

    /// Must a command of this nexus go through [`Self::plan`]? While this is false, and the volume is ready,
    /// [`crate::fast_path::plan`] gives the same plans without this state. May change with every call of a
    /// `&mut self` method, for every nexus.
    pub fn attention_or_reservation(&self, nexus: NexusId) -> bool {
        let Some(state) = self.nexuses.get(&nexus) else {
            return true;
        };
        !state.attentions.is_empty()
            || self.reserved_by.is_some_and(|holder| holder != nexus)
            || !self.reservations.admits(&state.ports, ReservationRule::Writes)
            || self.ejected
            || self.sanitize != SanitizeState::None
            || self.refuses_writes
            || self.modes.current.write_protect
            || !self.modes.current.write_cache
    }

    /// Is the unit kept for somebody, by RESERVE(6) or persistently, or being sanitized? (2Ch/86h of replication
    /// commands.)
    pub fn is_reserved(&self) -> bool {
        self.reserved_by.is_some()
            || self.reservations.reservation.is_some()
            || self.sanitize != SanitizeState::None
    }

    /// All persistent reservations, kept through power loss or not.
    pub const fn reservations(&self) -> &Reservations {
        &self.reservations
    }

    /// Reservations and mode parameters, to be compared, or put back.
    pub fn kept(&self) -> Kept {
        Kept {
            reservations: self.reservations.clone(),
            modes: self.modes,
        }
    }

    /// A command's change could not be stored: what was before it is in force again, for a command that ends with CHECK CONDITION
    /// has changed nothing. If another has changed more since, the change stays: the other stores both.
    pub fn take_back(&mut self, before: Kept, after: &Kept) {
        if self.kept() == *after {
            (self.reservations, self.modes) = (before.reservations, before.modes);
        }
    }

    /// What to store when a plan says `persist_reservations`.
    pub fn reservations_to_store(&self) -> Reservations {
        self.reservations.to_store()
    }

    /// A SANITIZE or FORMAT UNIT that has not succeeded, to be stored before it begins and when it has ended.
    pub const fn sanitize_to_store(&self) -> Option<Unfinished> {
        match self.sanitize {
            SanitizeState::None => None,
            SanitizeState::Running { end, .. } | SanitizeState::Failed(end) => Some(end),
        }
    }

    /// How far a SANITIZE is, in 1/65536.
    pub fn sanitize_progress(&mut self, now: u16) {
        if let SanitizeState::Running { progress, .. } = &mut self.sanitize {
            *progress = now;
        }
    }

    /// A SANITIZE has ended: everything is overwritten, stably, or not.
    pub fn sanitize_ended(&mut self, done: bool) {
        if let SanitizeState::Running { end, .. } = self.sanitize {
            self.sanitize = if done {
                SanitizeState::None
            } else {
                SanitizeState::Failed(end)
            };
        }
    }

    /// From now on every command that writes is 4h/44h/00h: what it wrote might be undone at the next start.
    pub fn refuse_writes(&mut self) {
        self.refuses_writes = true;
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

    /// Answers a LOG SENSE with what was gathered for it.
    pub fn log_sense(&self, request: LogRequest, facts: &LogFacts) -> Answer {
        log_pages::sense(request, facts, self.stops).unwrap_or_else(|failure| self.answer_failure(failure))
    }

    /// What to store when a plan says `persist_modes`.
    pub fn modes_to_store(&self) -> ModeParameters {
        self.modes.saved
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

    fn answer_failure(&self, failure: Failure) -> Answer {
        match failure {
            Failure::Check(sense) => self.check_condition(&sense),
            Failure::Conflict => Answer::status(Status::ReservationConflict),
        }
    }

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
            Lookup::NoSuchServiceAction => return Err(Sense::invalid_cdb_field(1, Some(4)).into()),
            Lookup::Found(_) | Lookup::Unknown => {
                return Err(Sense::illegal(sense_codes::INVALID_OPERATION_CODE).into());
            }
        };
        let Some(cdb) = cdb.get(..entry.usage.len()) else {
            return Err(Sense::illegal(sense_codes::INVALID_OPERATION_CODE).into());
        };
        self.check_reservations(nexus, entry, cdb)?;
        if let Some((byte, bit)) = entry.reserved_bit(cdb) {
            return Err(Sense::invalid_cdb_field(byte, Some(bit)).into());
        }
        self.sanitize.check(entry.handler)?;
        self.check_medium(entry, facts)?;
        self.dispatch(nexus, entry.handler, cdb, data_out, facts)
    }

    fn report_attention(&mut self, nexus: NexusId) -> Result<(), Failure> {
        match self
            .nexuses
            .get_mut(&nexus)
            .and_then(|state| state.attentions.take())
        {
            Some(attention) => Err(attention.sense().into()),
            None => Ok(()),
        }
    }

    fn check_reservations(&self, nexus: NexusId, entry: &Opcode, cdb: &[u8]) -> Result<(), Failure> {
        let reserved_by_other = self.reserved_by.is_some_and(|holder| holder != nexus);
        let rule = match (entry.reservation, entry.handler) {
            (ReservationRule::Own, Handler::Reserve | Handler::Release) => {
                let conflict = !self.reservations.registrations.is_empty()
                    || (entry.handler == Handler::Reserve && reserved_by_other);
                return if conflict { Err(Failure::Conflict) } else { Ok(()) };
            }
            // Starting a unit, or letting its medium go, hurts no holder.
            (ReservationRule::Own, Handler::StartStopUnit) if cdb[4] & 0xF3 == 0x01 => ReservationRule::Never,
            (ReservationRule::Own, Handler::PreventAllow) if cdb[4] & 0x01 == 0 => ReservationRule::Never,
            (ReservationRule::Own, _) => ReservationRule::Writes,
            (rule, _) => rule,
        };
        if rule == ReservationRule::Never {
            return Ok(());
        }
        let admitted = match self.nexuses.get(&nexus) {
            Some(state) => self.reservations.admits(&state.ports, rule),
            None => self.reservations.reservation.is_none(),
        };
        if reserved_by_other || !admitted {
            Err(Failure::Conflict)
        } else {
            Ok(())
        }
    }

    fn check_medium(&self, entry: &Opcode, facts: &UnitFacts<'_>) -> Result<(), Failure> {
        if entry.needs == Needs::Nothing {
            return Ok(());
        }
        if let Some(sense) = self.no_medium(facts) {
            return Err(sense.into());
        }
        if entry.needs == Needs::WritableMedium {
            if self.refuses_writes {
                let code = sense_codes::INTERNAL_TARGET_FAILURE;
                return Err(Sense::new(SenseKey::HardwareError, code).into());
            }
            if facts.read_only {
                return Err(Sense::new(SenseKey::DataProtect, sense_codes::WRITE_PROTECTED).into());
            }
            if self.modes.current.write_protect {
                return Err(Sense::new(SenseKey::DataProtect, sense_codes::SOFTWARE_WRITE_PROTECTED).into());
            }
        }
        Ok(())
    }

    fn no_medium(&self, facts: &UnitFacts<'_>) -> Option<Sense> {
        if self.ejected {
            return Some(Sense::new(SenseKey::NotReady, sense_codes::MEDIUM_NOT_PRESENT));
        }
        (!facts.ready).then(|| Sense::new(SenseKey::NotReady, sense_codes::MANUAL_INTERVENTION_REQUIRED))
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
            Handler::Inquiry => inquiry::inquiry(cdb, identity, &self.state(nexus)?.ports)?,
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
            Handler::PersistentReserveOut => return self.reserve_out(nexus, cdb, data_out),
            Handler::ReportLuns => {
                let answer = reports::report_luns(cdb, facts.luns)?;
                if let Some(state) = self.nexuses.get_mut(&nexus) {
                    state.attentions.clear(UnitAttention::ReportedLunsChanged);
                }
                answer
            }
            Handler::ReportTargetPortGroups => {
                reports::report_target_port_groups(cdb, &self.state(nexus)?.ports.target)?
            }
            Handler::ReportOpcodes => reports::report_opcodes(cdb, &|entry| is_served(entry, facts))?,
            Handler::ReportTaskManagement => reports::report_task_management(cdb),
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
            | Handler::OrWrite
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

    /// START STOP UNIT (SBC-3 5.25). Nothing spins here: a stop is a flush, and only LOEJ changes the unit.
    fn start_stop(&mut self, nexus: NexusId, cdb: &[u8], facts: &UnitFacts<'_>) -> Result<Plan, Failure> {
        let good = Ok(Plan::answer(Answer::good()));
        let immediate = cdb[1] & 0x01 != 0;
        let flush = Action::Flush {
            offset: 0,
            length: facts.identity.bytes(),
            immediate,
        };
        let (load_eject, start) = (cdb[4] & 0x02 != 0, cdb[4] & 0x01 != 0);
        // With a power condition START and LOEJ are ignored, and there is no power to manage.
        if cdb[4] >> 4 != 0 {
            return good;
        }
        if load_eject && !facts.identity.removable {
            return Err(Sense::invalid_cdb_field(4, Some(1)).into());
        }
        // PREVENT locks the medium where it is, inside or outside.
        if load_eject && self.nexuses.values().any(|state| state.prevents_removal) {
            return Err(Sense::illegal(sense_codes::MEDIUM_REMOVAL_PREVENTED).into());
        }
        match (load_eject, start) {
            (false, true) => good,
            (true, true) => {
                if std::mem::take(&mut self.ejected) {
                    self.raise(UnitAttention::MediumChanged, Some(nexus));
                }
                good
            }
            (true, false) => {
                self.ejected = true;
                Ok(Plan::of(flush))
            }
            (false, false) => {
                self.stops = self.stops.saturating_add(1);
                let nothing_to_flush = cdb[4] & 0x04 != 0 || self.ejected;
                if nothing_to_flush {
                    good
                } else {
                    Ok(Plan::of(flush))
                }
            }
        }
    }

    /// Everybody's commands that were begun before end first: none may write behind the sanitizing.
    fn begin_wiping(&mut self, sanitize: Sanitize, end: Unfinished, list_length: usize) -> Plan {
        self.sanitize = SanitizeState::Running { progress: 0, end };
        let mut plan = Plan::of(Action::Sanitize(sanitize)).expecting(list_length as u64);
        plan.abort = self.nexuses.keys().copied().collect();
        plan
    }

    fn reserve_out(&mut self, nexus: NexusId, cdb: &[u8], data_out: &[u8]) -> Result<Plan, Failure> {
        let ports = self.state(nexus)?.ports.clone();
        let known: Vec<_> = self
            .nexuses
            .values()
            .map(|state| state.ports.initiator.clone())
            .collect();
        let out = persistent_reserve::parse_out(cdb, data_out, &ports, &known)?;
        let stored_before = self.reservations.to_store();
        let effects = self.reservations.execute(&ports, out.key, out.command)?;
        let mut plan = Plan::answer(Answer::good()).expecting(persistent_reserve::out_list_length(cdb));
        plan.persist_reservations = self.reservations.to_store() != stored_before;
        plan.abort = self.apply(nexus, &effects);
        Ok(plan)
    }

    /// Tells the others, and names those whose tasks end.
    fn apply(&mut self, by: NexusId, effects: &Effects) -> Vec<NexusId> {
        for (registered, attention) in &effects.attentions {
            for nexus in self.covered_by(registered, by) {
                self.raise_for(nexus, *attention);
            }
        }
        effects
            .abort
            .iter()
            .flat_map(|registered| self.covered_by(registered, by))
            .collect()
    }

    fn covered_by(&self, registered: &RegisteredNexus, except: NexusId) -> Vec<NexusId> {
        let nexuses = self.nexuses.iter();
        nexuses
            .filter(|(nexus, state)| **nexus != except && registered.covers(&state.ports))
            .map(|(nexus, _)| *nexus)
            .collect()
    }

    fn plan_control(
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

    fn state(&self, nexus: NexusId) -> Result<&NexusState, Failure> {
        self.nexuses.get(&nexus).ok_or_else(nobody)
    }

    fn state_mut(&mut self, nexus: NexusId) -> Result<&mut NexusState, Failure> {
        self.nexuses.get_mut(&nexus).ok_or_else(nobody)
    }
}

/// A command of a nexus that was never attached.
fn nobody() -> Failure {
    Sense::new(SenseKey::HardwareError, sense_codes::INTERNAL_TARGET_FAILURE).into()
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
        Handler::ReplicationIn | Handler::ReplicationOut => facts.control != ControlAccess::None,
        _ => true,
    }
}

fn plan_copy(cdb: &[u8], data_out: &[u8]) -> Result<Plan, Failure> {
    Ok(plan_if(
        third_party_copy::parse(cdb, data_out)?.map(Action::Copy),
        cdb,
    ))
}

/// A third-party copy; without a parameter list there is nothing to do.
fn plan_if(action: Option<Action>, cdb: &[u8]) -> Plan {
    let action = action.unwrap_or_else(|| Action::Answer(Answer::good()));
    Plan::of(action).expecting(copy_allocation_length(cdb) as u64)
}

/// Bytes 10 to 13: ALLOCATION LENGTH of 84h, PARAMETER LIST LENGTH of 83h.
fn copy_allocation_length(cdb: &[u8]) -> usize {
    u32::from_be_bytes([cdb[10], cdb[11], cdb[12], cdb[13]]) as usize
}

#[cfg(test)]
mod tests;
