//! Jobs: everything that holds a lock of a family. A job is a host I/O, a copy of a pair's run, or the repair of a bad
//! range. It either has effects under way, or waits in exactly one place (lock table, gate, heat, settle), or is runnable.
//!
//! Whoever wakes a job only puts it in line; the job then looks at everything again. So waking too often is harmless,
//! and nothing is remembered from before a wait but what is already under way.

use crate::{
    crossing::Crossing,
    effects::{Effects, Outcome},
    engine::Engine,
    family::Family,
    host_op::{HostFlight, HostOp},
    ids::{ByteRange, CheckId, CommandId, PairId, Region, Token, VolumeId},
    track::TrackRange,
    track_lock::{LockId, Mode},
};

/// A job's name; the same number names its lock.
pub(crate) type JobId = LockId;

/// What a token's completion is for.
#[derive(Debug, Clone)]
pub(crate) enum Wait {
    /// The `part`-th effect of a job.
    Job { job: JobId, part: usize },
    /// A flush before `Cleared` of this pair's settle of that number.
    SettleFlush { pair: PairId, round: u64 },
    /// `Cleared` itself.
    Cleared { pair: PairId, round: u64 },
    /// The record that makes regions hot.
    Hot,
    /// A flush before regions of this volume cool.
    Cool { volume: VolumeId, flushed: VolumeId },
    /// A change of state is durable; these volumes' gates open by one.
    Change {
        volumes: Vec<VolumeId>,
        command: Option<CommandId>,
    },
    /// A volume that holds a part of a split's image is stable, for this command's answer.
    SplitFlush { volume: VolumeId, command: CommandId },
}

/// What a job is.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// A host's I/O, and how far it is.
    Host(HostOp, HostFlight),
    /// A run of a pair's copy, in this era of its `todo`.
    Copy {
        pair: PairId,
        era: u64,
        flight: Option<Crossing>,
    },
    /// This volume could not be read here, the other side of the pair has the same: write it again.
    Repair {
        pair: PairId,
        bad: VolumeId,
        range: ByteRange,
        flying: bool,
    },
    /// Are the two sides of the pair the same here?
    Check { id: CheckId, pair: PairId, flying: bool },
}

/// A job.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    /// The root of its family.
    pub(crate) root: VolumeId,
    /// What it locks.
    pub(crate) tracks: TrackRange,
    /// How; `None`: not at all.
    pub(crate) mode: Option<Mode>,
    /// It has its lock (or needs none).
    pub(crate) granted: bool,
    pub(crate) work: Work,
    /// Effects under way.
    pub(crate) left: usize,
    /// Those of them that failed, by part.
    pub(crate) failures: Vec<(usize, Outcome)>,
    /// Regions it keeps hot.
    pub(crate) heat: Vec<(VolumeId, Region)>,
    /// Where the writes go that keep them hot.
    pub(crate) heat_legs: Vec<VolumeId>,
}

/// What became of a job that was looked at.
pub(crate) enum Next {
    /// It goes on when it is woken, or when its effects have ended.
    Keep,
    /// It is over: its lock is free.
    Over,
}

impl Engine {
    /// A family by its root.
    pub(crate) fn family(&mut self, root: VolumeId) -> &mut Family {
        self.families.entry(root).or_default()
    }

    /// Enters a job: it queues for its lock. `mode` `None`: it needs none.
    pub(crate) fn admit(
        &mut self,
        root: VolumeId,
        tracks: TrackRange,
        mode: Option<Mode>,
        work: Work,
    ) -> JobId {
        let id = LockId(self.names.next());
        let family = self.family(root);
        family.jobs += 1;
        let behind = mode.is_some() && family.is_behind(tracks);
        if behind {
            family.behind.push((id, tracks));
        }
        let granted = !behind && mode.is_none_or(|mode| family.locks.request(id, tracks, mode));
        let job = Job {
            id,
            root,
            tracks,
            mode,
            granted,
            work,
            left: 0,
            failures: Vec::new(),
            heat: Vec::new(),
            heat_legs: Vec::new(),
        };
        self.jobs.insert(id, job);
        if granted {
            self.runnable.push_back(id);
        }
        id
    }

    /// Less passes now: those who wait for nothing of it any more ask for their locks, in the order they came. Was there one?
    pub(crate) fn let_in_behind(&mut self, root: VolumeId) -> bool {
        let mut any = false;
        for (id, tracks) in core::mem::take(&mut self.family(root).behind) {
            let family = self.family(root);
            // Those that stay are in it again: nobody overtakes them.
            if family.is_behind(tracks) {
                family.behind.push((id, tracks));
                continue;
            }
            any = true;
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            let (Some(mode), Some(family)) = (job.mode, self.families.get_mut(&root)) else {
                continue;
            };
            job.granted = family.locks.request(id, tracks, mode);
            if job.granted {
                self.runnable.push_back(id);
            }
        }
        any
    }

    /// A token for the next effect of a job.
    pub(crate) fn part(&mut self, job: &mut Job, part: usize) -> Token {
        job.left += 1;
        self.token(Wait::Job { job: job.id, part })
    }

    /// An effect of a job ended.
    pub(crate) fn part_done(&mut self, id: JobId, part: usize, outcome: Outcome) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.left -= 1;
        if outcome != Outcome::Ok {
            job.failures.push((part, outcome));
        }
        if job.left == 0 {
            self.runnable.push_back(id);
        }
    }

    /// Looks at a runnable job.
    pub(crate) fn advance(&mut self, id: JobId, out: &mut Effects) {
        // Woken for something that is over, or woken twice.
        if self.jobs.get(&id).is_none_or(|job| job.left > 0 || !job.granted) {
            return;
        }
        let Some(mut job) = self.jobs.remove(&id) else {
            return;
        };
        let next = match job.work {
            Work::Host(..) => self.advance_host(&mut job, out),
            Work::Copy { .. } => self.advance_copy(&mut job, out),
            Work::Repair { .. } => self.advance_repair(&mut job, out),
            Work::Check { .. } => self.advance_check(&mut job, out),
        };
        match next {
            Next::Keep => {
                self.jobs.insert(id, job);
            }
            Next::Over => self.leave(&mut job),
        }
    }

    /// Everybody in `jobs` is looked at again.
    pub(crate) fn wake(&mut self, jobs: &mut Vec<JobId>) {
        self.runnable.extend(jobs.drain(..));
    }

    fn leave(&mut self, job: &mut Job) {
        self.drop_heat(job);
        if let Work::Copy { pair, .. } = job.work
            && let Some(pair) = self.pairs.get_mut(&pair)
        {
            pair.queue.landed(job.id);
        }
        let mut granted = Vec::new();
        let family = self.family(job.root);
        family.jobs -= 1;
        if !job.tracks.is_empty() {
            family.locks.release(job.id, &mut granted);
        }
        for id in granted {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.granted = true;
                self.runnable.push_back(id);
            }
        }
    }
}
