//! How far a restore is, for the one that goes on after an interruption: a small JSON document.

use std::{
    fmt,
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// What was asked for.
    pub(crate) order: Order,
    /// What is being done.
    pub(crate) step: Step,
}

/// What was asked for: the same command goes on, another one is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// The system that follows.
    pub(crate) system: String,
    /// Number of the mirror with the image.
    pub(crate) from: u32,
    /// Number of the volume that follows.
    pub(crate) to: u32,
    /// The files, from the root of the file system; none: the volume.
    pub(crate) files: Option<Vec<PathBuf>>,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, files, .. } = self;
        match files {
            None => write!(f, "restore-volume --from {from} --to {to}"),
            Some(files) => {
                write!(f, "restore-files --from {from} --to {to}")?;
                files.iter().try_for_each(|file| write!(f, " {}", file.display()))
            }
        }
    }
}

/// In this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// 520, 530: the pair is split, and files are copied; so many steps of the plan are done.
    Files(usize),
    /// 630 to 650: the pair is split, and the local mirror restored.
    Volume,
    /// 540, 660: the primary is restored over the link.
    Primary,
}

/// The file.
#[derive(Debug)]
pub(crate) struct StateFile(PathBuf);

impl StateFile {
    pub(crate) fn new(asked: Option<&Path>, system: &str, to: u32) -> Self {
        let default = || PathBuf::from(format!("/var/lib/holdfast/restore-{system}-{to}.json"));
        Self(asked.map_or_else(default, Path::to_owned))
    }

    /// What it says, if there is one.
    pub(crate) fn load(&self) -> Result<Option<State>, Failure> {
        let text = match fs::read(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        let state = serde_json::from_slice(&text);
        state
            .map(Some)
            .map_err(|error| self.failed(&io::Error::other(error)))
    }

    /// Replaces it, on disk.
    pub(crate) fn store(&self, state: &State) -> Result<(), Failure> {
        let write = || -> io::Result<()> {
            let directory = self.0.parent().unwrap_or(Path::new("."));
            if !directory.as_os_str().is_empty() {
                fs::create_dir_all(directory)?;
            }
            let new = self.0.with_extension("new");
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(state)?)?;
            file.sync_data()?;
            fs::rename(&new, &self.0)
        };
        write().map_err(|error| self.failed(&error))
    }

    /// It is over.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failed(&error)),
            _ => Ok(()),
        }
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::Failed(format!(
            "{}: {error}; --state FILE keeps it elsewhere",
            self.0.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/state.json");
        let file = StateFile::new(Some(&path), "HF-B", 1);
        assert_eq!(file.load().unwrap(), None);
        let state = State {
            order: Order {
                system: "HF-B".to_owned(),
                from: 2,
                to: 1,
                files: Some(vec!["db".into()]),
            },
            step: Step::Files(3),
        };
        file.store(&state).unwrap();
        assert_eq!(file.load().unwrap(), Some(state));
        fs::write(&path, "{").unwrap();
        assert!(file.load().unwrap_err().to_string().contains("state.json"));
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(file.load().unwrap(), None);
    }
}
