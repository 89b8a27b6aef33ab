//! The planner: which files are copied how, or that the whole volume is. Pure: it is given what the file systems hold.
//!
//! Files are named from the root of the volume's file system. What is named is restored and nothing else (S73): a directory is
//! everything in it, a symbolic link is itself. Names of one file (hard links) that are all asked for are one file again; a name
//! whose other names are not asked for becomes a file of its own, and a note says so.
//!
//! The whole volume is copied instead (S77, Fig. 6) when the image has no file that was not asked for and the volume to restore
//! has none either: the result is the same, and only tracks that differ are copied. A volume whose file system does not mount
//! has no files that could be lost.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

/// What a name in the image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file of so many bytes.
    File(u64),
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A device, a pipe or a socket.
    Special,
}

/// A name in the image that was asked for, or lies in a directory that was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// From the root of the file system, without a slash before.
    pub(crate) path: PathBuf,
    /// What it is.
    pub(crate) kind: Kind,
    /// Which file it is: two names with one number are one file.
    pub(crate) inode: u64,
    /// Names that the file has.
    pub(crate) names: u64,
}

/// What was found of one name asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// This, a directory before what is in it.
    Entries(Vec<Entry>),
    /// Nothing.
    Missing,
    /// One of its directories is a symbolic link, which might lead anywhere.
    ThroughLink,
}

/// What is known of the volume to restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// It has only files that were asked for, if any.
    NothingElse,
    /// It has a file that was not asked for.
    Holds,
    /// Its file system does not mount, for this reason.
    Unmountable(String),
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make it, if it is not there.
    Directory(PathBuf),
    /// Copy it: so many bytes.
    File(PathBuf, u64),
    /// Make it again.
    Symlink(PathBuf),
    /// Make `name` another name of `file`, which an earlier step restores.
    Name {
        /// The new name.
        name: PathBuf,
        /// The file's first.
        file: PathBuf,
    },
    /// Give the directory, whose content is there now, the owner, mode and times of the image.
    Finish(PathBuf),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Fig. 5.
    Files {
        /// In this order.
        steps: Vec<Step>,
        /// What the user should know.
        notes: Vec<String>,
    },
    /// Fig. 6, for this reason.
    Volume(&'static str),
}

/// Why nothing is restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// A name that leads out of the volume.
    #[error("{0:?} leads out of the volume: files are named from the root of its file system, without `..`")]
    Escapes(String),
    /// Not in the image.
    #[error("the image has no {}", list(.0))]
    Missing(Vec<PathBuf>),
    /// See [`Found::ThroughLink`].
    #[error("{} goes through a symbolic link: name the file where it is", .0.display())]
    ThroughLink(PathBuf),
    /// See [`Kind::Special`].
    #[error("{} is a device, a pipe or a socket; files, symbolic links and directories are restored", .0.display())]
    Special(PathBuf),
    /// Some files are wanted, and there is no file system to put them into.
    #[error("the volume to restore does not mount ({0}), and the image has other files ({path}) beside those asked for: `restore-volume` restores them all", path = .1.display())]
    Unmountable(String, PathBuf),
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}

/// A name as it is typed, from the root of the file system: an empty path is all of it.
pub(crate) fn name(typed: &str) -> Result<PathBuf, Refusal> {
    let mut path = PathBuf::new();
    for component in Path::new(typed).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(Refusal::Escapes(typed.to_owned())),
        }
    }
    if typed.is_empty() {
        return Err(Refusal::Escapes(typed.to_owned()));
    }
    Ok(path)
}

/// Is this file one of those asked for, by itself or by a directory above it?
pub(crate) fn asked_for(names: &[PathBuf], path: &Path) -> bool {
    names.iter().any(|name| path.starts_with(name))
}

/// Everything found, if all of it can be restored.
pub(crate) fn entries(found: Vec<(PathBuf, Found)>) -> Result<Vec<Entry>, Refusal> {
    let mut all: BTreeMap<PathBuf, Entry> = BTreeMap::new();
    let mut missing = Vec::new();
    for (name, found) in found {
        match found {
            Found::Missing => missing.push(name),
            Found::ThroughLink => return Err(Refusal::ThroughLink(name)),
            // Names may overlap: each entry once.
            Found::Entries(entries) => {
                all.extend(entries.into_iter().map(|entry| (entry.path.clone(), entry)));
            }
        }
    }
    if !missing.is_empty() {
        return Err(Refusal::Missing(missing));
    }
    let special = |entry: &&Entry| entry.kind == Kind::Special;
    if let Some(entry) = all.values().find(special) {
        return Err(Refusal::Special(entry.path.clone()));
    }
    // In the order of paths a directory comes before what is in it.
    Ok(all.into_values().collect())
}

/// The plan. `other` is a file of the image that was not asked for, if there is one.
pub(crate) fn plan(entries: &[Entry], other: Option<&Path>, target: &Target) -> Result<Plan, Refusal> {
    match (other, target) {
        (None, Target::NothingElse) => {
            return Ok(Plan::Volume("the files named are all that the volume holds"));
        }
        (None, Target::Unmountable(_)) => {
            return Ok(Plan::Volume(
                "the files named are all of the image, and the volume to restore does not mount",
            ));
        }
        (Some(other), Target::Unmountable(why)) => {
            return Err(Refusal::Unmountable(why.clone(), other.to_owned()));
        }
        (_, Target::Holds) | (Some(_), Target::NothingElse) => {}
    }
    Ok(steps(entries))
}

