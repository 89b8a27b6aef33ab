//! What pairs cost: `iscsi-bench cost` starts daemons of its own and prints a table for each question.
//!
//! Images of 16 TiB are sparse and on tmpfs (`--dir`, a file of ext4 ends below that); state directories, and the images that are
//! copied for the clock, are on a disk (`--disk`). What is compared is measured in the same run, in turns.
mod commands;
pub(crate) mod copies;
pub(crate) mod daemon;
mod scale;
mod writes;

use crate::arguments::{CostArguments, Effort};
use crate::histogram::Histogram;
use std::path::PathBuf;

/// Where to work, and how much.
pub(crate) struct Plan {
    /// The directory of holdfastd.
    pub(crate) product: PathBuf,
    /// In memory.
    pub(crate) dir: PathBuf,
    /// On a disk.
    pub(crate) disk: PathBuf,
    /// Repetitions.
    pub(crate) rounds: u64,
    /// Seconds of one load.
    pub(crate) seconds: String,
}

impl Plan {
    /// What the arguments say, with its directories.
    pub(crate) fn new(effort: &Effort) -> Self {
        let name = format!("holdfast-cost-{}", std::process::id());
        let plan = Self {
            product: effort.places.product.clone(),
            dir: effort.places.dir.join(&name),
            disk: effort.places.disk.join(&name),
            rounds: effort.rounds,
            seconds: effort.time.to_string(),
        };
        for dir in [&plan.dir, &plan.disk] {
            std::fs::create_dir_all(dir).expect("--dir and --disk are writable");
        }
        plan
    }
}

/// Runs what `--only` names (numbers 1 to 8), or everything.
pub(crate) fn run(arguments: &CostArguments) {
    let plan = Plan::new(&arguments.effort);
    let _tidy = Tidy(&plan);
    for part in &arguments.only {
        match part {
            1 => commands::latency(&plan),
            2 => writes::mirrors(&plan),
            3 => writes::activity_log(&plan),
            4 => copies::beside_cp(&plan),
            5 => commands::group_split(&plan),
            6 => commands::memory(&plan),
            7 => copies::hosts(&plan),
            8 => scale::many(&plan),
            other => unreachable!("the command line has no part {other}"),
        }
    }
}

/// Removes the directories.
pub(crate) struct Tidy<'a>(pub &'a Plan);

impl Drop for Tidy<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0.dir);
        let _ = std::fs::remove_dir_all(&self.0.disk);
    }
}

/// Median and maximum in milliseconds, for a table.
fn ms(hist: &Histogram) -> String {
    format!(
        "{:.2} | {:.2}",
        hist.quantile_us(0.5) / 1000.0,
        hist.longest_ns() as f64 / 1e6
    )
}
