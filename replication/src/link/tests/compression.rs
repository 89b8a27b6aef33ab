//! Data that is compressed on its way.

use super::site::*;
use crate::link::{Compression, Request, Response};
use bytes::Bytes;
use link_proto::{Encoded, Message, Packer, Sealed};
use rustls::version::TLS13;
use tempfile::TempDir;
use tokio::time::timeout;

fn write(offset: u64, data: Bytes) -> Request {
    Request::Write {
        pair: 1,
        epoch: 1,
        volume: 1,
        offset,
        ordered: true,
        data,
    }
}

/// Data that a compressor can make a tenth of.
fn text(bytes: usize) -> Bytes {
    let words = (0_u32..).flat_map(|n| format!("line {:06} of a log\n", n / 4).into_bytes());
    words.take(bytes).collect()
}

/// Data that none can make shorter.
fn noise(bytes: usize) -> Bytes {
    let mut noise = vec![0; bytes];
    getrandom::fill(&mut noise).unwrap();
    noise.into()
}

/// A system that does not mind a peer that answers no Ping, and is slow.
async fn patient() -> (Authority, Site) {
    let authority = Authority::new();
    let directory = TempDir::new().unwrap();
    let mut config = authority.config(&directory, "HF-A", "holdfast:HF-A", 1);
    (config.timing.handshake, config.timing.silence) = (LONG, LONG);
    (authority, Site::start(config).await.unwrap())
}

/// What was asked of a site to be written.
fn written(seen: &[Seen]) -> Vec<Request> {
    let write = |seen: &Seen| match seen {
        Seen::Asked(request @ Request::Write { .. }) => Some(request.clone()),
        _ => None,
    };
    seen.iter().filter_map(write).collect()
}

/// Requests one way and answers the other, each compressed as its sender is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_goes_with_fewer_bytes_both_ways_and_is_the_same_there() {
    let pair = Pair::strangers().await;
    let (a, b) = (&pair.a, &pair.b);
    a.peers_by(Some(Compression::Zstd), &[("HF-B", b.links.address())]);
    b.peers_by(Some(Compression::Lz4), &[("HF-A", a.links.address())]);
    a.recorder.up(1).await;
    b.recorder.up(1).await;
    let to_b = a.links.peer(&id("HF-B")).unwrap();
    let to_a = b.links.peer(&id("HF-A")).unwrap();
    let run = async {
        // More than a turn of the connection's task has, and in order among short ones and such as stay as they are.
        let mut asked = Vec::new();
        for (index, length) in [1 << 20, 100, 4096, 1 << 20, 65_536, 1 << 20]
            .into_iter()
            .enumerate()
        {
            asked.push(write(2 * index as u64, text(length)));
            asked.push(write(2 * index as u64 + 1, noise(600)));
        }
        let answers: Vec<_> = asked
            .iter()
            .map(|request| to_b.request(request.clone()))
            .collect();
        for answer in answers {
            assert_eq!(answer.await, Ok(Response::Done));
        }
        assert_eq!(written(&b.recorder.seen()), asked);
        let data = Response::Data(Bytes::from(vec![9; 1 << 20]));
        assert_eq!(to_b.request(read(9, 1 << 20)).await, Ok(data));
    };
    timeout(LONG, run).await.unwrap();
    // All of it is counted, once what was sent has been received.
    let (to_b, to_a) = eventually(|| {
        let (to_b, to_a) = (to_b.status(), to_a.status());
        let there = [&to_b.sent_uncompressed, &to_a.received_uncompressed];
        let back = [&to_a.sent_uncompressed, &to_b.received_uncompressed];
        let all = there.iter().all(|bytes| **bytes > 3 << 20) && back.iter().all(|bytes| **bytes > 1 << 20);
        all.then_some((to_b, to_a))
    })
    .await;
    assert_eq!(to_b.compression, Some(Compression::Zstd));
    assert_eq!(to_a.compression, Some(Compression::Lz4));
    for (plain, sent) in [
        (to_b.sent_uncompressed, to_b.sent),
        (to_a.received_uncompressed, to_a.received),
        (to_a.sent_uncompressed, to_a.sent),
        (to_b.received_uncompressed, to_b.received),
    ] {
        assert!(sent < plain / 5, "{sent} bytes for {plain}");
    }
}

