//! Backups at the far site (Fig. 4).

use std::time::Duration;

use replication_engine::state::PairState;
use target_core::scsi_model::control::{Flags, OutVerb};
use tokio::time::sleep;

use super::{NONE, Play};
use crate::{counts::Happening, ledger::Found, network::Cut};

/// The image of a backup: the system that has it, and what is on its mirrors.
type Image = (usize, Found);

impl Play {
    /// One with much on its way, or while pairs copy; nothing that happens afterwards changes it.
    pub(super) async fn back_up(&mut self) {
        self.say("backup");
        self.slow_followers();
        if self.rng.chance(500) {
            self.fall_behind().await;
        }
        self.burst(40).await;
        if self.rng.chance(250) {
            let ends = self.any_leg();
            self.cut_soon(ends);
        }
        let images = self.take_backup().await;
        for _ in 0..self.rng.below(4) {
            self.pass_time(1000).await;
            self.fault().await;
        }
        for (site, held) in images {
            self.is_still(site, &held, "the backup").await;
        }
    }

    /// Hosts write while no link is there; when it is again, pairs begin to copy, which this does not wait for.
    async fn fall_behind(&mut self) {
        for low in 0..self.world.sites.len() {
            for high in low + 1..self.world.sites.len() {
                self.world.cables.cut((low, high), Cut::Told, false);
            }
        }
        self.pass_time(500).await;
        self.burst(40).await;
        self.mend_all();
        for _ in 0..400 {
            let copies = |volume| {
                let (leader, follower) = self.world.leader(volume)?;
                let state = self.world.state(leader, volume, follower)?;
                (state == PairState::Copy).then_some(())
            };
            if copies(1).or(copies(2)).is_some() {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The image of both volumes is that of one moment of the command.
    pub(super) async fn take_backup(&mut self) -> Vec<Image> {
        let flags = Flags { remote: true, ..NONE };
        let (Some(one), Some(other)) = (self.world.leader(1), self.world.leader(2)) else {
            return Vec::new();
        };
        let together = one == other;
        let lists: &[&[(u32, u32)]] = if together {
            &[&[(1, 3), (2, 4)]]
        } else {
            &[&[(1, 3)], &[(2, 4)]]
        };
        let mut images = Vec::new();
        for (list, (leader, peer)) in lists.iter().zip([one, other]) {
            let copies =
                |(volume, _): &(u32, u32)| self.world.state(leader, *volume, peer) == Some(PairState::Copy);
            let copies = list.iter().any(copies);
            let before = self.world.ledger.now();
            let done = self.command(leader, OutVerb::Split, flags, list).await;
            let after = self.world.ledger.now();
            if done.is_err() {
                self.counts.note(Happening::BackupFailed);
                continue;
            }
            let (mut image, mut mirrors) = (Found::new(), Found::new());
            for (volume, mirror) in *list {
                let Some(found) = self.world.found(peer, *mirror).await else {
                    continue;
                };
                let of_volume = found.iter().map(|((_, block), held)| ((*volume, *block), *held));
                image.extend(of_volume);
                mirrors.extend(found);
            }
            self.counts.note(if copies {
                Happening::BackupOfCopy
            } else {
                Happening::Backup
            });
            self.world.ledger.is_image(&image, (before, after), "the backup");
            images.push((peer, mirrors));
        }
        images
    }
}
