//! The lock table of a family of volumes: shared and exclusive locks of ranges of tracks.
//!
//! # How it works
//!
//! All requests stand in one line. A request is granted when nothing *ahead of it in the line* conflicts with it: overlaps
//! it, one of the two being exclusive. A grant does not leave the line; a release does. That single rule gives
//! everything docs/engine.md asks for:
//!
//! - two holders never conflict, for one of them is ahead of the other;
//! - requests that conflict are served in the order they came, and a stream of readers cannot starve a writer, since a
//!   reader behind a waiting writer waits too;
//! - a request waits only for those ahead of it, so there is no circle of waiting: no deadlock;
//! - a range is granted whole or not at all, so nobody holds a part while he waits for the rest.
//!
//! Each request keeps the number of conflicting ones ahead of it, and is granted when that reaches 0. Whoever leaves
//! takes one off every conflicting request behind him. Nothing is searched but the neighbours that overlap.
//!
//! A conversion from shared to exclusive leaves the line and enters it again ahead of all that wait, behind those that
//! hold and behind earlier conversions. It holds nothing while it waits, so two that convert at once get their turns
//! one after the other; whoever was granted must look at the marks again, for somebody may have been there in between.
//!
//! Ranges are found by length class: class `k` holds ranges of `2^k` tracks at most, sorted by start. What overlaps a
//! range starts, in each class, less than `2^k` before it or within it. Host I/O is of a few classes, and a WRITE SAME of a
//! whole volume is one entry of a high class instead of a million buckets.

#[cfg(test)]
mod tests;

use crate::track::TrackRange;
use std::collections::{BTreeMap, BTreeSet};

/// Who asks for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockId(pub u64);

/// How a range is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Together with other shared locks.
    Shared,
    /// Alone.
    Exclusive,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    range: TrackRange,
    mode: Mode,
    converting: bool,
    /// Counts requests as they enter the line.
    arrival: u64,
    /// Conflicting requests ahead in the line.
    blockers: usize,
}

impl Request {
    fn holds(&self) -> bool {
        self.blockers == 0
    }

    fn conflicts(&self, other: &Self) -> bool {
        self.range.overlaps(other.range) && (self.mode == Mode::Exclusive || other.mode == Mode::Exclusive)
    }

    /// Those that hold, then conversions, then the others, each in the order they came.
    fn place(&self) -> (bool, bool, u64) {
        (!self.holds(), !self.converting, self.arrival)
    }
}

/// The locks of one family.
#[derive(Debug, Clone, Default)]
pub struct LockTable {
    requests: BTreeMap<LockId, Request>,
    /// By length class: start and name.
    classes: BTreeMap<u32, BTreeSet<(u64, LockId)>>,
    arrivals: u64,
}

impl LockTable {
    /// No locks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests held and waiting.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Nobody holds or waits.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Does this request hold its range now?
    pub fn holds(&self, id: LockId) -> bool {
        self.requests.get(&id).is_some_and(Request::holds)
    }

    /// Does anybody hold or wait for one of these tracks?
    pub fn touches(&self, range: TrackRange) -> bool {
        !self.overlapping(range).is_empty()
    }

    /// Asks for a range; `true` when it is granted at once, otherwise a later call will name it.
    ///
    /// # Panics
    /// When `id` is in the table already or the range is empty: both are errors of the caller's bookkeeping.
    pub fn request(&mut self, id: LockId, range: TrackRange, mode: Mode) -> bool {
        assert!(!range.is_empty(), "a lock has at least a track");
        let mut request = Request {
            range,
            mode,
            converting: false,
            arrival: self.next_arrival(),
            blockers: 0,
        };
        // Everybody is ahead of a newcomer.
        let ahead = self.overlapping(range);
        request.blockers = ahead
            .iter()
            .filter(|other| self.requests[other].conflicts(&request))
            .count();
        self.insert(id, request);
        request.holds()
    }

    /// Leaves: gives up the lock, or the place in the line. Those who are granted their ranges by this are appended
    /// to `granted`, in the order of the line.
    ///
    /// # Panics
    /// When `id` is not in the table.
    pub fn release(&mut self, id: LockId, granted: &mut Vec<LockId>) {
        let gone = self.remove(id);
        let first_new = granted.len();
        for other in self.overlapping(gone.range) {
            let request = self.request_mut(other);
            if request.conflicts(&gone) && request.place() > gone.place() {
                request.blockers -= 1;
                if request.holds() {
                    granted.push(other);
                }
            }
        }
        granted[first_new..].sort_by_key(|id| self.requests[id].place());
    }

    /// Turns a shared lock that is held into a request for an exclusive one of the same range, ahead of all that wait
    /// but earlier conversions. `true` when it is granted at once, with nobody in between. An earlier conversion
    /// that waited for this reader may be granted by it: it is appended to `granted`.
    ///
    /// # Panics
    /// When `id` does not hold a shared lock.
    pub fn upgrade(&mut self, id: LockId, granted: &mut Vec<LockId>) -> bool {
        assert!(self.holds(id), "only a holder converts");
        let reader = self.remove(id);
        assert_eq!(reader.mode, Mode::Shared, "only a shared lock is converted");
        let mut writer = Request {
            mode: Mode::Exclusive,
            converting: true,
            arrival: self.next_arrival(),
            ..reader
        };
        let first_new = granted.len();
        for other in self.overlapping(reader.range) {
            let request = self.request_mut(other);
            if request.holds() {
                writer.blockers += 1;
            } else if request.converting {
                // It is exclusive: the reader was in its way, and it is in the writer's.
                writer.blockers += 1;
                request.blockers -= 1;
                if request.holds() {
                    granted.push(other);
                }
            } else if request.mode == Mode::Shared {
                // The reader was not in its way, the writer is. (For an exclusive one, one takes the other's place.)
                request.blockers += 1;
            }
        }
        granted[first_new..].sort_by_key(|id| self.requests[id].place());
        self.insert(id, writer);
        writer.holds()
    }

    fn insert(&mut self, id: LockId, request: Request) {
        let known = self.requests.insert(id, request);
        assert!(known.is_none(), "a lock is named once");
        self.classes
            .entry(class(request.range))
            .or_default()
            .insert((request.range.start, id));
    }

    fn remove(&mut self, id: LockId) -> Request {
        let request = self
            .requests
            .remove(&id)
            .expect("the caller names a lock it asked for");
        let key = class(request.range);
        if let Some(members) = self.classes.get_mut(&key) {
            members.remove(&(request.range.start, id));
            if members.is_empty() {
                self.classes.remove(&key);
            }
        }
        request
    }

    fn request_mut(&mut self, id: LockId) -> &mut Request {
        self.requests
            .get_mut(&id)
            .expect("the classes name only what is in the table")
    }

    fn overlapping(&self, range: TrackRange) -> Vec<LockId> {
        let mut found = Vec::new();
        for (class, members) in &self.classes {
            let longest = 1u64.checked_shl(*class).unwrap_or(u64::MAX);
            let from = (range.start.saturating_sub(longest - 1), LockId(0));
            for (_, id) in members.range(from..(range.end, LockId(0))) {
                if self.requests[id].range.overlaps(range) {
                    found.push(*id);
                }
            }
        }
        found
    }

    fn next_arrival(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }
}

/// Ranges of class `k` have `2^(k-1)` tracks, exclusive, to `2^k`, inclusive.
fn class(range: TrackRange) -> u32 {
    range.len().next_power_of_two().trailing_zeros()
}
