//! The gates of families: while a change of state is not durable, no new write and no copy starts there. Reads pass, and so does
//! whatever was planned before.

use std::collections::BTreeSet;

use crate::{
    effects::Effects,
    engine::Engine,
    ids::{CommandId, VolumeId},
    job::JobId,
    mutation::Mutation,
};

impl Engine {
    /// Holds back new writes in the families of these volumes; returns whose gates were closed.
    pub(crate) fn close_gates(&mut self, volumes: &BTreeSet<VolumeId>) -> Vec<VolumeId> {
        let roots: BTreeSet<VolumeId> = volumes.iter().map(|id| self.root(*id)).collect();
        let gated: Vec<VolumeId> = roots.into_iter().flat_map(|root| self.tree(root)).collect();
        for id in &gated {
            self.volume_mut(*id).gate += 1;
        }
        gated
    }

    /// The record is durable: gates open, and the command is answered unless it waits for more.
    pub(crate) fn change_durable(
        &mut self,
        gated: &[VolumeId],
        command: Option<CommandId>,
        out: &mut Effects,
    ) {
        for id in gated {
            if let Some(volume) = self.volumes.get_mut(id) {
                volume.gate -= 1;
            }
        }
        self.wake_gated();
        if let Some(command) = command {
            self.answer_part(command, out);
        }
    }

    /// Must a new write wait for a change of state to be durable? If so the job is woken when it is.
    pub(crate) fn gated(&mut self, volume: VolumeId, job: JobId) -> bool {
        self.mutation != Some(Mutation::SkipGate) && self.suspending(volume, job)
    }

    /// Is a change of state in the volume's family not durable? If so the job is woken when it is.
    pub(crate) fn suspending(&mut self, volume: VolumeId, job: JobId) -> bool {
        let closed = self.volume(volume).gate > 0;
        if closed {
            self.gate_waiting.push(job);
        }
        closed
    }

    /// Whoever waits at a gate looks again.
    pub(crate) fn wake_gated(&mut self) {
        let mut waiting = core::mem::take(&mut self.gate_waiting);
        self.wake(&mut waiting);
    }
}
