//! Stores that are full and flushes that fail, under the real daemon.
//!
//! What may be full or fail: a volume, a mirror, a primary, the journal. Every time the host hears the truth, what was acknowledged
//! (and, where a flush failed, flushed before) stays, pairs are suspended with marks, and it goes on when there is room again. These
//! tests make small file systems and loop devices, as root or through `sudo -n` (`holdfast_tests::store`).

use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use holdfast_tests::{
    Daemon, DaemonConfig, VolumeSpec, commands,
    commands::Command,
    initiator::{Completion, GOOD, Initiator, Manner},
    marks,
    stamps::{Picture, SECTOR, Stamp, sector, sectors},
    store::Store,
};

const BYTES: u64 = 8 << 20;
const SECTORS: u64 = BYTES / SECTOR as u64;
/// Sectors of a write.
const PIECE: u64 = 128;
const MIB: u64 = (1 << 20) / SECTOR as u64;

/// 7h/27h/07h SPACE ALLOCATION FAILED WRITE PROTECT (SBC-3 4.7.3.6).
const NO_SPACE: (u8, u8, u8) = (0x7, 0x27, 0x07);
/// 3h/0Ch/00h WRITE ERROR.
const WRITE_ERROR: (u8, u8, u8) = (0x3, 0x0c, 0x00);
/// 4h/44h/00h INTERNAL TARGET FAILURE.
const INTERNAL_FAILURE: (u8, u8, u8) = (0x4, 0x44, 0x00);

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_full_store_refuses_what_it_cannot_hold_and_loses_nothing() {
    let mut daemon = trio(|directory| vec![small(directory, "prod.img")]);
    let mut host = Host::login(&daemon);
    host.write_good(1, 0..2 * MIB);
    daemon.store(0).fill_up();
    let refused = host.write_until_refused(1, 2 * MIB..SECTORS);
    assert_eq!(refused.sense_code(), NO_SPACE, "{refused:?}");
    let empty = SECTORS - 16;
    let pattern = sector(host.stamp(), 0).to_vec();
    let same = host.run(1, &commands::write_same(empty, 8, pattern));
    assert_eq!(same.sense_code(), NO_SPACE, "WRITE SAME: {same:?}");
    let swap = [vec![0; SECTOR], sectors(host.stamp(), empty, 1)].concat();
    let swap = host.run(1, &commands::compare_and_write(empty, 1, swap));
    assert_eq!(swap.sense_code(), NO_SPACE, "COMPARE AND WRITE: {swap:?}");
    // What has its place takes writes, other volumes do, and nothing is lost, with a kill and without.
    host.write_good(1, 0..MIB);
    host.write_good(3, 0..MIB);
    host.good(1, &commands::flush());
    host.check(1);
    daemon.kill();
    daemon.start_again();
    host.login_again(&daemon);
    host.check(1);
    host.check(3);
    // What is unmapped has its place elsewhere.
    host.good(1, &commands::unmap(0, MIB as u32));
    host.picture(1).settle(0, MIB, 0);
    host.write_good(1, 6 * MIB..6 * MIB + MIB / 2);
    daemon.store(0).make_room();
    host.write_good(1, 0..SECTORS);
    host.good(1, &commands::flush());
    host.check(1);
}

