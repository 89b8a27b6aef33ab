//! `kill -9` of the daemon under load, in every state of a pair, and of reservations.
//!
//! Each test brings a daemon of its own to a state, with a stamped load on every volume that hosts may use
//! (`holdfast_tests::load`), kills it among the load or in the middle of the command, starts it again, and looks
//! (`holdfast_tests::world`): pairs and states; every sector of every volume; split images, taken in flight, against what may be in
//! them; files of pairs track by track against the marks; that a pair which was equal is owed no more than the regions
//! written to. Then all copies end, all pairs are established under load again, and their files must be equal byte by byte.
//!
//! The daemon of these tests replaces its journal every few dozen records, one test kills it when it does so, and after a
//! kill it may be killed again while it starts. In a third of the worlds (`HOLDFAST_POWER`, a percentage) power goes with the
//! daemon: state and volumes lie on a disk of their own, which then has only what was made stable. For this, and for a store
//! that is full in `killed_in_suspended`, the tests must be root, or may become so by `sudo -n`.
//!
//! One seed drives a run and is printed; a failure prints the command that repeats it (the plan, that is: threads and the
//! moment of the kill are the machine's). `./test e2e` runs every test once, with 17 kills and a few more. The long way:
//!
//!     HOLDFAST_KILLS=200 HOLDFAST_BIN_DIR=$PWD/target/release cargo nextest run -p holdfast-tests --test crash --no-capture
//!
//! goes on until there were that many kills, a seventeenth of them in each test, and each test prints what it did: kills, the
//! states of pairs shortly before them, what was going on, and what the load did.

use std::{
    thread,
    time::{Duration, Instant},
};

use holdfast_tests::{
    Daemon, DaemonConfig, commands,
    commands::Command,
    initiator::{Completion, GOOD, Initiator, Manner, RESERVATION_CONFLICT},
    load::{Tally, cut::Verb},
    random::{Random, number_given},
    world::{Figures, World},
};

const ESTABLISH: Verb = Verb::Establish { full: false };
const SPLIT: Verb = Verb::Split { instant: false };
const INSTANT: Verb = Verb::Split { instant: true };

#[test]
fn killed_in_simplex() {
    rounds("killed_in_simplex", &[1, 4], |world| {
        world.run(200);
        if world.random().chance(33) {
            world.order_and_kill(ESTABLISH, &[(1, 2)]);
        } else {
            world.kill();
        }
    });
}

#[test]
fn killed_in_copy() {
    rounds("killed_in_copy", &[1], |world| {
        world.slow_down();
        if !world.order_perhaps_kill(ESTABLISH, &[(1, 2)]) {
            world.run(150);
            world.kill();
        }
    });
}

/// O1, O4.
#[test]
fn killed_in_duplex() {
    rounds("killed_in_duplex", &[1], |world| {
        duplex(world, &[(1, 2)]);
        world.run(200);
        world.kill();
    });
}

#[test]
fn killed_in_splitting() {
    rounds("killed_in_splitting", &[1], |world| splitting(world, SPLIT));
}

/// S11, O6.
#[test]
fn killed_in_splitting_instant() {
    rounds("killed_in_splitting_instant", &[1], |world| {
        splitting(world, INSTANT);
    });
}

#[test]
fn killed_in_split() {
    rounds("killed_in_split", &[1], |world| {
        duplex(world, &[(1, 2)]);
        world.run(50);
        if !world.order_perhaps_kill(SPLIT, &[(1, 2)]) {
            world.wait(1, 2, "split");
            world.run(200);
            world.kill();
        }
    });
}

#[test]
fn killed_in_restoring() {
    rounds("killed_in_restoring", &[1], |world| restoring(world, false));
}

#[test]
fn killed_in_restored() {
    rounds("killed_in_restored", &[1], |world| {
        restored(world);
        world.run(150);
        world.kill();
    });
}

/// S26, O5.
#[test]
fn killed_in_protected_restoring() {
    rounds("killed_in_protected_restoring", &[1], |world| {
        restoring(world, true);
    });
}

