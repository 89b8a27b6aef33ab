//! What goes wrong, as a status and a sentence.

use admin_api::Problem;
use axum::{
    Json,
    extract::{FromRequest, Request, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;

/// A failed request.
#[derive(Debug)]
pub(super) struct Failed(StatusCode, String);

impl Failed {
    /// The request makes no sense.
    #[expect(clippy::needless_pass_by_value, reason = "errors and texts, owned or not")]
    pub(super) fn bad(error: impl ToString) -> Self {
        Self(StatusCode::BAD_REQUEST, error.to_string())
    }

    /// It makes sense, but not now.
    #[expect(clippy::needless_pass_by_value, reason = "errors and texts, owned or not")]
    pub(super) fn conflict(error: impl ToString) -> Self {
        Self(StatusCode::CONFLICT, error.to_string())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(Problem { error: self.1 })).into_response()
    }
}

/// Any other path.
pub(super) async fn not_found() -> Failed {
    Failed(
        StatusCode::NOT_FOUND,
        "there is nothing at this path; docs/surface.md lists what there is".to_owned(),
    )
}

/// A JSON document, or a [`Problem`] that says what is wrong with it.
#[derive(Debug)]
pub(super) struct Document<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Document<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failed> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(document)) => Ok(Self(document)),
            Err(JsonRejection::MissingJsonContentType(_)) => Err(Failed::bad(
                "a JSON document is accepted (content-type: application/json)",
            )),
            Err(rejection) => Err(Failed::bad(rejection.body_text())),
        }
    }
}
