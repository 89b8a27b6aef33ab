//! Giving up mirrors that are not needed any more, and putting things right after a failure or a crash.

use std::path::Path;

use replication::events::Level;
use target_core::scsi_model::control::{Flags, OutVerb};

use super::{
    Generations, State,
    choice::AGAIN,
    making::{Pairs, control},
    say_once, tell, usage,
};
use crate::{config::Media, service::Service};

impl Generations {
    /// After a start: what was in hand when the daemon ended is no image. To be called before hosts get in. What cannot be
    /// put right now is an event and is tried again: it keeps nobody from being served.
    pub(crate) async fn recover(&self, service: &Service) {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        for done in [
            self.look(service, state).await,
            self.let_go(service, state).await.map(drop),
        ] {
            if let Err(why) = done {
                tell(service, Level::Error, why);
            }
        }
    }

    /// Puts down what was left in hand, and strikes out what was changed by hand. Comes before anything that relies on the
    /// book.
    pub(super) async fn look(&self, service: &Service, state: &mut State) -> Result<(), String> {
        if !state.book.in_hand.is_empty() {
            let mut book = state.book.clone();
            let unpaired = book.put_down(&service.array.pairs());
            // Those made for it stay in hand until they are gone.
            for mirror in &unpaired {
                if let (true, Some(primary)) = (
                    book.made.contains_key(mirror),
                    state.book.in_hand.get(mirror).copied(),
                ) {
                    book.in_hand.insert(*mirror, primary);
                }
            }
            self.keep(state, book)?;
            for mirror in unpaired {
                if state.book.made.contains_key(&mirror) {
                    self.remove_volume(service, state, mirror).await;
                }
            }
        }
        let mut book = state.book.clone();
        let found = book.compare(&service.array.pairs());
        if !found.changed {
            return Ok(());
        }
        self.keep(state, book)?;
        for (generation, why) in found.lost {
            state.said.remove(&format!("generation {}", generation.number));
            let text = format!("generation {} is none any more: {why}", generation.called());
            tell(service, Level::Warning, text);
        }
        Ok(())
    }

    /// Cancels the pairs of spent mirrors that are not needed, and deletes those volumes that were made on demand.
    pub(super) async fn let_go(&self, service: &Service, state: &mut State) -> Result<Vec<String>, String> {
        let mut done = Vec::new();
        let pool = service.config().await.generations.pool;
        for (mirror, spent) in state.book.surplus(&pool) {
            let config = service.config().await;
            if usage(service, &config, &state.book)
                .of_mirror(mirror, &AGAIN)
                .is_some()
            {
                // It stays spent, and is looked at again with the next surplus.
                continue;
            }
            let mut book = state.book.clone();
            book.spent.remove(&mirror);
            book.in_hand.insert(mirror, spent.primary);
            self.keep(state, book)?;
            let pair = Pairs::from([(spent.primary, mirror)]);
            let cancelled = control(service, OutVerb::Cancel, Flags::default(), &pair).await;
            let topic = format!("mirror {mirror}");
            if let Err(refusal) = cancelled {
                let mut book = state.book.clone();
                book.in_hand.remove(&mirror);
                book.spent.insert(mirror, spent);
                self.keep(state, book)?;
                say_once(
                    service,
                    state,
                    topic,
                    format!("mirror {mirror} is not let go: {refusal}"),
                );
                continue;
            }
            state.said.remove(&topic);
            if state.book.made.contains_key(&mirror) {
                if self.remove_volume(service, state, mirror).await {
                    done.push(format!("volume {mirror} was deleted with its file"));
                }
                continue;
            }
            let mut book = state.book.clone();
            book.in_hand.remove(&mirror);
            self.keep(state, book)?;
            let free = if pool.contains(&mirror) {
                "free in the pool"
            } else {
                "in no pair any more"
            };
            done.push(format!("volume {mirror} is {free}"));
        }
        Ok(done)
    }

    /// A volume that was made on demand goes, with its file: did it? One that cannot go is from then on as if it had been made
    /// by hand.
    async fn remove_volume(&self, service: &Service, state: &mut State, number: u32) -> bool {
        let file = state.book.made.get(&number).cloned().unwrap_or_default();
        let result = delete_with_file(service, number, &file).await;
        if let Err(why) = &result {
            let text =
                format!("volume {number} is not needed any more and stays: {why}; `volume delete {number}`");
            tell(service, Level::Warning, text);
        }
        let mut book = state.book.clone();
        book.made.remove(&number);
        book.in_hand.remove(&number);
        if let Err(why) = self.keep(state, book) {
            // It stays in hand, and is looked for again.
            tell(service, Level::Error, why);
        }
        result.is_ok()
    }
}

/// The volume first: a crash in between leaves a file that the book knows. Only a file that was made for it is removed.
async fn delete_with_file(service: &Service, number: u32, file: &Path) -> Result<(), String> {
    if let Some(volume) = service.config().await.volumes.get(&number) {
        if volume.media != Media::File(file.to_owned()) {
            return Err(format!("its medium is not {}", file.display()));
        }
        service.delete_volume(number).await?;
    }
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", file.display()))
        }
        _ => Ok(()),
    }
}
