//! iSCSI over the wire, PDU by PDU, right and wrong. Each test says which section of RFC 7143 it checks, one file a topic.

mod access;
mod bounds;
mod chap;
mod digests;
mod error_recovery;
mod esxi;
mod full_feature;
mod isns;
mod keepalive;
mod keys;
mod login;
mod long_data;
mod multi_connection;
mod portal_groups;
mod protocol_level;
mod reassignment;
mod reload;
mod response_fence;
mod rules;
mod text;
mod units;
mod windows;

use std::fs;

use holdfast_tests::{
    Daemon, DaemonConfig, VolumeSpec,
    wire::{FINAL, Wire},
};

const NAMES: &str =
    "InitiatorName=iqn.2026-11.test:wire TargetName=iqn.2026-11.io.holdfast:test SessionType=Normal";
/// T=1 from the operational stage to full feature phase.
const TO_FULL: u8 = FINAL | 1 << 2 | 3;

fn daemon() -> Daemon {
    daemon_of(vec![VolumeSpec::standard("disk", "64MiB")], String::new())
}

fn daemon_of(volumes: Vec<VolumeSpec>, initiators: String) -> Daemon {
    Daemon::start(&DaemonConfig {
        volumes,
        initiators,
        extra: String::new(),
    })
}

fn session(daemon: &Daemon, keys: &str) -> Wire {
    Wire::session(daemon.port(), daemon.iqn(), keys)
}

fn session_of(daemon: &Daemon, initiator: &str) -> Wire {
    Wire::session_as(daemon.port(), daemon.iqn(), initiator, 1, "")
}

/// Memory of the daemon's own that is resident, in KiB. Its program, which the system maps in and out as it sees fit, is not counted.
fn resident(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let figure = line.and_then(|line| line.split_whitespace().nth(1));
    figure.expect("Linux says RssAnon").parse().expect("a number")
}

/// Every test that docs/rfc-compliance.md names is there: `wire::TOPIC::NAME` here, `frontend::TOPIC::NAME` in the frontend's tests.
#[test]
fn compliance_names_tests_that_exist() {
    let repository = holdfast_tests::repository();
    let document = fs::read_to_string(repository.join("docs/rfc-compliance.md")).expect("it is there");
    for (prefix, directory, least) in [
        ("`wire::", "tests/tests/wire", 60),
        ("`frontend::", "iscsi-frontend/tests/frontend", 5),
    ] {
        let names = document.split(prefix).skip(1);
        let names: Vec<&str> = names.filter_map(|rest| rest.split('`').next()).collect();
        assert!(names.len() > least, "{names:?}");
        for (topic, test) in names.iter().filter_map(|name| name.split_once("::")) {
            if topic == "TOPIC" {
                continue;
            }
            let file = repository.join(directory).join(format!("{topic}.rs"));
            let source = fs::read_to_string(&file).expect("a topic's file");
            let attributes = ["#[test]\n", "#[tokio::test]\nasync "];
            let found = attributes
                .iter()
                .any(|attribute| source.contains(&format!("{attribute}fn {test}()")));
            assert!(found, "no test {test} in {}", file.display());
        }
    }
}
