//! What a unit keeps for each I_T nexus.

use crate::{
    buffers::Buffers,
    control::{PendingSide, Request, VolumePair},
    copy_operations::Operations,
    failure::Failure,
    plan::ControlCall,
    sense::Sense,
    sense_codes,
    third_party_copy::CopyStatuses,
    unit::NexusPorts,
    unit_attention::Attentions,
};

/// State of one nexus on one unit. Its size is bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NexusState {
    pub(super) ports: NexusPorts,
    pub(super) attentions: Attentions,
    /// PREVENT ALLOW MEDIUM REMOVAL.
    pub(super) prevents_removal: bool,
    pub(super) copies: CopyStatuses,
    pub(super) operations: Operations,
    pub(super) buffers: Buffers,
    map: Option<MapPosition>,
}

/// Where the last READ PENDING MAP was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MapPosition {
    pair: VolumePair,
    side: PendingSide,
    next_lba: u64,
}

impl NexusState {
    pub(super) fn new(ports: NexusPorts) -> Self {
        Self {
            ports,
            attentions: Attentions::default(),
            prevents_removal: false,
            copies: CopyStatuses::default(),
            operations: Operations::default(),
            buffers: Buffers::default(),
            map: None,
        }
    }

    /// What a logical unit reset ends; unit attentions stay.
    pub(super) fn reset(&mut self) {
        self.prevents_removal = false;
        self.copies = CopyStatuses::default();
        self.operations = Operations::default();
        self.buffers = Buffers::default();
        self.map = None;
    }

    /// Remembers where a READ PENDING MAP ended.
    pub(super) fn note_map_position(&mut self, call: &ControlCall, next_lba: u64) {
        if let Request::ReadPendingMap { pair, side } = &call.request {
            self.map = Some(MapPosition {
                pair: pair.clone(),
                side: *side,
                next_lba,
            });
        }
    }

    /// SELECT bit 7: only after a READ PENDING MAP of the same pair and side.
    pub(super) fn map_position(&self, request: &Request) -> Result<u64, Failure> {
        let Request::ReadPendingMap { pair, side } = request else {
            return Err(Sense::invalid_cdb_field(2, Some(7)).into());
        };
        let position = self
            .map
            .as_ref()
            .filter(|map| map.pair == *pair && map.side == *side);
        let position =
            position.ok_or_else(|| Failure::from(Sense::illegal(sense_codes::COMMAND_SEQUENCE_ERROR)))?;
        Ok(position.next_lba)
    }
}
