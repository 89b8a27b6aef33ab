//! Tables for people.

use admin_api::{
    DiskQueue, Event, Generation, GenerationRule, LinkDocument, LinkPeer, PairState, Period, QueryPair,
    QueryVolume, Session, Size, VolumeDocument,
};
use comfy_table::{Attribute, Cell, CellAlignment, Table, presets::NOTHING};

/// A table without lines, so that `awk` can read it too.
fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(
        header
            .iter()
            .map(|title| Cell::new(title).add_attribute(Attribute::Bold)),
    );
    table
}

fn right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn text(table: &Table) -> String {
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// `1 (prod)`, or `HF-B:1`.
pub(crate) fn volume(volume: &QueryVolume, peer: Option<&str>) -> String {
    match (&volume.name, peer) {
        (Some(name), _) => format!("{} ({name})", volume.number),
        (None, Some(peer)) => format!("{peer}:{}", volume.number),
        (None, None) => volume.number.to_string(),
    }
}

/// `1 (prod) -> 2 (bcv1)`.
pub(crate) fn pair(pair: &QueryPair) -> String {
    let peer = pair.peer.as_deref();
    format!(
        "{} -> {}",
        volume(&pair.primary, peer),
        volume(&pair.mirror, peer)
    )
}

/// `query`.
pub(crate) fn pairs(pairs: &[QueryPair]) -> String {
    if pairs.is_empty() {
        return "no pairs".to_owned();
    }
    let mut table = table(&[
        "primary",
        "mirror",
        "state",
        "inv. primary",
        "inv. mirror",
        "%",
        "rate",
        "eta",
        "held",
        "ready",
        "split at",
        "reason",
    ]);
    for pair in pairs {
        let peer = pair.peer.as_deref();
        let copying = pair.pair_state().is_some_and(PairState::copying);
        table.add_row([
            volume(&pair.primary, peer),
            volume(&pair.mirror, peer),
            pair.state.clone(),
            pair.primary_invalid.to_string(),
            pair.mirror_invalid.to_string(),
            format!("{:.1}", pair.percent),
            if copying { rate(pair.rate) } else { dash() },
            if copying { eta(pair.eta_seconds) } else { dash() },
            pair.held.clone(),
            if pair.mirror_ready { "yes" } else { "no" }.to_owned(),
            pair.split_at.clone().unwrap_or_else(dash),
            pair.reason.clone().unwrap_or_else(dash),
        ]);
    }
    right(&mut table, 3..8);
    text(&table)
}

fn dash() -> String {
    "-".to_owned()
}

/// `120MiB/s`.
pub(crate) fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", Size(bytes_per_second).rounded())
}

/// `1h02m`, `2m03s`, `12s`, or `?`.
pub(crate) fn eta(seconds: Option<u32>) -> String {
    match seconds {
        None => "?".to_owned(),
        Some(s) if s >= 3600 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        Some(s) if s >= 60 => format!("{}m{:02}s", s / 60, s % 60),
        Some(s) => format!("{s}s"),
    }
}

/// `3 (before-upgrade), 2026-11-20T10:00:00.000Z: 1 (prod) on 5 (bcv1)`.
pub(crate) fn generation(generation: &Generation) -> String {
    let name = generation
        .name
        .as_ref()
        .map_or_else(String::new, |name| format!(" ({name})"));
    let members: Vec<String> = generation
        .members
        .iter()
        .map(|member| {
            format!(
                "{} on {}",
                volume(&member.primary, None),
                volume(&member.mirror, None)
            )
        })
        .collect();
    format!(
        "{}{name}, {}: {}",
        generation.number,
        generation.at,
        members.join(", ")
    )
}

/// `generation list`: a row for each pair, and below it why one cannot be dropped now.
pub(crate) fn generations(generations: &[Generation]) -> String {
    if generations.is_empty() {
        return "no generations".to_owned();
    }
    let mut table = table(&[
        "number", "name", "at", "by", "primary", "mirror", "state", "differs", "in use",
    ]);
    for generation in generations {
        for member in &generation.members {
            let tracks = member.mirror_invalid.saturating_add(member.primary_invalid);
            table.add_row([
                generation.number.to_string(),
                generation.name.clone().unwrap_or_else(dash),
                generation.at.clone(),
                if generation.by_rule { "rule" } else { "hand" }.to_owned(),
                volume(&member.primary, None),
                volume(&member.mirror, None),
                member.state.clone(),
                Size(tracks.saturating_mul(member.track_size.into())).rounded(),
                generation.in_use.as_ref().map_or_else(dash, |_| "yes".to_owned()),
            ]);
        }
    }
    right(&mut table, [0, 7]);
    let reasons = generations.iter().filter_map(|generation| {
        let why = generation.in_use.as_ref()?;
        Some(format!("\ngeneration {} is in use: {why}", generation.number))
    });
    text(&table) + &reasons.collect::<String>()
}

