//! Reservations against a second, naive implementation: random commands of three nexuses go to both, CDB by CDB, and every
//! status, sense code, unit attention, key and abort must be the same.
//!
//! The model knows three initiators by number and keeps what the standard's sentences speak of: a key each (zero: not
//! registered), the type and holder of the reservation, PRGENERATION, who did a RESERVE(6), and what each has yet to be told.

use std::collections::BTreeSet;

use proptest::prelude::*;
use scsi_model::{
    control::VolumeNumber,
    device_server::DeviceServer,
    mode_pages::ModeParameters,
    plan::{Action, Plan},
    reservations::Reservations,
    sense::Sense,
    transport_id::encode_transport_id,
    unit::{ControlAccess, InitiatorPort, NexusId, NexusPorts, TargetPort, UnitFacts, UnitIdentity},
};

const NEXUSES: usize = 3;

/// What a command says: status, and with CHECK CONDITION sense key, ASC and ASCQ.
type Said = (u8, Option<(u8, u8, u8)>);

const GOOD: Said = (0, None);
const CONFLICT: Said = (0x18, None);
const BAD_PARAMETER: Said = (2, Some((5, 0x26, 0)));
const BAD_RELEASE: Said = (2, Some((5, 0x26, 4)));

/// ASC and ASCQ of unit attentions.
type Attention = (u8, u8);

const POWER_ON: Attention = (0x29, 0);
const RESET: Attention = (0x29, 3);
const PREEMPTED: Attention = (0x2A, 3);
const RELEASED: Attention = (0x2A, 4);
const UNREGISTERED: Attention = (0x2A, 5);

/// A command, or what else happens to a nexus.
#[derive(Debug, Clone, Copy)]
enum Step {
    Out {
        action: u8,
        kind: u8,
        key: u64,
        action_key: u64,
        /// REGISTER AND MOVE: whereto, and UNREG.
        to: usize,
        unregister: bool,
    },
    Read,
    Write,
    TestUnitReady,
    ReadKeys,
    ReadReservation,
    Reserve6,
    Release6,
    UnitReset,
    /// The session ends, and a new one of the same port begins.
    Reconnect,
}

#[derive(Debug, Default)]
struct Model {
    keys: [u64; NEXUSES],
    reservation: Option<(u8, usize)>,
    generation: u32,
    reserved_6: Option<usize>,
    untold: [BTreeSet<Attention>; NEXUSES],
    /// Whose tasks the last command ended.
    aborted: BTreeSet<usize>,
}

const fn is_write_exclusive(kind: u8) -> bool {
    matches!(kind, 1 | 5 | 7)
}

const fn is_for_registrants(kind: u8) -> bool {
    kind >= 5
}

const fn is_of_all(kind: u8) -> bool {
    kind >= 7
}

impl Model {
    fn registered(&self, who: usize) -> bool {
        self.keys[who] != 0
    }

    fn holds(&self, who: usize) -> bool {
        self.reservation
            .is_some_and(|(kind, holder)| self.registered(who) && (is_of_all(kind) || holder == who))
    }

    fn tell_others(&mut self, who: usize, what: Attention) {
        for other in (0..NEXUSES).filter(|other| *other != who) {
            if self.registered(other) {
                self.untold[other].insert(what);
            }
        }
    }

    fn admits(&self, who: usize, write: bool) -> bool {
        let Some((kind, _)) = self.reservation else {
            return true;
        };
        (is_write_exclusive(kind) && !write)
            || self.holds(who)
            || (is_for_registrants(kind) && self.registered(who))
    }

    fn others_reserve_6(&self, who: usize) -> bool {
        self.reserved_6.is_some_and(|holder| holder != who)
    }

    fn unregister(&mut self, who: usize) {
        let held = self.holds(who);
        self.keys[who] = 0;
        let Some((kind, _)) = self.reservation.filter(|_| held) else {
            return;
        };
        if is_of_all(kind) && self.keys.iter().any(|key| *key != 0) {
            return;
        }
        self.reservation = None;
        if is_for_registrants(kind) {
            self.tell_others(who, RELEASED);
        }
    }

