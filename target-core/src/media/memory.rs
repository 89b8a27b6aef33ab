//! Memory as a store: sparse, so that a volume of 16 TiB costs what was written to it.
//!
//! Pages of 4 KiB lie in shards, each behind its own lock; a bit a sector says what was written, so that holes are
//! exact to 512 bytes. For tests a store made with [`MemoryMedia::with_faults`] fails where and when it is told to.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Condvar, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::Media;
use crate::volume::{Extent, Fast, IoError};

const PAGE: u64 = 4096;
const SECTOR: u64 = 512;
/// Neighbouring pages share a shard, so that an I/O takes few locks.
const PAGES_PER_RUN: u64 = 64;
const SHARDS: usize = 32;

/// See the module's page.
#[derive(Debug)]
pub struct MemoryMedia {
    length: AtomicU64,
    shards: [RwLock<BTreeMap<u64, Page>>; SHARDS],
    faults: Option<Arc<Faults>>,
}

#[derive(Debug)]
struct Page {
    data: Box<[u8; PAGE as usize]>,
    /// One bit a sector: written and not punched since.
    written: u8,
}

impl MemoryMedia {
    /// A store of `length` bytes, all holes.
    pub fn new(length: u64) -> Self {
        Self {
            length: AtomicU64::new(length),
            shards: std::array::from_fn(|_| RwLock::default()),
            faults: None,
        }
    }

    /// The same, with a handle to make it fail.
    pub fn with_faults(length: u64) -> (Self, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        (
            Self {
                faults: Some(faults.clone()),
                ..Self::new(length)
            },
            faults,
        )
    }

    /// Bytes of memory its pages take.
    pub fn allocated_bytes(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| read(shard).len() as u64 * PAGE)
            .sum()
    }

    fn shard(&self, page: u64) -> &RwLock<BTreeMap<u64, Page>> {
        &self.shards[(page / PAGES_PER_RUN % SHARDS as u64) as usize]
    }

    /// Zeros the range and lets the pages count as written.
    fn fill_with_zeros(&self, offset: u64, length: u64) {
        for run in runs(offset, length) {
            let mut shard = write(self.shard(run.start / PAGE));
            for page in run.start / PAGE..run.end.div_ceil(PAGE) {
                let inside = within(page, &run);
                let entry = shard.entry(page).or_insert_with(Page::hole);
                entry.data[inside.clone()].fill(0);
                entry.written |= sectors_touched(&inside);
            }
        }
    }

    /// Makes the range a hole. Only pages that are there cost anything, so 16 TiB of holes are punched at once.
    fn clear(&self, offset: u64, length: u64) {
        let range = offset..offset + length;
        for shard in &self.shards {
            let mut shard = write(shard);
            let mut empty = Vec::new();
            for (&page, entry) in shard.range_mut(range.start / PAGE..range.end.div_ceil(PAGE)) {
                let inside = within(page, &range);
                entry.data[inside.clone()].fill(0);
                entry.written &= !sectors_covered(&inside);
                if entry.written == 0 {
                    empty.push(page);
                }
            }
            for page in empty {
                shard.remove(&page);
            }
        }
    }

    /// First written byte at or after `offset`; none is `length`.
    fn find_data(&self, offset: u64, length: u64) -> u64 {
        let mut at = offset;
        while at < length {
            let next = self.shards.iter().filter_map(|shard| {
                read(shard)
                    .range(at / PAGE..)
                    .next()
                    .map(|(&page, entry)| (page, entry.written))
            });
            let Some((page, written)) = next.min() else { break };
            at = at.max(page * PAGE);
            let sector = at % PAGE / SECTOR;
            let ahead = written >> sector;
            if ahead != 0 {
                let found = (at / SECTOR + u64::from(ahead.trailing_zeros())) * SECTOR;
                return found.max(at).min(length);
            }
            at = (page + 1) * PAGE;
        }
        length
    }

    /// First byte at or after `offset` that is a hole; none is `length`.
    fn find_hole(&self, offset: u64, length: u64) -> u64 {
        let mut at = offset;
        while at < length {
            let page = at / PAGE;
            let written = read(self.shard(page)).get(&page).map_or(0, |entry| entry.written);
            let ahead = !written >> (at % PAGE / SECTOR);
            if ahead != 0 {
                let found = (at / SECTOR + u64::from(ahead.trailing_zeros())) * SECTOR;
                return found.max(at).min(length);
            }
            at = (page + 1) * PAGE;
        }
        length
    }

    fn check(&self, fault: impl FnOnce(&Faults) -> Result<(), IoError>) -> Result<(), IoError> {
        self.faults.as_deref().map_or(Ok(()), fault)
    }
}

