//! `verify`: are the pairs in a state, now or before the time is up?

use std::time::{Duration, Instant};

use admin_api::PairState;
use scsi_model::control::{PairSelector, Reply, Request, VerifySummary};
use serde::Serialize;

use super::waiting::BEAT;
use crate::{
    args::VerifyArgs,
    failure::Failure,
    output::{Output, progress::Progress},
    system::System,
};

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct VerifyDocument {
    /// The state asked for; `None` is "no copy runs".
    state: Option<&'static str>,
    /// `all`, `some` or `none` of the pairs are in it.
    result: &'static str,
    selected: u32,
    in_state: u32,
    settled: u32,
    invalid_tracks: u64,
    /// Lowest synchronized share of a pair.
    percent: f64,
}

pub(super) fn verify(system: &mut System, output: Output, args: &VerifyArgs) -> Result<(), Failure> {
    if args.deep {
        return super::deep::verify(system, output, args);
    }
    let pairs = system.selector(args.primary.as_ref(), args.mirror.as_ref())?;
    let state = args.state.map(PairState::code);
    let (summary, timed_out) = if args.wait {
        wait(system, output, pairs, state, args.timeout)?
    } else {
        (once(system, pairs, state)?, false)
    };
    let document = VerifyDocument {
        state: args.state.map(PairState::name),
        result: result(&summary),
        selected: summary.selected,
        in_state: summary.in_state,
        settled: summary.settled,
        invalid_tracks: summary.invalid_tracks,
        percent: f64::from(summary.lowest_share) / 100.0,
    };
    let wanted = args.state.map_or("settled", PairState::name);
    let text = format!("{} of {} pairs are {wanted}", summary.in_state, summary.selected);
    output.print(&document, |_| text.clone())?;
    if timed_out {
        return Err(Failure::TimedOut(format!("the time is up and {text}")));
    }
    match document.result {
        "all" => Ok(()),
        "some" => Err(Failure::VerifySome(text)),
        _ => Err(Failure::VerifyNone(wanted.to_owned())),
    }
}

/// No pair at all is not "all of them": a script that made a mistake in a name must not go on.
fn result(summary: &VerifySummary) -> &'static str {
    match summary.in_state {
        0 => "none",
        all if all == summary.selected => "all",
        _ => "some",
    }
}

fn once(system: &mut System, pairs: PairSelector, state: Option<u8>) -> Result<VerifySummary, Failure> {
    system.ask_for(&Request::Verify { pairs, state }, |reply| match reply {
        Reply::Verify(summary) => Ok(summary),
        other => Err(other),
    })
}

/// The last summary, and whether the time was up.
fn wait(
    system: &mut System,
    output: Output,
    pairs: PairSelector,
    state: Option<u8>,
    timeout: Option<Duration>,
) -> Result<(VerifySummary, bool), Failure> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut progress = Progress::new(output);
    loop {
        let left = deadline.map_or(BEAT, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let answer = system.wait(pairs, state, left.min(BEAT))?;
        if !answer.timed_out {
            return Ok((answer.verify, false));
        }
        if left <= BEAT && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok((answer.verify, true));
        }
        progress.show(&system.query(pairs)?.pairs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_some_none() {
        let result = |selected, in_state| {
            result(&VerifySummary {
                selected,
                in_state,
                ..VerifySummary::default()
            })
        };
        assert_eq!(result(2, 2), "all");
        assert_eq!(result(2, 1), "some");
        assert_eq!(result(2, 0), "none");
        assert_eq!(result(0, 0), "none");
    }
}
