//! What a logical unit stands on: the [`Volume`] trait.
//!
//! Two things implement it: [`crate::plain::PlainVolume`], straight on its media, and `replication::PairedVolume`,
//! which is a plain volume until it is in a pair and enters the engine only then.
//!
//! Each I/O comes in two steps so that a command whose data is at hand completes without a task switch: `try_*`
//! answers at once or says [`Fast::Later`]; only then is the future made. A future
//! runs to its end even when the command is aborted: what an abort suppresses is the answer, so that no half of a
//! write can be forgotten (S95).
//!
//! Offsets and lengths are bytes, multiples of the block size, inside the capacity: the executor has checked.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use scsi_model::{control::VolumeNumber, unit::SharedAccess};

use crate::{
    buffer::Buffer,
    loan::{CopyFuture, Loan},
};

/// A boxed future that owns what it needs.
pub type IoFuture<T> = Pin<Box<dyn Future<Output = Result<T, IoError>> + Send + 'static>>;

/// The answer of a `try_*` call.
#[derive(Debug)]
pub enum Fast<T> {
    /// It is done.
    Done(Result<T, IoError>),
    /// It would wait for a disk, a lock or the engine: call the future form. Nothing has happened.
    Later,
}

/// Why an I/O failed, in terms that map onto sense data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IoError {
    /// 3h/11h/00h UNRECOVERED READ ERROR at this byte.
    #[error("unrecovered read error at byte {offset}: {reason}")]
    Read {
        /// First bad byte.
        offset: u64,
        /// What the system said.
        reason: String,
    },
    /// 3h/0Ch/00h WRITE ERROR at this byte.
    #[error("write error at byte {offset}: {reason}")]
    Write {
        /// First bad byte.
        offset: u64,
        /// What the system said.
        reason: String,
    },
    /// 7h/27h/07h SPACE ALLOCATION FAILED WRITE PROTECT: the backing store is full. Nothing acknowledged is lost.
    #[error("no space left for byte {offset}")]
    NoSpace {
        /// First byte without space.
        offset: u64,
    },
    /// 2h/04h/03h: the volume does not answer hosts now (an established mirror, or CONFIG NOT READY).
    #[error("the volume is not ready for hosts")]
    NotReady,
    /// 2h/04h/01h, for writes only: the system that has the mirror is away, and hosts are not to write without it. Nothing that was
    /// acknowledged is concerned; the write is to be tried again.
    #[error("writes are refused until the system that has the mirror is back")]
    MirrorAway,
    /// Eh/1Dh/00h MISCOMPARE, with the offset of the first differing byte in the data compared.
    #[error("miscompare at byte {offset}")]
    Miscompare {
        /// Offset into the verify data.
        offset: u64,
    },
    /// 4h/44h/00h INTERNAL TARGET FAILURE.
    #[error("internal failure: {0}")]
    Internal(String),
}

/// What never changes while a volume is served, or changes with a unit attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Number.
    pub number: VolumeNumber,
    /// Name.
    pub name: String,
    /// Meant as a mirror (else a standard).
    pub mirror_class: bool,
    /// Bytes per logical block: 512 or 4096.
    pub block_size: u32,
    /// Bytes per physical block, at least `block_size`.
    pub physical_block_size: u32,
    /// Capacity in logical blocks.
    pub blocks: u64,
    /// Holes where nothing was written: UNMAP, LBPRZ, GET LBA STATUS.
    pub thin: bool,
    /// RMB.
    pub removable: bool,
    /// 16 bytes: NAA type 6, made when the volume was, kept for ever in the state directory.
    pub naa: [u8; 16],
    /// EUI-64, of the NAA designator unless the configuration has another.
    pub eui64: [u8; 8],
    /// UUID, likewise.
    pub uuid: [u8; 16],
    /// Unit serial number.
    pub serial: String,
}

impl VolumeInfo {
    /// Capacity in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }
}

/// A stretch of a volume in GET LBA STATUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// Data, or a hole.
    pub mapped: bool,
}

/// What an update under one lock does: sees the current content and returns what to write in its place (the same
/// length), or refuses. COMPARE AND WRITE, ORWRITE and the like are made of it.
pub type Modify = Box<dyn FnOnce(&[u8]) -> Result<Bytes, IoError> + Send + 'static>;

/// A numbered block device.
pub trait Volume: Send + Sync + 'static {
    /// Identity and geometry now.
    fn info(&self) -> Arc<VolumeInfo>;

    /// Changes whenever what the volume holds for hosts becomes another by other means than the writes of this trait: in the same
    /// step, so that whoever reads the one content and then this number never takes it for the other.
    fn content_epoch(&self) -> u64;

    /// Does it answer hosts? (An established mirror does not.)
    fn ready(&self) -> bool;

    /// How it is reached here, if another system shows it as the same unit. One that is not active here is not ready either.
    fn shared(&self) -> Option<SharedAccess> {
        None
    }

    /// Reads into `buffer` (all of it) at `offset`, if that needs no waiting.
    fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Fast<()>;

    /// Reads `buffer.len()` bytes at `offset` and hands the buffer back.
    fn read(self: Arc<Self>, offset: u64, buffer: Buffer) -> IoFuture<Buffer>;

    /// Writes `data` at `offset`, if that needs no waiting. With `fua` the data is on stable storage at the end;
    /// implementations that would have to wait for that say `Later`.
    fn try_write(&self, offset: u64, data: &Bytes, fua: bool) -> Fast<()>;

    /// Writes `data` at `offset`.
    fn write(self: Arc<Self>, offset: u64, data: Bytes, fua: bool) -> IoFuture<()>;

    /// Makes everything acknowledged so far stable.
    fn flush(self: Arc<Self>) -> IoFuture<()>;

    /// The range reads as zeros from now on. `unmap` gives the space back where the media can; without it the
    /// space stays (or becomes) allocated where the media can tell (ANCHOR, WRITE SAME of zeros).
    fn zero(self: Arc<Self>, offset: u64, length: u64, unmap: bool, fua: bool) -> IoFuture<()>;

    /// Reads a range, lets `modify` decide, and writes the result, with no other write in between.
    fn update(self: Arc<Self>, offset: u64, length: u64, modify: Modify, fua: bool) -> IoFuture<()>;

    /// Lends this range to whoever copies it without carrying it ([`crate::loan`]). `None`: not now, or never; it is to be read.
    fn lend(&self, _offset: u64, _length: u64) -> Option<Loan> {
        None
    }

    /// Takes in what was lent, as a write at `offset`. `false`: it is to be written.
    fn copy_in(self: Arc<Self>, _offset: u64, _loan: Loan) -> CopyFuture {
        Box::pin(std::future::ready(false))
    }

    /// What is data and what is a hole from `offset` on: at most `limit` extents, gapless, the first one starts at
    /// `offset`.
    fn extents(self: Arc<Self>, offset: u64, limit: usize) -> IoFuture<Vec<Extent>>;

    /// Called with every change hosts must be told of. Set once, by the logical unit that serves the volume.
    fn watch(&self, watcher: Arc<dyn VolumeWatcher>);
}

/// Something about a volume that its logical units turn into unit attentions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeChange {
    /// It became ready, or what it holds was replaced: 28h/00h.
    Medium,
    /// Its capacity changed: 2Ah/09h.
    Capacity,
    /// It is shared, and hosts are to use it here now, or the other system: 2Ah/06h.
    Access,
}

/// Hears of volume changes. Called without any lock held, and must not block.
pub trait VolumeWatcher: Send + Sync {
    /// `change` has happened.
    fn changed(&self, change: VolumeChange);
}
