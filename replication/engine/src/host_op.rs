//! The life of a host's I/O.
//!
//! A write: lock its tracks exclusive; wait until every change of state of the family is durable; remove obstacles one
//! by one, looking again from the start after each (`obstacles`); plan legs and marks (`plan`); make the regions hot;
//! set the marks, issue the legs. From the plan on it is settled where the data goes: a SPLIT that comes now finds the write wholly before
//! it. An update plans before it reads, so that what it compares with is what it replaces. When the legs are written: a leg that failed
//! suspends its pair; with FUA every leg is flushed that does not trail behind; tracks that took the place of a restore's wait until that is
//! durable; a suspension too. Then the lock is free and the host has its answer.
//!
//! A read locks shared and finds, track by track, the volume with the right bytes. Tracks read through a pair go to the front of its copy
//! queue. If the bytes cannot be read and a pair says that another volume has the same, they come from there (`repair`).
//!
//! # Liveness
//!
//! Every wait while a lock is held ends without another lock being taken: effects end because the shell ends them; a gate
//! opens and heat comes with a journal record; a settle is flushes and a record. The waits for locks themselves end in the order of
//! the line. A command that closes a family waits for the jobs inside, which need nothing from those held back outside. So
//! everything ends once effects do; the only exception is a failed journal, and then waiting writes are refused.

use std::collections::BTreeSet;

use crate::{
    crossing::{Crossed, Crossing},
    effects::{Effect, Effects, HostError, HostIo, Outcome},
    engine::Engine,
    faults::{MIRROR_IO, PRIMARY_IO},
    ids::{ByteRange, OpId, PairId, VolumeId},
    job::{Job, Next, Work},
    mutation::Mutation,
    plan::{Leg, Target},
    state::PairState,
    track::TrackRange,
    track_lock::Mode,
};

/// What a host asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostOp {
    pub(crate) op: OpId,
    pub(crate) volume: VolumeId,
    pub(crate) io: HostIo,
    pub(crate) range: ByteRange,
    pub(crate) fua: bool,
    /// The write of the system that this volume follows.
    pub(crate) by_link: bool,
}

/// A part of a read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadPart {
    from: VolumeId,
    tracks: TrackRange,
    range: ByteRange,
    /// The volume that could not be read, and the pair in which this one holds the same.
    instead_of: Option<(PairId, VolumeId)>,
}

/// A write whose destinations are fixed.
#[derive(Debug, Clone)]
pub(crate) struct WritePlan {
    legs: Vec<Leg>,
    /// Copies that this write takes the place of, with their era.
    overtakes: Option<(PairId, u64)>,
}

/// How far a host's I/O is.
#[derive(Debug, Clone)]
pub(crate) enum HostFlight {
    /// To be planned.
    Idle,
    /// An obstacle is being copied away.
    Crossing(Crossing),
    /// Reading.
    Reads(Vec<ReadPart>),
    /// The host's closure looks at the data; the second time, from the twin of the volume.
    Prepare(WritePlan, Option<VolumeId>),
    /// Writing the legs.
    Writes(WritePlan),
    /// FUA, or a flush.
    Flushes(WritePlan, Vec<VolumeId>),
    /// Done but for what must be durable first: tracks overtaken, and whether a pair was suspended.
    Ending(WritePlan),
}

impl Engine {
    /// A host I/O arrives.
    pub(crate) fn host_begin(&mut self, op: HostOp, out: &mut Effects) {
        if !self.answers(op.volume, op.by_link) {
            return reply(op.op, Err(HostError::NotReady), out);
        }
        let root = self.root(op.volume);
        if self.family(root).closed {
            return self.family(root).held_back.push_back(op);
        }
        let tracks = self.volume(op.volume).geometry.touched(op.range);
        let mode = match op.io {
            HostIo::Flush => None,
            HostIo::Read => Some(Mode::Shared),
            HostIo::Write | HostIo::Update => Some(Mode::Exclusive),
        };
        if mode.is_some() && tracks.is_empty() {
            return reply(op.op, Ok(()), out);
        }
        let tracks = if mode.is_some() {
            tracks
        } else {
            TrackRange::new(0, 0)
        };
        self.admit(root, tracks, mode, Work::Host(op, HostFlight::Idle));
    }

