//! Carries out the device server's [`Plan`]s against volumes.
//!
//! Two ways lead here. [`execute_inline`] serves the READs and WRITEs of calm nexuses whose data is at hand, without
//! a lock and without a task. [`execute`] serves everything: it has the device server plan the command under its
//! mutex, answers at once what needs no I/O, and makes a future of the rest.

mod atomic;
mod control;
mod copy;
mod logs;
mod provisioning;
mod sanitize;
mod tokens;
mod transfer;

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use scsi_model::{
    device_server::Kept,
    fast_path,
    plan::{Action, Answer, Plan},
    reports,
    sense::{Sense, SenseKey},
    sense_codes,
    status::Status,
    unit::{ControlAccess, UnitFacts, UnitIdentity},
};

use crate::{
    buffer::Buffer,
    command::{Execution, ReadAtOnce, Room, ScsiCommand, ScsiResponse, WriteAtOnce},
    gate::OwnedPass,
    logical_unit::{ItlNexus, LogicalUnit, Planned},
    lun_map::{LunMap, MappedUnit},
    nexus::Nexus,
    target::Target,
    volume::{Fast, IoError, Volume},
};

/// A command that is being carried out.
struct Task {
    nexus: Arc<Nexus>,
    unit: Arc<LogicalUnit>,
    itl: Arc<ItlNexus>,
    /// The unit as it was when the command was planned.
    identity: Arc<UnitIdentity>,
    data_out: Bytes,
    data_in_limit: u32,
    /// WCE is zero: everything written is stable before the answer.
    write_through: bool,
}

/// How an action ended well.
enum Outcome {
    Good,
    Status(Status),
    /// Data, and how much there would have been without the initiator's limit.
    Data(Bytes, u64),
    Answer(Answer),
}

/// Does a READ or WRITE without lock and task, if the nexus is calm and the data at hand. `None`: nothing happened.
pub(crate) fn execute_inline(seen: &MappedUnit, command: &ScsiCommand) -> Option<ScsiResponse> {
    // The order matters: in the gate first, then the look at the flag.
    let _inside = seen.itl().tasks.enter()?;
    let (plan, block_size) = plan_inline(seen, &command.cdb, command.data_out.len())?;
    let volume = seen.unit.volume();
    match plan.action {
        Action::Read {
            offset,
            length,
            fua: false,
        } if length > 0 => {
            let wanted = wanted(length, command.data_in_limit, block_size);
            let mut buffer = Buffer::new(wanted as usize);
            let Fast::Done(Ok(())) = volume.try_read(offset, &mut buffer) else {
                return None;
            };
            Some(data_response(buffer.freeze(), length, command.data_in_limit))
        }
        Action::Write { offset, length, fua } if length > 0 => {
            let data = command.data_out.slice(..length as usize);
            let Fast::Done(Ok(())) = volume.try_write(offset, &data, fua) else {
                return None;
            };
            Some(ScsiResponse {
                data_out_length: plan.data_out_length,
                ..ScsiResponse::default()
            })
        }
        _ => None,
    }
}

/// As [`execute_inline`], for a READ whose data is to go to a place of the transport's.
pub(crate) fn read_at_once(seen: &MappedUnit, cdb: &[u8], limit: u32, room: &mut dyn Room) -> ReadAtOnce {
    let Some(_inside) = seen.itl().tasks.enter() else {
        return ReadAtOnce::Other;
    };
    let Some((plan, block_size)) = plan_inline(seen, cdb, 0) else {
        return ReadAtOnce::Other;
    };
    let Action::Read {
        offset,
        length,
        fua: false,
    } = plan.action
    else {
        return ReadAtOnce::Other;
    };
    let wanted = wanted(length, limit, block_size);
    let place = match wanted {
        0 => None,
        _ => room.room(wanted as usize),
    };
    let Some(place) = place else {
        return ReadAtOnce::Other;
    };
    match seen.unit.volume().try_read(offset, place) {
        Fast::Done(Ok(())) => ReadAtOnce::Done {
            length: wanted.min(u64::from(limit)) as u32,
            data_in_length: length,
        },
        // One that failed is done again, which makes sense data of it.
        Fast::Done(Err(_)) | Fast::Later => ReadAtOnce::Waits,
    }
}

