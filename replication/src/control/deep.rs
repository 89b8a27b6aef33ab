//! `verify --deep`: do both sides of a pair hold the same bytes wherever its marks say so?
//!
//! The volumes are gone through beside everything else: digests of a stretch of both are compared without any lock, and only tracks
//! that look different are looked at again with nothing under way there (`replication_engine::check`). So hosts hardly notice, and a
//! difference that is reported is one. It is gone through in slices, so that whoever asks can show how far it is, and stop.
//!
//! Hosts of the far volume of a pair that is apart are not held back by a lock here: their marks are asked for after
//! the digests, and they are set before anything is written.

use std::{sync::Arc, time::Duration};

use link_proto::Action;
use replication_engine::{
    command::{Command, PairView, RemoteAct},
    effects::Found,
    ids::{ByteRange, PairId, VolumeId},
    state::PairState,
    track::TrackRange,
};
use target_core::scsi_model::control::{Refusal, RefusalKind, VolumeNumber};
use tokio::time::Instant;

use super::{refusals::refusal, remote::of_peer};
use crate::{
    array::Array,
    compare,
    events::{ArrayEvent, Level},
    lock,
    remote::RemotePair,
};

/// How long one slice takes.
const SLICE: Duration = Duration::from_millis(500);

/// What a slice came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeepSlice {
    /// Tracks of the volume.
    pub tracks: u64,
    /// Where to go on; `None`: that was the last.
    pub next: Option<u64>,
    /// Tracks compared.
    pub compared: u64,
    /// Tracks that need not be the same: a mark says so, or they are still to be copied.
    pub marked: u64,
    /// Tracks that differ without a mark: first and how many.
    pub differing: Vec<(u64, u64)>,
    /// They are marked now (a pair that is apart), or are being copied (with `repair`).
    pub repaired: bool,
}

impl Array {
    /// Compares both sides of a pair from this track on, for a while. What differs is marked when the pair is apart; when it is
    /// established and `repair` is set, it is copied to the mirror.
    pub async fn verify_deep(
        self: &Arc<Self>,
        (primary, mirror): (VolumeNumber, VolumeNumber),
        from: u64,
        repair: bool,
    ) -> Result<DeepSlice, Refusal> {
        let (primary, mirror) = self.place(primary, mirror);
        let id = PairId(VolumeId(mirror.0));
        let view = self
            .view_of(id.0)
            .filter(|view| view.primary.0 == primary.0)
            .ok_or_else(|| self.no_such_pair(primary, mirror))?;
        let remote = self.remote.pair_of(id.0);
        self.may_be_verified(&view, remote.as_ref())?;
        let mut slice = DeepSlice {
            tracks: view.tracks,
            ..DeepSlice::default()
        };
        let end = Instant::now() + SLICE;
        let step = (compare::STEP / u64::from(self.track_size())).max(1);
        let (mut at, mut differing) = (from.min(view.tracks), Vec::new());
        while at < view.tracks && Instant::now() < end {
            let stretch = TrackRange::new(at, view.tracks.min(at + step));
            let runs = lock(&self.engine).comparable(id, stretch);
            let compared: u64 = runs.iter().map(|run| run.len()).sum();
            slice.marked += stretch.len() - compared;
            slice.compared += compared;
            for run in runs {
                for track in self.suspects(&view, run).await? {
                    if self.differs(id, remote.as_ref(), track).await? {
                        differing.push(track);
                    }
                }
            }
            at = stretch.end;
        }
        slice.next = (at < view.tracks).then_some(at);
        let runs = joined(&differing);
        if !runs.is_empty() {
            slice.repaired = self.mark(&view, &runs, repair).await?;
            self.tell(&view, &runs, slice.repaired);
        }
        slice.differing = runs.iter().map(|run| (run.start, run.len())).collect();
        Ok(slice)
    }

