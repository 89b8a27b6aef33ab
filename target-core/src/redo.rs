//! The redo record that makes a WRITE ATOMIC all or nothing.
//!
//! A file system does not promise that a write of many blocks is in place whole or not at all after a loss of power. So
//! the data goes to a file of its own first, in `units/<volume number>.redo` of the state directory, and is made stable
//! there; then it goes to the volume, stably; then the record is made void, stably. Whatever happens in between:
//!
//! | stopped | the record | the volume | the next start |
//! |---|---|---|---|
//! | while the record is written | its checksum is wrong | as before | leaves all as it is |
//! | while the volume is written | valid | mixed | writes the data again |
//! | while the record is made void | valid or void | as wanted | writes the same again, or nothing |
//!
//! The command is answered only when its record is void. That matters: a record found valid is written to the volume, and
//! must not undo a later write that was answered. When a record cannot be made void the unit takes no writes any more.
//!
//! The file, big-endian: `HFREDO01`, offset (8 bytes), length (8), CRC-32C of offset, length and data (4), 4068 zeros, the data.
//! A void record starts with zeros. There is one at a time, of at most [`LIMIT`] bytes.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;

use crate::{
    media::threads::Threads,
    state_file::{StateFileError, sync_directory_of},
    volume::IoError,
};

/// Most data of a record.
pub const LIMIT: usize = scsi_model::block_commands::MAX_ATOMIC_BYTES as usize;

const MAGIC: &[u8; 8] = b"HFREDO01";
/// The data starts at a block of any device.
const HEADER: usize = 4096;

/// Where the record of a unit is.
#[derive(Debug, Clone)]
pub struct Redo {
    path: PathBuf,
    /// Opened, or made, by the first record.
    file: Arc<Mutex<Option<File>>>,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// First byte of the volume.
    pub offset: u64,
    /// What belongs there.
    pub data: Bytes,
}

impl Redo {
    /// The record in this file, which need not be there.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            file: Arc::default(),
        }
    }

    /// The valid record, if there is one.
    pub fn load(&self) -> Result<Option<Record>, StateFileError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(StateFileError::System {
                    path: self.path.clone(),
                    action: "read",
                    source,
                });
            }
        };
        let record = decode(&bytes);
        if record.is_none() && bytes.starts_with(MAGIC) {
            // It was cut short, so that nothing of it has reached the volume.
            tracing::warn!(path = %self.path.display(), "a redo record was not finished: it is not used");
        }
        Ok(record)
    }

    /// Makes a record stable.
    pub async fn record(&self, record: Record) -> Result<(), IoError> {
        self.write(encode(&record)).await
    }

    /// Makes the record void, stably.
    pub async fn clear(&self) -> Result<(), IoError> {
        self.write(vec![0; HEADER]).await
    }

    async fn write(&self, bytes: Vec<u8>) -> Result<(), IoError> {
        // Two threads serve all units, as for their other state.
        static WRITERS: OnceLock<Threads> = OnceLock::new();
        let (path, file) = (self.path.clone(), self.file.clone());
        let write = move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let file = match &mut *file {
                Some(file) => file,
                none => none.insert(open(&path)?),
            };
            file.write_all_at(&bytes, 0)?;
            file.sync_data()
        };
        let writers = WRITERS.get_or_init(|| Threads::new("redo", 2));
        writers
            .run(move || write().map_err(|error| IoError::Internal(format!("the redo record: {error}"))))
            .await
    }
}

/// Opens the file, or makes it, so that it is still there after a loss of power.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    sync_directory_of(path)?;
    Ok(file)
}

fn encode(record: &Record) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(record.offset.to_be_bytes());
    bytes.extend((record.data.len() as u64).to_be_bytes());
    bytes.extend(checksum(record.offset, &record.data).to_be_bytes());
    bytes.resize(HEADER, 0);
    bytes.extend(&record.data);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Record> {
    let header = bytes.get(..HEADER)?.strip_prefix(MAGIC)?;
    let (offset, rest) = header.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let (stored, _) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u64::from_be_bytes(*length))
        .ok()
        .filter(|length| *length <= LIMIT)?;
    let data = bytes.get(HEADER..HEADER + length)?;
    let offset = u64::from_be_bytes(*offset);
    (checksum(offset, data) == u32::from_be_bytes(*stored)).then(|| Record {
        offset,
        data: Bytes::copy_from_slice(data),
    })
}

fn checksum(offset: u64, data: &[u8]) -> u32 {
    let mut sum = crc32c::crc32c(&offset.to_be_bytes());
    sum = crc32c::crc32c_append(sum, &(data.len() as u64).to_be_bytes());
    crc32c::crc32c_append(sum, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fill: u8, length: usize) -> Record {
        Record {
            offset: 8192,
            data: Bytes::from(vec![fill; length]),
        }
    }

    #[tokio::test]
    async fn a_record_is_found_until_it_is_void() {
        let directory = tempfile::tempdir().unwrap();
        let redo = Redo::at(directory.path().join("1.redo"));
        assert_eq!(redo.load().unwrap(), None);
        for (fill, length) in [(1, 4096), (2, LIMIT), (3, 512)] {
            redo.record(record(fill, length)).await.unwrap();
            assert_eq!(redo.load().unwrap(), Some(record(fill, length)));
        }
        redo.clear().await.unwrap();
        assert_eq!(redo.load().unwrap(), None);
    }

    #[test]
    fn a_record_that_is_not_whole_is_none() {
        let whole = encode(&record(7, 1024));
        assert_eq!(decode(&whole), Some(record(7, 1024)));
        for cut in [0, 8, HEADER - 1, HEADER, HEADER + 512, whole.len() - 1] {
            assert_eq!(decode(&whole[..cut]), None, "cut at {cut}");
        }
        for flipped in [0, 9, 17, 24, HEADER, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[flipped] ^= 0x10;
            assert_eq!(decode(&bytes), None, "byte {flipped}");
        }
        // The tail of an older, longer record under the head of a new one.
        let mut mixed = encode(&record(8, 2048));
        mixed[..HEADER + 512].copy_from_slice(&encode(&record(9, 2048))[..HEADER + 512]);
        assert_eq!(decode(&mixed), None);
    }
}
