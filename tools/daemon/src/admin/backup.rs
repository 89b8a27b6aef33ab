//! Backups at the far site, and how they are cancelled.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use admin_api::{BackupAnswer, BackupCancel, BackupReport, BackupRequest, DoneAnswer};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use replication::control::{BACKUP_DEADLINE, BackupDone, BackupMember, BackupTerms};
use target_core::scsi_model::control::VolumeNumber;
use tokio::sync::watch;

use super::problem::{Document, Failed};
use crate::service::Service;

/// Longest deadline of a backup: later writes are held back for so long.
const LONGEST_DEADLINE: u64 = 3600;

/// The backups that are being taken, by the numbers that their clients gave them, and who cancels them.
#[derive(Debug, Default)]
pub(crate) struct Backups(Mutex<BTreeMap<u64, watch::Sender<bool>>>);

impl Backups {
    /// `None`: there is one of that number.
    fn enter(&self, id: u64) -> Option<watch::Receiver<bool>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains_key(&id) {
            return None;
        }
        let (cancel, cancelled) = watch::channel(false);
        known.insert(id, cancel);
        Some(cancelled)
    }

    fn leave(&self, id: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&id);
    }

    /// Is there one?
    fn cancel(&self, id: u64) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).is_some_and(|cancel| cancel.send(true).is_ok())
    }
}

pub(super) async fn back_up(
    State(service): State<Arc<Service>>,
    Document(wanted): Document<BackupRequest>,
) -> Result<Response, Failed> {
    let Some(cancelled) = service.backups.enter(wanted.id) else {
        return Err(Failed::conflict("a backup of this number is being taken"));
    };
    let deadline = wanted.timeout.map(|seconds| seconds.min(LONGEST_DEADLINE));
    let terms = BackupTerms {
        deadline: deadline.map_or(BACKUP_DEADLINE, Duration::from_secs),
        cancelled: Some(cancelled),
    };
    let members: Vec<BackupMember> = wanted.members.into_iter().map(member).collect();
    // On a task of its own: it comes to its end also when the client goes away.
    let done = tokio::spawn(async move {
        let done = service.array.back_up(&members, &terms, wanted.dry_run).await;
        service.backups.leave(wanted.id);
        done
    });
    Ok(match done.await.map_err(Failed::conflict)? {
        Ok(done) => Json(BackupAnswer::Ok(report(done))).into_response(),
        Err(refusal) => (StatusCode::CONFLICT, Json(BackupAnswer::Refused(refusal))).into_response(),
    })
}

pub(super) async fn cancel(
    State(service): State<Arc<Service>>,
    Document(BackupCancel { id }): Document<BackupCancel>,
) -> Result<Json<DoneAnswer>, Failed> {
    if !service.backups.cancel(id) {
        return Err(Failed::conflict("no backup of this number is being taken"));
    }
    Ok(Json(DoneAnswer { done: Vec::new() }))
}

fn member(member: admin_api::BackupMember) -> BackupMember {
    BackupMember {
        primary: VolumeNumber(member.primary),
        mirror: Some(VolumeNumber(member.mirror)),
        peer: member.system,
    }
}

fn report(done: BackupDone) -> BackupReport {
    BackupReport {
        tracks: done.tracks,
        held_ms: u64::try_from(done.held.as_millis()).unwrap_or(u64::MAX),
    }
}
