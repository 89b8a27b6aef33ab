//! The real engine under a model checker (`tests/every_order.rs`) and under controlled schedules (`tests/schedules.rs`).
//!
//! [`World`] is the engine with volumes of a few bytes, what it asked for and nobody did yet, and what the journal has.
//! It can be copied, so a checker can go on from any moment in every possible way.

mod perform;

use std::collections::BTreeMap;

use replication_engine::{
    Engine, EngineConfig, Limits, Mutation,
    command::{Command, Refused, Summary, Verb, VolumeSpec},
    effects::{Effect, Effects, HostError, HostIo, Input, Outcome},
    ids::{ByteRange, CommandId, OpId, PairId, Tick, Token, VolumeId},
    journal::Record,
    state::PairState,
};

/// Bytes a track.
pub const TRACK: u32 = 2;

/// A byte range, as `(start, end)`.
pub type Span = (u64, u64);

/// ESTABLISH.
pub const ESTABLISH: Verb = Verb::Establish { full: false };
/// SPLIT.
pub const SPLIT: Verb = Verb::Split {
    instant: false,
    strict_hold: false,
    force: false,
};
/// SPLIT, ready at once.
pub const INSTANT: Verb = Verb::Split {
    instant: true,
    strict_hold: false,
    force: false,
};
/// The stop of a protected restore.
pub const STOP: Verb = Verb::Split {
    instant: false,
    strict_hold: false,
    force: true,
};
/// RESTORE.
pub const RESTORE: Verb = Verb::Restore {
    full: false,
    protected: false,
};
/// RESTORE, protected.
pub const PROTECTED: Verb = Verb::Restore {
    full: false,
    protected: true,
};
/// The end of a pair.
pub const CANCEL: Verb = Verb::Cancel { force: true };

/// A host I/O under way.
#[derive(Debug, Clone)]
pub struct Op {
    /// What it writes everywhere in its range.
    pub byte: u8,
    /// Where.
    pub range: ByteRange,
    /// What it read.
    pub buffer: Vec<u8>,
}

/// The engine and all that surrounds it.
#[derive(Debug, Clone)]
pub struct World {
    /// The real one.
    pub engine: Engine,
    /// Volume `n` is at `n - 1`.
    pub disks: Vec<Vec<u8>>,
    /// What the journal is sure to have.
    pub durable: Vec<Record>,
    /// What is to be done.
    pub pending: Effects,
    /// Host I/O under way.
    pub ops: BTreeMap<OpId, Op>,
    /// Host I/O that ended.
    pub replies: BTreeMap<OpId, Result<Vec<u8>, HostError>>,
    /// Commands that ended.
    pub answers: BTreeMap<CommandId, Result<Summary, Refused>>,
    names: u64,
    now: u64,
    mutation: Option<Mutation>,
}

fn config() -> EngineConfig {
    let limits = Limits {
        copy_run_bytes: u64::from(TRACK),
        settle_tracks: 8,
        settle_after: 300,
        cool_after: 500,
        ..Limits::default()
    };
    EngineConfig {
        track_size: TRACK,
        limits,
    }
}

impl World {
    /// So many volumes of so many bytes; each byte of a volume is the volume's number.
    pub fn new(volumes: u8, bytes: u64, mutation: Option<Mutation>) -> Self {
        let mut engine = Engine::new(config());
        if let Some(mutation) = mutation {
            engine = engine.with_mutation(mutation);
        }
        for number in 1..=volumes {
            engine.define_volume(VolumeId(number.into()), VolumeSpec { bytes, block_size: 1 });
        }
        Self {
            durable: engine.snapshot(),
            engine,
            disks: (1..=volumes).map(|number| vec![number; bytes as usize]).collect(),
            pending: Vec::new(),
            ops: BTreeMap::new(),
            replies: BTreeMap::new(),
            answers: BTreeMap::new(),
            names: 0,
            now: 0,
            mutation,
        }
    }

    /// One input to the engine.
    pub fn step(&mut self, input: Input) {
        let mut out = Vec::new();
        self.engine.step(Tick(self.now), input, &mut out);
        self.take(out);
    }

    /// An effect ended.
    pub fn done(&mut self, token: Token, outcome: Outcome) {
        self.step(Input::Done { token, outcome });
    }