    fn may_be_verified(&self, view: &PairView, remote: Option<&RemotePair>) -> Result<(), Refusal> {
        if view.primary.is_foreign() {
            let peer = self.remote.pair_of(view.primary);
            let peer = peer.map_or_else(String::new, |pair| pair.peer.to_string());
            let message = format!("{peer} leads this pair: verify it there");
            return Err(refusal(RefusalKind::State, message));
        }
        if !matches!(
            view.state,
            PairState::Copy | PairState::Duplex | PairState::Restored | PairState::Split
        ) {
            let message = format!(
                "the pair is {}: its volumes are compared in copy, duplex, restored and split",
                view.state
            );
            return Err(refusal(RefusalKind::State, message));
        }
        match remote.filter(|pair| !self.remote.is_linked(pair.foreign_id())) {
            None => Ok(()),
            Some(pair) => {
                let message = format!("the link to {} is down: `holdfast link` says why", pair.peer);
                Err(refusal(RefusalKind::NoPath, message))
            }
        }
    }

    /// Tracks that look different, with all that goes on there.
    async fn suspects(self: &Arc<Self>, view: &PairView, run: TrackRange) -> Result<Vec<u64>, Refusal> {
        let (Some(primary), Some(mirror)) = (self.leg(view.primary), self.leg(view.mirror)) else {
            return Err(refusal(RefusalKind::State, "the pair is being dissolved"));
        };
        let track = u64::from(self.track_size());
        let bytes = self
            .volume(VolumeNumber(view.primary.0))
            .map_or(0, |volume| volume.bytes());
        let range = ByteRange {
            start: run.start * track,
            end: (run.end * track).min(bytes),
        };
        let found = compare::differing([&primary, &mirror], range, track).await;
        let found = found.map_err(|(which, error)| {
            let name = self.name(VolumeNumber([view.primary, view.mirror][which].0));
            refusal(RefusalKind::Internal, format!("volume {name}: {error}"))
        })?;
        Ok(found
            .iter()
            .flat_map(|range| range.start / track..range.end.div_ceil(track))
            .collect())
    }

    /// Does the track differ, without a mark on either system?
    async fn differs(
        self: &Arc<Self>,
        id: PairId,
        remote: Option<&RemotePair>,
        track: u64,
    ) -> Result<bool, Refusal> {
        match self.check(id, TrackRange::single(track)).await {
            Found::Different => {}
            Found::Equal | Found::Marked | Found::Busy => return Ok(false),
            Found::Unreadable => {
                let message = format!("track {track} could not be read: an event says why");
                return Err(refusal(RefusalKind::Internal, message));
            }
        }
        let Some(pair) = remote else { return Ok(true) };
        let (_, marks) = self
            .order(pair, Action::Status)
            .await
            .map_err(|error| of_peer(&error))?;
        let apart = self
            .view_of(id.0)
            .is_some_and(|view| view.state == PairState::Split);
        Ok(!(apart && marks.iter().any(|run| run.start <= track && track < run.end)))
    }

    /// `true`: they are marked, or owed.
    async fn mark(&self, view: &PairView, runs: &[TrackRange], repair: bool) -> Result<bool, Refusal> {
        let state = self.view_of(view.mirror).map(|view| view.state);
        let act = if state == Some(PairState::Split) {
            RemoteAct::Adopt(runs.to_vec())
        } else if repair {
            RemoteAct::Owe(runs.to_vec())
        } else {
            return Ok(false);
        };
        let command = Command::Remote {
            pair: (view.primary, view.mirror),
            act,
            dry_run: false,
        };
        self.run_command(command).await.map(|_| true)
    }

    fn tell(&self, view: &PairView, runs: &[TrackRange], repaired: bool) {
        let tracks: u64 = runs.iter().map(|run| run.len()).sum();
        let name = |volume: VolumeId| {
            let far = self.remote.name(volume);
            far.unwrap_or_else(|| self.name(VolumeNumber(volume.0)))
        };
        let text = format!(
            "verify: {tracks} tracks of pair {} -> {} differ without a mark, the first at byte {}{}",
            name(view.primary),
            name(view.mirror),
            runs[0].start * u64::from(self.track_size()),
            if repaired {
                "; they are marked and will be copied"
            } else {
                ""
            }
        );
        self.events.push(ArrayEvent::Told {
            kind: "verify",
            level: Level::Warning,
            text,
        });
    }
}

/// Ascending tracks as runs.
fn joined(tracks: &[u64]) -> Vec<TrackRange> {
    let mut runs: Vec<TrackRange> = Vec::new();
    for track in tracks {
        match runs.last_mut() {
            Some(last) if last.end == *track => last.end += 1,
            _ => runs.push(TrackRange::single(*track)),
        }
    }
    runs
}
