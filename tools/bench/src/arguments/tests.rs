use clap::{CommandFactory as _, error::ErrorKind};

use super::*;

fn load(line: &str) -> Result<LoadArguments, clap::Error> {
    let words = ["iscsi-bench", "load"].into_iter().chain(line.split_whitespace());
    match Arguments::try_parse_from(words)?.command {
        Command::Load(arguments) => Ok(arguments),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_commands_are_well_formed() {
    Arguments::command().debug_assert();
}

#[test]
fn sizes_have_units_and_anything_else_is_refused_by_name() {
    for (text, expected) in [
        ("0", Ok(0)),
        ("4096", Ok(4096)),
        ("4k", Ok(4096)),
        ("1M", Ok(1 << 20)),
        ("16g", Ok(16 << 30)),
        ("", Err(NumberError::NotBytes)),
        ("k", Err(NumberError::NotBytes)),
        ("+4k", Err(NumberError::NotBytes)),
        ("-1", Err(NumberError::NotBytes)),
        ("4kk", Err(NumberError::NotBytes)),
        ("1.5m", Err(NumberError::NotBytes)),
        ("4 k", Err(NumberError::NotBytes)),
        ("4\u{212a}", Err(NumberError::NotBytes)),
        ("18446744073709551616", Err(NumberError::TooLarge)),
        ("17179869184g", Err(NumberError::TooLarge)),
    ] {
        assert_eq!(bytes(text), expected, "{text}");
    }
}

#[test]
fn a_load_as_the_readme_has_it() {
    let arguments = load(
        "--addr 127.0.0.1:3260 --iqn IQN --lun 0 --sessions 1 --qd 32 --bs 4k --read 70 --time 3 --warm 0.5 --pid 7,8",
    )
    .unwrap();
    assert_eq!(
        (arguments.shape.qd, arguments.shape.bs, arguments.shape.read),
        (32, 4096, 70)
    );
    assert_eq!(arguments.pid, [7, 8]);
    assert!(!arguments.shape.seq && arguments.access.immediate.is_yes());
}

#[test]
fn without_arguments_the_defaults_hold() {
    let LoadArguments {
        access,
        shape,
        warm,
        time,
        pid,
        ..
    } = load("").unwrap();
    assert_eq!(
        (access.first_burst, access.max_burst, access.mrdsl),
        (256 << 10, 1 << 20, 256 << 10)
    );
    assert!(!access.initial_r2t.is_yes() && access.digest == Digests::None);
    assert_eq!(
        (shape.qd, shape.bs, shape.read, shape.span, shape.seed),
        (1, 4096, 100, 0, 1)
    );
    assert!((warm - 0.5).abs() < 1e-9 && (time - 3.0).abs() < 1e-9 && pid.is_empty());
    assert_eq!(
        (Access::default().addr, Shape::default().bs),
        (access.addr, shape.bs)
    );
}

/// `compare` gives some keys of its own, and then those of the load.
#[test]
fn of_two_the_last_counts() {
    assert!(load("--warm 0.3 --time 1 --warm 0").unwrap().warm.abs() < 1e-9);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "--bs 4x",
        "--bs 100",
        "--bs 0",
        "--bs 1g",
        "--qd 0",
        "--qd many",
        "--time -1",
        "--time NaN",
        "--sessions 0",
        "--threads 0",
        "--lun 256",
        "--immediate maybe",
        "--digest crc",
        "--mrdsl 16m",
        "--pid x",
    ] {
        let error = load(line).unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::UnknownArgument
            ),
            "{line}: {error}"
        );
    }
    let refused = |line: &str| Arguments::try_parse_from(line.split(' ')).unwrap_err().kind();
    assert_eq!(
        refused("iscsi-bench floor --back pread"),
        ErrorKind::MissingRequiredArgument
    );
    assert_eq!(
        refused("iscsi-bench floor --engine none"),
        ErrorKind::InvalidValue
    );
    assert_eq!(refused("iscsi-bench cost --only 9"), ErrorKind::ValueValidation);
    assert_eq!(
        refused("iscsi-bench compare --only loads"),
        ErrorKind::InvalidValue
    );
    assert_eq!(refused("iscsi-bench load stray"), ErrorKind::UnknownArgument);
}
