//! `[[target]]`: names, and the LUNs under which volumes are seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use iscsi_frontend::{KeepaliveTimes, Portal};
use target_core::{
    initiator_pattern::{InitiatorPattern, most_specific},
    lun_map::LARGEST_LUN,
    scsi_model::control::SystemId,
    target::relative_port_id,
};

use super::{
    VolumeConfig,
    initiator::{InitiatorConfig, initiators},
    keys::{SessionKeys, keys},
    problem::Problems,
    raw::{RawLun, RawTarget},
    validate::{DECLARABLE, address, is_declarable},
};

/// One LUN of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LunConfig {
    /// Volume number.
    pub(crate) volume: u32,
    /// Write protected.
    pub(crate) read_only: bool,
}

/// One target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetConfig {
    /// iSCSI name.
    pub(crate) iqn: String,
    /// What people call it.
    pub(crate) alias: Option<String>,
    /// The portal groups through which it is reached; empty: all.
    pub(crate) portal_groups: BTreeSet<u16>,
    /// The relative identifier of a port is this plus the tag of its portal group; `None`: it is made from the names.
    pub(crate) relative_port_offset: Option<u16>,
    /// When silent initiators are asked whether they are still there, and given up.
    pub(crate) keepalive: KeepaliveTimes,
    /// Sessions are told at once when their LUNs change.
    pub(crate) announce_luns: bool,
    /// A portal of the other system that shows its shared units, where initiators are sent while that one leads.
    pub(crate) redirect: Option<SocketAddr>,
    /// What sessions with it may agree on.
    pub(crate) keys: SessionKeys,
    /// By LUN.
    pub(crate) luns: LunConfigs,
    /// Who may log in; empty: any initiator.
    pub(crate) initiators: Vec<InitiatorConfig>,
}

/// Volumes by LUN.
pub(crate) type LunConfigs = BTreeMap<u16, LunConfig>;

impl TargetConfig {
    /// The portal groups in which it has a port.
    pub(crate) fn groups(&self, portals: &[Portal]) -> BTreeSet<u16> {
        let all = portals.iter().map(|portal| portal.group);
        all.filter(|group| self.is_in_group(*group)).collect()
    }

    fn is_in_group(&self, group: u16) -> bool {
        self.portal_groups.is_empty() || self.portal_groups.contains(&group)
    }

    /// What this initiator sees: LUNs of its own, if its rule has any to say, or the target's.
    pub(crate) fn luns_of(&self, initiator: &str) -> &LunConfigs {
        let rules = self.initiators.iter().map(|rule| (&rule.name, rule));
        let own = most_specific(rules, initiator).and_then(|rule| rule.luns.as_ref());
        own.unwrap_or(&self.luns)
    }

    /// Those of its volumes that another system shows too, by number, with that system.
    pub(crate) fn shared<'a>(
        &'a self,
        volumes: &'a BTreeMap<u32, VolumeConfig>,
    ) -> impl Iterator<Item = (u32, &'a SystemId)> {
        self.all_luns().filter_map(|(.., lun)| {
            let shared = volumes.get(&lun.volume)?.shared.as_ref()?;
            Some((lun.volume, &shared.peer))
        })
    }

    /// Everything that somebody sees: the target's LUNs, and those of initiators with LUNs of their own.
    pub(crate) fn all_luns(&self) -> impl Iterator<Item = (Option<&InitiatorPattern>, u16, LunConfig)> {
        let own = self
            .initiators
            .iter()
            .filter_map(|rule| Some((Some(&rule.name), rule.luns.as_ref()?)));
        let maps = std::iter::once((None, &self.luns)).chain(own);
        maps.flat_map(|(whose, luns)| luns.iter().map(move |(lun, map)| (whose, *lun, *map)))
    }
}

