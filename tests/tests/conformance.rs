//! `iscsi-test-cu` (Debian's libiscsi-bin 1.19): each suite in a process of its own, over six kinds of unit.
//!
//! The tool says "passed" of what it skipped, and one run in one process is unusable (a hook of one test stays for
//! the next ones), so each suite runs alone, with verbose logging, without which many a skip is silent. A test counts as
//! *failed* when `CUnit` says so, as *skipped* when it says `[SKIPPED]` and does nothing, else as *executed*; the
//! counts must be those of the tool's own summary. The log's `[FAILED]` is no verdict: tests also log so what they
//! provoke, and tidying up after them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use holdfast_tests::{Daemon, DaemonConfig, VolumeSpec, tool};

/// A test that fails for a fault of its own.
struct Wrong {
    test: &'static str,
    /// On these units; none named: on all.
    units: &'static [&'static str],
    /// What is wrong with it.
    why: &'static str,
}

const WRONG: &[Wrong] = &[
    Wrong {
        test: "ReportSupportedOpcodes.OneCommand",
        units: &[],
        why: "libiscsi keeps CDB USAGE DATA of 16 bytes at most, and of a command of 32 bytes none: the test then compares zeros",
    },
    Wrong {
        test: "GetLBAStatus.UnmapSingle",
        units: &["512e"],
        why: "its second loop expects the descriptor to start elsewhere than asked unless one physical block is one logical block",
    },
    Wrong {
        test: "WriteSame10.UnmapUntilEnd",
        units: &[],
        why: "it unmaps with a block of FFh and wants zeros: with LBPRZ such a block is written; its twin of 16 bytes sends zeros",
    },
    Wrong {
        test: "Sanitize.Reset",
        units: &[],
        why: "it looks for a SANITIZE in progress three and four seconds after it began; this one has ended by then",
    },
];

impl Wrong {
    fn find(unit: &str, test: &str) -> Option<&'static Self> {
        WRONG
            .iter()
            .find(|wrong| wrong.test == test && (wrong.units.is_empty() || wrong.units.contains(&unit)))
    }
}

/// Suite.Test -> why nothing executes it here.
const NEVER: &[(&str, &str)] = &[("Sanitize.CryptoErase", NO_KEY)];

const NO_KEY: &str = "nothing is encrypted, so there is no key to erase: the command does not exist, which \
    Sanitize.InvalidServiceAction and Sanitize.CryptoEraseReserved see";

/// These say `[SKIPPED]` of a part and execute the rest.
const IN_PART: &[&str] = &[
    "Sanitize.Readonly",
    "Sanitize.Reservations",
    "WriteAtomic16.VPD",
    "WriteSame10.ZeroBlocks",
    "WriteSame16.ZeroBlocks",
];

/// Suites that make sessions of their own, for the unit that wants CHAP.
const SESSIONS: &[&str] = &[
    "MultipathIO",
    "ProutPreempt",
    "ProutReserve",
    "Read10",
    "Reserve6",
    "Write10",
    "iSCSIResiduals",
    "iSCSITMF",
    "iSCSIcmdsn",
    "iSCSIdatasn",
];

/// Suites that only read, and the one that wants writes to be refused, for the write-protected unit. The others fail
/// there, as they should.
const READING: &[&str] = &[
    "Inquiry",
    "Mandatory",
    "Prefetch10",
    "Prefetch16",
    "PrinReportCapabilities",
    "PrinServiceactionRange",
    "Read10",
    "Read12",
    "Read16",
    "Read6",
    "ReadCapacity10",
    "ReadCapacity16",
    "ReadDefectData10",
    "ReadDefectData12",
    "ReadOnly",
    "ReportSupportedOpcodes",
    "StartStopUnit",
    "TestUnitReady",
    "iSCSIcmdsn",
];

const USER: &str = "tester";
const SECRET: &str = "a-secret-of-16-b";

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Executed,
    Skipped,
    Failed(String),
}

