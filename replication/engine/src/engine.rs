//! [`Engine`]: one step for each input. It only dispatches; what happens is in the modules that `lib.rs` lists.

#[cfg(test)]
mod harness;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    command::{Refused, VolumeSpec, Why},
    commands::{Answer, Pending},
    effects::{Effect, Effects, Input, Outcome},
    family::{Family, Volume},
    heat::HeatQueue,
    host_op::HostOp,
    ids::{CommandId, PairId, Tick, Token, VolumeId},
    job::{Job, JobId, Wait},
    journal::Record,
    limits::EngineConfig,
    mutation::Mutation,
    pace::Pace,
    pair::Pair,
    recovery::Volumes,
};

/// All pairs of a system.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) now: Tick,
    /// The latest wall clock a command brought, Unix milliseconds.
    pub(crate) now_ms: u64,
    pub(crate) names: Names,

    pub(crate) volumes: Volumes,
    pub(crate) pairs: BTreeMap<PairId, Pair>,
    /// By root.
    pub(crate) families: BTreeMap<VolumeId, Family>,

    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) runnable: VecDeque<JobId>,
    pub(crate) waits: BTreeMap<Token, Wait>,
    pub(crate) gate_waiting: Vec<JobId>,
    pub(crate) heat: HeatQueue,

    pub(crate) commands: VecDeque<Pending>,
    pub(crate) answers: BTreeMap<CommandId, Answer>,

    /// Mirrors of pairs that resume only when a command says so.
    pub(crate) resumed_by_command: BTreeSet<VolumeId>,
    /// Pairs in a state that copies.
    pub(crate) copying: BTreeSet<PairId>,
    pub(crate) served_last: Option<PairId>,
    /// Pairs of which something may be settled when writes that are on their way have ended.
    pub(crate) settles_behind: BTreeSet<PairId>,
    /// Foreign volumes whose link is there.
    pub(crate) linked: BTreeSet<VolumeId>,
    /// Mirrors without which their primaries' hosts are not to write.
    pub(crate) needed: BTreeSet<VolumeId>,
    /// Mirrors that a host's flush does not wait for.
    pub(crate) trailing: BTreeSet<VolumeId>,
    pub(crate) pace: Pace,

    /// The journal could not be written: nothing that needs it is accepted any more.
    pub(crate) journal_failed: bool,
}

/// Numbers that are never given twice: tokens, jobs, changes of state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(u64);

impl Names {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

impl Engine {
    /// An engine without volumes.
    pub fn new(config: EngineConfig) -> Self {
        Self {
            config,
            mutation: None,
            now: Tick(0),
            now_ms: 0,
            names: Names::default(),
            volumes: BTreeMap::new(),
            pairs: BTreeMap::new(),
            families: BTreeMap::new(),
            jobs: BTreeMap::new(),
            runnable: VecDeque::new(),
            waits: BTreeMap::new(),
            gate_waiting: Vec::new(),
            heat: HeatQueue::default(),
            commands: VecDeque::new(),
            answers: BTreeMap::new(),
            resumed_by_command: BTreeSet::new(),
            copying: BTreeSet::new(),
            served_last: None,
            settles_behind: BTreeSet::new(),
            linked: BTreeSet::new(),
            needed: BTreeSet::new(),
            trailing: BTreeSet::new(),
            pace: Pace::new(config.limits.pace, config.limits.latency_factor),
            journal_failed: false,
        }
    }

    /// The same engine with a planted bug: for harnesses that must prove that they find it.
    #[must_use]
    pub fn with_mutation(mut self, mutation: Mutation) -> Self {
        self.mutation = Some(mutation);
        self
    }

    /// The pace of the copies from now on, in bytes a second; 0: no limit.
    pub fn set_pace(&mut self, bytes_per_second: u64) {
        self.pace.set_rate(bytes_per_second);
    }

    /// How slow hosts' I/O may become while copies run, in percent of what it is without; 0: as slow as it gets.
    pub fn set_latency_factor(&mut self, percent: u32) {
        self.pace.set_latency_factor(percent);
    }

    /// Hosts' I/Os that ended since the last call, and the nanoseconds they took together. The copies keep to it from the next
    /// tick on.
    pub fn hear_hosts(&mut self, ios: u64, nanos: u64) {
        self.pace.hear_hosts(ios, nanos);
    }

    /// Bytes a second that the hosts' latency leaves to the copies now; `None`: as many as they like.
    pub fn allowance(&self) -> Option<u64> {
        self.pace.allowance()
    }

    /// The pairs of these mirrors wait for a command after a fault, whatever [`Limits::auto_resume`](crate::Limits) says.
    pub fn set_resumed_by_command(&mut self, mirrors: BTreeSet<VolumeId>) {
        self.resumed_by_command = mirrors;
    }

    /// Hosts do not write to the primaries of these mirrors while a fault keeps the two apart ([`crate::remote`]).
    pub fn set_needed(&mut self, mirrors: BTreeSet<VolumeId>) {
        self.needed = mirrors;
    }

    /// These mirrors of other systems trail behind: what makes a host's writes stable does not wait for them ([`crate::remote`]).
    pub fn set_trailing(&mut self, mirrors: BTreeSet<VolumeId>) {
        self.trailing = mirrors;
    }

