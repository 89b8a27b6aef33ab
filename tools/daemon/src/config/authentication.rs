//! CHAP as it is configured: for an initiator of a target, and for discovery.

use std::path::Path;

use super::{
    Secret,
    problem::Problems,
    raw::{OneOrMore, RawChap},
};

/// What a login must prove.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Authentication {
    /// The initiator proves who it is with one of these; empty: with nothing.
    pub(crate) chap: Vec<Chap>,
    /// And the target answers with this.
    pub(crate) mutual: Option<Chap>,
}

/// A CHAP user and its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chap {
    /// CHAP_N.
    pub(crate) user: String,
    /// What the file holds.
    pub(crate) secret: Secret,
}

/// Of the table `key`.
pub(super) fn authentication(
    key: &str,
    chap: Option<OneOrMore<RawChap>>,
    mutual: Option<RawChap>,
    problems: &mut Problems,
) -> Authentication {
    if mutual.is_some() && chap.is_none() {
        problems.add(
            format!("{key}.mutual"),
            "is accepted only with chap: the target answers only to whom it has asked",
        );
    }
    let chap = chap
        .map(|raw| accepted(&format!("{key}.chap"), raw, problems))
        .unwrap_or_default();
    let mutual = mutual.and_then(|raw| self::chap(&format!("{key}.mutual"), raw, problems));
    if let Some(mutual) = &mutual
        && chap.iter().any(|chap| chap.secret == mutual.secret)
    {
        problems.add(
            format!("{key}.mutual.secret_file"),
            "holds the same secret as chap; two different ones are accepted (RFC 7143 12.1.3)",
        );
    }
    Authentication { chap, mutual }
}

/// Secrets at once, at most: a login tries all of them.
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
