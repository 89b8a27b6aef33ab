//! `verify --deep`: both sides of a pair compared, slice by slice.

use serde::{Deserialize, Serialize};

/// `POST /v1/verify/deep`: compares from a track on, for half a second or so. Ask again with `next` until there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeepRequest {
    /// The primary, by its number on its own system.
    pub primary: u32,
    /// The mirror, likewise.
    pub mirror: u32,
    /// First track.
    #[serde(default)]
    pub from: u64,
    /// Have what differs in an established pair copied to the mirror.
    #[serde(default)]
    pub repair: bool,
}

/// Its answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeepAnswer {
    /// Tracks of the volume.
    pub tracks: u64,
    /// Where to go on; `None`: that was the last.
    pub next: Option<u64>,
    /// Tracks compared.
    pub compared: u64,
    /// Tracks that need not be the same: a mark says so, or they are still to be copied.
    pub marked: u64,
    /// Tracks that differ without a mark.
    pub differing: Vec<DeepRun>,
    /// They are marked now (in a pair that is apart), or are being copied (with `repair`).
    pub repaired: bool,
}

/// Neighbouring tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeepRun {
    /// The first.
    pub first: u64,
    /// How many.
    pub tracks: u64,
}
