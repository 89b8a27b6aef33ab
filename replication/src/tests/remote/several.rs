//! A backup of volumes that are mirrored to several systems: one instant, and at all of them or at none, whatever fails.

use std::sync::atomic::AtomicUsize;

use super::{
    three::{REMOTE, Rounds, Three},
    *,
};

/// Volumes 1 and 2 of A, mirrored to volumes 1 and 2 of B and C, which have the mirrors 3 there; and the local pair 3, 4 of A.
struct Backup {
    three: Three,
    /// The remote pairs' handles at A.
    handles: [u32; 2],
}

/// What the command names: mirrors there, and here.
const MEMBERS: [(u32, u32); 3] = [(1, 3), (2, 3), (3, 4)];

impl Backup {
    async fn new() -> Self {
        let three = Three::new(4);
        let handles = [
            three.pair((0, 1), (1, 1), CopyMode::Sync).await,
            three.pair((0, 2), (2, 2), CopyMode::Async).await,
        ];
        for (system, pair) in [(1, (1, 3)), (2, (2, 3)), (0, (3, 4))] {
            three.rigs[system].establish(pair).await;
            three.rigs[system].await_state(pair, PairState::Duplex).await;
        }
        let backup = Self { three, handles };
        backup.is_equal().await;
        backup
    }

    fn rigs(&self) -> [&Rig; 3] {
        [0, 1, 2].map(|system| &self.three.rigs[system])
    }

    async fn take(&self) -> Result<Reply, Refusal> {
        self.three.rigs[0].out(OutVerb::Split, REMOTE, &MEMBERS).await
    }

    /// The remote pairs are, and both sides know: until then a follower splits nothing.
    async fn is_equal(&self) {
        let [a, b, c] = self.rigs();
        for (primary, handle) in [1, 2].into_iter().zip(self.handles) {
            a.await_state((primary, handle), PairState::Duplex).await;
        }
        b.await_state((1, 1), PairState::Duplex).await;
        c.await_state((2, 2), PairState::Duplex).await;
    }

    /// The remote pairs have come back, and nothing is left of the backup to be undone.
    async fn goes_on(&self) {
        let a = &self.three.rigs[0];
        self.is_equal().await;
        let settled = async {
            let done = |pair: &crate::remote::RemotePair| pair.undo.is_none() && !pair.in_backup;
            while !a.array.remote_pairs().iter().all(done) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let settled = tokio::time::timeout(SOON, settled).await;
        assert!(settled.is_ok(), "{:?}", a.array.remote_pairs());
    }

    /// Mirrors at all three systems follow.
    async fn follows(&self) {
        let [a, b, c] = self.rigs();
        b.await_state((1, 3), PairState::Duplex).await;
        c.await_state((2, 3), PairState::Duplex).await;
        a.await_state((3, 4), PairState::Duplex).await;
    }
}

/// The mirror is in use when that is asked for the second time: when the command is done, not when it is tried. Something may happen then.
struct Second<F> {
    asked: AtomicUsize,
    refuses: bool,
    then: F,
}

impl<F: Fn() + Send + Sync + 'static> crate::control::HostUse for Second<F> {
    fn in_use(&self, volume: VolumeNumber) -> Option<String> {
        if volume != VolumeNumber(3) || self.asked.fetch_add(1, Ordering::SeqCst) != 1 {
            return None;
        }
        (self.then)();
        self.refuses.then(|| "a host has reserved it".to_owned())
    }
}

fn second<F: Fn()>(refuses: bool, then: F) -> Arc<Second<F>> {
    Arc::new(Second {
        asked: AtomicUsize::new(0),
        refuses,
        then,
    })
}

/// S57, S60, S65: the image is that of one instant, over three systems, while hosts write; and again over the last one.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_at_several_systems_has_one_instant() {
    let backup = Backup::new().await;
    let [a, b, c] = backup.rigs();
    let rounds = Rounds::begin(a);
    for _ in 0..3 {
        backup.take().await.unwrap();
        let mirrors = [(b, (1, 3)), (c, (2, 3)), (a, (3, 4))];
        for (rig, pair) in mirrors {
            rig.await_state(pair, PairState::Split).await;
        }
        Rounds::have_one_instant(mirrors.map(|(rig, (_, mirror))| (rig, mirror))).await;
        backup.goes_on().await;
        a.establish((3, 4)).await;
        a.await_state((3, 4), PairState::Duplex).await;
    }
    rounds.end().await;
}

