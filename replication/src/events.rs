//! What happened lately: a bounded ring of numbered events, and a live stream of them (`holdfast events --follow`).
//!
//! Each event is also a log line. Numbers go up by one; a reader that finds a gap knows how many it missed.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex},
};

use replication_engine::{events::Event, ids::VolumeId, state::PairState};
use target_core::{
    scsi_model::control::VolumeNumber,
    throttle::{LeftOut, Throttle},
};
use tokio::{sync::broadcast, time::Instant};

use crate::{
    lock,
    machine::{Machine, ThisMachine},
    remote::Remote,
};

/// How many events the ring keeps.
pub const KEPT_EVENTS: usize = 1024;

/// An event, numbered and dated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// From 1, without gaps, since the daemon started.
    pub sequence: u64,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// What happened.
    pub event: ArrayEvent,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArrayEvent {
    /// A pair changed state.
    State {
        /// Primary.
        primary: VolumeNumber,
        /// Mirror.
        mirror: VolumeNumber,
        /// State before, by name.
        from: &'static str,
        /// State after, by name.
        to: &'static str,
        /// Reason code of docs/control-cdb.md when nobody asked for it, else 0.
        reason: u8,
        /// What people call the volume that is another system's, if one is.
        far: Option<String>,
    },
    /// An I/O of the engine failed: a copy, or the mirror's leg of a host write.
    IoFailed {
        /// The volume that failed.
        volume: VolumeNumber,
        /// What the system said.
        reason: String,
        /// How many failures of this volume before it were counted only.
        left_out: u64,
    },
    /// A flush of a volume in a pair failed. What may be lost is marked in its pairs.
    CacheLost {
        /// Which.
        volume: VolumeNumber,
    },
    /// The metadata journal failed: nothing is changed any more until the daemon starts again.
    JournalFailed {
        /// What the system said.
        reason: String,
    },
    /// A volume was added.
    VolumeAdded {
        /// Which.
        volume: VolumeNumber,
    },
    /// A volume was removed.
    VolumeRemoved {
        /// Which.
        volume: VolumeNumber,
    },
    /// A volume was resized.
    VolumeResized {
        /// Which.
        volume: VolumeNumber,
        /// Capacity now, in bytes.
        bytes: u64,
    },
    /// Whoever serves the array has done, or not done, something of its own.
    Told {
        /// In one word, what it is about.
        kind: &'static str,
        /// How much it matters.
        level: Level,
        /// The sentence for people.
        text: String,
    },
}

impl ArrayEvent {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Self::State { reason: 0, .. }
            | Self::VolumeAdded { .. }
            | Self::VolumeRemoved { .. }
            | Self::VolumeResized { .. } => Level::Info,
            Self::State { .. } => Level::Warning,
            Self::IoFailed { .. } | Self::CacheLost { .. } | Self::JournalFailed { .. } => Level::Error,
            Self::Told { level, .. } => *level,
        }
    }
}

fn is_foreign(volume: VolumeNumber) -> bool {
    VolumeId(volume.0).is_foreign()
}

/// What the engine says, in the array's terms: foreign volumes by their names, and of a remote pair whose backup is under way what people know of it,
/// which may be nothing.
pub(crate) fn event_of(event: &Event, remote: &Remote) -> Option<ArrayEvent> {
    match event {
        Event::State {
            primary,
            mirror,
            from,
            to,
            reason,
        } => {
            let foreign = [primary, mirror].into_iter().find(|volume| volume.is_foreign());
            let pair = foreign.and_then(|volume| remote.pair_of(*volume));
            let shown = |state: PairState| pair.as_ref().map_or(state, |pair| pair.shown(state));
            let (from, to) = (shown(*from), shown(*to));
            (from != to).then(|| ArrayEvent::State {
                primary: VolumeNumber(primary.0),
                mirror: VolumeNumber(mirror.0),
                from: from.name(),
                to: to.name(),
                reason: *reason,
                far: pair.map(|pair| pair.far_name()),
            })
        }
        Event::CacheLost { volume } => Some(ArrayEvent::CacheLost {
            volume: VolumeNumber(volume.0),
        }),
    }
}

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As asked for.
    Info,
    /// Nobody asked for it.
    Warning,
    /// Something failed.
    Error,
}

/// The sentence for people.
impl fmt::Display for ArrayEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State {
                primary,
                mirror,
                from,
                to,
                reason,
                far,
            } => {
                let name = |volume: &VolumeNumber| match far {
                    Some(far) if is_foreign(*volume) => far.clone(),
                    _ => volume.0.to_string(),
                };
                write!(
                    f,
                    "pair {} -> {}: {from} became {to}",
                    name(primary),
                    name(mirror)
                )?;
                match reason {
                    0 => Ok(()),
                    1 => f.write_str(" because the link went down"),
                    2 => f.write_str(" because of an I/O error on the mirror"),
                    3 => f.write_str(" because of an I/O error on the primary"),
                    4 => f.write_str(" in the recovery after a crash"),
                    5 => f.write_str(" because the peer refused"),
                    other => write!(f, " for reason {other}"),
                }
            }
            Self::IoFailed {
                volume,
                reason,
                left_out,
            } => {
                if is_foreign(*volume) {
                    // The reason names it.
                    f.write_str(reason)?;
                } else {
                    write!(f, "volume {}: {reason}", volume.0)?;
                }
                match left_out {
                    0 => Ok(()),
                    more => write!(f, " (and {more} more failures before)"),
                }
            }
            Self::CacheLost { volume } if is_foreign(*volume) => {
                f.write_str("a flush of a far volume failed; what may be lost of it is marked in its pair")
            }
            Self::CacheLost { volume } => write!(
                f,
                "volume {}: a flush failed; what may be lost of it is marked in its pairs",
                volume.0
            ),
            Self::JournalFailed { reason } => {
                write!(
                    f,
                    "the metadata journal failed ({reason}): nothing is changed any more until a restart"
                )
            }
            Self::VolumeAdded { volume } => write!(f, "volume {} was added", volume.0),
            Self::VolumeRemoved { volume } => write!(f, "volume {} was removed", volume.0),
            Self::VolumeResized { volume, bytes } => write!(f, "volume {} has {bytes} bytes now", volume.0),
            Self::Told { text, .. } => f.write_str(text),
        }
    }
}

