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
    /// Volumes made on demand.
    pub(crate) made: BTreeSet<u32>,
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
            };
            self.spent.insert(member.mirror, spent);
        }
        Some(generation)
    }

    /// The rule a standard is in.
    pub(crate) fn rule_of(&self, primary: u32) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.primaries.contains(&primary))
    }

    /// Spent mirrors that are more than are needed: all but one, the newest, for a standard in a rule.
    pub(crate) fn surplus(&self) -> Vec<(u32, Spent)> {
        let mut by_primary: BTreeMap<u32, Vec<(u32, Spent)>> = BTreeMap::new();
        for (mirror, spent) in &self.spent {
            by_primary
                .entry(spent.primary)
                .or_default()
                .push((*mirror, *spent));
        }
        let surplus = by_primary.into_iter().flat_map(|(primary, mut spent)| {
            spent.sort_by_key(|(_, spent)| std::cmp::Reverse(spent.split_at_ms));
            let kept = usize::from(self.rule_of(primary).is_some());
            spent.into_iter().skip(kept)
        });
        surplus.collect()
    }

    /// Strikes out what the pairs, as they are now, say is not so any more.
    pub(crate) fn compare(&mut self, pairs: &[PairView]) -> Found {
        let mut found = Found::default();
        for generation in std::mem::take(&mut self.generations) {
            let why = generation
                .members
                .iter()
                .find_map(|member| no_image(member, pairs));
            match why {
                None => self.generations.push(generation),
                Some(why) => {
                    // The volumes are theirs who did it.
                    for member in &generation.members {
                        self.made.remove(&member.mirror);
                    }
                    found.changed = true;
                    found.lost.push((generation, why));
                }
            }
        }
        let (spent, made) = (&mut self.spent, &mut self.made);
        spent.retain(|mirror, spent| {
            let ours = pairs.iter().any(|pair| {
                (pair.mirror.0, pair.primary.0, pair.split_at_ms)
                    == (*mirror, spent.primary, spent.split_at_ms)
            });
            if !ours {
                made.remove(mirror);
                found.changed = true;
            }
            ours
        });
        found
    }
}

/// Why a pair does not hold the image, if it does not.
fn no_image(member: &Member, pairs: &[PairView]) -> Option<String> {
    let (primary, mirror) = (member.primary, member.mirror);
    let pair = pairs
        .iter()
        .find(|pair| (pair.primary.0, pair.mirror.0) == (primary, mirror));
    match pair {
        None => Some(format!("the pair {primary} -> {mirror} was cancelled")),
        Some(pair) if matches!(pair.state, PairState::Copy | PairState::Duplex) => {
            Some(format!("the pair {primary} -> {mirror} was established by hand"))
        }
        Some(pair) if pair.split_at_ms != member.split_at_ms => {
            Some(format!("the pair {primary} -> {mirror} was split anew by hand"))
        }
        Some(_) => None,
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
        book.made.insert(5);
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
            book.made.insert(5);
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
    fn spent_mirrors_are_ours_until_touched() {
        let mut book = Book::default();
        book.add(None, true, vec![member(1, 5, 7)]);
        book.drop_generation(1);
        assert!(!book.compare(&[pair(1, 5, PairState::Split, 7)]).changed);
        assert!(book.compare(&[pair(1, 5, PairState::Split, 9)]).changed);
        assert!(book.spent.is_empty());
    }

    #[test]
    fn one_spent_mirror_is_kept_for_a_rule() {
        let mut book = Book::default();
        for (number, mirror) in (1..=3).zip(5..) {
            book.add(None, true, vec![member(1, mirror, u64::from(mirror))]);
            book.drop_generation(number);
        }
        assert_eq!(book.surplus().len(), 3);
        book.rules.push(Rule {
            primaries: vec![1],
            every: 1,
            keep: 1,
            max_age: None,
            next_at_ms: 0,
            not_before_ms: 0,
        });
        let mirrors: Vec<u32> = book.surplus().iter().map(|(mirror, _)| *mirror).collect();
        assert_eq!(mirrors, [6, 5], "the newest stays: it differs least");
    }
}
