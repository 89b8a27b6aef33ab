//! A sparse file or a block device as a store.
//!
//! Buffered I/O: the page cache serves reads that hit it inline (`preadv2` with `RWF_NOWAIT`), and takes
//! writes. ([`super::direct`] goes past it, over a file that was opened here for that.) Nothing here needs `ioctl`:
//! `fallocate` punches and zeroes block devices too, and `copy_file_range` shares blocks where the file system can.

use std::{
    fs::{File, OpenOptions},
    io::{IoSlice, IoSliceMut},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rustix::{
    fs::{FallocateFlags, OFlags, SeekFrom},
    io::{Errno, ReadWriteFlags},
};

use scsi_model::logical_block_provisioning::Space;

use super::{Asynchronous, Media, OpenError, locking::lock_when_free};
use crate::{
    buffer::Buffer,
    volume::{Extent, Fast, IoError},
};

/// File systems that hold their files in memory (statfs magic numbers of tmpfs and ramfs).
const MEMORY_FILE_SYSTEMS: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// An open and locked file or block device.
#[derive(Debug)]
pub struct FileMedia {
    file: File,
    path: PathBuf,
    length: AtomicU64,
    block_device: bool,
    /// On tmpfs: every call is a memory copy.
    in_memory: bool,
    /// `RWF_NOWAIT` is refused by this file system; reads go to threads.
    no_nowait: AtomicBool,
}

impl FileMedia {
    /// Opens and locks `path`. A file that is missing (or empty) is made sparse with `length` bytes; one that is
    /// there must have that size, and has the say when `length` is `None`.
    pub fn open(path: &Path, length: Option<u64>) -> Result<Self, OpenError> {
        Self::open_with(path, length, OFlags::empty())
    }

    /// The same, with more flags for `open(2)`.
    pub(super) fn open_with(path: &Path, length: Option<u64>, flags: OFlags) -> Result<Self, OpenError> {
        let (file, block_device) = open_file(path, length.is_some(), flags)?;
        lock_when_free(&file, path)?;
        let mut found =
            size_of(&file, block_device).map_err(|error| system(path, "read the size of", error))?;
        if let Some(configured) = length
            && configured != found
        {
            if found != 0 || block_device {
                return Err(OpenError::SizeMismatch {
                    path: path.to_owned(),
                    found,
                    configured,
                });
            }
            make_sparse(&file, path, configured)?;
            found = configured;
        }
        let in_memory = !block_device
            && rustix::fs::fstatfs(&file).is_ok_and(|found| {
                MEMORY_FILE_SYSTEMS
                    .iter()
                    .any(|magic| i64::from(*magic) == found.f_type)
            });
        Ok(Self {
            file,
            path: path.to_owned(),
            length: AtomicU64::new(found),
            block_device,
            in_memory,
            no_nowait: AtomicBool::new(false),
        })
    }

    /// A file for this process alone, of `length` bytes that have their space; what one held that is there is given up. One that is there is
    /// empty, or has that length, or is `ours`: anything else is perhaps somebody's.
    pub fn make(path: &Path, length: u64, ours: bool) -> Result<Self, OpenError> {
        let found = std::fs::metadata(path).map(|found| (found.is_file(), found.len()));
        match found {
            Ok((false, _)) => {
                return Err(OpenError::NotStorage {
                    path: path.to_owned(),
                });
            }
            Ok((true, found)) if found != 0 && found != length && !ours => {
                return Err(OpenError::Somebodys {
                    path: path.to_owned(),
                    found,
                });
            }
            _ => {}
        }
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let file = options.open(path).map_err(|error| system(path, "make", error))?;
        lock_when_free(&file, path)?;
        let private = std::fs::Permissions::from_mode(0o600);
        let taken = file.set_permissions(private).and_then(|()| {
            file.set_len(0)?;
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, length) {
                // A file system without it gives space as it is written.
                Err(Errno::OPNOTSUPP) => file.set_len(length),
                done => Ok(done?),
            }
        });
        if let Err(error) = taken {
            // Of half a file nobody has any use.
            let _ = std::fs::remove_file(path);
            return Err(system(path, "take the space of", error));
        }
        drop(file);
        Self::open(path, Some(length))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `fallocate`; `false`: not for this file system, device or alignment.
    pub(super) fn allocate(&self, mode: FallocateFlags, offset: u64, length: u64) -> Result<bool, IoError> {
        if length == 0 {
            return Ok(true);
        }
        loop {
            return match rustix::fs::fallocate(&self.file, mode | FallocateFlags::KEEP_SIZE, offset, length) {
                Ok(()) => Ok(true),
                Err(Errno::INTR) => continue,
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NODEV) => Ok(false),
                Err(error) => Err(write_error(offset, error)),
            };
        }
    }

    /// On tmpfs: every call is a memory copy.
    pub(super) fn is_in_memory(&self) -> bool {
        self.in_memory
    }

    /// First byte of data (or of a hole) from `offset` on; `None` beyond the last one.
    fn seek(&self, to: SeekFrom) -> Result<Option<u64>, Errno> {
        match rustix::fs::seek(&self.file, to) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One extent from `at`, or the errno when the file system cannot tell.
    fn extent_at(&self, at: u64, length: u64) -> Result<Extent, Errno> {
        let data = self.seek(SeekFrom::Data(at))?.unwrap_or(length).min(length);
        if data > at {
            return Ok(Extent {
                offset: at,
                length: data - at,
                mapped: false,
            });
        }
        let hole = self.seek(SeekFrom::Hole(at))?.unwrap_or(length).min(length);
        // A hole punched between the two calls: look at it as data of no more than a byte's neighbourhood.
        let end = if hole > at { hole } else { length.min(at + 1) };
        Ok(Extent {
            offset: at,
            length: end - at,
            mapped: true,
        })
    }
}

impl Media for FileMedia {
    fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    fn set_length(&self, length: u64) -> Result<(), IoError> {
        if self.block_device {
            // The device has been resized by whoever owns it, or it has not.
            let found = size_of(&self.file, true).map_err(|error| IoError::Internal(error.to_string()))?;
            if found < length {
                return Err(IoError::Internal(format!(
                    "{} has {found} bytes, fewer than {length}",
                    self.path.display()
                )));
            }
        } else {
            rustix::fs::ftruncate(&self.file, length).map_err(|error| write_error(length, error))?;
            rustix::fs::fsync(&self.file).map_err(|error| write_error(length, error))?;
        }
        self.length.store(length, Ordering::Release);
        Ok(())
    }

    fn never_waits(&self) -> bool {
        self.in_memory
    }

    fn caches_writes(&self) -> bool {
        true
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> Fast<()> {
        if self.in_memory {
            return Fast::Done(self.read_at(offset, buffer));
        }
        if self.no_nowait.load(Ordering::Relaxed) {
            return Fast::Later;
        }
        let length = buffer.len();
        match rustix::io::preadv2(
            &self.file,
            &mut [IoSliceMut::new(buffer)],
            offset,
            ReadWriteFlags::NOWAIT,
        ) {
            Ok(read) if read == length => Fast::Done(Ok(())),
            Err(Errno::OPNOTSUPP) => {
                self.no_nowait.store(true, Ordering::Relaxed);
                Fast::Later
            }
            // A part of it is cached, none is, or it failed: the call that waits will tell.
            Ok(_) | Err(_) => Fast::Later,
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), IoError> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            match rustix::io::pread(&self.file, &mut buffer[done..], at) {
                Ok(0) => {
                    return Err(IoError::Read {
                        offset: at,
                        reason: "the file ends here".into(),
                    });
                }
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(IoError::Read {
                        offset: at,
                        reason: error.to_string(),
                    });
                }
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8], durable: bool) -> Result<(), IoError> {
        let flags = if durable {
            ReadWriteFlags::DSYNC
        } else {
            ReadWriteFlags::empty()
        };
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let written = if durable {
                rustix::io::pwritev2(&self.file, &[IoSlice::new(&data[done..])], at, flags)
            } else {
                rustix::io::pwrite(&self.file, &data[done..], at)
            };
            match written {
                Ok(0) => {
                    return Err(IoError::Write {
                        offset: at,
                        reason: "nothing was written".into(),
                    });
                }
                Ok(written) => done += written,
                Err(Errno::INTR) => {}
                Err(error) => return Err(write_error(at, error)),
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), IoError> {
        loop {
            return match rustix::fs::fdatasync(&self.file) {
                Ok(()) => Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => Err(IoError::Write {
                    offset: 0,
                    reason: format!("flush: {error}"),
                }),
            };
        }
    }

    fn punch(&self, offset: u64, length: u64) -> Result<(), IoError> {
        if self.allocate(FallocateFlags::PUNCH_HOLE, offset, length)? {
            return Ok(());
        }
        write_zeros(self, offset, length)
    }

    fn zero(&self, offset: u64, length: u64) -> Result<(), IoError> {
        if self.allocate(FallocateFlags::ZERO_RANGE, offset, length)? {
            return Ok(());
        }
        write_zeros(self, offset, length)
    }

    fn extents(&self, offset: u64, limit: usize) -> Result<Vec<Extent>, IoError> {
        let length = self.length();
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = offset;
        while at < length && extents.len() < limit {
            let next = match self.extent_at(at, length) {
                Ok(extent) => extent,
                // A block device, or a file system without SEEK_DATA.
                Err(Errno::INVAL | Errno::OPNOTSUPP) => Extent {
                    offset: at,
                    length: length - at,
                    mapped: true,
                },
                Err(error) => {
                    return Err(IoError::Read {
                        offset: at,
                        reason: error.to_string(),
                    });
                }
            };
            at += next.length;
            extents.push(next);
        }
        Ok(extents)
    }

    /// Of a file only: a device has all the space that it will ever have.
    fn space(&self) -> Option<Space> {
        const STAT_BLOCK: u64 = 512;
        if self.block_device {
            return None;
        }
        let file = rustix::fs::fstat(&self.file).ok()?;
        let store = rustix::fs::fstatvfs(&self.file).ok()?;
        Some(Space {
            available: store.f_bavail.saturating_mul(store.f_frsize),
            used: u64::try_from(file.st_blocks).unwrap_or(0) * STAT_BLOCK,
        })
    }

    /// For reads that miss the cache. Writes nearly always end in it, without waiting.
    fn asynchronous(&self) -> Option<Asynchronous<'_>> {
        (!self.in_memory).then(|| Asynchronous {
            file: self.file.as_fd(),
            unit: 1,
            writes: false,
        })
    }

    fn file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

/// What `fallocate` cannot do for a store.
pub(super) fn write_zeros(media: &dyn Media, offset: u64, length: u64) -> Result<(), IoError> {
    const PIECE: u64 = 256 << 10;
    let zeros = Buffer::zeroed(length.min(PIECE) as usize);
    let end = offset + length;
    let mut at = offset;
    while at < end {
        let piece = (end - at).min(PIECE);
        media.write_at(at, &zeros[..piece as usize], false)?;
        at += piece;
    }
    Ok(())
}

/// Opens a regular file or a block device; the latter exclusively, so that a mounted one is refused.
fn open_file(path: &Path, may_create: bool, mut flags: OFlags) -> Result<(File, bool), OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let kind = match std::fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_create => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(OpenError::NeedsSize {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(system(path, "look at", error)),
    };
    let block_device = kind.is_some_and(|kind| kind.is_block_device());
    if kind.is_some_and(|kind| !kind.is_file() && !kind.is_block_device()) {
        return Err(OpenError::NotStorage {
            path: path.to_owned(),
        });
    }
    if block_device {
        flags |= OFlags::EXCL;
    } else if may_create {
        options.create(true);
    }
    options.custom_flags(flags.bits().cast_signed());
    match options.open(path) {
        Ok(file) => Ok((file, block_device)),
        Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => Err(OpenError::InUse {
            path: path.to_owned(),
        }),
        Err(error)
            if flags.contains(OFlags::DIRECT)
                && error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) =>
        {
            Err(OpenError::NotDirect {
                path: path.to_owned(),
            })
        }
        Err(error) => Err(system(path, "open", error)),
    }
}

fn size_of(file: &File, block_device: bool) -> std::io::Result<u64> {
    if block_device {
        return Ok(rustix::fs::seek(file, SeekFrom::End(0))?);
    }
    Ok(file.metadata()?.len())
}

fn make_sparse(file: &File, path: &Path, length: u64) -> Result<(), OpenError> {
    file.set_len(length)
        .map_err(|error| system(path, "set the size of", error))?;
    file.sync_all().map_err(|error| system(path, "sync", error))?;
    crate::state_file::sync_directory_of(path).map_err(|error| system(path, "sync the directory of", error))
}

fn write_error(offset: u64, error: Errno) -> IoError {
    match error {
        Errno::NOSPC | Errno::DQUOT => IoError::NoSpace { offset },
        error => IoError::Write {
            offset,
            reason: error.to_string(),
        },
    }
}

fn system(path: &Path, action: &'static str, source: std::io::Error) -> OpenError {
    OpenError::System {
        path: path.to_owned(),
        action,
        source,
    }
}
