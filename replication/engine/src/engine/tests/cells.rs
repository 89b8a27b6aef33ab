//! Every cell of the table of docs/pairs.md, as it is printed there, through the whole engine and with every flag.
//!
//! The page is the contract, `transition_table` what the engine does: neither is made from the other.

use super::*;
use crate::{Limits, command::Refused, effects::Effect, engine::harness::limits};

/// The rows of the page: the name, and the cells by state.
fn page() -> Vec<(String, Vec<String>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pairs.md");
    let page = std::fs::read_to_string(path).unwrap();
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| command \\ state"));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let mut cells = row
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned());
        (cells.next().unwrap(), cells.collect())
    })
    .collect()
}

/// What a cell promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    Refuse,
    NoOp,
    Becomes(PairState),
}

fn promise(cell: &str, force: bool) -> Promise {
    let cell = match cell.split_once("; with FORCE stop: ") {
        Some((_, forced)) if force => forced,
        Some((plain, _)) => plain,
        None => cell,
    };
    let first = cell.split([',', ' ']).next().unwrap();
    match first {
        "refuse" => Promise::Refuse,
        "no-op" => Promise::NoOp,
        "FORCE" if !force => Promise::Refuse,
        "FORCE" | "SIMPLEX" => Promise::Becomes(PairState::Simplex),
        "PROT-RESTORING" => Promise::Becomes(PairState::ProtectedRestoring),
        other => {
            let state = PairState::ALL
                .into_iter()
                .find(|state| state.name().to_uppercase() == other);
            Promise::Becomes(state.unwrap_or_else(|| panic!("{cell:?} is not understood")))
        }
    }
}

/// A room in which pair 1 -> 2 is in this state, with work left for states that copy.
fn room_in(state: PairState) -> Room {
    let manual = Limits {
        auto_resume: false,
        ..limits()
    };
    let mut room = Room::with_limits(90, 4, manual);
    let go = |room: &mut Room, verb: Verb| {
        room.command(mirrors::pair(verb));
        room.perform_all_but_copies();
    };
    if state == PairState::Simplex {
        return room;
    }
    go(&mut room, ESTABLISH);
    match state {
        PairState::Copy => return room,
        PairState::Splitting => {
            go(&mut room, SPLIT);
            return room;
        }
        _ => room.settle(),
    }
    if state == PairState::Suspended {
        room.unwritable.insert(VolumeId(2));
        room.write(1, (0, 30), 4).unwrap();
        room.unwritable.clear();
    }
    if matches!(
        state,
        PairState::Split | PairState::Restoring | PairState::Restored | PairState::ProtectedRestoring
    ) {
        room.verb(SPLIT, &[(1, 2)]).unwrap();
        room.write(1, (0, 200), 50).unwrap();
        match state {
            PairState::ProtectedRestoring => go(&mut room, PROTECTED),
            PairState::Restoring | PairState::Restored => go(&mut room, RESTORE),
            _ => {}
        }
    }
    if state == PairState::Restored {
        room.settle();
    }
    assert_eq!(room.state(2), state);
    room.answers.clear();
    room
}

/// The verbs of a row, with all flags that the row leaves open, and the FORCE among them.
fn verbs(row: &str) -> Vec<(Verb, bool)> {
    let both = [false, true];
    let restore = |full, protected| (Verb::Restore { full, protected }, false);
    match row {
        "ESTABLISH" => vec![(ESTABLISH, false)],
        "ESTABLISH FULL" => vec![(Verb::Establish { full: true }, false)],
        "SPLIT" => both
            .into_iter()
            .flat_map(|instant| both.map(|strict_hold| (instant, strict_hold)))
            .flat_map(|(instant, strict_hold)| {
                both.map(|force| {
                    let verb = Verb::Split {
                        instant,
                        strict_hold,
                        force,
                    };
                    (verb, force)
                })
            })
            .collect(),
        "RESTORE" => vec![restore(false, false)],
        "RESTORE FULL" => vec![restore(true, false)],
        "RESTORE PROTECTED (FULL or not)" => vec![restore(false, true), restore(true, true)],
        "CANCEL" => both.map(|force| (Verb::Cancel { force }, force)).to_vec(),
        other => panic!("there is a row {other:?} that this test does not know"),
    }
}

