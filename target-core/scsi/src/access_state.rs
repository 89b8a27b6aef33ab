//! Asymmetric logical unit access (SPC-4 5.15): the state of the one target port group through which a unit is reached,
//! REPORT TARGET PORT GROUPS (6.37) and SET TARGET PORT GROUPS (6.45).
//!
//! All ports of a target are in one group, and every port is as good as any other: by itself a unit is always
//! active/optimized. An initiator may set another state, for all initiators, until it is set again or the daemon ends.
//!
//! A unit that another system shows too ([`SharedAccess`]) has a group of its own on each of the two. Its state is what the pair of the
//! volumes makes it, and no initiator sets it (TPGS 01b). A system tells of its own group only: what the other's is now it cannot know.

use crate::{
    big_endian::field,
    failure::Failure,
    opcode_table::Handler,
    plan::Answer,
    sense::{Sense, SenseKey},
    sense_codes,
    unit::{SharedAccess, TargetPort},
};

/// The one target port group of units that no other system shows.
const TARGET_PORT_GROUP: u16 = 1;

/// TARGET PORT GROUP of the ports through which a unit is reached.
pub(crate) fn target_port_group(shared: Option<SharedAccess>) -> u16 {
    shared.map_or(TARGET_PORT_GROUP, |shared| shared.target_port_group)
}

/// What of a unit's commands go through its port group: ASYMMETRIC ACCESS STATE (SPC-4 table 320).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum AccessState {
    /// All.
    #[default]
    Optimized = 0x0,
    /// All; the initiator is to prefer another group.
    NonOptimized = 0x1,
    /// Those that ask and configure.
    Standby = 0x2,
    /// Those that tell what is there.
    Unavailable = 0x3,
    /// Those of standby; others are BUSY.
    Transitioning = 0xF,
}

/// T_SUP, O_SUP and LBD_SUP are not there: no transition takes time, no port is offline. U_SUP, S_SUP, AN_SUP, AO_SUP.
const SUPPORTED: u8 = 0x0F;

/// What a pair makes of a shared unit: S_SUP, AO_SUP.
const SUPPORTED_OF_SHARED: u8 = 0x05;

/// T_SUP.
const SUPPORTED_TRANSITION: u8 = 0x80;

/// STATUS CODE: altered by SET TARGET PORT GROUPS.
const ALTERED_BY_COMMAND: u8 = 0x01;

/// STATUS CODE: altered by implicit asymmetric logical unit access behavior.
const ALTERED_IMPLICITLY: u8 = 0x02;

/// Bytes of the header of both parameter lists, and of a descriptor of SET TARGET PORT GROUPS.
const HEADER: usize = 4;
const DESCRIPTOR: usize = 4;

impl AccessState {
    /// Those that an initiator may set. Not logical block dependent (4h), offline (Eh) and transitioning (Fh).
    fn from_code(code: u8) -> Option<Self> {
        [
            Self::Optimized,
            Self::NonOptimized,
            Self::Standby,
            Self::Unavailable,
        ]
        .into_iter()
        .find(|state| *state as u8 == code)
    }

    /// Why a command that touches the medium is not carried out.
    pub(crate) fn sense(self) -> Option<Sense> {
        let code = match self {
            Self::Optimized | Self::NonOptimized => return None,
            Self::Standby => sense_codes::TARGET_PORT_IN_STANDBY,
            Self::Unavailable => sense_codes::TARGET_PORT_UNAVAILABLE,
            Self::Transitioning => sense_codes::ACCESS_STATE_TRANSITION,
        };
        Some(Sense::new(SenseKey::NotReady, code))
    }

    /// Checks a command against the state (SPC-4 5.15.2.4.4, 5.15.2.4.5, 5.15.2.5). In a transition the standard leaves the choice between BUSY and
    /// sense data: hosts and userspace initiators all know the first as something that passes.
    pub(crate) fn check(self, handler: Handler) -> Result<(), Failure> {
        let goes = match handler {
            Handler::Inquiry
            | Handler::ReadBuffer
            | Handler::ReportLuns
            | Handler::ReportTargetPortGroups
            | Handler::RequestSense
            | Handler::SetTargetPortGroups
            | Handler::WriteBuffer => true,
            Handler::LogSelect
            | Handler::LogSense
            | Handler::ModeSelect
            | Handler::ModeSense
            | Handler::PersistentReserveIn
            | Handler::PersistentReserveOut
            | Handler::ReadCapacity10
            | Handler::ReadCapacity16
            | Handler::ReceiveDiagnostic
            | Handler::Release
            | Handler::ReplicationIn
            | Handler::ReplicationOut
            | Handler::ReportOpcodes
            | Handler::ReportTaskManagement
            | Handler::ReportTimestamp
            | Handler::SendDiagnostic => self != Self::Unavailable,
            _ => false,
        };
        match self.sense() {
            Some(_) if !goes && self == Self::Transitioning => Err(Failure::Busy),
            Some(sense) if !goes => Err(sense.into()),
            _ => Ok(()),
        }
    }
}

