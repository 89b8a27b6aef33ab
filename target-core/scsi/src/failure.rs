//! Why a command does not do what it asks.

use crate::{reservations::ReserveError, sense::Sense, sense_codes};

/// The ways to refuse a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// CHECK CONDITION with this sense data.
    Check(Sense),
    /// RESERVATION CONFLICT.
    Conflict,
    /// BUSY.
    Busy,
}

impl From<Sense> for Failure {
    fn from(sense: Sense) -> Self {
        Self::Check(sense)
    }
}

impl From<ReserveError> for Failure {
    fn from(error: ReserveError) -> Self {
        Self::Check(match error {
            ReserveError::Conflict => return Self::Conflict,
            ReserveError::InvalidRelease => Sense::illegal(sense_codes::INVALID_RELEASE_OF_RESERVATION),
            ReserveError::KeyNotZero => Sense::invalid_parameter(0, None),
            ReserveError::BadServiceActionKey => Sense::invalid_parameter(8, None),
            ReserveError::SpecifyFromRegistered => Sense::invalid_parameter(20, Some(3)),
            ReserveError::MoveToSelf => Sense::invalid_parameter(24, None),
            ReserveError::NoRoom => Sense::illegal(sense_codes::INSUFFICIENT_REGISTRATION_RESOURCES),
        })
    }
}
