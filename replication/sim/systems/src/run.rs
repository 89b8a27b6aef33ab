//! A run from seed to verdict.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Once},
    time::Duration,
};

use replication::machine::Mutation;
use tokio::{runtime::Builder, time::timeout};

use crate::{counts::Counts, episode::Play, trace::Trace};

/// What is asked for; everything else follows from the seed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Two or three.
    pub systems: usize,
    /// A planted bug.
    pub mutation: Option<Mutation>,
    /// Lines are printed when they come.
    pub echo: bool,
}

/// A run that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The same for two runs of a seed.
    pub hash: u64,
    /// What happened, counted.
    pub counts: Counts,
}

/// One that did not.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What was wrong.
    pub what: String,
    /// Until then.
    pub hash: u64,
    /// All lines of the trace.
    pub trace: Vec<String>,
}

thread_local! {
    /// The first panic of the run: of the harness, or of a task of the product.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Virtual time that no run needs.
const ENDLESS: Duration = Duration::from_secs(24 * 3600);

/// Runs a seed.
pub fn run(options: Options) -> Result<Report, Failure> {
    remember_panics();
    PANIC.set(None);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread");
    let trace = {
        let _inside = runtime.enter();
        Arc::new(Trace::new(options.echo))
    };
    let play = Play::run(options, Arc::clone(&trace));
    let played = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async { timeout(ENDLESS, play).await })
    }));
    let hash = trace.hash();
    // What is left of the run ends here, without a word.
    drop(runtime);
    match (played, PANIC.take()) {
        (Ok(Ok(counts)), None) => Ok(Report { hash, counts }),
        (Ok(Err(_)), None) => Err(failure("it does not end".to_owned(), hash, &trace)),
        (Err(_), None) => Err(failure("it failed without a word".to_owned(), hash, &trace)),
        (_, Some(what)) => Err(failure(what, hash, &trace)),
    }
}

fn failure(what: String, hash: u64, trace: &Trace) -> Failure {
    let trace = trace.lines();
    Failure { what, hash, trace }
}

/// Has a task of the product panicked?
pub(crate) fn look_for_panics() {
    if let Some(what) = PANIC.with_borrow(Clone::clone) {
        panic!("{what}");
    }
}

fn remember_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let in_a_run = tokio::runtime::Handle::try_current().is_ok();
            if !in_a_run {
                return usual(info);
            }
            PANIC.with_borrow_mut(|first| {
                first.get_or_insert_with(|| {
                    let place = info
                        .location()
                        .map(|place| format!(" ({}:{})", place.file(), place.line()));
                    let payload = info.payload();
                    let literal = payload.downcast_ref::<&str>().copied();
                    let what = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
                    let what = what.unwrap_or("a panic");
                    format!("{what}{}", place.unwrap_or_default())
                });
            });
        }));
    });
}
