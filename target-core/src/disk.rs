//! A [`Media`] made asynchronous: what is done inline, what goes to threads, and what a failed flush means.
//!
//! **Inline or not.** Handing an I/O to a thread and back costs five times what the I/O costs when the page cache
//! serves it. So reads that the kernel can answer without waiting are made inline, and so are small buffered writes,
//! which have no non-blocking form: they nearly always just copy into the page cache. When one took long after all
//! (the kernel throttles writers when too much is dirty), the disk sends writes to its threads for a while.
//!
//! What has to wait is asked of the kernel in batches where it has `io_uring` ([`ring`]), else handed to threads: reads that miss the
//! cache, and all I/O past the cache. Flushes, stable writes, and what changes the shape of the store always go to threads.
//!
//! **A failed flush is final.** After `fdatasync` has failed the kernel drops the pages it could not write and
//! calls them clean: a second flush would succeed although the data is lost. So the failure is remembered, and every
//! later flush and stable write fails, until the volume is opened anew.

mod kernel;
mod ring;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use ring::Ring;
use scsi_model::logical_block_provisioning::Space;

use crate::{
    buffer::Buffer,
    media::{Copied, Media, copy_range, threads::Threads},
    volume::{Extent, Fast, IoError, IoFuture},
};

/// Larger writes always go to a thread.
const INLINE_WRITE_LIMIT: usize = 256 << 10;
/// Larger reads always go to a thread.
const INLINE_READ_LIMIT: usize = 1 << 20;
/// An inline write that takes longer has waited for a device.
const SLOW_WRITE: Duration = Duration::from_millis(2);
/// For so long writes then go to threads.
const SLOW_PERIOD: Duration = Duration::from_millis(100);
/// Calls in flight at once, the queue depth the device sees.
const THREADS: usize = 32;

/// A store with its threads; what volumes and the replication engine do I/O on.
pub struct Disk {
    media: Arc<dyn Media>,
    threads: Threads,
    ring: Ring,
    flush_failure: OnceLock<String>,
    opened: Instant,
    /// Microseconds after `opened` until which writes are not made inline.
    slow_until: AtomicU64,
}

impl Disk {
    /// A disk on this store. `name` is for its threads' names, of which the system shows 15 characters.
    pub fn new(name: &str, media: Arc<dyn Media>) -> Arc<Self> {
        Self::on(name, media, Ring::new())
    }

    fn on(name: &str, media: Arc<dyn Media>, ring: Ring) -> Arc<Self> {
        Arc::new(Self {
            media,
            threads: Threads::new(name, THREADS),
            ring,
            flush_failure: OnceLock::new(),
            opened: Instant::now(),
            slow_until: AtomicU64::new(0),
        })
    }

    /// The store underneath, for calls that may wait.
    pub fn media(&self) -> &Arc<dyn Media> {
        &self.media
    }

    /// Why flushes fail, if one has failed.
    pub fn flush_failure(&self) -> Option<&str> {
        self.flush_failure.get().map(String::as_str)
    }

    /// Reads into `buffer` if that needs no waiting.
    pub fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Fast<()> {
        if buffer.len() > INLINE_READ_LIMIT {
            Fast::Later
        } else {
            self.media.try_read_at(offset, buffer)
        }
    }

    /// Fills `buffer` and gives it back.
    pub fn read(self: &Arc<Self>, offset: u64, buffer: Buffer) -> IoFuture<Buffer> {
        let length = buffer.len();
        match self.ring.read(&self.media, offset, buffer) {
            Ok(done) => {
                let disk = self.clone();
                Box::pin(async move {
                    match done.await {
                        Some(buffer) => Ok(buffer),
                        None => disk.read_on_a_thread(offset, Buffer::new(length)).await,
                    }
                })
            }
            Err(buffer) => self.read_on_a_thread(offset, buffer),
        }
    }

    fn read_on_a_thread(&self, offset: u64, mut buffer: Buffer) -> IoFuture<Buffer> {
        let media = self.media.clone();
        self.run(move || {
            media.read_at(offset, &mut buffer)?;
            Ok(buffer)
        })
    }

