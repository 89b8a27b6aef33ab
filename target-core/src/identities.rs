//! Who a volume is, for ever: the designators and the serial number that hosts know it by.
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
use sha1::{Digest, Sha1};

use crate::state_file::{self, StateFileError};

/// The IEEE company id in our designators. Holdfast has none assigned, so it uses a locally administered one (the
/// second least significant bit of the first octet is set), which no vendor can ever hold.
const COMPANY_ID: [u8; 3] = [0x02, 0x48, 0x46];

/// A volume's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// NAA IEEE Registered Extended designator (SPC-4 7.8.6.6.5).
    pub naa: [u8; 16],
    /// EUI-64 based designator (SPC-4 7.8.6.5.2), made from the NAA designator or configured.
    pub eui64: [u8; 8],
    /// UUID designator (SPC-5 7.7.6.12), made from the NAA designator or configured.
    pub uuid: [u8; 16],
    /// Unit serial number (VPD 80h): the second half of the NAA designator in hexadecimal.
    pub serial: String,
}

/// Designators that a configuration names; the others are made from the NAA designator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConfiguredDesignators {
    /// EUI-64.
    pub eui64: Option<[u8; 8]>,
    /// UUID.
    pub uuid: Option<[u8; 16]>,
}

/// The identities of a system, on disk.
#[derive(Debug)]
pub struct IdentityStore {
    path: Option<PathBuf>,
    known: Mutex<BTreeMap<VolumeNumber, String>>,
    configured: Mutex<BTreeMap<VolumeNumber, ConfiguredDesignators>>,
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
            configured: Mutex::default(),
        })
    }

    /// Identities that end with the process, for tests and volumes in memory.
    pub fn ephemeral() -> Self {
        Self {
            path: None,
            known: Mutex::default(),
            configured: Mutex::default(),
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

    /// Says which designators of a volume its configuration names. They count for as long as it does.
    pub fn configure(&self, number: VolumeNumber, designators: ConfiguredDesignators) {
        let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        configured.insert(number, designators);
    }

    /// The identity of a volume: made and stored at the first call, the same for ever after.
    pub fn identity(&self, number: VolumeNumber) -> Result<Identity, StateFileError> {
        let made = self.made(number)?;
        let configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        let ConfiguredDesignators { eui64, uuid } = configured.get(&number).copied().unwrap_or_default();
        Ok(Identity {
            eui64: eui64.unwrap_or(made.eui64),
            uuid: uuid.unwrap_or(made.uuid),
            ..made
        })
    }

    fn made(&self, number: VolumeNumber) -> Result<Identity, StateFileError> {
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

/// The namespace of the UUIDs that are made from NAA designators; drawn at random, once.
const NAMESPACE: [u8; 16] = [
    0x9c, 0x0e, 0x5b, 0x3d, 0x71, 0xa2, 0x4f, 0x86, 0xb4, 0x19, 0x2d, 0xe8, 0x57, 0xc3, 0x60, 0xfa,
];

/// What follows from the NAA designator. The UUID is name-based (RFC 9562 5.5); the EUI-64 has our company id and other bits of
/// the same digest.
fn identity_of(naa: [u8; 16]) -> Identity {
    let digest: [u8; 20] = Sha1::new()
        .chain_update(NAMESPACE)
        .chain_update(naa)
        .finalize()
        .into();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    uuid[6] = 0x50 | uuid[6] & 0x0f;
    uuid[8] = 0x80 | uuid[8] & 0x3f;
    let mut eui64 = [0; 8];
    eui64[..3].copy_from_slice(&COMPANY_ID);
    eui64[3..].copy_from_slice(&digest[15..]);
    Identity {
        naa,
        eui64,
        uuid,
        serial: hexadecimal(&naa[8..]),
    }
}

/// A NAA designator: 32 hexadecimal digits, of type 6.
pub fn parse(text: &str) -> Option<Identity> {
    let naa: [u8; 16] = parse_digits(text)?;
    (naa[0] >> 4 == 6).then(|| identity_of(naa))
}

/// An EUI-64: 16 hexadecimal digits.
pub fn parse_eui64(text: &str) -> Option<[u8; 8]> {
    parse_digits(text)
}

/// A UUID as RFC 9562 writes it: 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12. Not the ones of zeros and ones only, which
/// are nobody's.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths = groups.iter().map(|group| group.len());
    let uuid = lengths
        .eq([8, 4, 4, 4, 12])
        .then(|| parse_digits(&groups.concat()))
        .flatten()?;
    (uuid != [0; 16] && uuid != [0xff; 16]).then_some(uuid)
}

/// So many bytes, two hexadecimal digits each.
fn parse_digits<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    if text.len() != 2 * LENGTH || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; LENGTH];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
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
    fn other_designators_follow_from_the_naa_unless_configured() {
        let store = IdentityStore::ephemeral();
        let one = store.identity(VolumeNumber(1)).unwrap();
        let same = parse(&hexadecimal(&one.naa)).unwrap();
        assert_eq!(same, one, "whoever has the naa has the rest");
        assert_eq!(one.eui64[..3], COMPANY_ID);
        assert_eq!((one.uuid[6] >> 4, one.uuid[8] >> 6), (5, 2));
        // Fixed for ever: hosts know volumes by these.
        let known = parse("60248460000000010000000000000002").unwrap();
        assert_eq!(hexadecimal(&known.eui64), "0248462a58742498");
        assert_eq!(hexadecimal(&known.uuid), "4c453d6e65655c24be451b5f0da8ea2a");

        let uuid = parse_uuid("01234567-89ab-cdef-0123-456789ABCDEF");
        let configured = ConfiguredDesignators { eui64: None, uuid };
        store.configure(VolumeNumber(1), configured);
        let now = store.identity(VolumeNumber(1)).unwrap();
        assert_eq!((now.naa, now.eui64, Some(now.uuid)), (one.naa, one.eui64, uuid));
        for wrong in [
            "0123456789abcdef0123456789abcdef",
            "01234567-89ab-cdef-0123-456789abcde",
            "0123456-789ab-cdef-0123-456789abcdef",
            "+1234567-89ab-cdef-0123-456789abcdef",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(parse_uuid(wrong), None, "{wrong}");
        }
        assert_eq!(
            parse_eui64("0248460102030405"),
            Some([2, 0x48, 0x46, 1, 2, 3, 4, 5])
        );
        assert_eq!(parse_eui64("02484601020304"), None);
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
