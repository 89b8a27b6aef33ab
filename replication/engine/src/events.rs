//! What happened, for people and programs that watch: the shell turns each into a log line and an event.

use crate::{ids::VolumeId, state::PairState};

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A pair changed state.
    State {
        /// Primary.
        primary: VolumeId,
        /// Mirror.
        mirror: VolumeId,
        /// Before.
        from: PairState,
        /// After.
        to: PairState,
        /// The code of docs/control-cdb.md when nobody asked for it, else 0.
        reason: u8,
    },
    /// A flush failed: what was written to the volume since the last one may be lost. Wherever that can be, its pairs have
    /// marked it.
    CacheLost {
        /// Which.
        volume: VolumeId,
    },
}
