//! What remote pairs cost: `iscsi-bench remote` starts two daemons on loopback, with the project's proxy between them where a link
//! is to be slower than that, and prints a table for each question.
mod held;
mod packed;
mod resync;
mod systems;
mod writes;

use crate::arguments::RemoteArguments;
use crate::cost::{Plan, Tidy};

/// A link that is so many times slower has so many times less to move.
const SLOWER: u64 = 8;

/// Runs what `--only` names (numbers 1 to 5), or everything.
pub(crate) fn run(arguments: &RemoteArguments) {
    let plan = Plan::new(&arguments.effort);
    let _tidy = Tidy(&plan);
    for part in &arguments.only {
        match part {
            1 => writes::latency(&plan),
            2 => writes::processor(&plan),
            3 => resync::run(&plan, arguments.size),
            4 => held::back(&plan),
            5 => packed::run(&plan, arguments.size / SLOWER),
            other => unreachable!("the command line has no part {other}"),
        }
    }
}
