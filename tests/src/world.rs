//! A daemon, its pairs, and a load: brought to a state, killed, started again, and looked at ([`look`]).

mod look;
mod phase;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fs,
    os::unix::fs::symlink,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Daemon, DaemonConfig, VolumeSpec, commands,
    initiator::{GOOD, Initiator, Lost, Manner},
    load::{
        Load, Shape, Tally,
        cut::{CutEnd, Verb},
    },
    marks::{self, TRACK},
    random::{Random, number_given},
    stamps::SECTOR,
    store::Store,
};
use phase::Phase;

#[derive(Debug, Clone, Copy)]
struct Pair {
    primary: u32,
    phase: Phase,
}

/// Bytes of each volume.
const BYTES: u64 = 8 << 20;
const SECTORS: u64 = BYTES / SECTOR as u64;
const REGION: u64 = 64 * TRACK;
/// The load goes to this part of the regions, so that the others must not be copied after a kill.
const FOOTPRINT_REGIONS: u64 = 6;
/// Slow enough that the copies under test are not over before the kill.
const SLOW: &str = "1MiB";
const FAST: &str = "1GiB";
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(1);
/// A few dozen records, so that the journal's file is replaced again and again.
const JOURNAL_LIMIT: &str = "16KiB";
/// Longer than regions stay hot (docs/engine.md), and than it takes them to cool.
const COOLING: Duration = Duration::from_secs(8);
/// The volume on a store that can be full, if there is one: a mirror.
const ON_SMALL_STORE: u32 = 2;
const SMALL_STORE_MIB: u32 = 10;

/// Volumes, by number: two standards, four mirrors, all of one size.
const VOLUMES: [(&str, bool); 6] = [
    ("prod", true),
    ("bcv1", false),
    ("bcv2", false),
    ("other", true),
    ("bcv-other", false),
    ("bcv-of-bcv", false),
];

/// The whole of one run.
#[derive(Debug)]
pub struct World {
    daemon: Daemon,
    load: Load,
    pairs: BTreeMap<u32, Pair>,
    standards: Vec<u32>,
    /// Pairs that were dissolved.
    dissolved: BTreeSet<(u32, u32)>,
    /// Mirrors of such pairs with a content that is known; hosts may use them.
    freed: BTreeSet<u32>,
    random: Random,
    manner: Manner,
    /// Mirrors of pairs that were DUPLEX when the daemon was killed.
    were_duplex: BTreeSet<u32>,
    /// A restore has written to a primary where the load has not.
    restored: bool,
    /// A mirror lies on a store that can be full.
    small_store: bool,
    /// State and volumes lie on a disk that loses what was not made stable when the daemon is killed.
    power: bool,
    kills: u64,
    figures: Figures,
}

/// What was killed.
#[derive(Debug, Default)]
pub struct Figures {
    /// Pairs by the state they were in shortly before a kill; "simplex" when there was none.
    pub states: BTreeMap<String, u64>,
    /// Kills by what was going on.
    pub moments: BTreeMap<&'static str, u64>,
}

impl Figures {
    /// Adds another's numbers.
    pub fn add(&mut self, other: &Self) {
        for (state, count) in &other.states {
            *self.states.entry(state.clone()).or_default() += count;
        }
        for (moment, count) in &other.moments {
            *self.moments.entry(moment).or_default() += count;
        }
    }
}

impl World {
    /// A daemon that copies fast, with these standards filled and under load, and no pair.
    pub fn new(seed: u64, standards: &[u32]) -> Self {
        Self::on(seed, standards, false)
    }

    /// The same, with volume 2 on a store that [`Self::fill_store`] fills up.
    pub fn with_small_store(seed: u64, standards: &[u32]) -> Self {
        Self::on(seed, standards, true)
    }

