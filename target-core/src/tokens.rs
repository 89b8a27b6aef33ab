//! ROD tokens (SPC-4 5.16.6): who holds one may copy what its ranges held when it was made, to any unit of the daemon.
//!
//! A token is a *point in time copy*, and making one copies nothing. Its content lies on the volume until somebody writes there:
//! before such a write reaches the medium what it overwrites is set aside ([`watched`], [`old_blocks`]), in granules of
//! 64 KiB, once for all tokens that stand for it. So a copy reads the volume first and looks then what has been set aside
//! meanwhile: what was not by that time is on the volume still as it was, and the rest is taken from there.
//!
//! A token is made while its unit is quiet, so that no write is half way at that moment. Every write of hosts and copies passes
//! [`Watched`], which costs one look at a counter while there are no tokens.
//!
//! What cannot be set aside, for want of room or because it cannot be read, revokes tokens (the oldest, for want of room) and never
//! fails a write. What replaces a volume's content by other ways (RESTORE, a resize) changes the volume's *content epoch* in the
//! same step; a token of another epoch is revoked. A copy looks at the epoch after it has read, so it never takes
//! the one content for the other.
//!
//! Tokens live in memory: after a restart they are unknown.

mod old_blocks;
#[cfg(test)]
mod tests;
mod watched;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
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
    disk::Disk,
    loan::Loan,
    media::{MemoryMedia, OpenError},
    volume::{IoError, Volume},
};
use old_blocks::{GRANULE, Old, OldBlocks};

pub(crate) use watched::Watched;

/// Tokens at once, of all units.
const MAX_TOKENS: usize = 1024;
/// What is set aside in memory at most, where there is no state directory.
const IN_MEMORY: u64 = 64 << 20;

/// All tokens of a daemon, by their secrets.
#[derive(Debug)]
pub struct TokenTable {
    tokens: Mutex<BTreeMap<[u8; 32], Arc<Token>>>,
    old: Arc<OldBlocks>,
}

/// One token.
pub(crate) struct Token {
    body: Box<[u8; TOKEN_BYTES]>,
    volume: Arc<Watched>,
    ranges: Vec<ByteRange>,
    /// Of the unit it was made on.
    pub(crate) block_size: u32,
    inactivity: Duration,
    ends: Mutex<Instant>,
    /// The volume's when it was made.
    epoch: u64,
    aside: Mutex<Aside>,
}

/// What of a token is not on the volume any more.
#[derive(Default)]
struct Aside {
    revoked: bool,
    /// By the number of the granule.
    old: BTreeMap<u64, Old>,
}

/// What a token stands for, in a piece of it.
pub(crate) enum Content {
    /// Zeros that take no space.
    Hole,
    /// This.
    Data(Bytes),
}

impl TokenTable {
    /// No tokens, and up to `bytes` of what they stand for set aside in a file without a name in this directory.
    pub fn open(state_directory: &Path, bytes: u64) -> Result<Arc<Self>, OpenError> {
        let media = old_blocks::nameless_file(state_directory, bytes)?;
        Ok(Arc::new(Self::over(Disk::new("tokens", Arc::new(media)))))
    }

    /// The same in memory.
    pub fn in_memory(bytes: u64) -> Arc<Self> {
        Arc::new(Self::over(Disk::new("tokens", Arc::new(MemoryMedia::new(bytes)))))
    }

    fn over(disk: Arc<Disk>) -> Self {
        Self {
            tokens: Mutex::default(),
            old: OldBlocks::on(disk),
        }
    }

    /// Makes a token of ranges of a volume; its unit is quiet. `None` when there are too many, or no random bytes.
    pub(crate) fn make(
        self: &Arc<Self>,
        volume: &Arc<Watched>,
        identity: &UnitIdentity,
        ranges: Vec<ByteRange>,
        inactivity: Duration,
    ) -> Option<Box<[u8; TOKEN_BYTES]>> {
        let mut tokens = lock(&self.tokens);
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
            epoch: volume.content_epoch(),
            aside: Mutex::default(),
        });
        volume.watch_for(&token, &self.old);
        self.old.note(&token);
        tokio::spawn(end_when_unused(Arc::downgrade(&token), self.old.clone()));
        tokens.insert(secret, token);
        Some(body)
    }

    /// The token with these bytes, which is used now; else what is wrong with them.
    pub(crate) fn find(&self, body: &[u8; TOKEN_BYTES]) -> Result<Arc<Token>, AdditionalSense> {
        let tokens = lock(&self.tokens);
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

    /// The tokens made on this volume that stand for something still.
    pub(crate) fn of(&self, volume: &Arc<Watched>) -> Vec<Arc<Token>> {
        let tokens = lock(&self.tokens);
        let of_volume = tokens
            .values()
            .filter(|token| Arc::ptr_eq(&token.volume, volume) && !token.is_over());
        of_volume.cloned().collect()
    }

    /// The token ends.
    pub(crate) fn delete(&self, body: &[u8; TOKEN_BYTES]) {
        lock(&self.tokens).remove(&secret_of(body));
    }
}

