//! The tasks of a session that are not done yet: initiator task tag to what is known about it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use iscsi_proto::data_flow::WriteFlow;
use target_core::{buffer::Buffer, target::TaskAttribute};

use crate::{link::LinkId, task_management::Fence};

/// A write of this many bytes is long.
const LONG: u32 = 64 * 1024;

/// What a SCSI command said, as long as it is needed for its answer.
#[derive(Debug, Clone)]
pub(crate) struct CommandFacts {
    pub(crate) tag: u32,
    /// The connection it came by, which its data and its answer go over as well (RFC 7143 4.2.2.1: allegiance).
    pub(crate) link: LinkId,
    pub(crate) lun: [u8; 8],
    pub(crate) attribute: TaskAttribute,
    /// 16 bytes, or more.
    pub(crate) cdb: Bytes,
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// It takes no place in the command window.
    pub(crate) immediate: bool,
    /// Expected data transfer length: what is written when both are.
    pub(crate) expected: u32,
    /// What the initiator takes.
    pub(crate) read_expected: u32,
    /// R2Ts sent: ExpDataSN of a write.
    pub(crate) r2ts: u32,
}

/// A write whose data is on its way.
#[derive(Debug)]
pub(crate) struct Collecting {
    pub(crate) facts: CommandFacts,
    pub(crate) flow: WriteFlow,
    /// Immediate data, until there is a buffer for all of it.
    pub(crate) immediate: Bytes,
    /// Where the data goes; `None` while the budget has no room for it.
    pub(crate) buffer: Option<Buffer>,
}

/// A command that is being executed: it waits, in the session or on a task of its own.
#[derive(Debug)]
pub(crate) struct Executing {
    pub(crate) facts: CommandFacts,
    /// It was aborted: no answer, and these wait for its end.
    pub(crate) fences: Vec<Fence>,
}

#[derive(Debug)]
pub(crate) enum Task {
    Collecting(Box<Collecting>),
    Executing(Box<Executing>),
}

impl Task {
    pub(crate) fn facts(&self) -> &CommandFacts {
        match self {
            Self::Collecting(task) => &task.facts,
            Self::Executing(task) => &task.facts,
        }
    }

    /// It is to end without an answer.
    fn is_aborted(&self) -> bool {
        matches!(self, Self::Executing(task) if !task.fences.is_empty())
    }
}

/// The tasks, and who waits for memory.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    by_tag: BTreeMap<u32, Task>,
    executing: usize,
    immediate: u32,
    /// Writes that wait for a buffer, in order of arrival.
    pub(crate) waiting: VecDeque<u32>,
    /// Bytes of all buffers of collecting writes.
    pub(crate) collected_bytes: usize,
    /// Collecting writes of much data.
    long: usize,
}

impl Tasks {
    pub(crate) fn contains(&self, tag: u32) -> bool {
        self.by_tag.contains_key(&tag)
    }

    /// Is there none?
    pub(crate) fn is_empty(&self) -> bool {
        self.by_tag.is_empty()
    }

    /// The connection of the task with this tag.
    pub(crate) fn link_of(&self, tag: u32) -> Option<LinkId> {
        self.by_tag.get(&tag).map(|task| task.facts().link)
    }

    /// Moves a task to another connection.
    pub(crate) fn set_link(&mut self, tag: u32, link: LinkId) {
        match self.by_tag.get_mut(&tag) {
            Some(Task::Collecting(task)) => task.facts.link = link,
            Some(Task::Executing(task)) => task.facts.link = link,
            None => {}
        }
    }

    /// Is one of the tasks that are not aborted such?
    pub(crate) fn any(&self, is_such: impl Fn(&CommandFacts) -> bool) -> bool {
        let mut tasks = self.by_tag.values();
        tasks.any(|task| !task.is_aborted() && is_such(task.facts()))
    }

    /// The connections and units of those tasks that are not aborted and such, each pair once.
    pub(crate) fn places(&self, is_such: impl Fn(&CommandFacts) -> bool) -> BTreeSet<(LinkId, [u8; 8])> {
        let tasks = self.by_tag.values().filter(|task| !task.is_aborted());
        let such = tasks.map(Task::facts).filter(|facts| is_such(facts));
        such.map(|facts| (facts.link, facts.lun)).collect()
    }

    /// How many immediate commands are not done.
    pub(crate) fn immediate(&self) -> u32 {
        self.immediate
    }

