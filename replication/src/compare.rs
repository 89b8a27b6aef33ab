//! Where two volumes differ, by their digests: a volume of another system sends digests instead of bytes.

use replication_engine::ids::ByteRange;
use target_core::volume::IoError;

use crate::leg::Leg;

/// Which of the two could not be read, and why.
pub(crate) type Unreadable = (usize, IoError);

/// Most bytes digested at a time.
pub(crate) const STEP: u64 = 1 << 20;

/// The pieces of the range that are not the same on both, neighbours joined. A piece ends at a multiple of `piece` from the start.
pub(crate) async fn differing(
    [one, other]: [&Leg; 2],
    range: ByteRange,
    piece: u64,
) -> Result<Vec<ByteRange>, Unreadable> {
    let piece = piece.clamp(1, STEP);
    let mut runs: Vec<ByteRange> = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let step = ByteRange {
            start: at,
            end: range.end.min(at + STEP / piece * piece),
        };
        // Both are under way before either is awaited.
        let digests = (one.digests(step, piece), other.digests(step, piece));
        let (one, other) = tokio::join!(digests.0, digests.1);
        let (one, other) = (
            one.map_err(|error| (0, error))?,
            other.map_err(|error| (1, error))?,
        );
        for (index, _) in one.iter().zip(&other).enumerate().filter(|(_, (a, b))| a != b) {
            let start = at + index as u64 * piece;
            let end = (start + piece).min(step.end);
            match runs.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => runs.push(ByteRange { start, end }),
            }
        }
        at = step.end;
    }
    Ok(runs)
}
