//! The rules, run.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Generations, State, list, making::Maker, say_once, usage};
use crate::service::Service;

/// What is said of failures to give up mirrors.
const LET_GO: &str = "spent mirrors";
/// How often it is asked whether a rule is due.
const BEAT: Duration = Duration::from_secs(1);
/// Beats between two looks at what was kept because it was in use.
const PATIENCE: u32 = 10;

/// Runs the rules until `stop`; what was begun is ended.
pub(crate) async fn run(service: Arc<Service>, stop: CancellationToken) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut beats = 0u32;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => {}
        }
        beats = beats.wrapping_add(1);
        service
            .generations
            .beat(&service, now_ms(), beats.is_multiple_of(PATIENCE))
            .await;
    }
}

/// The wall clock.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Generations {
    /// Makes what is due at this time, and drops what has expired. `all`: looks also at rules that are not due, and at what
    /// could not be given up before; spent mirrors are looked at each time.
    pub(crate) async fn beat(&self, service: &Service, now_ms: u64, all: bool) {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        let rules = &state.book.rules;
        let due: Vec<bool> = rules.iter().map(|rule| rule.due(now_ms)).collect();
        if !all && !due.contains(&true) && state.book.spent.is_empty() {
            return;
        }
        self.look_or_tell(service, state).await;
        for (index, due) in due.into_iter().enumerate() {
            if due {
                self.due(service, state, index, now_ms).await;
            }
            if due || all {
                self.expire(service, state, index, now_ms).await;
            }
        }
        match self.let_go(service, state).await {
            Ok(_) => drop(state.said.remove(LET_GO)),
            Err(why) => say_once(service, state, LET_GO.to_owned(), why),
        }
    }

    async fn due(&self, service: &Service, state: &mut State, index: usize, now_ms: u64) {
        let primaries = state.book.rules[index].primaries.clone();
        let result = self
            .make(service, state, &primaries, Maker::Rule { now_ms })
            .await;
        let topic = format!("rule {}", list(&primaries));
        match result {
            Ok(_) => drop(state.said.remove(&topic)),
            Err(why) => {
                state.book.rules[index].failed(now_ms);
                let text = format!(
                    "no generation was made by the rule of {}: {why}",
                    list(&primaries)
                );
                say_once(service, state, topic, text);
            }
        }
    }

    async fn expire(&self, service: &Service, state: &mut State, index: usize, now_ms: u64) {
        let expired = state.book.rules[index].expired(&state.book.generations, now_ms);
        if expired.is_empty() {
            return;
        }
        let config = service.config().await;
        let usage = usage(service, &config, &state.book);
        for number in expired {
            let Some(generation) = state.book.get(number) else {
                continue;
            };
            let topic = format!("generation {number}");
            if let Some(why) = usage.of_generation(generation) {
                let text = format!(
                    "generation {} has expired and is kept: {why}",
                    generation.called()
                );
                say_once(service, state, topic, text);
                continue;
            }
            if let Err(why) = self.discard(service, state, number, "by its rule") {
                return say_once(service, state, topic, why);
            }
        }
    }
}
