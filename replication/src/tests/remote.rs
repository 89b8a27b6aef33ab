//! Remote pairs: two arrays in one process, over a wire that can be cut.

mod again;
mod answers;
mod chaos;
mod deep;
mod late;
mod losses;
mod made;
mod pacing;
mod passing;
mod policy;
mod queue;
mod several;
mod swapping;
mod three;

use std::{
    pin::Pin,
    sync::{
        Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use link_proto::{Action, Request, Response};
use target_core::scsi_model::control::CopyMode;
use tokio::sync::{mpsc, oneshot, watch};

use super::*;
use crate::lock;
use crate::remote::{NoPath, PathFuture, Paths};

/// The way from one array to the other.
struct Wire {
    peer: SystemId,
    up: Arc<AtomicBool>,
    cuts: watch::Receiver<()>,
    requests: mpsc::UnboundedSender<Arriving>,
    /// Bytes of data that were sent, and asked for.
    counts: [Arc<AtomicU64>; 2],
    swallows: Swallows,
    serving: Weak<()>,
}

/// A request on its way; the last is held until it is served, or dropped.
type Arriving = (Request, oneshot::Sender<Response>, Option<Arc<()>>);

/// Orders of these kinds are not answered, nor, if that is true, carried out; and the link stays up.
type Swallows = Arc<Mutex<Vec<(Action, bool)>>>;

impl Paths for Wire {
    fn request(&self, peer: &SystemId, request: Request) -> PathFuture {
        assert_eq!(*peer, self.peer);
        let gone = || NoPath("the wire is cut".to_owned());
        let mut cuts = self.cuts.clone();
        cuts.mark_unchanged();
        if !self.is_up(peer) {
            return Box::pin(std::future::ready(Err(gone())));
        }
        match &request {
            Request::Write { data, .. } => self.counts[0].fetch_add(data.len() as u64, Ordering::Relaxed),
            Request::Read { length, .. } => self.counts[1].fetch_add(u64::from(*length), Ordering::Relaxed),
            _ => 0,
        };
        let swallow = match &request {
            Request::Pair(order) => {
                let swallows = lock(&self.swallows);
                swallows
                    .iter()
                    .find(|(action, _)| *action == order.action)
                    .copied()
            }
            _ => None,
        };
        let (answer, answered) = oneshot::channel();
        if !matches!(swallow, Some((_, true))) {
            let _ = self.requests.send((request, answer, self.serving.upgrade()));
        }
        Box::pin(async move {
            if swallow.is_some() {
                let _ = answered.await;
                return Err(gone());
            }
            tokio::select! {
                biased;
                _ = cuts.changed() => Err(gone()),
                response = answered => response.map_err(|_| gone()),
            }
        })
    }

    fn knows(&self, peer: &SystemId) -> bool {
        *peer == self.peer
    }

    fn is_up(&self, _: &SystemId) -> bool {
        self.up.load(Ordering::Acquire)
    }
}

/// The array that a system has now.
type Slot = Arc<Mutex<Weak<Array>>>;

type Turn = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What arrives at an array, in order; `beside`: what is not ordered does not wait for what is, as over a link.
fn serve(array: Slot, from: SystemId, beside: Arc<AtomicBool>) -> mpsc::UnboundedSender<Arriving> {
    let (requests, mut arriving) = mpsc::unbounded_channel::<Arriving>();
    let (lane, mut turns) = mpsc::unbounded_channel::<Turn>();
    tokio::spawn(async move {
        while let Some(turn) = turns.recv().await {
            turn.await;
        }
    });
    tokio::spawn(async move {
        while let Some((request, answer, served)) = arriving.recv().await {
            let Some(array) = lock(&array).upgrade() else {
                continue;
            };
            let ordered = request.ordered();
            let serving = array.serve(&from, 7, request);
            let end = async move {
                let _ = answer.send(serving.await);
                drop(served);
            };
            if !ordered {
                tokio::spawn(end);
            } else if beside.load(Ordering::Acquire) {
                let _ = lane.send(Box::pin(end));
            } else {
                end.await;
            }
        }
    });
    requests
}

/// Two systems.
struct Systems {
    near: Rig,
    far: Rig,
    /// Where the other's requests arrive.
    slots: [Slot; 2],
    up: Arc<AtomicBool>,
    cuts: watch::Sender<()>,
    /// Bytes of data that went over the wires, by writes and by reads.
    written: Arc<AtomicU64>,
    read: Arc<AtomicU64>,
    swallows: Swallows,
    /// One for each request that is not served yet, and this.
    serving: Arc<()>,
    /// Of [`serve`].
    beside: Arc<AtomicBool>,
}

fn id(text: &str) -> SystemId {
    SystemId::new(text).unwrap()
}

impl Systems {
    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// The first has these limits.
    fn with_limits(limits: Limits) -> Self {
        Self::with_near(Rig::with_limits(2, limits))
    }

    fn with_near(near: Rig) -> Self {
        let mut far = Rig::new(2);
        far.array = Array::open(
            far.state.path().join("b").as_path(),
            id("HF-B"),
            TRACK,
            far.plain.clone(),
        )
        .unwrap();
        let systems = Self {
            near,
            far,
            slots: Default::default(),
            up: Arc::new(AtomicBool::new(true)),
            cuts: watch::Sender::new(()),
            written: Arc::default(),
            read: Arc::default(),
            swallows: Swallows::default(),
            serving: Arc::default(),
            beside: Arc::default(),
        };
        systems.connect_near();
        systems.connect_far();
        systems
    }

    fn connect_near(&self) {
        *lock(&self.slots[0]) = Arc::downgrade(&self.near.array);
        self.near.array.connect(self.wire("HF-A", "HF-B", 1));
    }

    fn connect_far(&self) {
        *lock(&self.slots[1]) = Arc::downgrade(&self.far.array);
        self.far.array.connect(self.wire("HF-B", "HF-A", 0));
    }

    fn wire(&self, from: &str, to: &str, there: usize) -> Arc<Wire> {
        Arc::new(Wire {
            peer: id(to),
            up: Arc::clone(&self.up),
            cuts: self.cuts.subscribe(),
            requests: serve(Arc::clone(&self.slots[there]), id(from), Arc::clone(&self.beside)),
            counts: [Arc::clone(&self.written), Arc::clone(&self.read)],
            swallows: Arc::clone(&self.swallows),
            serving: Arc::downgrade(&self.serving),
        })
    }

    fn link(&self, up: bool) {
        self.up.store(up, Ordering::Release);
        if !up {
            self.cuts.send_replace(());
        }
        for (rig, peer) in [(&self.near, "HF-B"), (&self.far, "HF-A")] {
            if up {
                rig.array.link_found();
            } else {
                rig.array.link_lost(&id(peer), "it was cut");
            }
        }
    }

    /// Until everything is served that arrived over the link before it was cut: only then a link comes up again.
    async fn settle(&self) {
        while Arc::strong_count(&self.serving) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The link is back, and so is the near array.
    fn connect_anew(&self) {
        self.up.store(true, Ordering::Release);
        self.far.array.link_found();
        self.near.array.link_found();
    }

    async fn remote(mode: CopyMode) -> Self {
        Self::new().paired(mode).await
    }

    /// With a pair that is equal.
    async fn paired(self, mode: CopyMode) -> Self {
        let systems = self;
        systems.near.write(1, 0, pattern(1, 1 << 20)).await.unwrap();
        systems.establish(mode).await.unwrap();
        systems.near.await_state((1, 1), PairState::Duplex).await;
        systems.far.await_state((1, 1), PairState::Duplex).await;
        systems
    }

    async fn establish(&self, mode: CopyMode) -> Result<Reply, Refusal> {
        let remote = Some((id("HF-B"), mode));
        self.near
            .out(OutVerb::Establish { remote }, Flags::default(), &[(1, 1)])
            .await
    }

    /// Both volumes 1 hold the same.
    async fn check_equal(&self) {
        assert!(
            self.near.media(1).await == self.far.media(1).await,
            "the volumes differ"
        );
    }

    async fn again(&self) {
        self.near
            .out(OutVerb::Establish { remote: None }, Flags::default(), &[(1, 1)])
            .await
            .unwrap();
    }
}

const NOT_READY: IoError = IoError::NotReady;

/// S50, S51, S54, S55: the pair is on both systems, writes go to both, hosts of the far one wait.
#[tokio::test(flavor = "multi_thread")]
async fn writes_reach_both_systems() {
    let systems = Systems::remote(CopyMode::Sync).await;
    systems.check_equal().await;
    systems.near.write(1, 8192, pattern(2, 65_536)).await.unwrap();
    systems.check_equal().await;
    assert_eq!(systems.far.read(1, 0, 512).await.unwrap_err(), NOT_READY);
    assert_eq!(
        systems.far.write(1, 0, pattern(3, 512)).await.unwrap_err(),
        NOT_READY
    );
    let (here, there) = (systems.near.pair((1, 1)).await, systems.far.pair((1, 1)).await);
    assert_eq!(
        (here.peer, here.role, here.link_up),
        (Some(id("HF-B")), 1, Some(true))
    );
    assert_eq!((there.peer, there.role), (Some(id("HF-A")), 2));
    assert_eq!((here.mirror, there.primary), (VolumeNumber(1), VolumeNumber(1)));
}

/// S52, S53: the far volume has its own mirror, which is split there while the remote pair goes on.
#[tokio::test(flavor = "multi_thread")]
async fn the_far_volume_has_mirrors_of_its_own() {
    let systems = Systems::new();
    systems.establish(CopyMode::Sync).await.unwrap();
    systems.far.await_state((1, 1), PairState::Duplex).await;
    systems.far.establish((1, 2)).await;
    systems.far.await_state((1, 2), PairState::Duplex).await;
    systems.near.write(1, 0, pattern(5, 8192)).await.unwrap();
    systems.far.split((1, 2)).await;
    systems.near.write(1, 0, pattern(6, 8192)).await.unwrap();
    assert_eq!(systems.far.read(2, 0, 8192).await.unwrap(), pattern(5, 8192));
    systems.check_equal().await;
}

/// S58, S84: a lost link suspends the pair, the host goes on, and what changed is sent when the link is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_link_is_made_good() {
    for mode in [CopyMode::Sync, CopyMode::Async] {
        let systems = Systems::remote(mode).await;
        systems.link(false);
        systems.near.write(1, 1 << 20, pattern(7, 65_536)).await.unwrap();
        systems.near.await_state((1, 1), PairState::Suspended).await;
        assert_eq!(
            systems.far.read(1, 0, 512).await.unwrap_err(),
            NOT_READY,
            "nobody took over"
        );
        systems.link(true);
        systems.near.await_state((1, 1), PairState::Duplex).await;
        systems.check_equal().await;
    }
}

/// Where no write waits, more than may be on its way parts all async pairs to that system at once: what is there stays the beginning of what was written, over all
/// of them. They come back by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn too_much_on_its_way_parts_the_whole_group() {
    let systems = Systems::remote(CopyMode::Async).await;
    let establish = OutVerb::Establish {
        remote: Some((id("HF-B"), CopyMode::Async)),
    };
    let near = &systems.near;
    near.array.set_longest_hold(Duration::ZERO);
    near.out(establish, Flags::default(), &[(2, 2)]).await.unwrap();
    near.await_state((2, 2), PairState::Duplex).await;
    systems.far.faults[0].hold_writes(true);
    let told = || {
        let events = near.array.events().since(0);
        let parted = |event: &str| event.contains("does not serve: more than");
        events
            .iter()
            .filter(|record| parted(&record.event.to_string()))
            .count()
    };
    for byte in 0..=64 {
        assert_eq!(told(), 0, "after {byte} MiB");
        near.write(1, 0, pattern(byte, 1 << 20)).await.unwrap();
    }
    near.write(2, 0, pattern(9, 8192)).await.unwrap();
    tokio::time::timeout(SOON, async {
        while told() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    // It waits behind all that was written before, as part of a copy.
    assert_ne!(systems.far.media(2).await[..8192], pattern(9, 8192)[..]);
    systems.far.faults[0].hold_writes(false);
    for number in [1, 2] {
        near.await_state((number, number), PairState::Duplex).await;
        near.arrived(number).await;
        assert!(near.media(number).await == systems.far.media(number).await);
    }
}

/// A peer that is started anew between two looks is not taken for the one that was there: what it lost is copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_lost_for_a_moment_is_compared_anew() {
    let mut systems = Systems::remote(CopyMode::Sync).await;
    systems.near.write(1, 0, pattern(8, 65_536)).await.unwrap();
    systems.link(false);
    systems.far.array.abandon().await;
    // A loss of power: what was not flushed there is gone.
    let disk = Arc::clone(systems.far.plain[0].disk());
    disk.write(0, vec![0; 65_536].into(), false).await.unwrap();
    let state = systems.far.state.path().join("b");
    systems.far.array = Array::open(&state, id("HF-B"), TRACK, systems.far.plain.clone()).unwrap();
    systems.connect_far();
    systems.link(true);
    systems.near.await_state((1, 1), PairState::Duplex).await;
    systems.check_equal().await;
}

/// S56, S74, S76: both sides are written while they are apart; the union is copied, in the direction asked for.
#[tokio::test(flavor = "multi_thread")]
async fn the_union_is_copied_either_way() {
    let systems = Systems::remote(CopyMode::Sync).await;
    systems.near.split((1, 1)).await;
    systems.far.await_state((1, 1), PairState::Split).await;
    systems.near.write(1, 0, pattern(8, 8192)).await.unwrap();
    systems.far.write(1, 32_768, pattern(9, 8192)).await.unwrap();
    systems
        .near
        .out(
            OutVerb::Restore,
            Flags {
                protected: true,
                ..Flags::default()
            },
            &[(1, 1)],
        )
        .await
        .unwrap();
    assert_eq!(
        systems.near.read(1, 0, 8192).await.unwrap(),
        pattern(1, 1 << 20)[..8192]
    );
    assert_eq!(
        systems.near.read(1, 32_768, 8192).await.unwrap(),
        pattern(9, 8192)
    );
    systems.near.await_state((1, 1), PairState::Split).await;
    systems.check_equal().await;
    systems.far.await_state((1, 1), PairState::Split).await;
    systems.near.write(1, 0, pattern(10, 8192)).await.unwrap();
    systems.far.write(1, 65_536, pattern(11, 8192)).await.unwrap();
    systems.again().await;
    systems.near.await_state((1, 1), PairState::Duplex).await;
    systems.check_equal().await;
    assert_eq!(
        systems.near.read(1, 65_536, 8192).await.unwrap(),
        pattern(1, 1 << 20)[65_536..73_728]
    );
}

/// A RESTORE that is not protected: both follow until it is equal.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_over_the_link() {
    let systems = Systems::remote(CopyMode::Async).await;
    systems.near.split((1, 1)).await;
    systems.far.await_state((1, 1), PairState::Split).await;
    systems.near.write(1, 0, pattern(8, 65_536)).await.unwrap();
    systems
        .near
        .out(OutVerb::Restore, Flags::default(), &[(1, 1)])
        .await
        .unwrap();
    systems.near.write(1, 1 << 20, pattern(9, 8192)).await.unwrap();
    systems.near.await_state((1, 1), PairState::Restored).await;
    assert_eq!(
        systems.near.read(1, 0, 1 << 20).await.unwrap(),
        pattern(1, 1 << 20)
    );
    // What is on its way in async mode arrives.
    systems.near.arrived(1).await;
    systems.check_equal().await;
}

/// S70, S71, S73, S74, S79: the follower's host splits, writes, and has the leader restored; a primary that is in use is spared.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_commanded_where_the_pair_is_followed() {
    let systems = Systems::remote(CopyMode::Async).await;
    let at_far = |verb| systems.far.out(verb, Flags::default(), &[(1, 1)]);
    at_far(OutVerb::Split).await.unwrap();
    systems.far.await_state((1, 1), PairState::Split).await;
    systems.near.await_state((1, 1), PairState::Split).await;
    systems.far.write(1, 65_536, pattern(9, 8192)).await.unwrap();
    systems.near.write(1, 0, pattern(8, 512)).await.unwrap();
    let refused = at_far(OutVerb::Restore).await.unwrap_err();
    assert!(
        refused.message.contains("written since the pair was split"),
        "{refused:?}"
    );
    systems.near.await_state((1, 1), PairState::Split).await;
    // The far side's write is given up, and the near one's goes over.
    at_far(OutVerb::Establish { remote: None }).await.unwrap();
    systems.near.await_state((1, 1), PairState::Duplex).await;
    systems.far.await_state((1, 1), PairState::Duplex).await;
    systems.check_equal().await;
    assert_eq!(systems.near.read(1, 0, 512).await.unwrap(), pattern(8, 512));
    at_far(OutVerb::Split).await.unwrap();
    systems.far.await_state((1, 1), PairState::Split).await;
    systems.far.write(1, 65_536, pattern(9, 8192)).await.unwrap();
    at_far(OutVerb::Restore).await.unwrap();
    systems.near.await_state((1, 1), PairState::Restored).await;
    systems.far.await_state((1, 1), PairState::Duplex).await;
    assert_eq!(
        systems.near.read(1, 65_536, 8192).await.unwrap(),
        pattern(9, 8192)
    );
    systems.check_equal().await;
    systems.link(false);
    let refused = at_far(OutVerb::Split).await.unwrap_err();
    assert!(refused.message.contains("is down"), "{refused:?}");
}

