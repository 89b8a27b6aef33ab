//! The memory of a LUN, used by all connections at once, as a disk is.
//!
//! The one file here that is unsafe. No lock may stand between two connections, or the floor would measure it; the kernel shall send from
//! this memory and receive into it without a copy; and with `--file` other programs may change it. So there is a mapping and no Rust
//! value in it. Ranges are checked here, bytes are plain, and what two connections do to the same block at the same time comes out
//! as either or a mixture: SAM promises no more, and the loads of this tool never ask.
#![expect(
    unsafe_code,
    reason = "memory that the kernel and all connections use at once, see above"
)]

use std::{
    fs::File,
    io::{self, IoSliceMut},
    os::fd::AsFd,
    slice,
};

use memmap2::{MmapMut, MmapOptions, MmapRaw};

pub(super) struct Memory(MmapRaw);

impl Memory {
    /// Zeros, which take no memory before they are written.
    pub(super) fn anonymous(length: usize) -> io::Result<Self> {
        Ok(Self(MmapMut::map_anon(length)?.into()))
    }

    /// The beginning of a file, in the page cache.
    pub(super) fn of_file(file: &File, length: usize) -> io::Result<Self> {
        if file.metadata()?.len() < length as u64 {
            // A touch behind its end would be a signal, not an error.
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file is shorter than --size",
            ));
        }
        MmapOptions::new().len(length).map_raw(file).map(Self)
    }

    pub(super) fn length(&self) -> usize {
        self.0.len()
    }

    /// For the kernel to send, or to take a digest of.
    pub(super) fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        let start = self.at(offset, length);
        // SAFETY: the range lies in the mapping, which lives as long as the slice, and every byte has a value. Nothing is concluded
        // from a byte that might be another one when it is read again: the kernel and a digest read each once.
        unsafe { slice::from_raw_parts(start, length) }
    }

    /// Copies `data` to this place.
    pub(super) fn write(&self, offset: usize, data: &[u8]) {
        let start = self.at(offset, data.len());
        // SAFETY: the range lies in the mapping; `data` lies in a connection's own buffer, never in the mapping.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), start, data.len()) };
    }

    /// One receive into this place, and what follows it into `rest`; bytes of both.
    pub(super) fn receive(
        &self,
        socket: impl AsFd,
        offset: usize,
        length: usize,
        rest: &mut [u8],
    ) -> rustix::io::Result<usize> {
        let start = self.at(offset, length);
        // SAFETY: as in `write`; only the kernel writes through it, and it ends with the call.
        let place = unsafe { slice::from_raw_parts_mut(start, length) };
        rustix::io::readv(socket, &mut [IoSliceMut::new(place), IoSliceMut::new(rest)])
    }

    /// Where that range begins.
    fn at(&self, offset: usize, length: usize) -> *mut u8 {
        let end = offset.checked_add(length);
        assert!(end.is_some_and(|end| end <= self.0.len()), "inside the LUN");
        // `wrapping_add` because it is safe: it does not wrap inside the mapping.
        self.0.as_mut_ptr().wrapping_add(offset)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn what_is_written_or_received_is_read() {
        let memory = Memory::anonymous(8192).unwrap();
        memory.write(100, b"abc");
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(b"defgh").unwrap();
        let mut rest = [0; 8];
        assert_eq!(memory.receive(&far, 103, 3, &mut rest), Ok(5));
        assert_eq!(
            (memory.bytes(99, 8), &rest[..2]),
            (&b"\0abcdef\0"[..], &b"gh"[..])
        );
    }

    #[test]
    #[should_panic(expected = "inside the LUN")]
    fn nothing_reaches_behind_the_end() {
        Memory::anonymous(4096).unwrap().write(4094, b"abc");
    }

    #[test]
    fn a_file_is_shared_and_must_be_long_enough() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        assert!(Memory::of_file(&file, 8192).is_err());
        Memory::of_file(&file, 4096).unwrap().write(7, b"x");
        let mut byte = [0];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, 7).unwrap();
        assert_eq!(byte, *b"x");
    }
}
