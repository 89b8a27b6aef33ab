//! What iSCSIProtocolLevel 2 adds (RFC 7144, RFC 7143 13.24).

use holdfast_tests::wire::Wire;

use crate::{NAMES, TO_FULL, daemon, session};

const QUERY_TASK: u8 = 9;
const IT_NEXUS_RESET: u8 = 11;
const QUERY_ASYNCHRONOUS_EVENT: u8 = 12;

/// RFC 7143 13.24: the lower of both levels, up to 2; an initiator that does not ask is not asked.
#[test]
fn the_lower_level_is_agreed_on() {
    let daemon = daemon();
    for (offered, agreed) in [
        (" iSCSIProtocolLevel=31", "iSCSIProtocolLevel=2"),
        (" iSCSIProtocolLevel=2", "iSCSIProtocolLevel=2"),
        (" iSCSIProtocolLevel=1", "iSCSIProtocolLevel=1"),
        ("", ""),
    ] {
        let mut wire = Wire::connect(daemon.port());
        let (status, _, answer) = wire.login(TO_FULL, &format!("{NAMES}{offered}"));
        assert_eq!(status, (0, 0));
        let level = answer
            .split(' ')
            .find(|pair| pair.starts_with("iSCSIProtocolLevel"));
        assert_eq!(level.unwrap_or(""), agreed);
    }
}

/// RFC 7144: below level 2 its functions are not supported.
#[test]
fn without_level_2_its_functions_are_not_there() {
    let daemon = daemon();
    for keys in ["", "iSCSIProtocolLevel=1"] {
        let mut wire = session(&daemon, keys);
        for function in QUERY_TASK..=QUERY_ASYNCHRONOUS_EVENT {
            assert_eq!(wire.manage(function, 0, u32::MAX, 0), 5);
        }
        assert_eq!(wire.attentions(0).len(), 1, "none of them did anything");
    }
}

/// RFC 7144: QUERY ASYNCHRONOUS EVENT succeeds while a unit attention is pending, says which, and does not end it; I_T NEXUS
/// RESET leaves one, and the session goes on.
#[test]
fn pending_events_are_told_and_stay() {
    let daemon = daemon();
    let mut wire = session(&daemon, "iSCSIProtocolLevel=2");
    let query = |wire: &mut Wire, lun| {
        let answer = wire.managed(QUERY_ASYNCHRONOUS_EVENT, lun, u32::MAX, 0);
        let found: [u8; 3] = answer.bhs.0[8..11].try_into().expect("three bytes");
        (answer.bhs.0[2], found)
    };
    // One pending, 6h/29h/00h: the session is new.
    for _ in 0..2 {
        assert_eq!(query(&mut wire, 0), (7, [0x16, 0x29, 0]));
    }
    assert_eq!(query(&mut wire, 9), (2, [0; 3]), "LUN 9 is not there");
    assert_eq!(wire.attentions(0), [(6, 0x29, 0)]);
    assert_eq!(query(&mut wire, 0), (0, [0; 3]));
    assert_eq!(wire.manage(IT_NEXUS_RESET, 0, u32::MAX, 0), 0);
    assert_eq!(query(&mut wire, 0), (7, [0x16, 0x29, 7]));
    assert_eq!(wire.manage(5, 0, u32::MAX, 0), 0, "LOGICAL UNIT RESET");
    assert_eq!(wire.attentions(0), [(6, 0x29, 3)], "covers what was before");
    wire.assert_alive();
}
