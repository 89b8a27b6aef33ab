//! Counters of one connection: written by its task alone, once a batch, and read by anybody.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The shared cells.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    commands: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    round_trip_microseconds: AtomicU64,
}

/// What the connection's task counts since it last published.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commands: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// A reading of the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reading {
    pub(crate) commands: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) round_trip: Option<Duration>,
}

impl Cells {
    /// Adds the counts and starts them afresh. One writer only: no read-modify-write is needed.
    pub(crate) fn publish(&self, counters: &mut Counters) {
        let add = |cell: &AtomicU64, count: u64| {
            if count > 0 {
                cell.store(cell.load(Relaxed) + count, Relaxed);
            }
        };
        add(&self.commands, counters.commands);
        add(&self.bytes_in, counters.bytes_in);
        add(&self.bytes_out, counters.bytes_out);
        *counters = Counters::default();
    }

    /// Keeps the round trip time of the last NOP-In.
    pub(crate) fn round_trip(&self, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        // 0 says that nothing was measured yet.
        self.round_trip_microseconds.store(microseconds.max(1), Relaxed);
    }

    pub(crate) fn read(&self) -> Reading {
        let round_trip = self.round_trip_microseconds.load(Relaxed);
        Reading {
            commands: self.commands.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            round_trip: (round_trip > 0).then(|| Duration::from_micros(round_trip)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_start_afresh() {
        let cells = Cells::default();
        let mut counters = Counters {
            commands: 2,
            bytes_in: 10,
            bytes_out: 0,
        };
        cells.publish(&mut counters);
        counters.commands = 1;
        cells.publish(&mut counters);
        assert_eq!(
            cells.read(),
            Reading {
                commands: 3,
                bytes_in: 10,
                ..Reading::default()
            }
        );
        cells.round_trip(Duration::from_millis(2));
        assert_eq!(cells.read().round_trip, Some(Duration::from_millis(2)));
    }
}