/// A kind of unit, and what is run on it.
struct Unit {
    name: &'static str,
    volume: VolumeSpec,
    chap: bool,
    /// `None`: all.
    suites: Option<&'static [&'static str]>,
}

impl Unit {
    fn of(name: &'static str, volume: VolumeSpec) -> Self {
        Self {
            name,
            volume,
            chap: false,
            suites: None,
        }
    }

    fn all() -> Vec<Self> {
        let disk = VolumeSpec::standard("disk", "128MiB");
        let with = |change: fn(&mut VolumeSpec)| {
            let mut volume = disk.clone();
            change(&mut volume);
            volume
        };
        vec![
            Self::of("512n", disk.clone()),
            Self::of("512e", with(|volume| volume.physical_block_size = 4096)),
            Self::of(
                "4Kn",
                with(|volume| (volume.block_size, volume.physical_block_size) = (4096, 4096)),
            ),
            Self::of("removable", with(|volume| volume.removable = true)),
            Self {
                suites: Some(READING),
                ..Self::of("write-protected", with(|volume| volume.read_only = true))
            },
            Self {
                chap: true,
                suites: Some(SESSIONS),
                ..Self::of("CHAP", disk.clone())
            },
        ]
    }

    fn run(&self, suites: &[String]) -> BTreeMap<String, Outcome> {
        let secrets = tempfile::tempdir().expect("a temporary directory");
        let mut initiators = String::new();
        if self.chap {
            let file = secrets.path().join("secret");
            fs::write(&file, SECRET).expect("the directory is ours");
            restrict(&file);
            write!(
                initiators,
                "[[target.initiator]]\nname = \"*\"\nchap = {{ user = \"{USER}\", secret_file = \"{}\" }}\n",
                file.display()
            )
            .expect("a String takes all");
        }
        let daemon = Daemon::start(&DaemonConfig {
            volumes: vec![self.volume.clone()],
            initiators,
            extra: String::new(),
        });
        let mut url = daemon.url(0);
        if self.chap {
            let plain = run_suite("TestUnitReady", &url);
            assert!(
                plain.values().all(|outcome| *outcome != Outcome::Executed),
                "a login without CHAP: {plain:?}"
            );
            url = url.replace("iscsi://", &format!("iscsi://{USER}%{SECRET}@"));
        }
        let wanted = suites
            .iter()
            .filter(|suite| self.suites.is_none_or(|only| only.contains(&suite.as_str())));
        wanted.flat_map(|suite| run_suite(suite, &url)).collect()
    }
}

fn run_suite(suite: &str, url: &str) -> BTreeMap<String, Outcome> {
    let mut command = Command::new("timeout");
    command.args(["120", "iscsi-test-cu", "--verbose", "--Verbose-scsi"]);
    command.args(["--dataloss", "--allow-sanitize"]);
    // Twice the same: two paths to one unit.
    command.arg("--test").arg(format!("ALL.{suite}")).args([url, url]);
    let run = tool::run(&mut command, Duration::from_secs(130));
    read_report(suite, &run.said())
}

fn restrict(file: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("the file is ours");
}

/// `MultipathIO` comes first: it wants a block to be zero that it does not zero.
fn suites() -> Vec<String> {
    let listing = tool::call("iscsi-test-cu", &["--list"]).said();
    let names: BTreeSet<(bool, String)> = listing
        .lines()
        .filter_map(|line| {
            let mut parts = line.trim().split('.');
            let suite = (parts.next() == Some("ALL")).then(|| parts.next()).flatten()?;
            parts.next().map(|_| (suite != "MultipathIO", suite.to_owned()))
        })
        .collect();
    assert!(names.len() > 40, "iscsi-test-cu --list: {listing}");
    names.into_iter().map(|(_, suite)| suite).collect()
}

