//! One suite for every store, against a plain vector.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::volume::Fast;

const LENGTH: u64 = 1 << 20;

fn stores() -> Vec<(&'static str, Arc<dyn Media>, Option<tempfile::TempDir>)> {
    let directory = tempfile::tempdir().unwrap();
    let file = FileMedia::open(&directory.path().join("disk.img"), Some(LENGTH)).unwrap();
    let mut stores: Vec<(_, Arc<dyn Media>, _)> = vec![
        ("file", Arc::new(file), Some(directory)),
        ("memory", Arc::new(MemoryMedia::new(LENGTH)), None),
    ];
    if let Some((media, directory)) = direct() {
        stores.push(("direct", Arc::new(media), Some(directory)));
    }
    // tmpfs refuses RWF_NOWAIT and some fallocate modes.
    if let Ok(directory) = tempfile::tempdir_in("/dev/shm") {
        let file = FileMedia::open(&directory.path().join("disk.img"), Some(LENGTH)).unwrap();
        stores.push(("tmpfs", Arc::new(file), Some(directory)));
    }
    stores
}

/// Where this machine has a file system with O_DIRECT.
fn direct() -> Option<(DirectMedia, tempfile::TempDir)> {
    let places = [
        std::env::temp_dir(),
        "/var/tmp".into(),
        env!("CARGO_MANIFEST_DIR").into(),
    ];
    let found = places.into_iter().find_map(|place| {
        let directory = tempfile::tempdir_in(place).ok()?;
        let media = DirectMedia::open(&directory.path().join("disk.img"), Some(LENGTH), 4096).ok()?;
        Some((media, directory))
    });
    if found.is_none() {
        eprintln!("NOT RUN with O_DIRECT: no directory here has it");
    }
    found
}

fn content(media: &dyn Media) -> Vec<u8> {
    let mut all = vec![0xee; media.length() as usize];
    media.read_at(0, &mut all).unwrap();
    all
}

#[test]
fn a_new_store_is_one_hole_of_zeros() {
    for (name, media, _directory) in stores() {
        assert_eq!(media.length(), LENGTH, "{name}");
        assert_eq!(
            media.extents(0, 8).unwrap(),
            [Extent {
                offset: 0,
                length: LENGTH,
                mapped: false
            }],
            "{name}"
        );
        assert!(content(&*media).iter().all(|&byte| byte == 0), "{name}");
    }
}

#[test]
fn what_is_written_can_be_read_inline_when_cached() {
    for (name, media, _directory) in stores() {
        media.write_at(8192, &[7; 4096], false).unwrap();
        media.write_at(12288, &[8; 512], true).unwrap();
        media.flush().unwrap();
        let mut buffer = [0; 4096];
        match media.try_read_at(8192, &mut buffer) {
            Fast::Done(result) => {
                result.unwrap();
                assert!(buffer.iter().all(|&byte| byte == 7), "{name}");
            }
            Fast::Later => assert!(matches!(name, "file" | "direct"), "only a disk may have to wait"),
        }
    }
}

#[test]
fn holes_come_and_go() {
    for (name, media, _directory) in stores() {
        media.write_at(131_072, &vec![1; 65536], false).unwrap();
        let extents = media.extents(0, 8).unwrap();
        assert_eq!(
            extents,
            [
                Extent {
                    offset: 0,
                    length: 131_072,
                    mapped: false
                },
                Extent {
                    offset: 131_072,
                    length: 65536,
                    mapped: true
                },
                Extent {
                    offset: 196_608,
                    length: LENGTH - 196_608,
                    mapped: false
                },
            ],
            "{name}"
        );
        assert_eq!(
            media.extents(0, 2).unwrap(),
            extents[..2],
            "{name}: cut at the limit"
        );
        assert_eq!(
            media.extents(140_000, 1).unwrap()[0].offset,
            140_000,
            "{name}: starts where asked"
        );
        media.punch(131_072, 65536).unwrap();
        assert_eq!(media.extents(0, 8).unwrap().len(), 1, "{name}");
        media.zero(0, 65536).unwrap();
        assert!(content(&*media).iter().all(|&byte| byte == 0), "{name}");
    }
}

