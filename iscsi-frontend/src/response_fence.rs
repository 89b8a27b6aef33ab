//! Response fences (RFC 7143 4.2.2.3): the order of answers over the connections of one session.
//!
//! An answer goes over the connection of its command, so the answers of several connections reach the initiator in any order. Three
//! kinds must not: that to a function which ended many tasks, the unit attention which tells of such an end, and that to
//! PREEMPT AND ABORT come after every answer before them, and before every one after them. Such an answer waits until the
//! initiator has acknowledged all that was sent over each connection, and what ends meanwhile is held, until the answer itself is
//! acknowledged. The initiator is asked by NOP-In, which it answers at once; a connection on which it does not is given up.
//! The order of one connection is that of sending, so where there is only one nothing is held.
//!
//! At ErrorRecoveryLevel 2 answers outlive their connection ([`crate::reassignment`]). Those that were given before a fenced one, for its unit, and wait for
//! another connection are forgotten when it comes: they may only be delivered before it. One that is taken up while there is a fence, and was given
//! after it, waits like all others. When the connection of the fenced answer itself is lost, the fence stays until that is taken up and acknowledged,
//! or nobody waits for it any more.
//!
//! The standard asks for this by unit; here all of the session waits, which is stricter, and needs no book of units. What is held keeps
//! its place in the command window, which bounds it; of immediate ones, which have none there, so many are held as may be in progress.

use std::{collections::VecDeque, mem, time::Duration};

use target_core::target::ScsiResponse;

use crate::{
    ending::{Ending, Scope},
    link::LinkId,
    session::Session,
    task_management::TaskManagementEnd,
    tasks::CommandFacts,
};

/// Who does not acknowledge is asked again after this time.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

const PERSISTENT_RESERVE_OUT: u8 = 0x5F;
const PREEMPT_AND_ABORT: u8 = 0x05;

/// An answer from the SCSI layer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// To a command; `None` when the executor lost it.
    Command(CommandFacts, Option<ScsiResponse>),
    /// To a command whose connection had gone when it ended, and whose task was moved.
    Moved(CommandFacts, ScsiResponse),
    TaskManagement(TaskManagementEnd),
}

impl Answer {
    /// The connection it goes over.
    fn link(&self) -> LinkId {
        match self {
            Self::Command(facts, _) | Self::Moved(facts, _) => facts.link,
            Self::TaskManagement(end) => end.link,
        }
    }

    /// Has it no place in the command window?
    fn is_immediate(&self) -> bool {
        match self {
            Self::Command(facts, _) => facts.immediate,
            // There are no more of them than there are lost tasks.
            Self::Moved(..) => false,
            Self::TaskManagement(end) => !end.numbered,
        }
    }

    /// Must it come after all before it, and before all after it (RFC 7143 4.2.2.3.4)?
    fn is_fenced(&self) -> bool {
        match self {
            Self::Command(facts, Some(response)) | Self::Moved(facts, response) => {
                tells_of_ended_tasks(&response.sense) || is_preempt_and_abort(&facts.cdb)
            }
            Self::Command(_, None) => false,
            Self::TaskManagement(end) => end.has_ended_many,
        }
    }

    /// The logical unit that it is about; `None`: all.
    fn unit(&self) -> Option<[u8; 8]> {
        match self {
            Self::Command(facts, _) | Self::Moved(facts, _) => Some(facts.lun),
            Self::TaskManagement(end) => end.lun,
        }
    }

    /// The command that it answers, which may be moved to another connection.
    fn movable(&self) -> Option<u32> {
        match self {
            Self::Command(facts, _) | Self::Moved(facts, _) => Some(facts.tag),
            Self::TaskManagement(_) => None,
        }
    }
}

/// The unit attentions of resets (29h) and of a task set that another initiator cleared (2Fh).
fn tells_of_ended_tasks(sense: &[u8]) -> bool {
    const UNIT_ATTENTION: u8 = 6;
    let (key, code) = match sense.first().map(|format| format & 0x7F) {
        Some(0x70 | 0x71) => (sense.get(2), sense.get(12)),
        Some(0x72 | 0x73) => (sense.get(1), sense.get(2)),
        _ => return false,
    };
    key.is_some_and(|key| key & 0x0F == UNIT_ATTENTION) && matches!(code, Some(0x29 | 0x2F))
}