/// `generation rule show`.
pub(crate) fn rules(rules: &[GenerationRule]) -> String {
    if rules.is_empty() {
        return "no rules".to_owned();
    }
    let mut table = table(&["primaries", "every", "keep", "max age", "next at"]);
    for rule in rules {
        let primaries: Vec<String> = rule
            .primaries
            .iter()
            .map(|primary| volume(primary, None))
            .collect();
        table.add_row([
            primaries.join(", "),
            Period(rule.every_seconds).to_string(),
            rule.keep.to_string(),
            rule.max_age_seconds
                .map_or_else(dash, |seconds| Period(seconds).to_string()),
            rule.next_at.clone(),
        ]);
    }
    right(&mut table, 1..4);
    text(&table)
}

/// `setup`.
pub(crate) fn setup(volumes: &[VolumeDocument]) -> String {
    let mut header = vec![
        "number", "name", "class", "size", "block", "NAA", "serial", "LUN", "ready", "pairs",
    ];
    let devices = volumes.iter().any(|volume| volume.host_device.is_some());
    if devices {
        header.push("device");
    }
    let mut table = table(&header);
    for volume in volumes {
        let mut row = vec![
            volume.number.to_string(),
            volume.name.clone(),
            volume.class.clone(),
            Size(volume.size).rounded(),
            volume.block_size.to_string(),
            volume.naa.clone(),
            volume.serial.clone(),
            volume.lun.map_or_else(dash, |lun| lun.to_string()),
            if volume.ready { "yes" } else { "no" }.to_owned(),
            volume.pairs.to_string(),
        ];
        if devices {
            row.push(volume.host_device.clone().unwrap_or_else(dash));
        }
        table.add_row(row);
    }
    right(&mut table, [0, 3, 4, 7, 9]);
    text(&table)
}

/// `volume list`.
pub(crate) fn volumes(volumes: &[VolumeDocument]) -> String {
    let mut table = table(&["number", "name", "class", "size", "thin", "media", "LUNs"]);
    for volume in volumes {
        let luns: Vec<String> = volume
            .luns
            .iter()
            .map(|map| {
                let whose = map
                    .initiator
                    .as_ref()
                    .map_or_else(String::new, |whose| format!(" for {whose}"));
                format!(
                    "{} of {}{whose}{}",
                    map.lun,
                    map.target,
                    if map.read_only { " (read-only)" } else { "" }
                )
            })
            .collect();
        table.add_row([
            volume.number.to_string(),
            volume.name.clone(),
            volume.class.clone(),
            Size(volume.size).rounded(),
            if volume.thin { "yes" } else { "no" }.to_owned(),
            volume.media.clone().unwrap_or_else(dash),
            if luns.is_empty() { dash() } else { luns.join(", ") },
        ]);
    }
    right(&mut table, [0, 3]);
    text(&table)
}

/// `pending`: first block, number of blocks, bytes.
pub(crate) fn extents(extents: &[(u64, u64)], block_size: u32) -> String {
    if extents.is_empty() {
        return "no extents differ".to_owned();
    }
    let bytes = |blocks: u64| Size(blocks.saturating_mul(u64::from(block_size))).rounded();
    let mut table = table(&["LBA", "blocks", "size"]);
    for (lba, blocks) in extents {
        table.add_row([lba.to_string(), blocks.to_string(), bytes(*blocks)]);
    }
    right(&mut table, 0..3);
    let all = extents.iter().map(|(_, blocks)| blocks).sum();
    format!("{}\n{} extents, {}", text(&table), extents.len(), bytes(all))
}

/// `table`: kind, role, state, other volume, its system, pending bits, bytes of a bit.
pub(crate) fn copy_table(rows: &[[String; 7]]) -> String {
    if rows.is_empty() {
        return "the volume is in no pair".to_owned();
    }
    let mut table = table(&["type", "role", "state", "other", "system", "pending", "bytes/bit"]);
    table.add_rows(rows);
    right(&mut table, [5, 6]);
    text(&table)
}

