//! All writes, and what is known of them.

use super::*;

pub(super) fn data(write: usize) -> Bytes {
    (write as u64).to_le_bytes().repeat(BLOCK / 8).into()
}

pub(super) fn stamp(data: &[u8]) -> usize {
    let (first, rest) = data.split_at(8);
    assert!(rest.chunks(8).all(|word| word == first), "a block is torn");
    u64::from_le_bytes(first.try_into().unwrap()) as usize
}

/// The write that each block of these volumes holds; 0 is none.
pub(super) type Found = BTreeMap<(u32, u64), usize>;

#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    pub(super) place: (u32, u64),
    pub(super) issued: u64,
    /// `u64::MAX`: never, or lost with the power of the primary, which may lose what was not flushed.
    pub(super) acked: u64,
}

/// All writes, and what is known of them.
pub(super) struct Ledger {
    pub(super) mode: CopyMode,
    pub(super) clock: AtomicU64,
    /// By their number; the first is none.
    pub(super) writes: Mutex<Vec<Write>>,
    /// Until when the far side had everything that was acknowledged, for volumes 1 and 2.
    pub(super) equal: [AtomicU64; 2],
    /// Until when what was acknowledged is stable here.
    pub(super) stable: [AtomicU64; 2],
}

impl Ledger {
    pub(super) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    pub(super) fn equal_until(&self, volume: u32, moment: u64) {
        self.equal[volume as usize - 1].fetch_max(moment, Ordering::SeqCst);
    }

    pub(super) fn issue(&self, place: (u32, u64)) -> usize {
        let mut writes = lock(&self.writes);
        let (issued, acked) = (self.now(), u64::MAX);
        writes.push(Write { place, issued, acked });
        writes.len() - 1
    }

    pub(super) fn acknowledge(&self, write: usize) {
        let mut writes = lock(&self.writes);
        writes[write].acked = self.now();
    }

    /// Everything acknowledged before these moments is there; the moments are given for volumes 1 and 2.
    pub(super) fn holds(&self, found: &Found, until: [u64; 2], what: &str) {
        for (number, write) in lock(&self.writes).iter().enumerate().skip(1) {
            let Some(held) = found.get(&write.place) else {
                continue;
            };
            let missing = write.acked < until[write.place.0 as usize - 1] && *held < number;
            assert!(
                !missing,
                "{what}: {:?} holds write {held}, not {number} {write:?}",
                write.place
            );
        }
    }

    /// The latest moment at which something was issued that is found.
    pub(super) fn latest(&self, found: &Found) -> u64 {
        let writes = lock(&self.writes);
        found.values().map(|held| writes[*held].issued).max().unwrap_or(0)
    }

    /// It is the beginning of what was written, and has all that it had for certain.
    pub(super) fn is_prefix(&self, found: &Found, what: &str) {
        let latest = self.latest(found);
        let equal = |at: usize| self.equal[at].load(Ordering::SeqCst).max(latest);
        self.holds(found, [equal(0), equal(1)], what);
    }

    /// Later writes than those found are nowhere.
    pub(super) fn forget_later(&self, found: &Found) {
        for (number, write) in lock(&self.writes).iter_mut().enumerate() {
            if found.get(&write.place).is_some_and(|held| *held < number) {
                write.acked = u64::MAX;
            }
        }
    }
}
