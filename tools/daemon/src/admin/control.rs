//! Replication requests.

use std::{sync::Arc, time::Duration};

use admin_api::{ControlAnswer, ControlRequest, WaitAnswer, WaitRequest};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use target_core::{control::ArrayControl as _, scsi_model::control::Refusal};

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

fn refused(refusal: Refusal) -> Response {
    (StatusCode::CONFLICT, Json(ControlAnswer::Refused(refusal))).into_response()
}
