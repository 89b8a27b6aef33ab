//! A daemon for one measurement, and its admin socket.
use super::Plan;
use crate::arguments::{Access, Shape};
use crate::clock::now_ns;
use crate::compare::free_port;
use crate::load::Session;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const IQN: &str = "iqn.2026-11.io.holdfast:cost";

/// A volume to be made: its number is also its LUN.
pub(crate) struct Volume {
    pub(crate) number: u32,
    pub(crate) mirror: bool,
    pub(crate) size: &'static str,
}

/// The volumes 1 to `standards`, each with so many mirrors, which follow.
pub(crate) fn volumes(standards: u32, mirrors: u32, size: &'static str) -> Vec<Volume> {
    (1..=standards * (1 + mirrors))
        .map(|number| Volume {
            number,
            mirror: number > standards,
            size,
        })
        .collect()
}

pub(crate) struct Daemon {
    child: Child,
    addr: String,
    images: PathBuf,
    socket: PathBuf,
    program: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.images);
        let _ = self.socket.parent().map(fs::remove_dir_all);
    }
}

impl Daemon {
    /// Starts with these volumes, their images below `images`; `extra` is more configuration.
    pub(crate) fn start(plan: &Plan, images: &Path, volumes: &[Volume], extra: &str) -> Self {
        Self::start_as("COST", plan, images, volumes, extra)
    }

    /// Likewise, as this system.
    pub(crate) fn start_as(
        system: &str,
        plan: &Plan,
        images: &Path,
        volumes: &[Volume],
        extra: &str,
    ) -> Self {
        let port = free_port();
        let (images, state) = (
            images.join(format!("v{port}")),
            plan.disk.join(format!("s{port}")),
        );
        for dir in [&images, &state] {
            fs::create_dir_all(dir).expect("a place for images");
        }
        let socket = state.join("admin.sock");
        let mut text = format!(
            "[system]\nid = \"{system}\"\nstate_dir = \"{}\"\n[iscsi]\nportals = [\"127.0.0.1:{port}\"]\n{extra}\n",
            state.display()
        );
        let mut luns = Vec::new();
        for Volume { number, mirror, size } in volumes {
            let class = if *mirror { "mirror" } else { "standard" };
            let _ = write!(
                text,
                "[[volume]]\nnumber = {number}\nname = \"v{number}\"\nclass = \"{class}\"\nsize = \"{size}\"\nfile = \"{}/{number}.img\"\n",
                images.display()
            );
            luns.push(format!("{{ lun = {number}, volume = {number} }}"));
        }
        let _ = write!(
            text,
            "[[target]]\niqn = \"{IQN}\"\nluns = [{}]\n",
            luns.join(", ")
        );
        let config = state.join("cost.toml");
        fs::write(&config, text).expect("the directory is writable");
        let mut child = Command::new(plan.product.join("holdfastd"))
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("holdfastd starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line == "ready"));
        assert!(ready, "holdfastd ended before it was ready");
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            addr: format!("127.0.0.1:{port}"),
            images,
            socket,
            program: plan.product.join("holdfast"),
        }
    }

    /// The command line's output; it must succeed.
    pub(crate) fn holdfast(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.program)
            .arg("--admin")
            .arg(&self.socket)
            .args(arguments)
            .output()
            .expect("holdfast starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "holdfast {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn image(&self, number: u32) -> PathBuf {
        self.images.join(format!("{number}.img"))
    }

    /// A session for single commands.
    pub(crate) fn session(&self, lun: u32) -> Session {
        let access = Access {
            lun: u8::try_from(lun).expect("the first volumes"),
            ..self.access()
        };
        Session::open(&access, &Shape::default(), lun, 1).expect("a session")
    }

    /// A session that only logs in, under a name of its own.
    pub(crate) fn bare_session(&self) -> Session {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let access = Access {
            initiator: format!("iqn.2024-01.bench:host-{number}"),
            ..self.access()
        };
        Session::log_in(&access, number).expect("a session")
    }

    fn access(&self) -> Access {
        Access {
            addr: self.addr.clone(),
            iqn: IQN.to_owned(),
            ..Access::default()
        }
    }

    /// A load generator on a volume, which ends by itself.
    pub(crate) fn load(&self, lun: u32, arguments: &[&str], seconds: &str) -> Child {
        let own = std::env::current_exe().expect("a running program has a path");
        let (lun, pid) = (lun.to_string(), self.pid().to_string());
        Command::new(own)
            .args([
                "load", "--addr", &self.addr, "--iqn", IQN, "--lun", &lun, "--pid", &pid,
            ])
            .args(["--warm", "0.2", "--time", seconds])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the generator starts")
    }

    /// POST; the answer and the nanoseconds.
    fn post(&self, path: &str, body: &Value) -> (Value, u64) {
        let body = body.to_string();
        let mut stream = UnixStream::connect(&self.socket).expect("the admin socket");
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: holdfastd\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let begun = now_ns();
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let nanos = now_ns() - begun;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        (serde_json::from_str(body).expect("a document"), nanos)
    }

    /// An OUT verb for pairs, as one command; its nanoseconds.
    pub(crate) fn out(&self, verb: &str, flags: &[&str], pairs: &[(u32, u32)]) -> u64 {
        let names = ["full", "instant", "protected", "strict_hold", "remote", "force"];
        let flags: serde_json::Map<_, _> = names
            .iter()
            .map(|name| ((*name).to_owned(), flags.contains(name).into()))
            .collect();
        let verb = if verb == "establish" {
            json!({"establish": {"remote": null}})
        } else {
            json!(verb)
        };
        let members: Vec<_> = pairs
            .iter()
            .map(|(primary, mirror)| json!({"primary": primary, "mirror": mirror}))
            .collect();
        let request =
            json!({"request": {"out": {"verb": verb, "flags": flags, "members": members, "dry_run": false}}});
        self.post("/v1/control", &request).1
    }

    /// Waits for the end of a pair's copy.
    pub(crate) fn settled(&self, (primary, mirror): (u32, u32)) {
        let (answer, _) = self.post(
            "/v1/wait",
            &json!({"pairs": {"one": [primary, mirror]}, "timeout": 900}),
        );
        assert_eq!(answer["timed_out"], false, "the copy takes more than 15 minutes");
    }

    /// Likewise, of all these pairs.
    pub(crate) fn all_settled(&self, pairs: &[(u32, u32)]) {
        for pair in pairs {
            self.settled(*pair);
        }
    }

    /// A pair as QUERY shows it, and the nanoseconds that took.
    pub(crate) fn query(&self, (primary, mirror): (u32, u32)) -> (Value, u64) {
        let (answer, nanos) = self.post(
            "/v1/control",
            &json!({"request": {"query": {"one": [primary, mirror]}}}),
        );
        (answer["ok"]["pairs"][0].clone(), nanos)
    }
}

/// The generator's JSON line.
pub(crate) fn result(child: Child) -> Value {
    let output = child.wait_with_output().expect("the generator ends");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim()).unwrap_or_else(|_| panic!("the generator said {text:?}"))
}
