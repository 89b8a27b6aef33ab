//! What volumes are stored on: a sparse file or a block device ([`mod@file`], past the page cache [`direct`]), or
//! memory ([`memory`]).
//!
//! [`Media`] is the set of blocking calls one store understands. [`crate::disk::Disk`] makes it asynchronous: it
//! decides what is done inline and what goes to threads, and keeps the memory of a failed flush.

pub mod direct;
pub mod file;
pub(crate) mod locking;
pub mod memory;
pub mod quota;
pub(crate) mod threads;

use std::{os::fd::BorrowedFd, path::PathBuf, pin::Pin};

use scsi_model::logical_block_provisioning::Space;

use crate::{
    buffer::Buffer,
    volume::{Extent, Fast, IoError},
};

pub use direct::DirectMedia;
pub use file::FileMedia;
pub use memory::{Faults, MemoryMedia};
pub use quota::QuotaMedia;

/// The blocking calls of a store. Offsets and lengths are bytes inside `length()`; any alignment is accepted.
pub trait Media: Send + Sync + 'static {
    /// Size in bytes.
    fn length(&self) -> u64;

    /// Changes the size; new bytes read as zeros.
    fn set_length(&self, length: u64) -> Result<(), IoError>;

    /// No call ever waits for a device: everything may be done inline, flushes too.
    fn never_waits(&self) -> bool;

    /// A small write usually only copies into a cache, so that it may be made inline.
    fn caches_writes(&self) -> bool;

    /// Fills `buffer` if that needs no waiting.
    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> Fast<()>;

    /// Fills `buffer`.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), IoError>;

    /// Writes all of `data`; with `durable` it is on stable storage at the end.
    fn write_at(&self, offset: u64, data: &[u8], durable: bool) -> Result<(), IoError>;

    /// Puts everything written so far on stable storage.
    fn flush(&self) -> Result<(), IoError>;

    /// The range reads as zeros; its space is given back where the store can.
    fn punch(&self, offset: u64, length: u64) -> Result<(), IoError>;

    /// The range reads as zeros; its space stays.
    fn zero(&self, offset: u64, length: u64) -> Result<(), IoError>;

    /// At most `limit` stretches from `offset` to the end, gapless, alternating. Without knowledge all is data.
    fn extents(&self, offset: u64, limit: usize) -> Result<Vec<Extent>, IoError>;

    /// What is allocated here, and how much more there is; `None` where that cannot be told.
    fn space(&self) -> Option<Space> {
        None
    }

    /// How to read, and perhaps write, without a thread that waits; `None` where that gains nothing.
    fn asynchronous(&self) -> Option<Asynchronous<'_>> {
        None
    }

    /// `None`: calls that wait for a device are made on threads. Otherwise nothing here waits: a caller makes each of them itself, after this
    /// turn. For simulations, where a device's time passes on another clock.
    fn turn(&self) -> Option<Turn> {
        None
    }

    /// The file underneath, for copies inside the kernel.
    fn file(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// See [`Media::turn`].
pub type Turn = Pin<Box<dyn Future<Output = ()> + Send>>;

/// See [`Media::asynchronous`].
#[derive(Debug, Clone, Copy)]
pub struct Asynchronous<'a> {
    /// Its bytes are those of the store.
    pub file: BorrowedFd<'a>,
    /// Offsets, lengths and memory have to be multiples of so many bytes.
    pub unit: u64,
    /// Writes may go this way too.
    pub writes: bool,
}

/// What a copy found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Bytes of the range that were data.
    pub data: u64,
    /// Bytes behind the range that belong to the hole it ends with.
    pub hole_ahead: u64,
}

/// A store, and where in it.
pub type Place<'a> = (&'a dyn Media, u64);

/// Copies so many bytes from one place to another, which do not overlap. Holes become holes; data goes through the kernel where both
/// are files (which shares blocks on file systems that can), else through a buffer. A failure to read is
/// [`IoError::Read`], all others are the destination's.
pub fn copy_range(
    (from, start): Place<'_>,
    (to, destination): Place<'_>,
    length: u64,
) -> Result<Copied, IoError> {
    let end = start + length;
    let mut at = start;
    let mut copied = Copied::default();
    while at < end {
        for extent in from.extents(at, 16)? {
            let stop = (extent.offset + extent.length).min(end);
            let target = destination + (at - start);
            if extent.mapped {
                copy_data((from, at), (to, target), stop - at)?;
                copied.data += stop - at;
            } else {
                copied.hole_ahead = extent.offset + extent.length - stop;
                make_hole(to, target, stop - at)?;
            }
            at = stop;
            if at == end {
                break;
            }
        }
    }
    Ok(copied)
}

