//! What of the unit's state outlives the daemon.

use super::DeviceServer;
use crate::{
    mode_pages::{ModePages, ModeParameters},
    reservations::Reservations,
    sanitize::{SanitizeState, Unfinished},
};

/// What commands change that must be stored before they are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    reservations: Reservations,
    modes: ModePages,
}

impl DeviceServer {
    /// The unit was being sanitized or formatted when it stopped: it starts as one where that has failed, with what
    /// [`Self::sanitize_to_store`] said.
    #[must_use]
    pub fn with_sanitize_cut_short(mut self, unfinished: Option<Unfinished>) -> Self {
        if let Some(unfinished) = unfinished {
            self.sanitize = SanitizeState::Failed(unfinished);
        }
        self
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

    /// What to store when a plan says `persist_modes`.
    pub fn modes_to_store(&self) -> ModeParameters {
        self.modes.saved
    }

    /// A SANITIZE or FORMAT UNIT that has not succeeded, to be stored before it begins and when it has ended.
    pub const fn sanitize_to_store(&self) -> Option<Unfinished> {
        match self.sanitize {
            SanitizeState::None => None,
            SanitizeState::Running { end, .. } | SanitizeState::Failed(end) => Some(end),
        }
    }
}
