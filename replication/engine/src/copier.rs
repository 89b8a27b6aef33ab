//! The copier: walks `todo` of every pair that copies, fairly, several runs in flight for each, first the tracks that hosts read.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    effects::Effects,
    engine::Engine,
    ids::{PairId, Tick, VolumeId},
    job::{JobId, Work},
    pair::Pair,
    state::PairState,
    track::TrackRange,
    track_lock::Mode,
    transition_table::{self, PairEvent},
};

/// What a pair copies next.
#[derive(Debug, Clone, Default)]
pub(crate) struct CopyQueue {
    /// Where the walk goes on.
    cursor: u64,
    /// Tracks that hosts read, in that order.
    front: VecDeque<u64>,
    /// The copier's jobs, and the tracks they lock.
    flying: BTreeMap<JobId, TrackRange>,
    /// Where the source was a hole when it was last looked at.
    hole: TrackRange,
    /// Bytes copied since `sampled`.
    bytes: u64,
    sampled: Tick,
    /// Bytes a second.
    pub(crate) rate: u64,
}

impl CopyQueue {
    /// No job of the copier is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.flying.is_empty()
    }

    /// A job has ended.
    pub(crate) fn landed(&mut self, job: JobId) {
        self.flying.remove(&job);
    }

    /// Bytes were copied.
    pub(crate) fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// The source is a hole for so many tracks from here on, as far as anybody knows.
    pub(crate) fn hole_ahead(&mut self, from: u64, tracks: u64) {
        // Ends of earlier runs come late: they know no more of the same hole.
        if tracks > 0 && from + tracks >= self.hole.end {
            self.hole = TrackRange::new(from, from + tracks);
        }
    }

    /// Tracks of a run that begins here: `longest`, or more in a hole, where a run costs the same whatever its length.
    pub(crate) fn reach(&self, start: u64, longest: u64) -> u64 {
        let in_hole = if (self.hole.start..self.hole.end).contains(&start) {
            self.hole.end - start
        } else {
            0
        };
        longest.max(in_hole.min(longest.saturating_mul(HOLE_RUNS)))
    }

    /// A new copy begins at the start.
    pub(crate) fn restart(&mut self, now: Tick) {
        self.cursor = 0;
        self.front.clear();
        self.hole = TrackRange::new(0, 0);
        (self.bytes, self.sampled, self.rate) = (0, now, 0);
    }

    fn sample(&mut self, now: Tick) {
        let passed = now.0.saturating_sub(self.sampled.0);
        if passed < SAMPLE {
            return;
        }
        let latest = u128::from(self.bytes) * u128::from(SECOND) / u128::from(passed);
        let latest = u64::try_from(latest).unwrap_or(u64::MAX);
        self.rate = if self.rate == 0 {
            latest
        } else {
            self.rate / 2 + latest / 2
        };
        (self.bytes, self.sampled) = (0, now);
    }

    fn is_flying(&self, run: TrackRange) -> Option<TrackRange> {
        self.flying.values().copied().find(|other| other.overlaps(run))
    }
}

const SECOND: u64 = 1_000_000_000;
const SAMPLE: u64 = SECOND;
/// A run in a hole may be so many times as long as one of data. The hint may be out of date, and the run is locked while what was
/// written into the hole since is copied: so it is not without bounds.
const HOLE_RUNS: u64 = 256;

/// The next run of a pair's copy that nobody copies yet.
fn next_run(pair: &mut Pair, longest: u64) -> Option<TrackRange> {
    while let Some(track) = pair.queue.front.pop_front() {
        let run = TrackRange::single(track);
        if pair.bits.todo.test(track) && pair.queue.is_flying(run).is_none() {
            return Some(run);
        }
    }
    let mut wrapped = false;
    loop {
        let found = pair
            .bits
            .todo
            .next_run(pair.queue.cursor, longest.saturating_mul(HOLE_RUNS));
        let reach = |run: TrackRange| run.start + pair.queue.reach(run.start, longest);
        match found.map(|run| TrackRange::new(run.start, run.end.min(reach(run)))) {
            Some(run) => match pair.queue.is_flying(run) {
                None => {
                    pair.queue.cursor = run.end;
                    return Some(run);
                }
                Some(other) if other.start > run.start => {
                    pair.queue.cursor = other.end;
                    return Some(TrackRange::new(run.start, other.start));
                }
                Some(other) => pair.queue.cursor = other.end,
            },
            None if wrapped => return None,
            None => {
                wrapped = true;
                pair.queue.cursor = 0;
            }
        }
    }
}

impl Engine {
    /// Tracks of one copy effect at most.
    pub(crate) fn run_tracks(&self) -> u64 {
        (self.config.limits.copy_run_bytes / u64::from(self.config.track_size)).max(1)
    }

