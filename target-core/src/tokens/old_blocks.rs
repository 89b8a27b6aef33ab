//! Where the old content of blocks lies that tokens stand for and hosts have overwritten.
//!
//! A store of slots of one granule, as large as it may become from the start but sparse: a file in the state directory
//! whose name is taken away as soon as it is open, so that its space comes back however the daemon ends. A slot is given back when
//! the last token that needs it ends; when none is in use the file is emptied. When all are, the oldest token that takes room
//! is revoked (SPC-4 allows that at any time), and the next, until one is free.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex, Weak},
};

use scsi_model::plan::ByteRange;

use super::{Token, lock};
use crate::{
    buffer::Buffer,
    disk::Disk,
    media::{FileMedia, OpenError},
    volume::{Fast, IoError, Volume},
};

/// What is set aside at once: bytes, at a multiple of it.
pub(super) const GRANULE: u64 = 64 << 10;

/// See the module's page.
pub(super) struct OldBlocks {
    disk: Arc<Disk>,
    /// Bytes of the store.
    length: u64,
    slots: Mutex<Slots>,
    /// Held while a slot is taken, and while the store is emptied.
    taking: tokio::sync::Mutex<()>,
    /// In the order in which they were made.
    tokens: Mutex<VecDeque<Weak<Token>>>,
}

#[derive(Default)]
struct Slots {
    free: Vec<u64>,
    /// Those from this one on were never used.
    next: u64,
    used: u64,
}

/// What a granule held.
#[derive(Clone)]
pub(super) enum Old {
    /// Nothing was written there.
    Hole,
    /// It is in this slot.
    Data(Arc<Slot>),
}

/// A place in the store, until it is dropped.
pub(super) struct Slot {
    store: Arc<OldBlocks>,
    number: u64,
}

impl OldBlocks {
    pub(super) fn on(disk: Arc<Disk>) -> Arc<Self> {
        Arc::new(Self {
            length: disk.media().length(),
            disk,
            slots: Mutex::default(),
            taking: tokio::sync::Mutex::default(),
            tokens: Mutex::default(),
        })
    }

    /// A token that may be revoked for want of room, after those that were made before.
    pub(super) fn note(&self, token: &Arc<Token>) {
        let mut tokens = lock(&self.tokens);
        tokens.retain(|token| token.strong_count() > 0);
        tokens.push_back(Arc::downgrade(token));
    }

    /// Sets aside what a granule of a volume holds now.
    pub(super) async fn set_aside(
        self: &Arc<Self>,
        volume: &Arc<dyn Volume>,
        granule: ByteRange,
    ) -> Result<Old, IoError> {
        if is_hole(volume, granule).await? {
            return Ok(Old::Hole);
        }
        let data = read(volume, granule).await?.freeze();
        let slot = self.take().await.ok_or(IoError::NoSpace {
            offset: granule.offset,
        })?;
        match self.disk.try_write(slot.offset(), &data, false) {
            Fast::Done(result) => result?,
            Fast::Later => self.disk.write(slot.offset(), data, false).await?,
        }
        Ok(Old::Data(Arc::new(slot)))
    }

    /// A slot of one's own, if need be another's.
    async fn take(self: &Arc<Self>) -> Option<Slot> {
        let _taking = self.taking.lock().await;
        loop {
            if let Some(number) = self.free_slot() {
                let store = self.clone();
                return Some(Slot { store, number });
            }
            self.revoke_oldest()?;
        }
    }

    fn free_slot(&self) -> Option<u64> {
        let mut slots = lock(&self.slots);
        let number = match slots.free.pop() {
            Some(number) => number,
            None if (slots.next + 1) * GRANULE <= self.length => {
                slots.next += 1;
                slots.next - 1
            }
            None => return None,
        };
        slots.used += 1;
        Some(number)
    }

    /// `None`: no token takes any room.
    fn revoke_oldest(&self) -> Option<()> {
        let mut tokens = lock(&self.tokens);
        let takes_room = |token: &Arc<Token>| token.takes_room();
        let oldest = tokens.iter().filter_map(Weak::upgrade).find(takes_room)?;
        tokens.retain(|token| !std::ptr::eq(token.as_ptr(), Arc::as_ptr(&oldest)));
        drop(tokens);
        tracing::info!(token = ?oldest, "a ROD token is revoked: no room is left for what its ranges held");
        oldest.revoke();
        Some(())
    }

    /// Gives the store's space back, if nothing is in it.
    pub(super) async fn empty_if_unused(&self) {
        let _taking = self.taking.lock().await;
        {
            let mut slots = lock(&self.slots);
            if slots.used != 0 || slots.next == 0 {
                return;
            }
            *slots = Slots::default();
        }
        for length in [0, self.length] {
            if let Err(error) = self.disk.set_length(length).await {
                tracing::warn!(%error, "cannot empty the store of what ROD tokens stand for");
            }
        }
    }

    /// Does it take any space?
    #[cfg(test)]
    pub(super) async fn is_empty(&self) -> bool {
        let extents = self.disk.extents(0, 2).await;
        extents.is_ok_and(|extents| extents.len() == 1 && !extents[0].mapped)
    }

    /// Slots in use.
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        lock(&self.slots).used
    }
}

impl std::fmt::Debug for OldBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OldBlocks({:?})", self.disk)
    }
}

impl Slot {
    fn offset(&self) -> u64 {
        self.number * GRANULE
    }

    /// What was put there; behind the end of a volume's last granule is anything.
    pub(super) async fn get(&self) -> Result<Buffer, IoError> {
        let mut buffer = Buffer::new(GRANULE as usize);
        let result = match self.store.disk.try_read(self.offset(), &mut buffer) {
            Fast::Done(result) => result.map(|()| buffer),
            Fast::Later => self.store.disk.read(self.offset(), buffer).await,
        };
        // Its offset is none of the unit's.
        result.map_err(|error| IoError::Internal(error.to_string()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = lock(&self.store.slots);
        slots.free.push(self.number);
        slots.used -= 1;
    }
}

/// A sparse file of this length in the directory, of which nothing stays.
pub(super) fn nameless_file(directory: &Path, length: u64) -> Result<FileMedia, OpenError> {
    let path = directory.join("token-blocks");
    let remove = || match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(OpenError::System {
            path: path.clone(),
            action: "remove",
            source,
        }),
        _ => Ok(()),
    };
    // One of a daemon that was killed before it came to the second line.
    remove()?;
    let media = FileMedia::open(&path, Some(length))?;
    remove()?;
    Ok(media)
}

/// Where a granule of a volume of this capacity is.
pub(super) fn granule(number: u64, capacity: u64) -> ByteRange {
    let offset = number * GRANULE;
    ByteRange {
        offset,
        length: GRANULE.min(capacity.saturating_sub(offset)),
    }
}

pub(super) async fn is_hole(volume: &Arc<dyn Volume>, place: ByteRange) -> Result<bool, IoError> {
    let extents = volume.clone().extents(place.offset, 1).await?;
    let first = extents.first();
    Ok(first.is_some_and(|extent| !extent.mapped && extent.length >= place.length))
}

pub(super) async fn read(volume: &Arc<dyn Volume>, place: ByteRange) -> Result<Buffer, IoError> {
    let mut buffer = Buffer::new(place.length as usize);
    match volume.try_read(place.offset, &mut buffer) {
        Fast::Done(result) => result.map(|()| buffer),
        Fast::Later => volume.clone().read(place.offset, buffer).await,
    }
}