/// `link`: a line for each peer, and below what went wrong last.
pub(crate) fn link(link: &LinkDocument) -> String {
    let Some(listen) = &link.listen else {
        return "no link is configured".to_owned();
    };
    let until = link.certificate_until.as_ref();
    let until = until.map_or_else(String::new, |until| {
        format!(", by a certificate that is good until {until}")
    });
    let mut lines = vec![format!("{} listens on {listen}{until}", link.system)];
    if !link.peers.is_empty() {
        let mut table = table(&[
            "peer",
            "address",
            "state",
            "since",
            "latency",
            "sent",
            "received",
            "compression",
            "out",
            "in",
            "queue",
            "last error",
        ]);
        for peer in &link.peers {
            table.add_row([
                peer.id.clone(),
                peer.address.clone(),
                if peer.up { "up" } else { "down" }.to_owned(),
                peer.since.clone(),
                peer.latency_us.map_or_else(dash, latency),
                Size(peer.sent).rounded(),
                Size(peer.received).rounded(),
                compression(peer),
                rate(peer.send_rate),
                rate(peer.receive_rate),
                queue(peer),
                peer.last_error.clone().unwrap_or_else(dash),
            ]);
        }
        right(&mut table, 4..11);
        lines.push(text(&table));
    }
    if let Some(last) = &link.last_refused {
        lines.push(format!("calls refused: {}, the last from {last}", link.refused));
    }
    lines.join("\n")
}

/// `12 (96KiB)`, and what waits on disk: `, 3.1GiB of 8GiB on disk`.
fn queue(peer: &LinkPeer) -> String {
    let memory = format!("{} ({})", peer.queue, Size(peer.queue_bytes).rounded());
    match peer.disk_queue {
        Some(DiskQueue { bytes, size }) => {
            let (bytes, size) = (Size(bytes).rounded(), Size(size).rounded());
            format!("{memory}, {bytes} of {size} on disk")
        }
        None => memory,
    }
}

/// `zstd, out 3.2, in 1.0`: how many times as many bytes it would be without.
fn compression(peer: &LinkPeer) -> String {
    let times = |plain: u64, sent: u64| {
        let tenths = plain.max(sent).saturating_mul(10) / sent.max(1);
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    let spared = peer.sent_uncompressed > peer.sent || peer.received_uncompressed > peer.received;
    if !spared && matches!(peer.compression.as_str(), "" | "none") {
        return dash();
    }
    let (out, back) = (
        times(peer.sent_uncompressed, peer.sent),
        times(peer.received_uncompressed, peer.received),
    );
    format!("{}, out {out}, in {back}", peer.compression)
}

/// `0.25 ms`.
fn latency(us: u64) -> String {
    format!("{}.{:02} ms", us / 1000, us % 1000 / 10)
}

/// `sessions`: a line for each connection.
pub(crate) fn sessions(sessions: &[Session]) -> String {
    if sessions.is_empty() {
        return "no sessions".to_owned();
    }
    let mut table = table(&[
        "target",
        "initiator",
        "ISID",
        "TSIH",
        "CID",
        "from",
        "portal",
        "since",
        "commands",
        "in",
        "out",
    ]);
    for session in sessions {
        let target = if session.target.is_empty() {
            "(discovery)"
        } else {
            &session.target
        };
        for connection in &session.connections {
            table.add_row([
                target.to_owned(),
                session.initiator.clone(),
                session.isid.clone(),
                session.tsih.to_string(),
                connection.cid.to_string(),
                connection.peer.clone(),
                connection.portal.clone(),
                connection.since.clone(),
                connection.commands.to_string(),
                Size(connection.bytes_in).rounded(),
                Size(connection.bytes_out).rounded(),
            ]);
        }
    }
    right(&mut table, [3, 4, 8, 9, 10]);
    text(&table)
}

/// One line of `events`.
pub(crate) fn event(event: &Event) -> String {
    format!("{} {:7} {:10} {}", event.at, event.level, event.kind, event.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_left() {
        assert_eq!(eta(None), "?");
        assert_eq!(eta(Some(12)), "12s");
        assert_eq!(eta(Some(123)), "2m03s");
        assert_eq!(eta(Some(3723)), "1h02m");
    }

    #[test]
    fn extents_are_summed_up() {
        let shown = extents(&[(0, 128), (256, 128)], 512);
        assert!(shown.ends_with("2 extents, 128KiB"), "{shown}");
        assert_eq!(extents(&[], 512), "no extents differ");
    }
}
