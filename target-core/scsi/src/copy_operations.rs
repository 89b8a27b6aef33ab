//! What is held of third-party copies with four-byte list identifiers, and what RECEIVE COPY STATUS(LID4), RECEIVE ROD
//! TOKEN INFORMATION and COPY OPERATION ABORT have to do with it (SPC-4 6.5, 6.24, 6.26).
//!
//! Each belongs to the nexus that began it. One that runs can be asked about, and aborted, by other commands of that
//! nexus; what has ended is held until its list identifier is used again, or newer ones push it out.

use crate::{
    big_endian::field,
    failure::Failure,
    rod_tokens::TOKEN_BYTES,
    sense::{Sense, SenseFormat},
    sense_codes,
};

/// Held for each nexus.
pub(crate) const MAX_OPERATIONS: usize = 32;

/// SERVICE ACTION of EXTENDED COPY(LID4).
pub const EXTENDED_COPY_LID4: u8 = 0x01;

/// TRANSFER COUNT UNITS: bytes, logical blocks.
const BYTES: u8 = 0x00;
const BLOCKS: u8 = 0xF1;

/// COPY OPERATION STATUS: without errors, with errors, in progress in the foreground, ended by COPY OPERATION ABORT.
const DONE: u8 = 0x01;
const FAILED: u8 = 0x02;
const RUNNING: u8 = 0x12;
const ABORTED: u8 = 0x60;

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Blocks (of a token) or bytes (of an EXTENDED COPY) transferred or represented.
    pub count: u64,
    /// Segments that were wholly done.
    pub segments: u16,
    /// Why it did not do all.
    pub failure: Option<Sense>,
    /// The token that was made.
    pub token: Option<Box<[u8; TOKEN_BYTES]>>,
}

/// The operations of a nexus, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Operations(Vec<Operation>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Operation {
    list_id: u32,
    action: u8,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Running { aborted: bool },
    Ended { aborted: bool, end: Ended },
}

impl Operations {
    /// An operation begins. Its list identifier must not be that of one that runs, and not too many may run.
    pub(crate) fn begin(&mut self, list_id: u32, action: u8) -> Result<(), Failure> {
        if self.running(list_id).is_some() {
            return Err(Sense::illegal(sense_codes::OPERATION_IN_PROGRESS).into());
        }
        self.0.retain(|held| held.list_id != list_id);
        if self.0.len() == MAX_OPERATIONS {
            let ended = self
                .0
                .iter()
                .position(|held| matches!(held.state, State::Ended { .. }));
            let oldest = ended.ok_or(Sense::illegal(sense_codes::INSUFFICIENT_RESOURCES))?;
            self.0.remove(oldest);
        }
        self.0.push(Operation {
            list_id,
            action,
            state: State::Running { aborted: false },
        });
        Ok(())
    }

    /// May it go on? Not after an abort, nor when a reset has forgotten it.
    pub(crate) fn goes_on(&self, list_id: u32) -> bool {
        self.0
            .iter()
            .any(|held| held.list_id == list_id && held.state == State::Running { aborted: false })
    }

    /// It has ended. Forgotten by a reset, it stays so.
    pub(crate) fn end(&mut self, list_id: u32, end: Ended) {
        if let Some(state) = self.running(list_id) {
            let aborted = *state == State::Running { aborted: true };
            *state = State::Ended { aborted, end };
        }
    }

    /// COPY OPERATION ABORT: only of one that runs.
    pub(crate) fn abort(&mut self, cdb: &[u8]) -> Result<(), Failure> {
        let list_id = field(cdb, 2..6) as u32;
        let state = self.running(list_id);
        *state.ok_or(Sense::invalid_cdb_field(2, Some(7)))? = State::Running { aborted: true };
        Ok(())
    }

