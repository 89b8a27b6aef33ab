//! What an array takes from the machine it runs on, besides disks and links: the wall clock, chance, and turns for its journal.
//!
//! [`ThisMachine`] is the one there is. A simulation gives its own, so that all that happens follows from its seed; it may also plant
//! a bug ([`Mutation`]).

use std::{fmt, future::Future, pin::Pin, time::SystemTime};

/// Until it is somebody's turn.
pub type Turn = Pin<Box<dyn Future<Output = ()> + Send>>;

/// See the module's page.
pub trait Machine: fmt::Debug + Send + Sync + 'static {
    /// The wall clock, as Unix milliseconds. For records, never for decisions.
    fn unix_ms(&self) -> u64;

    /// A number of which nobody has the same; or why there is none.
    fn unique(&self) -> Result<u128, String>;

    /// `None`: a thread writes the journal, and waits for the disk. Otherwise a task of the array's runtime does, which awaits a turn before
    /// each write.
    fn journal_turn(&self) -> Option<Turn> {
        None
    }

    /// The bug that is planted.
    fn mutation(&self) -> Option<Mutation> {
        None
    }
}

/// The machine that the process runs on.
#[derive(Debug)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn unix_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64)
    }

    fn unique(&self) -> Result<u128, String> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| format!("no random number: {error}"))?;
        Ok(u128::from_be_bytes(bytes))
    }
}

/// A planted bug of remote pairs. The simulator of several systems is trusted when it catches each of them; nothing but a [`Machine`] of its
/// own turns one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutation {
    /// The follower answers a write that it has yet to carry out.
    AnswerBeforeWriting,
    /// In sync mode a host's write is answered without the far system's answer (S60).
    AnswerBeforeFar,
    /// Async writes may be carried out in any order (S61).
    BreakOrder,
    /// The marks that a follower hands over are forgotten (S64).
    ForgetHandedOver,
    /// A takeover does not raise the epoch (S66).
    KeepEpoch,
    /// Who has stopped leading does not keep in mind that the other has yet to begin (S67).
    ForgetHandingOver,
    /// Who has stopped leading does not keep in mind that not all that it has sent has arrived (S67).
    HandOverUndrained,
    /// The volumes of a backup are split one after the other (S58).
    SplitOneByOne,
    /// An async write goes straight to the link although others wait in the queue on disk (S51).
    OvertakeQueue,
}

impl Mutation {
    /// Each of them once.
    pub const ALL: [Self; 9] = [
        Self::AnswerBeforeWriting,
        Self::AnswerBeforeFar,
        Self::BreakOrder,
        Self::ForgetHandedOver,
        Self::KeepEpoch,
        Self::ForgetHandingOver,
        Self::HandOverUndrained,
        Self::SplitOneByOne,
        Self::OvertakeQueue,
    ];
}
