//! One of the two systems, and what hosts find there.

use super::*;

/// One system: its disks outlive it.
pub(super) struct Site {
    pub(super) side: usize,
    pub(super) name: SystemId,
    pub(super) state: TempDir,
    pub(super) media: Vec<Arc<Volatile>>,
    pub(super) plain: Vec<Arc<PlainVolume>>,
    pub(super) array: Arc<Array>,
}

impl Site {
    pub(super) fn new(side: usize, name: &str) -> Self {
        let identities = IdentityStore::ephemeral();
        let media: Vec<_> = (0..4).map(|_| Arc::new(Volatile::new())).collect();
        let volume = |(at, media): (usize, &Arc<Volatile>)| {
            let media: Arc<dyn Media> = Arc::<Volatile>::clone(media);
            PlainVolume::on_media(in_memory(at as u32 + 1, at > 1), media, &identities).unwrap()
        };
        let plain: Vec<_> = media.iter().enumerate().map(volume).collect();
        let state = TempDir::new().unwrap();
        let name = id(name);
        let array = Array::open(state.path(), name.clone(), TRACK, plain.clone()).unwrap();
        Self {
            side,
            name,
            state,
            media,
            plain,
            array,
        }
    }

    pub(super) fn connect(&self, link: &Arc<Link>) {
        let (requests, arriving) = mpsc::unbounded_channel();
        *lock(&link.slots[self.side]) = Arc::downgrade(&self.array);
        tokio::spawn(Arc::clone(link).deliver(1 - self.side, self.name.clone(), arriving));
        let link = Arc::clone(link);
        self.array.connect(Arc::new(End { link, requests }));
    }

    pub(super) fn volume(&self, number: u32) -> Arc<PairedVolume> {
        self.array.volume(VolumeNumber(number)).unwrap()
    }

    pub(super) async fn out(
        &self,
        verb: OutVerb,
        flags: Flags,
        pairs: &[(u32, u32)],
    ) -> Result<Reply, Refusal> {
        self.array.execute(order(verb, flags, pairs)).await
    }

    /// Dies, with or without its power, and is started again; no link knows it yet.
    pub(super) async fn restart(&mut self, dice: Option<&Dice>) {
        self.array.abandon().await;
        if let Some(dice) = dice {
            self.media.iter().for_each(|media| media.lose_power(dice));
        }
        self.array = Array::open(self.state.path(), self.name.clone(), TRACK, self.plain.clone()).unwrap();
    }

    /// Which write each block of a volume holds, for its hosts.
    pub(super) async fn found(&self, volume: u32) -> Option<Found> {
        let mut found = Found::new();
        for block in 0..BLOCKS {
            let read = self.volume(volume).read(place(block), Buffer::new(BLOCK)).await;
            match read {
                Ok(data) => found.insert((volume, block), stamp(&data)),
                Err(IoError::NotReady) => return None,
                Err(error) => panic!("{error}"),
            };
        }
        Some(found)
    }
}

/// The remote pair of a volume.
pub(super) fn state_of(array: &Arc<Array>, volume: u32) -> Option<PairState> {
    let remote = array.remote_pairs();
    let pair = remote.iter().find(|pair| pair.local.0 == volume)?;
    let views = array.pairs();
    let view = views
        .iter()
        .find(|view| (view.primary, view.mirror) == pair.volumes())?;
    Some(view.state)
}
