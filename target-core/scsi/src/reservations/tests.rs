//! The machine against a naive oracle, and the corners the standard names.

use proptest::prelude::*;

use super::*;
use crate::unit::TargetPort;

fn ports(initiator: u8) -> NexusPorts {
    NexusPorts {
        initiator: InitiatorPort {
            name: format!("iqn.2026-11.org.example:{initiator}"),
            isid: [initiator; 6],
        },
        target: TargetPort {
            name: "iqn.2026-11.org.example:t".into(),
            portal_group: 1,
            relative_id: 1,
        },
    }
}

fn register(machine: &mut Reservations, who: u8, key: u64, new_key: u64) -> Result<Effects, ReserveError> {
    let command = ReserveOut::Register {
        new_key,
        ignore_existing: false,
        aptpl: false,
        all_target_ports: false,
        also: Vec::new(),
    };
    machine.execute(&ports(who), key, command)
}

fn told(effects: &Effects) -> Vec<(u8, UnitAttention)> {
    effects
        .attentions
        .iter()
        .map(|(nexus, attention)| (nexus.initiator.isid[0], *attention))
        .collect()
}

#[test]
fn preempting_the_holder_takes_the_reservation_and_tells_the_victims() {
    let mut machine = Reservations::default();
    for who in 1..=3 {
        register(&mut machine, who, 0, 10 + u64::from(who)).unwrap();
    }
    let kind = ReservationType::WriteExclusiveRegistrantsOnly;
    machine.execute(&ports(1), 11, ReserveOut::Reserve(kind)).unwrap();
    let preempt = ReserveOut::Preempt {
        victim: 11,
        kind: ReservationType::ExclusiveAccess,
        abort: true,
    };
    let effects = machine.execute(&ports(2), 12, preempt).unwrap();
    assert_eq!(
        told(&effects),
        [
            (1, UnitAttention::RegistrationsPreempted),
            (3, UnitAttention::ReservationsReleased)
        ]
    );
    assert_eq!(effects.abort.len(), 1);
    assert!(machine.admits(&ports(2), ReservationRule::Reads));
    assert!(!machine.admits(&ports(3), ReservationRule::Reads));
    assert_eq!(machine.key_of(&ports(1)), None);
    assert_eq!(machine.generation, 4);
}

#[test]
fn the_last_of_all_registrants_releases_and_the_first_does_not() {
    let mut machine = Reservations::default();
    register(&mut machine, 1, 0, 1).unwrap();
    register(&mut machine, 2, 0, 2).unwrap();
    let kind = ReservationType::ExclusiveAccessAllRegistrants;
    machine.execute(&ports(1), 1, ReserveOut::Reserve(kind)).unwrap();
    assert_eq!(register(&mut machine, 1, 1, 0), Ok(Effects::default()));
    assert!(!machine.admits(&ports(1), ReservationRule::Reads));
    assert!(machine.admits(&ports(2), ReservationRule::Writes));
    register(&mut machine, 2, 2, 0).unwrap();
    assert_eq!(machine.reservation, None);
}

#[test]
fn unregistering_the_holder_tells_the_others_and_not_itself() {
    let mut machine = Reservations::default();
    register(&mut machine, 1, 0, 1).unwrap();
    register(&mut machine, 2, 0, 2).unwrap();
    let kind = ReservationType::ExclusiveAccessRegistrantsOnly;
    machine.execute(&ports(1), 1, ReserveOut::Reserve(kind)).unwrap();
    let effects = register(&mut machine, 1, 1, 0).unwrap();
    assert_eq!(told(&effects), [(2, UnitAttention::ReservationsReleased)]);
}

#[test]
fn a_wrong_key_and_a_stranger_conflict() {
    let mut machine = Reservations::default();
    register(&mut machine, 1, 0, 1).unwrap();
    assert_eq!(register(&mut machine, 1, 9, 2), Err(ReserveError::Conflict));
    assert_eq!(register(&mut machine, 2, 9, 2), Err(ReserveError::Conflict));
    assert_eq!(
        machine.execute(&ports(2), 0, ReserveOut::Clear),
        Err(ReserveError::Conflict)
    );
    let kind = ReservationType::WriteExclusive;
    machine.execute(&ports(1), 1, ReserveOut::Reserve(kind)).unwrap();
    let other = ReserveOut::Release(ReservationType::ExclusiveAccess);
    assert_eq!(
        machine.execute(&ports(1), 1, other),
        Err(ReserveError::InvalidRelease)
    );
}

