//! What an effect reads and writes: a volume's disk here, or a volume of another system over a link.

use std::sync::Arc;

use bytes::Bytes;
use replication_engine::ids::ByteRange;
use target_core::{
    buffer::Buffer,
    disk::Disk,
    volume::{Extent, Fast, IoFuture},
};

use crate::{
    digest::{self, Digest},
    remote::FarVolume,
};

/// See the module's page.
#[derive(Clone)]
pub(crate) enum Leg {
    /// Here.
    Near(Arc<Disk>),
    /// There. In async mode a write is done when it is on its way; nothing else is done at once.
    Far(Arc<FarVolume>),
}

impl Leg {
    pub(crate) fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Fast<()> {
        match self {
            Self::Near(disk) => disk.try_read(offset, buffer),
            Self::Far(_) => Fast::Later,
        }
    }

    pub(crate) fn read(&self, offset: u64, buffer: Buffer) -> IoFuture<Buffer> {
        match self {
            Self::Near(disk) => disk.read(offset, buffer),
            Self::Far(far) => far.read(offset, buffer),
        }
    }

    pub(crate) fn try_write(&self, offset: u64, data: &Bytes) -> Fast<()> {
        match self {
            Self::Near(disk) => disk.try_write(offset, data, false),
            Self::Far(far) if far.is_async() => Fast::Done(far.queue_write(offset, data)),
            Self::Far(_) => Fast::Later,
        }
    }

    pub(crate) fn write(&self, offset: u64, data: Bytes) -> IoFuture<()> {
        match self {
            Self::Near(disk) => disk.write(offset, data, false),
            Self::Far(far) => far.write(offset, &data),
        }
    }

    /// A write of a copy: it may wait until a link has room for it.
    pub(crate) fn copy(&self, offset: u64, data: Bytes) -> IoFuture<()> {
        match self {
            Self::Near(disk) => disk.write(offset, data, false),
            Self::Far(far) => far.copy(offset, data),
        }
    }

    pub(crate) fn zero(&self, offset: u64, length: u64, unmap: bool) -> IoFuture<()> {
        match self {
            Self::Near(disk) => disk.zero(offset, length, unmap, false),
            Self::Far(far) => far.zero(offset, length, unmap),
        }
    }

    /// The digest of each piece of a range of at most [`STEP`](crate::compare::STEP) bytes.
    pub(crate) fn digests(&self, range: ByteRange, piece: u64) -> IoFuture<Vec<Digest>> {
        match self {
            Self::Near(disk) => {
                let disk = Arc::clone(disk);
                Box::pin(async move {
                    let length = range.end - range.start;
                    let extents = disk.extents(range.start, 1).await?;
                    if digest::is_hole(extents.first(), range.start, length) {
                        return Ok(digest::of_zeros(length as usize, piece as usize));
                    }
                    let read = disk.read(range.start, Buffer::new(length as usize)).await?;
                    digest::of_pieces(read, piece as usize).await
                })
            }
            Self::Far(far) => far.digests(range, piece),
        }
    }

    pub(crate) fn flush(&self) -> IoFuture<()> {
        match self {
            Self::Near(disk) => disk.flush(),
            Self::Far(far) => far.flush(),
        }
    }

    /// What begins at the offset, data and holes by turns: at least one, at most `limit`.
    pub(crate) fn extents(&self, offset: u64, limit: usize) -> IoFuture<Vec<Extent>> {
        match self {
            Self::Near(disk) => disk.extents(offset, limit),
            Self::Far(far) => far.extents(offset),
        }
    }
}
