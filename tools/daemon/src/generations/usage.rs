//! Who uses a mirror: why it must not be overwritten now. Pure: a look at the system, taken before.

use std::collections::BTreeMap;

use replication_engine::{command::PairView, state::PairState};

use super::book::Generation;

/// What there was when it was looked at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    /// All pairs.
    pub(crate) pairs: Vec<PairView>,
    /// What hosts do with volumes, as sentences that begin with a noun.
    pub(crate) hosts: BTreeMap<u32, String>,
}

impl Usage {
    /// Those whose copies have ended.
    pub(crate) fn whole(&self, generations: &[Generation]) -> Vec<Generation> {
        let copied = |generation: &&Generation| {
            generation.members.iter().all(|member| {
                let mut pairs = self.pairs.iter();
                pairs.all(|pair| pair.mirror.0 != member.mirror || pair.state != PairState::Splitting)
            })
        };
        generations.iter().filter(copied).cloned().collect()
    }

    /// Why the generation must stay, if it must.
    pub(crate) fn of_generation(&self, generation: &Generation) -> Option<String> {
        let mut mirrors = generation.members.iter().map(|member| member.mirror);
        mirrors.find_map(|mirror| self.of_mirror(mirror, &[PairState::Split]))
    }

    /// Why a mirror must not be overwritten, if it must not. `states`: those its pair may be in.
    pub(crate) fn of_mirror(&self, mirror: u32, states: &[PairState]) -> Option<String> {
        if let Some(pair) = self.pairs.iter().find(|pair| pair.mirror.0 == mirror) {
            let primary = pair.primary.0;
            if !states.contains(&pair.state) {
                let hint = match pair.state {
                    PairState::Splitting => ": it is still being copied".to_owned(),
                    PairState::Suspended | PairState::Restored => {
                        format!(": `cancel {primary} {mirror}` gives it up")
                    }
                    _ => String::new(),
                };
                return Some(format!("the pair {primary} -> {mirror} is {}{hint}", pair.state));
            }
            if pair.strictly_held {
                return Some(format!(
                    "volume {mirror} is held: `config release {mirror}` ends that"
                ));
            }
        }
        if let Some(pair) = self.pairs.iter().find(|pair| pair.primary.0 == mirror) {
            return Some(format!(
                "volume {mirror} is the primary of volume {}",
                pair.mirror.0
            ));
        }
        self.hosts.get(&mirror).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generations::book::{Member, tests::pair};

    fn generation() -> Generation {
        let member = |primary, mirror| Member {
            primary,
            mirror,
            split_at_ms: 7,
        };
        Generation {
            number: 1,
            name: None,
            at_ms: 7,
            by_rule: true,
            members: vec![member(1, 5), member(2, 6)],
        }
    }

    fn usage(change: impl FnOnce(&mut Usage)) -> Option<String> {
        let mut usage = Usage {
            pairs: vec![pair(1, 5, PairState::Split, 7), pair(2, 6, PairState::Split, 7)],
            hosts: BTreeMap::new(),
        };
        change(&mut usage);
        usage.of_generation(&generation())
    }

    #[test]
    fn one_that_is_being_copied_is_not_whole() {
        let mut usage = Usage {
            pairs: vec![pair(1, 5, PairState::Split, 7), pair(2, 6, PairState::Split, 7)],
            hosts: BTreeMap::new(),
        };
        assert_eq!(usage.whole(&[generation()]), [generation()]);
        usage.pairs[1].state = PairState::Splitting;
        assert_eq!(usage.whole(&[generation()]), []);
    }

    #[test]
    fn each_use_is_a_reason() {
        assert_eq!(usage(|_| {}), None);
        let states = PairState::ALL;
        for state in states.iter().copied().filter(|state| *state != PairState::Split) {
            let why = usage(|usage| usage.pairs[1].state = state);
            assert!(why.is_some_and(|why| why.contains(state.name())), "{state}");
        }
        assert!(usage(|usage| usage.pairs[0].strictly_held = true).is_some_and(|why| why.contains("held")));
        let below = usage(|usage| usage.pairs.push(pair(6, 9, PairState::Duplex, 0)));
        assert_eq!(below.as_deref(), Some("volume 6 is the primary of volume 9"));
        let why = usage(|usage| drop(usage.hosts.insert(5, "reserved".into())));
        assert_eq!(why.as_deref(), Some("reserved"));
    }
}