/// S58: takeover with the peer and back again; only the differences go over the link.
#[tokio::test(flavor = "multi_thread")]
async fn parts_change_together_and_back() {
    let systems = Systems::remote(CopyMode::Sync).await;
    systems
        .near
        .out(OutVerb::Swap, Flags::default(), &[(1, 1)])
        .await
        .unwrap();
    assert_eq!(
        systems.near.write(1, 0, pattern(2, 512)).await.unwrap_err(),
        NOT_READY
    );
    systems.far.write(1, 0, pattern(3, 8192)).await.unwrap();
    systems.far.await_state((1, 1), PairState::Duplex).await;
    systems.far.write(1, 8192, pattern(4, 8192)).await.unwrap();
    systems.check_equal().await;
    systems
        .near
        .out(OutVerb::Swap, Flags::default(), &[(1, 1)])
        .await
        .unwrap();
    systems.near.write(1, 0, pattern(5, 8192)).await.unwrap();
    systems.near.await_state((1, 1), PairState::Duplex).await;
    systems.check_equal().await;
}

/// S58: takeover without the peer. Nothing was written there since: it follows when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_alone_is_followed_when_nothing_is_lost() {
    let systems = Systems::remote(CopyMode::Sync).await;
    // A quiet primary, with nothing that only it may have.
    systems.near.array.shutdown().await;
    systems.link(false);
    let force = Flags {
        force: true,
        ..Flags::default()
    };
    let early = systems.far.out(OutVerb::Swap, Flags::default(), &[(1, 1)]).await;
    assert!(early.is_err(), "the peer is not there");
    systems.far.out(OutVerb::Swap, force, &[(1, 1)]).await.unwrap();
    systems.far.write(1, 0, pattern(9, 8192)).await.unwrap();
    let mut systems = systems;
    systems.near.array = open(systems.near.state.path(), &systems.near.plain);
    systems.connect_near();
    assert_eq!(systems.far.pair((1, 1)).await.state, PairState::Suspended.code());
    systems.connect_anew();
    systems.far.await_state((1, 1), PairState::Duplex).await;
    systems.check_equal().await;
    assert_eq!(systems.near.pair((1, 1)).await.role, 2);
    assert_eq!(systems.near.read(1, 0, 512).await.unwrap_err(), NOT_READY);
}

