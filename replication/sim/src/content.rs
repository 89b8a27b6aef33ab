//! What a volume may hold, block by block: the oracle's memory.
//!
//! Each block has a history of writes with the time they began and ended. A read may find any stamp that no *sure* write
//! (one that was acknowledged) has surely replaced: one that began after the stamp's own write had ended. So of writes
//! that overlap in time, any may be the last, and one that was never acknowledged may have happened or not. After a power
//! failure only writes that are *stable* (flushed, or FUA) replace surely; what they do not replace may come back.

use crate::disk::Stamp;
use std::ops::Range;

/// A moment. Every event of a run has its own.
pub type Time = u64;

const NEVER: Time = Time::MAX;
/// Stands for every stamp.
const ANYTHING: Stamp = Stamp::MAX;

/// One write to one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    stamp: Stamp,
    began: Time,
    ended: Time,
    /// It was acknowledged: it did happen.
    sure: bool,
    /// And it cannot be lost any more.
    stable: bool,
}

/// The possible content of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    blocks: Vec<Vec<Entry>>,
}

impl Content {
    /// Exactly these stamps, since before the beginning.
    pub fn new(stamps: &[Stamp]) -> Self {
        let block = |stamp: &Stamp| {
            vec![Entry {
                stamp: *stamp,
                began: 0,
                ended: 0,
                sure: true,
                stable: true,
            }]
        };
        Self {
            blocks: stamps.iter().map(block).collect(),
        }
    }

    /// A write of a stamp to a block begins.
    pub fn begin(&mut self, block: usize, stamp: Stamp, now: Time) {
        self.blocks[block].push(Entry {
            stamp,
            began: now,
            ended: NEVER,
            sure: false,
            stable: false,
        });
    }

    /// That write is acknowledged.
    pub fn acknowledge(&mut self, block: usize, stamp: Stamp, stable: bool, now: Time) {
        for entry in self.in_flight(block, stamp) {
            (entry.ended, entry.sure, entry.stable) = (now, true, stable);
        }
    }

    /// That write failed: it may have happened.
    pub fn fail(&mut self, block: usize, stamp: Stamp, now: Time) {
        for entry in self.in_flight(block, stamp) {
            entry.ended = now;
        }
    }

    /// That write was refused: it did not happen.
    pub fn refuse(&mut self, block: usize, stamp: Stamp) {
        self.blocks[block].retain(|entry| !(entry.stamp == stamp && entry.ended == NEVER));
    }

    /// A flush that began at `began` ended: what was acknowledged before is stable.
    pub fn flush(&mut self, began: Time) {
        for entry in self.blocks.iter_mut().flatten() {
            entry.stable |= entry.sure && entry.ended < began;
        }
    }

    /// May a read that began at `began` and ends now find this stamp?
    pub fn allows(&self, block: usize, stamp: Stamp, began: Time) -> bool {
        let entries = &self.blocks[block];
        let fits = |entry: &Entry| entry.stamp == stamp || entry.stamp == ANYTHING;
        entries
            .iter()
            .any(|entry| fits(entry) && !replaced(entry, entries, began, false))
    }

    /// The stamps that a read which began at `began` may find.
    pub fn possible(&self, block: usize, began: Time) -> Vec<Stamp> {
        let entries = &self.blocks[block];
        entries
            .iter()
            .filter(|entry| !replaced(entry, entries, began, false))
            .map(|entry| entry.stamp)
            .collect()
    }

    /// The image of this content at the time `now`: writes in flight may be in it or not, and never will be acknowledged
    /// there.
    #[must_use]
    pub fn image(&self, now: Time) -> Self {
        let mut image = self.clone();
        for entry in image.blocks.iter_mut().flatten() {
            entry.ended = entry.ended.min(now);
        }
        image
    }

