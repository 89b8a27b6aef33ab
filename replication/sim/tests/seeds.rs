//! A fixed budget of seeds on every `cargo test`; `holdfast-sim --fresh --seconds N` looks for new ones.

use replication_engine::Mutation;
use replication_sim::{Options, run};

fn options(seed: u64, mutation: Option<Mutation>) -> Options {
    Options {
        seed,
        steps: 3000,
        mutation,
    }
}

#[test]
fn the_engine_keeps_its_promises() {
    let (mut journal_failures, mut volumes_kept) = (0, 0);
    for seed in 1..=SEEDS {
        let counts = run(options(seed, None)).unwrap_or_else(|failure| {
            let last = failure.trace.len().saturating_sub(60);
            panic!(
                "seed {seed}: {}\n{}\nagain: cargo run -p replication-sim --bin holdfast-sim -- --seed {seed}",
                failure.what,
                failure.trace[last..].join("\n")
            );
        });
        journal_failures += counts.journal_failures;
        volumes_kept += counts.volumes_kept;
    }
    assert!(
        journal_failures > 0 && volumes_kept > 0,
        "these seeds do not try everything"
    );
}

/// Seeds that found something once: the first in the engine, the others in the oracle.
#[test]
fn what_was_found_stays_fixed() {
    for seed in [
        1_795_238_776_969_475_840,
        1_795_240_099_348_088_359,
        1_795_241_712_387_200_279,
        1_795_241_712_387_200_672,
    ] {
        if let Err(failure) = run(options(seed, None)) {
            panic!("seed {seed}: {}", failure.what);
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    assert_eq!(run(options(7, None)).ok(), run(options(7, None)).ok());
}

/// A harness is trusted when it finds what was planted.
#[test]
fn every_planted_bug_is_found() {
    for mutation in Mutation::ALL {
        let found = (1..=BUDGET).any(|seed| run(options(seed, Some(mutation))).is_err());
        assert!(found, "{mutation:?} was not found in {BUDGET} runs");
    }
}

const SEEDS: u64 = 40;
const BUDGET: u64 = 300;
