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
//!
//! A backup can be cancelled until the far volumes hold the image; from then on it is a matter of one answer, which is waited for. What was
//! held back goes on in the same way as after any other failure.

mod members;

use std::{pin::pin, sync::Arc, time::Duration};

use link_proto::FailureCode;
use replication_engine::{
    command::{Command, Summary, Verb},
    ids::VolumeId,
    state::PairState,
};
use target_core::scsi_model::control::{
    Flags, OutVerb, Refusal, RefusalKind, Request as ControlRequest, SystemId, VolumeNumber, VolumePair,
};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use self::members::{Members, Site};
use super::{refusals::refusal, remote::of_peer};
use crate::{
    array::Array,
    events::{ArrayEvent, Level},
    machine::Mutation,
    remote::{OrderError, RemotePair},
};

/// Longest wait for the far volumes to hold the image, if nothing else is said.
pub const BACKUP_DEADLINE: Duration = Duration::from_secs(30);

/// A volume to be backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupMember {
    /// A volume of this system that leads a remote pair; or one that leads none, and has a local mirror.
    pub primary: VolumeNumber,
    /// The mirror that gets the image: of the far volume, by its number there, or that local one.
    pub mirror: Option<VolumeNumber>,
    /// The system that it is mirrored to; needed when there are several.
    pub peer: Option<SystemId>,
}

/// How long a backup may take.
#[derive(Debug)]
pub struct BackupTerms {
    /// Longest wait for the far volumes to hold the image.
    pub deadline: Duration,
    /// Cancels the backup when it says `true`. One whose sender is gone never does.
    pub cancelled: Option<watch::Receiver<bool>>,
}

impl Default for BackupTerms {
    fn default() -> Self {
        Self {
            deadline: BACKUP_DEADLINE,
            cancelled: None,
        }
    }
}

/// What became of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupDone {
    /// Tracks that the image still needed; when it was only asked for, that it would need.
    pub tracks: u64,
    /// How long later writes were held back.
    pub held: Duration,
}

impl BackupTerms {
    fn is_cancelled(&self) -> bool {
        self.cancelled
            .as_ref()
            .is_some_and(|cancelled| *cancelled.borrow())
    }