    /// RECEIVE COPY STATUS(LID4), and with `tokens` RECEIVE ROD TOKEN INFORMATION, which is for operations with tokens only.
    pub(crate) fn report(&self, cdb: &[u8], tokens: bool, format: SenseFormat) -> Result<Vec<u8>, Failure> {
        let list_id = field(cdb, 2..6) as u32;
        let held = self.0.iter().find(|held| held.list_id == list_id);
        let held = held
            .filter(|held| !tokens || held.action != EXTENDED_COPY_LID4)
            .ok_or(Sense::invalid_cdb_field(2, Some(7)))?;
        let nothing_yet = Ended {
            count: 0,
            segments: 0,
            failure: None,
            token: None,
        };
        let (status, end) = match &held.state {
            State::Running { .. } => (RUNNING, &nothing_yet),
            State::Ended { aborted: true, end } if end.failure.is_some() => (ABORTED, end),
            State::Ended { end, .. } if end.failure.is_some() => (FAILED, end),
            State::Ended { end, .. } => (DONE, end),
        };
        let sense = end.failure.map(|sense| sense.encode(format)).unwrap_or_default();
        let completion = if sense.is_empty() { 0x00 } else { 0x02 };
        let units = if held.action == EXTENDED_COPY_LID4 {
            BYTES
        } else {
            BLOCKS
        };

        let mut data = vec![0, 0, 0, 0, held.action, status, 0, 1];
        // ESTIMATED STATUS UPDATE DELAY: a second while it runs, else there will be none.
        let delay: u32 = if status == RUNNING { 1000 } else { 0xFFFF_FFFF };
        data.extend(delay.to_be_bytes());
        data.extend([completion, sense.len() as u8, sense.len() as u8, units]);
        data.extend(end.count.to_be_bytes());
        data.extend(end.segments.to_be_bytes());
        data.extend([0; 6]);
        data.extend(sense);
        if tokens {
            match &end.token {
                Some(token) => {
                    data.extend((2 + TOKEN_BYTES as u32).to_be_bytes());
                    data.extend([0, 0]);
                    data.extend(&token[..]);
                }
                None => data.extend([0; 4]),
            }
        }
        let length = (data.len() - 4) as u32;
        data[..4].copy_from_slice(&length.to_be_bytes());
        Ok(data)
    }

    fn running(&mut self, list_id: u32) -> Option<&mut State> {
        let mut held = self.0.iter_mut();
        let found =
            held.find(|held| held.list_id == list_id && matches!(held.state, State::Running { .. }))?;
        Some(&mut found.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POPULATE: u8 = 0x10;

    fn cdb(list_id: u8) -> [u8; 16] {
        [0x84, 0x05, 0, 0, 0, list_id, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]
    }

    fn done(count: u64) -> Ended {
        Ended {
            count,
            segments: 1,
            failure: None,
            token: Some(Box::new([7; TOKEN_BYTES])),
        }
    }

    #[test]
    fn what_runs_is_told_aborted_and_held() {
        let mut held = Operations::default();
        let unknown = Err(Sense::invalid_cdb_field(2, Some(7)).into());
        assert_eq!(held.report(&cdb(5), false, SenseFormat::Fixed), unknown);
        held.begin(5, EXTENDED_COPY_LID4).unwrap();
        assert_eq!(
            held.begin(5, POPULATE),
            Err(Sense::illegal(sense_codes::OPERATION_IN_PROGRESS).into())
        );
        let status = held.report(&cdb(5), false, SenseFormat::Fixed).unwrap();
        assert_eq!(status[..6], [0, 0, 0, 28, 1, RUNNING]);
        assert!(held.goes_on(5));
        held.abort(&cdb(5)).unwrap();
        assert!(!held.goes_on(5));
        let failure = Some(Sense::illegal(sense_codes::NO_ADDITIONAL_SENSE));
        held.end(5, Ended { failure, ..done(3) });
        let status = held.report(&cdb(5), false, SenseFormat::Fixed).unwrap();
        assert_eq!(status[..6], [0, 0, 0, 46, 1, ABORTED]);
        assert_eq!(status[12..24], [2, 18, 18, BYTES, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert!(held.abort(&cdb(5)).is_err(), "it has ended");
    }

    #[test]
    fn a_token_is_received_after_the_sense_data() {
        let mut held = Operations::default();
        held.begin(6, POPULATE).unwrap();
        held.end(6, done(16));
        let data = held.report(&cdb(6), true, SenseFormat::Fixed).unwrap();
        assert_eq!(data.len(), 32 + 4 + 2 + TOKEN_BYTES);
        assert_eq!(data[4..6], [POPULATE, DONE]);
        assert_eq!(data[12..24], [0, 0, 0, BLOCKS, 0, 0, 0, 0, 0, 0, 0, 16]);
        assert_eq!(data[32..39], [0, 0, 2, 2, 0, 0, 7]);
        held.begin(7, EXTENDED_COPY_LID4).unwrap();
        assert!(held.report(&cdb(7), true, SenseFormat::Fixed).is_err());
    }

    #[test]
    fn only_what_has_ended_makes_room() {
        let mut held = Operations::default();
        held.begin(0, POPULATE).unwrap();
        for list_id in 1..MAX_OPERATIONS as u32 {
            held.begin(list_id, POPULATE).unwrap();
            held.end(list_id, done(1));
        }
        held.begin(100, POPULATE).unwrap();
        assert!(held.goes_on(0) && held.report(&cdb(1), true, SenseFormat::Fixed).is_err());
        held.end(5, done(1));
        for list_id in 200..230 {
            held.begin(list_id, POPULATE).unwrap();
        }
        assert!(held.begin(300, POPULATE).is_err());
    }
}
