//! Running programs with a time limit, and failing with everything they said.

use std::{
    ffi::OsStr,
    io::Read as _,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How a program ended.
#[derive(Debug)]
pub struct Run {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Run {
    /// The exit code; -1 for a signal.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Both outputs, for messages.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs a program to its end, at most `limit`; panics when it cannot be started or takes longer.
pub fn run(command: &mut Command, limit: Duration) -> Run {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let drain = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        let mut pipe = pipe.expect("piped");
        thread::spawn(move || {
            let mut text = Vec::new();
            let _ = pipe.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let stdout = drain(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = drain(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child") {
            break status;
        }
        if started.elapsed() > limit {
            child.kill().expect("our child");
            let status = child.wait().expect("our child");
            let said = format!(
                "{}{}",
                stdout.join().unwrap_or_default(),
                stderr.join().unwrap_or_default()
            );
            panic!("{command:?} took longer than {limit:?} ({status}):\n{said}");
        }
        thread::park_timeout(Duration::from_millis(5));
    };
    Run {
        status,
        stdout: stdout.join().expect("reader thread"),
        stderr: stderr.join().expect("reader thread"),
    }
}

/// Runs `program arguments...` for at most a minute.
pub fn call<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Run {
    run(Command::new(program).args(arguments), Duration::from_secs(60))
}

/// As [`call`]; fails unless the exit status is 0. Returns stdout.
pub fn ok<S: AsRef<OsStr> + std::fmt::Debug>(program: &str, arguments: &[S]) -> String {
    let run = call(program, arguments);
    assert!(
        run.status.success(),
        "{program} {arguments:?} ended with {}:\n{}",
        run.status,
        run.said()
    );
    run.stdout
}
