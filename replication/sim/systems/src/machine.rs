//! The machine that a system runs on: its wall clock is wrong, its chance comes from the seed, its journal's disk takes its time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use replication::machine::{Machine, Mutation, Turn};
use replication_sim::rng::Rng;
use tokio::time::{Instant, sleep};

use crate::{disk::Power, lock};

/// The wall clock of a site; it is right about nothing.
#[derive(Debug)]
pub struct Skewed {
    began: Instant,
    /// Unix milliseconds that it showed when the run began.
    pub at_ms: AtomicU64,
    /// It goes so many thousandths as fast as time does.
    pub rate: AtomicU64,
}

impl Skewed {
    /// A clock of chance.
    pub fn new(rng: &mut Rng) -> Self {
        Self {
            began: Instant::now(),
            at_ms: AtomicU64::new(1_800_000_000_000 + rng.below(100_000_000)),
            rate: AtomicU64::new(rng.between(500, 2000)),
        }
    }

    fn unix_ms(&self) -> u64 {
        let passed = self.began.elapsed().as_millis() as u64 * self.rate.load(Ordering::Relaxed) / 1000;
        self.at_ms.load(Ordering::Relaxed) + passed
    }
}

/// See the module's page. One for each life of a system.
#[derive(Debug)]
pub struct SimulatedMachine {
    /// The site's clock.
    pub clock: Arc<Skewed>,
    /// Its chance.
    pub rng: Mutex<Rng>,
    /// Whether it lives.
    pub power: Arc<Power>,
    /// Longest time of a journal write, in milliseconds.
    pub journal_ms: u64,
    /// What is planted.
    pub mutation: Option<Mutation>,
}

impl Machine for SimulatedMachine {
    fn unix_ms(&self) -> u64 {
        self.clock.unix_ms()
    }

    fn unique(&self) -> Result<u128, String> {
        let mut rng = lock(&self.rng);
        Ok(u128::from(rng.bits()) << 64 | u128::from(rng.bits()))
    }

    fn journal_turn(&self) -> Option<Turn> {
        let power = Arc::clone(&self.power);
        let wait = lock(&self.rng).below(self.journal_ms + 1);
        Some(Box::pin(async move {
            if wait > 0 {
                sleep(Duration::from_millis(wait)).await;
            }
            if !power.is_on() {
                // What was not written by now never is.
                std::future::pending::<()>().await;
            }
        }))
    }

    fn mutation(&self) -> Option<Mutation> {
        self.mutation
    }
}
