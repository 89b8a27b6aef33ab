//! SPLIT with REMOTE: a backup at the far site, by a command given here (Fig. 4).
//!
//! The remote pairs are split, at one instant for all of them: what is on its way is sent (410), what is written later is marked and not sent
//! (420), and a pair that was still copying brings the image over first. When the far volumes hold the image the command is forwarded (430), and the
//! peer makes its local mirrors equal if they are not (440, 460) and splits them (450). Then the pairs go on: the marked tracks are
//! sent (470). The follower is never told of the split: its volumes answer no host at any step, and if this system dies in between, the far
//! volumes hold the image, and the pairs go on when it is back (`in_backup`).
//!
//! Volumes that are mirrored to several systems have one instant as well, and the backup is at all of them or at none. Each is asked first; what fails
//! afterwards (a link, a disk, a kill) is undone: mirrors that were split follow again. What may have to be undone is written down before it is begun
//! (`undo`) and crossed out in one step when all have answered, so it holds through restarts and lost answers too. A follower undoes only the very
//! split that it made for this leader (`image`); a later one is another's.

use std::{sync::Arc, time::Duration};

use link_proto::FailureCode;
use replication_engine::{
    command::{Command, Summary, Verb},
    ids::VolumeId,
    state::PairState,
};
use target_core::scsi_model::control::{
    Flags, OutVerb, Refusal, RefusalKind, Request as ControlRequest, SystemId, VolumeNumber, VolumePair,
};
use tokio::{task::JoinSet, time::Instant};

