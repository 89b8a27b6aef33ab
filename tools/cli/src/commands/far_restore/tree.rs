//! What a mounted file system holds. No name leads out of it: paths are resolved beneath its root, through no symbolic link and into no
//! other mount (openat2).

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use super::plan::{Entry, Found, Kind, asked_for};

/// Opens a path beneath `root`; an empty one is the root.
pub(crate) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// The directory that a path lies in, opened, and the name there.
pub(crate) fn parent(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let parent = path.parent().unwrap_or(Path::new(""));
    open(root, parent, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// The last part of a path that has one.
pub(crate) fn last(path: &Path) -> &OsStr {
    path.file_name().unwrap_or(OsStr::new("."))
}

/// What a name is, itself and not what a link leads to.
pub(crate) fn stat(root: BorrowedFd<'_>, path: &Path) -> Result<Stat, Errno> {
    let parent = parent(root, path)?;
    rustix::fs::statat(&parent, last(path), AtFlags::SYMLINK_NOFOLLOW)
}

/// What there is under a name that was asked for.
pub(crate) fn find(root: BorrowedFd<'_>, name: &Path) -> io::Result<Found> {
    let stat = match stat(root, name) {
        Ok(stat) => stat,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Found::Missing),
        Err(Errno::LOOP | Errno::XDEV) => return Ok(Found::ThroughLink),
        Err(errno) => return Err(errno.into()),
    };
    let first = entry(name.to_owned(), &stat);
    let mut entries = Vec::new();
    if first.kind == Kind::Directory {
        walk(root, name, &mut |entry| {
            entries.push(entry);
            true
        })?;
    }
    if !name.as_os_str().is_empty() {
        entries.insert(0, first);
    }
    Ok(Found::Entries(entries))
}

/// A file that is none of those asked for, if there is one. Directories do not count: an empty one holds nothing.
pub(crate) fn other(root: BorrowedFd<'_>, names: &[PathBuf]) -> io::Result<Option<PathBuf>> {
    let mut other = None;
    walk(root, Path::new(""), &mut |entry| {
        if entry.kind != Kind::Directory && !asked_for(names, &entry.path) {
            other = Some(entry.path);
        }
        other.is_none()
    })?;
    Ok(other)
}

/// Everything beneath a directory, until `visit` has seen enough.
fn walk(root: BorrowedFd<'_>, top: &Path, visit: &mut dyn FnMut(Entry) -> bool) -> io::Result<()> {
    let mut waiting = vec![top.to_owned()];
    while let Some(path) = waiting.pop() {
        let directory = open(root, &path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        for found in Dir::read_from(&directory)? {
            let found = found?;
            let name = OsStr::from_bytes(found.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let entry = entry(path.join(name), &stat);
            if entry.kind == Kind::Directory {
                waiting.push(entry.path.clone());
            }
            if !visit(entry) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn entry(path: PathBuf, stat: &Stat) -> Entry {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File(u64::try_from(stat.st_size).unwrap_or(0)),
        FileType::Symlink => Kind::Symlink,
        FileType::Directory => Kind::Directory,
        _ => Kind::Special,
    };
    Entry {
        path,
        kind,
        inode: stat.st_ino,
        names: stat.st_nlink,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::{fd::AsFd as _, unix::fs::symlink},
    };

    use super::*;

    /// S73: what is asked for is found, and no way leads out.
    #[test]
    fn names_are_resolved_beneath_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("d/e")).unwrap();
        fs::write(at("d/e/x"), "12345").unwrap();
        symlink("/etc", at("out")).unwrap();
        let root = File::open(directory.path()).unwrap();
        let find = |name: &str| find(root.as_fd(), Path::new(name)).unwrap();
        assert_eq!(find("out/passwd"), Found::ThroughLink);
        assert_eq!(find("nothing/here"), Found::Missing);
        assert_eq!(find("d/e/x/y"), Found::Missing);
        let Found::Entries(entries) = find("d") else {
            panic!("it is there");
        };
        let kinds: Vec<_> = entries
            .iter()
            .map(|entry| (entry.path.to_str().unwrap(), entry.kind))
            .collect();
        assert_eq!(
            kinds,
            [
                ("d", Kind::Directory),
                ("d/e", Kind::Directory),
                ("d/e/x", Kind::File(5))
            ]
        );
        let other = |names: &[&str]| {
            let names: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
            other(root.as_fd(), &names).unwrap()
        };
        assert_eq!(other(&["d"]), Some("out".into()));
        assert_eq!(other(&["d/e/x", "out"]), None);
    }
}
