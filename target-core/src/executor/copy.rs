//! EXTENDED COPY: block to block segments between units that this initiator sees. Data is not carried where the kernel can copy it
//! ([`crate::loan`]).

use scsi_model::{
    copy_operations::EXTENDED_COPY_LID4,
    plan::{Answer, CopyListId, CopyOutcome, CopyPlan, CopySegment, CopyUnit},
    sense::{Sense, SenseKey},
    sense_codes,
};

use super::{Task, sense_of};
use crate::{
    buffer::Buffer,
    lun_map::{LunMap, MappedUnit},
    volume::IoError,
};

const PIECE: u64 = 1 << 20;

impl Task {
    /// The segments in order; the first that fails ends it.
    pub(super) async fn copy(&self, plan: &CopyPlan) -> Answer {
        if let Some(CopyListId::Long(list_id)) = plan.list_id
            && let Err(answer) = self
                .unit
                .with_device(|device| device.begin_operation(self.itl.id, list_id, EXTENDED_COPY_LID4))
        {
            return answer;
        }
        let luns = self.nexus.luns();
        let mut bytes = 0;
        let mut outcome = None;
        for (index, segment) in plan.segments.iter().enumerate() {
            if let Err(sense) = self.copy_segment(&luns, plan.list_id, segment, &mut bytes).await {
                outcome = Some(CopyOutcome::Failed {
                    segment: index as u16,
                    bytes,
                    sense,
                });
                break;
            }
        }
        let outcome = outcome.unwrap_or(CopyOutcome::Done { bytes });
        self.unit
            .with_device(|device| device.copy_finished(self.itl.id, plan, &outcome))
    }

    async fn copy_segment(
        &self,
        luns: &LunMap,
        list_id: Option<CopyListId>,
        segment: &CopySegment,
        bytes: &mut u64,
    ) -> Result<(), Sense> {
        let source = find(luns, &segment.source)?;
        let destination = find(luns, &segment.destination)?;
        if destination.read_only {
            return Err(Sense::new(SenseKey::DataProtect, sense_codes::WRITE_PROTECTED));
        }
        let counted = if segment.destination_count {
            &segment.destination
        } else {
            &segment.source
        };
        let length = segment.blocks * u64::from(counted.block_size);
        let from = range_start(source, segment.source_lba, length)?;
        let to = range_start(destination, segment.destination_lba, length)?;
        let block_size = destination.unit.identity().block_size;
        let mut done = 0;
        while done < length {
            if let Some(CopyListId::Long(list_id)) = list_id
                && !self.goes_on(list_id)
            {
                return Err(Sense::new(
                    SenseKey::CopyAborted,
                    sense_codes::NO_ADDITIONAL_SENSE,
                ));
            }
            let at = from + done;
            let extents = source.unit.volume().clone().extents(at, 1).await;
            let extent = extents.map_err(|error| sense_of(&error, block_size))?;
            let (piece, mapped) = match extent.first() {
                Some(extent) if !extent.mapped && extent.length >= length - done => (length - done, false),
                _ => (
                    piece_of(to + done, length - done, segment.source.block_size),
                    true,
                ),
            };
            let copied = move_piece(
                source,
                destination,
                at,
                to + done,
                piece,
                mapped,
                self.write_through,
            );
            copied.await.map_err(|error| sense_of(&error, block_size))?;
            done += piece;
            *bytes += piece;
        }
        Ok(())
    }
}

/// How much of what is left goes to `to` at once: to the next border of pieces there, in whole blocks also of a source with blocks of
/// this size.
pub(super) fn piece_of(to: u64, left: u64, block_size: u32) -> u64 {
    let to_border = PIECE - to % PIECE;
    let piece = if to_border.is_multiple_of(block_size.into()) {
        to_border
    } else {
        PIECE
    };
    left.min(piece)
}

async fn move_piece(
    source: &MappedUnit,
    destination: &MappedUnit,
    from: u64,
    to: u64,
    length: u64,
    mapped: bool,
    fua: bool,
) -> Result<(), IoError> {
    if !source.unit.volume().ready() || !destination.unit.volume().ready() {
        return Err(IoError::NotReady);
    }
    let target = destination.unit.volume().clone();
    if !mapped {
        let _inside = destination.unit.copies().clone().enter_when_open().await;
        return target.zero(to, length, true, fua).await;
    }
    if share_piece(source, destination, from, to, length).await {
        return if fua { target.flush().await } else { Ok(()) };
    }
    // Never inside two gates: whoever waits for one would keep the other from closing.
    let inside = source.unit.copies().clone().enter_when_open().await;
    let buffer = source
        .unit
        .volume()
        .clone()
        .read(from, Buffer::new(length as usize))
        .await?;
    drop(inside);
    let _inside = destination.unit.copies().clone().enter_when_open().await;
    target.write(to, buffer.freeze(), fua).await
}

/// Copies without carrying, if that can be done now. It is inside two gates, for neither of which it waits.
async fn share_piece(source: &MappedUnit, destination: &MappedUnit, from: u64, to: u64, length: u64) -> bool {
    let (Some(_inside), Some(_too)) = (
        source.unit.copies().enter_owned(),
        destination.unit.copies().enter_owned(),
    ) else {
        return false;
    };
    match source.unit.volume().lend(from, length) {
        Some(loan) => destination.unit.volume().clone().copy_in(to, loan).await,
        None => false,
    }
}

/// The unit with this designator, if the initiator sees it, its block size is what the descriptor says, and nobody
/// keeps it from this initiator by a reservation.
fn find<'a>(luns: &'a LunMap, wanted: &CopyUnit) -> Result<&'a MappedUnit, Sense> {
    let unreachable = Sense::new(SenseKey::CopyAborted, sense_codes::COPY_TARGET_NOT_REACHABLE);
    let is_it = |seen: &&MappedUnit| seen.unit.with_identity(|identity| identity.naa == wanted.naa);
    let seen = luns.units().find(is_it).ok_or(unreachable)?;
    if seen.unit.identity().block_size != wanted.block_size {
        return Err(Sense::illegal(sense_codes::INVALID_FIELD_IN_PARAMETER_LIST));
    }
    if seen.unit.is_reserved() && !seen.itl().is_calm() {
        return Err(unreachable);
    }
    Ok(seen)
}

/// First byte of a range of whole blocks inside the unit.
fn range_start(seen: &MappedUnit, lba: u64, length: u64) -> Result<u64, Sense> {
    let identity = seen.unit.identity();
    let block = u64::from(identity.block_size);
    let fits = lba <= identity.blocks && length / block <= identity.blocks - lba;
    if !fits || !length.is_multiple_of(block) {
        return Err(Sense::illegal(sense_codes::LBA_OUT_OF_RANGE).with_information(lba));
    }
    Ok(lba * block)
}
