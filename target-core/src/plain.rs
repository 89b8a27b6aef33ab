//! A volume straight on its disk: in no pair, and with nothing between a host's I/O and the page cache but a gate.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use scsi_model::control::VolumeNumber;

use crate::{
    buffer::Buffer,
    disk::Disk,
    gate::Gate,
    identities::IdentityStore,
    loan::{CopyFuture, Loan},
    media::{DirectMedia, FileMedia, Media, MemoryMedia, OpenError, QuotaMedia},
    volume::{Extent, Fast, IoError, IoFuture, Modify, Volume, VolumeChange, VolumeInfo, VolumeWatcher},
};

/// A volume as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeConfig {
    /// Number.
    pub number: VolumeNumber,
    /// Name.
    pub name: String,
    /// Meant as a mirror (else a standard).
    pub mirror_class: bool,
    /// Bytes; `None` takes the size of the file or device.
    pub size: Option<u64>,
    /// Where it is stored.
    pub backing: Backing,
    /// Bytes per logical block: 512 or 4096.
    pub block_size: u32,
    /// Bytes per physical block: `block_size` times a power of two.
    pub physical_block_size: u32,
    /// RMB.
    pub removable: bool,
    /// Thin provisioned.
    pub thin: bool,
    /// Most bytes that it may allocate in its file.
    pub quota: Option<u64>,
}

/// Where a volume is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// A file or a block device.
    File(PathBuf),
    /// The same, past the page cache (O_DIRECT).
    Direct(PathBuf),
    /// Memory: gone with the process.
    Memory,
}

/// Opens (or makes) a volume. Its file is locked for as long as the volume lives.
pub fn open_volume(config: VolumeConfig, identities: &IdentityStore) -> Result<Arc<PlainVolume>, OpenError> {
    check_block_size(config.block_size, config.physical_block_size)?;
    if let Some(bytes) = config.size {
        blocks_of(bytes, config.block_size)?;
    }
    let media: Arc<dyn Media> = match &config.backing {
        Backing::File(path) => Arc::new(FileMedia::open(path, config.size)?),
        Backing::Direct(path) => Arc::new(DirectMedia::open(path, config.size, config.block_size)?),
        Backing::Memory => Arc::new(MemoryMedia::new(config.size.ok_or(OpenError::MemoryNeedsSize)?)),
    };
    PlainVolume::on_media(config, media, identities)
}

/// See the module's page.
pub struct PlainVolume {
    info: ArcSwap<VolumeInfo>,
    disk: Arc<Disk>,
    quota: Option<Arc<QuotaMedia>>,
    /// Writes pass it; an update closes it.
    writes: Arc<Gate>,
    watcher: Mutex<Option<Arc<dyn VolumeWatcher>>>,
    content_epoch: AtomicU64,
}

impl PlainVolume {
    /// A volume on a store of the caller's; `config.backing` and `config.size` are not looked at.
    pub fn on_media(
        config: VolumeConfig,
        media: Arc<dyn Media>,
        identities: &IdentityStore,
    ) -> Result<Arc<Self>, OpenError> {
        check_block_size(config.block_size, config.physical_block_size)?;
        let blocks = blocks_of(media.length(), config.block_size)?;
        let identity = identities.identity(config.number)?;
        let quota = match config.quota {
            Some(bytes) => Some(QuotaMedia::new(media.clone(), bytes).ok_or(OpenError::QuotaNeedsFile)?),
            None => None,
        };
        let media = quota.clone().map_or(media, |limited| limited);
        let disk = Disk::new(&format!("volume {}", config.number.0), media);
        let info = VolumeInfo {
            number: config.number,
            name: config.name,
            mirror_class: config.mirror_class,
            block_size: config.block_size,
            physical_block_size: config.physical_block_size,
            blocks,
            thin: config.thin,
            removable: config.removable,
            naa: identity.naa,
            eui64: identity.eui64,
            uuid: identity.uuid,
            serial: identity.serial,
        };
        Ok(Arc::new(Self {
            info: ArcSwap::from_pointee(info),
            disk,
            quota,
            writes: Arc::new(Gate::new()),
            watcher: Mutex::default(),
            content_epoch: AtomicU64::new(0),
        }))
    }

