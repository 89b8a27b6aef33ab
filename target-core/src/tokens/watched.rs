//! A volume that sets aside what tokens stand for, before it is overwritten.
//!
//! A write asks first whether a token stands for anything in its range that is not aside yet. Mostly there are no tokens at all,
//! and asking is one look at a counter. If one does the write is not made inline: granule by granule what is there is read and
//! put aside, and only then does the write begin. Setting aside is done by one write at a time, so that none
//! overwrites what another is reading; writes that find everything aside do not wait for it.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, Weak,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use scsi_model::{plan::ByteRange, unit::SharedAccess};

use super::{
    Token, lock,
    old_blocks::{self, GRANULE, OldBlocks},
};
use crate::{
    buffer::Buffer,
    loan::{CopyFuture, Loan},
    volume::{Extent, Fast, IoFuture, Modify, Volume, VolumeInfo, VolumeWatcher},
};

/// See the module's page.
pub(crate) struct Watched {
    inner: Arc<dyn Volume>,
    /// How many of `tokens` there are.
    live: AtomicUsize,
    tokens: Mutex<Vec<Weak<Token>>>,
    /// Where things are put: all tokens of a volume are of one table.
    store: OnceLock<Arc<OldBlocks>>,
    /// Held by whoever sets something aside.
    setting_aside: tokio::sync::Mutex<()>,
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn Volume>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            live: AtomicUsize::new(0),
            tokens: Mutex::default(),
            store: OnceLock::new(),
            setting_aside: tokio::sync::Mutex::default(),
        })
    }

    /// The volume, without looking at tokens.
    pub(super) fn inner(&self) -> &Arc<dyn Volume> {
        &self.inner
    }

    pub(super) fn watch_for(&self, token: &Arc<Token>, store: &Arc<OldBlocks>) {
        self.store.get_or_init(|| store.clone());
        let mut tokens = lock(&self.tokens);
        tokens.push(Arc::downgrade(token));
        self.note_live(&tokens);
    }

    /// The content is, or will be, another on purpose (RESTORE, a resize, SANITIZE): tokens of the one before stand for nothing.
    pub(crate) fn revoke_all(&self) {
        for token in lock(&self.tokens).iter().filter_map(Weak::upgrade) {
            token.revoke();
        }
        self.forget_those_over();
    }

    /// Those whose content is not on this volume any more, nor aside.
    pub(crate) fn forget_those_over(&self) {
        let mut tokens = lock(&self.tokens);
        tokens.retain(|token| match token.upgrade() {
            Some(token) if token.is_over() => {
                token.revoke();
                false
            }
            Some(_) => true,
            None => false,
        });
        self.note_live(&tokens);
    }

    fn note_live(&self, tokens: &MutexGuard<'_, Vec<Weak<Token>>>) {
        self.live.store(tokens.len(), Ordering::SeqCst);
    }

    /// Must something be set aside before this range is written?
    fn stands_for(&self, range: ByteRange) -> bool {
        self.live.load(Ordering::SeqCst) != 0
            && granules(range).any(|(number, part)| !self.wanting(number, part).is_empty())
    }

    /// The tokens that stand for what is in this part of a granule now.
    fn wanting(&self, granule: u64, part: ByteRange) -> Vec<Arc<Token>> {
        let tokens = lock(&self.tokens);
        let alive = tokens.iter().filter_map(Weak::upgrade);
        alive
            .filter(|token| !token.is_over() && token.wants(granule, part))
            .collect()
    }

    /// To be done before a write begins. What cannot be set aside is revoked.
    async fn set_aside(&self, range: ByteRange) {
        if !self.stands_for(range) {
            return;
        }
        let Some(store) = self.store.get() else { return };
        let _one_at_a_time = self.setting_aside.lock().await;
        let capacity = self.inner.info().bytes();
        for (number, part) in granules(range) {
            let wanting = self.wanting(number, part);
            if wanting.is_empty() {
                continue;
            }
            let granule = old_blocks::granule(number, capacity);
            match store.set_aside(&self.inner, granule).await {
                Ok(old) => {
                    for token in wanting {
                        token.keep(number, old.clone());
                    }
                }
                Err(error) => {
                    tracing::warn!(tokens = wanting.len(), %error, "ROD tokens are revoked: what their ranges held cannot be kept");
                    for token in wanting {
                        token.revoke();
                    }
                }
            }
        }
        self.forget_those_over();
    }
}

