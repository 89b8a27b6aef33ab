//! Settling: making the end of copies durable, data before marks (O2, O5).
//!
//! One round at a time for a pair: flush the destination, the mirrors that got the same, and every volume that was read (what
//! it holds may itself be only in a cache: the copy must not outlive its original), then journal `Cleared` with the runs that were unsettled when the round began.
//! At the moment the record is given to the journal the tracks leave `unsettled`, so that memory and replay agree at every
//! record; until it is durable they are still held here.

use std::collections::BTreeSet;

use crate::{
    effects::{Effect, Effects, Outcome},
    engine::Engine,
    faults::{MIRROR_IO, PRIMARY_IO},
    ids::{PairId, Tick, VolumeId},
    job::{JobId, Wait},
    journal::Record,
    mutation::Mutation,
    state::PairState,
    track::TrackRange,
};

#[derive(Debug, Clone, Default)]
enum Stage {
    #[default]
    Idle,
    Flushing {
        left: usize,
        runs: Vec<TrackRange>,
    },
    Journaling(Vec<TrackRange>),
}

/// How far a pair's copies are settled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settle {
    stage: Stage,
    /// Names the round, so that a flush of one given up is not taken for the next one's.
    round: u64,
    /// Volumes read or written since the last round.
    volumes: BTreeSet<VolumeId>,
    /// When the oldest unsettled copy ended.
    since: Option<Tick>,
    waiting: Vec<JobId>,
}

impl Settle {
    /// A copy ended that read or wrote these volumes.
    pub(crate) fn copied(&mut self, volumes: impl IntoIterator<Item = VolumeId>, now: Tick) {
        self.volumes.extend(volumes);
        self.since.get_or_insert(now);
    }

    /// More is unsettled than the round under way covers: that one no longer counts, and whoever waits for it waits for the
    /// next.
    pub(crate) fn begin_anew(&mut self, now: Tick) {
        self.stage = Stage::Idle;
        self.round += 1;
        self.since.get_or_insert(now);
    }

    /// Is the clearing of one of these tracks on its way to the journal?
    pub(crate) fn is_journaling(&self, tracks: TrackRange) -> bool {
        matches!(&self.stage, Stage::Journaling(runs) if runs.iter().any(|run| run.overlaps(tracks)))
    }

    /// Nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// The copies were given up, or their marks moved: who waits looks again.
    pub(crate) fn abandon(&mut self) -> Vec<JobId> {
        let round = self.round + 1;
        core::mem::replace(
            self,
            Self {
                round,
                ..Self::default()
            },
        )
        .waiting
    }
}

impl Engine {
    /// Settles what is unsettled of the pair; the job is woken after the round.
    pub(crate) fn settle_for(&mut self, id: PairId, job: Option<JobId>, out: &mut Effects) {
        let Some(pair) = self.pairs.get_mut(&id) else {
            self.runnable.extend(job);
            return;
        };
        pair.settle.waiting.extend(job);
        if !pair.settle.is_idle() || self.journal_failed {
            return;
        }
        if pair.bits.unsettled.is_empty() {
            let mut waiting = core::mem::take(&mut pair.settle.waiting);
            return self.wake(&mut waiting);
        }
        // A write that was on its way to both legs when they parted may reach the mirror behind this round's flush.
        let apart = matches!(pair.meta.state, PairState::Splitting | PairState::Split);
        let flying = if apart {
            self.flying_tracks(id.0)
        } else {
            Vec::new()
        };
        let Some(pair) = self.pairs.get(&id) else { return };
        let mut runs: Vec<TrackRange> = pair.bits.unsettled.runs().collect();
        if !flying.is_empty() {
            let mut landed = pair.bits.unsettled.clone();
            for tracks in &flying {
                landed.clear(*tracks);
            }
            runs = landed.runs().collect();
            self.settles_behind.insert(id);
            if runs.is_empty() {
                return;
            }
        }
        let Some(pair) = self.pairs.get_mut(&id) else {
            return;
        };
        let mut volumes = core::mem::take(&mut pair.settle.volumes);
        let (source, destination) = (pair.source(id), pair.destination(id));
        volumes.insert(destination);
        // What went on to a mirror that trails behind is its own pair's affair: there its region stays hot.
        volumes.retain(|volume| !self.trailing.contains(volume) || [source, destination].contains(volume));
        pair.settle.since = None;
        pair.settle.round += 1;
        let round = pair.settle.round;
        if self.mutation == Some(Mutation::MarkBeforeData) {
            pair.settle.stage = Stage::Flushing { left: 0, runs };
            return self.journal_cleared(id, out);
        }
        pair.settle.stage = Stage::Flushing {
            left: volumes.len(),
            runs,
        };
        for volume in volumes {
            let token = self.token(Wait::SettleFlush { pair: id, round });
            out.push(Effect::Flush { token, volume });
        }
    }

