//! SCSI commands: from the PDU to the executor and back (RFC 7143 11.3, 11.4, 11.7).

use std::{sync::Arc, task::Waker, time::Instant};

use bytes::Bytes;
use iscsi_proto::{
    bhs::{self, AdditionalHeaders, DataIn, FINAL, Header, RESERVED_TAG, ScsiResponse as ResponsePdu},
    data_flow::{DataInFlow, DataInSegment, Residual, WriteFlow},
    framer::Frame,
    kept::KeptRead,
    misbehaviour::{Misbehaviour, Reaction},
    session::CommandWindow,
};
use target_core::{
    buffer::Buffer,
    scsi_model::{
        sense::{Sense, SenseFormat, SenseKey},
        sense_codes::{self, AdditionalSense},
    },
    target::{Execution, Nexus, ScsiCommand, ScsiResponse, TaskAttribute},
};
use tokio::sync::mpsc;

use crate::{
    at_once::AtOnce,
    link::{Link, LinkId},
    response_fence::Answer,
    session::Session,
    sessions::Event,
    tasks::{Collecting, CommandFacts},
    waiting::{Look, Running, look},
};

/// SCSI status CHECK CONDITION.
const CHECK_CONDITION: u8 = 0x02;

/// Service response "target failure" (RFC 7143 11.4.3).
const TARGET_FAILURE: u8 = 0x01;

/// Immediate commands that may be in progress: they take no place in the command window.
const IMMEDIATE_COMMANDS: u32 = 64;

/// With more commands than this in progress, short immediate data is copied, so that each does not keep a whole
/// receive buffer.
const PINNED_BUFFERS: usize = 8;

/// Immediate data up to this length counts as short.
const SHORT_DATA: usize = 16 * 1024;

/// What copies of short data lie in, one behind the other.
pub(crate) const COPIES: usize = 2 * SHORT_DATA;

impl Session {
    /// A SCSI Command that is next in order.
    pub(crate) fn scsi_command(
        &mut self,
        at: usize,
        pdu: &Bytes,
        frame: &Frame<'_>,
    ) -> Result<(), Misbehaviour> {
        let header = frame.bhs.view::<bhs::ScsiCommand>();
        let immediate = header.immediate();
        let link = &mut self.links[at];
        link.counters.commands += 1;
        let link = link.id;
        let data = pdu.slice(frame.data.clone());
        let tried = self.answer_at_once(at, frame, header, &data);
        if tried == AtOnce::Answered {
            return Ok(());
        }
        let facts = match self.facts(link, pdu, frame, header) {
            Ok(facts) => facts,
            Err(why) => {
                if !immediate {
                    self.window.end();
                }
                return Err(why);
            }
        };
        let waits = tried == AtOnce::Waits;
        if facts.write {
            self.begin_write(facts, data, header.is_final(), waits);
        } else if data.is_empty() {
            self.execute(facts, data, waits);
        } else {
            self.fail(facts, Misbehaviour::DataWithoutWrite(data.len() as u32));
        }
        Ok(())
    }

    pub(crate) fn facts(
        &self,
        link: LinkId,
        pdu: &Bytes,
        frame: &Frame<'_>,
        header: &bhs::ScsiCommand,
    ) -> Result<CommandFacts, Misbehaviour> {
        let tag = header.initiator_task_tag.get();
        if self.tasks.contains(tag) {
            return Err(Misbehaviour::TaskTagInUse(tag));
        }
        if header.immediate() {
            self.admit_immediate()?;
        }
        let additional = AdditionalHeaders::parse(frame.ahs)?;
        let cdb = match additional.extended_cdb {
            None => pdu.slice(32..48),
            Some(rest) => [&header.cdb, rest].concat().into(),
        };
        let (read, write) = (header.read(), header.write());
        let expected = header.expected_data_transfer_length.get();
        Ok(CommandFacts {
            tag,
            link,
            lun: header.lun,
            attribute: match header.attribute().ok_or(Misbehaviour::TaskAttribute)? {
                bhs::TaskAttribute::Untagged | bhs::TaskAttribute::Simple => TaskAttribute::Simple,
                bhs::TaskAttribute::Ordered => TaskAttribute::Ordered,
                bhs::TaskAttribute::HeadOfQueue => TaskAttribute::HeadOfQueue,
                bhs::TaskAttribute::Aca => TaskAttribute::Aca,
            },
            cdb,
            read,
            write,
            immediate: header.immediate(),
            expected,
            read_expected: match (read, write) {
                (true, false) => expected,
                (true, true) => additional.read_length.unwrap_or(0),
                (false, _) => 0,
            },
            r2ts: 0,
        })
    }

