use std::time::Duration;

use proptest::prelude::*;

use super::{
    attribute::{self, Attribute, tag},
    client::{Client, News, PATIENCE, Step},
    esi,
    message::{Assembler, IsnsError, Message, PAYLOAD_MAX, Status, flag, function},
    registration::{EsiWish, RegisteredNode, RegisteredPortal, Registration, tellable},
};

const ENTITY: &str = "hf-a";

fn registration(names: &[&str]) -> Registration {
    Registration {
        entity: ENTITY.to_owned(),
        portals: vec![RegisteredPortal {
            address: "127.0.0.1:3260".parse().unwrap(),
            group: 1,
            esi: Some(EsiWish {
                port: 4000,
                interval: 60,
            }),
        }],
        nodes: names.iter().map(|name| node(name)).collect(),
    }
}

fn node(name: &str) -> RegisteredNode {
    RegisteredNode {
        name: name.to_owned(),
        alias: None,
        portal_groups: Vec::new(),
    }
}

fn second(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What the client sends next; it must send something.
fn sent(client: &mut Client, now: Duration) -> Message {
    match client.next(now) {
        Step::Send(message) => message,
        other => panic!("{other:?}"),
    }
}

/// The response to a request.
fn response(request: &Message, status: u32, attributes: &[Attribute]) -> Message {
    let mut payload = status.to_be_bytes().to_vec();
    for attribute in attributes {
        attribute.write(&mut payload);
    }
    Message {
        function: request.function | function::RESPONSE,
        flags: flag::SERVER,
        transaction: request.transaction,
        payload,
    }
}

fn connected(names: &[&str]) -> Client {
    let mut client = Client::new();
    assert_eq!(client.next(Duration::ZERO), Step::Connect);
    client.connected();
    client.want(registration(names));
    client
}

/// A client whose registration was granted for 60 s.
fn registered(names: &[&str]) -> Client {
    let mut client = connected(names);
    let request = sent(&mut client, Duration::ZERO);
    let granted = [Attribute::number(tag::REGISTRATION_PERIOD, 60)];
    assert_eq!(
        client.received(&response(&request, 0, &granted), Duration::ZERO),
        Ok(News::Registered)
    );
    assert!(client.is_registered());
    client
}

/// RFC 4171 5.1, 5.6.5.1, 6.1, byte by byte.
#[test]
fn a_registration_in_bytes() {
    let mut wanted = registration(&["iqn.a"]);
    wanted.nodes[0].alias = Some("disk".to_owned());
    let mut client = Client::new();
    client.next(Duration::ZERO);
    client.connected();
    client.want(wanted);
    let bytes = sent(&mut client, Duration::ZERO).to_bytes();
    #[rustfmt::skip]
    let golden: &[&[u8]] = &[
        // Version 1, DevAttrReg, 220 bytes, client + replace + last + first, transaction 1, sequence 0.
        &[0, 1, 0, 1, 0, 220, 0x9c, 0, 0, 1, 0, 0],
        &[0, 0, 0, 32, 0, 0, 0, 8], b"iqn.a\0\0\0",
        &[0, 0, 0, 1, 0, 0, 0, 8], b"hf-a\0\0\0\0",
        &[0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 1, 0, 0, 0, 8], b"hf-a\0\0\0\0",
        &[0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 2],
        &[0, 0, 0, 16, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1],
        &[0, 0, 0, 17, 0, 0, 0, 4, 0, 0, 0x0c, 0xbc],
        &[0, 0, 0, 19, 0, 0, 0, 4, 0, 0, 0, 60],
        &[0, 0, 0, 20, 0, 0, 0, 4, 0, 0, 0x0f, 0xa0],
        &[0, 0, 0, 32, 0, 0, 0, 8], b"iqn.a\0\0\0",
        &[0, 0, 0, 33, 0, 0, 0, 4, 0, 0, 0, 1],
        &[0, 0, 0, 34, 0, 0, 0, 8], b"disk\0\0\0\0",
        &[0, 0, 0, 51, 0, 0, 0, 4, 0, 0, 0, 1],
        &[0, 0, 0, 49, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1],
        &[0, 0, 0, 50, 0, 0, 0, 4, 0, 0, 0x0c, 0xbc],
    ];
    assert_eq!(bytes, golden.concat());
}

/// RFC 4171 3.4: a node that is not reached through a portal has no tag there.
#[test]
fn a_node_has_a_tag_at_the_portals_of_its_groups_only() {
    let mut wanted = registration(&["iqn.a"]);
    let second = RegisteredPortal {
        address: "127.0.0.1:3261".parse().unwrap(),
        group: 7,
        esi: None,
    };
    wanted.portals.push(second);
    wanted.nodes[0].portal_groups = vec![7];
    let bytes = wanted.register(1, "iqn.a").to_bytes();
    let tags: Vec<&[u8]> = bytes
        .windows(12)
        .filter(|attribute| attribute[..4] == [0, 0, 0, 51])
        .map(|attribute| &attribute[4..])
        .collect();
    assert_eq!(tags, [&[0, 0, 0, 0, 0, 0, 0, 49], &[0, 0, 0, 4, 0, 0, 0, 7]]);
}

/// RFC 4171 5.6.5.13, 5.7.5.13: status 0 and what was asked; nobody else's inquiry is answered.
#[test]
fn an_inquiry_in_bytes() {
    let mut payload = vec![0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 0, 1, 2, 3, 4];
    payload.extend([0, 0, 0, 1, 0, 0, 0, 8, b'h', b'f', b'-', b'a', 0, 0, 0, 0]);
    let inquiry = Message {
        function: function::ESI,
        flags: flag::SERVER,
        transaction: 7,
        payload: payload.clone(),
    };
    let mut golden = vec![0, 1, 0x80, 0x0d, 0, 36, 0x8c, 0, 0, 7, 0, 0, 0, 0, 0, 0];
    golden.extend(payload);
    assert_eq!(esi::answer(&inquiry, "HF-A").unwrap().to_bytes(), golden);
    assert_eq!(esi::answer(&inquiry, "hf-b"), None);
    let other = Message {
        function: function::QUERY,
        ..inquiry
    };
    assert_eq!(esi::answer(&other, ENTITY), None);
}

#[test]
fn long_messages_go_in_several_pdus() {
    let message = Message {
        function: 1,
        flags: flag::CLIENT,
        transaction: 3,
        payload: vec![9; PAYLOAD_MAX + 4],
    };
    let bytes = message.to_bytes();
    assert_eq!(bytes[..12], [0, 1, 0, 1, 0xff, 0xfc, 0x84, 0, 0, 3, 0, 0]);
    assert_eq!(
        bytes[12 + PAYLOAD_MAX..][..12],
        [0, 1, 0, 1, 0, 4, 0x88, 0, 0, 3, 0, 1]
    );
    let mut assembler = Assembler::new(1 << 20);
    assembler.push(&bytes);
    assert_eq!(assembler.take(), Ok(Some(message)));
    let mut assembler = Assembler::new(PAYLOAD_MAX);
    assembler.push(&bytes);
    assert_eq!(assembler.take(), Err(IsnsError::TooLong(PAYLOAD_MAX)));
    let mut assembler = Assembler::new(1 << 20);
    assembler.push(&bytes[12 + PAYLOAD_MAX..]);
    assert_eq!(assembler.take(), Err(IsnsError::Disorder));
}

#[test]
fn what_is_no_message_is_named() {
    for (change, error) in [
        ((1, 2), IsnsError::Version(2)),
        ((5, 3), IsnsError::Unaligned),
        ((6, 0x2c), IsnsError::Authenticated),
        ((6, 0), IsnsError::Disorder),
    ] {
        let mut header = [0, 1, 0, 1, 0, 0, 0x0c, 0, 0, 1, 0, 0];
        header[change.0] = change.1;
        let mut assembler = Assembler::new(100);
        assembler.push(&header);
        assert_eq!(assembler.take(), Err(error));
    }
    assert_eq!(
        attribute::parse(&[0, 0, 0, 1, 0, 0, 0, 8, 1, 2, 3, 4]),
        Err(IsnsError::AttributeCutShort)
    );
    assert_eq!(
        attribute::parse(&[0, 0, 0, 1, 0, 0, 0, 1, 1]),
        Err(IsnsError::Unaligned)
    );
}

#[test]
fn texts_are_cut_to_what_the_standard_allows() {
    let text = Attribute::text(tag::ISCSI_ALIAS, &"ä".repeat(200));
    assert_eq!(text.value.len(), 256);
    assert_eq!(text.as_text().unwrap(), "ä".repeat(127));
}

#[test]
fn portals_are_told_as_the_server_sees_them() {
    let told = |portal: &str, local: &str| {
        tellable(portal.parse().unwrap(), local.parse().unwrap()).map(|portal| portal.to_string())
    };
    assert_eq!(
        told("192.0.2.1:3260", "192.0.2.9").as_deref(),
        Some("192.0.2.1:3260")
    );
    assert_eq!(
        told("0.0.0.0:3260", "192.0.2.9").as_deref(),
        Some("192.0.2.9:3260")
    );
    assert_eq!(
        told("0.0.0.0:3260", "::ffff:192.0.2.9").as_deref(),
        Some("192.0.2.9:3260")
    );
    assert_eq!(told("[::]:3260", "192.0.2.9"), None);
    assert_eq!(told("127.0.0.1:3260", "192.0.2.9"), None);
    assert_eq!(told("127.0.0.1:3260", "::1").as_deref(), Some("127.0.0.1:3260"));
}

#[test]
fn a_registration_is_looked_up_before_it_expires() {
    let mut client = registered(&["iqn.a", "iqn.b"]);
    assert_eq!(client.next(second(29)), Step::Wait(Some(second(30))));
    let query = sent(&mut client, second(30));
    assert_eq!((query.function, query.flags), (function::QUERY, flag::CLIENT));
    let mut found = vec![Attribute::delimiter()];
    found.extend(Attribute::portal("127.0.0.1:3260".parse().unwrap()));
    found.push(Attribute::text(tag::ISCSI_NAME, "iqn.b"));
    found.push(Attribute::text(tag::ISCSI_NAME, "iqn.a"));
    assert_eq!(
        client.received(&response(&query, 0, &found), second(30)),
        Ok(News::Kept)
    );
    assert_eq!(client.next(second(30)), Step::Wait(Some(second(60))));
    // One is gone at the server: all is registered again, and if it stays unseen, that was all that could be done.
    let query = sent(&mut client, second(60));
    assert_eq!(
        client.received(&response(&query, 0, &found[..4]), second(60)),
        Ok(News::Forgotten)
    );
    let again = sent(&mut client, second(60));
    assert_eq!(again.function, function::REGISTER);
    assert_eq!(
        client.received(&response(&again, 0, &[]), second(60)),
        Ok(News::Registered)
    );
    // The second answer grants no period.
    assert_eq!(client.next(second(60)), Step::Wait(Some(second(300))));
    let query = sent(&mut client, second(300));
    assert_eq!(
        client.received(&response(&query, Status::NO_SUCH_ENTRY.0, &[]), second(300)),
        Ok(News::Kept)
    );
}

#[test]
fn a_removed_target_is_deregistered_alone_and_a_new_one_replaces_all() {
    let mut client = registered(&["iqn.a", "iqn.b"]);
    client.want(registration(&["iqn.b"]));
    assert!(!client.is_registered());
    let request = sent(&mut client, second(1));
    assert_eq!(request.function, function::DEREGISTER);
    let texts = attribute::parse(&request.payload).unwrap();
    let texts: Vec<_> = texts.iter().filter_map(Attribute::as_text).collect();
    assert_eq!(
        texts,
        ["iqn.b", "", "iqn.a"],
        "the source stays, the delimiter, who goes"
    );
    assert_eq!(
        client.received(&response(&request, 0, &[]), second(1)),
        Ok(News::Deregistered)
    );
    assert!(client.is_registered());
    client.want(registration(&["iqn.b", "iqn.c"]));
    let request = sent(&mut client, second(2));
    assert_eq!(
        (request.function, request.flags),
        (function::REGISTER, flag::CLIENT | flag::REPLACE)
    );
    client.received(&response(&request, 0, &[]), second(2)).unwrap();
    // Nobody stays: the entity goes first, since a stranger may not speak for it.
    client.want(registration(&["iqn.d"]));
    let request = sent(&mut client, second(3));
    assert_eq!(request.function, function::DEREGISTER);
    client.received(&response(&request, 0, &[]), second(3)).unwrap();
    assert_eq!(sent(&mut client, second(3)).function, function::REGISTER);
}

#[test]
fn leaving_deregisters_what_is_registered() {
    let mut client = registered(&["iqn.a"]);
    client.leave();
    let request = sent(&mut client, second(1));
    assert_eq!(request.function, function::DEREGISTER);
    client.received(&response(&request, 0, &[]), second(1)).unwrap();
    assert_eq!(client.next(second(1)), Step::End);
    let mut apart = registered(&["iqn.a"]);
    apart.lost(second(1), 0);
    apart.leave();
    assert_eq!(apart.next(second(1)), Step::End);
    let mut never = connected(&["iqn.a"]);
    never.leave();
    assert_eq!(never.next(Duration::ZERO), Step::End);
}

#[test]
fn a_lost_connection_is_tried_again_ever_more_rarely() {
    let mut client = registered(&["iqn.a"]);
    let mut now = second(100);
    let mut waits = Vec::new();
    for random in [0, u32::MAX, 0, u32::MAX, 0, 0, 0, 0, 0, u32::MAX] {
        client.lost(now, random);
        let Step::Wait(Some(until)) = client.next(now) else {
            panic!("it does not wait");
        };
        waits.push(until.saturating_sub(now).as_millis());
        now = until;
        assert_eq!(client.next(now), Step::Connect);
    }
    assert_eq!(
        waits,
        [
            500, 2000, 2000, 8000, 8000, 16_000, 32_000, 64_000, 128_000, 300_000
        ]
    );
    client.connected();
    // The server may have forgotten.
    let query = sent(&mut client, now);
    assert_eq!(query.function, function::QUERY);
    assert!(!client.is_registered());
    assert_eq!(
        client.received(&response(&query, Status::NO_SUCH_ENTRY.0, &[]), now),
        Ok(News::Forgotten)
    );
    assert_eq!(sent(&mut client, now).function, function::REGISTER);
    // No answer is as good as no connection.
    assert_eq!(client.next(now + PATIENCE), Step::Disconnect);
}

#[test]
fn refusals_are_tried_again_later_and_inquiries_can_be_done_without() {
    let mut client = connected(&["iqn.a"]);
    let request = sent(&mut client, Duration::ZERO);
    assert_eq!(
        client.received(
            &response(&request, Status::ESI_NOT_AVAILABLE.0, &[]),
            Duration::ZERO
        ),
        Ok(News::NoInquiries)
    );
    let request = sent(&mut client, Duration::ZERO);
    let attributes = attribute::parse(&request.payload).unwrap();
    assert!(!attributes.iter().any(|attribute| attribute.tag == tag::ESI_PORT));
    // Of another time, and another function.
    for stranger in [
        Message {
            transaction: 1,
            ..response(&request, 0, &[])
        },
        Message {
            function: function::QUERY | function::RESPONSE,
            ..response(&request, 0, &[])
        },
    ] {
        assert_eq!(client.received(&stranger, Duration::ZERO), Ok(News::Ignored));
    }
    assert_eq!(
        client.received(&response(&request, 8, &[]), Duration::ZERO),
        Ok(News::Refused(Status(8)))
    );
    assert_eq!(client.next(Duration::ZERO), Step::Disconnect);
    assert_eq!(Status(8).to_string(), "source unauthorized (status 8)");
}

fn any_message() -> impl Strategy<Value = Message> {
    let payload = proptest::collection::vec(any::<u32>(), 0..20_000)
        .prop_map(|words| words.into_iter().flat_map(u32::to_be_bytes).collect());
    (any::<u16>(), any::<u16>(), any::<bool>(), payload).prop_map(
        |(function, transaction, replace, payload)| Message {
            function,
            flags: if replace {
                flag::CLIENT | flag::REPLACE
            } else {
                flag::SERVER
            },
            transaction,
            payload,
        },
    )
}

/// What happens to a client.
#[derive(Clone, Debug)]
enum Happening {
    Want(Vec<u8>),
    Lost,
    Answer(u32),
    Time(u64),
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        proptest::collection::vec(0..4u8, 0..4).prop_map(Happening::Want),
        Just(Happening::Lost),
        proptest::sample::select(vec![0, 0, 0, 0, 3, 8, 9, 21]).prop_map(Happening::Answer),
        (0..400u64).prop_map(Happening::Time),
    ]
}