/// The granules that a range touches, each with the part of it.
fn granules(range: ByteRange) -> impl Iterator<Item = (u64, ByteRange)> {
    let end = range.offset + range.length;
    (range.offset / GRANULE..end.div_ceil(GRANULE)).map(move |number| {
        let start = range.offset.max(number * GRANULE);
        let part = ByteRange {
            offset: start,
            length: end.min((number + 1) * GRANULE) - start,
        };
        (number, part)
    })
}

const fn range(offset: u64, length: usize) -> ByteRange {
    ByteRange {
        offset,
        length: length as u64,
    }
}

impl Volume for Watched {
    fn info(&self) -> Arc<VolumeInfo> {
        self.inner.info()
    }

    fn ready(&self) -> bool {
        self.inner.ready()
    }

    fn shared(&self) -> Option<SharedAccess> {
        self.inner.shared()
    }

    fn content_epoch(&self) -> u64 {
        self.inner.content_epoch()
    }

    fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Fast<()> {
        self.inner.try_read(offset, buffer)
    }

    fn read(self: Arc<Self>, offset: u64, buffer: Buffer) -> IoFuture<Buffer> {
        self.inner.clone().read(offset, buffer)
    }

    fn try_write(&self, offset: u64, data: &Bytes, fua: bool) -> Fast<()> {
        if self.stands_for(range(offset, data.len())) {
            return Fast::Later;
        }
        self.inner.try_write(offset, data, fua)
    }

    fn write(self: Arc<Self>, offset: u64, data: Bytes, fua: bool) -> IoFuture<()> {
        if !self.stands_for(range(offset, data.len())) {
            return self.inner.clone().write(offset, data, fua);
        }
        Box::pin(async move {
            self.set_aside(range(offset, data.len())).await;
            self.inner.clone().write(offset, data, fua).await
        })
    }

    fn flush(self: Arc<Self>) -> IoFuture<()> {
        self.inner.clone().flush()
    }

    fn zero(self: Arc<Self>, offset: u64, length: u64, unmap: bool, fua: bool) -> IoFuture<()> {
        let range = ByteRange { offset, length };
        if !self.stands_for(range) {
            return self.inner.clone().zero(offset, length, unmap, fua);
        }
        Box::pin(async move {
            self.set_aside(range).await;
            self.inner.clone().zero(offset, length, unmap, fua).await
        })
    }

    fn update(self: Arc<Self>, offset: u64, length: u64, modify: Modify, fua: bool) -> IoFuture<()> {
        let range = ByteRange { offset, length };
        if !self.stands_for(range) {
            return self.inner.clone().update(offset, length, modify, fua);
        }
        Box::pin(async move {
            self.set_aside(range).await;
            self.inner.clone().update(offset, length, modify, fua).await
        })
    }

    fn lend(&self, offset: u64, length: u64) -> Option<Loan> {
        self.inner.lend(offset, length)
    }

    fn copy_in(self: Arc<Self>, offset: u64, loan: Loan) -> CopyFuture {
        Box::pin(async move {
            let length = loan.length();
            self.set_aside(ByteRange { offset, length }).await;
            self.inner.clone().copy_in(offset, loan).await
        })
    }

    fn extents(self: Arc<Self>, offset: u64, limit: usize) -> IoFuture<Vec<Extent>> {
        self.inner.clone().extents(offset, limit)
    }

    fn watch(&self, watcher: Arc<dyn VolumeWatcher>) {
        self.inner.watch(watcher);
    }
}
