//! Both ends against each other on a virtual clock, over a wire that delivers in pieces and is cut anywhere.

use super::*;
use crate::{
    header::{HIGHEST_VERSION, LOWEST_VERSION},
    message::LEAST_WINDOW,
    request::VolumeName,
    response::Description,
};
use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeSet;

const SECOND: Duration = Duration::from_secs(1);

fn id(text: &str) -> SystemId {
    SystemId::new(text).unwrap()
}

fn config(system: &str, boot: u128) -> SessionConfig {
    SessionConfig {
        hello: Hello {
            lowest: LOWEST_VERSION,
            highest: HIGHEST_VERSION,
            features: 0,
            requests: 4,
            bytes: LEAST_WINDOW,
            boot,
            system: id(system),
            software: "test".to_owned(),
        },
        queue_requests: 16,
        queue_bytes: 64 << 20,
        handshake: 5 * SECOND,
        interval: 2 * SECOND,
        silence: 7 * SECOND,
    }
}

/// One end: a session and the bytes it has received.
#[derive(Debug)]
struct End {
    session: Session<u32>,
    received: BytesMut,
}

impl End {
    /// Frames out of what was received.
    fn hear(&mut self, bytes: &[u8], now: Duration) -> Result<Vec<Event<u32>>, Ended> {
        self.received.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Ok(frame) = Frame::take(&mut self.received)? {
            events.extend(self.session.receive(frame, now)?);
        }
        Ok(events)
    }

    fn say(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(encoded) = self.session.next_output() {
            bytes.extend_from_slice(&encoded.head);
            bytes.extend_from_slice(&encoded.data);
        }
        bytes
    }
}

fn ends(caller: SessionConfig, called: SessionConfig) -> [End; 2] {
    let (a, b) = (caller.hello.system.clone(), called.hello.system.clone());
    let end = |session| End {
        session,
        received: BytesMut::new(),
    };
    [
        end(Session::call(caller, b, Duration::ZERO)),
        end(Session::called(called, a, Duration::ZERO)),
    ]
}

fn open() -> [End; 2] {
    let [mut a, mut b] = ends(config("HF-A", 1), config("HF-B", 2));
    assert!(!a.session.is_open() && !b.session.is_open());
    let events = b.hear(&a.say(), Duration::ZERO).unwrap();
    assert_eq!(events, [Event::Greeted(config("HF-A", 1).hello)]);
    b.session.admit(Duration::ZERO);
    let events = a.hear(&b.say(), Duration::ZERO).unwrap();
    assert_eq!(events, [Event::Opened(config("HF-B", 2).hello)]);
    assert!(a.session.is_open() && b.session.is_open());
    [a, b]
}

fn describe() -> Sealed {
    Sealed::request(&Request::Describe(VolumeName::Number(1))).unwrap()
}

fn described() -> Response {
    Response::Described(Description {
        number: 1,
        name: "prod".to_owned(),
        bytes: 1 << 20,
        block_size: 512,
        track_size: 65536,
        mirror_class: false,
        boot: 2,
    })
}

fn sealed(response: &Response) -> Sealed {
    Sealed::response(response).unwrap()
}