    /// Rounds that waited for writes on their way.
    pub(crate) fn settle_behind(&mut self, out: &mut Effects) {
        for id in core::mem::take(&mut self.settles_behind) {
            self.settle_for(id, None, out);
            let round = self.pairs.get(&id).is_some_and(|pair| !pair.settle.is_idle());
            // A round under way leaves some out, perhaps: it is looked at again when that is over.
            if round {
                self.settles_behind.insert(id);
            }
        }
    }

    /// A flush of a round ended.
    pub(crate) fn settle_flushed(&mut self, id: PairId, round: u64, outcome: Outcome, out: &mut Effects) {
        let Some(pair) = self.pairs.get(&id).filter(|pair| pair.settle.round == round) else {
            return;
        };
        let (source, destination) = (pair.source(id), pair.destination(id));
        // Behind a link that is lost a source is its own system's affair, which marks what it cannot make stable; a protected restore waits.
        let away = |volume: VolumeId| volume == source && !self.is_within_reach(volume);
        if let Outcome::WriteFailed(volume) = outcome
            && !away(volume)
        {
            let reason = if volume == id.0 { MIRROR_IO } else { PRIMARY_IO };
            let own = [source, destination].contains(&volume);
            self.cache_lost(volume, out);
            if own {
                return self.suspend(id, reason, TrackRange::new(0, 0), out);
            }
        }
        // What failed was another pair's mirror, or nothing.
        let Some(pair) = self.pairs.get_mut(&id).filter(|pair| pair.settle.round == round) else {
            return;
        };
        let Stage::Flushing { left, .. } = &mut pair.settle.stage else {
            return;
        };
        *left -= 1;
        if *left == 0 {
            self.journal_cleared(id, out);
        }
    }

    fn journal_cleared(&mut self, id: PairId, out: &mut Effects) {
        let Some(pair) = self.pairs.get_mut(&id) else {
            return;
        };
        let Stage::Flushing { runs, .. } = core::mem::take(&mut pair.settle.stage) else {
            return;
        };
        // A change of state since may have put a track back into `todo`.
        let runs: Vec<TrackRange> = runs
            .iter()
            .flat_map(|run| pair.bits.unsettled.runs_in(*run).collect::<Vec<_>>())
            .collect();
        for run in &runs {
            pair.bits.settled(*run);
        }
        if runs.is_empty() {
            return self.cleared(id, pair_round(&self.pairs[&id]), out);
        }
        pair.settle.stage = Stage::Journaling(runs.clone());
        let round = pair.settle.round;
        self.journal(
            Record::Cleared { pair: id, runs },
            Wait::Cleared { pair: id, round },
            out,
        );
    }

    /// `Cleared` is durable.
    pub(crate) fn cleared(&mut self, id: PairId, round: u64, out: &mut Effects) {
        let Some(pair) = self.pairs.get_mut(&id).filter(|pair| pair.settle.round == round) else {
            return;
        };
        pair.settle.stage = Stage::Idle;
        let mut waiting = core::mem::take(&mut pair.settle.waiting);
        self.wake(&mut waiting);
        self.settle_if_due(id, out);
    }

    /// Begins a round when enough is unsettled, or has been for long, or nothing is left to copy.
    pub(crate) fn settle_if_due(&mut self, id: PairId, out: &mut Effects) {
        let (limits, now) = (self.config.limits, self.now);
        let Some(pair) = self.pairs.get(&id) else { return };
        if pair.bits.unsettled.is_empty() || !pair.settle.is_idle() {
            return;
        }
        let many = pair.bits.unsettled.count() >= limits.settle_tracks;
        let old = pair
            .settle
            .since
            .is_some_and(|since| now.0.saturating_sub(since.0) >= limits.settle_after);
        let last = pair.bits.todo.is_empty() && pair.queue.is_idle();
        if many || old || last {
            self.settle_for(id, None, out);
        }
    }
}

fn pair_round(pair: &crate::pair::Pair) -> u64 {
    pair.settle.round
}
