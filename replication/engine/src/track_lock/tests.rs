use super::{LockId, LockTable, Mode};
use crate::track::TrackRange;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn tracks(start: u64, end: u64) -> TrackRange {
    TrackRange::new(start, end)
}

const A: LockId = LockId(1);
const B: LockId = LockId(2);
const C: LockId = LockId(3);
const D: LockId = LockId(4);

fn release(table: &mut LockTable, id: LockId) -> Vec<LockId> {
    let mut granted = Vec::new();
    table.release(id, &mut granted);
    granted
}

fn upgrade(table: &mut LockTable, id: LockId) -> (bool, Vec<LockId>) {
    let mut granted = Vec::new();
    (table.upgrade(id, &mut granted), granted)
}

#[test]
fn readers_share_and_writers_do_not() {
    let mut table = LockTable::new();
    assert!(table.request(A, tracks(0, 4), Mode::Shared));
    assert!(table.request(B, tracks(2, 6), Mode::Shared));
    assert!(!table.request(C, tracks(3, 4), Mode::Exclusive));
    assert!(table.request(D, tracks(6, 9), Mode::Exclusive));
    assert_eq!(release(&mut table, A), []);
    assert_eq!(release(&mut table, B), [C]);
    assert!(table.holds(C) && table.touches(tracks(3, 4)) && !table.touches(tracks(4, 6)));
}

#[test]
fn a_reader_does_not_pass_a_waiting_writer() {
    let mut table = LockTable::new();
    assert!(table.request(A, tracks(0, 1), Mode::Shared));
    assert!(!table.request(B, tracks(0, 3), Mode::Exclusive));
    assert!(!table.request(C, tracks(2, 3), Mode::Shared));
    assert_eq!(release(&mut table, A), [B]);
    assert_eq!(release(&mut table, B), [C]);
}

#[test]
fn who_gives_up_its_place_lets_those_behind_pass() {
    let mut table = LockTable::new();
    assert!(table.request(A, tracks(0, 1), Mode::Shared));
    assert!(!table.request(B, tracks(0, 3), Mode::Exclusive));
    assert!(!table.request(C, tracks(2, 3), Mode::Shared));
    assert_eq!(release(&mut table, B), [C]);
}

#[test]
fn a_lone_reader_converts_at_once_ahead_of_those_who_wait() {
    let mut table = LockTable::new();
    assert!(table.request(A, tracks(0, 2), Mode::Shared));
    assert!(!table.request(B, tracks(1, 2), Mode::Exclusive));
    assert!(!table.request(C, tracks(1, 2), Mode::Shared));
    assert_eq!(upgrade(&mut table, A), (true, vec![]));
    assert_eq!(release(&mut table, A), [B]);
    assert_eq!(release(&mut table, B), [C]);
}

/// S33, decision 4: no deadlock, and the second looks again.
#[test]
fn two_readers_that_convert_at_once_take_turns() {
    let mut table = LockTable::new();
    assert!(table.request(A, tracks(0, 2), Mode::Shared));
    assert!(table.request(B, tracks(0, 2), Mode::Shared));
    assert!(!table.request(C, tracks(0, 1), Mode::Exclusive));
    assert_eq!(upgrade(&mut table, A), (false, vec![]));
    assert_eq!(upgrade(&mut table, B), (false, vec![A]));
    assert_eq!(release(&mut table, A), [B]);
    assert_eq!(release(&mut table, B), [C]);
    assert_eq!(release(&mut table, C), []);
    assert!(table.is_empty());
}

#[test]
fn a_conversion_passes_a_reader_that_waits() {
    let mut table = LockTable::new();
    assert!(table.request(A, tracks(0, 4), Mode::Shared));
    assert!(table.request(B, tracks(4, 5), Mode::Exclusive));
    assert!(!table.request(C, tracks(0, 5), Mode::Shared));
    assert_eq!(upgrade(&mut table, A), (true, vec![]));
    assert_eq!(release(&mut table, B), []);
    assert_eq!(release(&mut table, A), [C]);
}

#[test]
fn a_whole_volume_is_one_entry() {
    let mut table = LockTable::new();
    assert!(table.request(A, tracks(0, 1 << 40), Mode::Exclusive));
    assert!(!table.request(B, tracks((1 << 40) - 1, 1 << 40), Mode::Shared));
    assert!(table.request(C, tracks(1 << 40, (1 << 40) + 1), Mode::Shared));
    assert_eq!(release(&mut table, A), [B]);
}

/// The rule of the module's prose, the slow way: a line of requests, each track looked at by itself.
#[derive(Default)]
struct Oracle {
    line: Vec<(LockId, TrackRange, Mode, bool)>,
}

impl Oracle {
    fn conflict(a: &(LockId, TrackRange, Mode, bool), b: &(LockId, TrackRange, Mode, bool)) -> bool {
        (a.2 == Mode::Exclusive || b.2 == Mode::Exclusive) && a.1.iter().any(|track| b.1.contains(track))
    }

