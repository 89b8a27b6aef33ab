//! `keys`: what sessions may agree on (RFC 7143 13), for all initiators, for those of a target, and for some of them.
//!
//! There is one list of keys, and one way to what counts: what a target says is laid over what `[iscsi]` says, and what an
//! initiator's rule says over that ([`offer`]).

use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

use admin_api::Size;
use iscsi_frontend::{DigestKind, Offer, Tuning};
use toml::{Table, Value as Toml};

use super::{problem::Problems, raw::RawIscsi};

/// What one table says of them: the keys that it names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SessionKeys(BTreeMap<&'static str, Value>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Digests(Vec<DigestKind>),
    Flag(bool),
    Number(u32),
}

/// What a key takes, and its place in an offer.
enum Kind {
    Digests(fn(&mut Offer, Vec<DigestKind>)),
    Flag(fn(&mut Offer, bool)),
    Number(RangeInclusive<u32>, fn(&mut Offer, u32)),
    Bytes(RangeInclusive<u32>, fn(&mut Offer, u32)),
}

const MAX_BURST: &str = "max_burst_length";
const FIRST_BURST: &str = "first_burst_length";

/// Lengths begin at 512 and end below 2^24, times end at 3600 (RFC 7143 13.12 to 13.16). Where memory is set aside for what a key
/// allows, less is accepted: a connection holds one data segment, and each of its commands the first burst.
const KEYS: [(&str, Kind); 12] = [
    (
        "header_digest",
        Kind::Digests(|offer, kinds| offer.header_digest = kinds),
    ),
    (
        "data_digest",
        Kind::Digests(|offer, kinds| offer.data_digest = kinds),
    ),
    (
        "max_connections",
        Kind::Number(1..=64, |offer, count| offer.max_connections = count as u16),
    ),
    (
        "initial_r2t",
        Kind::Flag(|offer, is_set| offer.initial_r2t = is_set),
    ),
    (
        "immediate_data",
        Kind::Flag(|offer, is_set| offer.immediate_data = is_set),
    ),
    (
        "max_recv_data_segment_length",
        Kind::Bytes(512..=1 << 20, |offer, bytes| {
            offer.max_recv_data_segment_length = bytes;
        }),
    ),
    (
        MAX_BURST,
        Kind::Bytes(512..=(1 << 24) - 1, |offer, bytes| offer.max_burst_length = bytes),
    ),
    (
        FIRST_BURST,
        Kind::Bytes(512..=1 << 20, |offer, bytes| offer.first_burst_length = bytes),
    ),
    (
        "default_time2wait",
        Kind::Number(0..=3600, |offer, seconds| {
            offer.default_time2wait = seconds as u16;
        }),
    ),
    (
        "default_time2retain",
        Kind::Number(0..=3600, |offer, seconds| {
            offer.default_time2retain = seconds as u16;
        }),
    ),
    (
        "max_outstanding_r2t",
        Kind::Number(1..=64, |offer, count| offer.max_outstanding_r2t = count as u16),
    ),
    (
        "error_recovery_level",
        Kind::Number(0..=2, |offer, level| offer.error_recovery_level = level as u8),
    ),
];

const DIGESTS: [DigestKind; 2] = [DigestKind::None, DigestKind::Crc32c];

/// What a session may agree on where these tables count, the general one first.
pub(crate) fn offer<'a>(tables: impl IntoIterator<Item = &'a SessionKeys>) -> Offer {
    let mut offer = Tuning::default().offer;
    for table in tables {
        table.lay_over(&mut offer);
    }
    offer
}

impl SessionKeys {
    fn lay_over(&self, offer: &mut Offer) {
        for (name, kind) in &KEYS {
            match (kind, self.0.get(name)) {
                (Kind::Digests(set), Some(Value::Digests(kinds))) => set(offer, kinds.clone()),
                (Kind::Flag(set), Some(Value::Flag(is_set))) => set(offer, *is_set),
                (Kind::Number(_, set) | Kind::Bytes(_, set), Some(Value::Number(number))) => {
                    set(offer, *number);
                }
                _ => {}
            }
        }
    }