    fn register(&mut self, who: usize, new: u64) {
        if new == 0 && !self.registered(who) {
            return;
        }
        if new == 0 {
            self.unregister(who);
        } else {
            self.keys[who] = new;
        }
        self.generation += 1;
    }

    fn preempt(&mut self, who: usize, kind: u8, victim: u64, abort: bool) -> Said {
        let of_all = self.reservation.is_some_and(|(kind, _)| is_of_all(kind));
        let everybody = victim == 0 && of_all;
        if victim == 0 && !everybody {
            return BAD_PARAMETER;
        }
        if !everybody && !self.keys.contains(&victim) {
            return CONFLICT;
        }
        let takes = match self.reservation {
            Some((kind, holder)) if !is_of_all(kind) => self.keys[holder] == victim,
            _ => everybody,
        };
        for other in (0..NEXUSES).filter(|other| *other != who) {
            if self.registered(other) && (everybody || self.keys[other] == victim) {
                self.keys[other] = 0;
                self.untold[other].insert(UNREGISTERED);
                if abort {
                    self.aborted.insert(other);
                }
            }
        }
        if takes {
            if self.reservation.is_some_and(|(before, _)| before != kind) {
                self.tell_others(who, RELEASED);
            }
            self.reservation = Some((kind, who));
        }
        self.generation += 1;
        GOOD
    }

    fn hand_over(&mut self, who: usize, to: usize, new: u64, unregister: bool) -> Said {
        let Some((kind, holder)) = self.reservation.filter(|(kind, _)| !is_of_all(*kind)) else {
            return CONFLICT;
        };
        if holder != who {
            return CONFLICT;
        }
        if new == 0 || to == who {
            return BAD_PARAMETER;
        }
        self.keys[to] = new;
        self.reservation = Some((kind, to));
        if unregister {
            self.keys[who] = 0;
        }
        self.generation += 1;
        GOOD
    }

    fn reserve_out(&mut self, who: usize, step: Step) -> Said {
        let Step::Out {
            action,
            kind,
            key,
            action_key,
            to,
            unregister,
        } = step
        else {
            return GOOD;
        };
        if action == 0 && key != self.keys[who] {
            return CONFLICT;
        }
        if matches!(action, 0 | 6) {
            self.register(who, action_key);
            return GOOD;
        }
        if !self.registered(who) || key != self.keys[who] {
            return CONFLICT;
        }
        match (action, self.reservation) {
            (1, None) => self.reservation = Some((kind, who)),
            (1, Some((present, _))) if self.holds(who) && present == kind => {}
            (1, Some(_)) => return CONFLICT,
            (2, Some((present, _))) if self.holds(who) => {
                if present != kind {
                    return BAD_RELEASE;
                }
                self.reservation = None;
                if is_for_registrants(kind) {
                    self.tell_others(who, RELEASED);
                }
            }
            (2, _) => {}
            (3, _) => {
                self.tell_others(who, PREEMPTED);
                self.keys = [0; NEXUSES];
                self.reservation = None;
                self.generation += 1;
            }
            (4 | 5, _) => return self.preempt(who, kind, action_key, action == 5),
            (7, _) => return self.hand_over(who, to, action_key, unregister),
            _ => unreachable!("eight actions"),
        }
        GOOD
    }

    /// What a command says once its nexus has been told everything.
    fn carry_out(&mut self, who: usize, step: Step) -> Said {
        let registrants = self.keys.iter().any(|key| *key != 0);
        let conflict = match step {
            Step::Read => self.others_reserve_6(who) || !self.admits(who, false),
            Step::Write => self.others_reserve_6(who) || !self.admits(who, true),
            Step::Reserve6 => self.others_reserve_6(who) || registrants,
            Step::Release6 => registrants,
            _ => self.others_reserve_6(who),
        };
        if conflict {
            return CONFLICT;
        }
        match step {
            Step::Out { .. } => return self.reserve_out(who, step),
            Step::Reserve6 => self.reserved_6 = Some(who),
            Step::Release6 if self.reserved_6 == Some(who) => self.reserved_6 = None,
            _ => {}
        }
        GOOD
    }

