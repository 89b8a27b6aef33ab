//! Performs [`Effect::Copy`](replication_engine::effects::Effect::Copy): one range, one source, any number of destinations.
//!
//! Holes at the source become holes at the destinations, so that what was never written is neither read, sent nor allocated.
//! With one destination the disk copies inside the kernel where it can (and shares blocks on file systems that can);
//! with several, each piece is read once and written to all.

use replication_engine::{
    effects::Outcome,
    ids::{ByteRange, VolumeId},
};
use target_core::{
    buffer::Buffer,
    media::Copied,
    volume::{Extent, IoError},
};

use crate::{compare, leg::Leg};

/// Most bytes in memory for one copy.
const PIECE: u64 = 1 << 20;
/// Extents asked for at a time.
const EXTENTS: usize = 64;

/// A failed copy: what the engine is told, and what happened where.
#[derive(Debug)]
pub(crate) struct CopyFailure {
    pub(crate) outcome: Outcome,
    pub(crate) volume: VolumeId,
    pub(crate) error: IoError,
}

/// Copies `range` from one disk to the same place of the others. Nothing is flushed.
pub(crate) async fn copy(
    (from, source): (VolumeId, Leg),
    to: Vec<(VolumeId, Leg)>,
    range: ByteRange,
) -> Result<Copied, CopyFailure> {
    let read_failed = |error| CopyFailure {
        outcome: Outcome::ReadFailed,
        volume: from,
        error,
    };
    if let (Leg::Near(source), [(volume, Leg::Near(destination))]) = (&source, &to[..]) {
        let copied = source
            .copy_to(range.start, (destination, range.start), range.end - range.start)
            .await;
        return copied.map_err(|error| match error {
            IoError::Read { .. } => read_failed(error),
            _ => write_failed(*volume, error),
        });
    }
    let mut at = range.start;
    let mut copied = Copied::default();
    while at < range.end {
        for extent in source.extents(at, EXTENTS).await.map_err(read_failed)? {
            let end = (extent.offset + extent.length).min(range.end);
            if extent.mapped {
                copied.data += end - at;
                copy_data(&source, &to, at, end)
                    .await
                    .map_err(|failed| match failed {
                        Failed::Read(error) => read_failed(error),
                        Failed::Write(volume, error) => write_failed(volume, error),
                    })?;
            } else {
                make_hole(&to, at, end).await?;
                copied.hole_ahead = extent.offset + extent.length - end;
            }
            at = end;
            if at == range.end {
                break;
            }
        }
    }
    Ok(copied)
}

/// Copies of the range only the pieces that are not the same already, by their digests. What else is written to with the first
/// destination is kept equal to it, and has what it has.
pub(crate) async fn copy_differing(
    (from, source): (VolumeId, Leg),
    to: Vec<(VolumeId, Leg)>,
    range: ByteRange,
    piece: u64,
) -> Result<Copied, CopyFailure> {
    let Some((first, destination)) = to.first() else {
        return Ok(Copied::default());
    };
    let runs = compare::differing([&source, destination], range, piece).await;
    let runs = runs.map_err(|(which, error)| {
        if which == 1 {
            return write_failed(*first, error);
        }
        CopyFailure {
            outcome: Outcome::ReadFailed,
            volume: from,
            error,
        }
    })?;
    let mut all = Copied::default();
    for run in runs {
        all.data += copy((from, source.clone()), to.clone(), run).await?.data;
    }
    Ok(all)
}

enum Failed {
    Read(IoError),
    Write(VolumeId, IoError),
}

async fn copy_data(source: &Leg, to: &[(VolumeId, Leg)], start: u64, end: u64) -> Result<(), Failed> {
    let mut at = start;
    while at < end {
        let length = (end - at).min(PIECE);
        let data = source
            .read(at, Buffer::new(length as usize))
            .await
            .map_err(Failed::Read)?
            .freeze();
        // All writes are under way before the first is awaited, but those that wait for a link.
        let writes: Vec<_> = to
            .iter()
            .map(|(volume, disk)| (*volume, disk.copy(at, data.clone())))
            .collect();
        let mut result = Ok(());
        for (volume, write) in writes {
            let written = write.await.map_err(|error| Failed::Write(volume, error));
            result = result.and(written);
        }
        result?;
        at += length;
    }
    Ok(())
}

