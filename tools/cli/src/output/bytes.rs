//! How far a copy of files has got: a bar on a terminal, a line a second elsewhere, nothing with `--json`.

use std::{
    io::{IsTerminal as _, stderr},
    time::Instant,
};

use admin_api::Size;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Output, progress::is_due};

/// Progress in bytes, on standard error.
pub(crate) struct Bytes {
    total: u64,
    done: u64,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines(Option<Instant>),
    Nothing,
}

impl Bytes {
    /// So many bytes are to come.
    pub(crate) fn new(output: Output, total: u64) -> Self {
        let shown = match (output.json, stderr().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, true) => {
                let bar = ProgressBar::new(total);
                let style =
                    ProgressStyle::with_template("files [{bar:30}] {bytes}/{total_bytes}, {bytes_per_sec}");
                if let Ok(style) = style {
                    bar.set_style(style.progress_chars("=> "));
                }
                Shown::Bar(bar)
            }
            (false, false) => Shown::Lines(None),
        };
        Self {
            total,
            done: 0,
            shown,
        }
    }

    /// So many more are done.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.done += bytes;
        match &mut self.shown {
            Shown::Bar(bar) => bar.set_position(self.done),
            Shown::Lines(last) => {
                if is_due(last) {
                    let (done, total) = (Size(self.done).rounded(), Size(self.total).rounded());
                    eprintln!("files: {done} of {total}");
                }
            }
            Shown::Nothing => {}
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.abandon();
        }
    }
}
