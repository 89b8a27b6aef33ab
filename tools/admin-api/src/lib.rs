//! What the admin socket says: the documents that `holdfastd` answers and `holdfast` prints.
//!
//! The daemon makes them, the command line reads them, and in band (where there is no admin socket) the command line
//! makes the same ones out of the replies to C0h CDBs. So each shape is written down once, here.
//!
//! | method and path | asks | answers |
//! |---|---|---|
//! | `POST /v1/control` | [`ControlRequest`] | [`ControlAnswer`] |
//! | `POST /v1/backup` | [`BackupRequest`] | [`BackupAnswer`] |
//! | `POST /v1/backup/cancel` | [`BackupCancel`] | [`DoneAnswer`] |
//! | `GET /v1/query` | | [`QueryDocument`] |
//! | `GET /v1/volumes` | | [`VolumesDocument`] |
//! | `GET /v1/sessions` | | [`SessionsDocument`] |
//! | `GET /v1/events?after=N&wait=SECS` | | [`EventsDocument`] |
//! | `POST /v1/wait` | [`WaitRequest`] | [`WaitAnswer`] |
//! | `POST /v1/volume/create` | [`VolumeCreate`] | [`DoneAnswer`] |
//! | `POST /v1/volume/delete` | [`VolumeDelete`] | [`DoneAnswer`] |
//! | `POST /v1/volume/resize` | [`VolumeResize`] | [`DoneAnswer`] |
//! | `POST /v1/map`, `POST /v1/unmap` | [`MapRequest`], [`UnmapRequest`] | [`DoneAnswer`] |
//! | `POST /v1/reload` | | [`DoneAnswer`] |
//! | `POST /v1/reload/check` | | [`ReloadCheck`] |
//! | `GET /v1/generations` | | [`GenerationsDocument`] |
//! | `POST /v1/generation/create` | [`GenerationCreate`] | [`Generation`] |
//! | `POST /v1/generation/restore` | [`GenerationRestore`] | [`ControlAnswer`] |
//! | `POST /v1/generation/delete` | [`GenerationDelete`] | [`DoneAnswer`] |
//! | `POST /v1/generation/rule/set` | [`GenerationRuleSet`] | [`DoneAnswer`] |
//! | `POST /v1/generation/rule/clear` | [`GenerationRuleClear`] | [`DoneAnswer`] |
//! | `GET /v1/link` | | [`LinkDocument`] |
//! | `GET /metrics` | | Prometheus text |
//! | `GET /` | | the dashboard, HTML |
//!
//! Whatever goes wrong outside `/v1/control` is an HTTP status of 400 or more with a [`Problem`]. The HTTP port serves the
//! GET requests only.

pub mod admin;
pub mod backup;
pub mod control;
pub mod generations;
pub mod links;
pub mod period;
pub mod query;
pub mod size;
pub mod state;
pub mod time;
pub mod verify;
pub mod volumes;

pub use admin::{
    Change, ChangeKind, Connection, DoneAnswer, Event, EventsDocument, MapRequest, Problem, ReloadCheck,
    Session, SessionsDocument, UnmapRequest, VolumeCreate, VolumeDelete, VolumeResize,
};
pub use backup::{BackupAnswer, BackupCancel, BackupMember, BackupReport, BackupRequest};
pub use control::{ControlAnswer, ControlRequest, WaitAnswer, WaitRequest};
pub use generations::{
    Generation, GenerationCreate, GenerationDelete, GenerationMember, GenerationRestore, GenerationRule,
    GenerationRuleClear, GenerationRuleSet, GenerationsDocument,
};
pub use links::{DiskQueue, LinkDocument, LinkPeer};
pub use period::Period;
pub use query::{QueryDocument, QueryPair, QueryVolume};
pub use size::Size;
pub use state::PairState;
pub use verify::{DeepAnswer, DeepRequest, DeepRun};
pub use volumes::{LunMap, VolumeDocument, VolumesDocument};
