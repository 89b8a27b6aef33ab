//! PERSISTENT RESERVE IN and OUT on the wire (SPC-4 6.16, 6.17).

use crate::{
    big_endian::field,
    failure::Failure,
    reservations::{RegisteredNexus, ReservationType, Reservations, ReserveOut},
    sense::Sense,
    sense_codes,
    transport_id::{TransportId, encode_transport_id},
    unit::{InitiatorPort, TargetPort},
};

const REGISTER: u8 = 0x00;
const RESERVE: u8 = 0x01;
const RELEASE: u8 = 0x02;
const CLEAR: u8 = 0x03;
const PREEMPT: u8 = 0x04;
const PREEMPT_AND_ABORT: u8 = 0x05;
const REGISTER_AND_IGNORE: u8 = 0x06;
const REGISTER_AND_MOVE: u8 = 0x07;
pub(crate) const REPLACE_LOST: u8 = 0x08;

/// Most bytes of a parameter list: room for some thousand TransportIDs.
const MAX_PARAMETER_LIST: u64 = 64 * 1024;

/// A PERSISTENT RESERVE OUT, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutCommand {
    /// RESERVATION KEY.
    pub(crate) key: u64,
    /// What to do.
    pub(crate) command: ReserveOut,
}

/// PARAMETER LIST LENGTH of the CDB.
pub(crate) fn out_list_length(cdb: &[u8]) -> u64 {
    field(cdb, 5..9)
}

/// Reads CDB and parameter list. `ports` are the target's; `known` are the ports of the nexuses there are now: what a
/// TransportID that names a whole initiator device stands for.
pub(crate) fn parse_out(
    cdb: &[u8],
    list: &[u8],
    ports: &[TargetPort],
    known: &[InitiatorPort],
) -> Result<OutCommand, Failure> {
    let action = cdb[1] & 0x1F;
    let length = out_list_length(cdb);
    if length > MAX_PARAMETER_LIST || (list.len() as u64) < length || length < 24 {
        return Err(Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR).into());
    }
    let list = &list[..length as usize];
    let key = field(list, 0..8);
    let action_key = field(list, 8..16);
    if action == REGISTER_AND_MOVE {
        return Ok(OutCommand {
            key,
            command: parse_move(list, ports, known)?,
        });
    }
    let flags = list[20];
    if flags & !0x0D != 0 || list[21] != 0 {
        return Err(Sense::invalid_parameter(if list[21] == 0 { 20 } else { 21 }, None).into());
    }
    let specify = flags & 0x08 != 0;
    if specify && action != REGISTER {
        return Err(Sense::invalid_parameter(20, Some(3)).into());
    }
    if !specify && length != 24 {
        return Err(Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR).into());
    }
    let command = match action {
        REGISTER | REGISTER_AND_IGNORE => ReserveOut::Register {
            new_key: action_key,
            ignore_existing: action == REGISTER_AND_IGNORE,
            aptpl: flags & 0x01 != 0,
            all_target_ports: flags & 0x04 != 0,
            also: if specify {
                parse_specified(list, known)?
            } else {
                Vec::new()
            },
        },
        RESERVE => ReserveOut::Reserve(parse_type(cdb)?),
        RELEASE => ReserveOut::Release(parse_type(cdb)?),
        CLEAR => ReserveOut::Clear,
        PREEMPT | PREEMPT_AND_ABORT => ReserveOut::Preempt {
            victim: action_key,
            kind: parse_type(cdb)?,
            abort: action == PREEMPT_AND_ABORT,
        },
        REPLACE_LOST => ReserveOut::ReplaceLost {
            new_key: action_key,
            kind: parse_type(cdb)?,
            aptpl: flags & 0x01 != 0,
        },
        _ => return Err(Sense::invalid_cdb_field(1, Some(4)).into()),
    };
    Ok(OutCommand { key, command })
}

/// SCOPE must be LU_SCOPE, TYPE one of the six.
fn parse_type(cdb: &[u8]) -> Result<ReservationType, Failure> {
    if cdb[2] >> 4 != 0 {
        return Err(Sense::invalid_cdb_field(2, Some(7)).into());
    }
    ReservationType::from_code(cdb[2] & 0x0F).ok_or_else(|| Sense::invalid_cdb_field(2, Some(3)).into())
}

