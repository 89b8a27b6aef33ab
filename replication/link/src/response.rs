//! What answers a request.

use crate::{
    frame::FrameError,
    header::{DIGEST_BYTES, Kind},
};
use bytes::Bytes;

/// The most bytes of a failure's message.
pub const MESSAGE_BYTES: usize = 512;
/// The most runs in one [`PairReport`].
pub const MAX_RUNS: usize = 4096;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// It was done.
    Done,
    /// It was not done.
    Failed {
        /// Why, for programs.
        code: FailureCode,
        /// Why, for people: at most [`MESSAGE_BYTES`].
        message: String,
    },
    /// What the volume is.
    Described(Description),
    /// The bytes asked for.
    Data(Bytes),
    /// All that was asked for was never written: zeros.
    Hole,
    /// What begins at the byte asked for.
    Extent {
        /// Data; else a hole.
        mapped: bool,
        /// Bytes of it, above 0 unless the volume ends there.
        length: u64,
    },
    /// How a pair is.
    PairState(PairReport),
    /// What the executor answered to a forwarded command.
    Forwarded(Bytes),
    /// The digest of each piece asked for, [`DIGEST_BYTES`] each, one behind the other.
    Digests(Bytes),
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its number.
    pub number: u32,
    /// Its name: 1 to 64 bytes.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes a block.
    pub block_size: u32,
    /// Bytes a track.
    pub track_size: u32,
    /// It is meant as a mirror.
    pub mirror_class: bool,
    /// The boot id of the system that says so.
    pub boot: u128,
}

/// How one side sees a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairReport {
    /// The pair.
    pub pair: u128,
    /// Its epoch.
    pub epoch: u64,
    /// Its state (codes of docs/control-cdb.md).
    pub state: u8,
    /// [`PairReport::TAKEN_OVER`] and so on.
    pub flags: u16,
    /// Tracks with a mark, from the one asked for, ascending: at most [`MAX_RUNS`].
    pub runs: Vec<Run>,
    /// The first track that is not told of, when there were more runs.
    pub next: Option<u64>,
}

impl PairReport {
    /// This side has taken the primary's role without the other.
    pub const TAKEN_OVER: u16 = 1;
    /// The volume is ready for hosts.
    pub const READY: u16 = 2;
    /// The volume holds no moment's image until a copy ends.
    pub const INCONSISTENT: u16 = 4;
}

/// Neighbouring tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub first: u64,
    /// How many, above 0.
    pub tracks: u64,
}

/// Why a request was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u16)]
pub enum FailureCode {
    /// The volume or the pair is not ready.
    #[error("not ready")]
    NotReady = 1,
    /// The pair has another epoch here.
    #[error("wrong epoch")]
    WrongEpoch = 2,
    /// There is no such pair.
    #[error("no such pair")]
    NoSuchPair = 3,
    /// There is no such volume.
    #[error("no such volume")]
    NoSuchVolume = 4,
    /// Size, block size or track size do not fit.
    #[error("geometry does not fit")]
    Geometry = 5,
    /// The volume is held.
    #[error("held")]
    Held = 6,
    /// The pair's state does not allow it.
    #[error("not in this state")]
    State = 7,
    /// Reading failed.
    #[error("read error")]
    Read = 8,
    /// Writing failed.
    #[error("write error")]
    Write = 9,
    /// No space is left.
    #[error("no space")]
    NoSpace = 10,
    /// Something else is under way.
    #[error("busy")]
    Busy = 11,
    /// The command was refused.
    #[error("refused")]
    Refused = 12,
    /// A fault of the program.
    #[error("internal error")]
    Internal = 13,
}

impl FailureCode {
    pub(crate) const ALL: [Self; 13] = [
        Self::NotReady,
        Self::WrongEpoch,
        Self::NoSuchPair,
        Self::NoSuchVolume,
        Self::Geometry,
        Self::Held,
        Self::State,
        Self::Read,
        Self::Write,
        Self::NoSpace,
        Self::Busy,
        Self::Refused,
        Self::Internal,
    ];
}

impl Response {
    /// A failure; a message that is too long is cut at a character.
    pub fn failed(code: FailureCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        while message.len() > MESSAGE_BYTES {
            message.pop();
        }
        Self::Failed { code, message }
    }

    /// Its kind on the wire.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Done => Kind::Done,
            Self::Failed { .. } => Kind::Failed,
            Self::Described(_) => Kind::Described,
            Self::Data(_) => Kind::Data,
            Self::Hole => Kind::Hole,
            Self::Extent { .. } => Kind::Extent,
            Self::PairState(_) => Kind::PairState,
            Self::Forwarded(_) => Kind::Forwarded,
            Self::Digests(_) => Kind::Digests,
        }
    }

    /// Fields that lengths alone do not check.
    pub(crate) fn check(&self) -> Result<(), FrameError> {
        let kind = self.kind();
        if let Self::Digests(digests) = self
            && !digests.len().is_multiple_of(DIGEST_BYTES)
        {
            return Err(FrameError::Field {
                kind,
                field: "digests",
            });
        }
        let Self::PairState(report) = self else {
            return Ok(());
        };
        let mut free = 0;
        for run in &report.runs {
            let end = run.first.checked_add(run.tracks);
            let (true, true, Some(end)) = (run.tracks > 0, run.first >= free, end) else {
                return Err(FrameError::Field { kind, field: "runs" });
            };
            free = end;
        }
        if report.next.is_some_and(|next| next < free || next == u64::MAX) {
            return Err(FrameError::Field { kind, field: "next" });
        }
        Ok(())
    }
}
