//! The link between two daemons.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, thread, time::Duration};

use holdfast_tests::{
    Daemon, DaemonConfig, free_port, program,
    proxy::Way,
    systems::{self, Pki, Systems},
    tool,
};

fn systems() -> Systems {
    let config = DaemonConfig::trio("16MiB");
    Systems::start(&config, &config)
}

#[test]
fn two_systems_find_each_other_and_say_so() {
    let systems = systems();
    let link = systems::until_link(&systems.a, |link| link["peers"][0]["latency_us"].is_u64());
    let peer = &link["peers"][0];
    assert_eq!(link["system"], "HF-A");
    assert_eq!((&peer["id"], &peer["up"]), (&"HF-B".into(), &true.into()));
    assert!(peer["software"].as_str().unwrap().starts_with("holdfast "));
    assert!(peer["sent"].as_u64().unwrap() > 0 && peer["received"].as_u64().unwrap() > 0);
    assert_eq!(peer["queue"], 0);
    assert!(
        link["certificate_until"].as_str() > peer["since"].as_str(),
        "{link}"
    );
    let text = systems.b.holdfast_ok(&["link"]);
    assert!(
        text.starts_with("HF-B listens on 127.0.0.1:") && text.contains("HF-A"),
        "{text}"
    );
    let events = systems.a.holdfast_ok(&["events"]);
    assert!(events.contains("the link to HF-B is up"), "{events}");
    let metrics = systems::metrics(&systems.a);
    assert!(
        metrics.contains("holdfast_link_up{peer=\"HF-B\"} 1\n"),
        "{metrics}"
    );
}

#[test]
fn a_link_that_is_cut_or_swallowed_comes_back() {
    let mut systems = systems();
    systems.part();
    systems.until_linked(false);
    systems.mend();
    systems.until_linked(true);
    // A network that swallows packets: only keepalive tells.
    systems.a_to_b.hold(true);
    systems.b_to_a.hold(true);
    systems.until_linked(false);
    let error = systems::link(&systems.a)["peers"][0]["last_error"].clone();
    assert!(error.as_str().unwrap().contains("nothing was heard"), "{error}");
    systems.a_to_b.hold(false);
    systems.b_to_a.hold(false);
    systems.cut();
    systems.until_linked(true);
    systems.b.kill();
    systems::until_link(&systems.a, |link| link["peers"][0]["up"] == false);
    systems.b.start_again();
    systems.until_linked(true);
    systems.a.stop();
    systems.a.start_again();
    systems.until_linked(true);
}

/// Wherever the handshake is cut, the next call is answered.
#[test]
fn a_handshake_that_is_cut_anywhere_is_made_again() {
    let systems = systems();
    systems.a_to_b.delay(Duration::from_millis(1));
    for bytes in [1, 5, 400, 1200, 2000] {
        for way in [Way::Forth, Way::Back] {
            systems.cut();
            systems.a_to_b.cut_after(way, bytes);
            systems.b_to_a.cut_after(way, bytes);
            thread::sleep(Duration::from_millis(50));
            systems.until_linked(true);
        }
    }
    let link = systems::link(&systems.a);
    assert!(link["peers"][0]["connections"].as_u64().unwrap() > 2, "{link}");
}

#[test]
fn peers_come_and_go_with_a_reload() {
    let pki = Pki::new(&["HF-A", "HF-B", "HF-C"]);
    let daemon = |system: &str, port| {
        let mut config = DaemonConfig::trio("16MiB");
        config.extra = pki.link(system, port) + "# peers\n";
        Daemon::start_with(&config, &[("HOLDFAST__SYSTEM__ID", system)])
    };
    let (port_a, port_b) = (free_port(), free_port());
    let (a, b) = (daemon("HF-A", port_a), daemon("HF-B", port_b));
    let loopback = |port| ([127, 0, 0, 1], port).into();
    let to_b = systems::peer("HF-B", loopback(port_b));
    let said = a.reconfigure("# peers\n", &format!("# peers\n{to_b}"));
    assert!(
        said.contains(&format!("peer HF-B added at 127.0.0.1:{port_b}")),
        "{said}"
    );
    // B does not know A yet, and says so.
    let refused = "it refused the connection: the system is not configured as a peer there";
    systems::until_link(&a, |link| link["peers"][0]["last_error"] == refused);
    systems::until_link(&b, |link| {
        link["last_refused"]
            .as_str()
            .is_some_and(|why| why.contains("HF-A"))
    });
    let to_a = systems::peer("HF-A", loopback(port_a));
    b.reconfigure("# peers\n", &format!("# peers\n{to_a}"));
    systems::until_link(&a, |link| link["peers"][0]["up"] == true);
    systems::until_link(&b, |link| link["peers"][0]["up"] == true);
    let said = a.reconfigure(&to_b, "");
    assert!(said.contains("peer HF-B removed"), "{said}");
    systems::until_link(&b, |link| link["peers"][0]["up"] == false);
    assert_eq!(systems::link(&a)["peers"].as_array().map(Vec::len), Some(0));
}

#[test]
fn certificates_are_checked_before_anything_is_opened() {
    let pki = Pki::new(&["HF-A", "HF-B"]);
    let directory = tempfile::tempdir().unwrap();
    let check = |link: &str| {
        let text = format!(
            "[system]\nid = \"HF-A\"\nstate_dir = \"{0}/state\"\n[iscsi]\nportals = [\"127.0.0.1:3260\"]\n{link}",
            directory.path().display()
        );
        let file = directory.path().join("config.toml");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(program("holdfastd"));
        command.arg("--config").arg(&file).arg("--check");
        tool::run(&mut command, Duration::from_secs(20))
    };
    let good = check(&pki.link("HF-A", 3261));
    assert_eq!(good.code(), 0, "{}", good.said());
    let another = check(&pki.link("HF-B", 3261));
    assert_eq!(another.code(), 1);
    assert!(
        another.stderr.contains("link.cert") && another.stderr.contains("that of HF-B"),
        "{}",
        another.said()
    );
    fs::set_permissions(pki.file("HF-A.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = check(&pki.link("HF-A", 3261));
    assert_eq!(open.code(), 1);
    assert!(
        open.stderr.contains("link.key") && open.stderr.contains("mode 644"),
        "{}",
        open.said()
    );
    // What is there is not replaced.
    let mut again = Command::new(program("holdfast"));
    again.args(["pki", "init"]).arg(pki.file(""));
    assert_eq!(tool::run(&mut again, Duration::from_secs(20)).code(), 1);
}
