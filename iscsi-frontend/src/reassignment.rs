//! Tasks without a connection, and how they get another (RFC 7143 7.2.2, 11.5.6): ErrorRecoveryLevel 2.
//!
//! When a connection fails, or is logged out for recovery, its tasks stay for Time2Wait and Time2Retain. Commands in
//! progress go on; writes wait for the rest of their data; answers are kept, those that were sent as well until they are
//! acknowledged. TASK REASSIGN moves one task to the connection that it comes by: there its data is asked for, or its data
//! and status are sent, from where the initiator has them. What nobody has moved by then ends as if it had been aborted. A session
//! without a connection stays as long as it has such tasks to wait for.
//!
//! A fenced answer ([`crate::response_fence`]) passes by the answers that were given before it and wait here: what is delivered before it or not at all
//! (RFC 7143 4.2.2.3.2) is not delivered any more. The task of such an answer does not exist from then on.

use std::time::Duration;

use iscsi_proto::{
    bhs::{Header, ScsiResponse as ResponsePdu, TaskManagementRequest},
    framer::Outbound,
    kept::{Kept, KeptAnswers, KeptRead},
    session::CommandWindow,
    task_management::TaskManagementOutcome as Outcome,
};
use target_core::target::ScsiResponse;

use crate::{
    command::carrying,
    ending::{Ending, Phase},
    link::{Link, LinkId},
    response_fence::Answer,
    session::Session,
    tasks::CommandFacts,
};

/// A connection that has gone, and whose tasks wait for another.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) id: LinkId,
    pub(crate) cid: u16,
    /// How long they wait.
    until: Duration,
    /// Answers that were sent and not acknowledged.
    sent: Option<KeptAnswers>,
    /// Answers that came since.
    unsent: Vec<(CommandFacts, ScsiResponse)>,
}

/// What there is of a task that may be moved.
enum Found {
    /// It still waits for data, or is executed.
    Task,
    Sent(Box<Kept>),
    Unsent(Box<(CommandFacts, ScsiResponse)>),
}

impl Session {
    /// Do the tasks of a connection that ends for this reason wait for another?
    pub(crate) fn keeps_tasks_after(&self, why: &Ending) -> bool {
        self.parameters.error_recovery_level == 2
            && self.parameters.default_time2retain > 0
            && self.nexus.is_some()
            && why.leaves_tasks()
    }

    /// Lets the tasks of a connection wait.
    pub(crate) fn retain_tasks_of(&mut self, link: &mut Link) {
        // Commands that had not their turn are no tasks yet: they are sent again with their CmdSN.
        self.drop_early_of(link.id);
        let mut sent = link.kept.take().map(|kept| *kept);
        if let (Some(sent), true) = (&mut sent, self.fence.passes_by()) {
            sent.forget(self.fence.unit);
        }
        self.lost.push(Lost {
            id: link.id,
            cid: link.cid,
            until: self.retained_until(),
            sent,
            unsent: Vec::new(),
        });
        self.look = true;
    }

    /// A fenced answer passes by: what is kept for this unit, or with `None` for any, comes too late from now on.
    pub(crate) fn forget_kept(&mut self, unit: Option<[u8; 8]>) {
        for lost in &mut self.lost {
            lost.unsent
                .retain(|(facts, _)| unit.is_some_and(|lun| facts.lun != lun));
            if let Some(sent) = &mut lost.sent {
                sent.forget(unit);
            }
        }
    }

    /// Does this connection end, and its tasks are to wait for another?
    pub(crate) fn will_keep_tasks_of(&self, link: &Link) -> bool {
        matches!(&link.phase, Phase::Ended(why) if self.keeps_tasks_after(why))
    }

    /// Does a connection that has gone have the answer to this task?
    pub(crate) fn has_kept(&self, id: LinkId, tag: u32) -> bool {
        let mut lost = self.lost.iter();
        lost.any(|lost| lost.id == id && lost.has_answer(tag))
    }

    fn retained_until(&self) -> Duration {
        let parameters = &self.parameters;
        let seconds = u64::from(parameters.default_time2wait) + u64::from(parameters.default_time2retain);
        self.origin.elapsed() + Duration::from_secs(seconds)
    }

    /// The connection with this CID that is gone; its tasks wait afresh. The initiator has the statuses before `exp_stat_sn`.
    pub(crate) fn remember(&mut self, cid: u16, exp_stat_sn: Option<u32>) -> Option<LinkId> {
        let until = self.retained_until();
        let lost = self.lost.iter_mut().find(|lost| lost.cid == cid)?;
        lost.until = until;
        if let (Some(sent), Some(exp_stat_sn)) = (&mut lost.sent, exp_stat_sn) {
            sent.acknowledge(exp_stat_sn);
        }
        Some(lost.id)
    }

    /// The tasks of this connection wait no longer.
    pub(crate) fn forget_tasks_of(&mut self, id: LinkId) {
        self.lost.retain(|lost| lost.id != id);
        self.drop_tasks_of(id);
    }

    /// No task waits for another connection any more.
    pub(crate) fn forget_all_lost(&mut self) {
        while let Some(id) = self.lost.first().map(|lost| lost.id) {
            self.forget_tasks_of(id);
        }
    }