    /// Grants whoever has nothing in the way ahead of it.
    fn settle(&mut self) -> Vec<LockId> {
        let mut granted = Vec::new();
        for index in 0..self.line.len() {
            let entry = self.line[index];
            if !entry.3
                && !self.line[..index]
                    .iter()
                    .any(|other| Self::conflict(other, &entry))
            {
                self.line[index].3 = true;
                granted.push(entry.0);
            }
        }
        granted
    }

    fn request(&mut self, id: LockId, range: TrackRange, mode: Mode) -> Vec<LockId> {
        self.line.push((id, range, mode, false));
        self.settle()
    }

    fn release(&mut self, id: LockId) -> Vec<LockId> {
        self.line.retain(|entry| entry.0 != id);
        self.settle()
    }

    fn upgrade(&mut self, id: LockId, converting: &[LockId]) -> Vec<LockId> {
        let index = self.line.iter().position(|entry| entry.0 == id).unwrap();
        let (_, range, _, _) = self.line.remove(index);
        // Holders have passed everybody in their way: the order among those who do not conflict means nothing.
        self.line
            .sort_by_key(|entry| (!entry.3, !converting.contains(&entry.0)));
        let front = self
            .line
            .iter()
            .filter(|entry| entry.3 || converting.contains(&entry.0))
            .count();
        self.line.insert(front, (id, range, Mode::Exclusive, false));
        self.settle()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Request { start: u64, len: u64, exclusive: bool },
    Release(usize),
    Upgrade(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u64..20, 1u64..9, any::<bool>()).prop_map(|(start, len, exclusive)| Step::Request { start, len, exclusive }),
        2 => any::<usize>().prop_map(Step::Release),
        1 => any::<usize>().prop_map(Step::Upgrade),
    ]
}

fn no_two_holders_conflict(table: &LockTable, live: &BTreeMap<LockId, (TrackRange, Mode)>) -> bool {
    let holders: Vec<_> = live.iter().filter(|(id, _)| table.holds(**id)).collect();
    holders.iter().enumerate().all(|(index, (_, a))| {
        holders[index + 1..]
            .iter()
            .all(|(_, b)| !a.0.overlaps(b.0) || (a.1 == Mode::Shared && b.1 == Mode::Shared))
    })
}

proptest! {
    #[test]
    fn it_does_what_the_oracle_does(steps in prop::collection::vec(step(), 1..80)) {
        let mut table = LockTable::new();
        let mut oracle = Oracle::default();
        let mut live: BTreeMap<LockId, (TrackRange, Mode)> = BTreeMap::new();
        let mut converting: Vec<LockId> = Vec::new();
        for (name, step) in (0..).zip(steps) {
            let id = LockId(name);
            let mut granted = Vec::new();
            let expected = match step {
                Step::Request { start, len, exclusive } => {
                    let mode = if exclusive { Mode::Exclusive } else { Mode::Shared };
                    let range = tracks(start, start + len);
                    live.insert(id, (range, mode));
                    if table.request(id, range, mode) {
                        granted.push(id);
                    }
                    oracle.request(id, range, mode)
                }
                // Only those that hold release or convert, as in the engine; leaving the line has its own test.
                Step::Release(pick) => {
                    let holders: Vec<_> = live.keys().copied().filter(|id| table.holds(*id)).collect();
                    let Some(id) = holders.get(pick % holders.len().max(1)) else { continue };
                    live.remove(id);
                    table.release(*id, &mut granted);
                    oracle.release(*id)
                }
                Step::Upgrade(pick) => {
                    let readers: Vec<_> =
                        live.iter().filter(|(id, l)| table.holds(**id) && l.1 == Mode::Shared).map(|(id, _)| *id).collect();
                    let Some(id) = readers.get(pick % readers.len().max(1)) else { continue };
                    live.get_mut(id).unwrap().1 = Mode::Exclusive;
                    if table.upgrade(*id, &mut granted) {
                        granted.push(*id);
                    }
                    let expected = oracle.upgrade(*id, &converting);
                    converting.push(*id);
                    expected
                }
            };
            let (mut sorted, mut expected) = (granted.clone(), expected);
            sorted.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(sorted, expected);
            converting.retain(|id| live.contains_key(id) && !table.holds(*id));
            prop_assert!(no_two_holders_conflict(&table, &live));
            prop_assert_eq!(table.len(), live.len());
        }
        // Everybody gets a turn.
        while !live.is_empty() {
            let holder = live.keys().copied().find(|id| table.holds(*id));
            prop_assert!(holder.is_some(), "nobody holds and {} wait", live.len());
            let holder = holder.unwrap();
            live.remove(&holder);
            table.release(holder, &mut Vec::new());
        }
        prop_assert!(table.is_empty() && table.classes.is_empty());
    }
}
