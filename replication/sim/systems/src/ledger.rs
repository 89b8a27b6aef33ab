//! All writes of hosts, and what must be found of them.
//!
//! Each write has a number, which is its data, and the moments at which it was issued and acknowledged. Volumes 1 and 2 are one history.
//! Let `t` be the latest moment at which a write was issued that is found: every write acknowledged before `t` must be there too, or one
//! after it to the same block. That is what *the beginning of what was written* means. In sync mode what was acknowledged while the pair was
//! DUPLEX, or before a flush that ended in DUPLEX, must be there whatever happens.

use std::{collections::BTreeMap, sync::Mutex};

use bytes::Bytes;

use crate::{disk::BLOCK, lock, site::TRACK};

/// Blocks of each volume that hosts write to.
pub const BLOCKS: u64 = 64;

/// Where a block is: two a track, tracks of all regions.
pub fn place(block: u64) -> u64 {
    block / 2 * 6 * u64::from(TRACK) + block % 2 * BLOCK as u64
}

/// What a write writes.
pub fn data(write: u64) -> Bytes {
    write.to_le_bytes().repeat(BLOCK / 8).into()
}

/// Which write that is.
pub fn stamp(data: &[u8]) -> u64 {
    let (first, rest) = data.split_at(8);
    assert!(rest.chunks(8).all(|word| word == first), "a block is torn");
    u64::from_le_bytes(first.try_into().expect("eight bytes"))
}

/// The write that each block of these volumes holds; 0 is none.
pub type Found = BTreeMap<(u32, u64), u64>;

#[derive(Debug, Clone, Copy)]
struct Write {
    place: (u32, u64),
    issued: u64,
    /// `None`: never, or lost with the power of the primary, which may lose what was not flushed.
    acked: Option<u64>,
    /// The far side has it for certain.
    safe: bool,
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Ledger {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    clock: u64,
    /// By their numbers, from 1.
    writes: Vec<Write>,
    /// Writes of a volume up to this number count only as what it held when its history began.
    before: BTreeMap<u32, u64>,
    base: Found,
    /// What was acknowledged before is at the far side for certain.
    equal: BTreeMap<u32, u64>,
    /// Likewise, stable at the primary.
    stable: BTreeMap<u32, u64>,
}

impl Ledger {
    /// A moment.
    pub fn now(&self) -> u64 {
        lock(&self.state).now()
    }

    /// How many writes there were.
    pub fn writes(&self) -> u64 {
        lock(&self.state).writes.len() as u64
    }

    /// A write begins: its number.
    pub fn issue(&self, place: (u32, u64)) -> u64 {
        let mut state = lock(&self.state);
        let issued = state.now();
        state.writes.push(Write {
            place,
            issued,
            acked: None,
            safe: false,
        });
        state.writes.len() as u64
    }

    /// The host has its answer. `safe`: the far side has it for certain.
    pub fn acknowledge(&self, write: u64, safe: bool) {
        let mut state = lock(&self.state);
        let now = state.now();
        let write = &mut state.writes[write as usize - 1];
        (write.acked, write.safe) = (Some(now), safe);
    }

    /// A flush of the primary that began at this moment has ended. `equal`: it was one of the far side as well, for the pair was in sync mode and DUPLEX all
    /// the while.
    pub fn flushed(&self, volume: u32, moment: u64, equal: bool) {
        let mut state = lock(&self.state);
        let raise = |known: &mut BTreeMap<u32, u64>| {
            let known = known.entry(volume).or_default();
            *known = (*known).max(moment);
        };
        raise(&mut state.stable);
        if equal {
            raise(&mut state.equal);
        }
    }

    /// What these volumes hold now, nobody writing, is the beginning of all that follows.
    pub fn rebase(&self, found: &Found) {
        let mut state = lock(&self.state);
        let count = state.writes.len() as u64;
        for (place, held) in found {
            state.base.insert(*place, *held);
            state.before.insert(place.0, count);
            state.equal.remove(&place.0);
            state.stable.remove(&place.0);
        }
    }

    /// The primary itself, after a restart: it has what was acknowledged, or, if it has lost its power, what was stable. The rest is nowhere.
    pub fn restarted(&self, found: &Found, power: bool) {
        let mut state = lock(&self.state);
        let stable = state.stable.clone();
        let until = |volume: u32| {
            if power {
                stable.get(&volume).copied().unwrap_or(0)
            } else {
                u64::MAX
            }
        };
        state.holds(found, until, false, "the primary itself");
        for (at, write) in state.writes.iter_mut().enumerate() {
            if found.get(&write.place).is_some_and(|held| *held < at as u64 + 1) {
                (write.acked, write.safe) = (None, false);
            }
        }
    }

    /// All that was acknowledged is there.
    pub fn is_all(&self, found: &Found, what: &str) {
        lock(&self.state).holds(found, |_| u64::MAX, false, what);
    }

    /// It is the beginning of what was written. `now`: it is what the far side has now, and so has all that it has for certain.
    pub fn is_prefix(&self, found: &Found, now: bool, what: &str) {
        let state = lock(&self.state);
        let latest = state.latest(found);
        let equal = |volume: u32| state.equal.get(&volume).copied().filter(|_| now).unwrap_or(0);
        state.holds(found, |volume| equal(volume).max(latest), now, what);
    }

    /// It is the image of one moment between these two.
    pub fn is_image(&self, found: &Found, (after, before): (u64, u64), what: &str) {
        let state = lock(&self.state);
        let latest = state.latest(found);
        assert!(latest < before, "{what} holds what was written after the command");
        state.holds(found, |_| latest.max(after), false, what);
    }
}

impl State {
    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn before(&self, volume: u32) -> u64 {
        self.before.get(&volume).copied().unwrap_or(0)
    }

    /// Is this one of the present history?
    fn is_known(&self, place: (u32, u64), held: u64, what: &str) {
        if held <= self.before(place.0) {
            let base = self.base.get(&place).copied().unwrap_or(0);
            assert!(
                held == base,
                "{what}: {place:?} holds {held} of an earlier history, in which {base} was last"
            );
            return;
        }
        let write = self.writes.get(held as usize - 1);
        assert!(
            write.is_some_and(|write| write.place == place),
            "{what}: {place:?} holds {held}, which was written elsewhere"
        );
    }

    /// Everything acknowledged before the moment of its volume is there; and, if `safe`, everything that is there for certain.
    fn holds(&self, found: &Found, until: impl Fn(u32) -> u64, safe: bool, what: &str) {
        for (place, held) in found {
            self.is_known(*place, *held, what);
        }
        for (at, write) in self.writes.iter().enumerate() {
            let number = at as u64 + 1;
            if number <= self.before(write.place.0) {
                continue;
            }
            let Some(held) = found.get(&write.place) else {
                continue;
            };
            let due = write
                .acked
                .is_some_and(|acked| acked < until(write.place.0) || safe && write.safe);
            assert!(
                !due || *held >= number,
                "{what}: {:?} holds write {held}, not {number} {write:?}",
                write.place
            );
        }
    }

    /// The latest moment at which something was issued that is found.
    fn latest(&self, found: &Found) -> u64 {
        let known = found.iter().filter(|(place, held)| **held > self.before(place.0));
        known
            .filter_map(|(_, held)| self.writes.get(*held as usize - 1))
            .map(|write| write.issued)
            .max()
            .unwrap_or(0)
    }
}