    /// Looks at a host's job: its lock was granted, its effects ended, or what it waited for has come.
    pub(crate) fn advance_host(&mut self, job: &mut Job, out: &mut Effects) -> Next {
        let Work::Host(op, flight) = &mut job.work else {
            return Next::Over;
        };
        let op = *op;
        match core::mem::replace(flight, HostFlight::Idle) {
            HostFlight::Idle => self.plan_host(job, op, out),
            HostFlight::Crossing(crossing) => match self.crossed(job, &crossing, out) {
                Crossed::NoSource => end(op, Err(HostError::Read), out),
                Crossed::NoDestination(volume) if volume == op.volume => end(op, Err(HostError::Write), out),
                Crossed::Done | Crossed::NoDestination(_) => self.plan_host(job, op, out),
            },
            HostFlight::Reads(parts) => self.finish_reads(job, op, &parts, out),
            HostFlight::Prepare(plan, twin) => self.finish_prepare(job, op, plan, twin, out),
            HostFlight::Writes(plan) => self.finish_writes(job, op, plan, out),
            HostFlight::Flushes(plan, volumes) => self.finish_flushes(job, op, plan, &volumes, out),
            HostFlight::Ending(plan) => self.end_write(job, op, plan, out),
        }
    }

    /// A host is answered when the volume is ready, the leader of a follower as long as it is followed.
    pub(crate) fn answers(&self, volume: VolumeId, by_link: bool) -> bool {
        if by_link {
            self.follows(volume)
        } else {
            self.ready(volume)
        }
    }

    fn plan_host(&mut self, job: &mut Job, op: HostOp, out: &mut Effects) -> Next {
        if !self.answers(op.volume, op.by_link) {
            return end(op, Err(HostError::NotReady), out);
        }
        match op.io {
            HostIo::Read => self.plan_read(job, op, out),
            HostIo::Flush if self.is_refused(&op) => end(op, Err(HostError::MirrorAway), out),
            HostIo::Flush => {
                let mut volumes = self.content_of(op.volume);
                volumes.append(&mut self.with_equal_mirrors(op.volume));
                let plan = WritePlan {
                    legs: Vec::new(),
                    overtakes: None,
                };
                self.flush_all(job, op, plan, volumes, out)
            }
            HostIo::Write | HostIo::Update => self.plan_write(job, op, out),
        }
    }

    /// Must the host not write now?
    fn is_refused(&self, op: &HostOp) -> bool {
        !op.by_link && self.misses_a_mirror(op.volume)
    }

    fn plan_read(&mut self, job: &mut Job, op: HostOp, out: &mut Effects) -> Next {
        let geometry = self.volume(op.volume).geometry;
        let mut parts = Vec::new();
        let mut rest = job.tracks;
        while !rest.is_empty() {
            let (from, tracks) = self.source(op.volume, rest, u64::MAX);
            rest.start = tracks.end;
            let range = within(geometry.bytes_of(tracks), op.range);
            parts.push(ReadPart {
                from,
                tracks,
                range,
                instead_of: None,
            });
        }
        self.issue_reads(job, op, parts, out)
    }

    fn issue_reads(&mut self, job: &mut Job, op: HostOp, parts: Vec<ReadPart>, out: &mut Effects) -> Next {
        for (index, part) in parts.iter().enumerate() {
            let token = self.part(job, index);
            out.push(Effect::Read {
                token,
                op: op.op,
                from: part.from,
                range: part.range,
            });
        }
        fly(job, HostFlight::Reads(parts))
    }

