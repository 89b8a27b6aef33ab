//! The real engine in every order of its effects, from six moments of a pair's life, with one crash (S8, S11, S15, S53).
//!
//! `seen` is the oracle: what a host must read. A write changes its volume, SPLIT gives the mirror what the primary shows,
//! RESTORE the primary what the mirror shows. Where a crash leaves two answers open, `possible` has both. Caches that
//! lose data with the power are the simulator's subject. The bound on states reaches five steps from each moment; longer
//! histories are the simulator's subject too.

// An image is taken from one volume of a list and put into another.
#![allow(clippy::assigning_clones)]

use std::hash::{Hash, Hasher};

use replication_engine::{
    Mutation,
    command::Verb,
    effects::HostIo,
    ids::{CommandId, OpId},
    state::PairState,
};
use replication_model::{ESTABLISH, INSTANT, PROTECTED, RESTORE, SPLIT, STOP, Span, World};
use stateright::{Checker, Expectation, Model, Property};

/// What hosts must read, by volume.
type Seen = Vec<Vec<u8>>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Action {
    Write(u32, Span),
    Command(Verb, u32, u32),
    Perform(usize),
    Tick,
    Crash { data: bool, records: bool },
}

#[derive(Debug, Clone)]
enum Asked {
    Write(OpId, Vec<Seen>),
    Command(CommandId, Vec<Seen>, bool),
}

#[derive(Debug, Clone)]
struct Moment {
    world: World,
    /// Every answer that hosts may get; one of them, except after a crash.
    possible: Vec<Seen>,
    asked: Option<Asked>,
    /// A restore was stopped: only the engine knows the mixture, until nothing is in flight.
    mixed: bool,
    writes: u8,
    commands: u8,
    crashes: u8,
}

impl Moment {
    fn key(&self) -> String {
        format!("{self:?}")
    }

    fn new(world: World) -> Self {
        let possible = vec![world.disks.clone()];
        let mut moment = Self {
            world,
            possible,
            asked: None,
            mixed: false,
            writes: 0,
            commands: 0,
            crashes: 0,
        };
        // A mirror made a moment ago shows what its standard does.
        for volume in 1..=moment.world.disks.len() {
            if let Ok(seen) = moment.world.look(volume as u32) {
                moment.possible[0][volume - 1] = seen;
            }
        }
        moment
    }

    /// Whose content an established mirror has.
    fn standard(&self, volume: u32) -> u32 {
        let pairs = self.world.engine.pairs();
        match pairs.iter().find(|pair| pair.mirror.0 == volume) {
            Some(pair) if pair.state.keeps_two_legs() => self.standard(pair.primary.0),
            _ => volume,
        }
    }

    fn after(&self, verb: Verb, primary: u32, mirror: u32) -> Vec<Seen> {
        let state = self.world.state(mirror);
        let standard = self.standard(primary) as usize - 1;
        let (p, m) = (primary as usize - 1, mirror as usize - 1);
        let mut possible = self.possible.clone();
        for seen in &mut possible {
            match (verb, state) {
                (Verb::Split { .. }, PairState::Copy | PairState::Duplex | PairState::Restored) => {
                    let image = seen[standard].clone();
                    seen[m] = image;
                }
                (Verb::Restore { .. }, PairState::Split) => {
                    let image = seen[m].clone();
                    seen[p] = image;
                }
                _ => {}
            }
        }
        possible
    }

    fn conclude(&mut self) {
        match &self.asked {
            Some(Asked::Write(op, after)) => {
                let Some(reply) = self.world.replies.remove(op) else {
                    return;
                };
                if reply.is_ok() {
                    self.possible.clone_from(after);
                }
            }
            Some(Asked::Command(id, after, stop)) => {
                let Some(answer) = self.world.answers.remove(id) else {
                    return;
                };
                if answer.is_ok() {
                    self.possible.clone_from(after);
                    self.mixed |= *stop;
                }
            }
            None => {}
        }
        self.asked = None;
        if self.mixed && self.world.pending.is_empty() {
            self.mixed = false;
            let now = self.world.look(1).expect("a standard answers hosts");
            for seen in &mut self.possible {
                seen[0].clone_from(&now);
            }
        }
    }

    fn hosts_read_what_they_must(&self) -> bool {
        if self.asked.is_some() || self.mixed {
            return true;
        }
        let looks: Vec<_> = (1..=self.world.disks.len() as u32)
            .map(|volume| self.world.look(volume))
            .collect();
        let fits = |seen: &Seen| {
            looks
                .iter()
                .zip(seen)
                .all(|(look, seen)| look.as_ref().map_or(true, |look| look == seen))
        };
        self.possible.iter().any(fits)
    }

    fn marks_cover_what_differs(&self) -> bool {
        let mut world = self.world.clone();
        world.settle() && world.unmarked().is_none()
    }

