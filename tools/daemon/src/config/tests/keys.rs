//! `keys`: what sessions may agree on.

use iscsi_frontend::{DigestKind, Offer};

use super::*;
use crate::config::offer;

const INITIATOR: &str = "[[target.initiator]]\nname = \"iqn.2026-11.test:*\"\n";

/// [`GOOD`] with keys of `[iscsi]`, of the target and of an initiator's rule.
fn keyed(general: &str, target: &str, initiator: &str) -> String {
    let keys = |keys: &str| format!("keys = {{ {keys} }}\n");
    let text = with("[iscsi]\n", &format!("[iscsi]\n{}", keys(general)));
    format!("{text}{}{INITIATOR}{}", keys(target), keys(initiator))
}

/// What the parts of [`keyed`] come to, for others and for that initiator.
fn offers(text: &str) -> [Offer; 2] {
    let config = parse(text).unwrap();
    let target = &config.targets["iqn.2026-11.org.example:t1"];
    let general = [&config.sessions, &target.keys];
    let own = general.into_iter().chain([&target.initiators[0].keys]);
    [offer(general), offer(own)]
}

#[test]
fn each_key_has_its_place() {
    let all = "header_digest = [\"CRC32C\"], data_digest = [\"None\"], max_connections = 7, initial_r2t = true, \
               immediate_data = false, max_recv_data_segment_length = 4096, max_burst_length = \"1MiB\", \
               first_burst_length = 65536, default_time2wait = 1, default_time2retain = 60, max_outstanding_r2t = 3, \
               error_recovery_level = 2";
    let wanted = Offer {
        header_digest: vec![DigestKind::Crc32c],
        data_digest: vec![DigestKind::None],
        max_connections: 7,
        initial_r2t: true,
        immediate_data: false,
        max_recv_data_segment_length: 4096,
        max_burst_length: 1 << 20,
        first_burst_length: 65536,
        default_time2wait: 1,
        default_time2retain: 60,
        max_outstanding_r2t: 3,
        error_recovery_level: 2,
        ..Offer::default()
    };
    assert_eq!(offers(&keyed("", "", all)), [offer([]), wanted.clone()]);
    assert_eq!(offers(&keyed(all, "", "")), [wanted.clone(), wanted]);
}

/// Each key by itself: what an initiator's rule does not name is the target's, and what that does not name `[iscsi]`'s.
#[test]
fn the_narrowest_says_what_counts() {
    let text = keyed(
        "max_connections = 2, default_time2wait = 3, default_time2retain = 4",
        "max_connections = 5, default_time2wait = 6",
        "max_connections = 8",
    );
    let said = |offer: &Offer| {
        (
            offer.max_connections,
            offer.default_time2wait,
            offer.default_time2retain,
        )
    };
    let found = offers(&text);
    assert_eq!((said(&found[0]), said(&found[1])), ((5, 6, 4), (8, 6, 4)));
    let beside = text.replace("[iscsi]\n", "[iscsi]\nerror_recovery_level = 1\n");
    assert_eq!(offers(&beside)[1].error_recovery_level, 1);
    let twice = text.replace("[iscsi]\n", "[iscsi]\nmax_connections = 3\n");
    one_fault(&twice, "iscsi.max_connections", "given twice");
}

#[test]
fn what_a_key_does_not_take_is_named() {
    for (keys, says) in [
        ("header_digest = [\"CRC32\"]", "\"None\" and \"CRC32C\" are"),
        ("data_digest = []", "a list of \"None\" and \"CRC32C\""),
        ("data_digest = \"CRC32C\"", "a list of"),
        ("data_digest = [\"None\", \"None\"]", "given twice"),
        ("max_connections = 0", "1 to 64"),
        ("max_connections = 1.5", "1.5 is not accepted: 1 to 64"),
        ("initial_r2t = 1", "true or false"),
        ("immediate_data = \"Yes\"", "true or false"),
        ("max_recv_data_segment_length = 511", "512 to 1048576 bytes"),
        ("max_recv_data_segment_length = \"2MiB\"", "512 to 1048576 bytes"),
        ("max_burst_length = \"16MiB\"", "512 to 16777215 bytes"),
        ("first_burst_length = -1", "512 to 1048576 bytes"),
        ("default_time2wait = 3601", "0 to 3600"),
        ("default_time2retain = -1", "0 to 3600"),
        ("max_outstanding_r2t = 65", "1 to 64"),
        ("error_recovery_level = 3", "0 to 2"),
        (
            "MaxConnections = 2",
            "accepted are header_digest, data_digest, max_connections",
        ),
    ] {
        let name = keys.split(' ').next().unwrap();
        for (text, table) in [
            (keyed(keys, "", ""), "iscsi"),
            (keyed("", keys, ""), "target[1]"),
            (keyed("", "", keys), "target[1].initiator[1]"),
        ] {
            one_fault(&text, &format!("{table}.keys.{name}"), says);
        }
    }
}

/// RFC 7143 13.14.
#[test]
fn the_first_burst_is_no_longer_than_any() {
    let first = "first_burst_length = 8192";
    let most = "max_burst_length = \"4KiB\"";
    let says = "first_burst_length is 8192 here, and max_burst_length 4096";
    one_fault(&keyed(&format!("{first}, {most}"), "", ""), "iscsi.keys", says);
    one_fault(&keyed(first, most, ""), "target[1].keys", says);
    one_fault(&keyed(first, "", most), "target[1].initiator[1].keys", says);
    // One that nobody names follows.
    assert!(parse(&keyed("", most, "")).is_ok());
}
