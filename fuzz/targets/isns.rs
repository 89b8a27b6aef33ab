#![no_main]
//! Any bytes as what a name server sends: nothing is held beyond the limit, only our entity is answered for, and a client that has
//! heard them still knows what to do next.
use std::time::Duration;

use iscsi_proto::isns::{
    client::{Client, Step},
    esi,
    message::Assembler,
    registration::{EsiWish, RegisteredNode, RegisteredPortal, Registration},
};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let mut client = Client::new();
    assert_eq!(client.next(Duration::ZERO), Step::Connect);
    client.connected();
    client.want(Registration {
        entity: "e".to_owned(),
        portals: vec![RegisteredPortal {
            address: ([127, 0, 0, 1], 3260).into(),
            group: 1,
            esi: Some(EsiWish { port: 4000, interval: 60 }),
        }],
        nodes: vec![RegisteredNode { name: "iqn.a".to_owned(), alias: None, portal_groups: vec![1] }],
    });
    let mut assembler = Assembler::new(LIMIT);
    let mut now = Duration::ZERO;
    for piece in data.chunks(100) {
        now += Duration::from_secs(7);
        match client.next(now) {
            Step::Connect => client.connected(),
            Step::Disconnect => client.lost(now, 0),
            Step::Send(message) => assert!(message.to_bytes().len() < LIMIT),
            Step::Wait(_) => {}
            Step::End => panic!("it was not told to leave"),
        }
        assembler.push(piece);
        loop {
            match assembler.take() {
                Ok(Some(message)) => {
                    assert!(message.payload.len() <= LIMIT);
                    if let Some(answer) = esi::answer(&message, "e") {
                        assert_eq!(answer.payload[4..], message.payload);
                    }
                    if client.received(&message, now).is_err() {
                        client.lost(now, 0);
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
