//! `[iscsi]` and `[isns]`: where initiators come in, what sessions may agree on, and the name server that is told.

use std::{collections::BTreeSet, time::Duration};

use iscsi_frontend::{Algorithm, Portal};

use super::{
    authentication::{Authentication, authentication},
    problem::Problems,
    raw::{RawDiscovery, RawIscsi, RawIsns, RawPortal},
    validate::{DECLARABLE, address, is_declarable},
};

/// `[isns]`: the name server that is told what is served (RFC 4171).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Isns {
    /// `host:port`.
    pub(crate) server: String,
    /// Entity identifier; `None` takes one from the system id.
    pub(crate) entity: Option<String>,
    /// Seconds between its inquiries; 0: none.
    pub(crate) esi_interval: u32,
}

/// The most microseconds that a session may look at its socket.
const LONGEST_LOOK: u64 = 1000;

/// Microseconds that a session looks at its socket before it sleeps.
pub(super) fn longest_look(raw: Option<i64>, problems: &mut Problems) -> Duration {
    let default = iscsi_frontend::Tuning::default().longest_look;
    match raw.map(u64::try_from) {
        None => default,
        Some(Ok(microseconds @ 0..=LONGEST_LOOK)) => Duration::from_micros(microseconds),
        Some(_) => {
            problems.add(
                "iscsi.look_before_sleep",
                format!("is 0 to {LONGEST_LOOK}: microseconds; 0 to sleep at once"),
            );
            default
        }
    }
}

/// `[iscsi.discovery]`.
pub(super) fn discovery(raw: RawDiscovery, problems: &mut Problems) -> Authentication {
    const KEY: &str = "iscsi.discovery";
    if raw.chap.is_none() && raw.mutual.is_none() {
        problems.add(
            KEY,
            "chap is needed; leave the table out when whoever asks is told",
        );
    }
    authentication(KEY, raw.chap, raw.mutual, problems)
}

/// Portal groups, at most: page 88h and REPORT TARGET PORT GROUPS have room for so many ports of a target.
const MOST_GROUPS: usize = 64;

pub(super) fn portals(raw: RawIscsi, problems: &mut Problems) -> Option<Vec<Portal>> {
    const KEY: &str = "iscsi.portals";
    let Some(raw) = raw.portals.filter(|portals| !portals.is_empty()) else {
        problems.add(
            KEY,
            "at least one ADDRESS:PORT is needed, like \"127.0.0.1:3260\"",
        );
        return None;
    };
    let mut portals: Vec<Portal> = Vec::new();
    for raw in raw {
        let (text, group) = match raw {
            RawPortal::Address(text) => (text, 1),
            RawPortal::InGroup { address, group } => (address, group),
        };
        let group = u16::try_from(group)
            .ok()
            .filter(|group| *group > 0)
            .unwrap_or_else(|| {
                problems.add(
                    KEY,
                    format!("portal group {group} is not accepted: 1 to 65535 is"),
                );
                1
            });
        let Some(address) = address(KEY, &text, problems) else {
            continue;
        };
        if portals.iter().any(|portal| portal.address == address) {
            problems.add(KEY, format!("{address} is listed twice"));
        }
        portals.push(Portal { address, group });
    }
    let groups: BTreeSet<u16> = portals.iter().map(|portal| portal.group).collect();
    if groups.len() > MOST_GROUPS {
        problems.add(KEY, format!("up to {MOST_GROUPS} portal groups are accepted"));
    }
    Some(portals)
}

/// The hashes of CHAP by the names that the configuration has for them.
const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("SHA3-256", Algorithm::Sha3_256),
    ("SHA-256", Algorithm::Sha256),
    ("SHA1", Algorithm::Sha1),
    ("MD5", Algorithm::Md5),
];

/// Those that are taken, best first.
pub(super) fn chap_algorithms(raw: Option<&[String]>, problems: &mut Problems) -> Vec<Algorithm> {
    const KEY: &str = "iscsi.chap_algorithms";
    let Some(names) = raw else {
        return Algorithm::PREFERENCE.to_vec();
    };
    let mut chosen = Vec::new();
    for name in names {
        match ALGORITHMS.iter().find(|(known, _)| known == name) {
            Some((_, algorithm)) if chosen.contains(algorithm) => {
                problems.add(KEY, format!("{name:?} is given twice"));
            }
            Some((_, algorithm)) => chosen.push(*algorithm),
            None => {
                let known = ALGORITHMS.map(|(known, _)| format!("{known:?}")).join(", ");
                problems.add(KEY, format!("{name:?} is not accepted: {known} are, best first"));
            }
        }
    }
    if names.is_empty() {
        problems.add(KEY, "at least one is accepted; leave it out for all");
    }
    chosen
}

/// The name of a hash.
pub(crate) fn algorithm_name(algorithm: Algorithm) -> &'static str {
    let known = ALGORITHMS.iter().find(|(_, known)| *known == algorithm);
    known.map_or("?", |(name, _)| name)
}

/// Seconds between inquiries when nothing is said.
const ESI_INTERVAL: u32 = 60;

pub(super) fn isns(raw: RawIsns, problems: &mut Problems) -> Option<Isns> {
    let host_and_port = raw.server.rsplit_once(':');
    let reachable = host_and_port.is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let named = !host.is_empty() && (bracketed || !host.contains(':'));
        named && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !reachable {
        let text = format!(
            "{:?} is not accepted: HOST:PORT is, like \"isns.example.org:3205\" or \"192.0.2.5:3205\"",
            raw.server
        );
        problems.add("isns.server", text);
    }
    if let Some(entity) = &raw.entity
        && !is_declarable(entity)
    {
        problems.add("isns.entity", DECLARABLE);
    }
    reachable.then_some(Isns {
        server: raw.server,
        entity: raw.entity,
        esi_interval: raw.esi_interval.unwrap_or(ESI_INTERVAL),
    })
}
