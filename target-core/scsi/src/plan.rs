//! What the shell must do for a command: the one output of the device server.
//!
//! Offsets and lengths are bytes, whole blocks, inside the capacity. Data-carrying actions work on the data-out
//! buffer of the command; `length` never exceeds what was sent.

use crate::{
    control::Request,
    lba_status::LbaStatusLayout,
    log_pages::LogRequest,
    orwrite::NewGeneration,
    rod_tokens::{PopulateToken, WriteUsingToken},
    status::Status,
    unit::NexusId,
};

/// What to do, and what to keep when it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What to do.
    pub action: Action,
    /// Bytes that the CDB asks the initiator to send: the write residual is measured against it.
    pub data_out_length: u64,
    /// The reservations changed and APTPL holds (or held): store them durably *before* answering.
    pub persist_reservations: bool,
    /// MODE SELECT with SP: store the saved mode parameters durably *before* answering.
    pub persist_modes: bool,
    /// WCE is zero: what the action writes must be stable before the answer, FUA or not.
    pub write_through: bool,
    /// PREEMPT AND ABORT, SANITIZE: tasks of these nexuses on this unit are to be aborted before answering.
    pub abort: Vec<NexusId>,
}

/// What the shell does for a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing: this is the answer.
    Answer(Answer),
    /// READ: answer with the bytes.
    Read {
        /// First byte.
        offset: u64,
        /// Bytes; may be zero.
        length: u64,
        /// From the medium: whatever was written before must be stable first.
        fua: bool,
    },
    /// WRITE of `data_out[..length]`.
    Write {
        /// First byte.
        offset: u64,
        /// Bytes; may be zero.
        length: u64,
        /// Stable before the answer.
        fua: bool,
    },
    /// WRITE ATOMIC of `data_out[..length]`: with nothing else done on the unit meanwhile, all or nothing whatever
    /// happens, and stable before the answer.
    WriteAtomic {
        /// First byte.
        offset: u64,
        /// Bytes; may be zero.
        length: u64,
    },
    /// VERIFY with BYTCHK 0: the range must be readable.
    Verify {
        /// First byte.
        offset: u64,
        /// Bytes; may be zero.
        length: u64,
    },
    /// VERIFY with BYTCHK 1 or 3: the range must equal the data sent. A miscompare puts the offset of the first
    /// differing byte, counted from the start of the range, in INFORMATION.
    Compare {
        /// First byte.
        offset: u64,
        /// Bytes; may be zero.
        length: u64,
        /// BYTCHK 3: `data_out` is one block, compared with every block (else `data_out[..length]`).
        repeat: bool,
    },
    /// WRITE AND VERIFY of `data_out[..length]`: write it stably, then check it.
    WriteVerify {
        /// First byte.
        offset: u64,
        /// Bytes; may be zero.
        length: u64,
        /// Compare byte by byte (else only read it).
        compare: bool,
    },
    /// WRITE SAME of zeros: the range reads as zeros from now on.
    Zero {
        /// First byte.
        offset: u64,
        /// Bytes; may be zero.
        length: u64,
        /// Give the space back (UNMAP without ANCHOR).
        unmap: bool,
    },
    /// WRITE SAME: the one block in `data_out` goes to every block of the range.
    WriteSame {
        /// First byte.
        offset: u64,
        /// Bytes; may be zero.
        length: u64,
    },
    /// UNMAP of each range.
    Unmap(Vec<ByteRange>),
    /// COMPARE AND WRITE, atomically: `data_out[..length]` against the medium, then write
    /// `data_out[length..2 * length]`. A miscompare puts the offset of the first differing byte in INFORMATION.
    CompareAndWrite {
        /// First byte.
        offset: u64,
        /// Bytes compared, and bytes written.
        length: u64,
        /// Stable before the answer.
        fua: bool,
    },
    /// ORWRITE(32), change generation and clear: medium &= `data_out[..length]`, then the generation is this one, with nothing else done
    /// on the unit meanwhile.
    ChangeGeneration {
        /// First byte.
        offset: u64,
        /// Bytes; may be zero.
        length: u64,
        /// Stable before the answer.
        fua: bool,
        /// What holds afterwards.
        new: NewGeneration,
    },
    /// ORWRITE, atomically: medium |= `data_out[..length]`.
    OrWrite {
        /// First byte.
        offset: u64,
        /// Bytes; may be zero.
        length: u64,
        /// Stable before the answer.
        fua: bool,
    },
    /// SANITIZE and FORMAT UNIT: once the tasks of `abort` have ended go over the whole unit, and tell the device server how far that
    /// is and how it ended. With IMMED the answer comes before.
    Sanitize(Sanitize),
    /// SYNCHRONIZE CACHE, or START STOP UNIT that stops.
    Flush {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// IMMED: answer GOOD at once and flush behind.
        immediate: bool,
    },
    /// GET LBA STATUS: find the extents in a range that the layout shows, at most `limit`, and answer with
    /// [`LbaStatusLayout::encode`].
    Extents {
        /// First byte.
        offset: u64,
        /// Bytes to look at.
        length: u64,
        /// Most extents that fit the answer, at least 1.
        limit: usize,
        /// How the answer looks.
        layout: LbaStatusLayout,
    },
    /// REPORT TIMESTAMP: the time now, as [`crate::reports::timestamp`].
    ReportTimestamp {
        /// ALLOCATION LENGTH.
        allocation_length: u32,
    },
    /// PRE-FETCH: bring the range into the cache if there is one, answer CONDITION MET.
    Prefetch {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// EXTENDED COPY: do the segments in order, then answer with `DeviceServer::copy_finished`.
    Copy(CopyPlan),
    /// POPULATE TOKEN: make a token of the ranges; `DeviceServer::begin_operation` before, `DeviceServer::end_operation` after.
    PopulateToken(PopulateToken),
    /// WRITE USING TOKEN: write what the token stands for, with the same calls around it.
    WriteUsingToken(WriteUsingToken),
    /// REPORT ALL ROD TOKENS: of the tokens made on this unit that stand for something, as [`crate::rod_tokens::report`].
    ReportTokens {
        /// ALLOCATION LENGTH.
        allocation_length: u32,
    },
    /// LOG SENSE: gather the facts, then answer with `DeviceServer::log_sense`.
    LogSense(LogRequest),
    /// LOG SELECT: the counters of page 19h start at zero again.
    ResetStatistics,
    /// C0h or C1h: execute the request, then answer with `DeviceServer::control_answer`.
    Control(ControlCall),
}

