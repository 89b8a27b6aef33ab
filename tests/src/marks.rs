//! Which tracks of a pair differ, and which have a mark.

use std::{collections::BTreeSet, fs, os::unix::fs::FileExt as _, path::Path};

use serde_json::Value;

use crate::{Daemon, stamps::SECTOR};

/// Bytes of a track in tests that look at marks ([`TRACK_SIZE`]).
pub const TRACK_BYTES: u64 = 8 << 10;
/// Sectors of a track.
pub const TRACK: u64 = TRACK_BYTES / SECTOR as u64;
/// The environment variable that makes it so, and its value.
pub const TRACK_SIZE: (&str, &str) = ("HOLDFAST__SYSTEM__TRACK_SIZE", "8KiB");

/// Tracks of a pair that differ and have no mark, of whatever kind. The marks are read first: one that is missing stays missing,
/// but a copy under way may be writing to both files while they are read one after the other.
pub fn unmarked(daemon: &Daemon, pair: (u32, u32), files: (&Path, &Path), bytes: u64) -> Vec<u64> {
    let marked = pending(daemon, pair);
    let tracks = differing(&image(files.0, bytes), &image(files.1, bytes));
    tracks
        .into_iter()
        .filter(|track| !marked.contains(track))
        .collect()
}

/// The tracks that a pair has a mark for.
pub fn pending(daemon: &Daemon, (primary, mirror): (u32, u32)) -> BTreeSet<u64> {
    let mut tracks = BTreeSet::new();
    let (primary, mirror) = (primary.to_string(), mirror.to_string());
    for side in ["union", "remaining"] {
        let text = daemon.holdfast_ok(&["--json", "pending", &primary, &mirror, "--side", side]);
        let document: Value = serde_json::from_str(&text).expect("one JSON document");
        for extent in document["extents"].as_array().expect("a list") {
            let [lba, blocks] = ["lba", "blocks"].map(|key| extent[key].as_u64().expect("a number"));
            tracks.extend(lba / TRACK..(lba + blocks).div_ceil(TRACK));
        }
    }
    tracks
}

/// Tracks in which two images differ.
pub fn differing(left: &[u8], right: &[u8]) -> Vec<u64> {
    let track = TRACK_BYTES as usize;
    let pairs = left.chunks(track).zip(right.chunks(track)).zip(0..);
    pairs
        .filter(|((l, r), _)| l != r)
        .map(|(_, track)| track)
        .collect()
}

/// The first bytes of a volume's file or device, through the page cache.
pub fn image(file: &Path, length: u64) -> Vec<u8> {
    let file = fs::File::open(file).expect("the volume's file");
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).expect("as long as the volume");
    bytes
}
