//! A host whose writes tell in which order they were made: what may be missing of them on another system, and what may not.
//!
//! Every write is of one block, and has a number, which its sectors carry as their stamp. The [`Ledger`] knows when each was issued and when
//! it was answered. Two questions are asked of an image of the volume, wherever it was found:
//!
//! - Does it hold everything that was answered until a moment ([`Ledger::holds`])? That is what a sync mirror promises.
//! - Is it a beginning of the writes ([`Ledger::is_prefix`])? Of all writes it holds one was issued last; whatever had been answered before that
//!   must be there too. That is what an async mirror promises.
//!
//! Writes to one block never overlap in time, so of two the one with the higher number is the later: "is there" means this
//! one or a later one to the same block.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    Daemon, commands,
    initiator::{Completion, GOOD, Initiator, Lost, Manner},
    random::Random,
    stamps::{SECTOR, Stamp, sectors, stamp_of},
};

/// Sectors of a block.
const BLOCK: u64 = 8;
/// Sectors from one block to the next: a track, so that each has marks of its own.
const STRIDE: u64 = 128;
/// Writes in flight.
const DEPTH: usize = 8;
/// No command takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The write that each block holds; 0: none.
pub type Found = Vec<Stamp>;

#[derive(Debug, Clone, Copy)]
struct Write {
    block: usize,
    issued: u64,
    answered: Option<u64>,
}

/// All writes there were.
#[derive(Debug)]
pub struct Ledger {
    clock: u64,
    blocks: usize,
    /// The first stands for none.
    writes: Vec<Write>,
}

impl Ledger {
    fn new(blocks: usize) -> Self {
        let none = Write {
            block: 0,
            issued: 0,
            answered: Some(0),
        };
        Self {
            clock: 0,
            blocks,
            writes: vec![none],
        }
    }

    fn issue(&mut self, block: usize) -> Stamp {
        self.clock += 1;
        self.writes.push(Write {
            block,
            issued: self.clock,
            answered: None,
        });
        self.writes.len() as Stamp - 1
    }

    fn answer(&mut self, stamp: Stamp) {
        self.clock += 1;
        self.writes[stamp as usize].answered = Some(self.clock);
    }

    /// This moment.
    pub fn now(&self) -> u64 {
        self.clock
    }

    /// Writes that were answered.
    pub fn answered(&self) -> usize {
        let answered = |write: &&Write| write.answered.is_some();
        self.writes.iter().skip(1).filter(answered).count()
    }

    /// Everything that was answered until then is there.
    pub fn holds(&self, found: &Found, until: u64) -> Result<(), String> {
        for (stamp, write) in (0..).zip(&self.writes) {
            let answered = write.answered.is_some_and(|at| at <= until);
            let held = found[write.block];
            if answered && held < stamp {
                return Err(format!(
                    "block {} holds write {held}; write {stamp}, answered at {:?}, is missing (everything until {until} is promised)",
                    write.block, write.answered
                ));
            }
        }
        Ok(())
    }

    /// It is the volume as it was at some moment. Says how many answered writes are not in it.
    pub fn is_prefix(&self, found: &Found) -> Result<usize, String> {
        let issued = |stamp: &Stamp| self.writes[*stamp as usize].issued;
        let latest = found.iter().map(issued).max().unwrap_or(0);
        self.holds(found, latest)?;
        let missing =
            |(stamp, write): &(Stamp, &Write)| write.answered.is_some() && found[write.block] < *stamp;
        Ok((0..).zip(&self.writes).filter(missing).count())
    }

    /// What an image holds.
    pub fn read(&self, image: &[u8]) -> Result<Found, String> {
        (0..self.blocks as u64)
            .map(|block| {
                let first = block * STRIDE;
                let sectors = image[(first as usize) * SECTOR..]
                    .chunks(SECTOR)
                    .take(BLOCK as usize);
                let stamps: Result<Vec<_>, _> = (first..)
                    .zip(sectors)
                    .map(|(lba, sector)| stamp_of(sector, lba))
                    .collect();
                let stamps = stamps?;
                let whole = stamps.iter().all(|stamp| *stamp == stamps[0]);
                whole
                    .then_some(stamps[0])
                    .ok_or_else(|| format!("block {block} is of several writes: {stamps:?}"))
            })
            .collect()
    }
}

/// A host that writes to LUN 0.
#[derive(Debug)]
pub struct Host {
    /// What it did.
    pub ledger: Ledger,
    session: Option<Initiator>,
    in_flight: BTreeMap<u32, Stamp>,
    random: Random,
}

impl Host {
    /// One that writes to as many blocks, in the order of this seed.
    pub fn new(blocks: usize, seed: u64) -> Self {
        Self {
            ledger: Ledger::new(blocks),
            session: None,
            in_flight: BTreeMap::new(),
            random: Random::new(seed),
        }
    }

    /// Logs in. What an earlier session left open has no answer for ever.
    pub fn connect(&mut self, daemon: &Daemon) {
        let manner = Manner {
            name: "iqn.2026-11.io.holdfast:host".to_owned(),
            immediate_data: true,
            digests: false,
        };
        self.in_flight.clear();
        let mut session = Initiator::login(daemon.port(), daemon.iqn(), &manner);
        let ready = session.run(0, &commands::test_unit_ready());
        ready.expect("the daemon lives");
        self.session = Some(session);
    }