/// S35: a protected restore that is stopped.
#[test]
fn killed_in_a_forced_split() {
    rounds("killed_in_a_forced_split", &[1], |world| {
        restore_slowly(world, true);
        if !world.order_perhaps_kill(Verb::Stop, &[(1, 2)]) {
            world.run(150);
            world.kill();
        }
    });
}

/// CANCEL in every state, with FORCE where a copy runs that leaves half a volume; the pair may begin anew.
#[test]
fn killed_in_cancel() {
    rounds("killed_in_cancel", &[1], |world| {
        let pair = [(1, 2)];
        let force = match world.random().below(7) {
            0 => {
                world.slow_down();
                world.order(ESTABLISH, &pair);
                world.run(50);
                world.random().chance(50)
            }
            1 => {
                duplex(world, &pair);
                world.run(50);
                world.random().chance(50)
            }
            2 => {
                split(world, &pair);
                world.random().chance(50)
            }
            3 => {
                restored(world);
                world.run(50);
                world.random().chance(50)
            }
            4 => {
                world.slow_down();
                world.order(ESTABLISH, &pair);
                let verb = if world.random().chance(50) { SPLIT } else { INSTANT };
                world.order(verb, &pair);
                world.run(50);
                true
            }
            _ => {
                let protected = world.random().chance(50);
                restore_slowly(world, protected);
                true
            }
        };
        if !world.order_perhaps_kill(Verb::Cancel { force }, &pair) {
            world.run(100);
            if world.random().chance(50) {
                world.order(ESTABLISH, &pair);
                world.run(50);
            }
            world.kill();
        }
    });
}

/// S57, O8.
#[test]
fn killed_at_a_group_split() {
    rounds("killed_at_a_group_split", &[1, 4], |world| {
        let group = [(1, 2), (4, 5)];
        duplex(world, &group);
        world.run(50);
        let verb = if world.random().chance(50) { SPLIT } else { INSTANT };
        if !world.order_perhaps_kill(verb, &group) {
            world.run(100);
            world.kill();
        }
    });
}

#[test]
fn killed_with_generations() {
    rounds("killed_with_generations", &[1], |world| {
        split(world, &[(1, 2)]);
        duplex(world, &[(1, 3)]);
        world.run(50);
        if world.random().chance(67) {
            world.order(SPLIT, &[(1, 3)]);
            world.wait(1, 3, "split");
            world.run(50);
        }
        world.slow_down();
        let restore = Verb::Restore {
            full: world.random().chance(50),
            protected: world.random().chance(50),
        };
        if !world.order_perhaps_kill(restore, &[(1, 2)]) {
            world.run(150);
            world.kill();
        }
    });
}

/// S53.
#[test]
fn killed_in_a_cascade() {
    rounds("killed_in_a_cascade", &[1], |world| {
        split(world, &[(1, 2)]);
        duplex(world, &[(2, 6)]);
        world.run(50);
        match world.random().below(3) {
            // Hosts write to the middle, which has an image taken.
            0 => {
                if world.order_perhaps_kill(SPLIT, &[(2, 6)]) {
                    return;
                }
            }
            // The whole chain is equal, and the image at its end is one of its head.
            1 => {
                duplex(world, &[(1, 2)]);
                world.run(50);
                if world.order_perhaps_kill(SPLIT, &[(2, 6)]) {
                    return;
                }
            }
            // What the middle holds goes up while it has a mirror of its own.
            _ => {
                world.slow_down();
                let restore = Verb::Restore {
                    full: false,
                    protected: world.random().chance(50),
                };
                if world.order_perhaps_kill(restore, &[(1, 2)]) {
                    return;
                }
            }
        }
        world.run(150);
        world.kill();
    });
}

/// S26, O14: kills while the journal is written anew.
#[test]
fn killed_at_a_rotation() {
    rounds("killed_at_a_rotation", &[1, 4], |world| {
        let group = [(1, 2), (4, 5)];
        duplex(world, &group);
        world.kill_at_rotation(|world| {
            loop {
                world.try_order(SPLIT, &group)?;
                for (primary, mirror) in group {
                    world.try_wait(primary, mirror, "split")?;
                }
                world.try_order(ESTABLISH, &group)?;
                for (primary, mirror) in group {
                    world.try_wait(primary, mirror, "duplex")?;
                }
            }
        });
    });
}

