//! What is known of generations: `generations.json` in the state directory. Pure, but for reading and writing it.
//!
//! A generation is told by its pairs and the instants of their splits. What an administrator does to a pair by hand changes
//! that instant or the state, so [`Book::compare`] finds out what is no generation any more, and which spent mirrors are
//! no longer ours to overwrite.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use replication_engine::{command::PairView, state::PairState};
use serde::{Deserialize, Serialize};
use target_core::state_file::{self, StateFileError};

use super::rule::Rule;

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Generation {
    /// From 1 on; a number is never used again.
    pub(crate) number: u32,
    /// As its maker called it.
    pub(crate) name: Option<String>,
    /// Unix milliseconds.
    pub(crate) at_ms: u64,
    /// Made by a rule, which may drop it.
    pub(crate) by_rule: bool,
    /// By primary.
    pub(crate) members: Vec<Member>,
}

impl Generation {
    /// The standards.
    pub(crate) fn primaries(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.primary).collect()
    }

    /// `3 (before-upgrade)`.
    pub(crate) fn called(&self) -> String {
        match &self.name {
            Some(name) => format!("{} ({name})", self.number),
            None => self.number.to_string(),
        }
    }
}

/// A pair of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    pub(crate) primary: u32,
    pub(crate) mirror: u32,
    pub(crate) split_at_ms: u64,
}

/// A mirror whose image nobody needs any more, still paired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spent {
    pub(crate) primary: u32,
    pub(crate) split_at_ms: u64,
    /// We established it and did not come to split it.
    #[serde(default)]
    pub(crate) established: bool,
}

impl Spent {
    /// The mirror of that pair, whose image is not needed.
    pub(crate) fn of(pair: &PairView) -> Self {
        Self {
            primary: pair.primary.0,
            split_at_ms: pair.split_at_ms,
            established: kept_equal(pair),
        }
    }

    /// Nobody else did anything to the pair since.
    fn untouched(&self, pair: &PairView) -> bool {
        (pair.primary.0, pair.split_at_ms) == (self.primary, self.split_at_ms)
            && (self.established || !kept_equal(pair))
    }
}

/// The pair is established, or was until a fault: a SPLIT holds the mirror and an ESTABLISH lets go of it.
fn kept_equal(pair: &PairView) -> bool {
    match pair.state {
        PairState::Copy | PairState::Duplex => true,
        PairState::Suspended => pair.mirror_inconsistent && !pair.held,
        _ => false,
    }
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Book {
    /// Number of the last one made.
    last: u32,
    /// In the order they were made.
    pub(crate) generations: Vec<Generation>,
    /// A standard is in one at most.
    pub(crate) rules: Vec<Rule>,
    /// By mirror.
    pub(crate) spent: BTreeMap<u32, Spent>,
    /// Volumes made on demand, and their files.
    pub(crate) made: BTreeMap<u32, PathBuf>,
    /// Pairs being changed just now, mirror to primary: after a crash they are no image.
    pub(crate) in_hand: BTreeMap<u32, u32>,
}

/// What [`Book::compare`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Generations that are none any more, and why.
    pub(crate) lost: Vec<(Generation, String)>,
    /// Something was struck out.
    pub(crate) changed: bool,
}

