//! Backups at the far site (docs/remote.md, Fig. 4).

use scsi_model::control::{Refusal, SystemId};
use serde::{Deserialize, Serialize};

/// `POST /v1/backup`. It is done, or cancelled, also when the client goes away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// A number of the client's choice, by which it can cancel this one.
    pub id: u64,
    /// The volumes: images of one instant, of all or of none.
    pub members: Vec<BackupMember>,
    /// Longest wait for the far volumes to hold the image, in seconds; `None` is 30.
    #[serde(default)]
    pub timeout: Option<u64>,
    /// Would it be done?
    #[serde(default)]
    pub dry_run: bool,
}

/// One volume of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupMember {
    /// Number of a volume that leads a remote pair; or of one that leads none and has a local mirror.
    pub primary: u32,
    /// Number of the mirror that gets the image, at the far site or here.
    pub mirror: u32,
    /// The system that the volume is mirrored to; needed when there are several.
    #[serde(default)]
    pub system: Option<SystemId>,
}

/// Its answer: status 200 with `ok`, 409 with `refused`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupAnswer {
    /// Done.
    Ok(BackupReport),
    /// Refused, cancelled or failed; there is no image, and the pairs go on.
    Refused(Refusal),
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReport {
    /// Tracks that the images still needed when they were asked for.
    pub tracks: u64,
    /// How long later writes were held back, in milliseconds.
    pub held_ms: u64,
}

/// `POST /v1/backup/cancel`. Answered at once; what has become of the backup its own answer says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupCancel {
    /// As in [`BackupRequest::id`].
    pub id: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_pinned() {
        let request = BackupRequest {
            id: 7,
            members: vec![BackupMember {
                primary: 1,
                mirror: 2,
                system: Some(SystemId::new("HF-B").unwrap()),
            }],
            timeout: None,
            dry_run: false,
        };
        let text =
            r#"{"id":7,"members":[{"primary":1,"mirror":2,"system":"HF-B"}],"timeout":null,"dry_run":false}"#;
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert_eq!(
            serde_json::from_str::<BackupRequest>(
                r#"{"id":7,"members":[{"primary":1,"mirror":2,"system":"HF-B"}]}"#
            )
            .unwrap(),
            request
        );
        let done = BackupAnswer::Ok(BackupReport {
            tracks: 3,
            held_ms: 12,
        });
        assert_eq!(
            serde_json::to_string(&done).unwrap(),
            r#"{"ok":{"tracks":3,"held_ms":12}}"#
        );
    }
}