#[test]
fn killed_after_cooling() {
    rounds("killed_after_cooling", &[1], |world| {
        duplex(world, &[(1, 2)]);
        if world.random().chance(33) {
            split(world, &[(1, 2)]);
        }
        world.run(150);
        world.cool();
        world.kill();
    });
}

/// S58, O9.
#[test]
fn killed_in_suspended() {
    rounds_in(
        "killed_in_suspended",
        |seed| World::with_small_store(seed, &[1]),
        |world| {
            if world.random().chance(67) {
                duplex(world, &[(1, 2)]);
                world.fill_store();
            } else {
                // The image is lost with the room for it; the pair says so.
                world.slow_down();
                world.order(ESTABLISH, &[(1, 2)]);
                world.order(SPLIT, &[(1, 2)]);
                world.fill_store();
            }
            world.wait(1, 2, "suspended");
            world.run(50);
            if world.random().chance(25) {
                world.free_store();
                world.run(50);
            }
            if world.random().chance(25) {
                world.order_and_kill(ESTABLISH, &[(1, 2)]);
            } else {
                world.kill();
            }
        },
    );
}

/// Pairs in DUPLEX, under load.
fn duplex(world: &mut World, members: &[(u32, u32)]) {
    for member in members {
        world.order(ESTABLISH, &[*member]);
    }
    for (primary, mirror) in members {
        world.wait(*primary, *mirror, "duplex");
    }
}

/// Pairs in SPLIT, with changes on both sides.
fn split(world: &mut World, members: &[(u32, u32)]) {
    duplex(world, members);
    world.order(SPLIT, members);
    for (primary, mirror) in members {
        world.wait(*primary, *mirror, "split");
    }
    world.run(150);
}

/// SPLIT of a pair that is still owed tracks: all of them, or what changed since an earlier image.
fn splitting(world: &mut World, verb: Verb) {
    let full = world.random().chance(50);
    if !full {
        split(world, &[(1, 2)]);
    }
    world.slow_down();
    world.order(ESTABLISH, &[(1, 2)]);
    world.run(10);
    if !world.order_perhaps_kill(verb, &[(1, 2)]) {
        world.run(150);
        world.kill();
    }
}

fn restored(world: &mut World) {
    split(world, &[(1, 2)]);
    let full = world.random().chance(50);
    let restore = Verb::Restore {
        full,
        protected: false,
    };
    world.order(restore, &[(1, 2)]);
    world.wait(1, 2, "restored");
}

/// A restore in its midst.
fn restore_slowly(world: &mut World, protected: bool) {
    split(world, &[(1, 2)]);
    world.slow_down();
    let full = world.random().chance(50);
    world.order(Verb::Restore { full, protected }, &[(1, 2)]);
    world.run(100);
}

fn restoring(world: &mut World, protected: bool) {
    split(world, &[(1, 2)]);
    world.slow_down();
    let full = world.random().chance(50);
    if !world.order_perhaps_kill(Verb::Restore { full, protected }, &[(1, 2)]) {
        world.run(150);
        world.kill();
    }
}

/// Tests that share `HOLDFAST_KILLS`.
const STATES: u64 = 17;

/// Runs a scenario, which ends with a kill, until its share of kills is done, in worlds with these standards under load.
fn rounds(name: &'static str, standards: &[u32], scenario: fn(&mut World)) {
    rounds_in(name, |seed| World::new(seed, standards), scenario);
}

