use super::*;
use proptest::{collection::vec, prelude::*, sample::Index};

fn id(text: &str) -> SystemId {
    SystemId::new(text).unwrap()
}

#[test]
fn of_two_calls_at_once_the_one_of_the_lower_id_counts() {
    let (a, b) = (id("HF-A"), id("HF-B"));
    let (mut at_a, mut at_b) = (Contest::new(&a, &b), Contest::new(&b, &a));
    assert!(at_a.call(1) && at_b.call(2));
    assert_eq!(at_a.called(3, 20), Verdict::Duplicate);
    assert_eq!(at_b.called(4, 10), Verdict::Admit(Some(2)));
    assert!(at_a.opened(1, 20));
    assert!(!at_b.opened(2, 10), "its place was taken");
}

#[test]
fn a_peer_that_was_started_anew_is_admitted_at_once() {
    let mut at_a = Contest::new(&id("HF-A"), &id("HF-B"));
    assert!(at_a.call(1) && at_a.opened(1, 20));
    assert_eq!(at_a.called(2, 20), Verdict::Duplicate);
    assert_eq!(at_a.called(3, 21), Verdict::Admit(Some(1)));
    at_a.ended(1);
    assert!(
        at_a.is_held(),
        "the end of the old one is not the end of the new one"
    );
    at_a.ended(3);
    assert!(!at_a.is_held());
}

#[test]
fn of_two_calls_of_one_side_the_newer_counts() {
    for (own, peer) in [("HF-A", "HF-B"), ("HF-B", "HF-A")] {
        let mut contest = Contest::new(&id(own), &id(peer));
        assert_eq!(contest.called(1, 7), Verdict::Admit(None));
        assert!(!contest.call(2), "it has one");
        assert_eq!(contest.called(3, 7), Verdict::Admit(Some(1)));
    }
}

/// Two sides and the wires between them. A wire delivers in its own time; each can be cut.
#[derive(Debug, Default)]
struct World {
    wires: Vec<Wire>,
}

#[derive(Debug)]
struct Wire {
    caller: usize,
    /// Under way to side 0 and to side 1, in order.
    to: [Vec<Word>; 2],
    /// Which sides still have it.
    has: [bool; 2],
    cut: bool,
}

#[derive(Debug, Clone, Copy)]
enum Word {
    Hello,
    Ack,
    Closed,
}

impl World {
    fn call(&mut self, side: usize, contests: &mut [Contest; 2]) {
        let id = self.wires.len() as u64;
        if !contests[side].call(id) {
            return;
        }
        let mut wire = Wire {
            caller: side,
            to: [Vec::new(), Vec::new()],
            has: [false; 2],
            cut: false,
        };
        wire.has[side] = true;
        wire.to[1 - side].push(Word::Hello);
        self.wires.push(wire);
    }

    fn drop_wire(&mut self, side: usize, id: usize, contests: &mut [Contest; 2]) {
        if std::mem::take(&mut self.wires[id].has[side]) {
            contests[side].ended(id as u64);
            self.wires[id].to[1 - side].push(Word::Closed);
        }
    }

    /// One word arrives.
    fn deliver(&mut self, id: usize, side: usize, contests: &mut [Contest; 2]) {
        if self.wires[id].cut || self.wires[id].to[side].is_empty() {
            return;
        }
        match self.wires[id].to[side].remove(0) {
            Word::Hello => match contests[side].called(id as u64, 1) {
                Verdict::Admit(ended) => {
                    self.wires[id].has[side] = true;
                    self.wires[id].to[1 - side].push(Word::Ack);
                    if let Some(ended) = ended {
                        self.drop_wire(side, ended as usize, contests);
                    }
                }
                Verdict::Duplicate => self.wires[id].to[1 - side].push(Word::Closed),
            },
            Word::Ack => {
                if self.wires[id].has[side] {
                    assert!(
                        contests[side].opened(id as u64, 1),
                        "whoever is replaced has dropped the wire"
                    );
                }
            }
            Word::Closed => self.drop_wire(side, id, contests),
        }
    }

    /// Wires that were cut are found dead by keepalive.
    fn keepalive(&mut self, contests: &mut [Contest; 2]) {
        for id in 0..self.wires.len() {
            if self.wires[id].cut {
                self.drop_wire(0, id, contests);
                self.drop_wire(1, id, contests);
            }
        }
    }

    fn settle(&mut self, contests: &mut [Contest; 2]) {
        for _ in 0..8 {
            for id in 0..self.wires.len() {
                for side in [0, 1, 0, 1, 0, 1] {
                    self.deliver(id, side, contests);
                }
            }
        }
    }
}

proptest! {
    /// Whatever is called, delivered late, cut and closed: when it is quiet, both sides have the same one connection.
    #[test]
    fn both_sides_come_to_the_same_one_connection(steps in vec((0..4, 0..2usize, any::<Index>()), 0..60)) {
        let (a, b) = (id("HF-A"), id("HF-B"));
        let mut contests = [Contest::new(&a, &b), Contest::new(&b, &a)];
        let mut world = World::default();
        for (what, side, which) in steps {
            let wire = (!world.wires.is_empty()).then(|| which.index(world.wires.len()));
            match (what, wire) {
                (0, _) => world.call(side, &mut contests),
                (3, Some(wire)) => world.wires[wire].cut = true,
                (_, Some(wire)) => world.deliver(wire, side, &mut contests),
                _ => {}
            }
        }
        // Keepalive, quiet, and calls for as long as there is nothing: at most a few rounds.
        for _ in 0..4 {
            world.keepalive(&mut contests);
            world.settle(&mut contests);
            world.call(0, &mut contests);
            world.call(1, &mut contests);
            world.settle(&mut contests);
        }
        let held: Vec<usize> = (0..world.wires.len()).filter(|id| world.wires[*id].has == [true; 2]).collect();
        prop_assert_eq!(held.len(), 1, "{:?}", world);
        let half = world.wires.iter().filter(|wire| wire.has[0] != wire.has[1]).count();
        prop_assert_eq!(half, 0, "{:?}", world);
        prop_assert!(contests.iter().all(Contest::is_held));
        prop_assert!(world.wires[held[0]].caller < 2);
    }
}
