//! How much happened in a run, and of which kinds.

use std::collections::BTreeMap;

/// What a run may have had. The seeds that `./test` tries have had each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    /// All pairs in sync mode.
    Sync,
    /// All pairs in async mode.
    Async,
    /// Some in this, some in that.
    Mixed,
    /// A chain of three systems.
    Chain,
    /// Two systems whose volumes are collected at a third.
    Collected,
    /// A connection was cut, and both ends told.
    CutTold,
    /// Likewise, and neither was.
    CutSilent,
    /// What one end sends is gone, what the other sends arrives.
    CutOneWay,
    /// A cable was to be cut after so many bytes.
    CutInTheMiddle,
    /// A cable became late.
    LateCable,
    /// A system was killed.
    Kill,
    /// Likewise, and its power was gone.
    PowerLoss,
    /// Disks became slow, or fast again.
    SlowDisks,
    /// A wall clock jumped.
    WrongClock,
    /// A volume was flushed, in DUPLEX.
    Flush,
    /// Writes waited in a queue on disk.
    Queue,
    /// What a follower's disk held while it was DUPLEX was looked at.
    Glance,
    /// Likewise at the end of a chain on which nothing was on its way.
    EndGlance,
    /// The image of a split was looked at.
    SplitImage,
    /// Likewise at the end of a chain.
    ChainImage,
    /// A restore ended.
    Restore,
    /// A protected one did.
    ProtectedRestore,
    /// The image of a backup at the far site was looked at.
    Backup,
    /// Likewise of one that was begun while the pair copied.
    BackupOfCopy,
    /// A backup was refused, or failed.
    BackupFailed,
    /// The sides changed their parts.
    Swap,
    /// A swap was refused, or failed.
    SwapFailed,
    /// A side died while a swap was under way.
    DeathInSwap,
    /// The second side took over from a dead first one.
    TakeoverOfDead,
    /// Likewise from one that lived on.
    TakeoverOfLiving,
}

impl Happening {
    /// Each of them once.
    pub const ALL: [Self; 30] = [
        Self::Sync,
        Self::Async,
        Self::Mixed,
        Self::Chain,
        Self::Collected,
        Self::CutTold,
        Self::CutSilent,
        Self::CutOneWay,
        Self::CutInTheMiddle,
        Self::LateCable,
        Self::Kill,
        Self::PowerLoss,
        Self::SlowDisks,
        Self::WrongClock,
        Self::Flush,
        Self::Queue,
        Self::Glance,
        Self::EndGlance,
        Self::SplitImage,
        Self::ChainImage,
        Self::Restore,
        Self::ProtectedRestore,
        Self::Backup,
        Self::BackupOfCopy,
        Self::BackupFailed,
        Self::Swap,
        Self::SwapFailed,
        Self::DeathInSwap,
        Self::TakeoverOfDead,
        Self::TakeoverOfLiving,
    ];
}

/// See the module's page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes of hosts.
    pub writes: u64,
    /// Virtual milliseconds.
    pub ms: u64,
    happened: BTreeMap<Happening, u64>,
}

impl Counts {
    /// Once more.
    pub fn note(&mut self, what: Happening) {
        *self.happened.entry(what).or_default() += 1;
    }

    /// How often that happened.
    pub fn of(&self, what: Happening) -> u64 {
        self.happened.get(&what).copied().unwrap_or(0)
    }

    /// All of another run happened as well.
    pub fn add(&mut self, other: &Self) {
        self.writes += other.writes;
        self.ms += other.ms;
        for (what, times) in &other.happened {
            *self.happened.entry(*what).or_default() += times;
        }
    }
}
