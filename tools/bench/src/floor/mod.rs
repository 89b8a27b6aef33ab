//! A null iSCSI target: the least work that still answers an initiator correctly.
//! It is a measuring instrument (a floor for CPU per I/O), not a product: one LUN, no authentication,
//! no task management, no checks of sequence numbers.
mod connection;
mod engines;

pub use engines::{run_epoll, run_threads, run_tokio};

use crate::util::*;
use std::os::fd::{AsRawFd, RawFd};

#[derive(Clone, Copy, PartialEq)]
pub enum Back {
    Null,
    /// memory (anonymous, or a shared mapping of --file): reads are sent from it, writes copied into it
    Mem,
    /// pread/pwrite on --file for every I/O
    Pread,
}
pub struct Store {
    pub back: Back,
    pub size: u64,
    pub base: *mut u8,
    pub fd: RawFd,
}
unsafe impl Send for Store {}
unsafe impl Sync for Store {}
impl Store {
    pub fn new(back: Back, size: u64, file: &str) -> Store {
        let fd = if file.is_empty() {
            -1
        } else {
            let f = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(file)
                .expect("open --file");
            let fd = f.as_raw_fd();
            std::mem::forget(f);
            fd
        };
        let len = if back == Back::Null {
            8 << 20
        } else {
            size as usize
        };
        let base = if back == Back::Pread {
            std::ptr::null_mut()
        } else {
            let fl = if fd >= 0 {
                libc::MAP_SHARED
            } else {
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS
            };
            let p = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    fl,
                    fd,
                    0,
                )
            };
            assert!(p != libc::MAP_FAILED, "mmap");
            p as *mut u8
        };
        Store { back, size, base, fd }
    }
    fn at(&self, off: u64) -> *mut u8 {
        unsafe {
            self.base
                .add(if self.back == Back::Null { 0 } else { off as usize })
        }
    }
}

pub fn back(a: &Args) -> Back {
    match a.s("back", "mem").as_str() {
        "null" => Back::Null,
        "mem" => Back::Mem,
        "pread" => Back::Pread,
        o => {
            eprintln!("unknown --back {o}");
            std::process::exit(2)
        }
    }
}