#[test]
fn reads_past_the_end_are_errors_and_growing_reads_zeros() {
    for (name, media, _directory) in stores() {
        media.set_length(2 * LENGTH).unwrap();
        let mut buffer = vec![1; 4096];
        media.read_at(2 * LENGTH - 4096, &mut buffer).unwrap();
        assert!(buffer.iter().all(|&byte| byte == 0), "{name}");
        media.set_length(LENGTH).unwrap();
        if media.file().is_some() {
            assert!(matches!(
                media.read_at(LENGTH, &mut buffer),
                Err(IoError::Read { offset: LENGTH, .. })
            ));
        }
    }
}

#[test]
fn copies_carry_data_and_holes_between_all_kinds() {
    for (from_name, from, _from_directory) in stores() {
        for (to_name, to, _to_directory) in stores() {
            from.write_at(4096, &vec![5; 70_000], false).unwrap();
            from.write_at(600_000, &[6; 100], false).unwrap();
            to.write_at(0, &vec![9; 300_000], false).unwrap();
            copy_range((&*from, 0), (&*to, 0), LENGTH).unwrap();
            assert!(content(&*from) == content(&*to), "{from_name} to {to_name}");
            let holes = to.extents(300_000, 1).unwrap();
            assert!(!holes[0].mapped, "{from_name} to {to_name}: a hole stays a hole");
        }
    }
}

#[test]
fn a_copy_touches_nothing_outside_its_range() {
    for (name, from, _from_directory) in stores() {
        for (_, to, _to_directory) in stores() {
            from.write_at(0, &vec![1; 65536], false).unwrap();
            to.write_at(0, &vec![2; 262_144], false).unwrap();
            copy_range((&*from, 32768), (&*to, 32768), 65536).unwrap();
            let copied = content(&*to);
            assert!(copied[..32768].iter().all(|&byte| byte == 2), "{name}");
            assert!(copied[32768..65536].iter().all(|&byte| byte == 1), "{name}");
            assert!(copied[65536..98304].iter().all(|&byte| byte == 0), "{name}");
            assert!(copied[98304..262_144].iter().all(|&byte| byte == 2), "{name}");
        }
    }
}

#[test]
fn a_file_is_opened_once_and_with_the_right_size() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    assert!(matches!(
        FileMedia::open(&path, None),
        Err(OpenError::NeedsSize { .. })
    ));
    assert!(!path.exists(), "a refusal makes no file");
    let first = FileMedia::open(&path, Some(LENGTH)).unwrap();
    assert!(matches!(
        FileMedia::open(&path, Some(LENGTH)),
        Err(OpenError::InUse { .. })
    ));
    drop(first);
    let mismatch = FileMedia::open(&path, Some(LENGTH + 512)).unwrap_err();
    assert!(matches!(mismatch, OpenError::SizeMismatch { found: LENGTH, .. }));
    assert!(
        mismatch.to_string().contains("disk.img"),
        "the message names the file: {mismatch}"
    );
    assert_eq!(FileMedia::open(&path, None).unwrap().length(), LENGTH);
    assert!(matches!(
        FileMedia::open(directory.path(), Some(LENGTH)),
        Err(OpenError::NotStorage { .. })
    ));
}

