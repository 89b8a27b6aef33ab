//! Small state files: one JSON document behind a line that makes it trustworthy.
//!
//! The first line is ASCII, ended by a newline:
//!
//! ```text
//! HOLDFAST-STATE <version> <length of what follows, decimal> <CRC-32C of what follows, 8 hex digits>
//! ```
//!
//! then exactly `length` bytes of JSON. A file is replaced as a whole: written beside its place, synced, renamed
//! over it, and the directory synced, so that a crash leaves the old content or the new. A file that cannot be
//! trusted is an error that says where and why; it is never taken for an empty one, and never overwritten by
//! reading it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

const MAGIC: &str = "HOLDFAST-STATE";

/// The only version there is.
pub const VERSION: u32 = 1;

/// Largest document accepted: nothing that belongs here comes near it.
const LENGTH_LIMIT: u64 = 64 << 20;

/// The document in a state file; `None` when there is no such file.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateFileError> {
    let bytes = match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > LENGTH_LIMIT => {
            return Err(corrupt(
                path,
                0,
                format!("it has {} bytes, more than any state file", metadata.len()),
            ));
        }
        Ok(_) => std::fs::read(path).map_err(|source| system(path, "read", source))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(system(path, "look at", error)),
    };
    let (start, document) = verify(path, &bytes)?;
    let value = serde_json::from_slice(document).map_err(|error| {
        corrupt(
            path,
            start + column_offset(document, &error),
            format!("its document is not understood: {error}"),
        )
    })?;
    Ok(Some(value))
}

/// Replaces a state file. When this returns, the new content is on stable storage.
pub fn store<T: Serialize>(path: &Path, value: &T) -> Result<(), StateFileError> {
    let document = serde_json::to_vec_pretty(value)
        .map_err(|error| system(path, "make the document of", io::Error::other(error)))?;
    let header = format!(
        "{MAGIC} {VERSION} {} {:08x}\n",
        document.len(),
        crc32c::crc32c(&document)
    );
    let temporary = temporary_of(path);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)?;
        file.write_all(header.as_bytes())?;
        file.write_all(&document)?;
        file.sync_all()
    };
    write().map_err(|source| system(&temporary, "write", source))?;
    std::fs::rename(&temporary, path).map_err(|source| system(path, "replace", source))?;
    sync_directory_of(path).map_err(|source| system(path, "sync the directory of", source))
}

/// Removes a state file, if it is there. When this returns, that is on stable storage.
pub fn remove(path: &Path) -> Result<(), StateFileError> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_directory_of(path).map_err(|source| system(path, "sync the directory of", source)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(system(path, "remove", error)),
    }
}

/// Why a state file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// A system call failed.
    #[error("cannot {action} {path}: {source}")]
    System {
        /// The file.
        path: PathBuf,
        /// Verb for the message.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// It is there and cannot be trusted.
    #[error("{path} is damaged at byte {offset}: {reason}; restore it, or move it away to start without it")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the trouble was found.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A later program wrote it.
    #[error("{path} has format version {found}, this program understands {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// Makes a new or renamed directory entry stable.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

/// Checks the first line against the rest; gives the document and its offset.
fn verify<'a>(path: &Path, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), StateFileError> {
    let line_end = bytes.iter().take(80).position(|&byte| byte == b'\n');
    let Some(line_end) = line_end else {
        return Err(corrupt(path, 0, "its first line has no end"));
    };
    let line = std::str::from_utf8(&bytes[..line_end])
        .map_err(|error| corrupt(path, error.valid_up_to() as u64, "its first line is not text"))?;
    let fields: Vec<&str> = line.split(' ').collect();
    let [MAGIC, version, length, checksum] = fields[..] else {
        return Err(corrupt(
            path,
            0,
            format!("its first line is not \"{MAGIC} version length checksum\""),
        ));
    };
    let found = version
        .parse()
        .map_err(|_| corrupt(path, MAGIC.len() as u64 + 1, "no version number"))?;
    if found != VERSION {
        return Err(StateFileError::Version {
            path: path.to_owned(),
            found,
        });
    }
    let start = line_end as u64 + 1;
    let document = &bytes[line_end + 1..];
    if length.parse() != Ok(document.len() as u64) {
        let reason = format!("{length} bytes were written here, {} are there", document.len());
        return Err(corrupt(path, start + document.len() as u64, reason));
    }
    let computed = format!("{:08x}", crc32c::crc32c(document));
    if checksum != computed {
        return Err(corrupt(
            path,
            start,
            format!("its checksum is {computed}, {checksum} was written"),
        ));
    }
    Ok((start, document))
}

fn temporary_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// Byte offset of a JSON error, which comes as line and column.
fn column_offset(document: &[u8], error: &serde_json::Error) -> u64 {
    let lines = document.split_inclusive(|&byte| byte == b'\n');
    let before: usize = lines.take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    (before + error.column().saturating_sub(1)) as u64
}

fn corrupt(path: &Path, offset: u64, reason: impl Into<String>) -> StateFileError {
    StateFileError::Corrupt {
        path: path.to_owned(),
        offset,
        reason: reason.into(),
    }
}

fn system(path: &Path, action: &'static str, source: io::Error) -> StateFileError {
    StateFileError::System {
        path: path.to_owned(),
        action,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        store(&path, &vec![1, 2, 3]).unwrap();
        (directory, path)
    }

    #[test]
    fn what_is_stored_is_loaded_and_replaced() {
        let (_directory, path) = stored();
        assert_eq!(load::<Vec<u32>>(&path).unwrap(), Some(vec![1, 2, 3]));
        store(&path, &vec![4]).unwrap();
        assert_eq!(load::<Vec<u32>>(&path).unwrap(), Some(vec![4]));
        assert_eq!(load::<Vec<u32>>(&path.with_file_name("none")).unwrap(), None);
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        store(&path, &7).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            format!("HOLDFAST-STATE 1 1 {:08x}\n7", crc32c::crc32c(b"7"))
        );
    }

    #[test]
    fn no_torn_file_is_accepted() {
        let (_directory, path) = stored();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = load::<Vec<u32>>(&path).unwrap_err();
            assert!(error.to_string().contains("x.json"), "{error}");
        }
    }

    #[test]
    fn no_flipped_bit_is_accepted() {
        let (_directory, path) = stored();
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            assert!(load::<Vec<u32>>(&path).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_document_of_another_shape_is_named_with_its_place() {
        let (_directory, path) = stored();
        store(&path, &"text").unwrap();
        let error = load::<Vec<u32>>(&path).unwrap_err();
        assert!(
            matches!(error, StateFileError::Corrupt { offset: 28.., .. }),
            "{error}"
        );
        std::fs::write(&path, "HOLDFAST-STATE 9 1 00000000\n7").unwrap();
        assert!(matches!(
            load::<u32>(&path),
            Err(StateFileError::Version { found: 9, .. })
        ));
    }
}