    /// Until it is cancelled.
    async fn cancelled(&self) {
        if let Some(cancelled) = &self.cancelled
            && cancelled.clone().wait_for(|cancelled| *cancelled).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

impl Array {
    /// Takes a backup: images of all these volumes at one instant, at their far sites; or of none of them.
    ///
    /// # Errors
    /// The refusal. Nothing was done, or what was is undone; the remote pairs go on.
    pub async fn back_up(
        self: &Arc<Self>,
        members: &[BackupMember],
        terms: &BackupTerms,
        dry_run: bool,
    ) -> Result<BackupDone, Refusal> {
        let _order = tokio::select! {
            biased;
            () = terms.cancelled() => return Err(not_begun()),
            order = self.remote_orders() => order,
        };
        let members = self.sort_out(members)?;
        for (at, pair) in members.pairs.iter().enumerate() {
            let ready = async {
                self.compare_now(pair).await?;
                self.undo_backup(pair).await
            };
            let failed =
                |error: OrderError| members.refused(at, self.of_pairs(std::slice::from_ref(pair), &error));
            ready.await.map_err(failed)?;
        }
        self.split(&members, true).await?;
        // Would the peers do it? Nothing is held back for a refusal.
        self.forward_to_all(&members, true).await?;
        if dry_run {
            let owed = members.pairs.iter();
            let owed = owed.filter_map(|pair| self.view_of(pair.foreign_id()));
            return Ok(BackupDone {
                tracks: owed.map(|view| view.remaining).sum(),
                held: Duration::ZERO,
            });
        }
        if terms.is_cancelled() {
            return Err(not_begun());
        }
        let list = members.names();
        self.begin_backup(&members.sites)?;
        self.tell_of_backup(
            Level::Info,
            format!("backup to {list} begins: what is written from now on is sent when the image is there"),
        );
        let begun = Instant::now();
        let taken = self.take_image(&members, terms).await;
        // Once it is there, at all systems, nobody undoes it.
        let taken = taken.and_then(|summary| self.keep_images(&members.pairs).map(|()| summary));
        let summary = match taken {
            Ok(summary) => summary,
            Err(refusal) => {
                self.give_up(&members, &refusal).await;
                return Err(refusal);
            }
        };
        let resumed = self.resume(&members.pairs).await;
        let held = begun.elapsed();
        self.end_backups(&resumed?)?;
        let text = format!(
            "backup to {list}: the image is that of the command; later writes were held back for {} ms",
            held.as_millis()
        );
        self.tell_of_backup(Level::Info, text);
        Ok(BackupDone {
            tracks: summary.tracks,
            held,
        })
    }

    /// There is no image. Whoever looks after the pairs has them go on (`look_at`), and undoes what is to be undone: the far system may not answer now.
    async fn give_up(self: &Arc<Self>, members: &Members, refusal: &Refusal) {
        self.unsplit(&members.locals).await;
        let (list, why) = (members.names(), &refusal.message);
        let text = format!("backup to {list}: there is no image, and the pairs go on: {why}");
        self.tell_of_backup(Level::Warning, text);
        self.remote.wake();
    }

    fn tell_of_backup(&self, level: Level, text: String) {
        let kind = "backup";
        self.events.push(ArrayEvent::Told { kind, level, text });
    }

    /// What a peer said, or that it said nothing, with the volumes here that it is about.
    fn of_pairs(&self, pairs: &[RemotePair], error: &OrderError) -> Refusal {
        let names: Vec<String> = pairs.iter().map(|pair| self.name(pair.local)).collect();
        let word = if names.len() == 1 { "volume" } else { "volumes" };
        let mut refusal = of_peer(error);
        refusal.message = format!("{word} {}: {}", names.join(", "), refusal.message);
        refusal
    }

    /// All of them, at one instant.
    async fn split(self: &Arc<Self>, members: &Members, dry_run: bool) -> Result<Summary, Refusal> {
        let split = Verb::Split {
            instant: false,
            strict_hold: false,
            force: false,
        };
        if !dry_run && self.planted(Mutation::SplitOneByOne) {
            let first = all(split, &members.pairs[..1], &[], false);
            drop(self.command(first).await);
        }
        let split = self
            .command(all(split, &members.pairs, &members.locals, dry_run))
            .await;
        split.map_err(|refused| members.refused(refused.member, self.explain(&refused.why)))
    }

    async fn take_image(
        self: &Arc<Self>,
        members: &Members,
        terms: &BackupTerms,
    ) -> Result<Summary, Refusal> {
        let pairs = &members.pairs[..];
        let deadline = Instant::now() + terms.deadline;
        let state = |pair: &RemotePair| self.view_of(pair.foreign_id()).map(|view| view.state);
        let late = || {
            let lacks = |pair: &&RemotePair| {
                state(pair) != Some(PairState::Split) || self.bytes_on_the_way(VolumeNumber(pair.foreign)) > 0
            };
            let peer = &pairs.iter().find(lacks).unwrap_or(&pairs[0]).peer;
            let seconds = terms.deadline.as_secs();
            let message = format!(
                "{peer} did not have the image within {seconds} s: what it lacks is still sent, try again when it is there"
            );
            refusal(RefusalKind::State, message)
        };
        let was_cancelled = || cancelled("was cancelled before the image was there");
        let mut changes = self.changes();
        // It is answered when what was on its way is stable there. Who does not wait for that waits until it is in force, and is undone behind it.
        let mut split = pin!(self.split(members, false));
        let given_up = tokio::select! {
            biased;
            split = &mut split => Ok(split?),
            () = terms.cancelled() => Err(was_cancelled()),
            () = tokio::time::sleep_until(deadline) => Err(late()),
        };
        let summary = match given_up {
            Ok(summary) => summary,
            Err(why) => {
                let in_force = async {
                    loop {
                        changes.mark_unchanged();
                        if !pairs.iter().filter_map(state).any(PairState::keeps_two_legs) {
                            return;
                        }
                        changes.changed().await;
                    }
                };
                tokio::select! {
                    biased;
                    _ = split => {}
                    () = in_force => {}
                }
                return Err(why);
            }
        };
        loop {
            changes.mark_unchanged();
            if pairs.iter().all(|pair| state(pair) == Some(PairState::Split)) {
                break;
            }
            let waits =
                |pair: &&RemotePair| matches!(state(pair), Some(PairState::Split | PairState::Splitting));
            if let Some(lost) = pairs.iter().find(|pair| !waits(pair)) {
                let message = format!("the link to {} was lost while the image was sent", lost.peer);
                return Err(refusal(RefusalKind::NoPath, message));
            }
            let changed = tokio::select! {
                changed = tokio::time::timeout_at(deadline, changes.changed()) => changed,
                () = terms.cancelled() => return Err(was_cancelled()),
            };
            if changed.is_err() {
                return Err(late());
            }
        }
        self.is_whole(pairs)?;
        self.forward_to_all(members, false).await?;
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

    /// The image did not come to be: local mirrors that were split for it follow again.
    async fn unsplit(self: &Arc<Self>, locals: &[(VolumeId, VolumeId)]) {
        let locals: Vec<_> = locals
            .iter()
            .copied()
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
    async fn forward_to_all(self: &Arc<Self>, members: &Members, dry_run: bool) -> Result<(), Refusal> {
        let mut asked = JoinSet::new();
        for (at, site) in members.sites.iter().enumerate() {
            let (array, first, there) = (Arc::clone(self), site.pairs[0].clone(), site.there.clone());
            asked.spawn(async move { (at, array.forward(&first, OutVerb::Split, there, dry_run).await) });
        }
        let mut all = Ok(());
        while let Some(answer) = asked.join_next().await {
            let answer = match answer {
                Ok((_, Ok(()))) => Ok(()),
                Ok((at, Err(error))) => {
                    let site = &members.sites[at];
                    Err(members.refused_at(site, self.of_pairs(&site.pairs, &error)))
                }
                Err(error) => Err(refusal(RefusalKind::Internal, error.to_string())),
            };
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
                self.tell_of_backup(Level::Warning, text);
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

fn not_begun() -> Refusal {
    cancelled("was cancelled before anything was held back")
}

fn cancelled(what: &str) -> Refusal {
    refusal(RefusalKind::State, format!("the backup {what}"))
}

fn all(verb: Verb, pairs: &[RemotePair], locals: &[(VolumeId, VolumeId)], dry_run: bool) -> Command {
    let remote = pairs.iter().map(RemotePair::volumes);
    Command::Pair {
        verb,
        members: remote.chain(locals.iter().copied()).collect(),
        dry_run,
    }
}
