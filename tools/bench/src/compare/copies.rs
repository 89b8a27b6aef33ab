//! Background copies: what they do to hosts, and how fast they are beside `cp`. Both on the disk, whose noise the gate does not judge.

use super::{Plan, gate::Figure};
use crate::cost;

/// Measures both.
pub(super) fn measure(plan: &Plan) -> Vec<Figure> {
    let cost = cost::Plan {
        product: plan.program.clone(),
        dir: plan.dir.clone(),
        disk: plan.disk.clone(),
        rounds: plan.rounds.min(3),
        seconds: "2".into(),
    };
    let [idle, restoring] = cost::copies::protected(&cost);
    let [product, cp] = cost::copies::times(&cost);
    let figure = |name: &str, value, goal, measured| Figure {
        name: name.into(),
        value,
        goal: Some(goal),
        judged: false,
        measured,
    };
    vec![
        figure(
            "PROTECTED-RESTORING, host reads, p99 / idle",
            restoring / idle,
            2.0,
            format!("{restoring:.0} us, {idle:.0}"),
        ),
        figure(
            "first copy of 1 GiB / cp",
            product / cp,
            1.11,
            format!("{product:.0} ms, cp {cp:.0}"),
        ),
    ]
}