impl Media for MemoryMedia {
    fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    fn set_length(&self, length: u64) -> Result<(), IoError> {
        let before = self.length.swap(length, Ordering::AcqRel);
        if length < before {
            self.clear(length, before - length);
        }
        Ok(())
    }

    fn never_waits(&self) -> bool {
        self.faults
            .as_deref()
            .is_none_or(|faults| !faults.slow.load(Ordering::Relaxed))
    }

    fn caches_writes(&self) -> bool {
        self.never_waits()
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> Fast<()> {
        if self.never_waits() {
            Fast::Done(self.read_at(offset, buffer))
        } else {
            Fast::Later
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), IoError> {
        self.check(|faults| faults.reading(offset, buffer.len() as u64))?;
        for run in runs(offset, buffer.len() as u64) {
            let shard = read(self.shard(run.start / PAGE));
            for page in run.start / PAGE..run.end.div_ceil(PAGE) {
                let inside = within(page, &run);
                let start = (page * PAGE + inside.start as u64 - offset) as usize;
                let target = &mut buffer[start..start + inside.len()];
                match shard.get(&page) {
                    Some(page) => target.copy_from_slice(&page.data[inside]),
                    None => target.fill(0),
                }
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8], durable: bool) -> Result<(), IoError> {
        self.check(|faults| faults.writing(offset, data.len() as u64))?;
        for run in runs(offset, data.len() as u64) {
            let mut shard = write(self.shard(run.start / PAGE));
            for page in run.start / PAGE..run.end.div_ceil(PAGE) {
                let inside = within(page, &run);
                let start = (page * PAGE + inside.start as u64 - offset) as usize;
                let entry = shard.entry(page).or_insert_with(Page::hole);
                entry.data[inside.clone()].copy_from_slice(&data[start..start + inside.len()]);
                entry.written |= sectors_touched(&inside);
            }
        }
        if durable {
            self.check(|faults| faults.stabilizing(offset))?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), IoError> {
        self.check(Faults::flushing)
    }

    fn punch(&self, offset: u64, length: u64) -> Result<(), IoError> {
        self.check(|faults| faults.writing(offset, length))?;
        self.clear(offset, length);
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64) -> Result<(), IoError> {
        self.check(|faults| faults.writing(offset, length))?;
        self.fill_with_zeros(offset, length);
        Ok(())
    }

    fn extents(&self, offset: u64, limit: usize) -> Result<Vec<Extent>, IoError> {
        self.check(|faults| faults.reading(offset, 1))?;
        let length = self.length();
        let mut extents = Vec::new();
        let mut at = offset;
        while at < length && extents.len() < limit {
            let data = self.find_data(at, length);
            let mapped = data == at;
            let end = if mapped { self.find_hole(at, length) } else { data };
            extents.push(Extent {
                offset: at,
                length: end - at,
                mapped,
            });
            at = end;
        }
        Ok(extents)
    }
}

impl Page {
    fn hole() -> Self {
        Self {
            data: Box::new([0; PAGE as usize]),
            written: 0,
        }
    }
}

/// What a store made with [`MemoryMedia::with_faults`] does wrong.
#[derive(Debug, Default)]
pub struct Faults {
    reads: Mutex<Vec<Range<u64>>>,
    writes: Mutex<Vec<Range<u64>>>,
    full_from: Mutex<Option<u64>>,
    flush_fails: AtomicBool,
    lacks_space_below: AtomicBool,
    slow: AtomicBool,
    holds_writes: Mutex<bool>,
    released: Condvar,
}

impl Faults {
    /// Reads that touch the range fail from now on.
    pub fn fail_reads(&self, range: Range<u64>) {
        lock(&self.reads).push(range);
    }

    /// Writes that touch the range fail from now on.
    pub fn fail_writes(&self, range: Range<u64>) {
        lock(&self.writes).push(range);
    }

    /// Writes at or beyond this byte find no space.
    pub fn fill_up_from(&self, offset: u64) {
        *lock(&self.full_from) = Some(offset);
    }

    /// Flushes fail while set.
    pub fn fail_flushes(&self, fail: bool) {
        self.flush_fails.store(fail, Ordering::Relaxed);
    }

    /// The device behind the cache has no space while set: it takes writes, and cannot make them stable.
    pub fn lack_space_below(&self, lack: bool) {
        self.lacks_space_below.store(lack, Ordering::Relaxed);
    }

    /// Nothing is done inline while set: every I/O takes the way of a slow disk.
    pub fn be_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::Relaxed);
    }

    /// Writes wait while set, as on a disk that hangs; the store is slow from then on, so that nobody waits inline.
    pub fn hold_writes(&self, hold: bool) {
        self.be_slow(true);
        *lock(&self.holds_writes) = hold;
        self.released.notify_all();
    }

    /// Reads and writes work again.
    pub fn heal(&self) {
        lock(&self.reads).clear();
        lock(&self.writes).clear();
        *lock(&self.full_from) = None;
        self.fail_flushes(false);
        self.lack_space_below(false);
    }

    fn reading(&self, offset: u64, length: u64) -> Result<(), IoError> {
        match first_bad(&lock(&self.reads), offset, length) {
            Some(offset) => Err(IoError::Read {
                offset,
                reason: "planted fault".into(),
            }),
            None => Ok(()),
        }
    }

    fn writing(&self, offset: u64, length: u64) -> Result<(), IoError> {
        let held = self.released.wait_while(lock(&self.holds_writes), |held| *held);
        drop(held.unwrap_or_else(PoisonError::into_inner));
        if let Some(offset) = first_bad(&lock(&self.writes), offset, length) {
            return Err(IoError::Write {
                offset,
                reason: "planted fault".into(),
            });
        }
        match *lock(&self.full_from) {
            Some(full) if offset + length > full => Err(IoError::NoSpace {
                offset: offset.max(full),
            }),
            _ => Ok(()),
        }
    }

    fn stabilizing(&self, offset: u64) -> Result<(), IoError> {
        if self.lacks_space_below.load(Ordering::Relaxed) {
            return Err(IoError::NoSpace { offset });
        }
        Ok(())
    }

    fn flushing(&self) -> Result<(), IoError> {
        if self.flush_fails.load(Ordering::Relaxed) {
            return Err(IoError::Write {
                offset: 0,
                reason: "flush: planted fault".into(),
            });
        }
        Ok(())
    }
}

fn first_bad(bad: &[Range<u64>], offset: u64, length: u64) -> Option<u64> {
    let touched = bad
        .iter()
        .filter(|range| range.start < offset + length && offset < range.end);
    touched.map(|range| range.start.max(offset)).min()
}

/// The range, cut where the shard changes.
fn runs(offset: u64, length: u64) -> impl Iterator<Item = Range<u64>> {
    const RUN: u64 = PAGES_PER_RUN * PAGE;
    let end = offset + length;
    let mut at = offset;
    std::iter::from_fn(move || {
        let run = at..end.min((at / RUN + 1) * RUN);
        at = run.end;
        (!run.is_empty()).then_some(run)
    })
}

/// The part of a page that a range covers, as offsets into the page.
fn within(page: u64, range: &Range<u64>) -> Range<usize> {
    let start = page * PAGE;
    (range.start.max(start) - start) as usize..(range.end.min(start + PAGE) - start) as usize
}

fn sectors_touched(inside: &Range<usize>) -> u8 {
    let sector = SECTOR as usize;
    bits(inside.start / sector, inside.end.div_ceil(sector))
}

fn sectors_covered(inside: &Range<usize>) -> u8 {
    let sector = SECTOR as usize;
    bits(inside.start.div_ceil(sector), inside.end / sector)
}

fn bits(from: usize, to: usize) -> u8 {
    (from..to).fold(0, |bits, sector| bits | 1 << sector)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
