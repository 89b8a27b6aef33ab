//! `iscsi-bench idle`: what sessions cost that do nothing.

use std::{thread, time::Duration};

use serde::Serialize;

use crate::{
    arguments::IdleArguments,
    clock::now_ns,
    load::{Session, print, rounded},
    process::{CpuTime, resident_kib},
};

/// After the last login, before memory and CPU time are looked at.
const SETTLING: Duration = Duration::from_millis(300);

/// The JSON line.
#[derive(Serialize)]
struct Report {
    sessions: usize,
    rss_before_kib: u64,
    rss_kib: u64,
    kib_per_session: f64,
    idle_cpu_pct: f64,
}

/// Measures and prints it. As many sessions as the target gives count.
pub(crate) fn run(arguments: &IdleArguments) {
    let resident = || arguments.pid.iter().map(|process| resident_kib(*process)).sum();
    let rss_before_kib: u64 = resident();
    let mut sessions = Vec::new();
    for index in 0..arguments.sessions {
        match Session::log_in(&arguments.access, index) {
            Ok(session) => sessions.push(session),
            Err(error) => {
                eprintln!("session {index}: {error}");
                break;
            }
        }
    }
    thread::sleep(SETTLING);
    let rss_kib: u64 = resident();
    let (before, begun) = (CpuTime::of(&arguments.pid), now_ns());
    thread::sleep(Duration::from_secs_f64(arguments.time));
    let (used, took) = (CpuTime::of(&arguments.pid) - before, (now_ns() - begun) as f64);
    let more = rss_kib as f64 - rss_before_kib as f64;
    let report = Report {
        sessions: sessions.len(),
        rss_before_kib,
        rss_kib,
        kib_per_session: rounded(more / sessions.len().max(1) as f64, 1),
        idle_cpu_pct: rounded(used.run_ns as f64 / took * 100.0, 2),
    };
    print(&report);
    sessions.into_iter().for_each(Session::logout);
}