    /// Refuses one more that has no place in the command window, when too many are in progress or wait to be answered.
    pub(crate) fn admit_immediate(&self) -> Result<(), Misbehaviour> {
        if self.tasks.immediate() as usize + self.fence.held_immediate() < IMMEDIATE_COMMANDS as usize {
            Ok(())
        } else {
            Err(Misbehaviour::TooManyImmediate(IMMEDIATE_COMMANDS))
        }
    }

    fn begin_write(&mut self, facts: CommandFacts, immediate: Bytes, is_final: bool, waits: bool) {
        let flow = match WriteFlow::begin(facts.expected, immediate.len() as u32, is_final, &self.limits) {
            Ok(flow) => flow,
            Err(why) => return self.fail(facts, why),
        };
        if flow.is_complete() {
            let pinned = self.tasks.executing() >= PINNED_BUFFERS && immediate.len() <= SHORT_DATA;
            let data = if pinned {
                self.copies.copy(&immediate)
            } else {
                immediate
            };
            return self.execute(facts, data, waits);
        }
        if facts.expected > self.shared.config.load().tuning.longest_write {
            // It would have to be held in memory as a whole.
            let sense = Sense::new(SenseKey::IllegalRequest, sense_codes::INVALID_FIELD_IN_CDB);
            return self.check_condition(facts, &sense);
        }
        self.collect(Collecting {
            facts,
            flow,
            immediate,
            buffer: None,
        });
    }

    /// Begins a write whose immediate data is in its buffer, and not all of its data.
    pub(crate) fn begin_write_in(
        &mut self,
        buffer: Buffer,
        facts: CommandFacts,
        immediate: usize,
        is_final: bool,
    ) {
        match WriteFlow::begin(facts.expected, immediate as u32, is_final, &self.limits) {
            Ok(flow) => self.collect(Collecting {
                facts,
                flow,
                immediate: Bytes::new(),
                buffer: Some(buffer),
            }),
            Err(why) => self.fail(facts, why),
        }
    }

    /// Executes a command whose data is complete. `waits`: it is a plain READ or WRITE, known not to end at once.
    pub(crate) fn execute(&mut self, facts: CommandFacts, data_out: Bytes, waits: bool) {
        let Some(nexus) = &self.nexus else { return };
        match begin(nexus, &facts, data_out, waits) {
            Execution::Done(response) => self.respond(facts, response),
            Execution::Later(future) if waits => match self.waiting.begin(facts.tag, future) {
                Look::Ended(response) => self.respond(facts, response),
                Look::Lost => self.answer(Answer::Command(facts, None)),
                Look::Waits => self.tasks.insert_executing(facts),
            },
            // I/O on a paired volume mostly ends there, when what the pair needs is in memory and the data in the page cache: then it costs no
            // task. One that waits is polled again by its task, which leaves the task's waker with whatever it waits for; so this
            // look needs none.
            Execution::Later(mut future) => match look(&mut future, Waker::noop()) {
                Look::Ended(response) => self.respond(facts, response),
                Look::Lost => self.answer(Answer::Command(facts, None)),
                Look::Waits => self.run_on_a_task(facts, future),
            },
        }
    }

    fn run_on_a_task(&mut self, facts: CommandFacts, future: Running) {
        let completion = Completion {
            tag: facts.tag,
            events: self.events.clone(),
            response: None,
        };
        self.tasks.insert_executing(facts);
        tokio::spawn(async move {
            let mut completion = completion;
            completion.response = Some(future.await);
        });
    }

    /// A command that had to wait has ended.
    pub(crate) fn completed(&mut self, tag: u32, response: Option<ScsiResponse>) {
        let Some(task) = self.tasks.remove_executing(tag) else {
            return;
        };
        if !task.fences.is_empty() {
            // It was aborted: its place in the window is free, its answer is not wanted.
            self.release_place(&task.facts);
            return;
        }
        self.answer(Answer::Command(task.facts, response));
    }

    /// Answers a command, when it is its turn.
    pub(crate) fn respond(&mut self, facts: CommandFacts, response: ScsiResponse) {
        self.answer(Answer::Command(facts, Some(response)));
    }