    fn reset(&mut self) {
        self.reserved_6 = None;
        for untold in &mut self.untold {
            untold.retain(|what| *what == POWER_ON);
            untold.insert(RESET);
        }
    }

    fn reconnect(&mut self, who: usize) {
        if self.reserved_6 == Some(who) {
            self.reserved_6 = None;
        }
        self.untold[who] = [POWER_ON].into();
    }
}

/// The real one, with the names of the present sessions.
struct Real {
    device: DeviceServer,
    sessions: [NexusId; NEXUSES],
    next: u64,
    identity: UnitIdentity,
}

fn ports(who: usize) -> NexusPorts {
    NexusPorts {
        initiator: InitiatorPort {
            name: format!("iqn.2026-11.org.example:{who}"),
            isid: [who as u8; 6],
        },
        target: TargetPort {
            name: "iqn.2026-11.org.example:t".into(),
            portal_group: 1,
            relative_id: 1,
        },
    }
}

impl Real {
    fn new() -> Self {
        let mut real = Self {
            device: DeviceServer::new(Reservations::default(), ModeParameters::default()),
            sessions: [NexusId(0); NEXUSES],
            next: 0,
            identity: UnitIdentity {
                number: VolumeNumber(1),
                mirror_class: false,
                block_size: 512,
                physical_block_size: 512,
                blocks: 2048,
                thin: true,
                removable: false,
                naa: [0x61; 16],
                eui64: [2; 8],
                uuid: [4; 16],
                serial: "HF00000001".into(),
            },
        };
        for who in 0..NEXUSES {
            real.connect(who);
        }
        real
    }

    fn connect(&mut self, who: usize) {
        self.next += 1;
        self.sessions[who] = NexusId(self.next);
        self.device.attach(self.sessions[who], ports(who));
    }

    fn plan(&mut self, who: usize, step: Step) -> Plan {
        let (cdb, data_out) = command(step);
        let facts = UnitFacts {
            identity: &self.identity,
            ready: true,
            read_only: false,
            luns: &[0],
            target_ports: &[ports(who).target],
            control: ControlAccess::None,
            shared: None,
        };
        self.device.plan(self.sessions[who], &cdb, &data_out, &facts)
    }
}

fn command(step: Step) -> (Vec<u8>, Vec<u8>) {
    let short = |cdb: &[u8]| (cdb.to_vec(), Vec::new());
    match step {
        Step::Read => short(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
        Step::Write => (vec![0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0], vec![0; 512]),
        Step::TestUnitReady | Step::UnitReset | Step::Reconnect => short(&[0; 6]),
        Step::ReadKeys => short(&[0x5E, 0, 0, 0, 0, 0, 0, 1, 0, 0]),
        Step::ReadReservation => short(&[0x5E, 1, 0, 0, 0, 0, 0, 1, 0, 0]),
        Step::Reserve6 => short(&[0x16, 0, 0, 0, 0, 0]),
        Step::Release6 => short(&[0x17, 0, 0, 0, 0, 0]),
        Step::Out {
            action,
            kind,
            key,
            action_key,
            to,
            unregister,
        } => {
            let mut list = [key.to_be_bytes(), action_key.to_be_bytes()].concat();
            if action == 7 {
                let id = encode_transport_id(&ports(to).initiator);
                list.extend([0, u8::from(unregister) << 1, 0, 1]);
                list.extend((id.len() as u32).to_be_bytes());
                list.extend(id);
            } else {
                list.extend([0; 8]);
            }
            let kind = if matches!(action, 1 | 2 | 4 | 5) { kind } else { 0 };
            let cdb = vec![0x5F, action, kind, 0, 0, 0, 0, 0, list.len() as u8, 0];
            (cdb, list)
        }
    }
}

fn said(plan: &Plan) -> Said {
    let Action::Answer(answer) = &plan.action else {
        return GOOD;
    };
    let sense = Sense::decode(&answer.sense);
    let code = sense.map(|sense| (sense.key as u8, sense.additional.code, sense.additional.qualifier));
    (answer.status as u8, code)
}

fn data(plan: &Plan) -> &[u8] {
    match &plan.action {
        Action::Answer(answer) => &answer.data_in,
        _ => &[],
    }
}

/// PRGENERATION and the keys, ascending.
fn keys_in(data: &[u8]) -> (u32, Vec<u64>) {
    let word = |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().expect("four bytes"));
    let key = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    let mut keys: Vec<u64> = data[8..8 + word(4) as usize].chunks(8).map(key).collect();
    keys.sort_unstable();
    (word(0), keys)
}