    /// Writes if that needs no waiting.
    pub fn try_write(&self, offset: u64, data: &[u8], fua: bool) -> Fast<()> {
        if self.media.never_waits() && data.len() <= INLINE_READ_LIMIT {
            return Fast::Done(self.write_now(offset, data, fua));
        }
        if fua || data.len() > INLINE_WRITE_LIMIT || !self.media.caches_writes() || self.is_slow() {
            return Fast::Later;
        }
        let begun = Instant::now();
        let result = self.media.write_at(offset, data, false);
        if begun.elapsed() > SLOW_WRITE {
            let until = begun + SLOW_PERIOD - self.opened;
            self.slow_until.store(until.as_micros() as u64, Ordering::Relaxed);
        }
        Fast::Done(result)
    }

    /// Writes `data`; with `fua` it is stable at the end.
    pub fn write(self: &Arc<Self>, offset: u64, data: Bytes, fua: bool) -> IoFuture<()> {
        let disk = self.clone();
        // A stable write that fails says something about all earlier ones: one place knows that.
        let begun = (!fua)
            .then(|| self.ring.write(&self.media, offset, &data))
            .flatten();
        match begun {
            Some(done) => Box::pin(async move {
                if done.await {
                    return Ok(());
                }
                let again = disk.clone();
                disk.run(move || again.write_now(offset, &data, false)).await
            }),
            None => self.run(move || disk.write_now(offset, &data, fua)),
        }
    }

    /// Makes everything written so far stable.
    pub fn flush(self: &Arc<Self>) -> IoFuture<()> {
        if self.media.never_waits() {
            return Box::pin(std::future::ready(self.flush_now()));
        }
        let disk = self.clone();
        self.run(move || disk.flush_now())
    }

    /// The range reads as zeros; with `unmap` its space is given back; with `fua` that is stable at the end.
    pub fn zero(self: &Arc<Self>, offset: u64, length: u64, unmap: bool, fua: bool) -> IoFuture<()> {
        let disk = self.clone();
        self.run(move || {
            if unmap {
                disk.media.punch(offset, length)?;
            } else {
                disk.media.zero(offset, length)?;
            }
            if fua { disk.flush_now() } else { Ok(()) }
        })
    }

    /// What is data and what is a hole; see [`Media::extents`].
    pub fn extents(self: &Arc<Self>, offset: u64, limit: usize) -> IoFuture<Vec<Extent>> {
        let media = self.media.clone();
        self.run(move || media.extents(offset, limit))
    }

    /// What is allocated, and how much more there is.
    pub fn space(self: &Arc<Self>) -> IoFuture<Option<Space>> {
        let media = self.media.clone();
        self.run(move || Ok(media.space()))
    }

    /// Copies so many bytes from `offset` to a place of another disk, or of this one where the two do not overlap; holes become
    /// holes. [`IoError::Read`] is this disk's failure, every other the destination's. Nothing is flushed.
    pub fn copy_to(
        self: &Arc<Self>,
        offset: u64,
        (to, at): (&Arc<Self>, u64),
        length: u64,
    ) -> IoFuture<Copied> {
        let (from, destination) = (self.media.clone(), to.media.clone());
        self.run(move || copy_range((&*from, offset), (&*destination, at), length))
    }

    /// Changes the size; new bytes read as zeros.
    pub fn set_length(self: &Arc<Self>, length: u64) -> IoFuture<()> {
        let media = self.media.clone();
        self.run(move || media.set_length(length))
    }