    /// Sends data and status over the connection that the command came by. When that has gone, they wait for
    /// another or for nobody. Without a response the executor lost the command: it can only have panicked.
    pub(crate) fn send_response(&mut self, facts: &CommandFacts, response: Option<ScsiResponse>) {
        self.release_place(facts);
        let max_burst = self.parameters.max_burst_length;
        match (self.at(facts.link), response) {
            (Some(at), Some(response)) => self.links[at].respond(&self.window, facts, response, max_burst),
            (None, Some(response)) => self.keep_unsent(facts, response),
            (Some(at), None) => {
                let mut header = ResponsePdu::new();
                header.response = TARGET_FAILURE;
                header.initiator_task_tag = facts.tag.into();
                self.links[at].send_status(&self.window, header, &[]);
            }
            (None, None) => {}
        }
    }

    /// Sends what waited for this connection. Its place in the window has been free since it was answered.
    pub(crate) fn send_moved(&mut self, facts: &CommandFacts, response: ScsiResponse) {
        let max_burst = self.parameters.max_burst_length;
        match self.at(facts.link) {
            Some(at) => self.links[at].respond(&self.window, facts, response, max_burst),
            None => self.keep_unsent(facts, response),
        }
    }

    /// Ends a task because of what the initiator did.
    pub(crate) fn fail(&mut self, facts: CommandFacts, why: Misbehaviour) {
        if let Some(left_out) = self.complaints.admit(Instant::now()) {
            tracing::warn!(initiator = self.initiator(), tag = facts.tag, %why, left_out = left_out.noted(), "task failed");
        }
        let (code, qualifier) = match why.reaction() {
            Reaction::FailTask { asc, ascq } => (asc, ascq),
            Reaction::Reject(_) | Reaction::Drop => (0, 0),
        };
        let sense = Sense::new(SenseKey::AbortedCommand, AdditionalSense { code, qualifier });
        self.check_condition(facts, &sense);
    }

    fn check_condition(&mut self, facts: CommandFacts, sense: &Sense) {
        let response = ScsiResponse {
            status: CHECK_CONDITION,
            sense: sense.encode(SenseFormat::Fixed),
            ..ScsiResponse::default()
        };
        self.respond(facts, response);
    }

    /// The command's place in the window is free again.
    pub(crate) fn release_place(&mut self, facts: &CommandFacts) {
        if !facts.immediate {
            self.window.end();
        }
    }
}

impl Link {
    /// Sends data and status.
    pub(crate) fn respond(
        &mut self,
        window: &CommandWindow,
        facts: &CommandFacts,
        response: ScsiResponse,
        max_burst: u32,
    ) {
        let residuals = Residuals::of(facts, &response);
        let mut data = response.data_in;
        data.truncate(facts.read_expected as usize);
        // The last Data-In carries the status, unless there is sense data to carry (RFC 7143 11.7.3).
        let collapse = response.sense.is_empty() && !facts.write && !data.is_empty();
        let status = collapse.then_some((response.status, residuals.primary));
        let sent = self.send_data_in(window, facts, &data, status, max_burst);
        if collapse {
            return;
        }
        let read = self.keeps(&data).then(|| self.kept_read(facts, data, max_burst));
        let mut header = ResponsePdu::new();
        header.status = response.status;
        header.initiator_task_tag = facts.tag.into();
        header.exp_data_sn = if facts.read { sent } else { facts.r2ts }.into();
        header.flags |= residuals.response_flags();
        header.residual_count = residuals.primary.count().into();
        header.bidirectional_read_residual_count = residuals.bidirectional_read.count().into();
        if response.sense.is_empty() {
            self.send_answer(window, facts.lun, header, &[], read);
        } else {
            let mut segment = (response.sense.len() as u16).to_be_bytes().to_vec();
            segment.extend_from_slice(&response.sense);
            let limit = self.parameters.peer_max_recv_data_segment_length as usize;
            segment.truncate(limit);
            self.send_answer(window, facts.lun, header, &segment, read);
        }
    }

    /// Must data that was read be kept until it is acknowledged?
    fn keeps(&self, data: &Bytes) -> bool {
        self.kept.is_some() && !data.is_empty()
    }

    fn kept_read(&self, facts: &CommandFacts, data: Bytes, max_burst: u32) -> KeptRead {
        KeptRead {
            data,
            lun: facts.lun,
            max_segment: self.parameters.peer_max_recv_data_segment_length,
            max_burst,
            first_data_sn: 0,
            first_offset: 0,
            acknowledged: 0,
        }
    }

