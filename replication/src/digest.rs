//! Digests of pieces of a volume: what two systems, or two disks, compare instead of bytes. SHA-256, so that nobody who may write to a volume
//! can make two different tracks look the same.

use link_proto::header::DIGEST_BYTES;
use ring::digest::{SHA256, digest};
use target_core::{
    buffer::Buffer,
    volume::{Extent, IoError},
};
use tokio::runtime::{Handle, RuntimeFlavor};

/// One of them.
pub(crate) type Digest = [u8; DIGEST_BYTES];

/// The digest of each piece of these bytes. Made beside the tasks that do I/O.
pub(crate) async fn of_pieces(bytes: Buffer, piece: usize) -> Result<Vec<Digest>, IoError> {
    let digests = move || bytes.chunks(piece.max(1)).map(of).collect();
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        // There is one thread, by intent.
        return Ok(digests());
    }
    tokio::task::spawn_blocking(digests)
        .await
        .map_err(|error| IoError::Internal(format!("no digest was made: {error}")))
}

/// The digests of so many zeros.
pub(crate) fn of_zeros(length: usize, piece: usize) -> Vec<Digest> {
    let piece = piece.max(1);
    let zeros = vec![0; piece.min(length)];
    let whole = of(&zeros);
    let mut digests = vec![whole; length / piece];
    if !length.is_multiple_of(piece) {
        digests.push(of(&zeros[..length % piece]));
    }
    digests
}

/// Is the whole range a hole, by the first extent that begins in it?
pub(crate) fn is_hole(first: Option<&Extent>, offset: u64, length: u64) -> bool {
    first.is_some_and(|extent| {
        !extent.mapped && extent.offset <= offset && extent.offset + extent.length >= offset + length
    })
}

fn of(bytes: &[u8]) -> Digest {
    let mut made = [0; DIGEST_BYTES];
    made.copy_from_slice(digest(&SHA256, bytes).as_ref());
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn zeros_have_the_digests_of_zeros() {
        for length in [1, 511, 512, 513, 2048] {
            let read = of_pieces(Buffer::zeroed(length), 512).await.unwrap();
            assert_eq!(of_zeros(length, 512), read, "{length}");
        }
        let mut other = Buffer::zeroed(1024);
        other[600] = 1;
        let read = of_pieces(other, 512).await.unwrap();
        assert_eq!(read[0], of_zeros(512, 512)[0]);
        assert_ne!(read[1], read[0]);
    }
}
