//! The queue on disk: async writes that the link does not carry yet.

use std::task::{Context, Poll, Waker};

use target_core::disk::Disk;

use super::*;
use crate::remote::Queue;

/// Nothing here takes as long, whatever else the machine does.
const LONG: Duration = Duration::from_secs(60);
/// Bytes of one write.
const WRITE: usize = 4096;
/// Bytes on their way from which on writes go to the file: what two writes count.
const ON_THE_WAY: u64 = 2 * 4096;
/// So many writes fit into the file, about, before hosts wait.
const FIT: usize = 24;
/// Bytes of the file; no multiple of what a write takes.
const SIZE_OF_QUEUE: u64 = (FIT * (WRITE + 48) * 2) as u64 + 1001;

/// Two systems whose volumes 1 and 2 are async pairs, and a queue on disk at the near one.
struct Queued {
    systems: Systems,
    /// Of the queue's file.
    faults: Arc<Faults>,
    disk: Arc<Disk>,
}

impl Queued {
    async fn new() -> Self {
        let tuning = Tuning {
            on_the_way: ON_THE_WAY,
            ..Tuning::default()
        };
        let systems = Systems::with_near(Rig::tuned(2, tuning));
        let (media, faults) = MemoryMedia::with_faults(SIZE_OF_QUEUE);
        let disk = Disk::new("queue", Arc::new(media));
        let queued = Self {
            systems,
            faults,
            disk,
        };
        queued.set(true).unwrap();
        for number in [1, 2] {
            let remote = Some((id("HF-B"), CopyMode::Async));
            let establish = OutVerb::Establish { remote };
            let near = &queued.systems.near;
            near.out(establish, Flags::default(), &[(number, number)])
                .await
                .unwrap();
            near.await_state((number, number), PairState::Duplex).await;
            // Its region is hot, and writes pass.
            near.write(number, 0, vec![0; WRITE]).await.unwrap();
        }
        queued.until_empty().await;
        queued
    }

    fn set(&self, there: bool) -> Result<(), String> {
        let queue = there.then(|| Queue {
            disk: Arc::clone(&self.disk),
            name: "/the/queue".to_owned(),
        });
        self.systems.near.array.set_queue(&id("HF-B"), queue)
    }

    fn near(&self) -> &Rig {
        &self.systems.near
    }

    fn hold(&self, hold: bool) {
        for faults in &self.systems.far.faults {
            faults.hold_writes(hold);
        }
    }

    fn bytes(&self) -> u64 {
        self.near().array.queued_on_disk(&id("HF-B")).unwrap().0
    }

    /// Writes this number to a volume; it must not wait.
    fn at_once(&self, number: u32, offset: u64, value: u64) {
        let data = Bytes::from(value.to_le_bytes().repeat(WRITE / 8));
        let written = self.near().volume(number).try_write(offset, &data, false);
        if matches!(written, Fast::Done(Ok(()))) {
            return;
        }
        // Something else is in its way for a moment: the long way.
        let mut write = self.near().volume(number).write(offset, data, false);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..1_000_000 {
            if let Poll::Ready(written) = write.as_mut().poll(&mut context) {
                return written.unwrap();
            }
            std::thread::yield_now();
        }
        panic!("write {value} waits");
    }

    /// Which write the far side has there.
    async fn there(&self, number: u32, offset: u64) -> u64 {
        let media = self.systems.far.media(number).await;
        let at = offset as usize;
        u64::from_le_bytes(media[at..at + 8].try_into().unwrap())
    }

    async fn until_empty(&self) {
        for number in [1, 2] {
            self.near().arrived(number).await;
        }
        assert_eq!(self.bytes(), 0);
    }

    async fn until(&self, done: impl Fn() -> bool) {
        let wait = async {
            while !done() {
                tokio::task::yield_now().await;
            }
        };
        let came = tokio::time::timeout(LONG, wait).await;
        let events = || self.near().array.events().since(0);
        assert!(came.is_ok(), "it does not come: {:#?}", events());
    }

    fn said(&self, what: &str) -> usize {
        let events = self.near().array.events().since(0);
        let says = |text: String| text.contains(what);
        events
            .iter()
            .filter(|record| says(record.event.to_string()))
            .count()
    }

    async fn comes_back(&self) {
        self.hold(false);
        for number in [1, 2] {
            self.near().await_state((number, number), PairState::Duplex).await;
            self.near().arrived(number).await;
            let same = self.near().media(number).await == self.systems.far.media(number).await;
            assert!(same, "the volumes {number} differ");
        }
        assert_eq!(self.bytes(), 0);
    }
}