    /// The disk underneath: `replication` performs the engine's effects on it, which know their own locks.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Another quota, of a volume that has one. `false`: it has none.
    pub fn set_quota(&self, bytes: u64) -> bool {
        if let Some(quota) = &self.quota {
            quota.set_limit(bytes);
        }
        self.quota.is_some()
    }

    /// What it holds becomes another: see [`Volume::content_epoch`].
    pub fn content_replaced(&self) {
        self.content_epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Makes the volume `bytes` long: a file grows or shrinks, a block device must have that size already. Hosts
    /// hear of it (6h/2Ah/09h). Shrinking drops what was beyond the new end.
    pub async fn resize(self: Arc<Self>, bytes: u64) -> Result<(), ResizeError> {
        let before = self.info();
        let blocks = blocks_of(bytes, before.block_size)?;
        if blocks == before.blocks {
            return Ok(());
        }
        let alone = self.writes.clone().exclusive().await;
        self.content_replaced();
        let resized = VolumeInfo {
            blocks,
            ..(*before).clone()
        };
        // Commands are checked against the capacity before they come here, so it shrinks first and grows last.
        if blocks < before.blocks {
            self.info.store(Arc::new(resized));
            if let Err(error) = self.disk.set_length(bytes).await {
                self.info.store(before);
                return Err(error.into());
            }
        } else {
            self.disk.set_length(bytes).await?;
            self.info.store(Arc::new(resized));
        }
        drop(alone);
        self.tell(VolumeChange::Capacity);
        Ok(())
    }

    /// A command checked against a larger capacity, before the volume shrank, ends here.
    fn check_end(&self, offset: u64, length: usize) -> Result<(), IoError> {
        if offset + length as u64 > self.disk.media().length() {
            return Err(IoError::Write {
                offset,
                reason: "the volume has shrunk".into(),
            });
        }
        Ok(())
    }

    /// As [`Volume::copy_in`].
    pub async fn copy_lent(&self, offset: u64, loan: &Loan) -> bool {
        let Some(_pass) = self.writes.enter() else {
            return false;
        };
        let fits = self.check_end(offset, loan.length() as usize).is_ok();
        fits && self.info.load().thin && loan.stretch().copy_to(&self.disk, offset).await.is_ok()
    }

    fn tell(&self, change: VolumeChange) {
        let watcher = self
            .watcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(watcher) = watcher {
            watcher.changed(change);
        }
    }

    /// An update with the gate closed: inline where the disk allows it.
    async fn update_alone(&self, offset: u64, length: u64, modify: Modify, fua: bool) -> Result<(), IoError> {
        let mut current = Buffer::new(length as usize);
        match self.disk.try_read(offset, &mut current) {
            Fast::Done(result) => result?,
            Fast::Later => current = self.disk.read(offset, current).await?,
        }
        let data = modify(&current)?;
        match self.disk.try_write(offset, &data, fua) {
            Fast::Done(result) => result,
            Fast::Later => self.disk.write(offset, data, fua).await,
        }
    }
}

impl Volume for PlainVolume {
    fn info(&self) -> Arc<VolumeInfo> {
        self.info.load_full()
    }

    fn content_epoch(&self) -> u64 {
        self.content_epoch.load(Ordering::SeqCst)
    }

    fn ready(&self) -> bool {
        true
    }

    fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Fast<()> {
        self.disk.try_read(offset, buffer)
    }

    fn read(self: Arc<Self>, offset: u64, buffer: Buffer) -> IoFuture<Buffer> {
        self.disk.read(offset, buffer)
    }

    fn try_write(&self, offset: u64, data: &Bytes, fua: bool) -> Fast<()> {
        match self.writes.enter() {
            Some(_pass) => match self.check_end(offset, data.len()) {
                Ok(()) => self.disk.try_write(offset, data, fua),
                Err(error) => Fast::Done(Err(error)),
            },
            None => Fast::Later,
        }
    }