fn rounds_in(name: &'static str, world: impl Fn(u64) -> World, scenario: fn(&mut World)) {
    let wanted = number_given("HOLDFAST_KILLS").unwrap_or(STATES).div_ceil(STATES);
    let given = number_given("HOLDFAST_CRASH_SEED");
    let started = Instant::now();
    let mut seeds = Random::new(given.unwrap_or_else(Random::fresh_seed));
    let (mut kills, mut runs, mut tally, mut figures) = (0, 0, Tally::default(), Figures::default());
    while kills < wanted {
        let seed = given.unwrap_or_else(|| seeds.number());
        println!("{name}: seed {seed}");
        let replay = Replay { name, seed };
        let mut world = world(seed);
        scenario(&mut world);
        world.recover();
        // Again, in whatever has begun since.
        if world.random().chance(33) {
            world.run(50);
            world.kill();
            world.recover();
        }
        world.settle();
        drop(replay);
        kills += world.kills();
        runs += 1;
        tally.add(world.tally());
        figures.add(world.figures());
        if given.is_some() {
            break;
        }
    }
    println!(
        "{name}: {kills} kills in {runs} runs, {} s; pairs then {:?}; {:?}; {tally:?}",
        started.elapsed().as_secs(),
        figures.states,
        figures.moments
    );
}

/// Says how to repeat a run that fails.
struct Replay {
    name: &'static str,
    seed: u64,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "to repeat: HOLDFAST_CRASH_SEED={} HOLDFAST_BIN_DIR=$PWD/target/release \
                 cargo nextest run -p holdfast-tests --test crash {}",
                self.seed, self.name
            );
        }
    }
}

/// Two nexuses, and who has registered and reserved what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Reservations {
    /// The key of each nexus, 0 for none.
    keys: [u64; 2],
    /// Holder and type.
    holder: Option<(usize, u8)>,
}

/// A PERSISTENT RESERVE OUT of a nexus.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// REGISTER of a key; 0 takes the registration away.
    Register(u64),
    Reserve(u8),
    Release,
    Clear,
    /// The other's registration, and what it has reserved.
    Preempt(u8),
}

/// Write exclusive, exclusive access, and both for registrants only.
const TYPES: [u8; 4] = [1, 3, 5, 6];

impl Reservations {
    /// A change that `who` may make now.
    fn any_change(&self, who: usize, random: &mut Random) -> Change {
        let key = random.number() | 1;
        let kind = TYPES[random.below(4) as usize];
        if self.keys[who] == 0 {
            return Change::Register(key);
        }
        match (random.below(8), self.holder) {
            (0, _) => Change::Register(0),
            (1, _) => Change::Clear,
            (2 | 3, _) if self.keys[1 - who] != 0 => Change::Preempt(kind),
            (4, Some((holder, _))) if holder == who => Change::Release,
            (_, None) => Change::Reserve(kind),
            _ => Change::Register(key),
        }
    }

    fn command(&self, who: usize, change: Change, aptpl: bool) -> Command {
        let key = self.keys[who];
        let held = self.holder.map_or(0, |(_, kind)| kind);
        match change {
            Change::Register(new) => commands::reserve_out(0, 0, key, new, aptpl),
            Change::Reserve(kind) => commands::reserve_out(1, kind, key, 0, false),
            Change::Release => commands::reserve_out(2, held, key, 0, false),
            Change::Clear => commands::reserve_out(3, 0, key, 0, false),
            Change::Preempt(kind) => commands::reserve_out(4, kind, key, self.keys[1 - who], false),
        }
    }

    fn after(&self, who: usize, change: Change) -> Self {
        let mut next = self.clone();
        let holds = |whose: usize| self.holder.is_some_and(|(holder, _)| holder == whose);
        match change {
            Change::Register(key) => {
                next.keys[who] = key;
                if key == 0 && holds(who) {
                    next.holder = None;
                }
            }
            Change::Reserve(kind) => next.holder = Some((who, kind)),
            Change::Release => next.holder = None,
            Change::Clear => next = Self::default(),
            Change::Preempt(kind) => {
                next.keys[1 - who] = 0;
                if holds(1 - who) {
                    next.holder = Some((who, kind));
                }
            }
        }
        next
    }

    /// May this nexus write?
    fn admits(&self, who: usize) -> bool {
        self.holder
            .is_none_or(|(holder, kind)| holder == who || kind >= 5 && self.keys[who] != 0)
    }
}