pub(super) fn targets(
    raw: Vec<(String, RawTarget)>,
    general: &SessionKeys,
    volumes: Option<&BTreeMap<u32, VolumeConfig>>,
    problems: &mut Problems,
) -> BTreeMap<String, TargetConfig> {
    let mut targets = BTreeMap::new();
    for (key, raw) in raw {
        // iSCSI names compare without case (RFC 7143 4.2.7.1).
        let iqn = raw.iqn.to_lowercase();
        if !iscsi_name(&iqn) {
            let text = format!(
                "{:?} is no iSCSI name: iqn.YYYY-MM.reversed.domain[:text], eui. and naa. names are accepted",
                raw.iqn
            );
            problems.add(format!("{key}.iqn"), text);
        }
        if targets.contains_key(&iqn) {
            problems.add(
                format!("{key}.iqn"),
                format!("{iqn} is the name of another target already"),
            );
        }
        if let Some(alias) = &raw.alias
            && !is_declarable(alias)
        {
            problems.add(format!("{key}.alias"), DECLARABLE);
        }
        let luns = luns(&format!("{key}.luns"), &raw.luns, volumes, problems);
        let portal_groups = portal_groups(&key, raw.portal_groups.as_deref(), problems);
        let relative_port_offset = relative_port_offset(&key, raw.relative_port_offset, problems);
        let keepalive = keepalive(&key, &raw, problems);
        let redirect = raw.redirect.as_ref();
        let redirect = redirect.and_then(|text| address(&format!("{key}.redirect"), text, problems));
        let keys = keys(&key, raw.keys.as_ref(), [general], problems);
        let initiators = initiators(&key, raw.initiator, [general, &keys], volumes, problems);
        targets.entry(iqn.clone()).or_insert(TargetConfig {
            iqn,
            portal_groups,
            relative_port_offset,
            keepalive,
            announce_luns: raw.announce_luns,
            redirect,
            keys,
            alias: raw.alias,
            luns,
            initiators,
        });
    }
    targets
}

fn portal_groups(key: &str, raw: Option<&[i64]>, problems: &mut Problems) -> BTreeSet<u16> {
    let key = format!("{key}.portal_groups");
    if raw.is_some_and(<[i64]>::is_empty) {
        problems.add(&key, "at least one is accepted; leave it out for all");
    }
    let mut groups = BTreeSet::new();
    for group in raw.unwrap_or_default() {
        match u16::try_from(*group) {
            Ok(group @ 1..) if !groups.insert(group) => problems.add(&key, format!("{group} is given twice")),
            Ok(1..) => {}
            _ => problems.add(&key, format!("{group} is not accepted: 1 to 65535 is")),
        }
    }
    groups
}

fn relative_port_offset(key: &str, raw: Option<i64>, problems: &mut Problems) -> Option<u16> {
    let offset = u16::try_from(raw?).ok().filter(|offset| *offset < u16::MAX);
    if offset.is_none() {
        let text = format!("{} is not accepted: 0 to 65534 is", raw.unwrap_or_default());
        problems.add(format!("{key}.relative_port_offset"), text);
    }
    offset
}

/// Seconds that NOP-In may wait for, at most: longer than any network outage that a session is to survive.
const LONGEST_NOP: i64 = 3600;

fn keepalive(key: &str, raw: &RawTarget, problems: &mut Problems) -> KeepaliveTimes {
    let mut times = KeepaliveTimes::default();
    match raw.nop_interval {
        None => {}
        Some(0) => times.interval = None,
        Some(seconds @ 1..=LONGEST_NOP) => times.interval = Some(Duration::from_secs(seconds.unsigned_abs())),
        Some(other) => {
            let text = format!("{other} is not accepted: 1 to {LONGEST_NOP} seconds are, or 0 for never");
            problems.add(format!("{key}.nop_interval"), text);
        }
    }
    match raw.nop_patience {
        None => {}
        Some(seconds @ 1..=LONGEST_NOP) => times.patience = Duration::from_secs(seconds.unsigned_abs()),
        Some(other) => {
            let text = format!("{other} is not accepted: 1 to {LONGEST_NOP} seconds are");
            problems.add(format!("{key}.nop_patience"), text);
        }
    }
    times
}