fn command(verb: Verb, members: &[(u32, u32)], dry_run: bool) -> Command {
    let members = members
        .iter()
        .map(|(p, m)| (VolumeId(*p), VolumeId(*m)))
        .collect();
    Command::Pair {
        verb,
        members,
        dry_run,
    }
}

/// Gives a command and performs all but copies, so that the state after it is seen.
fn ask(room: &mut Room, verb: Verb, members: &[(u32, u32)], dry_run: bool) -> Result<u64, Refused> {
    let id = room.command(command(verb, members, dry_run));
    room.perform_all_but_copies();
    if !room.answers.contains_key(&id) {
        // It joins or parts families: copies under way end first.
        room.perform_all(|effect| {
            matches!(effect, Effect::Copy { .. }) || matches!(effect, Effect::Journal { .. })
        });
        room.perform_all_but_copies();
    }
    room.answers
        .remove(&id)
        .expect("answered")
        .map(|summary| summary.tracks)
}

/// What a command must leave as it was when it is refused, is a no-op or a dry run.
fn picture(room: &Room) -> (Vec<crate::command::PairView>, usize) {
    (room.engine.pairs(), room.durable.len())
}

/// S49, S55, the state table: each cell with INSTANT, STRICT-HOLD, FORCE, FULL and PROTECTED, as a DRY-RUN first, which says the same and
/// changes nothing; a refusal changes nothing and says what would be accepted.
#[test]
fn every_cell_of_the_page_with_every_flag() {
    let mut cells = 0;
    for (row, row_cells) in page().into_iter().take(7) {
        assert_eq!(row_cells.len(), 9, "{row}");
        for (state, cell) in PairState::ALL.into_iter().zip(&row_cells) {
            for (verb, force) in verbs(&row) {
                let what = format!("{verb:?} in {state}");
                let mut room = room_in(state);
                let before = picture(&room);
                let dry = ask(&mut room, verb, &[(1, 2)], true);
                assert_eq!(picture(&room), before, "a dry run of {what}");
                let result = ask(&mut room, verb, &[(1, 2)], false);
                assert_eq!(dry, result, "{what}: the dry run said otherwise");
                let instant = matches!(verb, Verb::Split { instant: true, .. });
                let strict = matches!(
                    verb,
                    Verb::Split {
                        strict_hold: true,
                        ..
                    }
                );
                match promise(cell, force) {
                    Promise::Refuse => {
                        let why = result.expect_err(&what).why;
                        let said = match why {
                            Why::State { accepted, .. } => !accepted.is_empty(),
                            why => matches!(why, Why::NoSuchPair { .. }) && state == PairState::Simplex,
                        };
                        assert!(said, "{what}: it does not say what would be accepted");
                        assert_eq!(picture(&room), before, "{what} was refused and changed something");
                    }
                    Promise::NoOp => {
                        result.expect(&what);
                        assert_eq!(room.state(2), state, "{what}");
                        assert_eq!(
                            room.durable.len() > before.1,
                            strict,
                            "{what}: a no-op but for the hold"
                        );
                    }
                    Promise::Becomes(after) => {
                        result.expect(&what);
                        assert_eq!(room.state(2), after, "{what}");
                        let ready = match after {
                            PairState::Splitting => instant,
                            PairState::Simplex | PairState::Split => true,
                            PairState::ProtectedRestoring => state == PairState::Split,
                            _ => false,
                        };
                        assert_eq!(room.engine.ready(VolumeId(2)), ready, "{what}: the mirror");
                    }
                }
                if let (Verb::Split { .. }, Some(view)) = (verb, room.engine.pair(PairId(VolumeId(2))))
                    && promise(cell, force) != Promise::Refuse
                {
                    assert_eq!((view.held, view.strictly_held), (true, strict), "{what}");
                }
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 9 * (1 + 1 + 8 + 1 + 1 + 2 + 2));
}

/// S57, LIST: beside a member that would be refused, none of a group's members changes, in any cell.
#[test]
fn a_list_is_all_or_nothing_in_every_cell() {
    for (row, row_cells) in page().into_iter().take(7) {
        for (state, cell) in PairState::ALL.into_iter().zip(&row_cells) {
            for (verb, force) in verbs(&row) {
                let mut room = room_in(state);
                let before = picture(&room);
                // 3 -> 9 is refused by every verb: there is no volume 9.
                let refused = ask(&mut room, verb, &[(1, 2), (3, 9)], false).unwrap_err();
                let own = promise(cell, force) == Promise::Refuse;
                assert_eq!(refused.member, usize::from(!own), "{verb:?} in {state}");
                assert_eq!(picture(&room), before, "{verb:?} in {state}");
            }
        }
    }
}

/// The events of the page's last two rows, through the engine: a copy that ends, and a mirror that fails.
#[test]
fn every_cell_of_the_pages_events() {
    let page = page();
    let [(finished, ends), (failed, faults)] = &page[7..] else {
        panic!("the page has other rows: {:?}", &page[7..])
    };
    assert_eq!(
        (finished.as_str(), failed.as_str()),
        ("copy finished", "mirror write fails, link lost")
    );
    let named = |cell: &str| (cell != "-").then(|| promise(cell, false));
    for (state, cell) in PairState::ALL.into_iter().zip(ends) {
        let mut room = room_in(state);
        room.settle();
        let after = named(cell).unwrap_or(Promise::Becomes(state));
        assert_eq!(Promise::Becomes(room.state(2)), after, "a copy ends in {state}");
    }
    for (state, cell) in PairState::ALL.into_iter().zip(faults) {
        let mut room = room_in(state);
        room.unwritable.insert(VolumeId(2));
        // One write, to a track that is equal in all of these states; with what it has to push first.
        let op = room.begin(1, HostIo::Write, (480, 490), 77);
        room.finish(op).unwrap();
        let after = named(cell).unwrap_or(Promise::Becomes(state));
        let now = match room.state(2) {
            // A protected restore that ended meanwhile: it never writes to the mirror.
            PairState::Split if state == PairState::ProtectedRestoring => state,
            now => now,
        };
        assert_eq!(Promise::Becomes(now), after, "the mirror fails in {state}");
    }
}

/// S38 to S41: CONFIG in every state: HOLD and NOT READY refuse every verb by name, RELEASE and READY give back what was.
#[test]
fn conditions_refuse_every_verb_in_every_state() {
    for state in PairState::ALL {
        for (set, unset) in [
            (Condition::Hold, Condition::Release),
            (Condition::NotReady, Condition::Ready),
        ] {
            let mut room = room_in(state);
            let was_ready = room.engine.ready(VolumeId(2));
            let configure = |room: &mut Room, condition, dry_run| {
                let volume = VolumeId(2);
                let id = room.command(Command::Config {
                    condition,
                    volume,
                    dry_run,
                });
                room.perform_all_but_copies();
                room.answers.remove(&id).expect("answered").unwrap();
            };
            let before = picture(&room);
            configure(&mut room, set, true);
            assert_eq!(picture(&room), before, "a dry run");
            configure(&mut room, set, false);
            let changed = picture(&room);
            for verb in [
                ESTABLISH,
                SPLIT,
                FORCE_SPLIT,
                RESTORE,
                PROTECTED,
                Verb::Cancel { force: true },
            ] {
                let volume = VolumeId(2);
                let why = ask(&mut room, verb, &[(1, 2)], false).unwrap_err().why;
                let expected = match set {
                    Condition::Hold => Why::Held { volume },
                    _ => Why::NotReady { volume },
                };
                assert_eq!(why, expected, "{verb:?} in {state}");
            }
            assert_eq!(picture(&room), changed);
            let ready = was_ready && set == Condition::Hold;
            assert_eq!(room.engine.ready(VolumeId(2)), ready);
            if !ready {
                assert_eq!(room.read(2, (0, 8)), Err(HostError::NotReady));
            }
            configure(&mut room, unset, false);
            assert_eq!(room.engine.ready(VolumeId(2)), was_ready);
            assert_eq!(room.state(2), state);
        }
    }
}
