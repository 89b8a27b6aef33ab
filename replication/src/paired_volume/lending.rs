//! Copies that carry no data ([`target_core::loan`]), out of a volume and into one.
//!
//! In a pair both are I/Os that pass (`replication_engine::passage`), or are not made at all. A read that passes means that the volume's own disk has
//! what hosts see, and keeps it there. A write that passes has left its marks, and all that a split image needs is safe. It passes
//! within one region, so a copy is made region by region.

use std::sync::Arc;

use replication_engine::effects::HostIo;
use target_core::{
    loan::Loan,
    volume::{Volume, VolumeInfo},
};

use super::{PairedVolume, byte_range};
use crate::{array::Array, passing::Passing};

impl PairedVolume {
    /// `None`: hosts would be refused, or read something else than what its disk holds there.
    pub(super) fn lend_either_way(&self, offset: u64, length: u64) -> Option<Loan> {
        let pass = self.gate.enter_owned()?;
        self.serves_hosts().ok()?;
        let loan = self.plain.lend(offset, length)?;
        if !self.in_pair() {
            return self.ready().then(|| loan.holding(pass));
        }
        let range = byte_range(offset, length);
        let passing = Passing::begin(self.array.upgrade()?, self.id(), HostIo::Read, range, false)?;
        Some(loan.holding(passing).holding(pass))
    }

    /// `false`: not all of it passes, or another system has to have it too.
    pub(super) async fn copy_in_either_way(&self, offset: u64, loan: &Loan) -> bool {
        let Some(_pass) = self.gate.enter() else {
            return false;
        };
        if self.serves_hosts().is_err() {
            return false;
        }
        if !self.in_pair() {
            return self.ready() && self.plain.copy_lent(offset, loan).await;
        }
        let VolumeInfo { thin, .. } = *self.plain.info();
        let Some(array) = self.array.upgrade().filter(|_| thin) else {
            return false;
        };
        let region = array.region_bytes();
        let mut done = 0;
        while done < loan.length() {
            let at = offset + done;
            let piece = (region - at % region).min(loan.length() - done);
            if !self.copy_in_region(&array, (at, piece), loan, done).await {
                return false;
            }
            done += piece;
        }
        true
    }

    async fn copy_in_region(
        &self,
        array: &Arc<Array>,
        (at, length): (u64, u64),
        loan: &Loan,
        from: u64,
    ) -> bool {
        let range = byte_range(at, length);
        let Some(passing) = Passing::begin(array, self.id(), HostIo::Write, range, false) else {
            return false;
        };
        let lent = loan.stretch().part(from, length);
        let (copied, failed) = passing.copy(self.plain.disk(), range, lent).await;
        passing.end(&failed) && copied
    }
}
