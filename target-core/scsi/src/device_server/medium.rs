//! The medium: whether it is there, in, writable, started, or being wiped.

use super::DeviceServer;
use crate::{
    failure::Failure,
    opcode_table::{Needs, Opcode},
    plan::{Action, Answer, Plan, Sanitize},
    sanitize::{SanitizeState, Unfinished},
    sense::{Sense, SenseKey},
    sense_codes,
    unit::{NexusId, UnitFacts},
    unit_attention::UnitAttention,
};

impl DeviceServer {
    pub(super) fn check_medium(&self, entry: &Opcode, facts: &UnitFacts<'_>) -> Result<(), Failure> {
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

    pub(super) fn no_medium(&self, facts: &UnitFacts<'_>) -> Option<Sense> {
        if self.ejected {
            return Some(Sense::new(SenseKey::NotReady, sense_codes::MEDIUM_NOT_PRESENT));
        }
        // What goes in standby does not need the volume: hosts learn the capacity there too.
        let in_standby = facts.shared.is_some_and(|shared| !shared.active);
        (!facts.ready && !in_standby)
            .then(|| Sense::new(SenseKey::NotReady, sense_codes::MANUAL_INTERVENTION_REQUIRED))
    }

    /// START STOP UNIT (SBC-3 5.25). Nothing spins here: a stop is a flush, and only LOEJ changes the unit.
    pub(super) fn start_stop(
        &mut self,
        nexus: NexusId,
        cdb: &[u8],
        facts: &UnitFacts<'_>,
    ) -> Result<Plan, Failure> {
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
    pub(super) fn begin_wiping(&mut self, sanitize: Sanitize, end: Unfinished, list_length: usize) -> Plan {
        self.sanitize = SanitizeState::Running { progress: 0, end };
        let mut plan = Plan::of(Action::Sanitize(sanitize)).expecting(list_length as u64);
        plan.abort = self.nexuses.keys().copied().collect();
        plan
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
}
