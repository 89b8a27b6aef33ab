//! `holdfast-sim`: runs seeds, and prints what it takes to see a failure again.

use clap::Parser;
use replication_engine::Mutation;
use replication_sim::{Options, run};
use std::{
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Runs the replication engine on simulated disks, hosts and crashes.
#[derive(Debug, Parser)]
#[command(name = "holdfast-sim", version)]
struct Arguments {
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
    /// Events of each run, before everything must settle.
    #[arg(long, default_value_t = 3000)]
    steps: u64,
    /// Plant a bug (its name in `Mutation`): the runs are expected to fail.
    #[arg(long)]
    mutation: Option<String>,
    /// Print a run's last events when it fails.
    #[arg(long, default_value_t = 60)]
    trace: usize,
    /// Go on after a failure, and print one line for each.
    #[arg(long)]
    all: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mutation = match arguments.mutation.as_deref().map(planted) {
        Some(None) => {
            eprintln!("there is no such mutation; known: {:?}", Mutation::ALL);
            return ExitCode::from(2);
        }
        known => known.flatten(),
    };
    let first = if arguments.fresh {
        from_the_clock()
    } else {
        arguments.seed
    };
    println!("seeds from {first}, {} steps each", arguments.steps);
    // What a run panics with is in its report.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let (mut runs, mut failed, mut steps, mut passages, mut crashes) = (0, 0, 0, 0, 0);
    loop {
        let over = match arguments.seconds {
            Some(seconds) => began.elapsed() >= Duration::from_secs(seconds),
            None => runs == arguments.runs,
        };
        if over {
            break;
        }
        let seed = first.wrapping_add(runs);
        runs += 1;
        match run(Options {
            seed,
            steps: arguments.steps,
            mutation,
        }) {
            Ok(counts) => {
                steps += counts.steps;
                crashes += counts.crashes;
                passages += counts.passages;
            }
            Err(failure) => {
                failed += 1;
                println!("seed {seed}: {}", failure.what);
                if !arguments.all {
                    let keep = failure.trace.len().saturating_sub(arguments.trace);
                    failure.trace[keep..].iter().for_each(|line| println!("{line}"));
                    let bug = arguments
                        .mutation
                        .as_ref()
                        .map(|name| format!(" --mutation {name}"));
                    println!("\nseed {seed}: {}", failure.what);
                    println!(
                        "again: cargo run -p replication-sim --bin holdfast-sim -- --seed {seed} --steps {}{}",
                        arguments.steps,
                        bug.unwrap_or_default()
                    );
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    println!(
        "{runs} runs, {failed} failed, {steps} steps, {passages} passages, {crashes} crashes, {:.1?}",
        began.elapsed()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn planted(name: &str) -> Option<Mutation> {
    Mutation::ALL
        .into_iter()
        .find(|mutation| format!("{mutation:?}") == name)
}

fn from_the_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |time| time.as_nanos() as u64)
}
