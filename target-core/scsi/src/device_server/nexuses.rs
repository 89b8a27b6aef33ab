//! I_T nexuses: how they come, go and are reset, and the unit attentions they have not heard yet.

use super::{DeviceServer, NexusState};
use crate::{
    failure::Failure,
    opcode_table::ReservationRule,
    orwrite::Generations,
    sanitize::SanitizeState,
    sense::{Sense, SenseKey},
    sense_codes,
    unit::{NexusId, NexusPorts},
    unit_attention::{Attentions, UnitAttention},
};

impl DeviceServer {
    /// An I_T nexus comes to be; its first command hears 29h/00h.
    pub fn attach(&mut self, nexus: NexusId, ports: NexusPorts) {
        let mut state = NexusState::new(ports);
        state.attentions.raise(UnitAttention::PowerOn);
        self.nexuses.insert(nexus, state);
    }

    /// Both ends of a nexus that is attached.
    pub fn ports(&self, nexus: NexusId) -> Option<&NexusPorts> {
        self.nexuses.get(&nexus).map(|state| &state.ports)
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

    /// Hard reset (SAM-5 6.3.2): as a logical unit reset, and the generations of bitmaps are forgotten too (SBC-4 4.27.3).
    pub fn hard_reset(&mut self) {
        self.generations = Generations::default();
        self.logical_unit_reset();
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
            || self.reservations.lost
            || self.reserved_by.is_some_and(|holder| holder != nexus)
            || !self.reservations.admits(&state.ports, ReservationRule::Writes)
            || self.ejected
            || self.sanitize != SanitizeState::None
            || self.port_group.is_closed_by_command()
            || self.refuses_writes
            || self.modes.current.write_protect
            || !self.modes.current.write_cache
    }

    pub(super) fn report_attention(&mut self, nexus: NexusId) -> Result<(), Failure> {
        match self
            .nexuses
            .get_mut(&nexus)
            .and_then(|state| state.attentions.take())
        {
            Some(attention) => Err(attention.sense().into()),
            None => Ok(()),
        }
    }

    pub(super) fn state(&self, nexus: NexusId) -> Result<&NexusState, Failure> {
        self.nexuses.get(&nexus).ok_or_else(nobody)
    }

    pub(super) fn state_mut(&mut self, nexus: NexusId) -> Result<&mut NexusState, Failure> {
        self.nexuses.get_mut(&nexus).ok_or_else(nobody)
    }
}

/// A command of a nexus that was never attached.
fn nobody() -> Failure {
    Sense::new(SenseKey::HardwareError, sense_codes::INTERNAL_TARGET_FAILURE).into()
}
