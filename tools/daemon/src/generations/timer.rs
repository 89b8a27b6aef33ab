//! The rules, run.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use replication::events::Level;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Generations, State, list, tell, usage};
use crate::service::Service;

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
    /// Makes what is due at this time, and drops what has expired. `all`: looks also at rules that are not due.
    pub(crate) async fn beat(&self, service: &Service, now_ms: u64, all: bool) {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        for index in 0..state.book.rules.len() {
            let due = state.book.rules[index].due(now_ms);
            if due {
                self.due(service, state, index, now_ms).await;
            }
            if due || all {
                self.expire(service, state, index, now_ms).await;
            }
        }
    }

    async fn due(&self, service: &Service, state: &mut State, index: usize, now_ms: u64) {
        let primaries = state.book.rules[index].primaries.clone();
        let result = match self.look(service, state) {
            Ok(()) => self.make(service, state, &primaries, None, true).await,
            Err(why) => Err(why),
        };
        let topic = format!("rule {}", list(&primaries));
        match result {
            Ok(_) => {
                state.said.remove(&topic);
                let mut book = state.book.clone();
                book.rules[index].made(now_ms);
                if let Err(why) = self.keep(state, book) {
                    // It is made again at the next beat otherwise.
                    state.book.rules[index].made(now_ms);
                    tell(service, Level::Error, why);
                }
            }
            Err(why) => {
                state.book.rules[index].failed(now_ms);
                let text = format!("no generation was made of volumes {}: {why}", list(&primaries));
                say_once(service, state, topic, text);
            }
        }
    }

    async fn expire(&self, service: &Service, state: &mut State, index: usize, now_ms: u64) {
        let expired = state.book.rules[index].expired(&state.book.generations, now_ms);
        if !expired.is_empty() {
            if let Err(why) = self.look(service, state) {
                return tell(service, Level::Error, why);
            }
            let config = service.config().await;
            let usage = usage(service, &config);
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
                state.said.remove(&topic);
                if let Err(why) = self.discard(service, state, number, "by its rule") {
                    return tell(service, Level::Error, why);
                }
            }
        }
        if let Err(why) = self.let_go(service, state).await {
            tell(service, Level::Error, why);
        }
    }
}

/// An event, unless the last one on this topic was the same.
fn say_once(service: &Service, state: &mut State, topic: String, text: String) {
    if state.said.get(&topic) != Some(&text) {
        tell(service, Level::Warning, text.clone());
        state.said.insert(topic, text);
    }
}