/// SPEC_I_PT: TRANSPORTID PARAMETER DATA LENGTH at byte 24, then the TransportIDs.
fn parse_specified(list: &[u8], known: &[InitiatorPort]) -> Result<Vec<InitiatorPort>, Failure> {
    let length = field(list, 24..28);
    if list.len() < 28 || length != (list.len() - 28) as u64 {
        return Err(Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR).into());
    }
    let mut ports = Vec::new();
    let mut at = 28;
    while at < list.len() {
        let (id, used) =
            TransportId::parse(&list[at..]).map_err(|_| Sense::invalid_parameter(at as u16, None))?;
        ports.extend(ports_of(id, known));
        at += used;
    }
    Ok(ports)
}

fn ports_of(id: TransportId, known: &[InitiatorPort]) -> Vec<InitiatorPort> {
    match id {
        TransportId::Port(port) => vec![port],
        TransportId::Device(name) => known.iter().filter(|port| port.name == name).cloned().collect(),
    }
}

/// REGISTER AND MOVE has a list of its own (SPC-4 6.17.4).
fn parse_move(list: &[u8], ports: &[TargetPort], known: &[InitiatorPort]) -> Result<ReserveOut, Failure> {
    if list[16] != 0 || list[17] & !0x03 != 0 {
        return Err(Sense::invalid_parameter(if list[16] == 0 { 17 } else { 16 }, None).into());
    }
    if field(list, 20..24) != (list.len() - 24) as u64 {
        return Err(Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR).into());
    }
    let bad_id = Failure::from(Sense::invalid_parameter(24, None));
    let (id, used) = TransportId::parse(&list[24..]).map_err(|_| bad_id)?;
    let mut initiators = ports_of(id, known);
    let (Some(initiator), true) = (initiators.pop(), initiators.is_empty() && used == list.len() - 24) else {
        return Err(bad_id);
    };
    let relative = field(list, 18..20) as u16;
    if ports.iter().all(|port| port.relative_id != relative) {
        return Err(Sense::invalid_parameter(18, None).into());
    }
    Ok(ReserveOut::Move {
        new_key: field(list, 8..16),
        to: RegisteredNexus {
            initiator,
            target_port: Some(relative),
        },
        unregister: list[17] & 0x02 != 0,
        aptpl: list[17] & 0x01 != 0,
    })
}

/// Parameter data of PERSISTENT RESERVE IN, before the allocation length cuts it.
pub(crate) fn data_in(cdb: &[u8], state: &Reservations) -> Result<Vec<u8>, Failure> {
    match cdb[1] & 0x1F {
        0x00 => Ok(read_keys(state)),
        0x01 => Ok(read_reservation(state)),
        0x02 => Ok(report_capabilities(state)),
        0x03 => Ok(read_full_status(state)),
        _ => Err(Sense::invalid_cdb_field(1, Some(4)).into()),
    }
}

fn header(state: &Reservations) -> Vec<u8> {
    let mut data = state.generation.to_be_bytes().to_vec();
    data.extend([0; 4]);
    data
}

fn finish(mut data: Vec<u8>) -> Vec<u8> {
    let additional = (data.len() - 8) as u32;
    data[4..8].copy_from_slice(&additional.to_be_bytes());
    data
}

fn read_keys(state: &Reservations) -> Vec<u8> {
    let mut data = header(state);
    data.extend(
        state
            .registrations
            .iter()
            .flat_map(|registration| registration.key.to_be_bytes()),
    );
    finish(data)
}

/// The key shown is the holder's; of all registrants it is zero (SPC-4 6.16.3).
fn read_reservation(state: &Reservations) -> Vec<u8> {
    let mut data = header(state);
    if let Some(reservation) = &state.reservation {
        let holder = reservation.holder.as_ref();
        let key = state
            .registrations
            .iter()
            .find(|r| Some(&r.nexus) == holder)
            .map_or(0, |r| r.key);
        data.extend(key.to_be_bytes());
        data.extend([0, 0, 0, 0, 0, reservation.kind as u8, 0, 0]);
    }
    finish(data)
}