    /// Sends data in PDUs as the initiator takes them, the last with the status if there is one. Returns their number.
    fn send_data_in(
        &mut self,
        window: &CommandWindow,
        facts: &CommandFacts,
        data: &Bytes,
        status: Option<(u8, Residual)>,
        max_burst: u32,
    ) -> u32 {
        let max_segment = self.parameters.peer_max_recv_data_segment_length;
        let flow = DataInFlow::new(data.len() as u32, max_segment, max_burst);
        // The StatSN of the answer names its data in a DataACK.
        let acknowledging = self.kept.is_some().then(|| self.status.peek());
        let mut count = 0;
        for segment in flow {
            let mut header = carrying(&segment, facts.tag, facts.lun, acknowledging);
            header.exp_cmd_sn = window.exp_cmd_sn().into();
            header.max_cmd_sn = window.max_cmd_sn().into();
            if let Some((status, residual)) = status.filter(|_| segment.is_last) {
                header.flags |= DataIn::STATUS | in_flags(residual, DataIn::OVERFLOW, DataIn::UNDERFLOW);
                header.status = status;
                header.stat_sn = self.status.take().into();
                header.residual_count = residual.count().into();
            }
            let start = segment.offset as usize;
            let piece = data.slice(start..start + segment.length as usize);
            if segment.is_last && status.is_some() && self.kept.is_some() {
                let read = self.kept_read(facts, data.clone(), max_burst);
                self.keep(&header, piece.clone(), read);
            }
            self.out.push(&header, piece);
            count += 1;
        }
        count
    }
}

/// A Data-In for a piece of the data. With `acknowledging`, one that ends a sequence but not the data asks for a DataACK with
/// this target transfer tag (RFC 7143 11.7.2).
pub(crate) fn carrying(
    segment: &DataInSegment,
    tag: u32,
    lun: [u8; 8],
    acknowledging: Option<u32>,
) -> DataIn {
    let mut header = DataIn::new();
    header.flags = if segment.is_final { FINAL } else { 0 };
    header.initiator_task_tag = tag.into();
    header.target_transfer_tag = RESERVED_TAG.into();
    header.data_sn = segment.data_sn.into();
    header.buffer_offset = segment.offset.into();
    let asks = segment.is_final && !segment.is_last;
    if let Some(transfer_tag) = acknowledging.filter(|tag| asks && *tag != RESERVED_TAG) {
        header.flags |= DataIn::ACKNOWLEDGE;
        header.target_transfer_tag = transfer_tag.into();
        header.lun = lun;
    }
    header
}

fn begin(nexus: &Arc<Nexus>, facts: &CommandFacts, data_out: Bytes, waits: bool) -> Execution {
    let command = ScsiCommand {
        lun: facts.lun,
        cdb: facts.cdb.clone(),
        attribute: facts.attribute,
        data_out,
        data_in_limit: facts.read_expected,
    };
    if waits {
        nexus.execute_waiting(command)
    } else {
        nexus.execute(command)
    }
}

/// Reports the end of a command, whatever ends it.
struct Completion {
    tag: u32,
    events: mpsc::UnboundedSender<Event>,
    response: Option<ScsiResponse>,
}

impl Drop for Completion {
    fn drop(&mut self) {
        // Nobody receives it when the connection is gone; then nobody waits for it either.
        let _ = self.events.send(Event::Completed {
            tag: self.tag,
            response: self.response.take(),
        });
    }
}

/// What the command moved, compared with what the initiator expected (RFC 7143 11.4.5).
struct Residuals {
    /// Of the only direction, or of the write when there are two.
    primary: Residual,
    bidirectional_read: Residual,
}

impl Residuals {
    fn of(facts: &CommandFacts, response: &ScsiResponse) -> Self {
        let (moved_in, moved_out) = (response.data_in_length, response.data_out_length);
        match (facts.read, facts.write) {
            (true, true) => Self {
                primary: Residual::of(facts.expected, moved_out),
                bidirectional_read: Residual::of(facts.read_expected, moved_in),
            },
            (true, false) => Self::one(Residual::of(facts.expected, moved_in)),
            (false, true) => Self::one(Residual::of(facts.expected, moved_out)),
            (false, false) => Self::one(Residual::of(0, moved_in.max(moved_out))),
        }
    }

    fn one(primary: Residual) -> Self {
        Self {
            primary,
            bidirectional_read: Residual::None,
        }
    }

    fn response_flags(&self) -> u8 {
        in_flags(self.primary, ResponsePdu::OVERFLOW, ResponsePdu::UNDERFLOW)
            | in_flags(
                self.bidirectional_read,
                ResponsePdu::READ_OVERFLOW,
                ResponsePdu::READ_UNDERFLOW,
            )
    }
}

/// The flag that says what kind of residual it is.
pub(crate) fn in_flags(residual: Residual, overflow: u8, underflow: u8) -> u8 {
    match residual {
        Residual::None => 0,
        Residual::Overflow(_) => overflow,
        Residual::Underflow(_) => underflow,
    }
}