/// S58.
#[test]
fn a_full_mirror_suspends_its_pair_and_the_host_goes_on() {
    let mut daemon = trio(|directory| vec![small(directory, "bcv1.img")]);
    let mut host = Host::login(&daemon);
    host.write_good(1, 0..2 * MIB);
    daemon.holdfast_ok(&["establish", "1", "2"]);
    await_state(&daemon, &["duplex"]);
    daemon.store(0).fill_up();
    host.write_good(1, MIB..4 * MIB);
    await_state(&daemon, &["suspended"]);
    assert!(
        !daemon.pair("1", "2")["reason"].is_null(),
        "{}",
        daemon.pair("1", "2")
    );
    assert_marked(&daemon);
    // It goes on by itself when there is room.
    daemon.store(0).make_room();
    host.write_good(1, 4 * MIB..5 * MIB);
    await_state(&daemon, &["duplex"]);
    host.check(1);
    assert_equal(&daemon, &mut host);
    // Killed while suspended it waits for a command.
    daemon.store(0).fill_up();
    host.write_good(1, 5 * MIB..7 * MIB);
    await_state(&daemon, &["suspended"]);
    daemon.kill();
    daemon.start_again();
    host.login_again(&daemon);
    assert_eq!(daemon.pair("1", "2")["state"], "suspended");
    assert_marked(&daemon);
    host.check(1);
    daemon.store(0).make_room();
    daemon.holdfast_ok(&["establish", "1", "2"]);
    await_state(&daemon, &["duplex"]);
    assert_equal(&daemon, &mut host);
}

#[test]
fn a_copy_to_a_full_mirror_is_suspended_and_goes_on() {
    let mut daemon = trio(|directory| vec![small(directory, "bcv1.img")]);
    let mut host = Host::login(&daemon);
    host.write_good(1, 0..4 * MIB);
    daemon.store(0).fill_up();
    daemon.holdfast_ok(&["establish", "1", "2"]);
    await_state(&daemon, &["suspended"]);
    assert_marked(&daemon);
    host.write_good(1, 3 * MIB..6 * MIB);
    host.check(1);
    daemon.store(0).make_room();
    await_state(&daemon, &["duplex"]);
    assert_equal(&daemon, &mut host);
}

#[test]
fn a_full_primary_refuses_the_host_and_the_pair_stays_true() {
    let mut daemon = trio(|directory| vec![small(directory, "prod.img")]);
    let mut host = Host::login(&daemon);
    host.write_good(1, 0..2 * MIB);
    daemon.holdfast_ok(&["establish", "1", "2"]);
    await_state(&daemon, &["duplex"]);
    daemon.store(0).fill_up();
    let refused = host.write_until_refused(1, 2 * MIB..SECTORS);
    assert_eq!(refused.sense_code(), NO_SPACE, "{refused:?}");
    assert_marked(&daemon);
    host.check(1);
    host.write_good(1, 0..MIB);
    daemon.kill();
    daemon.start_again();
    host.login_again(&daemon);
    assert_marked(&daemon);
    host.check(1);
    daemon.store(0).make_room();
    daemon.holdfast_ok(&["establish", "1", "2"]);
    host.write_good(1, 2 * MIB..4 * MIB);
    await_state(&daemon, &["duplex"]);
    host.check(1);
    assert_equal(&daemon, &mut host);
}

#[test]
fn a_protected_restore_to_a_full_primary_is_suspended_and_can_be_ordered_again() {
    restore_to_a_full_primary(true);
}

#[test]
fn a_restore_to_a_full_primary_is_suspended_and_can_be_ordered_again() {
    restore_to_a_full_primary(false);
}

/// The mirror holds more than fits.
fn restore_to_a_full_primary(protected: bool) {
    let mut daemon = trio(|directory| vec![small(directory, "prod.img")]);
    let mut host = Host::login(&daemon);
    host.write_good(1, 0..2 * MIB);
    daemon.holdfast_ok(&["establish", "1", "2"]);
    await_state(&daemon, &["duplex"]);
    daemon.holdfast_ok(&["split", "1", "2"]);
    await_state(&daemon, &["split"]);
    *host.picture(2) = host.picture(1).clone();
    host.write_good(2, MIB..5 * MIB);
    let before = marks::image(&daemon.path("bcv1.img"), BYTES);
    daemon.store(0).fill_up();
    let options: &[&str] = if protected { &["--protected"] } else { &[] };
    let restore = [&["restore", "1", "2"], options].concat();
    daemon.holdfast_ok(&restore);
    await_state(&daemon, &["suspended"]);
    assert_marked(&daemon);
    assert!(
        marks::image(&daemon.path("bcv1.img"), BYTES) == before,
        "the image is what it was"
    );
    daemon.kill();
    daemon.start_again();
    host.login_again(&daemon);
    assert_eq!(daemon.pair("1", "2")["state"], "suspended");
    assert_marked(&daemon);
    daemon.store(0).make_room();
    daemon.holdfast_ok(&restore);
    await_state(&daemon, if protected { &["split"] } else { &["restored"] });
    *host.picture(1) = host.picture(2).clone();
    host.check(1);
    assert_same_bytes(&daemon);
    assert!(
        marks::image(&daemon.path("bcv1.img"), BYTES) == before,
        "nobody wrote to it"
    );
}

