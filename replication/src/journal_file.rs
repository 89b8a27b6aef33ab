//! The journal's files: `<state>/journal/<epoch>.journal`, of which one is in force.
//!
//! A file comes into being complete: header and snapshot go into `new.tmp`, are made durable, and the name is changed. So
//! whatever carries a journal's name began whole, and the newest name is the file in force; a crash before the old one
//! was deleted leaves both, which is harmless. What is inside (docs/journal.md) is parsed by
//! [`replication_engine::journal`]; a torn end is accepted there, damage to what was durable is an error that names file and offset.
//!
//! Files grow in steps filled with zeros. An append inside a step changes no metadata of the file, so its `fdatasync`
//! writes the data and nothing else.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use replication_engine::journal::{HEADER_BYTES, Header, Journal, JournalError, parse};

use crate::journal_writer::JournalStore;

/// Files grow by this much.
const STEP: u64 = 1 << 20;
const SUFFIX: &str = "journal";
const UNFINISHED: &str = "new.tmp";

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalFileError {
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The content is damaged or foreign.
    #[error("{path}: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its offset.
        source: JournalError,
    },
    /// Name and header do not agree.
    #[error("{path}: the header says epoch {found}; the file was renamed or exchanged")]
    Renamed {
        /// The file.
        path: PathBuf,
        /// What its header says.
        found: u64,
    },
}

/// The directory, and the file in force once there is one.
pub(crate) struct JournalDirectory {
    path: PathBuf,
    current: Option<Current>,
}

struct Current {
    file: File,
    path: PathBuf,
    /// Bytes of header and records.
    written: u64,
    /// Bytes of the file; zeros behind `written`.
    allocated: u64,
}

/// A journal that was found.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) journal: Journal,
}

impl JournalDirectory {
    /// Opens (or makes) the directory and reads the file in force. Nothing is changed but leftovers removed; the next
    /// [`JournalStore::replace`] starts a new file.
    pub(crate) fn open(path: &Path) -> Result<(Self, Option<Found>), JournalFileError> {
        fs::create_dir_all(path).map_err(system("make the directory", path))?;
        let unfinished = path.join(UNFINISHED);
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(system("remove", &unfinished)(error));
            }
            _ => {}
        }
        let newest = epochs(path).map_err(system("list", path))?.into_iter().max();
        let found = newest.map(|epoch| read(path, epoch)).transpose()?;
        Ok((
            Self {
                path: path.to_owned(),
                current: None,
            },
            found,
        ))
    }

    fn remove_all_but(&self, keep: u64) -> io::Result<()> {
        for epoch in epochs(&self.path)? {
            if epoch != keep {
                fs::remove_file(self.path.join(file_name(epoch)))?;
            }
        }
        Ok(())
    }
}

impl JournalStore for JournalDirectory {
    fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        let current = self
            .current
            .as_mut()
            .ok_or_else(|| io::Error::other("no journal file was started"))?;
        let end = current.written + frames.len() as u64;
        if end > current.allocated {
            let allocated = end.next_multiple_of(STEP);
            let zeros = vec![0; (allocated - current.allocated) as usize];
            current
                .file
                .write_all_at(&zeros, current.allocated)
                .map_err(naming(&current.path))?;
            current.allocated = allocated;
        }
        current
            .file
            .write_all_at(frames, current.written)
            .map_err(naming(&current.path))?;
        current.written = end;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        match &self.current {
            Some(current) => current.file.sync_data().map_err(naming(&current.path)),
            None => Ok(()),
        }
    }

    fn replace(&mut self, epoch: u64, content: &[u8]) -> io::Result<()> {
        let unfinished = self.path.join(UNFINISHED);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&unfinished);
        let file = file.map_err(naming(&unfinished))?;
        let written = content.len() as u64;
        let allocated = (written + 1).next_multiple_of(STEP);
        let whole = || {
            file.write_all_at(content, 0)?;
            file.write_all_at(&vec![0; (allocated - written) as usize], written)?;
            file.sync_all()
        };
        whole().map_err(naming(&unfinished))?;
        let path = self.path.join(file_name(epoch));
        fs::rename(&unfinished, &path).map_err(naming(&path))?;
        File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(naming(&self.path))?;
        self.current = Some(Current {
            file,
            path,
            written,
            allocated,
        });
        self.remove_all_but(epoch)
    }

    fn size(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.written)
    }
}

fn read(directory: &Path, epoch: u64) -> Result<Found, JournalFileError> {
    let path = directory.join(file_name(epoch));
    let bytes = fs::read(&path).map_err(system("read", &path))?;
    let journal = parse(&bytes).map_err(|source| JournalFileError::Content {
        path: path.clone(),
        source,
    })?;
    if journal.header.epoch != epoch {
        return Err(JournalFileError::Renamed {
            path,
            found: journal.header.epoch,
        });
    }
    if journal.torn {
        tracing::info!(path = %path.display(), offset = journal.valid_len, "the journal has a torn end, as a crash leaves it");
    }
    Ok(Found { path, journal })
}

/// The epochs of the files there. Names that are not a journal's are left alone.
fn epochs(directory: &Path) -> io::Result<Vec<u64>> {
    let mut epochs = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = PathBuf::from(entry?.file_name());
        let epoch = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        epochs.extend(epoch.filter(|epoch| path == Path::new(&file_name(*epoch))));
    }
    Ok(epochs)
}

fn file_name(epoch: u64) -> String {
    format!("{epoch:010}.{SUFFIX}")
}