fn steps(entries: &[Entry]) -> Plan {
    let (mut steps, mut finish, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    let mut first: BTreeMap<u64, &Entry> = BTreeMap::new();
    let mut asked: BTreeMap<u64, u64> = BTreeMap::new();
    for entry in entries {
        let path = entry.path.clone();
        match entry.kind {
            Kind::Directory => {
                steps.push(Step::Directory(path.clone()));
                finish.push(Step::Finish(path));
            }
            Kind::Symlink => steps.push(Step::Symlink(path)),
            Kind::File(bytes) => {
                *asked.entry(entry.inode).or_default() += 1;
                match first.get(&entry.inode) {
                    Some(file) if entry.names > 1 => {
                        let file = file.path.clone();
                        steps.push(Step::Name { name: path, file });
                    }
                    _ => {
                        first.insert(entry.inode, entry);
                        steps.push(Step::File(path, bytes));
                    }
                }
            }
            Kind::Special => {}
        }
    }
    for (inode, file) in &first {
        let asked = asked.get(inode).copied().unwrap_or_default();
        if file.names > asked {
            notes.push(format!(
                "{} has {} names in the image, {asked} of them asked for: the others are left as they are, and are no longer the same file",
                file.path.display(),
                file.names
            ));
        }
    }
    steps.extend(finish.into_iter().rev());
    Plan::Files { steps, notes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind, inode: u64, names: u64) -> Entry {
        Entry {
            path: PathBuf::from(path),
            kind,
            inode,
            names,
        }
    }

    fn file(path: &str, inode: u64) -> Entry {
        entry(path, Kind::File(10), inode, 1)
    }

    /// S73: no name leads out of the volume.
    #[test]
    fn names_stay_in_the_volume() {
        assert_eq!(name("/db/./x").unwrap(), PathBuf::from("db/x"));
        assert_eq!(name("/").unwrap(), PathBuf::new());
        for typed in ["../x", "/db/../../etc/passwd", "", "a/.."] {
            assert_eq!(name(typed), Err(Refusal::Escapes(typed.to_owned())));
        }
        let names = [PathBuf::from("db"), PathBuf::from("etc/x")];
        assert!(asked_for(&names, Path::new("db/a/b")) && asked_for(&names, Path::new("etc/x")));
        assert!(!asked_for(&names, Path::new("dbx")) && !asked_for(&names, Path::new("etc")));
        assert!(asked_for(&[PathBuf::new()], Path::new("anything")));
    }

    /// S73: all that is missing is said at once, and what cannot be restored is refused.
    #[test]
    fn what_cannot_be_restored_is_refused_by_name() {
        let of = |path: &str, found| (PathBuf::from(path), found);
        let missing = entries(vec![
            of("a", Found::Missing),
            of("b", Found::Entries(vec![file("b", 1)])),
            of("c", Found::Missing),
        ]);
        assert_eq!(missing, Err(Refusal::Missing(vec!["a".into(), "c".into()])));
        assert_eq!(missing.unwrap_err().to_string(), "the image has no a, c");
        assert_eq!(
            entries(vec![of("l/x", Found::ThroughLink)]),
            Err(Refusal::ThroughLink("l/x".into()))
        );
        let pipe = entry("p", Kind::Special, 1, 1);
        assert_eq!(
            entries(vec![of("p", Found::Entries(vec![pipe]))]),
            Err(Refusal::Special("p".into()))
        );
    }

    #[test]
    fn a_name_that_is_asked_for_twice_is_restored_once() {
        let directory = entry("d", Kind::Directory, 1, 2);
        let found = vec![
            (PathBuf::from("d/x"), Found::Entries(vec![file("d/x", 2)])),
            (
                PathBuf::from("d"),
                Found::Entries(vec![directory.clone(), file("d/x", 2)]),
            ),
        ];
        assert_eq!(entries(found).unwrap(), [directory, file("d/x", 2)]);
    }

    /// S77: the whole volume exactly when nothing else is in it, on either side.
    #[test]
    fn the_whole_volume_is_taken_when_nothing_else_is_in_it() {
        let all = [file("a", 1)];
        let other = Path::new("b");
        let volume = |other, target: &Target| matches!(plan(&all, other, target), Ok(Plan::Volume(_)));
        assert!(volume(None, &Target::NothingElse));
        assert!(volume(None, &Target::Unmountable("bad magic".into())));
        assert!(!volume(None, &Target::Holds));
        assert!(!volume(Some(other), &Target::NothingElse));
        assert_eq!(
            plan(&all, Some(other), &Target::Unmountable("bad magic".into())),
            Err(Refusal::Unmountable("bad magic".into(), "b".into()))
        );
    }

    #[test]
    fn links_are_kept_and_broken_ones_are_told() {
        let linked = |path: &str, names| entry(path, Kind::File(10), 7, names);
        let entries = [
            entry("d", Kind::Directory, 1, 2),
            linked("d/a", 3),
            linked("d/b", 3),
            entry("d/l", Kind::Symlink, 9, 1),
        ];
        let plan = plan(&entries, Some(Path::new("other")), &Target::NothingElse).unwrap();
        let Plan::Files { steps, notes } = plan else {
            panic!("not all was asked for");
        };
        let name = Step::Name {
            name: "d/b".into(),
            file: "d/a".into(),
        };
        assert_eq!(
            steps,
            [
                Step::Directory("d".into()),
                Step::File("d/a".into(), 10),
                name,
                Step::Symlink("d/l".into()),
                Step::Finish("d".into())
            ]
        );
        assert!(notes.len() == 1 && notes[0].contains("3 names"), "{notes:?}");
    }
}