async fn make_hole(to: &[(VolumeId, Leg)], start: u64, end: u64) -> Result<(), CopyFailure> {
    for (volume, disk) in to {
        let first = disk
            .extents(start, 1)
            .await
            .map_err(|error| write_failed(*volume, error))?;
        let is_hole = |extent: &Extent| !extent.mapped && extent.offset + extent.length >= end;
        if !first.first().is_some_and(is_hole) {
            let punched = disk.zero(start, end - start, true).await;
            punched.map_err(|error| write_failed(*volume, error))?;
        }
    }
    Ok(())
}

fn write_failed(volume: VolumeId, error: IoError) -> CopyFailure {
    CopyFailure {
        outcome: Outcome::WriteFailed(volume),
        volume,
        error,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use target_core::{
        disk::Disk,
        media::{Faults, MemoryMedia},
    };

    use super::*;

    fn disk(name: &str) -> (Arc<Disk>, Arc<Faults>) {
        let (media, faults) = MemoryMedia::with_faults(4 << 20);
        (Disk::new(name, Arc::new(media)), faults)
    }

    fn near(disk: &Arc<Disk>) -> Leg {
        Leg::Near(Arc::clone(disk))
    }

    async fn content(disk: &Arc<Disk>) -> Vec<u8> {
        disk.read(0, Buffer::new(4 << 20)).await.unwrap().to_vec()
    }

    #[tokio::test]
    async fn several_destinations_get_data_and_holes() {
        let ((source, _), (one, _), (two, faults)) = (disk("source"), disk("one"), disk("two"));
        source
            .write(1 << 20, Bytes::from(vec![7; 3 << 19]), false)
            .await
            .unwrap();
        one.write(0, Bytes::from(vec![9; 4 << 20]), false).await.unwrap();
        let to = vec![(VolumeId(2), near(&one)), (VolumeId(3), near(&two))];
        let range = ByteRange {
            start: 4096,
            end: 4 << 20,
        };
        copy((VolumeId(1), near(&source)), to.clone(), range)
            .await
            .unwrap();
        let mut expected = content(&source).await;
        assert_eq!(content(&two).await, expected);
        expected[..4096].fill(9);
        assert_eq!(content(&one).await, expected);
        assert!(
            !two.extents(0, 1).await.unwrap()[0].mapped,
            "a hole was not allocated"
        );

        faults.fail_writes(1 << 20..2 << 20);
        let failure = copy((VolumeId(1), near(&source)), to, range).await.unwrap_err();
        assert_eq!(failure.outcome, Outcome::WriteFailed(VolumeId(3)));
    }

    #[tokio::test]
    async fn one_destination_says_whose_fault_it_was() {
        let ((source, bad_source), (one, bad_one)) = (disk("source"), disk("one"));
        source
            .write(0, Bytes::from(vec![7; 1 << 20]), false)
            .await
            .unwrap();
        let range = ByteRange {
            start: 0,
            end: 4 << 20,
        };
        let run = || {
            copy(
                (VolumeId(1), near(&source)),
                vec![(VolumeId(2), near(&one))],
                range,
            )
        };
        run().await.unwrap();
        assert_eq!(content(&one).await, content(&source).await);
        bad_source.fail_reads(0..512);
        assert_eq!(run().await.unwrap_err().outcome, Outcome::ReadFailed);
        bad_source.heal();
        bad_one.fail_writes(0..512);
        assert_eq!(
            run().await.unwrap_err().outcome,
            Outcome::WriteFailed(VolumeId(2))
        );
    }
}
