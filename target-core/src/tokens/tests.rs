//! What is set aside, where, and for how long.

use std::sync::Weak;

use scsi_model::control::VolumeNumber;

use super::*;
use crate::{
    identities::IdentityStore,
    media::Faults,
    plain::{Backing, PlainVolume, VolumeConfig},
    volume::{Extent, Fast, IoFuture, Modify, VolumeInfo, VolumeWatcher},
};

const BYTES: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(600);

fn plain() -> (Arc<PlainVolume>, Arc<Faults>) {
    let (media, faults) = MemoryMedia::with_faults(BYTES);
    let config = VolumeConfig {
        number: VolumeNumber(1),
        name: "v".into(),
        mirror_class: false,
        size: Some(BYTES),
        backing: Backing::Memory,
        block_size: 512,
        physical_block_size: 512,
        removable: false,
        thin: true,
        quota: None,
    };
    let volume = PlainVolume::on_media(config, Arc::new(media), &IdentityStore::ephemeral()).unwrap();
    (volume, faults)
}

fn identity() -> UnitIdentity {
    UnitIdentity {
        number: VolumeNumber(1),
        mirror_class: false,
        block_size: 512,
        physical_block_size: 512,
        blocks: BYTES / 512,
        thin: true,
        removable: false,
        naa: [6; 16],
        eui64: [2; 8],
        uuid: [4; 16],
        serial: "s".into(),
    }
}

fn granules_of(numbers: std::ops::Range<u64>) -> ByteRange {
    ByteRange {
        offset: numbers.start * GRANULE,
        length: (numbers.end - numbers.start) * GRANULE,
    }
}

fn token(
    table: &Arc<TokenTable>,
    volume: &Arc<Watched>,
    range: ByteRange,
    inactivity: Duration,
) -> Arc<Token> {
    let body = table.make(volume, &identity(), vec![range], inactivity).unwrap();
    lock(&table.tokens).get(&secret_of(&body)).unwrap().clone()
}

async fn write(volume: &Arc<Watched>, offset: u64, value: u8) {
    let data = Bytes::from(vec![value; 512]);
    assert!(volume.clone().write(offset, data, false).await.is_ok());
}

