//! What happened in a run, for people and as one number.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
};

use tokio::time::Instant;

/// Lines and the hash of everything.
#[derive(Debug)]
pub struct Trace {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    hash: DefaultHasher,
    lines: Vec<String>,
    echo: bool,
}

impl Trace {
    /// Of a run that begins now. `echo`: every line is printed at once.
    pub fn new(echo: bool) -> Self {
        let (hash, lines) = (DefaultHasher::new(), Vec::new());
        Self {
            began: Instant::now(),
            state: Mutex::new(State { hash, lines, echo }),
        }
    }

    /// Virtual milliseconds since the run began.
    pub fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Something happened.
    pub fn say(&self, what: impl AsRef<str>) {
        let line = format!("{:>8} ms  {}", self.now_ms(), what.as_ref());
        let mut state = self.lock();
        line.hash(&mut state.hash);
        if state.echo {
            println!("{line}");
        }
        state.lines.push(line);
    }

    /// Something happened that is not worth a line: these bytes, at this place.
    pub fn note(&self, place: u64, bytes: &[u8]) {
        let now = self.now_ms();
        let mut state = self.lock();
        (now, place, bytes).hash(&mut state.hash);
    }

    /// The number that two runs of a seed have in common.
    pub fn hash(&self) -> u64 {
        self.lock().hash.finish()
    }

    /// All lines.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
