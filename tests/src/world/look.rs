//! What a world looks at after a kill.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{BYTES, Pair, REGION, SETTLED_WITHIN, World, alive, file_name, phase::Phase};
use crate::{
    marks::{self, TRACK},
    stamps::{Picture, Stamp},
};

impl World {
    /// The states of all pairs by mirror, as the daemon tells on its admin socket.
    pub(super) fn states(&self) -> BTreeMap<u32, (String, Value)> {
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
    pub(super) fn recognize(&mut self) {
        let states = self.states();
        let mut verdicts = BTreeSet::new();
        let open = self.load.open_cut().map(|cut| (cut.verb, cut.members.clone()));
        if let Some((verb, members)) = &open {
            for (_, mirror) in members {
                let was = self.pairs.get(mirror).map(|pair| pair.phase);
                let state = states.get(mirror).map(|(state, _)| state.as_str());
                let before = match (was, state) {
                    (None, None) => true,
                    (Some(phase), Some(state)) => phase.may_be_after_kill(state, self.small_store),
                    _ => false,
                };
                let phase = was.map_or(Some(Phase::Copy), |phase| phase.after(*verb));
                let after = match (phase, state) {
                    (Some(phase), Some(state)) => phase.may_be_after_kill(state, self.small_store),
                    (phase, state) => phase.is_none() && state.is_none(),
                };
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
        for (mirror, (state, document)) in &states {
            let Pair { primary, phase } = self.pairs[mirror];
            assert!(
                phase.may_be_after_kill(state, self.small_store),
                "pair {primary} {mirror} was {phase:?} before the kill, and is {state}"
            );
            assert_eq!(document["primary"]["number"], primary, "{document}");
            let phase = phase.seen(state, document["mirror_ready"] == true);
            assert_eq!(document["mirror_ready"], phase.mirror_is_ready(), "{document}");
            self.set_phase(primary, *mirror, phase);
        }
    }

    /// After a kill, a pair that was equal is owed at most the regions that were written to.
    pub(super) fn check_copies_are_incremental(&mut self) {
        if self.restored {
            return;
        }
        for mirror in &self.were_duplex {
            let primary = self.pairs[mirror].primary;
            // The copy of a pair above writes to a mirror where nobody else has.
            if self.load.content_of(primary) != primary {
                continue;
            }
            for track in marks::pending(&self.daemon, (primary, *mirror)) {
                let region = track / (REGION / TRACK);
                assert!(
                    self.load.touched.contains(&(primary, region)),
                    "pair {primary} {mirror} was DUPLEX, and owes track {track} of a region that nobody wrote to"
                );
            }
        }
    }

    /// Looks at everything, with no load.
    pub(super) fn check(&mut self) {
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
        let alone = self
            .pairs
            .iter()
            .filter(|(_, pair)| matches!(pair.phase, Phase::Split | Phase::Protected));
        for mirror in alone.map(|(mirror, _)| mirror).chain(&self.freed) {
            let stamps = Picture::of(&self.load.expected(*mirror)).check(&self.image(*mirror));
            if let Err(why) = stamps {
                panic!("the file of volume {mirror}: {why}");
            }
        }
    }

    /// Standards under load, all mirrors of pairs, and those that pairs have left whole.
    fn volumes(&self) -> Vec<u32> {
        let mirrors = self.pairs.keys().chain(&self.freed);
        self.standards.iter().chain(mirrors).copied().collect()
    }

    /// No two tracks of a pair differ without a mark.
    fn check_marks(&self) {
        for (mirror, pair) in &self.pairs {
            // Another pair's copy may be writing to both while we read one after the other; a mark that is missing stays missing.
            let until = Instant::now() + Duration::from_secs(30);
            loop {
                let files = (self.file(pair.primary), self.file(*mirror));
                let unmarked =
                    marks::unmarked(&self.daemon, (pair.primary, *mirror), (&files.0, &files.1), BYTES);
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

    /// Waits until no copy runs.
    pub(super) fn wait_all(&mut self) {
        let until = Instant::now() + SETTLED_WITHIN;
        loop {
            let states = self.states();
            let settled = states
                .values()
                .all(|(state, _)| ["duplex", "split", "restored", "suspended"].contains(&state.as_str()));
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

    /// The file of a volume.
    pub(super) fn file(&self, volume: u32) -> PathBuf {
        self.daemon.path(file_name(volume))
    }

    /// What is in it.
    pub(super) fn image(&self, volume: u32) -> Vec<u8> {
        marks::image(&self.file(volume), BYTES)
    }
}