fn is_preempt_and_abort(cdb: &[u8]) -> bool {
    matches!(cdb, [PERSISTENT_RESERVE_OUT, action, ..] if action & 0x1F == PREEMPT_AND_ABORT)
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is no fence.
    #[default]
    Down,
    /// The first answer held waits for those that were sent before it.
    Before,
    /// It was sent; all others wait for its acknowledgement.
    Behind,
}

/// The fence of a session.
#[derive(Debug, Default)]
pub(crate) struct ResponseFence {
    stage: Stage,
    /// The logical unit of the fenced answer; `None`: all.
    pub(crate) unit: Option<[u8; 8]>,
    /// The command that was answered with it, as long as there is a fence behind.
    tag: Option<u32>,
    /// Connections, and the ExpStatSN that each has to tell.
    awaited: Vec<(LinkId, u32)>,
    /// In the order in which they came.
    held: VecDeque<Answer>,
    ask_again: Duration,
    give_up: Duration,
}

impl ResponseFence {
    /// Are answers held?
    pub(crate) fn is_up(&self) -> bool {
        self.stage != Stage::Down
    }

    /// Does a fenced answer wait for its turn, so that those of its unit are delivered before it or not at all?
    pub(crate) fn passes_by(&self) -> bool {
        self.stage == Stage::Before
    }

    /// Answers held that have no place in the command window.
    pub(crate) fn held_immediate(&self) -> usize {
        self.held.iter().filter(|answer| answer.is_immediate()).count()
    }

    /// Are answers held that belong to this?
    pub(crate) fn holds(&self, scope: Scope) -> bool {
        match scope {
            Scope::Session => self.is_up(),
            Scope::Link(id) => self.held.iter().any(|answer| answer.link() == id),
            Scope::None => false,
        }
    }
}

impl Session {
    /// Sends an answer when its turn comes: at once, unless there is a fence before it or it is one.
    pub(crate) fn answer(&mut self, answer: Answer) {
        let is_up = self.fence.is_up();
        let is_here = self.at(answer.link()).is_some();
        let is_ordered = self.links.len() > 1 || !self.lost.is_empty();
        let is_fence = !is_up && is_here && is_ordered && answer.is_fenced();
        if is_fence {
            self.forget_kept(answer.unit());
        }
        let waits = is_up || is_fence && self.links.len() > 1;
        // When its connection has gone nothing is sent: it waits for another connection, or for nobody.
        if !waits || !is_here {
            return self.send_answer(answer);
        }
        if is_fence {
            self.fence.unit = answer.unit();
        }
        self.fence.held.push_back(answer);
        if is_fence {
            self.raise_fence();
            self.advance_fence();
        }
    }

