//! Three systems: several primaries collected at one secondary, and a chain; and lists with local and remote pairs in them.

use std::collections::BTreeMap;

use super::*;

/// The ways from one array to all others.
struct Ways(BTreeMap<SystemId, Arc<Wire>>);

impl Paths for Ways {
    fn request(&self, peer: &SystemId, request: Request) -> PathFuture {
        self.0[peer].request(peer, request)
    }

    fn knows(&self, peer: &SystemId) -> bool {
        self.0.contains_key(peer)
    }

    fn is_up(&self, peer: &SystemId) -> bool {
        self.0.get(peer).is_some_and(|wire| wire.is_up(peer))
    }
}

const NAMES: [&str; 3] = ["HF-A", "HF-B", "HF-C"];

/// Arrays A, B and C, with a link between each two.
pub(super) struct Three {
    pub(super) rigs: Vec<Rig>,
    slots: Vec<Slot>,
    /// By the two ends, the lower first.
    pub(super) links: BTreeMap<(usize, usize), (Arc<AtomicBool>, watch::Sender<()>)>,
}

impl Three {
    pub(super) fn new(volumes: u32) -> Self {
        let rigs: Vec<Rig> = NAMES
            .iter()
            .map(|name| {
                let mut rig = Rig::new(volumes);
                let state = rig.state.path().join(name);
                rig.array = Array::open(&state, id(name), TRACK, rig.plain.clone()).unwrap();
                rig
            })
            .collect();
        let slots: Vec<Slot> = rigs
            .iter()
            .map(|rig| Arc::new(Mutex::new(Arc::downgrade(&rig.array))))
            .collect();
        let ends = [(0, 1), (0, 2), (1, 2)];
        let link = |ends| (ends, (Arc::new(AtomicBool::new(true)), watch::Sender::new(())));
        let links: BTreeMap<_, _> = ends.into_iter().map(link).collect();
        let three = Self { rigs, slots, links };
        for from in 0..3 {
            three.connect(from);
        }
        three
    }

    fn connect(&self, from: usize) {
        let others = (0..3).filter(|to| *to != from);
        let way = |to: usize| {
            let (up, cuts) = &self.links[&(from.min(to), from.max(to))];
            let wire = Wire {
                peer: id(NAMES[to]),
                up: Arc::clone(up),
                cuts: cuts.subscribe(),
                requests: serve(Arc::clone(&self.slots[to]), id(NAMES[from]), Arc::default()),
                counts: Default::default(),
                swallows: Swallows::default(),
                serving: Weak::new(),
            };
            (id(NAMES[to]), Arc::new(wire))
        };
        let array = &self.rigs[from].array;
        *lock(&self.slots[from]) = Arc::downgrade(array);
        array.connect(Arc::new(Ways(others.map(way).collect())));
    }

    /// Kills a system, and starts it again.
    pub(super) async fn restart(&mut self, system: usize) {
        let rig = &mut self.rigs[system];
        rig.array.abandon().await;
        let state = rig.state.path().join(NAMES[system]);
        rig.array = Array::open(&state, id(NAMES[system]), TRACK, rig.plain.clone()).unwrap();
        self.connect(system);
    }

    pub(super) fn link(&self, one: usize, other: usize, up: bool) {
        let (flag, cuts) = &self.links[&(one, other)];
        flag.store(up, Ordering::Release);
        if !up {
            cuts.send_replace(());
        }
        for (here, there) in [(one, other), (other, one)] {
            if up {
                self.rigs[here].array.link_found();
            } else {
                self.rigs[here].array.link_lost(&id(NAMES[there]), "it was cut");
            }
        }
    }

    /// Makes a remote pair; its handle where it is led.
    pub(super) async fn pair(
        &self,
        (from, primary): (usize, u32),
        (to, mirror): (usize, u32),
        mode: CopyMode,
    ) -> u32 {
        let remote = Some((id(NAMES[to]), mode));
        let establish = OutVerb::Establish { remote };
        let led = &self.rigs[from];
        led.out(establish, Flags::default(), &[(primary, mirror)])
            .await
            .unwrap();
        let pairs = led.array.remote_pairs();
        let made = |pair: &&crate::remote::RemotePair| {
            pair.leads && pair.local.0 == primary && pair.peer == id(NAMES[to]) && pair.far.0 == mirror
        };
        let handle = pairs.iter().find(made).unwrap().foreign;
        led.await_state((primary, handle), PairState::Duplex).await;
        handle
    }
}

