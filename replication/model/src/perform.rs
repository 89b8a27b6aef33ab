//! Effects are done here, and a crash leaves some of them undone.

use replication_engine::{
    Engine,
    command::VolumeSpec,
    effects::{Effect, Outcome},
    ids::{ByteRange, Token, VolumeId},
};

use crate::{World, config};

fn span(range: ByteRange) -> core::ops::Range<usize> {
    range.start as usize..range.end as usize
}

fn index(volume: VolumeId) -> usize {
    volume.0 as usize - 1
}

impl World {
    /// Which of `pending` may be next: any, but of the journal's records the first.
    pub fn choices(&self) -> Vec<usize> {
        let is_record = |effect: &Effect| matches!(effect, Effect::Journal { .. });
        let first = self.pending.iter().position(is_record);
        (0..self.pending.len())
            .filter(|at| !is_record(&self.pending[*at]) || first == Some(*at))
            .collect()
    }

    /// Does one of `pending`, and tells the engine.
    pub fn perform_at(&mut self, at: usize) {
        let effect = self.pending.remove(at);
        if let Some(token) = self.perform(effect) {
            self.done(token, Outcome::Ok);
        }
    }

    /// Does an effect and tells nobody: whose token it is, if anybody waits.
    pub fn perform(&mut self, effect: Effect) -> Option<Token> {
        match effect {
            Effect::Read {
                token,
                op,
                from,
                range,
            } => {
                let op = self.ops.get_mut(&op).expect("read of a live op");
                let to = (range.start - op.range.start) as usize..(range.end - op.range.start) as usize;
                op.buffer[to].copy_from_slice(&self.disks[index(from)][span(range)]);
                Some(token)
            }
            Effect::Prepare { token, .. } | Effect::Flush { token, .. } => Some(token),
            Effect::Write { token, op, to, range } => {
                self.disks[index(to)][span(range)].fill(self.ops[&op].byte);
                Some(token)
            }
            Effect::Copy {
                token,
                from,
                to,
                range,
            } => {
                let data = self.disks[index(from)][span(range)].to_vec();
                for to in to {
                    self.disks[index(to)][span(range)].copy_from_slice(&data);
                }
                Some(token)
            }
            Effect::Journal { record, token } => {
                self.durable.push(record);
                token
            }
            other => unreachable!("{other:?} is taken at once"),
        }
    }

    /// The process dies. Of what was under way, data may have landed, and so may records.
    pub fn crash(&mut self, data: bool, records: bool) {
        for effect in core::mem::take(&mut self.pending) {
            let lands = match effect {
                Effect::Journal { .. } => records,
                Effect::Write { .. } | Effect::Copy { .. } => data,
                _ => false,
            };
            if lands {
                self.perform(effect);
            }
        }
        self.ops.clear();
        let mut out = Vec::new();
        let spec = |disk: &Vec<u8>| VolumeSpec {
            bytes: disk.len() as u64,
            block_size: 1,
        };
        let volumes: Vec<_> = (1..).map(VolumeId).zip(self.disks.iter().map(spec)).collect();
        let (engine, _) =
            Engine::recover(config(), volumes, self.durable.clone(), &mut out).expect("our own journal");
        self.engine = match self.mutation {
            Some(mutation) => engine.with_mutation(mutation),
            None => engine,
        };
        self.durable = self.engine.snapshot();
        self.take(out);
    }
}
