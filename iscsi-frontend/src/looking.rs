//! A look at the socket before sleeping, where the next command is about to come.
//!
//! With one command under way at a time, nearly all of its latency is sleeping and being woken: the initiator's thread and
//! this session's, each in turn. A session that looks at its socket for as long as the next command takes to come saves its half. That
//! costs CPU time, so it is bounded on all sides:
//!
//! * Only an initiator that waits for each answer before it sends the next command is looked out for: its commands say
//!   (ExpStatSN) that it knows all answers. With several under way, sleeping gathers commands, and what is received together is cheaper.
//! * Only when its pauses have been short of late. A pause is the time from the last answer to the next command.
//! * Only for a short time. After a look in vain the next waits are slept through, twice as many each time, so that
//!   an initiator for whom it does not pay costs nothing in the end.
//! * Between two tries other threads and tasks have their turn. When they took it, the time belongs to them: the look ends.
//! * Only some sessions at once, and none where there is one CPU: the initiator, if it is on this machine, could not send.
//!
//! [`Looking`] decides, without clock or socket.

use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

use crate::link::{Link, Ready};
use tokio::{sync::Semaphore, task::yield_now};

/// Two tries are not further apart unless something else ran. With 5 us, less than a command of another session takes, no look lasted on
/// the machine of docs/performance.md.
const TURN: Duration = Duration::from_micros(20);

/// A pause counts as so many longest looks at most, and so does what is not known: after one that long it takes about sixteen short ones
/// before there is a look.
const LONG: u32 = 16;

/// A pause that was slept through has the waking in it, which a look saves: the mean pause may be so many longest looks.
const WORTH: u32 = 2;

/// The most waits that are slept through after looks in vain.
const MOST_PASSED: u32 = 1024;

/// When one connection is worth looking at.
#[derive(Debug)]
pub(crate) struct Looking {
    /// The longest look; zero: never.
    longest: Duration,
    /// What has come since the last wait, if anything.
    came: Option<Came>,
    /// The begin of a wait of which the pause is to be known.
    since: Option<Duration>,
    /// Until when it is looked.
    until: Option<Duration>,
    /// Mean of the last pauses.
    pause: Duration,
    /// Waits to be slept through before the next look.
    pass: u32,
    /// How many those were last.
    passed: u32,
}

/// What came between two waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// PDUs of an initiator that knew all answers.
    InTurn,
    /// Others among them.
    Ahead,
}

impl Looking {
    /// Looks take `longest` at most; zero: there are none.
    pub(crate) fn new(longest: Duration) -> Self {
        Self {
            longest,
            came: None,
            since: None,
            until: None,
            pause: longest * LONG,
            pass: 0,
            passed: 0,
        }
    }

    /// Another bound holds from now on.
    pub(crate) fn set_longest(&mut self, longest: Duration) {
        if longest != self.longest {
            *self = Self::new(longest);
        }
    }

    /// A PDU came; did the initiator know all answers when it sent it?
    pub(crate) fn heard(&mut self, knows_all: bool) {
        if !knows_all {
            self.came = Some(Came::Ahead);
        } else if self.came.is_none() {
            self.came = Some(Came::InTurn);
        }
    }

    /// Is the pause that begins now of interest? Else there is nothing to decide, and no clock to be read.
    pub(crate) fn is_in_turn(&mut self) -> bool {
        match self.came.take() {
            Some(Came::InTurn) => !self.longest.is_zero(),
            Some(Came::Ahead) => {
                self.pause = self.longest * LONG;
                false
            }
            // It waits on, and has looked.
            None => false,
        }
    }

    /// A wait begins at `now`, with everything answered: until when to look at the socket. `None` to sleep at once.
    pub(crate) fn begin(&mut self, now: Duration) -> Option<Duration> {
        self.since = Some(now);
        self.until = None;
        if self.pause <= self.longest * WORTH {
            match self.pass.checked_sub(1) {
                Some(left) => self.pass = left,
                None => self.until = Some(now + self.longest),
            }
        }
        self.until
    }

    /// There is no look now, for a reason that says nothing about the initiator.
    pub(crate) fn pass_over(&mut self) {
        self.until = None;
    }

    /// The look has ended with nothing.
    pub(crate) fn in_vain(&mut self) {
        if self.until.take().is_some() {
            self.passed = (self.passed * 2).clamp(1, MOST_PASSED);
            self.pass = self.passed;
        }
    }

    /// Something was received at `now`.
    pub(crate) fn received(&mut self, now: Duration) {
        let Some(since) = self.since.take() else { return };
        let pause = now.saturating_sub(since).min(self.longest * LONG);
        self.pause = self.pause * 7 / 8 + pause / 8;
        match self.until {
            // Something else ran for so long that a sleep would have been no worse.
            Some(until) if now > until => self.in_vain(),
            Some(_) => {
                self.until = None;
                self.passed /= 2;
            }
            None => {}
        }
    }
}

impl Link {
    /// Looks at the socket, if that is worth it: what it is ready for, or `None` when it is to be slept. Safe to cancel. Everything
    /// is answered, and nothing of this session is under way. `origin` is that of all times here.
    pub(crate) async fn look(&mut self, origin: Instant, places: &Semaphore) -> Option<Ready> {
        if !self.looking.is_in_turn()
            || self.straight.is_some()
            || !self.batch.is_empty()
            || !self.out.is_empty()
        {
            return None;
        }
        let mut last = origin.elapsed();
        let until = self.looking.begin(last)?;
        let Ok(_place) = places.try_acquire() else {
            self.looking.pass_over();
            return None;
        };
        loop {
            if let Some(received) = self.receive.look(&self.socket) {
                return Some(Ready::Received(received));
            }
            thread::yield_now();
            yield_now().await;
            let now = origin.elapsed();
            if now > until || now > last + TURN {
                break;
            }
            last = now;
        }
        self.looking.in_vain();
        None
    }
}

