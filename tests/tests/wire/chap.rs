//! CHAP (RFC 7143 12.1, 9.2.1), by the checklist of the UNH-IOL's CHAP test suite.

use std::{fs, os::unix::fs::PermissionsExt as _};

use holdfast_tests::{
    Daemon, VolumeSpec, tool,
    wire::{FINAL, Wire},
};
use iscsi_proto::chap::{Algorithm, Challenge, Secret, decode_binary, encode_hex};

use crate::{NAMES, daemon_of, text::ask};

const SECRET: &str = "a-secret-of-16-b";
const OTHER_SECRET: &str = "another-of-16-b!";

/// From the security stage to the operational one.
const TO_OPERATIONAL: u8 = FINAL | 1;
/// From the operational stage to full feature phase.
const TO_FULL: u8 = FINAL | 1 << 2 | 3;

struct Guarded {
    daemon: Daemon,
    secrets: tempfile::TempDir,
}

/// A daemon that asks for CHAP, and can answer it if `mutual`.
fn guarded(mutual: bool) -> Guarded {
    let secrets = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, secret: &str| {
        let path = secrets.path().join(name);
        fs::write(&path, secret).expect("ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        path.display().to_string()
    };
    let mut initiators = format!(
        "[[target.initiator]]\nname = \"*\"\nchap = {{ user = \"alice\", secret_file = \"{}\" }}\n",
        file("alice", SECRET)
    );
    if mutual {
        let path = file("target", OTHER_SECRET);
        initiators += "mutual = { user = \"target\", secret_file = \"";
        initiators += &path;
        initiators += "\" }\n";
    }
    Guarded {
        daemon: daemon_of(vec![VolumeSpec::standard("disk", "1MiB")], initiators),
        secrets,
    }
}

fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let found = text
        .split(' ')
        .find_map(|pair| pair.strip_prefix(&format!("{key}=")));
    found.unwrap_or_else(|| panic!("no {key} in {text}"))
}

/// A connection that has been asked CHAP by this list of algorithms; what was chosen, and the challenge.
fn challenged(daemon: &Daemon, algorithms: &str) -> (Wire, Algorithm, Challenge) {
    challenged_as(daemon, NAMES, algorithms)
}

/// As [`challenged`], in a login with these names.
fn challenged_as(daemon: &Daemon, names: &str, algorithms: &str) -> (Wire, Algorithm, Challenge) {
    let mut wire = Wire::connect(daemon.port());
    let (status, pdu, text) = wire.login(0, &format!("{names} AuthMethod=CHAP,None"));
    assert_eq!((status, value(&text, "AuthMethod")), ((0, 0), "CHAP"));
    assert_eq!(pdu.bhs.0[1], 0, "T is not set before the initiator is known");
    let (status, _, text) = wire.login(0, &format!("CHAP_A={algorithms}"));
    assert_eq!(status, (0, 0));
    let number = value(&text, "CHAP_A").parse().expect("a number");
    let algorithm = Algorithm::from_number(number).expect("an algorithm of the registry");
    let challenge = Challenge::decode(value(&text, "CHAP_I"), value(&text, "CHAP_C")).expect("well formed");
    (wire, algorithm, challenge)
}

