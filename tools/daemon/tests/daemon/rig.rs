//! A daemon of a test's own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

pub(crate) fn holdfastd(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfastd"));
    command
        .current_dir(directory)
        .arg("--config")
        .arg("a.toml")
        .stdin(Stdio::null());
    command
}

pub(crate) const CONFIG: &str = r#"
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

/// A running daemon; dropping it kills it.
pub(crate) struct Daemon {
    pub(crate) directory: TempDir,
    pub(crate) child: Child,
    pub(crate) greeting: String,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.toml"), CONFIG).unwrap();
        Self::start_in(directory)
    }

    /// On the directory as it is.
    pub(crate) fn start_in(directory: TempDir) -> Self {
        let command = holdfastd(directory.path());
        Self::start_as(directory, command)
    }

    /// By a command of the test's.
    pub(crate) fn start_as(directory: TempDir, mut command: Command) -> Self {
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
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

    pub(crate) fn volumes(&self) -> usize {
        self.request("GET", "/v1/volumes", "").1["volumes"]
            .as_array()
            .unwrap()
            .len()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM, and the end of it.
    pub(crate) fn stop(self) {
        self.stop_and_keep();
    }

    /// As [`Self::stop`]; gives the directory, to start on it again.
    pub(crate) fn stop_and_keep(self) -> TempDir {
        self.signal(rustix::process::Signal::TERM);
        self.ended()
    }

    /// Waits for the orderly end of one that was told to stop.
    pub(crate) fn ended(mut self) -> TempDir {
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.log());
        assert!(!self.path("state/admin.sock").exists());
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }

    /// SIGKILL; gives the directory.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// An administrative request that must be accepted.
    pub(crate) fn post(&self, path: &str, body: &serde_json::Value) -> serde_json::Value {
        let (status, answer) = self.request("POST", path, &body.to_string());
        assert_eq!(status, 200, "{path}: {answer}\n{}", self.log());
        answer
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