/// A reload counts for what leaves after it, over the same connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compression_begins_and_ends_while_the_link_is_up() {
    let Pair { a, b, .. } = Pair::connected().await;
    let peer = a.links.peer(&id("HF-B")).unwrap();
    let mut spared = Vec::new();
    let run = async {
        for by in [None, Some(Compression::Lz4), None] {
            a.peers_by(by, &[("HF-B", b.links.address())]);
            let before = peer.status();
            assert_eq!(before.compression, by);
            assert_eq!(peer.request(write(0, text(1 << 20))).await, Ok(Response::Done));
            let after = peer.status();
            let of = |status: &crate::link::PeerStatus| status.sent_uncompressed - status.sent;
            spared.push(of(&after) - of(&before));
        }
    };
    timeout(LONG, run).await.unwrap();
    assert!(
        spared[0] == 0 && spared[1] > 1 << 19 && spared[2] == 0,
        "{spared:?}"
    );
    assert_eq!(peer.status().connections, 1);
}

/// One that knows nothing of compression, as systems were before it, and one that can do what nobody knows yet: both are connected, and what
/// they do not read is not sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_it_gets_data_as_it_is() {
    for (features, compression) in [(0, None), (!3, None), (!0, Some(Compression::Zstd))] {
        let (authority, a) = patient().await;
        a.peers_by(
            Some(Compression::Zstd),
            &[("HF-B", "127.0.0.1:1".parse().unwrap())],
        );
        let connector = authority.client(Some("holdfast:HF-B"), &[&TLS13]);
        let mut raw = Raw::connect(&connector, a.links.address()).await.unwrap();
        raw.say(&hello_of("HF-B", 9, (1, 1), features)).await;
        let Some(Message::HelloAck(hello)) = raw.hear().await else {
            panic!("it is let in");
        };
        assert_eq!(hello.features, Compression::FEATURES);
        a.recorder.up(1).await;
        let peer = a.links.peer(&id("HF-B")).unwrap();
        assert_eq!(peer.status().compression, compression);
        let request = write(0, text(1 << 16));
        drop(peer.request(request.clone()));
        if compression.is_none() {
            let heard = loop {
                match raw.hear().await {
                    Some(Message::Request(_, request)) => break request,
                    Some(_) => {}
                    None => panic!("it is connected"),
                }
            };
            assert_eq!(heard, request);
        }
        let spared = eventually(|| {
            let status = peer.status();
            (status.sent_uncompressed > 1 << 16).then(|| status.sent_uncompressed - status.sent)
        });
        assert_eq!(spared.await > 0, compression.is_some());
    }
}

/// What is done to data on its way.
type Spoil = fn(&mut Vec<u8>);

/// A peer that sends what cannot be read, or what does not become what it said: nothing of it is carried out.
#[tokio::test]
async fn compressed_data_that_is_wrong_ends_the_connection_by_name() {
    let (authority, a) = patient().await;
    a.peers(&[("HF-B", "127.0.0.1:1".parse().unwrap())]);
    let connector = authority.client(Some("holdfast:HF-B"), &[&TLS13]);
    let good = Sealed::request(&write(0, text(4096))).unwrap().frame(1, 1);
    let cases: [(&str, Spoil); 2] = [
        (
            "the lz4 data of a Write is not 4136 bytes of payload (id 1)",
            |data| data.fill(0xFF),
        ),
        ("the payload of a Write is damaged (id 1)", |data| {
            let word = data.windows(4).position(|bytes| bytes == b"line").unwrap();
            data[word] ^= 1;
        }),
    ];
    for (times, (says, spoil)) in (1..).zip(cases) {
        let mut raw = Raw::connect(&connector, a.links.address()).await.unwrap();
        let greeted = raw.greet("HF-B", times).await;
        assert!(matches!(greeted, Some(Message::HelloAck(_))));
        let Encoded { head, data } = Packer::default().pack(Compression::Lz4, good.clone());
        let mut data = data.to_vec();
        spoil(&mut data);
        raw.say(&[&head[..], &data].concat()).await;
        raw.hear_the_end().await;
        assert_eq!(a.recorder.down(times as usize).await, says);
    }
    assert_eq!(written(&a.recorder.seen()), []);
}