    fn copies_end(&self) -> bool {
        let mut world = self.world.clone();
        world.settle() && world.engine.pairs().iter().all(|pair| !pair.state.is_copying())
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Hash for Moment {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

struct Pairs {
    mutation: Option<Mutation>,
}

const BYTES: u64 = 4;

impl Model for Pairs {
    type State = Moment;
    type Action = Action;

    fn init_states(&self) -> Vec<Moment> {
        let new = World::new(3, BYTES, self.mutation);
        let mut duplex = new.clone();
        duplex.verb(ESTABLISH, 1, 2).expect("a new pair");
        let copy = duplex.clone();
        duplex.settle();
        let mut split = duplex.clone();
        split.verb(ESTABLISH, 1, 3).expect("a second mirror");
        split.settle();
        split.verb(SPLIT, 1, 2).expect("equal");
        split.write(1, (0, BYTES), 20).expect("a write");
        let mut cascade = duplex.clone();
        cascade.verb(ESTABLISH, 2, 3).expect("a mirror of a mirror");
        cascade.settle();
        let (mut restored, mut protected) = (split.clone(), split.clone());
        restored.verb(RESTORE, 1, 2).expect("apart");
        restored.settle();
        protected.verb(PROTECTED, 1, 2).expect("apart");
        [copy, duplex, split, cascade, restored, protected]
            .into_iter()
            .map(Moment::new)
            .collect()
    }

    fn actions(&self, moment: &Moment, actions: &mut Vec<Action>) {
        actions.extend(moment.world.choices().into_iter().map(Action::Perform));
        if moment.asked.is_none() && !moment.mixed {
            if moment.writes < 1 {
                let spans = [(0, 1), (0, 2), (1, 3)];
                for volume in [1, 2] {
                    actions.extend(spans.map(|span| Action::Write(volume, span)));
                }
            }
            if moment.commands < 2 {
                for verb in [ESTABLISH, SPLIT, INSTANT, RESTORE, PROTECTED, STOP] {
                    actions.push(Action::Command(verb, 1, 2));
                }
            }
        }
        if moment.world.pending.is_empty() && moment.world.engine.busy() {
            actions.push(Action::Tick);
        }
        if moment.crashes < 1 {
            for (data, records) in [(false, false), (true, false), (true, true)] {
                actions.push(Action::Crash { data, records });
            }
        }
    }

    fn next_state(&self, last: &Moment, action: Action) -> Option<Moment> {
        let mut moment = last.clone();
        match action {
            Action::Write(volume, span) => {
                moment.writes += 1;
                let byte = 100 + volume as u8;
                let mut after = moment.possible.clone();
                for seen in &mut after {
                    seen[volume as usize - 1][span.0 as usize..span.1 as usize].fill(byte);
                }
                let op = moment.world.begin(volume, HostIo::Write, span, byte);
                moment.asked = Some(Asked::Write(op, after));
            }
            Action::Command(verb, primary, mirror) => {
                moment.commands += 1;
                let stop = moment.world.state(mirror) == PairState::ProtectedRestoring && verb == STOP;
                let after = moment.after(verb, primary, mirror);
                let id = moment.world.command(verb, primary, mirror);
                moment.asked = Some(Asked::Command(id, after, stop));
            }
            Action::Perform(at) => moment.world.perform_at(at),
            Action::Tick => moment.world.tick(),
            Action::Crash { data, records } => {
                moment.crashes += 1;
                moment.world.crash(data, records);
                match moment.asked.take() {
                    Some(Asked::Write(_, after)) => {
                        // Each byte of an unanswered write may have landed or not.
                        for at in 0..BYTES as usize {
                            let with: Vec<Seen> = moment
                                .possible
                                .iter()
                                .map(|seen| {
                                    let mut seen = seen.clone();
                                    for (volume, seen) in seen.iter_mut().enumerate() {
                                        seen[at] = after[0][volume][at];
                                    }
                                    seen
                                })
                                .filter(|seen| !moment.possible.contains(seen))
                                .collect();
                            moment.possible.extend(with);
                        }
                    }
                    Some(Asked::Command(_, after, stop)) => {
                        moment.possible.extend(after);
                        moment.mixed |= stop;
                    }
                    None => {}
                }
            }
        }
        moment.conclude();
        Some(moment)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn sometimes(name: &'static str, condition: fn(&Pairs, &Moment) -> bool) -> Property<Pairs> {
            Property {
                expectation: Expectation::Sometimes,
                name,
                condition,
            }
        }
        vec![
            Property::always("hosts read what they must", |_, m: &Moment| {
                m.hosts_read_what_they_must()
            }),
            Property::always("marks cover what differs", |_, m: &Moment| {
                m.marks_cover_what_differs()
            }),
            Property::always("copies end when nobody commands", |_, m: &Moment| m.copies_end()),
            sometimes("copy", |_, m| m.world.state(2) == PairState::Copy),
            sometimes("duplex", |_, m| m.world.state(2) == PairState::Duplex),
            sometimes("splitting", |_, m| m.world.state(2) == PairState::Splitting),
            sometimes("split", |_, m| m.world.state(2) == PairState::Split),
            sometimes("restoring", |_, m| m.world.state(2) == PairState::Restoring),
            sometimes("restored", |_, m| m.world.state(2) == PairState::Restored),
            sometimes("protected-restoring", |_, m| {
                m.world.state(2) == PairState::ProtectedRestoring
            }),
        ]
    }
}

const STATES: usize = 8_000;

/// S8, S11, S15, S53: hosts' view, marks, and the end of copies, breadth first up to a number of states.
#[test]
fn hosts_marks_and_copies_in_every_order() {
    let checker = Pairs { mutation: None }
        .checker()
        .target_state_count(STATES)
        .spawn_bfs()
        .join();
    println!(
        "states {}, unique {}, depth {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    for (name, path) in checker.discoveries() {
        assert!(!name.contains(' '), "{name}: {:?}", path.into_actions());
    }
    for state in PairState::ALL {
        if state != PairState::Simplex && state != PairState::Suspended {
            assert!(
                checker.discovery(state.name()).is_some(),
                "{state} was never reached"
            );
        }
    }
}

/// The checker finds a planted bug, or its silence would mean nothing.
#[test]
fn a_planted_bug_is_found() {
    let pairs = Pairs {
        mutation: Some(Mutation::ReadStale),
    };
    let checker = pairs.checker().target_state_count(STATES).spawn_bfs().join();
    let found = checker.discoveries().into_keys().any(|name| name.contains(' '));
    assert!(found, "stale reads were not found");
}
