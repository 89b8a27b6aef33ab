//! What is printed at the end.

use std::fmt::Write as _;

use admin_api::Size;
use serde::Serialize;

use super::{plan::Step, site::Site};
use crate::{failure::Failure, output::Output};

/// With `--json` this document.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// `files`, `volume` or `abandoned`.
    restored: &'static str,
    /// Why the volume was restored although files were named.
    why: Option<&'static str>,
    dry_run: bool,
    /// Earlier runs were interrupted.
    pub(crate) resumed: bool,
    /// The image's log was replayed on the mirror.
    pub(crate) replayed: bool,
    system: String,
    from: u32,
    to: u32,
    primary: String,
    /// From the root of the file system, as restored: files, links and directories.
    files: Vec<FileDocument>,
    /// Of files; of a volume, at most so many differ.
    pub(crate) bytes: u64,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct FileDocument {
    path: String,
    kind: &'static str,
    bytes: u64,
}

impl Report {
    pub(crate) fn new(site: &Site, restored: &'static str, dry_run: bool) -> Self {
        Self {
            restored,
            why: None,
            dry_run,
            resumed: false,
            replayed: false,
            system: site.system.clone(),
            from: site.from.0,
            to: site.to.0,
            primary: site.leader(),
            files: Vec::new(),
            bytes: 0,
            notes: Vec::new(),
        }
    }

    /// Files were named, and the volume is restored.
    pub(crate) fn whole(&mut self, why: &'static str) {
        (self.restored, self.why) = ("volume", Some(why));
    }

    /// This is done.
    pub(crate) fn step(&mut self, step: &Step) {
        let (path, kind, bytes) = match step {
            Step::File(path, bytes) => (path, "file", *bytes),
            Step::Symlink(path) => (path, "symbolic link", 0),
            Step::Name { name, .. } => (name, "hard link", 0),
            Step::Directory(path) => (path, "directory", 0),
            Step::Finish(_) => return,
        };
        let path = path.display().to_string();
        self.files.push(FileDocument { path, kind, bytes });
        self.bytes += bytes;
    }

    pub(crate) fn print(&self, output: Output) -> Result<(), Failure> {
        output.print(self, Self::text)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            writeln!(
                text,
                "{} ({}, {})",
                file.path,
                file.kind,
                Size(file.bytes).rounded()
            )
            .expect("a String takes all");
        }
        for note in &self.notes {
            writeln!(text, "note: {note}").expect("a String takes all");
        }
        if self.replayed {
            writeln!(text, "note: the image's log was replayed on volume {}", self.from)
                .expect("a String takes all");
        }
        let (would, size) = (self.dry_run, Size(self.bytes).rounded());
        let (from, primary) = (self.from, &self.primary);
        let last = match (self.restored, would) {
            ("abandoned", _) => format!("abandoned: volume {} follows {primary} again", self.to),
            ("files", false) => format!("{primary}: restored {size} in files of volume {from}"),
            ("files", true) => format!("{primary}: would restore {size} in files of volume {from}"),
            (_, true) => {
                format!("{primary}: would be restored to the image of volume {from}; at most {size} differ")
            }
            (_, false) => {
                let why = self.why.map(|why| format!(" ({why})")).unwrap_or_default();
                format!("{primary}: restored to the image of volume {from}{why}")
            }
        };
        text + &last
    }
}
