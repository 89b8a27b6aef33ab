//! One daemon at a time: an exclusive lock on what is opened, refused by name when another process has it.

use std::{fs::File, os::fd::AsFd, path::Path};

use rustix::{fs::FlockOperation, io::Errno};

use super::OpenError;

/// Takes the lock for as long as `file` is open. It belongs to the open file: the same process opening the file a
/// second time is refused like any other.
pub(crate) fn lock_exclusively(file: &File, path: &Path) -> Result<(), OpenError> {
    match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(OpenError::InUse {
            path: path.to_owned(),
        }),
        Err(error) => Err(OpenError::System {
            path: path.to_owned(),
            action: "lock",
            source: error.into(),
        }),
    }
}
