//! The queue on disk of a peer, between real daemons: a burst that the link does not carry costs hosts nothing, and nothing is lost, whoever dies.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    thread,
    time::{Duration, Instant},
};

use holdfast_tests::{
    Daemon, DaemonConfig,
    systems::{Systems, link, metrics, until_arrived, until_link},
    tool,
};

/// Bytes a second each way.
const PACE: u64 = 24 << 20;
/// Nothing here takes as long.
const LONG: Duration = Duration::from_secs(120);
const PEER: &str = "[[peer]]\nid = \"HF-B\"\n";
const QUEUE: &str = "[[peer]]\nid = \"HF-B\"\nqueue = { size = \"400MiB\" }\n";

/// A host writes 256 MiB, as fast as it can.
fn burst(daemon: &Daemon, byte: u8) {
    let write = format!("write -P {byte} 0 256M");
    let arguments = ["-f", "raw", "-t", "none", "-c", &write, &daemon.url(0)];
    let run = tool::call("qemu-io", &arguments.map(str::to_owned));
    assert!(run.status.success(), "{}", run.said());
}

/// Changes the configuration, which is read at the next reload.
fn edit(daemon: &Daemon, before: &str, after: &str) {
    let path = daemon.path("config.toml");
    let text = fs::read_to_string(&path).expect("the directory is ours");
    fs::write(&path, text.replace(before, after)).expect("the directory is ours");
}

fn queued(daemon: &Daemon) -> u64 {
    let bytes = &link(daemon)["peers"][0]["disk_queue"]["bytes"];
    bytes.as_u64().expect("a queue on disk")
}

fn held(daemon: &Daemon) -> String {
    let page = metrics(daemon);
    let line = page
        .lines()
        .find(|line| line.starts_with("holdfast_link_held_writes_total "));
    line.expect("the metric").to_owned()
}

fn until_equal(systems: &Systems) {
    let began = Instant::now();
    let is_duplex = |daemon: &Daemon| daemon.pair("1", "1")["state"] == "duplex";
    while !(is_duplex(&systems.a) && is_duplex(&systems.b)) {
        assert!(
            began.elapsed() < LONG,
            "the pair does not come back: {}",
            systems.a.pair("1", "1")
        );
        thread::sleep(Duration::from_millis(50));
    }
    until_arrived(&systems.a);
    let [here, there] =
        [&systems.a, &systems.b].map(|daemon| fs::read(daemon.path("prod.img")).expect("the volume's file"));
    assert!(here == there, "the volumes differ");
}

#[test]
fn a_burst_goes_through_the_queue_on_disk() {
    let config = DaemonConfig::trio("256MiB");
    let mut systems = Systems::start(&config, &config);
    assert!(link(&systems.a)["peers"][0]["disk_queue"].is_null());
    let said = systems.a.reconfigure(PEER, QUEUE);
    assert!(
        said.contains("peer HF-B has a queue on disk: 400MiB in"),
        "{said}"
    );
    let file = systems.a.path("state/queue-HF-B");
    let found = fs::metadata(&file).expect("it was made");
    assert_eq!(
        (found.len(), found.permissions().mode() & 0o777),
        (400 << 20, 0o600)
    );
    systems
        .a
        .holdfast_ok(&["establish", "1", "HF-B:1", "--mode", "async", "--wait"]);
    until_equal(&systems);
    let pace = |systems: &Systems, rate| {
        for proxy in [&systems.a_to_b, &systems.b_to_a] {
            proxy.throttle(rate);
        }
    };

    pace(&systems, Some(PACE));
    burst(&systems.a, 0x11);
    assert!(queued(&systems.a) > 0, "the link is slower than the host");
    assert_eq!(systems.a.pair("1", "1")["state"], "duplex");
    until_link(&systems.a, |link| link["peers"][0]["disk_queue"]["bytes"] == 0);
    until_equal(&systems);
    assert_eq!(held(&systems.a), "holdfast_link_held_writes_total 0");
    let events = systems.a.holdfast_ok(&["events"]);
    assert!(
        events.contains("go to the queue on disk") && events.contains("is empty again"),
        "{events}"
    );
    assert!(!events.contains("suspended"), "{events}");

    // Whoever dies: what was in the file is copied.
    for byte in [0x22, 0x33] {
        pace(&systems, Some(PACE));
        burst(&systems.a, byte);
        assert!(queued(&systems.a) > 0);
        let victim = if byte == 0x22 {
            &mut systems.a
        } else {
            &mut systems.b
        };
        victim.kill();
        pace(&systems, None);
        let victim = if byte == 0x22 {
            &mut systems.a
        } else {
            &mut systems.b
        };
        victim.start_again();
        systems.until_linked(true);
        until_equal(&systems);
        let image = fs::read(systems.b.path("prod.img")).expect("the volume's file");
        assert!(
            image.iter().all(|found| *found == byte),
            "the last write is there"
        );
    }

    // What is in use does not change.
    pace(&systems, Some(PACE));
    burst(&systems.a, 0x44);
    edit(&systems.a, QUEUE, PEER);
    let refused = systems.a.holdfast(&["reload"]);
    assert!(
        refused.code() == 1 && refused.stderr.contains("it can change when it is empty"),
        "{}",
        refused.said()
    );
    pace(&systems, None);
    until_arrived(&systems.a);
    systems.a.holdfast_ok(&["reload"]);
    assert!(!file.exists());

    // The daemon ends in time, whatever is on its way.
    systems.a.reconfigure(PEER, QUEUE);
    pace(&systems, Some(PACE));
    burst(&systems.a, 0x55);
    assert!(queued(&systems.a) > 0);
    systems.a.stop();
}