/// TYPE and key of the holder, which is zero where all registrants hold.
fn reservation_in(data: &[u8]) -> Option<(u8, u64)> {
    let held = data[7] != 0;
    held.then(|| {
        (
            data[21],
            u64::from_be_bytes(data[8..16].try_into().expect("eight bytes")),
        )
    })
}

/// Registering and reserving often, so that something is held most of the time.
fn steps() -> impl Strategy<Value = (usize, Step)> {
    let kinds = prop::sample::select(vec![1_u8, 3, 5, 6, 7, 8]);
    let actions = prop::sample::select(vec![0_u8, 0, 6, 6, 1, 1, 2, 3, 4, 4, 5, 7]);
    let out = (actions, kinds, 0_u64..3, 0_u64..4, 0..NEXUSES, any::<bool>()).prop_map(
        |(action, kind, key, action_key, to, unregister)| Step::Out {
            action,
            kind,
            key,
            action_key,
            to,
            unregister,
        },
    );
    let other = prop::sample::select(vec![
        Step::Read,
        Step::Write,
        Step::TestUnitReady,
        Step::ReadKeys,
        Step::ReadReservation,
        Step::Reserve6,
        Step::Release6,
        Step::UnitReset,
        Step::Reconnect,
    ]);
    (0..NEXUSES, prop_oneof![3 => out, 2 => other])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_history_is_the_models(history in prop::collection::vec(steps(), 1..120), right_keys in any::<[u8; 16]>()) {
        let (mut real, mut model) = (Real::new(), Model::default());
        for untold in &mut model.untold {
            untold.insert(POWER_ON);
        }
        for (index, (who, step)) in history.into_iter().enumerate() {
            // Three commands of four use the key that their nexus is registered under.
            let step = match step {
                Step::Out { action, kind, action_key, to, unregister, .. } if right_keys[index % 16] % 4 != 0 => {
                    Step::Out { action, kind, key: model.keys[who], action_key, to, unregister }
                }
                step => step,
            };
            match step {
                Step::UnitReset => {
                    real.device.logical_unit_reset();
                    model.reset();
                    continue;
                }
                Step::Reconnect => {
                    real.device.detach(real.sessions[who]);
                    real.connect(who);
                    model.reconnect(who);
                    continue;
                }
                _ => {}
            }
            let plan = real.plan(who, step);
            let found = said(&plan);
            model.aborted.clear();
            if !model.untold[who].is_empty() {
                let told = matches!(found, (2, Some((6, code, qualifier))) if model.untold[who].remove(&(code, qualifier)));
                prop_assert!(told, "{who} {step:?}: {found:?}, to be told {:?}", model.untold[who]);
                continue;
            }
            let wanted = model.carry_out(who, step);
            prop_assert_eq!(found, wanted, "{} {:?}: {:?}", who, step, model);
            let aborted: BTreeSet<NexusId> = model.aborted.iter().map(|other| real.sessions[*other]).collect();
            prop_assert_eq!(plan.abort.iter().copied().collect::<BTreeSet<_>>(), aborted);
            if found == GOOD && matches!(step, Step::ReadKeys) {
                let mut keys: Vec<u64> = model.keys.into_iter().filter(|key| *key != 0).collect();
                keys.sort_unstable();
                prop_assert_eq!(keys_in(data(&plan)), (model.generation, keys));
            }
            if found == GOOD && matches!(step, Step::ReadReservation) {
                let held = model.reservation.map(|(kind, holder)| (kind, if is_of_all(kind) { 0 } else { model.keys[holder] }));
                prop_assert_eq!(reservation_in(data(&plan)), held);
            }
        }
    }
}