/// As [`execute_inline`], for a WRITE of which nothing is kept.
pub(crate) fn write_at_once(seen: &MappedUnit, cdb: &[u8], data: &Bytes) -> WriteAtOnce {
    let Some(_inside) = seen.itl().tasks.enter() else {
        return WriteAtOnce::Other;
    };
    let Some((plan, _)) = plan_inline(seen, cdb, data.len()) else {
        return WriteAtOnce::Other;
    };
    let Action::Write { offset, length, fua } = plan.action else {
        return WriteAtOnce::Other;
    };
    // More data than the command writes is left to the way that cuts it.
    if length == 0 || length != data.len() as u64 {
        return WriteAtOnce::Other;
    }
    match seen.unit.volume().try_write(offset, data, fua) {
        Fast::Done(Ok(())) => WriteAtOnce::Done {
            data_out_length: plan.data_out_length,
        },
        Fast::Done(Err(_)) | Fast::Later => WriteAtOnce::Waits,
    }
}

/// Begins a plain WRITE of which is known that it waits, planned as one that is done at once. `None`: nothing happened.
pub(crate) fn write_waiting(
    seen: &MappedUnit,
    command: &ScsiCommand,
    target: &Arc<Target>,
) -> Option<Execution> {
    let inside = seen.itl().tasks.enter_owned()?;
    let (plan, _) = plan_inline(seen, &command.cdb, command.data_out.len())?;
    let data_out_length = plan.data_out_length;
    let Action::Write { offset, length, fua } = plan.action else {
        return None;
    };
    if length == 0 {
        return None;
    }
    let data = command.data_out.slice(..length as usize);
    let (unit, identity) = (seen.unit.clone(), seen.unit.identity());
    let target = Arc::clone(target);
    let (limit, writing) = (
        command.data_in_limit,
        unit.volume().clone().write(offset, data, fua),
    );
    Some(Execution::Later(Box::pin(async move {
        let _inside = inside;
        match writing.await {
            Ok(()) => ScsiResponse {
                data_out_length,
                ..ScsiResponse::default()
            },
            Err(error) => respond(
                failure((&unit, &target), &identity, &error),
                data_out_length,
                limit,
            ),
        }
    })))
}

/// The plan of a plain READ or WRITE of a calm nexus that is inside its gate, and the block size.
fn plan_inline(seen: &MappedUnit, cdb: &[u8], data_out_length: usize) -> Option<(Plan, u32)> {
    if !seen.itl().is_calm() {
        return None;
    }
    seen.unit.with_identity(|identity| {
        let facts = UnitFacts {
            identity,
            ready: seen.unit.volume().ready(),
            read_only: seen.read_only,
            luns: &[],
            target_ports: &[],
            control: ControlAccess::None,
            // One that is not active is not ready.
            shared: None,
        };
        let plan = fast_path::plan(cdb, data_out_length, &facts)?;
        Some((plan, identity.block_size))
    })
}

/// Begins any command. It waits while a PREEMPT AND ABORT lets this initiator's commands end, or another has the unit
/// for itself.
pub(crate) fn execute(
    nexus: &Arc<Nexus>,
    luns: &LunMap,
    seen: &MappedUnit,
    command: ScsiCommand,
) -> Execution {
    if let Some(inside) = seen.itl().tasks.enter_owned() {
        return begin(nexus, luns, seen, command, Some(inside));
    }
    let (nexus, gate) = (nexus.clone(), seen.itl().tasks.clone());
    Execution::Later(Box::pin(async move {
        drop(gate.enter_when_open().await);
        finish(nexus.execute(command)).await
    }))
}

/// Carries out a command that wants the unit for itself.
async fn execute_alone(nexus: Arc<Nexus>, unit: Arc<LogicalUnit>, command: ScsiCommand) -> ScsiResponse {
    let quiet = unit.quiesce().await;
    let luns = nexus.luns();
    let seen = luns
        .get(command.lun)
        .filter(|seen| Arc::ptr_eq(&seen.unit, &unit));
    let begun = if let Some(seen) = seen {
        begin(&nexus, &luns, seen, command, None)
    } else {
        drop(quiet);
        return finish(nexus.execute(command)).await;
    };
    finish(begun).await
}

async fn finish(execution: Execution) -> ScsiResponse {
    match execution {
        Execution::Done(response) => response,
        Execution::Later(future) => future.await,
    }
}

