//! Connections that come, go and come again.

use super::site::*;
use crate::link::{LinkError, Request, Response, VolumeName};
use bytes::Bytes;
use link_proto::{Farewell, Message, Sealed};
use rustls::version::TLS13;
use std::time::{Duration, SystemTime};
use tokio::{net::TcpListener, time::timeout};

fn write(offset: u64) -> Request {
    Request::Write {
        pair: 1,
        epoch: 1,
        volume: 1,
        offset,
        ordered: false,
        data: Bytes::from_static(b"holdfast"),
    }
}

/// Up and down by turns, and nothing served while down.
fn by_turns(seen: &[Seen]) {
    let mut up = false;
    for seen in seen {
        match seen {
            Seen::Up(_) => assert!(!std::mem::replace(&mut up, true), "up twice"),
            Seen::Down(_) => assert!(std::mem::replace(&mut up, false), "down twice"),
            Seen::Asked(_) | Seen::Made(_) => assert!(up, "served while down"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_call_each_other_keep_one_connection() {
    for _ in 0..10 {
        let Pair { a, b, .. } = Pair::connected().await;
        let (to_b, to_a) = (
            a.links.peer(&id("HF-B")).unwrap(),
            b.links.peer(&id("HF-A")).unwrap(),
        );
        // It may have been another one for a moment; then it is answered anew.
        let settled = async {
            loop {
                let (at_b, at_a) = (to_b.request(write(1)), to_a.request(write(2)));
                if at_b.await.is_ok() && at_a.await.is_ok() {
                    return;
                }
                a.recorder.until(|_| to_b.is_up()).await;
            }
        };
        timeout(LONG, settled).await.unwrap();
        a.links.stop().await;
        b.links.stop().await;
        by_turns(&a.recorder.seen());
        by_turns(&b.recorder.seen());
    }
}

/// The certificates here are good until the date that rcgen gives them.
#[tokio::test]
async fn who_shows_a_certificate_knows_when_it_expires() {
    let Pair { a, .. } = Pair::connected().await;
    let until = u64::try_from(rcgen::date_time_ymd(4096, 1, 1).unix_timestamp()).unwrap();
    let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(until);
    assert_eq!(a.links.certificate_until(), Some(expected));
}

#[tokio::test]
async fn a_stop_is_told_and_what_was_asked_is_answered() {
    let Pair { a, b, .. } = Pair::connected().await;
    let peer = a.links.peer(&id("HF-B")).unwrap();
    let answer = peer.request(write(HELD));
    b.recorder
        .until(|seen| seen.iter().any(|seen| matches!(seen, Seen::Asked(_))))
        .await;
    let stopping = {
        let links = b.links.clone();
        tokio::spawn(async move { links.stop().await })
    };
    eventually(|| (!peer.is_up()).then_some(())).await;
    assert_eq!(
        peer.request(write(1)).await,
        Err(LinkError::Down),
        "no more requests"
    );
    b.recorder.let_go();
    assert_eq!(timeout(LONG, answer).await.unwrap(), Ok(Response::Done));
    timeout(LONG, stopping).await.unwrap().unwrap();
    assert_eq!(a.recorder.down(1).await, "the system is stopping");
    assert_eq!(b.recorder.down(1).await, "the system is stopping");
}

#[tokio::test]
async fn a_peer_that_comes_back_is_connected_anew() {
    let Pair {
        authority,
        directory,
        a,
        b,
    } = Pair::connected().await;
    let address = b.links.address();
    let peer = a.links.peer(&id("HF-B")).unwrap();
    b.links.stop().await;
    a.recorder.down(1).await;
    assert_eq!(peer.request(write(1)).await, Err(LinkError::Down));
    let mut config = authority.config(&directory, "HF-B", "holdfast:HF-B", 22);
    config.listen = address;
    let b = Site::start(config).await.unwrap();
    // Only A calls.
    b.peers(&[("HF-A", "127.0.0.1:1".parse().unwrap())]);
    a.recorder.up(2).await;
    assert_eq!(a.recorder.seen().last(), Some(&Seen::Up(22)));
    eventually(|| peer.is_up().then_some(())).await;
    assert_eq!(peer.request(write(1)).await, Ok(Response::Done));
    assert_eq!(peer.status().connections, 2);
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_of_a_frame_applies_nothing_of_it() {
    let Pair { authority, a, .. } = Pair::strangers().await;
    a.peers(&[("HF-B", "127.0.0.1:1".parse().unwrap())]);
    let connector = authority.client(Some("holdfast:HF-B"), &[&TLS13]);
    let frame = Sealed::request(&write(5)).unwrap().frame(1, 1);
    let frame = [frame.head, frame.data].concat();
    for (round, length) in [1, 31, 32, 33, 71, 72, frame.len() - 1].into_iter().enumerate() {
        let mut raw = Raw::connect(&connector, a.links.address()).await.unwrap();
        assert!(matches!(raw.greet("HF-B", 9).await, Some(Message::HelloAck(_))));
        raw.say(&frame[..length]).await;
        drop(raw);
        assert_eq!(a.recorder.down(round + 1).await, "the connection was cut");
    }
    let served = |seen: &Seen| matches!(seen, Seen::Asked(_));
    assert!(!a.recorder.seen().iter().any(served));
    by_turns(&a.recorder.seen());
}

#[tokio::test]
async fn requests_under_way_fail_when_the_link_is_cut() {
    let Pair { authority, a, .. } = Pair::strangers().await;
    a.peers(&[("HF-B", "127.0.0.1:1".parse().unwrap())]);
    let connector = authority.client(Some("holdfast:HF-B"), &[&TLS13]);
    let mut raw = Raw::connect(&connector, a.links.address()).await.unwrap();
    assert!(matches!(raw.greet("HF-B", 9).await, Some(Message::HelloAck(_))));
    a.recorder.up(1).await;
    let peer = a.links.peer(&id("HF-B")).unwrap();
    // It takes four at a time: the others wait here.
    let answers: Vec<_> = (0..9).map(|n| peer.request(write(n))).collect();
    while !matches!(raw.hear().await, Some(Message::Request(4, _))) {}
    drop(raw);
    for answer in answers {
        assert_eq!(timeout(LONG, answer).await.unwrap(), Err(LinkError::Lost));
    }
    assert_eq!(peer.outstanding(), (0, 0));
}

#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let Pair { authority, a, .. } = Pair::strangers().await;
    a.peers(&[("HF-B", "127.0.0.1:1".parse().unwrap())]);
    let connector = authority.client(Some("holdfast:HF-B"), &[&TLS13]);
    let mut raw = Raw::connect(&connector, a.links.address()).await.unwrap();
    assert!(matches!(raw.greet("HF-B", 9).await, Some(Message::HelloAck(_))));
    assert_eq!(a.recorder.down(1).await, "nothing was heard for 1500 ms");
    // One that does not even say Hello, too.
    let mut raw = Raw::connect(&connector, a.links.address()).await.unwrap();
    assert_eq!(raw.hear().await, None);
    assert_eq!(a.refusal().await, "the connection was not made in time");
}

#[tokio::test]
async fn a_second_connection_of_the_same_peer_takes_the_first_one_s_place() {
    let Pair { authority, a, .. } = Pair::strangers().await;
    a.peers(&[("HF-B", "127.0.0.1:1".parse().unwrap())]);
    let connector = authority.client(Some("holdfast:HF-B"), &[&TLS13]);
    let mut first = Raw::connect(&connector, a.links.address()).await.unwrap();
    assert!(matches!(first.greet("HF-B", 9).await, Some(Message::HelloAck(_))));
    // An answer in the making keeps the second one waiting.
    let held = Sealed::request(&write(HELD)).unwrap().frame(1, 1);
    first.say(&[held.head, held.data].concat()).await;
    a.recorder
        .until(|seen| seen.iter().any(|seen| matches!(seen, Seen::Asked(_))))
        .await;
    let mut second = Raw::connect(&connector, a.links.address()).await.unwrap();
    second.say(&hello("HF-B", 9, (1, 1))).await;
    first.hear_the_end().await;
    assert_eq!(a.recorder.seen().len(), 2, "the first one is not over yet");
    a.recorder.let_go();
    assert!(matches!(second.hear().await, Some(Message::HelloAck(_))));
    a.recorder.up(2).await;
    let replaced = "a newer connection took its place".to_owned();
    let seen = a.recorder.seen();
    assert_eq!(seen[2..], [Seen::Made(HELD), Seen::Down(replaced), Seen::Up(9)]);
}

#[tokio::test]
async fn peers_are_added_moved_and_removed_while_it_runs() {
    let Pair { a, b, .. } = Pair::strangers().await;
    b.peers(&[("HF-A", "127.0.0.1:1".parse().unwrap())]);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = nobody.local_addr().unwrap();
    drop(nobody);
    a.peers(&[("HF-B", nowhere)]);
    assert!(a.error("HF-B").await.contains("cannot be reached"));
    a.peers(&[("HF-B", b.links.address())]);
    a.recorder.up(1).await;
    let peer = a.links.peer(&id("HF-B")).unwrap();
    a.peers(&[]);
    assert!(a.links.peer(&id("HF-B")).is_none());
    let reason = Farewell::Reconfigured.to_string();
    assert_eq!(a.recorder.down(1).await, reason);
    assert_eq!(b.recorder.down(1).await, reason);
    let describe = Request::Describe(VolumeName::Number(1));
    assert_eq!(peer.request(describe).await, Err(LinkError::Down));
    a.peers(&[("HF-B", b.links.address())]);
    a.recorder.up(2).await;
    b.recorder.up(2).await;
    by_turns(&a.recorder.seen());
}
