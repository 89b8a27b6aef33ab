//! The queues on disk of peers: their files, made when the daemon starts or a reload brings them, and removed when one takes them out.

use std::{path::Path, sync::Arc};

use replication::{Array, remote::Queue};
use target_core::{disk::Disk, media::FileMedia, scsi_model::control::SystemId};

use crate::config::{Config, QueueConfig};

/// Those that are configured.
pub(crate) fn open_all(config: &Config, array: &Array) -> anyhow::Result<()> {
    for (id, peer) in &config.peers {
        if let Some(queue) = &peer.queue {
            let set = open(id, queue, &config.system.state_dir)
                .and_then(|opened| array.set_queue(id, Some(opened)));
            set.map_err(|error| anyhow::anyhow!("peer {id}: {error}"))?;
        }
    }
    Ok(())
}

/// Changes queues; all of them, or none.
pub(crate) fn change(
    array: &Array,
    now: &Config,
    changes: &[(SystemId, Option<QueueConfig>)],
) -> Result<(), String> {
    for (at, (id, queue)) in changes.iter().enumerate() {
        let before = now.peers.get(id).and_then(|peer| peer.queue.as_ref());
        if let Err(why) = replace(array, id, before, queue.as_ref(), &now.system.state_dir) {
            for (id, queue) in &changes[..at] {
                let before = now.peers.get(id).and_then(|peer| peer.queue.as_ref());
                put_back(array, id, queue.as_ref(), before, &now.system.state_dir);
            }
            return Err(format!("peer {id}: {why}"));
        }
    }
    Ok(())
}

/// Undoes [`change`].
pub(crate) fn take_back(
    array: &Array,
    now: &Config,
    next: &Config,
    changes: &[(SystemId, Option<QueueConfig>)],
) {
    for (id, _) in changes {
        let queue = |config: &'_ Config| config.peers.get(id).and_then(|peer| peer.queue.clone());
        let (before, after) = (queue(now), queue(next));
        put_back(array, id, after.as_ref(), before.as_ref(), &now.system.state_dir);
    }
}

/// The peer is gone, and its queue with it, whatever is in it.
pub(crate) fn forget(array: &Arc<Array>, id: &SystemId, now: &Config) {
    array.drop_queue(id);
    if let Some(queue) = now.peers.get(id).and_then(|peer| peer.queue.as_ref()) {
        remove(&queue.file);
    }
}

fn put_back(
    array: &Array,
    id: &SystemId,
    from: Option<&QueueConfig>,
    to: Option<&QueueConfig>,
    state_dir: &Path,
) {
    if let Err(error) = replace(array, id, from, to, state_dir) {
        tracing::error!("peer {id} has no queue on disk any more: {error}");
    }
}

fn replace(
    array: &Array,
    id: &SystemId,
    from: Option<&QueueConfig>,
    to: Option<&QueueConfig>,
    state_dir: &Path,
) -> Result<(), String> {
    array.set_queue(id, None)?;
    if let Some(queue) = from {
        remove(&queue.file);
    }
    let Some(queue) = to else { return Ok(()) };
    let opened = open(id, queue, state_dir).and_then(|opened| array.set_queue(id, Some(opened)));
    opened.inspect_err(|_| {
        // What was there a moment ago fits there.
        if let Some(before) = from {
            put_back(array, id, None, Some(before), state_dir);
        }
    })
}

fn open(id: &SystemId, queue: &QueueConfig, state_dir: &Path) -> Result<Queue, String> {
    // In the state directory all files are the daemon's own.
    let ours = queue.file.starts_with(state_dir);
    let media = FileMedia::make(&queue.file, queue.size, ours).map_err(|error| error.to_string())?;
    Ok(Queue {
        disk: Disk::new(&format!("queue {id}"), Arc::new(media)),
        name: queue.file.display().to_string(),
    })
}

fn remove(file: &Path) {
    if let Err(error) = std::fs::remove_file(file) {
        tracing::warn!("cannot remove {}: {error}", file.display());
    }
}
