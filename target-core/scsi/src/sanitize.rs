//! SANITIZE (SBC-3 4.11, 5.30): its parameter list, and the state of a unit that is being sanitized.
//!
//! A sanitize operation cannot be stopped: it goes on over resets and the end of its session. While it runs, and
//! after it has failed, the unit serves only what does not touch the medium. There is no cryptographic erase, for
//! nothing is encrypted here.

use serde::{Deserialize, Serialize};

use crate::{
    big_endian::field,
    failure::Failure,
    opcode_table::Handler,
    plan::{Sanitize, SanitizeMethod},
    sense::{Sense, SenseKey},
    sense_codes,
    unit::UnitFacts,
};

const OVERWRITE: u8 = 0x01;
const BLOCK_ERASE: u8 = 0x02;
const IMMED: u8 = 0x80;
const AUSE: u8 = 0x20;
const INVERT: u8 = 0x80;
const TEST: u8 = 0x60;
const OVERWRITE_COUNT: u8 = 0x1F;

/// What SANITIZE has made of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum SanitizeState {
    /// Nothing.
    #[default]
    None,
    /// It runs. Progress is in 1/65536.
    Running { progress: u16, end: Unfinished },
    /// It ended before everything was overwritten.
    Failed(Unfinished),
}

/// What runs, or was cut short: decides what the unit says, and how its failure can be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unfinished {
    /// FORMAT UNIT: another one, or a SANITIZE, ends the failure.
    Format,
    /// SANITIZE: another one ends it.
    Sanitize,
    /// SANITIZE with AUSE: EXIT FAILURE MODE does too.
    UnrestrictedSanitize,
}

impl SanitizeState {
    /// Why a command that is not in the list of SBC-3 table 39 is not carried out.
    pub(crate) fn sense(self) -> Option<Sense> {
        match self {
            Self::None => None,
            Self::Running { progress, end } => {
                let code = match end {
                    Unfinished::Format => sense_codes::FORMAT_IN_PROGRESS,
                    _ => sense_codes::SANITIZE_IN_PROGRESS,
                };
                let mut sense = Sense::new(SenseKey::NotReady, code);
                sense.progress = Some(progress);
                Some(sense)
            }
            Self::Failed(Unfinished::Format) => Some(Sense::new(
                SenseKey::MediumError,
                sense_codes::MEDIUM_FORMAT_CORRUPTED,
            )),
            Self::Failed(_) => Some(Sense::new(
                SenseKey::MediumError,
                sense_codes::SANITIZE_COMMAND_FAILED,
            )),
        }
    }

    /// Checks a command against the state. A failed unit takes another SANITIZE, in unrestricted completion
    /// mode EXIT FAILURE MODE, and where a format failed another FORMAT UNIT.
    pub(crate) fn check(self, handler: Handler) -> Result<(), Failure> {
        let ends_failure = match self {
            Self::Failed(Unfinished::Format) => matches!(handler, Handler::Sanitize | Handler::FormatUnit),
            Self::Failed(_) => matches!(handler, Handler::Sanitize | Handler::SanitizeExit),
            _ => false,
        };
        match self.sense() {
            Some(sense) if !ends_failure && !leaves_medium_alone(handler) => Err(sense.into()),
            _ => Ok(()),
        }
    }

    /// EXIT FAILURE MODE: only out of a failure in unrestricted completion mode.
    pub(crate) fn exit_failure(&mut self) -> Result<(), Failure> {
        match self {
            Self::Failed(Unfinished::UnrestrictedSanitize) => {
                *self = Self::None;
                Ok(())
            }
            _ => Err(Sense::invalid_cdb_field(1, Some(4)).into()),
        }
    }
}

/// These are carried out on a unit that is being sanitized.
const fn leaves_medium_alone(handler: Handler) -> bool {
    matches!(
        handler,
        Handler::Inquiry
            | Handler::ReportLuns
            | Handler::RequestSense
            | Handler::LogSense
            | Handler::ModeSense
            | Handler::PersistentReserveIn
            | Handler::ReportTargetPortGroups
            | Handler::ReportOpcodes
            | Handler::ReportTaskManagement
            | Handler::ReportTimestamp
            | Handler::ReplicationIn
    )
}