/// O13.
#[test]
fn a_flush_that_failed_never_succeeds_later() {
    let mut daemon = trio(|directory| vec![device(directory, "prod.img")]);
    let mut host = Host::login(&daemon);
    host.write_good(1, 0..MIB);
    host.good(1, &commands::flush());
    daemon.store(0).fill_up();
    // The page cache takes it, the device will not.
    host.write_for_now(1, MIB..4 * MIB);
    let flushed = host.run(1, &commands::flush());
    assert_eq!(flushed.sense_code(), WRITE_ERROR, "{flushed:?}");
    daemon.store(0).make_room();
    let again = host.run(1, &commands::flush());
    assert_eq!(
        again.sense_code(),
        WRITE_ERROR,
        "what was lost is still lost: {again:?}"
    );
    let stamp = host.stamp();
    host.picture(1).begin(0, 1, stamp);
    let stable = host.run(1, &commands::write(0, sectors(stamp, 0, 1), true));
    assert_eq!(stable.sense_code(), WRITE_ERROR, "FUA: {stable:?}");
    assert!(daemon.log().contains("a flush failed"), "{}", daemon.log());
    // Opened anew it works, with all that was flushed.
    daemon.kill();
    daemon.start_again();
    host.login_again(&daemon);
    host.check(1);
    host.write_good(1, 0..SECTORS / 2);
    host.good(1, &commands::flush());
    host.check(1);
}

#[test]
fn a_stable_write_that_failed_is_a_flush_that_failed() {
    let mut daemon = trio(|directory| {
        let mut store = Store::new(&directory.join("small"), 12);
        let thin = directory.join("thin");
        store.hold_ext4(&thin, 32 << 20);
        symlink(thin.join("prod.img"), directory.join("prod.img")).expect("the directory is ours");
        vec![store]
    });
    let mut host = Host::login(&daemon);
    daemon.store(0).fill_up();
    host.write_for_now(1, 0..2 * MIB);
    // The device under the file has no space. The kernel's error is that of a full file system, but other writes may be lost with it.
    let stable = commands::write(4 * MIB, sectors(host.stamp(), 4 * MIB, 8), true);
    let refused = host.run(1, &stable);
    assert_eq!(refused.sense_code(), NO_SPACE, "FUA: {refused:?}");
    daemon.store(0).make_room();
    let flushed = host.run(1, &commands::flush());
    assert_eq!(flushed.sense_code(), WRITE_ERROR, "{flushed:?}");
}

/// O13.
#[test]
fn a_mirror_whose_flush_failed_is_not_called_equal() {
    let mut daemon = trio(|directory| vec![device(directory, "bcv1.img")]);
    let mut host = Host::login(&daemon);
    host.write_good(1, 0..MIB);
    daemon.holdfast_ok(&["establish", "1", "2"]);
    await_state(&daemon, &["duplex"]);
    daemon.store(0).fill_up();
    host.write_good(1, MIB..4 * MIB);
    // The primary has it, that is all the host asks.
    host.good(1, &commands::flush());
    await_state(&daemon, &["suspended"]);
    // The pair tries by itself, and fails each time, although the device takes everything now.
    daemon.store(0).make_room();
    let tries = |daemon: &Daemon| daemon.holdfast_ok(&["events"]).matches("suspended").count();
    let (first, until) = (tries(&daemon), Instant::now() + PATIENCE);
    while tries(&daemon) < first + 3 {
        assert!(Instant::now() < until, "it does not try:\n{}", daemon.log());
        assert_ne!(daemon.pair("1", "2")["state"], "duplex", "{}", daemon.log());
        thread::sleep(Duration::from_millis(50));
    }
    daemon.kill();
    daemon.start_again();
    host.login_again(&daemon);
    host.check(1);
    daemon.holdfast_ok(&["establish", "1", "2"]);
    await_state(&daemon, &["duplex"]);
    host.good(1, &commands::flush());
    // Of the device, not of a cache: that goes with the last who has it open.
    daemon.stop();
    assert_same_bytes(&daemon);
}

