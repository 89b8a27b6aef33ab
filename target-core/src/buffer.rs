//! Pooled data buffers: one per command in flight, never zeroed twice, handed back when idle.
//!
//! A fresh megabyte costs page faults and zeroing, measured at up to three times the copy it is for. So buffers go
//! round: a [`BufferPool`] keeps free ones by size class (powers of two from 4 KiB to 4 MiB) up to a limit of bytes,
//! and [`BufferPool::trim`] gives the unused ones back to the system when nothing happens.
//!
//! Large buffers are mapped, not allocated. An allocator that has once seen a block of 4 MiB freed takes such blocks from its
//! heaps from then on, and keeps up to twice as much on top of each of them; glibc has one for each thread that met another.
//!
//! The content of a buffer that comes from the pool is whatever its last user left. That never leaves the process:
//! everything that takes a buffer fills all of it (a read that fails gives no data).

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use std::sync::Mutex;

use bytes::Bytes;
use memmap2::MmapMut;

/// Buffers start at a multiple of this.
pub const ALIGNMENT: usize = 4096;

/// From this length on, buffers are mapped.
const MAPPED: usize = 128 * 1024;

const SMALLEST_SHIFT: u32 = 12;
const LARGEST_SHIFT: u32 = 22;
const CLASSES: usize = (LARGEST_SHIFT - SMALLEST_SHIFT + 1) as usize;

/// An owned, aligned stretch of memory out of a pool; back it goes when dropped.
pub struct Buffer {
    /// `start + length` bytes or more, all initialized; `None` once it went back.
    memory: Option<Memory>,
    /// First aligned byte.
    start: usize,
    length: usize,
    /// The pool and the class to go back to; `None` for a buffer too large for the pool.
    home: Option<(Arc<Pool>, usize)>,
}

impl Buffer {
    /// A buffer of `length` bytes out of the process-wide pool; its content is arbitrary.
    pub fn new(length: usize) -> Self {
        BufferPool::shared().get(length)
    }

    /// A buffer of zeros.
    pub fn zeroed(length: usize) -> Self {
        let mut buffer = Self::new(length);
        buffer.fill(0);
        buffer
    }

    /// A buffer with a copy of `data`.
    pub fn copy_of(data: &[u8]) -> Self {
        let mut buffer = Self::new(data.len());
        buffer.copy_from_slice(data);
        buffer
    }

    /// Keeps the first `length` bytes. Longer than it is: nothing happens.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Shares the content read-only without a copy; the memory goes back to the pool with the last clone.
    pub fn freeze(self) -> Bytes {
        if self.length == 0 {
            return Bytes::new();
        }
        Bytes::from_owner(self)
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.memory {
            Some(memory) => &memory.bytes()[self.start..self.start + self.length],
            None => &[],
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Some(memory) => &mut memory.bytes_mut()[self.start..self.start + self.length],
            None => &mut [],
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.length)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let (Some((pool, class)), Some(memory)) = (self.home.take(), self.memory.take()) {
            pool.put(class, memory);
        }
    }
}

/// Free buffers by size class. Clones share one pool.
#[derive(Clone)]
pub struct BufferPool {
    pool: Arc<Pool>,
}

impl BufferPool {
    /// A pool that keeps at most `keep_bytes` of free memory; buffers in use do not count.
    pub fn new(keep_bytes: usize) -> Self {
        let classes = std::array::from_fn(|_| Mutex::new(Vec::new()));
        Self {
            pool: Arc::new(Pool {
                classes,
                kept: AtomicUsize::new(0),
                keep_bytes,
                idle: AtomicUsize::new(0),
            }),
        }
    }

    /// The pool of the process: keeps up to 64 MiB.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<BufferPool> = OnceLock::new();
        SHARED.get_or_init(|| Self::new(64 << 20))
    }

    /// A buffer of `length` bytes; its content is arbitrary.
    pub fn get(&self, length: usize) -> Buffer {
        let Some(class) = class_of(length) else {
            return aligned(Memory::new(length), length, None);
        };
        let memory = self
            .pool
            .take(class)
            .unwrap_or_else(|| Memory::new(class_size(class)));
        aligned(memory, length, Some((self.pool.clone(), class)))
    }

    /// Bytes of free memory it keeps now.
    pub fn kept_bytes(&self) -> usize {
        self.pool.kept.load(Ordering::Relaxed)
    }

    /// Gives back what was not used since the last call. Call it every few seconds.
    pub fn trim(&self) {
        self.pool.trim();
    }
}

impl std::fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BufferPool({} bytes free)", self.kept_bytes())
    }
}

/// The bytes of a buffer, wherever they lie.
enum Memory {
    Allocated(Vec<u8>),
    Mapped(MmapMut),
}

