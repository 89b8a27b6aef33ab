//! A stamped load: reads and writes of every kind over one session, several in flight, each result checked.
//!
//! The rules that make every check certain: writes in flight at one time never overlap each other, and none begins over a range that
//! is being read. So a read may return, sector by sector, what its [`Picture`] allowed when it was sent or when it
//! ended. Pair commands go through the same session, among the writes ([`cut`]).

pub mod cut;
mod power;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::{Duration, Instant},
};

use crate::{
    commands::{self, Command},
    initiator::{CHECK_CONDITION, Completion, GOOD, Initiator, Lost},
    random::Random,
    stamps::{ANYWHERE, Cell, Picture, SECTOR, Stamp, sector, sectors, stamp_of},
};
use cut::{Cut, CutEnd, Image, Replaced};
use power::{Stability, Stable};

/// What a load is made of.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Volumes 1 to this; the LUN of each is one less than its number.
    pub volumes: u32,
    /// Sectors of each.
    pub sectors: u64,
    /// Sectors of a track.
    pub track: u64,
    /// Where the load goes.
    pub footprint: Range<u64>,
    /// Commands in flight.
    pub depth: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    WriteSame,
    Unmap,
    CompareAndWrite,
    Flush,
}

/// A command of the load in flight.
#[derive(Debug)]
struct Op {
    kind: Kind,
    volume: u32,
    first: u64,
    count: u64,
    fua: bool,
    /// When.
    sent: u64,
    /// A write's place in the log.
    entry: Option<usize>,
    /// What a read was allowed to see when it was sent.
    before: Vec<Cell>,
    /// A pair command may replace the volume's content, or shut the volume, while this is in flight.
    ambiguous: bool,
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// No answer yet, or never.
    Open,
    Done,
    Declined,
}

/// A write of any kind. Times are those of [`Load::clock`].
#[derive(Debug)]
struct Written {
    volume: u32,
    first: u64,
    count: u64,
    stamp: Stamp,
    sent: u64,
    answered: Option<u64>,
    fate: Fate,
    /// Was it while a pair command that disturbs the volume?
    ambiguous: bool,
    stability: Stability,
}

/// What the load has done, for the report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Writes of every kind that ended GOOD.
    pub writes: u64,
    /// Reads checked.
    pub reads: u64,
    /// Writes that a kill left without an answer.
    pub unanswered: u64,
    /// Writes that were in flight while an image was taken, and judged in it.
    pub straddlers: u64,
}

impl Tally {
    /// Adds another's numbers.
    pub fn add(&mut self, other: Self) {
        self.writes += other.writes;
        self.reads += other.reads;
        self.unanswered += other.unanswered;
        self.straddlers += other.straddlers;
    }
}

/// The load and all it knows.
#[derive(Debug)]
pub struct Load {
    shape: Shape,
    random: Random,
    session: Option<Initiator>,
    /// What each volume may hold, if hosts could read it.
    pictures: BTreeMap<u32, Picture>,
    /// What it may hold after a loss of power, if one may come.
    stable: Option<Stable>,
    /// Mirrors without a content of their own, and the primaries they are kept equal to.
    pub equal: BTreeMap<u32, u32>,
    /// Volumes that the load goes to now.
    pub targets: Vec<u32>,
    /// Regions (of 64 tracks) that writes were sent to, by volume.
    pub touched: BTreeSet<(u32, u64)>,
    ops: BTreeMap<u32, Op>,
    log: Vec<Written>,
    clock: u64,
    stamp: Stamp,
    cut: Option<Cut>,
    cut_end: Option<CutEnd>,
    images: Vec<Image>,
    /// By mirror.
    replaced: BTreeMap<u32, Replaced>,
    cuts: usize,
    /// Stamps of WRITE SAME.
    repeated: BTreeSet<Stamp>,
    /// When this session began.
    connected_at: u64,
    asked: Option<u32>,
    answer: Option<Completion>,
    tally: Tally,
}