    /// Is a command being executed?
    pub(crate) fn any_executing(&self) -> bool {
        self.executing > 0
    }

    /// Is a command of this connection being executed?
    pub(crate) fn any_executing_of(&self, link: LinkId) -> bool {
        let mut tasks = self.by_tag.values();
        tasks.any(|task| matches!(task, Task::Executing(_)) && task.facts().link == link)
    }

    /// How many commands are being executed.
    pub(crate) fn executing(&self) -> usize {
        self.executing
    }

    pub(crate) fn insert_collecting(&mut self, task: Collecting) {
        self.count_in(&task.facts);
        self.long += usize::from(task.facts.expected >= LONG);
        self.collected_bytes += task.buffer.as_ref().map_or(0, |buffer| buffer.len());
        self.by_tag
            .insert(task.facts.tag, Task::Collecting(Box::new(task)));
    }

    pub(crate) fn insert_executing(&mut self, facts: CommandFacts) {
        self.count_in(&facts);
        self.executing += 1;
        let tag = facts.tag;
        self.by_tag.insert(
            tag,
            Task::Executing(Box::new(Executing {
                facts,
                fences: Vec::new(),
            })),
        );
    }

    pub(crate) fn collecting(&mut self, tag: u32) -> Option<&mut Collecting> {
        match self.by_tag.get_mut(&tag)? {
            Task::Collecting(task) => Some(task),
            Task::Executing(_) => None,
        }
    }

    /// Is the data of a write on its way that is long enough to go straight to its place ([`crate::straight`])?
    pub(crate) fn awaits_long_data(&self) -> bool {
        self.long > 0
    }

    /// Where this part of the data of a write belongs, if it is collected, over this connection, and has its buffer.
    pub(crate) fn place(&mut self, tag: u32, link: LinkId, start: usize, length: usize) -> Option<&mut [u8]> {
        let task = self.collecting(tag).filter(|task| task.facts.link == link)?;
        task.buffer.as_mut()?.get_mut(start..start.checked_add(length)?)
    }

    /// Takes a write out: its data is complete, or it is to end.
    pub(crate) fn remove_collecting(&mut self, tag: u32) -> Option<Collecting> {
        match self.by_tag.remove(&tag)? {
            Task::Collecting(task) => {
                self.count_out(&task.facts);
                self.long -= usize::from(task.facts.expected >= LONG);
                self.collected_bytes -= task.buffer.as_ref().map_or(0, |buffer| buffer.len());
                Some(*task)
            }
            executing @ Task::Executing(_) => {
                self.by_tag.insert(tag, executing);
                None
            }
        }
    }

    /// Takes a command out that has been executed.
    pub(crate) fn remove_executing(&mut self, tag: u32) -> Option<Executing> {
        match self.by_tag.remove(&tag)? {
            Task::Executing(task) => {
                self.count_out(&task.facts);
                self.executing -= 1;
                Some(*task)
            }
            collecting @ Task::Collecting(_) => {
                self.by_tag.insert(tag, collecting);
                None
            }
        }
    }

    /// Ends the tasks that `covers` as far as their answers go: writes still collecting are dropped and returned,
    /// the others hold the fence until they end.
    pub(crate) fn abort(&mut self, covers: impl Fn(&CommandFacts) -> bool, fence: &Fence) -> Vec<Collecting> {
        let mut dropped = Vec::new();
        for (&tag, task) in &mut self.by_tag {
            if !covers(task.facts()) {
                continue;
            }
            match task {
                Task::Executing(task) => task.fences.push(fence.clone()),
                Task::Collecting(_) => dropped.push(tag),
            }
        }
        dropped
            .into_iter()
            .filter_map(|tag| self.remove_collecting(tag))
            .collect()
    }

    /// Takes those writes out that are still collecting and `such`.
    pub(crate) fn take_collecting(&mut self, such: impl Fn(&CommandFacts) -> bool) -> Vec<Collecting> {
        let tags: Vec<u32> = self
            .by_tag
            .iter()
            .filter(|(_, task)| such(task.facts()))
            .map(|(tag, _)| *tag)
            .collect();
        tags.into_iter()
            .filter_map(|tag| self.remove_collecting(tag))
            .collect()
    }

    fn count_in(&mut self, facts: &CommandFacts) {
        self.immediate += u32::from(facts.immediate);
    }

    fn count_out(&mut self, facts: &CommandFacts) {
        self.immediate -= u32::from(facts.immediate);
    }
}
