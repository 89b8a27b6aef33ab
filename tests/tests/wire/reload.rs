//! What sessions hear when a reload takes away what they came by (RFC 7143 11.9.1).

use std::fs;

use holdfast_tests::{Daemon, DaemonConfig, VolumeSpec, commands, wire::Wire};

use crate::daemon_of;

fn edit(daemon: &Daemon, change: impl FnOnce(String) -> String) {
    let path = daemon.path("config.toml");
    let text = fs::read_to_string(&path).expect("it is there");
    fs::write(&path, change(text)).expect("ours");
    daemon.holdfast_ok(&["reload"]);
}

fn rule(name: &str) -> String {
    format!("[[target.initiator]]\nname = \"{name}\"\n")
}

/// Events 1 (logout is requested) and, as this initiator does not log out, 2 (the connection is dropped) or 3 (all of the session are).
pub(crate) fn is_asked_and_dropped(wire: &mut Wire, end: u8) {
    for event in [1, end] {
        let message = wire.answer();
        assert_eq!(
            (message.bhs.0[0], message.bhs.0[36]),
            (0x32, event),
            "{message:?}"
        );
        assert_eq!(message.get(16), u32::MAX);
    }
    assert!(wire.receive().is_none());
}

/// `reload --check` tells what would change and what cannot, and changes nothing.
#[test]
fn a_check_tells_the_difference_and_changes_nothing() {
    let daemon = daemon_of(vec![VolumeSpec::standard("disk", "1MiB")], rule("*"));
    assert_eq!(
        daemon.holdfast_ok(&["reload", "--check"]).trim(),
        "nothing would change"
    );
    let served = fs::read_to_string(daemon.path("config.toml")).expect("it is there");
    let configured = |text: &str| fs::write(daemon.path("config.toml"), text).expect("ours");
    let changed = served.replace(
        &rule("*"),
        &format!("{}control = true\n", rule("iqn.2026-11.test:*")),
    );
    configured(&changed);
    let said = daemon.holdfast_ok(&["reload", "--check"]);
    let initiator = format!("target {} initiator", daemon.iqn());
    let lines = format!(
        "+ {initiator} iqn.2026-11.test:*: control true, luns the target's\n- {initiator} *: control false, luns the target's"
    );
    assert_eq!(said.trim(), lines);
    let documents = daemon.holdfast_ok(&["--json", "reload", "--check"]);
    let document: serde_json::Value = serde_json::from_str(&documents).expect("one document");
    assert_eq!(document["changes"][0]["change"], "added");
    assert_eq!(document["refused"], serde_json::json!([]));
    configured(&changed.replace("[system]\n", "[system]\nworkers = 7\n"));
    let refused = daemon.holdfast(&["reload", "--check"]);
    assert_eq!(refused.code(), 1, "{}", refused.said());
    for line in [
        "~ system, workers: 0 -> 7",
        "! system.workers cannot change while serving",
    ] {
        assert!(refused.stdout.contains(line), "{}", refused.said());
    }
    configured("nonsense");
    assert_eq!(daemon.holdfast(&["reload", "--check"]).code(), 1);
    configured(&served);
    assert_eq!(daemon.holdfast_ok(&["reload"]).trim(), "nothing has changed");
}

/// An initiator that is no longer admitted is asked to log out, at once reaches nothing, and cannot come back; the other goes on.
#[test]
fn a_removed_initiator_is_asked_to_log_out() {
    let initiators = rule("iqn.2026-11.test:a") + &rule("iqn.2026-11.test:b");
    let daemon = daemon_of(vec![VolumeSpec::standard("disk", "1MiB")], initiators);
    let login = |name: &str| Wire::session_as(daemon.port(), daemon.iqn(), name, 1, "");
    let (mut a, mut b) = (login("iqn.2026-11.test:a"), login("iqn.2026-11.test:b"));
    a.attentions(0);
    b.attentions(0);
    edit(&daemon, |text| text.replace(&rule("iqn.2026-11.test:b"), ""));
    let message = b.answer();
    assert_eq!(
        (message.bhs.0[0], message.bhs.0[36], message.get(16)),
        (0x32, 1, u32::MAX)
    );
    assert_eq!(
        b.scsi(0, &commands::read(0, 1)).sense,
        (5, 0x25, 0),
        "the LUN is gone already"
    );
    let message = b.answer();
    assert_eq!((message.bhs.0[0], message.bhs.0[36]), (0x32, 3));
    assert!(b.receive().is_none());
    a.assert_alive();
    assert!(a.scsi(0, &commands::read(0, 1)).is_good());
    assert_eq!(a.attentions(0), [], "nothing has changed for it");
    let mut again = Wire::connect(daemon.port());
    let text = format!(
        "InitiatorName=iqn.2026-11.test:b TargetName={} SessionType=Normal",
        daemon.iqn()
    );
    assert_eq!(again.login(crate::TO_FULL, &text).0, (2, 2), "not allowed");
}

/// RFC 7143 11.13.5, 13.8: an initiator that is sent elsewhere is asked to log out, and hears where to when it comes back; the
/// other goes on.
#[test]
fn a_moved_initiator_is_sent_to_its_new_address() {
    let stays = rule("iqn.2026-11.test:a");
    let daemon = daemon_of(
        vec![VolumeSpec::standard("disk", "1MiB")],
        stays.clone() + &rule("iqn.2026-11.test:b"),
    );
    let login = |name: &str| Wire::session_as(daemon.port(), daemon.iqn(), name, 1, "");
    let (mut a, mut b) = (login("iqn.2026-11.test:a"), login("iqn.2026-11.test:b"));
    let text = format!(
        "InitiatorName=iqn.2026-11.test:b TargetName={} SessionType=Normal",
        daemon.iqn()
    );
    let mut rules = rule("iqn.2026-11.test:b");
    for (permanent, status) in [("false", (1, 1)), ("true", (1, 2))] {
        let moved = format!(
            "{}moved = {{ to = \"[::1]:3261\", permanent = {permanent} }}\n",
            rule("iqn.2026-11.test:b")
        );
        edit(&daemon, |text| text.replace(&rules, &moved));
        if permanent == "false" {
            is_asked_and_dropped(&mut b, 3);
        }
        let mut again = Wire::connect(daemon.port());
        let (found, _, answer) = again.login(crate::TO_FULL, &text);
        assert_eq!(found, status);
        assert_eq!(answer.trim_end(), "TargetAddress=[::1]:3261");
        assert!(again.receive().is_none());
        rules = moved;
    }
    a.assert_alive();
}

/// A portal that is closed takes its sessions with it; those of another portal go on.
#[test]
fn a_removed_portal_asks_its_sessions_to_log_out() {
    let second = holdfast_tests::free_port();
    let daemon = Daemon::start(&DaemonConfig {
        volumes: vec![VolumeSpec::standard("disk", "1MiB")],
        initiators: String::new(),
        extra: String::new(),
    });
    let both = format!("\"127.0.0.1:{}\", \"127.0.0.1:{second}\"", daemon.port());
    let one = format!("\"127.0.0.1:{}\"", daemon.port());
    edit(&daemon, |text| text.replace(&one, &both));
    let mut stays = Wire::session_as(daemon.port(), daemon.iqn(), "iqn.2026-11.test:a", 1, "");
    let mut goes = Wire::session_as(second, daemon.iqn(), "iqn.2026-11.test:b", 1, "");
    edit(&daemon, |text| text.replace(&both, &one));
    is_asked_and_dropped(&mut goes, 2);
    stays.assert_alive();
}
