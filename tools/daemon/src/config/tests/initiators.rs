//! `[[target.initiator]]`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

const TARGET: &str = "iqn.2026-11.org.example:t1";

/// [`GOOD`] with a rule for initiators.
fn initiator(text: &str) -> String {
    format!("{GOOD}\n[[target.initiator]]\n{text}\n")
}

#[test]
fn initiators() {
    one_fault(
        &initiator("name = \"host-a\""),
        "target[1].initiator[1].name",
        "no iSCSI name",
    );
    let mutual = "name = \"*\"\nmutual = { user = \"t\", secret_file = \"/nonexistent\" }";
    let found = faults(&initiator(mutual));
    assert_eq!(found[0].0, "target[1].initiator[1].mutual");
    assert_eq!(found[1].0, "target[1].initiator[1].mutual.secret_file");
    let twice = initiator("name = \"*\"\n[[target.initiator]]\nname = \"*\"");
    one_fault(&twice, "target[1].initiator[2].name", "given twice");
    let nowhere = "name = \"*\"\nmoved = { to = \"elsewhere\" }";
    assert_eq!(
        faults(&initiator(nowhere))[0].0,
        "target[1].initiator[1].moved.to"
    );
    let moved = parse(&initiator("name = \"*\"\nmoved = { to = \"[::1]:3261\" }")).unwrap();
    let target = &moved.targets[TARGET];
    assert_eq!(
        target.initiators[0].moved,
        Some(("[::1]:3261".parse().unwrap(), false))
    );
}

#[test]
fn secrets() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let chap = |path: &str| {
        format!(
            "{GOOD}\n[[target.initiator]]\nname = \"*\"\nchap = {{ user = \"u\", secret_file = \"{path}\" }}\n"
        )
    };
    let key = "target[1].initiator[1].chap.secret_file";
    one_fault(&chap("/nonexistent"), key, "cannot be read");
    one_fault(&chap(&file("open", "0123456789ab\n", 0o640)), key, "600 or 400");
    one_fault(
        &chap(&file("short", "0123456789a\n", 0o600)),
        key,
        "12 to 255 bytes",
    );
    one_fault(&chap(&file("two", "0123456789ab\nx\n", 0o600)), key, "one line");
    let good = file("good", "0123456789ab\r\n", 0o400);
    let config = parse(&chap(&good)).unwrap();
    let accepted = |config: &Config| config.targets[TARGET].initiators[0].authentication.chap.clone();
    assert_eq!(accepted(&config)[0].secret.bytes(), b"0123456789ab");
    assert!(
        !format!("{config:?}").contains("0123456789ab"),
        "a secret is never shown"
    );
    let both = chap(&good) + &format!("mutual = {{ user = \"t\", secret_file = \"{good}\" }}\n");
    one_fault(
        &both,
        "target[1].initiator[1].mutual.secret_file",
        "the same secret",
    );

    let next = file("next", "another-0123456789ab\n", 0o600);
    let table = |path: &str| format!("{{ user = \"u\", secret_file = \"{path}\" }}");
    let several = |list: &str| initiator(&format!("name = \"*\"\nchap = [{list}]"));
    let config = parse(&several(&format!("{}, {}", table(&good), table(&next)))).unwrap();
    assert_eq!(accepted(&config).len(), 2);
    let key = "target[1].initiator[1].chap";
    one_fault(&several(""), key, "1 to 8 secrets");
    let twice = format!("{}, {}", table(&good), table(&good));
    one_fault(&several(&twice), &format!("{key}[2]"), "given twice");
    let missing = format!("{}, {}", table(&good), table("/nonexistent"));
    one_fault(
        &several(&missing),
        &format!("{key}[2].secret_file"),
        "cannot be read",
    );
    let typo = initiator("name = \"*\"\nchap = [{ user = \"u\", file = \"x\" }]");
    one_fault(&typo, "target[1]", "unknown field `file`");
    one_fault(
        &initiator("name = \"*\"\nchap = \"x\""),
        "target[1]",
        "a list of tables",
    );
    let mutual = several(&table(&good)) + &format!("mutual = {}\n", table(&good));
    one_fault(
        &mutual,
        "target[1].initiator[1].mutual.secret_file",
        "the same secret",
    );
}

