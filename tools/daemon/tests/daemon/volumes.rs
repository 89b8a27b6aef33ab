//! Volumes that lose their content, and numbers that are used again.

use std::fs;

use serde_json::{Value, json};

use crate::rig::Daemon;

fn pair(daemon: &Daemon, verb: &Value) {
    let member = json!({ "primary": 1, "mirror": 2 });
    let out = json!({ "verb": verb, "flags": {}, "members": [member], "dry_run": false });
    daemon.post("/v1/control", &json!({ "request": { "out": out } }));
}

fn establish(daemon: &Daemon) {
    pair(daemon, &json!({ "establish": { "remote": null } }));
    let wait = json!({ "pairs": "all", "state": 2, "timeout": 20 });
    assert_eq!(daemon.post("/v1/wait", &wait)["timed_out"], false);
}

fn pairs(daemon: &Daemon) -> usize {
    let (_, document) = daemon.request("GET", "/v1/query", "");
    document["pairs"].as_array().unwrap().len()
}

fn told(daemon: &Daemon, text: &str) -> bool {
    let (_, events) = daemon.request("GET", "/v1/events?after=0", "");
    events["events"]
        .as_array()
        .unwrap()
        .iter()
        .any(|event| event["text"].as_str().unwrap().contains(text))
}

/// The mirror is in memory; the second time the primary's file is gone as well.
#[test]
fn a_volume_without_its_content_is_in_no_pair_after_a_start() {
    let daemon = Daemon::start();
    establish(&daemon);
    let daemon = Daemon::start_in(daemon.stop_and_keep());
    assert_eq!(pairs(&daemon), 0);
    assert!(told(
        &daemon,
        "pair 1 -> 2 was duplex and is cancelled, because volume 2 has"
    ));
    assert!(
        daemon.log().contains("pair 1 -> 2 was duplex"),
        "{}",
        daemon.log()
    );
    establish(&daemon);
    let directory = daemon.kill();
    fs::remove_file(directory.path().join("prod.img")).unwrap();
    let daemon = Daemon::start_in(directory);
    assert_eq!(pairs(&daemon), 0);
    assert!(told(&daemon, "because both volumes have"));
    assert!(!daemon.path("state/fresh.json").exists());
    daemon.stop();
}

#[test]
fn a_deleted_number_comes_back_as_another_unit() {
    let daemon = Daemon::start();
    let create = json!({ "name": "db", "size": "1MiB", "block_size": 512 });
    let identity = |daemon: &Daemon| {
        daemon.post("/v1/volume/create", &create);
        let (_, document) = daemon.request("GET", "/v1/volumes", "");
        let volumes = document["volumes"].as_array().unwrap();
        let new = volumes.iter().find(|volume| volume["number"] == 3).unwrap();
        new["naa"].as_str().unwrap().to_owned()
    };
    let first = identity(&daemon);
    // As a host's persistent reservation would have left it.
    fs::create_dir_all(daemon.path("state/units")).unwrap();
    fs::write(daemon.path("state/units/3.json"), "of the first").unwrap();
    daemon.post("/v1/volume/delete", &json!({ "number": 3 }));
    assert!(!daemon.path("state/units/3.json").exists());
    let second = identity(&daemon);
    assert_ne!(first, second);
    // Nor does a restart make it anybody else.
    let daemon = Daemon::start_in(daemon.stop_and_keep());
    let (_, document) = daemon.request("GET", "/v1/volumes", "");
    assert!(document.to_string().contains(&second), "{document}");
    daemon.stop();
}
