//! Log pages, and the thresholds of a thin unit.

use std::sync::Mutex;

use scsi_model::{log_pages::IoStatistics, logical_block_provisioning::Space};

use super::*;
use crate::{gauge::Gauge, volume::IoFuture};

/// A gauge that says what it is told to.
struct Dial {
    space: Mutex<Space>,
    reads: Mutex<u64>,
}

impl Dial {
    /// On the first unit of the rig.
    fn on(rig: &Rig) -> Arc<Self> {
        let space = Space {
            available: 100 << 20,
            used: 1 << 20,
        };
        let dial = Arc::new(Self {
            space: Mutex::new(space),
            reads: Mutex::new(0),
        });
        rig.units[0].set_gauge(dial.clone());
        dial
    }

    fn leave(&self, available: u64) {
        self.space.lock().unwrap().available = available;
    }
}

impl Gauge for Dial {
    fn statistics(&self) -> IoStatistics {
        IoStatistics {
            reads: *self.reads.lock().unwrap(),
            ..IoStatistics::default()
        }
    }

    fn space(&self) -> IoFuture<Option<Space>> {
        let space = *self.space.lock().unwrap();
        Box::pin(async move { Ok(Some(space)) })
    }
}

const TEST_UNIT_READY: [u8; 6] = [0; 6];

fn log(page: u8) -> [u8; 10] {
    [0x4D, 0, 0x40 | page, 0, 0, 0, 0, 1, 0, 0]
}

/// MODE SELECT(10) that enables the threshold on what is available, at this many MiB, saved.
fn warn_below(mebibytes: u8) -> ([u8; 10], Vec<u8>) {
    let mut list = vec![0; 8];
    list.extend([0x5C, 2, 0, 0x1C, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    list.extend([0x82, 1, 0, 0, 0, 0, 0, mebibytes, 1, 2, 0, 0, 0, 0, 0, 0]);
    ([0x55, 0x11, 0, 0, 0, 0, 0, 0, list.len() as u8, 0], list)
}

#[tokio::test]
async fn everybody_hears_once_of_a_threshold_reached() {
    let rig = Rig::new();
    let dial = Dial::on(&rig);
    let (one, two) = (rig.nexus("iqn.one").await, rig.nexus("iqn.two").await);
    let (cdb, list) = warn_below(50);
    assert_eq!(sense(&run(&one, 0, &cdb, &list).await), None);
    assert_eq!(
        sense(&run(&two, 0, &TEST_UNIT_READY, &[]).await),
        Some((6, 0x2A, 1))
    );
    for (left, told) in [
        (51 << 20, false),
        (50 << 20, true),
        (40 << 20, false),
        (60 << 20, false),
        (50 << 20, true),
    ] {
        dial.leave(left);
        rig.units[0].check_space().await.unwrap();
        for nexus in [&one, &two] {
            let heard = sense(&run(nexus, 0, &TEST_UNIT_READY, &[]).await);
            assert_eq!(heard, told.then_some((6, 0x38, 7)), "{left} bytes left");
        }
    }
    assert_eq!(run(&one, 0, &log(0x0C), &[]).await.data_in[8..12], [0, 0, 0, 50]);
}

#[tokio::test]
async fn log_select_resets_the_counters_and_tells_the_others() {
    let rig = Rig::new();
    let dial = Dial::on(&rig);
    let (one, two) = (rig.nexus("iqn.one").await, rig.nexus("iqn.two").await);
    let stop = [0x1B, 0, 0, 0, 0, 0];
    assert_eq!(sense(&run(&one, 0, &stop, &[]).await), None);
    *dial.reads.lock().unwrap() = 5;
    assert_eq!(run(&one, 0, &log(0x19), &[]).await.data_in[15], 5);
    assert_eq!(run(&one, 0, &log(0x0E), &[]).await.data_in[39], 1);
    let reset = [0x4C, 2, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(sense(&run(&one, 0, &reset, &[]).await), None);
    assert_eq!(
        sense(&run(&two, 0, &TEST_UNIT_READY, &[]).await),
        Some((6, 0x2A, 2))
    );
    *dial.reads.lock().unwrap() = 7;
    assert_eq!(run(&one, 0, &log(0x19), &[]).await.data_in[15], 2);
    assert_eq!(run(&one, 0, &log(0x0E), &[]).await.data_in[39], 0);
}

#[tokio::test]
async fn a_unit_that_cannot_tell_its_space_has_no_page_for_it() {
    let rig = Rig::new();
    let nexus = rig.nexus("iqn.one").await;
    assert_eq!(sense(&run(&nexus, 0, &log(0x0C), &[]).await), Some((5, 0x24, 0)));
    assert!(!run(&nexus, 0, &log(0), &[]).await.data_in.contains(&0x0C));
    assert_eq!(run(&nexus, 0, &log(0x19), &[]).await.data_in.len(), 84);
}