/// A file of a process alone: nobody else reads it, its space is taken, and what may be somebody's is spared.
#[test]
fn a_file_is_made_for_one_process() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("queue");
    let first = FileMedia::make(&path, LENGTH, false).unwrap();
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert!(
        found.len() == LENGTH && found.blocks() * 512 >= LENGTH,
        "{found:?}"
    );
    assert!(matches!(
        FileMedia::make(&path, LENGTH, true),
        Err(OpenError::InUse { .. })
    ));
    first.write_at(0, &[7; 512], false).unwrap();
    drop(first);
    let again = FileMedia::make(&path, LENGTH, false).unwrap();
    let mut held = [7; 512];
    again.read_at(0, &mut held).unwrap();
    assert_eq!(held, [0; 512], "what it held is given up");
    drop(again);
    let refused = FileMedia::make(&path, 2 * LENGTH, false).unwrap_err();
    assert!(
        matches!(refused, OpenError::Somebodys { found: LENGTH, .. }),
        "{refused}"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().len(), LENGTH);
    assert_eq!(
        FileMedia::make(&path, 2 * LENGTH, true).unwrap().length(),
        2 * LENGTH
    );
    let enormous = FileMedia::make(&directory.path().join("much"), 1 << 50, false).unwrap_err();
    assert!(
        enormous.to_string().contains("cannot take the space of"),
        "{enormous}"
    );
    assert!(!directory.path().join("much").exists(), "half a file is no use");
    assert!(matches!(
        FileMedia::make(directory.path(), LENGTH, true),
        Err(OpenError::NotStorage { .. })
    ));
}

#[test]
fn sixteen_tebibytes_of_memory_cost_what_is_written() {
    let media = MemoryMedia::new(16 << 40);
    media.write_at((16 << 40) - 4096, &[1; 4096], false).unwrap();
    media.write_at(8 << 40, &[1; 512], false).unwrap();
    assert_eq!(media.allocated_bytes(), 8192);
    assert_eq!(media.extents(0, 16).unwrap().len(), 4);
    media.punch(0, 16 << 40).unwrap();
    assert_eq!(media.allocated_bytes(), 0);
}

#[test]
fn past_the_page_cache_anything_unaligned_is_bounced() {
    let Some((media, _directory)) = direct() else {
        return;
    };
    let unit = media.unit();
    let mut model = vec![0_u8; LENGTH as usize];
    // Memory, offset and length, each aligned and not; inside a unit, over two, over more than a piece is long.
    let memory: Vec<u8> = (0..=255).cycle().take(LENGTH as usize).collect();
    for (offset, length) in [
        (0, unit),
        (unit, 3 * unit),
        (5, 10),
        (unit - 1, 2),
        (unit + 7, 2 * unit),
        (4 * unit, 100),
        (9 * unit + 3, unit - 3),
        (LENGTH - 1, 1),
        (1, LENGTH - 2),
        (0, LENGTH),
    ] {
        for skew in [0, 1, 48] {
            let length = length.min(LENGTH - skew as u64) as usize;
            let data = &memory[skew..skew + length];
            media.write_at(offset, data, skew == 1).unwrap();
            model[offset as usize..offset as usize + length].copy_from_slice(data);
            assert!(content(&media) == model, "{length} at {offset}, memory {skew}");
            let mut read = vec![0xee; length + skew];
            media.read_at(offset, &mut read[skew..]).unwrap();
            assert!(read[skew..] == *data, "{length} at {offset}, memory {skew}");
        }
    }
}

#[test]
fn writes_of_parts_of_one_unit_do_not_lose_each_other() {
    let Some((media, _directory)) = direct() else {
        return;
    };
    let (media, unit) = (&media, media.unit());
    std::thread::scope(|threads| {
        for part in 0..8 {
            threads.spawn(move || {
                for round in 1..=20 {
                    media
                        .write_at(part * unit / 8, &vec![round; (unit / 8) as usize], false)
                        .unwrap();
                }
            });
        }
    });
    assert!(content(media)[..unit as usize].iter().all(|&byte| byte == 20));
}

#[test]
fn direct_is_refused_where_it_cannot_be_had() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
    let path = directory.path().join("disk.img");
    let here = rustix::fs::statfs(directory.path()).unwrap().f_type;
    if here == 0x0102_1994 {
        let refused = DirectMedia::open(&path, Some(LENGTH), 4096).unwrap_err();
        assert!(matches!(refused, OpenError::NotDirect { .. }), "{refused}");
    }
    if let Some((media, directory)) = direct() {
        let path = directory.path().join("disk.img");
        let twice = DirectMedia::open(&path, Some(LENGTH), 4096).unwrap_err();
        assert!(matches!(twice, OpenError::InUse { .. }), "{twice}");
        drop(media);
        let small = DirectMedia::open(&path, Some(LENGTH), 256).unwrap_err();
        assert!(
            matches!(small, OpenError::DirectBlockSize { block_size: 256, .. }),
            "{small}"
        );
    }
}

