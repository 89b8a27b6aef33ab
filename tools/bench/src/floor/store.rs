//! What the LUN is kept in.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use super::{FloorError, memory::Memory};
use crate::arguments::{Back, FloorArguments};

/// Memory of a LUN that keeps nothing: every address is its beginning. Longer than any PDU.
const NOTHING: usize = 8 << 20;

pub(crate) struct Store {
    kept: Kept,
    /// Bytes of the LUN.
    size: u64,
}

enum Kept {
    /// Reads are sent from memory that does not matter, long writes received into it.
    Nothing(Memory),
    /// Reads are sent from it, writes copied into it.
    InMemory(Memory),
    /// A system call for each I/O.
    InFile(File),
}

impl Store {
    pub(crate) fn open(arguments: &FloorArguments) -> Result<Self, FloorError> {
        let size = arguments.size;
        let file = arguments.file.as_deref().map(open).transpose()?;
        let length = size as usize;
        let kept = match (arguments.back, file) {
            (Back::Null, _) => Kept::Nothing(Memory::anonymous(NOTHING).map_err(FloorError::Memory)?),
            (Back::Mem, None) => Kept::InMemory(Memory::anonymous(length).map_err(FloorError::Memory)?),
            (Back::Mem, Some((file, name))) => {
                Kept::InMemory(Memory::of_file(&file, length).map_err(|error| FloorError::File(name, error))?)
            }
            (Back::Pread, Some((file, _))) => Kept::InFile(file),
            (Back::Pread, None) => return Err(FloorError::NoFile),
        };
        Ok(Self { kept, size })
    }

    /// Blocks of 512 bytes.
    pub(super) fn blocks(&self) -> u64 {
        self.size / 512
    }

    /// The memory that this byte of the LUN is in, and where there; `None` for a file.
    pub(super) fn memory(&self, at: u64) -> Option<(&Memory, usize)> {
        match &self.kept {
            Kept::Nothing(memory) => Some((memory, 0)),
            Kept::InMemory(memory) => Some((memory, at as usize)),
            Kept::InFile(_) => None,
        }
    }

    /// The longest data segment that can be sent from it.
    pub(super) fn longest_segment(&self) -> usize {
        match &self.kept {
            Kept::Nothing(memory) => memory.length(),
            Kept::InMemory(_) | Kept::InFile(_) => usize::MAX,
        }
    }

    /// Reads from a file: `false` when it does not give all of it.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> bool {
        match &self.kept {
            Kept::InFile(file) => file.read_at(buffer, at).is_ok_and(|count| count == buffer.len()),
            Kept::Nothing(_) | Kept::InMemory(_) => false,
        }
    }

    /// Keeps `data`, if anything is kept: `false` when the file does not take it.
    pub(super) fn write(&self, at: u64, data: &[u8]) -> bool {
        match &self.kept {
            Kept::Nothing(_) => true,
            Kept::InMemory(memory) => {
                memory.write(at as usize, data);
                true
            }
            Kept::InFile(file) => file.write_at(data, at).is_ok_and(|count| count == data.len()),
        }
    }
}

fn open(path: &Path) -> Result<(File, String), FloorError> {
    let name = path.display().to_string();
    match File::options().read(true).write(true).open(path) {
        Ok(file) => Ok((file, name)),
        Err(error) => Err(FloorError::File(name, error)),
    }
}