    fn write(self: Arc<Self>, offset: u64, data: Bytes, fua: bool) -> IoFuture<()> {
        Box::pin(async move {
            let _pass = self.writes.clone().enter_when_open().await;
            self.check_end(offset, data.len())?;
            self.disk.write(offset, data, fua).await
        })
    }

    fn flush(self: Arc<Self>) -> IoFuture<()> {
        self.disk.flush()
    }

    fn zero(self: Arc<Self>, offset: u64, length: u64, unmap: bool, fua: bool) -> IoFuture<()> {
        Box::pin(async move {
            let _pass = self.writes.clone().enter_when_open().await;
            self.check_end(offset, length as usize)?;
            let unmap = unmap && self.info.load().thin;
            self.disk.zero(offset, length, unmap, fua).await
        })
    }

    fn update(self: Arc<Self>, offset: u64, length: u64, modify: Modify, fua: bool) -> IoFuture<()> {
        Box::pin(async move {
            let _alone = self.writes.clone().exclusive().await;
            self.update_alone(offset, length, modify, fua).await
        })
    }

    /// Only a thin one: whoever has all his space does not share it.
    fn lend(&self, offset: u64, length: u64) -> Option<Loan> {
        let fits = self.check_end(offset, length as usize).is_ok();
        (fits && self.info.load().thin).then(|| Loan::new(self.disk.clone(), offset, length))
    }

    fn copy_in(self: Arc<Self>, offset: u64, loan: Loan) -> CopyFuture {
        Box::pin(async move { self.copy_lent(offset, &loan).await })
    }

    fn extents(self: Arc<Self>, offset: u64, limit: usize) -> IoFuture<Vec<Extent>> {
        let info = self.info();
        let found = self.disk.extents(offset, limit);
        Box::pin(async move { Ok(on_blocks(&found.await?, u64::from(info.block_size))) })
    }

    fn watch(&self, watcher: Arc<dyn VolumeWatcher>) {
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(watcher);
    }
}

impl std::fmt::Debug for PlainVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let info = self.info.load();
        write!(f, "PlainVolume({} {})", info.number.0, info.name)
    }
}

/// Why a volume kept its size.
#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    /// The size asked for is no size of a volume.
    #[error(transparent)]
    Size(#[from] OpenError),
    /// The store could not be resized.
    #[error(transparent)]
    Store(#[from] IoError),
}

/// Moves the borders of extents to block borders: a block with any data is data.
fn on_blocks(extents: &[Extent], block_size: u64) -> Vec<Extent> {
    let mut aligned: Vec<Extent> = Vec::with_capacity(extents.len());
    let mut start = extents.first().map_or(0, |first| first.offset);
    for extent in extents {
        let end = extent.offset + extent.length;
        let end = if extent.mapped {
            end.next_multiple_of(block_size)
        } else {
            end / block_size * block_size
        };
        if end <= start {
            continue;
        }
        match aligned.last_mut() {
            Some(last) if last.mapped == extent.mapped => last.length += end - start,
            _ => aligned.push(Extent {
                offset: start,
                length: end - start,
                mapped: extent.mapped,
            }),
        }
        start = end;
    }
    aligned
}

fn check_block_size(block_size: u32, physical: u32) -> Result<(), OpenError> {
    let multiple =
        physical.is_multiple_of(block_size.max(1)) && (physical / block_size.max(1)).is_power_of_two();
    if !matches!(block_size, 512 | 4096) || !multiple || physical > 1 << 20 {
        return Err(OpenError::BlockSize { block_size, physical });
    }
    Ok(())
}

fn blocks_of(bytes: u64, block_size: u32) -> Result<u64, OpenError> {
    if bytes == 0 || bytes > i64::MAX as u64 || !bytes.is_multiple_of(u64::from(block_size)) {
        return Err(OpenError::Capacity { bytes, block_size });
    }
    Ok(bytes / u64::from(block_size))
}

#[cfg(test)]
mod tests;
