//! Restores from the second side.

use std::{sync::Arc, time::Duration};

use replication_engine::state::PairState;
use target_core::scsi_model::control::{Flags, OutVerb};
use tokio::time::{Instant, sleep};

use super::{NONE, Play};
use crate::{counts::Happening, ledger::Found, world::LONG};

impl Play {
    /// The first side gets what the second holds, at once where it is protected.
    pub(super) async fn restore(&mut self, volumes: &[u32], (from, to): (usize, usize), held: Found) {
        self.world.pause().await;
        let protected = self.rng.chance(600);
        let flags = Flags { protected, ..NONE };
        let mut done = Vec::new();
        for volume in volumes {
            self.mend_all();
            let pair = self.world.members(from, *volume, to);
            let pair: Vec<_> = pair.into_iter().collect();
            if self.command(from, OutVerb::Restore, flags, &pair).await.is_ok() {
                done.push(*volume);
            }
        }
        let held: Found = held
            .into_iter()
            .filter(|((volume, _), _)| done.contains(volume))
            .collect();
        if self.rng.chance(500) {
            self.cut_soon((from, to));
        }
        // What is not there yet is read elsewhere, and waits for the link; it is never what was there before.
        let wait = Duration::from_millis(self.rng.below(3000));
        self.mend_after(wait).await;
        if protected {
            self.is_still(from, &held, "what is restored").await;
        }
        self.restored(&done, (from, to), protected).await;
        if !done.is_empty() {
            self.counts.note(if protected {
                Happening::ProtectedRestore
            } else {
                Happening::Restore
            });
        }
        self.is_still(from, &held, "what was restored").await;
        if protected {
            self.is_still(to, &held, "the image that was restored").await;
        }
        self.world.ledger.rebase(&held);
        self.world.resume();
    }

    /// Until the restores have ended; those that were cut are given again.
    async fn restored(&mut self, volumes: &[u32], (from, to): (usize, usize), protected: bool) {
        let until = Instant::now() + LONG;
        let end = if protected {
            PairState::Split
        } else {
            PairState::Duplex
        };
        loop {
            self.mend_all();
            let world = Arc::clone(&self.world);
            let state = |volume: u32| world.state(from, volume, to);
            let there = |volume: u32| world.part(to, volume, from).map(|(.., state)| state);
            let restored = |volume: u32| !protected && state(volume) == Some(PairState::Restored);
            let ended = |volume: u32| state(volume) == Some(end) && there(volume) == Some(end);
            if volumes.iter().all(|volume| restored(*volume) || ended(*volume)) {
                return;
            }
            for volume in volumes {
                if !protected && state(*volume) == Some(PairState::Suspended) {
                    let pair: Vec<_> = self.world.members(from, *volume, to).into_iter().collect();
                    let _ = self.command(from, OutVerb::Restore, NONE, &pair).await;
                }
            }
            assert!(
                Instant::now() < until,
                "the restore does not end:\n{}",
                self.world.picture()
            );
            sleep(Duration::from_millis(300)).await;
        }
    }
}
