//! A pair that a fault suspended resumes by itself (decision 10 of docs/pairs.md), if the direction is certain.
//!
//! It is certain for a pair that was in COPY or DUPLEX: then the primary is right. One that was suspended while it was
//! split, or restored, holds an image that an ESTABLISH would destroy, however few changes are marked: that waits for a
//! command. So does a mirror that hosts have written to. What a pair was is journaled with its suspension (`resumes`), so a restart changes
//! nothing but the pauses, which begin anew.
//!
//! The first try comes a pause after the fault. Whether the cause is gone the copy finds out: if it fails, the pair is suspended
//! again and the next pause is twice as long, up to a limit. A pair that has reached DUPLEX begins with the shortest pause again.

use crate::{
    command::{Command, Verb},
    effects::Effects,
    engine::Engine,
    ids::{PairId, Tick},
    limits::Limits,
    state::PairState,
};

/// When a suspended pair is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    at: Tick,
    pause: u64,
}

impl Retry {
    /// After a fault, or a refusal; `before` is the try that led there.
    pub(crate) fn next(before: Option<Self>, now: Tick, limits: &Limits) -> Self {
        let pause = before.map_or(limits.resume_after, |retry| {
            retry.pause.saturating_mul(2).min(limits.resume_after_most)
        });
        Self {
            at: Tick(now.0.saturating_add(pause)),
            pause,
        }
    }
}

impl Engine {
    /// Once a tick: pairs whose pause is over go on as if ESTABLISH was given.
    pub(crate) fn resume_pairs(&mut self, out: &mut Effects) {
        // A command that waits for its families to be idle comes first.
        if !self.config.limits.auto_resume || self.journal_failed || !self.commands.is_empty() {
            return;
        }
        let due: Vec<PairId> = self
            .pairs
            .iter()
            .filter(|(_, pair)| pair.meta.state == PairState::Suspended)
            .filter(|(_, pair)| pair.retry.is_some_and(|retry| retry.at <= self.now))
            .filter(|(id, _)| !self.resumed_by_command.contains(&id.0))
            .filter(|(id, pair)| !id.0.is_foreign() && !pair.meta.primary.is_foreign())
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.resume(id, out);
        }
    }

    fn resume(&mut self, id: PairId, out: &mut Effects) {
        let (now, limits) = (self.now, self.config.limits);
        let Some(pair) = self.pairs.get_mut(&id) else {
            return;
        };
        if pair.meta.mirror_ready || !pair.bits.mirror_changed.is_empty() {
            pair.retry = None;
            return;
        }
        let members = vec![(pair.meta.primary, id.0)];
        let command = Command::Pair {
            verb: Verb::Establish { full: false },
            members,
            dry_run: false,
        };
        match self.decide_alone(&command) {
            Some(decided) => self.make(decided, None, out),
            None => {
                if let Some(pair) = self.pairs.get_mut(&id) {
                    pair.retry = Some(Retry::next(pair.retry, now, &limits));
                }
            }
        }
    }
}
