//! A disk that loses with the power what was not flushed.

use super::*;

/// A disk with a cache that is lost with the power.
pub(super) struct Volatile(pub(super) Mutex<[Vec<u8>; 2]>);

impl Volatile {
    pub(super) fn new() -> Self {
        Self(Mutex::new([vec![0; SIZE as usize], vec![0; SIZE as usize]]))
    }

    /// Any block that was not flushed since it was written may be as it was then.
    pub(super) fn lose_power(&self, dice: &Dice) {
        let [now, stable] = &mut *lock(&self.0);
        let all = dice.below(3) == 0;
        for (now, stable) in now.chunks_mut(BLOCK).zip(stable.chunks_mut(BLOCK)) {
            if now != stable && (all || dice.below(2) == 0) {
                now.copy_from_slice(stable);
            } else {
                stable.copy_from_slice(now);
            }
        }
    }
}

impl Media for Volatile {
    fn length(&self) -> u64 {
        SIZE
    }

    fn set_length(&self, _: u64) -> Result<(), IoError> {
        Err(IoError::Internal("it has one length".into()))
    }

    fn never_waits(&self) -> bool {
        true
    }

    fn caches_writes(&self) -> bool {
        true
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> Fast<()> {
        Fast::Done(self.read_at(offset, buffer))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), IoError> {
        let at = offset as usize;
        buffer.copy_from_slice(&lock(&self.0)[0][at..at + buffer.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8], durable: bool) -> Result<(), IoError> {
        let at = offset as usize;
        let [now, stable] = &mut *lock(&self.0);
        now[at..at + data.len()].copy_from_slice(data);
        if durable {
            stable[at..at + data.len()].copy_from_slice(data);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), IoError> {
        let [now, stable] = &mut *lock(&self.0);
        stable.copy_from_slice(now);
        Ok(())
    }

    fn punch(&self, offset: u64, length: u64) -> Result<(), IoError> {
        self.write_at(offset, &vec![0; length as usize], false)
    }

    fn zero(&self, offset: u64, length: u64) -> Result<(), IoError> {
        self.punch(offset, length)
    }

    fn extents(&self, offset: u64, _: usize) -> Result<Vec<Extent>, IoError> {
        Ok(vec![Extent {
            offset,
            length: SIZE - offset,
            mapped: true,
        }])
    }
}
