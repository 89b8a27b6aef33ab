//! What passes between a transport and the SCSI side of a target: one command in, one response out.

use std::{future::Future, pin::Pin};

use bytes::Bytes;

/// Task attribute (SAM-5 8.9). Volumes keep no order between commands, so all but the name is the same to the
/// executor: a command is begun when it arrives, which satisfies ORDERED and HEAD OF QUEUE only when the initiator
/// waits; CmdSN order at delivery is what initiators rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TaskAttribute {
    /// Untagged or SIMPLE.
    #[default]
    Simple,
    /// ORDERED.
    Ordered,
    /// HEAD OF QUEUE.
    HeadOfQueue,
    /// ACA.
    Aca,
}

/// A command as it arrives at the target port (SAM-5 5.1), its data-out already collected.
#[derive(Debug, Clone)]
pub struct ScsiCommand {
    /// The logical unit number, 8 bytes as on the wire.
    pub lun: [u8; 8],
    /// 16 bytes, or more with an extended CDB.
    pub cdb: Bytes,
    /// Task attribute.
    pub attribute: TaskAttribute,
    /// All data-out, contiguous; empty when there is none.
    pub data_out: Bytes,
    /// Most bytes of data-in the initiator takes (expected data transfer length of a read).
    pub data_in_limit: u32,
}

/// A command's end (SAM-5 5.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScsiResponse {
    /// Status code.
    pub status: u8,
    /// Sense data, fixed or descriptor format, without a length prefix; empty when there is none.
    pub sense: Vec<u8>,
    /// Data-in, cut to the limit.
    pub data_in: Bytes,
    /// Bytes the command has to give before the limit cut it: for the residual.
    pub data_in_length: u64,
    /// Bytes the CDB asked the initiator to send: for the residual.
    pub data_out_length: u64,
}

/// Where a transport wants the data of a read that is at hand: among what it sends next.
pub trait Room {
    /// A place for exactly `length` bytes, or `None` when there is none for so many. Nothing comes of it unless the read says that
    /// it is done.
    fn room(&mut self, length: usize) -> Option<&mut [u8]>;
}

/// What came of a read that was to be done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAtOnce {
    /// It is done, with status GOOD. Its data lies in the [`Room`].
    Done {
        /// Bytes for the initiator, from the start of the room.
        length: u32,
        /// Bytes the command has to give before the limit cut it: for the residual.
        data_in_length: u64,
    },
    /// Its data is not at hand: [`Nexus::execute_waiting`](crate::target::Nexus::execute_waiting).
    Waits,
    /// It is no plain read, or there was no room: [`Nexus::execute`](crate::target::Nexus::execute).
    Other,
}

/// What came of a write that was to be done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteAtOnce {
    /// It is done, with status GOOD.
    Done {
        /// Bytes the CDB asked the initiator to send: for the residual.
        data_out_length: u64,
    },
    /// It would wait: [`Nexus::execute_waiting`](crate::target::Nexus::execute_waiting).
    Waits,
    /// It is no plain write: [`Nexus::execute`](crate::target::Nexus::execute).
    Other,
}

/// A command in progress.
pub enum Execution {
    /// It is done: the data was at hand.
    Done(ScsiResponse),
    /// It may have to wait for a disk or the engine. Poll it to its end, even if the command is aborted; unless
    /// it is a plain READ or WRITE, which does little between two waits, on a task of its own.
    Later(Pin<Box<dyn Future<Output = ScsiResponse> + Send + 'static>>),
}

impl std::fmt::Debug for Execution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done(response) => f.debug_tuple("Done").field(response).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}