/// S51: what goes through the file arrives as it was written, and in order over both pairs, many rounds of the file long; hosts never wait.
#[tokio::test(flavor = "multi_thread")]
async fn writes_go_through_the_file_in_order() {
    let queued = Queued::new().await;
    let mut value = 0;
    for round in 0..12 {
        queued.hold(true);
        for _ in 0..FIT / 2 - 1 {
            value += 1;
            // The second always after the first.
            queued.at_once(1, 0, value);
            queued.at_once(2, 0, value);
        }
        assert!(queued.bytes() > 0, "round {round}");
        queued.hold(false);
        while queued.bytes() > 0 {
            let second = queued.there(2, 0).await;
            let first = queued.there(1, 0).await;
            assert!(second <= first, "{second} came before {first}");
            let first = queued.there(1, 0).await;
            let second = queued.there(2, 0).await;
            assert!(first <= second + 1, "{first} came before {second}");
            if round % 2 == 1 && queued.bytes() < SIZE_OF_QUEUE / 4 {
                // The file does not become empty in between, nor so full that hosts wait.
                value += 1;
                queued.at_once(1, 0, value);
                queued.at_once(2, 0, value);
                tokio::task::yield_now().await;
            }
        }
    }
    queued.until_empty().await;
    assert_eq!(queued.near().array.held_writes().0, 0);
    assert_eq!(
        (queued.there(1, 0).await, queued.there(2, 0).await),
        (value, value)
    );
    queued.comes_back().await;
    assert_eq!(queued.said("does not serve"), 0);
    assert_eq!(
        queued.said("go to the queue on disk /the/queue"),
        1,
        "once a minute"
    );
    assert_eq!(queued.said("/the/queue is empty again"), 1);
}

/// Zeros, and writes longer than a request, go through the file like any other.
#[tokio::test(flavor = "multi_thread")]
async fn zeros_keep_their_place() {
    let queued = Queued::new().await;
    queued.hold(true);
    for value in 1..10 {
        queued.at_once(1, 0, value);
        queued
            .near()
            .volume(1)
            .zero(512, 1024, value % 2 == 0, false)
            .await
            .unwrap();
    }
    queued.at_once(1, 1024, 77);
    assert!(queued.bytes() > 0);
    queued.comes_back().await;
    let there = queued.systems.far.media(1).await;
    assert_eq!(there[512..1024], [0; 512]);
    assert_eq!(queued.there(1, 1024).await, 77);
}

/// A host's flush makes this side stable and does not wait for the file; SPLIT does, and so does a comparison.
#[tokio::test(flavor = "multi_thread")]
async fn a_split_finds_all_of_it_at_the_far_side() {
    let queued = Queued::new().await;
    queued.hold(true);
    for value in 1..15 {
        queued.at_once(1, 0, value);
    }
    queued.near().volume(1).flush().await.unwrap();
    assert!(queued.bytes() > 0);
    let split = queued.near().split((1, 1));
    let open = async {
        queued
            .until(|| queued.said("split") > 0 || queued.bytes() > 0)
            .await;
        queued.hold(false);
    };
    tokio::join!(split, open);
    queued.at_once(1, 0, 99);
    assert_eq!(queued.there(1, 0).await, 14, "the image");
    queued.near().establish((1, 1)).await;
    queued.comes_back().await;
}

/// S58: what is in the file when the link goes is marked, nobody waits for it, and it comes back by a copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_link_gives_up_what_is_in_the_file() {
    let queued = Queued::new().await;
    queued.hold(true);
    for value in 1..20 {
        queued.at_once(1, 0, value);
        queued
            .near()
            .volume(2)
            .write((value * 8192) % SIZE, pattern(3, 512).into(), false)
            .await
            .unwrap();
        if queued.bytes() > SIZE_OF_QUEUE / 2 {
            break;
        }
    }
    let waits = tokio::spawn({
        let array = Arc::clone(&queued.near().array);
        async move { array.has_arrived(VolumeNumber(1)).await }
    });
    queued.systems.link(false);
    assert!(waits.await.unwrap().is_err());
    assert_eq!(queued.bytes(), 0);
    queued.near().await_state((1, 1), PairState::Suspended).await;
    queued.at_once(1, 0, 1000);
    queued.hold(false);
    queued.systems.settle().await;
    queued.systems.link(true);
    queued.comes_back().await;
    assert_eq!(queued.there(1, 0).await, 1000);
}

/// Where no write waits, one that does not fit parts the pairs, says why, and they come back by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_parts_the_pairs() {
    let queued = Queued::new().await;
    queued.near().array.set_longest_hold(Duration::ZERO);
    queued.hold(true);
    for value in 1..=3 * FIT as u64 {
        queued.at_once(1, 0, value);
    }
    queued
        .until(|| queued.said("does not serve: the queue on disk /the/queue is full") == 2)
        .await;
    queued.comes_back().await;
    assert_eq!(queued.there(1, 0).await, 3 * FIT as u64);
}

