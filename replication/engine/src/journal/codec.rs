//! The payload of each record as bytes, little-endian (docs/journal.md).

use super::record::{Hold, MarkWord, Member, PairMeta, Record, StateChange, VolumeConfig};
use crate::{
    bitmap::{Bitmap, BitmapError},
    command::VolumeSpec,
    ids::{PairId, Region, VolumeId},
    pair_bits::{Change, PairBits, Which},
    state::PairState,
    track::TrackRange,
};

/// A payload that is not what its type says. The record's checksum was right: this is not damage, but another
/// program's (or a later version's) writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The payload ends within a field.
    #[error("the record ends within a field")]
    Short,
    /// Bytes are left when everything was read.
    #[error("the record is longer than what it says")]
    Long,
    /// No record has this type.
    #[error("there is no record type {0}")]
    Type(u16),
    /// A reserved byte or bit is set.
    #[error("a reserved field is set")]
    Reserved,
    /// A code that its field does not have.
    #[error("{field} has no code {code}")]
    Code {
        /// The field.
        field: &'static str,
        /// What was found.
        code: u8,
    },
    /// A run of tracks with its end before its start.
    #[error("a run of tracks is empty")]
    Run,
    /// The bitmaps of a pair are of different lengths.
    #[error("the bitmaps of a pair are of different lengths")]
    Lengths,
    /// A bitmap's bytes.
    #[error(transparent)]
    Bitmap(#[from] BitmapError),
}

const SNAPSHOT_BEGIN: u16 = 1;
const SNAPSHOT_END: u16 = 2;
const VOLUME: u16 = 3;
const CONFIG: u16 = 4;
const PAIR: u16 = 5;
const STATE_CHANGE: u16 = 6;
const HOT: u16 = 7;
const COLD: u16 = 8;
const CLEARED: u16 = 9;

const MIRROR_READY: u8 = 1;
const FULL: u8 = 2;
const PAIR_INCONSISTENT: u8 = 4;
const RESUMES: u8 = 8;
const NOT_READY: u8 = 1;
const VOLUME_INCONSISTENT: u8 = 2;

/// The record's type code.
pub(super) fn type_code(record: &Record) -> u16 {
    match record {
        Record::SnapshotBegin { .. } => SNAPSHOT_BEGIN,
        Record::SnapshotEnd => SNAPSHOT_END,
        Record::Volume { .. } => VOLUME,
        Record::Config(_) => CONFIG,
        Record::Pair { .. } => PAIR,
        Record::StateChange(_) => STATE_CHANGE,
        Record::Hot(_) => HOT,
        Record::Cold { .. } => COLD,
        Record::Cleared { .. } => CLEARED,
    }
}

/// Appends the record's payload.
pub(super) fn encode(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::SnapshotBegin { at_ms } => u64_to(out, *at_ms),
        Record::SnapshotEnd => {}
        Record::Volume { volume, spec } => {
            u32_to(out, volume.0);
            u32_to(out, spec.block_size);
            u64_to(out, spec.bytes);
        }
        Record::Config(config) => config_to(out, *config),
        Record::Pair { pair, meta, bits } => {
            u32_to(out, pair.0.0);
            u32_to(out, 0);
            meta_to(out, meta);
            bits.primary_changed.encode(out);
            bits.mirror_changed.encode(out);
            bits.owed().encode(out);
        }
        Record::StateChange(change) => {
            u64_to(out, change.at_ms);
            count_to(out, change.marks.len());
            count_to(out, change.members.len());
            count_to(out, change.configs.len());
            u32_to(out, 0);
            for mark in &change.marks {
                mark_to(out, mark);
            }
            for member in &change.members {
                u32_to(out, member.pair.0.0);
                out.extend_from_slice(&[member.change as u8, 0, 0, 0]);
                meta_to(out, &member.meta);
            }
            for config in &change.configs {
                config_to(out, *config);
            }
        }
        Record::Hot(regions) => regions_to(out, regions, 0),
        Record::Cold { regions, marks } => {
            regions_to(out, regions, marks.len());
            for mark in marks {
                mark_to(out, mark);
            }
        }
        Record::Cleared { pair, runs } => {
            u32_to(out, pair.0.0);
            count_to(out, runs.len());
            for run in runs {
                u64_to(out, run.start);
                u64_to(out, run.end);
            }
        }
    }
}

