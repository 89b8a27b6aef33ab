use std::{
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use replication_engine::{
    ids::{Region, VolumeId},
    journal::parse,
};

use super::*;
use crate::machine::ThisMachine;

/// What reached the disk, and what to do wrong.
#[derive(Default)]
struct Disk {
    written: Vec<u8>,
    durable: usize,
    syncs: usize,
    fail_sync: bool,
    pretend_size: u64,
    slow: Duration,
}

struct Store(Arc<Mutex<Disk>>);

impl JournalStore for Store {
    fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        lock(&self.0).written.extend_from_slice(frames);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let slow = lock(&self.0).slow;
        std::thread::sleep(slow);
        let mut disk = lock(&self.0);
        if disk.fail_sync {
            return Err(io::Error::other("the disk is gone"));
        }
        disk.durable = disk.written.len();
        disk.syncs += 1;
        Ok(())
    }

    fn replace(&mut self, _epoch: u64, content: &[u8]) -> io::Result<()> {
        {
            let mut disk = lock(&self.0);
            disk.written = content.to_vec();
            disk.pretend_size = 0;
        }
        self.sync()
    }

    fn size(&self) -> u64 {
        let disk = lock(&self.0);
        disk.pretend_size.max(disk.written.len() as u64)
    }
}

fn machine() -> Arc<dyn Machine> {
    Arc::new(ThisMachine)
}

fn start(disk: Disk) -> (JournalWriter, Arc<Mutex<Disk>>, Receiver<Notice>) {
    let disk = Arc::new(Mutex::new(disk));
    let (sender, receiver) = channel();
    let header = Header {
        epoch: 1,
        system_id: [b' '; 16],
        track_size: 65536,
    };
    let store = Store(Arc::clone(&disk));
    let writer = JournalWriter::start(
        &machine(),
        store,
        header,
        &snapshot(),
        DEFAULT_LIMIT,
        move |notice| {
            sender.send(notice).unwrap();
        },
    );
    (writer.unwrap(), disk, receiver)
}

fn snapshot() -> [Record; 2] {
    [Record::SnapshotBegin { at_ms: 0 }, Record::SnapshotEnd]
}

fn hot(region: u64) -> Record {
    Record::Hot(vec![(VolumeId(1), Region(region))])
}

/// The regions of the durable records behind the snapshot, and the epoch.
fn durable(disk: &Mutex<Disk>) -> (u64, Vec<u64>) {
    let disk = lock(disk);
    let journal = parse(&disk.written[..disk.durable]).unwrap();
    let regions = journal.entries.iter().filter_map(|entry| match &entry.record {
        Record::Hot(regions) => Some(regions[0].1.0),
        _ => None,
    });
    (journal.header.epoch, regions.collect())
}

const SOON: Duration = Duration::from_secs(60);

/// Collects the tokens of that many durable answers.
fn await_durable(notices: &Receiver<Notice>, count: usize) -> Vec<Token> {
    let mut all = Vec::new();
    while all.len() < count {
        match notices.recv_timeout(SOON).unwrap() {
            Notice::Durable(tokens) => all.extend(tokens),
            other => panic!("not durable: {other:?}"),
        }
    }
    all
}

#[test]
fn a_token_is_answered_when_its_record_and_all_before_it_are_durable() {
    let (writer, disk, notices) = start(Disk::default());
    writer.append(&hot(1), None);
    writer.append(&hot(2), Some(Token(7)));
    assert_eq!(await_durable(&notices, 1), [Token(7)]);
    assert_eq!(durable(&disk), (1, vec![1, 2]));
}

#[test]
fn records_queued_during_a_sync_share_the_next_one() {
    let (writer, disk, notices) = start(Disk::default());
    lock(&disk).slow = Duration::from_millis(50);
    let syncs = lock(&disk).syncs;
    for token in 0..50 {
        writer.append(&hot(token), Some(Token(token)));
    }
    assert_eq!(
        await_durable(&notices, 50),
        (0..50).map(Token).collect::<Vec<_>>()
    );
    assert!(lock(&disk).syncs - syncs <= 3);
    assert_eq!(durable(&disk).1, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_failure_is_for_good() {
    let (writer, disk, notices) = start(Disk::default());
    lock(&disk).fail_sync = true;
    writer.append(&hot(1), Some(Token(1)));
    assert_eq!(
        notices.recv_timeout(SOON).unwrap(),
        Notice::Broken("the disk is gone".into())
    );
    assert_eq!(
        notices.recv_timeout(SOON).unwrap(),
        Notice::Failed(vec![Token(1)])
    );
    lock(&disk).fail_sync = false;
    writer.append(&hot(2), Some(Token(2)));
    assert_eq!(
        notices.recv_timeout(SOON).unwrap(),
        Notice::Failed(vec![Token(2)])
    );
    assert!(writer.failed());
    assert_eq!(durable(&disk).1, [0; 0], "nothing is written after a failure");
}

#[test]
fn a_journal_that_cannot_begin_does_not_start() {
    let header = Header {
        epoch: 1,
        system_id: [b' '; 16],
        track_size: 65536,
    };
    let disk = Arc::new(Mutex::new(Disk {
        fail_sync: true,
        ..Disk::default()
    }));
    let started = JournalWriter::start(
        &machine(),
        Store(disk),
        header,
        &snapshot(),
        DEFAULT_LIMIT,
        |_| {},
    );
    assert!(started.is_err());
}

#[test]
fn a_snapshot_replaces_what_was_queued_and_answers_its_tokens() {
    let (writer, disk, notices) = start(Disk::default());
    lock(&disk).pretend_size = DEFAULT_LIMIT + 1;
    writer.append(&hot(1), Some(Token(1)));
    assert_eq!(await_durable(&notices, 1), [Token(1)]);
    assert_eq!(notices.recv_timeout(SOON).unwrap(), Notice::Full);
    lock(&disk).slow = Duration::from_millis(50);
    writer.append(&hot(2), Some(Token(2)));
    writer.append(&hot(3), Some(Token(3)));
    writer.replace(&snapshot());
    writer.append(&hot(4), Some(Token(4)));
    assert_eq!(await_durable(&notices, 3), [Token(2), Token(3), Token(4)]);
    assert_eq!(durable(&disk), (2, vec![4]));
    writer.append(&hot(5), Some(Token(5)));
    await_durable(&notices, 1);
    assert_eq!(durable(&disk), (2, vec![4, 5]));
}

#[test]
fn an_orderly_close_writes_what_is_queued() {
    let (writer, disk, notices) = start(Disk::default());
    writer.append(&hot(1), Some(Token(1)));
    writer.close();
    assert_eq!(await_durable(&notices, 1), [Token(1)]);
    assert_eq!(durable(&disk).1, [1]);
}
