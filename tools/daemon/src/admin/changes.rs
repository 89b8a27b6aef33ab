//! Changes of what is served. Each runs to its end, also when the client goes away.

use std::{future::Future, sync::Arc};

use admin_api::{
    DoneAnswer, MapRequest, ReloadCheck, UnmapRequest, VolumeCreate, VolumeDelete, VolumeResize,
};
use axum::{Json, body::Bytes, extract::State};

use super::problem::{Document, Failed};
use crate::service::Service;

type Done = Result<Json<DoneAnswer>, Failed>;

async fn to_the_end(change: impl Future<Output = Result<Vec<String>, String>> + Send + 'static) -> Done {
    let done = tokio::spawn(change).await.map_err(Failed::conflict)?;
    done.map(|done| Json(DoneAnswer { done }))
        .map_err(Failed::conflict)
}

pub(super) async fn create(
    State(service): State<Arc<Service>>,
    Document(wanted): Document<VolumeCreate>,
) -> Done {
    to_the_end(async move { service.create_volume(wanted).await }).await
}

pub(super) async fn delete(
    State(service): State<Arc<Service>>,
    Document(wanted): Document<VolumeDelete>,
) -> Done {
    to_the_end(async move {
        match service.generations.needs(wanted.number).await {
            Some(why) => Err(why),
            None => service.delete_volume(wanted.number).await,
        }
    })
    .await
}

pub(super) async fn resize(
    State(service): State<Arc<Service>>,
    Document(wanted): Document<VolumeResize>,
) -> Done {
    to_the_end(async move { service.resize_volume(wanted.number, &wanted.size).await }).await
}

pub(super) async fn map(State(service): State<Arc<Service>>, Document(wanted): Document<MapRequest>) -> Done {
    to_the_end(async move { service.map(&wanted).await }).await
}

pub(super) async fn unmap(
    State(service): State<Arc<Service>>,
    Document(wanted): Document<UnmapRequest>,
) -> Done {
    to_the_end(async move { service.unmap(&wanted).await }).await
}

/// The body says nothing, but is read: a connection closed over unread bytes is reset, and the answer may be lost.
pub(super) async fn reload(State(service): State<Arc<Service>>, _: Bytes) -> Done {
    to_the_end(async move { service.reload().await }).await
}

/// As [`reload`], and nothing changes.
pub(super) async fn check_reload(
    State(service): State<Arc<Service>>,
    _: Bytes,
) -> Result<Json<ReloadCheck>, Failed> {
    service.check_reload().await.map(Json).map_err(Failed::conflict)
}
