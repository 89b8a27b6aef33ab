//! Mounts that nobody else sees, and that are gone when this process is.
//!
//! A file system is opened as a mount that is attached nowhere (fsopen, fsmount) and used through its descriptor. There is no
//! mount point to clean up: when the descriptor is closed, also by SIGKILL, the kernel unmounts.
//!
//! Is a file system clean? The kernel knows best: mounted from a device that is set read-only, it fails with EROFS exactly when its
//! log has to be replayed. That is so for the image of a file system in use, and for a primary that was not unmounted.
//!
//! That a device is read-only is nothing that the kernel takes back when a process is gone. So a process of its own waits for that, on a pipe
//! whose other end is ours, and makes the device writable again: when we are done with it, and when we were killed.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags},
};

/// Longest wait for the kernel to let a device go.
const LET_GO: Duration = Duration::from_secs(10);

/// A file system that can be mounted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    /// ext2, ext3 and ext4.
    Ext4,
    /// XFS.
    Xfs,
}

impl FileSystem {
    /// What the first 2048 bytes of a device are.
    pub(crate) fn of(start: &[u8]) -> Option<Self> {
        if start.starts_with(b"XFSB") {
            return Some(Self::Xfs);
        }
        (start.get(1080..1082) == Some(&[0x53, 0xef])).then_some(Self::Ext4)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// Why a file system is not mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// Its log has to be replayed, and may not be.
    #[error("its log has to be replayed")]
    Dirty,
    /// The kernel does not.
    #[error("{0}")]
    Failed(String),
}

/// A mounted file system. Dropping it unmounts.
#[derive(Debug)]
pub(crate) struct Mounted {
    root: OwnedFd,
    /// The mount lasts as long as this is open.
    mount: OwnedFd,
}

impl Mounted {
    /// Mounts it. Read-only, nothing is written to a clean one.
    pub(crate) fn new(device: &Path, kind: FileSystem, read_only: bool) -> Result<Self, MountError> {
        let context = mount::fsopen(kind.name(), FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|errno| MountError::Failed(format!("{} is not known here: {errno}", kind.name())))?;
        let made = || -> Result<Self, Errno> {
            mount::fsconfig_set_string(context.as_fd(), "source", device)?;
            if read_only {
                mount::fsconfig_set_flag(context.as_fd(), "ro")?;
            }
            if kind == FileSystem::Xfs {
                // The image, the volume to restore and perhaps the primary on this host have one UUID.
                mount::fsconfig_set_flag(context.as_fd(), "nouuid")?;
            }
            mount::fsconfig_create(context.as_fd())?;
            let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NOEXEC
                | MountAttrFlags::MOUNT_ATTR_NOATIME;
            if read_only {
                attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
            }
            let mount = mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
            // What fsmount returns only names the mount; a directory can be read and synchronized.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::openat(&mount, ".", flags, Mode::empty())?;
            Ok(Self { root, mount })
        };
        match made() {
            Ok(mounted) => Ok(mounted),
            Err(Errno::ROFS) => Err(MountError::Dirty),
            Err(errno) => Err(MountError::Failed(format!("{errno}{}", said(context.as_fd())))),
        }
    }

    /// Its root directory.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Writes everything back and unmounts; the device is free when this returns.
    pub(crate) fn unmount(self, device: &Path) -> io::Result<()> {
        let Self { root, mount } = self;
        rustix::fs::syncfs(&root)?;
        drop((root, mount));
        let deadline = Instant::now() + LET_GO;
        while is_in_use(device)? {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "{} is still in use by this host",
                    device.display()
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// What the kernel has to say about a mount that failed.
fn said(context: BorrowedFd<'_>) -> String {
    let mut text = String::new();
    let mut line = [0; 1024];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut line) {
        text.push_str("; ");
        text.push_str(String::from_utf8_lossy(&line[..length]).trim());
    }
    text
}

/// Is the device mounted, or held in another way, on this host?
pub(crate) fn is_in_use(device: &Path) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::open(device, flags, Mode::empty()) {
        Ok(_) => Ok(false),
        Err(Errno::BUSY) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// A device that is set read-only for as long as this lives, and this process.
#[derive(Debug)]
pub(crate) struct ReadOnly<'a>(Option<(&'a Path, Afterwards)>);

impl<'a> ReadOnly<'a> {
    pub(crate) fn new(device: &'a Path) -> io::Result<Self> {
        // Somebody has left it read-only, perhaps an earlier run that was killed together with what it had started.
        blockdev("--setrw", device)?;
        if blockdev("--getro", device)?.trim() == "1" {
            return Ok(Self(None));
        }
        let afterwards = Afterwards::run("exec blockdev --setrw \"$1\"", device)?;
        blockdev("--setro", device)?;
        Ok(Self(Some((device, afterwards))))
    }

    /// The device can never be written from here.
    pub(crate) fn always(&self) -> bool {
        self.0.is_none()
    }
}

impl Drop for ReadOnly<'_> {
    fn drop(&mut self) {
        if let Some((device, afterwards)) = &mut self.0
            && let Err(error) = afterwards.now()
        {
            eprintln!("holdfast: {} stays read-only: {error}", device.display());
        }
    }
}

/// A script that runs when this process is gone, however it ends, or when it says so.
#[derive(Debug)]
struct Afterwards(Child);

impl Afterwards {
    /// The script has the path as its first argument. A Ctrl-C at the terminal is not for it.
    fn run(script: &str, path: &Path) -> io::Result<Self> {
        let script = format!("read -r _; {script}");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg("sh").arg(path);
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        command.spawn().map(Self)
    }

    /// Returns when it has run.
    fn now(&mut self) -> io::Result<()> {
        drop(self.0.stdin.take());
        let status = self.0.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("blockdev --setrw: {status}")))
    }
}

/// The ioctl has no safe form; the program is part of util-linux.
fn blockdev(what: &str, device: &Path) -> io::Result<String> {
    let run = Command::new("blockdev").arg(what).arg(device).output()?;
    if run.status.success() {
        return Ok(String::from_utf8_lossy(&run.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&run.stderr).trim().to_owned();
    Err(io::Error::other(format!("blockdev {what}: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_known_by_their_first_bytes() {
        let mut start = vec![0; 2048];
        assert_eq!(FileSystem::of(&start), None);
        start[1080..1082].copy_from_slice(&[0x53, 0xef]);
        assert_eq!(FileSystem::of(&start), Some(FileSystem::Ext4));
        start[..4].copy_from_slice(b"XFSB");
        assert_eq!(FileSystem::of(&start), Some(FileSystem::Xfs));
        assert_eq!(FileSystem::of(b""), None);
    }

    #[test]
    fn what_comes_afterwards_comes_after_the_end_of_a_process_too() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a file");
        let mut told = Afterwards::run("exec touch \"$1\"", &file).unwrap();
        assert!(!file.exists());
        told.now().unwrap();
        assert!(file.exists());
        std::fs::remove_file(&file).unwrap();
        // The kernel closes a dead process's end of the pipe, and does no more.
        let mut left = Afterwards::run("exec touch \"$1\"", &file).unwrap();
        drop(left.0.stdin.take());
        assert!(left.0.wait().unwrap().success() && file.exists());
        let mut failing = Afterwards::run("exit 3", &file).unwrap();
        assert!(failing.now().is_err());
    }
}
