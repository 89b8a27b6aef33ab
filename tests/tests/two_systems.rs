//! The README's ten minutes with two systems: what it says to type is typed, in one shell, and what it shows appears.

use std::{fmt::Write as _, fs, process::Command, time::Duration};

use holdfast_tests::{free_port, program, repository, tool};

const LONG: Duration = Duration::from_secs(120);
const SECTION: &str = "## Ten minutes with two systems";
/// Between the commands in what the shell says.
const MARK: &str = "@@@";

/// A command, and what the README shows below it.
struct Step {
    command: String,
    shown: Vec<String>,
}

fn steps(section: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut in_function = false;
    for line in section.lines().filter_map(|line| line.strip_prefix("    ")) {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => {
                in_function = command.contains("<<END");
                steps.push(Step {
                    command: command.to_owned(),
                    shown: Vec::new(),
                });
            }
            (None, Some(step)) if in_function => {
                write!(step.command, "\n{line}").expect("a String takes all");
                in_function = line != "}";
            }
            (None, Some(step)) => step.shown.push(line.to_owned()),
            (None, None) => panic!("the section begins with {line:?}, which is no command"),
        }
    }
    steps
}

/// Word by word, where times, sizes and rates may be others; a dash at the end stands for whatever is there.
fn is_like(shown: &str, said: &str) -> bool {
    let number = |word: &str| word.contains(|c: char| c.is_ascii_digit());
    let mut said = said.split_whitespace();
    let mut words = shown.split_whitespace().peekable();
    while let Some(word) = words.next() {
        if word == "-" && words.peek().is_none() {
            return true;
        }
        let Some(other) = said.next() else { return false };
        if word != other && !(number(word) && number(other)) {
            return false;
        }
    }
    said.next().is_none()
}

fn check(step: &Step, said: &str) {
    let mut rest = said.lines();
    for shown in &step.shown {
        // Progress: a quick copy has none.
        if !shown.ends_with('%') {
            assert!(
                rest.any(|line| is_like(shown, line)),
                "{}\ndoes not say: {shown}\nbut:\n{said}",
                step.command
            );
        }
    }
}

#[test]
fn the_readme_tour_of_two_systems() {
    let readme = fs::read_to_string(repository().join("README.md")).expect("README.md");
    let (_, section) = readme.split_once(SECTION).expect("the README has the tour");
    let mut section = section.split("\n## ").next().expect("a section").to_owned();
    for port in ["3260", "3270", "3361", "3362"] {
        section = section.replace(port, &free_port().to_string());
    }
    let steps = steps(&section);
    let linked = r#"until $A --json link 2>&1 | grep -q '"latency_us":[0-9]'; do sleep 0.1; done"#;
    let mut script = "trap 'kill $(jobs -p) 2>&1' EXIT\n".to_owned();
    for step in &steps {
        if step.command == "$A link" {
            writeln!(script, "{linked}").expect("a String takes all");
        }
        writeln!(script, "{}\necho \"{MARK} $?\"", step.command).expect("a String takes all");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let programs = program("holdfast");
    let programs = programs.parent().expect("a program is in a directory").display();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    fs::write(directory.path().join("tour.sh"), script).expect("ours");
    // Its time over, all that it started ends with it.
    let mut shell = Command::new("timeout");
    shell.args(["100", "bash", "-c", "exec 2>&1; . ./tour.sh"]);
    shell.current_dir(&directory).env("PATH", path);
    let run = tool::run(&mut shell, LONG);
    let mut said = run.stdout.split(MARK);
    let mut output = said.next().unwrap_or_default();
    for step in &steps {
        let after = said
            .next()
            .unwrap_or_else(|| panic!("{}: {}", step.command, run.said()));
        let (status, next) = after.split_once('\n').unwrap_or((after, ""));
        assert_eq!(status.trim(), "0", "{}\n{output}", step.command);
        check(step, output);
        output = next;
    }
    assert!(steps.len() > 20, "{} commands", steps.len());
}
