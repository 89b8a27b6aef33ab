//! The persistent reservation machine of one logical unit (SPC-4 5.13): who is registered, who holds what, and
//! whom that keeps out.
//!
//! It knows I_T nexuses by their ports, not by session, because registrations outlive sessions, and with APTPL
//! restarts. Changes come back as [`Effects`]: which other ports must hear of it, and whose tasks must end.

use serde::{Deserialize, Serialize};

use crate::{
    opcode_table::ReservationRule,
    unit::{InitiatorPort, NexusPorts},
    unit_attention::UnitAttention,
};

/// Most registrations of one unit.
pub const MAX_REGISTRATIONS: usize = 1024;

/// TYPE (SPC-4 table 52).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum ReservationType {
    /// 1h.
    WriteExclusive = 1,
    /// 3h.
    ExclusiveAccess = 3,
    /// 5h.
    WriteExclusiveRegistrantsOnly = 5,
    /// 6h.
    ExclusiveAccessRegistrantsOnly = 6,
    /// 7h.
    WriteExclusiveAllRegistrants = 7,
    /// 8h.
    ExclusiveAccessAllRegistrants = 8,
}

impl ReservationType {
    /// All six.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// The type with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }

    /// Every registrant is a holder.
    pub const fn all_registrants(self) -> bool {
        matches!(
            self,
            Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants
        )
    }

    /// Every registrant may do what the holder may.
    const fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Those kept out may read.
    const fn admits_reads(self) -> bool {
        matches!(
            self,
            Self::WriteExclusive | Self::WriteExclusiveRegistrantsOnly | Self::WriteExclusiveAllRegistrants
        )
    }
}

/// An I_T nexus as registrations know it. No target port is ALL_TG_PT: the initiator port through any of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RegisteredNexus {
    /// Initiator port.
    pub initiator: InitiatorPort,
    /// RELATIVE TARGET PORT IDENTIFIER.
    pub target_port: Option<u16>,
}

impl RegisteredNexus {
    /// Does the nexus between these ports fall under it?
    pub fn covers(&self, ports: &NexusPorts) -> bool {
        self.initiator == ports.initiator
            && self
                .target_port
                .is_none_or(|port| port == ports.target.relative_id)
    }
}

/// One registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Whose.
    pub nexus: RegisteredNexus,
    /// RESERVATION KEY, never zero.
    pub key: u64,
}

/// The reservation. For the all-registrants types `holder` is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// TYPE.
    pub kind: ReservationType,
    /// The one holder.
    pub holder: Option<RegisteredNexus>,
}

/// All of it: what APTPL stores.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservations {
    /// PRGENERATION.
    pub generation: u32,
    /// APTPL of the last registration: kept through power loss.
    pub aptpl: bool,
    /// The registrations, oldest first.
    pub registrations: Vec<Registration>,
    /// The reservation.
    pub reservation: Option<Reservation>,
    /// What was stored cannot be read any more: nobody may do anything until somebody replaces it (SPC-4 5.13.5.3.2).
    #[serde(skip)]
    pub lost: bool,
}

/// A PERSISTENT RESERVE OUT, read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReserveOut {
    /// REGISTER, and with `ignore_existing` REGISTER AND IGNORE EXISTING KEY.
    Register {
        /// SERVICE ACTION RESERVATION KEY.
        new_key: u64,
        /// Do not look at the present key.
        ignore_existing: bool,
        /// APTPL.
        aptpl: bool,
        /// ALL_TG_PT.
        all_target_ports: bool,
        /// SPEC_I_PT: these too.
        also: Vec<InitiatorPort>,
    },
    /// RESERVE.
    Reserve(ReservationType),
    /// RELEASE.
    Release(ReservationType),
    /// CLEAR.
    Clear,
    /// PREEMPT, and with `abort` PREEMPT AND ABORT.
    Preempt {
        /// SERVICE ACTION RESERVATION KEY: the victims'.
        victim: u64,
        /// TYPE of the reservation that the preempter gets.
        kind: ReservationType,
        /// End the victims' tasks.
        abort: bool,
    },
    /// REPLACE LOST RESERVATION.
    ReplaceLost {
        /// SERVICE ACTION RESERVATION KEY.
        new_key: u64,
        /// TYPE of the new reservation.
        kind: ReservationType,
        /// APTPL.
        aptpl: bool,
    },
    /// REGISTER AND MOVE.
    Move {
        /// SERVICE ACTION RESERVATION KEY: the new holder's.
        new_key: u64,
        /// The new holder.
        to: RegisteredNexus,
        /// UNREG.
        unregister: bool,
        /// APTPL.
        aptpl: bool,
    },
}