    /// Begins a call that may wait, now; it is made to its end whether or not that is waited for.
    fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, IoError> + Send + 'static,
    ) -> IoFuture<T> {
        let Some(turn) = self.media.turn() else {
            return Box::pin(self.threads.run(call));
        };
        let made = tokio::spawn(async move {
            turn.await;
            call()
        });
        Box::pin(async move {
            let died = |error| IoError::Internal(format!("a call to a disk died: {error}"));
            made.await.unwrap_or_else(|error| Err(died(error)))
        })
    }

    fn write_now(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), IoError> {
        if !fua {
            return self.media.write_at(offset, data, false);
        }
        self.refuse_after_failure()?;
        let written = self.media.write_at(offset, data, true);
        written.inspect_err(|error| {
            // A file system finds out that it is full before anything is promised, and then takes no other write there either. But a thin
            // device behind the cache can be the one that is full, and then it may have lost other writes with this one.
            let refused =
                matches!(error, IoError::NoSpace { .. }) && self.media.write_at(offset, data, false).is_err();
            if !refused {
                self.remember(error);
            }
        })
    }

    fn flush_now(&self) -> Result<(), IoError> {
        self.refuse_after_failure()?;
        self.media.flush().inspect_err(|error| self.remember(error))
    }

    fn refuse_after_failure(&self) -> Result<(), IoError> {
        let Some(failure) = self.flush_failure.get() else {
            return Ok(());
        };
        let reason = format!("an earlier flush failed ({failure}); what it should have stored may be lost");
        Err(IoError::Write { offset: 0, reason })
    }

    fn remember(&self, error: &IoError) {
        if self.flush_failure.set(error.to_string()).is_ok() {
            tracing::error!(%error, "a flush failed: every later one will, until the volume is opened anew");
        }
    }

    /// Did a write at once take long a short while ago? Then the next may, too.
    pub fn is_slow(&self) -> bool {
        let until = self.slow_until.load(Ordering::Relaxed);
        until != 0 && (self.opened.elapsed().as_micros() as u64) < until
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Disk({} bytes)", self.media.length())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::MemoryMedia;

    /// O13.
    #[tokio::test]
    async fn a_failed_flush_is_never_followed_by_one_that_succeeds() {
        let (media, faults) = MemoryMedia::with_faults(1 << 20);
        let disk = Disk::new("test", Arc::new(media));
        assert_eq!(disk.flush().await, Ok(()));
        faults.fail_flushes(true);
        assert!(disk.flush().await.is_err());
        faults.heal();
        assert!(
            disk.flush().await.is_err(),
            "the data may be lost although the device works again"
        );
        assert!(
            disk.write(0, Bytes::from_static(&[1; 512]), true).await.is_err(),
            "stable writes promise the same"
        );
        assert_eq!(disk.write(0, Bytes::from_static(&[1; 512]), false).await, Ok(()));
        assert!(disk.flush_failure().is_some());
    }

    #[tokio::test]
    async fn a_full_store_is_no_failed_flush_but_a_full_device_behind_the_cache_is() {
        let (media, faults) = MemoryMedia::with_faults(1 << 20);
        let disk = Disk::new("test", Arc::new(media));
        let data = Bytes::from_static(&[1; 512]);
        faults.fill_up_from(0);
        let full = Err(IoError::NoSpace { offset: 0 });
        assert_eq!(disk.write(0, data.clone(), true).await, full);
        faults.heal();
        assert_eq!(disk.flush().await, Ok(()), "nothing was promised");
        faults.lack_space_below(true);
        assert_eq!(disk.write(0, data, true).await, full);
        faults.heal();
        assert!(disk.flush().await.is_err(), "earlier writes may be lost with it");
    }

    #[tokio::test]
    async fn a_slow_disk_does_nothing_inline() {
        let (media, faults) = MemoryMedia::with_faults(1 << 20);
        let disk = Disk::new("test", Arc::new(media));
        let mut buffer = Buffer::new(512);
        assert!(matches!(disk.try_read(0, &mut buffer), Fast::Done(Ok(()))));
        faults.be_slow(true);
        assert!(matches!(disk.try_read(0, &mut buffer), Fast::Later));
        assert!(matches!(disk.try_write(0, &buffer, true), Fast::Later));
        assert_eq!(disk.read(0, buffer).await.unwrap().len(), 512);
    }

    #[tokio::test]
    async fn a_copy_says_whose_fault_it_is() {
        let (from, from_faults) = MemoryMedia::with_faults(1 << 20);
        let (to, to_faults) = MemoryMedia::with_faults(1 << 20);
        let (from, to) = (Disk::new("from", Arc::new(from)), Disk::new("to", Arc::new(to)));
        from.write(65536, Bytes::from(vec![9; 8192]), false)
            .await
            .unwrap();
        let copied = Copied {
            data: 8192,
            hole_ahead: 0,
        };
        assert_eq!(from.copy_to(0, (&to, 0), 1 << 20).await, Ok(copied));
        let copied = from.copy_to(65536, (&to, 65536), 16384).await.unwrap();
        assert_eq!(copied.hole_ahead, (1 << 20) - 65536 - 16384);
        from_faults.fail_reads(69632..69633);
        assert!(matches!(
            from.copy_to(0, (&to, 0), 1 << 20).await,
            Err(IoError::Read { offset: 69632, .. })
        ));
        from_faults.heal();
        to_faults.fill_up_from(65536);
        assert_eq!(
            from.copy_to(65536, (&to, 65536), 8192).await,
            Err(IoError::NoSpace { offset: 65536 })
        );
    }
}