    /// Ends what has waited long enough at `now`, and says when the next has.
    pub(crate) fn forget_overdue(&mut self, now: Duration) -> Option<Duration> {
        while let Some(id) = self
            .lost
            .iter()
            .find(|lost| lost.until <= now)
            .map(|lost| lost.id)
        {
            tracing::info!(
                initiator = self.initiator(),
                "tasks of a lost connection end: none has come for them"
            );
            self.forget_tasks_of(id);
        }
        self.lost.iter().map(|lost| lost.until).min()
    }

    /// Keeps the answer to a task whose connection has gone, if that is waited for.
    pub(crate) fn keep_unsent(&mut self, facts: &CommandFacts, response: ScsiResponse) {
        if let Some(lost) = self.lost.iter_mut().find(|lost| lost.id == facts.link) {
            lost.unsent.push((facts.clone(), response));
        }
    }

    /// What a TASK REASSIGN over the connection at `at` comes to; what follows it is left to [`Self::reassign`].
    pub(crate) fn may_reassign(&self, tag: u32) -> Outcome {
        let is_lost = match self.tasks.link_of(tag) {
            Some(link) if self.at(link).is_some() => return Outcome::TaskStillAllegiant,
            Some(link) => self.lost.iter().any(|lost| lost.id == link),
            None => self.lost.iter().any(|lost| lost.has_answer(tag)),
        };
        if is_lost {
            Outcome::Complete
        } else {
            Outcome::TaskDoesNotExist
        }
    }

    /// Moves a task to the connection at `at`, after the answer to the request.
    pub(crate) fn reassign(&mut self, at: usize, request: &TaskManagementRequest) {
        let tag = request.referenced_task_tag.get();
        let link = self.links[at].id;
        match self.find_lost(tag) {
            None => {}
            Some(Found::Task) => {
                self.tasks.set_link(tag, link);
                if let Some(task) = self.tasks.collecting(tag) {
                    task.flow.resume();
                    // One that still waits for memory asks when it has it.
                    if task.buffer.is_some() {
                        self.ask_for_data(tag);
                    }
                }
            }
            Some(Found::Sent(answer)) => {
                self.links[at].answer_anew(&self.window, &answer, request.exp_data_sn.get());
                self.fenced_answer_moved(tag, at);
            }
            Some(Found::Unsent(unsent)) => {
                let (mut facts, response) = *unsent;
                facts.link = link;
                self.answer(Answer::Moved(facts, response));
            }
        }
    }

    fn find_lost(&mut self, tag: u32) -> Option<Found> {
        if self.tasks.contains(tag) {
            return Some(Found::Task);
        }
        self.lost.iter_mut().find_map(|lost| lost.take_answer(tag))
    }
}

impl Lost {
    fn has_answer(&self, tag: u32) -> bool {
        self.unsent.iter().any(|(facts, _)| facts.tag == tag)
            || self.sent.as_ref().is_some_and(|sent| sent.command(tag).is_some())
    }

    fn take_answer(&mut self, tag: u32) -> Option<Found> {
        if let Some(at) = self.unsent.iter().position(|(facts, _)| facts.tag == tag) {
            return Some(Found::Unsent(Box::new(self.unsent.remove(at))));
        }
        let sent = self.sent.as_mut()?.take_command(tag)?;
        Some(Found::Sent(Box::new(sent)))
    }
}

impl Link {
    /// Answers a task that was answered over another connection: the data from the DataSN that is expected on, and the status
    /// in a PDU of its own.
    fn answer_anew(&mut self, window: &CommandWindow, answer: &Kept, exp_data_sn: u32) {
        let mut header = response_of(answer);
        let limit = self.parameters.peer_max_recv_data_segment_length;
        let read = answer.read.as_ref().map(|read| read.resumed(exp_data_sn, limit));
        if let Some(read) = &read {
            let (tag, stat_sn) = (header.initiator_task_tag.get(), self.status.peek());
            header.exp_data_sn = send_rest(&mut self.out, window, tag, read, stat_sn).into();
        }
        let segment = if answer.is_response() {
            &answer.segment[..answer.segment.len().min(limit as usize)]
        } else {
            &[]
        };
        self.send_answer(window, answer.lun, header, segment, read);
    }
}

/// Sends the data of a read whose answer has this StatSN. Gives one past the last DataSN.
pub(crate) fn send_rest(
    out: &mut Outbound,
    window: &CommandWindow,
    tag: u32,
    read: &KeptRead,
    stat_sn: u32,
) -> u32 {
    let mut end = read.first_data_sn;
    for segment in read.flow() {
        let mut header = carrying(&segment, tag, read.lun, Some(stat_sn));
        header.exp_cmd_sn = window.exp_cmd_sn().into();
        header.max_cmd_sn = window.max_cmd_sn().into();
        let start = (segment.offset - read.first_offset) as usize;
        out.push(&header, read.data.slice(start..start + segment.length as usize));
        end = segment.data_sn + 1;
    }
    end
}

/// The answer as a SCSI Response, whatever PDU carried it.
pub(crate) fn response_of(answer: &Kept) -> ResponsePdu {
    if answer.is_response() {
        return *answer.header.view::<ResponsePdu>();
    }
    let sent = answer.header.view::<iscsi_proto::bhs::DataIn>();
    let mut header = ResponsePdu::new();
    // O and U are the same bits in both.
    header.flags |= sent.flags & (ResponsePdu::OVERFLOW | ResponsePdu::UNDERFLOW);
    header.status = sent.status;
    header.initiator_task_tag = sent.initiator_task_tag;
    header.residual_count = sent.residual_count;
    header
}
