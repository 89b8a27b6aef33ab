//! What a host's I/O of a volume in a pair costs in the engine when nothing is in its way. `cargo bench -p replication-engine`.
#![allow(missing_docs)]

use divan::{Bencher, black_box};
use replication_engine::{
    Engine, EngineConfig, Limits,
    command::{Command, Verb, VolumeSpec},
    effects::{Effect, Effects, HostIo, Input, Outcome},
    ids::{ByteRange, CommandId, OpId, Tick, Token, VolumeId},
};

const PRIMARY: VolumeId = VolumeId(1);
const TRACK: u32 = 64 << 10;
const BYTES: u64 = 1 << 30;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 8, 32])]
fn write_of_split_pairs(bencher: Bencher, mirrors: u32) {
    pass(bencher, HostIo::Write, &mut array(mirrors, true));
}

#[divan::bench(args = [1, 8])]
fn write_of_duplex_pairs(bencher: Bencher, mirrors: u32) {
    pass(bencher, HostIo::Write, &mut array(mirrors, false));
}

#[divan::bench(args = [1, 8])]
fn read_of_split_pairs(bencher: Bencher, mirrors: u32) {
    pass(bencher, HostIo::Read, &mut array(mirrors, true));
}

/// Blocks of 4 KiB, at places that look random, of the 32 MiB that are hot.
fn pass(bencher: Bencher, io: HostIo, engine: &mut Engine) {
    let mut out = Effects::new();
    let mut index = 0_u64;
    bencher.bench_local(|| {
        index += 1;
        let start = index.wrapping_mul(0x9e37_79b9) % (8 << 10) * 4096;
        let range = ByteRange {
            start,
            end: start + 4096,
        };
        let passage = engine
            .pass(PRIMARY, io, black_box(range), false)
            .expect("nothing is in the way");
        engine.passed(&passage, &[], &mut out)
    });
}

/// A volume with so many mirrors, whose first 32 MiB are hot.
fn array(mirrors: u32, split: bool) -> Engine {
    let mut engine = Engine::new(EngineConfig {
        track_size: TRACK,
        limits: Limits::default(),
    });
    let spec = VolumeSpec {
        bytes: BYTES,
        block_size: 512,
    };
    for id in 1..=mirrors + 1 {
        engine.define_volume(VolumeId(id), spec);
    }
    let members: Vec<_> = (2..=mirrors + 1)
        .map(|mirror| (PRIMARY, VolumeId(mirror)))
        .collect();
    command(&mut engine, Verb::Establish { full: true }, &members);
    if split {
        let verb = Verb::Split {
            instant: false,
            strict_hold: false,
            force: false,
        };
        command(&mut engine, verb, &members);
    }
    for track in 0..512 {
        let start = track * u64::from(TRACK);
        feed(
            &mut engine,
            Input::Host {
                op: OpId(track),
                volume: PRIMARY,
                io: HostIo::Write,
                range: ByteRange {
                    start,
                    end: start + 4096,
                },
                fua: false,
                by_link: false,
            },
        );
    }
    engine
}

fn command(engine: &mut Engine, verb: Verb, members: &[(VolumeId, VolumeId)]) {
    let command = Command::Pair {
        verb,
        members: members.to_vec(),
        dry_run: false,
    };
    feed(
        engine,
        Input::Command {
            id: CommandId(1),
            command,
            now_ms: 0,
        },
    );
}

/// Everything that is asked for is done, until nothing is.
fn feed(engine: &mut Engine, input: Input) {
    let mut inputs = vec![input];
    let mut now = 0;
    while let Some(input) = inputs.pop() {
        let mut out = Effects::new();
        now += 1;
        engine.step(Tick(now), input, &mut out);
        let done = |token| Input::Done {
            token,
            outcome: Outcome::Ok,
        };
        inputs.extend(out.iter().filter_map(token_of).map(done));
    }
}

fn token_of(effect: &Effect) -> Option<Token> {
    match effect {
        Effect::Write { token, .. } | Effect::Copy { token, .. } | Effect::Flush { token, .. } => {
            Some(*token)
        }
        Effect::Journal { token, .. } => *token,
        _ => None,
    }
}
