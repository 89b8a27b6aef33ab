//! Waiting for copies to end, with progress.

use std::time::{Duration, Instant};

use admin_api::{PairState, QueryPair};
use scsi_model::control::{PairSelector, VolumeNumber};

use crate::{
    failure::Failure,
    output::{Output, progress::Progress, table},
    system::System,
};

/// How often progress is shown.
pub(super) const BEAT: Duration = Duration::from_secs(1);

/// Is this one of them?
pub(super) fn among(pair: &QueryPair, members: &[(VolumeNumber, VolumeNumber)]) -> bool {
    // A remote pair may be meant by the number that stands for its far volume.
    let is = |given: &VolumeNumber, number: u32| given.0 == number || Some(given.0) == pair.handle;
    let mut members = members.iter();
    members.any(|(primary, mirror)| is(primary, pair.primary.number) && is(mirror, pair.mirror.number))
}

/// Waits until no copy of these pairs runs; fails unless each is then in one of the states.
pub(super) fn until_settled(
    system: &mut System,
    output: Output,
    members: &[(VolumeNumber, VolumeNumber)],
    goal: &[PairState],
    timeout: Option<Duration>,
) -> Result<Vec<QueryPair>, Failure> {
    let selector = match members {
        [(primary, mirror)] => PairSelector::One(*primary, *mirror),
        _ => PairSelector::All,
    };
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut progress = Progress::new(output);
    loop {
        let mut pairs = system.query(selector)?.pairs;
        pairs.retain(|pair| among(pair, members));
        progress.show(&pairs);
        let copying = |pair: &QueryPair| pair.pair_state().is_some_and(PairState::copying);
        if !pairs.iter().any(copying) {
            drop(progress);
            return arrived(pairs, members.len(), goal);
        }
        let left = deadline.map_or(BEAT, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            drop(progress);
            let late: Vec<String> = pairs
                .iter()
                .filter(|pair| copying(pair))
                .map(|pair| format!("{} is {}", table::pair(pair), pair.state))
                .collect();
            return Err(Failure::TimedOut(format!(
                "the time is up and {}; the copy goes on",
                late.join(", ")
            )));
        }
        system.wait(selector, None, left.min(BEAT))?;
    }
}

fn arrived(pairs: Vec<QueryPair>, members: usize, goal: &[PairState]) -> Result<Vec<QueryPair>, Failure> {
    if pairs.len() < members {
        return Err(Failure::Failed(
            "a pair was cancelled while its copy was waited for".to_owned(),
        ));
    }
    let elsewhere = |pair: &&QueryPair| !pair.pair_state().is_some_and(|state| goal.contains(&state));
    if let Some(pair) = pairs.iter().find(elsewhere) {
        let reason = pair
            .reason
            .as_ref()
            .map(|reason| format!(" ({reason})"))
            .unwrap_or_default();
        let goal: Vec<&str> = goal.iter().map(|state| state.name()).collect();
        let text = format!(
            "{} became {}{reason} instead of {}",
            table::pair(pair),
            pair.state,
            goal.join(" or ")
        );
        return Err(Failure::Failed(text));
    }
    Ok(pairs)
}
