//! A daemon of the test's own.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    commands, free_port,
    initiator::{Completion, Initiator, Manner},
    program,
    store::Store,
    tool,
};

/// A volume of a test's configuration.
#[derive(Debug, Clone)]
pub struct VolumeSpec {
    /// Name; its number is its place in the list, from 1, and its LUN one less.
    pub name: &'static str,
    /// "standard" or "mirror".
    pub class: &'static str,
    /// As in the configuration: "256MiB".
    pub size: &'static str,
    /// 512 or 4096.
    pub block_size: u32,
    /// At least `block_size`.
    pub physical_block_size: u32,
    /// RMB.
    pub removable: bool,
    /// The LUN is read-only.
    pub read_only: bool,
    /// Most that it may allocate, as in the configuration.
    pub quota: Option<&'static str>,
    /// Further keys, as text.
    pub keys: String,
}

impl VolumeSpec {
    /// A standard of 512-byte blocks.
    pub fn standard(name: &'static str, size: &'static str) -> Self {
        Self {
            name,
            class: "standard",
            size,
            block_size: 512,
            physical_block_size: 512,
            removable: false,
            read_only: false,
            quota: None,
            keys: String::new(),
        }
    }

    /// A mirror of 512-byte blocks.
    pub fn mirror(name: &'static str, size: &'static str) -> Self {
        Self {
            class: "mirror",
            ..Self::standard(name, size)
        }
    }
}

/// What a test's daemon serves.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    /// Volumes, all mapped on the one target.
    pub volumes: Vec<VolumeSpec>,
    /// `[[target.initiator]]` tables, as text; empty: any initiator.
    pub initiators: String,
    /// Further tables, as text: `[replication]` and the like.
    pub extra: String,
}

impl DaemonConfig {
    /// One standard and two mirrors of `size`.
    pub fn trio(size: &'static str) -> Self {
        Self {
            volumes: vec![
                VolumeSpec::standard("prod", size),
                VolumeSpec::mirror("bcv1", size),
                VolumeSpec::mirror("bcv2", size),
            ],
            initiators: String::new(),
            extra: String::new(),
        }
    }
}

/// A running `holdfastd`. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    /// Go before the directory that they lie in.
    stores: Vec<Store>,
    directory: TempDir,
    port: u16,
    child: Option<Child>,
    iqn: &'static str,
    /// Environment of the daemon.
    variables: Vec<(String, String)>,
    /// A program, with arguments, that executes the daemon.
    launcher: Vec<String>,
}

/// The one target of a test's daemon.
const IQN: &str = "iqn.2026-11.io.holdfast:test";

/// The target of the embedded default.
const DEFAULT_IQN: &str = "iqn.2026-11.io.holdfast:default";

impl Daemon {
    /// Writes the configuration and starts the daemon; returns when it says `ready`.
    pub fn start(config: &DaemonConfig) -> Self {
        Self::start_with(config, &[])
    }

    /// As [`Self::start`], with these variables in the daemon's environment.
    pub fn start_with(config: &DaemonConfig, variables: &[(&str, &str)]) -> Self {
        Self::start_on(config, variables, |_| Vec::new())
    }

    /// As [`Self::start_with`], executed by another program: `ip netns exec NAME`.
    pub fn start_by(launcher: &[&str], config: &DaemonConfig, variables: &[(&str, &str)]) -> Self {
        let launcher = launcher.iter().map(|word| (*word).to_owned()).collect();
        Self::start_as(launcher, config, variables, |_| Vec::new())
    }

    /// As [`Self::start_with`], on stores that are made in the daemon's directory before it starts.
    pub fn start_on(
        config: &DaemonConfig,
        variables: &[(&str, &str)],
        stores: impl FnOnce(&Path) -> Vec<Store>,
    ) -> Self {
        Self::start_as(Vec::new(), config, variables, stores)
    }

