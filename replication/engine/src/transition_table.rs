//! The transition table of docs/pairs.md: which verb a pair accepts in which state, and what it does to state and
//! bitmaps. It exists once, here; the engine asks [`decide`] and [`after`], docs/pair-states.md is [`markdown`].

#[cfg(test)]
mod tests;

use crate::{
    command::Verb,
    pair_bits::Change,
    state::PairState::{
        self, Copy, Duplex, ProtectedRestoring, Restored, Restoring, Simplex, Split, Splitting, Suspended,
    },
};
use core::fmt::Write as _;

/// What a verb does in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The pair changes.
    Go(Transition),
    /// Accepted, and nothing is left to do.
    NoOp,
    /// Not accepted; nothing changes.
    Refuse,
}

/// A change of state, with what it does to the bitmaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The state after.
    pub to: PairState,
    /// What happens to the bitmaps.
    pub change: Change,
}

/// What happens to a pair without a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairEvent {
    /// The copy now running has nothing left.
    CopyFinished {
        /// `primary_changed` is not empty: a crash during a restore left tracks that only the primary has.
        primary_changed: bool,
    },
    /// A write to the mirror failed, or the link was lost.
    MirrorFailed,
}

/// The cell of the table for a command.
pub fn decide(state: PairState, verb: Verb) -> Decision {
    match verb {
        Verb::Establish { full: false } => match state {
            Simplex => go(Copy, Change::OweAll),
            Copy | Duplex | Restored => Decision::NoOp,
            Split | Suspended => go(Copy, Change::OweUnion),
            Splitting | Restoring | ProtectedRestoring => Decision::Refuse,
        },
        Verb::Establish { full: true } => match state {
            Simplex | Copy | Duplex | Split | Restored | Suspended => go(Copy, Change::OweAll),
            Splitting | Restoring | ProtectedRestoring => Decision::Refuse,
        },
        Verb::Split { force, .. } => match state {
            Copy => go(Splitting, Change::Part),
            Duplex | Restored => go(Split, Change::Part),
            Splitting | Split => Decision::NoOp,
            Suspended => go(Split, Change::Keep),
            ProtectedRestoring if force => go(Split, Change::StopIntoPrimary),
            Simplex | Restoring | ProtectedRestoring => Decision::Refuse,
        },
        Verb::Restore {
            full,
            protected: false,
        } => match state {
            Split | Suspended => go(Restoring, owe(full)),
            Restoring | Restored if !full => Decision::NoOp,
            Simplex | Copy | Duplex | Splitting | Restoring | Restored | ProtectedRestoring => {
                Decision::Refuse
            }
        },
        Verb::Restore {
            full,
            protected: true,
        } => match state {
            Split | Suspended => go(ProtectedRestoring, owe(full)),
            ProtectedRestoring => Decision::NoOp,
            Simplex | Copy | Duplex | Splitting | Restoring | Restored => Decision::Refuse,
        },
        Verb::Cancel { force } => match state {
            Simplex => Decision::Refuse,
            Splitting | Restoring | ProtectedRestoring if !force => Decision::Refuse,
            Copy | Duplex | Splitting | Split | Restoring | Restored | ProtectedRestoring | Suspended => {
                go(Simplex, Change::Keep)
            }
        },
    }
}

/// The cell of the table for an event; `None` when the event means nothing in this state.
pub fn after(state: PairState, event: PairEvent) -> Option<Transition> {
    let (to, change) = match (event, state) {
        (PairEvent::CopyFinished { .. }, Copy) => (Duplex, Change::Equal),
        (
            PairEvent::CopyFinished {
                primary_changed: true,
            },
            Restoring,
        ) => (Copy, Change::OwePrimaryChanged),
        (
            PairEvent::CopyFinished {
                primary_changed: false,
            },
            Restoring,
        ) => (Restored, Change::Equal),
        (PairEvent::CopyFinished { .. }, Splitting | ProtectedRestoring) => (Split, Change::Keep),
        (PairEvent::MirrorFailed, Copy | Duplex | Splitting | Restored) => {
            (Suspended, Change::StopIntoPrimary)
        }
        (PairEvent::MirrorFailed, Restoring) => (Suspended, Change::StopIntoMirror),
        (PairEvent::CopyFinished { .. }, Simplex | Duplex | Split | Restored | Suspended)
        | (PairEvent::MirrorFailed, Simplex | Split | ProtectedRestoring | Suspended) => return None,
    };
    Some(Transition { to, change })
}

/// The verb as users type it.
pub const fn name(verb: Verb) -> &'static str {
    match verb {
        Verb::Establish { full: false } => "establish",
        Verb::Establish { full: true } => "establish --full",
        Verb::Split { force: false, .. } => "split",
        Verb::Split { force: true, .. } => "split --force",
        Verb::Restore {
            full: false,
            protected: false,
        } => "restore",
        Verb::Restore {
            full: true,
            protected: false,
        } => "restore --full",
        Verb::Restore {
            full: false,
            protected: true,
        } => "restore --protected",
        Verb::Restore {
            full: true,
            protected: true,
        } => "restore --full --protected",
        Verb::Cancel { force: false } => "cancel",
        Verb::Cancel { force: true } => "cancel --force",
    }
}