/// The first byte of a granule of the token.
async fn first(token: &Token, granule: u64) -> Result<u8, AdditionalSense> {
    match token.content(granules_of(granule..granule + 1)).await {
        Ok(Content::Hole) => Ok(0),
        Ok(Content::Data(data)) => Ok(data[0]),
        Err(TokenFailure::Token(sense)) => Err(sense),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_granule_is_set_aside_once_for_all_tokens_and_only_where_they_are() {
    let watched = Watched::new(plain().0);
    let table = TokenTable::in_memory(BYTES);
    write(&watched, 0, 1).await;
    let old = token(&table, &watched, granules_of(0..2), LONG);
    let same = token(&table, &watched, granules_of(0..1), LONG);
    write(&watched, 2 * GRANULE, 9).await;
    assert_eq!(table.old.used(), 0, "no token is there");
    write(&watched, 0, 2).await;
    write(&watched, 512, 3).await;
    assert_eq!(table.old.used(), 1);
    let new = token(&table, &watched, granules_of(0..1), LONG);
    write(&watched, 0, 4).await;
    write(&watched, GRANULE, 5).await;
    assert_eq!(table.old.used(), 2, "a hole takes no slot");
    for (token, wanted) in [(&old, 1), (&same, 1), (&new, 2)] {
        assert_eq!(first(token, 0).await, Ok(wanted));
    }
    assert_eq!(first(&old, 1).await, Ok(0));
    table.delete(&old.body);
    drop(old);
    assert_eq!(table.old.used(), 2, "another needs it");
    table.delete(&same.body);
    drop(same);
    assert_eq!(table.old.used(), 1);
}

#[tokio::test]
async fn the_oldest_token_makes_room_and_no_write_fails() {
    let (volume, faults) = plain();
    let watched = Watched::new(volume);
    let table = TokenTable::in_memory(2 * GRANULE);
    let tokens: Vec<_> = (0..4)
        .map(|number| token(&table, &watched, granules_of(number..number + 1), LONG))
        .collect();
    for number in 0..4 {
        watched
            .inner()
            .clone()
            .write(number * GRANULE, Bytes::from_static(&[1; 512]), false)
            .await
            .unwrap();
    }
    for number in 0..3 {
        write(&watched, number * GRANULE, 2).await;
    }
    assert_eq!(first(&tokens[0], 0).await, Err(sense_codes::TOKEN_REVOKED));
    assert_eq!(first(&tokens[1], 1).await, Ok(1));
    assert_eq!(first(&tokens[2], 2).await, Ok(1));
    // What cannot be read cannot be set aside.
    faults.fail_reads(3 * GRANULE..3 * GRANULE + 1);
    write(&watched, 3 * GRANULE, 2).await;
    assert_eq!(first(&tokens[3], 3).await, Err(sense_codes::TOKEN_REVOKED));
    // A token larger than the store.
    faults.heal();
    let large = token(&table, &watched, granules_of(0..3), LONG);
    for number in 0..3 {
        write(&watched, number * GRANULE, 3).await;
    }
    assert_eq!(first(&large, 0).await, Err(sense_codes::TOKEN_REVOKED));
    assert_eq!(table.old.used(), 0);
    watched
        .inner()
        .clone()
        .write(0, Bytes::from_static(&[1; 512]), false)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_file_has_no_name_and_is_emptied_after_the_last_token() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("token-blocks"),
        b"of a daemon that was killed",
    )
    .unwrap();
    let table = TokenTable::open(directory.path(), 4 * GRANULE).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let watched = Watched::new(plain().0);
    write(&watched, 0, 1).await;
    let brief = token(&table, &watched, granules_of(0..1), Duration::from_millis(50));
    write(&watched, 0, 2).await;
    assert_eq!(first(&brief, 0).await, Ok(1));
    let emptied = async {
        while table.old.used() != 0 || !table.old.is_empty().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, emptied)
        .await
        .expect("its time is over");
    assert_eq!(table.find(&brief.body).unwrap_err(), sense_codes::TOKEN_EXPIRED);
    // And it can be used again.
    let other = token(&table, &watched, granules_of(0..1), LONG);
    write(&watched, 0, 3).await;
    assert_eq!(first(&other, 0).await, Ok(2));
}

/// A volume whose content becomes another in the very moment in which somebody has read.
struct Restored(Arc<PlainVolume>);

#[tokio::test]
async fn content_that_is_replaced_after_the_last_read_is_noticed() {
    let (plain, _) = plain();
    let watched = Watched::new(Arc::new(Restored(plain.clone())));
    write(&watched, 0, 1).await;
    let table = TokenTable::in_memory(BYTES);
    let token = token(&table, &watched, granules_of(0..1), LONG);
    assert_eq!(first(&token, 0).await, Err(sense_codes::TOKEN_REVOKED));
    assert_eq!(table.find(&token.body).unwrap_err(), sense_codes::TOKEN_REVOKED);
    // It stands for nothing, so nothing is set aside for it.
    write(&watched, 0, 3).await;
    assert_eq!(table.old.used(), 0);
    let other = Arc::downgrade(&token);
    watched.forget_those_over();
    table.delete(&token.body);
    drop(token);
    assert_eq!(Weak::strong_count(&other), 0);
}

impl Volume for Restored {
    fn info(&self) -> Arc<VolumeInfo> {
        self.0.info()
    }

    fn content_epoch(&self) -> u64 {
        self.0.content_epoch()
    }

    fn ready(&self) -> bool {
        true
    }

    fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Fast<()> {
        let read = self.0.try_read(offset, buffer);
        self.0.content_replaced();
        read
    }

    fn read(self: Arc<Self>, offset: u64, buffer: Buffer) -> IoFuture<Buffer> {
        self.0.clone().read(offset, buffer)
    }

    fn try_write(&self, offset: u64, data: &Bytes, fua: bool) -> Fast<()> {
        self.0.try_write(offset, data, fua)
    }

    fn write(self: Arc<Self>, offset: u64, data: Bytes, fua: bool) -> IoFuture<()> {
        self.0.clone().write(offset, data, fua)
    }

    fn flush(self: Arc<Self>) -> IoFuture<()> {
        self.0.clone().flush()
    }

    fn zero(self: Arc<Self>, offset: u64, length: u64, unmap: bool, fua: bool) -> IoFuture<()> {
        self.0.clone().zero(offset, length, unmap, fua)
    }

    fn update(self: Arc<Self>, offset: u64, length: u64, modify: Modify, fua: bool) -> IoFuture<()> {
        self.0.clone().update(offset, length, modify, fua)
    }

    fn extents(self: Arc<Self>, offset: u64, limit: usize) -> IoFuture<Vec<Extent>> {
        self.0.clone().extents(offset, limit)
    }

    fn watch(&self, watcher: Arc<dyn VolumeWatcher>) {
        self.0.watch(watcher);
    }
}
