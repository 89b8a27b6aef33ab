//! SANITIZE: over the whole unit, in the background if asked for, to the end whatever happens to the session.

use std::sync::Arc;

use bytes::Bytes;
use scsi_model::plan::{Sanitize, SanitizeMethod};

use super::{Outcome, Task};
use crate::{
    buffer::Buffer,
    logical_unit::LogicalUnit,
    volume::{IoError, Volume},
};

/// Written at once.
const PIECE: u64 = 1 << 20;
/// Made a hole at once.
const ERASED_PIECE: u64 = 256 << 20;

impl Task {
    pub(super) async fn sanitize(&self, sanitize: Sanitize) -> Result<Outcome, IoError> {
        // What is to be gone must not stay in the store of what tokens stand for.
        self.unit.watched().revoke_all();
        let run = tokio::spawn(run(self.unit.clone(), sanitize.method, self.identity.bytes()));
        if !sanitize.immediate {
            let lost = |_| IoError::Internal("the sanitize operation was lost".into());
            run.await.map_err(lost)??;
        }
        Ok(Outcome::Good)
    }
}

async fn run(unit: Arc<LogicalUnit>, method: SanitizeMethod, length: u64) -> Result<(), IoError> {
    let result = overwrite(&unit, method, length).await;
    if let Err(error) = &result {
        tracing::error!(?unit, %error, "a sanitize operation failed");
    }
    unit.with_device(|device| device.sanitize_ended(result.is_ok()));
    unit.store_state().await?;
    result
}

async fn overwrite(unit: &LogicalUnit, method: SanitizeMethod, length: u64) -> Result<(), IoError> {
    let volume = unit.volume();
    match method {
        SanitizeMethod::Erase => {
            for (at, piece) in pieces(length, ERASED_PIECE) {
                volume.clone().zero(at, piece, true, false).await?;
                tell_progress(unit, at + piece, length);
            }
        }
        SanitizeMethod::Overwrite {
            pattern,
            passes,
            invert,
        } => {
            let mut buffer = repeated(&pattern, length);
            for pass in 0..u64::from(passes) {
                write_everywhere(unit, &buffer, (pass, u64::from(passes)), length).await?;
                if invert {
                    buffer = buffer.iter().map(|byte| !byte).collect();
                }
            }
        }
    }
    volume.clone().flush().await
}

/// One pass, stable at its end: a pass that only the cache has seen overwrites nothing.
async fn write_everywhere(
    unit: &LogicalUnit,
    buffer: &Bytes,
    (pass, passes): (u64, u64),
    length: u64,
) -> Result<(), IoError> {
    let volume: &Arc<dyn Volume> = unit.volume();
    for (at, piece) in pieces(length, PIECE) {
        volume
            .clone()
            .write(at, buffer.slice(..piece as usize), false)
            .await?;
        tell_progress(unit, pass * length + at + piece, passes * length);
    }
    volume.clone().flush().await
}

fn repeated(pattern: &[u8], length: u64) -> Bytes {
    let mut buffer = Buffer::new(length.min(PIECE) as usize);
    for block in buffer.chunks_mut(pattern.len()) {
        block.copy_from_slice(&pattern[..block.len()]);
    }
    buffer.freeze()
}

fn pieces(length: u64, piece: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..length.div_ceil(piece)).map(move |index| (index * piece, piece.min(length - index * piece)))
}

fn tell_progress(unit: &LogicalUnit, done: u64, all: u64) {
    let progress = u128::from(done) * 0xFFFF / u128::from(all);
    unit.with_device(|device| device.sanitize_progress(progress as u16));
}
