//! The whole device server: order of checks, state over several nexuses, and that nothing thrown at it hurts.

mod any_cdb;

use super::*;
use crate::{
    block_commands::tests::{facts, identity},
    control::{PairSelector, PendingExtent, Reply, Request},
    plan::{ByteRange, CopyListId, CopyOutcome, CopyPlan},
    sense::SenseFormat,
    unit::{InitiatorPort, NexusPorts, SharedAccess, TargetPort, UnitIdentity},
};

const A: NexusId = NexusId(1);
const B: NexusId = NexusId(2);
const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const WRITE: [u8; 10] = [0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const READY: [u8; 6] = [0; 6];

fn ports(number: u64) -> NexusPorts {
    NexusPorts {
        initiator: InitiatorPort {
            name: format!("iqn.i:{number}"),
            isid: [number as u8; 6],
        },
        target: TargetPort {
            name: "iqn.t".into(),
            portal_group: 1,
            relative_id: 1,
        },
    }
}

/// Two nexuses that have heard of the power on.
fn server() -> DeviceServer {
    let mut server = DeviceServer::default();
    for nexus in [A, B] {
        server.attach(nexus, ports(nexus.0));
        assert_eq!(sense(&mut server, nexus, &READY), Some((6, 0x29, 0)));
    }
    server
}

fn run_with(server: &mut DeviceServer, nexus: NexusId, cdb: &[u8], data: &[u8], unit: &UnitIdentity) -> Plan {
    server.plan(nexus, cdb, data, &facts(unit))
}

fn run(server: &mut DeviceServer, nexus: NexusId, cdb: &[u8]) -> Plan {
    run_with(server, nexus, cdb, &[0; 512], &identity())
}

fn answer(plan: &Plan) -> &Answer {
    match &plan.action {
        Action::Answer(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// Key, ASC, ASCQ of a CHECK CONDITION in fixed format.
fn sense(server: &mut DeviceServer, nexus: NexusId, cdb: &[u8]) -> Option<(u8, u8, u8)> {
    let plan = run(server, nexus, cdb);
    let Action::Answer(answer) = plan.action else {
        return None;
    };
    let sense = Sense::decode(&answer.sense)?;
    Some((sense.key as u8, sense.additional.code, sense.additional.qualifier))
}

fn status(server: &mut DeviceServer, nexus: NexusId, cdb: &[u8]) -> Status {
    match run(server, nexus, cdb).action {
        Action::Answer(answer) => answer.status,
        _ => Status::Good,
    }
}

fn reserve_out(server: &mut DeviceServer, nexus: NexusId, action: u8, kind: u8, keys: (u64, u64)) -> Plan {
    let mut list = keys.0.to_be_bytes().to_vec();
    list.extend(keys.1.to_be_bytes());
    list.extend([0; 8]);
    let cdb = [0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0];
    run_with(server, nexus, &cdb, &list, &identity())
}

#[test]
fn a_new_nexus_hears_of_it_once_and_inquiry_passes() {
    let mut server = DeviceServer::default();
    server.attach(A, ports(1));
    assert!(server.attention_or_reservation(A));
    assert_eq!(
        answer(&run(&mut server, A, &[0x12, 0, 0, 0, 96, 0]))
            .data_in
            .len(),
        96
    );
    assert_eq!(sense(&mut server, A, &READ), Some((6, 0x29, 0)));
    assert!(!server.attention_or_reservation(A));
    assert_eq!(
        run(&mut server, A, &READ).action,
        Action::Read {
            offset: 0,
            length: 512,
            fua: false
        }
    );
}

#[test]
fn the_fast_path_plans_the_same() {
    let unit = identity();
    let mut server = server();
    let mut long = [0; 16];
    long[0] = 0x8A;
    long[1] = 0x08;
    long[13] = 1;
    for cdb in [&READ[..], &WRITE, &long] {
        let fast = crate::fast_path::plan(cdb, 512, &facts(&unit)).unwrap();
        assert_eq!(fast, run(&mut server, A, cdb));
    }
    let mut reserved = READ;
    reserved[6] = 1;
    assert_eq!(crate::fast_path::plan(&reserved, 0, &facts(&unit)), None);
    let read_only = UnitFacts {
        read_only: true,
        ..facts(&unit)
    };
    assert_eq!(crate::fast_path::plan(&WRITE, 512, &read_only), None);
}

#[test]
fn unknown_commands_and_service_actions() {
    let mut server = server();
    assert_eq!(sense(&mut server, A, &[0xDB; 16]), Some((5, 0x20, 0)));
    let plan = run(&mut server, A, &[0x5E, 0x0A, 0, 0, 0, 0, 0, 0, 8, 0]);
    assert_eq!(
        Sense::decode(&answer(&plan).sense),
        Some(Sense::invalid_cdb_field(1, Some(4)))
    );
    let plan = run(&mut server, A, &[0x12, 0, 0x83, 0, 0x24, 0]);
    assert_eq!(
        Sense::decode(&answer(&plan).sense),
        Some(Sense::invalid_cdb_field(2, Some(7)))
    );
    assert_eq!(sense(&mut server, A, &[]), Some((5, 0x20, 0)));
    assert_eq!(sense(&mut server, A, &READ[..9]), Some((5, 0x20, 0)));
    let mut read = [0; 32];
    (read[0], read[7], read[9]) = (0x7F, 0x18, 9);
    let pointer = |server: &mut DeviceServer, cdb: &[u8]| {
        let plan = run(server, A, cdb);
        Sense::decode(&answer(&plan).sense).unwrap().field
    };
    let field = |byte, bit| Sense::invalid_cdb_field(byte, bit).field;
    assert_eq!(
        pointer(&mut server, &read[..16]),
        field(7, Some(7)),
        "without its rest"
    );
    for (at, value, wanted) in [
        (7, 0x08, field(7, Some(7))),
        (9, 0x10, field(8, Some(7))),
        (10, 0x20, field(10, Some(5))),
    ] {
        let mut wrong = read;
        wrong[at] = value;
        assert_eq!(pointer(&mut server, &wrong), wanted);
    }
    assert_eq!(sense(&mut server, A, &read[..9]), Some((5, 0x20, 0)));
}

#[test]
fn what_is_not_ready_says_so_and_what_is_protected() {
    let unit = identity();
    let mut server = server();
    let not_ready = UnitFacts {
        ready: false,
        ..facts(&unit)
    };
    let plan = server.plan(A, &READ, &[], &not_ready);
    let wanted = Sense::new(SenseKey::NotReady, sense_codes::MANUAL_INTERVENTION_REQUIRED);
    assert_eq!(Sense::decode(&answer(&plan).sense), Some(wanted));
    let read_only = UnitFacts {
        read_only: true,
        ..facts(&unit)
    };
    let plan = server.plan(A, &WRITE, &[0; 512], &read_only);
    let wanted = Sense::new(SenseKey::DataProtect, sense_codes::WRITE_PROTECTED);
    assert_eq!(Sense::decode(&answer(&plan).sense), Some(wanted));
}

/// Through the system that follows, a shared unit answers what asks and nothing else, and no initiator can change that.
#[test]
fn a_shared_unit_is_in_standby_where_it_is_not_led() {
    let unit = identity();
    let mut server = server();
    let mut asked = |active: bool, cdb: &[u8]| {
        let shared = Some(SharedAccess {
            target_port_group: 2,
            active,
            one_path: false,
        });
        let through = UnitFacts {
            shared,
            ready: active,
            ..facts(&unit)
        };
        let plan = server.plan(A, cdb, &[0; 512], &through);
        match plan.action {
            Action::Answer(answer) => (answer.status, Sense::decode(&answer.sense), answer.data_in),
            _ => (Status::Good, None, Vec::new()),
        }
    };
    let standby = Some(Sense::new(
        SenseKey::NotReady,
        sense_codes::TARGET_PORT_IN_STANDBY,
    ));
    let request_sense = [0x03, 0, 0, 0, 252, 0];
    let inquiry = [0x12, 0, 0, 0, 96, 0];
    let groups = [0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0];
    let set_groups = [0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for cdb in [&READ[..], &WRITE, &READY] {
        assert_eq!(asked(false, cdb).1, standby);
        assert_eq!(asked(true, cdb).0, Status::Good);
    }
    assert_eq!(Sense::decode(&asked(false, &request_sense).2), standby);
    let capacity = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for active in [false, true] {
        assert_eq!(asked(active, &inquiry).2[5], 0x18);
        // Linux makes a disk of size zero of one that does not tell, and never asks again.
        assert_eq!(asked(active, &capacity).0, Status::Good);
        let report = asked(active, &groups).2;
        assert_eq!(report[4..8], [if active { 0 } else { 2 }, 0x05, 0, 2]);
        let unknown = Sense::illegal(sense_codes::INVALID_OPERATION_CODE);
        assert_eq!(asked(active, &set_groups).1, Some(unknown));
    }
}

/// To initiators with one path a shared unit that is not active here is one that will be soon, elsewhere: they try again.
#[test]
fn a_shared_unit_is_busy_to_who_has_one_path() {
    let unit = identity();
    let mut server = server();
    let shared = SharedAccess {
        target_port_group: 2,
        active: false,
        one_path: true,
    };
    let through = UnitFacts {
        shared: Some(shared),
        ready: false,
        ..facts(&unit)
    };
    let mut asked = |cdb: &[u8]| match server.plan(A, cdb, &[0; 512], &through).action {
        Action::Answer(answer) => answer,
        other => panic!("{other:?}"),
    };
    for cdb in [&READ[..], &WRITE, &READY] {
        assert_eq!(asked(cdb), Answer::status(Status::Busy));
    }
    let transition = Sense::new(SenseKey::NotReady, sense_codes::ACCESS_STATE_TRANSITION);
    let request_sense = asked(&[0x03, 0, 0, 0, 252, 0]);
    assert_eq!(Sense::decode(&request_sense.data_in), Some(transition));
    for cdb in [&[0x12, 0, 0, 0, 96, 0][..], &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(asked(cdb).status, Status::Good);
    }
    let report = asked(&[0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]).data_in;
    assert_eq!(report[4..8], [0xF, 0x85, 0, 2]);
}

#[test]
fn reserve_6_keeps_the_other_out_until_it_ends() {
    let mut server = server();
    let (reserve, release, mode_sense) = (
        [0x16, 0, 0, 0, 0, 0],
        [0x17, 0, 0, 0, 0, 0],
        [0x1A, 0, 8, 0, 64, 0],
    );
    let conflict = Status::ReservationConflict;
    assert_eq!(status(&mut server, A, &reserve), Status::Good);
    for cdb in [&READ[..], &WRITE, &mode_sense, &reserve, &READY] {
        assert_eq!(status(&mut server, B, cdb), conflict);
    }
    assert_eq!(status(&mut server, B, &release), Status::Good);
    assert_eq!(status(&mut server, B, &[0x12, 0, 0, 0, 96, 0]), Status::Good);
    assert!(server.attention_or_reservation(B) && !server.attention_or_reservation(A));
    server.logical_unit_reset();
    assert_eq!(sense(&mut server, B, &WRITE), Some((6, 0x29, 3)));
    assert_eq!(status(&mut server, B, &WRITE), Status::Good);
    assert_eq!(sense(&mut server, A, &READ), Some((6, 0x29, 3)));
    assert_eq!(status(&mut server, A, &reserve), Status::Good);
    server.detach(A);
    assert_eq!(status(&mut server, B, &WRITE), Status::Good);
}

#[test]
fn a_nexus_loss_ends_what_the_nexus_held_and_only_it_hears() {
    let mut server = server();
    assert_eq!(status(&mut server, A, &[0x16, 0, 0, 0, 0, 0]), Status::Good);
    server.nexus_loss(B);
    assert_eq!(sense(&mut server, B, &READY), Some((6, 0x29, 7)));
    assert_eq!(status(&mut server, B, &WRITE), Status::ReservationConflict);
    server.nexus_loss(A);
    assert!(server.pending_attentions(A).is_some() && server.pending_attentions(B).is_none());
    assert_eq!(status(&mut server, B, &WRITE), Status::Good);
    assert_eq!(sense(&mut server, A, &READY), Some((6, 0x29, 7)));
    assert_eq!(status(&mut server, A, &WRITE), Status::Good);
}

#[test]
fn persistent_reservations_reach_the_others_as_attentions() {
    let mut server = server();
    reserve_out(&mut server, A, 0, 0, (0, 0xA));
    reserve_out(&mut server, B, 0, 0, (0, 0xB));
    reserve_out(&mut server, A, 1, 5, (0xA, 0));
    assert_eq!(status(&mut server, B, &WRITE), Status::Good);
    assert!(server.is_reserved());
    let plan = reserve_out(&mut server, B, 5, 5, (0xB, 0xA));
    assert_eq!((plan.abort, plan.persist_reservations), (vec![A], false));
    assert_eq!(sense(&mut server, A, &READY), Some((6, 0x2A, 5)));
    assert_eq!(status(&mut server, A, &WRITE), Status::ReservationConflict);
    assert_eq!(status(&mut server, A, &READ), Status::Good);
    assert_eq!(
        status(&mut server, A, &[0x16, 0, 0, 0, 0, 0]),
        Status::ReservationConflict
    );
    reserve_out(&mut server, B, 3, 0, (0xB, 0));
    assert_eq!(status(&mut server, A, &WRITE), Status::Good);
    assert!(!server.is_reserved());
}

#[test]
fn ejecting_needs_a_removable_medium_that_nobody_holds() {
    let mut server = server();
    let (eject, load) = ([0x1B, 0, 0, 0, 2, 0], [0x1B, 0, 0, 0, 3, 0]);
    run(&mut server, B, &[0x1E, 0, 0, 0, 1, 0]);
    assert_eq!(sense(&mut server, A, &eject), Some((5, 0x53, 2)));
    run(&mut server, B, &[0x1E, 0, 0, 0, 0, 0]);
    assert!(matches!(run(&mut server, A, &eject).action, Action::Flush { .. }));
    assert_eq!(sense(&mut server, A, &READ), Some((2, 0x3A, 0)));
    assert_eq!(
        answer(&run(&mut server, A, &[0x03, 0, 0, 0, 18, 0])).data_in[2..13],
        [2, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x3A]
    );
    assert_eq!(status(&mut server, A, &load), Status::Good);
    assert_eq!(sense(&mut server, B, &READY), Some((6, 0x28, 0)));
    let fixed = UnitIdentity {
        removable: false,
        ..identity()
    };
    assert_eq!(
        answer(&run_with(&mut server, A, &eject, &[], &fixed)).status,
        Status::CheckCondition
    );
}

#[test]
fn mode_select_reaches_sense_format_and_the_others() {
    let mut server = server();
    let list = [0, 0, 0, 0, 0x0A, 0x0A, 0x06, 0x10, 0, 0, 0, 0, 0, 0, 0, 0];
    let plan = run_with(&mut server, A, &[0x15, 0x11, 0, 0, 16, 0], &list, &identity());
    assert!(plan.persist_modes && server.modes_to_store().descriptor_sense);
    let plan = run(&mut server, B, &READY);
    assert_eq!(answer(&plan).sense[..4], [0x72, 6, 0x2A, 1]);
    let restarted = DeviceServer::new(Reservations::default(), server.modes_to_store());
    assert_eq!(
        restarted
            .check_condition(&Sense::illegal(sense_codes::LBA_OUT_OF_RANGE))
            .sense[0],
        0x72
    );
}

#[test]
fn without_a_write_cache_everything_is_written_through() {
    let mut server = server();
    let mut list = vec![0, 0, 0, 0, 0x08, 0x12];
    list.extend([0; 18]);
    run_with(&mut server, A, &[0x15, 0x10, 0, 0, 24, 0], &list, &identity());
    assert!(server.attention_or_reservation(A));
    assert!(run(&mut server, A, &WRITE).write_through);
}

#[test]
fn a_copy_that_failed_is_kept_under_its_list_id() {
    let mut server = server();
    let plan = CopyPlan {
        list_id: Some(CopyListId::Short(9)),
        segments: Vec::new(),
    };
    let cause = Sense::illegal(sense_codes::LBA_OUT_OF_RANGE);
    let outcome = CopyOutcome::Failed {
        segment: 3,
        bytes: 512,
        sense: cause,
    };
    let answer_now = server.copy_finished(A, &plan, &outcome);
    let sense = Sense::decode(&answer_now.sense).unwrap();
    assert_eq!((sense.key, sense.information), (SenseKey::CopyAborted, Some(3)));
    let mut cdb = [0; 16];
    cdb[..3].copy_from_slice(&[0x84, 0, 9]);
    cdb[13] = 64;
    assert_eq!(
        answer(&run(&mut server, A, &cdb)).data_in,
        [0, 0, 0, 8, 2, 0, 3, 0, 0, 0, 2, 0]
    );
    assert_eq!(answer(&run(&mut server, B, &cdb)).status, Status::CheckCondition);
}

#[test]
fn control_needs_leave_and_a_map_goes_on() {
    let unit = identity();
    let mut server = server();
    let query = [
        0xC0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0xFF, 0xFF, 0xFE, 0, 16, 0, 0,
    ];
    let denied = UnitFacts {
        control: ControlAccess::Denied,
        ..facts(&unit)
    };
    let plan = server.plan(A, &query, &[], &denied);
    assert_eq!(
        Sense::decode(&answer(&plan).sense),
        Some(Sense::illegal(sense_codes::ACCESS_DENIED_NO_RIGHTS))
    );
    let none = UnitFacts {
        control: ControlAccess::None,
        ..facts(&unit)
    };
    let plan = server.plan(A, &query, &[], &none);
    assert_eq!(
        Sense::decode(&answer(&plan).sense),
        Some(Sense::illegal(sense_codes::INVALID_OPERATION_CODE))
    );
    let Action::Control(call) = run(&mut server, A, &query).action else {
        panic!("a request")
    };
    assert_eq!(call.request, Request::Query(PairSelector::All));

    let map = |select| [0xC0, 4, select, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 32, 0];
    assert_eq!(sense(&mut server, A, &map(0x80)), Some((5, 0x2C, 0)));
    let extents = vec![
        PendingExtent { lba: 0, blocks: 8 },
        PendingExtent { lba: 16, blocks: 8 },
    ];
    let Action::Control(call) = run(&mut server, A, &map(0)).action else {
        panic!("a request")
    };
    let reply = Ok(Reply::Pending(extents));
    let first = server.control_answer(A, &call, reply.clone(), &|_| None).data_in;
    assert_eq!((first.len(), first[15]), (32, 1));
    let Action::Control(call) = run(&mut server, A, &map(0x80)).action else {
        panic!("a request")
    };
    assert_eq!(call.continue_at, 8);
    let second = server.control_answer(A, &call, reply, &|_| None).data_in;
    assert_eq!(second[16..24], 16_u64.to_be_bytes());
    assert_eq!(sense(&mut server, A, &map(0x81)), Some((5, 0x2C, 0)));
}

/// SPC-4 5.13.5.3.2 and 5.13.11.3.
#[test]
fn lost_reservations_stop_all_until_somebody_replaces_them() {
    let out = |server: &mut DeviceServer, nexus: NexusId, action: u8, key: u8, new_key: u8| {
        let mut list = [0; 24];
        (list[7], list[15]) = (key, new_key);
        let cdb = [0x5F, action, 0x05, 0, 0, 0, 0, 0, 24, 0];
        let plan = run_with(server, nexus, &cdb, &list, &identity());
        let answer = answer(&plan);
        let sense = Sense::decode(&answer.sense);
        (answer.status, sense.map(|sense| (sense.key, sense.additional)))
    };
    let mut server = server();
    let none_lost = Some((
        SenseKey::IllegalRequest,
        sense_codes::INVALID_RELEASE_OF_RESERVATION,
    ));
    assert_eq!(out(&mut server, A, 8, 0, 7).1, none_lost);
    let lost = Reservations {
        lost: true,
        ..Reservations::default()
    };
    server = DeviceServer::new(lost, ModeParameters::default());
    for nexus in [A, B] {
        server.attach(nexus, ports(nexus.0));
        assert_eq!(sense(&mut server, nexus, &READY), Some((6, 0x29, 0)));
        assert!(server.attention_or_reservation(nexus));
    }
    for refused in [
        &READ[..],
        &WRITE,
        &READY,
        &[0x5E, 0, 0, 0, 0, 0, 0, 0, 8, 0],
        &[0x16, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(
            sense(&mut server, A, refused),
            Some((7, 0x44, 1)),
            "{refused:02x?}"
        );
    }
    for good in [
        &[0x12, 0, 0, 0, 36, 0][..],
        &[0x1B, 0, 0, 0, 1, 0],
        &[3, 0, 0, 0, 18, 0],
    ] {
        assert_eq!(answer(&run(&mut server, A, good)).status, Status::Good);
    }
    assert!(server.is_reserved());
    assert_eq!(out(&mut server, A, 6, 0, 7).1.unwrap().0, SenseKey::DataProtect);
    assert_eq!(
        out(&mut server, A, 8, 3, 7).1.unwrap().0,
        SenseKey::IllegalRequest
    );
    assert_eq!(out(&mut server, A, 8, 0, 7), (Status::Good, None));
    assert_eq!(sense(&mut server, A, &READY), None);
    let plan = run(&mut server, B, &WRITE);
    assert_eq!(answer(&plan).status, Status::ReservationConflict);
    assert!(!server.attention_or_reservation(A));
    assert_eq!(out(&mut server, B, 8, 0, 9).1, none_lost);
    let holder = server.reservations();
    assert_eq!((holder.generation, holder.registrations[0].key), (0, 7));
}

/// SPC-4 5.15, 6.45: the state is one for all, and what does not go in it is refused with its code.
#[test]
fn a_port_group_is_set_for_everybody() {
    let mut server = server();
    let set = |server: &mut DeviceServer, nexus: NexusId, state: u8| {
        let cdb = [0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0];
        run_with(server, nexus, &cdb, &[0, 0, 0, 0, state, 0, 0, 1], &identity())
    };
    let plan = set(&mut server, A, 0);
    assert_eq!((answer(&plan).status, plan.data_out_length), (Status::Good, 8));
    assert!(!server.attention_or_reservation(B), "it is in that state already");

    set(&mut server, A, 2);
    assert_eq!(sense(&mut server, B, &READY), Some((6, 0x2A, 0x06)));
    for cdb in [&READ[..], &WRITE, &READY] {
        assert_eq!(sense(&mut server, A, cdb), Some((2, 0x04, 0x0B)));
        assert!(server.attention_or_reservation(B));
    }
    let request_sense = run(&mut server, B, &[0x03, 0, 0, 0, 18, 0]);
    assert_eq!(answer(&request_sense).data_in[2], 2);
    assert_eq!(status(&mut server, B, &[0x1A, 0, 0x3F, 0, 255, 0]), Status::Good);

    set(&mut server, B, 3);
    assert_eq!(sense(&mut server, A, &READY), Some((6, 0x2A, 0x06)));
    assert_eq!(sense(&mut server, A, &READ), Some((2, 0x04, 0x0C)));
    assert_eq!(
        sense(&mut server, A, &[0x1A, 0, 0x3F, 0, 255, 0]),
        Some((2, 0x04, 0x0C))
    );
    assert_eq!(status(&mut server, A, &[0x12, 0, 0, 0, 96, 0]), Status::Good);

    let refused = set(&mut server, A, 0x0F);
    let pointed = Sense::decode(&answer(&refused).sense).unwrap();
    assert_eq!(pointed, Sense::invalid_parameter(4, Some(3)));
    set(&mut server, A, 1);
    assert_eq!(sense(&mut server, B, &READY), Some((6, 0x2A, 0x06)));
    assert!(matches!(run(&mut server, B, &READ).action, Action::Read { .. }));
    assert!(!server.attention_or_reservation(B));

    reserve_out(&mut server, A, 0, 0, (0, 1));
    reserve_out(&mut server, A, 1, 5, (1, 0));
    let conflict = set(&mut server, B, 0);
    assert_eq!(answer(&conflict).status, Status::ReservationConflict);
}