    fn on(seed: u64, standards: &[u32], small_store: bool) -> Self {
        let mut random = Random::new(seed);
        let power = !small_store && random.chance(percent_with_power_loss());
        let config = DaemonConfig {
            volumes: VOLUMES
                .iter()
                .map(|(name, standard)| {
                    if *standard {
                        VolumeSpec::standard(name, "8MiB")
                    } else {
                        VolumeSpec::mirror(name, "8MiB")
                    }
                })
                .collect(),
            initiators: String::new(),
            extra: String::new(),
        };
        let stores = |directory: &Path| {
            if power {
                return vec![disk_for_all(directory)];
            }
            if !small_store {
                return Vec::new();
            }
            let store = Store::new(&directory.join("small"), SMALL_STORE_MIB);
            store.hold(&directory.join(file_name(ON_SMALL_STORE)));
            vec![store]
        };
        let variables = [
            marks::TRACK_SIZE,
            ("HOLDFAST__REPLICATION__JOURNAL_LIMIT", JOURNAL_LIMIT),
            (COPY_RATE, FAST),
        ];
        let daemon = Daemon::start_on(&config, &variables, stores);
        let begin = random.below(SECTORS / REGION - FOOTPRINT_REGIONS + 1) * REGION;
        let shape = Shape {
            volumes: VOLUMES.len() as u32,
            sectors: SECTORS,
            track: TRACK,
            footprint: begin..begin + FOOTPRINT_REGIONS * REGION,
            depth: 3 + random.below(8) as usize,
        };
        let manner = Manner {
            name: "iqn.2026-11.test:load".to_owned(),
            immediate_data: random.chance(70),
            digests: random.chance(20),
        };
        let load = Load::new(shape, Random::new(random.number()));
        let mut world = Self {
            daemon,
            load,
            pairs: BTreeMap::new(),
            standards: standards.to_vec(),
            dissolved: BTreeSet::new(),
            freed: BTreeSet::new(),
            random,
            manner,
            were_duplex: BTreeSet::new(),
            restored: false,
            small_store,
            power,
            kills: 0,
            figures: Figures::default(),
        };
        world.connect();
        for standard in standards {
            alive(world.load.fill(*standard));
            alive(world.load.flush(*standard));
        }
        if power {
            world.load.expect_power_loss();
        }
        world.aim(&[]);
        world
    }

    /// The dice of this run.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Kills so far, without those of a daemon that was just starting.
    pub fn kills(&self) -> u64 {
        self.kills
    }

    /// What was killed so far.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// What the load did so far.
    pub fn tally(&self) -> Tally {
        self.load.tally()
    }

    /// Load for some time, from `least` milliseconds on, up to twice that.
    pub fn run(&mut self, least: u64) {
        let length = Duration::from_millis(least + self.random.below(least + 1));
        alive(self.load.run(Instant::now() + length));
    }

    /// A pair command among the load, to its answer.
    pub fn order(&mut self, verb: Verb, members: &[(u32, u32)]) {
        alive(self.try_order(verb, members));
    }

    /// The same, unless the daemon is killed.
    pub fn try_order(&mut self, verb: Verb, members: &[(u32, u32)]) -> Result<(), Lost> {
        self.make_way(verb, members);
        loop {
            let end = self.load.begin_cut(verb, members).and_then(|()| self.cut_end());
            if end.is_err() {
                self.load.lose();
                self.heard_before_loss(verb, members);
            }
            match end? {
                CutEnd::Good => break,
                CutEnd::Again => {}
                CutEnd::Refused(completion) => {
                    panic!("{verb:?} {members:?} was refused: {:02x?}", completion.sense)
                }
            }
        }
        self.in_force(verb, members);
        Ok(())
    }

    fn cut_end(&mut self) -> Result<CutEnd, Lost> {
        loop {
            if let Some(end) = self.load.take_cut_end() {
                return Ok(end);
            }
            self.load.run(Instant::now() + Duration::from_millis(1))?;
        }
    }

    /// The daemon is dead: its command may have been answered before.
    fn heard_before_loss(&mut self, verb: Verb, members: &[(u32, u32)]) {
        match self.load.take_cut_end() {
            Some(CutEnd::Good) => self.in_force(verb, members),
            Some(CutEnd::Refused(completion)) => {
                panic!("{verb:?} {members:?} was refused: {:02x?}", completion.sense)
            }
            Some(CutEnd::Again) | None => {}
        }
    }

