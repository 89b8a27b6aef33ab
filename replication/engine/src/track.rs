//! Geometry: how the bytes of a volume fall into tracks, and tracks into regions.
//!
//! A track is the unit of locking, tracking and copying; a region is the 64 tracks that share a word of a bitmap, the
//! unit of the activity log. The last track may be short, the last region may have fewer tracks.

use crate::ids::{ByteRange, Region};

/// Tracks in a region.
pub const REGION_TRACKS: u64 = 64;

/// Track numbers `start..end`, copyable where [`core::ops::Range`] is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TrackRange {
    /// First track.
    pub start: u64,
    /// One past the last track.
    pub end: u64,
}

impl TrackRange {
    /// `start..end`; empty when `end <= start`.
    pub const fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// One track.
    pub const fn single(track: u64) -> Self {
        Self {
            start: track,
            end: track + 1,
        }
    }

    /// Number of tracks.
    pub const fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// No track at all.
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// Is this track in it?
    pub const fn contains(self, track: u64) -> bool {
        self.start <= track && track < self.end
    }

    /// Have the two a track in common?
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end && !self.is_empty() && !other.is_empty()
    }

    /// What the two have in common; may be empty.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        let start = self.start.max(other.start);
        Self {
            start,
            end: self.end.min(other.end).max(start),
        }
    }

    /// The track numbers.
    pub fn iter(self) -> core::ops::Range<u64> {
        self.start..self.end
    }

    /// The regions that hold these tracks.
    pub fn regions(self) -> impl Iterator<Item = Region> + Clone {
        let (first, last) = if self.is_empty() {
            (0, 0)
        } else {
            (self.start / REGION_TRACKS, (self.end - 1) / REGION_TRACKS + 1)
        };
        (first..last).map(Region)
    }
}

/// The tracks of one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    bytes: u64,
    track_size: u32,
}

impl Geometry {
    /// A volume of `bytes` in tracks of `track_size` bytes.
    ///
    /// # Panics
    /// When `track_size` is 0: the configuration refuses that.
    pub const fn new(bytes: u64, track_size: u32) -> Self {
        assert!(track_size > 0, "a track has at least a byte");
        Self { bytes, track_size }
    }

    /// Capacity in bytes.
    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// Bytes a track.
    pub const fn track_size(self) -> u32 {
        self.track_size
    }

    /// Number of tracks, the short one at the end included.
    pub const fn tracks(self) -> u64 {
        self.bytes.div_ceil(self.track_size as u64)
    }

    /// Number of regions.
    pub const fn regions(self) -> u64 {
        self.tracks().div_ceil(REGION_TRACKS)
    }

    /// All tracks.
    pub const fn all(self) -> TrackRange {
        TrackRange::new(0, self.tracks())
    }

    /// The tracks that `range` touches, clipped to the volume.
    pub fn touched(self, range: ByteRange) -> TrackRange {
        let range = self.clip(range);
        let size = u64::from(self.track_size);
        if range.start == range.end {
            return TrackRange::new(range.start / size, range.start / size);
        }
        TrackRange::new(range.start / size, (range.end - 1) / size + 1)
    }

    /// The tracks of which `range` covers every byte that exists; may be empty.
    pub fn covered(self, range: ByteRange) -> TrackRange {
        let range = self.clip(range);
        let size = u64::from(self.track_size);
        let start = range.start.div_ceil(size);
        let end = if range.end == self.bytes {
            self.tracks()
        } else {
            range.end / size
        };
        TrackRange::new(start, end.max(start))
    }

    /// Does `range` cover every byte of the track? (The last track may be short.)
    pub fn covers(self, range: ByteRange, track: u64) -> bool {
        self.covered(range).contains(track)
    }

    /// The bytes of these tracks, clipped to the volume.
    pub fn bytes_of(self, tracks: TrackRange) -> ByteRange {
        let size = u64::from(self.track_size);
        self.clip(ByteRange {
            start: tracks.start.saturating_mul(size),
            end: tracks.end.saturating_mul(size),
        })
    }

    /// The tracks of a region, clipped to the volume.
    pub fn tracks_of(self, region: Region) -> TrackRange {
        let start = region.0.saturating_mul(REGION_TRACKS);
        TrackRange::new(start, start.saturating_add(REGION_TRACKS)).intersection(self.all())
    }

    fn clip(self, range: ByteRange) -> ByteRange {
        let start = range.start.min(self.bytes);
        ByteRange {
            start,
            end: range.end.clamp(start, self.bytes),
        }
    }
}

/// The region of a track.
pub const fn region_of(track: u64) -> Region {
    Region(track / REGION_TRACKS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(start: u64, end: u64) -> ByteRange {
        ByteRange { start, end }
    }

    #[test]
    fn the_last_track_may_be_short() {
        let g = Geometry::new(10 * 4096 + 512, 4096);
        assert_eq!((g.tracks(), g.regions()), (11, 1));
        assert!(g.covers(bytes(10 * 4096, 10 * 4096 + 512), 10));
        assert!(!g.covers(bytes(10 * 4096 + 1, 10 * 4096 + 512), 10));
        assert!(!g.covers(bytes(9 * 4096, 10 * 4096 - 1), 9));
        assert_eq!(
            g.bytes_of(TrackRange::new(9, 11)),
            bytes(9 * 4096, 10 * 4096 + 512)
        );
        assert_eq!(g.touched(bytes(4095, 4097)), TrackRange::new(0, 2));
        assert!(g.touched(bytes(4096, 4096)).is_empty());
        assert!(g.covered(bytes(1, 4096)).is_empty());
    }

    #[test]
    fn regions_hold_64_tracks() {
        let g = Geometry::new(130 * 8, 8);
        assert_eq!(g.regions(), 3);
        assert_eq!(g.tracks_of(Region(2)), TrackRange::new(128, 130));
        assert_eq!(
            TrackRange::new(63, 129).regions().collect::<Vec<_>>(),
            [Region(0), Region(1), Region(2)]
        );
        assert_eq!(TrackRange::new(5, 5).regions().count(), 0);
        assert_eq!(region_of(64), Region(1));
        assert!(g.tracks_of(Region(u64::MAX)).is_empty());
    }

    proptest! {
        #[test]
        fn touched_and_covered_agree_with_counting_bytes(size in 1u32..9, len in 0u64..60, a in 0u64..70, b in 0u64..70) {
            let g = Geometry::new(len, size);
            let range = bytes(a.min(b), a.max(b));
            for track in 0..g.tracks() {
                let own: Vec<u64> = (0..len).filter(|byte| byte / u64::from(size) == track).collect();
                let hit = own.iter().filter(|byte| range.start <= **byte && **byte < range.end).count();
                prop_assert_eq!(g.touched(range).contains(track), hit > 0);
                prop_assert_eq!(g.covers(range, track), hit == own.len());
            }
            prop_assert!(g.touched(range).end <= g.tracks());
            prop_assert!(g.covered(range).end <= g.tracks() || g.covered(range).is_empty());
        }
    }
}