/// How a command ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub status: Status,
    /// Sense data in the unit's format; empty = none.
    pub sense: Vec<u8>,
    /// Data, cut at the allocation length.
    pub data_in: Vec<u8>,
}

impl Answer {
    /// GOOD without data.
    pub const fn good() -> Self {
        Self {
            status: Status::Good,
            sense: Vec::new(),
            data_in: Vec::new(),
        }
    }

    /// GOOD with data, cut at the allocation length.
    pub fn data(mut data_in: Vec<u8>, allocation_length: usize) -> Self {
        data_in.truncate(allocation_length);
        Self {
            status: Status::Good,
            sense: Vec::new(),
            data_in,
        }
    }

    /// A status that carries neither data nor sense.
    pub const fn status(status: Status) -> Self {
        Self {
            status,
            sense: Vec::new(),
            data_in: Vec::new(),
        }
    }
}

/// A byte range of the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Bytes, at least 1.
    pub length: u64,
}

/// A SANITIZE that may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sanitize {
    /// How the data is made unreadable.
    pub method: SanitizeMethod,
    /// IMMED: answer GOOD when it has begun.
    pub immediate: bool,
    /// AUSE: after a failure EXIT FAILURE MODE is allowed.
    pub unrestricted: bool,
}

/// How SANITIZE makes data unreadable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SanitizeMethod {
    /// OVERWRITE.
    Overwrite {
        /// What goes to every block: one block.
        pattern: Vec<u8>,
        /// OVERWRITE COUNT, at least 1.
        passes: u8,
        /// INVERT: every second pass writes the complement.
        invert: bool,
    },
    /// BLOCK ERASE: everything becomes a hole.
    Erase,
}

/// The list identifier of an EXTENDED COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyListId {
    /// LID1.
    Short(u8),
    /// LID4: `DeviceServer::begin_operation` before the copy, and between its pieces `DeviceServer::operation_goes_on`.
    Long(u32),
}

/// An EXTENDED COPY with its segments resolved to designators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyPlan {
    /// LIST IDENTIFIER; `None` when the list id is not used.
    pub list_id: Option<CopyListId>,
    /// The segments, in order.
    pub segments: Vec<CopySegment>,
}

/// One block-to-block segment (SPC-4 6.4.6.4). The shell knows the block sizes of both units, so these are blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySegment {
    /// Source unit.
    pub source: CopyUnit,
    /// First block on the source.
    pub source_lba: u64,
    /// Destination unit.
    pub destination: CopyUnit,
    /// First block on the destination.
    pub destination_lba: u64,
    /// Blocks (of the source if DC is zero, else of the destination).
    pub blocks: u64,
    /// DC: `blocks` counts destination blocks.
    pub destination_count: bool,
}

/// A unit that a copy reads or writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyUnit {
    /// Its NAA type 6 designator (VPD 83h).
    pub naa: [u8; 16],
    /// Block size that the descriptor claims; one that differs from the unit's is 26h/00h.
    pub block_size: u32,
}

/// How a copy ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyOutcome {
    /// Everything was copied.
    Done {
        /// Bytes written.
        bytes: u64,
    },
    /// Segment `segment` failed; nothing after it was tried.
    Failed {
        /// Index of the segment.
        segment: u16,
        /// Bytes written before.
        bytes: u64,
        /// Why.
        sense: crate::sense::Sense,
    },
}

/// A replication command on its way to the executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlCall {
    /// What is asked.
    pub request: Request,
    /// ALLOCATION LENGTH of C0h; zero for C1h.
    pub allocation_length: u32,
    /// READ PENDING MAP: the first LBA wanted (SELECT bit 7).
    pub continue_at: u64,
}

impl Action {
    /// Is it to be done with nothing else in progress on the unit? Then it is planned anew when that is so.
    pub const fn needs_quiet(&self) -> bool {
        matches!(
            self,
            Self::WriteAtomic { .. } | Self::ChangeGeneration { .. } | Self::PopulateToken(_)
        )
    }
}

impl Plan {
    /// A plan with nothing to store and no data-out.
    pub const fn of(action: Action) -> Self {
        Self {
            action,
            data_out_length: 0,
            persist_reservations: false,
            persist_modes: false,
            write_through: false,
            abort: Vec::new(),
        }
    }

    /// A plan that is its own answer.
    pub const fn answer(answer: Answer) -> Self {
        Self::of(Action::Answer(answer))
    }

    /// The same with what the CDB asks the initiator to send.
    #[must_use]
    pub const fn expecting(mut self, data_out_length: u64) -> Self {
        self.data_out_length = data_out_length;
        self
    }
}
