//! A memory volume whose I/O can be held up.

use std::sync::Arc;

use bytes::Bytes;
use target_core::{
    buffer::Buffer,
    identities::IdentityStore,
    plain::{Backing, PlainVolume, VolumeConfig, open_volume},
    scsi_model::control::VolumeNumber,
    volume::{Extent, Fast, IoFuture, Modify, Volume, VolumeInfo, VolumeWatcher},
};
use tokio::sync::watch;

/// While held, every read and write waits.
pub(crate) struct HeldVolume {
    inner: Arc<PlainVolume>,
    held: watch::Sender<bool>,
}

impl HeldVolume {
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        let config = VolumeConfig {
            number: VolumeNumber(1),
            name: "held".into(),
            mirror_class: false,
            size: Some(bytes),
            backing: Backing::Memory,
            block_size: 512,
            physical_block_size: 512,
            removable: false,
            thin: true,
            quota: None,
        };
        let inner = open_volume(config, &IdentityStore::ephemeral()).unwrap();
        Arc::new(Self {
            inner,
            held: watch::Sender::new(false),
        })
    }

    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    pub(crate) fn let_go(&self) {
        self.held.send_replace(false);
    }

    fn is_held(&self) -> bool {
        *self.held.borrow()
    }

    async fn wait(&self) {
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held).await.unwrap();
    }
}

impl Volume for HeldVolume {
    fn info(&self) -> Arc<VolumeInfo> {
        self.inner.info()
    }

    fn content_epoch(&self) -> u64 {
        self.inner.content_epoch()
    }

    fn ready(&self) -> bool {
        true
    }

    fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Fast<()> {
        if self.is_held() {
            Fast::Later
        } else {
            self.inner.try_read(offset, buffer)
        }
    }

    fn read(self: Arc<Self>, offset: u64, buffer: Buffer) -> IoFuture<Buffer> {
        Box::pin(async move {
            self.wait().await;
            self.inner.clone().read(offset, buffer).await
        })
    }

    fn try_write(&self, offset: u64, data: &Bytes, fua: bool) -> Fast<()> {
        if self.is_held() {
            Fast::Later
        } else {
            self.inner.try_write(offset, data, fua)
        }
    }

    fn write(self: Arc<Self>, offset: u64, data: Bytes, fua: bool) -> IoFuture<()> {
        Box::pin(async move {
            self.wait().await;
            self.inner.clone().write(offset, data, fua).await
        })
    }

    fn flush(self: Arc<Self>) -> IoFuture<()> {
        self.inner.clone().flush()
    }

    fn zero(self: Arc<Self>, offset: u64, length: u64, unmap: bool, fua: bool) -> IoFuture<()> {
        self.inner.clone().zero(offset, length, unmap, fua)
    }

    fn update(self: Arc<Self>, offset: u64, length: u64, modify: Modify, fua: bool) -> IoFuture<()> {
        self.inner.clone().update(offset, length, modify, fua)
    }

    fn extents(self: Arc<Self>, offset: u64, limit: usize) -> IoFuture<Vec<Extent>> {
        self.inner.clone().extents(offset, limit)
    }

    fn watch(&self, watcher: Arc<dyn VolumeWatcher>) {
        self.inner.watch(watcher);
    }
}