/// Why a PERSISTENT RESERVE OUT failed. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// RESERVATION CONFLICT.
    #[error("reservation conflict")]
    Conflict,
    /// 26h/04h: also of REPLACE LOST RESERVATION where none is lost.
    #[error("the reservation held is of another type")]
    InvalidRelease,
    /// 26h/00h at byte 0: REPLACE LOST RESERVATION with a reservation key.
    #[error("the reservation key is not zero")]
    KeyNotZero,
    /// 26h/00h at byte 8: the service action key.
    #[error("the service action reservation key is not allowed")]
    BadServiceActionKey,
    /// 26h/00h at byte 20: SPEC_I_PT from a nexus that is registered.
    #[error("SPEC_I_PT is not for a registered nexus")]
    SpecifyFromRegistered,
    /// 26h/00h at byte 24: REGISTER AND MOVE to itself.
    #[error("the reservation is there already")]
    MoveToSelf,
    /// 55h/04h.
    #[error("no room for more registrations")]
    NoRoom,
}

/// What others feel of a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// Unit attentions for the nexuses of these registrations (never the one that asked).
    pub attentions: Vec<(RegisteredNexus, UnitAttention)>,
    /// PREEMPT AND ABORT: the tasks of these nexuses end.
    pub abort: Vec<RegisteredNexus>,
}

impl Reservations {
    /// May a command under this rule go ahead? (SPC-4 table 50; a RESERVE(6) is not looked at here.)
    pub fn admits(&self, ports: &NexusPorts, rule: ReservationRule) -> bool {
        let Some(reservation) = &self.reservation else {
            return true;
        };
        match rule {
            ReservationRule::Never | ReservationRule::Reserve | ReservationRule::Own => true,
            ReservationRule::Reads if reservation.kind.admits_reads() => true,
            ReservationRule::Reads | ReservationRule::Writes => {
                reservation
                    .holder
                    .as_ref()
                    .is_some_and(|holder| holder.covers(ports))
                    || (reservation.kind.admits_registrants() && self.key_of(ports).is_some())
            }
        }
    }

    /// The key under which a nexus is registered.
    pub fn key_of(&self, ports: &NexusPorts) -> Option<u64> {
        self.position(ports).map(|index| self.registrations[index].key)
    }

    /// Is this registration a holder of the reservation?
    pub fn holds(&self, nexus: &RegisteredNexus) -> bool {
        self.reservation.as_ref().is_some_and(|reservation| {
            reservation.kind.all_registrants() || reservation.holder.as_ref() == Some(nexus)
        })
    }

    /// Does one command in `key`'s name.
    pub fn execute(
        &mut self,
        ports: &NexusPorts,
        key: u64,
        command: ReserveOut,
    ) -> Result<Effects, ReserveError> {
        if let ReserveOut::Register {
            new_key,
            ignore_existing,
            aptpl,
            all_target_ports,
            also,
        } = command
        {
            let registration = NewRegistration {
                key: new_key,
                aptpl,
                all_target_ports,
                also,
            };
            return self.register(ports, (!ignore_existing).then_some(key), &registration);
        }
        if let ReserveOut::ReplaceLost { new_key, kind, aptpl } = command {
            return self.replace_lost(ports, key, (new_key, kind), aptpl);
        }
        let me = self.position(ports).ok_or(ReserveError::Conflict)?;
        if self.registrations[me].key != key {
            return Err(ReserveError::Conflict);
        }
        let me = self.registrations[me].nexus.clone();
        match command {
            ReserveOut::Reserve(kind) => self.reserve(&me, kind),
            ReserveOut::Release(kind) => self.release(&me, kind),
            ReserveOut::Clear => Ok(self.clear(&me)),
            ReserveOut::Preempt { victim, kind, abort } => self.preempt(&me, victim, kind, abort),
            ReserveOut::Move {
                new_key,
                to,
                unregister,
                aptpl,
            } => self.hand_over(&me, new_key, to, unregister, aptpl),
            ReserveOut::Register { .. } | ReserveOut::ReplaceLost { .. } => Ok(Effects::default()),
        }
    }

