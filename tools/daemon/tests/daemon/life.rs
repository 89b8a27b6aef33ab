//! Check, serve, say `ready`, reload, refuse a second daemon, stop.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::rig::{CONFIG, Daemon, holdfastd};

#[test]
fn a_life() {
    let daemon = Daemon::start();
    assert!(
        daemon
            .greeting
            .contains("LUN 1   volume 2 bcv (mirror, 16MiB, memory)"),
        "{}",
        daemon.greeting
    );
    assert!(
        !daemon.greeting.contains("127.0.0.1:0\n"),
        "the port that port 0 came to is shown"
    );
    assert_eq!(fs::metadata(daemon.path("prod.img")).unwrap().len(), 16 << 20);

    let second = holdfastd(daemon.directory.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(
        said.contains(&format!("in use by process {}", daemon.child.id())),
        "{said}"
    );

    let establish = r#"{"request":{"out":{"verb":{"establish":{"remote":null}},"flags":{},"members":[{"primary":1,"mirror":2}],"dry_run":false}}}"#;
    assert_eq!(
        daemon.request("POST", "/v1/control", establish),
        (200, serde_json::json!({ "ok": "done" }))
    );
    let wait = r#"{"pairs":"all","state":2,"timeout":20}"#;
    assert_eq!(daemon.request("POST", "/v1/wait", wait).1["timed_out"], false);
    let (status, refused) = daemon.request(
        "POST",
        "/v1/control",
        &establish.replace("1,\"mirror\":2", "1,\"mirror\":7"),
    );
    assert_eq!(
        (status, &refused["refused"]["kind"]),
        (409, &"no-such-volume".into())
    );
    assert_eq!(daemon.request("POST", "/v1/control", "{").0, 400);
    assert_eq!(daemon.request("GET", "/v1/nothing", "").0, 404);
    let (_, events) = daemon.request("GET", "/v1/events?after=1&wait=1", "");
    assert!(
        events["events"]
            .as_array()
            .unwrap()
            .iter()
            .all(|event| event["number"].as_u64() > Some(1))
    );
    daemon.stop();
}

#[test]
fn reloads_all_or_nothing() {
    let daemon = Daemon::start();
    let third = "\n[[volume]]\nnumber = 3\nname = \"new\"\nsize = \"1MiB\"\nmemory = true\n";
    fs::write(daemon.path("a.toml"), format!("{CONFIG}{third}")).unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    let deadline = Instant::now() + Duration::from_secs(10);
    while daemon.volumes() != 3 {
        assert!(Instant::now() < deadline, "SIGHUP does nothing");
        std::thread::sleep(Duration::from_millis(20));
    }
    let fixed = format!("{}{third}", CONFIG.replace("HF-LIFE", "HF-OTHER"))
        .replace("name = \"new\"", "name = \"newer\"");
    fs::write(daemon.path("a.toml"), fixed).unwrap();
    let (status, problem) = daemon.request("POST", "/v1/reload", "{}");
    let text = problem["error"].as_str().unwrap();
    assert_eq!(status, 409);
    assert!(
        text.contains("system.id cannot change") && text.contains("volume 3 can only change its size"),
        "{text}"
    );
    fs::write(daemon.path("a.toml"), CONFIG).unwrap();
    assert_eq!(
        daemon.request("POST", "/v1/reload", "{}").1["done"][0],
        "volume 3 removed"
    );
    let directory = daemon.stop_and_keep();
    let checked = holdfastd(directory.path()).arg("--check").output().unwrap();
    assert_eq!(checked.status.code(), Some(0));
}

#[test]
fn check_opens_nothing_and_names_every_fault() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("a.toml"),
        CONFIG.replace("HF-LIFE", "HF LIFE").replace("16MiB", "sixteen"),
    )
    .unwrap();
    let output = holdfastd(directory.path()).arg("--check").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    for key in ["system.id", "volume[1].size", "volume[2].size"] {
        assert!(
            said.contains(&format!("a.toml: {key}: ")),
            "{key} is not in\n{said}"
        );
    }
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "nothing was made"
    );
}

#[test]
fn a_missing_configuration_is_said_once() {
    let directory = tempfile::tempdir().unwrap();
    let output = holdfastd(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "holdfastd: a.toml: cannot be read: No such file or directory (os error 2)\n"
    );
}