#[test]
fn a_full_journal_disk_refuses_changes_and_keeps_serving_reads() {
    journal_fails("No space left on device", |directory| {
        let store = Store::new(&directory.join("state"), 4);
        vec![store]
    });
}

/// O13.
#[test]
fn a_journal_whose_flush_failed_refuses_changes_and_keeps_serving_reads() {
    // The file system has room, its device has not: a write succeeds, its flush does not.
    journal_fails("No space left on device", |directory| {
        let mut store = Store::new(&directory.join("small"), 16);
        let state = directory.join("state");
        store.hold_ext4(&state, 32 << 20);
        store.fill_up();
        let mut probe = fs::File::create(state.join("probe")).expect("there is room");
        probe.write_all(&vec![1; 1 << 20]).expect("there is room");
        assert!(probe.sync_all().is_err(), "the device is full");
        store.make_room();
        vec![store]
    });
}

#[test]
fn a_reservation_that_cannot_be_kept_is_not_made() {
    let mut daemon = trio(|directory| vec![Store::new(&directory.join("state"), 4)]);
    let mut host = Host::login(&daemon);
    let register = commands::reserve_out(0, 0, 0, 77, true);
    let keys = |host: &mut Host| {
        let data = host.run(1, &commands::reserve_in(0)).data;
        data.get(4..8) != Some(&[0; 4])
    };
    daemon.store(0).fill_up();
    let refused = host.run(1, &register);
    assert_ne!(refused.status, GOOD, "{refused:?}");
    assert!(!keys(&mut host), "it was refused, and is registered");
    daemon.store(0).make_room();
    host.good(1, &register);
    assert!(keys(&mut host));
    daemon.kill();
    daemon.start_again();
    host.login_again(&daemon);
    assert!(keys(&mut host), "APTPL was asked for");
}

