//! The engine's whole interface with the world: [`Input`] goes in, [`Effect`]s come out.
//!
//! Payload never enters: a host's data stays in the shell under its [`OpId`], a copy's data lives inside the one
//! [`Effect::Copy`] that moves it.

use crate::{
    command::{Command, Refused, Summary},
    ids::{ByteRange, CheckId, CommandId, OpId, PairId, Tick, Token, VolumeId},
    journal::Record,
    track::TrackRange,
};

/// What a host asks of a volume that is in a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostIo {
    /// Read the range.
    Read,
    /// Replace the range (WRITE, WRITE SAME, UNMAP: the engine does not care what by).
    Write,
    /// Read the range, let the shell decide, then replace it (COMPARE AND WRITE, ORWRITE).
    Update,
    /// Make everything acknowledged stable; the range is ignored.
    Flush,
}

/// How an effect ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Ok,
    /// A copy is done, and some of it was holes, which cost nothing.
    Sparse {
        /// Bytes of holes.
        holes: u64,
        /// Bytes behind the range that were a hole at the source as well: a hint, out of date as soon as a host writes.
        ahead: u64,
    },
    /// Reading failed.
    ReadFailed,
    /// Writing (or flushing) this volume failed.
    WriteFailed(VolumeId),
    /// [`Effect::Compare`] found that the two are not the same.
    Differs,
    /// [`Effect::Prepare`] ended with the shell's refusal (a miscompare): nothing may be written.
    Declined,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// A host I/O begins.
    Host {
        /// Its name until [`Effect::Reply`].
        op: OpId,
        /// The volume addressed.
        volume: VolumeId,
        /// What is wanted.
        io: HostIo,
        /// Where.
        range: ByteRange,
        /// The data must be stable before the answer.
        fua: bool,
        /// It is not a host's: the system that this volume follows writes to it (see [`crate::remote`]).
        by_link: bool,
    },
    /// A link to another system is there, or is lost: effects on this foreign volume can (or cannot) be performed.
    Link {
        /// The foreign volume.
        volume: VolumeId,
        /// Is the link there?
        up: bool,
    },
    /// A command arrives. Answered by [`Effect::Answer`], once the change is durable.
    Command {
        /// Its name until the answer.
        id: CommandId,
        /// What is wanted.
        command: Command,
        /// Wall clock, Unix milliseconds: for the record, never for a decision.
        now_ms: u64,
    },
    /// Do the two volumes of a pair hold the same in these tracks? Answered by [`Effect::Checked`] ([`crate::check`]).
    Check {
        /// Its name until the answer.
        id: CheckId,
        /// The pair.
        pair: PairId,
        /// Where.
        tracks: TrackRange,
    },
    /// An effect with a token ended.
    Done {
        /// Which.
        token: Token,
        /// How.
        outcome: Outcome,
    },
    /// Somebody waited for passages that are over ([`crate::passage`]).
    Passed,
    /// Time passes; comes at least every 100 ms while [`crate::Engine::busy`], every second otherwise.
    Tick,
}

/// Something to be done. The shell performs effects in any order it likes, with two exceptions: journal records
/// are appended in the order given, and an effect is only issued once it has been returned.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Read `range` of `from` into the host's buffer (at `range.start - op.range.start`).
    Read {
        /// Comes back in [`Input::Done`].
        token: Token,
        /// The host I/O.
        op: OpId,
        /// The volume that holds the right data now: not always the one addressed.
        from: VolumeId,
        /// Where.
        range: ByteRange,
    },
    /// [`HostIo::Update`]: the current content of the whole range of `op` is to be read from `from`, shown to the
    /// host's closure, and its result kept as the data to write. Ends `Ok`, `ReadFailed` or `Declined`.
    Prepare {
        /// Comes back in [`Input::Done`].
        token: Token,
        /// The host I/O.
        op: OpId,
        /// The volume to read.
        from: VolumeId,
    },
    /// Write `range` of the host's data to one volume.
    Write {
        /// Comes back in [`Input::Done`].
        token: Token,
        /// The host I/O.
        op: OpId,
        /// The leg.
        to: VolumeId,
        /// Where.
        range: ByteRange,
    },
    /// Copy `range` from one volume to the same place of each of the others. Holes become holes.
    Copy {
        /// Comes back in [`Input::Done`].
        token: Token,
        /// Source.
        from: VolumeId,
        /// Destinations.
        to: Vec<VolumeId>,
        /// Where.
        range: ByteRange,
    },
    /// Compare `range` of two volumes. Ends `Ok`, `Differs` or `ReadFailed`.
    Compare {
        /// Comes back in [`Input::Done`].
        token: Token,
        /// The two.
        volumes: [VolumeId; 2],
        /// Where.
        range: ByteRange,
    },
    /// A check ended; its name is free.
    Checked {
        /// Which.
        id: CheckId,
        /// What came out.
        found: Found,
    },
    /// Make everything written to this volume so far stable.
    Flush {
        /// Comes back in [`Input::Done`].
        token: Token,
        /// Which.
        volume: VolumeId,
    },
    /// Append a record to the journal. If `token` is there, `Done` comes once it is durable (and with it every
    /// record before it).
    Journal {
        /// The record.
        record: Record,
        /// Who waits for durability.
        token: Option<Token>,
    },
    /// A host I/O ended; its name is free.
    Reply {
        /// Which.
        op: OpId,
        /// How.
        result: Result<(), HostError>,
    },
    /// A command ended; its name is free.
    Answer {
        /// Which.
        id: CommandId,
        /// How.
        result: Result<Summary, Refused>,
    },
    /// Whether the volume answers hosts changed, or what it holds was replaced: unit attention 28h/00h when `ready`.
    Ready {
        /// Which.
        volume: VolumeId,
        /// Does it answer hosts now?
        ready: bool,
    },
    /// The volume joined (`true`) or left (`false`) the engine: its I/O must (need no longer) pass through it.
    /// On joining the shell has drained its plain I/O before it gave the command; see `replication::gate`.
    Member {
        /// Which.
        volume: VolumeId,
        /// Is it in a pair now?
        member: bool,
    },
    /// For the event stream and the log.
    Event(crate::events::Event),
}

/// Why a host I/O failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostError {
    /// The volume does not answer hosts (2h/04h/03h).
    NotReady,
    /// The shell keeps the cause it reported with `ReadFailed`.
    Read,
    /// Likewise `WriteFailed`.
    Write,
    /// The shell declined in `Prepare`.
    Declined,
    /// The journal could not be written: nothing was changed.
    Journal,
    /// The far side of a pair whose policy is to refuse writes without it is away (2h/04h/01h). Nobody counts on what was written.
    MirrorAway,
}

/// What came out of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Both hold the same.
    Equal,
    /// They do not, and no mark says so.
    Different,
    /// They need not: a mark says so, or the pair is not in a state in which they would.
    Marked,
    /// A command is about to change the pair: ask again.
    Busy,
    /// One of them could not be read.
    Unreadable,
}

/// One step's time and effects: the caller's buffer, reused.
pub type Effects = Vec<Effect>;

/// What the shell promises about time: `now` never goes back.
pub type Now = Tick;