/// The state of the group, and whether an initiator has set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PortGroup {
    state: AccessState,
    set_by_command: bool,
}

impl PortGroup {
    /// The state in which the unit is reached.
    pub(crate) fn state(self, shared: Option<SharedAccess>) -> AccessState {
        match shared {
            None => self.state,
            Some(SharedAccess { active: true, .. }) => AccessState::Optimized,
            Some(SharedAccess { one_path: true, .. }) => AccessState::Transitioning,
            Some(_) => AccessState::Standby,
        }
    }

    /// Did an initiator set a state in which the medium is not reached?
    pub(crate) fn is_closed_by_command(self) -> bool {
        self.state.sense().is_some()
    }

    /// SET TARGET PORT GROUPS; `true` when the state is another one now.
    pub(crate) fn set(&mut self, state: AccessState) -> bool {
        self.set_by_command = true;
        std::mem::replace(&mut self.state, state) != state
    }

    /// REPORT TARGET PORT GROUPS: the group with the ports of the target, of which it takes the first 255; PARAMETER DATA FORMAT
    /// 1h adds the extended header.
    pub(crate) fn report(
        self,
        cdb: &[u8],
        ports: &[TargetPort],
        shared: Option<SharedAccess>,
    ) -> Result<Answer, Failure> {
        let ports = &ports[..ports.len().min(usize::from(u8::MAX))];
        let mut data = vec![0; HEADER];
        match cdb[1] >> 5 {
            0 => {}
            // Without IMPLICIT TRANSITION TIME: there are no transitions to wait for.
            1 => data.extend([0x10, 0, 0, 0]),
            _ => return Err(Sense::invalid_cdb_field(1, Some(7)).into()),
        }
        let (supported, status) = match (shared, self.set_by_command) {
            (Some(shared), _) if shared.one_path => {
                (SUPPORTED_OF_SHARED | SUPPORTED_TRANSITION, ALTERED_IMPLICITLY)
            }
            (Some(_), _) => (SUPPORTED_OF_SHARED, ALTERED_IMPLICITLY),
            (None, true) => (SUPPORTED, ALTERED_BY_COMMAND),
            (None, false) => (SUPPORTED, 0),
        };
        data.extend([self.state(shared) as u8, supported]);
        data.extend(target_port_group(shared).to_be_bytes());
        data.extend([0, status, 0, ports.len() as u8]);
        for port in ports {
            data.extend([0, 0]);
            data.extend(port.relative_id.to_be_bytes());
        }
        let length = (data.len() - HEADER) as u32;
        data[..HEADER].copy_from_slice(&length.to_be_bytes());
        Ok(Answer::data(data, field(cdb, 6..10) as usize))
    }
}

/// Reads a SET TARGET PORT GROUPS; `None` when its list names no group. Of two states for the group the last one counts.
pub(crate) fn parse_set(cdb: &[u8], data_out: &[u8]) -> Result<Option<AccessState>, Failure> {
    let length = list_length(cdb);
    if length == 0 {
        return Ok(None);
    }
    if length < HEADER || !(length - HEADER).is_multiple_of(DESCRIPTOR) {
        return Err(Sense::invalid_cdb_field(6, Some(7)).into());
    }
    let too_short = Failure::from(Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR));
    let list = data_out.get(..length).ok_or(too_short)?;
    let mut wanted = None;
    for (index, descriptor) in list[HEADER..].chunks(DESCRIPTOR).enumerate() {
        let at = HEADER + index * DESCRIPTOR;
        let state = AccessState::from_code(descriptor[0] & 0x0F);
        // Pointers are 16 bits wide: one that cannot point so far points as far as it can.
        let pointer = |byte: usize| u16::try_from(byte).unwrap_or(u16::MAX);
        let state = state.ok_or_else(|| Sense::invalid_parameter(pointer(at), Some(3)))?;
        if field(descriptor, 2..4) != u64::from(TARGET_PORT_GROUP) {
            return Err(Sense::invalid_parameter(pointer(at + 2), None).into());
        }
        wanted = Some(state);
    }
    Ok(wanted)
}

