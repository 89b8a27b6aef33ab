//! A limit on what a volume may allocate in its file.
//!
//! What is allocated is asked of the file system, but not for each write: *headroom* is how many bytes may be written without asking
//! again, even if every one of them took new space. Writes take from it, also those that overwrite; when it does
//! not suffice the store is looked at anew, with no other write under way, and only if the write then has to be counted block
//! by block is it. So a volume far from its limit pays a lock that many hold at once and one atomic operation a write, and one
//! at its limit still takes every write to blocks that it has.

use std::{
    os::fd::BorrowedFd,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use scsi_model::logical_block_provisioning::Space;

use super::{Asynchronous, Media};
use crate::volume::{Extent, Fast, IoError};

/// Blocks of file systems: what a write of one byte takes.
const BLOCK: u64 = 4096;

/// See the module's page.
pub struct QuotaMedia {
    inner: Arc<dyn Media>,
    /// Most bytes that may be allocated.
    limit: AtomicU64,
    headroom: AtomicU64,
    /// Held by each write, and alone to look at the store.
    writing: RwLock<()>,
}

impl QuotaMedia {
    /// `None`: the store cannot tell what is allocated.
    pub fn new(inner: Arc<dyn Media>, limit: u64) -> Option<Arc<Self>> {
        inner.space()?;
        Some(Arc::new(Self {
            inner,
            limit: AtomicU64::new(limit),
            headroom: AtomicU64::new(0),
            writing: RwLock::default(),
        }))
    }

    /// Another limit from now on. What is allocated beyond it stays.
    pub fn set_limit(&self, bytes: u64) {
        let _alone = self.writing.write().unwrap_or_else(PoisonError::into_inner);
        self.limit.store(bytes, Ordering::Relaxed);
        self.headroom.store(0, Ordering::Relaxed);
    }

    /// Writes a range if the limit allows it.
    fn within(
        &self,
        (offset, length): (u64, u64),
        write: impl Fn() -> Result<(), IoError>,
    ) -> Result<(), IoError> {
        let most = (offset + length).next_multiple_of(BLOCK) - offset / BLOCK * BLOCK;
        {
            let _with_others = self.writing.read().unwrap_or_else(PoisonError::into_inner);
            let take = |left: u64| left.checked_sub(most);
            let taken = self
                .headroom
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
            if taken.is_ok() {
                return write();
            }
        }
        let _alone = self.writing.write().unwrap_or_else(PoisonError::into_inner);
        let left = self.left();
        if most > left && self.unallocated(offset, length)? > left {
            return Err(IoError::NoSpace { offset });
        }
        let result = write();
        self.headroom.store(self.left(), Ordering::Relaxed);
        result
    }

    /// How much may still be allocated; nothing if that cannot be found out.
    fn left(&self) -> u64 {
        let limit = self.limit.load(Ordering::Relaxed);
        let used = self.inner.space().map_or(u64::MAX, |space| space.used);
        limit.saturating_sub(used)
    }

    /// Bytes of the file system's blocks that a write there would take.
    fn unallocated(&self, offset: u64, length: u64) -> Result<u64, IoError> {
        let mut at = offset / BLOCK * BLOCK;
        let end = (offset + length).next_multiple_of(BLOCK);
        let mut bytes = 0;
        while at < end.min(self.inner.length()) {
            for extent in self.inner.extents(at, 64)? {
                let stop = (extent.offset + extent.length).min(end);
                if !extent.mapped {
                    bytes += stop.saturating_sub(at);
                }
                at = at.max(stop);
            }
        }
        Ok(bytes)
    }
}

impl Media for QuotaMedia {
    fn length(&self) -> u64 {
        self.inner.length()
    }

    fn set_length(&self, length: u64) -> Result<(), IoError> {
        self.inner.set_length(length)
    }

    fn never_waits(&self) -> bool {
        self.inner.never_waits()
    }

    /// Writes are counted on their way, by the calls of this trait.
    fn asynchronous(&self) -> Option<Asynchronous<'_>> {
        let inner = self.inner.asynchronous()?;
        Some(Asynchronous {
            writes: false,
            ..inner
        })
    }

    fn caches_writes(&self) -> bool {
        self.inner.caches_writes()
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> Fast<()> {
        self.inner.try_read_at(offset, buffer)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), IoError> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8], durable: bool) -> Result<(), IoError> {
        self.within((offset, data.len() as u64), || {
            self.inner.write_at(offset, data, durable)
        })
    }

    fn flush(&self) -> Result<(), IoError> {
        self.inner.flush()
    }

    fn punch(&self, offset: u64, length: u64) -> Result<(), IoError> {
        self.inner.punch(offset, length)
    }

    /// Zeros that keep their space take it first.
    fn zero(&self, offset: u64, length: u64) -> Result<(), IoError> {
        self.within((offset, length), || self.inner.zero(offset, length))
    }

    fn extents(&self, offset: u64, limit: usize) -> Result<Vec<Extent>, IoError> {
        self.inner.extents(offset, limit)
    }

    /// No more is available than the limit leaves.
    fn space(&self) -> Option<Space> {
        let space = self.inner.space()?;
        let left = self.limit.load(Ordering::Relaxed).saturating_sub(space.used);
        Some(Space {
            available: space.available.min(left),
            ..space
        })
    }

    /// Copies inside the kernel would pass by the limit.
    fn file(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::FileMedia;

    const LENGTH: u64 = 4 << 20;

    fn media(limit: u64) -> (tempfile::TempDir, Arc<QuotaMedia>) {
        let directory = tempfile::tempdir().unwrap();
        let file = FileMedia::open(&directory.path().join("v.img"), Some(LENGTH)).unwrap();
        (directory, QuotaMedia::new(Arc::new(file), limit).unwrap())
    }

    fn write(media: &QuotaMedia, offset: u64, length: usize) -> Result<(), IoError> {
        media.write_at(offset, &vec![7; length], false)
    }

    #[test]
    fn what_is_there_can_be_written_and_nothing_beyond_the_limit_is_taken() {
        let (_directory, media) = media(1 << 20);
        write(&media, 0, 512 << 10).unwrap();
        write(&media, 1 << 20, 512 << 10).unwrap();
        let used = media.space().unwrap();
        assert!(used.used >= 1 << 20 && used.available == 0, "{used:?}");
        for _ in 0..3 {
            write(&media, 4096, 300 << 10).unwrap();
            write(&media, (1 << 20) + 512, 512).unwrap();
            let full = Err(IoError::NoSpace { offset: 3 << 20 });
            assert_eq!(write(&media, 3 << 20, 512), full);
            assert_eq!(media.zero(3 << 20, 8192), full);
            // Half of it is there: all or nothing.
            let offset = (1 << 20) + (508 << 10);
            assert_eq!(write(&media, offset, 8192), Err(IoError::NoSpace { offset }));
        }
        media.punch(0, 512 << 10).unwrap();
        write(&media, 3 << 20, 256 << 10).unwrap();
        assert!(write(&media, 2 << 20, 512 << 10).is_err());
        media.set_limit(2 << 20);
        write(&media, 2 << 20, 512 << 10).unwrap();
        media.set_limit(0);
        write(&media, 2 << 20, 512).unwrap();
        assert!(write(&media, 0, 512).is_err());
    }

    #[test]
    fn many_writers_do_not_pass_the_limit_together() {
        let (_directory, media) = media(1 << 20);
        std::thread::scope(|scope| {
            for writer in 0..8_u64 {
                let media = &media;
                scope.spawn(move || {
                    for piece in 0..8 {
                        // Refused or not: the limit holds.
                        let _ = write(media, (piece * 8 + writer) * (64 << 10), 64 << 10);
                    }
                });
            }
        });
        let used = media.space().unwrap().used;
        assert!((960 << 10..=1 << 20).contains(&used), "{used}");
    }
}