    /// Writes for so long.
    pub fn run(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.fill();
            self.take(Duration::from_millis(5)).expect("the daemon lives");
        }
    }

    /// Waits until every write is answered.
    pub fn rest(&mut self) {
        let until = Instant::now() + PATIENCE;
        while !self.in_flight.is_empty() {
            assert!(
                Instant::now() < until,
                "a write has no answer within {PATIENCE:?}"
            );
            self.take(Duration::from_millis(20)).expect("the daemon lives");
        }
    }

    /// The daemon was killed. What it had answered counts.
    pub fn lose(&mut self) {
        while self.session.is_some() && self.take(Duration::from_secs(5)).is_ok() {}
        self.session = None;
        self.in_flight.clear();
    }

    /// SYNCHRONIZE CACHE; nothing else is in flight.
    pub fn flush(&mut self) {
        self.rest();
        let done = self.command(&commands::flush());
        assert_eq!(done.status, GOOD, "{done:?}");
    }

    /// The whole volume, as a host reads it.
    pub fn image(&mut self) -> Vec<u8> {
        self.rest();
        let mut image = Vec::new();
        for block in 0..self.ledger.blocks as u64 {
            let read = self.command(&commands::read(block * STRIDE, BLOCK as u32));
            assert_eq!(read.status, GOOD, "{read:?}");
            image.extend(read.data);
            image.resize((block + 1) as usize * STRIDE as usize * SECTOR, 0);
        }
        image
    }

    fn command(&mut self, command: &commands::Command) -> Completion {
        let session = self.session.as_mut().expect("connected");
        session.run(0, command).expect("the daemon lives")
    }

    fn fill(&mut self) {
        let session = self.session.as_mut().expect("connected");
        while self.in_flight.len() < DEPTH && session.has_room() {
            let block = self.random.below(self.ledger.blocks as u64);
            let taken = |stamp: &Stamp| self.ledger.writes[*stamp as usize].block as u64 == block;
            if self.in_flight.values().any(taken) {
                continue;
            }
            let stamp = self.ledger.issue(block as usize);
            let lba = block * STRIDE;
            let write = commands::write(lba, sectors(stamp, lba, BLOCK), false);
            // A session that is lost shows when answers are taken.
            if let Ok(tag) = session.submit(0, write) {
                self.in_flight.insert(tag, stamp);
            } else {
                return;
            }
        }
    }

    fn take(&mut self, patience: Duration) -> Result<(), Lost> {
        let session = self.session.as_mut().expect("connected");
        if let Some(completion) = session.poll(patience)? {
            let stamp = self.in_flight.remove(&completion.tag);
            let stamp = stamp.expect("an answer to something in flight");
            match completion.status {
                GOOD => self.ledger.answer(stamp),
                _ if completion.is_unit_attention() || completion.is_busy() => {}
                status => panic!("a write ended with status {status:#04x}: {completion:?}"),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes 1 to block 0 and 2 to block 1, one after the other, then 3 to block 0 and 4 to block 1 at once.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(2);
        for block in [0, 1] {
            let stamp = ledger.issue(block);
            ledger.answer(stamp);
        }
        let both = [ledger.issue(0), ledger.issue(1)];
        for stamp in both {
            ledger.answer(stamp);
        }
        ledger
    }

    #[test]
    fn a_beginning_has_no_gap() {
        let ledger = ledger();
        assert_eq!(ledger.answered(), 4);
        for (found, missing) in [
            ([0, 0], 4),
            ([1, 0], 3),
            ([1, 2], 2),
            ([3, 2], 1),
            ([1, 4], 1),
            ([3, 4], 0),
        ] {
            assert_eq!(ledger.is_prefix(&found.to_vec()), Ok(missing), "{found:?}");
        }
        for gap in [[0, 2], [3, 0], [0, 4]] {
            assert!(ledger.is_prefix(&gap.to_vec()).is_err(), "{gap:?}");
        }
    }

    #[test]
    fn what_was_answered_is_there_or_missed() {
        let mut ledger = ledger();
        let now = ledger.now();
        assert!(ledger.holds(&vec![3, 4], now).is_ok());
        assert!(ledger.holds(&vec![3, 2], now).is_err());
        let open = ledger.issue(0);
        assert!(ledger.holds(&vec![3, 4], ledger.now()).is_ok(), "nobody was told");
        assert!(ledger.holds(&vec![open, 4], ledger.now()).is_ok());
    }

    #[test]
    fn an_image_tells_its_writes() {
        let ledger = Ledger::new(2);
        let mut image = vec![0; 2 * STRIDE as usize * SECTOR];
        let at = STRIDE as usize * SECTOR;
        image[at..at + 4096].copy_from_slice(&sectors(7, STRIDE, BLOCK));
        assert_eq!(ledger.read(&image), Ok(vec![0, 7]));
        image[at..at + 512].copy_from_slice(&sectors(8, STRIDE, 1));
        assert!(ledger.read(&image).is_err(), "torn");
    }
}