/// Tracks of a region, the unit of heat.
const REGION_TRACKS: u64 = 64;

/// How long a command may take before something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

impl Load {
    /// Nothing was written yet.
    pub fn new(shape: Shape, random: Random) -> Self {
        let pictures = (1..=shape.volumes)
            .map(|number| (number, Picture::empty(shape.sectors)))
            .collect();
        Self {
            shape,
            random,
            session: None,
            pictures,
            stable: None,
            equal: BTreeMap::new(),
            targets: Vec::new(),
            touched: BTreeSet::new(),
            ops: BTreeMap::new(),
            log: Vec::new(),
            clock: 0,
            stamp: 0,
            cut: None,
            cut_end: None,
            images: Vec::new(),
            replaced: BTreeMap::new(),
            cuts: 0,
            repeated: BTreeSet::new(),
            connected_at: 0,
            asked: None,
            answer: None,
            tally: Tally::default(),
        }
    }

    /// Uses this session from now on. What a kill left open must be resolved by now.
    pub fn connect(&mut self, session: Initiator) {
        assert!(self.cut.is_none() && self.ops.is_empty());
        self.clock += 1;
        self.connected_at = self.clock;
        self.session = Some(session);
    }

    /// Sends the load to this part of the volumes from now on.
    pub fn narrow(&mut self, footprint: Range<u64>) {
        self.shape.footprint = footprint;
    }

    /// What was done so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Sends and receives until `until`.
    pub fn run(&mut self, until: Instant) -> Result<(), Lost> {
        while Instant::now() < until {
            self.generate()?;
            let left = until.saturating_duration_since(Instant::now());
            self.take(left.min(Duration::from_millis(20)))?;
        }
        Ok(())
    }

