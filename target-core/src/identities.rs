//! Who a volume is, for ever: the NAA designator and serial number that hosts know it by.
//!
//! Hosts build device names, multipath maps and cluster membership on these, so they are made once, from random
//! bytes, when a volume number is first served, and kept in `volumes.json` in the state directory for as long as nobody
//! deletes the volume: one that is only not configured for a while comes back as who it was.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use scsi_model::control::VolumeNumber;
use serde::{Deserialize, Serialize};

use crate::state_file::{self, StateFileError};

/// The IEEE company id in our designators. Holdfast has none assigned, so it uses a locally administered one (the
/// second least significant bit of the first octet is set), which no vendor can ever hold.
const COMPANY_ID: [u8; 3] = [0x02, 0x48, 0x46];

/// A volume's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// NAA IEEE Registered Extended designator (SPC-4 7.8.6.6.5).
    pub naa: [u8; 16],
    /// Unit serial number (VPD 80h): the second half of the designator in hexadecimal.
    pub serial: String,
}

/// The identities of a system, on disk.
#[derive(Debug)]
pub struct IdentityStore {
    path: Option<PathBuf>,
    known: Mutex<BTreeMap<VolumeNumber, String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// Volume number to NAA designator, 32 hexadecimal digits.
    naa: BTreeMap<VolumeNumber, String>,
}

impl IdentityStore {
    /// Reads `volumes.json` in the state directory, which must exist.
    pub fn open(state_directory: &Path) -> Result<Self, StateFileError> {
        let path = state_directory.join("volumes.json");
        let known = state_file::load::<Document>(&path)?
            .map(|document| document.naa)
            .unwrap_or_default();
        for (number, naa) in &known {
            if parse(naa).is_none() {
                return Err(StateFileError::Corrupt {
                    path,
                    offset: 0,
                    reason: format!("{naa:?} of volume {} is no NAA type 6 designator", number.0),
                });
            }
        }
        Ok(Self {
            path: Some(path),
            known: Mutex::new(known),
        })
    }

    /// Identities that end with the process, for tests and volumes in memory.
    pub fn ephemeral() -> Self {
        Self {
            path: None,
            known: Mutex::default(),
        }
    }

    /// The volume is deleted: one with this number that comes after it is somebody else.
    pub fn forget(&self, number: VolumeNumber) -> Result<(), StateFileError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(&number) {
            return Ok(());
        }
        let mut naa = known.clone();
        naa.remove(&number);
        if let Some(path) = &self.path {
            let document = Document { naa };
            state_file::store(path, &document)?;
            naa = document.naa;
        }
        *known = naa;
        Ok(())
    }

    /// Gives a volume the identity that its configuration names, from now on. That of a volume which is not served any more is taken
    /// from it: so a mirror takes the place of a standard that is gone, and hosts find what they had.
    pub fn assign(
        &self,
        number: VolumeNumber,
        naa: [u8; 16],
        is_served: impl Fn(VolumeNumber) -> bool,
    ) -> Result<(), AssignError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let text = hexadecimal(&naa);
        if known.get(&number) == Some(&text) {
            return Ok(());
        }
        let mut assigned = known.clone();
        let former = known.iter().find(|(_, known)| **known == text);
        if let Some((former, _)) = former {
            if is_served(*former) {
                return Err(AssignError::Taken {
                    number: number.0,
                    by: former.0,
                });
            }
            assigned.remove(former);
        }
        assigned.insert(number, text);
        if let Some(path) = &self.path {
            let document = Document { naa: assigned };
            state_file::store(path, &document)?;
            assigned = document.naa;
        }
        *known = assigned;
        Ok(())
    }

    /// The identity of a volume: made and stored at the first call, the same for ever after.
    pub fn identity(&self, number: VolumeNumber) -> Result<Identity, StateFileError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = known.get(&number).and_then(|naa| parse(naa)) {
            return Ok(identity);
        }
        let mut naa = [0; 16];
        getrandom::fill(&mut naa).map_err(|error| StateFileError::System {
            path: self.path.clone().unwrap_or_default(),
            action: "get random bytes for an identity in",
            source: std::io::Error::other(error.to_string()),
        })?;
        // NAA 6h, 24 bits of company id, 36 bits and 64 bits of our own.
        let [a, b, c] = COMPANY_ID;
        naa[0] = 0x60 | a >> 4;
        naa[1] = a << 4 | b >> 4;
        naa[2] = b << 4 | c >> 4;
        naa[3] = c << 4 | naa[3] & 0x0f;
        let mut grown = known.clone();
        grown.insert(number, hexadecimal(&naa));
        if let Some(path) = &self.path {
            let document = Document { naa: grown };
            state_file::store(path, &document)?;
            grown = document.naa;
        }
        *known = grown;
        Ok(identity_of(naa))
    }
}