/// Commands until the journal finds no place, and says so with this reason.
fn journal_fails(reason: &str, stores: impl FnOnce(&Path) -> Vec<Store>) {
    let mut daemon = trio(stores);
    let mut host = Host::login(&daemon);
    host.write_good(1, 0..2 * MIB);
    let establish = commands::pair_command(0, 0, &[(1, 2)]);
    let split = commands::pair_command(1, 0, &[(1, 2)]);
    host.good(1, &establish);
    await_state(&daemon, &["duplex"]);
    daemon.store(0).fill_up();
    let until = Instant::now() + PATIENCE;
    // The state after the last command that was answered, and what the refused one would have brought.
    let (mut acknowledged, mut wanted) = ("duplex", "split");
    let refused = loop {
        assert!(
            Instant::now() < until,
            "the journal finds place: {}",
            daemon.log()
        );
        let command = if wanted == "split" { &split } else { &establish };
        let completion = host.run(1, command);
        if completion.status != GOOD {
            break completion;
        }
        (acknowledged, wanted) = (wanted, acknowledged);
        while daemon.pair("1", "2")["state"] != acknowledged && !journal_failed(&daemon) {
            thread::sleep(Duration::from_millis(10));
        }
        host.write_or_refused(1, 2 * MIB..3 * MIB);
    };
    assert_eq!(refused.sense_code(), INTERNAL_FAILURE, "{refused:?}");
    let events = daemon.holdfast_ok(&["events"]);
    assert!(journal_failed(&daemon) && events.contains(reason), "{events}");
    // Reads and volumes in no pair go on; what needs a record is refused, also when there is room again.
    daemon.store(0).make_room();
    let write = host.write(1, 6 * MIB, 8);
    assert_eq!(
        write.sense_code(),
        INTERNAL_FAILURE,
        "a write to a pair: {write:?}"
    );
    let told = daemon.holdfast(&["restore", "1", "2"]);
    assert_ne!(told.code(), 0, "{}", told.said());
    assert!(told.said().contains("journal"), "{}", told.said());
    host.write_good(3, 0..MIB);
    host.check(1);
    host.check(3);
    daemon.kill();
    daemon.store(0).fill_up();
    assert!(!daemon.start_in_vain().success(), "it starts without a journal");
    assert!(daemon.log().contains("journal"), "{}", daemon.log());
    daemon.store(0).make_room();
    daemon.start_again();
    host.login_again(&daemon);
    let state = daemon.pair("1", "2")["state"].clone();
    let possible = |state: &str| match state {
        "split" => ["splitting", "split"],
        _ => ["copy", "duplex"],
    };
    let is = state.as_str().expect("a state");
    assert!(
        possible(acknowledged).contains(&is) || possible(wanted).contains(&is),
        "{acknowledged} was answered, {wanted} refused, and now it is {is}"
    );
    assert_marked(&daemon);
    host.check(1);
    host.check(3);
    daemon.holdfast_ok(&["establish", "1", "2"]);
    await_state(&daemon, &["duplex"]);
    host.write_good(1, 0..MIB);
    assert_equal(&daemon, &mut host);
}

fn journal_failed(daemon: &Daemon) -> bool {
    daemon
        .holdfast_ok(&["events"])
        .contains("the metadata journal failed")
}

/// Volumes 1 `prod`, 2 `bcv1` and 3 `bcv2`, of which some lie on these stores.
fn trio(stores: impl FnOnce(&Path) -> Vec<Store>) -> Daemon {
    let mut config = DaemonConfig::trio("8MiB");
    config.volumes[2] = VolumeSpec::standard("other", "8MiB");
    let variables = [
        marks::TRACK_SIZE,
        ("HOLDFAST__REPLICATION__JOURNAL_LIMIT", "4KiB"),
    ];
    Daemon::start_on(&config, &variables, stores)
}

/// A file on a file system with some room for what a full one does not refuse.
fn small(directory: &Path, name: &str) -> Store {
    let store = Store::new(&directory.join("small"), 12);
    store.hold(&directory.join(name));
    store
}

/// A block device on such a file system.
fn device(directory: &Path, name: &str) -> Store {
    let mut store = Store::new(&directory.join("small"), 12);
    store.hold_device(&directory.join(name), BYTES);
    store
}

/// Waits until pair 1 2 is in one of these states; says in which.
fn await_state(daemon: &Daemon, states: &[&str]) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let pair = daemon.pair("1", "2");
        let state = pair["state"].as_str().expect("a state");
        if states.contains(&state) {
            return state.to_owned();
        }
        assert!(Instant::now() < until, "not {states:?}: {pair}\n{}", daemon.log());
        thread::sleep(Duration::from_millis(20));
    }
}

fn assert_marked(daemon: &Daemon) {
    let (primary, mirror) = (daemon.path("prod.img"), daemon.path("bcv1.img"));
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let unmarked = marks::unmarked(daemon, (1, 2), (&primary, &mirror), BYTES);
        if unmarked.is_empty() {
            return;
        }
        assert!(
            Instant::now() < until,
            "tracks {unmarked:?} differ without a mark: {}",
            daemon.pair("1", "2")
        );
    }
}

/// The pair is DUPLEX and its files are the same.
fn assert_equal(daemon: &Daemon, host: &mut Host) {
    host.good(1, &commands::flush());
    assert_eq!(daemon.pair("1", "2")["state"], "duplex");
    assert_same_bytes(daemon);
}