/// S49: one system would not do it: nothing is done anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_one_of_several_systems_refuses_changes_nothing() {
    let backup = Backup::new().await;
    let [a, _, c] = backup.rigs();
    let force = Flags {
        force: true,
        ..Flags::default()
    };
    c.out(OutVerb::Cancel, force, &[(2, 3)]).await.unwrap();
    let refused = backup.take().await.unwrap_err();
    assert!(refused.message.contains("not a mirror"), "{refused:?}");
    c.establish((2, 3)).await;
    backup.follows().await;
    backup.three.link(0, 2, false);
    let refused = backup.take().await.unwrap_err();
    assert!(refused.message.contains("HF-C"), "{refused:?}");
    backup.three.link(0, 2, true);
    backup.follows().await;
    backup.goes_on().await;
    assert_eq!(a.pair((3, 4)).await.state, PairState::Duplex.code());
}

/// S57: one system does not do it when the others have: they undo it.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_fails_at_one_of_several_systems_is_undone_at_the_others() {
    let backup = Backup::new().await;
    let [a, b, c] = backup.rigs();
    c.split((2, 3)).await;
    c.write(3, 0, pattern(7, 8192)).await.unwrap();
    c.array.set_host_use(second(true, || ()));
    let refused = backup.take().await.unwrap_err();
    assert!(refused.message.contains("reserved"), "{refused:?}");
    b.await_state((1, 3), PairState::Duplex).await;
    a.await_state((3, 4), PairState::Duplex).await;
    assert_eq!(c.pair((2, 3)).await.state, PairState::Split.code());
    assert_eq!(c.read(3, 0, 8192).await.unwrap(), pattern(7, 8192));
    backup.goes_on().await;
}

/// S57: the link to one system is lost when it splits, or the leader is killed as well: the split is undone when the link is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_answer_is_lost_is_undone_at_all_systems() {
    for killed in [false, true] {
        let mut backup = Backup::new().await;
        let c = backup.rigs()[2];
        // So that the follower asks whether its mirror is in use.
        c.split((2, 3)).await;
        let (up, cuts) = backup.three.links[&(0, 2)].clone();
        c.array.set_host_use(second(false, move || {
            up.store(false, Ordering::Release);
            cuts.send_replace(());
        }));
        backup.take().await.unwrap_err();
        backup.three.link(0, 2, false);
        let c = backup.rigs()[2];
        c.await_state((2, 3), PairState::Split).await;
        let undone = async {
            let open = |pair: &&crate::remote::RemotePair| pair.undo.is_some();
            while backup.rigs()[0].array.remote_pairs().iter().filter(open).count() > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, undone).await.unwrap();
        if killed {
            backup.three.restart(0).await;
        }
        backup.three.link(0, 2, true);
        backup.follows().await;
        backup.goes_on().await;
        backup.take().await.unwrap();
    }
}

/// What was split at the far site by somebody else since is not undone.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_split_is_not_undone() {
    let backup = Backup::new().await;
    let [a, _, c] = backup.rigs();
    backup.take().await.unwrap();
    backup.goes_on().await;
    c.establish((2, 3)).await;
    c.await_state((2, 3), PairState::Duplex).await;
    // Times are told apart by milliseconds.
    tokio::time::sleep(Duration::from_millis(2)).await;
    c.split((2, 3)).await;
    c.write(3, 0, pattern(9, 8192)).await.unwrap();
    let pair = a
        .array
        .remote
        .led(&id("HF-C"), VolumeNumber(2), VolumeNumber(2))
        .unwrap();
    let undo = Some(VolumeNumber(3));
    a.array.change_registry(&pair, |known| known.undo = undo).unwrap();
    a.array.link_found();
    backup.goes_on().await;
    assert_eq!(c.pair((2, 3)).await.state, PairState::Split.code());
    assert_eq!(c.read(3, 0, 8192).await.unwrap(), pattern(9, 8192));
}