impl Default for TokenTable {
    fn default() -> Self {
        Self::over(Disk::new("tokens", Arc::new(MemoryMedia::new(IN_MEMORY))))
    }
}

/// A token that is not used keeps nothing set aside; that it has expired is still told. With the last one the store is emptied.
async fn end_when_unused(token: Weak<Token>, old: Arc<OldBlocks>) {
    while let Some(ends) = token.upgrade().map(|token| *lock(&token.ends)) {
        if ends <= Instant::now() {
            if let Some(token) = token.upgrade() {
                token.revoke();
            }
            break;
        }
        tokio::time::sleep_until(ends.into()).await;
    }
    old.empty_if_unused().await;
}

impl Token {
    /// Does it stand for anything still?
    pub(crate) fn check(&self) -> Result<(), AdditionalSense> {
        if lock(&self.aside).revoked || self.volume.content_epoch() != self.epoch {
            Err(sense_codes::TOKEN_REVOKED)
        } else {
            Ok(())
        }
    }

    /// As its holder knows it.
    pub(crate) fn body(&self) -> &[u8; TOKEN_BYTES] {
        &self.body
    }

    /// Bytes it stands for.
    pub(crate) fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.length).sum()
    }

    /// Where on the volume byte `offset` of it was, and how many followed it there.
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

    /// What was at this place when it was made.
    pub(crate) async fn content(&self, place: ByteRange) -> Result<Content, TokenFailure> {
        let read = self.read_volume(place).await;
        // The order matters: what is not aside after the reading was on the volume all the while.
        let aside = self.aside_in(place)?;
        let mut data = match read? {
            None if aside.iter().all(|(_, old)| matches!(old, Old::Hole)) => return Ok(Content::Hole),
            None => Buffer::zeroed(place.length as usize),
            Some(data) => data,
        };
        for (granule, old) in aside {
            let start = granule.offset.max(place.offset);
            let end = (granule.offset + granule.length).min(place.offset + place.length);
            let part = &mut data[(start - place.offset) as usize..(end - place.offset) as usize];
            match old {
                Old::Hole => part.fill(0),
                Old::Data(slot) => {
                    let whole = slot.get().await?;
                    part.copy_from_slice(
                        &whole[(start - granule.offset) as usize..(end - granule.offset) as usize],
                    );
                }
            }
        }
        Ok(Content::Data(data.freeze()))
    }

    /// The volume's bytes at this place, which are those it stands for if that [is still so](Self::is_all_there) when they were
    /// copied.
    pub(crate) fn lend(&self, place: ByteRange) -> Result<Option<Loan>, AdditionalSense> {
        let lent = self.is_all_there(place)?;
        Ok(lent
            .then(|| self.volume.inner().lend(place.offset, place.length))
            .flatten())
    }

    /// Is all of this place on the volume as it was, and nothing of it set aside?
    pub(crate) fn is_all_there(&self, place: ByteRange) -> Result<bool, AdditionalSense> {
        Ok(self.aside_in(place)?.is_empty())
    }

    /// What is there now; `None` is a hole.
    async fn read_volume(&self, place: ByteRange) -> Result<Option<Buffer>, IoError> {
        let volume = self.volume.inner();
        if old_blocks::is_hole(volume, place).await? {
            return Ok(None);
        }
        let data = old_blocks::read(volume, place).await?;
        Ok(Some(data))
    }

    /// The granules of this place that were set aside, unless the token is revoked.
    fn aside_in(&self, place: ByteRange) -> Result<Vec<(ByteRange, Old)>, AdditionalSense> {
        self.check()?;
        let aside = lock(&self.aside);
        let numbers = place.offset / GRANULE..(place.offset + place.length).div_ceil(GRANULE);
        let found = aside.old.range(numbers);
        Ok(found
            .map(|(number, old)| (old_blocks::granule(*number, u64::MAX), old.clone()))
            .collect())
    }

    /// Would this write destroy what it stands for? `range` lies in one granule.
    fn wants(&self, granule: u64, range: ByteRange) -> bool {
        self.touches(range) && {
            let aside = lock(&self.aside);
            !aside.revoked && !aside.old.contains_key(&granule)
        }
    }

    /// What the granule held when it was made is here, and the granule may be written. Too late for a revoked one.
    fn keep(&self, granule: u64, old: Old) {
        let mut aside = lock(&self.aside);
        if !aside.revoked {
            aside.old.insert(granule, old);
        }
    }

    /// It stands for nothing any more, and keeps nothing aside.
    fn revoke(&self) {
        let mut aside = lock(&self.aside);
        aside.revoked = true;
        aside.old.clear();
    }

    /// Is it of use to nobody: revoked, or not used for too long?
    fn is_over(&self) -> bool {
        self.check().is_err() || *lock(&self.ends) <= Instant::now()
    }

    fn takes_room(&self) -> bool {
        let aside = lock(&self.aside);
        aside.old.values().any(|old| matches!(old, Old::Data(_)))
    }

    fn touches(&self, write: ByteRange) -> bool {
        self.ranges.iter().any(|range| {
            range.offset < write.offset + write.length && write.offset < range.offset + range.length
        })
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its bytes are a capability.
        write!(f, "Token({:?})", self.ranges)
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
