//! The journal's file on a disk that may lose, or tear, what was not made durable.

use crate::rng::Rng;
use replication_engine::{
    ids::Token,
    journal::{Header, Journal, JournalError, Record, Writer, parse},
};
use std::collections::VecDeque;

/// Pieces of this size reach the disk whole or not at all.
const SECTOR: usize = 64;

/// The journal, as bytes and as what is known of them.
#[derive(Debug)]
pub struct JournalDisk {
    header: Header,
    writer: Writer,
    bytes: Vec<u8>,
    /// Bytes, and the number of the last record, known to be durable.
    durable: (usize, u64),
    /// A sync under way, with what it covers.
    syncing: Option<(usize, u64)>,
    waiting: VecDeque<(u64, Token)>,
    /// A write or a sync has failed: nothing is written any more.
    failed: bool,
}

impl JournalDisk {
    /// A new file that begins with these records, durably.
    pub fn new(epoch: u64, track_size: u32, records: &[Record]) -> Self {
        let header = Header {
            epoch,
            system_id: *b"SIMULATOR       ",
            track_size,
        };
        let mut writer = Writer::new(&header);
        let mut bytes = header.encode().to_vec();
        for record in records {
            writer.append(record, &mut bytes);
        }
        writer.synced(writer.last());
        let durable = (bytes.len(), writer.last());
        Self {
            header,
            writer,
            bytes,
            durable,
            syncing: None,
            waiting: VecDeque::new(),
            failed: false,
        }
    }

    /// Replaces the file, atomically and durably. Whoever waited for the old one is answered.
    pub fn rotate(&mut self, records: &[Record]) -> Vec<Token> {
        let waiting = core::mem::take(&mut self.waiting);
        *self = Self::new(self.header.epoch + 1, self.header.track_size, records);
        waiting.into_iter().map(|(_, token)| token).collect()
    }

    /// The epoch of the file.
    pub fn epoch(&self) -> u64 {
        self.header.epoch
    }

    /// The number of the last record that is durable.
    pub fn durable(&self) -> u64 {
        self.durable.1
    }

    /// Appends a record; gives its number.
    pub fn append(&mut self, record: &Record, token: Option<Token>) -> u64 {
        let mut nowhere = Vec::new();
        let bytes = if self.failed {
            &mut nowhere
        } else {
            &mut self.bytes
        };
        let seq = self.writer.append(record, bytes);
        self.waiting.extend(token.map(|token| (seq, token)));
        seq
    }

    /// Is there something for [`JournalDisk::sync`] to do?
    pub fn unsynced(&self) -> bool {
        if self.failed {
            return !self.waiting.is_empty();
        }
        self.syncing.is_some() || self.durable.0 < self.bytes.len()
    }

    /// A write or a sync fails. What was not durable may be there after a crash, or not.
    pub fn fail(&mut self) {
        self.failed = true;
        self.syncing = None;
    }

    /// Has it failed?
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Those who wait for a journal that has failed.
    pub fn refuse(&mut self) -> Vec<Token> {
        self.waiting.drain(..).map(|(_, token)| token).collect()
    }

    /// Begins a sync, or ends the one under way: then those who waited for it are returned.
    pub fn sync(&mut self) -> Vec<Token> {
        let Some(covered) = self.syncing.take() else {
            self.syncing = Some((self.bytes.len(), self.writer.last()));
            return Vec::new();
        };
        self.durable = covered;
        self.writer.synced(covered.1);
        let count = self.waiting.partition_point(|(seq, _)| *seq <= covered.1);
        self.waiting.drain(..count).map(|(_, token)| token).collect()
    }

    /// The process dies: what was written to the file stays, but its last part may not have been written yet.
    pub fn die(&mut self, rng: &mut Rng) {
        let keep = rng.between(self.durable.0 as u64, self.bytes.len() as u64) as usize;
        self.bytes.truncate(keep);
    }

    /// Power fails: any part of what was not durable may be missing.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        self.die(rng);
        if rng.chance(500) {
            let lost = *rng.pick(&[500, 100, 900]).expect("not empty");
            let mut at = self.durable.0;
            while at < self.bytes.len() {
                let end = (at / SECTOR * SECTOR + SECTOR).min(self.bytes.len());
                if rng.chance(lost) {
                    self.bytes[at..end].fill(0);
                }
                at = end;
            }
        }
    }

    /// Reads the file.
    pub fn parse(&self) -> Result<Journal, JournalError> {
        parse(&self.bytes)
    }
}