    /// The keys of which this table says something else than `before` did, as they are written; those that it leaves open now as
    /// `None`.
    pub(crate) fn changes<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (&'static str, Option<String>)> + use<'a> {
        let names = KEYS.iter().map(|(name, _)| *name);
        names
            .filter(|name| self.0.get(name) != before.0.get(name))
            .map(|name| (name, self.0.get(name).map(ToString::to_string)))
    }

    /// The keys that it names, with what it says, as they are written.
    pub(crate) fn said(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.0.iter().map(|(name, value)| (*name, value.to_string()))
    }

    fn number(&self, name: &str) -> Option<u32> {
        match self.0.get(name) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digests(kinds) => write!(
                f,
                "{:?}",
                kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>()
            ),
            Self::Flag(is_set) => is_set.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// Of `[iscsi]`, which has two of them outside of its `keys` as well.
pub(super) fn general(raw: &RawIscsi, problems: &mut Problems) -> SessionKeys {
    let mut table = raw.keys.clone().unwrap_or_default();
    let beside = [
        ("max_connections", raw.max_connections),
        ("error_recovery_level", raw.error_recovery_level),
    ];
    let mut keys = SessionKeys::default();
    for (name, number) in beside {
        let Some(number) = number else { continue };
        if table.contains_key(name) {
            problems.add(
                format!("iscsi.{name}"),
                format!("is given twice: here and as iscsi.keys.{name}"),
            );
        }
        table.remove(name);
        take(
            &mut keys,
            &format!("iscsi.{name}"),
            name,
            &Toml::Integer(number),
            problems,
        );
    }
    add(&mut keys, "iscsi.keys", &table, problems);
    check_bursts("iscsi.keys", [&keys], problems);
    keys
}

/// Of the table `key`, under which `general` ones hold.
pub(super) fn keys<const N: usize>(
    key: &str,
    raw: Option<&Table>,
    general: [&SessionKeys; N],
    problems: &mut Problems,
) -> SessionKeys {
    let mut keys = SessionKeys::default();
    if let Some(table) = raw {
        let key = format!("{key}.keys");
        add(&mut keys, &key, table, problems);
        if table.contains_key(FIRST_BURST) || table.contains_key(MAX_BURST) {
            check_bursts(&key, general.into_iter().chain([&keys]), problems);
        }
    }
    keys
}

fn add(keys: &mut SessionKeys, key: &str, table: &Table, problems: &mut Problems) {
    for (name, value) in table {
        take(keys, &format!("{key}.{name}"), name, value, problems);
    }
}

/// The value of the key `name`, which is written at `key`.
fn take(keys: &mut SessionKeys, key: &str, name: &str, value: &Toml, problems: &mut Problems) {
    let Some((name, kind)) = KEYS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<_> = KEYS.iter().map(|(name, _)| *name).collect();
        return problems.add(key, format!("unknown key; accepted are {}", known.join(", ")));
    };
    match read(kind, value) {
        Ok(value) => {
            keys.0.insert(name, value);
        }
        Err(text) => problems.add(key, text),
    }
}

/// What is written, or what is accepted instead.
fn read(kind: &Kind, value: &Toml) -> Result<Value, String> {
    let within = |range: &RangeInclusive<u32>, number: u64| {
        let number = u32::try_from(number).ok()?;
        range.contains(&number).then_some(Value::Number(number))
    };
    match kind {
        Kind::Flag(_) => {
            let flag = value.as_bool().map(Value::Flag);
            flag.ok_or_else(|| format!("{value} is not accepted: true or false is"))
        }
        Kind::Number(range, _) => {
            let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
            number
                .and_then(|number| within(range, number))
                .ok_or_else(|| format!("{value} is not accepted: {} to {} is", range.start(), range.end()))
        }
        Kind::Bytes(range, _) => {
            let bytes = match value {
                Toml::String(text) => text.parse::<Size>().ok().map(|size| size.0),
                Toml::Integer(number) => u64::try_from(*number).ok(),
                _ => None,
            };
            bytes.and_then(|bytes| within(range, bytes)).ok_or_else(|| {
                format!(
                    "{value} is not accepted: {} to {} bytes are, as a number or like \"64KiB\"",
                    range.start(),
                    range.end()
                )
            })
        }
        Kind::Digests(_) => {
            let words = value.as_array().filter(|words| !words.is_empty());
            let words = words.ok_or_else(|| {
                format!("{value} is not accepted: a list of \"None\" and \"CRC32C\" is, or of one of them")
            })?;
            let mut kinds = Vec::new();
            for word in words {
                match DIGESTS
                    .into_iter()
                    .find(|kind| word.as_str() == Some(kind.name()))
                {
                    Some(kind) if kinds.contains(&kind) => return Err(format!("{word} is given twice")),
                    Some(kind) => kinds.push(kind),
                    None => return Err(format!("{word} is not accepted: \"None\" and \"CRC32C\" are")),
                }
            }
            Ok(Value::Digests(kinds))
        }
    }
}

/// FirstBurstLength is no more than MaxBurstLength (RFC 7143 13.14). One that nobody names follows the other.
fn check_bursts<'a>(key: &str, tables: impl IntoIterator<Item = &'a SessionKeys>, problems: &mut Problems) {
    let (mut first, mut most) = (None, None);
    for table in tables {
        first = table.number(FIRST_BURST).or(first);
        most = table.number(MAX_BURST).or(most);
    }
    if let (Some(first), Some(most)) = (first, most)
        && first > most
    {
        let text =
            format!("{FIRST_BURST} is {first} here, and {MAX_BURST} {most}: no more than that is accepted");
        problems.add(key, text);
    }
}
