use super::*;

const ESTABLISH: Verb = Verb::Establish { full: false };
const ESTABLISH_FULL: Verb = Verb::Establish { full: true };
const SPLIT: Verb = Verb::Split {
    instant: false,
    strict_hold: false,
    force: false,
};
const SPLIT_FORCE: Verb = Verb::Split {
    instant: false,
    strict_hold: false,
    force: true,
};
const RESTORE: Verb = Verb::Restore {
    full: false,
    protected: false,
};
const RESTORE_FULL: Verb = Verb::Restore {
    full: true,
    protected: false,
};
const PROTECTED: Verb = Verb::Restore {
    full: false,
    protected: true,
};
const PROTECTED_FULL: Verb = Verb::Restore {
    full: true,
    protected: true,
};
const CANCEL: Verb = Verb::Cancel { force: false };
const CANCEL_FORCE: Verb = Verb::Cancel { force: true };

/// The table of docs/pairs.md once more, written by hand from there: `.` no-op, `-` refuse, otherwise the first letter(s)
/// of the state after and of the change. Columns in the order of the codes.
const CELLS: [(Verb, [&str; 9]); 10] = [
    //                  simplex      copy         duplex        splitting  split        restoring  restored      prot-restoring suspended
    (
        ESTABLISH,
        [
            "copy All",
            ".",
            ".",
            "-",
            "copy Union",
            "-",
            ".",
            "-",
            "copy Union",
        ],
    ),
    (
        ESTABLISH_FULL,
        [
            "copy All", "copy All", "copy All", "-", "copy All", "-", "copy All", "-", "copy All",
        ],
    ),
    (
        SPLIT,
        [
            "-",
            "splitting Part",
            "split Part",
            ".",
            ".",
            "-",
            "split Part",
            "-",
            "split Keep",
        ],
    ),
    (
        SPLIT_FORCE,
        [
            "-",
            "splitting Part",
            "split Part",
            ".",
            ".",
            "-",
            "split Part",
            "split Stop",
            "split Keep",
        ],
    ),
    (
        RESTORE,
        [
            "-",
            "-",
            "-",
            "-",
            "restoring Union",
            ".",
            ".",
            "-",
            "restoring Union",
        ],
    ),
    (
        RESTORE_FULL,
        [
            "-",
            "-",
            "-",
            "-",
            "restoring All",
            "-",
            "-",
            "-",
            "restoring All",
        ],
    ),
    (
        PROTECTED,
        [
            "-",
            "-",
            "-",
            "-",
            "protected-restoring Union",
            "-",
            "-",
            ".",
            "protected-restoring Union",
        ],
    ),
    (
        PROTECTED_FULL,
        [
            "-",
            "-",
            "-",
            "-",
            "protected-restoring All",
            "-",
            "-",
            ".",
            "protected-restoring All",
        ],
    ),
    (
        CANCEL,
        [
            "-", "simplex", "simplex", "-", "simplex", "-", "simplex", "-", "simplex",
        ],
    ),
    (
        CANCEL_FORCE,
        [
            "-", "simplex", "simplex", "simplex", "simplex", "simplex", "simplex", "simplex", "simplex",
        ],
    ),
];

fn change_letter(change: Change) -> &'static str {
    match change {
        Change::Keep => "Keep",
        Change::OweAll => "All",
        Change::OweUnion => "Union",
        Change::Part => "Part",
        Change::StopIntoPrimary => "Stop",
        Change::StopIntoMirror => "StopMirror",
        Change::Equal => "Equal",
        Change::OwePrimaryChanged => "Rest",
    }
}

fn short(transition: Transition) -> String {
    if transition.to == Simplex {
        return Simplex.name().to_owned();
    }
    format!("{} {}", transition.to, change_letter(transition.change))
}

/// S55: against the table written down a second time, with what becomes of the bitmaps.
#[test]
fn every_cell_of_the_commands() {
    for (verb, cells) in CELLS {
        for (state, cell) in PairState::ALL.into_iter().zip(cells) {
            let found = match decide(state, verb) {
                Decision::NoOp => ".".to_owned(),
                Decision::Refuse => "-".to_owned(),
                Decision::Go(transition) => short(transition),
            };
            assert_eq!(found, cell, "{} on {state}", name(verb));
        }
    }
}

/// S55, S58: likewise what happens unasked for.
#[test]
fn every_cell_of_the_events() {
    let finished = [
        "-",
        "duplex Equal",
        "-",
        "split Keep",
        "-",
        "restored Equal",
        "-",
        "split Keep",
        "-",
    ];
    let behind = [
        "-",
        "duplex Equal",
        "-",
        "split Keep",
        "-",
        "copy Rest",
        "-",
        "split Keep",
        "-",
    ];
    let failed = [
        "-",
        "suspended Stop",
        "suspended Stop",
        "suspended Stop",
        "-",
        "suspended StopMirror",
        "suspended Stop",
        "-",
        "-",
    ];
    let rows = [
        (
            PairEvent::CopyFinished {
                primary_changed: false,
            },
            finished,
        ),
        (
            PairEvent::CopyFinished {
                primary_changed: true,
            },
            behind,
        ),
        (PairEvent::MirrorFailed, failed),
    ];
    for (event, cells) in rows {
        for (state, cell) in PairState::ALL.into_iter().zip(cells) {
            assert_eq!(
                after(state, event).map_or("-".to_owned(), short),
                cell,
                "{event:?} in {state}"
            );
        }
    }
}

#[test]
fn options_that_are_not_in_the_table_change_nothing() {
    for state in PairState::ALL {
        for force in [false, true] {
            let plain = decide(
                state,
                Verb::Split {
                    instant: false,
                    strict_hold: false,
                    force,
                },
            );
            for (instant, strict_hold) in [(true, false), (false, true), (true, true)] {
                assert_eq!(
                    decide(
                        state,
                        Verb::Split {
                            instant,
                            strict_hold,
                            force
                        }
                    ),
                    plain
                );
            }
        }
    }
}

/// S49.
#[test]
fn a_refusal_can_say_what_would_be_accepted() {
    assert_eq!(accepted(Simplex), "establish");
    assert_eq!(accepted(Splitting), "split, cancel --force");
    assert_eq!(
        accepted(Split),
        "establish, split, restore, restore --protected, cancel"
    );
    assert_eq!(
        accepted(ProtectedRestoring),
        "split --force, restore --protected, cancel --force"
    );
    for state in PairState::ALL {
        assert!(!accepted(state).is_empty());
    }
}

#[test]
fn the_documentation_shows_this_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pair-states.md");
    if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
        std::fs::write(path, markdown()).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap();
    assert!(
        page == markdown(),
        "docs/pair-states.md is out of date: HOLDFAST_WRITE_DOCS=1 rewrites it"
    );
}
