//! How the link to other systems is.

use std::sync::Arc;

use admin_api::{DiskQueue, LinkDocument, LinkPeer};
use axum::{Json, extract::State};
use replication::link::{Compression, PeerStatus};

use super::reports;
use crate::service::Service;

pub(super) async fn link(State(service): State<Arc<Service>>) -> Json<LinkDocument> {
    let links = service.links.as_ref();
    let refusals = links.map(|links| links.refusals()).unwrap_or_default();
    Json(LinkDocument {
        system: service.array.system().to_string(),
        listen: links.map(|links| links.address().to_string()),
        certificate_until: links
            .and_then(|links| links.certificate_until())
            .map(reports::since),
        refused: refusals.count,
        last_refused: refusals.last.map(|(from, why)| format!("{from}: {why}")),
        peers: peers(&service)
            .into_iter()
            .map(|status| peer(&service, status))
            .collect(),
    })
}

/// The peers now, by id.
pub(super) fn peers(service: &Service) -> Vec<PeerStatus> {
    let links = service.links.as_ref();
    links.map_or_else(Vec::new, |links| {
        links.peers().iter().map(|peer| peer.status()).collect()
    })
}

fn peer(service: &Service, status: PeerStatus) -> LinkPeer {
    LinkPeer {
        id: status.id.to_string(),
        address: status.address,
        up: status.up,
        since: reports::since(status.since),
        software: status.seen.map(|(_, software)| software),
        latency_us: status
            .rtt
            .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
        compression: status.compression.map_or("none", Compression::name).to_owned(),
        sent: status.sent,
        received: status.received,
        sent_uncompressed: status.sent_uncompressed,
        received_uncompressed: status.received_uncompressed,
        send_rate: status.send_rate,
        receive_rate: status.receive_rate,
        queue: status.outstanding as u64,
        queue_bytes: status.outstanding_bytes,
        disk_queue: service
            .array
            .queued_on_disk(&status.id)
            .map(|(bytes, size)| DiskQueue { bytes, size }),
        connections: status.connections,
        last_error: status.last_error,
    }
}
