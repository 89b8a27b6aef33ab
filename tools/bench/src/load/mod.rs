//! A pipelined initiator on raw PDUs, used as load generator: `iscsi-bench load`.
//!
//! One thread drives all sessions given to it ([`worker`]). Each keeps its queue full ([`pipeline`]) and looks at what came back
//! ([`answers`]). What is measured is the time from the issue of a command to the receive call that brought its status.

mod answers;
mod content;
mod error;
mod pipeline;
mod report;
mod session;
mod stage;
mod tally;
mod worker;

use std::{process::ExitCode, thread, time::Duration};

pub(crate) use self::{
    report::{per, print, rounded, whole},
    session::Session,
};

use self::{
    error::SessionError,
    report::Report,
    stage::{Phase, Stage},
    tally::Tally,
    worker::{Order, Work, Worker},
};
use crate::{
    arguments::{LoadArguments, Shape},
    clock::{now_ns, own_cpu_ns},
    process::CpuTime,
};

/// What a run has brought.
struct Measured {
    tally: Tally,
    seconds: f64,
    /// What the target used meanwhile, and this process.
    target: CpuTime,
    own_cpu_ns: u64,
    sessions: Vec<Session>,
}

/// Logs in, fills if that is wanted, measures, and prints the JSON line. Exit status 3 when a command failed or data was wrong.
pub(crate) fn run(arguments: &LoadArguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let count = arguments.sessions;
    let mut sessions = (0..count)
        .map(|index| {
            Session::open(&arguments.access, &arguments.shape, index, count)
                .map_err(|error| format!("session {index}: {error}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if arguments.describe {
        eprintln!("{}", sessions[0].describe());
    }
    if arguments.shape.verify || arguments.fill {
        let filled = drive(arguments, Work::Fill, sessions)?;
        eprintln!("filled in {:.2} s", filled.seconds);
        sessions = filled.sessions;
    }
    let measured = drive(arguments, Work::Load, sessions)?;
    print(&Report::new(&measured));
    let failed = measured.tally.errors > 0 || measured.tally.bad > 0;
    measured.sessions.into_iter().for_each(Session::logout);
    Ok(ExitCode::from(if failed { 3 } else { 0 }))
}

/// Has the threads do this work: a fill until it is done, a load for the time that was asked for.
fn drive(arguments: &LoadArguments, work: Work, sessions: Vec<Session>) -> Result<Measured, SessionError> {
    let stage = Stage::default();
    let order = Order {
        access: &arguments.access,
        shape: &arguments.shape,
        work,
    };
    thread::scope(|scope| {
        let workers: Vec<_> = dealt(sessions, arguments.threads as usize)
            .into_iter()
            .map(|sessions| {
                let stage = &stage;
                scope.spawn(move || {
                    let ended = Worker::new(order, sessions).and_then(|worker| worker.run(stage));
                    if ended.is_err() {
                        stage.enter(Phase::Ending);
                    }
                    ended
                })
            })
            .collect();
        if work == Work::Load {
            nap(arguments.warm, &stage);
            stage.begin_to_measure();
        }
        let (begun, target, own) = (now_ns(), CpuTime::of(&arguments.pid), own_cpu_ns());
        let since = || {
            let seconds = (now_ns() - begun) as f64 / 1e9;
            (seconds, CpuTime::of(&arguments.pid) - target, own_cpu_ns() - own)
        };
        let mut used = None;
        if work == Work::Load {
            nap(arguments.time, &stage);
            stage.enter(Phase::Ending);
            used = Some(since());
        }
        let (mut tally, mut sessions) = (Tally::default(), Vec::new());
        for worker in workers {
            let (its_tally, its_sessions) = worker.join().map_err(|_| SessionError::Panicked)??;
            tally.merge(&its_tally);
            sessions.extend(its_sessions);
        }
        let (seconds, target, own_cpu_ns) = used.unwrap_or_else(since);
        Ok(Measured {
            tally,
            seconds,
            target,
            own_cpu_ns,
            sessions,
        })
    })
}

/// The sessions in so many hands; empty ones are left out.
fn dealt(sessions: Vec<Session>, hands: usize) -> Vec<Vec<Session>> {
    let mut dealt: Vec<Vec<Session>> = (0..hands.min(sessions.len())).map(|_| Vec::new()).collect();
    for (index, session) in sessions.into_iter().enumerate() {
        dealt[index % hands].push(session);
    }
    dealt
}

/// Waits so many seconds, or until a worker has failed.
fn nap(seconds: f64, stage: &Stage) {
    let end = now_ns() + Duration::from_secs_f64(seconds).as_nanos() as u64;
    while let left @ 1.. = end.saturating_sub(now_ns())
        && stage.phase() != Phase::Ending
    {
        thread::sleep(Duration::from_nanos(left.min(100_000_000)));
    }
}

/// Bytes of a command, in blocks of this length.
fn blocks_of_a_command(shape: &Shape, block_length: usize) -> u64 {
    (shape.bs / block_length) as u64
}

#[cfg(test)]
mod tests;
