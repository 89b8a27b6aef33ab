//! The pairs as `query --json` and `GET /v1/query` show them. The keys are pinned in docs/surface.md: later versions
//! add keys, and no key changes its meaning.

use std::collections::BTreeMap;

use scsi_model::control::{
    CopyMode, OnLinkLoss, PairDescriptor, Reason, SystemId, VolumeDescriptor, VolumeNumber,
};
use serde::{Deserialize, Serialize};

use crate::{state::PairState, time::rfc3339};

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryDocument {
    /// This system.
    pub system: String,
    /// Its pairs, or those asked for.
    pub pairs: Vec<QueryPair>,
}

/// A volume as a pair names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryVolume {
    /// Number.
    pub number: u32,
    /// Name; `None` when the volume is the peer's.
    pub name: Option<String>,
}

/// One pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryPair {
    /// Primary volume.
    pub primary: QueryVolume,
    /// Mirror volume.
    pub mirror: QueryVolume,
    /// System id of the peer; `None` for a local pair.
    pub peer: Option<String>,
    /// `local` or `remote`.
    pub kind: String,
    /// What this system holds: `both`, `primary` or `mirror`.
    pub role: String,
    /// Name of the state, see [`PairState::name`].
    pub state: String,
    /// `sync` or `async`; `None` for a local pair.
    pub mode: Option<String>,
    /// `none`, `own` (for its own standard), `strict` (against every pair command).
    pub held: String,
    /// The mirror answers hosts.
    pub mirror_ready: bool,
    /// An incremental copy is possible.
    pub history: bool,
    /// The copy now running covers every track.
    pub full: bool,
    /// The mirror is inconsistent until the copy ends.
    pub mirror_inconsistent: bool,
    /// `None` for a local pair.
    pub link_up: Option<bool>,
    /// Bytes.
    pub track_size: u32,
    /// Tracks in the volume.
    pub tracks: u64,
    /// Tracks changed on the primary, owed to the mirror.
    pub mirror_invalid: u64,
    /// Tracks changed on the mirror, or not yet restored.
    pub primary_invalid: u64,
    /// Tracks that the copy now running has left.
    pub remaining: u64,
    /// Share of the tracks that the copy now running has not left; one digit after the point, 100 only at the end.
    pub percent: f64,
    /// Bytes per second; 0 when no copy runs.
    pub rate: u64,
    /// Seconds left; `None` unknown.
    pub eta_seconds: Option<u32>,
    /// RFC 3339 with milliseconds; `None` never split.
    pub split_at: Option<String>,
    /// Why the state last changed unasked; `None` it did not.
    pub reason: Option<String>,
    /// `mark` or `refuse`: what becomes of hosts' writes without the far side. Not there for a local pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_link_loss: Option<String>,
    /// A number that names the peer's volume on this system, where its own is not unique. Not there for a local pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<u32>,
}

impl QueryDocument {
    /// The document of these pairs. Names are looked up in `volumes`.
    pub fn new(system: &SystemId, pairs: &[PairDescriptor], volumes: &[VolumeDescriptor]) -> Self {
        let names: BTreeMap<_, _> = volumes
            .iter()
            .map(|volume| (volume.number, volume.name.as_str()))
            .collect();
        Self {
            system: system.to_string(),
            pairs: pairs.iter().map(|pair| QueryPair::new(pair, &names)).collect(),
        }
    }
}

impl QueryPair {
    fn new(pair: &PairDescriptor, names: &BTreeMap<VolumeNumber, &str>) -> Self {
        let volume = |number: VolumeNumber, ours: bool| QueryVolume {
            number: number.0,
            name: names.get(&number).filter(|_| ours).map(|name| (*name).to_owned()),
        };
        Self {
            primary: volume(pair.primary, pair.role != 2),
            mirror: volume(pair.mirror, pair.role != 1),
            peer: pair.peer.as_ref().map(ToString::to_string),
            kind: if pair.peer.is_some() { "remote" } else { "local" }.to_owned(),
            role: ["both", "primary", "mirror"]
                .get(usize::from(pair.role))
                .unwrap_or(&"both")
                .to_string(),
            state: PairState::from_code(pair.state)
                .map_or("unknown", PairState::name)
                .to_owned(),
            mode: pair
                .mode
                .map(|mode| if mode == CopyMode::Sync { "sync" } else { "async" }.to_owned()),
            held: match (pair.strictly_held, pair.held) {
                (true, _) => "strict",
                (false, true) => "own",
                (false, false) => "none",
            }
            .to_owned(),
            mirror_ready: pair.mirror_ready,
            history: pair.history,
            full: pair.full,
            mirror_inconsistent: pair.mirror_inconsistent,
            link_up: pair.link_up,
            track_size: pair.track_size,
            tracks: pair.tracks,
            mirror_invalid: pair.mirror_invalid,
            primary_invalid: pair.primary_invalid,
            remaining: pair.remaining,
            percent: percent(pair.tracks, pair.remaining),
            rate: pair.rate,
            eta_seconds: pair.eta_seconds,
            split_at: (pair.split_at_ms != 0).then(|| rfc3339(pair.split_at_ms)),
            reason: reason(pair.reason).map(ToOwned::to_owned),
            on_link_loss: pair.on_link_loss.map(|policy| {
                match policy {
                    OnLinkLoss::Mark => "mark",
                    OnLinkLoss::Refuse => "refuse",
                }
                .to_owned()
            }),
            handle: pair.handle.map(|handle| handle.0),
        }
    }

