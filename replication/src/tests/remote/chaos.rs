//! Hosts on both systems, commands, cuts and kills in a random order; what hosts must see is known after each step, and in the end both
//! volumes are equal.

use target_core::scsi_model::control::OnLinkLoss;

use super::*;

/// Blocks that are written: one a track.
const BLOCKS: usize = 48;
const BLOCK: usize = 8192;

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// What hosts of a volume must read, a version a block.
type Content = Vec<u8>;

struct Run {
    systems: Systems,
    dice: Dice,
    near: Content,
    /// When the far volume is its hosts'.
    far: Option<Content>,
    version: u8,
    /// Hosts do not write without the far side.
    refuses: bool,
    trace: Vec<String>,
}

fn flags(remote: bool, protected: bool, force: bool) -> Flags {
    Flags {
        remote,
        protected,
        force,
        ..Flags::default()
    }
}

fn bytes(version: u8) -> Vec<u8> {
    vec![version; BLOCK]
}

impl Run {
    async fn new(seed: u64, mode: CopyMode) -> Self {
        let systems = Systems::new();
        systems.establish(mode).await.unwrap();
        systems.far.establish((1, 2)).await;
        Self {
            systems,
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            near: vec![0; BLOCKS],
            far: None,
            version: 0,
            refuses: false,
            trace: Vec::new(),
        }
    }

    fn is_up(&self) -> bool {
        self.systems.up.load(Ordering::Acquire)
    }

    async fn state(&self) -> PairState {
        PairState::from_code(self.systems.near.pair((1, 1)).await.state).unwrap()
    }

    async fn step(&mut self) {
        let state = self.state().await;
        let what = self.dice.below(26);
        self.trace
            .push(format!("{what} in {state}, link {}", self.is_up()));
        match what {
            0..=9 => self.write_near().await,
            10..=12 => self.write_far().await,
            13 | 14 => {
                if self.is_up() {
                    self.systems.link(false);
                } else {
                    self.mend().await;
                }
            }
            15 => self.kill_near().await,
            16 => self.kill_far().await,
            17 | 18 => self.split(state).await,
            19 | 20 => self.establish(state).await,
            21 => self.restore(state).await,
            22 => self.change_policy().await,
            23 => self.verify().await,
            _ => self.backup().await,
        }
        if self.dice.below(4) == 0 {
            self.check_near().await;
        }
    }

    async fn write_near(&mut self) {
        let block = self.dice.below(BLOCKS as u64) as usize;
        self.version = self.version % 250 + 1;
        let offset = (block * BLOCK) as u64;
        let written = self.systems.near.write(1, offset, bytes(self.version)).await;
        if written == Err(IoError::MirrorAway) {
            assert!(self.refuses, "nobody asked for that");
            // It was done or not, as a whole.
            let found = self.systems.near.read(1, offset, BLOCK).await.unwrap()[0];
            assert!([self.near[block], self.version].contains(&found));
            self.near[block] = found;
            return;
        }
        // A track that a restore has not brought, and that is written whole, needs nothing of the other side.
        written.unwrap();
        self.near[block] = self.version;
    }

    async fn write_far(&mut self) {
        let block = self.dice.below(BLOCKS as u64) as usize;
        self.version = self.version % 250 + 1;
        let written = self
            .systems
            .far
            .write(1, (block * BLOCK) as u64, bytes(self.version))
            .await;
        match (&mut self.far, written) {
            (Some(far), Ok(())) => far[block] = self.version,
            (None, Err(IoError::NotReady)) => {}
            (_, other) => panic!("{other:?}"),
        }
    }

    /// The link is up; if it was down, then behind everything that had arrived before it went.
    async fn mend(&self) {
        if !self.is_up() {
            self.systems.settle().await;
        }
        self.systems.link(true);
    }

    async fn kill_near(&mut self) {
        let up = self.is_up();
        self.systems.near.array.abandon().await;
        self.systems.link(false);
        let rig = &mut self.systems.near;
        rig.array = open(rig.state.path(), &rig.plain);
        self.systems.connect_near();
        if up {
            self.mend().await;
        }
    }

    async fn kill_far(&mut self) {
        self.systems.link(false);
        let rig = &mut self.systems.far;
        rig.array.abandon().await;
        let state = rig.state.path().join("b");
        rig.array = Array::open(&state, id("HF-B"), TRACK, rig.plain.clone()).unwrap();
        self.systems.connect_far();
        self.mend().await;
    }