/// A writer that touches the volumes 1, 2 and 3 of a system one after another, again and again: an image never has a later write without
/// an earlier one.
pub(super) struct Rounds {
    writing: Arc<AtomicBool>,
    writer: tokio::task::JoinHandle<()>,
}

impl Rounds {
    pub(super) fn begin(rig: &Rig) -> Self {
        let writing = Arc::new(AtomicBool::new(true));
        let go_on = Arc::clone(&writing);
        let volumes = [1, 2, 3].map(|number| rig.volume(number));
        let writer = tokio::spawn(async move {
            let mut round = 0_u32;
            while go_on.load(Ordering::Acquire) {
                round += 1;
                for volume in &volumes {
                    let data = Bytes::from(round.to_le_bytes().repeat(128));
                    Arc::clone(volume).write(0, data, false).await.unwrap();
                }
                tokio::task::yield_now().await;
            }
        });
        Self { writing, writer }
    }

    /// Mirrors of the three, in their order, show one moment.
    pub(super) async fn have_one_instant(mirrors: [(&Rig, u32); 3]) {
        let mut rounds = Vec::new();
        for (rig, volume) in mirrors {
            let data = rig.read(volume, 0, 512).await.unwrap();
            rounds.push(u32::from_le_bytes(data[..4].try_into().unwrap()));
        }
        let ordered = rounds.is_sorted_by(|earlier, later| earlier >= later);
        assert!(ordered && rounds[0] - rounds[2] <= 1, "{rounds:?}");
    }

    pub(super) async fn end(self) {
        self.writing.store(false, Ordering::Release);
        self.writer.await.unwrap();
    }
}

pub(super) const REMOTE: Flags = Flags {
    full: false,
    instant: false,
    protected: false,
    strict_hold: false,
    remote: true,
    force: false,
    checksum: false,
};

/// S83: volumes of two systems are collected at a third, which has mirrors of each; each is split there by itself, by its own system's
/// command, and the link of one is no affair of the other's.
#[tokio::test(flavor = "multi_thread")]
async fn one_system_collects_two_and_splits_each_by_itself() {
    let three = Three::new(4);
    let [a, b, c] = &three.rigs[..] else {
        panic!("there are three")
    };
    let to_c = [
        three.pair((0, 1), (2, 1), CopyMode::Sync).await,
        three.pair((1, 1), (2, 2), CopyMode::Async).await,
    ];
    c.out(
        OutVerb::Establish { remote: None },
        Flags::default(),
        &[(1, 3), (2, 4)],
    )
    .await
    .unwrap();
    c.await_state((1, 3), PairState::Duplex).await;
    c.await_state((2, 4), PairState::Duplex).await;
    a.write(1, 0, pattern(1, 65_536)).await.unwrap();
    b.write(1, 0, pattern(2, 65_536)).await.unwrap();
    a.out(OutVerb::Split, REMOTE, &[(1, 3)]).await.unwrap();
    three.link(0, 2, false);
    b.write(1, 0, pattern(3, 65_536)).await.unwrap();
    b.out(OutVerb::Split, REMOTE, &[(1, 4)]).await.unwrap();
    b.write(1, 0, pattern(4, 65_536)).await.unwrap();
    assert_eq!(c.read(3, 0, 65_536).await.unwrap(), pattern(1, 65_536));
    assert_eq!(c.read(4, 0, 65_536).await.unwrap(), pattern(3, 65_536));
    a.await_state((1, to_c[0]), PairState::Suspended).await;
    a.write(1, 65_536, pattern(5, 65_536)).await.unwrap();
    b.await_state((1, to_c[1]), PairState::Duplex).await;
    three.link(0, 2, true);
    a.await_state((1, to_c[0]), PairState::Duplex).await;
    b.arrived(1).await;
    assert!(a.media(1).await == c.media(1).await);
    assert!(b.media(1).await == c.media(2).await);
    assert_eq!(c.read(3, 65_536, 512).await.unwrap(), [0; 512], "the image stays");
}