/// Reads the payload of a record of this type; all of it must be used.
pub(super) fn decode(type_code: u16, payload: &[u8]) -> Result<Record, RecordError> {
    let mut from = Reader(payload);
    let record = match type_code {
        SNAPSHOT_BEGIN => Record::SnapshotBegin { at_ms: from.u64()? },
        SNAPSHOT_END => Record::SnapshotEnd,
        VOLUME => {
            let (volume, block_size) = (from.volume()?, from.u32()?);
            Record::Volume {
                volume,
                spec: VolumeSpec {
                    bytes: from.u64()?,
                    block_size,
                },
            }
        }
        CONFIG => Record::Config(from.config()?),
        PAIR => {
            let pair = PairId(from.volume()?);
            from.zero::<4>()?;
            Record::Pair {
                pair,
                meta: from.meta()?,
                bits: Box::new(from.bits()?),
            }
        }
        STATE_CHANGE => {
            let at_ms = from.u64()?;
            let (marks, members, configs) = (from.u32()?, from.u32()?, from.u32()?);
            from.zero::<4>()?;
            Record::StateChange(StateChange {
                at_ms,
                marks: from.list(marks, Reader::mark)?,
                members: from.list(members, Reader::member)?,
                configs: from.list(configs, Reader::config)?,
            })
        }
        HOT => {
            let count = from.u32()?;
            from.zero::<4>()?;
            Record::Hot(from.list(count, Reader::region)?)
        }
        COLD => {
            let (regions, marks) = (from.u32()?, from.u32()?);
            Record::Cold {
                regions: from.list(regions, Reader::region)?,
                marks: from.list(marks, Reader::mark)?,
            }
        }
        CLEARED => {
            let pair = PairId(from.volume()?);
            let count = from.u32()?;
            Record::Cleared {
                pair,
                runs: from.list(count, Reader::run)?,
            }
        }
        unknown => return Err(RecordError::Type(unknown)),
    };
    if from.0.is_empty() {
        Ok(record)
    } else {
        Err(RecordError::Long)
    }
}

