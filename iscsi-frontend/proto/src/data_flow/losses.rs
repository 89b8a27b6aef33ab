//! What of a write's data was lost on its way, and is to be asked for again (RFC 7143 7.2.1, 7.8, 7.9).

use std::ops::Range;

/// Gaps of one write. An initiator that leaves more has not lost them.
const GAPS: usize = 64;

/// The gaps in the data received so far, in ascending order, and the one that was asked for again.
#[derive(Debug, Clone, Default)]
pub(super) struct Losses {
    gaps: Vec<Range<u32>>,
    /// What of the range asked for has not come yet.
    asked: Option<Range<u32>>,
}

impl Losses {
    /// Is nothing missing?
    pub(super) fn is_empty(&self) -> bool {
        self.gaps.is_empty() && self.asked.is_none()
    }

    /// The next range to ask for, of at most `most` bytes: the lowest.
    pub(super) fn ask(&mut self, most: u32) -> Option<Range<u32>> {
        let gap = self.gaps.first_mut()?;
        let end = gap.end.min(gap.start.saturating_add(most));
        let asked = gap.start..end;
        gap.start = end;
        if gap.start == gap.end {
            self.gaps.remove(0);
        }
        self.asked = Some(asked.clone());
        Some(asked)
    }

    /// Where the data that was asked for again goes on; `None` when none was.
    pub(super) fn place(&self) -> Option<u32> {
        self.asked.as_ref().map(|asked| asked.start)
    }

    /// Data up to `end` has come, without what is `lost` of it. `false` when that makes too many gaps.
    #[must_use]
    pub(super) fn note(&mut self, lost: Range<u32>, end: u32) -> bool {
        if let Some(asked) = &mut self.asked {
            asked.start = end;
        }
        self.insert(lost);
        self.gaps.len() <= GAPS
    }

    /// The sequence that was asked for is at its end.
    pub(super) fn answered(&mut self) {
        self.asked = None;
    }

    /// The sequence that was asked for does not come: what is missing of it is a gap again.
    pub(super) fn give_up_asking(&mut self) {
        if let Some(rest) = self.asked.take() {
            self.insert(rest);
        }
    }

    fn insert(&mut self, gap: Range<u32>) {
        if gap.start >= gap.end {
            return;
        }
        let at = self.gaps.partition_point(|other| other.end < gap.start);
        match self.gaps.get_mut(at) {
            Some(next) if next.start <= gap.end => {
                next.start = next.start.min(gap.start);
                next.end = next.end.max(gap.end);
            }
            _ => self.gaps.insert(at, gap),
        }
    }
}