    /// A host read these tracks: what of them a pair still has to bring is copied next. Be it read at the destination, through
    /// the pair (Fig. 7), or at the source, by a host of the mirror during a protected restore (Fig. 9).
    pub(crate) fn copy_what_was_read(&mut self, volume: VolumeId, tracks: TrackRange) {
        if self.copying.is_empty() {
            return;
        }
        for track in tracks.iter() {
            let own = self.pairs.get(&PairId(volume)).filter(|pair| {
                pair.meta.state == PairState::ProtectedRestoring && pair.bits.todo.test(track)
            });
            let own = own.map(|_| PairId(volume));
            for id in self.read_through(volume, track, u64::MAX).into_iter().chain(own) {
                self.copy_next(id, track);
            }
        }
    }

    fn copy_next(&mut self, id: PairId, track: u64) {
        let most = self.config.limits.front;
        if let Some(pair) = self.pairs.get_mut(&id)
            && pair.queue.front.len() < most
            && !pair.queue.front.contains(&track)
        {
            pair.queue.front.push_back(track);
        }
    }

    /// Ends copies that have nothing left, and starts new runs until the limits are reached.
    pub(crate) fn pump(&mut self, out: &mut Effects) {
        if self.journal_failed || self.copying.is_empty() {
            return;
        }
        let mut turn: VecDeque<PairId> = self.copying.iter().copied().collect();
        // Whoever was served last is served last again.
        if let Some(last) = self.served_last
            && let Some(at) = turn.iter().position(|id| *id > last)
        {
            turn.rotate_left(at);
        }
        for id in &turn {
            self.finish_copy(*id, out);
        }
        while let Some(id) = turn.pop_front() {
            if self.pace.is_used_up(self.now) {
                return;
            }
            if self.start_run(id) {
                self.served_last = Some(id);
                turn.push_back(id);
            }
        }
    }

    /// May a pair that has so many copies in flight have one more?
    fn has_room(&self, id: PairId, flying: usize) -> bool {
        let limits = self.config.limits;
        let of = |far: bool| {
            self.copying
                .iter()
                .filter_map(|other| self.pairs.get(other).map(|pair| (*other, pair)))
                .filter(move |(other, pair)| pair.is_remote(*other) == far)
                .flat_map(|(_, pair)| pair.queue.flying.values())
        };
        if self.pairs[&id].is_remote(id) {
            // A longer run is one of a hole: nothing of it is sent.
            let bytes = |run: &TrackRange| {
                limits
                    .copy_run_bytes
                    .min(run.len() * u64::from(self.config.track_size))
            };
            return of(true).map(bytes).sum::<u64>() < limits.far_copy_bytes;
        }
        flying < limits.copies_per_pair && of(false).count() < limits.copies
    }

    fn start_run(&mut self, id: PairId) -> bool {
        let longest = self.run_tracks();
        let root = self.root(id.0);
        let Some(pair) = self.pairs.get(&id).filter(|pair| pair.meta.state.is_copying()) else {
            return false;
        };
        let shut = self.volume(pair.meta.primary).gate > 0 || !self.is_within_reach(id.0);
        if shut || !self.has_room(id, pair.queue.flying.len()) || self.family(root).closed {
            return false;
        }
        let Some(pair) = self.pairs.get_mut(&id) else {
            return false;
        };
        let era = pair.era;
        let Some(run) = next_run(pair, longest) else {
            return false;
        };
        self.pace.spend(run.len() * u64::from(self.config.track_size));
        let job = self.admit(
            root,
            run,
            Some(Mode::Exclusive),
            Work::Copy {
                pair: id,
                era,
                flight: None,
            },
        );
        if let Some(pair) = self.pairs.get_mut(&id) {
            pair.queue.flying.insert(job, run);
        }
        true
    }

    fn finish_copy(&mut self, id: PairId, out: &mut Effects) {
        self.settle_if_due(id, out);
        let Some(pair) = self.pairs.get(&id) else { return };
        let over = pair.bits.todo.is_empty()
            && pair.bits.unsettled.is_empty()
            && pair.settle.is_idle()
            && pair.queue.is_idle();
        if !over || self.volume(pair.meta.primary).gate > 0 {
            return;
        }
        let primary_changed = !pair.bits.primary_changed.is_empty();
        let event = PairEvent::CopyFinished { primary_changed };
        if let Some(transition) = transition_table::after(pair.meta.state, event) {
            self.copy_finished(id, transition, out);
        }
    }

    /// Once a tick: the rates shown, and what the pace allows.
    pub(crate) fn sample_rates(&mut self) {
        let now = self.now;
        for id in &self.copying {
            if let Some(pair) = self.pairs.get_mut(id) {
                pair.queue.sample(now);
            }
        }
    }
}
