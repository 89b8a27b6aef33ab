//! SPLIT with REMOTE: a backup at the far site, by a command given here (Fig. 4).
//!
//! The remote pairs are split, at one instant for all of them: what is on its way is sent (410), what is written later is marked and not sent
//! (420), and a pair that was still copying brings the image over first. When the far volumes hold the image the command is forwarded (430), and the
//! peer makes its local mirrors equal if they are not (440, 460) and splits them (450). Then the pairs go on: the marked tracks are
//! sent (470). The follower is never told of the split: its volumes answer no host at any step, and if this system dies in between, the far
//! volumes hold the image, and the pairs go on when it is back (`in_backup`).

use std::{sync::Arc, time::Duration};

use replication_engine::{
    command::{Command, Summary, Verb},
    ids::VolumeId,
    state::PairState,
};
use target_core::scsi_model::control::{
    Flags, OutVerb, Refusal, RefusalKind, Request as ControlRequest, VolumeNumber, VolumePair,
};
use tokio::time::Instant;

use super::{refusals::refusal, remote::of_peer};
use crate::{
    array::Array,
    events::{ArrayEvent, Level},
    machine::Mutation,
    remote::RemotePair,
};

/// Longest wait for the far volumes to hold the image.
const DEADLINE: Duration = Duration::from_secs(30);

impl Array {
    /// Each member: a volume of this system that leads a remote pair, and a mirror of the far volume, by its number there; or one that leads
    /// none, and a local mirror of it, which is split at the same instant.
    pub(super) async fn backup(
        self: &Arc<Self>,
        members: &[VolumePair],
        dry_run: bool,
    ) -> Result<Summary, Refusal> {
        let _order = self.remote_orders().await;
        let mut pairs = Vec::new();
        let (mut there, mut locals) = (Vec::new(), Vec::new());
        for member in members {
            let leads = |pair: &RemotePair| pair.leads && pair.local == member.primary;
            if let Some(mirror) = member.mirror
                && self.is_local_pair(member.primary, mirror)
                && !self.remote.pairs().iter().any(leads)
            {
                locals.push((VolumeId(member.primary.0), VolumeId(mirror.0)));
                continue;
            }
            let pair = self.pair_to_back_up(member.primary)?;
            let Some(mirror) = member.mirror else {
                let message = "the mirror at the far site is named by its number there";
                return Err(refusal(RefusalKind::InvalidParameter { byte: 0 }, message));
            };
            there.push(VolumePair {
                primary: pair.far,
                mirror: Some(mirror),
            });
            pairs.push(pair);
        }
        let Some(first) = pairs.first().cloned() else {
            let message = "no volume was named that is mirrored to another system";
            return Err(refusal(RefusalKind::InvalidParameter { byte: 0 }, message));
        };
        if pairs.iter().any(|pair| pair.peer != first.peer) {
            let message = "these volumes are mirrored to several systems: one backup is taken at one";
            return Err(refusal(RefusalKind::State, message));
        }
        for pair in &pairs {
            self.compare_now(pair).await.map_err(|error| of_peer(&error))?;
        }
        let split = Verb::Split {
            instant: false,
            strict_hold: false,
            force: false,
        };
        self.run_command(all(split, &pairs, &locals, true)).await?;
        // Would the peer do it? Nothing is held back for a refusal.
        self.forward(&first, &there, true).await?;
        if dry_run {
            let owed = pairs.iter().filter_map(|pair| self.view_of(pair.foreign_id()));
            let tracks = owed.map(|view| view.remaining).sum();
            return Ok(Summary { tracks });
        }
        self.set_in_backup(&pairs, true)?;
        let begun = Instant::now();
        let was_apart = self.apart(&locals);
        let taken = self.take_image(&pairs, &locals, (&first, &there)).await;
        if taken.is_err() {
            self.unsplit(&locals, &was_apart).await;
        }
        let resumed = self.resume(&pairs).await;
        let held = begun.elapsed();
        if let Ok(settled) = &resumed {
            self.set_in_backup(settled, false)?;
        }
        let summary = taken?;
        resumed?;
        let list: Vec<String> = there
            .iter()
            .filter_map(|pair| pair.mirror)
            .map(|mirror| format!("{}:{}", first.peer, mirror.0))
            .collect();
        let text = format!(
            "backup to {}: the image is that of the command; later writes were held back for {} ms",
            list.join(", "),
            held.as_millis()
        );
        self.events.push(ArrayEvent::Told {
            kind: "backup",
            level: Level::Info,
            text,
        });
        Ok(summary)
    }

    fn pair_to_back_up(&self, primary: VolumeNumber) -> Result<RemotePair, Refusal> {
        let mut leading = self
            .remote
            .pairs()
            .into_iter()
            .filter(|pair| pair.leads && pair.local == primary);
        let (Some(pair), None) = (leading.next(), leading.next()) else {
            let message = format!(
                "volume {} is not the primary of exactly one remote pair",
                self.name(primary)
            );
            return Err(refusal(RefusalKind::NoSuchPair, message));
        };
        if !self.remote.is_up(&pair.peer) {
            let message = format!("the link to {} is down: `holdfast link` says why", pair.peer);
            return Err(refusal(RefusalKind::NoPath, message));
        }
        let state = self.view_of(pair.foreign_id()).map(|view| view.state);
        if let Some(PairState::Copy | PairState::Duplex | PairState::Restored) = state {
            return Ok(pair);
        }
        let state = state.unwrap_or_default();
        let message = format!(
            "the remote pair of volume {} is {state}: establish it first",
            self.name(primary)
        );
        Err(refusal(RefusalKind::State, message))
    }

