//! `[[target.initiator]]`: who may log in, what it has to prove, and what it sees.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use target_core::initiator_pattern::InitiatorPattern;

use super::{
    Secret, VolumeConfig,
    problem::Problems,
    raw::{OneOrMore, RawChap, RawInitiator},
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
    /// It must prove who it is with one of these; empty: with nothing.
    pub(crate) chap: Vec<Chap>,
    /// And the target answers with this.
    pub(crate) mutual: Option<Chap>,
    /// It is sent to this portal instead of being admitted, for good if true.
    pub(crate) moved: Option<(SocketAddr, bool)>,
}

/// A CHAP user and its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chap {
    /// CHAP_N.
    pub(crate) user: String,
    /// What the file holds.
    pub(crate) secret: Secret,
}

/// All of a target. Who fits several is ruled by the narrowest, so no two may be about the same initiators without one being it.
pub(super) fn initiators(
    key: &str,
    raw: Vec<RawInitiator>,
    volumes: Option<&BTreeMap<u32, VolumeConfig>>,
    problems: &mut Problems,
) -> Vec<InitiatorConfig> {
    let mut initiators: Vec<InitiatorConfig> = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("{key}.initiator[{}]", index + 1);
        let initiator = initiator(&key, raw, volumes, problems);
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
    volumes: Option<&BTreeMap<u32, VolumeConfig>>,
    problems: &mut Problems,
) -> InitiatorConfig {
    let name = pattern(&format!("{key}.name"), &raw.name, problems);
    if raw.mutual.is_some() && raw.chap.is_none() {
        problems.add(
            format!("{key}.mutual"),
            "is accepted only with chap: the target answers only to whom it has asked",
        );
    }
    let chap = raw
        .chap
        .map(|raw| accepted(&format!("{key}.chap"), raw, problems))
        .unwrap_or_default();
    let mutual = raw
        .mutual
        .and_then(|raw| self::chap(&format!("{key}.mutual"), raw, problems));
    if let Some(mutual) = &mutual
        && chap.iter().any(|chap| chap.secret == mutual.secret)
    {
        problems.add(
            format!("{key}.mutual.secret_file"),
            "holds the same secret as chap; two different ones are accepted (RFC 7143 12.1.3)",
        );
    }
    let moved = raw.moved.and_then(|raw| {
        let to = address(&format!("{key}.moved.to"), &raw.to, problems)?;
        Some((to, raw.permanent))
    });
    let luns = raw
        .luns
        .map(|raw| luns(&format!("{key}.luns"), &raw, volumes, problems));
    InitiatorConfig {
        name,
        control: raw.control,
        luns,
        chap,
        mutual,
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

/// Secrets of an initiator at once, at most: a login tries all of them.
const MOST_SECRETS: usize = 8;

/// Any of these opens the door.
fn accepted(key: &str, raw: OneOrMore<RawChap>, problems: &mut Problems) -> Vec<Chap> {
    let raw = match raw {
        OneOrMore::One(raw) => return chap(key, raw, problems).into_iter().collect(),
        OneOrMore::More(raw) => raw,
    };
    if !(1..=MOST_SECRETS).contains(&raw.len()) {
        problems.add(key, format!("1 to {MOST_SECRETS} secrets at once are accepted"));
    }
    let mut accepted: Vec<Chap> = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("{key}[{}]", index + 1);
        let Some(chap) = chap(&key, raw, problems) else {
            continue;
        };
        if accepted.contains(&chap) {
            problems.add(key, "user and secret are given twice");
        }
        accepted.push(chap);
    }
    accepted
}

fn chap(key: &str, raw: RawChap, problems: &mut Problems) -> Option<Chap> {
    if raw.user.is_empty() || raw.user.len() > 255 {
        problems.add(format!("{key}.user"), "1 to 255 bytes are accepted");
    }
    match Secret::read(Path::new(&raw.secret_file)) {
        Ok(secret) => Some(Chap {
            user: raw.user,
            secret,
        }),
        Err(text) => {
            problems.add(format!("{key}.secret_file"), text);
            None
        }
    }
}