/// A fresh file's first bytes.
pub(crate) fn first_bytes(header: &Header) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4096);
    bytes.extend_from_slice(&header.encode());
    debug_assert_eq!(bytes.len(), HEADER_BYTES);
    bytes
}

fn system<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> JournalFileError + 'a {
    move |source| JournalFileError::System {
        action,
        path: path.to_owned(),
        source,
    }
}

fn naming(path: &Path) -> impl FnOnce(io::Error) -> io::Error + '_ {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use replication_engine::{
        ids::{Region, VolumeId},
        journal::{Record, Writer},
    };
    use tempfile::TempDir;

    use super::*;

    fn header(epoch: u64) -> Header {
        Header {
            epoch,
            system_id: *b"HF-A            ",
            track_size: 65536,
        }
    }

    fn hot(region: u64) -> Record {
        Record::Hot(vec![(VolumeId(1), Region(region))])
    }

    fn snapshot(writer: &mut Writer, epoch: u64) -> Vec<u8> {
        let mut bytes = first_bytes(&header(epoch));
        writer.append(&Record::SnapshotBegin { at_ms: 0 }, &mut bytes);
        writer.append(&Record::SnapshotEnd, &mut bytes);
        bytes
    }

    /// A directory with a file of that epoch and three durable records behind the snapshot.
    fn filled(epoch: u64) -> (TempDir, JournalDirectory, Writer) {
        let state = TempDir::new().unwrap();
        let (mut directory, found) = JournalDirectory::open(&state.path().join("journal")).unwrap();
        assert!(found.is_none());
        let mut writer = Writer::new(&header(epoch));
        directory.replace(epoch, &snapshot(&mut writer, epoch)).unwrap();
        writer.synced(writer.last());
        for region in 0..3 {
            let mut frame = Vec::new();
            writer.append(&hot(region), &mut frame);
            directory.append(&frame).unwrap();
            directory.sync().unwrap();
            writer.synced(writer.last());
        }
        (state, directory, writer)
    }

    fn reopen(state: &TempDir) -> Result<Found, JournalFileError> {
        JournalDirectory::open(&state.path().join("journal")).map(|(_, found)| found.expect("a journal"))
    }

    #[test]
    fn what_was_appended_is_read_again() {
        let (state, ..) = filled(7);
        let found = reopen(&state).unwrap();
        assert_eq!(found.journal.header, header(7));
        assert_eq!(found.journal.entries.len(), 5);
        assert_eq!(found.journal.entries[4].record, hot(2));
        assert!(!found.journal.torn);
    }

    #[test]
    fn files_grow_in_steps() {
        let (state, mut directory, mut writer) = filled(1);
        let path = state.path().join("journal").join(file_name(1));
        assert_eq!(fs::metadata(&path).unwrap().len(), STEP);
        let mut frames = Vec::new();
        while (frames.len() as u64) < STEP {
            writer.append(&hot(9), &mut frames);
        }
        directory.append(&frames).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 2 * STEP);
        assert!(!reopen(&state).unwrap().journal.torn);
    }

    #[test]
    fn a_new_epoch_replaces_the_old_file() {
        let (state, mut directory, _) = filled(1);
        directory
            .replace(2, &snapshot(&mut Writer::new(&header(2)), 2))
            .unwrap();
        assert_eq!(epochs(&state.path().join("journal")).unwrap(), [2]);
        assert_eq!(reopen(&state).unwrap().journal.entries.len(), 2);
    }

    #[test]
    fn of_two_files_the_newer_one_is_in_force_and_an_unfinished_one_is_not() {
        let (state, mut directory, _) = filled(1);
        let journal = state.path().join("journal");
        let old = fs::read(journal.join(file_name(1))).unwrap();
        directory
            .replace(2, &snapshot(&mut Writer::new(&header(2)), 2))
            .unwrap();
        fs::write(journal.join(file_name(1)), old).unwrap();
        fs::write(journal.join(UNFINISHED), b"half a file").unwrap();
        assert_eq!(reopen(&state).unwrap().journal.header.epoch, 2);
        assert!(!journal.join(UNFINISHED).exists());
    }

    #[test]
    fn a_torn_end_is_accepted() {
        let (state, mut directory, mut writer) = filled(1);
        let mut frame = Vec::new();
        writer.append(&hot(3), &mut frame);
        directory.append(&frame[..frame.len() - 8]).unwrap();
        let found = reopen(&state).unwrap();
        assert_eq!(found.journal.entries.len(), 5);
        assert!(found.journal.torn);
    }

    #[test]
    fn damage_names_the_file_and_the_offset() {
        let (state, ..) = filled(1);
        let offset = reopen(&state).unwrap().journal.entries[2].offset;
        let path = state.path().join("journal").join(file_name(1));
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0xff], offset + 33).unwrap();
        let error = reopen(&state).err().expect("damage is not accepted").to_string();
        assert!(
            error.contains(&file_name(1)) && error.contains(&offset.to_string()),
            "{error}"
        );
    }

    #[test]
    fn foreign_files_are_refused() {
        let (state, ..) = filled(1);
        let journal = state.path().join("journal");
        fs::rename(journal.join(file_name(1)), journal.join(file_name(5))).unwrap();
        assert!(matches!(
            reopen(&state),
            Err(JournalFileError::Renamed { found: 1, .. })
        ));
        fs::write(journal.join(file_name(6)), vec![0; 4096]).unwrap();
        assert!(matches!(reopen(&state), Err(JournalFileError::Content { .. })));
    }
}
