//! Figs. 7 to 11 under real interleavings (S28-S32): threads of hosts that read and write the standard and the mirror
//! during a protected restore, and threads that do what the engine asks for. shuttle chooses who runs next.
//!
//! The oracle knows three things: the image at the command, who wrote what later, and that nobody else may touch the mirror.

#![allow(clippy::unwrap_used)]

use replication_engine::{
    Mutation,
    effects::{Effect, HostIo, Outcome},
};
use replication_model::{ESTABLISH, INSTANT, PROTECTED, SPLIT, Span, World};
use shuttle::{
    rand::{Rng, thread_rng},
    scheduler::{PctScheduler, RandomScheduler},
    sync::{Arc, Mutex},
    thread,
};

const BYTES: u64 = 6;
const STALE: u8 = 50;
const LATER: u8 = 60;
const ON_MIRROR: u8 = 70;
const IMAGE: u8 = 1;

struct Shared {
    world: World,
    hosts: usize,
}

type Room = Arc<Mutex<Shared>>;
type Hosts = Vec<Box<dyn FnOnce(&Room) + Send>>;

fn host(room: &Room, volume: u32, io: HostIo, span: Span, byte: u8) -> Vec<u8> {
    let op = room.lock().unwrap().world.begin(volume, io, span, byte);
    loop {
        if let Some(reply) = room.lock().unwrap().world.replies.remove(&op) {
            return reply.expect("no fault is injected");
        }
        thread::yield_now();
    }
}

/// One turn: takes any effect, lets go of the engine, does it. A copy lets go between its read and its write too.
fn perform(room: &Room) {
    let effect = {
        let world = &mut room.lock().unwrap().world;
        let choices = world.choices();
        if choices.is_empty() {
            world.tick();
            return;
        }
        let effect = world
            .pending
            .remove(choices[thread_rng().gen_range(0..choices.len())]);
        if matches!(effect, Effect::Journal { .. }) {
            // Records keep their order.
            let token = world.perform(effect);
            if let Some(token) = token {
                world.done(token, Outcome::Ok);
            }
            return;
        }
        effect
    };
    if let Effect::Copy {
        token,
        from,
        to,
        range,
    } = effect
    {
        let (start, end) = (range.start as usize, range.end as usize);
        let data = room.lock().unwrap().world.disks[from.0 as usize - 1][start..end].to_vec();
        let mut shared = room.lock().unwrap();
        for to in to {
            shared.world.disks[to.0 as usize - 1][start..end].copy_from_slice(&data);
        }
        shared.world.done(token, Outcome::Ok);
    } else {
        let world = &mut room.lock().unwrap().world;
        let token = world.perform(effect);
        if let Some(token) = token {
            world.done(token, Outcome::Ok);
        }
    }
}

/// Hosts and two performers at once; the world as it is when the last host was answered.
fn together(world: World, hosts: Hosts) -> World {
    let room = Arc::new(Mutex::new(Shared {
        world,
        hosts: hosts.len(),
    }));
    let performers: Vec<_> = (0..2)
        .map(|_| {
            let room = Arc::clone(&room);
            thread::spawn(move || {
                while room.lock().unwrap().hosts > 0 {
                    perform(&room);
                    thread::yield_now();
                }
            })
        })
        .collect();
    let hosts: Vec<_> = hosts
        .into_iter()
        .map(|host| {
            let room = Arc::clone(&room);
            thread::spawn(move || {
                host(&room);
                room.lock().unwrap().hosts -= 1;
            })
        })
        .collect();
    for thread in hosts.into_iter().chain(performers) {
        thread.join().unwrap();
    }
    room.lock().unwrap().world.clone()
}

fn apart(mutation: Option<Mutation>) -> World {
    let mut world = World::new(2, BYTES, mutation);
    world.verb(ESTABLISH, 1, 2).unwrap();
    assert!(world.settle());
    world.verb(SPLIT, 1, 2).unwrap();
    world.write(1, (0, BYTES), STALE).unwrap();
    world
}

fn expected(span: Span, byte: u8) -> Vec<u8> {
    let mut bytes = vec![IMAGE; BYTES as usize];
    bytes[span.0 as usize..span.1 as usize].fill(byte);
    bytes
}

