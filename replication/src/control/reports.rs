//! REPLICATION IN: what there is, from one look at the engine each.

use replication_engine::{
    command::{PairView, Side},
    ids::VolumeId,
    state::PairState,
};
use target_core::scsi_model::control::{
    Capabilities, CopyTableEntry, PairDescriptor, PairSelector, PendingExtent, PendingSide, Reason, Refusal,
    RefusalKind, VerifySummary, VolumeDescriptor, VolumeNumber, VolumePair,
};
use target_core::volume::Volume;

use super::{MOST_MEMBERS, id, refusals::refusal};
use crate::array::Array;

/// A share of the whole in VERIFY.
const WHOLE: u32 = 10_000;

impl Array {
    pub(super) fn query(&self, selector: PairSelector) -> Result<Vec<PairDescriptor>, Refusal> {
        let track_size = self.track_size();
        Ok(self
            .select(selector)?
            .iter()
            .map(|pair| self.with_peer(pair, descriptor(pair, track_size)))
            .collect())
    }

    /// What a remote pair has more than a local one.
    fn with_peer(&self, view: &PairView, mut descriptor: PairDescriptor) -> PairDescriptor {
        let foreign = if view.primary.is_foreign() {
            view.primary
        } else {
            view.mirror
        };
        let Some(pair) = self.remote.pair_of(foreign) else {
            return descriptor;
        };
        if pair.leads {
            (descriptor.role, descriptor.mirror) = (1, pair.far);
        } else {
            (descriptor.role, descriptor.primary) = (2, pair.far);
        }
        let shown = pair.shown(view.state);
        if shown != view.state {
            (descriptor.state, descriptor.mirror_ready) = (shown.code(), false);
            descriptor.held = false;
        }
        descriptor.link_up = Some(self.remote.is_up(&pair.peer));
        descriptor.mode = Some(pair.mode);
        descriptor.on_link_loss = Some(pair.on_link_loss);
        descriptor.handle = Some(VolumeNumber(pair.foreign));
        descriptor.peer = Some(pair.peer);
        descriptor
    }

    pub(super) fn verify(&self, selector: PairSelector, state: Option<u8>) -> Result<VerifySummary, Refusal> {
        let asked = match state {
            None => None,
            Some(code) => Some(PairState::from_code(code).ok_or_else(|| no_such_state(code))?),
        };
        let pairs = match (self.select(selector), selector, asked) {
            (Ok(pairs), _, _) => pairs,
            // Two volumes that are no pair are in the state SIMPLEX, when that is what is asked.
            (Err(refusal), PairSelector::One(..), Some(PairState::Simplex))
                if refusal.kind == RefusalKind::NoSuchPair =>
            {
                let (selected, in_state, settled) = (1, 1, 1);
                return Ok(VerifySummary {
                    selected,
                    in_state,
                    settled,
                    invalid_tracks: 0,
                    lowest_share: WHOLE,
                });
            }
            (Err(refusal), _, _) => return Err(refusal),
        };
        Ok(summarize(&pairs, asked))
    }

