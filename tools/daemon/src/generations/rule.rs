//! When a rule is due, and which generations it lets go. Pure: time is an argument, in Unix milliseconds.

use serde::{Deserialize, Serialize};

use super::book::Generation;

/// What failed is tried again after this, or after the rule's period if that is less.
const RETRY_MS: u64 = 60_000;

/// Makes a generation of a group of standards every so often, and keeps some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// The standards, ascending.
    pub(crate) primaries: Vec<u32>,
    /// Seconds from one to the next.
    pub(crate) every: u64,
    /// The newest so many stay.
    pub(crate) keep: u32,
    /// Seconds; older ones go, but never the newest.
    pub(crate) max_age: Option<u64>,
    /// When the next one is due.
    pub(crate) next_at_ms: u64,
    /// Not before this, because it failed.
    #[serde(skip)]
    pub(crate) not_before_ms: u64,
}

impl Rule {
    fn every_ms(&self) -> u64 {
        self.every.max(1).saturating_mul(1000)
    }

    fn retry_ms(&self) -> u64 {
        self.every_ms().min(RETRY_MS)
    }

    /// Is a generation to be made now? A clock that was set back by more than a correction makes it due at once: neither
    /// time can be that far ahead.
    pub(crate) fn due(&self, now_ms: u64) -> bool {
        let ahead = |time: u64, most: u64| time > now_ms && time - now_ms <= most;
        let (every, retry) = (self.every_ms(), self.retry_ms());
        !ahead(self.not_before_ms, retry) && !ahead(self.next_at_ms, every.saturating_add(retry))
    }

    /// One has been made: the next is due a whole number of periods after the last, so nothing drifts, and what was
    /// missed is not made up for.
    pub(crate) fn made(&mut self, now_ms: u64) {
        let every = self.every_ms();
        self.next_at_ms = match now_ms.checked_sub(self.next_at_ms) {
            Some(late) => self
                .next_at_ms
                .saturating_add((late / every + 1).saturating_mul(every)),
            None => now_ms.saturating_add(every),
        };
        self.not_before_ms = 0;
    }

    /// It failed.
    pub(crate) fn failed(&mut self, now_ms: u64) {
        self.not_before_ms = now_ms.saturating_add(self.retry_ms());
    }

    /// Those that go, oldest first.
    pub(crate) fn expired(&self, generations: &[Generation], now_ms: u64) -> Vec<u32> {
        let too_old = |generation: &Generation| {
            self.max_age
                .is_some_and(|age| now_ms.saturating_sub(generation.at_ms) > age.saturating_mul(1000))
        };
        self.beyond(generations, |place, generation| {
            place >= self.keep as usize || (place > 0 && too_old(generation))
        })
    }

    /// Those that will go once one more is there, oldest first: they may be recycled for it.
    pub(crate) fn expendable(&self, generations: &[Generation]) -> Vec<u32> {
        self.beyond(generations, |place, _| place + 1 >= self.keep as usize)
    }

    fn beyond(&self, generations: &[Generation], goes: impl Fn(usize, &Generation) -> bool) -> Vec<u32> {
        let mut mine: Vec<&Generation> = generations
            .iter()
            .filter(|generation| generation.by_rule && generation.primaries() == self.primaries)
            .collect();
        // Numbers only go up, whatever the clock does.
        mine.sort_unstable_by_key(|generation| std::cmp::Reverse(generation.number));
        let mut gone: Vec<u32> = mine
            .iter()
            .enumerate()
            .filter(|(place, generation)| goes(*place, generation))
            .map(|(_, generation)| generation.number)
            .collect();
        gone.reverse();
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generations::book::Member;

    const HOUR: u64 = 3_600_000;

    fn rule(keep: u32, max_age: Option<u64>) -> Rule {
        Rule {
            primaries: vec![1],
            every: 3600,
            keep,
            max_age,
            next_at_ms: 100 * HOUR,
            not_before_ms: 0,
        }
    }

    fn generation(number: u32, primary: u32, at_ms: u64, by_rule: bool) -> Generation {
        Generation {
            number,
            name: None,
            at_ms,
            by_rule,
            members: vec![Member {
                primary,
                mirror: 10 + number,
                split_at_ms: at_ms,
            }],
        }
    }

    #[test]
    fn one_a_period_without_drift() {
        let mut rule = rule(3, None);
        assert!(!rule.due(100 * HOUR - 1));
        let mut made = Vec::new();
        // Looked at every 700 ms, as a busy timer might.
        for now in (100 * HOUR..103 * HOUR).step_by(700) {
            if rule.due(now) {
                made.push(now);
                rule.made(now);
            }
        }
        assert_eq!(made.len(), 3);
        assert!(
            made.iter().zip(100..).all(|(at, hour)| at - hour * HOUR < 700),
            "{made:?}"
        );
    }

    #[test]
    fn what_was_missed_is_made_once() {
        let mut rule = rule(3, None);
        let now = 150 * HOUR + 5;
        assert!(rule.due(now));
        rule.made(now);
        assert_eq!(rule.next_at_ms, 151 * HOUR);
    }

    #[test]
    fn a_clock_set_back_does_not_stop_it() {
        let mut rule = rule(3, None);
        let now = 20 * HOUR;
        assert!(rule.due(now));
        rule.made(now);
        assert!(!rule.due(now + HOUR - 1));
        assert!(rule.due(now + HOUR));
        assert!(!rule.due(now - 5000), "a clock that is corrected makes none");
        rule.failed(now + HOUR);
        assert!(rule.due(now - HOUR), "the pause after a failure is forgotten too");
    }

    #[test]
    fn a_failure_is_tried_again_after_a_minute_or_a_period() {
        let mut rule = rule(3, None);
        let now = 100 * HOUR;
        rule.failed(now);
        assert!(!rule.due(now + RETRY_MS - 1));
        assert!(rule.due(now + RETRY_MS));
        rule.every = 2;
        rule.failed(now);
        assert!(rule.due(now + 2000));
    }

    #[test]
    fn the_newest_stay() {
        let all: Vec<_> = (1..=5)
            .map(|n| generation(n, 1, u64::from(n) * HOUR, true))
            .collect();
        assert_eq!(rule(3, None).expired(&all, 5 * HOUR), [1, 2]);
        assert_eq!(rule(3, None).expendable(&all), [1, 2, 3]);
        assert_eq!(rule(1, None).expendable(&all), [1, 2, 3, 4, 5]);
        assert_eq!(rule(9, None).expired(&all, 5 * HOUR), [0; 0]);
    }

    #[test]
    fn age_drops_all_but_the_newest() {
        let all: Vec<_> = (1..=5)
            .map(|n| generation(n, 1, u64::from(n) * HOUR, true))
            .collect();
        let rule = rule(9, Some(7200));
        assert_eq!(rule.expired(&all, 6 * HOUR), [1, 2, 3]);
        assert_eq!(rule.expired(&all, 100 * HOUR), [1, 2, 3, 4]);
        // A clock set back makes nothing older.
        assert_eq!(rule.expired(&all, 0), [0; 0]);
    }

    #[test]
    fn only_its_own() {
        let all = [
            generation(1, 1, 0, false),
            generation(2, 2, 0, true),
            generation(3, 1, 0, true),
            generation(4, 1, 0, true),
        ];
        assert_eq!(rule(1, None).expired(&all, HOUR), [3]);
    }
}
