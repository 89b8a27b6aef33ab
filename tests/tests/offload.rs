//! What hosts leave to the target: offloaded copies with tokens, and writes that are whole or not there.

use std::time::Duration;

use holdfast_tests::{
    Daemon, DaemonConfig,
    commands::{self, Command},
    initiator::{Completion, GOOD, Initiator},
    stamps::SECTOR,
};

fn host(daemon: &Daemon) -> Initiator {
    let mut host = daemon.host();
    for lun in 0..3 {
        // What a new session is told first.
        host.run(lun, &commands::test_unit_ready()).expect("connected");
    }
    host
}

fn run(host: &mut Initiator, lun: u16, command: &Command) -> Completion {
    host.run(lun, command).expect("connected")
}

fn token_of(host: &mut Initiator, lun: u16, lba: u64, blocks: u32) -> Vec<u8> {
    let populated = run(host, lun, &commands::populate_token(1, lba, blocks));
    assert_eq!(populated.status, GOOD, "{:?}", populated.sense_code());
    let information = run(host, lun, &commands::receive_token_information(1)).data;
    assert_eq!((information.len(), information[5]), (550, 1));
    information[38..].to_vec()
}

fn fill(host: &mut Initiator, lun: u16, lba: u64, sectors: usize, byte: u8) {
    let written = run(
        host,
        lun,
        &commands::write(lba, vec![byte; sectors * SECTOR], false),
    );
    assert_eq!(written.status, GOOD);
}

/// The bytes that are there, each once.
fn bytes_in(host: &mut Initiator, lun: u16, lba: u64, sectors: u32) -> Vec<u8> {
    let mut data = run(host, lun, &commands::read(lba, sectors)).data;
    assert_eq!(data.len(), sectors as usize * SECTOR);
    data.dedup();
    data
}

const UNKNOWN: (u8, u8, u8) = (5, 0x23, 4);
const REVOKED: (u8, u8, u8) = (5, 0x23, 6);

#[test]
fn tokens_of_a_paired_volume_are_points_in_time() {
    let mut daemon = Daemon::start(&DaemonConfig::trio("64MiB"));
    let mut host = host(&daemon);
    fill(&mut host, 0, 4096, 2048, 0x11);
    daemon.holdfast_ok(&["establish", "1", "2", "--wait"]);
    let token = token_of(&mut host, 0, 4096, 2048);
    let copied = run(&mut host, 2, &commands::write_using_token(2, &token, 100, 2048));
    assert_eq!(copied.status, GOOD);
    assert_eq!(bytes_in(&mut host, 2, 100, 2048), [0x11]);
    fill(&mut host, 0, 6144, 8, 0x22);
    fill(&mut host, 0, 6143, 1, 0x22);
    fill(&mut host, 0, 4096, 1000, 0x22);
    fill(&mut host, 2, 100, 2048, 0x99);
    let copied = run(&mut host, 2, &commands::write_using_token(2, &token, 100, 2048));
    assert_eq!(copied.status, GOOD);
    assert_eq!(bytes_in(&mut host, 2, 100, 2048), [0x11], "what it was then");

    // Into a volume of a pair, so that the mirror gets it too.
    let token = token_of(&mut host, 2, 100, 2048);
    let copied = run(&mut host, 0, &commands::write_using_token(2, &token, 0, 2048));
    assert_eq!(copied.status, GOOD);
    daemon.holdfast_ok(&["split", "1", "2", "--wait"]);
    assert_eq!(bytes_in(&mut host, 1, 0, 2048), [0x11]);

    // RESTORE replaces what the standard holds, written by no host.
    fill(&mut host, 1, 0, 8, 0x33);
    let token = token_of(&mut host, 0, 0, 8);
    daemon.holdfast_ok(&["restore", "1", "2", "--wait"]);
    let refused = run(&mut host, 2, &commands::write_using_token(2, &token, 0, 8));
    assert_eq!(refused.sense_code(), REVOKED);
    assert_eq!(bytes_in(&mut host, 0, 0, 8), [0x33]);

    // Tokens, and what was set aside for them, end with the daemon.
    let token = token_of(&mut host, 2, 100, 2048);
    fill(&mut host, 2, 100, 2048, 0x44);
    daemon.kill();
    daemon.start_again();
    let mut host = self::host(&daemon);
    let refused = run(&mut host, 0, &commands::write_using_token(2, &token, 0, 8));
    assert_eq!(refused.sense_code(), UNKNOWN);
}

#[test]
fn an_atomic_write_that_kill_9_meets_is_there_or_not() {
    const SECTORS: u32 = 2048;
    let mut daemon = Daemon::start(&DaemonConfig::trio("64MiB"));
    daemon.holdfast_ok(&["establish", "1", "2", "--wait"]);
    let mut last = 0;
    for kill in 0_u64..8 {
        let mut host = host(&daemon);
        // LUN 0 is in a pair, LUN 2 is not.
        let lun = if kill % 2 == 0 { 0 } else { 2 };
        fill(&mut host, lun, 777, SECTORS as usize, last);
        let killed = daemon.kill_after(Duration::from_millis(15 + kill * 9));
        let mut begun = last;
        let mut answered = last;
        loop {
            begun = begun.wrapping_add(1);
            let data = vec![begun; SECTORS as usize * SECTOR];
            match host.run(lun, &commands::write_atomic(777, data)) {
                Ok(completion) => {
                    assert_eq!(completion.status, GOOD);
                    answered = begun;
                }
                Err(_) => break,
            }
        }
        killed.join().expect("it is killed");
        daemon.start_again();
        let mut host = self::host(&daemon);
        let found = bytes_in(&mut host, lun, 777, SECTORS);
        assert!(
            found == [answered] || found == [begun],
            "{found:?} is neither {answered} nor {begun}"
        );
        last = begun;
    }
}
