//! `shared` of a `[[volume]]`: another system shows hosts the same unit.

use std::collections::{BTreeMap, BTreeSet};

use target_core::scsi_model::control::SystemId;

use super::{
    Peer, VolumeConfig,
    problem::Problems,
    raw::{RawShared, RawVolume},
    target::TargetConfig,
};

/// Where the other half of a shared unit is, and how hosts tell the two apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharedConfig {
    /// The system that shows the same unit.
    pub(crate) peer: SystemId,
    /// The volume there.
    pub(crate) volume: u32,
    /// Target port groups, this system's and the other's; `None` made from the names of the systems.
    target_port_groups: Option<[u16; 2]>,
}

impl std::fmt::Display for SharedConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "with {}:{}", self.peer, self.volume)?;
        self.target_port_groups.map_or(Ok(()), |[ours, theirs]| {
            write!(f, ", target port groups {ours} and {theirs}")
        })
    }
}

impl SharedConfig {
    /// The target port group of this system's ports. Without one configured it is 1 on the system whose id sorts first, and 2 on the other:
    /// so they differ.
    pub(crate) fn target_port_group(&self, system: &SystemId) -> u16 {
        match self.target_port_groups {
            Some([ours, _]) => ours,
            None if *system < self.peer => 1,
            None => 2,
        }
    }
}

pub(super) fn shared(key: &str, raw: &RawVolume, problems: &mut Problems) -> Option<SharedConfig> {
    let shared = raw.shared.as_ref()?;
    let key = format!("{key}.shared");
    for (wrong, text) in [
        (
            raw.naa.is_none(),
            "is accepted together with naa only: it is the same on both systems",
        ),
        (
            raw.class != "standard",
            "is accepted for volumes of class \"standard\" only: the class is in what hosts compare",
        ),
        (raw.removable, "is not accepted for a removable volume"),
    ] {
        if wrong {
            problems.add(&key, text);
        }
    }
    let groups = target_port_groups(&key, shared, problems);
    let partner = shared.with.rsplit_once(':');
    let partner = partner.and_then(|(peer, volume)| Some((SystemId::new(peer).ok()?, volume.parse().ok()?)));
    let Some((peer, volume)) = partner else {
        let text = format!(
            "{:?} is not accepted: SYSTEM:NUMBER is, like \"HF-B:1\"",
            shared.with
        );
        problems.add(format!("{key}.with"), text);
        return None;
    };
    Some(SharedConfig {
        peer,
        volume,
        target_port_groups: groups,
    })
}

fn target_port_groups(key: &str, raw: &RawShared, problems: &mut Problems) -> Option<[u16; 2]> {
    let given = raw.target_port_groups?;
    let groups = given.map(|group| u16::try_from(group).ok().filter(|group| *group > 0));
    match groups {
        [Some(ours), Some(theirs)] if ours != theirs => Some([ours, theirs]),
        _ => {
            let text = format!(
                "{given:?} is not accepted: two different numbers from 1 to 65535 are, of this system and of the other"
            );
            problems.add(format!("{key}.target_port_groups"), text);
            None
        }
    }
}

/// Units are shared with systems that this one is linked to.
pub(super) fn peers_are_known(
    volumes: &BTreeMap<u32, VolumeConfig>,
    peers: &BTreeMap<SystemId, Peer>,
    problems: &mut Problems,
) {
    for volume in volumes.values() {
        if let Some(shared) = &volume.shared
            && !peers.contains_key(&shared.peer)
        {
            let text = format!("{} is no [[peer]] of this system", shared.peer);
            problems.add(format!("volume {}.shared.with", volume.name), text);
        }
    }
}

/// Initiators are sent to the one system that shows all shared units of their target.
pub(super) fn redirects_lead_somewhere(
    targets: &BTreeMap<String, TargetConfig>,
    volumes: &BTreeMap<u32, VolumeConfig>,
    problems: &mut Problems,
) {
    for target in targets.values().filter(|target| target.redirect.is_some()) {
        let key = format!("target {}.redirect", target.iqn);
        let peers: BTreeSet<&SystemId> = target.shared(volumes).map(|(_, peer)| peer).collect();
        if peers.is_empty() {
            problems.add(key, "is accepted for a target with a `shared` volume only");
        } else if peers.len() > 1 {
            let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
            let text = format!(
                "is accepted where all shared volumes of the target are shared with one system; these are with {}",
                peers.join(" and ")
            );
            problems.add(key, text);
        }
    }
}
