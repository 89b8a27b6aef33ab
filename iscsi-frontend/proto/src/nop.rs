//! Keeping a connection alive with NOP-In (RFC 7143 11.19): is the initiator still there, and how long is the way?
//!
//! A silent connection is asked after `interval`; when nothing at all is heard for `patience` after that, it is dead.
//! Times are counted from an instant of the caller's choice.

use std::time::Duration;

/// When a silent initiator is asked, and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepaliveTimes {
    /// It is asked after this time of silence; `None`: never.
    pub interval: Option<Duration>,
    /// Asked, it is given up after this time.
    pub patience: Duration,
}

impl Default for KeepaliveTimes {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_secs(15)),
            patience: Duration::from_secs(30),
        }
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepaliveAction {
    /// Nothing before this time.
    WaitUntil(Duration),
    /// Nothing at all: it is switched off.
    Idle,
    /// Send a NOP-In with this target transfer tag and ask again.
    Ask(u32),
    /// Nobody answers: drop the connection.
    Dead,
}

/// The keepalive of one connection.
#[derive(Debug, Clone)]
pub struct Keepalive {
    times: KeepaliveTimes,
    heard: Duration,
    asked: Option<(u32, Duration)>,
    next_tag: u32,
}

impl Keepalive {
    /// The keepalive of a connection that is there from `now` on.
    pub fn new(times: KeepaliveTimes, now: Duration) -> Self {
        Self {
            times,
            heard: now,
            asked: None,
            next_tag: 1,
        }
    }

    /// These times hold from now on, for a question that is not answered yet too.
    pub fn set_times(&mut self, times: KeepaliveTimes) {
        self.times = times;
    }

    /// Something arrived.
    pub fn heard(&mut self, now: Duration) {
        self.heard = now;
    }

    /// A NOP-Out with this target transfer tag arrived: the round trip time if it answers the question asked last.
    pub fn answered(&mut self, tag: u32, now: Duration) -> Option<Duration> {
        let (asked, at) = self.asked?;
        (asked == tag).then(|| {
            self.asked = None;
            now.saturating_sub(at)
        })
    }

    /// Asks out of turn: the target transfer tag for the NOP-In.
    pub fn ask(&mut self, now: Duration) -> u32 {
        let tag = self.next_tag;
        // FFFFFFFFh means "no tag".
        self.next_tag = if tag == u32::MAX - 1 { 1 } else { tag + 1 };
        self.asked = Some((tag, now));
        tag
    }

    /// What is due at `now`.
    pub fn due(&mut self, now: Duration) -> KeepaliveAction {
        let Some(interval) = self.times.interval else {
            return KeepaliveAction::Idle;
        };
        // Anything heard after the question shows that the other side lives, even if it never answers.
        let unheard_question = self.asked.filter(|&(_, at)| at >= self.heard);
        let deadline = match unheard_question {
            Some((_, at)) => at + self.times.patience,
            None => self.heard + interval,
        };
        match unheard_question {
            _ if now < deadline => KeepaliveAction::WaitUntil(deadline),
            Some(_) => KeepaliveAction::Dead,
            None => KeepaliveAction::Ask(self.ask(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn times(interval: u64, patience: u64) -> KeepaliveTimes {
        KeepaliveTimes {
            interval: Some(seconds(interval)),
            patience: seconds(patience),
        }
    }

    #[test]
    fn silence_is_asked_then_given_up() {
        let mut keepalive = Keepalive::new(times(15, 30), seconds(0));
        assert_eq!(keepalive.due(seconds(3)), KeepaliveAction::WaitUntil(seconds(15)));
        assert_eq!(keepalive.due(seconds(15)), KeepaliveAction::Ask(1));
        assert_eq!(
            keepalive.due(seconds(16)),
            KeepaliveAction::WaitUntil(seconds(45))
        );
        assert_eq!(keepalive.due(seconds(45)), KeepaliveAction::Dead);
    }

    #[test]
    fn an_answer_gives_the_round_trip_once() {
        let mut keepalive = Keepalive::new(times(15, 30), seconds(0));
        keepalive.due(seconds(20));
        keepalive.heard(seconds(21));
        assert_eq!(keepalive.answered(7, seconds(21)), None);
        assert_eq!(keepalive.answered(1, seconds(21)), Some(seconds(1)));
        assert_eq!(keepalive.answered(1, seconds(21)), None);
        assert_eq!(
            keepalive.due(seconds(30)),
            KeepaliveAction::WaitUntil(seconds(36))
        );
    }

    #[test]
    fn any_traffic_after_the_question_is_life() {
        let mut keepalive = Keepalive::new(times(15, 30), seconds(0));
        assert_eq!(keepalive.due(seconds(15)), KeepaliveAction::Ask(1));
        keepalive.heard(seconds(40));
        assert_eq!(
            keepalive.due(seconds(50)),
            KeepaliveAction::WaitUntil(seconds(55))
        );
        assert_eq!(keepalive.due(seconds(55)), KeepaliveAction::Ask(2));
    }

    #[test]
    fn other_times_hold_at_once() {
        let mut keepalive = Keepalive::new(times(15, 30), seconds(0));
        assert_eq!(keepalive.due(seconds(15)), KeepaliveAction::Ask(1));
        keepalive.set_times(times(2, 3));
        assert_eq!(
            keepalive.due(seconds(16)),
            KeepaliveAction::WaitUntil(seconds(18))
        );
        keepalive.heard(seconds(17));
        assert_eq!(keepalive.due(seconds(19)), KeepaliveAction::Ask(2));
        assert_eq!(keepalive.due(seconds(22)), KeepaliveAction::Dead);
    }

    #[test]
    fn off_is_off() {
        let off = KeepaliveTimes {
            interval: None,
            ..times(0, 1)
        };
        let mut keepalive = Keepalive::new(off, seconds(0));
        assert_eq!(keepalive.due(seconds(100_000)), KeepaliveAction::Idle);
    }
}