    fn finish_reads(&mut self, job: &mut Job, op: HostOp, parts: &[ReadPart], out: &mut Effects) -> Next {
        let failures = core::mem::take(&mut job.failures);
        let mut again = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let failed = failures.iter().any(|(part, _)| *part == index);
            match (failed, part.instead_of) {
                (false, None) => {}
                (false, Some((pair, bad))) => self.repair(pair, bad, part.tracks, part.range),
                (true, None) => {
                    let Some((pair, twin)) = self.twin(part.from, part.tracks) else {
                        return end(op, Err(HostError::Read), out);
                    };
                    again.push(ReadPart {
                        from: twin,
                        instead_of: Some((pair, part.from)),
                        ..*part
                    });
                }
                (true, Some(_)) => return end(op, Err(HostError::Read), out),
            }
        }
        if !again.is_empty() {
            return self.issue_reads(job, op, again, out);
        }
        self.copy_what_was_read(op.volume, job.tracks);
        end(op, Ok(()), out)
    }

    fn plan_write(&mut self, job: &mut Job, op: HostOp, out: &mut Effects) -> Next {
        if self.journal_failed {
            return end(op, Err(HostError::Journal), out);
        }
        if self.gated(op.volume, job.id) {
            return Next::Keep;
        }
        if self.is_refused(&op) {
            return end(op, Err(HostError::MirrorAway), out);
        }
        let covered = match op.io {
            HostIo::Write => self.volume(op.volume).geometry.covered(op.range),
            HostIo::Read | HostIo::Update | HostIo::Flush => TrackRange::new(0, 0),
        };
        let target = Target {
            volume: op.volume,
            tracks: job.tracks,
            by: None,
            before: u64::MAX,
            covered,
        };
        if let Some(obstacle) = self.first_obstacle(&target) {
            return self.remove_obstacle(job, obstacle, out);
        }
        let legs = self.legs(&target);
        let heat = self.heat_needed(&target, &legs);
        if !self.warm(job.id, &heat, out) {
            return Next::Keep;
        }
        let volumes: Vec<VolumeId> = legs.iter().map(|leg| leg.volume).collect();
        self.hold_heat(job, &heat, &volumes);
        if self.mutation != Some(Mutation::MarkAfterWrite) {
            self.set_marks(&target, &legs);
        }
        let overtakes = self
            .incoming(op.volume)
            .find(|id| self.pairs[id].bits.todo.any(job.tracks));
        let overtakes = overtakes.map(|id| (id, self.pairs[&id].era));
        let plan = WritePlan { legs, overtakes };
        if op.io == HostIo::Update {
            return self.prepare(job, op, plan, None, out);
        }
        self.issue_writes(job, op, plan, out)
    }

    fn prepare(
        &mut self,
        job: &mut Job,
        op: HostOp,
        plan: WritePlan,
        twin: Option<VolumeId>,
        out: &mut Effects,
    ) -> Next {
        let from = twin.unwrap_or(op.volume);
        let token = self.part(job, 0);
        out.push(Effect::Prepare {
            token,
            op: op.op,
            from,
        });
        fly(job, HostFlight::Prepare(plan, twin))
    }

    fn finish_prepare(
        &mut self,
        job: &mut Job,
        op: HostOp,
        plan: WritePlan,
        twin: Option<VolumeId>,
        out: &mut Effects,
    ) -> Next {
        match job.failures.pop().map(|(_, outcome)| outcome) {
            None | Some(Outcome::Ok | Outcome::Sparse { .. }) => self.issue_writes(job, op, plan, out),
            Some(Outcome::Declined) => end(op, Err(HostError::Declined), out),
            Some(Outcome::ReadFailed | Outcome::WriteFailed(_) | Outcome::Differs) => {
                match self.twin(op.volume, job.tracks).filter(|_| twin.is_none()) {
                    Some((_, twin)) => self.prepare(job, op, plan, Some(twin), out),
                    None => end(op, Err(HostError::Read), out),
                }
            }
        }
    }

    fn issue_writes(&mut self, job: &mut Job, op: HostOp, plan: WritePlan, out: &mut Effects) -> Next {
        let geometry = self.volume(op.volume).geometry;
        for (index, leg) in plan.legs.iter().enumerate() {
            let range = within(geometry.bytes_of(leg.tracks), op.range);
            let token = self.part(job, index);
            out.push(Effect::Write {
                token,
                op: op.op,
                to: leg.volume,
                range,
            });
        }
        fly(job, HostFlight::Writes(plan))
    }

    fn finish_writes(&mut self, job: &mut Job, op: HostOp, plan: WritePlan, out: &mut Effects) -> Next {
        let failures = core::mem::take(&mut job.failures);
        let failed: Vec<VolumeId> = failures.iter().map(|(part, _)| plan.legs[*part].volume).collect();
        self.drop_heat(job);
        for leg in &plan.legs {
            let Some(pair) = leg.via else { continue };
            let primary = self.pairs.get(&pair).map(|pair| pair.meta.primary);
            if failed.contains(&leg.volume) {
                self.suspend(pair, MIRROR_IO, leg.tracks, out);
            } else if primary.is_some_and(|primary| failed.contains(&primary)) {
                self.suspend(pair, PRIMARY_IO, leg.tracks, out);
            }
        }
        if failed.contains(&op.volume) {
            return end(op, Err(HostError::Write), out);
        }
        if self.mutation == Some(Mutation::MarkAfterWrite) {
            let target = Target {
                volume: op.volume,
                tracks: job.tracks,
                by: None,
                before: u64::MAX,
                covered: TrackRange::new(0, 0),
            };
            self.set_marks(&target, &plan.legs);
        }
        if let Some((pair, era)) = plan.overtakes
            && let Some(pair) = self.pairs.get_mut(&pair).filter(|pair| pair.era == era)
        {
            pair.bits.copied(job.tracks);
            pair.settle
                .copied(plan.legs.iter().map(|leg| leg.volume), self.now);
        }
        if op.fua {
            let volumes: BTreeSet<VolumeId> = plan
                .legs
                .iter()
                .map(|leg| leg.volume)
                .filter(|volume| !failed.contains(volume))
                .collect();
            return self.flush_all(job, op, plan, volumes, out);
        }
        self.end_write(job, op, plan, out)
    }

    /// A mirror that trails behind is left out, unless this volume may have to be read from it after a crash: its region stays hot until the
    /// flush before it cools has ended.
    fn flush_all(
        &mut self,
        job: &mut Job,
        op: HostOp,
        plan: WritePlan,
        volumes: BTreeSet<VolumeId>,
        out: &mut Effects,
    ) -> Next {
        let content = self.content_of(op.volume);
        let trails = |volume: &VolumeId| self.trailing.contains(volume) && !content.contains(volume);
        let volumes: Vec<_> = volumes.into_iter().filter(|volume| !trails(volume)).collect();
        for (index, volume) in volumes.iter().enumerate() {
            let token = self.part(job, index);
            out.push(Effect::Flush {
                token,
                volume: *volume,
            });
        }
        fly(job, HostFlight::Flushes(plan, volumes))
    }

    fn finish_flushes(
        &mut self,
        job: &mut Job,
        op: HostOp,
        plan: WritePlan,
        volumes: &[VolumeId],
        out: &mut Effects,
    ) -> Next {
        let failures = core::mem::take(&mut job.failures);
        let failed: Vec<VolumeId> = failures.iter().map(|(part, _)| volumes[*part]).collect();
        let content = self.content_of(op.volume);
        for volume in &failed {
            self.cache_lost(*volume, out);
        }
        // A mirror that fails is suspended and the host goes on; not so with what the content is made of.
        if failed.contains(&op.volume)
            || (op.io == HostIo::Flush && failed.iter().any(|v| content.contains(v)))
        {
            return end(op, Err(HostError::Write), out);
        }
        self.end_write(job, op, plan, out)
    }

    /// The write is on its legs. It is answered when nothing that a crash could take back depends on it.
    fn end_write(&mut self, job: &mut Job, op: HostOp, plan: WritePlan, out: &mut Effects) -> Next {
        // It came while the mirror was there, and may have missed it.
        if self.is_refused(&op) {
            return end(op, Err(HostError::MirrorAway), out);
        }
        if self.journal_failed {
            return end(op, Err(HostError::Journal), out);
        }
        if let Some((id, era)) = plan.overtakes {
            let waits = self.pairs.get(&id).is_some_and(|pair| {
                pair.era == era
                    && pair.meta.state == PairState::ProtectedRestoring
                    && pair.is_unsettled(job.tracks)
            });
            if waits {
                self.settle_for(id, Some(job.id), out);
                return fly(job, HostFlight::Ending(plan));
            }
        }
        if self.suspending(op.volume, job.id) {
            return fly(job, HostFlight::Ending(plan));
        }
        end(op, Ok(()), out)
    }

    /// Every volume that holds a part of this one's content: itself, and the sources of what it is still owed, or would be
    /// after a crash.
    fn content_of(&self, volume: VolumeId) -> BTreeSet<VolumeId> {
        let mut volumes = BTreeSet::from([volume]);
        let mut line = vec![volume];
        while let Some(at) = line.pop() {
            for id in self.pairs_of(at) {
                let pair = &self.pairs[&id];
                let brings = pair.must_settle() || pair.reads_through();
                let owes = !pair.bits.todo.is_empty() || !pair.bits.unsettled.is_empty();
                let source = pair.source(id);
                if brings && owes && pair.destination(id) == at && volumes.insert(source) {
                    line.push(source);
                }
            }
        }
        volumes
    }

    /// The volume and every mirror that its writes go to.
    pub(crate) fn with_equal_mirrors(&self, volume: VolumeId) -> BTreeSet<VolumeId> {
        let mut volumes = BTreeSet::new();
        let mut line = vec![volume];
        while let Some(at) = line.pop() {
            volumes.insert(at);
            let below = self.volume(at).below.iter();
            line.extend(below.filter(|m| self.pairs[&PairId(**m)].meta.state.keeps_two_legs()));
        }
        volumes
    }
}

fn fly(job: &mut Job, next: HostFlight) -> Next {
    if let Work::Host(_, flight) = &mut job.work {
        *flight = next;
    }
    Next::Keep
}

fn end(op: HostOp, result: Result<(), HostError>, out: &mut Effects) -> Next {
    reply(op.op, result, out);
    Next::Over
}

fn reply(op: OpId, result: Result<(), HostError>, out: &mut Effects) {
    out.push(Effect::Reply { op, result });
}

fn within(range: ByteRange, bounds: ByteRange) -> ByteRange {
    ByteRange {
        start: range.start.max(bounds.start),
        end: range.end.min(bounds.end),
    }
}