    /// Waits until nothing is in flight; sends nothing new.
    pub fn quiesce(&mut self) -> Result<(), Lost> {
        let until = Instant::now() + PATIENCE;
        while !self.ops.is_empty() || self.asked.is_some() {
            assert!(
                Instant::now() < until,
                "not answered within {PATIENCE:?}: {:?}",
                self.ops
            );
            self.take(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// The target was killed, and the session is lost. What it answered before counts, also what could not be received while
    /// sending failed; what is still open may have been done or not.
    pub fn lose(&mut self) {
        while self.session.is_some() && self.take(Duration::from_secs(5)).is_ok() {}
        self.session = None;
        self.tally.unanswered += self.ops.values().filter(|op| op.entry.is_some()).count() as u64;
        self.ops.clear();
        (self.asked, self.answer) = (None, None);
    }

    /// Ends the session in peace.
    pub fn disconnect(&mut self) {
        assert!(self.ops.is_empty(), "quiesce first");
        self.session = None;
    }

    /// Runs a command of no consequence for contents among the load, again while unit attentions are reported.
    pub fn ask(&mut self, lun: u16, command: &Command) -> Result<Completion, Lost> {
        loop {
            let tag = self.session().submit(lun, command.clone())?;
            self.asked = Some(tag);
            let until = Instant::now() + PATIENCE;
            let completion = loop {
                if let Some(completion) = self.answer.take() {
                    break completion;
                }
                assert!(
                    Instant::now() < until,
                    "no answer to {command:?} within {PATIENCE:?}"
                );
                self.generate()?;
                self.take(Duration::from_millis(20))?;
            };
            if !completion.is_unit_attention() && !completion.is_busy() {
                return Ok(completion);
            }
        }
    }

    /// Writes all over a volume, but for every fourth piece, which stays a hole.
    pub fn fill(&mut self, volume: u32) -> Result<(), Lost> {
        let piece = self.shape.track * 8;
        for first in (0..self.shape.sectors).step_by(piece as usize) {
            if self.random.chance(25) {
                continue;
            }
            self.stamp += 1;
            let stamp = self.stamp;
            let command = commands::write(first, sectors(stamp, first, piece), false);
            let completion = self.session().run(lun(volume), &command)?;
            assert_eq!(completion.status, GOOD, "{completion:?}");
            self.picture(volume).settle(first, piece, stamp);
        }
        Ok(())
    }

    /// Reads a whole volume with nothing else in flight; `None` if it is not ready for hosts.
    pub fn read_all(&mut self, volume: u32) -> Result<Option<Vec<u8>>, Lost> {
        const PIECE: u64 = 128;
        assert!(self.ops.is_empty(), "quiesce first");
        let (sectors, depth) = (self.shape.sectors, self.shape.depth);
        let session = self.session();
        let ready = session.run(lun(volume), &commands::test_unit_ready())?;
        if ready.status != GOOD {
            assert_eq!(
                (ready.status, ready.sense_code()),
                (CHECK_CONDITION, NOT_READY),
                "volume {volume}"
            );
            return Ok(None);
        }
        let mut content = vec![0; sectors as usize * SECTOR];
        let mut left: Vec<u64> = (0..sectors).step_by(PIECE as usize).collect();
        let mut places = BTreeMap::new();
        loop {
            while places.len() < depth && session.has_room() {
                let Some(first) = left.pop() else { break };
                let tag = session.submit(lun(volume), commands::read(first, PIECE as u32))?;
                places.insert(tag, first);
            }
            if places.is_empty() {
                return Ok(Some(content));
            }
            let completion = session.poll(PATIENCE)?.expect("an answer to a READ");
            let first = places.remove(&completion.tag).expect("one of ours");
            if completion.is_unit_attention() {
                left.push(first);
                continue;
            }
            assert_eq!(
                completion.status, GOOD,
                "READ of volume {volume} at {first}: {completion:?}"
            );
            content[first as usize * SECTOR..][..completion.data.len()].copy_from_slice(&completion.data);
        }
    }

    /// Compares the content of a volume, read with nothing in flight, with what it may be; returns its stamps.
    pub fn check(&mut self, volume: u32, content: &[u8]) -> Result<Vec<Stamp>, String> {
        self.picture(volume).check(content)
    }

    /// What must be on a volume after [`Self::check`].
    pub fn expected(&self, volume: u32) -> Vec<Stamp> {
        let cells = self.pictures[&volume].cells(0, self.shape.sectors);
        cells.iter().map(|cell| cell.settled).collect()
    }

    /// SYNCHRONIZE CACHE of a volume.
    pub fn flush(&mut self, volume: u32) -> Result<(), Lost> {
        let completion = self.session().run(lun(volume), &commands::flush())?;
        assert_eq!(
            completion.status, GOOD,
            "flush of volume {volume}: {completion:?}"
        );
        Ok(())
    }

    fn session(&mut self) -> &mut Initiator {
        self.session.as_mut().expect("connected")
    }

    fn picture(&mut self, volume: u32) -> &mut Picture {
        self.pictures.get_mut(&volume).expect("a volume of the shape")
    }

    /// Sends what fits.
    fn generate(&mut self) -> Result<(), Lost> {
        for _ in 0..2 * self.shape.depth {
            if self.targets.is_empty() || self.ops.len() >= self.shape.depth || !self.session().has_room() {
                break;
            }
            self.send_one()?;
        }
        Ok(())
    }

    /// Sends one command, unless the dice name a range that is taken.
    fn send_one(&mut self) -> Result<(), Lost> {
        let target = self.random.below(self.targets.len() as u64) as usize;
        let volume = self.targets[target];
        let (first, count) = self.any_range();
        let kind = match self.random.below(100) {
            0..25 => Kind::Read,
            25..30 => Kind::Unmap,
            30..37 => Kind::WriteSame,
            37..45 if self.is_certain(volume, first, count) => Kind::CompareAndWrite,
            45..47 => Kind::Flush,
            _ => Kind::Write,
        };
        if kind == Kind::Flush {
            let op = self.op(kind, volume, 0, 0);
            return self.send(op, commands::flush());
        }
        if kind == Kind::Read {
            let mut op = self.op(kind, volume, first, count);
            op.before = self.pictures[&volume].cells(first, count).to_vec();
            return self.send(op, commands::read(first, count as u32));
        }
        if self.is_taken(volume, first, count) {
            return Ok(());
        }
        self.stamp += 1;
        let stamp = if kind == Kind::Unmap { 0 } else { self.stamp };
        let fua = kind == Kind::Write && self.random.chance(2);
        let command = match kind {
            Kind::Unmap => commands::unmap(first, count as u32),
            Kind::WriteSame => {
                self.repeated.insert(stamp);
                commands::write_same(first, count as u32, sector(stamp, ANYWHERE).to_vec())
            }
            Kind::CompareAndWrite => {
                let data = self.compared(volume, first, count, stamp);
                commands::compare_and_write(first, count as u8, data)
            }
            _ => commands::write(first, sectors(stamp, first, count), fua),
        };
        let mut op = self.op(kind, volume, first, count);
        op.fua = fua;
        op.entry = Some(self.log.len());
        self.begin(&op, stamp);
        let region = self.shape.track * REGION_TRACKS;
        for region in first / region..=(first + count - 1) / region {
            self.touched.insert((volume, region));
        }
        for image in &mut self.images {
            image.overwrite(volume, first, count);
        }
        self.send(op, command)
    }

    /// A write of this stamp is about to be sent.
    fn begin(&mut self, op: &Op, stamp: Stamp) {
        let Op {
            volume, first, count, ..
        } = *op;
        self.log.push(Written {
            volume,
            first,
            count,
            stamp,
            sent: op.sent,
            answered: None,
            fate: Fate::Open,
            ambiguous: false,
            stability: Stability::Cached,
        });
        self.picture(volume).begin(first, count, stamp);
        if let Some(stable) = &mut self.stable {
            stable.begin(volume, first, count, stamp);
        }
    }

    fn op(&mut self, kind: Kind, volume: u32, first: u64, count: u64) -> Op {
        self.clock += 1;
        Op {
            kind,
            volume,
            first,
            count,
            fua: false,
            sent: self.clock,
            entry: None,
            before: Vec::new(),
            ambiguous: self.cut.as_ref().is_some_and(|cut| cut.disturbs(volume)),
        }
    }

    fn send(&mut self, op: Op, command: Command) -> Result<(), Lost> {
        let tag = self.session().submit(lun(op.volume), command);
        // Nothing tells how much of it was sent: it counts as in flight when the connection goes.
        let tag = match tag {
            Ok(tag) => tag,
            Err(lost) => {
                self.ops.insert(0, op);
                return Err(lost);
            }
        };
        self.ops.insert(tag, op);
        Ok(())
    }

    /// Small ones, whole tracks, and pieces that lie across tracks.
    fn any_range(&mut self) -> (u64, u64) {
        let Range { start, end } = self.shape.footprint;
        let track = self.shape.track;
        let (first, count) = match self.random.below(4) {
            0 => {
                let tracks = 1 + self.random.below(4);
                (
                    start + self.random.below((end - start) / track) * track,
                    tracks * track,
                )
            }
            1 => (start + self.random.below(end - start), 1 + self.random.below(128)),
            _ => (
                start + self.random.below(end - start),
                1 + self.random.below(track),
            ),
        };
        (first, count.min(end - first))
    }

    /// Is something in flight there?
    fn is_taken(&self, volume: u32, first: u64, count: u64) -> bool {
        self.ops
            .values()
            .any(|op| op.volume == volume && op.first < first + count && first < op.first + op.count)
    }

    /// Is it known what is there, and will it still be so when a command sent now is executed?
    fn is_certain(&self, volume: u32, first: u64, count: u64) -> bool {
        count < 128
            && !self.cut.as_ref().is_some_and(|cut| cut.disturbs(volume))
            && self.pictures[&volume]
                .cells(first, count)
                .iter()
                .all(|cell| cell.others.is_empty())
    }

    /// The data of a COMPARE AND WRITE that must succeed.
    fn compared(&self, volume: u32, first: u64, count: u64, stamp: Stamp) -> Vec<u8> {
        let cells = self.pictures[&volume].cells(first, count);
        let mut data = Vec::with_capacity(cells.len() * 2 * SECTOR);
        for (cell, lba) in cells.iter().zip(first..) {
            data.extend(self.content(cell.settled, lba));
        }
        data.extend(sectors(stamp, first, count));
        data
    }

    /// A sector as the write of this stamp left it.
    fn content(&self, stamp: Stamp, lba: u64) -> [u8; SECTOR] {
        let place = if self.repeated.contains(&stamp) {
            ANYWHERE
        } else {
            lba
        };
        sector(stamp, place)
    }

    /// Takes one answer, if one comes within `patience`.
    fn take(&mut self, patience: Duration) -> Result<(), Lost> {
        if let Some(completion) = self.session().poll(patience)? {
            self.clock += 1;
            self.ended(completion);
        }
        Ok(())
    }

    fn ended(&mut self, completion: Completion) {
        if self.asked == Some(completion.tag) {
            self.asked = None;
            self.answer = Some(completion);
        } else if self.cut.as_ref().is_some_and(|cut| cut.tag == completion.tag) {
            self.cut_answered(completion);
        } else {
            let op = self
                .ops
                .remove(&completion.tag)
                .expect("an answer to something in flight");
            self.op_ended(&op, &completion);
        }
    }

    fn op_ended(&mut self, op: &Op, completion: &Completion) {
        if completion.status == GOOD {
            match op.entry {
                Some(entry) => self.written(op, entry),
                None if op.kind == Kind::Read => self.read(op, &completion.data),
                None => self.stable_flush(op),
            }
            return;
        }
        let (key, asc, ascq) = completion.sense_code();
        let excused = completion.is_unit_attention()
            || completion.is_busy()
            || op.ambiguous && ((key, asc, ascq) == NOT_READY || key == MISCOMPARE);
        assert!(
            excused,
            "{op:?} ended with status {:#04x}, sense {key:x}/{asc:02x}/{ascq:02x}",
            completion.status
        );
        if let Some(entry) = op.entry {
            let stamp = self.log[entry].stamp;
            self.log[entry].fate = Fate::Declined;
            self.picture(op.volume).withdraw(op.first, op.count, stamp);
        }
    }

    fn written(&mut self, op: &Op, entry: usize) {
        let clock = self.clock;
        let written = &mut self.log[entry];
        written.answered = Some(clock);
        written.fate = Fate::Done;
        written.ambiguous = op.ambiguous;
        let stamp = written.stamp;
        // Otherwise it may have been overwritten by what the pair command brought: both stay possible.
        if !op.ambiguous {
            self.picture(op.volume).settle(op.first, op.count, stamp);
        }
        self.stable_write(op, entry);
        self.tally.writes += 1;
    }

    fn read(&mut self, op: &Op, data: &[u8]) {
        assert_eq!(
            data.len(),
            op.count as usize * SECTOR,
            "{op:?} returned too little"
        );
        if op.ambiguous {
            return;
        }
        let now = self.pictures[&op.volume].cells(op.first, op.count);
        for ((before, now), (bytes, lba)) in
            op.before.iter().zip(now).zip(data.chunks(SECTOR).zip(op.first..))
        {
            let stamp = stamp_of(bytes, lba).unwrap_or_else(|why| panic!("volume {}: {why}", op.volume));
            assert!(
                before.allows(stamp) || now.allows(stamp),
                "volume {}: sector {lba} was read as write {stamp}; {before:?} or {now:?} is allowed",
                op.volume
            );
        }
        self.tally.reads += 1;
    }
}

/// 2h/04h/03h: a mirror that hosts may not use (docs/control-cdb.md).
const NOT_READY: (u8, u8, u8) = (2, 4, 3);

/// Sense key.
const MISCOMPARE: u8 = 0xe;

fn lun(volume: u32) -> u16 {
    volume as u16 - 1
}
