//! What the floor sends.

use std::{ops::Range, sync::Arc};

use super::store::Store;
use crate::out_queue::Payload;

/// Buffers that are kept for the next read.
const KEPT: usize = 64;

pub(super) enum Sent {
    /// Lies in the LUN's memory.
    Memory {
        at: u64,
        length: usize,
    },
    /// Part of what was read from the file. The buffer is free after the last part.
    Read(Arc<Vec<u8>>, Range<usize>),
    Answer(Vec<u8>),
}

impl Payload for Sent {
    type Keeper<'a> = &'a Store;

    fn length(&self) -> usize {
        match self {
            Self::Memory { length, .. } => *length,
            Self::Read(_, range) => range.len(),
            Self::Answer(bytes) => bytes.len(),
        }
    }

    fn bytes<'a, 'k: 'a>(&'a self, store: &'k Store) -> &'a [u8] {
        match self {
            Self::Memory { at, length } => {
                let (memory, at) = store.memory(*at).expect("it was queued because there is memory");
                memory.bytes(at, *length)
            }
            Self::Read(buffer, range) => &buffer[range.clone()],
            Self::Answer(bytes) => bytes,
        }
    }

    fn sent(self, free: &mut Vec<Vec<u8>>) {
        if let Self::Read(buffer, _) = self
            && let Ok(buffer) = Arc::try_unwrap(buffer)
            && free.len() < KEPT
        {
            free.push(buffer);
        }
    }
}