/// S60, S61, S62, S63, S64, S65, S66, S67, S52, claim 1: a backup at the far site by a command given here, while writes go on. The remote pair is never broken.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_taken_at_the_far_site() {
    for mode in [CopyMode::Sync, CopyMode::Async] {
        let systems = Systems::remote(mode).await;
        systems.far.establish((1, 2)).await;
        systems.far.await_state((1, 2), PairState::Duplex).await;
        let remote = Flags {
            remote: true,
            ..Flags::default()
        };
        for round in 0..3 {
            systems
                .near
                .write(1, 0, pattern(50 + round, 65_536))
                .await
                .unwrap();
            let backup = systems.near.out(OutVerb::Split, remote, &[(1, 2)]);
            let writes = async {
                for block in 0..40_u64 {
                    let data = pattern(100 + round, 8192);
                    systems
                        .near
                        .write(1, (1 << 20) + block * 8192, data)
                        .await
                        .unwrap();
                    assert_ne!(systems.near.pair((1, 1)).await.state, PairState::Split.code());
                    tokio::task::yield_now().await;
                }
            };
            let (done, ()) = tokio::join!(backup, writes);
            done.unwrap();
            systems.near.write(1, 0, pattern(90, 65_536)).await.unwrap();
            // A mirror that was apart is ready when it has what it is owed of the image.
            systems.far.await_state((1, 2), PairState::Split).await;
            assert_eq!(
                systems.far.read(2, 0, 65_536).await.unwrap(),
                pattern(50 + round, 65_536),
                "round {round}: the image is that of the command"
            );
            systems.near.await_state((1, 1), PairState::Duplex).await;
            systems.near.arrived(1).await;
            systems.check_equal().await;
        }
        let told = |what: &str| {
            let events = systems.near.array.events().since(0).into_iter();
            events
                .filter(|told| told.event.to_string().contains(what))
                .count()
        };
        assert_eq!((told("held back"), told("split")), (3, 0));
    }
}

