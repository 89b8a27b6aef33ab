//! Where a volume is on this host.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use super::mount::FileSystem;
use crate::{failure::Failure, transport::host_device};

/// The block device that a volume is, by its NAA identifier, if the host has one: the multipath device where there is one.
pub(crate) fn find(naa: [u8; 16]) -> Option<PathBuf> {
    let found = host_device(&format!("{:032x}", u128::from_be_bytes(naa)))?;
    let disks: Vec<&str> = found.split(',').collect();
    let mut above: Vec<PathBuf> = disks
        .iter()
        .filter_map(|disk| Path::new(disk).file_name())
        .flat_map(|disk| {
            fs::read_dir(Path::new("/sys/block").join(disk).join("holders"))
                .into_iter()
                .flatten()
        })
        .filter_map(Result::ok)
        .map(|holder| Path::new("/dev").join(holder.file_name()))
        .collect();
    above.sort();
    above.dedup();
    match (&above[..], &disks[..]) {
        ([one], _) => Some(one.clone()),
        ([], [disk]) => Some(PathBuf::from(disk)),
        _ => None,
    }
}

/// Has the kernel look at a SCSI disk again: one that was not ready when it was found has no size.
pub(crate) fn look_again(device: &Path) {
    let Some(name) = device.file_name() else { return };
    let disk = Path::new("/sys/class/block").join(name);
    let below = fs::read_dir(disk.join("slaves")).into_iter().flatten();
    let below = below.filter_map(Result::ok).map(|entry| entry.path());
    for disk in below.chain([disk.clone()]) {
        // Not all devices are SCSI disks; whether this one can be read shows next.
        let _ = fs::write(disk.join("device/rescan"), "1");
    }
}

/// What file system is on it.
pub(crate) fn file_system(device: &Path) -> Result<FileSystem, Failure> {
    let mut start = vec![0; 2048];
    let shown = device.display();
    let read = File::open(device).and_then(|mut file| file.read_exact(&mut start));
    read.map_err(|error| Failure::Failed(format!("{shown} cannot be read: {error}")))?;
    FileSystem::of(&start).ok_or_else(|| {
        Failure::Failed(format!(
            "{shown} has no ext4 and no XFS at its start; of a partition or a logical volume, --from-device and --to-device tell the device; \
             `restore-volume` restores whatever there is"
        ))
    })
}