    /// All of the volume is replaced by an image at the time `now`, by a restore or a split; the volume's own writes in flight may
    /// come before or after. Returns a time that is behind all times used.
    pub fn restore(&mut self, image: &Self, now: Time) -> Time {
        let mut last = now;
        for (own, new) in self.blocks.iter_mut().zip(&image.blocks) {
            own.retain(|entry| entry.ended == NEVER);
            // The image's writes keep their order, but all are made now: whatever is in flight here does not surely replace them.
            let mut times: Vec<Time> = new
                .iter()
                .flat_map(|entry| [entry.began, entry.ended.min(now)])
                .collect();
            times.sort_unstable();
            times.dedup();
            let moved = |time: Time| now + times.partition_point(|other| *other < time.min(now)) as Time;
            own.extend(new.iter().map(|entry| Entry {
                began: moved(entry.began),
                ended: moved(entry.ended),
                ..*entry
            }));
            last = last.max(now + times.len() as Time);
        }
        last + 1
    }

    /// One more stamp that a block may hold, from `now` on.
    pub fn also(&mut self, block: usize, stamp: Stamp, now: Time) {
        self.blocks[block].push(Entry {
            stamp,
            began: now,
            ended: now,
            sure: true,
            stable: false,
        });
    }

    /// The block holds the last of these versions since `now`; each of the others may come back with a power failure.
    pub fn versions(&mut self, block: usize, versions: impl Iterator<Item = Stamp>, now: Time) {
        let entries = &mut self.blocks[block];
        let entry = |stamp| Entry {
            stamp,
            began: 0,
            ended: 0,
            sure: true,
            stable: true,
        };
        *entries = versions.map(entry).collect();
        let only = entries.len() == 1;
        if let Some(last) = entries.last_mut() {
            (last.began, last.ended, last.stable) = (now, now, only);
        }
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// What the other content allows is possible as well.
    pub fn merge(&mut self, other: &Self) {
        for (own, more) in self.blocks.iter_mut().zip(&other.blocks) {
            own.extend(more);
        }
    }

    /// Whatever is found in these blocks from now on is right, until it is written over.
    pub fn anything(&mut self, blocks: Range<usize>, now: Time) {
        for block in &mut self.blocks[blocks] {
            block.push(Entry {
                stamp: ANYTHING,
                began: now,
                ended: now,
                sure: false,
                stable: false,
            });
        }
    }

    /// Keeps only the writes in flight.
    pub fn forget(&mut self) {
        for block in &mut self.blocks {
            block.retain(|entry| entry.ended == NEVER);
        }
    }

    /// The system stops: writes in flight will never be acknowledged.
    pub fn stop(&mut self, now: Time) {
        for entry in self.blocks.iter_mut().flatten() {
            entry.ended = entry.ended.min(now);
        }
    }

    /// Power fails, after [`Content::stop`]: what is not stable may be lost.
    pub fn lose_power(&mut self, now: Time) {
        for block in &mut self.blocks {
            let before = block.clone();
            block.retain(|entry| !replaced(entry, &before, now, true));
            for entry in block.iter_mut() {
                (entry.began, entry.ended, entry.sure, entry.stable) = (now, now, true, true);
            }
        }
    }

    /// A read found what the block holds now that the system was started again. After a power failure that is what it
    /// will hold; after a kill it may be only in a cache, and what was stable before may come back.
    pub fn settle(&mut self, block: usize, stamp: Stamp, power: bool, now: Time) {
        let entries = &mut self.blocks[block];
        let before = core::mem::take(entries);
        if !power {
            entries.extend(before.iter().filter(|entry| !replaced(entry, &before, now, true)));
            for entry in entries.iter_mut() {
                (entry.began, entry.ended, entry.sure, entry.stable) = (now - 1, now - 1, true, true);
            }
        }
        let stable = entries.iter().all(|entry| entry.stamp == stamp);
        entries.push(Entry {
            stamp,
            began: now,
            ended: now,
            sure: true,
            stable,
        });
    }

    /// Forgets writes that are surely and stably replaced for everybody who began at `oldest` or later.
    pub fn prune(&mut self, oldest: Time) {
        for block in self.blocks.iter_mut().filter(|block| block.len() > 4) {
            let before = block.clone();
            block.retain(|entry| !replaced(entry, &before, oldest, true));
        }
    }

    fn in_flight(&mut self, block: usize, stamp: Stamp) -> impl Iterator<Item = &mut Entry> {
        self.blocks[block]
            .iter_mut()
            .filter(move |entry| entry.stamp == stamp && entry.ended == NEVER)
    }
}

/// Has a sure (and, if asked, stable) write surely replaced this one, for a read that began at `began`?
fn replaced(entry: &Entry, all: &[Entry], began: Time, stably: bool) -> bool {
    all.iter().any(|other| {
        other.sure && (other.stable || !stably) && other.began > entry.ended && other.ended < began
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn possible(content: &Content, now: Time) -> Vec<Stamp> {
        let mut stamps = content.possible(0, now);
        stamps.sort_unstable();
        stamps.dedup();
        stamps
    }

    #[test]
    fn an_acknowledged_write_replaces_and_a_failed_one_may() {
        let mut content = Content::new(&[1]);
        content.begin(0, 2, 10);
        assert_eq!(possible(&content, 11), [1, 2]);
        content.acknowledge(0, 2, false, 12);
        assert_eq!(possible(&content, 13), [2]);
        assert!(
            content.allows(0, 1, 11),
            "a read that began before the answer may have been served before"
        );
        content.begin(0, 3, 20);
        content.fail(0, 3, 21);
        assert_eq!(possible(&content, 22), [2, 3]);
        content.begin(0, 4, 23);
        content.refuse(0, 4);
        assert_eq!(possible(&content, 25), [2, 3]);
    }

    #[test]
    fn of_writes_at_the_same_time_either_may_be_last() {
        let mut content = Content::new(&[1]);
        content.begin(0, 2, 10);
        content.begin(0, 3, 11);
        content.acknowledge(0, 3, false, 12);
        content.acknowledge(0, 2, false, 13);
        assert_eq!(possible(&content, 14), [2, 3]);
    }

    #[test]
    fn power_takes_what_was_not_flushed() {
        let mut content = Content::new(&[1]);
        for (stamp, began) in [(2, 10), (3, 20), (4, 30)] {
            content.begin(0, stamp, began);
            content.acknowledge(0, stamp, false, began + 5);
            if stamp == 2 {
                content.flush(18);
            }
        }
        content.stop(40);
        content.lose_power(40);
        assert_eq!(possible(&content, 41), [2, 3, 4]);
    }

    #[test]
    fn what_a_kill_left_in_a_cache_may_still_be_lost() {
        let mut content = Content::new(&[1]);
        content.begin(0, 2, 10);
        content.acknowledge(0, 2, false, 11);
        content.stop(20);
        assert_eq!(possible(&content, 21), [2]);
        content.settle(0, 2, false, 22);
        assert_eq!(possible(&content, 23), [2]);
        content.stop(30);
        content.lose_power(30);
        assert_eq!(possible(&content, 31), [1, 2]);
        content.settle(0, 2, true, 32);
        content.lose_power(33);
        assert_eq!(possible(&content, 34), [2]);
    }

    #[test]
    fn a_restore_is_a_write_of_the_image() {
        let mut primary = Content::new(&[1]);
        let mut mirror = Content::new(&[2]);
        mirror.begin(0, 3, 5);
        mirror.acknowledge(0, 3, false, 6);
        primary.begin(0, 4, 8);
        let after = primary.restore(&mirror.image(10), 10);
        assert_eq!(possible(&primary, after), [3, 4]);
        primary.acknowledge(0, 4, false, after);
        assert_eq!(
            possible(&primary, after + 1),
            [3, 4],
            "the write may have come before the restore"
        );
        primary.begin(0, 5, after + 2);
        primary.acknowledge(0, 5, true, after + 3);
        assert_eq!(possible(&primary, after + 4), [5]);
        let mut powerless = primary.clone();
        powerless.lose_power(after + 5);
        assert_eq!(possible(&powerless, after + 6), [5]);
    }
}