fn names(of: &[u8]) -> Registration {
    let mut of = of.to_vec();
    of.sort_unstable();
    of.dedup();
    let names: Vec<String> = of.iter().map(|number| format!("iqn.{number}")).collect();
    registration(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn messages_survive_the_wire(messages in proptest::collection::vec(any_message(), 1..4), cuts in 1..5000usize) {
        let bytes: Vec<u8> = messages.iter().flat_map(Message::to_bytes).collect();
        let mut assembler = Assembler::new(1 << 20);
        let mut found = Vec::new();
        for piece in bytes.chunks(cuts) {
            assembler.push(piece);
            while let Some(message) = assembler.take().unwrap() {
                found.push(message);
            }
        }
        prop_assert_eq!(found, messages);
    }

    #[test]
    fn attributes_survive_the_wire(found in proptest::collection::vec((any::<u32>(), proptest::collection::vec(any::<[u8; 4]>(), 0..70)), 0..20)) {
        let attributes: Vec<Attribute> = found.into_iter().map(|(tag, value)| Attribute { tag, value: value.concat() }).collect();
        let mut bytes = Vec::new();
        for attribute in &attributes {
            attribute.write(&mut bytes);
        }
        prop_assert_eq!(attribute::parse(&bytes).unwrap(), attributes);
    }

    #[test]
    fn garbage_is_refused_or_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut assembler = Assembler::new(100);
        assembler.push(&bytes);
        while let Ok(Some(message)) = assembler.take() {
            let _ = (attribute::parse(&message.payload), esi::answer(&message, ENTITY));
        }
    }

    /// Whatever happened before: once the server says yes to everything, it is told what is wanted, and only that is believed registered.
    #[test]
    fn a_client_comes_to_rest_registered(happenings in proptest::collection::vec(any_happening(), 0..30)) {
        let mut client = Client::new();
        let mut wanted = registration(&[]);
        let mut now = Duration::ZERO;
        let mut asked: Option<Message> = None;
        let step = |client: &mut Client, now: Duration, asked: &mut Option<Message>, wanted: &Registration| match client.next(now) {
            Step::Connect => {
                client.connected();
                client.want(wanted.clone());
            }
            Step::Send(message) => *asked = Some(message),
            Step::Disconnect => {
                *asked = None;
                client.lost(now, 0);
            }
            Step::Wait(_) => {}
            Step::End => panic!("it was not told to leave"),
        };
        for happening in happenings {
            step(&mut client, now, &mut asked, &wanted);
            match happening {
                Happening::Want(of) => {
                    wanted = names(&of);
                    client.want(wanted.clone());
                }
                Happening::Lost => {
                    asked = None;
                    client.lost(now, 0);
                }
                Happening::Answer(status) => {
                    if let Some(request) = asked.take() {
                        client.received(&response(&request, status, &[]), now).unwrap();
                    }
                }
                Happening::Time(seconds) => now += second(seconds),
            }
        }
        for _ in 0..40 {
            now += second(20);
            step(&mut client, now, &mut asked, &wanted);
            if let Some(request) = asked.take() {
                client.received(&response(&request, 0, &[]), now).unwrap();
            }
        }
        prop_assert!(wanted.is_empty() || client.is_registered());
    }
}
