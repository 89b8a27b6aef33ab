//! Stores that can be full, and devices whose flushes can fail. Made as root, or through `sudo -n`.
//!
//! A file system in memory of a few MiB is full when a ballast file has taken the rest. A loop device on a sparse file there takes
//! writes as long as the page cache does: it is the flush that then finds no place for them, and fails as on a broken disk.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

use crate::tool;

/// A small file system of its own. Dropping it takes it away.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// Devices on files of it.
    devices: Vec<String>,
    /// File systems on such devices.
    mounted: Vec<PathBuf>,
}

impl Store {
    /// A tmpfs of this size, mounted at `path`, a directory that is made.
    pub fn new(path: &Path, mebibytes: u32) -> Self {
        fs::create_dir(path).expect("the directory is ours");
        let store = Self {
            path: path.to_owned(),
            devices: Vec::new(),
            mounted: Vec::new(),
        };
        let size = format!("size={mebibytes}m,mode=1777");
        as_root(
            "mount",
            &["-t", "tmpfs", "-o", &size, "holdfast-test", text(path)],
        );
        store
    }

    /// Lets `path` be a file of this store.
    pub fn hold(&self, path: &Path) {
        let name = path.file_name().expect("a file");
        symlink(self.path.join(name), path).expect("the directory is ours");
    }

    /// A loop device of that many bytes on a sparse file of this store.
    pub fn device(&mut self, bytes: u64) -> String {
        let file = self.path.join(format!("disk{}", self.devices.len()));
        fs::File::create(&file)
            .and_then(|file| file.set_len(bytes))
            .expect("a sparse file takes no space");
        let device = attach(&file);
        self.devices.push(device.clone());
        device
    }

    /// Lets `path` be a loop device on this store.
    pub fn hold_device(&mut self, path: &Path, bytes: u64) {
        let device = self.device(bytes);
        symlink(device, path).expect("the directory is ours");
    }

    /// Lets `path`, a directory that is made, be an ext4 on a loop device on this store.
    pub fn hold_ext4(&mut self, path: &Path, bytes: u64) {
        let device = self.device(bytes);
        // Nothing is left for the kernel to write after the mount but what a test writes.
        let options = "lazy_itable_init=0,lazy_journal_init=0";
        as_root("mkfs.ext4", &["-q", "-E", options, &device]);
        fs::create_dir(path).expect("the directory is ours");
        as_root("mount", &["-o", MOUNT_OPTIONS, &device, text(path)]);
        self.mounted.push(path.to_owned());
        as_root("chmod", &["777", text(path)]);
    }

    /// Cuts the power of the first ext4: what was not made stable is gone, unless the kernel happened to write it. Nobody may use it now.
    ///
    /// The device's file has what the device was told to write. A copy of it is put in its place after the file system, which would write
    /// the rest when it is unmounted, is gone.
    pub fn lose_power(&mut self) {
        let (disk, kept) = (self.path.join("disk0"), self.path.join("kept"));
        tool::ok("cp", &["--sparse=always", text(&disk), text(&kept)]);
        let path = text(&self.mounted[0]).to_owned();
        as_root("umount", &[&path]);
        as_root("losetup", &["--detach", &self.devices[0]]);
        fs::rename(&kept, &disk).expect("the store is ours");
        self.devices[0] = attach(&disk);
        as_root("mount", &["-o", MOUNT_OPTIONS, &self.devices[0], &path]);
    }

    /// Takes all that is free.
    pub fn fill_up(&self) {
        let mut ballast = fs::File::create(self.ballast()).expect("the store takes a name");
        while ballast.write_all(&[0xba; 4096]).is_ok() {}
    }

    /// Gives it back.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("it was filled up");
    }

    /// Is it filled up?
    pub fn is_full(&self) -> bool {
        self.ballast().exists()
    }

    /// Bytes that a file of this store, by the path that [`Self::hold`] was given, takes.
    pub fn allocated(&self, path: &Path) -> u64 {
        fs::metadata(path).expect("it is there").blocks() * 512
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let tidy = |program: &str, arguments: &[&str]| {
            let run = run_as_root(program, arguments);
            if !run.status.success() {
                eprintln!("{program} {arguments:?}: {}", run.said());
            }
        };
        for path in &self.mounted {
            tidy("umount", &[text(path)]);
        }
        for device in &self.devices {
            tidy("losetup", &["--detach", device]);
        }
        tidy("umount", &["--lazy", text(&self.path)]);
    }
}

/// The kernel writes nothing by itself that it can put off.
const MOUNT_OPTIONS: &str = "noatime,commit=300";

/// A loop device on this file.
fn attach(file: &Path) -> String {
    let device = as_root("losetup", &["--find", "--show", text(file)]);
    let device = device.trim().to_owned();
    as_root("chmod", &["666", &device]);
    device
}

fn as_root(program: &str, arguments: &[&str]) -> String {
    let run = run_as_root(program, arguments);
    assert!(
        run.status.success(),
        "{program} {arguments:?}, as root: {}",
        run.said()
    );
    run.stdout
}

fn run_as_root(program: &str, arguments: &[&str]) -> tool::Run {
    // A process's own files in /proc are its user's.
    let user = fs::metadata("/proc/self").expect("/proc is mounted").uid();
    if user == 0 {
        return tool::call(program, arguments);
    }
    tool::call("sudo", &[&["-n", program], arguments].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary directory has a plain name")
}