/// Hosts wait when the file is nearly full, and go on when it is not; in vain, the pairs are parted.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_wait_for_a_file_that_is_nearly_full() {
    for patient in [true, false] {
        let queued = Queued::new().await;
        let longest = if patient { LONG } else { Duration::from_millis(50) };
        queued.near().array.set_longest_hold(longest);
        queued.hold(true);
        let writer = tokio::spawn({
            let volume = queued.near().volume(1);
            async move {
                for value in 1..=3 * FIT as u64 {
                    let data = Bytes::from(value.to_le_bytes().repeat(WRITE / 8));
                    Arc::clone(&volume).write(0, data, false).await.unwrap();
                }
            }
        });
        if patient {
            queued.until(|| queued.bytes() > SIZE_OF_QUEUE / 2).await;
            assert!(!writer.is_finished());
            queued.hold(false);
        }
        tokio::time::timeout(LONG, writer)
            .await
            .expect("hosts go on")
            .unwrap();
        queued.comes_back().await;
        assert_eq!(queued.there(1, 0).await, 3 * FIT as u64);
        assert_eq!(queued.said("in vain for the link") > 0, !patient);
        assert!(queued.near().array.held_writes().0 > 0);
    }
}

/// What comes over the link to a volume that follows does not wait for the way back, whose file is full: that may wait for the way here.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_does_not_wait_for_the_way_back() {
    let queued = Queued::new().await;
    let (near, far) = (queued.near(), &queued.systems.far);
    near.out(OutVerb::Swap, Flags::default(), &[(2, 2)])
        .await
        .unwrap();
    far.await_state((2, 2), PairState::Duplex).await;
    queued.hold(true);
    let mut value = 0;
    while queued.bytes() <= SIZE_OF_QUEUE / 2 {
        value += 1;
        queued.at_once(1, 0, value);
    }
    queued.systems.far.faults[1].hold_writes(false);
    far.write(2, 0, pattern(7, WRITE)).await.unwrap();
    far.arrived(2).await;
    assert!(near.media(2).await[..WRITE] == pattern(7, WRITE)[..]);
    assert!(queued.bytes() > SIZE_OF_QUEUE / 2);
    assert_eq!(queued.said("in vain"), 0);
    queued.hold(false);
    near.arrived(1).await;
    assert_eq!(queued.there(1, 0).await, value);
    assert_eq!(near.array.held_writes().0, 0);
}

/// A file that cannot be written, cannot be read, or holds something else parts the pairs, by its name; nothing wrong is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_parts_the_pairs() {
    for fault in ["write", "read", "content"] {
        let queued = Queued::new().await;
        queued.hold(true);
        if fault == "write" {
            queued.faults.fail_writes(0..SIZE_OF_QUEUE);
        }
        for value in 1..8 {
            queued.at_once(1, 0, value);
        }
        match fault {
            "read" => queued.faults.fail_reads(0..SIZE_OF_QUEUE),
            "content" => {
                let size = SIZE_OF_QUEUE as usize;
                let bad = vec![0x55; size];
                queued.disk.media().write_at(0, &bad, false).unwrap();
            }
            _ => {}
        }
        queued.hold(false);
        queued
            .until(|| queued.said("does not serve: the queue on disk /the/queue: ") == 2)
            .await;
        queued.faults.heal();
        queued.comes_back().await;
        assert_eq!(queued.there(1, 0).await, 7, "{fault}");
    }
}

/// The queue changes while it is empty only; the pairs' other half may go, and the array stop, whatever is in it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_hangs_on_what_is_in_the_file() {
    let queued = Queued::new().await;
    let near = queued.near();
    queued.hold(true);
    for value in 1..15 {
        queued.at_once(1, 0, value);
        queued.at_once(2, 8192, value);
    }
    let refused = queued.set(false).unwrap_err();
    assert!(refused.contains("it can change when it is empty"), "{refused}");
    let force = Flags {
        force: true,
        ..Flags::default()
    };
    let cancel = near.out(OutVerb::Cancel, force, &[(1, 1)]);
    tokio::time::timeout(LONG, cancel)
        .await
        .expect("it does not hang")
        .unwrap();
    assert!(queued.bytes() > 0, "the other's is there still");
    queued.hold(false);
    near.arrived(2).await;
    assert_eq!(queued.there(2, 8192).await, 14);
    queued.until(|| queued.bytes() == 0).await;
    queued.set(false).unwrap();
    assert_eq!(near.array.queued_on_disk(&id("HF-B")), None);
    queued.set(true).unwrap();
    queued.hold(true);
    for value in 1..15 {
        queued.at_once(2, 0, value);
    }
    assert!(queued.bytes() > 0);
    tokio::time::timeout(LONG, near.array.abandon())
        .await
        .expect("it stops");
}