/// The rules are those of an initiator's.
#[test]
fn discovery_may_ask_for_proof() {
    let directory = tempfile::tempdir().unwrap();
    let table = |user: &str, secret: &str| {
        let path = directory.path().join(user);
        fs::write(&path, secret).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        format!("{{ user = \"{user}\", secret_file = \"{}\" }}", path.display())
    };
    let discovery = |text: &str| format!("{GOOD}\n[iscsi.discovery]\n{text}\n");
    assert_eq!(parse(GOOD).unwrap().discovery, Authentication::default());
    let (one, other) = (
        table("one", "0123456789ab"),
        table("other", "another-0123456789ab"),
    );
    let config = parse(&discovery(&format!("chap = [{one}, {other}]"))).unwrap();
    assert_eq!((config.discovery.chap.len(), config.discovery.mutual), (2, None));
    let config = parse(&discovery(&format!("chap = {one}\nmutual = {other}"))).unwrap();
    assert_eq!(config.discovery.mutual.unwrap().user, "other");

    one_fault(&discovery(""), "iscsi.discovery", "chap is needed");
    let key = "iscsi.discovery.mutual";
    one_fault(&discovery(&format!("mutual = {one}")), key, "only with chap");
    let same = format!("chap = {one}\nmutual = {one}");
    one_fault(
        &discovery(&same),
        &format!("{key}.secret_file"),
        "the same secret",
    );
    let gone = "chap = { user = \"u\", secret_file = \"/nonexistent\" }";
    one_fault(
        &discovery(gone),
        "iscsi.discovery.chap.secret_file",
        "cannot be read",
    );
    one_fault(&discovery("secret = \"x\""), "iscsi", "unknown field `secret`");
}

#[test]
fn the_hashes_of_chap_are_chosen_and_ordered() {
    let chosen = |list: &str| with("[iscsi]", &format!("[iscsi]\nchap_algorithms = [{list}]"));
    let algorithms = |text: &str| parse(text).unwrap().chap_algorithms;
    assert_eq!(algorithms(GOOD), Algorithm::PREFERENCE);
    assert_eq!(
        algorithms(&chosen("\"MD5\", \"SHA-256\"")),
        [Algorithm::Md5, Algorithm::Sha256]
    );
    let key = "iscsi.chap_algorithms";
    one_fault(
        &chosen("\"SHA-512\""),
        key,
        "\"SHA3-256\", \"SHA-256\", \"SHA1\", \"MD5\" are",
    );
    one_fault(&chosen("\"MD5\", \"MD5\""), key, "given twice");
    one_fault(&chosen(""), key, "at least one");
}

#[test]
fn patterns_are_told_apart() {
    let two = |one: &str, other: &str| {
        initiator(&format!(
            "name = \"{one}\"\n[[target.initiator]]\nname = \"{other}\""
        ))
    };
    let key = "target[1].initiator[2].name";
    let crossing = two("iqn.2026-11.a:*", "iqn.*:db");
    one_fault(&crossing, key, "neither is the narrower");
    one_fault(&two("iqn.2026-11.a:*", "IQN.2026-11.A:*"), key, "given twice");
    for other in [
        "*",
        "iqn.2026-11.a:db*",
        "iqn.2026-11.a:db",
        "eui.*",
        "iqn.2026-11.a:*:x",
    ] {
        assert!(parse(&two("iqn.2026-11.a:*", other)).is_ok(), "{other}");
    }
    for name in ["iqn.*:*", "host-*", "*a b", "iqn.2026-11.a,*", ""] {
        one_fault(
            &initiator(&format!("name = \"{name}\"")),
            "target[1].initiator[1].name",
            "no iSCSI name",
        );
    }
}

#[test]
fn an_initiator_may_see_luns_of_its_own() {
    let text = initiator(
        "name = \"iqn.2026-11.a:*\"\nluns = [{ lun = 4, volume = 1, read_only = true }]\n[[target.initiator]]\nname = \"*\"",
    );
    let config = parse(&text).unwrap();
    let target = &config.targets[TARGET];
    let protected = LunConfig {
        volume: 1,
        read_only: true,
    };
    assert_eq!(*target.luns_of("iqn.2026-11.A:b"), [(4, protected)].into());
    assert_eq!(*target.luns_of("iqn.2026-11.b:b"), target.luns);
    assert_eq!(target.all_luns().count(), 3);
    let own = |luns: &str| initiator(&format!("name = \"*\"\nluns = {luns}"));
    assert!(
        parse(&own("[]")).unwrap().targets[TARGET]
            .luns_of("iqn.a")
            .is_empty()
    );
    let key = "target[1].initiator[1].luns";
    one_fault(
        &own("[{ lun = 0, volume = 9 }]"),
        &format!("{key}[1].volume"),
        "accepted are 1, 2",
    );
    let twice = "[{ lun = 0, volume = 1 }, { lun = 0, volume = 2 }]";
    one_fault(&own(twice), &format!("{key}[2].lun"), "given twice");
    one_fault(
        &own("[{ lun = 16384, volume = 1 }]"),
        &format!("{key}[1].lun"),
        "0 to 16383",
    );
    one_fault(
        &own("[{ lun = 0, volume = 1, ro = true }]"),
        "target[1]",
        "unknown field `ro`",
    );
}