fn u32_to(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn u64_to(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn count_to(out: &mut Vec<u8>, count: usize) {
    u32_to(
        out,
        u32::try_from(count).expect("a record lists what is in memory: far below 2^32 things"),
    );
}

fn config_to(out: &mut Vec<u8>, config: VolumeConfig) {
    u32_to(out, config.volume.0);
    let flags = flag(config.not_ready, NOT_READY) | flag(config.inconsistent, VOLUME_INCONSISTENT);
    out.extend_from_slice(&[config.hold as u8, flags, 0, 0]);
}

fn meta_to(out: &mut Vec<u8>, meta: &PairMeta) {
    u32_to(out, meta.primary.0);
    let flags = flag(meta.mirror_ready, MIRROR_READY)
        | flag(meta.full, FULL)
        | flag(meta.inconsistent, PAIR_INCONSISTENT)
        | flag(meta.resumes, RESUMES);
    out.extend_from_slice(&[meta.state.code(), flags, meta.reason, 0]);
    u64_to(out, meta.split_at_ms);
}

fn mark_to(out: &mut Vec<u8>, mark: &MarkWord) {
    u32_to(out, mark.pair.0.0);
    out.extend_from_slice(&[mark.which as u8, 0, 0, 0]);
    u64_to(out, mark.region.0);
    u64_to(out, mark.bits);
}

fn regions_to(out: &mut Vec<u8>, regions: &[(VolumeId, Region)], marks: usize) {
    count_to(out, regions.len());
    count_to(out, marks);
    for (volume, region) in regions {
        u32_to(out, volume.0);
        u32_to(out, 0);
        u64_to(out, region.0);
    }
}

const fn flag(value: bool, bit: u8) -> u8 {
    if value { bit } else { 0 }
}

/// What is left of a payload.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(RecordError::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn zero<const N: usize>(&mut self) -> Result<(), RecordError> {
        if self.array()? == [0; N] {
            Ok(())
        } else {
            Err(RecordError::Reserved)
        }
    }

    fn u8(&mut self) -> Result<u8, RecordError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_le_bytes)
    }

    fn code<T: Copy>(&mut self, field: &'static str, all: &[T]) -> Result<T, RecordError> {
        let code = self.u8()?;
        all.get(usize::from(code))
            .copied()
            .ok_or(RecordError::Code { field, code })
    }

    fn flags(&mut self, known: u8) -> Result<u8, RecordError> {
        let flags = self.u8()?;
        if flags & !known == 0 {
            Ok(flags)
        } else {
            Err(RecordError::Reserved)
        }
    }

    /// A count is never believed: memory is taken as elements are found.
    fn list<T>(
        &mut self,
        count: u32,
        one: impl Fn(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Vec<T>, RecordError> {
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(one(self)?);
        }
        Ok(items)
    }

    fn volume(&mut self) -> Result<VolumeId, RecordError> {
        self.u32().map(VolumeId)
    }

    fn config(&mut self) -> Result<VolumeConfig, RecordError> {
        let volume = self.volume()?;
        let hold = self.code("hold", &Hold::ALL)?;
        let flags = self.flags(NOT_READY | VOLUME_INCONSISTENT)?;
        self.zero::<2>()?;
        Ok(VolumeConfig {
            volume,
            hold,
            not_ready: flags & NOT_READY != 0,
            inconsistent: flags & VOLUME_INCONSISTENT != 0,
        })
    }

    fn meta(&mut self) -> Result<PairMeta, RecordError> {
        let primary = self.volume()?;
        let state = self.code("state", &PairState::ALL)?;
        let flags = self.flags(MIRROR_READY | FULL | PAIR_INCONSISTENT | RESUMES)?;
        let reason = self.u8()?;
        self.zero::<1>()?;
        Ok(PairMeta {
            primary,
            state,
            mirror_ready: flags & MIRROR_READY != 0,
            full: flags & FULL != 0,
            inconsistent: flags & PAIR_INCONSISTENT != 0,
            reason,
            resumes: flags & RESUMES != 0,
            split_at_ms: self.u64()?,
        })
    }

    fn bits(&mut self) -> Result<PairBits, RecordError> {
        let primary_changed = Bitmap::decode(&mut self.0)?;
        let mirror_changed = Bitmap::decode(&mut self.0)?;
        let todo = Bitmap::decode(&mut self.0)?;
        let tracks = todo.tracks();
        if primary_changed.tracks() != tracks || mirror_changed.tracks() != tracks {
            return Err(RecordError::Lengths);
        }
        Ok(PairBits {
            primary_changed,
            mirror_changed,
            todo,
            unsettled: Bitmap::new(tracks),
        })
    }

    fn member(&mut self) -> Result<Member, RecordError> {
        let pair = PairId(self.volume()?);
        let change = self.code("change", &Change::ALL)?;
        self.zero::<3>()?;
        Ok(Member {
            pair,
            meta: self.meta()?,
            change,
        })
    }

    fn mark(&mut self) -> Result<MarkWord, RecordError> {
        let pair = PairId(self.volume()?);
        let which = self.code("bitmap", &Which::ALL)?;
        self.zero::<3>()?;
        Ok(MarkWord {
            pair,
            which,
            region: Region(self.u64()?),
            bits: self.u64()?,
        })
    }

    fn region(&mut self) -> Result<(VolumeId, Region), RecordError> {
        let volume = self.volume()?;
        self.zero::<4>()?;
        Ok((volume, Region(self.u64()?)))
    }

    fn run(&mut self) -> Result<TrackRange, RecordError> {
        let run = TrackRange::new(self.u64()?, self.u64()?);
        if run.is_empty() {
            Err(RecordError::Run)
        } else {
            Ok(run)
        }
    }
}
