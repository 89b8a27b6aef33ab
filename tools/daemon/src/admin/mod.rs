//! The admin socket and the read-only HTTP port. What is said on them is in the package `admin-api`.

mod backup;
mod changes;
mod control;
mod dashboard;
mod generations;
mod links;
mod metrics;
mod problem;
mod reports;
mod socket;

use std::{future::Future, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    routing::{get, post},
};
use tokio::net::{TcpListener, UnixListener};

pub(crate) use self::{backup::Backups, socket::bind};
use crate::service::Service;

/// What anybody may look at.
fn reading() -> Router<Arc<Service>> {
    Router::new()
        .route("/", get(dashboard::page))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/query", get(reports::query))
        .route("/v1/volumes", get(reports::volumes))
        .route("/v1/sessions", get(reports::sessions))
        .route("/v1/events", get(reports::events))
        .route("/v1/generations", get(generations::list))
        .route("/v1/link", get(links::link))
}

/// What the owner of the socket may do besides.
fn acting() -> Router<Arc<Service>> {
    Router::new()
        .route("/v1/control", post(control::control))
        .route("/v1/backup", post(backup::back_up))
        .route("/v1/backup/cancel", post(backup::cancel))
        .route("/v1/wait", post(control::wait))
        .route("/v1/verify/deep", post(control::verify_deep))
        .route("/v1/volume/create", post(changes::create))
        .route("/v1/volume/delete", post(changes::delete))
        .route("/v1/volume/resize", post(changes::resize))
        .route("/v1/map", post(changes::map))
        .route("/v1/unmap", post(changes::unmap))
        .route("/v1/reload", post(changes::reload))
        .route("/v1/reload/check", post(changes::check_reload))
        .route("/v1/generation/create", post(generations::create))
        .route("/v1/generation/restore", post(generations::restore))
        .route("/v1/generation/delete", post(generations::delete))
        .route("/v1/generation/rule/set", post(generations::set_rule))
        .route("/v1/generation/rule/clear", post(generations::clear_rule))
}

/// Serves the socket until `stop` ends.
pub(crate) async fn serve_socket(
    listener: UnixListener,
    service: Arc<Service>,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let router = reading()
        .merge(acting())
        .fallback(problem::not_found)
        .with_state(service);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "the admin socket failed");
    }
}

/// Opens the HTTP port.
pub(crate) async fn bind_http(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves the HTTP port, for reading only, until `stop` ends.
pub(crate) async fn serve_http(
    listener: TcpListener,
    service: Arc<Service>,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let router = reading().fallback(problem::not_found).with_state(service);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "the HTTP port failed");
    }
}