    /// A pair command among the load, and a kill before, at, or shortly after its end.
    pub fn order_and_kill(&mut self, verb: Verb, members: &[(u32, u32)]) {
        self.note_states();
        self.make_way(verb, members);
        alive(self.load.begin_cut(verb, members));
        let moment = Duration::from_micros(self.random.below(6000));
        self.kill_when(verb.name(), move || thread::sleep(moment));
        for (_, mirror) in members {
            self.were_duplex.remove(mirror);
        }
        self.heard_before_loss(verb, members);
    }

    /// Either, as the dice fall: every other time the kill comes with the command. True if it came.
    pub fn order_perhaps_kill(&mut self, verb: Verb, members: &[(u32, u32)]) -> bool {
        let now = self.random.chance(50);
        if now {
            self.order_and_kill(verb, members);
        } else {
            self.order(verb, members);
        }
        now
    }

    /// SIGKILL among the load.
    pub fn kill(&mut self) {
        self.note_states();
        let moment = Duration::from_micros(1000 + self.random.below(20_000));
        self.kill_when("under load", move || thread::sleep(moment));
    }

    /// SIGKILL by another thread, while this one goes on sending.
    fn kill_when(&mut self, what: &'static str, moment: impl FnOnce() + Send + 'static) {
        let duplex = self.pairs.iter().filter(|(_, pair)| pair.phase == Phase::Duplex);
        self.were_duplex = duplex.map(|(mirror, _)| *mirror).collect();
        let killer = self.daemon.kill_when(moment);
        while self.load.run(Instant::now() + PATIENCE).is_ok() {}
        self.load.lose();
        killer.join().expect("it only kills");
        self.killed(what);
    }

    /// SIGKILL in the midst of, or shortly after, the replacement of the journal's file, while `orders` goes on ordering.
    pub fn kill_at_rotation(&mut self, mut orders: impl FnMut(&mut Self) -> Result<Infallible, Lost>) {
        self.note_states();
        let directory = self.daemon.path("state/journal");
        let files = names(&directory);
        let later = Duration::from_micros(self.random.below(3000));
        let within = Instant::now() + SETTLED_WITHIN;
        let killer = self.daemon.kill_when(move || {
            while names(&directory) == files && Instant::now() < within {
                thread::sleep(Duration::from_micros(50));
            }
            thread::sleep(later);
        });
        let Err(Lost(_)) = orders(self);
        self.load.lose();
        killer.join().expect("it only kills");
        assert!(Instant::now() < within, "the journal was not replaced");
        // Its states are on the move.
        self.were_duplex.clear();
        self.killed("at a rotation");
    }

    /// The states of all pairs go into the figures.
    fn note_states(&mut self) {
        let states = self.states();
        for (state, _) in states.values() {
            *self.figures.states.entry(state.clone()).or_default() += 1;
        }
        if states.is_empty() {
            *self.figures.states.entry("simplex".to_owned()).or_default() += 1;
        }
    }

    fn killed(&mut self, what: &'static str) {
        if self.power {
            self.daemon.store(0).lose_power();
            self.load.lose_power();
            *self.figures.moments.entry("with loss of power").or_default() += 1;
        }
        self.kills += 1;
        *self.figures.moments.entry(what).or_default() += 1;
    }

    /// Leaves the small store no room.
    pub fn fill_store(&mut self) {
        self.daemon.store(0).fill_up();
    }

    /// Gives the small store its room back.
    pub fn free_store(&mut self) {
        self.daemon.store(0).make_room();
    }

    /// Lets all regions but one cool, with the load on that one; if no power is lost, regions written to count from now on.
    pub fn cool(&mut self) {
        let region = self.random.below(SECTORS / REGION) * REGION;
        self.load.narrow(region..region + REGION);
        alive(self.load.run(Instant::now() + Duration::from_millis(100)));
        // That a region has cooled is nothing to wait for: its record becomes durable with the next that somebody waits for.
        if !self.power {
            self.load.touched.clear();
        }
        alive(self.load.run(Instant::now() + COOLING));
    }

    /// Waits, under load, until a pair is in a state.
    pub fn wait(&mut self, primary: u32, mirror: u32, state: &str) {
        alive(self.try_wait(primary, mirror, state));
    }