/// A backup that the peer refuses holds nothing back and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_refused_changes_nothing() {
    let systems = Systems::remote(CopyMode::Sync).await;
    let remote = Flags {
        remote: true,
        ..Flags::default()
    };
    let refused = systems
        .near
        .out(OutVerb::Split, remote, &[(1, 2)])
        .await
        .unwrap_err();
    assert!(refused.message.contains("not a mirror"), "{refused:?}");
    assert_eq!(systems.near.pair((1, 1)).await.state, PairState::Duplex.code());
    systems.link(false);
    let refused = systems
        .near
        .out(OutVerb::Split, remote, &[(1, 2)])
        .await
        .unwrap_err();
    assert!(refused.message.contains("down"), "{refused:?}");
}

/// Both sides wrote: nobody guesses.
#[tokio::test(flavor = "multi_thread")]
async fn both_sides_written_is_a_conflict() {
    let systems = Systems::remote(CopyMode::Sync).await;
    systems.link(false);
    systems.near.write(1, 0, pattern(8, 8192)).await.unwrap();
    let force = Flags {
        force: true,
        ..Flags::default()
    };
    systems.far.out(OutVerb::Swap, force, &[(1, 1)]).await.unwrap();
    systems.far.write(1, 65_536, pattern(9, 8192)).await.unwrap();
    systems.link(true);
    let told = async {
        loop {
            let events = systems.near.array.events().since(0);
            if events
                .iter()
                .any(|event| event.event.to_string().contains("took over"))
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, told).await.unwrap();
    for rig in [&systems.near, &systems.far] {
        assert_eq!(rig.pair((1, 1)).await.state, PairState::Suspended.code());
    }
    // The near side is given up.
    systems.near.out(OutVerb::Cancel, force, &[(1, 1)]).await.unwrap();
    systems.far.out(OutVerb::Cancel, force, &[(1, 1)]).await.unwrap();
    let remote = Some((id("HF-A"), CopyMode::Sync));
    systems
        .far
        .out(OutVerb::Establish { remote }, Flags::default(), &[(1, 1)])
        .await
        .unwrap();
    systems.far.await_state((1, 1), PairState::Duplex).await;
    systems.check_equal().await;
    assert_eq!(systems.near.pair((1, 1)).await.role, 2);
}

/// Refusals name what is wrong, and change nothing on either side.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_on_both_sides() {
    let systems = Systems::new();
    let make = |peer: &str, far| {
        let remote = Some((id(peer), CopyMode::Sync));
        let near = &systems.near;
        async move {
            near.out(OutVerb::Establish { remote }, Flags::default(), &[(1, far)])
                .await
                .unwrap_err()
        }
    };
    for (refusal, word) in [
        (make("HF-X", 1).await, "configured"),
        (make("HF-B", 9).await, "no volume 9"),
    ] {
        assert!(refusal.message.contains(word), "{refusal:?}");
    }
    systems.link(false);
    assert!(make("HF-B", 1).await.message.contains("down"));
    for rig in [&systems.near, &systems.far] {
        assert!(rig.array.remote_pairs().is_empty() && rig.array.pairs().is_empty());
    }
    systems.link(true);
    systems.establish(CopyMode::Sync).await.unwrap();
    let there = systems
        .far
        .out(OutVerb::Suspend, Flags::default(), &[(1, 1)])
        .await
        .unwrap_err();
    assert!(there.message.contains("HF-A leads"), "{there:?}");
    systems
        .near
        .out(OutVerb::Cancel, Flags::default(), &[(1, 1)])
        .await
        .unwrap();
    for rig in [&systems.near, &systems.far] {
        assert!(rig.array.remote_pairs().is_empty() && rig.array.pairs().is_empty());
    }
    systems.far.write(1, 0, pattern(1, 512)).await.unwrap();
}

/// Both systems die, at any moment, and come back: the pair is as it was, and becomes equal.
#[tokio::test(flavor = "multi_thread")]
async fn both_systems_come_back() {
    let mut systems = Systems::remote(CopyMode::Sync).await;
    systems.near.write(1, 0, pattern(8, 65_536)).await.unwrap();
    systems.near.array.abandon().await;
    systems.far.array.abandon().await;
    systems.near.array = open(systems.near.state.path(), &systems.near.plain);
    let state = systems.far.state.path().join("b");
    systems.far.array = Array::open(&state, id("HF-B"), TRACK, systems.far.plain.clone()).unwrap();
    assert_eq!(systems.near.pair((1, 1)).await.state, PairState::Suspended.code());
    assert_eq!(systems.far.read(1, 0, 512).await.unwrap_err(), NOT_READY);
    systems.connect_near();
    systems.connect_far();
    systems.near.await_state((1, 1), PairState::Duplex).await;
    systems.check_equal().await;
    systems.near.write(1, 0, pattern(9, 8192)).await.unwrap();
    systems.check_equal().await;
}
