//! The Unix socket: only its owner may connect.

use std::{
    fs,
    io::ErrorKind,
    os::unix::{fs::FileTypeExt as _, net::UnixStream},
    path::{Path, PathBuf},
};

use rustix::{fs::Mode, process::umask};
use tokio::net::UnixListener;

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// Somebody listens there.
    #[error("{0}: another daemon listens here: stop it, or set admin.socket to a path of its own")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{0}: is in the way, and no socket: remove it, or set admin.socket to another path")]
    InTheWay(PathBuf),
    /// The system says no.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
}

/// Makes the socket, mode 0600. One that a killed daemon left behind is removed; the caller holds the lock of the state
/// directory, and who shares a socket path across state directories is caught by asking whether anybody listens.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let io = |error| SocketError::Io(path.to_owned(), error);
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::InTheWay(path.to_owned()));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::InUse(path.to_owned())),
        Ok(_) => fs::remove_file(path).map_err(io)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(io)?;
    }
    // The mode must be right from the first moment: between bind and chmod anybody could connect.
    let before = umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let listener = UnixListener::bind(path);
    umask(before);
    listener.map_err(io)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[tokio::test]
    async fn only_the_owner_and_only_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/admin.sock");
        let listener = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
        drop(listener);
        assert!(path.exists(), "a stale socket is left behind");
        drop(bind(&path).unwrap());
        let file = directory.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(matches!(bind(&file), Err(SocketError::InTheWay(_))));
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }
}
