//! `[[target]]`: names, and the LUNs under which volumes are seen.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use iscsi_frontend::KeepaliveTimes;
use target_core::{
    initiator_pattern::{InitiatorPattern, most_specific},
    lun_map::LARGEST_LUN,
};

use super::{
    VolumeConfig,
    initiator::{InitiatorConfig, initiators},
    problem::Problems,
    raw::{RawLun, RawTarget},
    validate::{DECLARABLE, is_declarable},
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
    /// When silent initiators are asked whether they are still there, and given up.
    pub(crate) keepalive: KeepaliveTimes,
    /// By LUN.
    pub(crate) luns: LunConfigs,
    /// Who may log in; empty: any initiator.
    pub(crate) initiators: Vec<InitiatorConfig>,
}

/// Volumes by LUN.
pub(crate) type LunConfigs = BTreeMap<u16, LunConfig>;

impl TargetConfig {
    /// What this initiator sees: LUNs of its own, if its rule has any to say, or the target's.
    pub(crate) fn luns_of(&self, initiator: &str) -> &LunConfigs {
        let rules = self.initiators.iter().map(|rule| (&rule.name, rule));
        let own = most_specific(rules, initiator).and_then(|rule| rule.luns.as_ref());
        own.unwrap_or(&self.luns)
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
        let keepalive = keepalive(&key, &raw, problems);
        let initiators = initiators(&key, raw.initiator, volumes, problems);
        targets.entry(iqn.clone()).or_insert(TargetConfig {
            iqn,
            keepalive,
            alias: raw.alias,
            luns,
            initiators,
        });
    }
    targets
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

/// A target that lets anyone in may only be reached from this machine.
pub(super) fn open_portals(
    portals: &[SocketAddr],
    targets: &BTreeMap<String, TargetConfig>,
    problems: &mut Problems,
) {
    let Some(portal) = portals.iter().find(|portal| !portal.ip().is_loopback()) else {
        return;
    };
    for target in targets.values().filter(|target| target.initiators.is_empty()) {
        let text = format!(
            "lists no [[target.initiator]], so any initiator may log in, and the portal {portal} is not on loopback; \
             list the initiators (name = \"*\" is any), or listen on 127.0.0.1 or [::1] only"
        );
        problems.add(format!("target {}", target.iqn), text);
    }
}