    /// SPC-4 5.13.11.3: whoever comes first is the holder; the others register anew.
    fn replace_lost(
        &mut self,
        ports: &NexusPorts,
        key: u64,
        (new_key, kind): (u64, ReservationType),
        aptpl: bool,
    ) -> Result<Effects, ReserveError> {
        if !self.lost {
            return Err(ReserveError::InvalidRelease);
        }
        if key != 0 {
            return Err(ReserveError::KeyNotZero);
        }
        if new_key == 0 {
            return Err(ReserveError::BadServiceActionKey);
        }
        let me = RegisteredNexus {
            initiator: ports.initiator.clone(),
            target_port: Some(ports.target.relative_id),
        };
        let registration = Registration {
            nexus: me.clone(),
            key: new_key,
        };
        *self = Self {
            aptpl,
            registrations: vec![registration],
            ..Self::default()
        };
        self.take_reservation(&me, kind);
        Ok(Effects::default())
    }

    /// What survives a power loss: everything with APTPL, else nothing but the promise of nothing.
    #[must_use]
    pub fn to_store(&self) -> Self {
        if self.aptpl { self.clone() } else { Self::default() }
    }

    fn register(
        &mut self,
        ports: &NexusPorts,
        key: Option<u64>,
        new: &NewRegistration,
    ) -> Result<Effects, ReserveError> {
        let position = self.position(ports);
        let present = position.map_or(0, |index| self.registrations[index].key);
        if key.is_some_and(|key| key != present) {
            return Err(ReserveError::Conflict);
        }
        if position.is_some() && !new.also.is_empty() {
            return Err(ReserveError::SpecifyFromRegistered);
        }
        let effects = match (position, new.key) {
            (None, 0) => return Ok(Effects::default()),
            (Some(index), 0) => {
                let gone = self.registrations.remove(index);
                self.registration_ended(&gone.nexus)
            }
            (Some(index), key) => {
                self.registrations[index].key = key;
                Effects::default()
            }
            (None, _) => {
                self.add_registrations(ports, new)?;
                Effects::default()
            }
        };
        self.aptpl = new.aptpl;
        self.generation = self.generation.wrapping_add(1);
        Ok(effects)
    }

    /// Registers the nexus and those of SPEC_I_PT; if one of them has a registration already, none.
    fn add_registrations(&mut self, ports: &NexusPorts, new: &NewRegistration) -> Result<(), ReserveError> {
        let target_port = (!new.all_target_ports).then_some(ports.target.relative_id);
        let mut added: Vec<RegisteredNexus> = Vec::new();
        for initiator in std::iter::once(&ports.initiator).chain(&new.also) {
            let nexus = RegisteredNexus {
                initiator: initiator.clone(),
                target_port,
            };
            if self
                .registrations
                .iter()
                .any(|present| overlap(&present.nexus, &nexus))
            {
                return Err(ReserveError::Conflict);
            }
            if !added.contains(&nexus) {
                added.push(nexus);
            }
        }
        if self.registrations.len() + added.len() > MAX_REGISTRATIONS {
            return Err(ReserveError::NoRoom);
        }
        self.registrations.extend(
            added
                .into_iter()
                .map(|nexus| Registration { nexus, key: new.key }),
        );
        Ok(())
    }

    /// A holder that unregisters releases (SPC-4 5.13.11.2.3); of all registrants, the last one does.
    fn registration_ended(&mut self, gone: &RegisteredNexus) -> Effects {
        let Some(reservation) = &self.reservation else {
            return Effects::default();
        };
        let released = match &reservation.holder {
            Some(holder) => holder == gone,
            None => self.registrations.is_empty(),
        };
        if !released {
            return Effects::default();
        }
        let told = reservation.kind.admits_registrants();
        self.reservation = None;
        if told {
            self.tell_others(gone, UnitAttention::ReservationsReleased)
        } else {
            Effects::default()
        }
    }

    fn reserve(&mut self, me: &RegisteredNexus, kind: ReservationType) -> Result<Effects, ReserveError> {
        match &self.reservation {
            Some(present) if !self.holds(me) || present.kind != kind => Err(ReserveError::Conflict),
            Some(_) => Ok(Effects::default()),
            None => {
                self.take_reservation(me, kind);
                Ok(Effects::default())
            }
        }
    }

    fn release(&mut self, me: &RegisteredNexus, kind: ReservationType) -> Result<Effects, ReserveError> {
        let Some(present) = self.reservation.as_ref().filter(|_| self.holds(me)) else {
            return Ok(Effects::default());
        };
        if present.kind != kind {
            return Err(ReserveError::InvalidRelease);
        }
        self.reservation = None;
        if kind.admits_registrants() {
            return Ok(self.tell_others(me, UnitAttention::ReservationsReleased));
        }
        Ok(Effects::default())
    }

    fn clear(&mut self, me: &RegisteredNexus) -> Effects {
        let effects = self.tell_others(me, UnitAttention::ReservationsPreempted);
        self.registrations.clear();
        self.reservation = None;
        self.generation = self.generation.wrapping_add(1);
        effects
    }