    /// The state, if it is one that this version knows.
    pub fn pair_state(&self) -> Option<PairState> {
        self.state.parse().ok()
    }
}

/// Rounded down, so that 100 is only shown when nothing is left.
fn percent(tracks: u64, remaining: u64) -> f64 {
    if tracks == 0 {
        return 100.0;
    }
    let done = tracks.saturating_sub(remaining);
    let tenths = u128::from(done) * 1000 / u128::from(tracks);
    f64::from(tenths as u32) / 10.0
}

fn reason(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::None => return None,
        Reason::LinkDown => "link down",
        Reason::MirrorIo => "mirror I/O error",
        Reason::PrimaryIo => "primary I/O error",
        Reason::CrashRecovery => "crash recovery",
        Reason::PeerRefused => "peer refused",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_pair() -> PairDescriptor {
        PairDescriptor {
            primary: VolumeNumber(1),
            mirror: VolumeNumber(2),
            peer: None,
            role: 0,
            state: 4,
            held: true,
            strictly_held: false,
            mirror_ready: true,
            history: true,
            full: false,
            link_up: None,
            mode: None,
            mirror_inconsistent: false,
            track_size: 65_536,
            tracks: 16_384,
            mirror_invalid: 0,
            primary_invalid: 3,
            remaining: 0,
            split_at_ms: 1_795_168_800_000,
            rate: 0,
            eta_seconds: None,
            reason: Reason::None,
            on_link_loss: None,
            handle: None,
        }
    }

    fn volume(number: u32, name: &str) -> VolumeDescriptor {
        VolumeDescriptor {
            number: VolumeNumber(number),
            mirror_class: number != 1,
            ready: true,
            read_only: false,
            thin: true,
            pairs: 1,
            blocks: 2_097_152,
            block_size: 512,
            track_size: 65_536,
            naa: [0; 16],
            serial: "S".to_owned(),
            lun: None,
            name: name.to_owned(),
        }
    }

    /// S42: the example of docs/surface.md, key for key.
    #[test]
    fn the_pinned_example() {
        let system = SystemId::new("HF-A").unwrap();
        let document = QueryDocument::new(&system, &[split_pair()], &[volume(1, "prod"), volume(2, "bcv1")]);
        let pinned = concat!(
            r#"{"system":"HF-A","pairs":[{"primary":{"number":1,"name":"prod"},"mirror":{"number":2,"name":"bcv1"},"peer":null,"kind":"local","#,
            r#""role":"both","state":"split","mode":null,"held":"own","mirror_ready":true,"history":true,"full":false,"mirror_inconsistent":false,"#,
            r#""link_up":null,"track_size":65536,"tracks":16384,"mirror_invalid":0,"primary_invalid":3,"remaining":0,"percent":100.0,"#,
            r#""rate":0,"eta_seconds":null,"split_at":"2026-11-20T10:00:00.000Z","reason":null}]}"#
        );
        assert_eq!(serde_json::to_string(&document).unwrap(), pinned);
    }

    #[test]
    fn a_remote_pair_that_a_fault_suspended() {
        let pair = PairDescriptor {
            peer: Some(SystemId::new("HF-B").unwrap()),
            role: 1,
            state: 8,
            strictly_held: true,
            link_up: Some(false),
            mode: Some(CopyMode::Sync),
            split_at_ms: 0,
            reason: Reason::LinkDown,
            ..split_pair()
        };
        let names = BTreeMap::from([(VolumeNumber(1), "prod"), (VolumeNumber(2), "bcv1")]);
        let shown = QueryPair::new(&pair, &names);
        assert_eq!(shown.primary.name.as_deref(), Some("prod"));
        assert_eq!(shown.mirror.name, None, "the peer's volume 2 is not our volume 2");
        assert_eq!((shown.kind.as_str(), shown.role.as_str()), ("remote", "primary"));
        assert_eq!(
            (shown.mode.as_deref(), shown.held.as_str()),
            (Some("sync"), "strict")
        );
        assert_eq!(
            (shown.split_at, shown.reason.as_deref()),
            (None, Some("link down"))
        );
        assert_eq!(shown.state.parse(), Ok(PairState::Suspended));
    }

    #[test]
    fn percent_says_100_only_at_the_end() {
        assert_eq!(percent(16_384, 1).to_string(), "99.9");
        assert_eq!(percent(16_384, 16_384).to_string(), "0");
        assert_eq!(percent(u64::MAX, 0).to_string(), "100");
        assert_eq!(percent(0, 0).to_string(), "100");
        assert_eq!(percent(3, 4).to_string(), "0");
    }
}
