//! Generations (docs/generations.md).

use scsi_model::control::Request;
use serde::{Deserialize, Serialize};

use crate::query::QueryVolume;

/// `GET /v1/generations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationsDocument {
    /// Oldest first.
    pub generations: Vec<Generation>,
    /// What makes and drops them.
    pub rules: Vec<GenerationRule>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// From 1 on.
    pub number: u32,
    /// As its maker called it.
    pub name: Option<String>,
    /// RFC 3339: the instant of the image.
    pub at: String,
    /// Made by a rule, which may drop it.
    pub by_rule: bool,
    /// Why it cannot be dropped now; `None` it can.
    pub in_use: Option<String>,
    /// Its pairs.
    pub members: Vec<GenerationMember>,
}

/// A pair of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationMember {
    /// The standard.
    pub primary: QueryVolume,
    /// Where its image is.
    pub mirror: QueryVolume,
    /// Name of the pair's state.
    pub state: String,
    /// Tracks the standard changed since, or that are still being copied.
    pub mirror_invalid: u64,
    /// Tracks hosts changed on the image itself.
    pub primary_invalid: u64,
    /// Bytes a track.
    pub track_size: u32,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRule {
    /// The standards.
    pub primaries: Vec<QueryVolume>,
    /// Seconds from one to the next.
    pub every_seconds: u64,
    /// The newest so many stay.
    pub keep: u32,
    /// Seconds; older ones go, but never the newest.
    pub max_age_seconds: Option<u64>,
    /// RFC 3339: when the next one is due.
    pub next_at: String,
}

/// `POST /v1/generation/create`; the answer is the [`Generation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationCreate {
    /// Numbers of the standards.
    pub primaries: Vec<u32>,
    /// A name of its own.
    #[serde(default)]
    pub name: Option<String>,
}

/// `POST /v1/generation/restore`: executed only if all its pairs are of the generation, and none is recycled meanwhile. The
/// answer is a [`ControlAnswer`](crate::ControlAnswer), with status 200 also when the request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationRestore {
    /// Its number.
    pub generation: u32,
    /// A RESTORE.
    pub request: Request,
}

/// `POST /v1/generation/delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationDelete {
    /// Number or name.
    pub generation: String,
}

/// `POST /v1/generation/rule/set`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationRuleSet {
    /// Numbers of the standards.
    pub primaries: Vec<u32>,
    /// Seconds from one to the next.
    pub every_seconds: u64,
    /// The newest so many stay.
    pub keep: u32,
    /// Seconds; older ones go, but never the newest.
    #[serde(default)]
    pub max_age_seconds: Option<u64>,
}

/// `POST /v1/generation/rule/clear`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationRuleClear {
    /// Number of a standard that is in the rule.
    pub primary: u32,
}