impl Book {
    fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("generations.json")
    }

    /// The one kept; an empty one when there is no file.
    pub(crate) fn load(state_dir: &Path) -> Result<Self, StateFileError> {
        Ok(state_file::load(&Self::path(state_dir))?.unwrap_or_default())
    }

    /// Keeps it.
    pub(crate) fn store(&self, state_dir: &Path) -> Result<(), StateFileError> {
        state_file::store(&Self::path(state_dir), self)
    }

    /// A generation more; its number.
    pub(crate) fn add(&mut self, name: Option<String>, by_rule: bool, members: Vec<Member>) -> u32 {
        self.last += 1;
        let at_ms = members.iter().map(|member| member.split_at_ms).max().unwrap_or(0);
        self.generations.push(Generation {
            number: self.last,
            name,
            at_ms,
            by_rule,
            members,
        });
        self.last
    }

    /// There is nothing to be looked after.
    pub(crate) fn is_idle(&self) -> bool {
        self.generations.is_empty()
            && self.rules.is_empty()
            && self.spent.is_empty()
            && self.in_hand.is_empty()
    }

    /// By number.
    pub(crate) fn get(&self, number: u32) -> Option<&Generation> {
        self.generations
            .iter()
            .find(|generation| generation.number == number)
    }

    /// By number or name, as people write it.
    pub(crate) fn find(&self, text: &str) -> Result<&Generation, String> {
        let number: Option<u32> = text.parse().ok();
        self.generations
            .iter()
            .find(|generation| match number {
                Some(number) => generation.number == number,
                None => generation.name.as_deref() == Some(text),
            })
            .ok_or_else(|| {
                let all: Vec<String> = self.generations.iter().map(Generation::called).collect();
                match all.len() {
                    0 => format!("there is no generation {text}: there is none at all"),
                    _ => format!("there is no generation {text}; there are {}", all.join(", ")),
                }
            })
    }

    /// Its mirrors are spent from now on.
    pub(crate) fn drop_generation(&mut self, number: u32) -> Option<Generation> {
        let place = self
            .generations
            .iter()
            .position(|generation| generation.number == number)?;
        let generation = self.generations.remove(place);
        for member in &generation.members {
            let spent = Spent {
                primary: member.primary,
                split_at_ms: member.split_at_ms,
                established: false,
            };
            self.spent.insert(member.mirror, spent);
        }
        Some(generation)
    }

    /// The rule a standard is in.
    pub(crate) fn rule_of(&self, primary: u32) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.primaries.contains(&primary))
    }

    /// Is the volume there for generations? A mirror that was taken out of the pool is not used again.
    pub(crate) fn ours(&self, pool: &BTreeSet<u32>, mirror: u32) -> bool {
        pool.contains(&mirror) || self.made.contains_key(&mirror)
    }

    /// Spent mirrors that are more than are needed: all but one, the newest, for a standard in a rule.
    pub(crate) fn surplus(&self, pool: &BTreeSet<u32>) -> Vec<(u32, Spent)> {
        let mut by_primary: BTreeMap<u32, Vec<(u32, Spent)>> = BTreeMap::new();
        for (mirror, spent) in &self.spent {
            by_primary
                .entry(spent.primary)
                .or_default()
                .push((*mirror, *spent));
        }
        let surplus = by_primary.into_iter().flat_map(|(primary, mut spent)| {
            spent.sort_by_key(|(mirror, spent)| {
                (!self.ours(pool, *mirror), std::cmp::Reverse(spent.split_at_ms))
            });
            let useful = spent.first().is_some_and(|(mirror, _)| self.ours(pool, *mirror));
            let kept = usize::from(useful && self.rule_of(primary).is_some());
            spent.into_iter().skip(kept)
        });
        surplus.collect()
    }

    /// What was in hand when something went wrong holds no image: its pairs are spent. Gives the mirrors that have none.
    pub(crate) fn put_down(&mut self, pairs: &[PairView]) -> Vec<u32> {
        let mut unpaired = Vec::new();
        for (mirror, primary) in std::mem::take(&mut self.in_hand) {
            let pair = pairs
                .iter()
                .find(|pair| (pair.primary.0, pair.mirror.0) == (primary, mirror));
            match pair {
                Some(pair) => drop(self.spent.insert(mirror, Spent::of(pair))),
                None => unpaired.push(mirror),
            }
        }
        unpaired
    }

    /// Strikes out what the pairs, as they are now, say is not so any more.
    pub(crate) fn compare(&mut self, pairs: &[PairView]) -> Found {
        let mut found = Found::default();
        for generation in std::mem::take(&mut self.generations) {
            let lost = generation
                .members
                .iter()
                .filter_map(|member| Loss::of(member, pairs))
                .max();
            let Some(loss) = lost else {
                self.generations.push(generation);
                continue;
            };
            let why = loss.to_string();
            for member in &generation.members {
                match loss {
                    // The volumes are theirs who did it.
                    Loss::ByHand(_) => drop(self.made.remove(&member.mirror)),
                    Loss::Failed(_) => {
                        let spent = Spent {
                            primary: member.primary,
                            split_at_ms: member.split_at_ms,
                            established: false,
                        };
                        self.spent.insert(member.mirror, spent);
                    }
                }
            }
            found.changed = true;
            found.lost.push((generation, why));
        }
        let (spent, made) = (&mut self.spent, &mut self.made);
        spent.retain(|mirror, spent| {
            let ours = pairs
                .iter()
                .any(|pair| pair.mirror.0 == *mirror && spent.untouched(pair));
            if !ours {
                made.remove(mirror);
                found.changed = true;
            }
            ours
        });
        found
    }
}

