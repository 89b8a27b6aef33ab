//! `[[target.initiator]]`: who may log in, what it has to prove, and what it sees.

use std::{collections::BTreeMap, net::SocketAddr};

use target_core::initiator_pattern::InitiatorPattern;

use super::{
    VolumeConfig,
    authentication::{Authentication, authentication},
    keys::{SessionKeys, keys},
    problem::Problems,
    raw::RawInitiator,
    target::{LunConfigs, is_legal, iscsi_name, luns},
    validate::address,
};

/// One `[[target.initiator]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InitiatorConfig {
    /// Whom it is about. The narrowest pattern that an initiator's name fits counts.
    pub(crate) name: InitiatorPattern,
    /// May send C0h/C1h.
    pub(crate) control: bool,
    /// It sees these LUNs instead of the target's.
    pub(crate) luns: Option<LunConfigs>,
    /// What it must prove.
    pub(crate) authentication: Authentication,
    /// What its sessions may agree on.
    pub(crate) keys: SessionKeys,
    /// It is sent to this portal instead of being admitted, for good if true.
    pub(crate) moved: Option<(SocketAddr, bool)>,
}

/// All of a target, under whose `general` keys they are. Who fits several is ruled by the narrowest, so no two may be about the same initiators without one being it.
pub(super) fn initiators(
    key: &str,
    raw: Vec<RawInitiator>,
    general: [&SessionKeys; 2],
    volumes: Option<&BTreeMap<u32, VolumeConfig>>,
    problems: &mut Problems,
) -> Vec<InitiatorConfig> {
    let mut initiators: Vec<InitiatorConfig> = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("{key}.initiator[{}]", index + 1);
        let initiator = initiator(&key, raw, general, volumes, problems);
        let name = &initiator.name;
        if initiators.iter().any(|other| other.name == *name) {
            let text = format!("{:?} is given twice", name.to_string());
            problems.add(format!("{key}.name"), text);
        }
        for other in initiators.iter().filter(|other| other.name.clashes(name)) {
            let text = format!(
                "some initiators fit {:?} and {:?}, and neither is the narrower pattern: make one begin and end as the other does, and with more",
                name.to_string(),
                other.name.to_string()
            );
            problems.add(format!("{key}.name"), text);
        }
        initiators.push(initiator);
    }
    initiators
}

fn initiator(
    key: &str,
    raw: RawInitiator,
    general: [&SessionKeys; 2],
    volumes: Option<&BTreeMap<u32, VolumeConfig>>,
    problems: &mut Problems,
) -> InitiatorConfig {
    let name = pattern(&format!("{key}.name"), &raw.name, problems);
    let authentication = authentication(key, raw.chap, raw.mutual, problems);
    let moved = raw.moved.and_then(|raw| {
        let to = address(&format!("{key}.moved.to"), &raw.to, problems)?;
        Some((to, raw.permanent))
    });
    let luns = raw
        .luns
        .map(|raw| luns(&format!("{key}.luns"), &raw, volumes, problems));
    let keys = keys(key, raw.keys.as_ref(), general, problems);
    InitiatorConfig {
        name,
        control: raw.control,
        luns,
        authentication,
        keys,
        moved,
    }
}

/// A name, or a pattern that names can fit.
fn pattern(key: &str, text: &str, problems: &mut Problems) -> InitiatorPattern {
    let pattern = InitiatorPattern::parse(text);
    let fits = pattern.as_ref().is_some_and(|pattern| {
        let kinds = ["iqn.", "eui.", "naa."];
        let mut kinds = kinds
            .into_iter()
            .filter(|kind| pattern.start().starts_with(kind) || kind.starts_with(pattern.start()));
        if pattern.is_exact() {
            iscsi_name(pattern.start())
        } else {
            kinds.next().is_some() && text.len() <= 223 && text.chars().all(is_legal)
        }
    });
    if !fits {
        let text = format!(
            "{text:?} is no iSCSI name; one, a pattern with one * like \"iqn.1993-08.org.debian:*\", or \"*\" for every other initiator, is accepted"
        );
        problems.add(key, text);
    }
    pattern.unwrap_or_else(|| InitiatorPattern::exactly(text))
}