/// RLR_C, SIP_C, ATP_C, PTPL_C; TMV and PTPL_A; all six types.
fn report_capabilities(state: &Reservations) -> Vec<u8> {
    vec![0, 8, 0x8D, 0x80 | u8::from(state.aptpl), 0xEA, 0x01, 0, 0]
}

fn read_full_status(state: &Reservations) -> Vec<u8> {
    let mut data = header(state);
    for registration in &state.registrations {
        let holds = state.holds(&registration.nexus);
        let kind = state
            .reservation
            .as_ref()
            .filter(|_| holds)
            .map_or(0, |present| present.kind as u8);
        let id = encode_transport_id(&registration.nexus.initiator);
        data.extend(registration.key.to_be_bytes());
        data.extend([0; 4]);
        data.push(u8::from(registration.nexus.target_port.is_none()) << 1 | u8::from(holds));
        data.push(kind);
        data.extend([0; 4]);
        data.extend(registration.nexus.target_port.unwrap_or(0).to_be_bytes());
        data.extend((id.len() as u32).to_be_bytes());
        data.extend(id);
    }
    finish(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::NexusPorts;

    fn ports() -> NexusPorts {
        NexusPorts {
            initiator: InitiatorPort {
                name: "iqn.a:1".into(),
                isid: [1; 6],
            },
            target: TargetPort {
                name: "iqn.t:1".into(),
                portal_group: 1,
                relative_id: 1,
            },
        }
    }

    fn list(key: u64, action_key: u64, flags: u8) -> Vec<u8> {
        let mut list = key.to_be_bytes().to_vec();
        list.extend(action_key.to_be_bytes());
        list.extend([0, 0, 0, 0, flags, 0, 0, 0]);
        list
    }

    fn cdb(action: u8, kind: u8, length: u8) -> [u8; 10] {
        [0x5F, action, kind, 0, 0, 0, 0, 0, length, 0]
    }

    #[test]
    fn a_registration_shows_in_every_report() {
        let mut state = Reservations::default();
        let out = parse_out(&cdb(0, 0, 24), &list(0, 0xABC, 1), &[ports().target], &[]).unwrap();
        state.execute(&ports(), out.key, out.command).unwrap();
        let out = parse_out(&cdb(1, 5, 24), &list(0xABC, 0, 0), &[ports().target], &[]).unwrap();
        state.execute(&ports(), out.key, out.command).unwrap();

        assert_eq!(
            data_in(&[0x5E, 0], &state).unwrap(),
            [0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0x0A, 0xBC]
        );
        assert_eq!(
            data_in(&[0x5E, 1], &state).unwrap(),
            [
                0, 0, 0, 1, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0x0A, 0xBC, 0, 0, 0, 0, 0, 5, 0, 0
            ]
        );
        assert_eq!(
            data_in(&[0x5E, 2], &state).unwrap(),
            [0, 8, 0x8D, 0x81, 0xEA, 1, 0, 0]
        );
        let full = data_in(&[0x5E, 3], &state).unwrap();
        assert_eq!(
            full[8..32],
            [
                0, 0, 0, 0, 0, 0, 0x0A, 0xBC, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0, 1, 0, 0, 0, 32
            ]
        );
        assert_eq!(&full[36..], b"iqn.a:1,i,0x010101010101\0\0\0\0");
    }

    #[test]
    fn broken_lists_are_refused() {
        let short = parse_out(&cdb(0, 0, 20), &list(0, 1, 0), &[ports().target], &[]);
        assert_eq!(
            short,
            Err(Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR).into())
        );
        let scope = parse_out(&cdb(1, 0x15, 24), &list(1, 0, 0), &[ports().target], &[]);
        assert_eq!(scope, Err(Sense::invalid_cdb_field(2, Some(7)).into()));
        let flag = parse_out(&cdb(0, 0, 24), &list(0, 1, 2), &[ports().target], &[]);
        assert_eq!(flag, Err(Sense::invalid_parameter(20, None).into()));
        let specify = parse_out(&cdb(1, 5, 24), &list(0, 1, 8), &[ports().target], &[]);
        assert_eq!(specify, Err(Sense::invalid_parameter(20, Some(3)).into()));
    }
}
