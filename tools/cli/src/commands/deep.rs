//! `verify --deep`: do both sides of the pairs hold the same?

use std::{
    io::{IsTerminal as _, stderr},
    time::{Duration, Instant},
};

use admin_api::{DeepAnswer, DeepRequest, DeepRun, QueryPair};
use serde::Serialize;

use crate::{
    args::VerifyArgs,
    failure::Failure,
    output::{Output, table},
    system::System,
};

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct DeepDocument {
    pairs: Vec<DeepPair>,
}

/// A pair that was gone through.
#[derive(Debug, Default, Serialize)]
struct DeepPair {
    pair: String,
    tracks: u64,
    /// Tracks compared.
    compared: u64,
    /// Tracks that need not be the same: marked, or still to be copied.
    marked: u64,
    /// Tracks that differ without a mark.
    differing: Vec<DeepRun>,
    /// They are marked now, or are being copied.
    repaired: bool,
    /// Why it was not gone through to its end.
    error: Option<String>,
}

pub(super) fn verify(system: &mut System, output: Output, args: &VerifyArgs) -> Result<(), Failure> {
    let selector = system.selector(args.primary.as_ref(), args.mirror.as_ref())?;
    let pairs = system.query(selector)?.pairs;
    let mut document = DeepDocument { pairs: Vec::new() };
    for pair in &pairs {
        let mut deep = DeepPair {
            pair: table::pair(pair),
            ..DeepPair::default()
        };
        if let Err(failure) = go_through(system, output, pair, args.repair, &mut deep) {
            if matches!(failure, Failure::Transport(_) | Failure::Usage(_)) {
                return Err(failure);
            }
            deep.error = Some(failure.to_string());
        }
        document.pairs.push(deep);
    }
    output.print(&document, |document| {
        let lines = document.pairs.iter().map(line);
        lines.collect::<Vec<_>>().join("\n")
    })?;
    let open = |pair: &&DeepPair| pair.error.is_some() || !(pair.differing.is_empty() || pair.repaired);
    let open = document.pairs.iter().filter(open).count();
    if open > 0 {
        let text = format!(
            "{open} of {} pairs are not known to be the same on both sides",
            pairs.len()
        );
        return Err(Failure::VerifySome(text));
    }
    Ok(())
}

fn go_through(
    system: &mut System,
    output: Output,
    pair: &QueryPair,
    repair: bool,
    deep: &mut DeepPair,
) -> Result<(), Failure> {
    let mut request = DeepRequest {
        primary: pair.primary.number,
        mirror: pair.handle.unwrap_or(pair.mirror.number),
        from: 0,
        repair,
    };
    let mut shown = Instant::now();
    loop {
        let slice: DeepAnswer = system
            .admin("verify --deep")?
            .post("/v1/verify/deep", &request)??;
        deep.tracks = slice.tracks;
        deep.compared += slice.compared;
        deep.marked += slice.marked;
        deep.repaired |= slice.repaired;
        deep.differing.extend(slice.differing);
        let Some(next) = slice.next else { return Ok(()) };
        request.from = next;
        if !output.json && shown.elapsed() >= Duration::from_secs(1) {
            shown = Instant::now();
            let text = format!(
                "{}: {} of {} tracks compared",
                deep.pair,
                deep.compared + deep.marked,
                deep.tracks
            );
            if stderr().is_terminal() {
                eprint!("\r{text}\x1b[K");
            } else {
                eprintln!("{text}");
            }
        }
    }
}

fn line(pair: &DeepPair) -> String {
    if let Some(error) = &pair.error {
        return format!("{}: {error}", pair.pair);
    }
    let differing: u64 = pair.differing.iter().map(|run| run.tracks).sum();
    let what = match (differing, pair.repaired) {
        (0, _) => "no difference".to_owned(),
        (count, true) => format!("{count} tracks differ, and are marked or being copied"),
        (count, false) => format!("{count} tracks differ; --repair copies them from the primary"),
    };
    format!(
        "{}: {} tracks compared, {} marked: {what}",
        pair.pair, pair.compared, pair.marked
    )
}
