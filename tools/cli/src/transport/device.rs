//! A SCSI device of the kernel: `/dev/sgN`, or a block device `/dev/sdX`, through the SG_IO ioctl (version 3 of the sg
//! interface).
//!
//! The one file here that is unsafe: the ioctl takes pointers.
#![allow(unsafe_code)]

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd as _,
    path::Path,
};

use super::{
    TransportError,
    in_band::{Completion, InBand, PassThrough},
};

/// From `scsi/sg.h`.
const SG_IO: libc::Ioctl = 0x2285;
const DIRECTION_NONE: i32 = -1;
const DIRECTION_TO_DEVICE: i32 = -2;
const DIRECTION_FROM_DEVICE: i32 = -3;
/// A command is answered when its state change is durable: seconds, not minutes.
const TIMEOUT_MS: u32 = 60_000;
const SENSE_LENGTH: usize = 252;

/// `struct sg_io_hdr`.
#[repr(C)]
struct Header {
    interface_id: i32,
    direction: i32,
    cdb_length: u8,
    sense_room: u8,
    iovec_count: u16,
    data_length: u32,
    data: *mut libc::c_void,
    cdb: *const u8,
    sense: *mut u8,
    timeout_ms: u32,
    flags: u32,
    pack_id: i32,
    user: *mut libc::c_void,
    status: u8,
    masked_status: u8,
    message_status: u8,
    sense_written: u8,
    host_status: u16,
    driver_status: u16,
    residual: i32,
    duration_ms: u32,
    info: u32,
}

/// A device of the kernel.
pub(crate) struct ScsiDevice {
    file: File,
    name: String,
}

impl ScsiDevice {
    /// Opens it. Reading and writing, because the kernel lets only writers send vendor specific commands.
    pub(crate) fn open(path: &Path) -> Result<InBand<Self>, TransportError> {
        let name = path.display().to_string();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| TransportError::new(&name, error))?;
        Ok(InBand::new(Self { file, name }))
    }

    fn send(&self, header: &mut Header) -> io::Result<()> {
        // SAFETY: SG_IO reads and writes one `sg_io_hdr`, which `Header` is, field by field, and the memory its
        // pointers and lengths describe. `command` below fills them from slices that live, unmoved, until this
        // returns, those of data-in and sense being mutable ones. The kernel keeps no pointer past the call.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), SG_IO, std::ptr::from_mut(header)) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

impl PassThrough for ScsiDevice {
    fn command(
        &mut self,
        cdb: [u8; 16],
        data_out: &[u8],
        data_in: u32,
    ) -> Result<Completion, TransportError> {
        // One buffer serves both directions; a command has only one of them.
        let mut data = if data_out.is_empty() {
            vec![0; data_in as usize]
        } else {
            data_out.to_vec()
        };
        let mut sense = [0u8; SENSE_LENGTH];
        let direction = match (data_out.is_empty(), data_in) {
            (false, _) => DIRECTION_TO_DEVICE,
            (true, 0) => DIRECTION_NONE,
            (true, _) => DIRECTION_FROM_DEVICE,
        };
        let mut header = Header {
            interface_id: i32::from(b'S'),
            direction,
            cdb_length: 16,
            sense_room: SENSE_LENGTH as u8,
            iovec_count: 0,
            data_length: data.len() as u32,
            data: data.as_mut_ptr().cast(),
            cdb: cdb.as_ptr(),
            sense: sense.as_mut_ptr(),
            timeout_ms: TIMEOUT_MS,
            flags: 0,
            pack_id: 0,
            user: std::ptr::null_mut(),
            status: 0,
            masked_status: 0,
            message_status: 0,
            sense_written: 0,
            host_status: 0,
            driver_status: 0,
            residual: 0,
            duration_ms: 0,
            info: 0,
        };
        self.send(&mut header)
            .map_err(|error| TransportError::new(&self.name, format!("SG_IO: {error}")))?;
        if header.host_status != 0 {
            let text = format!(
                "the host adapter reports status {:#x}: the device does not answer",
                header.host_status
            );
            return Err(TransportError::new(&self.name, text));
        }
        if direction == DIRECTION_FROM_DEVICE {
            let missing = usize::try_from(header.residual).unwrap_or(0);
            data.truncate(data.len().saturating_sub(missing));
        } else {
            data.clear();
        }
        Ok(Completion {
            status: header.status,
            sense: sense[..usize::from(header.sense_written).min(SENSE_LENGTH)].to_vec(),
            data_in: data,
        })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn kernel(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layout of `scsi/sg.h` on 64-bit systems.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn layout() {
        assert_eq!(size_of::<Header>(), 88);
        assert_eq!(std::mem::offset_of!(Header, data), 16);
        assert_eq!(std::mem::offset_of!(Header, timeout_ms), 40);
        assert_eq!(std::mem::offset_of!(Header, user), 56);
        assert_eq!(std::mem::offset_of!(Header, status), 64);
        assert_eq!(std::mem::offset_of!(Header, residual), 72);
    }

    #[test]
    fn no_device_is_unreachable() {
        assert!(ScsiDevice::open(Path::new("/nonexistent/sg0")).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut device = ScsiDevice {
            file: file.reopen().unwrap(),
            name: "file".to_owned(),
        };
        assert!(
            device.command([0; 16], &[], 0).is_err(),
            "a regular file takes no SG_IO"
        );
    }
}
