//! Registration with a real iSNS server (RFC 4171), and `TargetAlias`.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use holdfast_tests::{Daemon, DaemonConfig, VolumeSpec, free_port, tool, wire::Wire};
use tempfile::TempDir;

/// `isnsd` of the test's own, on loopback. Dropping it kills it.
struct Server {
    directory: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// It forgets who it does not hear of for `period` seconds, and asks every second.
    fn start(period: u32) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("holdfast-isns-")
            .tempdir()
            .expect("a temporary directory");
        let mut server = Self {
            directory,
            port: free_port(),
            child: None,
        };
        let at = |name: &str| server.path(name).display().to_string();
        let text = format!(
            "SourceName = iqn.2026-11.test:isns\nBindAddress = 127.0.0.1:{}\nControlSocket = {}\nPIDFile = {}\n\
             RegistrationPeriod = {period}\nESIMinInterval = 1\nESIMaxInterval = 1\nESIRetries = 3\nSecurity = 0\n\
             SLPRegister = 0\nDefaultDiscoveryDomain = 1\n",
            server.port,
            at("control"),
            at("pid"),
        );
        fs::write(server.path("isnsd.conf"), text).expect("the directory is ours");
        let text = format!(
            "SourceName = iqn.2026-11.test:admin\nServerAddress = 127.0.0.1:{}\nControlSocket = {}\nSecurity = 0\n",
            server.port,
            at("control")
        );
        fs::write(server.path("isnsadm.conf"), text).expect("the directory is ours");
        server.start_again();
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// With an empty database.
    fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .expect("the directory is ours");
        let child = Command::new("/usr/sbin/isnsd")
            .args(["-4", "-f", "-d", "esi", "-c"])
            .arg(self.path("isnsd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("isnsd starts: ./test install");
        self.child = Some(child);
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our child");
            child.wait().expect("our child");
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What it lists of a kind: `nodes`, `portals`, `entities`, `portal-groups`.
    fn list(&self, kind: &str) -> String {
        let config = self.path("isnsadm.conf").display().to_string();
        // Over its own socket, which sees everything.
        let run = tool::call("/usr/sbin/isnsadm", &["--local", "-c", &config, "--list", kind]);
        run.said()
    }

    /// Waits until the list of `kind` has every one of `there`, and none of `gone`.
    fn wait(&self, kind: &str, there: &[&str], gone: &[&str]) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let list = self.list(kind);
            let is = |text: &&str| list.contains(*text);
            if there.iter().all(is) && !gone.iter().any(is) {
                return list;
            }
            assert!(
                Instant::now() < deadline,
                "{kind} are, instead of {there:?} without {gone:?}:\n{list}\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

const SECOND: &str = "iqn.2026-11.io.holdfast:second";

fn daemon_of(server: &Server) -> Daemon {
    Daemon::start(&DaemonConfig {
        volumes: vec![VolumeSpec::standard("disk", "1MiB")],
        initiators: String::new(),
        extra: format!("[isns]\nserver = \"127.0.0.1:{}\"\n", server.port),
    })
}

/// RFC 4171 5.6.5.1, 5.6.5.4: node, portal, portal group and entity are registered; a target that a reload adds is registered, with
/// its alias; one that it takes out is deregistered, and all at the end.
#[test]
fn what_is_served_is_registered() {
    let server = Server::start(60);
    let mut daemon = daemon_of(&server);
    let portal = format!("= {}/tcp", daemon.port());
    server.wait("nodes", &[daemon.iqn(), "Target"], &[]);
    server.wait("portals", &[&portal, "ESI"], &[]);
    server.wait("entities", &["holdfast:HF-TEST", "iSCSI"], &[]);
    let groups = server.wait("portal-groups", &[daemon.iqn(), &portal], &[]);
    assert!(groups.contains("group tag = 1"), "{groups}");
    let first = format!("[[target]]\niqn = \"{}\"", daemon.iqn());
    let both = format!("[[target]]\niqn = \"{SECOND}\"\nalias = \"the second\"\n\n{first}");
    daemon.reconfigure(&first, &both);
    server.wait("nodes", &[daemon.iqn(), SECOND, "the second"], &[]);
    daemon.reconfigure(&both, &first);
    server.wait("nodes", &[daemon.iqn()], &[SECOND]);
    let other = first.replace(daemon.iqn(), SECOND);
    daemon.reconfigure(&first, &other);
    server.wait("nodes", &[SECOND], &[daemon.iqn()]);
    daemon.stop();
    server.wait("nodes", &[], &[daemon.iqn(), SECOND]);
    server.wait("entities", &[], &["HF-TEST"]);
}

/// RFC 4171 3.4: each portal is registered with its group, and a target that is not reached through it has no tag there.
#[test]
fn portal_groups_are_registered() {
    let server = Server::start(60);
    let daemon = daemon_of(&server);
    let other = free_port();
    let first = format!("\"127.0.0.1:{}\"", daemon.port());
    daemon.reconfigure(
        &first,
        &format!("{first}, {{ address = \"127.0.0.1:{other}\", group = 7 }}"),
    );
    let second = format!("[[target]]\niqn = \"{SECOND}\"\nportal_groups = [7]\n\n[[target]]\niqn");
    daemon.reconfigure("[[target]]\niqn", &second);
    let listed = server.wait("portal-groups", &[daemon.iqn(), SECOND, "group tag = 7"], &[]);
    let entries: Vec<&str> = listed.split("Object ").skip(1).collect();
    assert_eq!(entries.len(), 3, "{listed}");
    let of_second: Vec<_> = entries.iter().filter(|entry| entry.contains(SECOND)).collect();
    assert_eq!(of_second.len(), 1, "{listed}");
    assert!(of_second[0].contains(&format!("{other}/tcp")), "{listed}");
}

/// RFC 4171 5.6.5.13, 6.2.6: inquiries are answered and the period is kept, so that nothing is forgotten; what the server forgot
/// all the same is registered again; a daemon that died is forgotten, which says that the server does forget.
#[test]
fn a_registration_is_kept() {
    let mut server = Server::start(4);
    let mut daemon = daemon_of(&server);
    server.wait("nodes", &[daemon.iqn()], &[]);
    let registered = Instant::now();
    while registered.elapsed() < Duration::from_secs(9) {
        assert!(server.list("nodes").contains(daemon.iqn()), "{}", server.log());
        thread::sleep(Duration::from_millis(200));
    }
    let asked = server.log().matches("Sending ESI message").count();
    assert!(asked > 3, "{asked} inquiries in 9 s:\n{}", server.log());
    assert!(!server.log().contains("dropping"), "{}", server.log());
    server.kill();
    server.start_again();
    server.wait("nodes", &[daemon.iqn()], &[]);
    daemon.kill();
    server.wait("nodes", &[], &[daemon.iqn()]);
}

/// Without inquiries the registration is kept by looking it up within the period; a server that comes late is found.
#[test]
fn a_registration_without_inquiries_is_kept_by_looking_it_up() {
    let mut server = Server::start(4);
    server.kill();
    let daemon = Daemon::start(&DaemonConfig {
        volumes: vec![VolumeSpec::standard("disk", "1MiB")],
        initiators: String::new(),
        extra: format!(
            "[isns]\nserver = \"localhost:{}\"\nentity = \"here\"\nesi_interval = 0\n",
            server.port
        ),
    });
    server.start_again();
    server.wait("entities", &["here"], &[]);
    server.wait("nodes", &[daemon.iqn()], &[]);
    let registered = Instant::now();
    while registered.elapsed() < Duration::from_secs(9) {
        assert!(server.list("nodes").contains(daemon.iqn()), "{}", server.log());
        thread::sleep(Duration::from_millis(200));
    }
    assert!(!server.log().contains("Sending ESI message"));
}

/// RFC 7143 13.6: a target that has an alias says so at login.
#[test]
fn a_target_says_its_alias_at_login() {
    let daemon = crate::daemon();
    let text = format!(
        "InitiatorName=iqn.2026-11.test:a TargetName={} SessionType=Normal",
        daemon.iqn()
    );
    let login = || Wire::connect(daemon.port()).login(crate::TO_FULL, &text).2;
    assert!(!login().contains("TargetAlias"));
    let first = format!("iqn = \"{}\"", daemon.iqn());
    daemon.reconfigure(&first, &format!("{first}\nalias = \"the-first\""));
    assert!(login().contains("TargetAlias=the-first "));
}
