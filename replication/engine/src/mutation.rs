//! Planted bugs. A harness is trusted when it catches each of them; nothing but [`crate::Engine::with_mutation`] turns one on.

/// A planted bug: the engine leaves out one thing it must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutation {
    /// The copier does not look at `todo` again once it has its lock (S33 b).
    SkipRecheck,
    /// A mark is cleared before the data it stands for is stable (O5).
    MarkBeforeData,
    /// A restored track is written to the primary alone: its other pairs get neither data nor mark (S16, O10).
    ForgetOtherPairs,
    /// The members of a group command are journaled one by one (O8).
    SplitMembersOneByOne,
    /// A write to a cold region is issued and answered although the region's record is not durable (O1).
    AckBeforeMark,
    /// Regions are never made hot (O1).
    SkipHot,
    /// Nobody waits for a settle (O5, O6).
    SkipUnsettledWait,
    /// A write to a track that a splitting mirror is still owed does not push the old data first (S12).
    SkipPush,
    /// A write smaller than a track does not bring the mirror's track over first (S24).
    SkipMerge,
    /// A write to a mirror in a protected restore does not push the old data to the primary first (S31).
    SkipFig10,
    /// New writes do not wait for a change of state to be durable.
    SkipGate,
    /// A region cools without the mirrors' caches being flushed (O2).
    CoolWithoutFlush,
    /// A protected restore reads the primary's stale data (S15).
    ReadStale,
    /// Tracks changed on the mirror are left out of what RESTORE and ESTABLISH copy (S9, S14).
    ForgetMirrorChanges,
    /// Marks are set when a write has ended well, not before its data is issued (O1, S95).
    MarkAfterWrite,
    /// What cannot be read is read from a mirror although a mark says that it differs (S7).
    RepairBlindly,
}

impl Mutation {
    /// Each of them once.
    pub const ALL: [Self; 16] = [
        Self::SkipRecheck,
        Self::MarkBeforeData,
        Self::ForgetOtherPairs,
        Self::SplitMembersOneByOne,
        Self::AckBeforeMark,
        Self::SkipHot,
        Self::SkipUnsettledWait,
        Self::SkipPush,
        Self::SkipMerge,
        Self::SkipFig10,
        Self::SkipGate,
        Self::CoolWithoutFlush,
        Self::ReadStale,
        Self::ForgetMirrorChanges,
        Self::MarkAfterWrite,
        Self::RepairBlindly,
    ];
}