/// `HOLDFAST_TEST_BLOCK_DEVICE` names a device of 1 MiB whose content may be lost. `./test devices` makes a loop device
/// and runs this on it.
#[test]
#[ignore = "needs a block device, and root to make one: ./test devices"]
fn a_block_device_is_a_store() {
    let path = PathBuf::from(std::env::var_os("HOLDFAST_TEST_BLOCK_DEVICE").unwrap());
    let mismatch = FileMedia::open(&path, Some(2 * LENGTH)).unwrap_err();
    assert!(matches!(mismatch, OpenError::SizeMismatch { found: LENGTH, .. }));
    behaves_like_a_device(&path, &FileMedia::open(&path, None).unwrap());
    let direct = DirectMedia::open(&path, None, 4096).unwrap();
    behaves_like_a_device(&path, &direct);
    let unit = direct.unit();
    drop(direct);
    assert_eq!(
        DirectMedia::open(&path, None, 512).is_ok(),
        unit == 512,
        "the device's unit is {unit}"
    );
}

fn behaves_like_a_device(path: &std::path::Path, device: &dyn Media) {
    assert_eq!(device.length(), LENGTH);
    assert!(matches!(
        FileMedia::open(path, None),
        Err(OpenError::InUse { .. })
    ));
    device.write_at(0, &vec![5; LENGTH as usize], true).unwrap();
    device.punch(0, 65536).unwrap();
    device.zero(65536, 512).unwrap();
    device.write_at(70_001, &[5; 3], false).unwrap();
    device.flush().unwrap();
    let all = content(device);
    assert!(all[..66048].iter().all(|&byte| byte == 0) && all[66048..].iter().all(|&byte| byte == 5));
    assert_eq!(
        device.extents(0, 4).unwrap(),
        [Extent {
            offset: 0,
            length: LENGTH,
            mapped: true
        }]
    );
    let memory = MemoryMedia::new(LENGTH);
    copy_range((device, 0), (&memory, 0), LENGTH).unwrap();
    assert!(content(&memory) == all);
    assert!(device.set_length(2 * LENGTH).is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Write(u64, u64, u8),
    Punch(u64, u64),
    Zero(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let range =
        (0..LENGTH / 512).prop_flat_map(|start| (Just(start * 512), 1..=(LENGTH / 512 - start).min(400)));
    (range, 0_u8..4, 1_u8..=255).prop_map(|((offset, sectors), kind, byte)| match kind {
        0 => Step::Punch(offset, sectors * 512),
        1 => Step::Zero(offset, sectors * 512),
        _ => Step::Write(offset, sectors * 512, byte),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn every_store_behaves_like_a_vector(steps in proptest::collection::vec(step(), 1..20)) {
        for (name, media, _directory) in stores() {
            let mut model = vec![0; LENGTH as usize];
            for step in &steps {
                let (offset, length, byte) = match *step {
                    Step::Write(offset, length, byte) => {
                        media.write_at(offset, &vec![byte; length as usize], false).unwrap();
                        (offset, length, byte)
                    }
                    Step::Punch(offset, length) => {
                        media.punch(offset, length).unwrap();
                        (offset, length, 0)
                    }
                    Step::Zero(offset, length) => {
                        media.zero(offset, length).unwrap();
                        (offset, length, 0)
                    }
                };
                model[offset as usize..(offset + length) as usize].fill(byte);
            }
            prop_assert!(content(&*media) == model, "{}", name);
            let mut at = 0;
            for extent in media.extents(0, 10_000).unwrap() {
                prop_assert_eq!(extent.offset, at, "{}: gapless", name);
                let range = at as usize..(at + extent.length) as usize;
                prop_assert!(extent.mapped || model[range].iter().all(|&byte| byte == 0), "{}: a hole has data", name);
                at += extent.length;
            }
            prop_assert_eq!(at, LENGTH);
        }
    }
}
