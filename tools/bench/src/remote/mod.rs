//! What remote pairs cost: `iscsi-bench remote` starts two daemons on loopback, with the project's proxy between them where a link
//! is to be slower than that, and prints a table for each question.
mod resync;
mod systems;
mod writes;

use crate::cost::{Plan, Tidy};
use crate::util::Args;

/// Runs what `--only` names (numbers 1 to 3), or everything.
pub fn run(args: &Args) {
    let plan = Plan::new(args);
    let _tidy = Tidy(&plan);
    for part in args.s("only", "1,2,3").split(',') {
        match part {
            "1" => writes::latency(&plan),
            "2" => writes::processor(&plan),
            "3" => resync::run(&plan, args.n("size", 1 << 30)),
            other => eprintln!("there is no part {other}"),
        }
    }
}
