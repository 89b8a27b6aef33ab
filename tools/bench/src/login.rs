//! `iscsi-bench login`: logins and logouts, as many as a second has room for.

use std::{thread, time::Duration};

use serde::Serialize;

use crate::{
    arguments::{Access, LoginArguments},
    clock::now_ns,
    histogram::Histogram,
    load::{Session, per, print, rounded, whole},
    process::CpuTime,
};

/// What one thread has seen.
#[derive(Default)]
struct Logins {
    count: u64,
    errors: u64,
    times: Histogram,
}

/// The JSON line.
#[derive(Serialize)]
struct Report {
    logins: u64,
    errors: u64,
    per_s: u64,
    p50_us: u64,
    p99_us: u64,
    tgt_cpu_us_per_login: f64,
}

/// Measures and prints it.
pub(crate) fn run(arguments: &LoginArguments) {
    let (before, begun) = (CpuTime::of(&arguments.pid), now_ns());
    let end = begun + Duration::from_secs_f64(arguments.time).as_nanos() as u64;
    let mut all = Logins::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.threads)
            .map(|index| scope.spawn(move || until(end, &arguments.access, index)))
            .collect();
        for thread in threads {
            let logins = thread.join().expect("a thread that logs in does not panic");
            all.count += logins.count;
            all.errors += logins.errors;
            all.times.merge(&logins.times);
        }
    });
    let seconds = (now_ns() - begun) as f64 / 1e9;
    let used = CpuTime::of(&arguments.pid) - before;
    let report = Report {
        logins: all.count,
        errors: all.errors,
        per_s: whole(all.count as f64 / seconds),
        p50_us: whole(all.times.quantile_us(0.5)),
        p99_us: whole(all.times.quantile_us(0.99)),
        tgt_cpu_us_per_login: rounded(per(used.run_ns as f64 / 1000.0, all.count), 1),
    };
    print(&report);
}

fn until(end: u64, access: &Access, index: u32) -> Logins {
    let mut logins = Logins::default();
    while now_ns() < end {
        let begun = now_ns();
        match Session::log_in(access, index) {
            Ok(session) => {
                logins.times.add(now_ns() - begun);
                session.logout();
                logins.count += 1;
            }
            Err(error) => {
                logins.errors += 1;
                if logins.errors < 3 {
                    eprintln!("{error}");
                }
                // A target that refuses is not to be flooded.
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
    logins
}
