//! Requests and answers.

use super::site::*;
use crate::link::{LinkError, Request, Response};
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::timeout;

fn write(offset: u64, ordered: bool, length: usize) -> Request {
    Request::Write {
        pair: 1,
        epoch: 1,
        volume: 1,
        offset,
        ordered,
        data: Bytes::from(vec![7; length]),
    }
}

fn asked(seen: &[Seen]) -> Vec<u64> {
    let offset = |seen: &Seen| match seen {
        Seen::Asked(Request::Write { offset, .. } | Request::Read { offset, .. }) => Some(*offset),
        _ => None,
    };
    seen.iter().filter_map(offset).collect()
}

fn made(seen: &[Seen]) -> Vec<u64> {
    let offset = |seen: &Seen| match seen {
        Seen::Made(offset) => Some(*offset),
        _ => None,
    };
    seen.iter().filter_map(offset).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_ask_and_answer() {
    let Pair { a, b, .. } = Pair::connected().await;
    let (to_b, to_a) = (
        a.links.peer(&id("HF-B")).unwrap(),
        b.links.peer(&id("HF-A")).unwrap(),
    );
    let run = async {
        for length in [1, 512, 65_536, 1 << 20] {
            let (at_b, at_a) = (to_b.request(read(3, length)), to_a.request(read(4, length)));
            let data = |byte| Ok(Response::Data(Bytes::from(vec![byte; length as usize])));
            assert_eq!((at_b.await, at_a.await), (data(3), data(4)));
        }
        assert_eq!(to_b.request(write(0, false, 1 << 20)).await, Ok(Response::Done));
        let too_much = to_b.request(write(0, false, (1 << 20) + 1)).await;
        assert!(matches!(too_much, Err(LinkError::Request(_))));
    };
    timeout(LONG, run).await.unwrap();
    let status = eventually(|| Some(to_b.status()).filter(|status| status.rtt.is_some())).await;
    assert!(status.up && status.sent > 1 << 20 && status.received > 1 << 20);
    assert_eq!(
        (status.outstanding, status.outstanding_bytes, status.connections),
        (0, 0, 1)
    );
    assert_eq!(status.seen.map(|(boot, _)| boot), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_arrive_in_the_order_of_the_calls_polled_or_not() {
    let Pair { a, b, .. } = Pair::connected().await;
    let peer = a.links.peer(&id("HF-B")).unwrap();
    let mut answers: Vec<_> = (0..500).map(|n| peer.request(write(n, false, 100))).collect();
    // Nobody waits for this one.
    drop(answers.pop());
    for answer in answers.into_iter().rev() {
        assert_eq!(timeout(LONG, answer).await.unwrap(), Ok(Response::Done));
    }
    let seen = b.recorder.until(|seen| made(seen).len() == 500).await;
    assert_eq!(asked(&seen), (0..500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordered_requests_are_carried_out_one_after_another_and_others_beside_them() {
    let Pair { a, b, .. } = Pair::connected().await;
    let peer = a.links.peer(&id("HF-B")).unwrap();
    let answers: Vec<_> = (0..100).map(|n| peer.request(write(n, true, 100))).collect();
    let held = peer.request(write(HELD, true, 1));
    let behind = peer.request(write(100, true, 1));
    let beside = peer.request(write(101, false, 1));
    for answer in answers {
        assert_eq!(timeout(LONG, answer).await.unwrap(), Ok(Response::Done));
    }
    assert_eq!(timeout(LONG, beside).await.unwrap(), Ok(Response::Done));
    let before = made(&b.recorder.seen());
    let ordered: Vec<u64> = before.iter().copied().filter(|offset| *offset < 100).collect();
    assert_eq!(ordered, (0..100).collect::<Vec<_>>());
    assert!(!before.contains(&100) && before.contains(&101));
    b.recorder.let_go();
    assert_eq!(timeout(LONG, held).await.unwrap(), Ok(Response::Done));
    assert_eq!(timeout(LONG, behind).await.unwrap(), Ok(Response::Done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordered_write_that_could_be_done_at_once_waits_for_those_before_it() {
    let Pair { a, b, .. } = Pair::connected().await;
    let peer = a.links.peer(&id("HF-B")).unwrap();
    let held = peer.request(write(HELD, true, 1));
    let behind: Vec<_> = (0..50)
        .map(|n| peer.request(write(AT_ONCE + n, true, 100)))
        .collect();
    let beside = peer.request(write(AT_ONCE + 50, false, 1));
    assert_eq!(timeout(LONG, beside).await.unwrap(), Ok(Response::Done));
    assert_eq!(made(&b.recorder.seen()), [AT_ONCE + 50]);
    b.recorder.let_go();
    assert_eq!(timeout(LONG, held).await.unwrap(), Ok(Response::Done));
    for answer in behind {
        assert_eq!(timeout(LONG, answer).await.unwrap(), Ok(Response::Done));
    }
    // Nothing is ahead of these.
    let last = peer.request(write(AT_ONCE + 51, true, 1));
    assert_eq!(timeout(LONG, last).await.unwrap(), Ok(Response::Done));
    let in_order = [AT_ONCE + 50, HELD].into_iter().chain(AT_ONCE..AT_ONCE + 50);
    let seen = b.recorder.seen();
    assert_eq!(made(&seen), in_order.chain([AT_ONCE + 51]).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_peer_takes_waits_and_is_all_done() {
    let Pair { a, b, .. } = Pair::connected().await;
    let peer = a.links.peer(&id("HF-B")).unwrap();
    // 64 MiB, of which 32 are taken at a time.
    let answers: Vec<_> = (0..64)
        .map(|n| peer.request(write(HELD + n, false, 1 << 20)))
        .collect();
    b.recorder.until(|seen| asked(seen).len() >= 31).await;
    let (requests, bytes) = peer.outstanding();
    assert_eq!(requests, 64);
    assert!(bytes > 64 << 20);
    assert!(asked(&b.recorder.seen()).len() < 33);
    b.recorder.let_go();
    for answer in answers {
        assert_eq!(timeout(LONG, answer).await.unwrap(), Ok(Response::Done));
    }
}

/// An answer that is never made is told as one.
#[tokio::test]
async fn a_service_that_panics_answers_with_a_failure() {
    struct Panics(Arc<Recorder>);
    impl crate::link::LinkService for Panics {
        fn serve(&self, _: &link_proto::SystemId, _: Request) -> crate::link::service::Serving {
            Box::pin(async { panic!("a fault of the service") })
        }
        fn write_at_once(&self, _: &link_proto::SystemId, request: &Request) -> Option<Response> {
            assert!(request.ordered(), "a fault of the service");
            None
        }
        fn up(&self, peer: &link_proto::SystemId, boot: u128) {
            Service(self.0.clone()).up(peer, boot);
        }
        fn down(&self, _: &link_proto::SystemId, _: &str) {}
    }
    let Pair {
        authority,
        directory,
        a,
        ..
    } = Pair::strangers().await;
    let recorder = Arc::new(Recorder::default());
    let config = authority.config(&directory, "HF-C", "holdfast:HF-C", 3);
    let c = crate::link::Links::start(config, Arc::new(Panics(recorder.clone())))
        .await
        .unwrap();
    let peer = crate::link::PeerConfig {
        id: id("HF-A"),
        address: a.links.address().to_string(),
        compression: None,
    };
    c.reconfigure(&[peer]).unwrap();
    a.peers(&[("HF-C", c.address())]);
    a.recorder.up(1).await;
    let peer = a.links.peer(&id("HF-C")).unwrap();
    // On a task of its own, at once, and when it is looked at first.
    for request in [read(0, 1), write(0, false, 1), write(0, true, 1)] {
        let answer = timeout(LONG, peer.request(request)).await.unwrap();
        let code = crate::link::FailureCode::Internal;
        assert!(matches!(answer, Ok(Response::Failed { code: told, .. }) if told == code));
    }
    assert_eq!(recorder.seen().len(), 1, "the connection is up still");
}
