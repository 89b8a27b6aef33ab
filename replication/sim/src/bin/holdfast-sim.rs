//! `holdfast-sim`: runs seeds, and prints what it takes to see a failure again.

use clap::Parser;
use replication_engine::Mutation;
use replication_sim::{Options, run, seeds::Seeds};
use std::{process::ExitCode, time::Instant};

/// Runs the replication engine on simulated disks, hosts and crashes.
#[derive(Debug, Parser)]
#[command(name = "holdfast-sim", version)]
struct Arguments {
    #[command(flatten)]
    seeds: Seeds,
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
    let first = arguments.seeds.first();
    println!("seeds from {first}, {} steps each", arguments.steps);
    // What a run panics with is in its report.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let (mut runs, mut failed, mut steps, mut passages, mut crashes) = (0, 0, 0, 0, 0);
    for seed in arguments.seeds.starting_at(first) {
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
