//! Generations. What changes something runs to its end, also when the client goes away.

use std::{future::Future, sync::Arc};

use admin_api::{
    ControlAnswer, DoneAnswer, Generation, GenerationCreate, GenerationDelete, GenerationRestore,
    GenerationRuleClear, GenerationRuleSet, GenerationsDocument,
};
use axum::{Json, extract::State};

use super::problem::{Document, Failed};
use crate::{generations::now_ms, service::Service};

async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, String>> + Send + 'static,
) -> Result<T, Failed> {
    let done = tokio::spawn(work).await.map_err(Failed::conflict)?;
    done.map_err(Failed::conflict)
}

pub(super) async fn list(State(service): State<Arc<Service>>) -> Result<Json<GenerationsDocument>, Failed> {
    to_the_end(async move { service.generations.list(&service).await })
        .await
        .map(Json)
}

pub(super) async fn create(
    State(service): State<Arc<Service>>,
    Document(wanted): Document<GenerationCreate>,
) -> Result<Json<Generation>, Failed> {
    to_the_end(async move { service.generations.create(&service, wanted).await })
        .await
        .map(Json)
}

pub(super) async fn restore(
    State(service): State<Arc<Service>>,
    Document(wanted): Document<GenerationRestore>,
) -> Result<Json<ControlAnswer>, Failed> {
    to_the_end(async move { service.generations.restore(&service, wanted).await })
        .await
        .map(Json)
}

pub(super) async fn delete(
    State(service): State<Arc<Service>>,
    Document(wanted): Document<GenerationDelete>,
) -> Result<Json<DoneAnswer>, Failed> {
    to_the_end(async move { service.generations.delete(&service, &wanted.generation).await })
        .await
        .map(|done| Json(DoneAnswer { done }))
}

pub(super) async fn set_rule(
    State(service): State<Arc<Service>>,
    Document(wanted): Document<GenerationRuleSet>,
) -> Result<Json<DoneAnswer>, Failed> {
    to_the_end(async move { service.generations.set_rule(&service, wanted, now_ms()).await })
        .await
        .map(|done| Json(DoneAnswer { done }))
}

pub(super) async fn clear_rule(
    State(service): State<Arc<Service>>,
    Document(wanted): Document<GenerationRuleClear>,
) -> Result<Json<DoneAnswer>, Failed> {
    to_the_end(async move { service.generations.clear_rule(&service, wanted.primary).await })
        .await
        .map(|done| Json(DoneAnswer { done }))
}
