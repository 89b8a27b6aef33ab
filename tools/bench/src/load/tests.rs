//! The load generator and the floor against each other, in one process: each engine, store and way of sending data.

use std::{net::TcpListener, thread};

use clap::Parser as _;

use super::{
    Phase, Session, SessionError, Stage, Tally,
    worker::{Order, Work, Worker},
};
use crate::{
    arguments::{Arguments, Command, FloorArguments, LoadArguments},
    floor::{self, Store},
};

const SIZE: &str = "4m";

/// A floor that serves until the process ends, and what a load says that goes there.
fn load(floor: &str, load: &str) -> LoadArguments {
    let Command::Floor(arguments) = parsed("floor", &format!("--size {SIZE} --for 3600 {floor}")) else {
        panic!("not a floor")
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let store: &'static Store = Box::leak(Box::new(Store::open(&arguments).unwrap()));
    thread::spawn(move || serve(&arguments, store, listener));
    let Command::Load(mut arguments) = parsed("load", load) else {
        panic!("not a load")
    };
    arguments.access.addr = address.to_string();
    arguments
}

fn parsed(command: &str, line: &str) -> Command {
    let words = ["iscsi-bench", command]
        .into_iter()
        .chain(line.split_whitespace());
    Arguments::parse_from(words).command
}

fn serve(arguments: &FloorArguments, store: &'static Store, listener: TcpListener) {
    floor::serve(arguments, store, listener).unwrap();
}

/// Fills, then issues so many commands on each session, and awaits them.
fn run(arguments: &LoadArguments, commands: u64) -> Result<Tally, SessionError> {
    let count = arguments.sessions;
    let mut sessions = (0..count)
        .map(|index| Session::open(&arguments.access, &arguments.shape, index, count))
        .collect::<Result<Vec<_>, _>>()?;
    let mut order = Order {
        access: &arguments.access,
        shape: &arguments.shape,
        work: Work::Fill,
    };
    let stage = Stage::default();
    let (mut tally, filled) = Worker::new(order, sessions)?.run(&stage)?;
    assert_eq!((tally.errors, tally.reads), (0, 0));
    sessions = filled;
    order.work = Work::Load;
    let mut worker = Worker::new(order, sessions)?;
    worker.limit(commands);
    let (loaded, sessions) = worker.run(&stage)?;
    assert_eq!(loaded.reads + loaded.writes, commands * u64::from(count));
    assert_eq!(
        loaded.bytes,
        commands * u64::from(count) * arguments.shape.bs as u64
    );
    tally.merge(&loaded);
    sessions.into_iter().for_each(Session::logout);
    Ok(tally)
}

fn assert_right(floor: &str, line: &str) {
    let arguments = load(floor, line);
    // Some megabytes: a debug build verifies slowly.
    let commands = ((2 << 20) / arguments.shape.bs as u64).clamp(16, 200);
    let tally = run(&arguments, commands).unwrap_or_else(|error| panic!("{floor} / {line}: {error}"));
    assert_eq!((tally.errors, tally.bad), (0, 0), "{floor} / {line}");
    assert!(
        tally.reads > 0 && tally.writes > 0 && tally.latency.count() > 0,
        "{floor} / {line}"
    );
}

const SHAPES: [&str; 5] = [
    "--verify --read 70 --bs 4k --qd 32",
    "--verify --read 70 --bs 4k --qd 8 --sessions 3 --digest both",
    "--verify --read 50 --bs 1m --qd 4 --no-discard",
    "--verify --read 50 --bs 512k --qd 2 --immediate no --initial-r2t yes --max-burst 128k --digest data",
    "--verify --read 50 --bs 512k --qd 2 --sessions 2 --immediate no --first-burst 64k --digest header",
];

#[test]
fn what_epoll_engines_keep_is_read_again() {
    for shape in SHAPES {
        assert_right("--engine epoll", shape);
        assert_right("--engine epoll-unbatched --spin-us 50", shape);
    }
}

#[test]
fn what_tokio_engines_keep_is_read_again() {
    for shape in SHAPES {
        assert_right("--engine tokio", shape);
        assert_right("--engine tokio-multi", shape);
    }
    assert_right("--engine tokio-handoff", SHAPES[0]);
}

#[test]
fn what_is_kept_in_a_file_is_read_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(4 << 20).unwrap();
    for back in ["pread", "mem"] {
        for shape in SHAPES {
            assert_right(
                &format!("--engine threads --back {back} --file {}", file.path().display()),
                shape,
            );
        }
    }
}

#[test]
fn what_nobody_keeps_is_neither_verified_nor_wrong() {
    for shape in [
        "--bs 4k --qd 16 --read 50",
        "--bs 1m --qd 4 --read 50 --seq",
        "--bs 128k --qd 4 --read 50 --sessions 2",
    ] {
        assert_right("--back null", shape);
    }
}

#[test]
fn other_content_than_was_written_is_bad() {
    let mut arguments = load("", "--verify --bs 4k --qd 4");
    assert_eq!(run(&arguments, 50).unwrap().bad, 0);
    let session = Session::open(&arguments.access, &arguments.shape, 0, 1).unwrap();
    arguments.shape.seed = 2;
    let order = Order {
        access: &arguments.access,
        shape: &arguments.shape,
        work: Work::Load,
    };
    let mut worker = Worker::new(order, vec![session]).unwrap();
    worker.limit(50);
    assert_eq!(worker.run(&Stage::default()).unwrap().0.bad, 50);
}

#[test]
fn a_load_ends_when_its_stage_does() {
    let arguments = load("", "--bs 4k --qd 8");
    let session = Session::open(&arguments.access, &arguments.shape, 0, 1).unwrap();
    let order = Order {
        access: &arguments.access,
        shape: &arguments.shape,
        work: Work::Load,
    };
    let stage = Stage::default();
    stage.enter(Phase::Ending);
    let (tally, sessions) = Worker::new(order, vec![session]).unwrap().run(&stage).unwrap();
    assert_eq!((tally.reads, sessions.len()), (0, 1));
}

#[test]
fn what_does_not_fit_the_lun_is_refused() {
    let open = |line: &str| {
        let arguments = load("", line);
        Session::open(&arguments.access, &arguments.shape, 0, 1)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(open("--bs 16m"), "8192 blocks are less than one command");
    assert_eq!(open("--span 2k"), "4 blocks are less than one command");
}

#[test]
fn single_commands_are_carried_out() {
    let arguments = load("", "");
    let mut session = Session::open(&arguments.access, &arguments.shape, 0, 1).unwrap();
    assert_eq!((session.blocks, session.block_length), (8192, 512));
    assert!(session.write_once(0, 8, &[7; 4096]).unwrap() > 0);
    assert!(session.read_once(0, 8, 4096).unwrap() > 0);
    assert_eq!(
        session.read_once(0, 8192, 512).unwrap_err().to_string(),
        "opcode 0x88 ends with CHECK CONDITION again and again"
    );
    session.logout();
    let session = Session::log_in(&arguments.access, 1).unwrap();
    assert!(
        session
            .describe()
            .starts_with("hd=false dd=false ImmediateData=true InitialR2T=false target MRDSL=262144")
    );
    session.logout();
}
