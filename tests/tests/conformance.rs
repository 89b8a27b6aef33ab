//! `iscsi-test-cu` (Debian's libiscsi-bin 1.19): each suite in a process of its own, over six kinds of unit.
//!
//! The tool prints "passed" for what it skipped, and one run in one process is unusable (a hook of one test stays
//! for the next ones), so each suite runs alone and executed, skipped and failed are counted apart. Tests that are
//! wrong themselves are listed below with the reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::Duration,
};

use holdfast_tests::{Daemon, DaemonConfig, VolumeSpec, tool};

/// Suite.Test -> why a failure is the tool's.
const WRONG: &[(&str, &str)] = &[(
    "GetLBAStatus.UnmapSingle",
    "its second loop expects the descriptor to start elsewhere than asked unless one physical block is one logical block",
)];

#[derive(Default)]
struct Tally {
    executed: BTreeSet<String>,
    skipped: BTreeSet<String>,
    failed: BTreeMap<String, String>,
}

fn suites() -> Vec<String> {
    let listing = tool::call("iscsi-test-cu", &["--list"]).said();
    let mut names: BTreeSet<String> = BTreeSet::new();
    for line in listing.lines() {
        let mut parts = line.trim().split('.');
        if let (Some("ALL"), Some(suite), Some(_)) = (parts.next(), parts.next(), parts.next()) {
            names.insert(suite.to_owned());
        }
    }
    assert!(names.len() > 40, "iscsi-test-cu --list: {listing}");
    names.into_iter().collect()
}

/// Runs every suite against one unit and adds to the tally.
fn run_unit(unit: &str, urls: &[String], tally: &mut Tally) {
    for suite in suites() {
        let mut command = Command::new("timeout");
        command.args(["120", "iscsi-test-cu", "--dataloss", "--allow-sanitize", "--test"]);
        command.arg(format!("ALL.{suite}")).arg("--verbose").args(urls);
        let run = tool::run(&mut command, Duration::from_secs(130));
        read_report(unit, &suite, &run.said(), tally);
    }
}

fn read_report(unit: &str, suite: &str, report: &str, tally: &mut Tally) {
    let mut test: Option<String> = None;
    let mut text = String::new();
    let mut seen = 0;
    let mut finish = |test: &mut Option<String>, text: &mut String| {
        if let Some(name) = test.take() {
            let id = format!("{suite}.{name}");
            if text.contains("FAILED") {
                tally.failed.insert(format!("{unit}: {id}"), std::mem::take(text));
            } else if text.contains("[SKIPPED]") {
                tally.skipped.insert(id);
            } else if text.contains("passed") {
                tally.executed.insert(id);
            } else {
                tally
                    .failed
                    .insert(format!("{unit}: {id} did not end"), std::mem::take(text));
            }
        }
        text.clear();
    };
    for line in report.lines() {
        if let Some(rest) = line.trim_start().strip_prefix("Test: ") {
            finish(&mut test, &mut text);
            test = rest.split(" ...").next().map(|name| name.trim().to_owned());
            seen += 1;
        }
        text.push_str(line);
        text.push('\n');
        if line.starts_with("Run Summary") {
            finish(
                &mut test,
                &mut String::from(text.split("Run Summary").next().unwrap_or_default()),
            );
        }
    }
    finish(&mut test, &mut text);
    if seen == 0 {
        tally
            .failed
            .insert(format!("{unit}: {suite} ran no test"), report.to_owned());
    }
}

fn serve(volume: VolumeSpec) -> Daemon {
    Daemon::start(&DaemonConfig {
        volumes: vec![volume],
        initiators: String::new(),
        extra: String::new(),
    })
}

#[test]
fn libiscsi_suites_on_every_kind_of_unit() {
    let disk = VolumeSpec::standard("disk", "128MiB");
    let units = [
        ("512n", disk.clone()),
        (
            "512e",
            VolumeSpec {
                physical_block_size: 4096,
                ..disk.clone()
            },
        ),
        (
            "4Kn",
            VolumeSpec {
                block_size: 4096,
                physical_block_size: 4096,
                ..disk.clone()
            },
        ),
        (
            "removable",
            VolumeSpec {
                removable: true,
                ..disk.clone()
            },
        ),
        (
            "write-protected",
            VolumeSpec {
                read_only: true,
                ..disk
            },
        ),
    ];
    let mut all = Tally::default();
    for (unit, volume) in units {
        let daemon = serve(volume);
        let before = (all.executed.len(), all.failed.len());
        run_unit(unit, &[daemon.url(0), daemon.url(0)], &mut all);
        println!(
            "{unit}: {} tests executed first here, {} failed",
            all.executed.len() - before.0,
            all.failed.len() - before.1
        );
    }
    let excused = |name: &str| WRONG.iter().any(|(wrong, _)| name.ends_with(wrong));
    let failed: Vec<_> = all.failed.iter().filter(|(name, _)| !excused(name)).collect();
    let never: Vec<_> = all.skipped.difference(&all.executed).collect();
    println!(
        "{} distinct tests executed, {} executed nowhere: {never:?}",
        all.executed.len(),
        never.len()
    );
    for (name, text) in &failed {
        println!("--- {name}\n{text}");
    }
    let names: Vec<_> = failed.iter().map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "{} failed: {names:#?}", failed.len());
    assert!(
        all.executed.len() >= 150,
        "only {} tests were executed",
        all.executed.len()
    );
}
