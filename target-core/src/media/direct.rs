//! A file or a block device past the page cache: O_DIRECT.
//!
//! The device moves whole units (its logical blocks, 512 or 4096 bytes) between its media and memory that starts at a multiple of a
//! unit. What comes aligned goes straight through; the rest is *bounced* through an aligned buffer. A write that covers only a part of
//! a unit reads the unit first. Two such writes to the parts of one unit take turns under a lock; beside one that covers the unit
//! they need none, because hosts write whole logical blocks, and a volume whose blocks are smaller than a unit is refused.
//!
//! Past the page cache is not on stable storage: the device has a cache of its own, and a file system may owe the block it has just
//! allocated. A flush is `fdatasync`, a stable write has `RWF_DSYNC`, as with a buffered file.
//!
//! `copy_file_range` would move pages through the page cache or, on most file systems, refuse: [`Media::file`] is `None`, and copies go
//! through buffers of 1 MiB, past the cache on this side.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::{FallocateFlags, OFlags},
    io::Errno,
};
use scsi_model::logical_block_provisioning::Space;

use super::{Asynchronous, FileMedia, Media, OpenError, file::write_zeros};
use crate::{
    buffer::Buffer,
    volume::{Extent, Fast, IoError},
};

/// The units there are, in bytes.
const UNITS: [u32; 2] = [512, 4096];
/// Bounced at a time, in bytes.
const PIECE: u64 = 1 << 20;

/// See the module's page.
#[derive(Debug)]
pub struct DirectMedia {
    file: FileMedia,
    /// Bytes; a power of two.
    unit: u64,
    /// Held by a write of parts of units from reading them to having written them.
    parts: Mutex<()>,
}

impl DirectMedia {
    /// Opens and locks `path` as [`FileMedia::open`] does, for a volume with blocks of `block_size` bytes.
    pub fn open(path: &Path, length: Option<u64>, block_size: u32) -> Result<Self, OpenError> {
        let file = FileMedia::open_with(path, length, OFlags::DIRECT)?;
        let direct = !file.is_in_memory();
        let Some(unit) = unit_of(&file).filter(|_| direct) else {
            return Err(OpenError::NotDirect {
                path: path.to_owned(),
            });
        };
        if unit > block_size {
            return Err(OpenError::DirectBlockSize {
                path: path.to_owned(),
                unit,
                block_size,
            });
        }
        Ok(Self {
            file,
            unit: u64::from(unit),
            parts: Mutex::new(()),
        })
    }

    /// Bytes that the device moves at once: offsets, lengths and memory at multiples of it need no bouncing.
    pub fn unit(&self) -> u64 {
        self.unit
    }

    fn is_aligned(&self, offset: u64, memory: &[u8]) -> bool {
        (offset | memory.len() as u64 | memory.as_ptr().addr() as u64).is_multiple_of(self.unit)
    }

    /// Calls `step` for each piece: the first byte and the length of the piece, and the whole units that hold it.
    fn pieces(
        &self,
        offset: u64,
        length: u64,
        mut step: impl FnMut(u64, u64, Units) -> Result<(), IoError>,
    ) -> Result<(), IoError> {
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let start = at - at % self.unit;
            let stop = end.min(start + PIECE);
            let units = Units {
                start,
                length: stop.next_multiple_of(self.unit) - start,
            };
            step(at, stop - at, units)?;
            at = stop;
        }
        Ok(())
    }

    fn write_bounced(&self, offset: u64, data: &[u8], durable: bool) -> Result<(), IoError> {
        self.pieces(offset, data.len() as u64, |at, length, units| {
            let mut buffer = Buffer::new(units.length as usize);
            let _turn =
                (length < units.length).then(|| self.parts.lock().unwrap_or_else(PoisonError::into_inner));
            let unit = self.unit as usize;
            let last = buffer.len() - unit;
            if at > units.start {
                self.file
                    .read_at(units.start, &mut buffer[..unit])
                    .map_err(as_write)?;
            }
            if at + length < units.end() && (last > 0 || at == units.start) {
                self.file
                    .read_at(units.end() - self.unit, &mut buffer[last..])
                    .map_err(as_write)?;
            }
            let inside = (at - units.start) as usize;
            let source = (at - offset) as usize;
            buffer[inside..inside + length as usize].copy_from_slice(&data[source..source + length as usize]);
            self.file.write_at(units.start, &buffer, durable)
        })
    }
}

/// A stretch of whole units.
struct Units {
    start: u64,
    length: u64,
}

impl Units {
    fn end(&self) -> u64 {
        self.start + self.length
    }
}

/// The smallest unit that the kernel takes, found by asking for one: no other way is known to all versions. Any other failure is
/// none of alignment, and whoever reads there will hear of it.
fn unit_of(file: &FileMedia) -> Option<u32> {
    let descriptor = file.file()?;
    UNITS.into_iter().find(|unit| {
        let mut probe = Buffer::new(*unit as usize);
        rustix::io::pread(descriptor, &mut probe[..], 0) != Err(Errno::INVAL)
    })
}

/// A write that fails because what surrounds it cannot be read is a failed write.
fn as_write(error: IoError) -> IoError {
    match error {
        IoError::Read { offset, reason } => IoError::Write { offset, reason },
        other => other,
    }
}

impl Media for DirectMedia {
    fn length(&self) -> u64 {
        self.file.length()
    }

    fn set_length(&self, length: u64) -> Result<(), IoError> {
        self.file.set_length(length)
    }

    fn never_waits(&self) -> bool {
        false
    }

    fn caches_writes(&self) -> bool {
        false
    }

    fn try_read_at(&self, _offset: u64, _buffer: &mut [u8]) -> Fast<()> {
        Fast::Later
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), IoError> {
        if self.is_aligned(offset, buffer) {
            return self.file.read_at(offset, buffer);
        }
        self.pieces(offset, buffer.len() as u64, |at, length, units| {
            let mut bounce = Buffer::new(units.length as usize);
            self.file.read_at(units.start, &mut bounce)?;
            let inside = (at - units.start) as usize;
            let target = (at - offset) as usize;
            buffer[target..target + length as usize]
                .copy_from_slice(&bounce[inside..inside + length as usize]);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, data: &[u8], durable: bool) -> Result<(), IoError> {
        if self.is_aligned(offset, data) {
            self.file.write_at(offset, data, durable)
        } else {
            self.write_bounced(offset, data, durable)
        }
    }

    fn flush(&self) -> Result<(), IoError> {
        self.file.flush()
    }

    fn punch(&self, offset: u64, length: u64) -> Result<(), IoError> {
        if self.file.allocate(FallocateFlags::PUNCH_HOLE, offset, length)? {
            return Ok(());
        }
        write_zeros(self, offset, length)
    }

    fn zero(&self, offset: u64, length: u64) -> Result<(), IoError> {
        if self.file.allocate(FallocateFlags::ZERO_RANGE, offset, length)? {
            return Ok(());
        }
        write_zeros(self, offset, length)
    }

    fn extents(&self, offset: u64, limit: usize) -> Result<Vec<Extent>, IoError> {
        self.file.extents(offset, limit)
    }

    fn asynchronous(&self) -> Option<Asynchronous<'_>> {
        Some(Asynchronous {
            file: self.file.file()?,
            unit: self.unit,
            writes: true,
        })
    }

    fn space(&self) -> Option<Space> {
        self.file.space()
    }
}