/// Why a pair does not hold the image any more. What people did outweighs a fault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Loss {
    /// The copy could not be finished.
    Failed(String),
    /// Somebody did something with the pair.
    ByHand(String),
}

impl Loss {
    fn of(member: &Member, pairs: &[PairView]) -> Option<Self> {
        let called = format!("the pair {} -> {}", member.primary, member.mirror);
        let pair = pairs
            .iter()
            .find(|pair| (pair.primary.0, pair.mirror.0) == (member.primary, member.mirror));
        let Some(pair) = pair else {
            return Some(Self::ByHand(format!("{called} was cancelled")));
        };
        if kept_equal(pair) {
            return Some(Self::ByHand(format!("{called} was established by hand")));
        }
        if pair.split_at_ms != member.split_at_ms {
            return Some(Self::ByHand(format!("{called} was split anew by hand")));
        }
        let half = pair.state == PairState::Suspended && pair.mirror_inconsistent;
        half.then(|| {
            Self::Failed(format!(
                "{called} was suspended before all of the image was copied"
            ))
        })
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(why) => write!(f, "{why}; its mirrors are used again"),
            Self::ByHand(why) => write!(f, "{why}; its volumes are left as they are"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use replication_engine::ids::VolumeId;

    use super::*;

    pub(crate) fn pair(primary: u32, mirror: u32, state: PairState, split_at_ms: u64) -> PairView {
        PairView {
            primary: VolumeId(primary),
            mirror: VolumeId(mirror),
            state,
            held: true,
            strictly_held: false,
            mirror_ready: true,
            history: true,
            full: false,
            mirror_inconsistent: false,
            tracks: 16,
            mirror_invalid: 0,
            primary_invalid: 0,
            remaining: 0,
            split_at_ms,
            rate: 0,
            eta_seconds: None,
            reason: 0,
            resumes: false,
        }
    }

    fn member(primary: u32, mirror: u32, split_at_ms: u64) -> Member {
        Member {
            primary,
            mirror,
            split_at_ms,
        }
    }

    #[test]
    fn a_book_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut book = Book::load(directory.path()).unwrap();
        assert_eq!(book, Book::default());
        assert_eq!(book.add(Some("nightly".into()), false, vec![member(1, 5, 77)]), 1);
        book.made.insert(5, "/srv/gen-5.img".into());
        book.in_hand.insert(6, 1);
        book.store(directory.path()).unwrap();
        assert_eq!(Book::load(directory.path()).unwrap(), book);
        assert_eq!(book.find("nightly"), book.find("1"));
        assert_eq!(
            book.find("2"),
            Err("there is no generation 2; there are 1 (nightly)".to_owned())
        );
    }

    #[test]
    fn numbers_are_never_used_again() {
        let mut book = Book::default();
        book.add(None, false, vec![member(1, 5, 7)]);
        book.drop_generation(1);
        assert_eq!(book.spent[&5].primary, 1);
        assert_eq!(book.add(None, false, vec![member(1, 6, 8)]), 2);
    }

    #[test]
    fn what_was_done_by_hand_is_found() {
        let as_made = pair(1, 5, PairState::Split, 7);
        let cases = [
            (vec![as_made.clone()], None),
            (vec![pair(1, 5, PairState::ProtectedRestoring, 7)], None),
            (vec![pair(1, 5, PairState::Restored, 7)], None),
            (vec![pair(1, 5, PairState::Split, 8)], Some("split anew")),
            (vec![pair(1, 5, PairState::Duplex, 7)], Some("established")),
            (vec![pair(2, 5, PairState::Split, 7)], Some("cancelled")),
            (vec![], Some("cancelled")),
        ];
        for (pairs, lost) in cases {
            let mut book = Book::default();
            book.add(None, true, vec![member(1, 5, 7)]);
            book.made.insert(5, "/srv/gen-5.img".into());
            let found = book.compare(&pairs);
            assert_eq!(found.changed, lost.is_some(), "{pairs:?}");
            assert_eq!(book.made.is_empty(), lost.is_some(), "theirs who did it");
            if let Some(word) = lost {
                assert!(found.lost[0].1.contains(word), "{:?}", found.lost);
            }
            assert!(book.spent.is_empty(), "what others did is not overwritten");
        }
    }

    #[test]
    fn an_image_that_was_never_whole_is_none() {
        let half = |held| PairView {
            mirror_inconsistent: true,
            held,
            ..pair(1, 5, PairState::Suspended, 7)
        };
        let book = || {
            let mut book = Book::default();
            book.add(None, true, vec![member(1, 5, 7), member(2, 6, 7)]);
            book.made.insert(5, "/srv/gen-5.img".into());
            book
        };
        let other = pair(2, 6, PairState::Split, 7);
        let mut failed = book();
        let found = failed.compare(&[half(true), other.clone()]);
        assert!(found.lost[0].1.contains("suspended"), "{found:?}");
        assert_eq!(failed.spent.len(), 2, "ours, to be used again");
        assert!(failed.made.contains_key(&5));
        let found = failed.compare(&[half(true), other.clone()]);
        assert_eq!(found, Found::default());

        // The same after ESTABLISH by hand: theirs who gave it.
        let mut by_hand = book();
        let found = by_hand.compare(&[half(false), other]);
        assert!(found.lost[0].1.contains("by hand"), "{found:?}");
        assert!(by_hand.spent.is_empty() && by_hand.made.is_empty());

        // Suspended with a whole image, as after a restore that failed: it stays.
        let whole = pair(1, 5, PairState::Suspended, 7);
        let mut restore = book();
        assert_eq!(
            restore.compare(&[whole, pair(2, 6, PairState::Split, 7)]),
            Found::default()
        );
    }

    #[test]
    fn what_was_in_hand_is_spent() {
        let established = PairView {
            held: false,
            ..pair(1, 5, PairState::Copy, 0)
        };
        let pairs = [
            established,
            pair(2, 6, PairState::Splitting, 9),
            pair(4, 7, PairState::Split, 9),
        ];
        let mut book = Book {
            in_hand: [(5, 1), (6, 2), (7, 3), (8, 4)].into(),
            ..Book::default()
        };
        assert_eq!(book.put_down(&pairs), [7, 8], "7 is another standard's");
        assert!(book.in_hand.is_empty());
        assert!(book.spent[&5].established && !book.spent[&6].established);
        assert_eq!(
            book.compare(&pairs),
            Found::default(),
            "ours, and as we left them"
        );
    }

    #[test]
    fn spent_mirrors_are_ours_until_touched() {
        let spent = || {
            let mut book = Book::default();
            book.add(None, true, vec![member(1, 5, 7)]);
            book.drop_generation(1);
            book
        };
        for (now, ours) in [
            (pair(1, 5, PairState::Split, 7), true),
            (pair(1, 5, PairState::ProtectedRestoring, 7), true),
            (pair(1, 5, PairState::Split, 9), false),
            (pair(1, 5, PairState::Copy, 7), false),
            (pair(1, 5, PairState::Duplex, 7), false),
        ] {
            let mut book = spent();
            assert_eq!(book.compare(std::slice::from_ref(&now)).changed, !ours, "{now:?}");
            assert_eq!(book.spent.is_empty(), !ours, "{now:?}");
        }
    }

    #[test]
    fn one_spent_mirror_is_kept_for_a_rule() {
        let pool: BTreeSet<u32> = (5..=7).collect();
        let mut book = Book::default();
        for (number, mirror) in (1..=3).zip(5..) {
            book.add(None, true, vec![member(1, mirror, u64::from(mirror))]);
            book.drop_generation(number);
        }
        assert_eq!(book.surplus(&pool).len(), 3);
        book.rules.push(Rule {
            primaries: vec![1],
            every: 1,
            keep: 1,
            max_age: None,
            next_at_ms: 0,
            not_before_ms: 0,
        });
        let surplus = |pool: &[u32]| -> Vec<u32> {
            let pool = pool.iter().copied().collect();
            book.surplus(&pool).iter().map(|(mirror, _)| *mirror).collect()
        };
        assert_eq!(surplus(&[5, 6, 7]), [6, 5], "the newest stays: it differs least");
        assert_eq!(surplus(&[5, 6]), [5, 7], "what has left the pool goes");
        assert_eq!(surplus(&[]), [7, 6, 5]);
    }
}
