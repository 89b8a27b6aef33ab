//! A disk that takes its time, and loses with the power what was not flushed.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use replication_sim::rng::Rng;
use target_core::{
    media::{Media, Turn},
    volume::{Extent, Fast, IoError},
};
use tokio::{sync::Notify, time::sleep};

use crate::lock;

/// Bytes that a disk writes as a whole.
pub const BLOCK: usize = 512;

/// Whether a system lives. What it has begun and not done when it dies is never done.
#[derive(Debug)]
pub struct Power {
    on: AtomicBool,
    off: Notify,
}

impl Power {
    /// It lives.
    pub fn new() -> Arc<Self> {
        let (on, off) = (AtomicBool::new(true), Notify::new());
        Arc::new(Self { on, off })
    }

    /// Does it?
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// It dies.
    pub fn fail(&self) {
        self.on.store(false, Ordering::Relaxed);
        self.off.notify_waiters();
    }

    async fn failed(&self) {
        let mut off = std::pin::pin!(self.off.notified());
        off.as_mut().enable();
        if self.is_on() {
            off.await;
        }
    }
}

/// What outlives a system: the bytes now, and those that no loss of power takes.
#[derive(Debug)]
pub struct Platter {
    bytes: Mutex<[Vec<u8>; 2]>,
    /// Longest time of a call, in milliseconds; 0: a cache does them at once.
    slowness: AtomicU64,
    rng: Mutex<Rng>,
}

impl Platter {
    /// Zeros.
    pub fn new(bytes: usize, rng: Rng) -> Arc<Self> {
        Arc::new(Self {
            bytes: Mutex::new([vec![0; bytes], vec![0; bytes]]),
            slowness: AtomicU64::new(0),
            rng: Mutex::new(rng),
        })
    }

    /// Another disk, which is as slow as this one now.
    pub fn beside(&self, bytes: usize, seed: u64) -> Arc<Self> {
        let other = Self::new(bytes, Rng::new(seed));
        other.be_slow(self.slowness());
        other
    }

    /// Calls take up to so many milliseconds from now on.
    pub fn be_slow(&self, most_ms: u64) {
        self.slowness.store(most_ms, Ordering::Relaxed);
    }

    /// Any block that was not flushed since it was written may be as it was then.
    pub fn lose_power(&self) {
        let (mut rng, mut bytes) = (lock(&self.rng), lock(&self.bytes));
        let [now, stable] = &mut *bytes;
        let all = rng.chance(300);
        for (now, stable) in now.chunks_mut(BLOCK).zip(stable.chunks_mut(BLOCK)) {
            if now != stable {
                if all || rng.chance(500) {
                    now.copy_from_slice(stable);
                } else {
                    stable.copy_from_slice(now);
                }
            }
        }
    }

    /// The bytes of the block at this offset now.
    pub fn block(&self, offset: u64) -> [u8; BLOCK] {
        let (bytes, at) = (lock(&self.bytes), offset as usize);
        bytes[0][at..at + BLOCK].try_into().expect("a whole block")
    }

    /// The bytes now.
    pub fn content(&self) -> Vec<u8> {
        lock(&self.bytes)[0].clone()
    }

    fn slowness(&self) -> u64 {
        self.slowness.load(Ordering::Relaxed)
    }
}

/// A platter in one life of its system.
#[derive(Debug)]
pub struct SimulatedDisk {
    /// What is on it.
    pub platter: Arc<Platter>,
    /// Whose.
    pub power: Arc<Power>,
}

impl SimulatedDisk {
    fn write(&self, offset: u64, data: &[u8], durable: bool) -> Result<(), IoError> {
        if !self.power.is_on() {
            let reason = "the system is dead".to_owned();
            return Err(IoError::Write { offset, reason });
        }
        let at = offset as usize;
        let [now, stable] = &mut *lock(&self.platter.bytes);
        now[at..at + data.len()].copy_from_slice(data);
        if durable {
            stable[at..at + data.len()].copy_from_slice(data);
        }
        Ok(())
    }
}

impl Media for SimulatedDisk {
    fn length(&self) -> u64 {
        lock(&self.platter.bytes)[0].len() as u64
    }

    fn set_length(&self, _: u64) -> Result<(), IoError> {
        Err(IoError::Internal("it has one length".into()))
    }

    fn never_waits(&self) -> bool {
        self.platter.slowness() == 0
    }

    fn caches_writes(&self) -> bool {
        false
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> Fast<()> {
        if self.never_waits() {
            Fast::Done(self.read_at(offset, buffer))
        } else {
            Fast::Later
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), IoError> {
        let at = offset as usize;
        buffer.copy_from_slice(&lock(&self.platter.bytes)[0][at..at + buffer.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8], durable: bool) -> Result<(), IoError> {
        self.write(offset, data, durable)
    }

    fn flush(&self) -> Result<(), IoError> {
        if !self.power.is_on() {
            let reason = "the system is dead".to_owned();
            return Err(IoError::Write { offset: 0, reason });
        }
        let [now, stable] = &mut *lock(&self.platter.bytes);
        stable.copy_from_slice(now);
        Ok(())
    }

    fn punch(&self, offset: u64, length: u64) -> Result<(), IoError> {
        self.write(offset, &vec![0; length as usize], false)
    }

    fn zero(&self, offset: u64, length: u64) -> Result<(), IoError> {
        self.punch(offset, length)
    }

    fn extents(&self, offset: u64, _: usize) -> Result<Vec<Extent>, IoError> {
        let (length, mapped) = (self.length() - offset, true);
        Ok(vec![Extent {
            offset,
            length,
            mapped,
        }])
    }

    fn turn(&self) -> Option<Turn> {
        let most = self.platter.slowness();
        let wait = if most == 0 {
            0
        } else {
            lock(&self.platter.rng).below(most + 1)
        };
        let power = Arc::clone(&self.power);
        let turn: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            if wait > 0 {
                tokio::select! {
                    biased;
                    () = power.failed() => {}
                    () = sleep(Duration::from_millis(wait)) => {}
                }
            }
        });
        Some(turn)
    }
}