/// What READ KEYS and READ RESERVATION show.
fn shown(session: &mut Initiator) -> (Vec<u64>, Option<(u64, u8)>) {
    let mut read = |action| run(session, &commands::reserve_in(action)).data;
    let word = |data: &[u8], at: usize| u64::from_be_bytes(data[at..at + 8].try_into().expect("eight bytes"));
    let length = |data: &[u8]| u32::from_be_bytes(data[4..8].try_into().expect("four bytes")) as usize;
    let keys = read(0);
    let count = length(&keys) / 8;
    let mut keys: Vec<u64> = (0..count).map(|index| word(&keys, 8 + 8 * index)).collect();
    keys.sort_unstable();
    let held = read(1);
    let holder = (length(&held) > 0).then(|| (word(&held, 8), held[21] & 0x0f));
    (keys, holder)
}

impl Reservations {
    fn shown(&self) -> (Vec<u64>, Option<(u64, u8)>) {
        let mut keys: Vec<u64> = self.keys.into_iter().filter(|key| *key != 0).collect();
        keys.sort_unstable();
        (keys, self.holder.map(|(who, kind)| (self.keys[who], kind)))
    }
}

fn run(session: &mut Initiator, command: &Command) -> Completion {
    let completion = session.run(0, command).expect("nobody has killed the daemon");
    assert_eq!(completion.status, GOOD, "{command:?}: {completion:?}");
    completion
}

#[test]
fn reservations_outlive_kills() {
    let name = "reservations_outlive_kills";
    let seed = number_given("HOLDFAST_CRASH_SEED").unwrap_or_else(Random::fresh_seed);
    println!("{name}: seed {seed}");
    let replay = Replay { name, seed };
    let mut random = Random::new(seed);
    let mut daemon = Daemon::start(&DaemonConfig::trio("8MiB"));
    let login = |daemon: &Daemon| {
        ["a", "b"].map(|who| {
            let manner = Manner {
                name: format!("iqn.2026-11.test:{who}"),
                immediate_data: true,
                digests: false,
            };
            Initiator::login(daemon.port(), daemon.iqn(), &manner)
        })
    };
    let kills = number_given("HOLDFAST_KILLS").unwrap_or(STATES).div_ceil(3);
    let (mut now, mut made, mut in_flight) = (Reservations::default(), 0, 0);
    for _ in 0..kills {
        let mut sessions = login(&daemon);
        for _ in 0..random.below(6) {
            let who = random.below(2) as usize;
            let change = now.any_change(who, &mut random);
            let aptpl = random.chance(50);
            run(&mut sessions[who], &now.command(who, change, aptpl));
            now = now.after(who, change);
            assert_eq!(
                shown(&mut sessions[1 - who]),
                now.shown(),
                "{change:?} of nexus {who}"
            );
            made += 1;
        }
        // One more, killed in its midst. A unit attention would keep it from beginning: take those first.
        let who = random.below(2) as usize;
        run(&mut sessions[who], &commands::reserve_in(0));
        let change = now.any_change(who, &mut random);
        let command = now.command(who, change, random.chance(50));
        sessions[who]
            .submit(0, command)
            .expect("nobody has killed the daemon");
        thread::sleep(Duration::from_micros(random.below(4000)));
        daemon.kill();
        let answered = match sessions[who].poll(Duration::from_secs(5)) {
            Ok(Some(completion)) => {
                assert_eq!(
                    completion.status, GOOD,
                    "{change:?} of nexus {who}: {completion:?}"
                );
                true
            }
            Ok(None) | Err(_) => false,
        };
        daemon.start_again();
        let next = now.after(who, change);
        let mut sessions = login(&daemon);
        let is = shown(&mut sessions[0]);
        if answered || is != now.shown() {
            assert_eq!(
                is,
                next.shown(),
                "after {change:?} of nexus {who}; answered: {answered}"
            );
            now = next;
        }
        in_flight += u32::from(!answered);
        for (who, session) in sessions.iter_mut().enumerate() {
            let write = commands::write(0, vec![1; 512], false);
            let status = session
                .run(0, &write)
                .expect("nobody has killed the daemon")
                .status;
            let wanted = if now.admits(who) {
                GOOD
            } else {
                RESERVATION_CONFLICT
            };
            assert_eq!(status, wanted, "a write of nexus {who}: {now:?}");
        }
    }
    drop(replay);
    println!("{name}: {kills} kills, {made} changes before them, {in_flight} not answered");
}