/// Unless it is one.
fn make_hole(media: &dyn Media, offset: u64, length: u64) -> Result<(), IoError> {
    let found = media.extents(offset, 1)?;
    let is_hole = |extent: &Extent| !extent.mapped && extent.length >= length;
    if found.first().is_some_and(is_hole) {
        return Ok(());
    }
    media.punch(offset, length)
}

fn copy_data((from, start): Place<'_>, (to, destination): Place<'_>, length: u64) -> Result<(), IoError> {
    const PIECE: u64 = 1 << 20;
    let mut done = copy_in_kernel((from, start), (to, destination), length);
    let mut buffer = Buffer::new((length - done).min(PIECE) as usize);
    while done < length {
        buffer.truncate((length - done).min(PIECE) as usize);
        from.read_at(start + done, &mut buffer)?;
        to.write_at(destination + done, &buffer, false)?;
        done += buffer.len() as u64;
    }
    Ok(())
}

/// How many bytes the kernel copied; what it declines or fails at is left to read and write, which know whose
/// fault it is.
fn copy_in_kernel((from, start): Place<'_>, (to, destination): Place<'_>, length: u64) -> u64 {
    let (Some(source), Some(target)) = (from.file(), to.file()) else {
        return 0;
    };
    let mut done = 0;
    while done < length {
        let (mut read_at, mut write_at) = (start + done, destination + done);
        let left = usize::try_from(length - done).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(source, Some(&mut read_at), target, Some(&mut write_at), left) {
            Ok(0) | Err(_) => break,
            Ok(copied) => done += copied as u64,
        }
    }
    done
}

/// Why a store or volume could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A system call failed.
    #[error("cannot {action} {path}: {source}")]
    System {
        /// What was opened.
        path: PathBuf,
        /// Verb for the message.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Another process has it (or this one, twice).
    #[error("{path} is in use: another daemon, or another volume, has it open")]
    InUse {
        /// What was opened.
        path: PathBuf,
    },
    /// The file is not there and no size was given to make it with.
    #[error("{path} does not exist, and without a size it cannot be made")]
    NeedsSize {
        /// What was opened.
        path: PathBuf,
    },
    /// The file has a size other than the configured one.
    #[error(
        "{path} has {found} bytes, but {configured} are configured: resize the volume, or correct its size"
    )]
    SizeMismatch {
        /// What was opened.
        path: PathBuf,
        /// Bytes it has.
        found: u64,
        /// Bytes asked for.
        configured: u64,
    },
    /// What is there was not made for what it is to be used for.
    #[error("{path} has {found} bytes and is perhaps somebody's: remove it, or name another file")]
    Somebodys {
        /// What is there.
        path: PathBuf,
        /// Its bytes.
        found: u64,
    },
    /// A directory, a socket, a character device.
    #[error("{path} is neither a file nor a block device")]
    NotStorage {
        /// What was opened.
        path: PathBuf,
    },
    /// `direct` where there is no O_DIRECT.
    #[error("{path} is on a file system without direct I/O: leave `direct` out")]
    NotDirect {
        /// What was opened.
        path: PathBuf,
    },
    /// `direct` with blocks smaller than what the device reads and writes.
    #[error(
        "{path} takes direct I/O in units of {unit} bytes, but its volume has blocks of {block_size}: block_size = 4096 is needed, or no `direct`"
    )]
    DirectBlockSize {
        /// What was opened.
        path: PathBuf,
        /// Bytes.
        unit: u32,
        /// Logical block size.
        block_size: u32,
    },
    /// The block size is none of those supported.
    #[error(
        "block size {block_size} with physical block size {physical} is not supported: 512 or 4096, and a power of two from there"
    )]
    BlockSize {
        /// Logical.
        block_size: u32,
        /// Physical.
        physical: u32,
    },
    /// The size is not a multiple of the block size, zero, or beyond 2^63 - 1.
    #[error(
        "a volume of {bytes} bytes is not a whole number of blocks of {block_size} bytes between 1 block and 2^63 bytes"
    )]
    Capacity {
        /// Bytes.
        bytes: u64,
        /// Logical block size.
        block_size: u32,
    },
    /// Another volume is who this one was to be.
    #[error(transparent)]
    Identity(#[from] crate::identities::AssignError),
    /// A quota where nobody can tell what is allocated.
    #[error("a quota needs a volume on a file")]
    QuotaNeedsFile,
    /// A memory volume needs a size.
    #[error("a volume in memory needs a size")]
    MemoryNeedsSize,
    /// A state file.
    #[error(transparent)]
    State(#[from] crate::state_file::StateFileError),
}

#[cfg(test)]
mod tests;
