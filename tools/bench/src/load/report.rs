//! The JSON line of a load. `compare`, `cost` and `remote` read it, and whoever compares another target: keys stay.

use serde::Serialize;

use super::{Measured, Session};
use crate::clock::unix_seconds;

#[derive(Serialize)]
pub(super) struct Report {
    iops: u64,
    /// 10^6 bytes a second.
    mbps: f64,
    reads: u64,
    writes: u64,
    errors: u64,
    bad: u64,
    secs: f64,
    lat_mean_us: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: u64,
    tgt_cpu_us_per_io: f64,
    tgt_user_us: f64,
    tgt_sys_us: f64,
    tgt_cpu_pct: u64,
    tgt_vcsw_per_io: f64,
    gen_cpu_us_per_io: f64,
    gen_cpu_pct: u64,
    gen_send_per_io: f64,
    gen_recv_per_io: f64,
    header_digest: bool,
    data_digest: bool,
    /// The command that took `max_us`: when it was issued, in seconds since 1970, and its first block.
    max_at: f64,
    max_lba: u64,
    /// Of the time measured, so much did threads of the target wait for a CPU, together.
    tgt_wait_pct: u64,
}

impl Report {
    pub(super) fn new(measured: &Measured) -> Self {
        let Measured {
            tally,
            seconds,
            target,
            own_cpu_ns,
            sessions,
        } = measured;
        let ios = tally.reads + tally.writes;
        let each = |value: u64, digits| rounded(per(value as f64, ios), digits);
        let each_us = |nanoseconds: u64| rounded(per(nanoseconds as f64 / 1000.0, ios), 2);
        let percent = |nanoseconds: u64| whole(nanoseconds as f64 / seconds / 1e7);
        let slowest = tally.slowest;
        let digests = sessions.first().map(Session::digests).unwrap_or_default();
        Self {
            iops: whole(ios as f64 / seconds),
            mbps: rounded(tally.bytes as f64 / seconds / 1e6, 1),
            reads: tally.reads,
            writes: tally.writes,
            errors: tally.errors,
            bad: tally.bad,
            secs: rounded(*seconds, 2),
            lat_mean_us: rounded(tally.latency.mean_us(), 1),
            p50_us: rounded(tally.latency.quantile_us(0.5), 1),
            p99_us: rounded(tally.latency.quantile_us(0.99), 1),
            p999_us: rounded(tally.latency.quantile_us(0.999), 1),
            max_us: whole(tally.latency.longest_ns() as f64 / 1000.0),
            tgt_cpu_us_per_io: each_us(target.run_ns),
            tgt_user_us: each(target.user_us, 2),
            tgt_sys_us: each(target.system_us, 2),
            tgt_cpu_pct: percent(target.run_ns),
            tgt_vcsw_per_io: each(target.voluntary_switches, 3),
            gen_cpu_us_per_io: each_us(*own_cpu_ns),
            gen_cpu_pct: percent(*own_cpu_ns),
            gen_send_per_io: each(tally.sends, 3),
            gen_recv_per_io: each(tally.receives, 3),
            header_digest: digests.0,
            data_digest: digests.1,
            max_at: slowest.map_or(0.0, |command| rounded(unix_seconds(command.issued), 6)),
            max_lba: slowest.map_or(0, |command| command.lba),
            tgt_wait_pct: percent(target.wait_ns),
        }
    }
}

/// Prints one line.
pub(crate) fn print(report: &impl Serialize) {
    let line = serde_json::to_string(report).expect("a report has names for its keys");
    println!("{line}");
}

/// A share of a sum; 0 where nothing was counted.
pub(crate) fn per(sum: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// With so many digits after the point.
pub(crate) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// Without any.
#[expect(clippy::cast_sign_loss, reason = "nothing that is reported so is negative")]
pub(crate) fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::Tally, process::CpuTime};

    #[test]
    fn the_line_has_the_keys_that_its_readers_know() {
        let mut tally = Tally {
            reads: 3,
            writes: 1,
            bytes: 16384,
            sends: 1,
            receives: 2,
            ..Tally::default()
        };
        (1..=4).for_each(|time| tally.latency.add(time * 10_000));
        let target = CpuTime {
            run_ns: 10_000,
            wait_ns: 100_000_000,
            user_us: 1,
            system_us: 2,
            voluntary_switches: 3,
        };
        let report = Report::new(&Measured {
            tally,
            seconds: 0.5,
            target,
            own_cpu_ns: 5_000_000,
            sessions: Vec::new(),
        });
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"iops":8,"mbps":0.0,"reads":3,"writes":1,"errors":0,"bad":0,"secs":0.5,"lat_mean_us":25.0,"p50_us":20.0,"p99_us":39.9,"p999_us":39.9,"max_us":40,"tgt_cpu_us_per_io":2.5,"tgt_user_us":0.25,"tgt_sys_us":0.5,"tgt_cpu_pct":0,"tgt_vcsw_per_io":0.75,"gen_cpu_us_per_io":1250.0,"gen_cpu_pct":1,"gen_send_per_io":0.25,"gen_recv_per_io":0.5,"header_digest":false,"data_digest":false,"max_at":0.0,"max_lba":0,"tgt_wait_pct":20}"#
        );
    }
}
