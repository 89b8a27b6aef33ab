//! Which mirror the next image of a standard goes to (docs/generations.md, "Where the mirrors come from"). Pure.

use std::collections::{BTreeMap, BTreeSet};

use replication_engine::state::PairState;

use super::{book::Book, usage::Usage};

/// What a mirror must have in common with its standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) bytes: u64,
    pub(crate) block_size: u32,
}

/// What there is to choose from.
#[derive(Debug)]
pub(crate) struct Supply<'a> {
    pub(crate) book: &'a Book,
    pub(crate) usage: &'a Usage,
    /// Every volume.
    pub(crate) shapes: &'a BTreeMap<u32, Shape>,
    /// Volumes that belong to generations.
    pub(crate) pool: &'a BTreeSet<u32>,
    /// New ones can be made.
    pub(crate) on_demand: bool,
    /// Volumes that are not to be taken, and why.
    pub(crate) passed: &'a BTreeMap<u32, String>,
}

/// The choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This volume.
    Volume(u32),
    /// One that is to be made.
    New,
}

/// The states in which a spent mirror can be established again, or given up.
pub(crate) const AGAIN: [PairState; 4] = [
    PairState::Split,
    PairState::Copy,
    PairState::Duplex,
    PairState::Suspended,
];

impl Supply<'_> {
    /// A mirror for that standard, or why each of those that would fit cannot be taken.
    pub(crate) fn choose(&self, primary: u32) -> Result<Choice, Vec<String>> {
        let mut reasons = Vec::new();
        let mut spent: Vec<_> = self
            .book
            .spent
            .iter()
            .filter(|(mirror, spent)| spent.primary == primary && self.book.ours(self.pool, **mirror))
            .collect();
        spent.sort_by_key(|(_, spent)| std::cmp::Reverse(spent.split_at_ms));
        let paired = |number: u32| self.usage.pairs.iter().any(|pair| pair.mirror.0 == number);
        let free = self.pool.iter().filter(|number| !paired(**number));
        for number in spent.into_iter().map(|(number, _)| number).chain(free) {
            if self.shapes.get(number) != self.shapes.get(&primary) {
                continue;
            }
            let passed = self.passed.get(number).cloned();
            match passed.or_else(|| self.usage.of_mirror(*number, &AGAIN)) {
                None => return Ok(Choice::Volume(*number)),
                Some(why) => reasons.push(why),
            }
        }
        if self.on_demand {
            return Ok(Choice::New);
        }
        Err(reasons)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generations::book::{Spent, tests::pair};

    struct World {
        book: Book,
        usage: Usage,
        shapes: BTreeMap<u32, Shape>,
        pool: BTreeSet<u32>,
        passed: BTreeMap<u32, String>,
    }

    impl World {
        /// Standards 1 and 2; 5 and 6 spent by 1, 7 and 8 free in the pool, 8 of another size.
        fn new() -> Self {
            let shape = Shape {
                bytes: 1 << 20,
                block_size: 512,
            };
            let mut shapes: BTreeMap<_, _> = (1..=8).map(|number| (number, shape)).collect();
            shapes.insert(
                8,
                Shape {
                    bytes: 2 << 20,
                    ..shape
                },
            );
            let mut book = Book::default();
            for (mirror, split_at_ms) in [(5, 100), (6, 200)] {
                let spent = Spent {
                    primary: 1,
                    split_at_ms,
                    established: false,
                };
                book.spent.insert(mirror, spent);
            }
            let usage = Usage {
                pairs: vec![
                    pair(1, 5, PairState::Split, 100),
                    pair(1, 6, PairState::Split, 200),
                ],
                hosts: BTreeMap::new(),
            };
            Self {
                book,
                usage,
                shapes,
                pool: (5..=8).collect(),
                passed: BTreeMap::new(),
            }
        }

        fn choose(&self, primary: u32, on_demand: bool) -> Result<Choice, Vec<String>> {
            Supply {
                book: &self.book,
                usage: &self.usage,
                shapes: &self.shapes,
                pool: &self.pool,
                on_demand,
                passed: &self.passed,
            }
            .choose(primary)
        }
    }

    #[test]
    fn what_differs_least_comes_first() {
        let mut world = World::new();
        assert_eq!(world.choose(1, true), Ok(Choice::Volume(6)));
        world.passed.insert(6, "taken".into());
        assert_eq!(world.choose(1, true), Ok(Choice::Volume(5)));
        world.usage.hosts.insert(5, "a host reads it".into());
        assert_eq!(world.choose(1, true), Ok(Choice::Volume(7)));
        world.passed.insert(7, "refused".into());
        assert_eq!(world.choose(1, true), Ok(Choice::New));
        assert_eq!(
            world.choose(1, false),
            Err(vec!["taken".into(), "a host reads it".into(), "refused".into()])
        );
    }

    #[test]
    fn another_standards_mirrors_are_not_taken() {
        let mut world = World::new();
        assert_eq!(world.choose(2, false), Ok(Choice::Volume(7)));
        world.usage.pairs.push(pair(1, 7, PairState::Split, 300));
        assert_eq!(world.choose(2, false), Err(vec![]));
        assert_eq!(
            world.choose(1, false),
            Ok(Choice::Volume(6)),
            "7 was split by somebody else"
        );
    }

    #[test]
    fn what_has_left_the_pool_is_not_taken() {
        let mut world = World::new();
        world.pool.remove(&6);
        assert_eq!(world.choose(1, false), Ok(Choice::Volume(5)));
        world.book.made.insert(6, "/srv/gen-6.img".into());
        assert_eq!(world.choose(1, false), Ok(Choice::Volume(6)));
    }

    #[test]
    fn a_spent_mirror_that_restores_is_not_taken() {
        let mut world = World::new();
        world.usage.pairs[1].state = PairState::ProtectedRestoring;
        assert_eq!(world.choose(1, false), Ok(Choice::Volume(5)));
        world.usage.pairs[0].state = PairState::Duplex;
        assert_eq!(world.choose(1, false), Ok(Choice::Volume(5)), "left by a crash");
    }
}