/// Plans a command and makes a future of what needs I/O. Without a pass the unit is quiet.
fn begin(
    nexus: &Arc<Nexus>,
    luns: &LunMap,
    seen: &MappedUnit,
    command: ScsiCommand,
    inside: Option<OwnedPass>,
) -> Execution {
    let limit = command.data_in_limit;
    let unit = &seen.unit;
    let identity = unit.identity();
    let control = match (unit.control(), luns.control) {
        (None, _) => ControlAccess::None,
        (Some(_), false) => ControlAccess::Denied,
        (Some(_), true) => ControlAccess::Granted,
    };
    let ports = nexus.target().ports();
    let facts = UnitFacts {
        identity: &identity,
        ready: unit.volume().ready(),
        read_only: seen.read_only,
        luns: luns.numbers(),
        target_ports: &ports,
        control,
        shared: unit.volume().shared().map(|shared| nexus.target().seen(shared)),
    };
    let Planned {
        plan,
        must_store,
        aborted,
    } = unit.plan(seen.itl().id, &command.cdb, &command.data_out, &facts);
    let expected = plan.data_out_length;
    let action = match plan.action {
        Action::Answer(answer) if must_store.is_none() && aborted.is_empty() => {
            return Execution::Done(respond(answer, expected, limit));
        }
        action if action.needs_quiet() && inside.is_some() => {
            let alone = execute_alone(nexus.clone(), unit.clone(), command);
            return Execution::Later(Box::pin(alone));
        }
        action => action,
    };
    let task = Task {
        nexus: nexus.clone(),
        unit: unit.clone(),
        itl: seen.itl().clone(),
        identity,
        data_out: command.data_out,
        data_in_limit: limit,
        write_through: plan.write_through,
    };
    Execution::Later(Box::pin(async move {
        // A command that waits for others to end must not be waited for: two that preempt each other would do so
        // for ever. It does no I/O.
        let _inside = inside.filter(|_| aborted.is_empty());
        let result = task.carry_out(aborted, must_store, action).await;
        task.conclude(result, expected)
    }))
}

/// An answer as a response.
pub(crate) fn respond(answer: Answer, data_out_length: u64, data_in_limit: u32) -> ScsiResponse {
    let data_in_length = answer.data_in.len() as u64;
    let mut data_in = answer.data_in;
    data_in.truncate(data_in_limit as usize);
    ScsiResponse {
        status: answer.status as u8,
        sense: answer.sense,
        data_in: Bytes::from(data_in),
        data_in_length,
        data_out_length,
    }
}

impl Task {
    async fn carry_out(
        &self,
        aborted: Vec<Arc<ItlNexus>>,
        must_store: Option<Box<[Kept; 2]>>,
        action: Action,
    ) -> Result<Outcome, IoError> {
        if let Some(kept) = must_store
            && let Err(error) = self.unit.store_state().await
        {
            let [before, after] = *kept;
            self.unit.with_device(|device| {
                device.take_back(before, &after);
                if matches!(action, Action::Sanitize(_)) {
                    device.sanitize_ended(false);
                }
            });
            return Err(error);
        }
        for itl in aborted {
            drop(itl.tasks.clone().exclusive().await);
        }
        self.perform(action).await
    }

    async fn perform(&self, action: Action) -> Result<Outcome, IoError> {
        match action {
            Action::Answer(answer) => Ok(Outcome::Answer(answer)),
            Action::Read { offset, length, fua } => self.read(offset, length, fua).await,
            Action::Write { offset, length, fua } => self.write(offset, length, fua).await,
            Action::WriteAtomic { offset, length } => self.write_atomic(offset, length).await,
            Action::Verify { offset, length } => self.verify(offset, length).await,
            Action::Compare {
                offset,
                length,
                repeat,
            } => self.compare(offset, length, repeat).await,
            Action::WriteVerify {
                offset,
                length,
                compare,
            } => self.write_verify(offset, length, compare).await,
            Action::WriteSame { offset, length } => self.write_same(offset, length).await,
            Action::Sanitize(sanitize) => self.sanitize(sanitize).await,
            Action::Flush { immediate, .. } => self.flush(immediate).await,
            Action::Prefetch { offset, length } => self.prefetch(offset, length).await,
            Action::Zero {
                offset,
                length,
                unmap,
            } => self.zero(offset, length, unmap).await,
            Action::Unmap(ranges) => self.unmap(&ranges).await,
            Action::Extents {
                offset,
                length,
                limit,
                layout,
            } => self.extents((offset, length), limit, layout).await,
            Action::CompareAndWrite { offset, length, fua } => {
                self.compare_and_write(offset, length, fua).await
            }
            Action::OrWrite { offset, length, fua } => self.or_write(offset, length, fua).await,
            Action::ChangeGeneration {
                offset,
                length,
                fua,
                new,
            } => self.change_generation((offset, length), fua, new).await,
            Action::Copy(plan) => Ok(Outcome::Answer(self.copy(&plan).await)),
            Action::PopulateToken(plan) => Ok(Outcome::Answer(self.populate_token(plan))),
            Action::WriteUsingToken(plan) => Ok(Outcome::Answer(self.write_using_token(plan).await)),
            Action::ReportTimestamp { allocation_length } => Ok(report_timestamp(allocation_length)),
            Action::ReportTokens { allocation_length } => Ok(self.report_tokens(allocation_length)),
            Action::LogSense(request) => self.log_sense(request).await,
            Action::ResetStatistics => Ok(self.reset_statistics()),
            Action::Control(call) => Ok(Outcome::Answer(self.control(call).await)),
        }
    }