    /// The same, unless the daemon is killed.
    pub fn try_wait(&mut self, primary: u32, mirror: u32, state: &str) -> Result<(), Lost> {
        let code = STATES.iter().position(|known| *known == state).expect("a state") as u8;
        let until = Instant::now() + SETTLED_WITHIN;
        loop {
            let lun = self.load.content_of(primary) as u16 - 1;
            let completion = self.load.ask(lun, &commands::query(primary, mirror))?;
            assert_eq!(completion.status, GOOD, "{completion:?}");
            let is = completion.data[16 + 10];
            if is == code {
                break;
            }
            assert!(
                Instant::now() < until,
                "pair {primary} {mirror} is {} instead of {state} after {SETTLED_WITHIN:?}",
                STATES[usize::from(is)]
            );
            self.load.run(Instant::now() + Duration::from_millis(10))?;
        }
        self.advance(mirror, state);
        Ok(())
    }

    /// Makes the daemon copy slowly from now on, by a stop in good order and a start.
    pub fn slow_down(&mut self) {
        self.restart_in_order(SLOW);
    }

    fn restart_in_order(&mut self, rate: &str) {
        let targets = std::mem::take(&mut self.load.targets);
        alive(self.load.quiesce());
        self.load.disconnect();
        self.daemon.stop();
        self.daemon.set_variable(COPY_RATE, rate);
        self.daemon.start_again();
        self.recognize();
        self.connect();
        self.load.targets = targets;
    }

    /// Starts the killed daemon again, and looks whether all is as promised.
    pub fn recover(&mut self) {
        let rate = if self.random.chance(50) { SLOW } else { FAST };
        self.daemon.set_variable(COPY_RATE, rate);
        while self.random.chance(25) {
            let moment = Duration::from_micros(self.random.below(60_000));
            self.daemon.start_and_kill(moment);
            *self.figures.moments.entry("in a start").or_default() += 1;
        }
        self.daemon.start_again();
        self.recognize();
        self.check_copies_are_incremental();
        self.connect();
        self.load.targets.clear();
        self.check();
        if self.power {
            self.load.expect_power_loss();
        }
        self.aim(&[]);
    }

    /// Lets every copy end, looks again, makes all pairs DUPLEX under load, and compares their files.
    pub fn settle(&mut self) {
        if self.small_store && self.daemon.store(0).is_full() {
            self.free_store();
        }
        self.restart_in_order(FAST);
        self.load.targets.clear();
        alive(self.load.quiesce());
        self.wait_all();
        self.check();
        self.aim(&[]);
        for (primary, mirror) in std::mem::take(&mut self.dissolved) {
            if !self.pairs.contains_key(&mirror) {
                self.order(Verb::Establish { full: false }, &[(primary, mirror)]);
            }
        }
        let members: Vec<_> = self.pairs.iter().map(|(m, pair)| (pair.primary, *m)).collect();
        for (primary, mirror) in &members {
            self.order(Verb::Establish { full: false }, &[(*primary, *mirror)]);
        }
        for (primary, mirror) in &members {
            if self.pairs[mirror].phase == Phase::Restored {
                continue;
            }
            self.wait(*primary, *mirror, "duplex");
        }
        self.load.targets.clear();
        alive(self.load.quiesce());
        for standard in self.standards.clone() {
            alive(self.load.flush(standard));
        }
        for (primary, mirror) in members {
            let (left, right) = (self.image(primary), self.image(mirror));
            assert!(
                left == right,
                "pair {primary} {mirror} is equal, but not in tracks {:?}",
                marks::differing(&left, &right)
            );
        }
        self.check();
    }

    /// Sends the load to the standards and to the mirrors that hosts may use, but not to these.
    fn aim(&mut self, without: &[u32]) {
        let mirrors = self
            .pairs
            .iter()
            .filter(|(_, pair)| pair.phase.mirror_is_ready())
            .map(|(mirror, _)| *mirror);
        self.load.targets = self
            .standards
            .iter()
            .copied()
            .chain(mirrors)
            .chain(self.freed.iter().copied())
            .filter(|volume| !without.contains(volume))
            .collect();
    }

