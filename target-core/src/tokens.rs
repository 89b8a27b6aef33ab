//! ROD tokens (SPC-4 5.16.6): who holds one may copy what its ranges held when it was made, to any unit of the daemon.
//!
//! A token keeps no data. It is *change vulnerable*: the first write to one of its ranges revokes it, before anything of
//! that write reaches the medium. So a copy reads first and looks at the token then: still good means that what was read
//! is what the token stands for. A token is made while its unit is quiet, so that no write is half way at that moment; every
//! write of hosts and copies passes [`Watched`], which costs one look at a counter while there are no tokens.
//! What replaces a volume's content by other ways (RESTORE, a resize) revokes all its tokens when the unit hears of it.
//!
//! Tokens live in memory: after a restart they are unknown, as after their inactivity timeout.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use scsi_model::{
    plan::ByteRange,
    rod_tokens::{TOKEN_BYTES, encode_token, secret_of},
    sense_codes::{self, AdditionalSense},
    unit::UnitIdentity,
};

use crate::{
    buffer::Buffer,
    volume::{Extent, Fast, IoError, IoFuture, Modify, Volume, VolumeInfo, VolumeWatcher},
};

/// Tokens at once, of all units.
const MAX_TOKENS: usize = 1024;

/// All tokens of a daemon, by their secrets.
#[derive(Debug, Default)]
pub struct TokenTable(Mutex<BTreeMap<[u8; 32], Arc<Token>>>);

/// One token.
pub(crate) struct Token {
    body: Box<[u8; TOKEN_BYTES]>,
    volume: Arc<Watched>,
    ranges: Vec<ByteRange>,
    /// Of the unit it was made on.
    pub(crate) block_size: u32,
    inactivity: Duration,
    ends: Mutex<Instant>,
    revoked: AtomicBool,
}

impl TokenTable {
    /// Makes a token of ranges of a volume; its unit is quiet. `None` when there are too many, or no random bytes.
    pub(crate) fn make(
        &self,
        volume: &Arc<Watched>,
        identity: &UnitIdentity,
        ranges: Vec<ByteRange>,
        inactivity: Duration,
    ) -> Option<Box<[u8; TOKEN_BYTES]>> {
        let mut tokens = lock(&self.0);
        let now = Instant::now();
        tokens.retain(|_, token| *lock(&token.ends) > now);
        let mut secret = [0; 32];
        if tokens.len() >= MAX_TOKENS || getrandom::fill(&mut secret).is_err() {
            return None;
        }
        let bytes = ranges.iter().map(|range| range.length).sum();
        let body = Box::new(encode_token(&secret, identity, bytes));
        let token = Arc::new(Token {
            body: body.clone(),
            volume: volume.clone(),
            ranges,
            block_size: identity.block_size,
            inactivity,
            ends: Mutex::new(now + inactivity),
            revoked: AtomicBool::new(false),
        });
        volume.watch_for(&token);
        tokens.insert(secret, token);
        Some(body)
    }

    /// The token with these bytes, which is used now; else what is wrong with them.
    pub(crate) fn find(&self, body: &[u8; TOKEN_BYTES]) -> Result<Arc<Token>, AdditionalSense> {
        let tokens = lock(&self.0);
        let token = tokens.get(&secret_of(body)).ok_or(sense_codes::TOKEN_UNKNOWN)?;
        if *token.body != *body {
            return Err(sense_codes::TOKEN_CORRUPT);
        }
        let now = Instant::now();
        let mut ends = lock(&token.ends);
        if *ends <= now {
            return Err(sense_codes::TOKEN_EXPIRED);
        }
        *ends = now + token.inactivity;
        drop(ends);
        token.check()?;
        Ok(token.clone())
    }

    /// The token ends.
    pub(crate) fn delete(&self, body: &[u8; TOKEN_BYTES]) {
        lock(&self.0).remove(&secret_of(body));
    }
}

impl Token {
    /// Has no write touched its ranges?
    pub(crate) fn check(&self) -> Result<(), AdditionalSense> {
        if self.revoked.load(Ordering::SeqCst) {
            Err(sense_codes::TOKEN_REVOKED)
        } else {
            Ok(())
        }
    }

