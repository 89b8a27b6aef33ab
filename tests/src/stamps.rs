//! What each sector of a volume may hold.
//!
//! Every write carries a stamp of its own, repeated all over each of its sectors together with the sector's address: a sector
//! that is read tells which write it came from, whether it lies where it belongs, and whether it is whole. Zeros are the
//! stamp 0: never written, or unmapped. A [`Picture`] knows for each sector the stamps it may have: one that is settled, and the
//! others that a write in flight, a write nobody answered, or a command in flight may have brought.

/// Bytes of a sector.
pub const SECTOR: usize = 512;

/// Which write a sector comes from; 0 for zeros.
pub type Stamp = u64;

/// Stands for the address in a sector that WRITE SAME repeats.
pub const ANYWHERE: u64 = 0x0000_ffff_ffff_ffff;

/// The sector of a write at an address.
pub fn sector(stamp: Stamp, lba: u64) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    if stamp != 0 {
        for (index, word) in bytes.chunks_exact_mut(16).enumerate() {
            word[..8].copy_from_slice(&(lba ^ (index as u64) << 48).to_be_bytes());
            word[8..].copy_from_slice(&stamp.to_be_bytes());
        }
    }
    bytes
}

/// The sectors of a write.
pub fn sectors(stamp: Stamp, first: u64, count: u64) -> Vec<u8> {
    (first..first + count)
        .flat_map(|lba| sector(stamp, lba))
        .collect()
}

/// The stamp of what was read at `lba`; says what is wrong with it if it is no whole sector of that place.
pub fn stamp_of(bytes: &[u8], lba: u64) -> Result<Stamp, String> {
    let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let (place, stamp) = (word(0), word(8));
    if bytes == sector(stamp, place) {
        if stamp == 0 || place == lba || place == ANYWHERE {
            return Ok(stamp);
        }
        return Err(format!("sector {lba} holds sector {place} of write {stamp}"));
    }
    Err(format!(
        "sector {lba} is torn: it begins as write {stamp}, and goes on {:02x?}",
        bytes
            .chunks(16)
            .zip(sector(stamp, place).chunks(16))
            .find(|(is, should)| is != should)
            .map(|(is, _)| is)
    ))
}

/// What one sector may hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    /// The last that is certain.
    pub settled: Stamp,
    /// Or one of these.
    pub others: Vec<Stamp>,
}

impl Cell {
    /// May it hold this?
    pub fn allows(&self, stamp: Stamp) -> bool {
        self.settled == stamp || self.others.contains(&stamp)
    }

    fn add(&mut self, stamp: Stamp) {
        if !self.allows(stamp) {
            self.others.push(stamp);
        }
    }
}

/// What a volume may hold, sector by sector.
#[derive(Debug, Clone)]
pub struct Picture(Vec<Cell>);

impl Picture {
    /// Zeros.
    pub fn empty(sectors: u64) -> Self {
        Self(vec![Cell::default(); sectors as usize])
    }

    /// Exactly this.
    pub fn of(stamps: &[Stamp]) -> Self {
        let cell = |stamp: &Stamp| Cell {
            settled: *stamp,
            others: Vec::new(),
        };
        Self(stamps.iter().map(cell).collect())
    }

    /// The cells of a range.
    pub fn cells(&self, first: u64, count: u64) -> &[Cell] {
        &self.0[first as usize..(first + count) as usize]
    }

    fn cells_mut(&mut self, first: u64, count: u64) -> &mut [Cell] {
        &mut self.0[first as usize..(first + count) as usize]
    }

    /// A write may land from now on.
    pub fn begin(&mut self, first: u64, count: u64, stamp: Stamp) {
        for cell in self.cells_mut(first, count) {
            cell.add(stamp);
        }
    }

    /// The write has landed; nothing else can be there.
    pub fn settle(&mut self, first: u64, count: u64, stamp: Stamp) {
        for cell in self.cells_mut(first, count) {
            cell.settled = stamp;
            cell.others.clear();
        }
    }

    /// The write was refused. Zeros stay possible: others than this write may have been able to bring them.
    pub fn withdraw(&mut self, first: u64, count: u64, stamp: Stamp) {
        if stamp != 0 {
            for cell in self.cells_mut(first, count) {
                cell.others.retain(|other| *other != stamp);
            }
        }
    }

    /// Either picture may be true.
    pub fn merge(&mut self, other: &Self) {
        for (cell, more) in self.0.iter_mut().zip(&other.0) {
            cell.add(more.settled);
            for stamp in &more.others {
                cell.add(*stamp);
            }
        }
    }

    /// Compares all that was read with what may be there. What was seen is what must be there from now on: an unanswered write
    /// may have landed or not, but does not come and go.
    pub fn check(&mut self, content: &[u8]) -> Result<Vec<Stamp>, String> {
        let mut seen = Vec::with_capacity(self.0.len());
        for ((lba, cell), bytes) in self.0.iter_mut().enumerate().zip(content.chunks_exact(SECTOR)) {
            let stamp = stamp_of(bytes, lba as u64)?;
            if !cell.allows(stamp) {
                return Err(format!(
                    "sector {lba} holds write {stamp}, but only {} or one of {:?} may be there",
                    cell.settled, cell.others
                ));
            }
            cell.settled = stamp;
            cell.others.clear();
            seen.push(stamp);
        }
        if seen.len() == self.0.len() {
            Ok(seen)
        } else {
            Err(format!("{} sectors instead of {}", seen.len(), self.0.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_tells_where_it_comes_from() {
        assert_eq!(stamp_of(&sector(7, 9), 9), Ok(7));
        assert_eq!(stamp_of(&sector(7, ANYWHERE), 9), Ok(7));
        assert_eq!(stamp_of(&[0; SECTOR], 9), Ok(0));
        assert!(stamp_of(&sector(7, 9), 8).is_err(), "misplaced");
        let mut torn = sector(7, 9);
        torn[256..].copy_from_slice(&sector(8, 9)[256..]);
        assert!(stamp_of(&torn, 9).is_err(), "torn");
    }

    #[test]
    fn a_lost_write_may_have_landed_and_then_stays() {
        let mut picture = Picture::empty(2);
        picture.begin(0, 2, 5);
        picture.settle(0, 2, 5);
        picture.begin(0, 1, 6);
        let content = [sector(6, 0), sector(5, 1)].concat();
        assert_eq!(picture.check(&content), Ok(vec![6, 5]));
        let back = [sector(5, 0), sector(5, 1)].concat();
        assert!(picture.check(&back).is_err());
    }

    #[test]
    fn an_answered_write_must_be_there() {
        let mut picture = Picture::empty(1);
        picture.begin(0, 1, 5);
        picture.settle(0, 1, 5);
        assert!(picture.check(&[0; SECTOR]).is_err());
    }
}
