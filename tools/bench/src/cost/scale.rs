//! A daemon with 1,000 volumes in 500 pairs, and 1,000 sessions, beside one with a single pair.
use super::daemon::{Daemon, volumes};
use super::{Plan, ms};
use crate::clock::now_ns;
use crate::histogram::Histogram;
use crate::load::Session;
use crate::process::resident_kib;

const SESSIONS: u32 = 1000;
/// Beside these: a daemon has places for 1,024 connections.
const FEW: u32 = 20;

/// Part 8.
pub(crate) fn many(plan: &Plan) {
    println!("\n| 8. scale (ms, median, maximum) | median | max |");
    println!("|---|---:|---:|");
    for pairs in [1, 500] {
        let begun = now_ns();
        let daemon = Daemon::start(plan, &plan.dir, &volumes(pairs, 1, "1GiB"), "");
        let name = format!("{} volumes", 2 * pairs);
        println!("| {name}: start | {:.0} | |", (now_ns() - begun) as f64 / 1e6);
        let bare = resident_kib(daemon.pid());
        let all: Vec<_> = (1..=pairs).map(|primary| (primary, primary + pairs)).collect();
        let begun = now_ns();
        for pair in &all {
            daemon.out("establish", &[], &[*pair]);
        }
        daemon.all_settled(&all);
        println!(
            "| {name}: all pairs made and copied (empty) | {:.0} | |",
            (now_ns() - begun) as f64 / 1e6
        );
        let paired = resident_kib(daemon.pid());
        commands(plan, &daemon, &name, all[0]);
        if pairs > 1 {
            let begun = now_ns();
            daemon.out("split", &[], &all[..all.len().min(32)]);
            println!(
                "| {name}: SPLIT of a group of 32 | {:.1} | |",
                (now_ns() - begun) as f64 / 1e6
            );
        }
        let mut first = Histogram::default();
        logins(&daemon, FEW, &mut first)
            .into_iter()
            .for_each(Session::logout);
        println!("| {name}: login | {} |", ms(&first));
        let mut times = Histogram::default();
        let sessions = logins(&daemon, SESSIONS, &mut times);
        let full = resident_kib(daemon.pid());
        let mut last = Histogram::default();
        logins(&daemon, FEW, &mut last)
            .into_iter()
            .for_each(Session::logout);
        println!("| {name}: login beside {SESSIONS} sessions | {} |", ms(&last));
        commands(plan, &daemon, &format!("{name}, {SESSIONS} sessions"), all[0]);
        println!(
            "| {name}: memory in MiB: {:.1}, with its pairs {:.1}, with {} sessions {:.1} | | |",
            bare as f64 / 1024.0,
            paired as f64 / 1024.0,
            sessions.len(),
            full as f64 / 1024.0
        );
        sessions.into_iter().for_each(Session::logout);
    }
}

/// QUERY, SPLIT and ESTABLISH of one pair in turns; begins and ends with equal volumes.
fn commands(plan: &Plan, daemon: &Daemon, name: &str, pair: (u32, u32)) {
    let mut times: [Histogram; 3] = Default::default();
    for _ in 0..plan.rounds {
        times[0].add(daemon.query(pair).1);
        times[1].add(daemon.out("split", &[], &[pair]));
        daemon.settled(pair);
        times[2].add(daemon.out("establish", &[], &[pair]));
        daemon.settled(pair);
    }
    for (command, times) in ["QUERY", "SPLIT", "ESTABLISH"].iter().zip(&times) {
        println!("| {name}: {command} | {} |", ms(times));
    }
}

fn logins(daemon: &Daemon, count: u32, times: &mut Histogram) -> Vec<Session> {
    (0..count)
        .map(|_| {
            let begun = now_ns();
            let session = daemon.bare_session();
            times.add(now_ns() - begun);
            session
        })
        .collect()
}
