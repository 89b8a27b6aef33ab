//! Refusals as sense data, and back (docs/control-cdb.md, "Sense data").

use super::{Refusal, RefusalKind};
use crate::{
    sense::{Sense, SenseKey},
    sense_codes::{self, AdditionalSense},
};

/// The kinds that have a code of their own under 5h.
const CODES: [(RefusalKind, AdditionalSense); 10] = [
    (RefusalKind::State, sense_codes::CONTROL_STATE),
    (RefusalKind::Held, sense_codes::CONTROL_HELD),
    (RefusalKind::OtherStandard, sense_codes::CONTROL_OTHER_STANDARD),
    (RefusalKind::Geometry, sense_codes::CONTROL_GEOMETRY),
    (RefusalKind::NoSuchPair, sense_codes::CONTROL_NO_SUCH_PAIR),
    (RefusalKind::NoSuchVolume, sense_codes::CONTROL_NO_SUCH_VOLUME),
    (RefusalKind::InUse, sense_codes::CONTROL_IN_USE),
    (RefusalKind::NoPath, sense_codes::CONTROL_NO_PATH),
    (RefusalKind::PeerRefused, sense_codes::CONTROL_PEER_REFUSED),
    (RefusalKind::NoHistory, sense_codes::CONTROL_NO_HISTORY),
];

/// The sense data of a refusal; the index of the refused member of a LIST is in INFORMATION.
pub fn sense_of(refusal: &Refusal) -> Sense {
    let mut sense = match refusal.kind {
        RefusalKind::InvalidField { byte, bit } => Sense::invalid_cdb_field(byte, bit),
        RefusalKind::InvalidParameter { byte } => Sense::invalid_parameter(byte, None),
        RefusalKind::NotReady => Sense::new(SenseKey::NotReady, sense_codes::MANUAL_INTERVENTION_REQUIRED),
        RefusalKind::Internal => Sense::new(SenseKey::HardwareError, sense_codes::INTERNAL_TARGET_FAILURE),
        kind => {
            let code = CODES
                .iter()
                .find(|(listed, _)| *listed == kind)
                .map(|(_, code)| *code);
            code.map_or(
                Sense::new(SenseKey::HardwareError, sense_codes::INTERNAL_TARGET_FAILURE),
                Sense::illegal,
            )
        }
    };
    sense.information = refusal.member.map(u64::from);
    sense
}

/// The refusal that sense data of a C0h or C1h tells of; `None` if it tells of something else (a unit attention,
/// a target without replication). The words are the code's: the sentence of the refusal does not fit into sense data.
pub fn refusal_of(sense: &Sense) -> Option<Refusal> {
    let code = sense.additional;
    let kind = match (sense.key, code) {
        (SenseKey::NotReady, sense_codes::MANUAL_INTERVENTION_REQUIRED) => RefusalKind::NotReady,
        (SenseKey::HardwareError, sense_codes::INTERNAL_TARGET_FAILURE) => RefusalKind::Internal,
        (SenseKey::IllegalRequest, sense_codes::INVALID_FIELD_IN_CDB) => {
            let field = sense.field?;
            RefusalKind::InvalidField {
                byte: field.byte,
                bit: field.bit,
            }
        }
        (SenseKey::IllegalRequest, sense_codes::INVALID_FIELD_IN_PARAMETER_LIST) => {
            RefusalKind::InvalidParameter {
                byte: sense.field?.byte,
            }
        }
        (SenseKey::IllegalRequest, code) => CODES.iter().find(|(_, listed)| *listed == code)?.0,
        _ => return None,
    };
    Some(Refusal {
        kind,
        message: code.text().unwrap_or("refused").to_owned(),
        member: sense.information.and_then(|member| u16::try_from(member).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sense::SenseFormat;

    #[test]
    fn every_kind_reads_back() {
        let kinds = CODES.iter().map(|(kind, _)| *kind).chain([
            RefusalKind::InvalidField {
                byte: 2,
                bit: Some(3),
            },
            RefusalKind::InvalidField { byte: 8, bit: None },
            RefusalKind::InvalidParameter { byte: 16 },
            RefusalKind::NotReady,
            RefusalKind::Internal,
        ]);
        for kind in kinds {
            let refusal = Refusal {
                kind,
                message: "why".into(),
                member: Some(7),
            };
            let sense = sense_of(&refusal);
            for format in [SenseFormat::Fixed, SenseFormat::Descriptor] {
                let read = refusal_of(&Sense::decode(&sense.encode(format)).unwrap()).unwrap();
                assert_eq!((read.kind, read.member), (kind, Some(7)));
            }
        }
    }

    #[test]
    fn the_codes_are_the_documented_ones() {
        let held = Refusal {
            kind: RefusalKind::Held,
            message: String::new(),
            member: None,
        };
        let sense = sense_of(&held).encode(SenseFormat::Fixed);
        assert_eq!((sense[2], sense[12], sense[13]), (0x05, 0x2C, 0x81));
        let attention = Sense::new(SenseKey::UnitAttention, sense_codes::POWER_ON_OR_RESET);
        assert_eq!(refusal_of(&attention), None);
    }
}
