//! A daemon, its pairs, and a load: brought to a state, killed, started again, and looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Daemon, DaemonConfig, VolumeSpec, commands,
    initiator::{GOOD, Initiator, Lost, Manner},
    load::{
        Load, Shape, Tally,
        cut::{CutEnd, Verb},
    },
    random::Random,
    stamps::{Picture, SECTOR, Stamp},
};

/// Where a pair was brought by commands; its copies may have ended since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// ESTABLISH was answered.
    Copy,
    /// It was seen in DUPLEX since.
    Duplex,
    /// SPLIT was answered; `true` for INSTANT.
    Splitting(bool),
    /// It was seen in SPLIT since.
    Split,
    /// RESTORE was answered.
    Restoring,
    /// It was seen in RESTORED since.
    Restored,
    /// RESTORE PROTECTED was answered.
    Protected,
}

impl Phase {
    /// Is the mirror kept equal to the primary, or becoming so?
    fn is_equal(self) -> bool {
        matches!(self, Self::Copy | Self::Duplex | Self::Restoring | Self::Restored)
    }

    /// May hosts use the mirror?
    fn mirror_is_ready(self) -> bool {
        matches!(self, Self::Splitting(true) | Self::Split | Self::Protected)
    }

    /// The states in which a daemon may show such a pair after a kill (docs/engine.md, "After a crash").
    fn after_kill(self) -> &'static [&'static str] {
        match self {
            Self::Copy | Self::Duplex => &["copy", "duplex"],
            Self::Splitting(_) => &["splitting", "split"],
            Self::Split => &["split"],
            Self::Restoring | Self::Restored => &["restoring", "restored", "copy", "duplex"],
            Self::Protected => &["protected-restoring", "split"],
        }
    }

    fn after(self, verb: Verb) -> Self {
        match verb {
            Verb::Establish { .. } => Self::Copy,
            Verb::Split { instant } => Self::Splitting(instant),
            Verb::Restore { protected: true, .. } => Self::Protected,
            Verb::Restore { .. } if self == Self::Restored => self,
            Verb::Restore { .. } => Self::Restoring,
        }
    }

    /// The same pair, now that it was seen in this state.
    fn seen(self, state: &str) -> Self {
        match (self, state) {
            (_, "duplex") => Self::Duplex,
            (_, "copy") => Self::Copy,
            (_, "split") => Self::Split,
            (_, "restored") => Self::Restored,
            (same, _) => same,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Pair {
    primary: u32,
    phase: Phase,
}

/// Bytes of each volume.
const BYTES: u64 = 8 << 20;
const TRACK_BYTES: u64 = 8 << 10;
const SECTORS: u64 = BYTES / SECTOR as u64;
const TRACK: u64 = TRACK_BYTES / SECTOR as u64;
const REGION: u64 = 64 * TRACK;
/// The load goes to this part of the regions, so that the others must not be copied after a kill.
const FOOTPRINT_REGIONS: u64 = 6;
/// Slow enough that the copies under test are not over before the kill.
const SLOW: &str = "1MiB";
const FAST: &str = "1GiB";
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(1);

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
    random: Random,
    manner: Manner,
    /// Mirrors of pairs that were DUPLEX when the daemon was killed.
    were_duplex: BTreeSet<u32>,
    /// A restore has written to a primary where the load has not.
    restored: bool,
    kills: u64,
}

impl World {
    /// A daemon that copies fast, with these standards filled and under load, and no pair.
    pub fn new(seed: u64, standards: &[u32]) -> Self {
        let mut random = Random::new(seed);
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
        let daemon = Daemon::start_with(
            &config,
            &[("HOLDFAST__SYSTEM__TRACK_SIZE", "8KiB"), (COPY_RATE, FAST)],
        );
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
            random,
            manner,
            were_duplex: BTreeSet::new(),
            restored: false,
            kills: 0,
        };
        world.connect();
        for standard in standards {
            alive(world.load.fill(*standard));
        }
        world.aim(&[]);
        world
    }

    /// The dice of this run.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Kills so far.
    pub fn kills(&self) -> u64 {
        self.kills
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
        self.make_way(verb, members);
        loop {
            alive(self.load.begin_cut(verb, members));
            let end = loop {
                if let Some(end) = self.load.take_cut_end() {
                    break end;
                }
                alive(self.load.run(Instant::now() + Duration::from_millis(1)));
            };
            match end {
                CutEnd::Good => break,
                CutEnd::Again => {}
                CutEnd::Refused(completion) => {
                    panic!("{verb:?} {members:?} was refused: {:02x?}", completion.sense)
                }
            }
        }
        self.in_force(verb, members);
    }

    /// A pair command among the load, and a kill before, at, or shortly after its end.
    pub fn order_and_kill(&mut self, verb: Verb, members: &[(u32, u32)]) {
        self.make_way(verb, members);
        alive(self.load.begin_cut(verb, members));
        let moment = Duration::from_micros(self.random.below(6000));
        self.kill_after(moment);
        for (_, mirror) in members {
            self.were_duplex.remove(mirror);
        }
        // Answered before the kill came.
        match self.load.take_cut_end() {
            Some(CutEnd::Good) => self.in_force(verb, members),
            Some(CutEnd::Refused(completion)) => {
                panic!("{verb:?} {members:?} was refused: {:02x?}", completion.sense)
            }
            Some(CutEnd::Again) | None => {}
        }
    }

    /// Either, as the dice fall: one time in three the kill comes with the command. True if it came.
    pub fn order_perhaps_kill(&mut self, verb: Verb, members: &[(u32, u32)]) -> bool {
        let now = self.random.chance(33);
        if now {
            self.order_and_kill(verb, members);
        } else {
            self.order(verb, members);
        }
        now
    }

    /// SIGKILL among the load.
    pub fn kill(&mut self) {
        self.kill_after(Duration::from_millis(1));
    }

    /// SIGKILL by another thread, while this one goes on sending.
    fn kill_after(&mut self, moment: Duration) {
        let duplex = self.pairs.iter().filter(|(_, pair)| pair.phase == Phase::Duplex);
        self.were_duplex = duplex.map(|(mirror, _)| *mirror).collect();
        let killer = self.daemon.kill_after(moment);
        while self.load.run(Instant::now() + PATIENCE).is_ok() {}
        self.load.lose();
        killer.join().expect("it only kills");
        self.kills += 1;
    }

    /// Waits, under load, until a pair is in a state.
    pub fn wait(&mut self, primary: u32, mirror: u32, state: &str) {
        let code = STATES.iter().position(|known| *known == state).expect("a state") as u8;
        let until = Instant::now() + SETTLED_WITHIN;
        loop {
            let lun = self.load.content_of(primary) as u16 - 1;
            let completion = alive(self.load.ask(lun, &commands::query(primary, mirror)));
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
            alive(self.load.run(Instant::now() + Duration::from_millis(10)));
        }
        self.advance(mirror, state);
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
        self.daemon.start_again();
        self.recognize();
        self.check_copies_are_incremental();
        self.connect();
        self.load.targets.clear();
        self.check();
        self.aim(&[]);
    }

    /// Lets every copy end, looks again, makes all pairs DUPLEX under load, and compares their files.
    pub fn settle(&mut self) {
        self.restart_in_order(FAST);
        self.load.targets.clear();
        alive(self.load.quiesce());
        self.wait_all();
        self.check();
        self.aim(&[]);
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
                differing(&left, &right)
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
            .filter(|volume| !without.contains(volume))
            .collect();
    }

    fn make_way(&mut self, verb: Verb, members: &[(u32, u32)]) {
        if verb.shuts_mirror() {
            let mirrors: Vec<u32> = members.iter().map(|(_, mirror)| *mirror).collect();
            self.aim(&mirrors);
        }
    }

    fn in_force(&mut self, verb: Verb, members: &[(u32, u32)]) {
        for (primary, mirror) in members {
            let was = self.pairs.get(mirror).map(|pair| pair.phase);
            let phase = match (was, verb) {
                // A no-op.
                (Some(Phase::Duplex), Verb::Establish { full: false }) => Phase::Duplex,
                (Some(Phase::Restored), Verb::Establish { full: false }) => Phase::Restored,
                (Some(phase), _) => phase.after(verb),
                (None, _) => Phase::Copy,
            };
            self.pairs.insert(
                *mirror,
                Pair {
                    primary: *primary,
                    phase,
                },
            );
            self.restored |= matches!(verb, Verb::Restore { .. });
            if phase.is_equal() {
                self.load.equal.insert(*mirror, *primary);
                self.load.forget_image(*mirror);
            } else {
                self.load.equal.remove(mirror);
            }
        }
        self.aim(&[]);
    }

    fn advance(&mut self, mirror: u32, state: &str) {
        let pair = self.pairs.get_mut(&mirror).expect("a pair of this world");
        pair.phase = pair.phase.seen(state);
        self.aim(&[]);
    }

    fn connect(&mut self) {
        let session = Initiator::login(self.daemon.port(), self.daemon.iqn(), &self.manner);
        self.load.connect(session);
    }

    /// The states of all pairs by mirror, as the daemon tells on its admin socket.
    fn states(&self) -> BTreeMap<u32, (String, Value)> {
        let text = self.daemon.holdfast_ok(&["--json", "query"]);
        let document: Value = serde_json::from_str(&text).expect("one JSON document");
        let pairs = document["pairs"].as_array().expect("a list").iter();
        pairs
            .map(|pair| {
                let mirror = pair["mirror"]["number"].as_u64().expect("a number") as u32;
                let state = pair["state"].as_str().expect("a state").to_owned();
                (mirror, (state, pair.clone()))
            })
            .collect()
    }

    /// After a start: every pair is there, in a state it may be in, and a command that was in flight is in force or is not.
    fn recognize(&mut self) {
        let states = self.states();
        let mut verdicts = BTreeSet::new();
        let open = self.load.open_cut().map(|cut| (cut.verb, cut.members.clone()));
        if let Some((verb, members)) = &open {
            for (_, mirror) in members {
                let was = self.pairs.get(mirror).map(|pair| pair.phase);
                let state = states.get(mirror).map(|(state, _)| state.as_str());
                let before = match (was, state) {
                    (None, None) => true,
                    (Some(phase), Some(state)) => phase.after_kill().contains(&state),
                    _ => false,
                };
                let phase = was.map_or(Phase::Copy, |phase| phase.after(*verb));
                let after = state.is_some_and(|state| phase.after_kill().contains(&state));
                assert!(
                    before || after,
                    "pair with mirror {mirror} was {was:?} when {verb:?} was killed, and is {state:?}"
                );
                verdicts.insert(match (before, after) {
                    (true, true) => None,
                    (_, after) => Some(after),
                });
            }
            assert_eq!(
                verdicts.len(),
                1,
                "half of {verb:?} {members:?} is in force: {states:?}"
            );
            let verdict = verdicts.first().copied().flatten();
            self.load.resolve_cut(verdict);
            if verdict == Some(true) {
                self.in_force(*verb, members);
            } else if verdict.is_none() {
                self.restored = true;
            }
        }
        assert_eq!(
            states.keys().collect::<Vec<_>>(),
            self.pairs.keys().collect::<Vec<_>>(),
            "pairs came or went: {states:?}"
        );
        for (mirror, pair) in &mut self.pairs {
            let (state, document) = &states[mirror];
            assert!(
                pair.phase.after_kill().contains(&state.as_str()),
                "pair {} {mirror} was {:?} before the kill, and is {state}",
                pair.primary,
                pair.phase
            );
            assert_eq!(document["primary"]["number"], pair.primary, "{document}");
            pair.phase = pair.phase.seen(state);
            assert_eq!(
                document["mirror_ready"],
                pair.phase.mirror_is_ready(),
                "{document}"
            );
        }
    }

    /// After a kill, a pair that was equal is owed at most the regions that were written to.
    fn check_copies_are_incremental(&mut self) {
        if self.restored {
            return;
        }
        for mirror in &self.were_duplex {
            let primary = self.pairs[mirror].primary;
            // The copy of a pair above writes to a mirror where nobody else has.
            if self.load.content_of(primary) != primary {
                continue;
            }
            for track in self.pending(primary, *mirror) {
                let region = track / (REGION / TRACK);
                assert!(
                    self.load.touched.contains(&(primary, region)),
                    "pair {primary} {mirror} was DUPLEX, and owes track {track} of a region that nobody wrote to"
                );
            }
        }
    }

    /// Looks at everything, with no load.
    fn check(&mut self) {
        self.check_marks();
        let mut seen: BTreeMap<u32, Vec<Stamp>> = BTreeMap::new();
        for volume in self.volumes() {
            let content = alive(self.load.read_all(volume));
            let phase = self.pairs.get(&volume).map(|pair| pair.phase);
            // Between the states that were seen and now a split may have ended.
            let ready = phase.is_none_or(Phase::mirror_is_ready);
            let may_be = ready || matches!(phase, Some(Phase::Splitting(_)));
            assert!(
                content.is_some() || !ready,
                "volume {volume} is not ready, its pair is {phase:?}"
            );
            assert!(
                content.is_none() || may_be,
                "volume {volume} is ready, its pair is {phase:?}"
            );
            if let Some(content) = content {
                let stamps = self.load.check(volume, &content);
                seen.insert(
                    volume,
                    stamps.unwrap_or_else(|why| panic!("volume {volume}, {phase:?}: {why}")),
                );
            }
        }
        self.load.judge_images(&seen);
        // A protected restore, and whatever else goes on elsewhere, leaves a split mirror's file alone.
        for (mirror, pair) in &self.pairs {
            if matches!(pair.phase, Phase::Split | Phase::Protected) {
                let stamps = Picture::of(&self.load.expected(*mirror)).check(&self.image(*mirror));
                if let Err(why) = stamps {
                    panic!("the file of volume {mirror}, {:?}: {why}", pair.phase);
                }
            }
        }
    }

    /// Standards under load, and all mirrors of pairs.
    fn volumes(&self) -> Vec<u32> {
        let mirrors = self.pairs.keys().copied();
        self.standards.iter().copied().chain(mirrors).collect()
    }

    /// No two tracks of a pair differ without a mark.
    fn check_marks(&self) {
        for (mirror, pair) in &self.pairs {
            // Another pair's copy may be writing to both while we read one after the other; a mark that is missing stays missing.
            let until = Instant::now() + Duration::from_secs(5);
            loop {
                let marked = self.pending(pair.primary, *mirror);
                let tracks = differing(&self.image(pair.primary), &self.image(*mirror));
                let unmarked: Vec<_> = tracks.iter().filter(|track| !marked.contains(track)).collect();
                if unmarked.is_empty() {
                    break;
                }
                assert!(
                    Instant::now() < until,
                    "pair {} {mirror}, {:?}: tracks {unmarked:?} differ without a mark",
                    pair.primary,
                    pair.phase
                );
            }
        }
    }

    /// The tracks that a pair has a mark for, of whatever kind.
    fn pending(&self, primary: u32, mirror: u32) -> BTreeSet<u64> {
        let mut tracks = BTreeSet::new();
        for side in ["union", "remaining"] {
            let (primary, mirror) = (primary.to_string(), mirror.to_string());
            let text = self
                .daemon
                .holdfast_ok(&["--json", "pending", &primary, &mirror, "--side", side]);
            let document: Value = serde_json::from_str(&text).expect("one JSON document");
            for extent in document["extents"].as_array().expect("a list") {
                let [lba, blocks] = ["lba", "blocks"].map(|key| extent[key].as_u64().expect("a number"));
                tracks.extend(lba / TRACK..(lba + blocks).div_ceil(TRACK));
            }
        }
        tracks
    }

    /// Waits until no copy runs.
    fn wait_all(&mut self) {
        let until = Instant::now() + SETTLED_WITHIN;
        loop {
            let states = self.states();
            let settled = states
                .values()
                .all(|(state, _)| ["duplex", "split", "restored"].contains(&state.as_str()));
            if settled {
                for (mirror, (state, _)) in states {
                    self.advance(mirror, &state);
                }
                self.load.targets.clear();
                return;
            }
            assert!(
                Instant::now() < until,
                "not settled after {SETTLED_WITHIN:?}: {states:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The bytes of a volume's file, through the page cache.
    fn image(&self, volume: u32) -> Vec<u8> {
        let (name, _) = VOLUMES[volume as usize - 1];
        let file = fs::File::open(self.daemon.path(format!("{name}.img"))).expect("the volume's file");
        let mut bytes = vec![0; BYTES as usize];
        file.read_exact_at(&mut bytes, 0).expect("as long as the volume");
        bytes
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

/// Tracks in which two images differ.
fn differing(left: &[u8], right: &[u8]) -> Vec<u64> {
    let track = TRACK_BYTES as usize;
    let pairs = left.chunks(track).zip(right.chunks(track)).zip(0..);
    pairs
        .filter(|((l, r), _)| l != r)
        .map(|(_, track)| track)
        .collect()
}

/// The result of something that needs the daemon, which nobody has killed.
fn alive<T>(result: Result<T, Lost>) -> T {
    result.unwrap_or_else(|Lost(why)| panic!("the session was lost without a kill: {why}"))
}