    async fn take_image(
        self: &Arc<Self>,
        pairs: &[RemotePair],
        locals: &[(VolumeId, VolumeId)],
        (first, there): (&RemotePair, &[VolumePair]),
    ) -> Result<Summary, Refusal> {
        let split = Verb::Split {
            instant: false,
            strict_hold: false,
            force: false,
        };
        let summary = self.run_command(all(split, pairs, locals, false)).await?;
        let mut changes = self.changes();
        let deadline = Instant::now() + DEADLINE;
        loop {
            changes.mark_unchanged();
            let states: Vec<_> = pairs
                .iter()
                .map(|pair| self.view_of(pair.foreign_id()).map(|view| view.state))
                .collect();
            let whole = states.iter().all(|state| *state == Some(PairState::Split));
            if whole || self.planted(Mutation::SplitBeforeWhole) {
                break;
            }
            if states
                .iter()
                .any(|state| !matches!(state, Some(PairState::Split | PairState::Splitting)))
            {
                let message = format!("the link to {} was lost while the image was sent", first.peer);
                return Err(refusal(RefusalKind::NoPath, message));
            }
            if tokio::time::timeout_at(deadline, changes.changed())
                .await
                .is_err()
            {
                let message = format!(
                    "{} did not have the image within {} s: the copy goes on, try again when it has ended",
                    first.peer,
                    DEADLINE.as_secs()
                );
                return Err(refusal(RefusalKind::State, message));
            }
        }
        self.is_whole(pairs, first)?;
        self.forward(first, there, false).await?;
        self.is_whole(pairs, first)?;
        Ok(summary)
    }

    /// Nobody but us could compare notes meanwhile: what is linked has been so without a break, and the peer has lost nothing.
    fn is_whole(&self, pairs: &[RemotePair], first: &RemotePair) -> Result<(), Refusal> {
        if pairs.iter().all(|pair| self.remote.is_linked(pair.foreign_id())) {
            return Ok(());
        }
        let message = format!("the link to {} was lost while the image was taken", first.peer);
        Err(refusal(RefusalKind::NoPath, message))
    }

    /// The pairs go on, whatever became of the image; returns those that do already.
    async fn resume(self: &Arc<Self>, pairs: &[RemotePair]) -> Result<Vec<RemotePair>, Refusal> {
        let mut settled = Vec::new();
        for pair in pairs {
            let state = self.view_of(pair.foreign_id()).map(|view| view.state);
            if state == Some(PairState::Splitting) {
                // Not to be turned back half way: `look_at` resumes it when it has ended.
                continue;
            }
            settled.push(pair.clone());
            self.take_back(pair, link_proto::Action::Establish)
                .await
                .map_err(|error| of_peer(&error))?;
        }
        let establish = Verb::Establish { full: false };
        if !settled.is_empty() {
            self.run_command(all(establish, &settled, &[], false)).await?;
        }
        Ok(settled)
    }

    /// Those of the local pairs that are apart already, whose mirrors keep what they have.
    fn apart(&self, locals: &[(VolumeId, VolumeId)]) -> Vec<VolumeId> {
        let mirrors = locals.iter().map(|(_, mirror)| *mirror);
        mirrors
            .filter(|mirror| {
                self.view_of(*mirror)
                    .is_some_and(|view| !view.state.keeps_two_legs())
            })
            .collect()
    }

    /// The image did not come to be: local mirrors that were split for it follow again.
    async fn unsplit(self: &Arc<Self>, locals: &[(VolumeId, VolumeId)], was_apart: &[VolumeId]) {
        let locals: Vec<_> = locals
            .iter()
            .copied()
            .filter(|(_, mirror)| !was_apart.contains(mirror))
            .filter(|(_, mirror)| {
                self.view_of(*mirror)
                    .is_some_and(|view| view.state == PairState::Split)
            })
            .collect();
        let establish = Verb::Establish { full: false };
        if !locals.is_empty()
            && let Err(refused) = self.run_command(all(establish, &[], &locals, false)).await
        {
            tracing::warn!(
                "a local mirror stays split after a backup that failed: {}",
                refused.message
            );
        }
    }

    async fn forward(
        self: &Arc<Self>,
        first: &RemotePair,
        there: &[VolumePair],
        dry_run: bool,
    ) -> Result<(), Refusal> {
        let request = ControlRequest::Out {
            verb: OutVerb::Split,
            flags: Flags::default(),
            members: there.to_vec(),
            dry_run,
        };
        let forwarded = self.forward_request(first, &request).await;
        forwarded.map(drop).map_err(|error| of_peer(&error))
    }

    fn set_in_backup(&self, pairs: &[RemotePair], in_backup: bool) -> Result<(), Refusal> {
        for pair in pairs {
            self.change_registry(pair, |known| known.in_backup = in_backup)
                .map_err(|error| of_peer(&error))?;
        }
        self.note_change();
        Ok(())
    }
}

fn all(verb: Verb, pairs: &[RemotePair], locals: &[(VolumeId, VolumeId)], dry_run: bool) -> Command {
    let remote = pairs.iter().map(RemotePair::volumes);
    Command::Pair {
        verb,
        members: remote.chain(locals.iter().copied()).collect(),
        dry_run,
    }
}