    fn conclude(&self, result: Result<Outcome, IoError>, expected: u64) -> ScsiResponse {
        let answer = match result {
            Ok(Outcome::Good) => Answer::good(),
            Ok(Outcome::Status(status)) => Answer::status(status),
            Ok(Outcome::Answer(answer)) => answer,
            Ok(Outcome::Data(data, length)) => {
                let response = data_response(data, length, self.data_in_limit);
                return ScsiResponse {
                    data_out_length: expected,
                    ..response
                };
            }
            Err(error) => failure((&self.unit, self.nexus.target()), &self.identity, &error),
        };
        respond(answer, expected, self.data_in_limit)
    }

    fn volume(&self) -> Arc<dyn Volume> {
        self.unit.volume().clone()
    }
}

/// The answer to a command that an error has ended, which is logged if it is a fault.
fn failure((unit, target): (&LogicalUnit, &Target), identity: &UnitIdentity, error: &IoError) -> Answer {
    if !matches!(
        error,
        IoError::Miscompare { .. } | IoError::NotReady | IoError::MirrorAway
    ) && let Some(left_out) = unit.failures.admit(Instant::now())
    {
        tracing::warn!(volume = identity.number.0, %error, left_out = left_out.noted(), "a command failed");
    }
    let shared = unit.volume().shared().map(|shared| target.seen(shared));
    let sense = match error {
        // It was active when the command was planned.
        IoError::NotReady if shared.is_some_and(|shared| !shared.active && shared.one_path) => {
            return Answer::status(Status::Busy);
        }
        IoError::NotReady if unit.in_standby() => {
            Sense::new(SenseKey::NotReady, sense_codes::TARGET_PORT_IN_STANDBY)
        }
        _ => sense_of(error, identity.block_size),
    };
    unit.check_condition(&sense)
}

fn report_timestamp(allocation_length: u32) -> Outcome {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let milliseconds = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let data = reports::timestamp(milliseconds).to_vec();
    Outcome::Answer(Answer::data(data, allocation_length as usize))
}

/// How much of a READ the initiator takes, in whole blocks.
fn wanted(length: u64, limit: u32, block_size: u32) -> u64 {
    length.min(u64::from(limit).next_multiple_of(u64::from(block_size)))
}

fn data_response(mut data: Bytes, length: u64, limit: u32) -> ScsiResponse {
    data.truncate(limit as usize);
    ScsiResponse {
        data_in: data,
        data_in_length: length,
        ..ScsiResponse::default()
    }
}

/// A failed I/O as sense data (SPC-4 4.5): medium errors say at which block.
fn sense_of(error: &IoError, block_size: u32) -> Sense {
    let block = |offset: &u64| offset / u64::from(block_size);
    match error {
        IoError::Read { offset, .. } => {
            Sense::new(SenseKey::MediumError, sense_codes::UNRECOVERED_READ_ERROR)
                .with_information(block(offset))
        }
        IoError::Write { offset, .. } => {
            Sense::new(SenseKey::MediumError, sense_codes::WRITE_ERROR).with_information(block(offset))
        }
        IoError::NoSpace { .. } => Sense::new(SenseKey::DataProtect, sense_codes::SPACE_ALLOCATION_FAILED),
        IoError::NotReady => Sense::new(SenseKey::NotReady, sense_codes::MANUAL_INTERVENTION_REQUIRED),
        IoError::MirrorAway => Sense::new(SenseKey::NotReady, sense_codes::BECOMING_READY),
        IoError::Miscompare { offset } => {
            Sense::new(SenseKey::Miscompare, sense_codes::MISCOMPARE_DURING_VERIFY).with_information(*offset)
        }
        IoError::Internal(_) => Sense::new(SenseKey::HardwareError, sense_codes::INTERNAL_TARGET_FAILURE),
    }
}

#[cfg(test)]
mod tests;
