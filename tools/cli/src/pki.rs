//! An authority and certificates for the link between systems. A system's certificate names it by the URI
//! `holdfast:SYSTEM-ID` among its subject alternative names, and nothing else in it matters.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use admin_api::time::rfc3339;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use scsi_model::control::SystemId;

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    /// The file system's word.
    #[error("{}: {why}", .path.display())]
    File {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// Another key would make what was signed with it worthless.
    #[error("{} is there already, and is not replaced", .0.display())]
    Exists(PathBuf),
    /// `issue` before `init`.
    #[error("{} has no authority: `holdfast pki init {}` makes one", .0.display(), .0.display())]
    NoAuthority(PathBuf),
    /// The library's word.
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Made {
    /// The certificate's file.
    pub(crate) cert: PathBuf,
    /// Its key's.
    pub(crate) key: PathBuf,
    /// The authority's certificate.
    pub(crate) ca: PathBuf,
}

/// The name of every authority made here: what was signed is found good by its key, and so the name says nothing.
const AUTHORITY: &str = "Holdfast link authority";
const DAY_MS: u64 = 86_400_000;

/// Makes an authority.
pub(crate) fn init(directory: &Path, days: u32) -> Result<Made, PkiError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(at(directory))?;
    let made = Made {
        cert: directory.join("ca.pem"),
        key: directory.join("ca.key"),
        ca: directory.join("ca.pem"),
    };
    let key = KeyPair::generate()?;
    let certificate = lasting(authority(), days).self_signed(&key)?;
    write(&made, &certificate.pem(), &key)?;
    Ok(made)
}

/// Makes a certificate for a system.
pub(crate) fn issue(directory: &Path, system: &SystemId, days: u32) -> Result<Made, PkiError> {
    let ca = directory.join("ca.pem");
    let ca_key = directory.join("ca.key");
    if !ca.exists() || !ca_key.exists() {
        return Err(PkiError::NoAuthority(directory.to_owned()));
    }
    let text = fs::read_to_string(&ca_key).map_err(at(&ca_key))?;
    let issuer = Issuer::new(authority(), KeyPair::from_pem(&text)?);
    let mut params = CertificateParams::default();
    params.distinguished_name = named(system.as_str());
    params.subject_alt_names = vec![SanType::URI(format!("holdfast:{system}").try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A system calls and is called.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = lasting(params, days).signed_by(&key, &issuer)?;
    let made = Made {
        cert: directory.join(format!("{system}.pem")),
        key: directory.join(format!("{system}.key")),
        ca,
    };
    write(&made, &certificate.pem(), &key)?;
    Ok(made)
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(AUTHORITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Good from yesterday, so that a clock that is behind does not matter, for so many days.
fn lasting(mut params: CertificateParams, days: u32) -> CertificateParams {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0));
    let date = |unix_ms: u64| {
        let text = rfc3339(unix_ms);
        let digits = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
        let small = |range| digits(range).parse::<u8>().unwrap_or(1);
        rcgen::date_time_ymd(digits(0..4).parse().unwrap_or(1970), small(5..7), small(8..10))
    };
    params.not_before = date(now.saturating_sub(DAY_MS));
    params.not_after = date(now + (u64::from(days) + 1) * DAY_MS);
    params
}

/// Both files, or an error and neither of them new.
fn write(made: &Made, certificate: &str, key: &KeyPair) -> Result<(), PkiError> {
    let create = |path: &Path, mode: u32, text: &str| {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path);
        let written = file.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|why| match why.kind() {
            io::ErrorKind::AlreadyExists => PkiError::Exists(path.to_owned()),
            _ => at(path)(why),
        })
    };
    if made.cert.exists() {
        return Err(PkiError::Exists(made.cert.clone()));
    }
    create(&made.key, 0o600, &key.serialize_pem())?;
    create(&made.cert, 0o644, certificate)
}

fn at(path: &Path) -> impl Fn(io::Error) -> PkiError {
    let path = path.to_owned();
    move |why| PkiError::File {
        path: path.clone(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_authority_and_certificates_are_made_once_and_keys_are_for_their_owner() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("pki");
        let system = SystemId::new("HF-A").unwrap();
        assert!(matches!(
            issue(&directory, &system, 1),
            Err(PkiError::NoAuthority(_))
        ));
        let authority = init(&directory, 10).unwrap();
        let before = fs::read(&authority.key).unwrap();
        assert!(matches!(init(&directory, 10), Err(PkiError::Exists(_))));
        let made = issue(&directory, &system, 10).unwrap();
        assert_eq!(made.cert, directory.join("HF-A.pem"));
        assert!(matches!(issue(&directory, &system, 10), Err(PkiError::Exists(_))));
        assert_eq!(fs::read(&authority.key).unwrap(), before);
        for key in [&authority.key, &made.key] {
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(
            fs::metadata(&directory).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
}