/// The ring and the stream.
#[derive(Debug)]
pub struct EventLog {
    machine: Arc<dyn Machine>,
    ring: Mutex<Ring>,
    stream: broadcast::Sender<EventRecord>,
    /// Failures come with every I/O: each volume has a few to say.
    failures: Mutex<BTreeMap<VolumeNumber, Throttle>>,
}

#[derive(Debug, Default)]
struct Ring {
    last: u64,
    kept: VecDeque<EventRecord>,
}

impl EventLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::on(Arc::new(ThisMachine))
    }

    /// An empty log, whose times are this machine's.
    pub(crate) fn on(machine: Arc<dyn Machine>) -> Self {
        Self {
            machine,
            ring: Mutex::default(),
            stream: broadcast::channel(KEPT_EVENTS).0,
            failures: Mutex::default(),
        }
    }

    /// An I/O failed. A volume that fails and fails is heard of now and then, with the number of failures in between.
    pub fn push_failure(&self, volume: VolumeNumber, reason: String) {
        let admitted = lock(&self.failures)
            .entry(volume)
            .or_insert_with(Throttle::per_io)
            .admit(Instant::now().into_std());
        if let Some(LeftOut(left_out)) = admitted {
            self.push(ArrayEvent::IoFailed {
                volume,
                reason,
                left_out,
            });
        }
    }

    /// Numbers, keeps, logs and sends an event.
    pub fn push(&self, event: ArrayEvent) {
        log(&event);
        let mut ring = lock(&self.ring);
        ring.last += 1;
        let record = EventRecord {
            sequence: ring.last,
            at_ms: self.machine.unix_ms(),
            event,
        };
        if ring.kept.len() == KEPT_EVENTS {
            ring.kept.pop_front();
        }
        ring.kept.push_back(record.clone());
        // Sent under the lock, so that the stream has the order of the numbers. Nobody listening is fine.
        let _ = self.stream.send(record);
    }

    /// The kept events after that number, oldest first; 0 gives all that are kept.
    pub fn since(&self, sequence: u64) -> Vec<EventRecord> {
        lock(&self.ring)
            .kept
            .iter()
            .filter(|record| record.sequence > sequence)
            .cloned()
            .collect()
    }

    /// The kept events after that number and a stream of those that follow, with no gap between.
    pub fn follow(&self, sequence: u64) -> (Vec<EventRecord>, broadcast::Receiver<EventRecord>) {
        let ring = lock(&self.ring);
        let receiver = self.stream.subscribe();
        (
            ring.kept
                .iter()
                .filter(|record| record.sequence > sequence)
                .cloned()
                .collect(),
            receiver,
        )
    }
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

fn log(event: &ArrayEvent) {
    match event.level() {
        Level::Info => tracing::info!("{event}"),
        Level::Warning => tracing::warn!("{event}"),
        Level::Error => tracing::error!("{event}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(number: u32) -> ArrayEvent {
        ArrayEvent::VolumeAdded {
            volume: VolumeNumber(number),
        }
    }

    #[test]
    fn the_ring_is_bounded_and_numbers_have_no_gap() {
        let log = EventLog::new();
        for number in 0..KEPT_EVENTS as u32 + 10 {
            log.push(added(number));
        }
        let kept = log.since(0);
        assert_eq!(kept.len(), KEPT_EVENTS);
        assert!(kept.windows(2).all(|two| two[1].sequence == two[0].sequence + 1));
        assert_eq!(log.since(kept.last().unwrap().sequence - 2).len(), 2);
    }

    #[test]
    fn a_volume_that_fails_every_time_neither_floods_nor_hides_another() {
        let log = EventLog::new();
        for _ in 0..1000 {
            log.push_failure(VolumeNumber(1), "gone".into());
        }
        log.push_failure(VolumeNumber(2), "gone too".into());
        let kept = log.since(0);
        assert!(kept.len() < 20, "{} events", kept.len());
        assert_eq!(kept.last().unwrap().event.to_string(), "volume 2: gone too");
        let counted = ArrayEvent::IoFailed {
            volume: VolumeNumber(1),
            reason: "gone".into(),
            left_out: 995,
        };
        assert_eq!(
            counted.to_string(),
            "volume 1: gone (and 995 more failures before)"
        );
    }

    /// S45: the stream that programs follow.
    #[test]
    fn a_follower_gets_the_past_and_then_the_future() {
        let log = EventLog::new();
        log.push(added(1));
        let (past, mut stream) = log.follow(0);
        log.push(added(2));
        assert_eq!(past.len(), 1);
        assert_eq!(stream.try_recv().unwrap().sequence, 2);
        assert!(stream.try_recv().is_err());
    }
}