fn assert_same_bytes(daemon: &Daemon) {
    let image = |name| marks::image(&daemon.path(name), BYTES);
    let tracks = marks::differing(&image("prod.img"), &image("bcv1.img"));
    assert!(tracks.is_empty(), "tracks {tracks:?} differ");
}

/// A host with one command at a time, which knows what each sector of each volume may hold.
struct Host {
    session: Initiator,
    stamp: Stamp,
    pictures: Vec<Picture>,
}

impl Host {
    fn login(daemon: &Daemon) -> Self {
        Self {
            session: session(daemon),
            stamp: 0,
            pictures: vec![Picture::empty(SECTORS); 3],
        }
    }

    /// The daemon was killed and started.
    fn login_again(&mut self, daemon: &Daemon) {
        self.session = session(daemon);
    }

    fn picture(&mut self, volume: u16) -> &mut Picture {
        &mut self.pictures[usize::from(volume) - 1]
    }

    /// A new one.
    fn stamp(&mut self) -> Stamp {
        self.stamp += 1;
        self.stamp
    }

    fn run(&mut self, volume: u16, command: &Command) -> Completion {
        self.session
            .run(volume - 1, command)
            .unwrap_or_else(|lost| panic!("the daemon is gone: {lost:?}"))
    }

    fn good(&mut self, volume: u16, command: &Command) {
        let completion = self.run(volume, command);
        assert_eq!(completion.status, GOOD, "{completion:?}");
    }

    /// A write, which has either happened or, if it failed, perhaps happened, sector by sector.
    fn write(&mut self, volume: u16, first: u64, count: u64) -> Completion {
        let stamp = self.stamp();
        self.picture(volume).begin(first, count, stamp);
        let command = commands::write(first, sectors(stamp, first, count), false);
        let completion = self.run(volume, &command);
        if completion.status == GOOD {
            self.picture(volume).settle(first, count, stamp);
        }
        completion
    }

    fn write_good(&mut self, volume: u16, range: std::ops::Range<u64>) {
        for first in range.step_by(PIECE as usize) {
            let completion = self.write(volume, first, PIECE);
            assert_eq!(
                completion.status, GOOD,
                "a write to sector {first}: {completion:?}"
            );
        }
    }

    /// Writes that are answered, but may be lost before a flush.
    fn write_for_now(&mut self, volume: u16, range: std::ops::Range<u64>) {
        let before = self.picture(volume).clone();
        self.write_good(volume, range);
        self.picture(volume).merge(&before);
    }

    fn write_until_refused(&mut self, volume: u16, range: std::ops::Range<u64>) -> Completion {
        range
            .step_by(PIECE as usize)
            .map(|first| self.write(volume, first, PIECE))
            .find(|completion| completion.status != GOOD)
            .expect("the store is full")
    }

    fn write_or_refused(&mut self, volume: u16, range: std::ops::Range<u64>) {
        for first in range.step_by(PIECE as usize) {
            let completion = self.write(volume, first, PIECE);
            let sense = completion.sense_code();
            assert!(
                completion.status == GOOD || sense == INTERNAL_FAILURE,
                "{completion:?}"
            );
        }
    }

    /// Reads all of a volume and compares.
    fn check(&mut self, volume: u16) {
        let mut content = Vec::with_capacity(BYTES as usize);
        for first in (0..SECTORS).step_by(PIECE as usize) {
            let completion = self.run(volume, &commands::read(first, PIECE as u32));
            assert_eq!(
                completion.status, GOOD,
                "a read of sector {first}: {completion:?}"
            );
            content.extend(completion.data);
        }
        if let Err(why) = self.picture(volume).check(&content) {
            panic!("volume {volume}: {why}");
        }
    }
}

fn session(daemon: &Daemon) -> Initiator {
    let manner = Manner {
        name: "iqn.2026-11.test:host".to_owned(),
        immediate_data: true,
        digests: false,
    };
    Initiator::login(daemon.port(), daemon.iqn(), &manner)
}