    /// Far hosts get the image when the follower has been told, which needs the link.
    async fn split(&mut self, state: PairState) {
        let split = self
            .systems
            .near
            .out(OutVerb::Split, Flags::default(), &[(1, 1)])
            .await;
        // (A pair that was suspended a moment ago may have resumed.)
        if split.is_err() || matches!(state, PairState::Split | PairState::Splitting) {
            return;
        }
        let image = self.near.clone();
        self.mend().await;
        loop {
            let state = self.state().await;
            if state == PairState::Split
                && self.systems.far.pair((1, 1)).await.state == PairState::Split.code()
            {
                break;
            }
            if state == PairState::Suspended {
                // The link was lost before the image was there.
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.far = Some(image);
        self.check_far().await;
    }

    async fn change_policy(&mut self) {
        let policy = if self.refuses {
            OnLinkLoss::Mark
        } else {
            OnLinkLoss::Refuse
        };
        let done = self
            .systems
            .near
            .out(OutVerb::OnLinkLoss(policy), Flags::default(), &[(1, 1)])
            .await;
        if done.is_ok() {
            self.refuses = policy == OnLinkLoss::Refuse;
        }
    }

    /// No disk lies here: what has no mark is the same, whatever was cut and killed.
    async fn verify(&mut self) {
        let pair = (VolumeNumber(1), VolumeNumber(1));
        let mut from = Some(0);
        while let Some(track) = from {
            let Ok(slice) = self.systems.near.array.verify_deep(pair, track, false).await else {
                return;
            };
            assert!(slice.differing.is_empty(), "{slice:?}");
            from = slice.next;
        }
    }

    async fn establish(&mut self, state: PairState) {
        let flags = Flags {
            checksum: self.dice.below(2) == 0,
            ..Flags::default()
        };
        let done = self
            .systems
            .near
            .out(OutVerb::Establish { remote: None }, flags, &[(1, 1)]);
        if done.await.is_ok() && matches!(state, PairState::Split | PairState::Suspended) {
            self.far = None;
        }
    }

    async fn restore(&mut self, state: PairState) {
        let Some(far) = self.far.clone().filter(|_| state == PairState::Split) else {
            return;
        };
        let done = self
            .systems
            .near
            .out(OutVerb::Restore, flags(false, true, false), &[(1, 1)]);
        if done.await.is_err() {
            return;
        }
        self.near.clone_from(&far);
        // Not ready until it has ended; then its hosts' again, with the same image.
        self.mend().await;
        while self.systems.far.pair((1, 1)).await.state != PairState::Split.code()
            || self.state().await != PairState::Split
        {
            let block = self.dice.below(BLOCKS as u64) as usize;
            self.version = self.version % 250 + 1;
            let offset = (block * BLOCK) as u64;
            let written = self.systems.near.write(1, offset, bytes(self.version)).await;
            written.unwrap();
            self.near[block] = self.version;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.check_far().await;
    }

    async fn backup(&mut self) {
        if self
            .systems
            .near
            .out(OutVerb::Split, flags(true, false, false), &[(1, 2)])
            .await
            .is_err()
        {
            return;
        }
        for (block, version) in self.near.iter().enumerate() {
            let read = self.systems.far.read(2, (block * BLOCK) as u64, BLOCK).await;
            // A mirror that is still owed tracks is ready when it has them.
            match read {
                Ok(data) => assert!(
                    data == bytes(*version),
                    "block {block} of the backup is not {version}"
                ),
                Err(IoError::NotReady) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn check_near(&self) {
        for (block, version) in self.near.iter().enumerate() {
            let data = self
                .systems
                .near
                .read(1, (block * BLOCK) as u64, BLOCK)
                .await
                .unwrap();
            assert!(
                data == bytes(*version),
                "block {block} holds {}, not {version}",
                data[0]
            );
        }
    }

    async fn check_far(&self) {
        let Some(far) = &self.far else { return };
        for (block, version) in far.iter().enumerate() {
            let data = self
                .systems
                .far
                .read(1, (block * BLOCK) as u64, BLOCK)
                .await
                .unwrap();
            assert!(
                data == bytes(*version),
                "block {block} there holds {}, not {version}",
                data[0]
            );
        }
    }

    /// Faults have stopped: everything comes to rest, equal.
    async fn end(&mut self) {
        self.mend().await;
        let equal = async {
            while self.state().await != PairState::Duplex {
                let _ = self
                    .systems
                    .near
                    .out(OutVerb::Establish { remote: None }, Flags::default(), &[(1, 1)])
                    .await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.systems.far.await_state((1, 1), PairState::Duplex).await;
        };
        tokio::time::timeout(SOON, equal).await.expect("it comes to rest");
        self.systems.near.arrived(1).await;
        self.check_near().await;
        self.systems.check_equal().await;
    }
}

async fn run(seed: u64, mode: CopyMode) {
    let mut run = Run::new(seed, mode).await;
    let steps = async {
        for _ in 0..60 {
            run.step().await;
        }
        run.end().await;
    };
    if tokio::time::timeout(Duration::from_secs(60), steps)
        .await
        .is_err()
    {
        panic!(
            "seed {seed} {mode:?} hangs: {:?} {:?} {:#?}",
            run.systems.near.array.pairs(),
            run.systems.far.array.pairs(),
            run.trace.iter().rev().take(60).collect::<Vec<_>>()
        );
    }
}

/// S51, S58, S60, S61, S62, S63, S64, S65, S66, S67, S74, S84 in any order, with both systems killed and the link cut at any step.
#[tokio::test(flavor = "multi_thread")]
async fn any_order_of_faults_and_commands() {
    let fresh = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_micros() as u64;
    let given = std::env::var("HOLDFAST_REMOTE_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    let seeds = given.map_or_else(|| vec![1, 2, 3, 4, fresh], |seed| vec![seed]);
    for seed in seeds {
        for mode in [CopyMode::Sync, CopyMode::Async] {
            println!("HOLDFAST_REMOTE_SEED={seed} ({mode:?})");
            run(seed, mode).await;
        }
    }
}