/// A protected restore with a reader and a writer on each side; `crash`: the process dies when all were answered.
fn restore(mutation: Option<Mutation>, crash: bool) {
    const WRITTEN: Span = (1, 4);
    const ON_SIDE: Span = (3, 5);
    let mut world = apart(mutation);
    // In force at once, before its answer: nothing is copied yet.
    world.command(PROTECTED, 1, 2);
    let hosts: Hosts = vec![
        Box::new(|room| {
            host(room, 1, HostIo::Write, WRITTEN, LATER);
        }),
        Box::new(|room| {
            host(room, 2, HostIo::Write, ON_SIDE, ON_MIRROR);
        }),
        Box::new(|room| {
            let seen = host(room, 1, HostIo::Read, (0, BYTES), 0);
            let before = expected((0, 0), 0);
            assert!(
                seen == before || seen == expected(WRITTEN, LATER),
                "Fig. 7: {seen:?}"
            );
        }),
        Box::new(|room| {
            let seen = host(room, 2, HostIo::Read, (0, BYTES), 0);
            let before = expected((0, 0), 0);
            assert!(
                seen == before || seen == expected(ON_SIDE, ON_MIRROR),
                "Fig. 9: {seen:?}"
            );
        }),
    ];
    let mut world = together(world, hosts);
    if crash {
        let data = thread_rng().gen_bool(0.5);
        world.crash(data, false);
    }
    assert!(world.settle());
    assert_eq!(
        world.look(1),
        Ok(expected(WRITTEN, LATER)),
        "the image, and what was written later"
    );
    assert_eq!(world.disks[1], expected(ON_SIDE, ON_MIRROR), "the mirror");
    assert_eq!(world.unmarked(), None);
}

/// An INSTANT split of a mirror that is owed everything, while the standard and the mirror are written.
fn instant_split(mutation: Option<Mutation>) {
    let mut world = World::new(2, BYTES, mutation);
    world.command(ESTABLISH, 1, 2);
    world.command(INSTANT, 1, 2);
    let hosts: Hosts = vec![
        Box::new(|room| {
            host(room, 1, HostIo::Write, (1, 4), LATER);
        }),
        Box::new(|room| {
            host(room, 2, HostIo::Write, (3, 5), ON_MIRROR);
        }),
    ];
    let mut world = together(world, hosts);
    assert!(world.settle());
    assert_eq!(world.disks[0], expected((1, 4), LATER));
    assert_eq!(world.disks[1], expected((3, 5), ON_MIRROR));
}

const RUNS: usize = 150;

fn everything(mutation: Option<Mutation>) {
    match thread_rng().gen_range(0..3) {
        0 => restore(mutation, false),
        1 => restore(mutation, true),
        _ => instant_split(mutation),
    }
}

/// S11, S15, S18-S24, S28-S33: any schedule.
#[test]
fn figures_7_to_11_under_random_schedules() {
    let scheduler = RandomScheduler::new_from_seed(1, RUNS);
    shuttle::Runner::new(scheduler, shuttle::Config::default()).run(|| everything(None));
}

/// S28-S33: schedules with few switches at the worst places.
#[test]
fn figures_7_to_11_under_pct() {
    let scheduler = PctScheduler::new_from_seed(1, 3, RUNS);
    shuttle::Runner::new(scheduler, shuttle::Config::default()).run(|| everything(None));
}

const PLANTED: [Mutation; 6] = [
    Mutation::SkipHot,
    Mutation::SkipUnsettledWait,
    Mutation::SkipPush,
    Mutation::SkipMerge,
    Mutation::SkipFig10,
    Mutation::ReadStale,
];

/// O1, O5, O6, O7: the oracle finds planted bugs, or its silence would mean nothing.
#[test]
fn planted_bugs_are_caught() {
    let mut missed = Vec::new();
    for mutation in PLANTED {
        let scheduler = RandomScheduler::new_from_seed(2, 4 * RUNS);
        let runner = shuttle::Runner::new(scheduler, shuttle::Config::default());
        let run = std::panic::AssertUnwindSafe(|| runner.run(move || everything(Some(mutation))));
        if std::panic::catch_unwind(run).is_ok() {
            missed.push(mutation);
        }
    }
    assert!(missed.is_empty(), "{missed:?} were not caught");
}
