//! A limit on what a volume may allocate, under the real daemon.

use std::time::{Duration, Instant};

use holdfast_tests::{
    Daemon, DaemonConfig, commands,
    commands::Command,
    initiator::{Completion, GOOD, Initiator},
    stamps::SECTOR,
};

/// Sectors of a mebibyte.
const MIB: u64 = (1 << 20) / SECTOR as u64;
/// 7h/27h/07h SPACE ALLOCATION FAILED WRITE PROTECT.
const NO_SPACE: (u8, u8, u8) = (7, 0x27, 7);

fn run(host: &mut Initiator, command: &Command) -> Completion {
    host.run(0, command).expect("connected")
}

/// Writes a mebibyte, that of this number.
fn write(host: &mut Initiator, number: u64, byte: u8) -> Completion {
    let data = vec![byte; MIB as usize * SECTOR];
    run(host, &commands::write(number * MIB, data, false))
}

/// Available and used, in MiB (log page 0Ch).
fn space(host: &mut Initiator) -> [u32; 2] {
    let page = run(host, &commands::raw(&[0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 255, 0], 255)).data;
    let count = |code: u8| {
        let mut parameters = &page[4..];
        while parameters[..2] != [0, code] {
            parameters = &parameters[4 + usize::from(parameters[3])..];
        }
        u32::from_be_bytes(parameters[4..8].try_into().expect("four bytes"))
    };
    [count(1), count(2)]
}

#[test]
fn a_volume_at_its_quota_takes_writes_to_what_it_has_and_goes_on_when_there_is_more() {
    let mut config = DaemonConfig::trio("64MiB");
    config.volumes[0].quota = Some("4MiB");
    let mut daemon = Daemon::start(&config);
    let mut host = daemon.host();
    for number in 0..4 {
        assert_eq!(write(&mut host, number, 1).status, GOOD);
    }
    assert_eq!(space(&mut host), [0, 4]);
    assert_eq!(write(&mut host, 9, 1).sense_code(), NO_SPACE);
    let anchored = commands::write_same(20 * MIB, 8, vec![1; SECTOR]);
    assert_eq!(run(&mut host, &anchored).sense_code(), NO_SPACE);
    assert_eq!(write(&mut host, 2, 2).status, GOOD);
    assert_eq!(run(&mut host, &commands::flush()).status, GOOD);
    // The daemon knows after a restart.
    daemon.kill();
    daemon.start_again();
    let mut host = daemon.host();
    assert_eq!(write(&mut host, 9, 1).sense_code(), NO_SPACE);
    assert_eq!(write(&mut host, 2, 3).status, GOOD);
    assert_eq!(run(&mut host, &commands::unmap(0, MIB as u32)).status, GOOD);
    assert_eq!(space(&mut host), [1, 3]);
    assert_eq!(write(&mut host, 9, 1).status, GOOD);
    assert_eq!(write(&mut host, 10, 1).sense_code(), NO_SPACE);
    daemon.reconfigure("quota = \"4MiB\"", "quota = \"6MiB\"");
    for number in 10..12 {
        assert_eq!(write(&mut host, number, 1).status, GOOD);
    }
    assert_eq!(write(&mut host, 12, 1).sense_code(), NO_SPACE);
}

#[test]
fn a_mirror_at_its_quota_suspends_its_pair_and_the_host_goes_on() {
    let mut config = DaemonConfig::trio("64MiB");
    config.volumes[1].quota = Some("4MiB");
    let daemon = Daemon::start(&config);
    let mut host = daemon.host();
    assert_eq!(write(&mut host, 0, 1).status, GOOD);
    daemon.holdfast_ok(&["establish", "1", "2", "--wait"]);
    for number in 1..8 {
        assert_eq!(write(&mut host, number, 1).status, GOOD);
    }
    await_state(&daemon, "suspended");
    daemon.reconfigure("quota = \"4MiB\"", "quota = \"16MiB\"");
    await_state(&daemon, "duplex");
}

fn await_state(daemon: &Daemon, state: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    while daemon.pair("1", "2")["state"] != state {
        assert!(Instant::now() < until, "{}", daemon.pair("1", "2"));
        std::thread::sleep(Duration::from_millis(50));
    }
}
