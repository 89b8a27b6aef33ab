//! Unit attention conditions (SAM-5 5.14), queued for each I_T nexus.

use std::collections::BTreeSet;

use crate::{
    sense::{Sense, SenseKey},
    sense_codes::{self, AdditionalSense},
};

/// Why a unit wants attention, in the order in which several are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitAttention {
    /// 29h/00h: the nexus is new.
    PowerOn,
    /// 29h/03h: LOGICAL UNIT RESET or TARGET RESET by another nexus.
    Reset,
    /// 29h/07h.
    NexusLoss,
    /// 2Ah/03h.
    ReservationsPreempted,
    /// 2Ah/05h.
    RegistrationsPreempted,
    /// 2Ah/04h.
    ReservationsReleased,
    /// 2Fh/00h: another nexus cleared the task set.
    CommandsCleared,
    /// 3Fh/0Eh.
    ReportedLunsChanged,
    /// 3Fh/03h: the target has other ports.
    InquiryDataChanged,
    /// 28h/00h: the unit became ready, or holds something else now.
    MediumChanged,
    /// 2Ah/09h.
    CapacityChanged,
    /// 2Ah/01h.
    ModeParametersChanged,
    /// 2Ah/02h.
    LogParametersChanged,
    /// 2Ah/06h: another nexus set the state of the target port group, or the pair of a shared unit changed it.
    AccessStateChanged,
    /// 38h/07h.
    ThresholdReached,
}

impl UnitAttention {
    /// Its additional sense code.
    pub const fn additional(self) -> AdditionalSense {
        match self {
            Self::PowerOn => sense_codes::POWER_ON_OR_RESET,
            Self::Reset => sense_codes::BUS_DEVICE_RESET,
            Self::NexusLoss => sense_codes::NEXUS_LOSS,
            Self::ReservationsPreempted => sense_codes::RESERVATIONS_PREEMPTED,
            Self::RegistrationsPreempted => sense_codes::REGISTRATIONS_PREEMPTED,
            Self::ReservationsReleased => sense_codes::RESERVATIONS_RELEASED,
            Self::CommandsCleared => sense_codes::COMMANDS_CLEARED,
            Self::ReportedLunsChanged => sense_codes::REPORTED_LUNS_CHANGED,
            Self::InquiryDataChanged => sense_codes::INQUIRY_DATA_CHANGED,
            Self::MediumChanged => sense_codes::MEDIUM_MAY_HAVE_CHANGED,
            Self::CapacityChanged => sense_codes::CAPACITY_CHANGED,
            Self::ModeParametersChanged => sense_codes::MODE_PARAMETERS_CHANGED,
            Self::LogParametersChanged => sense_codes::LOG_PARAMETERS_CHANGED,
            Self::AccessStateChanged => sense_codes::ACCESS_STATE_CHANGED,
            Self::ThresholdReached => sense_codes::SOFT_THRESHOLD_REACHED,
        }
    }

    /// Its sense data.
    pub const fn sense(self) -> Sense {
        Sense::new(SenseKey::UnitAttention, self.additional())
    }
}

/// What is pending for one nexus: each condition at most once, so it is bounded by their number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attentions(BTreeSet<UnitAttention>);

impl Attentions {
    /// Adds a condition. A reset or power on covers what was pending before it.
    pub fn raise(&mut self, attention: UnitAttention) {
        if attention <= UnitAttention::NexusLoss {
            self.0.retain(|pending| *pending < attention);
        }
        self.0.insert(attention);
    }

    /// The next one to report, which ends it.
    pub fn take(&mut self) -> Option<UnitAttention> {
        self.0.pop_first()
    }

    /// Ends one condition (REPORT LUNS ends 3Fh/0Eh).
    pub fn clear(&mut self, attention: UnitAttention) {
        self.0.remove(&attention);
    }

    /// The additional response information of QUERY ASYNCHRONOUS EVENT (SAM-5 7.10): whether one or more are pending, the
    /// sense key, and the additional sense code and qualifier of the next one. Zeros when there is none.
    pub fn event_information(&self) -> [u8; 3] {
        let Some(next) = self.0.first() else {
            return [0; 3];
        };
        let depth = if self.0.len() == 1 { 0x10 } else { 0x20 };
        let AdditionalSense { code, qualifier } = next.additional();
        [depth | SenseKey::UnitAttention as u8, code, qualifier]
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_come_once_and_in_order() {
        let mut pending = Attentions::default();
        pending.raise(UnitAttention::CapacityChanged);
        pending.raise(UnitAttention::ReservationsPreempted);
        pending.raise(UnitAttention::CapacityChanged);
        assert_eq!(pending.take(), Some(UnitAttention::ReservationsPreempted));
        assert_eq!(pending.take(), Some(UnitAttention::CapacityChanged));
        assert_eq!(pending.take(), None);
    }

    #[test]
    fn a_query_tells_the_next_one_and_leaves_it() {
        let mut pending = Attentions::default();
        assert_eq!(pending.event_information(), [0; 3]);
        pending.raise(UnitAttention::ModeParametersChanged);
        assert_eq!(pending.event_information(), [0x16, 0x2a, 0x01]);
        pending.raise(UnitAttention::NexusLoss);
        pending.raise(UnitAttention::CapacityChanged);
        assert_eq!(pending.event_information(), [0x26, 0x29, 0x07]);
        assert_eq!(pending.take(), Some(UnitAttention::NexusLoss));
    }

    #[test]
    fn a_reset_covers_what_was_before() {
        let mut pending = Attentions::default();
        pending.raise(UnitAttention::ModeParametersChanged);
        pending.raise(UnitAttention::Reset);
        assert_eq!(pending.take(), Some(UnitAttention::Reset));
        assert!(pending.is_empty());
    }
}