/// Every unit, two at a time.
fn run_all(units: &[Unit], suites: &[String]) -> BTreeMap<&'static str, BTreeMap<String, Outcome>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcomes = unit.run(suites);
            let mut results = results.lock().expect("no other run panics");
            results.insert(unit.name, outcomes);
        }
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    results.into_inner().expect("no run has panicked")
}

/// The outcome of each test of one run, by Suite.Test.
fn read_report(suite: &str, report: &str) -> BTreeMap<String, Outcome> {
    let (tests, summary) = report.split_once("Run Summary").unwrap_or((report, ""));
    let mut outcomes = BTreeMap::new();
    for text in tests.split("\n  Test: ").skip(1) {
        let name = text.split(" ...").next().unwrap_or_default().trim();
        let id = format!("{suite}.{name}");
        let outcome = outcome_of(&id, text);
        outcomes.insert(id, outcome);
    }
    let failed = outcomes
        .values()
        .filter(|outcome| matches!(outcome, Outcome::Failed(_)))
        .count();
    if count_in_summary(summary) != Some((outcomes.len(), failed)) {
        outcomes.insert(
            format!("{suite} as a whole"),
            Outcome::Failed(format!("no summary, or another one:\n{report}")),
        );
    }
    outcomes
}

fn outcome_of(id: &str, text: &str) -> Outcome {
    let verdict = text.lines().rev().find_map(|line| {
        let line = line.trim_end();
        // The verdict ends the line of the test, or stands alone.
        let failed = line.ends_with("FAILED") && !line.ends_with("[FAILED]");
        let passed = line.contains("...passed") || line.starts_with("passed");
        (failed || passed).then_some(passed)
    });
    match verdict {
        Some(true) if text.contains("[SKIPPED]") && !IN_PART.contains(&id) => Outcome::Skipped,
        Some(true) => Outcome::Executed,
        _ => Outcome::Failed(text.to_owned()),
    }
}

/// Tests run and failed, from the line "tests  total ran passed failed inactive".
fn count_in_summary(summary: &str) -> Option<(usize, usize)> {
    let line = summary.lines().find(|line| line.trim().starts_with("tests"))?;
    let mut numbers = line.split_whitespace().skip(2);
    let ran = numbers.next()?.parse().ok()?;
    Some((ran, numbers.nth(1)?.parse().ok()?))
}

#[test]
fn libiscsi_suites_on_every_kind_of_unit() {
    let suites = suites();
    let mut executed = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut failures = Vec::new();
    let mut table = String::from("unit              executed  skipped  failed  wrong in the tool\n");
    for (unit, outcomes) in run_all(&Unit::all(), &suites) {
        let (mut ran, mut skipped, mut failed, mut excused) = (0, 0, 0, 0);
        for (id, outcome) in outcomes {
            match outcome {
                Outcome::Executed => {
                    ran += 1;
                    executed.insert(id.clone());
                }
                Outcome::Skipped => skipped += 1,
                Outcome::Failed(text) => {
                    if let Some(wrong) = Wrong::find(unit, &id) {
                        excused += 1;
                        executed.insert(id.clone());
                        println!("{unit}: {id} fails: {}", wrong.why);
                    } else {
                        failed += 1;
                        println!("--- {unit}: {id}\n{text}");
                        failures.push(format!("{unit}: {id}"));
                    }
                }
            }
            seen.insert(id);
        }
        writeln!(
            table,
            "{unit:<16}  {ran:>8}  {skipped:>7}  {failed:>6}  {excused:>17}"
        )
        .expect("a String takes all");
    }
    let never: Vec<_> = seen.difference(&executed).collect();
    println!(
        "{table}{} of {} tests executed on at least one unit; on none: {never:?}",
        executed.len(),
        seen.len()
    );
    assert!(failures.is_empty(), "{} failed: {failures:#?}", failures.len());
    for (id, why) in NEVER {
        println!("on none: {id}: {why}");
    }
    let known: Vec<_> = NEVER.iter().map(|(id, _)| *id).collect();
    assert_eq!(never, known, "tests executed nowhere");
}