    fn make_way(&mut self, verb: Verb, members: &[(u32, u32)]) {
        let whole = |mirror: &u32| {
            self.pairs
                .get(mirror)
                .is_none_or(|pair| pair.phase.leaves_a_whole_mirror())
        };
        let shut: Vec<u32> = members
            .iter()
            .map(|(_, mirror)| *mirror)
            .filter(|mirror| verb.shuts_mirror() || matches!(verb, Verb::Cancel { .. }) && !whole(mirror))
            .collect();
        if !shut.is_empty() {
            self.aim(&shut);
        }
    }

    fn in_force(&mut self, verb: Verb, members: &[(u32, u32)]) {
        for (primary, mirror) in members {
            let was = self.pairs.get(mirror).map(|pair| pair.phase);
            let phase = match (was, verb) {
                // No-ops.
                (Some(Phase::Duplex), Verb::Establish { full: false }) => Some(Phase::Duplex),
                (Some(Phase::Restored), Verb::Establish { full: false }) => Some(Phase::Restored),
                (Some(phase), _) => phase.after(verb),
                (None, _) => Some(Phase::Copy),
            };
            match phase {
                Some(phase) => self.set_phase(*primary, *mirror, phase),
                None => self.dissolve(*mirror),
            }
            self.restored |= matches!(verb, Verb::Restore { .. });
        }
        self.aim(&[]);
    }

    fn advance(&mut self, mirror: u32, state: &str) {
        let Pair { primary, phase } = self.pairs[&mirror];
        self.set_phase(primary, mirror, phase.seen(state, phase.mirror_is_ready()));
        self.aim(&[]);
    }

    fn set_phase(&mut self, primary: u32, mirror: u32, phase: Phase) {
        self.pairs.insert(mirror, Pair { primary, phase });
        self.freed.remove(&mirror);
        if !phase.restores() {
            self.load.forget_replaced(mirror);
        }
        if phase.is_equal() {
            self.load.equal.insert(mirror, primary);
            self.load.forget_image(mirror);
        } else {
            self.load.equal.remove(&mirror);
        }
    }

    /// The pair is gone, and so is its history: established again, it copies everything.
    fn dissolve(&mut self, mirror: u32) {
        let Pair { primary, phase } = self.pairs.remove(&mirror).expect("a pair");
        self.dissolved.insert((primary, mirror));
        self.load.equal.remove(&mirror);
        self.load.forget_replaced(mirror);
        if phase.leaves_a_whole_mirror() {
            self.freed.insert(mirror);
        } else {
            self.load.forget_image(mirror);
        }
    }

    fn connect(&mut self) {
        let session = Initiator::login(self.daemon.port(), self.daemon.iqn(), &self.manner);
        self.load.connect(session);
    }
}

/// STATE codes of docs/control-cdb.md.
const STATES: [&str; 9] = [
    "simplex",
    "copy",
    "duplex",
    "splitting",
    "split",
    "restoring",
    "restored",
    "protected-restoring",
    "suspended",
];

const COPY_RATE: &str = "HOLDFAST__REPLICATION__COPY_RATE";

/// The result of something that needs the daemon, which nobody has killed.
fn alive<T>(result: Result<T, Lost>) -> T {
    result.unwrap_or_else(|Lost(why)| panic!("the session was lost without a kill: {why}"))
}

/// Of the worlds, how many lose power with the daemon: `HOLDFAST_POWER`.
fn percent_with_power_loss() -> u64 {
    number_given("HOLDFAST_POWER").unwrap_or(33)
}

/// A file system that can lose power, with the state and all volumes on it.
fn disk_for_all(directory: &Path) -> Store {
    const MIB: u32 = 128;
    let mut store = Store::new(&directory.join("memory"), 3 * MIB);
    let disk = directory.join("disk");
    store.hold_ext4(&disk, u64::from(MIB) << 20);
    fs::create_dir(disk.join("state")).expect("the disk is ours");
    let files = (1..=VOLUMES.len() as u32).map(file_name);
    for name in files.chain(["state".to_owned()]) {
        symlink(disk.join(&name), directory.join(&name)).expect("the directory is ours");
    }
    store
}

/// The file of a volume, in the daemon's directory.
fn file_name(volume: u32) -> String {
    let (name, _) = VOLUMES[volume as usize - 1];
    format!("{name}.img")
}

/// What a directory has; nothing while it cannot be listed.
fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}