/// PARAMETER LIST LENGTH.
pub(crate) fn list_length(cdb: &[u8]) -> usize {
    field(cdb, 6..10) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(list: &[u8]) -> Result<Option<AccessState>, Failure> {
        let mut cdb = [0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        cdb[9] = list.len() as u8;
        parse_set(&cdb, list)
    }

    #[test]
    fn the_group_is_reported_with_either_header() {
        let port = |portal_group: u16| TargetPort {
            name: "iqn.t".into(),
            portal_group,
            relative_id: 1 + portal_group,
        };
        let cdb = |format: u8| [0xA3, format << 5 | 0x0A, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0];
        let mut group = PortGroup::default();
        let short = group.report(&cdb(0), &[port(1)], None).unwrap().data_in;
        assert_eq!(short, [0, 0, 0, 12, 0, 0x0F, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2]);
        let long = group.report(&cdb(1), &[port(1)], None).unwrap().data_in;
        assert_eq!(long[..8], [0, 0, 0, 16, 0x10, 0, 0, 0]);
        assert_eq!(long[8..], short[4..]);
        assert!(group.report(&cdb(2), &[port(1)], None).is_err());

        assert!(group.set(AccessState::Standby) && !group.set(AccessState::Standby));
        let data = group.report(&cdb(0), &[port(1)], None).unwrap().data_in;
        assert_eq!(data[4..12], [2, 0x0F, 0, 1, 0, ALTERED_BY_COMMAND, 0, 1]);
        let two = group.report(&cdb(0), &[port(1), port(7)], None).unwrap().data_in;
        assert_eq!((two[3], two[11]), (16, 2));
        assert_eq!(two[12..], [0, 0, 0, 2, 0, 0, 0, 8]);
    }

    #[test]
    fn a_shared_unit_has_the_state_that_its_pair_gives_it() {
        let port = TargetPort {
            name: "iqn.t".into(),
            portal_group: 1,
            relative_id: 9,
        };
        let cdb = [0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0];
        for (active, one_path, state, supported) in [
            (true, false, 0, 0x05),
            (false, false, 2, 0x05),
            (true, true, 0, 0x85),
            (false, true, 0xF, 0x85),
        ] {
            let shared = Some(SharedAccess {
                target_port_group: 0x0102,
                active,
                one_path,
            });
            let report = PortGroup::default().report(&cdb, std::slice::from_ref(&port), shared);
            assert_eq!(
                report.unwrap().data_in,
                [0, 0, 0, 12, state, supported, 1, 2, 0, 2, 0, 1, 0, 0, 0, 9]
            );
        }
    }

    #[test]
    fn states_that_are_not_there_are_refused_where_they_stand() {
        assert_eq!(set(&[]), Ok(None));
        assert_eq!(set(&[0, 0, 0, 0]), Ok(None));
        assert_eq!(set(&[0, 0, 0, 0, 0, 0, 0, 1]), Ok(Some(AccessState::Optimized)));
        let twice = [0, 0, 0, 0, 2, 0, 0, 1, 1, 0, 0, 1];
        assert_eq!(set(&twice), Ok(Some(AccessState::NonOptimized)));
        for state in [0x4, 0x5, 0xE, 0xF] {
            let wrong = Sense::invalid_parameter(8, Some(3)).into();
            assert_eq!(set(&[0, 0, 0, 0, 0, 0, 0, 1, state, 0, 0, 1]), Err(wrong));
        }
        let another_group = Sense::invalid_parameter(6, None).into();
        assert_eq!(set(&[0, 0, 0, 0, 0, 0, 0, 2]), Err(another_group));
        for length in [1, 3, 5, 7] {
            let wrong = Sense::invalid_cdb_field(6, Some(7)).into();
            assert_eq!(set(&vec![0; length]), Err(wrong));
        }
        let cdb = [0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0];
        let short = Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR).into();
        assert_eq!(parse_set(&cdb, &[0; 7]), Err(short));
    }

    #[test]
    fn fewer_commands_go_the_less_the_port_is_there() {
        let goes = |state: AccessState| {
            [
                Handler::Inquiry,
                Handler::ModeSense,
                Handler::ReadCapacity10,
                Handler::Read,
            ]
            .map(|handler| state.check(handler).is_ok())
        };
        assert_eq!(goes(AccessState::Optimized), [true; 4]);
        assert_eq!(goes(AccessState::NonOptimized), [true; 4]);
        assert_eq!(goes(AccessState::Standby), [true, true, true, false]);
        assert_eq!(goes(AccessState::Unavailable), [true, false, false, false]);
    }
}
