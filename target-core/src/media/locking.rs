//! One daemon at a time: an exclusive lock on what is opened, refused by name when another process has it.

use std::{
    fs::File,
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};

use rustix::{fs::FlockOperation, io::Errno};

use super::OpenError;

/// For so long a process that was killed may still be writing.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// As [`lock_exclusively`], but gives a process that was killed the time to end: the kernel keeps its file, and the lock, until
/// the I/O that it had asked for has ended, which nobody else should overtake.
pub(crate) fn lock_when_free(file: &File, path: &Path) -> Result<(), OpenError> {
    let until = Instant::now() + LAST_WRITES;
    loop {
        match lock_exclusively(file, path) {
            Err(OpenError::InUse { .. }) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

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
