//! The tables as they are written: types and known keys, nothing more.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        DeserializeOwned, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use toml::{Table, Value};

use super::problem::Problems;

/// Every table. A table that does not fit is reported and missing here.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub(super) system: Option<RawSystem>,
    pub(super) iscsi: Option<RawIscsi>,
    pub(super) isns: Option<RawIsns>,
    pub(super) admin: Option<RawAdmin>,
    pub(super) replication: Option<RawReplication>,
    pub(super) generations: Option<RawGenerations>,
    pub(super) link: Option<RawLink>,
    /// With the key that messages name it by.
    pub(super) peers: Vec<(String, RawPeer)>,
    /// With the key that messages name it by.
    pub(super) volumes: Vec<(String, RawVolume)>,
    /// A volume did not fit: what else names it is not to blame.
    pub(super) volumes_incomplete: bool,
    /// Likewise.
    pub(super) targets: Vec<(String, RawTarget)>,
}

/// A size is text with a unit, or a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a size is accepted: text like \"10GiB\", or a number of bytes"
)]
pub(crate) enum RawSize {
    /// Bytes.
    Bytes(u64),
    /// With a unit.
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSystem {
    pub(super) id: Option<String>,
    pub(super) state_dir: Option<String>,
    pub(super) track_size: Option<RawSize>,
    pub(super) workers: Option<u16>,
    pub(super) work_stealing: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIscsi {
    pub(super) portals: Option<Vec<RawPortal>>,
    pub(super) max_connections: Option<i64>,
    pub(super) error_recovery_level: Option<i64>,
    pub(super) chap_algorithms: Option<Vec<String>>,
    pub(super) look_before_sleep: Option<i64>,
    pub(super) keys: Option<Table>,
    pub(super) discovery: Option<RawDiscovery>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDiscovery {
    pub(super) chap: Option<OneOrMore<RawChap>>,
    pub(super) mutual: Option<RawChap>,
}

/// In portal group 1, or in the one that is said.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "a portal is accepted: text like \"127.0.0.1:3260\", or { address = \"127.0.0.1:3260\", group = 2 }"
)]
pub(super) enum RawPortal {
    Address(String),
    InGroup { address: String, group: i64 },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIsns {
    pub(super) server: String,
    pub(super) entity: Option<String>,
    pub(super) esi_interval: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAdmin {
    pub(super) socket: Option<String>,
    pub(super) http: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawReplication {
    pub(super) copy_rate: Option<RawSize>,
    pub(super) latency_factor: Option<f64>,
    pub(super) longest_hold: Option<f64>,
    pub(super) journal_limit: Option<RawSize>,
    pub(super) auto_resume: Option<bool>,
    #[serde(default)]
    pub(super) resume_by_command: Vec<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGenerations {
    #[serde(default)]
    pub(super) pool: Vec<u32>,
    pub(super) directory: Option<String>,
}

/// `[[volume]]`; volumes made at run time are kept in the same shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawVolume {
    pub(crate) number: u32,
    pub(crate) name: String,
    #[serde(default = "standard")]
    pub(crate) class: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<RawSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[serde(default)]
    pub(crate) memory: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) direct: bool,
    #[serde(default = "sector")]
    pub(crate) block_size: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) physical_block_size: Option<u32>,
    #[serde(default)]
    pub(crate) removable: bool,
    #[serde(default = "yes")]
    pub(crate) thin: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quota: Option<RawSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) naa: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eui64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shared: Option<RawShared>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawShared {
    pub(super) with: String,
    pub(super) target_port_groups: Option<[i64; 2]>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTarget {
    pub(super) iqn: String,
    pub(super) alias: Option<String>,
    pub(super) portal_groups: Option<Vec<i64>>,
    pub(super) relative_port_offset: Option<i64>,
    pub(super) nop_interval: Option<i64>,
    pub(super) nop_patience: Option<i64>,
    #[serde(default = "yes")]
    pub(super) announce_luns: bool,
    pub(super) redirect: Option<String>,
    pub(super) keys: Option<Table>,
    #[serde(default)]
    pub(super) luns: Vec<RawLun>,
    #[serde(default)]
    pub(super) initiator: Vec<RawInitiator>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLun {
    pub(super) lun: u16,
    pub(super) volume: u32,
    #[serde(default)]
    pub(super) read_only: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInitiator {
    pub(super) name: String,
    #[serde(default)]
    pub(super) control: bool,
    pub(super) luns: Option<Vec<RawLun>>,
    pub(super) chap: Option<OneOrMore<RawChap>>,
    pub(super) mutual: Option<RawChap>,
    pub(super) moved: Option<RawMoved>,
    pub(super) keys: Option<Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMoved {
    pub(super) to: String,
    #[serde(default)]
    pub(super) permanent: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChap {
    pub(super) user: String,
    pub(super) secret_file: String,
}

/// A table, or a list of such tables.
#[derive(Debug)]
pub(super) enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TableOrList(PhantomData))
    }
}

/// Knows which of both it is by its form, so that what is wrong in a table is named.
struct TableOrList<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for TableOrList<T> {
    type Value = OneOrMore<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table, or a list of tables")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(OneOrMore::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMore::More)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLink {
    pub(super) listen: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) ca: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPeer {
    pub(super) id: String,
    pub(super) address: String,
    pub(super) compression: Option<String>,
    pub(super) queue: Option<RawQueue>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawQueue {
    pub(super) size: RawSize,
    pub(super) file: Option<String>,
}

const ACCEPTED: &str = "system, iscsi, isns, admin, replication, generations, link, peer, volume, target";

fn standard() -> String {
    "standard".to_owned()
}

fn sector() -> u32 {
    512
}

fn yes() -> bool {
    true
}

impl Raw {
    /// Takes the table apart. Every table that does not fit is one problem, so one run shows them all.
    pub(super) fn from_table(table: Table, problems: &mut Problems) -> Self {
        let mut raw = Self::default();
        for (key, value) in table {
            match key.as_str() {
                "system" => raw.system = fit(&key, value, problems),
                "iscsi" => raw.iscsi = fit(&key, value, problems),
                "isns" => raw.isns = fit(&key, value, problems),
                "admin" => raw.admin = fit(&key, value, problems),
                "replication" => raw.replication = fit(&key, value, problems),
                "generations" => raw.generations = fit(&key, value, problems),
                "volume" => {
                    let before = problems.len();
                    raw.volumes = fit_each(&key, value, problems);
                    raw.volumes_incomplete = problems.len() > before;
                }
                "target" => raw.targets = fit_each(&key, value, problems),
                "link" => raw.link = fit(&key, value, problems),
                "peer" => raw.peers = fit_each(&key, value, problems),
                _ => problems.add(key, format!("unknown key; accepted are {ACCEPTED}")),
            }
        }
        raw
    }
}

fn fit<T: DeserializeOwned>(key: &str, value: Value, problems: &mut Problems) -> Option<T> {
    match value.try_into() {
        Ok(fitted) => Some(fitted),
        Err(error) => {
            problems.add(key, error.to_string().trim_end().replace('\n', " "));
            None
        }
    }
}

fn fit_each<T: DeserializeOwned>(key: &str, value: Value, problems: &mut Problems) -> Vec<(String, T)> {
    let Value::Array(tables) = value else {
        problems.add(key, format!("one table for each is accepted: [[{key}]]"));
        return Vec::new();
    };
    let tables = tables.into_iter().enumerate().filter_map(|(index, table)| {
        let key = format!("{key}[{}]", index + 1);
        fit(&key, table, problems).map(|fitted| (key, fitted))
    });
    tables.collect()
}