    /// SPC-4 5.13.11.2.6: a key of the holder (or zero against all registrants) preempts the reservation, any other
    /// only the registrations.
    fn preempt(
        &mut self,
        me: &RegisteredNexus,
        victim: u64,
        kind: ReservationType,
        abort: bool,
    ) -> Result<Effects, ReserveError> {
        let against_all = victim == 0
            && self
                .reservation
                .as_ref()
                .is_some_and(|present| present.kind.all_registrants());
        if victim == 0 && !against_all {
            return Err(ReserveError::BadServiceActionKey);
        }
        let matches = |registration: &Registration| against_all || registration.key == victim;
        if !self.registrations.iter().any(matches) {
            return Err(ReserveError::Conflict);
        }
        let holder_key = self.reservation.as_ref().and_then(|present| {
            let holder = present.holder.as_ref()?;
            self.registrations
                .iter()
                .find(|r| r.nexus == *holder)
                .map(|r| r.key)
        });
        let takes_reservation = against_all || holder_key == Some(victim);
        let mut effects = Effects::default();
        let mut left = Vec::new();
        for registration in std::mem::take(&mut self.registrations) {
            if registration.nexus == *me || !matches(&registration) {
                left.push(registration);
            } else {
                effects
                    .attentions
                    .push((registration.nexus.clone(), UnitAttention::RegistrationsPreempted));
                effects.abort.push(registration.nexus);
            }
        }
        self.registrations = left;
        if takes_reservation {
            let before = self.reservation.as_ref().map(|present| present.kind);
            if before.is_some_and(|before| before != kind) {
                let told = self.tell_others(me, UnitAttention::ReservationsReleased);
                effects.attentions.extend(told.attentions);
            }
            self.take_reservation(me, kind);
        }
        if !abort {
            effects.abort.clear();
        }
        self.generation = self.generation.wrapping_add(1);
        Ok(effects)
    }

    fn hand_over(
        &mut self,
        me: &RegisteredNexus,
        new_key: u64,
        to: RegisteredNexus,
        unregister: bool,
        aptpl: bool,
    ) -> Result<Effects, ReserveError> {
        let held = self
            .reservation
            .as_ref()
            .filter(|present| present.holder.as_ref() == Some(me));
        let kind = held.ok_or(ReserveError::Conflict)?.kind;
        if new_key == 0 {
            return Err(ReserveError::BadServiceActionKey);
        }
        if overlap(me, &to) {
            return Err(ReserveError::MoveToSelf);
        }
        match self
            .registrations
            .iter()
            .position(|present| overlap(&present.nexus, &to))
        {
            Some(index) => {
                self.registrations[index].key = new_key;
                let holder = self.registrations[index].nexus.clone();
                self.take_reservation(&holder, kind);
            }
            None if self.registrations.len() < MAX_REGISTRATIONS => {
                self.take_reservation(&to, kind);
                self.registrations.push(Registration {
                    nexus: to,
                    key: new_key,
                });
            }
            None => return Err(ReserveError::NoRoom),
        }
        if unregister {
            self.registrations
                .retain(|registration| registration.nexus != *me);
        }
        self.aptpl = aptpl;
        self.generation = self.generation.wrapping_add(1);
        Ok(Effects::default())
    }

    fn take_reservation(&mut self, holder: &RegisteredNexus, kind: ReservationType) {
        let holder = (!kind.all_registrants()).then(|| holder.clone());
        self.reservation = Some(Reservation { kind, holder });
    }

    fn tell_others(&self, me: &RegisteredNexus, attention: UnitAttention) -> Effects {
        let others = self
            .registrations
            .iter()
            .filter(|registration| registration.nexus != *me);
        Effects {
            attentions: others
                .map(|registration| (registration.nexus.clone(), attention))
                .collect(),
            abort: Vec::new(),
        }
    }

    fn position(&self, ports: &NexusPorts) -> Option<usize> {
        self.registrations
            .iter()
            .position(|registration| registration.nexus.covers(ports))
    }
}

struct NewRegistration {
    key: u64,
    aptpl: bool,
    all_target_ports: bool,
    also: Vec<InitiatorPort>,
}

/// Is there a nexus that falls under both?
fn overlap(a: &RegisteredNexus, b: &RegisteredNexus) -> bool {
    a.initiator == b.initiator
        && (a.target_port.is_none() || b.target_port.is_none() || a.target_port == b.target_port)
}

#[cfg(test)]
mod tests;
