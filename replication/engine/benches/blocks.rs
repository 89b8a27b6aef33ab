//! What each write of a paired volume goes through: bitmap, track lock, journal. `cargo bench -p replication-engine`.
#![allow(missing_docs)]

use divan::{Bencher, black_box};
use replication_engine::{
    bitmap::Bitmap,
    ids::{Region, VolumeId},
    journal::{Header, Record, Writer, parse},
    track::TrackRange,
    track_lock::{LockId, LockTable, Mode},
};

/// 16 TiB in tracks of 64 KiB.
const TRACKS: u64 = (16 << 40) / (64 << 10);

fn main() {
    divan::main();
}

/// Every track in turn, of regions that are far from each other.
fn scattered(index: u64) -> TrackRange {
    TrackRange::single(index.wrapping_mul(0x9e37_79b9) % TRACKS)
}

#[divan::bench]
fn mark_a_track_again(bencher: Bencher) {
    let mut bitmap = Bitmap::new(TRACKS);
    bitmap.set(scattered(7));
    bencher.bench_local(|| bitmap.set(black_box(scattered(7))));
}

#[divan::bench]
fn mark_and_clear_a_track(bencher: Bencher) {
    let mut bitmap = Bitmap::new(TRACKS);
    let mut index = 0;
    bencher.bench_local(|| {
        index += 1;
        bitmap.set(scattered(index)) + bitmap.clear(scattered(index))
    });
}

/// As RESTORE makes one of two.
#[divan::bench(args = [1000, 100_000])]
fn union_of_marks(bencher: Bencher, marks: u64) {
    let mut one = Bitmap::new(TRACKS);
    let mut other = Bitmap::new(TRACKS);
    for index in 0..marks {
        one.set(scattered(2 * index));
        other.set(scattered(2 * index + 1));
    }
    bencher
        .with_inputs(|| one.clone())
        .bench_local_values(|mut both| {
            both.union(black_box(&other));
            both
        });
}

/// Lock and unlock a track beside so many others that are locked.
#[divan::bench(args = [0, 31, 1000])]
fn lock_a_track(bencher: Bencher, others: u64) {
    let mut table = LockTable::new();
    for index in 0..others {
        table.request(LockId(index), scattered(index), Mode::Exclusive);
    }
    let mut granted = Vec::new();
    let mut index = others;
    bencher.bench_local(|| {
        index += 1;
        let locked = table.request(LockId(index), scattered(index), Mode::Exclusive);
        table.release(LockId(index), &mut granted);
        granted.clear();
        locked
    });
}

fn header() -> Header {
    Header {
        epoch: 1,
        system_id: [7; 16],
        track_size: 64 << 10,
    }
}

/// The record of a first write to a region.
fn hot(region: u64) -> Record {
    Record::Hot(vec![(VolumeId(1), Region(region))])
}

#[divan::bench]
fn append_a_hot_record(bencher: Bencher) {
    let mut writer = Writer::new(&header());
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        writer.append(black_box(&hot(9)), &mut out)
    });
}

/// As a restart reads it.
#[divan::bench]
fn parse_a_thousand_records(bencher: Bencher) {
    let header = header();
    let mut writer = Writer::new(&header);
    let mut bytes = header.encode().to_vec();
    for region in 0..1000 {
        writer.append(&hot(region), &mut bytes);
    }
    bencher.bench_local(|| parse(black_box(&bytes)).map(|journal| journal.entries.len()));
}