    /// 100 units of time pass.
    pub fn tick(&mut self) {
        self.now += 100;
        self.step(Input::Tick);
    }

    fn take(&mut self, out: Effects) {
        for effect in out {
            match effect {
                Effect::Reply { op, result } => {
                    let data = self.ops.remove(&op).map(|op| op.buffer).unwrap_or_default();
                    self.replies.insert(op, result.map(|()| data));
                }
                Effect::Answer { id, result } => {
                    self.answers.insert(id, result);
                }
                Effect::Ready { .. } | Effect::Member { .. } | Effect::Event(_) => {}
                effect => self.pending.push(effect),
            }
        }
    }

    /// Begins a host I/O of `byte`s.
    pub fn begin(&mut self, volume: u32, io: HostIo, span: Span, byte: u8) -> OpId {
        self.names += 1;
        let op = OpId(self.names);
        let range = ByteRange {
            start: span.0,
            end: span.1,
        };
        let buffer = vec![0; (span.1 - span.0) as usize];
        self.ops.insert(op, Op { byte, range, buffer });
        self.step(Input::Host {
            op,
            volume: VolumeId(volume),
            io,
            range,
            fua: false,
            by_link: false,
        });
        op
    }

    /// Gives a command for one pair.
    pub fn command(&mut self, verb: Verb, primary: u32, mirror: u32) -> CommandId {
        self.names += 1;
        let id = CommandId(self.names);
        let command = Command::Pair {
            verb,
            members: vec![(VolumeId(primary), VolumeId(mirror))],
            dry_run: false,
        };
        self.step(Input::Command {
            id,
            command,
            now_ms: 0,
        });
        id
    }

    /// The state of the pair of this mirror.
    pub fn state(&self, mirror: u32) -> PairState {
        self.engine
            .pair(PairId(VolumeId(mirror)))
            .map_or(PairState::Simplex, |pair| pair.state)
    }

    /// Does everything in order until `done`; `false` if that never is.
    pub fn until(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..3000 {
            if done(self) {
                return true;
            }
            if self.pending.is_empty() {
                self.tick();
            } else {
                self.perform_at(0);
            }
        }
        false
    }

    /// Does everything until no copy runs and nothing waits; `false` if that never is.
    pub fn settle(&mut self) -> bool {
        self.until(|world| !world.engine.busy() && world.pending.is_empty())
    }

    /// A command from its beginning to its answer.
    pub fn verb(&mut self, verb: Verb, primary: u32, mirror: u32) -> Result<Summary, Refused> {
        let id = self.command(verb, primary, mirror);
        assert!(self.until(|world| world.answers.contains_key(&id)), "an answer");
        self.answers.remove(&id).expect("until saw it")
    }

    /// A write from its beginning to its reply.
    pub fn write(&mut self, volume: u32, span: Span, byte: u8) -> Result<Vec<u8>, HostError> {
        let op = self.begin(volume, HostIo::Write, span, byte);
        assert!(self.until(|world| world.replies.contains_key(&op)), "a reply");
        self.replies.remove(&op).expect("until saw it")
    }

    /// What a host would read now in the whole volume. The world itself goes on as if nobody had.
    pub fn look(&self, volume: u32) -> Result<Vec<u8>, HostError> {
        let mut world = self.clone();
        let bytes = self.disks[0].len() as u64;
        let op = world.begin(volume, HostIo::Read, (0, bytes), 0);
        assert!(world.until(|world| world.replies.contains_key(&op)), "a reply");
        world.replies.remove(&op).expect("until saw it")
    }

    /// A track that differs between the volumes of a pair although no bitmap has it: what S43 and S58 rule out.
    pub fn unmarked(&self) -> Option<String> {
        for pair in self.engine.pairs() {
            let pending = self
                .engine
                .pending(PairId(pair.mirror), replication_engine::command::Side::Union);
            let (p, m) = (
                &self.disks[pair.primary.0 as usize - 1],
                &self.disks[pair.mirror.0 as usize - 1],
            );
            for at in 0..p.len() {
                let marked = pending
                    .iter()
                    .any(|range| (range.start..range.end).contains(&(at as u64)));
                if p[at] != m[at] && !marked {
                    return Some(format!("byte {at} differs without a mark: {pair:?}"));
                }
            }
        }
        None
    }
}