#[test]
fn answers_may_come_in_any_order() {
    let [mut a, mut b] = open();
    for tag in [10, 20] {
        a.session.request(describe(), tag).unwrap();
    }
    let events = b.hear(&a.say(), SECOND).unwrap();
    let ids: Vec<u64> = events
        .iter()
        .map(|event| match event {
            Event::Request { id, .. } => *id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [1, 2]);
    b.session.answer(2, sealed(&described()));
    b.session.answer(1, Sealed::failed(FailureCode::Busy, "later"));
    let events = a.hear(&b.say(), SECOND).unwrap();
    let expected = [
        Event::Answer {
            tag: 20,
            response: described(),
        },
        Event::Answer {
            tag: 10,
            response: Response::failed(FailureCode::Busy, "later"),
        },
    ];
    assert_eq!(events, expected);
    assert_eq!(a.session.outstanding(), (0, 0));
}

#[test]
fn a_system_with_our_own_id_is_refused() {
    let [mut a, mut b] = ends(config("HF-A", 1), config("HF-A", 2));
    assert_eq!(b.hear(&a.say(), SECOND), Err(Ended::SameSystem(id("HF-A"))));
    let Err(Ended::Refused(refusal)) = a.hear(&b.say(), SECOND) else {
        panic!("it is refused");
    };
    assert_eq!(refusal.cause, RefusalCause::SameSystem);
}

#[test]
fn an_id_other_than_the_certificate_s_is_refused_on_both_sides() {
    let [mut a, _] = ends(config("HF-A", 1), config("HF-B", 2));
    let mut b: Session<u32> = Session::called(config("HF-B", 2), id("HF-X"), SECOND);
    let hello = Frame::take(&mut BytesMut::from(&a.say()[..])).unwrap().unwrap();
    let identity = Ended::Identity {
        claimed: id("HF-A"),
        certificate: id("HF-X"),
    };
    assert_eq!(b.receive(hello, SECOND), Err(identity));
    assert!(b.next_output().is_some(), "and told so");

    let mut a: Session<u32> = Session::call(config("HF-A", 1), id("HF-X"), SECOND);
    let [_, mut b] = ends(config("HF-A", 1), config("HF-B", 2));
    let hello = a.next_output().unwrap();
    b.hear(&hello.head, SECOND).unwrap();
    b.session.admit(SECOND);
    let ack = Frame::take(&mut BytesMut::from(&b.say()[..])).unwrap().unwrap();
    assert!(matches!(a.receive(ack, SECOND), Err(Ended::Identity { .. })));
    assert!(!a.is_open());
}

#[test]
fn the_newest_version_of_both_is_chosen_or_none() {
    let with = |system, lowest, highest| {
        let mut config = config(system, 1);
        (config.hello.lowest, config.hello.highest) = (lowest, highest);
        config
    };
    let [mut a, mut b] = ends(with("HF-A", 2, 5), with("HF-B", 1, 4));
    b.hear(&a.say(), SECOND).unwrap();
    b.session.admit(SECOND);
    let events = a.hear(&b.say(), SECOND).unwrap();
    let [Event::Opened(hello)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((hello.lowest, hello.highest), (4, 4));

    let [mut a, mut b] = ends(with("HF-A", 5, 6), with("HF-B", 1, 4));
    let version = Ended::Version {
        lowest: 5,
        highest: 6,
        ours_lowest: 1,
        ours_highest: 4,
    };
    assert_eq!(b.hear(&a.say(), SECOND), Err(version));
    let Err(Ended::Refused(refusal)) = a.hear(&b.say(), SECOND) else {
        panic!("it is refused");
    };
    let expected = Refusal {
        cause: RefusalCause::Version,
        lowest: 1,
        highest: 4,
    };
    assert_eq!(refusal, expected);
}

#[test]
fn requests_wait_for_credit_and_go_in_order() {
    let [mut a, mut b] = open();
    for tag in 0..20 {
        a.session.request(describe(), tag).unwrap();
    }
    assert_eq!(a.session.request(describe(), 99), Err((NotTaken::QueueFull, 99)));
    let mut answered = Vec::new();
    while answered.len() < 20 {
        let events = b.hear(&a.say(), SECOND).unwrap();
        assert!((1..=4).contains(&events.len()), "four are taken");
        for event in events {
            let Event::Request { id, .. } = event else {
                panic!("{event:?}");
            };
            b.session.answer(id, sealed(&described()));
        }
        for event in a.hear(&b.say(), SECOND).unwrap() {
            let Event::Answer { tag, .. } = event else {
                panic!("{event:?}");
            };
            answered.push(tag);
        }
    }
    assert_eq!(answered, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_peer_that_sends_more_than_is_taken_is_in_error() {
    let [_, mut b] = open();
    let sent: Vec<u8> = (1..=5).flat_map(|id| describe().frame(1, id).head).collect();
    assert_eq!(b.hear(&sent, SECOND), Err(Ended::Credit));

    let [_, mut b] = open();
    let twice: Vec<u8> = [3, 3]
        .into_iter()
        .flat_map(|id| describe().frame(1, id).head)
        .collect();
    assert_eq!(b.hear(&twice, SECOND), Err(Ended::DuplicateId(3)));
}

#[test]
fn answers_to_nothing_and_wrong_answers_are_errors() {
    let [mut a, _] = open();
    let done = sealed(&Response::Done);
    assert_eq!(
        a.hear(&done.clone().frame(1, 9).head, SECOND),
        Err(Ended::UnknownId(9))
    );

    let [mut a, _] = open();
    a.session.request(describe(), 5).unwrap();
    let wrong = Ended::WrongAnswer {
        kind: Kind::Done,
        id: 1,
    };
    assert_eq!(a.hear(&done.frame(1, 1).head, SECOND), Err(wrong));
    assert_eq!(a.session.abandon(), [5]);

    let [mut a, _] = open();
    let read = Request::Read {
        pair: 1,
        epoch: 1,
        volume: 1,
        offset: 0,
        length: 8,
    };
    a.session.request(Sealed::request(&read).unwrap(), 6).unwrap();
    let short = sealed(&Response::Data(Bytes::from_static(b"seven b"))).frame(1, 1);
    let wrong = Ended::WrongAnswer {
        kind: Kind::Data,
        id: 1,
    };
    assert_eq!(a.hear(&[short.head, short.data].concat(), SECOND), Err(wrong));
}

#[test]
fn an_answer_of_ours_that_does_not_fit_becomes_a_failure() {
    let [mut a, mut b] = open();
    a.session.request(describe(), 5).unwrap();
    b.hear(&a.say(), SECOND).unwrap();
    b.session.answer(1, sealed(&Response::Done));
    let events = a.hear(&b.say(), SECOND).unwrap();
    let [Event::Answer { tag: 5, response }] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(matches!(
        response,
        Response::Failed {
            code: FailureCode::Internal,
            ..
        }
    ));
}

#[test]
fn frames_out_of_place_are_errors() {
    let [mut a, mut b] = ends(config("HF-A", 1), config("HF-B", 2));
    let hello = a.say();
    assert!(matches!(
        b.hear(&describe().frame(1, 1).head, SECOND),
        Err(Ended::Unexpected(_))
    ));
    let [_, mut b] = open();
    assert_eq!(
        b.hear(&hello, SECOND),
        Err(Ended::FrameVersion { found: 0, agreed: 1 })
    );
    let [_, mut b] = open();
    let newer = describe().frame(2, 1).head;
    assert_eq!(
        b.hear(&newer, SECOND),
        Err(Ended::FrameVersion { found: 2, agreed: 1 })
    );
    let [_, mut b] = open();
    assert!(matches!(
        b.hear(b"GET / HTTP/1.1", SECOND),
        Err(Ended::Frame(FrameError::Magic))
    ));
    let [mut a, mut b] = open();
    a.session.leave(Farewell::Stopping);
    b.hear(&a.say(), SECOND).unwrap();
    assert_eq!(b.hear(&describe().frame(1, 1).head, SECOND), Err(Ended::AfterBye));
}

#[test]
fn silence_is_noticed_and_pings_tell_the_round_trip() {
    let [mut a, mut b] = open();
    let mut now = Duration::ZERO;
    for _ in 0..10 {
        now = a.session.wakes_at().unwrap().max(now);
        a.session.tick(now).unwrap();
        b.hear(&a.say(), now).unwrap();
        now += Duration::from_millis(30);
        a.hear(&b.say(), now).unwrap();
        assert_eq!(a.session.rtt(), Some(Duration::from_millis(30)));
    }
    let quiet = now;
    let silent = loop {
        now = a.session.wakes_at().unwrap();
        if let Err(ended) = a.session.tick(now) {
            break ended;
        }
    };
    assert_eq!((silent, now), (Ended::Silent(7 * SECOND), quiet + 7 * SECOND));
    assert_eq!(a.session.wakes_at(), None);
    assert_eq!(a.session.request(describe(), 1), Err((NotTaken::Down, 1)));
}

#[test]
fn who_did_not_run_itself_calls_nobody_silent() {
    let [mut a, _] = open();
    let due = a.session.wakes_at().unwrap();
    let back = due + 100 * SECOND;
    a.session.tick(back).unwrap();
    assert_eq!(a.session.wakes_at(), Some(back + 2 * SECOND), "one interval more");
    assert_eq!(
        a.session.tick(back + 2 * SECOND),
        Err(Ended::Silent(7 * SECOND)),
        "who is silent all the same is silent"
    );
}

#[test]
fn a_handshake_that_is_not_finished_ends() {
    let [mut a, mut b] = ends(config("HF-A", 1), config("HF-B", 2));
    for end in [&mut a, &mut b] {
        assert_eq!(end.session.wakes_at(), Some(5 * SECOND));
        end.session.tick(4 * SECOND).unwrap();
        assert_eq!(end.session.tick(5 * SECOND), Err(Ended::HandshakeTimeout));
    }
}

#[test]
fn both_sides_leave_in_order() {
    let [mut a, mut b] = open();
    for tag in 0..6 {
        a.session.request(describe(), tag).unwrap();
    }
    assert_eq!(a.session.leave(Farewell::Stopping), [4, 5], "they were not sent");
    assert_eq!(a.session.request(describe(), 7), Err((NotTaken::Down, 7)));
    let events = b.hear(&a.say(), SECOND).unwrap();
    assert_eq!(events.len(), 5);
    let leaving = Event::Leaving {
        farewell: Farewell::Stopping,
        unsent: vec![],
    };
    assert_eq!(events[4], leaving);
    for id in 1..=4 {
        assert!(!b.session.finished());
        b.session.answer(id, sealed(&described()));
    }
    assert!(b.session.finished());
    assert!(!a.session.finished());
    assert_eq!(a.hear(&b.say(), SECOND).unwrap().len(), 5);
    assert!(a.session.finished());
}

/// What happens in a run.
#[derive(Debug, Clone)]
enum Step {
    Ask(usize, Request),
    Answer(usize, u16),
    Deliver(usize, u16),
    Time(u64),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let request = frame::tests::request();
    prop_oneof![
        3 => (0..2usize, request).prop_map(|(side, request)| Step::Ask(side, request)),
        3 => (0..2usize, any::<u16>()).prop_map(|(side, which)| Step::Answer(side, which)),
        5 => (0..2usize, any::<u16>()).prop_map(|(side, many)| Step::Deliver(side, many)),
        1 => (0..900u64).prop_map(Step::Time),
        1 => (0..2usize).prop_map(Step::Leave),
    ]
}

/// An answer that fits.
fn fitting(request: &Request) -> Response {
    match request {
        Request::Describe(_) => described(),
        Request::Read { length, .. } if length % 2 == 0 => Response::Data(vec![7; *length as usize].into()),
        Request::Read { .. } => Response::Hole,
        Request::Extents { .. } => Response::Extent {
            mapped: true,
            length: 1,
        },
        Request::Forward(command) => Response::Forwarded(command.clone()),
        Request::Pair(_) => Response::failed(FailureCode::NoSuchPair, ""),
        Request::Digest { length, piece, .. } => {
            Response::Digests(vec![7; length.div_ceil(*piece) as usize * 32].into())
        }
        Request::Write { .. } | Request::Zero { .. } | Request::Flush { .. } => Response::Done,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Every request is answered with what answers it, or given back when the wire is cut, and never both; they
    /// arrive in the order in which they were made; and nobody takes a fault in what the other says, wherever
    /// the wire divides or ends it.
    #[test]
    fn every_request_is_answered_or_given_back_once(steps in vec(step(), 1..80), cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>())
    {
        let mut ends = open();
        let mut wires = [Vec::<u8>::new(), Vec::new()];
        let mut asked: [Vec<Request>; 2] = [vec![], vec![]];
        let mut arrived: [Vec<(u64, Request)>; 2] = [vec![], vec![]];
        let mut order: [Vec<Request>; 2] = [vec![], vec![]];
        let mut ended: [BTreeSet<u32>; 2] = Default::default();
        let mut now = Duration::ZERO;
        let stop = if is_cut { cut.index(steps.len()) } else { steps.len() };
        let quiet = (0..400).map(|n| match (n / 2 % 2, n % 2) {
            (0, side) => Step::Deliver(side, u16::MAX),
            (_, side) => Step::Answer(side, u16::MAX),
        });
        let quiet = quiet.take(if is_cut { 0 } else { 400 });
        for step in steps.into_iter().take(stop).chain(quiet) {
            match step {
                Step::Ask(side, request) => {
                    let tag = asked[side].len() as u32;
                    if ends[side].session.request(Sealed::request(&request).unwrap(), tag).is_ok() {
                        asked[side].push(request);
                    }
                }
                Step::Answer(side, which) => {
                    if !arrived[side].is_empty() {
                        let which = usize::from(which) * arrived[side].len() / 65536;
                        let (id, request) = arrived[side].remove(which);
                        ends[side].session.answer(id, sealed(&fitting(&request)));
                    }
                }
                Step::Deliver(side, many) => {
                    let from = 1 - side;
                    let said = ends[from].say();
                    wires[from].extend(said);
                    let many = usize::from(many) * wires[from].len() / 65535;
                    let bytes: Vec<u8> = wires[from].drain(..many).collect();
                    for event in ends[side].hear(&bytes, now).unwrap() {
                        match event {
                            Event::Request { id, request } => {
                                order[side].push(request.clone());
                                arrived[side].push((id, request));
                            }
                            Event::Answer { tag, response } => {
                                prop_assert_eq!(response, fitting(&asked[side][tag as usize]));
                                prop_assert!(ended[side].insert(tag), "answered twice");
                            }
                            Event::Leaving { unsent, .. } => {
                                for tag in unsent {
                                    prop_assert!(ended[side].insert(tag));
                                }
                            }
                            other => prop_assert!(false, "{:?}", other),
                        }
                    }
                    let (requests, bytes) = (ends[side].session.serving.len(), ends[side].session.serving_bytes);
                    prop_assert!(requests <= 4 && bytes <= LEAST_WINDOW);
                }
                Step::Time(more) => {
                    now += Duration::from_millis(more);
                    for end in &mut ends {
                        end.session.heard(now);
                        end.session.tick(now).unwrap();
                    }
                }
                Step::Leave(side) => {
                    for tag in ends[side].session.leave(Farewell::Stopping) {
                        prop_assert!(ended[side].insert(tag));
                    }
                }
            }
        }
        for side in 0..2 {
            if is_cut {
                for tag in ends[side].session.abandon() {
                    prop_assert!(ended[side].insert(tag), "answered and given back");
                }
            }
            prop_assert_eq!(ended[side].len(), asked[side].len(), "side {}", side);
            prop_assert_eq!(ends[side].session.outstanding(), (0, 0));
            let arrived = &order[1 - side];
            prop_assert_eq!(arrived, &asked[side][..arrived.len()]);
        }
    }
}
