//! Administration: what only the admin socket does.

use serde::{Deserialize, Serialize};

/// Why a request failed: what, why, and what would work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct Problem {
    /// One or more sentences.
    pub error: String,
}

/// It was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneAnswer {
    /// What was done, a line each.
    pub done: Vec<String>,
}

/// `POST /v1/volume/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeCreate {
    /// Number; `None` takes the lowest free one.
    #[serde(default)]
    pub number: Option<u32>,
    /// Name.
    pub name: String,
    /// Meant as a mirror.
    #[serde(default)]
    pub mirror: bool,
    /// As in the configuration: `10GiB`. Needed when the file does not exist.
    #[serde(default)]
    pub size: Option<String>,
    /// File or block device; `None` makes `NAME.img` in the state directory.
    #[serde(default)]
    pub file: Option<String>,
    /// Keep it in memory: for tests, lost at the end.
    #[serde(default)]
    pub memory: bool,
    /// Past the page cache (O_DIRECT).
    #[serde(default)]
    pub direct: bool,
    /// 512 or 4096.
    #[serde(default = "default_block_size")]
    pub block_size: u32,
    /// `None` is `block_size`.
    #[serde(default)]
    pub physical_block_size: Option<u32>,
    /// RMB.
    #[serde(default)]
    pub removable: bool,
    /// Allocate every block instead of leaving holes.
    #[serde(default)]
    pub thick: bool,
}

fn default_block_size() -> u32 {
    512
}

/// `POST /v1/volume/delete`. The image file stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeDelete {
    /// Number.
    pub number: u32,
}

/// `POST /v1/volume/resize`. Volumes only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeResize {
    /// Number.
    pub number: u32,
    /// The new size.
    pub size: String,
}

/// `POST /v1/map`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapRequest {
    /// Volume number.
    pub volume: u32,
    /// Target name; `None` is the only target.
    #[serde(default)]
    pub target: Option<String>,
    /// LUN; `None` takes the lowest free one.
    #[serde(default)]
    pub lun: Option<u16>,
    /// Write protect it.
    #[serde(default)]
    pub read_only: bool,
}

/// `POST /v1/unmap`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnmapRequest {
    /// Volume number.
    pub volume: u32,
    /// Target name; `None` is the only target.
    #[serde(default)]
    pub target: Option<String>,
    /// LUN; `None` is the only LUN of the volume there.
    #[serde(default)]
    pub lun: Option<u16>,
}

/// `GET /v1/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsDocument {
    /// Every session.
    pub sessions: Vec<Session>,
}

/// One iSCSI session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Target name; empty is a discovery session.
    pub target: String,
    /// Initiator name.
    pub initiator: String,
    /// ISID, hexadecimal.
    pub isid: String,
    /// Target session identifying handle.
    pub tsih: u16,
    /// Its connections.
    pub connections: Vec<Connection>,
}

/// One connection of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Connection id.
    pub cid: u16,
    /// Address of the initiator.
    pub peer: String,
    /// Address of the portal.
    pub portal: String,
    /// RFC 3339: when it was logged in.
    pub since: String,
    /// CRC32C over headers was negotiated.
    pub header_digest: bool,
    /// CRC32C over data was negotiated.
    pub data_digest: bool,
    /// SCSI commands so far.
    pub commands: u64,
    /// Bytes received so far.
    pub bytes_in: u64,
    /// Bytes sent so far.
    pub bytes_out: u64,
}

/// `GET /v1/events?after=N&wait=SECS`: those after number N; waits so long when there are none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsDocument {
    /// Number to ask with next time.
    pub last: u64,
    /// Events between `after` and the first one here were dropped, because the buffer is full.
    pub missed: bool,
    /// Oldest first.
    pub events: Vec<Event>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1 since the daemon started.
    pub number: u64,
    /// RFC 3339.
    pub at: String,
    /// `info`, `warning` or `error`.
    pub level: String,
    /// What kind: `state`, `fault`, `volume`, `generation`, `link`.
    pub kind: String,
    /// For people.
    pub text: String,
}

/// `POST /v1/reload/check`: what a reload would do now. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadCheck {
    /// What differs between what is served and what is configured.
    pub changes: Vec<Change>,
    /// What cannot change while serving, a sentence each. Where there is any, a reload changes nothing.
    pub refused: Vec<String>,
}

/// How something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It comes.
    Added,
    /// It goes.
    Removed,
    /// It stays, and is otherwise.
    Changed,
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// How.
    pub change: ChangeKind,
    /// What: `volume 4`, `target IQN`, `target IQN LUN 3`, `target IQN initiator PATTERN`, or a table like `iscsi`.
    pub of: String,
    /// The key of it that differs; `null` when all of it comes or goes.
    pub key: Option<String>,
    /// What is served; `null`: nothing, or what holds by default.
    pub before: Option<String>,
    /// What is configured; likewise.
    pub after: Option<String>,
}