impl Memory {
    /// Room for `length` bytes from an aligned one on.
    fn new(length: usize) -> Self {
        if length >= MAPPED {
            // Without a mapping to be had there may still be room in a heap.
            if let Ok(pages) = MmapMut::map_anon(length) {
                return Self::Mapped(pages);
            }
        }
        Self::Allocated(vec![0; length + ALIGNMENT])
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Allocated(bytes) => bytes,
            Self::Mapped(pages) => pages,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Allocated(bytes) => bytes,
            Self::Mapped(pages) => pages,
        }
    }
}

struct Pool {
    classes: [Mutex<Vec<Memory>>; CLASSES],
    kept: AtomicUsize,
    keep_bytes: usize,
    /// The least that was free since the last trim: memory nobody needed in between.
    idle: AtomicUsize,
}

impl Pool {
    fn take(&self, class: usize) -> Option<Memory> {
        let memory = lock(&self.classes[class]).pop()?;
        let length = memory.bytes().len();
        let left = self.kept.fetch_sub(length, Ordering::Relaxed) - length;
        self.idle.fetch_min(left, Ordering::Relaxed);
        Some(memory)
    }

    fn put(&self, class: usize, memory: Memory) {
        let length = memory.bytes().len();
        if self.kept.fetch_add(length, Ordering::Relaxed) + length > self.keep_bytes {
            self.kept.fetch_sub(length, Ordering::Relaxed);
            return;
        }
        lock(&self.classes[class]).push(memory);
    }

    fn trim(&self) {
        let mut surplus = self.idle.load(Ordering::Relaxed);
        for class in self.classes.iter().rev() {
            let mut free = lock(class);
            while surplus > 0 {
                let Some(memory) = free.pop() else { break };
                let length = memory.bytes().len();
                surplus = surplus.saturating_sub(length);
                self.kept.fetch_sub(length, Ordering::Relaxed);
            }
            if free.is_empty() {
                free.shrink_to_fit();
            }
        }
        self.idle
            .store(self.kept.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn aligned(memory: Memory, length: usize, home: Option<(Arc<Pool>, usize)>) -> Buffer {
    let bytes = memory.bytes();
    let start = bytes.as_ptr().align_offset(ALIGNMENT);
    // `align_offset` may in theory decline; alignment is an optimisation, the length is not.
    let start = if start + length <= bytes.len() { start } else { 0 };
    Buffer {
        memory: Some(memory),
        start,
        length,
        home,
    }
}

/// The smallest class that holds `length` bytes; `None` beyond the largest.
fn class_of(length: usize) -> Option<usize> {
    let shift = length
        .max(1)
        .checked_next_power_of_two()?
        .trailing_zeros()
        .max(SMALLEST_SHIFT);
    (shift <= LARGEST_SHIFT).then_some((shift - SMALLEST_SHIFT) as usize)
}

fn class_size(class: usize) -> usize {
    1 << (SMALLEST_SHIFT as usize + class)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_of_the_length_asked_for() {
        let pool = BufferPool::new(1 << 20);
        for length in [0, 1, 512, 4096, 4097, 65536, 1 << 22, (1 << 22) + 1] {
            let buffer = pool.get(length);
            assert_eq!(buffer.len(), length);
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0, "length {length}");
        }
    }

    #[test]
    fn memory_goes_round_and_the_limit_holds() {
        let pool = BufferPool::new(100_000);
        let first = pool.get(60_000);
        let address = first.as_ptr();
        drop(first);
        assert!(pool.kept_bytes() > 60_000);
        let again = pool.get(50_000);
        assert_eq!(again.as_ptr(), address, "the same memory is used again");
        let other = pool.get(50_000);
        drop(again);
        drop(other);
        assert!(pool.kept_bytes() <= 100_000);
    }

    #[test]
    fn frozen_memory_returns_with_the_last_clone() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.get(4096);
        buffer.fill(7);
        let bytes = buffer.freeze();
        let part = bytes.slice(100..200);
        drop(bytes);
        assert_eq!(pool.kept_bytes(), 0);
        assert!(part.iter().all(|&byte| byte == 7));
        drop(part);
        assert!(pool.kept_bytes() >= 4096);
    }

    #[test]
    fn trim_keeps_what_was_used_and_frees_what_was_not() {
        let pool = BufferPool::new(1 << 20);
        let (a, b) = (pool.get(65536), pool.get(65536));
        drop((a, b));
        pool.trim();
        drop(pool.get(65536));
        pool.trim();
        assert!(pool.kept_bytes() < 2 * 65536, "one of two was idle");
        assert!(pool.kept_bytes() > 0, "one of two was used");
        pool.trim();
        pool.trim();
        assert_eq!(pool.kept_bytes(), 0);
    }
}