    /// Bytes it stands for.
    pub(crate) fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.length).sum()
    }

    /// Where on the volume byte `offset` of it is, and how many follow it there.
    pub(crate) fn place(&self, offset: u64) -> Option<ByteRange> {
        let mut before = 0;
        for range in &self.ranges {
            if offset < before + range.length {
                let inside = offset - before;
                return Some(ByteRange {
                    offset: range.offset + inside,
                    length: range.length - inside,
                });
            }
            before += range.length;
        }
        None
    }

    pub(crate) fn volume(&self) -> Arc<dyn Volume> {
        self.volume.inner.clone()
    }

    fn touches(&self, offset: u64, length: u64) -> bool {
        self.ranges
            .iter()
            .any(|range| range.offset < offset + length && offset < range.offset + range.length)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its bytes are a capability.
        write!(f, "Token({:?})", self.ranges)
    }
}

/// A volume whose writes revoke tokens.
pub(crate) struct Watched {
    inner: Arc<dyn Volume>,
    /// How many of `tokens` there are.
    live: AtomicUsize,
    tokens: Mutex<Vec<Weak<Token>>>,
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn Volume>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            live: AtomicUsize::new(0),
            tokens: Mutex::default(),
        })
    }

    fn watch_for(&self, token: &Arc<Token>) {
        let mut tokens = lock(&self.tokens);
        tokens.push(Arc::downgrade(token));
        self.live.store(tokens.len(), Ordering::SeqCst);
    }

    /// Everything may be another's: revokes all.
    pub(crate) fn replaced(&self) {
        self.revoke(|_| true);
    }

    /// To be called before a write begins.
    fn touch(&self, offset: u64, length: u64) {
        if self.live.load(Ordering::SeqCst) != 0 {
            self.revoke(|token| token.touches(offset, length));
        }
    }

    fn revoke(&self, which: impl Fn(&Token) -> bool) {
        let mut tokens = lock(&self.tokens);
        tokens.retain(|token| {
            let Some(token) = token.upgrade() else {
                return false;
            };
            let revoked = which(&token);
            if revoked {
                token.revoked.store(true, Ordering::SeqCst);
            }
            !revoked
        });
        self.live.store(tokens.len(), Ordering::SeqCst);
    }
}

impl Volume for Watched {
    fn info(&self) -> Arc<VolumeInfo> {
        self.inner.info()
    }

    fn ready(&self) -> bool {
        self.inner.ready()
    }

    fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Fast<()> {
        self.inner.try_read(offset, buffer)
    }

    fn read(self: Arc<Self>, offset: u64, buffer: Buffer) -> IoFuture<Buffer> {
        self.inner.clone().read(offset, buffer)
    }

    fn try_write(&self, offset: u64, data: &Bytes, fua: bool) -> Fast<()> {
        self.touch(offset, data.len() as u64);
        self.inner.try_write(offset, data, fua)
    }

    fn write(self: Arc<Self>, offset: u64, data: Bytes, fua: bool) -> IoFuture<()> {
        self.touch(offset, data.len() as u64);
        self.inner.clone().write(offset, data, fua)
    }

    fn flush(self: Arc<Self>) -> IoFuture<()> {
        self.inner.clone().flush()
    }

    fn zero(self: Arc<Self>, offset: u64, length: u64, unmap: bool, fua: bool) -> IoFuture<()> {
        self.touch(offset, length);
        self.inner.clone().zero(offset, length, unmap, fua)
    }

    fn update(self: Arc<Self>, offset: u64, length: u64, modify: Modify, fua: bool) -> IoFuture<()> {
        self.touch(offset, length);
        self.inner.clone().update(offset, length, modify, fua)
    }

    fn extents(self: Arc<Self>, offset: u64, limit: usize) -> IoFuture<Vec<Extent>> {
        self.inner.clone().extents(offset, limit)
    }

    fn watch(&self, watcher: Arc<dyn VolumeWatcher>) {
        self.inner.watch(watcher);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A token's content that could not be had.
#[derive(Debug)]
pub(crate) enum TokenFailure {
    /// 5h/23h.
    Token(AdditionalSense),
    /// A volume failed.
    Io(IoError),
    /// It was aborted.
    Aborted,
}

impl From<AdditionalSense> for TokenFailure {
    fn from(code: AdditionalSense) -> Self {
        Self::Token(code)
    }
}

impl From<IoError> for TokenFailure {
    fn from(error: IoError) -> Self {
        Self::Io(error)
    }
}
