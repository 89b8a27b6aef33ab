//! From text and environment variables to one table.

use toml::{Table, Value};

use super::problem::Problems;

/// What an environment variable's text becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Decimal,
    /// `true` or `false`.
    Flag,
    /// Comma separated.
    List,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "a whole number",
            Self::Decimal => "a number",
            Self::Flag => "true or false",
            Self::List => "a list with commas",
        }
    }
}

/// The scalars that `HOLDFAST__SECTION__KEY` sets.
const SCALARS: [(&str, &str, Kind); 25] = [
    ("system", "id", Kind::Text),
    ("system", "state_dir", Kind::Text),
    ("system", "track_size", Kind::Text),
    ("system", "workers", Kind::Number),
    ("system", "work_stealing", Kind::Flag),
    ("iscsi", "portals", Kind::List),
    ("isns", "server", Kind::Text),
    ("isns", "entity", Kind::Text),
    ("isns", "esi_interval", Kind::Number),
    ("iscsi", "max_connections", Kind::Number),
    ("iscsi", "error_recovery_level", Kind::Number),
    ("iscsi", "chap_algorithms", Kind::List),
    ("iscsi", "look_before_sleep", Kind::Number),
    ("admin", "socket", Kind::Text),
    ("admin", "http", Kind::Text),
    ("replication", "copy_rate", Kind::Text),
    ("replication", "latency_factor", Kind::Decimal),
    ("replication", "longest_hold", Kind::Decimal),
    ("replication", "journal_limit", Kind::Text),
    ("replication", "auto_resume", Kind::Flag),
    ("generations", "directory", Kind::Text),
    ("link", "listen", Kind::Text),
    ("link", "cert", Kind::Text),
    ("link", "key", Kind::Text),
    ("link", "ca", Kind::Text),
];

const PREFIX: &str = "HOLDFAST__";

/// The table that the text is; `None` when it is no TOML.
pub(super) fn parse(text: &str, problems: &mut Problems) -> Option<Table> {
    match text.parse::<Table>() {
        Ok(table) => Some(table),
        Err(error) => {
            let line = error
                .span()
                .map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            problems.add(
                format!("line {line}"),
                format!("{}; TOML is accepted", error.message()),
            );
            None
        }
    }
}

/// Sets what `HOLDFAST__SECTION__KEY` variables say. An empty variable counts as not set.
pub(super) fn overlay(
    table: &mut Table,
    environment: impl IntoIterator<Item = (String, String)>,
    problems: &mut Problems,
) {
    for (variable, text) in environment {
        let Some(path) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        if text.is_empty() {
            continue;
        }
        let scalar = SCALARS.iter().find(|(section, key, _)| {
            path.split_once("__")
                .is_some_and(|(s, k)| s.eq_ignore_ascii_case(section) && k.eq_ignore_ascii_case(key))
        });
        let Some((section, key, kind)) = scalar else {
            problems.add(variable, format!("no such scalar; accepted are {}", accepted()));
            continue;
        };
        let Some(value) = value(*kind, &text) else {
            problems.add(variable, format!("{text:?} is not accepted: {} is", kind.name()));
            continue;
        };
        let section = table
            .entry(*section)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut();
        // A section that is no table is reported when it is taken apart.
        if let Some(section) = section {
            section.insert((*key).to_owned(), value);
        }
    }
}

fn value(kind: Kind, text: &str) -> Option<Value> {
    Some(match kind {
        Kind::Text => Value::String(text.to_owned()),
        Kind::Decimal => Value::Float(text.parse().ok()?),
        Kind::Number => Value::Integer(text.parse().ok()?),
        Kind::Flag => Value::Boolean(text.parse().ok()?),
        Kind::List => {
            let parts = text.split(',').map(|part| Value::String(part.trim().to_owned()));
            Value::Array(parts.collect())
        }
    })
}

fn accepted() -> String {
    let names = SCALARS
        .iter()
        .map(|(section, key, _)| format!("{PREFIX}{}__{}", section.to_uppercase(), key.to_uppercase()));
    names.collect::<Vec<_>>().join(", ")
}