#[test]
fn moving_hands_the_reservation_over() {
    let mut machine = Reservations::default();
    register(&mut machine, 1, 0, 1).unwrap();
    let kind = ReservationType::WriteExclusive;
    machine.execute(&ports(1), 1, ReserveOut::Reserve(kind)).unwrap();
    let to = RegisteredNexus {
        initiator: ports(2).initiator,
        target_port: Some(1),
    };
    let command = ReserveOut::Move {
        new_key: 7,
        to,
        unregister: true,
        aptpl: true,
    };
    machine.execute(&ports(1), 1, command).unwrap();
    assert!(machine.admits(&ports(2), ReservationRule::Writes));
    assert!(!machine.admits(&ports(1), ReservationRule::Writes));
    assert_eq!(
        (machine.key_of(&ports(1)), machine.key_of(&ports(2))),
        (None, Some(7))
    );
    let stored = serde_json::to_string(&machine.to_store()).unwrap();
    assert_eq!(serde_json::from_str::<Reservations>(&stored).unwrap(), machine);
}

#[test]
fn all_target_ports_covers_every_port() {
    let mut machine = Reservations::default();
    let command = ReserveOut::Register {
        new_key: 5,
        ignore_existing: true,
        aptpl: false,
        all_target_ports: true,
        also: vec![ports(2).initiator],
    };
    machine.execute(&ports(1), 0, command).unwrap();
    let mut elsewhere = ports(2);
    elsewhere.target.relative_id = 9;
    assert_eq!(machine.key_of(&elsewhere), Some(5));
    assert_eq!(machine.to_store(), Reservations::default());
}

/// Who may do what, told from the plain words of the standard's table of types.
fn oracle(kind: u8, holder: bool, registered: bool, write: bool) -> bool {
    match kind {
        1 => holder || !write,
        3 => holder,
        5 | 7 => registered || !write,
        6 | 8 => registered,
        _ => unreachable!("six types"),
    }
}

proptest! {
    #[test]
    fn who_may_read_and_write_agrees_with_the_oracle(
        kind in prop::sample::select(ReservationType::ALL.to_vec()),
        registered in prop::collection::vec(any::<bool>(), 4),
        holder in 0_u8..4,
    ) {
        let mut machine = Reservations::default();
        for who in 0..4 {
            if who == holder || registered[usize::from(who)] {
                register(&mut machine, who, 0, 100 + u64::from(who)).unwrap();
            }
        }
        machine.execute(&ports(holder), 100 + u64::from(holder), ReserveOut::Reserve(kind)).unwrap();
        for who in 0..4 {
            let in_list = who == holder || registered[usize::from(who)];
            for (rule, write) in [(ReservationRule::Reads, false), (ReservationRule::Writes, true)] {
                prop_assert_eq!(
                    machine.admits(&ports(who), rule),
                    oracle(kind as u8, who == holder, in_list, write)
                );
            }
        }
    }

    /// Whatever is thrown at it: holders are registered, keys are not zero, nobody is registered twice.
    #[test]
    fn any_history_keeps_the_invariants(steps in prop::collection::vec((0_u8..4, 0_u64..4, 0_u8..7, 0_u64..4, 0_usize..6), 0..60)) {
        let mut machine = Reservations::default();
        for (who, key, action, second, kind) in steps {
            let kind = ReservationType::ALL[kind];
            let command = match action {
                0 | 1 => ReserveOut::Register {
                    new_key: second, ignore_existing: action == 1, aptpl: false, all_target_ports: second == 3, also: Vec::new(),
                },
                2 => ReserveOut::Reserve(kind),
                3 => ReserveOut::Release(kind),
                4 => ReserveOut::Clear,
                5 => ReserveOut::Preempt { victim: second, kind, abort: false },
                _ => ReserveOut::Move {
                    new_key: second,
                    to: RegisteredNexus { initiator: ports((who + 1) % 4).initiator, target_port: Some(1) },
                    unregister: kind == ReservationType::WriteExclusive,
                    aptpl: false,
                },
            };
            let before = machine.clone();
            if machine.execute(&ports(who), key, command).is_err() {
                prop_assert_eq!(&machine, &before);
            }
            prop_assert!(machine.registrations.iter().all(|registration| registration.key != 0));
            for (index, one) in machine.registrations.iter().enumerate() {
                prop_assert!(machine.registrations[index + 1..].iter().all(|other| !overlap(&one.nexus, &other.nexus)));
            }
            if let Some(reservation) = &machine.reservation {
                prop_assert!(!machine.registrations.is_empty());
                if let Some(holder) = &reservation.holder {
                    prop_assert!(machine.registrations.iter().any(|registration| registration.nexus == *holder));
                }
            }
        }
    }
}