    /// Makes a volume known, or tells its new size. `false`: it is in a pair, and its size cannot change.
    pub fn define_volume(&mut self, id: VolumeId, spec: VolumeSpec) -> bool {
        match self.volumes.get(&id) {
            Some(volume) if volume.spec == spec => true,
            Some(volume) if volume.paired() => false,
            Some(volume) => {
                let config = volume.config;
                let mut volume = Volume::new(id, spec, self.config.track_size);
                volume.config = config;
                self.volumes.insert(id, volume);
                true
            }
            None => {
                self.volumes
                    .insert(id, Volume::new(id, spec, self.config.track_size));
                true
            }
        }
    }

    /// Forgets a volume. `false`: it is in a pair, or I/O of it is under way.
    pub fn remove_volume(&mut self, id: VolumeId) -> bool {
        let busy = self
            .families
            .get(&id)
            .is_some_and(|family| !family.is_idle() || family.closed);
        let Some(volume) = self.volumes.get(&id) else {
            return true;
        };
        if volume.paired() || volume.gate > 0 || busy {
            return false;
        }
        self.volumes.remove(&id);
        self.families.remove(&id);
        true
    }

    /// Is anything under way that needs ticks every 100 ms?
    pub fn busy(&self) -> bool {
        !(self.jobs.is_empty()
            && self.waits.is_empty()
            && self.commands.is_empty()
            && self.copying.is_empty())
    }

    /// Nothing is in flight, and no command waits: the moment to stop a daemon. (Copies that could go on may be left.)
    pub fn idle(&self) -> bool {
        let passing = self.families.values().any(|family| !family.passing.is_empty());
        self.jobs.is_empty() && self.waits.is_empty() && self.commands.is_empty() && !passing
    }

    /// Regions that would be copied or marked after a crash now.
    pub fn hot_regions(&self) -> usize {
        self.volumes.values().map(|volume| volume.hot.len()).sum()
    }

    /// One input; what is to be done about it is appended to `out`.
    pub fn step(&mut self, now: Tick, input: Input, out: &mut Effects) {
        self.now = self.now.max(now);
        match input {
            Input::Host {
                op,
                volume,
                io,
                range,
                fua,
                by_link,
            } => {
                self.host_begin(
                    HostOp {
                        op,
                        volume,
                        io,
                        range,
                        fua,
                        by_link,
                    },
                    out,
                );
            }
            Input::Command { id, command, now_ms } => {
                self.commands.push_back(Pending { id, command, now_ms });
            }
            Input::Check { id, pair, tracks } => self.check_begin(id, pair, tracks, out),
            Input::Link { volume, up } => self.link(volume, up, out),
            Input::Done { token, outcome } => self.done(token, outcome, out),
            Input::Passed => {}
            Input::Tick => {
                self.sample_rates();
                self.pace.adjust(self.now, !self.copying.is_empty());
                self.cool(out);
                self.resume_pairs(out);
            }
        }
        self.run(out);
    }

    /// Everything that can go on without another input.
    fn run(&mut self, out: &mut Effects) {
        loop {
            while let Some(job) = self.runnable.pop_front() {
                self.advance(job, out);
            }
            self.take_commands(out);
            if !self.settles_behind.is_empty() {
                self.settle_behind(out);
            }
            self.pump(out);
            if self.runnable.is_empty() {
                return;
            }
        }
    }

    fn done(&mut self, token: Token, outcome: Outcome, out: &mut Effects) {
        // A token is the engine's own: one it does not know came twice, and the second means nothing.
        let Some(wait) = self.waits.remove(&token) else {
            return;
        };
        if let Outcome::Sparse { holes, .. } = outcome {
            self.pace.refund(holes);
        }
        let journal = matches!(wait, Wait::Hot | Wait::Cleared { .. } | Wait::Change { .. });
        if journal && outcome != Outcome::Ok {
            return self.journal_lost(out);
        }
        match wait {
            Wait::Job { job, part } => self.part_done(job, part, outcome),
            Wait::SettleFlush { pair, round } => self.settle_flushed(pair, round, outcome, out),
            Wait::Cleared { pair, round } => self.cleared(pair, round, out),
            Wait::Hot => self.hot_written(out),
            Wait::Cool { volume, flushed } => self.cool_flushed(volume, flushed, outcome, out),
            Wait::Change { volumes, command } => self.change_durable(&volumes, command, out),
            Wait::SplitFlush { volume, command } => {
                if outcome != Outcome::Ok {
                    self.cache_lost(volume, out);
                    if let Some(answer) = self.answers.get_mut(&command) {
                        answer.unstable = Some(volume);
                    }
                }
                self.answer_part(command, out);
            }
        }
    }

    /// A name for an effect, and what its end is for.
    pub(crate) fn token(&mut self, wait: Wait) -> Token {
        let token = Token(self.names.next());
        self.waits.insert(token, wait);
        token
    }

    /// Appends a record that something waits for.
    pub(crate) fn journal(&mut self, record: Record, wait: Wait, out: &mut Effects) {
        let token = Some(self.token(wait));
        out.push(Effect::Journal { record, token });
    }

    /// What memory says can no longer be made durable. Reads go on; whatever needs a record is refused.
    fn journal_lost(&mut self, out: &mut Effects) {
        self.journal_failed = true;
        for id in core::mem::take(&mut self.answers).into_keys() {
            out.push(Effect::Answer {
                id,
                result: Err(Refused {
                    member: 0,
                    why: Why::Journal,
                }),
            });
        }
        self.wake_gated();
        self.wake_heat();
        let pairs: Vec<PairId> = self.pairs.keys().copied().collect();
        for id in pairs {
            if let Some(pair) = self.pairs.get_mut(&id) {
                let mut waiting = pair.settle.abandon();
                self.wake(&mut waiting);
            }
        }
    }
}
