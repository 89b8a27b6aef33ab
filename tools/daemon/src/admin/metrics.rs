//! Prometheus text (exposition format 0.0.4).

use std::{fmt::Write as _, sync::Arc, time::SystemTime};

use admin_api::PairState;
use axum::{
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use replication::{link::PeerStatus, statistics::WAIT_BOUNDS};
use target_core::volume::Volume as _;

use super::{links, problem::Failed, reports};
use crate::{service::Service, wiring::Units};

pub(super) async fn metrics(State(service): State<Arc<Service>>) -> Result<Response, Failed> {
    let mut page = Page::default();
    page.metric("holdfast_info", "gauge", "The daemon.");
    let labels = [
        ("system", service.array.system().as_str()),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    page.sample("holdfast_info", &labels, 1);
    volumes(&mut page, &service);
    waits(&mut page, &service);
    commands(&mut page, &service.units().await);
    pairs(&mut page, &service).await?;
    sessions(&mut page, &service);
    peers(&mut page, &service);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], page.0).into_response())
}

fn sessions(page: &mut Page, service: &Service) {
    let sessions = service.frontend.sessions();
    page.metric("holdfast_connections", "gauge", "iSCSI connections.");
    page.sample("holdfast_connections", &[], sessions.len() as u64);
    let name = "holdfast_session_round_trip_microseconds";
    page.metric(name, "gauge", "Time from the last NOP-In to its answer.");
    for session in &sessions {
        let Some(time) = session.round_trip else { continue };
        let tsih = session.tsih.to_string();
        let labels = [
            ("initiator", session.initiator.as_str()),
            ("target", &session.target),
            ("tsih", &tsih),
        ];
        page.sample(name, &labels, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }
    if let Some(registered) = service.frontend.is_registered() {
        let name = "holdfast_isns_registered";
        page.metric(name, "gauge", "Whether the iSNS server knows what is served.");
        page.sample(name, &[], registered.into());
    }
}

fn volumes(page: &mut Page, service: &Service) {
    let volumes: Vec<_> = service
        .array
        .volumes()
        .into_iter()
        .map(|volume| (volume.info(), volume.ready(), volume.statistics().view()))
        .collect();
    let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(usize) -> u64| {
        page.metric(name, kind, help);
        for (index, (info, ..)) in volumes.iter().enumerate() {
            let number = info.number.0.to_string();
            page.sample(name, &[("volume", &number), ("name", &info.name)], value(index));
        }
    };
    family("holdfast_volume_bytes", "gauge", "Capacity.", &|index| {
        volumes[index].0.bytes()
    });
    family(
        "holdfast_volume_ready",
        "gauge",
        "Whether it answers hosts.",
        &|index| u64::from(volumes[index].1),
    );
    family(
        "holdfast_volume_reads_total",
        "counter",
        "Read commands.",
        &|index| volumes[index].2.reads,
    );
    family(
        "holdfast_volume_writes_total",
        "counter",
        "Write commands.",
        &|index| volumes[index].2.writes,
    );
    family("holdfast_volume_flushes_total", "counter", "Flushes.", &|index| {
        volumes[index].2.flushes
    });
    family(
        "holdfast_volume_read_bytes_total",
        "counter",
        "Bytes read.",
        &|index| volumes[index].2.read_bytes,
    );
    family(
        "holdfast_volume_written_bytes_total",
        "counter",
        "Bytes written.",
        &|index| volumes[index].2.written_bytes,
    );
    family(
        "holdfast_volume_errors_total",
        "counter",
        "Commands that failed.",
        &|index| volumes[index].2.errors,
    );
}

/// I/Os that were not done at once; those that a cache answered are too quick to be timed.
fn waits(page: &mut Page, service: &Service) {
    let name = "holdfast_volume_wait_microseconds";
    page.metric(
        name,
        "histogram",
        "Time of I/Os that had to wait for a device, a lock or a mirror.",
    );
    for volume in service.array.volumes() {
        let (info, waits) = (volume.info(), volume.statistics().waits());
        let number = info.number.0.to_string();
        let labels = [("volume", number.as_str()), ("name", &info.name)];
        let bounds = WAIT_BOUNDS.iter().map(u64::to_string).chain(["+Inf".to_owned()]);
        let mut below = 0;
        for (bound, count) in bounds.zip(waits.counts) {
            below += count;
            let labels = [labels[0], labels[1], ("le", &bound)];
            page.sample(&format!("{name}_bucket"), &labels, below);
        }
        page.sample(&format!("{name}_sum"), &labels, waits.micros);
        page.sample(&format!("{name}_count"), &labels, below);
    }
}

fn commands(page: &mut Page, units: &Units) {
    let counted: Vec<_> = units
        .iter()
        .map(|(number, unit)| (number.to_string(), unit.commands()))
        .collect();
    let name = "holdfast_volume_commands_total";
    page.metric(name, "counter", "SCSI commands, by operation.");
    for (number, commands) in &counted {
        for (operation, count) in commands.all.by_operation() {
            page.sample(name, &[("volume", number), ("operation", operation)], count);
        }
    }
    let name = "holdfast_initiator_commands_total";
    page.metric(
        name,
        "counter",
        "SCSI commands of sessions that are there, by operation.",
    );
    for (number, commands) in &counted {
        for ((initiator, target), counts) in &commands.by_nexus {
            for (operation, count) in counts.by_operation() {
                let labels = [
                    ("volume", number.as_str()),
                    ("initiator", initiator),
                    ("target", target),
                    ("operation", operation),
                ];
                page.sample(name, &labels, count);
            }
        }
    }
}

async fn pairs(page: &mut Page, service: &Service) -> Result<(), Failed> {
    let pairs = reports::pairs(service).await?.pairs;
    let names: Vec<_> = pairs
        .iter()
        .map(|pair| (pair.primary.number.to_string(), pair.mirror.number.to_string()))
        .collect();
    let mut family = |name: &str, help: &str, value: &dyn Fn(usize) -> u64| {
        page.metric(name, "gauge", help);
        for (index, (primary, mirror)) in names.iter().enumerate() {
            page.sample(name, &[("primary", primary), ("mirror", mirror)], value(index));
        }
    };
    let state = |index: usize| pairs[index].pair_state().map_or(255, |state| state.code().into());
    family(
        "holdfast_pair_state",
        "State code: 0 simplex to 8 suspended.",
        &state,
    );
    family(
        "holdfast_pair_mirror_invalid_tracks",
        "Tracks owed to the mirror.",
        &|index| pairs[index].mirror_invalid,
    );
    family(
        "holdfast_pair_primary_invalid_tracks",
        "Tracks the mirror changed, or not yet restored.",
        &|index| pairs[index].primary_invalid,
    );
    family(
        "holdfast_pair_remaining_tracks",
        "Tracks the running copy has left.",
        &|index| pairs[index].remaining,
    );
    family(
        "holdfast_pair_copy_bytes_per_second",
        "Rate of the running copy.",
        &|index| pairs[index].rate,
    );
    family(
        "holdfast_pair_suspended",
        "Whether a fault stopped it.",
        &|index| u64::from(pairs[index].pair_state() == Some(PairState::Suspended)),
    );
    Ok(())
}

fn peers(page: &mut Page, service: &Service) {
    let until = service.links.as_ref().and_then(|links| links.certificate_until());
    if let Some(until) = until.and_then(|until| until.duration_since(SystemTime::UNIX_EPOCH).ok()) {
        let name = "holdfast_link_certificate_expiry_seconds";
        page.metric(
            name,
            "gauge",
            "Unix time at which the certificate of the link expires.",
        );
        page.sample(name, &[], until.as_secs());
    }
    let peers = links::peers(service);
    let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&PeerStatus) -> u64| {
        page.metric(name, kind, help);
        for peer in &peers {
            page.sample(name, &[("peer", peer.id.as_str())], value(peer));
        }
    };
    family(
        "holdfast_link_up",
        "gauge",
        "Whether the peer is connected.",
        &|peer| u64::from(peer.up),
    );
    let help = "Round trip of the last keepalive; 0 while there is none.";
    family("holdfast_link_round_trip_microseconds", "gauge", help, &|peer| {
        let rtt = peer.rtt.unwrap_or_default();
        u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)
    });
    family(
        "holdfast_link_sent_bytes_total",
        "counter",
        "Bytes sent.",
        &|peer| peer.sent,
    );
    family(
        "holdfast_link_received_bytes_total",
        "counter",
        "Bytes received.",
        &|peer| peer.received,
    );
    let help = "What the bytes sent would have been without compression.";
    family(
        "holdfast_link_sent_uncompressed_bytes_total",
        "counter",
        help,
        &|peer| peer.sent_uncompressed,
    );
    let help = "What the bytes received would have been without compression.";
    family(
        "holdfast_link_received_uncompressed_bytes_total",
        "counter",
        help,
        &|peer| peer.received_uncompressed,
    );
    let help = "Requests to the peer that are not answered.";
    family("holdfast_link_queue_requests", "gauge", help, &|peer| {
        peer.outstanding as u64
    });
    family("holdfast_link_queue_bytes", "gauge", "Their bytes.", &|peer| {
        peer.outstanding_bytes
    });
    let queue = |peer: &PeerStatus| service.array.queued_on_disk(&peer.id).unwrap_or_default();
    let help = "Bytes that wait in the queue on disk for the peer; 0 without one.";
    family("holdfast_link_disk_queue_bytes", "gauge", help, &|peer| {
        queue(peer).0
    });
    let help = "Bytes of the file of that queue; 0 without one.";
    family("holdfast_link_disk_queue_size_bytes", "gauge", help, &|peer| {
        queue(peer).1
    });
    family(
        "holdfast_link_connections_total",
        "counter",
        "Connections that were up.",
        &|peer| peer.connections,
    );
    let (writes, microseconds) = service.array.held_writes();
    for (name, help, value) in [
        (
            "holdfast_link_held_writes_total",
            "Writes to async pairs that waited for room on the way.",
            writes,
        ),
        (
            "holdfast_link_held_microseconds_total",
            "How long they waited together.",
            microseconds,
        ),
    ] {
        page.metric(name, "counter", help);
        page.sample(name, &[], value);
    }
    if let Some(links) = &service.links {
        let name = "holdfast_link_refused_total";
        page.metric(name, "counter", "Calls of others that were not let in.");
        page.sample(name, &[], links.refusals().count);
    }
}

/// The text as it grows.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        if labels.is_empty() {
            return self.line(format_args!("{name} {value}"));
        }
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, text)| format!("{label}=\"{}\"", escaped(text)))
            .collect();
        self.line(format_args!("{name}{{{}}} {value}", labels.join(",")));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a String takes all");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples() {
        let mut page = Page::default();
        page.metric("x", "gauge", "Help.");
        page.sample("x", &[("a", "1"), ("b", "q\"\\")], 7);
        page.sample("y", &[], 0);
        assert_eq!(
            page.0,
            "# HELP x Help.\n# TYPE x gauge\nx{a=\"1\",b=\"q\\\"\\\\\"} 7\ny 0\n"
        );
    }
}
