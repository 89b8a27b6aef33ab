//! A disk with a volatile cache. What was written and not flushed survives a power failure in any subset, each block for
//! itself, and with any of the versions it had since the last flush.
//!
//! A block holds one number, its *stamp*, instead of bytes: each write of a host stamps its blocks with numbers that nobody
//! else uses, so that the oracle knows every block it sees.

use crate::rng::Rng;
use std::collections::BTreeMap;

/// What a block holds.
pub type Stamp = u64;

/// A disk.
#[derive(Debug, Clone)]
pub struct Disk {
    durable: Vec<Stamp>,
    /// Versions not known to be durable, oldest first, with the number of the write.
    cache: BTreeMap<usize, Vec<(u64, Stamp)>>,
    writes: u64,
}

impl Disk {
    /// A disk with this content, all of it durable.
    pub fn new(content: Vec<Stamp>) -> Self {
        Self {
            durable: content,
            cache: BTreeMap::new(),
            writes: 0,
        }
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.durable.len()
    }

    /// What a read finds.
    pub fn read(&self, block: usize) -> Stamp {
        self.cache
            .get(&block)
            .and_then(|versions| versions.last())
            .map_or(self.durable[block], |(_, stamp)| *stamp)
    }

    /// Every stamp that a read may find after a power failure.
    pub fn versions(&self, block: usize) -> impl Iterator<Item = Stamp> + '_ {
        let cached = self
            .cache
            .get(&block)
            .into_iter()
            .flatten()
            .map(|(_, stamp)| *stamp);
        core::iter::once(self.durable[block]).chain(cached)
    }

    /// Writes a block to the cache.
    pub fn write(&mut self, block: usize, stamp: Stamp) {
        self.writes += 1;
        self.cache.entry(block).or_default().push((self.writes, stamp));
    }

    /// A flush begins: what it covers is what was written so far.
    pub fn flush_begins(&self) -> u64 {
        self.writes
    }

    /// That flush ends.
    pub fn flush_ends(&mut self, covered: u64) {
        let durable = &mut self.durable;
        self.cache.retain(|block, versions| {
            let old = versions.partition_point(|(number, _)| *number <= covered);
            if let Some((_, stamp)) = versions.drain(..old).next_back() {
                durable[*block] = stamp;
            }
            !versions.is_empty()
        });
    }

    /// The cache is lost; parts of it may have been written back.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        // Whole runs kept or lost show other faults than a mixture does.
        let keep = *rng.pick(&[0, 1000, 500, 100, 900]).expect("not empty");
        for (block, versions) in core::mem::take(&mut self.cache) {
            if rng.chance(keep) {
                let version = if rng.chance(700) {
                    versions.last()
                } else {
                    rng.pick(&versions)
                };
                self.durable[block] = version.map_or(self.durable[block], |(_, stamp)| *stamp);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_covers_what_was_written_before_it_began() {
        let mut disk = Disk::new(vec![0; 4]);
        disk.write(0, 1);
        disk.write(1, 2);
        let covered = disk.flush_begins();
        disk.write(1, 3);
        disk.flush_ends(covered);
        assert_eq!(disk.versions(0).collect::<Vec<_>>(), [1]);
        assert_eq!(disk.versions(1).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(disk.read(1), 3);
    }

    #[test]
    fn power_loss_keeps_some_version_of_each_block() {
        let mut seen = [false; 3];
        for seed in 0..200 {
            let mut disk = Disk::new(vec![0; 1]);
            disk.write(0, 1);
            disk.write(0, 2);
            disk.lose_power(&mut Rng::new(seed));
            seen[disk.read(0) as usize] = true;
            assert_eq!(disk.versions(0).count(), 1);
        }
        assert_eq!(seen, [true; 3]);
    }
}
