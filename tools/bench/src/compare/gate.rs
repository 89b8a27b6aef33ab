//! Figures, and the gate: the last accepted ones, against which a change is judged.
//!
//! Only ratios to something measured in the same run are kept; what else is measured (milliseconds of a shared disk) is shown but
//! not judged.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

/// What a figure may be worse than the last accepted one: between two runs on a quiet machine they move by less.
const ALLOWED: f64 = 1.08;

/// One line of the table. Less is better.
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) goal: Option<f64>,
    /// It holds from run to run, so that the gate may judge it.
    pub(super) judged: bool,
    /// The measurements behind it, for people.
    pub(super) measured: String,
}

/// Name to value.
pub(super) type Accepted = BTreeMap<String, f64>;

/// Reads a file of accepted figures.
pub(super) fn read(path: &Path) -> Accepted {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("--gate {}: {error}", path.display()));
    let document: toml::Table = text
        .parse()
        .unwrap_or_else(|error| panic!("--gate {}: {error}", path.display()));
    let figures = document["accepted"]
        .as_table()
        .expect("--gate: a table [accepted]");
    figures
        .iter()
        .map(|(name, value)| {
            (
                name.clone(),
                value.as_float().expect("--gate: numbers with a point"),
            )
        })
        .collect()
}

/// Writes what was measured now as accepted. Figures of parts that did not run keep the value that they had.
pub(super) fn write(path: &Path, figures: &[Figure]) {
    let mut accepted = if fs::exists(path).unwrap_or(false) {
        read(path)
    } else {
        Accepted::new()
    };
    for figure in figures
        .iter()
        .filter(|figure| figure.judged && figure.value.is_finite())
    {
        accepted.insert(figure.name.clone(), figure.value);
    }
    let mut text = "# The last accepted figures of `iscsi-bench compare`, less is better; `--gate` fails on what is more than 8 % worse.\n\
        # Written by `--accept`, on a machine where nothing else ran.\n[accepted]\n"
        .to_owned();
    for (name, value) in accepted {
        let _ = writeln!(text, "\"{name}\" = {value:.3}");
    }
    fs::write(path, text).unwrap_or_else(|error| panic!("--accept {}: {error}", path.display()));
}

/// Is this worse than the accepted figures allow?
pub(super) fn is_worse(accepted: &Accepted, figure: &Figure) -> bool {
    accepted
        .get(&figure.name)
        .is_some_and(|accepted| figure.judged && figure.value.total_cmp(&(accepted * ALLOWED)).is_gt())
}

/// Prints what is worse than accepted; how many those are.
pub(super) fn judge(accepted: &Accepted, figures: &[Figure]) -> usize {
    let mut worse = 0;
    println!();
    for figure in figures.iter().filter(|figure| is_worse(accepted, figure)) {
        worse += 1;
        let was = accepted[&figure.name];
        println!(
            "REGRESSION: {}: {:.3}, accepted {was:.3} ({:+.0} %)",
            figure.name,
            figure.value,
            (figure.value / was - 1.0) * 100.0
        );
    }
    for figure in figures
        .iter()
        .filter(|figure| figure.judged && !accepted.contains_key(&figure.name))
    {
        println!("not accepted yet: {}", figure.name);
    }
    if worse == 0 {
        println!("gate: nothing is more than 8 % worse than accepted");
    }
    worse
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, value: f64, judged: bool) -> Figure {
        Figure {
            name: name.into(),
            value,
            goal: None,
            judged,
            measured: String::new(),
        }
    }

    #[test]
    fn what_is_more_than_eight_percent_worse_fails_and_what_was_not_measured_too() {
        let accepted = Accepted::from([("a".into(), 1.0)]);
        assert!(!is_worse(&accepted, &figure("a", 1.079, true)));
        assert!(is_worse(&accepted, &figure("a", 1.081, true)));
        assert!(is_worse(&accepted, &figure("a", f64::NAN, true)));
        assert!(!is_worse(&accepted, &figure("a", 2.0, false)));
        assert!(!is_worse(&accepted, &figure("new", 2.0, true)));
    }

    #[test]
    fn accepted_figures_are_read_as_written_and_others_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("accepted.toml");
        let path = path.as_path();
        write(path, &[figure("4k / F", 1.125, true), figure("ms", 7.0, false)]);
        write(
            path,
            &[figure("1m / F", 0.5, true), figure("4k / T", f64::NAN, true)],
        );
        assert_eq!(
            read(path),
            Accepted::from([("4k / F".into(), 1.125), ("1m / F".into(), 0.5)])
        );
    }
}
