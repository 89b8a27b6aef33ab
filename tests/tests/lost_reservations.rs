//! Reservations that cannot be read any more after a restart.

use holdfast_tests::{
    Daemon, DaemonConfig, commands,
    initiator::{GOOD, Initiator, Manner},
    stamps::SECTOR,
};

/// A unit whose reservations cannot be read any more does nothing until an initiator replaces them; the others do not care.
#[test]
fn a_damaged_state_file_stops_its_unit_only_until_its_reservations_are_replaced() {
    const LOST: (u8, u8, u8) = (7, 0x44, 1);
    let manner = |name: &str| Manner {
        name: format!("iqn.2026-11.io.holdfast:{name}"),
        immediate_data: true,
        digests: false,
    };
    let login = |daemon: &Daemon, name: &str| {
        let mut host = Initiator::login(daemon.port(), daemon.iqn(), &manner(name));
        // What a new session is told first.
        for lun in [0, 2] {
            host.run(lun, &commands::test_unit_ready()).expect("connected");
        }
        host
    };
    let mut daemon = Daemon::start(&DaemonConfig::trio("64MiB"));
    let mut owner = login(&daemon, "owner");
    for command in [
        commands::reserve_out(0, 0, 0, 7, true),
        commands::reserve_out(1, 5, 7, 0, false),
    ] {
        assert_eq!(owner.run(0, &command).expect("connected").status, GOOD);
    }
    daemon.stop();
    let file = daemon.path("state/units/1.json");
    let mut bytes = std::fs::read(&file).expect("it was stored");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(&file, &bytes).expect("ours");
    for _ in 0..2 {
        daemon.start_again();
        let mut host = login(&daemon, "host");
        let mut sense = |lun: u16, command| host.run(lun, &command).expect("connected").sense_code();
        assert_eq!(sense(0, commands::read(0, 1)), LOST);
        assert_eq!(sense(0, commands::write(0, vec![1; SECTOR], false)), LOST);
        assert_eq!(sense(2, commands::write(0, vec![1; SECTOR], false)), (0, 0, 0));
        assert_eq!(
            std::fs::read(&file).expect("it is there"),
            bytes,
            "it is not touched"
        );
        daemon.kill();
    }
    daemon.start_again();
    let mut owner = login(&daemon, "owner");
    let mut other = login(&daemon, "host");
    let replace = commands::reserve_out(8, 5, 0, 9, true);
    assert_eq!(owner.run(0, &replace).expect("connected").status, GOOD);
    let write = || commands::write(0, vec![1; SECTOR], false);
    assert_eq!(owner.run(0, &write()).expect("connected").status, GOOD);
    assert_eq!(
        other.run(0, &write()).expect("connected").status,
        0x18,
        "RESERVATION CONFLICT"
    );
    daemon.kill();
    daemon.start_again();
    let mut other = login(&daemon, "host");
    assert_eq!(other.run(0, &write()).expect("connected").status, 0x18);
    assert_eq!(
        std::fs::read(daemon.path("state/units/1.damaged")).expect("kept"),
        bytes
    );
}
