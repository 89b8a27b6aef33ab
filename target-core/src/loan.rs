//! A stretch of a volume lent for a copy that carries no data: EXTENDED COPY and WRITE USING TOKEN.
//!
//! Data that goes from one volume to another need not come here when both stand on media: the kernel copies it, and on file systems
//! that can the two share the blocks. The source says where its bytes are and keeps them there while the [`Loan`] is held
//! ([`lend`](crate::volume::Volume::lend)); the destination takes them in as it takes a write ([`copy_in`](crate::volume::Volume::copy_in)). Neither waits for anybody: where the one
//! cannot lend or the other cannot take in, the data is read and written as ever. So whoever holds a loan keeps nobody from anything for
//! longer than the copy takes.

use std::{any::Any, future::Future, pin::Pin, sync::Arc};

use crate::{
    disk::Disk,
    media::Copied,
    volume::{IoError, IoFuture},
};

/// `true`: the copy was made. `false`: it was not, or only in part, and the data is to be written.
pub type CopyFuture = Pin<Box<dyn Future<Output = bool> + Send + 'static>>;

/// Bytes of a disk.
#[derive(Clone)]
pub struct Stretch {
    disk: Arc<Disk>,
    offset: u64,
    length: u64,
}

impl Stretch {
    /// So many bytes of it, from here on.
    #[must_use]
    pub fn part(&self, from: u64, length: u64) -> Self {
        Self {
            disk: self.disk.clone(),
            offset: self.offset + from,
            length,
        }
    }

    /// Copies it to a place of a disk. Over itself it is not copied.
    pub fn copy_to(&self, disk: &Arc<Disk>, at: u64) -> IoFuture<Copied> {
        let overlaps = at < self.offset + self.length && self.offset < at + self.length;
        if overlaps && Arc::ptr_eq(&self.disk, disk) {
            let error = IoError::Internal("a copy over itself".into());
            return Box::pin(std::future::ready(Err(error)));
        }
        self.disk.copy_to(self.offset, (disk, at), self.length)
    }
}

/// See the module's page.
pub struct Loan {
    stretch: Stretch,
    /// What keeps the bytes where they are.
    held: Vec<Box<dyn Any + Send + Sync>>,
}

impl Loan {
    /// So many bytes of a disk, from here on.
    pub fn new(disk: Arc<Disk>, offset: u64, length: u64) -> Self {
        let stretch = Stretch { disk, offset, length };
        let held = Vec::new();
        Self { stretch, held }
    }

    /// Holds this, too, until it is given back.
    #[must_use]
    pub fn holding(mut self, held: impl Any + Send + Sync) -> Self {
        self.held.push(Box::new(held));
        self
    }

    /// What is lent.
    pub fn stretch(&self) -> &Stretch {
        &self.stretch
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        self.stretch.length
    }
}

impl std::fmt::Debug for Loan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Stretch { disk, offset, length } = &self.stretch;
        write!(f, "Loan({length} bytes from {offset} of {disk:?})")
    }
}