fn response(secret: &str, algorithm: Algorithm, challenge: &Challenge) -> Vec<u8> {
    Secret::new(secret.as_bytes()).response(algorithm, challenge.identifier, &challenge.bytes)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = "0b".to_owned();
    for three in bytes.chunks(3) {
        let word =
            three.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= three.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

/// RFC 7143 12.1.3: the response is taken in hexadecimal of either case and in base64; a wrong one in either is refused with 0201h
/// and the connection closed.
#[test]
fn responses_in_hex_and_base64_right_and_wrong() {
    let Guarded { daemon, .. } = guarded(false);
    let encodings: [fn(&[u8]) -> String; 3] = [encode_hex, |bytes| encode_hex(bytes).to_uppercase(), base64];
    for encode in encodings {
        for (secret, expected) in [(SECRET, (0, 0)), (OTHER_SECRET, (2, 1))] {
            let (mut wire, algorithm, challenge) = challenged(&daemon, "5");
            let answer = encode(&response(secret, algorithm, &challenge));
            let (status, ..) = wire.login(TO_OPERATIONAL, &format!("CHAP_N=alice CHAP_R={answer}"));
            assert_eq!(status, expected, "{answer}");
            if status == (0, 0) {
                assert_eq!(wire.login(TO_FULL, "").0, (0, 0));
                wire.assert_alive();
            } else {
                assert!(wire.receive().is_none(), "the connection is closed");
            }
        }
    }
}

/// RFC 7143 12.1.3: the first algorithm of the list that the target takes is chosen; a list with none is refused.
#[test]
fn an_algorithm_is_chosen_from_the_list() {
    let Guarded { daemon, .. } = guarded(false);
    for (list, chosen) in [
        ("5", Algorithm::Md5),
        ("7", Algorithm::Sha256),
        ("99,6", Algorithm::Sha1),
        ("8", Algorithm::Sha3_256),
    ] {
        let (mut wire, algorithm, challenge) = challenged(&daemon, list);
        assert_eq!(algorithm, chosen, "{list}");
        let answer = encode_hex(&response(SECRET, algorithm, &challenge));
        let (status, ..) = wire.login(TO_OPERATIONAL, &format!("CHAP_N=alice CHAP_R={answer}"));
        assert_eq!(status, (0, 0), "{list}");
    }
    let mut wire = Wire::connect(daemon.port());
    wire.login(0, &format!("{NAMES} AuthMethod=CHAP"));
    assert_eq!(wire.login(0, "CHAP_A=99").0, (2, 1));
}

/// RFC 7143 12.1.3: which hashes are taken, and which before others, is configured; a reload changes it.
#[test]
fn the_order_of_the_algorithms_is_configured() {
    let guarded = guarded(false);
    let daemon = &guarded.daemon;
    assert_eq!(challenged(daemon, "5,6,7,8").1, Algorithm::Sha3_256);
    daemon.reconfigure(
        "[iscsi]\n",
        "[iscsi]\nchap_algorithms = [\"SHA-256\", \"SHA3-256\"]\n",
    );
    assert_eq!(challenged(daemon, "5,6,7,8").1, Algorithm::Sha256);
    assert_eq!(challenged(daemon, "8,5").1, Algorithm::Sha3_256);
    let mut wire = Wire::connect(daemon.port());
    wire.login(0, &format!("{NAMES} AuthMethod=CHAP"));
    assert_eq!(wire.login(0, "CHAP_A=5,6").0, (2, 1), "neither is taken");
}

/// RFC 7143 12, 6.3.2: authentication can be neither left out nor declined nor passed by.
#[test]
fn authentication_cannot_be_left_out() {
    let Guarded { daemon, .. } = guarded(false);
    let first = |stages: u8, keys: &str| {
        let mut wire = Wire::connect(daemon.port());
        wire.login(stages, &format!("{NAMES} {keys}")).0
    };
    assert_eq!(
        first(TO_FULL, "InitialR2T=Yes"),
        (2, 1),
        "the security stage left out"
    );
    assert_eq!(first(0, "AuthMethod=None"), (2, 1), "declined");
    // Transit before the exchange has ended.
    let (mut wire, ..) = challenged(&daemon, "5");
    let (status, pdu, _) = wire.login(FINAL | 3, "");
    assert!(
        status.0 == 2 || pdu.bhs.0[1] & FINAL == 0,
        "full feature phase in the middle of it"
    );
    let (mut wire, ..) = challenged(&daemon, "5");
    assert_eq!(wire.login(TO_OPERATIONAL, "CHAP_N=alice").0.0, 2, "no CHAP_R");
    let mut wire = Wire::connect(daemon.port());
    wire.login(0, &format!("{NAMES} AuthMethod=CHAP"));
    assert_eq!(
        wire.login(0, "CHAP_N=alice CHAP_R=0x00").0.0,
        2,
        "an answer before the question"
    );
}

/// RFC 7143 12.1.3: names, and the forms of a response that are none.
#[test]
fn wrong_names_and_malformed_responses_are_refused() {
    let Guarded { daemon, .. } = guarded(false);
    let (mut wire, algorithm, challenge) = challenged(&daemon, "5");
    let right = encode_hex(&response(SECRET, algorithm, &challenge));
    let (status, ..) = wire.login(TO_OPERATIONAL, &format!("CHAP_N=bob CHAP_R={right}"));
    assert_eq!(status, (2, 1), "another name");
    for wrong in [
        "0x",
        "0xzz",
        "0b!",
        "1234",
        "0x00",
        &format!("0x{}", "00".repeat(600)),
    ] {
        let (mut wire, ..) = challenged(&daemon, "5");
        let (status, ..) = wire.login(TO_OPERATIONAL, &format!("CHAP_N=alice CHAP_R={wrong}"));
        assert_eq!(status.0, 2, "{wrong}");
    }
}

/// RFC 7143 12.1.3, 9.2.1: the target answers a challenge of the initiator's in hexadecimal and base64, up to 1024 bytes; its own
/// challenge sent back to it is refused, and so is one it has no secret for.
#[test]
fn mutual_authentication_and_its_abuse() {
    let Guarded { daemon, .. } = guarded(true);
    for (length, encode) in [
        (1, encode_hex as fn(&[u8]) -> String),
        (16, base64),
        (1024, encode_hex),
    ] {
        let (mut wire, algorithm, challenge) = challenged(&daemon, "5");
        let own = Challenge {
            identifier: 42,
            bytes: vec![7; length],
        };
        let answer = encode_hex(&response(SECRET, algorithm, &challenge));
        let question = encode(&own.bytes);
        let (status, _, text) = wire.login(
            TO_OPERATIONAL,
            &format!("CHAP_N=alice CHAP_R={answer} CHAP_I=42 CHAP_C={question}"),
        );
        assert_eq!((status, value(&text, "CHAP_N")), ((0, 0), "target"));
        let returned = decode_binary(value(&text, "CHAP_R")).expect("encoded");
        assert_eq!(
            returned,
            response(OTHER_SECRET, algorithm, &own),
            "{length} bytes"
        );
    }
    let (mut wire, algorithm, challenge) = challenged(&daemon, "5");
    let answer = encode_hex(&response(SECRET, algorithm, &challenge));
    let reflected = encode_hex(&challenge.bytes);
    let (status, ..) = wire.login(
        TO_OPERATIONAL,
        &format!(
            "CHAP_N=alice CHAP_R={answer} CHAP_I={} CHAP_C={reflected}",
            challenge.identifier
        ),
    );
    assert_eq!(status.0, 2, "our own challenge");
    // Asked of a target that has no secret to answer with.
    let Guarded { daemon, .. } = guarded(false);
    let (mut wire, algorithm, challenge) = challenged(&daemon, "5");
    let answer = encode_hex(&response(SECRET, algorithm, &challenge));
    let (status, ..) = wire.login(
        TO_OPERATIONAL,
        &format!("CHAP_N=alice CHAP_R={answer} CHAP_I=1 CHAP_C=0x0102"),
    );
    assert_eq!(status.0, 2);
}

/// An initiator's secret changes without a moment in which it cannot log in: with the next one beside it, then without the old one.
#[test]
fn secrets_change_without_a_gap() {
    let Guarded { daemon, secrets } = guarded(false);
    let path = |name: &str| secrets.path().join(name).display().to_string();
    let table = |user: &str, file: &str| format!("{{ user = \"{user}\", secret_file = \"{}\" }}", path(file));
    fs::write(path("next"), OTHER_SECRET).expect("ours");
    fs::set_permissions(path("next"), fs::Permissions::from_mode(0o600)).expect("ours");
    let login = |user: &str, secret: &str| {
        let (mut wire, algorithm, challenge) = challenged(&daemon, "7");
        let answer = encode_hex(&response(secret, algorithm, &challenge));
        let (status, ..) = wire.login(TO_OPERATIONAL, &format!("CHAP_N={user} CHAP_R={answer}"));
        (status, wire)
    };
    let (status, mut before) = login("alice", SECRET);
    assert_eq!((status, before.login(TO_FULL, "").0), ((0, 0), (0, 0)));
    assert_eq!(login("alice", OTHER_SECRET).0, (2, 1));
    let old = format!("chap = {}", table("alice", "alice"));
    let both = format!("chap = [{}, {}]", table("alice", "alice"), table("alice", "next"));
    daemon.reconfigure(&old, &both);
    assert_eq!(login("alice", SECRET).0, (0, 0));
    assert_eq!(login("alice", OTHER_SECRET).0, (0, 0));
    let new = format!("chap = [{}]", table("bob", "next"));
    daemon.reconfigure(&both, &new);
    assert_eq!(login("alice", SECRET).0, (2, 1));
    assert_eq!(login("alice", OTHER_SECRET).0, (2, 1), "of another user");
    assert_eq!(login("bob", OTHER_SECRET).0, (0, 0));
    before.assert_alive();
}

/// RFC 7143 9.2.1: two connections are never asked the same.
#[test]
fn challenges_are_fresh_and_long_enough() {
    let Guarded { daemon, .. } = guarded(false);
    let challenges: Vec<Vec<u8>> = (0..8).map(|_| challenged(&daemon, "5").2.bytes).collect();
    for (at, challenge) in challenges.iter().enumerate() {
        assert!(challenge.len() >= 16);
        assert!(!challenges[..at].contains(challenge));
    }
}

const DISCOVERY: &str = "InitiatorName=iqn.2026-11.test:wire SessionType=Discovery";

/// Puts `[iscsi.discovery]` into a configuration without one, or in the place of the one it has.
fn ask_discovery(daemon: &Daemon, had: &str, has: &str) {
    daemon.reconfigure(&format!("{had}[admin]"), &format!("{has}[admin]"));
}

/// RFC 7143 12, 4.3: discovery sessions prove who they are when the configuration asks, one way or both, apart from what a target
/// asks; a reload changes it for the next login.
#[test]
fn discovery_asks_for_proof() {
    let Guarded { daemon, secrets } = guarded(true);
    let mut free = Wire::connect(daemon.port());
    assert_eq!(free.login(TO_FULL, DISCOVERY).0, (0, 0), "nothing is asked");
    let file = |name: &str, secret: &str| {
        let path = secrets.path().join(name);
        fs::write(&path, secret).expect("ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        format!("{{ user = \"{name}\", secret_file = \"{}\" }}", path.display())
    };
    let chap = format!(
        "[iscsi.discovery]\nchap = {}\n",
        file("looker", "for-discovery-only")
    );
    ask_discovery(&daemon, "", &chap);
    let refused = Wire::connect(daemon.port()).login(TO_FULL, DISCOVERY).0;
    assert_eq!(refused, (2, 1), "left out");
    let refused = Wire::connect(daemon.port()).login(0, &format!("{DISCOVERY} AuthMethod=None"));
    assert_eq!(refused.0, (2, 1), "declined");
    let prove = |user: &str, secret: &str, and: &str| {
        let (mut wire, algorithm, challenge) = challenged_as(&daemon, DISCOVERY, "7,5");
        let answer = encode_hex(&response(secret, algorithm, &challenge));
        let text = format!("CHAP_N={user} CHAP_R={answer} {and}");
        let (status, _, text) = wire.login(TO_OPERATIONAL, text.trim_end());
        (status, text, wire)
    };
    assert_eq!(
        prove("alice", SECRET, "").0,
        (2, 1),
        "the target's secret is another"
    );
    assert_eq!(prove("looker", SECRET, "").0, (2, 1));
    let (status, _, mut wire) = prove("looker", "for-discovery-only", "");
    assert_eq!((status, wire.login(TO_FULL, "").0), ((0, 0), (0, 0)));
    let told = ask(&mut wire, "SendTargets=All ");
    assert!(told.contains(&format!("TargetName={} ", daemon.iqn())), "{told}");
    let answered = prove("looker", "for-discovery-only", "CHAP_I=9 CHAP_C=0x0102").0;
    assert_eq!(answered.0, 2, "there is nothing to answer with");

    let both = format!("{chap}mutual = {}\n", file("target", OTHER_SECRET));
    ask_discovery(&daemon, &chap, &both);
    let (status, text, _) = prove("looker", "for-discovery-only", "CHAP_I=9 CHAP_C=0x0102");
    assert_eq!((status, value(&text, "CHAP_N")), ((0, 0), "target"));
    let asked = Challenge {
        identifier: 9,
        bytes: vec![1, 2],
    };
    let returned = decode_binary(value(&text, "CHAP_R")).expect("encoded");
    assert_eq!(returned, response(OTHER_SECRET, Algorithm::Sha256, &asked));
    ask_discovery(&daemon, &both, "");
    let mut late = Wire::connect(daemon.port());
    assert_eq!(
        late.login(TO_FULL, DISCOVERY).0,
        (0, 0),
        "nothing is asked any more"
    );
    free.assert_alive();
}

/// libiscsi's `iscsi-ls` proves itself, and says why when it is refused.
#[test]
fn iscsi_ls_discovers_with_chap() {
    let Guarded { daemon, secrets } = guarded(false);
    let path = secrets.path().join("alice").display().to_string();
    let chap = format!("[iscsi.discovery]\nchap = {{ user = \"alice\", secret_file = \"{path}\" }}\n");
    ask_discovery(&daemon, "", &chap);
    let portal = |who: &str| format!("iscsi://{who}127.0.0.1:{}", daemon.port());
    let listed = tool::ok("iscsi-ls", &[&portal(&format!("alice%{SECRET}@"))]);
    assert!(listed.contains(daemon.iqn()), "{listed}");
    for who in ["", "alice%wrong-wrong-wrong@"] {
        let run = tool::call("iscsi-ls", &[&portal(who)]);
        assert!(!run.said().contains(daemon.iqn()), "{}", run.said());
    }
}