use super::{refusals::refusal, remote::of_peer};
use crate::{
    array::Array,
    events::{ArrayEvent, Level},
    machine::Mutation,
    remote::{OrderError, RemotePair},
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
        let (sites, locals) = self.sites(members)?;
        let pairs: Vec<RemotePair> = sites.iter().flat_map(|site| site.pairs.clone()).collect();
        for pair in &pairs {
            self.compare_now(pair).await.map_err(|error| of_peer(&error))?;
            self.undo_backup(pair).await.map_err(|error| of_peer(&error))?;
        }
        let split = Verb::Split {
            instant: false,
            strict_hold: false,
            force: false,
        };
        self.run_command(all(split, &pairs, &locals, true)).await?;
        // Would the peers do it? Nothing is held back for a refusal.
        self.forward_to_all(&sites, true).await?;
        if dry_run {
            let owed = pairs.iter().filter_map(|pair| self.view_of(pair.foreign_id()));
            let tracks = owed.map(|view| view.remaining).sum();
            return Ok(Summary { tracks });
        }
        self.begin_backup(&sites)?;
        let begun = Instant::now();
        let was_apart = self.apart(&locals);
        let mut taken = self.take_image(&sites, &pairs, &locals).await;
        if taken.is_ok() {
            // The backup is there, at all systems: nobody undoes it from here on.
            taken = taken.and_then(|summary| self.keep_images(&pairs).map(|()| summary));
        }
        if taken.is_err() {
            self.unsplit(&locals, &was_apart).await;
        }
        let resumed = self.resume(&pairs).await;
        let held = begun.elapsed();
        if let Ok(settled) = &resumed {
            self.end_backups(settled)?;
        }
        if taken.is_err() {
            // Who does not hear of it now does when the link is there.
            for pair in pairs
                .iter()
                .filter_map(|pair| self.remote.pair_of(pair.foreign_id()))
            {
                drop(self.undo_backup(&pair).await);
            }
        }
        let summary = taken?;
        resumed?;
        let list: Vec<String> = sites.iter().flat_map(Site::names).collect();
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

    /// The members, by the systems that they are mirrored to; and the local pairs among them.
    fn sites(&self, members: &[VolumePair]) -> Result<(Vec<Site>, Locals), Refusal> {
        let (mut sites, mut locals) = (Vec::<Site>::new(), Locals::new());
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
            let there = VolumePair {
                primary: pair.far,
                mirror: Some(mirror),
            };
            match sites.iter_mut().find(|site| site.peer == pair.peer) {
                Some(site) => {
                    site.pairs.push(pair);
                    site.there.push(there);
                }
                None => sites.push(Site {
                    peer: pair.peer.clone(),
                    pairs: vec![pair],
                    there: vec![there],
                }),
            }
        }
        if sites.is_empty() {
            let message = "no volume was named that is mirrored to another system";
            return Err(refusal(RefusalKind::InvalidParameter { byte: 0 }, message));
        }
        Ok((sites, locals))
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
        sites: &[Site],
        pairs: &[RemotePair],
        locals: &[(VolumeId, VolumeId)],
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
            let state = |pair: &RemotePair| self.view_of(pair.foreign_id()).map(|view| view.state);
            let late = pairs.iter().find(|pair| state(pair) != Some(PairState::Split));
            let Some(late) = late.filter(|_| !self.planted(Mutation::SplitBeforeWhole)) else {
                break;
            };
            let waits =
                |pair: &&RemotePair| matches!(state(pair), Some(PairState::Split | PairState::Splitting));
            if let Some(lost) = pairs.iter().find(|pair| !waits(pair)) {
                let message = format!("the link to {} was lost while the image was sent", lost.peer);
                return Err(refusal(RefusalKind::NoPath, message));
            }
            if tokio::time::timeout_at(deadline, changes.changed())
                .await
                .is_err()
            {
                let message = format!(
                    "{} did not have the image within {} s: the copy goes on, try again when it has ended",
                    late.peer,
                    DEADLINE.as_secs()
                );
                return Err(refusal(RefusalKind::State, message));
            }
        }
        self.is_whole(pairs)?;
        self.forward_to_all(sites, false).await?;
        self.is_whole(pairs)?;
        Ok(summary)
    }

    /// Nobody but us could compare notes meanwhile: what is linked has been so without a break, and the peer has lost nothing.
    fn is_whole(&self, pairs: &[RemotePair]) -> Result<(), Refusal> {
        let Some(lost) = pairs
            .iter()
            .find(|pair| !self.remote.is_linked(pair.foreign_id()))
        else {
            return Ok(());
        };
        let message = format!("the link to {} was lost while the image was taken", lost.peer);
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

    /// The split there, at all systems at a time; the first refusal counts.
    async fn forward_to_all(self: &Arc<Self>, sites: &[Site], dry_run: bool) -> Result<(), Refusal> {
        let mut asked = JoinSet::new();
        for site in sites {
            let (array, first, there) = (Arc::clone(self), site.pairs[0].clone(), site.there.clone());
            asked.spawn(async move { array.forward(&first, OutVerb::Split, there, dry_run).await });
        }
        let mut all = Ok(());
        while let Some(answer) = asked.join_next().await {
            let answer = answer.map_err(|error| refusal(RefusalKind::Internal, error.to_string()));
            let answer = answer.and_then(|answer| answer.map_err(|error| of_peer(&error)));
            all = all.and(answer);
        }
        all
    }

    async fn forward(
        self: &Arc<Self>,
        pair: &RemotePair,
        verb: OutVerb,
        members: Vec<VolumePair>,
        dry_run: bool,
    ) -> Result<(), OrderError> {
        let request = ControlRequest::Out {
            verb,
            flags: Flags::default(),
            members,
            dry_run,
        };
        self.forward_request(pair, &request).await.map(drop)
    }

    /// A mirror there was perhaps split for a backup that did not come to be at all systems: it follows again. By one who gives orders.
    pub(crate) async fn undo_backup(self: &Arc<Self>, pair: &RemotePair) -> Result<(), OrderError> {
        let Some(mirror) = pair.undo else { return Ok(()) };
        let there = VolumePair {
            primary: pair.far,
            mirror: Some(mirror),
        };
        let establish = OutVerb::Establish { remote: None };
        match self.forward(pair, establish, vec![there], false).await {
            Ok(()) => {}
            Err(OrderError::Refused(code, why)) if code != FailureCode::Busy => {
                let text = format!(
                    "{}:{} keeps the image of a backup that did not come to be everywhere: {why}",
                    pair.peer, mirror.0
                );
                self.events.push(ArrayEvent::Told {
                    kind: "backup",
                    level: Level::Warning,
                    text,
                });
            }
            Err(error) => return Err(error),
        }
        self.change_registry(pair, |known| known.undo = None)
    }

    /// Durably, before anything is held back. One system takes its image as a whole or not at all, so only what is at several may have to be undone.
    fn begin_backup(&self, sites: &[Site]) -> Result<(), Refusal> {
        for site in sites {
            for (pair, there) in site.pairs.iter().zip(&site.there) {
                self.change_registry(pair, |known| {
                    known.in_backup = true;
                    known.undo = there.mirror.filter(|_| sites.len() > 1);
                })
                .map_err(|error| of_peer(&error))?;
            }
        }
        self.note_change();
        Ok(())
    }

    /// In one step, so that a system that dies here undoes all of them or none.
    fn keep_images(&self, pairs: &[RemotePair]) -> Result<(), Refusal> {
        if pairs.iter().all(|pair| pair.peer == pairs[0].peer) {
            return Ok(());
        }
        let foreign: Vec<u32> = pairs.iter().map(|pair| pair.foreign).collect();
        self.remote
            .keep_images(&foreign)
            .map_err(|error| refusal(RefusalKind::Internal, error.to_string()))
    }

    fn end_backups(&self, pairs: &[RemotePair]) -> Result<(), Refusal> {
        for pair in pairs {
            self.change_registry(pair, |known| known.in_backup = false)
                .map_err(|error| of_peer(&error))?;
        }
        self.note_change();
        Ok(())
    }
}

/// Local pairs among the members: primary and mirror.
type Locals = Vec<(VolumeId, VolumeId)>;

/// One of the other systems, and what it has a part of.
struct Site {
    peer: SystemId,
    /// At least one.
    pairs: Vec<RemotePair>,
    /// Each one's volume there, and the mirror that is to be split.
    there: Vec<VolumePair>,
}

impl Site {
    fn names(&self) -> impl Iterator<Item = String> {
        let mirrors = self.there.iter().filter_map(|pair| pair.mirror);
        mirrors.map(|mirror| format!("{}:{}", self.peer, mirror.0))
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
