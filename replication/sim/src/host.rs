//! Host I/O and commands in flight.

use crate::{
    content::{Content, Time},
    disk::Stamp,
};
use replication_engine::{
    command::Command,
    effects::HostIo,
    ids::VolumeId,
    state::PairState,
};
use std::ops::Range;

/// A host I/O that was not answered yet.
#[derive(Debug)]
pub struct Op {
    /// The volume addressed.
    pub volume: VolumeId,
    /// What it does.
    pub io: HostIo,
    /// Where.
    pub blocks: Range<usize>,
    /// When it began.
    pub began: Time,
    /// Force unit access.
    pub fua: bool,
    /// What it writes, block by block.
    pub stamps: Vec<Stamp>,
    /// What it read, block by block.
    pub found: Vec<Option<Stamp>>,
    /// The volume answered hosts at some time since.
    pub was_ready: bool,
    /// And it did not.
    pub was_unready: bool,
    /// Contents that the volume had since, and that a change of state replaced.
    pub replaced: Vec<Content>,
}

impl Op {
    /// Does it put its stamps on the volume?
    pub fn writes(&self) -> bool {
        matches!(self.io, HostIo::Write | HostIo::Update)
    }

    /// Does it read?
    pub fn reads(&self) -> bool {
        matches!(self.io, HostIo::Read | HostIo::Update)
    }

    /// Each block with its stamp.
    pub fn stamped(&self) -> impl Iterator<Item = (usize, Stamp)> + '_ {
        self.blocks.clone().zip(self.stamps.iter().copied())
    }
}

/// A command that was not answered yet.
#[derive(Debug)]
pub struct Issued {
    /// What was asked.
    pub command: Command,
    /// The states of its members then.
    pub states: Vec<PairState>,
    /// It changed something.
    pub changed: bool,
}
