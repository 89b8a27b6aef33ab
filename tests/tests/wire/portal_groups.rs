//! Portal groups (RFC 7143 4.1, 4.4.2): a portal group is a port of the target, and a session stays within one.

use holdfast_tests::{Daemon, VolumeSpec, commands, free_port, wire::Wire};

use crate::{NAMES, TO_FULL, daemon_of, reload::is_asked_and_dropped, session, text::ask};

const SECOND: &str = "iqn.2026-11.io.holdfast:second";

/// A daemon with a portal in group 1 and another, whose port is given, in `group`.
fn grouped(group: u16) -> (Daemon, u16) {
    let daemon = daemon_of(vec![VolumeSpec::standard("disk", "1MiB")], String::new());
    let other = free_port();
    let first = format!("\"127.0.0.1:{}\"", daemon.port());
    let both = format!("{first}, {{ address = \"127.0.0.1:{other}\", group = {group} }}");
    daemon.reconfigure(&first, &both);
    (daemon, other)
}

/// A session of the same initiator port through the other portal.
fn other_session(daemon: &Daemon, port: u16) -> Wire {
    Wire::session(port, daemon.iqn(), "")
}

fn page(wire: &mut Wire, code: u8) -> Vec<u8> {
    wire.scsi(0, &commands::inquiry(Some(code), 255)).data
}

/// REPORT TARGET PORT GROUPS.
fn groups(wire: &mut Wire) -> Vec<u8> {
    let cdb = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0];
    wire.scsi(0, &commands::raw(&cdb, 255)).data
}

/// RELATIVE TARGET PORT IDENTIFIER of page 83h.
fn relative_port(wire: &mut Wire) -> [u8; 2] {
    let data = page(wire, 0x83);
    let at = data.windows(4).position(|head| head == [0x51, 0x94, 0, 4]);
    let at = at.expect("the designator of the port") + 6;
    [data[at], data[at + 1]]
}

/// RFC 7143 13.9, Appendix C: SendTargets tells the groups of the portals, the login that of the portal it comes through, and a
/// target is reached through its groups only.
#[test]
fn portals_are_told_with_their_groups() {
    let (daemon, other) = grouped(2);
    let second = format!("[[target]]\niqn = \"{SECOND}\"\nportal_groups = [2]\n\n[[target]]\niqn");
    daemon.reconfigure("[[target]]\niqn", &second);
    let (one, two) = (
        format!("TargetAddress=127.0.0.1:{},1 ", daemon.port()),
        format!("TargetAddress=127.0.0.1:{other},2 "),
    );
    for (port, tag, addresses) in [
        (daemon.port(), 1, format!("{one}{two}")),
        (other, 2, format!("{two}{one}")),
    ] {
        let mut discovery = Wire::connect(port);
        let names = "InitiatorName=iqn.2026-11.test:wire SessionType=Discovery";
        assert_eq!(discovery.login(TO_FULL, names).0, (0, 0));
        let told = ask(&mut discovery, "SendTargets=All ");
        assert!(
            told.contains(&format!("TargetName={} {addresses}", daemon.iqn())),
            "{told}"
        );
        let restricted = told
            .split("TargetName=")
            .find(|target| target.starts_with(SECOND));
        assert_eq!(restricted, Some(format!("{SECOND} {two}").as_str()));
        let mut wire = Wire::connect(port);
        let (status, _, text) = wire.login(TO_FULL, NAMES);
        assert_eq!(status, (0, 0));
        let tag = format!("TargetPortalGroupTag={tag}");
        assert!(text.split(' ').any(|pair| pair == tag), "{text}");
        let mut wire = Wire::connect(port);
        let names = format!("InitiatorName=iqn.2026-11.test:wire TargetName={SECOND} SessionType=Normal");
        let expected = if port == other { (0, 0) } else { (2, 3) };
        assert_eq!(wire.login(TO_FULL, &names).0, expected, "{SECOND} through {port}");
    }
}

/// RFC 7143 4.4.3, 6.3.1: the same initiator port has a session with each portal group, and the connections of a session are in one.
#[test]
fn a_session_stays_within_its_group() {
    let (daemon, other) = grouped(2);
    let mut one = session(&daemon, "MaxConnections=2");
    let mut two = other_session(&daemon, other);
    one.assert_alive();
    two.assert_alive();
    let mut stranger = Wire::connect(other);
    let request = stranger.joining_request(&one, daemon.iqn(), 1, "");
    assert_eq!(
        stranger.login_with(&request).0,
        (2, 10),
        "no such session in this group"
    );
    let mut joins = Wire::join(daemon.port(), &one, daemon.iqn(), 1, "");
    joins.assert_alive();
    two.assert_alive();
}

/// SPC-4 7.8.5, 7.8.14, 6.37: each group is a port with an identifier of its own; the page of ports and the one target port
/// group tell of both, whichever is asked.
#[test]
fn each_group_is_a_port_of_the_target() {
    let (daemon, other) = grouped(0x1f);
    let (mut one, mut two) = (session(&daemon, ""), other_session(&daemon, other));
    for wire in [&mut one, &mut two] {
        wire.attentions(0);
    }
    let ports = [relative_port(&mut one), relative_port(&mut two)];
    assert_ne!(ports[0], ports[1]);
    for (wire, name) in [(&mut one, ",t,0x0001"), (&mut two, ",t,0x001f")] {
        let text = String::from_utf8_lossy(&page(wire, 0x83)).into_owned();
        assert!(text.contains(&format!("{}{name}", daemon.iqn())), "{text}");
        let listed = groups(wire);
        assert_eq!(listed[..4], [0, 0, 0, 16]);
        assert_eq!((listed[6..8].to_vec(), listed[11]), (vec![0, 1], 2));
        assert_eq!([&listed[14..16], &listed[18..20]], [&ports[0][..], &ports[1][..]]);
        let text = String::from_utf8_lossy(&page(wire, 0x88)).into_owned();
        for name in [",t,0x0001", ",t,0x001f"] {
            assert!(text.contains(&format!("{}{name}", daemon.iqn())), "{text}");
        }
    }
    // A registration is of one port (SPC-4 5.12.7).
    assert!(
        one.scsi(0, &commands::reserve_out(0, 0, 0, 0xfeed, false))
            .is_good()
    );
    assert!(
        one.scsi(0, &commands::reserve_out(1, 5, 0xfeed, 0, false))
            .is_good()
    );
    let write = commands::write(0, vec![1; 512], false);
    assert_eq!(
        two.scsi(0, &write).status,
        0x18,
        "through the other port it is nobody"
    );
    assert!(
        two.scsi(0, &commands::reserve_out(0, 0, 0, 0xbeef, false))
            .is_good()
    );
    assert!(two.scsi(0, &write).is_good());
}

/// A portal that goes to another group takes no session with it; those of the others hear INQUIRY DATA HAS CHANGED (6h/3Fh/03h).
#[test]
fn a_portal_goes_to_another_group() {
    let (daemon, other) = grouped(2);
    let (mut one, mut two) = (session(&daemon, ""), other_session(&daemon, other));
    one.attentions(0);
    two.attentions(0);
    daemon.reconfigure("group = 2", "group = 3");
    is_asked_and_dropped(&mut two, 2);
    assert_eq!(one.attentions(0), [(6, 0x3f, 0x03)]);
    assert_eq!(groups(&mut one)[11], 2);
    let mut again = Wire::connect(other);
    let (status, _, text) = again.login(TO_FULL, NAMES);
    assert_eq!(status, (0, 0));
    assert!(text.contains("TargetPortalGroupTag=3"), "{text}");
}