/// RFC 7143 4.2.7: at most 223 bytes, one of three types.
pub(super) fn iscsi_name(name: &str) -> bool {
    let hex = |text: &str, lengths: &[usize]| {
        lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let iqn = |text: &str| {
        let (date, rest) = text.split_once('.').unwrap_or((text, ""));
        let date = date.as_bytes();
        let digits = |range: &[u8]| range.iter().all(u8::is_ascii_digit);
        date.len() == 7 && digits(&date[..4]) && date[4] == b'-' && digits(&date[5..]) && !rest.is_empty()
    };
    name.len() <= 223
        && name.chars().all(is_legal)
        && (name.strip_prefix("iqn.").is_some_and(iqn)
            || name.strip_prefix("eui.").is_some_and(|rest| hex(rest, &[16]))
            || name.strip_prefix("naa.").is_some_and(|rest| hex(rest, &[16, 32])))
}

/// What a name may have in it: neither what text keys nor what URLs take for their own.
pub(super) fn is_legal(c: char) -> bool {
    !c.is_control() && !c.is_whitespace() && c != ',' && c != '/'
}

/// A list of LUNs; `key` names the list.
pub(super) fn luns(
    key: &str,
    raw: &[RawLun],
    volumes: Option<&BTreeMap<u32, VolumeConfig>>,
    problems: &mut Problems,
) -> LunConfigs {
    let mut luns = BTreeMap::new();
    for (index, entry) in raw.iter().enumerate() {
        let key = format!("{key}[{}]", index + 1);
        if entry.lun > LARGEST_LUN {
            problems.add(
                format!("{key}.lun"),
                format!("{} is not accepted: 0 to {LARGEST_LUN} is", entry.lun),
            );
        }
        if let Some(volumes) = volumes.filter(|volumes| !volumes.contains_key(&entry.volume)) {
            let known = volumes
                .keys()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            let text = format!("there is no volume {}; accepted are {known}", entry.volume);
            problems.add(format!("{key}.volume"), text);
        }
        let lun = LunConfig {
            volume: entry.volume,
            read_only: entry.read_only,
        };
        if luns.insert(entry.lun, lun).is_some() {
            problems.add(format!("{key}.lun"), format!("LUN {} is given twice", entry.lun));
        }
    }
    luns
}

/// Groups of targets that no portal is in, and such as a target cannot be in both.
pub(super) fn check_portal_groups(
    portals: &[Portal],
    targets: &BTreeMap<String, TargetConfig>,
    problems: &mut Problems,
) {
    let there: BTreeSet<u16> = portals.iter().map(|portal| portal.group).collect();
    for target in targets.values() {
        let key = format!("target {}", target.iqn);
        for group in target.portal_groups.difference(&there) {
            let groups: Vec<String> = there.iter().map(ToString::to_string).collect();
            let text = format!(
                "no portal is in portal group {group}; there are {}",
                groups.join(", ")
            );
            problems.add(&key, text);
        }
        let mut ports = BTreeMap::new();
        for group in target.groups(portals) {
            if let Some(offset) = target.relative_port_offset {
                check_relative_port(&key, (offset, group), target, (portals, targets), problems);
                continue;
            }
            if let Some(other) = ports.insert(relative_port_id(&target.iqn, group, None), group) {
                let text = format!(
                    "its ports in portal groups {other} and {group} get the same relative target port identifier: give one of the groups another number"
                );
                problems.add(&key, text);
            }
        }
    }
}

/// A port whose relative identifier is configured: it must be one, and no other port's.
fn check_relative_port(
    key: &str,
    (offset, group): (u16, u16),
    target: &TargetConfig,
    (portals, targets): (&[Portal], &BTreeMap<String, TargetConfig>),
    problems: &mut Problems,
) {
    let key = format!("{key}.relative_port_offset");
    if offset.checked_add(group).is_none() {
        let text = format!(
            "{offset} and portal group {group} make more than 65535: {} or less is accepted",
            u16::MAX - group
        );
        return problems.add(key, text);
    }
    let id = relative_port_id(&target.iqn, group, Some(offset));
    let others = targets.values().filter(|other| other.iqn != target.iqn);
    for other in others {
        let mut groups = other.groups(portals).into_iter();
        if groups.any(|group| relative_port_id(&other.iqn, group, other.relative_port_offset) == id) {
            let text = format!(
                "relative target port identifier {id} is one of {} already",
                other.iqn
            );
            problems.add(&key, text);
        }
    }
}

/// A target that lets anyone in may only be reached from this machine.
pub(super) fn open_portals(
    portals: &[Portal],
    targets: &BTreeMap<String, TargetConfig>,
    problems: &mut Problems,
) {
    for target in targets.values().filter(|target| target.initiators.is_empty()) {
        let mut portals = portals.iter().filter(|portal| target.is_in_group(portal.group));
        let Some(portal) = portals.find(|portal| !portal.address.ip().is_loopback()) else {
            continue;
        };
        let portal = portal.address;
        let text = format!(
            "lists no [[target.initiator]], so any initiator may log in, and the portal {portal} is not on loopback; \
             list the initiators (name = \"*\" is any), or listen on 127.0.0.1 or [::1] only"
        );
        problems.add(format!("target {}", target.iqn), text);
    }
}
