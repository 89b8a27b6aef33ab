//! What pairs cost: `iscsi-bench cost` starts daemons of its own and prints a table for each question.
//!
//! Images of 16 TiB are sparse and on tmpfs (`--dir`, a file of ext4 ends below that); state directories, and the images that are
//! copied for the clock, are on a disk (`--disk`). What is compared is measured in the same run, in turns.
mod commands;
pub(crate) mod copies;
pub(crate) mod daemon;
mod scale;
mod writes;

use crate::util::{Args, Hist};
use std::path::PathBuf;

/// Where to work, and how much.
pub struct Plan {
    /// The directory of holdfastd.
    pub product: PathBuf,
    /// In memory.
    pub dir: PathBuf,
    /// On a disk.
    pub disk: PathBuf,
    /// Repetitions.
    pub rounds: u64,
    /// Seconds of one load.
    pub seconds: String,
}

impl Plan {
    /// What the arguments say, with its directories.
    pub fn new(args: &Args) -> Self {
        let name = format!("holdfast-cost-{}", std::process::id());
        let plan = Self {
            product: PathBuf::from(args.s("product", "target/release")),
            dir: PathBuf::from(args.s("dir", "/dev/shm")).join(&name),
            disk: PathBuf::from(args.s("disk", "/var/tmp")).join(&name),
            rounds: args.n("rounds", 5),
            seconds: args.s("time", "2"),
        };
        for dir in [&plan.dir, &plan.disk] {
            std::fs::create_dir_all(dir).expect("--dir and --disk are writable");
        }
        plan
    }
}

/// Runs what `--only` names (numbers 1 to 8), or everything.
pub fn run(args: &Args) {
    let plan = Plan::new(args);
    let _tidy = Tidy(&plan);
    let only = args.s("only", "1,2,3,4,5,6,7,8");
    for part in only.split(',') {
        match part {
            "1" => commands::latency(&plan),
            "2" => writes::mirrors(&plan),
            "3" => writes::activity_log(&plan),
            "4" => copies::beside_cp(&plan),
            "5" => commands::group_split(&plan),
            "6" => commands::memory(&plan),
            "7" => copies::hosts(&plan),
            "8" => scale::many(&plan),
            other => eprintln!("there is no part {other}"),
        }
    }
}

/// Removes the directories.
pub struct Tidy<'a>(pub &'a Plan);

impl Drop for Tidy<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0.dir);
        let _ = std::fs::remove_dir_all(&self.0.disk);
    }
}

/// Median and maximum in milliseconds, for a table.
fn ms(hist: &Hist) -> String {
    format!("{:.2} | {:.2}", hist.q(0.5) / 1000.0, hist.max as f64 / 1e6)
}