    fn start_as(
        launcher: Vec<String>,
        config: &DaemonConfig,
        variables: &[(&str, &str)],
        stores: impl FnOnce(&Path) -> Vec<Store>,
    ) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("holdfast-test-")
            .tempdir()
            .expect("a temporary directory");
        let mut daemon = Self {
            stores: stores(directory.path()),
            directory,
            port: free_port(),
            child: None,
            iqn: IQN,
            variables: Vec::new(),
            launcher,
        };
        fs::write(daemon.path("config.toml"), daemon.text(config)).expect("the directory is ours");
        for (name, value) in variables {
            daemon.set_variable(name, value);
        }
        daemon.start_again();
        daemon
    }

    /// The embedded default, as a newcomer starts it, but for the portal's port and these variables.
    pub fn start_default(variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("holdfast-test-")
            .tempdir()
            .expect("a temporary directory");
        let mut daemon = Self {
            stores: Vec::new(),
            directory,
            port: free_port(),
            child: None,
            iqn: DEFAULT_IQN,
            variables: Vec::new(),
            launcher: Vec::new(),
        };
        daemon.variables = vec![
            (
                "HOLDFAST__ISCSI__PORTALS".to_owned(),
                format!("127.0.0.1:{}", daemon.port),
            ),
            (
                "HOLDFAST__ADMIN__HTTP".to_owned(),
                format!("127.0.0.1:{}", free_port()),
            ),
        ];
        daemon.variables.extend(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        daemon.start_again();
        daemon
    }

    fn text(&self, config: &DaemonConfig) -> String {
        let directory = self.directory.path().display();
        let mut text = format!(
            "[system]\nid = \"HF-TEST\"\nstate_dir = \"{directory}/state\"\n\n\
             [iscsi]\nportals = [\"127.0.0.1:{}\"]\n\n[admin]\nsocket = \"{directory}/admin.sock\"\n\n{}\n",
            self.port, config.extra
        );
        for (index, volume) in config.volumes.iter().enumerate() {
            let VolumeSpec {
                name,
                class,
                size,
                block_size,
                physical_block_size,
                removable,
                quota,
                keys,
                ..
            } = volume;
            let quota = quota.map_or_else(String::new, |quota| format!("quota = \"{quota}\"\n"));
            write!(
                text,
                "[[volume]]\nnumber = {}\nname = \"{name}\"\nclass = \"{class}\"\nsize = \"{size}\"\n\
                 file = \"{directory}/{name}.img\"\nblock_size = {block_size}\n\
                 physical_block_size = {physical_block_size}\nremovable = {removable}\n{quota}{keys}\n",
                index + 1
            )
            .expect("a String takes all");
        }
        let luns: Vec<String> = config
            .volumes
            .iter()
            .enumerate()
            .map(|(lun, v)| {
                format!(
                    "{{ lun = {lun}, volume = {}, read_only = {} }}",
                    lun + 1,
                    v.read_only
                )
            })
            .collect();
        write!(
            text,
            "[[target]]\niqn = \"{IQN}\"\nluns = [{}]\n\n{}\n",
            luns.join(", "),
            config.initiators
        )
        .expect("a String takes all");
        text
    }

    /// Sets a variable in the environment of the next start.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// A store that [`Self::start_on`] made.
    pub fn store(&mut self, index: usize) -> &mut Store {
        &mut self.stores[index]
    }

    /// Starts the daemon on the directory as it is; returns when it says `ready`.
    pub fn start_again(&mut self) {
        let ready = self.spawn();
        assert!(
            ready.recv_timeout(Duration::from_secs(60)).is_ok(),
            "holdfastd did not become ready:\n{}",
            self.log()
        );
    }

    /// Starts the daemon, which is expected to end by itself, and says how.
    pub fn start_in_vain(&mut self) -> ExitStatus {
        let ready = self.spawn();
        assert!(
            ready.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Disconnected),
            "holdfastd became ready, or does not end:\n{}",
            self.log()
        );
        self.child
            .take()
            .expect("it was started")
            .wait()
            .expect("our child")
    }

    /// Starts the daemon and kills it after some time, ready or not.
    pub fn start_and_kill(&mut self, after: Duration) {
        let _ready = self.spawn();
        thread::sleep(after);
        self.kill();
    }

    /// Hears `ready` once; ends with the daemon's standard output.
    fn spawn(&mut self) -> mpsc::Receiver<()> {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("daemon.log"))
            .expect("the directory is ours");
        let mut command = match self.launcher.split_first() {
            None => Command::new(program("holdfastd")),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program("holdfastd"));
                command
            }
        };
        if self.path("config.toml").exists() {
            command.arg("--config").arg(self.path("config.toml"));
        }
        let mut child = command
            .envs(self.variables.iter().cloned())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("holdfastd starts");
        let stdout = child.stdout.take().expect("piped");
        self.child = Some(child);
        let (sender, ready) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line == "ready" {
                    let _ = sender.send(());
                }
            }
        });
        ready
    }

    /// SIGKILL, and wait for the end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our child");
            child.wait().expect("our child");
        }
    }

    /// SIGKILL after some time, by a thread of its own; joining it waits for the end.
    pub fn kill_after(&mut self, time: Duration) -> thread::JoinHandle<()> {
        self.kill_when(move || thread::sleep(time))
    }

    /// SIGKILL when `moment` returns, by a thread of its own; joining it waits for the end.
    pub fn kill_when(&mut self, moment: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
        let mut child = self.child.take().expect("it runs");
        thread::spawn(move || {
            moment();
            child.kill().expect("our child");
            child.wait().expect("our child");
        })
    }

    /// SIGTERM; the daemon must drain, flush and exit 0.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let status = tool::call("kill", &["-TERM".to_owned(), child.id().to_string()]);
        assert!(status.status.success(), "kill: {}", status.said());
        let (sender, ended) = mpsc::channel();
        let waiter = thread::spawn(move || sender.send(child.wait()));
        match ended.recv_timeout(Duration::from_secs(30)) {
            Ok(status) => {
                let status = status.expect("our child");
                assert!(status.success(), "holdfastd ended with {status}:\n{}", self.log());
            }
            Err(error) => panic!("holdfastd does not stop ({error}):\n{}", self.log()),
        }
        let _ = waiter.join();
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// A path in the test's directory.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The portal's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// The target's name.
    pub fn iqn(&self) -> &'static str {
        self.iqn
    }

    /// The URL of a LUN as libiscsi, qemu and `holdfast --iscsi` take it.
    pub fn url(&self, lun: u16) -> String {
        format!("iscsi://127.0.0.1:{}/{}/{lun}", self.port, self.iqn)
    }

    /// A session of a host.
    pub fn host(&self) -> Initiator {
        let manner = Manner {
            name: "iqn.2026-11.io.holdfast:host".to_owned(),
            immediate_data: true,
            digests: false,
        };
        Initiator::login(self.port, self.iqn, &manner)
    }

    /// One command of a host that comes for it alone.
    pub fn run(&self, lun: u16, command: &commands::Command) -> Completion {
        self.host().run(lun, command).expect("connected")
    }

    /// `holdfast` over the admin socket.
    pub fn holdfast(&self, arguments: &[&str]) -> tool::Run {
        let mut command = Command::new(program("holdfast"));
        command
            .arg("--admin")
            .arg(self.path("admin.sock"))
            .args(arguments);
        tool::run(&mut command, Duration::from_secs(120))
    }

    /// As [`Self::holdfast`]; fails unless it exits 0.
    pub fn holdfast_ok(&self, arguments: &[&str]) -> String {
        let run = self.holdfast(arguments);
        assert_eq!(
            run.code(),
            0,
            "holdfast {arguments:?}: {}\n{}",
            run.said(),
            self.log()
        );
        run.stdout
    }

    /// Puts `after` in the place of `before` in the configuration, and `holdfast reload`.
    pub fn reconfigure(&self, before: &str, after: &str) -> String {
        let path = self.path("config.toml");
        let text = fs::read_to_string(&path).expect("the directory is ours");
        assert!(
            text.contains(before),
            "{before:?} is not in the configuration:\n{text}"
        );
        fs::write(&path, text.replacen(before, after, 1)).expect("the directory is ours");
        self.holdfast_ok(&["reload"])
    }

    /// `query --json` of one pair.
    pub fn pair(&self, primary: &str, mirror: &str) -> serde_json::Value {
        let text = self.holdfast_ok(&["--json", "query", primary, mirror]);
        let document: serde_json::Value = serde_json::from_str(&text).expect("one JSON document");
        document["pairs"][0].clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- holdfastd said:\n{}", self.log());
        }
    }
}
