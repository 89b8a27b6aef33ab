//! How far long work has got: bars on a terminal, a line a second elsewhere, nothing with `--json`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{IsTerminal as _, stderr},
    time::{Duration, Instant},
};

use admin_api::{PairState, QueryPair};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Output, table};

/// Progress of the copies of some pairs, on standard error.
pub(crate) enum Progress {
    /// A bar for each pair.
    Bars {
        /// All of them.
        all: MultiProgress,
        /// By the pair's text.
        bars: BTreeMap<String, ProgressBar>,
    },
    /// A line for each pair that copies, once a second.
    Lines {
        /// When the last ones were printed.
        last: Option<Instant>,
    },
    /// Nothing.
    Silent,
}

impl Progress {
    pub(crate) fn new(output: Output) -> Self {
        match (output.json, stderr().is_terminal()) {
            (true, _) => Self::Silent,
            (false, true) => Self::Bars {
                all: MultiProgress::new(),
                bars: BTreeMap::new(),
            },
            (false, false) => Self::Lines { last: None },
        }
    }

    /// Shows where the pairs are now.
    pub(crate) fn show<'a>(&mut self, pairs: impl IntoIterator<Item = &'a QueryPair>) {
        match self {
            Self::Silent => {}
            Self::Lines { last } => {
                if !is_due(last) {
                    return;
                }
                for pair in pairs.into_iter().filter(|pair| copying(pair)) {
                    eprintln!("{}: {}", table::pair(pair), how_far(pair));
                }
            }
            Self::Bars { all, bars } => {
                for pair in pairs {
                    let name = table::pair(pair);
                    let bar = bars.entry(name).or_insert_with_key(|name| {
                        let bar = all.add(ProgressBar::new(1000));
                        bar.set_style(style());
                        bar.set_prefix(name.clone());
                        bar
                    });
                    bar.set_position(tenths(pair));
                    bar.set_message(how_far(pair));
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Bars { bars, .. } = self {
            for bar in bars.values() {
                bar.abandon();
            }
        }
    }
}

/// Is a line due? A little less than a second after the last one, so that a wait of one second always shows a line.
pub(super) fn is_due(last: &mut Option<Instant>) -> bool {
    let is_due = last.is_none_or(|last| last.elapsed() >= Duration::from_millis(950));
    if is_due {
        *last = Some(Instant::now());
    }
    is_due
}

fn copying(pair: &QueryPair) -> bool {
    pair.pair_state().is_some_and(PairState::copying)
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} [{bar:30}] {msg}").map_or_else(
        |_| ProgressStyle::default_bar(),
        |style| style.progress_chars("=> "),
    )
}

/// `copy 43.2%, 120MiB/s, 12s left`.
pub(crate) fn how_far(pair: &QueryPair) -> String {
    let mut text = pair.state.clone();
    if copying(pair) {
        write!(text, " {:.1}%", pair.percent).expect("a String takes all");
        // A copy that has only begun has no rate yet.
        if pair.rate > 0 {
            let (rate, eta) = (table::rate(pair.rate), table::eta(pair.eta_seconds));
            write!(text, ", {rate}, {eta} left").expect("a String takes all");
        }
    }
    text
}

/// How far in tenths of a percent, rounded down.
fn tenths(pair: &QueryPair) -> u64 {
    if pair.tracks == 0 {
        return 1000;
    }
    let done = u128::from(pair.tracks.saturating_sub(pair.remaining));
    (done * 1000 / u128::from(pair.tracks)) as u64
}

/// A bar of text, for `query --watch`.
pub(crate) fn bar(pair: &QueryPair, width: usize) -> String {
    drawn(tenths(pair), width)
}

fn drawn(tenths: u64, width: usize) -> String {
    let full = width * tenths as usize / 1000;
    format!("[{:<width$}]", "=".repeat(full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_full_only_at_the_end() {
        assert_eq!(drawn(0, 4), "[    ]");
        assert_eq!(drawn(999, 4), "[=== ]");
        assert_eq!(drawn(1000, 4), "[====]");
    }
}