/// How many sessions may look at once: on half of the CPUs, or none where there is one.
pub(crate) fn places() -> usize {
    let usable = thread::available_parallelism().map_or(1, usize::from);
    if usable == 1 && !has_more_cpus(fs::read_to_string("/sys/devices/system/cpu/online")) {
        return 0;
    }
    (usable / 2).max(1)
}

/// Has the machine more CPUs than the one that this process is bound to? `online` lists them: `0-3` or `0,2`.
fn has_more_cpus(online: io::Result<String>) -> bool {
    online.is_ok_and(|online| online.contains(['-', ',']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_micros(100);

    /// An initiator that sends a command some time after each answer, and a connection that waits for it.
    struct Exchange {
        looking: Looking,
        now: Duration,
    }

    impl Exchange {
        fn new() -> Self {
            Self {
                looking: Looking::new(LONGEST),
                now: Duration::from_secs(1),
            }
        }

        /// One command that comes after `pause`, and whether the socket was looked at.
        fn command(&mut self, pause: Duration) -> bool {
            self.looking.heard(true);
            self.wait(pause)
        }

        fn wait(&mut self, pause: Duration) -> bool {
            let until = self
                .looking
                .is_in_turn()
                .then(|| self.looking.begin(self.now))
                .flatten();
            self.now += pause;
            if until.is_some_and(|until| self.now > until) {
                self.looking.in_vain();
            }
            self.looking.received(self.now);
            until.is_some()
        }

        fn commands(&mut self, count: usize, pause: Duration) -> usize {
            (0..count).filter(|_| self.command(pause)).count()
        }
    }

    const SOON: Duration = Duration::from_micros(60);
    const LATE: Duration = Duration::from_millis(50);

    #[test]
    fn looks_when_the_next_command_comes_soon_time_and_again() {
        let mut exchange = Exchange::new();
        assert_eq!(exchange.commands(8, SOON), 0, "nothing is known yet");
        exchange.commands(16, SOON);
        assert_eq!(exchange.commands(1000, SOON), 1000);
    }

    #[test]
    fn an_idle_connection_is_not_looked_at() {
        let mut exchange = Exchange::new();
        assert_eq!(exchange.commands(100, LATE), 0);
        exchange.commands(100, SOON);
        let looks = exchange.commands(100, LATE);
        assert_eq!(looks, 1, "the first long pause was not to be known");
    }

    #[test]
    fn nor_one_that_is_switched_off() {
        let mut exchange = Exchange::new();
        exchange.looking.set_longest(Duration::ZERO);
        assert_eq!(exchange.commands(1000, Duration::ZERO), 0);
        exchange.looking.set_longest(LONGEST);
        assert!(exchange.commands(1000, SOON) > 900);
    }

    #[test]
    fn an_initiator_that_does_not_wait_for_answers_is_left_to_gather_commands() {
        let mut exchange = Exchange::new();
        exchange.commands(100, SOON);
        exchange.looking.heard(true);
        exchange.looking.heard(false);
        assert!(!exchange.wait(SOON));
        assert_eq!(exchange.commands(8, SOON), 0, "what was known is forgotten");
        for _ in 0..1000 {
            exchange.looking.heard(false);
            assert!(!exchange.wait(SOON));
        }
    }

    #[test]
    fn a_wait_that_goes_on_is_not_looked_at_again() {
        let mut exchange = Exchange::new();
        exchange.commands(100, SOON);
        assert!(!exchange.wait(SOON), "nothing has come since");
    }

    #[test]
    fn looks_that_do_not_pay_become_rare() {
        let mut exchange = Exchange::new();
        exchange.commands(100, SOON);
        let just_too_late = LONGEST + Duration::from_micros(10);
        let looks = exchange.commands(100_000, just_too_late);
        assert!(looks < 120, "{looks} of 100,000 in vain");
        let looks = exchange.commands(10_000, SOON);
        assert!(looks > 7000, "{looks} of 10,000 that would pay");
    }

    #[test]
    fn one_look_in_vain_costs_little() {
        let mut exchange = Exchange::new();
        exchange.commands(100, SOON);
        let mut looks = 0;
        for _ in 0..100 {
            looks += exchange.commands(9, SOON);
            looks += usize::from(exchange.command(LONGEST + SOON));
        }
        assert!(looks > 850, "{looks} of 1000, of which 100 are in vain");
    }

    #[test]
    fn what_comes_after_others_had_their_turn_did_not_pay() {
        let mut looking = Looking::new(LONGEST);
        looking.pause = SOON;
        looking.heard(true);
        assert!(looking.is_in_turn());
        let until = looking.begin(Duration::ZERO).unwrap();
        looking.received(until + Duration::from_millis(3));
        assert_eq!(looking.pass, 1);
    }

    #[test]
    fn a_list_of_cpus_is_more_than_one() {
        let several = |text: &str| has_more_cpus(Ok(text.to_owned()));
        assert!(several("0-1\n") && several("0,2\n"));
        assert!(!several("0\n") && !several(""));
        assert!(!has_more_cpus(Err(io::Error::other("no such file"))));
    }
}
