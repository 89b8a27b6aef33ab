//! CHAP secrets, read from files that others cannot read.

use std::{fmt, fs::File, io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

/// A secret. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

/// Longest secret: longer ones add nothing, and some initiators cannot send them.
const LONGEST: u64 = 255;
/// Shortest: RFC 7143 9.2.1 asks for 96 bits.
const SHORTEST: usize = 12;

impl Secret {
    /// Reads the file: one line. The error says what is wrong and what is accepted.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let unreadable = |error| format!("{} cannot be read: {error}", path.display());
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(format!("{} is no regular file", path.display()));
        }
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(format!(
                "{} has mode {mode:03o}: others can read or change the secret; 600 or 400 is accepted",
                path.display()
            ));
        }
        let mut text = Vec::new();
        file.take(LONGEST + 2)
            .read_to_end(&mut text)
            .map_err(unreadable)?;
        while text.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            text.pop();
        }
        if text.len() < SHORTEST || text.len() as u64 > LONGEST || text.contains(&b'\n') {
            return Err(format!(
                "{} must hold one line of {SHORTEST} to {LONGEST} bytes",
                path.display()
            ));
        }
        Ok(Self(text))
    }

    /// The bytes, for the login machine.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
