//! The page at `/`: pairs, volumes and sessions, read anew every two seconds.

use axum::{
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY},
    response::{Html, IntoResponse},
};

pub(super) async fn page() -> impl IntoResponse {
    let headers = [
        (CACHE_CONTROL, "no-cache"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
        ),
    ];
    (headers, Html(include_str!("dashboard.html")))
}
