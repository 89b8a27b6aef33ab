//! What a loss of power may leave.
//!
//! A write that was answered is in a cache until a flush that was sent later is answered, or at once with FUA. Power that goes
//! before may take it, or not, sector by sector, and each such write by itself. So in a world that can lose power the load keeps a second
//! picture of each volume, in which a write stays one of several possibilities until it is stable. When power is lost that
//! picture becomes the one that is true. A mirror is stable when its SPLIT is answered; what a RESTORE brings is as
//! stable as it was on the mirror (docs/engine.md, "State changes").

use std::collections::BTreeMap;

use super::{Fate, Load, Op, Written};
use crate::stamps::{Picture, Stamp};

/// Can a loss of power take a write?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stability {
    /// It can.
    Cached,
    /// It cannot, but there are cached ones before it.
    Stable,
    /// It cannot, or is gone.
    Settled,
}

/// The second pictures.
#[derive(Debug)]
pub(super) struct Stable(BTreeMap<u32, Picture>);

impl Stable {
    pub(super) fn of(&self, volume: u32) -> &Picture {
        &self.0[&volume]
    }

    pub(super) fn set(&mut self, volume: u32, picture: Picture) {
        self.0.insert(volume, picture);
    }

    pub(super) fn begin(&mut self, volume: u32, first: u64, count: u64, stamp: Stamp) {
        self.picture(volume).begin(first, count, stamp);
    }

    fn picture(&mut self, volume: u32) -> &mut Picture {
        self.0.get_mut(&volume).expect("a volume of the shape")
    }
}

impl Load {
    /// Keeps pictures of what is stable from now on. All that was written is so.
    pub fn expect_power_loss(&mut self) {
        self.stable = Some(Stable(self.pictures.clone()));
        for written in &mut self.log {
            written.stability = Stability::Settled;
        }
    }

    /// Power was lost, and the session with it: what is stable is all there is. Which writes an image has is not to be judged any more.
    pub fn lose_power(&mut self) {
        if self.stable.is_some() {
            self.replaced_lose_power();
        }
        let Some(stable) = &self.stable else { return };
        self.images.clear();
        if let Some(cut) = &mut self.cut {
            cut.judged = false;
            for assignment in &mut cut.assignments {
                if let Some(then) = assignment.stable.take() {
                    assignment.picture = then;
                    assignment.picture.merge(stable.of(assignment.from));
                }
            }
        }
        self.pictures.clone_from(&stable.0);
        for written in &mut self.log {
            written.stability = Stability::Settled;
        }
    }

    /// A write was answered GOOD; with FUA it is stable.
    pub(super) fn stable_write(&mut self, op: &Op, entry: usize) {
        if let Some(stable) = &mut self.stable
            && op.fua
            && !op.ambiguous
        {
            let stamp = self.log[entry].stamp;
            stable.picture(op.volume).settle(op.first, op.count, stamp);
            self.log[entry].stability = Stability::Stable;
        }
    }

    /// A flush was answered GOOD: all that was answered before it was sent is stable.
    pub(super) fn stable_flush(&mut self, op: &Op) {
        let Some(stable) = &mut self.stable else { return };
        if op.ambiguous {
            return;
        }
        let picture = stable.picture(op.volume);
        let fresh = |written: &&mut Written| {
            written.volume == op.volume
                && written.stability != Stability::Settled
                && written.fate != Fate::Declined
        };
        // Writes in flight together do not overlap: those to one sector are in the order of the log.
        let mut all_stable = true;
        for written in self.log.iter_mut().filter(fresh) {
            let covered = written.answered.is_some_and(|answered| answered < op.sent);
            if written.stability == Stability::Stable || covered && !written.ambiguous {
                picture.settle(written.first, written.count, written.stamp);
                written.stability = if all_stable {
                    Stability::Settled
                } else {
                    Stability::Stable
                };
            } else {
                picture.begin(written.first, written.count, written.stamp);
                all_stable = false;
            }
        }
    }

    /// The volume has the content of a pair command; earlier writes to it are part of that, or gone.
    pub(super) fn stable_content(&mut self, volume: u32, picture: &Picture) {
        if let Some(stable) = &mut self.stable {
            stable.set(volume, picture.clone());
            let gone = |written: &&mut Written| written.volume == volume && written.fate != Fate::Open;
            for written in self.log.iter_mut().filter(gone) {
                written.stability = Stability::Settled;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        load::{Kind, Shape},
        random::Random,
    };

    fn load() -> Load {
        let shape = Shape {
            volumes: 1,
            sectors: 8,
            track: 16,
            footprint: 0..8,
            depth: 1,
        };
        let mut load = Load::new(shape, Random::new(1));
        load.expect_power_loss();
        load
    }

    fn op(load: &mut Load, kind: Kind, fua: bool) -> Op {
        load.clock += 1;
        Op {
            fua,
            sent: load.clock,
            ..load.op(kind, 1, 0, 8)
        }
    }

    /// An answered write.
    fn write(load: &mut Load, stamp: Stamp, fua: bool) {
        let op = op(load, Kind::Write, fua);
        load.begin(&op, stamp);
        load.clock += 1;
        load.written(&op, load.log.len() - 1);
    }

    fn allowed(load: &Load) -> Vec<Stamp> {
        let cell = &load.pictures[&1].cells(0, 1)[0];
        let mut stamps = cell.others.clone();
        stamps.push(cell.settled);
        stamps.sort_unstable();
        stamps
    }

    #[test]
    fn power_takes_what_was_not_flushed_or_not() {
        let mut load = load();
        write(&mut load, 5, false);
        write(&mut load, 6, false);
        assert_eq!(allowed(&load), [6]);
        load.lose_power();
        assert_eq!(allowed(&load), [0, 5, 6]);
    }

    #[test]
    fn what_a_flush_or_fua_made_stable_stays() {
        let mut load = load();
        write(&mut load, 5, false);
        let flush = op(&mut load, Kind::Flush, false);
        write(&mut load, 6, false);
        load.stable_flush(&flush);
        load.lose_power();
        assert_eq!(allowed(&load), [5, 6], "6 was answered after the flush was sent");
        write(&mut load, 7, false);
        write(&mut load, 8, true);
        let flush = op(&mut load, Kind::Flush, false);
        load.stable_flush(&flush);
        load.lose_power();
        assert_eq!(allowed(&load), [8]);
    }
}
