//! Replication requests.

use std::{sync::Arc, time::Duration};

use admin_api::{ControlAnswer, ControlRequest, DeepAnswer, DeepRequest, DeepRun, WaitAnswer, WaitRequest};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use target_core::{
    control::ArrayControl as _,
    scsi_model::control::{Refusal, VolumeNumber},
};

use super::problem::Document;
use crate::service::Service;

/// The longest wait; who wants more asks again.
const LONGEST_WAIT: u32 = 3600;

pub(super) async fn control(
    State(service): State<Arc<Service>>,
    Document(ControlRequest { request }): Document<ControlRequest>,
) -> Response {
    // On a task of its own: a command runs to its end also when the client goes away.
    let execution = tokio::spawn(service.array.execute(request));
    match execution.await {
        Ok(result) => {
            let status = if result.is_ok() {
                StatusCode::OK
            } else {
                StatusCode::CONFLICT
            };
            (status, Json(ControlAnswer::from(result))).into_response()
        }
        Err(error) => super::problem::Failed::conflict(error).into_response(),
    }
}

pub(super) async fn wait(
    State(service): State<Arc<Service>>,
    Document(WaitRequest {
        pairs,
        state,
        timeout,
    }): Document<WaitRequest>,
) -> Response {
    let timeout = Duration::from_secs(timeout.min(LONGEST_WAIT).into());
    tokio::select! {
        answer = service.array.wait_until(pairs, state, timeout) => match answer {
            Ok((verify, timed_out)) => Json(WaitAnswer { verify, timed_out }).into_response(),
            Err(refusal) => refused(refusal),
        },
        () = service.stopping() => super::problem::Failed::conflict("the daemon is stopping").into_response(),
    }
}

pub(super) async fn verify_deep(
    State(service): State<Arc<Service>>,
    Document(request): Document<DeepRequest>,
) -> Response {
    let pair = (VolumeNumber(request.primary), VolumeNumber(request.mirror));
    match service
        .array
        .verify_deep(pair, request.from, request.repair)
        .await
    {
        Ok(slice) => Json(DeepAnswer {
            tracks: slice.tracks,
            next: slice.next,
            compared: slice.compared,
            marked: slice.marked,
            differing: slice
                .differing
                .into_iter()
                .map(|(first, tracks)| DeepRun { first, tracks })
                .collect(),
            repaired: slice.repaired,
        })
        .into_response(),
        Err(refusal) => super::problem::Failed::conflict(refusal.message).into_response(),
    }
}

fn refused(refusal: Refusal) -> Response {
    (StatusCode::CONFLICT, Json(ControlAnswer::Refused(refusal))).into_response()
}