    fn send_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Command(facts, response) => self.send_response(&facts, response),
            Answer::Moved(facts, response) => self.send_moved(&facts, response),
            Answer::TaskManagement(end) => self.answer_task_management(end),
        }
    }

    /// For the first answer held: it comes after what was sent over any connection.
    fn raise_fence(&mut self) {
        let sent = self.links.iter().map(|link| (link.id, link.status.peek()));
        self.fence.awaited = sent.collect();
        self.enter(Stage::Before);
    }

    fn enter(&mut self, stage: Stage) {
        self.fence.stage = stage;
        let now = self.origin.elapsed();
        self.fence.give_up = now + self.keepalive_times().patience;
        self.forget_acknowledged();
        self.ask_for_acknowledgements(now);
        self.look = true;
    }

    /// Goes on with what is held, as far as it was acknowledged what that waits for. Was anything sent?
    pub(crate) fn advance_fence(&mut self) -> bool {
        let mut has_sent = false;
        while self.fence.is_up() {
            self.forget_acknowledged();
            if !self.fence.awaited.is_empty() {
                break;
            }
            match self.fence.stage {
                Stage::Before => {
                    let Some(answer) = self.fence.held.pop_front() else {
                        self.fence.stage = Stage::Down;
                        break;
                    };
                    let id = answer.link();
                    self.fence.tag = answer.movable();
                    self.send_answer(answer);
                    has_sent = true;
                    let sent = self.at(id).map(|at| (id, self.links[at].status.peek()));
                    self.fence.awaited = sent.into_iter().collect();
                    self.enter(Stage::Behind);
                }
                Stage::Behind | Stage::Down => {
                    self.fence.stage = Stage::Down;
                    has_sent |= !self.fence.held.is_empty();
                    for answer in mem::take(&mut self.fence.held) {
                        // One of them may raise the next fence.
                        self.answer(answer);
                    }
                }
            }
        }
        has_sent
    }

    /// What is held for a connection that has gone is held no longer: it waits for another connection, or for nobody.
    pub(crate) fn release_held_of(&mut self, id: LinkId) {
        let held = mem::take(&mut self.fence.held);
        let (gone, still): (VecDeque<_>, _) = held.into_iter().partition(|answer| answer.link() == id);
        self.fence.held = still;
        for answer in gone {
            self.send_answer(answer);
        }
    }

    /// The answer to this command has been sent anew, over the connection at `at`. If it is the fenced one, that connection is to acknowledge it.
    pub(crate) fn fenced_answer_moved(&mut self, tag: u32, at: usize) {
        if self.fence.stage == Stage::Behind && self.fence.tag == Some(tag) {
            self.fence.awaited = vec![(self.links[at].id, self.links[at].status.peek())];
            self.enter(Stage::Behind);
        }
    }

    /// Connections that have acknowledged, or end, are not waited for, other than one whose fenced answer may come over another.
    fn forget_acknowledged(&mut self) {
        let awaited = mem::take(&mut self.fence.awaited);
        let still = awaited.into_iter().filter(|(id, expected)| {
            let tag = self.fence.tag.filter(|_| self.fence.stage == Stage::Behind);
            match self.at(*id).map(|at| &self.links[at]) {
                Some(link) if link.has_acknowledged(*expected) => false,
                Some(link) => link.takes_more() || tag.is_some() && self.will_keep_tasks_of(link),
                None => tag.is_some_and(|tag| self.has_kept(*id, tag)),
            }
        });
        self.fence.awaited = still.collect();
    }

    fn ask_for_acknowledgements(&mut self, now: Duration) {
        self.fence.ask_again = now + ASK_INTERVAL;
        for (id, _) in &self.fence.awaited {
            if let Some(link) = self.links.iter_mut().find(|link| link.id == *id) {
                let tag = link.keepalive.ask(now);
                link.ask_nop(&self.window, tag);
            }
        }
    }

    /// Asks again, or gives up who does not acknowledge; says when to look again.
    pub(crate) fn attend_fence(&mut self, now: Duration) -> Option<Duration> {
        self.forget_acknowledged();
        if self.fence.awaited.is_empty() {
            return None;
        }
        if now >= self.fence.give_up {
            for (id, _) in mem::take(&mut self.fence.awaited) {
                if let Some(at) = self.at(id) {
                    self.links[at].end(Ending::Silent);
                }
            }
            return None;
        }
        if now >= self.fence.ask_again {
            self.ask_for_acknowledgements(now);
        }
        Some(self.fence.ask_again.min(self.fence.give_up))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fenced_unit_attentions_in_either_format() {
        let fixed = |key: u8, code: u8| {
            let mut sense = [0; 18];
            (sense[0], sense[2], sense[12]) = (0x70, key, code);
            sense
        };
        assert!(tells_of_ended_tasks(&fixed(6, 0x29)) && tells_of_ended_tasks(&fixed(6, 0x2F)));
        assert!(tells_of_ended_tasks(&[0x72, 6, 0x2F, 0, 0, 0, 0, 0]));
        assert!(!tells_of_ended_tasks(&fixed(6, 0x2A)) && !tells_of_ended_tasks(&fixed(5, 0x29)));
        assert!(!tells_of_ended_tasks(&[]) && !tells_of_ended_tasks(&[0x70, 0, 6]));
    }

    #[test]
    fn preempt_and_abort_is_fenced() {
        let cdb = |operation: u8, action: u8| {
            let mut cdb = [0; 16];
            (cdb[0], cdb[1]) = (operation, action);
            cdb
        };
        assert!(is_preempt_and_abort(&cdb(0x5F, 5)));
        assert!(!is_preempt_and_abort(&cdb(0x5F, 4)) && !is_preempt_and_abort(&cdb(0x5E, 5)));
    }
}