/// Reads an OVERWRITE or BLOCK ERASE. What is wrong with the parameter list is 24h/00h, as initiators expect.
pub(crate) fn parse(cdb: &[u8], data_out: &[u8], facts: &UnitFacts<'_>) -> Result<Sanitize, Failure> {
    let method = match cdb[1] & 0x1F {
        OVERWRITE => parse_overwrite(cdb, data_out, facts.identity.block_size as usize)?,
        BLOCK_ERASE => SanitizeMethod::Erase,
        _ => return Err(Sense::invalid_cdb_field(1, Some(4)).into()),
    };
    Ok(Sanitize {
        method,
        immediate: cdb[1] & IMMED != 0,
        unrestricted: cdb[1] & AUSE != 0,
    })
}

/// PARAMETER LIST LENGTH of the CDB.
pub(crate) fn list_length(cdb: &[u8]) -> usize {
    field(cdb, 7..9) as usize
}

fn parse_overwrite(cdb: &[u8], data_out: &[u8], block: usize) -> Result<SanitizeMethod, Failure> {
    let length = list_length(cdb);
    if !(5..=block + 4).contains(&length) {
        return Err(Sense::invalid_cdb_field(7, Some(7)).into());
    }
    let too_short = Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR);
    let list = data_out.get(..length).ok_or(too_short)?;
    let (passes, pattern_length) = (list[0] & OVERWRITE_COUNT, field(list, 2..4) as usize);
    if passes == 0 || list[0] & TEST != 0 || pattern_length == 0 || pattern_length > length - 4 {
        return Err(Sense::invalid_cdb_field(7, Some(7)).into());
    }
    let pattern = list[4..4 + pattern_length].iter().copied();
    Ok(SanitizeMethod::Overwrite {
        pattern: pattern.cycle().take(block).collect(),
        passes,
        invert: list[0] & INVERT != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_commands::tests::{facts, identity};

    fn overwrite(list: &[u8]) -> Result<SanitizeMethod, Failure> {
        let identity = identity();
        let [high, low] = (list.len() as u16).to_be_bytes();
        let cdb = [0x48, 0x81, 0, 0, 0, 0, 0, high, low, 0];
        parse(&cdb, list, &facts(&identity)).map(|sanitize| sanitize.method)
    }

    #[test]
    fn a_short_pattern_is_repeated_over_the_block() {
        let Ok(SanitizeMethod::Overwrite {
            pattern,
            passes,
            invert,
        }) = overwrite(&[0x83, 0, 0, 3, 1, 2, 3])
        else {
            panic!("an overwrite")
        };
        assert_eq!((pattern.len(), passes, invert), (512, 3, true));
        assert_eq!(pattern[..4], [1, 2, 3, 1]);
    }

    #[test]
    fn lists_that_say_nothing_sensible_are_refused() {
        let refused = Err(Sense::invalid_cdb_field(7, Some(7)).into());
        assert_eq!(overwrite(&[1, 0, 0, 1]), refused, "no pattern");
        assert_eq!(overwrite(&[0, 0, 0, 1, 9]), refused, "no pass");
        assert_eq!(overwrite(&[1, 0, 0, 0, 9]), refused, "an empty pattern");
        assert_eq!(overwrite(&[1, 0, 0, 2, 9]), refused, "a longer pattern");
        assert_eq!(overwrite(&[0; 517]), refused, "longer than a block");
    }

    #[test]
    fn failure_is_left_only_where_it_was_allowed() {
        let mut state = SanitizeState::Failed(Unfinished::Sanitize);
        assert!(state.exit_failure().is_err() && state.check(Handler::Read).is_err());
        assert!(state.check(Handler::Sanitize).is_ok() && state.check(Handler::Inquiry).is_ok());
        assert!(state.check(Handler::FormatUnit).is_err());
        state = SanitizeState::Failed(Unfinished::Format);
        assert!(state.exit_failure().is_err() && state.check(Handler::Read).is_err());
        assert!(state.check(Handler::Sanitize).is_ok() && state.check(Handler::FormatUnit).is_ok());
        state = SanitizeState::Failed(Unfinished::UnrestrictedSanitize);
        assert!(state.exit_failure().is_ok());
        assert_eq!(state, SanitizeState::None);
        state = SanitizeState::Running {
            progress: 0,
            end: Unfinished::UnrestrictedSanitize,
        };
        assert!(state.check(Handler::Sanitize).is_err() && state.check(Handler::StartStopUnit).is_err());
    }
}
