//! A machine room for tests: volumes as vectors of bytes, a journal as a list, effects performed one at a time in any order.
//!
//! The oracle is what hosts see: a write changes its volume, SPLIT makes the mirror what the primary is, RESTORE the
//! primary what the mirror is. Nothing else changes anything a host can read.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    EngineConfig, Limits, Mutation,
    command::{Command, Condition, Refused, Summary, Verb, VolumeSpec},
    effects::{Effect, Effects, Found, HostError, HostIo, Input, Outcome},
    engine::Engine,
    events::Event,
    ids::{ByteRange, CommandId, OpId, PairId, Tick, VolumeId},
    journal::Record,
    state::PairState,
};

pub(super) const TRACK: u32 = 8;
pub(super) const BYTES: u64 = 8 * 70 + 4;

/// Numbers that look random and are the same for the same seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

struct Op {
    byte: u8,
    range: ByteRange,
    buffer: Vec<u8>,
    decline: bool,
}

pub(super) struct Room {
    pub(super) engine: Engine,
    pub(super) dice: Dice,
    pub(super) disks: BTreeMap<VolumeId, Vec<u8>>,
    /// Reads of these volumes fail.
    pub(super) unreadable: BTreeSet<VolumeId>,
    /// Writes to these volumes fail.
    pub(super) unwritable: BTreeSet<VolumeId>,
    pub(super) journal_broken: bool,
    /// What the journal is sure to have.
    pub(super) durable: Vec<Record>,
    /// Effects not performed yet.
    pub(super) pending: Effects,
    ops: BTreeMap<OpId, Op>,
    pub(super) replies: BTreeMap<OpId, Result<Vec<u8>, HostError>>,
    pub(super) answers: BTreeMap<CommandId, Result<Summary, Refused>>,
    pub(super) readies: Vec<(VolumeId, bool)>,
    pub(super) members: BTreeSet<VolumeId>,
    pub(super) events: Vec<Event>,
    /// What came out of checks.
    pub(super) found: Vec<Found>,
    /// Every effect that is to be performed, in the order they were asked for.
    pub(super) issued: Effects,
    limits: Limits,
    names: u64,
    now: Tick,
    mutation: Option<Mutation>,
}

/// Limits that let a few bytes be many tracks.
pub(super) fn limits() -> Limits {
    Limits {
        copy_run_bytes: 24,
        settle_tracks: 8,
        settle_after: 300,
        cool_after: 500,
        resume_after: 300,
        resume_after_most: 3_000,
        ..Limits::default()
    }
}

fn config(limits: Limits) -> EngineConfig {
    EngineConfig {
        track_size: TRACK,
        limits,
    }
}

fn spec() -> VolumeSpec {
    VolumeSpec {
        bytes: BYTES,
        block_size: 4,
    }
}

impl Room {
    pub(super) fn new(seed: u64, volumes: u32) -> Self {
        Self::with_limits(seed, volumes, limits())
    }

    pub(super) fn with_limits(seed: u64, volumes: u32, limits: Limits) -> Self {
        let mut engine = Engine::new(config(limits));
        let mut disks = BTreeMap::new();
        for number in 1..=volumes {
            engine.define_volume(VolumeId(number), spec());
            disks.insert(VolumeId(number), vec![number as u8; BYTES as usize]);
        }
        let durable = engine.snapshot();
        Self {
            engine,
            dice: Dice::new(seed),
            disks,
            unreadable: BTreeSet::new(),
            unwritable: BTreeSet::new(),
            journal_broken: false,
            durable,
            pending: Vec::new(),
            ops: BTreeMap::new(),
            replies: BTreeMap::new(),
            answers: BTreeMap::new(),
            readies: Vec::new(),
            members: BTreeSet::new(),
            events: Vec::new(),
            found: Vec::new(),
            issued: Vec::new(),
            limits,
            names: 0,
            now: Tick(0),
            mutation: None,
        }
    }

    pub(super) fn plant(mut self, mutation: Mutation) -> Self {
        self.engine = self.engine.with_mutation(mutation);
        self.mutation = Some(mutation);
        self
    }

