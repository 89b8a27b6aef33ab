//! Copying one thing from the image to the volume: contents with their holes, owner, mode, times to the nanosecond, extended attributes
//! (ACLs are among them).
//!
//! A file is written beside its place, made durable, and renamed into it, so that there is the old one or the new one at any moment. What is left
//! beside it by an interruption is overwritten by the next attempt. Not copied: the time of creation and the flags of chattr, which
//! have no portable form, and extended attributes of symbolic links.

use std::{
    ffi::{CString, OsString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::tree;

/// Bytes between two looks whether to stop.
const PIECE: usize = 1 << 20;
/// The one attribute that a new file may get from its directory.
const INHERITED: &str = "system.posix_acl_access";

/// The image's root and the volume's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Roots<'a> {
    pub(crate) from: BorrowedFd<'a>,
    pub(crate) to: BorrowedFd<'a>,
}

impl Roots<'_> {
    /// A file. `copied` hears of every piece, and stops it with an error.
    pub(crate) fn file<E: From<io::Error>>(
        self,
        path: &Path,
        copied: &mut dyn FnMut(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let fail = |errno: Errno| E::from(io::Error::from(errno));
        let from = tree::open(self.from, path, OFlags::RDONLY).map_err(fail)?;
        let stat = rustix::fs::fstat(&from).map_err(fail)?;
        let directory = self.directory_of(path).map_err(E::from)?;
        let beside = beside(stat.st_ino);
        unlink(directory.as_fd(), &beside).map_err(fail)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = rustix::fs::openat(&directory, &beside, flags, Mode::RUSR | Mode::WUSR).map_err(fail)?;
        let mut copy = || -> Result<(), E> {
            contents(&from, &to, stat.st_size.cast_unsigned(), copied)?;
            attributes(from.as_fd(), to.as_fd(), &stat).map_err(fail)?;
            rustix::fs::fsync(&to).map_err(fail)?;
            rustix::fs::renameat(&directory, &beside, &directory, tree::last(path)).map_err(fail)?;
            rustix::fs::fsync(&directory).map_err(fail)
        };
        copy().inspect_err(|_| {
            // The reason is told; what lies beside is overwritten next time if it cannot be taken away now.
            let _ = unlink(directory.as_fd(), &beside);
        })
    }

    /// A symbolic link.
    pub(crate) fn symlink(self, path: &Path) -> io::Result<()> {
        let from = tree::parent(self.from, path)?;
        let stat = rustix::fs::statat(&from, tree::last(path), AtFlags::SYMLINK_NOFOLLOW)?;
        let leads: CString = rustix::fs::readlinkat(&from, tree::last(path), Vec::new())?;
        let directory = self.directory_of(path)?;
        let beside = beside(stat.st_ino);
        unlink(directory.as_fd(), &beside)?;
        rustix::fs::symlinkat(leads.as_c_str(), &directory, &beside)?;
        let (uid, gid) = owner(&stat);
        rustix::fs::chownat(&directory, &beside, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::utimensat(&directory, &beside, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::renameat(&directory, &beside, &directory, tree::last(path))?;
        Ok(rustix::fs::fsync(&directory)?)
    }

    /// Another name of a file that is restored already.
    pub(crate) fn name(self, name: &Path, file: &Path) -> io::Result<()> {
        let there = tree::parent(self.to, file)?;
        let stat = rustix::fs::statat(&there, tree::last(file), AtFlags::SYMLINK_NOFOLLOW)?;
        let directory = self.directory_of(name)?;
        let beside = beside(stat.st_ino);
        unlink(directory.as_fd(), &beside)?;
        rustix::fs::linkat(&there, tree::last(file), &directory, &beside, AtFlags::empty())?;
        rustix::fs::renameat(&directory, &beside, &directory, tree::last(name))?;
        // Between two names of one file a rename does nothing.
        unlink(directory.as_fd(), &beside)?;
        Ok(rustix::fs::fsync(&directory)?)
    }

    /// A directory, if it is not there.
    pub(crate) fn directory(self, path: &Path) -> io::Result<()> {
        let parent = self.directory_of(path)?;
        match rustix::fs::mkdirat(&parent, tree::last(path), Mode::RWXU) {
            Ok(()) => {
                self.finish(path)?;
                Ok(rustix::fs::fsync(&parent)?)
            }
            Err(Errno::EXIST) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                Ok(tree::open(self.to, path, flags).map(drop)?)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Owner, mode, times and attributes of a directory.
    pub(crate) fn finish(self, path: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let from = tree::open(self.from, path, flags)?;
        let to = tree::open(self.to, path, flags)?;
        let stat = rustix::fs::fstat(&from)?;
        attributes(from.as_fd(), to.as_fd(), &stat)?;
        Ok(rustix::fs::fsync(&to)?)
    }

    /// The directory of a path on the volume. Those that are missing are made as the image has them.
    fn directory_of(self, path: &Path) -> io::Result<OwnedFd> {
        match tree::parent(self.to, path) {
            Err(Errno::NOENT) => {
                if let Some(parent) = path.parent() {
                    self.directory(parent)?;
                }
                Ok(tree::parent(self.to, path)?)
            }
            found => Ok(found?),
        }
    }
}

/// A name that no file of the user has, the same for each attempt.
fn beside(inode: u64) -> OsString {
    OsString::from(format!(".holdfast-restore.{inode}"))
}

fn unlink(directory: BorrowedFd<'_>, name: &OsString) -> Result<(), Errno> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

/// What is written, where it is written; holes stay holes.
fn contents<E: From<io::Error>>(
    from: &OwnedFd,
    to: &OwnedFd,
    length: u64,
    copied: &mut dyn FnMut(u64) -> Result<(), E>,
) -> Result<(), E> {
    let fail = |errno: Errno| E::from(io::Error::from(errno));
    rustix::fs::ftruncate(to, length).map_err(fail)?;
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < length {
        let data = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data.min(length),
            Err(Errno::NXIO) => length,
            Err(errno) => return Err(fail(errno)),
        };
        copied(data - at)?;
        at = data;
        if at == length {
            break;
        }
        let end = rustix::fs::seek(from, SeekFrom::Hole(at))
            .map_err(fail)?
            .min(length);
        while at < end {
            let most = (end - at).min(PIECE as u64) as usize;
            let read = rustix::io::pread(from, &mut buffer[..most], at).map_err(fail)?;
            if read == 0 {
                let short = io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before its length");
                return Err(short.into());
            }
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                let written = rustix::io::pwrite(to, rest, at).map_err(fail)?;
                at += written as u64;
                rest = &rest[written..];
            }
            copied(read as u64)?;
        }
    }
    Ok(())
}

/// The owner first: a change of it takes set-user-id bits and capabilities away.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = owner(stat);
    rustix::fs::fchown(to, uid, gid)?;
    let wanted = names_of_attributes(from)?;
    for name in &wanted {
        let mut value = vec![0; rustix::fs::fgetxattr_query(from, name.as_c_str())?];
        let length = rustix::fs::fgetxattr(from, name.as_c_str(), &mut value[..])?;
        rustix::fs::fsetxattr(to, name.as_c_str(), &value[..length], XattrFlags::empty())?;
    }
    let inherited = |name: &&CString| name.as_bytes() == INHERITED.as_bytes() && !wanted.contains(name);
    if names_of_attributes(to)?.iter().any(|name| inherited(&name)) {
        rustix::fs::fremovexattr(to, INHERITED)?;
    }
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    rustix::fs::futimens(to, &times(stat))
}

fn names_of_attributes(file: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = vec![0u8; rustix::fs::flistxattr_query(file)?];
    let length = rustix::fs::flistxattr(file, &mut names[..])?;
    let names = names[..length].split_inclusive(|byte| *byte == 0);
    Ok(names
        .filter_map(|name| CString::from_vec_with_nul(name.to_vec()).ok())
        .collect())
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    };

    use super::*;

    struct Two {
        directory: tempfile::TempDir,
        from: File,
        to: File,
    }

    impl Two {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let make = |name| {
                fs::create_dir(directory.path().join(name)).unwrap();
                File::open(directory.path().join(name)).unwrap()
            };
            let (from, to) = (make("from"), make("to"));
            Self { directory, from, to }
        }

        fn roots(&self) -> Roots<'_> {
            Roots {
                from: self.from.as_fd(),
                to: self.to.as_fd(),
            }
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.directory.path().join(name)
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "another one stops the copy")]
    fn all(_: u64) -> io::Result<()> {
        Ok(())
    }

    /// S73: contents, holes, mode, times and attributes, into directories that are missing.
    #[test]
    fn a_file_comes_back_as_it_was() {
        let two = Two::new();
        fs::create_dir_all(two.path("from/a/b")).unwrap();
        fs::set_permissions(two.path("from/a"), fs::Permissions::from_mode(0o710)).unwrap();
        let file = File::create(two.path("from/a/b/x")).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"middle", (32 << 20) + 5).unwrap();
        // Not every file system under /tmp has them.
        let attributes = rustix::fs::fsetxattr(&file, "user.colour", b"blue", XattrFlags::empty()).is_ok();
        file.set_permissions(fs::Permissions::from_mode(0o4751)).unwrap();
        let then = Timestamps {
            last_access: Timespec {
                tv_sec: 1_000_000_000,
                tv_nsec: 123_456_789,
            },
            last_modification: Timespec {
                tv_sec: 1_100_000_000,
                tv_nsec: 987_654_321,
            },
        };
        rustix::fs::futimens(&file, &then).unwrap();
        let mut bytes = 0;
        let mut copied = |more: u64| -> io::Result<()> {
            bytes += more;
            Ok(())
        };
        two.roots().file(Path::new("a/b/x"), &mut copied).unwrap();
        assert!(bytes <= 64 << 20);
        let (was, is) = (
            fs::metadata(two.path("from/a/b/x")).unwrap(),
            fs::metadata(two.path("to/a/b/x")).unwrap(),
        );
        assert_eq!((is.len(), is.mode()), (was.len(), was.mode()));
        assert_eq!((is.mtime(), is.mtime_nsec()), (1_100_000_000, 987_654_321));
        assert!(
            is.blocks() < 2 * 4096,
            "the holes were filled: {} blocks",
            is.blocks()
        );
        let to = File::open(two.path("to/a/b/x")).unwrap();
        let mut middle = [0; 7];
        to.read_exact_at(&mut middle, (32 << 20) + 4).unwrap();
        assert_eq!(&middle, b"\0middle");
        if attributes {
            let mut value = [0; 4];
            rustix::fs::fgetxattr(&to, "user.colour", &mut value[..]).unwrap();
            assert_eq!(&value, b"blue");
        }
        let mode = fs::metadata(two.path("to/a")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o710, "the image's directory");
        let names: Vec<_> = fs::read_dir(two.path("to/a/b")).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left beside it: {names:?}");
    }

    /// S73: one that is stopped leaves the old file and nothing beside it.
    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole() {
        let two = Two::new();
        fs::write(two.path("from/x"), vec![1; 3 << 20]).unwrap();
        fs::write(two.path("to/x"), "old").unwrap();
        fs::write(
            two.path("to")
                .join(beside(fs::metadata(two.path("from/x")).unwrap().ino())),
            "left",
        )
        .unwrap();
        let mut stop = |bytes: u64| {
            if bytes > 0 {
                return Err(io::Error::other("stop"));
            }
            Ok(())
        };
        assert!(two.roots().file(Path::new("x"), &mut stop).is_err());
        assert_eq!(fs::read(two.path("to/x")).unwrap(), b"old");
        assert_eq!(fs::read_dir(two.path("to")).unwrap().count(), 1);
        two.roots().file(Path::new("x"), &mut all).unwrap();
        assert_eq!(fs::read(two.path("to/x")).unwrap(), vec![1; 3 << 20]);
        assert_eq!(fs::read_dir(two.path("to")).unwrap().count(), 1);
    }

    #[test]
    fn links_are_made_again_and_never_followed() {
        let two = Two::new();
        fs::write(two.path("from/x"), "x").unwrap();
        symlink("../elsewhere", two.path("from/l")).unwrap();
        symlink("/etc", two.path("to/d")).unwrap();
        fs::create_dir(two.path("from/d")).unwrap();
        fs::write(two.path("from/d/passwd"), "x").unwrap();
        let roots = two.roots();
        roots.symlink(Path::new("l")).unwrap();
        roots.symlink(Path::new("l")).unwrap();
        assert_eq!(
            fs::read_link(two.path("to/l")).unwrap(),
            Path::new("../elsewhere")
        );
        assert!(
            roots.file(Path::new("d/passwd"), &mut all).is_err(),
            "out of the volume"
        );
        roots.file(Path::new("x"), &mut all).unwrap();
        for _ in 0..2 {
            roots.name(Path::new("y"), Path::new("x")).unwrap();
        }
        let inode = |name| fs::metadata(two.path(name)).unwrap().ino();
        assert_eq!(inode("to/x"), inode("to/y"));
        assert_eq!(fs::read_dir(two.path("to")).unwrap().count(), 4);
    }
}
