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

/// Runs the rules until `stop`; what was begun is ended.
pub(crate) async fn run(service: Arc<Service>, stop: CancellationToken) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => {}
        }
        service.generations.beat(&service, now_ms()).await;
    }
}

/// The wall clock.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Generations {
    /// Makes what is due at this time, drops what has expired, and gives up what could not be given up before.
    pub(crate) async fn beat(&self, service: &Service, now_ms: u64) {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        if state.book.is_idle() {
            return;
        }
        self.look_or_tell(service, state).await;
        for index in 0..state.book.rules.len() {
            // Before as well: what goes now need not be recycled.
            self.expire(service, state, index, now_ms).await;
            if state.book.rules[index].due(now_ms) {
                self.due(service, state, index, now_ms).await;
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
        let rule = &state.book.rules[index];
        if rule.expired(&state.book.generations, now_ms).is_empty() {
            return;
        }
        let config = service.config().await;
        let usage = usage(service, &config, &state.book);
        // None goes for one whose copy may yet fail.
        let whole = usage.whole(&state.book.generations);
        let expired = rule.expired(&whole, now_ms);
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
