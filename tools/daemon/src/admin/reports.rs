//! What is there, and what happened.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use admin_api::{
    Connection, Event, EventsDocument, QueryDocument, Session, SessionsDocument, VolumesDocument,
    time::rfc3339,
};
use axum::{
    Json,
    extract::{Query, State},
};
use replication::events::{ArrayEvent, EventRecord, Level};
use serde::Deserialize;
use target_core::{
    control::ArrayControl as _,
    scsi_model::control::{PairSelector, Reply, Request},
};

use super::problem::Failed;
use crate::service::Service;

pub(super) async fn query(State(service): State<Arc<Service>>) -> Result<Json<QueryDocument>, Failed> {
    pairs(&service).await.map(Json)
}

/// The pairs now.
pub(super) async fn pairs(service: &Service) -> Result<QueryDocument, Failed> {
    let array = &service.array;
    let pairs = array.execute(Request::Query(PairSelector::All)).await;
    let volumes = array.execute(Request::Setup).await;
    match (
        pairs.map_err(Failed::conflict)?,
        volumes.map_err(Failed::conflict)?,
    ) {
        (Reply::Pairs(pairs), Reply::Volumes(volumes)) => {
            Ok(QueryDocument::new(array.system(), &pairs, &volumes))
        }
        other => Err(Failed::conflict(format!("unexpected replies {other:?}"))),
    }
}

pub(super) async fn volumes(State(service): State<Arc<Service>>) -> Result<Json<VolumesDocument>, Failed> {
    service.volumes().await.map(Json).map_err(Failed::conflict)
}

pub(super) async fn sessions(State(service): State<Arc<Service>>) -> Json<SessionsDocument> {
    let mut sessions: BTreeMap<(String, u16), Session> = BTreeMap::new();
    for info in service.frontend.sessions() {
        let session = sessions
            .entry((info.target.clone(), info.tsih))
            .or_insert_with(|| Session {
                target: info.target.clone(),
                initiator: info.initiator.clone(),
                isid: info
                    .isid
                    .iter()
                    .fold(String::new(), |text, byte| text + &format!("{byte:02x}")),
                tsih: info.tsih,
                connections: Vec::new(),
            });
        session.connections.push(Connection {
            cid: info.cid,
            peer: info.peer.to_string(),
            portal: info.local.to_string(),
            since: since(info.since),
            header_digest: info.header_digest,
            data_digest: info.data_digest,
            commands: info.commands,
            bytes_in: info.bytes_in,
            bytes_out: info.bytes_out,
        });
    }
    Json(SessionsDocument {
        sessions: sessions.into_values().collect(),
    })
}

pub(super) fn since(time: std::time::SystemTime) -> String {
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    rfc3339(u64::try_from(since.as_millis()).unwrap_or(0))
}

/// `?after=N&wait=SECS`.
#[derive(Debug, Deserialize)]
pub(super) struct EventsQuery {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait: u64,
}

/// The longest wait for an event.
const LONGEST_WAIT: u64 = 300;

pub(super) async fn events(
    State(service): State<Arc<Service>>,
    query: Result<Query<EventsQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<EventsDocument>, Failed> {
    let Query(EventsQuery { after, wait }) = query.map_err(|rejection| Failed::bad(rejection.body_text()))?;
    let (mut records, mut stream) = service.array.events().follow(after);
    if records.is_empty() && wait > 0 {
        let next = tokio::time::timeout(Duration::from_secs(wait.min(LONGEST_WAIT)), stream.recv());
        tokio::select! {
            _ = next => records = service.array.events().since(after),
            () = service.stopping() => {}
        }
    }
    // A number from before a restart is beyond all of today's: begin anew.
    let last = service
        .array
        .events()
        .since(0)
        .last()
        .map_or(0, |record| record.sequence);
    let restarted = after > last;
    if restarted {
        records = service.array.events().since(0);
    }
    let first = records.first().map_or(after + 1, |record| record.sequence);
    Ok(Json(EventsDocument {
        last: records.last().map_or(after.min(last), |record| record.sequence),
        missed: restarted || first > after + 1,
        events: records.iter().map(event).collect(),
    }))
}

fn event(record: &EventRecord) -> Event {
    let level = record.event.level();
    Event {
        number: record.sequence,
        at: rfc3339(record.at_ms),
        level: match level {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
        .to_owned(),
        kind: match record.event {
            ArrayEvent::State { .. } => "state",
            ArrayEvent::IoFailed { .. } | ArrayEvent::CacheLost { .. } | ArrayEvent::JournalFailed { .. } => {
                "fault"
            }
            ArrayEvent::VolumeAdded { .. }
            | ArrayEvent::VolumeRemoved { .. }
            | ArrayEvent::VolumeResized { .. } => "volume",
            ArrayEvent::Told { kind, .. } => kind,
        }
        .to_owned(),
        text: record.event.to_string(),
    }
}
