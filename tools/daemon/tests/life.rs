//! The program itself: check, serve, say `ready`, reload, refuse a second daemon, stop.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

fn holdfastd(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfastd"));
    command
        .current_dir(directory)
        .arg("--config")
        .arg("a.toml")
        .stdin(Stdio::null());
    command
}

const CONFIG: &str = r#"
[system]
id = "HF-LIFE"
state_dir = "state"

[iscsi]
portals = ["127.0.0.1:0"]

[[volume]]
number = 1
name = "prod"
size = "16MiB"
file = "prod.img"

[[volume]]
number = 2
name = "bcv"
class = "mirror"
size = "16MiB"
memory = true

[[target]]
iqn = "iqn.2026-11.io.holdfast:life"
luns = [{ lun = 0, volume = 1 }, { lun = 1, volume = 2 }]
"#;

struct Daemon {
    directory: TempDir,
    child: Child,
    greeting: String,
}

impl Daemon {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.toml"), CONFIG).unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let mut child = holdfastd(directory.path())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut greeting = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while !greeting.ends_with("\nready\n") {
            assert!(
                stdout.read_line(&mut greeting).unwrap() > 0,
                "ended before ready: {greeting}"
            );
        }
        Self {
            directory,
            child,
            greeting,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn request(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        let mut stream = UnixStream::connect(self.path("state/admin.sock")).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    fn volumes(&self) -> usize {
        self.request("GET", "/v1/volumes", "").1["volumes"]
            .as_array()
            .unwrap()
            .len()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn stop(mut self) -> Output {
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0));
        assert!(!self.path("state/admin.sock").exists());
        holdfastd(self.directory.path()).arg("--check").output().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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
    let checked = daemon.stop();
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