    pub(super) fn add_volume(&mut self, number: u32) {
        self.engine.define_volume(VolumeId(number), spec());
        self.disks.insert(VolumeId(number), vec![0; BYTES as usize]);
        self.durable = self.engine.snapshot();
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    pub(super) fn feed(&mut self, input: Input) {
        self.now.0 += 1;
        let mut out = Vec::new();
        self.engine.step(self.now, input, &mut out);
        self.take(out);
    }

    /// Answers are taken at once; what is to be done waits in `pending`.
    fn take(&mut self, out: Effects) {
        for effect in out {
            match effect {
                Effect::Reply { op, result } => {
                    let data = self.ops.remove(&op).map(|op| op.buffer).unwrap_or_default();
                    assert!(
                        self.replies.insert(op, result.map(|()| data)).is_none(),
                        "one reply"
                    );
                }
                Effect::Answer { id, result } => {
                    assert!(self.answers.insert(id, result).is_none(), "one answer");
                }
                Effect::Ready { volume, ready } => self.readies.push((volume, ready)),
                Effect::Member { volume, member: true } => {
                    self.members.insert(volume);
                }
                Effect::Member {
                    volume,
                    member: false,
                } => {
                    self.members.remove(&volume);
                }
                Effect::Event(event) => self.events.push(event),
                Effect::Checked { found, .. } => self.found.push(found),
                effect => {
                    self.issued.push(effect.clone());
                    self.pending.push(effect);
                }
            }
        }
    }

    /// Begins a host I/O of `byte`s.
    pub(super) fn begin(&mut self, volume: u32, io: HostIo, range: (u64, u64), byte: u8) -> OpId {
        let range = ByteRange {
            start: range.0,
            end: range.1,
        };
        self.enter(volume, (io, false, false), range, byte)
    }

    /// Begins a host write with FUA.
    pub(super) fn begin_fua(&mut self, volume: u32, range: (u64, u64), byte: u8) -> OpId {
        let range = ByteRange {
            start: range.0,
            end: range.1,
        };
        self.enter(volume, (HostIo::Write, true, false), range, byte)
    }

    /// Begins a write of the system that the volume follows.
    pub(super) fn begin_by_link(&mut self, volume: u32, range: (u64, u64), byte: u8) -> OpId {
        let range = ByteRange {
            start: range.0,
            end: range.1,
        };
        self.enter(volume, (HostIo::Write, false, true), range, byte)
    }

    fn enter(
        &mut self,
        volume: u32,
        (io, fua, by_link): (HostIo, bool, bool),
        range: ByteRange,
        byte: u8,
    ) -> OpId {
        let op = OpId(self.name());
        let buffer = vec![0; (range.end - range.start) as usize];
        self.ops.insert(
            op,
            Op {
                byte,
                range,
                buffer,
                decline: false,
            },
        );
        self.feed(Input::Host {
            op,
            volume: VolumeId(volume),
            io,
            range,
            fua,
            by_link,
        });
        op
    }

    pub(super) fn decline(&mut self, op: OpId) {
        if let Some(op) = self.ops.get_mut(&op) {
            op.decline = true;
        }
    }

    pub(super) fn command(&mut self, command: Command) -> CommandId {
        let id = CommandId(self.name());
        let now_ms = self.now.0;
        self.feed(Input::Command { id, command, now_ms });
        id
    }

    pub(super) fn verb(&mut self, verb: Verb, members: &[(u32, u32)]) -> Result<Summary, Refused> {
        let members = members
            .iter()
            .map(|(p, m)| (VolumeId(*p), VolumeId(*m)))
            .collect();
        let id = self.command(Command::Pair {
            verb,
            members,
            dry_run: false,
        });
        self.finish_command(id)
    }

    pub(super) fn configure(&mut self, condition: Condition, volume: u32) -> Result<Summary, Refused> {
        let id = self.command(Command::Config {
            condition,
            volume: VolumeId(volume),
            dry_run: false,
        });
        self.finish_command(id)
    }

    pub(super) fn finish_command(&mut self, id: CommandId) -> Result<Summary, Refused> {
        self.until(|room| room.answers.contains_key(&id));
        self.answers.remove(&id).expect("until saw it")
    }

    pub(super) fn finish(&mut self, op: OpId) -> Result<Vec<u8>, HostError> {
        self.until(|room| room.replies.contains_key(&op));
        self.replies.remove(&op).expect("until saw it")
    }

    pub(super) fn write(&mut self, volume: u32, range: (u64, u64), byte: u8) -> Result<Vec<u8>, HostError> {
        let op = self.begin(volume, HostIo::Write, range, byte);
        self.finish(op)
    }

    pub(super) fn read(&mut self, volume: u32, range: (u64, u64)) -> Result<Vec<u8>, HostError> {
        let op = self.begin(volume, HostIo::Read, range, 0);
        self.finish(op)
    }

    /// Likewise, while no copy ends.
    pub(super) fn finish_without_copies(&mut self, op: OpId) -> Result<Vec<u8>, HostError> {
        for _ in 0..200 {
            self.perform_all_but_copies();
            if let Some(reply) = self.replies.remove(&op) {
                return reply;
            }
            self.tick();
        }
        panic!("it needs a copy: {:?}", self.pending);
    }

    fn until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            if !self.perform_one() {
                self.tick();
            }
        }
        panic!("it does not end: {:?}", self.pending);
    }

    pub(super) fn tick(&mut self) {
        self.now.0 += 100;
        self.feed(Input::Tick);
    }

    /// Performs everything there is to do, and what comes of it, until all copies are over.
    pub(super) fn settle(&mut self) {
        self.until(|room| !room.engine.busy() && room.pending.is_empty());
    }

    /// Performs everything there is to do, without time passing.
    pub(super) fn settle_effects(&mut self) {
        while self.perform_one() {}
    }

    /// Performs what fits, in the order asked for, and what comes of it, until nothing fits.
    pub(super) fn perform_all(&mut self, fits: impl Fn(&Effect) -> bool) {
        while let Some(at) = self.pending.iter().position(&fits) {
            self.perform_one_at(at);
        }
    }

    /// Everything but copies: a pair stays in the state it copies in.
    pub(super) fn perform_all_but_copies(&mut self) {
        self.perform_all(|effect| !matches!(effect, Effect::Copy { .. }));
    }

    /// Effects to be performed that fit.
    pub(super) fn waiting(&self, fits: impl Fn(&Effect) -> bool) -> usize {
        self.pending.iter().filter(|effect| fits(effect)).count()
    }

    /// What was asked to be written to a volume, by hosts and by copies, and in which order.
    pub(super) fn written(&self, volume: u32) -> Vec<ByteRange> {
        let volume = VolumeId(volume);
        let ranges = self.issued.iter().filter_map(|effect| match effect {
            Effect::Write { to, range, .. } if *to == volume => Some(*range),
            Effect::Copy { to, range, .. } if to.contains(&volume) => Some(*range),
            _ => None,
        });
        ranges.collect()
    }

    /// Performs one effect, any of them (journal records in order). `false`: there is none.
    pub(super) fn perform_one(&mut self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let mut at = self.dice.below(self.pending.len() as u64) as usize;
        if matches!(self.pending[at], Effect::Journal { .. }) {
            let first = self
                .pending
                .iter()
                .position(|effect| matches!(effect, Effect::Journal { .. }));
            at = first.unwrap_or(at);
        }
        self.perform_one_at(at);
        true
    }

    pub(super) fn perform_one_at(&mut self, at: usize) {
        let effect = self.pending.remove(at);
        if let Some((token, outcome)) = self.perform(effect) {
            self.feed(Input::Done { token, outcome });
        }
    }

    /// Performs everything but flushes, and what comes of it.
    pub(super) fn perform_without_flushes(&mut self) {
        self.perform_all(|effect| !matches!(effect, Effect::Flush { .. }));
    }

    fn perform(&mut self, effect: Effect) -> Option<(crate::ids::Token, Outcome)> {
        let span = |range: ByteRange| range.start as usize..range.end as usize;
        Some(match effect {
            Effect::Read {
                token,
                op,
                from,
                range,
            } => {
                if self.unreadable.contains(&from) {
                    return Some((token, Outcome::ReadFailed));
                }
                let op = self.ops.get_mut(&op).expect("read of a live op");
                let (start, end) = (range.start - op.range.start, range.end - op.range.start);
                op.buffer[start as usize..end as usize].copy_from_slice(&self.disks[&from][span(range)]);
                (token, Outcome::Ok)
            }
            Effect::Prepare { token, op, from } => {
                if self.unreadable.contains(&from) {
                    return Some((token, Outcome::ReadFailed));
                }
                let op = self.ops.get_mut(&op).expect("prepare of a live op");
                op.buffer.copy_from_slice(&self.disks[&from][span(op.range)]);
                (
                    token,
                    if op.decline {
                        Outcome::Declined
                    } else {
                        Outcome::Ok
                    },
                )
            }
            Effect::Write { token, op, to, range } => {
                if self.unwritable.contains(&to) {
                    return Some((token, Outcome::WriteFailed(to)));
                }
                let byte = self.ops[&op].byte;
                self.disks
                    .get_mut(&to)
                    .expect("disk")
                    .get_mut(span(range))
                    .expect("range")
                    .fill(byte);
                (token, Outcome::Ok)
            }
            Effect::Copy {
                token,
                from,
                to,
                range,
            } => {
                if self.unreadable.contains(&from) {
                    return Some((token, Outcome::ReadFailed));
                }
                let data = self.disks[&from][span(range)].to_vec();
                for to in to {
                    if self.unwritable.contains(&to) {
                        return Some((token, Outcome::WriteFailed(to)));
                    }
                    assert_ne!(from, to, "a copy onto itself");
                    self.disks.get_mut(&to).expect("disk")[span(range)].copy_from_slice(&data);
                }
                // Often wrong, as a hint may be.
                let ahead = range.start % 3 * 100;
                (token, Outcome::Sparse { holes: 0, ahead })
            }
            Effect::Compare {
                token,
                volumes: [a, b],
                range,
            } => {
                if self.unreadable.contains(&a) || self.unreadable.contains(&b) {
                    return Some((token, Outcome::ReadFailed));
                }
                let same = self.disks[&a][span(range)] == self.disks[&b][span(range)];
                (token, if same { Outcome::Ok } else { Outcome::Differs })
            }
            Effect::Flush { token, volume } => {
                let broken = self.unwritable.contains(&volume);
                (
                    token,
                    if broken {
                        Outcome::WriteFailed(volume)
                    } else {
                        Outcome::Ok
                    },
                )
            }
            Effect::Journal { record, token } => {
                if self.journal_broken {
                    return token.map(|token| (token, Outcome::WriteFailed(VolumeId(0))));
                }
                self.durable.push(record);
                return token.map(|token| (token, Outcome::Ok));
            }
            other => unreachable!("{other:?} is taken at once"),
        })
    }

    /// The process dies: a few of the effects under way still happen, then a new engine starts from the journal.
    pub(super) fn crash(&mut self) {
        for effect in core::mem::take(&mut self.pending) {
            let journal = matches!(effect, Effect::Journal { .. });
            if !journal && self.dice.below(2) == 0 && self.is_performable(&effect) {
                self.perform(effect);
            }
        }
        self.ops.clear();
        let mut out = Vec::new();
        let volumes: Vec<_> = self.disks.keys().map(|id| (*id, spec())).collect();
        let (engine, _) = Engine::recover(config(self.limits), volumes, self.durable.clone(), &mut out)
            .expect("our own journal");
        self.engine = match self.mutation {
            Some(mutation) => engine.with_mutation(mutation),
            None => engine,
        };
        self.durable = self.engine.snapshot();
        self.members.clear();
        self.take(out);
    }

    fn is_performable(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Read { .. } | Effect::Prepare { .. } => false,
            Effect::Write { op, .. } => self.ops.contains_key(op),
            _ => true,
        }
    }

    /// A fresh journal file: what is known now and nothing of how it came about.
    pub(super) fn rotate_journal(&mut self) {
        self.durable = self.engine.snapshot();
    }

    pub(super) fn state(&self, mirror: u32) -> PairState {
        self.engine
            .pair(PairId(VolumeId(mirror)))
            .map_or(PairState::Simplex, |pair| pair.state)
    }

    /// Replaying what the journal would have now gives what the engine knows, and equal volumes are equal.
    pub(super) fn check_at_rest(&self) {
        for pair in self.engine.pairs() {
            let (p, m) = (&self.disks[&pair.primary], &self.disks[&pair.mirror]);
            let id = PairId(pair.mirror);
            let pending = self.engine.pending(id, crate::command::Side::Union);
            for at in 0..BYTES {
                let marked = pending.iter().any(|range| range.start <= at && at < range.end);
                let same = p[at as usize] == m[at as usize];
                assert!(
                    same || marked,
                    "byte {at} differs without a mark ({} {}): {pair:?}",
                    p[at as usize],
                    m[at as usize]
                );
            }
        }
    }
}
