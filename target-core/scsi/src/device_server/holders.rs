//! Who keeps the unit for himself: RESERVE(6) and (10), and persistent reservations.

use super::DeviceServer;
use crate::{
    failure::Failure,
    opcode_table::{Handler, Opcode, ReservationRule},
    persistent_reserve::{self, REPLACE_LOST},
    plan::{Answer, Plan},
    reservations::{Effects, RegisteredNexus, Reservations},
    sanitize::SanitizeState,
    sense::{Sense, SenseKey},
    sense_codes,
    unit::{NexusId, UnitFacts},
};

impl DeviceServer {
    /// Is the unit kept for somebody, by RESERVE(6) or persistently, or being sanitized? (2Ch/86h of replication
    /// commands.)
    pub fn is_reserved(&self) -> bool {
        self.reserved_by.is_some()
            || self.reservations.lost
            || self.reservations.reservation.is_some()
            || self.sanitize != SanitizeState::None
    }

    /// All persistent reservations, kept through power loss or not.
    pub const fn reservations(&self) -> &Reservations {
        &self.reservations
    }

    pub(super) fn check_reservations(
        &self,
        nexus: NexusId,
        entry: &Opcode,
        cdb: &[u8],
    ) -> Result<(), Failure> {
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

    /// While the reservations are lost nothing goes that a reservation might forbid, but what replaces them.
    pub(super) fn check_not_lost(&self, entry: &Opcode, cdb: &[u8]) -> Result<(), Failure> {
        let replaces = entry.handler == Handler::PersistentReserveOut && cdb[1] & 0x1F == REPLACE_LOST;
        let goes_on = match entry.handler {
            Handler::Inquiry
            | Handler::LogSense
            | Handler::ReadBuffer
            | Handler::ReportLuns
            | Handler::ReportTargetPortGroups
            | Handler::RequestSense
            | Handler::WriteBuffer => true,
            Handler::StartStopUnit => cdb[4] & 0xF1 == 0x01,
            _ => replaces,
        };
        if !self.reservations.lost || goes_on {
            return Ok(());
        }
        Err(Sense::new(SenseKey::DataProtect, sense_codes::RESERVATION_INFORMATION_LOST).into())
    }

    pub(super) fn reserve_out(
        &mut self,
        nexus: NexusId,
        cdb: &[u8],
        data_out: &[u8],
        facts: &UnitFacts<'_>,
    ) -> Result<Plan, Failure> {
        let ports = self.state(nexus)?.ports.clone();
        let known: Vec<_> = self
            .nexuses
            .values()
            .map(|state| state.ports.initiator.clone())
            .collect();
        let out = persistent_reserve::parse_out(cdb, data_out, facts.target_ports, &known)?;
        let stored_before = self.reservations.to_store();
        let effects = self.reservations.execute(&ports, out.key, out.command)?;
        let mut plan = Plan::answer(Answer::good()).expecting(persistent_reserve::out_list_length(cdb));
        plan.persist_reservations = self.reservations.to_store() != stored_before;
        plan.abort = self.apply(nexus, &effects);
        Ok(plan)
    }

    /// Tells the others, and names those whose tasks end.
    pub(super) fn apply(&mut self, by: NexusId, effects: &Effects) -> Vec<NexusId> {
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

    pub(super) fn covered_by(&self, registered: &RegisteredNexus, except: NexusId) -> Vec<NexusId> {
        let nexuses = self.nexuses.iter();
        nexuses
            .filter(|(nexus, state)| **nexus != except && registered.covers(&state.ports))
            .map(|(nexus, _)| *nexus)
            .collect()
    }
}
