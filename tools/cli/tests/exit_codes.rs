//! Exit codes and output of the program itself, against a daemon that answers from a script.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixListener,
    path::PathBuf,
    process::{Command, Output},
    thread,
};

use tempfile::TempDir;

const CAPABILITIES: &str = r#"{"ok":{"capabilities":{"system":"HF-A","pairs_per_volume":64,"list_descriptors":1024,"track_size":65536,"version":"0.1.0"}}}"#;
const VOLUMES: &str = r#"{"ok":{"volumes":[]}}"#;

/// A socket that gives these answers, one to each request, and then ends.
struct Daemon {
    directory: TempDir,
}

impl Daemon {
    fn answering(answers: &[(u16, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let answers: Vec<(u16, String)> = answers
            .iter()
            .map(|(status, body)| (*status, (*body).to_owned()))
            .collect();
        thread::spawn(move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                    request.push(byte[0]);
                }
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}"
                )
                .unwrap();
            }
        });
        Self { directory }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    fn holdfast(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_holdfast"))
            .arg("--admin")
            .arg(self.socket())
            .args(arguments)
            .output()
            .unwrap()
    }
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command
        .env("HOLDFAST_ADMIN", "/nonexistent/admin.sock")
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn verify(selected: u32, in_state: u32) -> String {
    format!(
        r#"{{"ok":{{"verify":{{"selected":{selected},"in_state":{in_state},"settled":0,"invalid_tracks":0,"lowest_share":10000}}}}}}"#
    )
}

#[test]
fn usage_is_2() {
    for arguments in [
        &["frobnicate"][..],
        &["split", "1"],
        &["verify", "--state", "mirrored"],
        &["split", "1", "2", "--timeout", "1"],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let both = run(&["--admin", "x", "--iscsi", "iscsi://h/iqn.a/0", "query"]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn no_daemon_is_6_and_says_where_it_looked() {
    let output = run(&["query"]);
    assert_eq!(output.status.code(), Some(6));
    assert!(
        text(&output.stderr).contains("/nonexistent/admin.sock"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(
        run(&["--device", "/nonexistent/sg0", "query"]).status.code(),
        Some(6)
    );
    assert_eq!(
        run(&["--iscsi", "iscsi://127.0.0.1:1/iqn.a/0", "query"])
            .status
            .code(),
        Some(6)
    );
}

#[test]
fn a_text_that_is_no_url_is_usage_and_not_repeated() {
    let output = run(&["--iscsi", "user%a-secret-word@host/iqn.a/0", "query"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("iscsi://") && !said.contains("a-secret-word"),
        "{said}"
    );
}

#[test]
fn a_refusal_is_1_and_gives_the_reason() {
    let refused = r#"{"refused":{"kind":"held","message":"volume 2 is held: `config release` ends that","member":null}}"#;
    let output = Daemon::answering(&[(409, refused)]).holdfast(&["split", "1", "2"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "holdfast: volume 2 is held: `config release` ends that\n"
    );
    assert_eq!(text(&output.stdout), "");

    let output = Daemon::answering(&[(409, refused)]).holdfast(&["--json", "split", "1", "2"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["exit_code"], 1);
    assert_eq!(document["refused"]["kind"], "held");
}

#[test]
fn a_problem_of_administration_is_1() {
    let output = Daemon::answering(&[(409, r#"{"error":"volume 4 is in a pair"}"#)])
        .holdfast(&["volume", "delete", "4"]);
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(1), "holdfast: volume 4 is in a pair\n")
    );
}

#[test]
fn verify_is_0_for_all_3_for_none_4_for_some() {
    for (selected, in_state, code) in [(2, 2, 0), (2, 0, 3), (2, 1, 4), (0, 0, 3)] {
        let daemon = Daemon::answering(&[(200, &verify(selected, in_state))]);
        let output = daemon.holdfast(&["verify", "--state", "duplex"]);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{selected} {in_state}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_wait_that_times_out_is_5() {
    let answer = r#"{"verify":{"selected":1,"in_state":0,"settled":0,"invalid_tracks":1,"lowest_share":1},"timed_out":true}"#;
    let daemon = Daemon::answering(&[(200, answer), (200, answer)]);
    let output = daemon.holdfast(&[
        "--json",
        "verify",
        "--state",
        "duplex",
        "--wait",
        "--timeout",
        "0",
    ]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
}

#[test]
fn query_prints_the_pinned_document() {
    let pair = r#"{"ok":{"pairs":[{"primary":1,"mirror":2,"peer":null,"role":0,"state":2,"held":false,"strictly_held":false,"mirror_ready":false,"history":true,"full":false,"link_up":null,"mode":null,"mirror_inconsistent":false,"track_size":65536,"tracks":16,"mirror_invalid":0,"primary_invalid":0,"remaining":0,"split_at_ms":0,"rate":0,"eta_seconds":null,"reason":"none"}]}}"#;
    let daemon = Daemon::answering(&[(200, pair), (200, CAPABILITIES), (200, VOLUMES)]);
    let output = daemon.holdfast(&["query", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let expected = concat!(
        r#"{"system":"HF-A","pairs":[{"primary":{"number":1,"name":null},"mirror":{"number":2,"name":null},"peer":null,"kind":"local","role":"both","#,
        r#""state":"duplex","mode":null,"held":"none","mirror_ready":false,"history":true,"full":false,"mirror_inconsistent":false,"link_up":null,"#,
        r#""track_size":65536,"tracks":16,"mirror_invalid":0,"primary_invalid":0,"remaining":0,"percent":100.0,"rate":0,"eta_seconds":null,"#,
        r#""split_at":null,"reason":null}]}"#,
        "\n"
    );
    assert_eq!(text(&output.stdout), expected);
}

#[test]
fn help_gives_the_names_of_other_arrays() {
    let help = text(&run(&["--help"]).stdout);
    for name in [
        "SyncInProg",
        "PSUE",
        "symmir restore -protect",
        "pairresync -restore",
    ] {
        assert!(help.contains(name), "{name} is not in\n{help}");
    }
    assert!(text(&run(&["completion", "bash"]).stdout).contains("holdfast"));
}