/// The verbs that a pair in this state accepts, comma separated, for a refusal's message. A verb with an option is
/// named only where the verb without it is refused.
pub fn accepted(state: PairState) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut plain_accepted = false;
    for verb in VERBS {
        let plain = !name(verb).contains("--");
        let accepted = decide(state, verb) != Decision::Refuse;
        if plain {
            plain_accepted = accepted;
        }
        let implied = !plain && plain_accepted && !matches!(verb, Verb::Restore { protected: true, .. });
        let same = matches!(
            verb,
            Verb::Restore {
                full: true,
                protected: true
            }
        );
        if accepted && !implied && !same {
            names.push(name(verb));
        }
    }
    names.join(", ")
}

/// One verb for each row, a verb with an option after the one without.
const VERBS: [Verb; 10] = [
    Verb::Establish { full: false },
    Verb::Establish { full: true },
    Verb::Split {
        instant: false,
        strict_hold: false,
        force: false,
    },
    Verb::Split {
        instant: false,
        strict_hold: false,
        force: true,
    },
    Verb::Restore {
        full: false,
        protected: false,
    },
    Verb::Restore {
        full: true,
        protected: false,
    },
    Verb::Restore {
        full: false,
        protected: true,
    },
    Verb::Restore {
        full: true,
        protected: true,
    },
    Verb::Cancel { force: false },
    Verb::Cancel { force: true },
];

const fn owe(full: bool) -> Change {
    if full { Change::OweAll } else { Change::OweUnion }
}

const fn go(to: PairState, change: Change) -> Decision {
    Decision::Go(Transition { to, change })
}

/// The table as docs/pair-states.md shows it.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    row(
        &mut page,
        "command",
        PairState::ALL.iter().map(|state| state.name().to_owned()),
    );
    row(&mut page, "---", PairState::ALL.iter().map(|_| "---".to_owned()));
    for verb in VERBS {
        row(
            &mut page,
            name(verb),
            PairState::ALL.iter().map(|state| command_cell(*state, verb)),
        );
    }
    for (title, event) in EVENTS {
        row(
            &mut page,
            title,
            PairState::ALL.iter().map(|state| event_cell(*state, event)),
        );
    }
    page.push_str(BITMAPS);
    for change in Change::ALL {
        row(&mut page, &format!("{change:?}"), [meaning(change).to_owned()]);
    }
    page
}

const EVENTS: [(&str, PairEvent); 3] = [
    (
        "*copy finished*",
        PairEvent::CopyFinished {
            primary_changed: false,
        },
    ),
    (
        "*copy finished, a crash left the primary ahead*",
        PairEvent::CopyFinished {
            primary_changed: true,
        },
    ),
    ("*mirror write fails, link lost*", PairEvent::MirrorFailed),
];

const HEAD: &str = "# Pair states

Generated from `replication/engine/src/transition_table.rs`; its test fails when the two differ, and rewrites this page when
run with `HOLDFAST_WRITE_DOCS=1`. What the states mean is in [pairs.md](pairs.md). A cell gives the state after, then what
becomes of the bitmaps; an empty cell is a refusal, or an event that cannot happen.

";

const BITMAPS: &str = "
What becomes of the bitmaps:

| name | meaning |
|---|---|
";

const fn meaning(change: Change) -> &'static str {
    match change {
        Change::Keep => "nothing moves",
        Change::OweAll => "todo = every track; both sides' changes = none",
        Change::OweUnion => {
            "todo = todo, primary's and mirror's changes together; both sides' changes = none"
        }
        Change::Part => "todo stays; both sides' changes = none",
        Change::StopIntoPrimary => "primary's changes gain todo; todo = none",
        Change::StopIntoMirror => "mirror's changes gain todo; todo = none",
        Change::Equal => "all none",
        Change::OwePrimaryChanged => "todo = primary's changes; both sides' changes = none",
    }
}

fn command_cell(state: PairState, verb: Verb) -> String {
    match decide(state, verb) {
        Decision::Go(transition) => cell(transition),
        Decision::NoOp => "no-op".to_owned(),
        Decision::Refuse => String::new(),
    }
}

fn event_cell(state: PairState, event: PairEvent) -> String {
    after(state, event).map(cell).unwrap_or_default()
}

fn cell(transition: Transition) -> String {
    match transition {
        Transition { to: Simplex, .. } => Simplex.name().to_owned(),
        Transition { to, change } => format!("{to}, {change:?}"),
    }
}

fn row(page: &mut String, first: &str, cells: impl IntoIterator<Item = String>) {
    let _ = write!(page, "| {first} |");
    for cell in cells {
        let _ = write!(page, " {cell} |");
    }
    page.push('\n');
}
