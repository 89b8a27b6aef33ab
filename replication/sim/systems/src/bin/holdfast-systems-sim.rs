//! `holdfast-systems-sim`: runs seeds of two or three systems, and prints what it takes to see a failure again.

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use replication::machine::Mutation;
use replication_sim::seeds::Seeds;
use systems_sim::{Options, run};

/// Runs two or three whole systems on simulated disks, networks and clocks.
#[derive(Debug, Parser)]
#[command(name = "holdfast-systems-sim", version)]
struct Arguments {
    /// How many systems: 2 or 3; both by turns if it is not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(2..=3))]
    systems: Option<u64>,
    #[command(flatten)]
    seeds: Seeds,
    /// Run each seed twice, and compare.
    #[arg(long)]
    twice: bool,
    /// Plant a bug (its name in `Mutation`): the runs are expected to fail.
    #[arg(long)]
    mutation: Option<String>,
    /// Print what happens when it does.
    #[arg(long)]
    trace: bool,
    /// Go on after a failure, and print one line for each.
    #[arg(long)]
    all: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let known = |name: &String| Mutation::ALL.into_iter().find(|bug| format!("{bug:?}") == *name);
    let mutation = arguments.mutation.as_ref().map(known);
    if mutation == Some(None) {
        eprintln!("there is no such mutation; known: {:?}", Mutation::ALL);
        return ExitCode::from(2);
    }
    let first = arguments.seeds.first();
    println!("seeds from {first}");
    let began = Instant::now();
    let (mut runs, mut failed, mut virtual_ms) = (0, 0, 0);
    for seed in arguments.seeds.starting_at(first) {
        let systems = arguments.systems.unwrap_or(2 + runs % 2) as usize;
        runs += 1;
        let options = Options {
            seed,
            systems,
            mutation: mutation.flatten(),
            echo: arguments.trace,
        };
        let what = match run(options) {
            Ok(report) if arguments.twice => {
                virtual_ms += report.counts.ms;
                let again = run(Options {
                    echo: false,
                    ..options
                });
                let same = again.is_ok_and(|again| again == report);
                (!same).then(|| ("two runs of it are not the same".to_owned(), Vec::new()))
            }
            Ok(report) => {
                virtual_ms += report.counts.ms;
                if arguments.seeds.is_one() {
                    println!("{report:?}");
                }
                None
            }
            Err(failure) => Some((failure.what, failure.trace)),
        };
        if let Some((what, trace)) = what {
            failed += 1;
            println!("seed {seed}, {systems} systems: {what}");
            if !arguments.all {
                let last = trace.len().saturating_sub(if arguments.trace { 0 } else { 40 });
                trace[last..].iter().for_each(|line| println!("{line}"));
                println!(
                    "again: cargo run -p systems-sim -- --systems {systems} --seed {seed} --trace{}",
                    arguments
                        .mutation
                        .map(|bug| format!(" --mutation {bug}"))
                        .unwrap_or_default()
                );
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{runs} runs, {failed} failed, {} s of virtual time, {:.1?}",
        virtual_ms / 1000,
        began.elapsed()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