/// S53: a chain. What is written at A goes on to C by way of B; either link may be lost, and the middle may be split or take over.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_three_systems() {
    for modes in [
        [CopyMode::Sync, CopyMode::Sync],
        [CopyMode::Async, CopyMode::Async],
        [CopyMode::Sync, CopyMode::Async],
    ] {
        let three = Three::new(2);
        let [a, b, c] = &three.rigs[..] else {
            panic!("there are three")
        };
        a.write(1, 0, pattern(1, 1 << 20)).await.unwrap();
        let a_to_b = three.pair((0, 1), (1, 1), modes[0]).await;
        let b_to_c = three.pair((1, 1), (2, 1), modes[1]).await;
        let equal = async || {
            a.await_state((1, a_to_b), PairState::Duplex).await;
            b.await_state((1, b_to_c), PairState::Duplex).await;
            a.arrived(1).await;
            b.arrived(1).await;
            assert!(a.media(1).await == b.media(1).await);
            assert!(a.media(1).await == c.media(1).await, "{modes:?}");
        };
        a.write(1, 8192, pattern(2, 65_536)).await.unwrap();
        equal().await;
        three.link(1, 2, false);
        a.write(1, 0, pattern(3, 65_536)).await.unwrap();
        b.await_state((1, b_to_c), PairState::Suspended).await;
        three.link(1, 2, true);
        equal().await;
        three.link(0, 1, false);
        a.write(1, 131_072, pattern(4, 65_536)).await.unwrap();
        three.link(0, 1, true);
        equal().await;

        // The two pairs have the same numbers at B: who means one says which.
        let refused = b
            .out(OutVerb::Split, Flags::default(), &[(1, 1)])
            .await
            .unwrap_err();
        assert!(refused.message.contains("several systems"), "{refused:?}");
        b.out(OutVerb::Split, Flags::default(), &[(1, b_to_c)])
            .await
            .unwrap();
        c.await_state((1, 1), PairState::Split).await;
        a.write(1, 0, pattern(5, 65_536)).await.unwrap();
        assert_eq!(c.read(1, 0, 65_536).await.unwrap(), pattern(3, 65_536));
        c.write(1, 262_144, pattern(9, 8192)).await.unwrap();
        b.out(
            OutVerb::Establish { remote: None },
            Flags::default(),
            &[(1, b_to_c)],
        )
        .await
        .unwrap();
        equal().await;

        // B takes A's part, and has two mirrors then.
        a.out(OutVerb::Swap, Flags::default(), &[(1, a_to_b)])
            .await
            .unwrap();
        b.write(1, 0, pattern(6, 65_536)).await.unwrap();
        for pair in b.array.remote_pairs() {
            assert!(pair.leads);
            b.await_state((1, pair.foreign), PairState::Duplex).await;
        }
        b.arrived(1).await;
        assert!(b.media(1).await == a.media(1).await);
        assert!(b.media(1).await == c.media(1).await);
    }
}

/// S57: local and remote pairs of several volumes and systems in one list: one instant, and all or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_local_and_remote_pairs_has_one_instant() {
    let three = Three::new(6);
    let [a, b, c] = &three.rigs[..] else {
        panic!("there are three")
    };
    let to_b = three.pair((0, 1), (1, 1), CopyMode::Sync).await;
    let to_c = three.pair((0, 2), (2, 2), CopyMode::Async).await;
    a.establish((3, 4)).await;
    a.await_state((3, 4), PairState::Duplex).await;
    let list = [(1, to_b), (2, to_c), (3, 4)];
    let rounds = Rounds::begin(a);
    for _ in 0..5 {
        a.out(OutVerb::Split, Flags::default(), &list).await.unwrap();
        b.await_state((1, 1), PairState::Split).await;
        c.await_state((2, 2), PairState::Split).await;
        a.await_state((3, 4), PairState::Split).await;
        Rounds::have_one_instant([(b, 1), (c, 2), (a, 4)]).await;
        let establish = OutVerb::Establish { remote: None };
        a.out(establish, Flags::default(), &list).await.unwrap();
        for (primary, mirror) in list {
            a.await_state((primary, mirror), PairState::Duplex).await;
        }
    }
    rounds.end().await;

    // One link is down: nothing is split, and nothing is established.
    three.link(0, 2, false);
    a.await_state((2, to_c), PairState::Suspended).await;
    let refused = a.out(OutVerb::Split, Flags::default(), &list).await.unwrap_err();
    assert_eq!(refused.member, Some(1), "{refused:?}");
    assert_eq!(a.pair((3, 4)).await.state, PairState::Duplex.code());
    assert_eq!(a.pair((1, to_b)).await.state, PairState::Duplex.code());
    three.link(0, 2, true);
    a.await_state((2, to_c), PairState::Duplex).await;
    let swap = a.out(OutVerb::Swap, Flags::default(), &list).await.unwrap_err();
    assert!(swap.message.contains("by itself"), "{swap:?}");
}

