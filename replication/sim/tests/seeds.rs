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

/// S14, S95, O1-O6, O8-O10: random histories with kills, losses of power and failing disks, against what hosts were promised.
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

/// S33, O1, O2, O5, O6, O10: a harness is trusted when it finds what was planted.
#[test]
fn every_planted_bug_is_found() {
    for mutation in Mutation::ALL.into_iter().filter(|bug| !RARE.contains(bug)) {
        find(mutation);
    }
}

/// O1, S95: a mark that comes after the data needs a write that fails or is cut short at the right moment.
#[test]
fn a_late_mark_is_found() {
    find(RARE[0]);
}

/// S7: so does a read error at the right place.
#[test]
fn a_blind_repair_is_found() {
    find(RARE[1]);
}

/// S57, O8: and a crash between two records of one command, which few seeds have. The search begins where it was seen to end soon
/// (seed 414), so that the test has its time limit; from 1 it takes half a minute of `holdfast-sim`.
#[test]
fn a_split_in_parts_is_found() {
    find_from(400, RARE[2]);
}

/// O5, O6: and one between a flush and its record.
#[test]
fn a_skipped_settle_is_found() {
    find(RARE[3]);
}

/// Those that take most seeds have a test, and so a time limit, of their own.
const RARE: [Mutation; 4] = [
    Mutation::MarkAfterWrite,
    Mutation::RepairBlindly,
    Mutation::SplitMembersOneByOne,
    Mutation::SkipUnsettledWait,
];

fn find(mutation: Mutation) {
    find_from(1, mutation);
}

fn find_from(first: u64, mutation: Mutation) {
    let found = (first..first + BUDGET).any(|seed| run(options(seed, Some(mutation))).is_err());
    assert!(
        found,
        "{mutation:?} was not found in {BUDGET} runs from seed {first}"
    );
}

const SEEDS: u64 = 40;
const BUDGET: u64 = 300;
