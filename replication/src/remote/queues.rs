//! The queues on disk of all peers: which there are, and when what is in them is given up.

use std::sync::{Arc, atomic::Ordering};

use target_core::scsi_model::control::SystemId;

use super::{
    Remote,
    backlog::{Backlog, Queue},
    far::FarVolume,
};
use crate::{array::Array, lock};

impl Remote {
    /// A number for one more far volume.
    pub(super) fn new_life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed)
    }

    /// Bytes of an async pair on their way from which on its writes wait, or go to disk.
    pub(super) fn enough(&self) -> u64 {
        self.enough
    }

    /// The queue for writes to that system, if it has one.
    pub(super) fn backlog(&self, peer: &SystemId) -> Option<Arc<Backlog>> {
        lock(&self.backlogs).get(peer).cloned()
    }

    /// A write to that system will not arrive: no async pair with it sends anything from here on, and what waits in its queue is given up.
    pub(super) fn leave_gap(&self, array: &Arc<Array>, peer: &SystemId, reason: &str) {
        let mut beside = self.all_far();
        beside.retain(|far| far.is_async() && far.peer() == peer && far.note_gap());
        if let Some(backlog) = self.backlog(peer) {
            backlog.give_up(reason);
        }
        let reason = reason.to_owned();
        // The engine may be what is sending.
        array.runtime.spawn(async move {
            for far in beside {
                far.lose(&reason);
            }
        });
    }

    /// The link is lost, and with it what waits for it.
    pub(super) fn give_up_queue(&self, array: &Arc<Array>, peer: &SystemId, reason: &str) {
        if self.backlog(peer).is_some_and(|backlog| backlog.is_in_use()) {
            self.leave_gap(array, peer, reason);
        }
    }

    /// A far volume is gone: nothing of it is sent any more.
    pub(super) fn forget_queued(&self, gone: Option<Arc<FarVolume>>) {
        if let Some(far) = gone
            && let Some(backlog) = self.backlog(far.peer())
        {
            backlog.forget(&far, "both sides have compared notes since");
        }
    }

    /// The array stops: nobody waits for what is in the queues.
    pub(crate) fn close_queues(&self) {
        for backlog in lock(&self.backlogs).values() {
            backlog.close("the array is shutting down");
        }
    }
}

impl Array {
    /// Async writes to that system that its link does not carry go into this file from now on, or, with `None`, wait until it does.
    /// A queue with something in it does not change: an error says so.
    pub fn set_queue(&self, peer: &SystemId, queue: Option<Queue>) -> Result<(), String> {
        let mut backlogs = lock(&self.remote.backlogs);
        if let Some(before) = backlogs.get(peer) {
            before.retire().map_err(|bytes| {
                format!("{bytes} bytes wait in the queue on disk for {peer}: it can change when it is empty")
            })?;
        }
        let backlog = queue.map(|queue| Backlog::new(peer.clone(), queue));
        match &backlog {
            Some(backlog) => backlogs.insert(peer.clone(), Arc::clone(backlog)),
            None => backlogs.remove(peer),
        };
        drop(backlogs);
        for far in self.remote.all_far().iter().filter(|far| far.peer() == peer) {
            far.set_backlog(backlog.clone());
        }
        Ok(())
    }

    /// The queue for that system goes, whatever is in it.
    pub fn drop_queue(self: &Arc<Self>, peer: &SystemId) {
        let gone = lock(&self.remote.backlogs).remove(peer);
        let Some(backlog) = gone else { return };
        let was_in_use = backlog.is_in_use();
        backlog.close("it was taken out");
        for far in self.remote.all_far().iter().filter(|far| far.peer() == peer) {
            far.set_backlog(None);
        }
        if was_in_use {
            self.remote.leave_gap(self, peer, "the peer was taken out");
        }
    }

    /// Bytes in the queue on disk for that system, and the size of its file; `None` where there is none.
    pub fn queued_on_disk(&self, peer: &SystemId) -> Option<(u64, u64)> {
        self.remote.backlog(peer).map(|backlog| backlog.figures())
    }
}