/// Why a volume cannot have an identity.
#[derive(Debug, thiserror::Error)]
pub enum AssignError {
    /// Two volumes would be one to hosts.
    #[error(
        "the naa of volume {number} is that of volume {by}: no two volumes that are served can have the same"
    )]
    Taken {
        /// That was to have it.
        number: u32,
        /// That has it.
        by: u32,
    },
    /// It could not be stored.
    #[error(transparent)]
    State(#[from] StateFileError),
}

fn identity_of(naa: [u8; 16]) -> Identity {
    Identity {
        naa,
        serial: hexadecimal(&naa[8..]),
    }
}

/// 32 hexadecimal digits, of type 6.
pub fn parse(text: &str) -> Option<Identity> {
    let mut naa = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in naa.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    (naa[0] >> 4 == 6).then(|| identity_of(naa))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S91.
    #[test]
    fn identities_are_registered_extended_distinct_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = IdentityStore::open(directory.path()).unwrap();
        let one = store.identity(VolumeNumber(1)).unwrap();
        let two = store.identity(VolumeNumber(2)).unwrap();
        assert_ne!(one, two);
        assert_eq!(hexadecimal(&one.naa[..4])[..7], *"6024846");
        assert_eq!(one.serial.len(), 16);
        let again = IdentityStore::open(directory.path()).unwrap();
        assert_eq!(again.identity(VolumeNumber(1)).unwrap(), one);
        assert_eq!(again.identity(VolumeNumber(2)).unwrap(), two);
    }

    #[test]
    fn a_number_that_was_forgotten_is_somebody_else_later() {
        let directory = tempfile::tempdir().unwrap();
        let store = IdentityStore::open(directory.path()).unwrap();
        let one = store.identity(VolumeNumber(1)).unwrap();
        let two = store.identity(VolumeNumber(2)).unwrap();
        store.forget(VolumeNumber(1)).unwrap();
        store.forget(VolumeNumber(7)).unwrap();
        let again = IdentityStore::open(directory.path()).unwrap();
        assert_ne!(again.identity(VolumeNumber(1)).unwrap(), one);
        assert_eq!(again.identity(VolumeNumber(2)).unwrap(), two);
    }

    #[test]
    fn an_identity_is_handed_over_once_nobody_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = IdentityStore::open(directory.path()).unwrap();
        let [one, two] = [1, 2].map(|number| store.identity(VolumeNumber(number)).unwrap());
        let taken = store.assign(VolumeNumber(2), one.naa, |_| true);
        assert!(matches!(taken, Err(AssignError::Taken { number: 2, by: 1 })));
        assert_eq!(store.identity(VolumeNumber(2)).unwrap(), two);
        store
            .assign(VolumeNumber(2), one.naa, |number| number == VolumeNumber(2))
            .unwrap();
        let again = IdentityStore::open(directory.path()).unwrap();
        assert_eq!(again.identity(VolumeNumber(2)).unwrap(), one);
        let fresh = again.identity(VolumeNumber(1)).unwrap();
        assert!(fresh != one && fresh != two);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volumes.json");
        std::fs::write(&path, "nonsense").unwrap();
        assert!(IdentityStore::open(directory.path()).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"nonsense");
        state_file::store(
            &path,
            &Document {
                naa: [(VolumeNumber(1), "5".repeat(32))].into(),
            },
        )
        .unwrap();
        assert!(matches!(
            IdentityStore::open(directory.path()),
            Err(StateFileError::Corrupt { .. })
        ));
    }
}