    pub(super) fn setup(&self) -> Vec<VolumeDescriptor> {
        let pairs = self.pairs();
        let in_pairs = |volume: VolumeId| pairs.iter().filter(|pair| has(pair, volume)).count() as u16;
        self.volumes()
            .iter()
            .map(|volume| {
                let info = volume.info();
                VolumeDescriptor {
                    number: info.number,
                    mirror_class: info.mirror_class,
                    ready: volume.ready(),
                    read_only: false,
                    thin: info.thin,
                    pairs: in_pairs(id(info.number)),
                    blocks: info.blocks,
                    block_size: info.block_size,
                    track_size: self.track_size(),
                    naa: info.naa,
                    serial: info.serial.clone(),
                    lun: None,
                    name: info.name.clone(),
                }
            })
            .collect()
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: self.system().clone(),
            pairs_per_volume: self.most_pairs(),
            list_descriptors: MOST_MEMBERS as u32,
            track_size: self.track_size(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    pub(super) fn pending_map(
        &self,
        pair: &VolumePair,
        side: PendingSide,
    ) -> Result<Vec<PendingExtent>, Refusal> {
        let (primary, mirror) = self.resolve(pair)?;
        self.select(PairSelector::One(primary, mirror))?;
        let (primary, mirror) = self.place(primary, mirror);
        let side = match side {
            PendingSide::Union => Side::Union,
            PendingSide::Primary => Side::Primary,
            PendingSide::Mirror => Side::Mirror,
            PendingSide::Remaining => Side::Remaining,
        };
        let here = if id(primary).is_foreign() { mirror } else { primary };
        let volume = self.volume(here).ok_or_else(|| self.no_such_volume(here))?;
        let block = u64::from(volume.info().block_size);
        Ok(self
            .pending(id(mirror), side)
            .iter()
            .map(|range| PendingExtent {
                lba: range.start / block,
                blocks: (range.end - range.start) / block,
            })
            .collect())
    }

    pub(super) fn copy_table(&self, volume: VolumeNumber) -> Result<Vec<CopyTableEntry>, Refusal> {
        self.known(volume)?;
        let mine = id(volume);
        let entry = |pair: &PairView| {
            let primary = pair.primary == mine;
            let (other, pending) = if primary {
                (pair.mirror, pair.mirror_invalid)
            } else {
                (pair.primary, pair.primary_invalid)
            };
            let remote = self.remote.pair_of(other);
            CopyTableEntry {
                remote: remote.is_some(),
                primary,
                status: pair.state.code(),
                other: remote.as_ref().map_or(VolumeNumber(other.0), |pair| pair.far),
                system: remote.map_or_else(|| self.system().clone(), |pair| pair.peer),
                pending,
                bytes_per_bit: self.track_size(),
            }
        };
        Ok(self
            .pairs()
            .iter()
            .filter(|pair| has(pair, mine))
            .map(entry)
            .collect())
    }
}

fn has(pair: &PairView, volume: VolumeId) -> bool {
    pair.primary == volume || pair.mirror == volume
}

fn summarize(pairs: &[PairView], asked: Option<PairState>) -> VerifySummary {
    let mut summary = VerifySummary {
        selected: pairs.len() as u32,
        lowest_share: WHOLE,
        ..VerifySummary::default()
    };
    for pair in pairs {
        let settled = !pair.state.is_copying();
        summary.settled += u32::from(settled);
        summary.in_state += u32::from(asked.map_or(settled, |asked| pair.state == asked));
        summary.invalid_tracks += pair.mirror_invalid + pair.primary_invalid;
        summary.lowest_share = summary.lowest_share.min(synchronized_share(pair));
    }
    summary
}

/// Tracks that are equal, of all, in 1/10000, rounded down: 10000 means all.
fn synchronized_share(pair: &PairView) -> u32 {
    let unequal = (pair.mirror_invalid + pair.primary_invalid)
        .max(pair.remaining)
        .min(pair.tracks);
    let equal = u128::from(pair.tracks - unequal) * u128::from(WHOLE);
    equal
        .checked_div(u128::from(pair.tracks))
        .map_or(WHOLE, |share| share as u32)
}

fn descriptor(pair: &PairView, track_size: u32) -> PairDescriptor {
    PairDescriptor {
        primary: VolumeNumber(pair.primary.0),
        mirror: VolumeNumber(pair.mirror.0),
        peer: None,
        role: 0,
        state: pair.state.code(),
        held: pair.held,
        strictly_held: pair.strictly_held,
        mirror_ready: pair.mirror_ready,
        history: pair.history,
        full: pair.full,
        link_up: None,
        mode: None,
        mirror_inconsistent: pair.mirror_inconsistent,
        track_size,
        tracks: pair.tracks,
        mirror_invalid: pair.mirror_invalid,
        primary_invalid: pair.primary_invalid,
        remaining: pair.remaining,
        split_at_ms: pair.split_at_ms,
        rate: pair.rate,
        eta_seconds: pair.eta_seconds,
        reason: match pair.reason {
            1 => Reason::LinkDown,
            2 => Reason::MirrorIo,
            3 => Reason::PrimaryIo,
            4 => Reason::CrashRecovery,
            5 => Reason::PeerRefused,
            _ => Reason::None,
        },
        on_link_loss: None,
        handle: None,
    }
}

fn no_such_state(code: u8) -> Refusal {
    let names: Vec<String> = PairState::ALL
        .iter()
        .map(|state| format!("{} {state}", state.code()))
        .collect();
    let message = format!("{code} is no state code; there are {}", names.join(", "));
    refusal(RefusalKind::InvalidField { byte: 2, bit: None }, message)
}
