//! Which seeds a simulator runs, as its command line says.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;

/// See the module's page.
#[derive(Debug, Args)]
pub struct Seeds {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Begin with a seed from the clock instead.
    #[arg(long, conflicts_with = "seed")]
    fresh: bool,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Instead: as many as fit in so many seconds.
    #[arg(long, conflicts_with = "runs")]
    seconds: Option<u64>,
}

impl Seeds {
    /// The first of them; another each time it is called, if it comes from the clock.
    pub fn first(&self) -> u64 {
        if !self.fresh {
            return self.seed;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(1, |time| time.as_nanos() as u64)
    }

    /// They, from this one on, until there were enough of them or the time is over.
    pub fn starting_at(&self, first: u64) -> impl Iterator<Item = u64> {
        let (began, runs) = (Instant::now(), self.runs);
        let most = self.seconds.map(Duration::from_secs);
        (0..)
            .take_while(move |run| most.map_or(*run < runs, |most| began.elapsed() < most))
            .map(move |run: u64| first.wrapping_add(run))
    }

    /// Is it a single one that was asked for?
    pub fn is_one(&self) -> bool {
        self.runs == 1 && self.seconds.is_none()
    }
}
