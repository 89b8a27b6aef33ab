//! One daemon for each state directory.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// The state directory is ours as long as this lives, and no longer than the process.
#[derive(Debug)]
pub(crate) struct StateLock {
    _file: File,
}

/// Why the state directory is not ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another daemon has it.
    #[error("{path} is in use by process {pid}: stop that daemon, or give this one a state_dir of its own")]
    Held {
        /// The lock file.
        path: String,
        /// What is written in it.
        pid: String,
    },
    /// The system says no.
    #[error("{path}: {source}")]
    Io {
        /// The directory or the lock file.
        path: String,
        /// What it said.
        source: std::io::Error,
    },
}

impl StateLock {
    /// Makes the directory (mode 0700) if it is not there, and takes the lock.
    pub(crate) fn acquire(state_dir: &Path) -> Result<Self, LockError> {
        let io = |path: &Path, source| LockError::Io {
            path: path.display().to_string(),
            source,
        };
        if !state_dir.is_dir() {
            let mut builder = std::fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder
                .recursive(true)
                .create(state_dir)
                .map_err(|error| io(state_dir, error))?;
        }
        let path = state_dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| io(&path, error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // The name is for the message only; without it the lock is held all the same.
                let _ = file.read_to_string(&mut pid);
                let pid = if pid.trim().is_empty() { "?" } else { pid.trim() };
                return Err(LockError::Held {
                    path: path.display().to_string(),
                    pid: pid.to_owned(),
                });
            }
            Err(error) => return Err(io(&path, error.into())),
        }
        let write = |mut file: &File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&file).map_err(|error| io(&path, error))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("a/b");
        let lock = StateLock::acquire(&state).unwrap();
        let refused = StateLock::acquire(&state).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("in use by process {}:", std::process::id())),
            "{refused}"
        );
        drop(lock);
        StateLock::acquire(&state).unwrap();
    }

    #[test]
    fn no_directory_to_be_had() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = StateLock::acquire(&file.path().join("state")).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }), "{error}");
    }
}
