use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::*;

/// Nothing in these tests takes as long.
const NEVER: Patience = Patience {
    longest: Duration::from_secs(3600),
    standstill: Duration::from_secs(3600),
};

type Wait = Pin<Box<dyn Future<Output = Result<Option<Turn>, Vain>> + Send>>;

fn wait(room: &Arc<Room>, bytes: u64, line: Line) -> Wait {
    let room = Arc::clone(room);
    Box::pin(async move { room.wait(bytes, line, NEVER).await })
}

fn poll(wait: &mut Wait) -> Option<Turn> {
    match wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => None,
        Poll::Ready(turn) => Some(turn.expect("nobody gives up").expect("it is a turn")),
    }
}

/// What the one whose turn it is does then.
fn go(room: &Room, turn: Turn) {
    room.take(turn.bytes);
    drop(turn);
}

#[tokio::test]
async fn who_comes_first_goes_first_and_nobody_too_many() {
    let room = Room::new(100);
    assert!(room.is_free());
    room.take(100);
    assert!(!room.is_free());
    let mut waits: Vec<_> = (0..4).map(|_| wait(&room, 40, Line::Hosts)).collect();
    assert!(waits.iter_mut().all(|wait| poll(wait).is_none()));
    room.give_back(50);
    // 50 and twice 40 are enough again.
    let turns: Vec<_> = waits.iter_mut().take(2).map(|wait| poll(wait).unwrap()).collect();
    assert!(waits[2..].iter_mut().all(|wait| poll(wait).is_none()));
    assert!(!room.is_free(), "nobody overtakes those who wait");
    for turn in turns {
        go(&room, turn);
    }
    assert_eq!(room.taken(), 130);
    assert!(waits[2..].iter_mut().all(|wait| poll(wait).is_none()));
    room.give_back(130);
    let last: Vec<_> = waits[2..].iter_mut().map(|wait| poll(wait).unwrap()).collect();
    drop(last);
    assert!(room.is_free());
}

/// A turn that comes to nothing, and a wait that is given up, are another's.
#[tokio::test]
async fn what_is_given_up_is_anothers() {
    let room = Room::new(10);
    room.take(10);
    let mut waits: Vec<_> = (0..4).map(|_| wait(&room, 10, Line::Hosts)).collect();
    assert!(waits.iter_mut().all(|wait| poll(wait).is_none()));
    room.give_back(10);
    let first = poll(&mut waits[0]).unwrap();
    assert!(poll(&mut waits[1]).is_none());
    // It is never polled again.
    drop(waits.remove(1));
    drop(first);
    let third = poll(&mut waits[1]).unwrap();
    assert!(poll(&mut waits[2]).is_none());
    drop(third);
    // Its turn has come, and it does not know yet.
    drop(waits.remove(2));
    assert!(room.is_free());
}

#[tokio::test]
async fn hosts_and_copies_go_at_the_same_pace() {
    let room = Room::new(1);
    room.take(1);
    let hosts = (0..40).map(|_| wait(&room, 4, Line::Hosts));
    let copies = (0..4).map(|_| wait(&room, 16, Line::Copies));
    let mut waits: Vec<_> = hosts.chain(copies).collect();
    assert!(waits.iter_mut().all(|wait| poll(wait).is_none()));
    room.give_back(1);
    let (mut by_hosts, mut by_copies) = (0, 0);
    while by_hosts + by_copies < 100 {
        let mut called = Vec::new();
        waits.retain_mut(|wait| {
            poll(wait).is_none_or(|turn| {
                called.push(turn);
                false
            })
        });
        assert_eq!(called.len(), 1, "one at a time");
        match called[0].bytes {
            4 => by_hosts += 4,
            bytes => by_copies += bytes,
        }
    }
    assert!(by_hosts >= 40 && by_copies >= 40, "{by_hosts} and {by_copies}");
}

#[tokio::test]
async fn nobody_waits_where_it_is_closed() {
    let room = Room::new(1);
    room.take(1);
    let early = wait(&room, 1, Line::Hosts);
    let early = tokio::spawn(early);
    tokio::task::yield_now().await;
    room.close();
    assert!(early.await.unwrap().unwrap().is_none());
    assert!(wait(&room, 1, Line::Copies).await.unwrap().is_none());
}

#[tokio::test]
async fn a_wait_has_an_end() {
    let room = Room::new(1);
    room.take(1 << 30);
    let soon = Duration::from_millis(20);
    let nothing_moves = Patience {
        standstill: soon,
        ..NEVER
    };
    let Vain(waited) = room.wait(1, Line::Hosts, nothing_moves).await.unwrap_err();
    assert!(waited >= soon);
    let answering = Arc::clone(&room);
    let moving = tokio::spawn(async move {
        loop {
            answering.give_back(1);
            tokio::task::yield_now().await;
        }
    });
    let too_slow = Patience {
        longest: soon,
        ..NEVER
    };
    let Vain(waited) = room.wait(1, Line::Hosts, too_slow).await.unwrap_err();
    assert!(waited >= soon);
    moving.abort();
}