/// Says that a volume is in use.
struct InUse(VolumeNumber);

impl crate::control::HostUse for InUse {
    fn in_use(&self, volume: VolumeNumber) -> Option<String> {
        (volume == self.0).then(|| "a host has reserved it".to_owned())
    }
}

/// A follower that refuses: those that were asked before it have their volumes back, with what is on them.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_a_follower_refuses_changes_nothing() {
    let three = Three::new(4);
    let [a, b, c] = &three.rigs[..] else {
        panic!("there are three")
    };
    let to_b = three.pair((0, 1), (1, 1), CopyMode::Sync).await;
    let to_c = three.pair((0, 2), (2, 2), CopyMode::Sync).await;
    let list = [(1, to_b), (2, to_c)];
    a.out(OutVerb::Split, Flags::default(), &list).await.unwrap();
    b.await_state((1, 1), PairState::Split).await;
    c.await_state((2, 2), PairState::Split).await;
    b.write(1, 0, pattern(7, 8192)).await.unwrap();
    c.array.set_host_use(Arc::new(InUse(VolumeNumber(2))));
    let establish = OutVerb::Establish { remote: None };
    let refused = a.out(establish, Flags::default(), &list).await.unwrap_err();
    assert_eq!(refused.member, Some(1), "{refused:?}");
    b.await_state((1, 1), PairState::Split).await;
    assert_eq!(b.read(1, 0, 8192).await.unwrap(), pattern(7, 8192));
    b.write(1, 8192, pattern(8, 8192)).await.unwrap();
    for (primary, mirror) in list {
        assert_eq!(a.pair((primary, mirror)).await.state, PairState::Split.code());
    }
    // What was written there is known here: a copy brings both sides together.
    let establish = OutVerb::Establish { remote: None };
    a.out(establish, Flags::default(), &[(1, to_b)]).await.unwrap();
    a.await_state((1, to_b), PairState::Duplex).await;
    assert!(a.media(1).await == b.media(1).await);
}

/// S57, S60: a backup at the far site together with a local mirror of a volume that is nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_takes_local_mirrors_at_the_same_instant() {
    let three = Three::new(4);
    let [a, b, _] = &three.rigs[..] else {
        panic!("there are three")
    };
    let to_b = three.pair((0, 1), (1, 1), CopyMode::Sync).await;
    b.establish((1, 2)).await;
    b.await_state((1, 2), PairState::Duplex).await;
    a.establish((3, 4)).await;
    a.await_state((3, 4), PairState::Duplex).await;
    a.write(1, 0, pattern(1, 8192)).await.unwrap();
    a.write(3, 0, pattern(2, 8192)).await.unwrap();
    a.out(OutVerb::Split, REMOTE, &[(1, 2), (3, 4)]).await.unwrap();
    a.write(1, 0, pattern(3, 8192)).await.unwrap();
    a.write(3, 0, pattern(4, 8192)).await.unwrap();
    assert_eq!(b.read(2, 0, 8192).await.unwrap(), pattern(1, 8192));
    assert_eq!(a.read(4, 0, 8192).await.unwrap(), pattern(2, 8192));
    a.await_state((1, to_b), PairState::Duplex).await;
    // The far system refuses: the local mirror is not split.
    a.establish((3, 4)).await;
    a.await_state((3, 4), PairState::Duplex).await;
    let refused = a
        .out(OutVerb::Split, REMOTE, &[(1, 3), (3, 4)])
        .await
        .unwrap_err();
    assert!(refused.message.contains("not a mirror"), "{refused:?}");
    assert_eq!(a.pair((3, 4)).await.state, PairState::Duplex.code());
}
