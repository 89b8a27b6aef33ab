//! Command and status numbering (RFC 7143 4.2.2).
//!
//! Commands of a session are numbered by CmdSN and delivered in that order; the target says with MaxCmdSN how many
//! it takes. The window closes as tasks are in progress and opens as they end: MaxCmdSN never goes back
//! (RFC 7143 4.2.2.1), because a task that begins moves ExpCmdSN and the count in progress together.
//! Responses of a connection are numbered by StatSN.

/// Serial number arithmetic of RFC 1982: is `a` before `b`?
pub fn is_before(a: u32, b: u32) -> bool {
    // The distance forward from a to b is less than half the circle.
    a != b && b.wrapping_sub(a) < 1 << 31
}

/// What to do with a PDU that carries a CmdSN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It is the next one, or immediate: deliver it.
    Now,
    /// It is inside the window, but others come before it: keep it.
    Early,
    /// It is outside the window: ignore it silently (RFC 7143 4.2.2.1).
    Ignore,
}

/// The command window of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandWindow {
    exp_cmd_sn: u32,
    depth: u32,
    in_progress: u32,
}

impl CommandWindow {
    /// The window of a new session: `first` is the CmdSN of the first full feature command, `depth` how many
    /// commands may be in progress.
    pub fn new(first: u32, depth: u32) -> Self {
        Self {
            exp_cmd_sn: first,
            depth,
            in_progress: 0,
        }
    }

    /// The next CmdSN expected.
    pub fn exp_cmd_sn(&self) -> u32 {
        self.exp_cmd_sn
    }

    /// The last CmdSN allowed.
    pub fn max_cmd_sn(&self) -> u32 {
        self.exp_cmd_sn
            .wrapping_add(self.depth - self.in_progress)
            .wrapping_sub(1)
    }

    /// Judges an arrived CmdSN. An immediate PDU carries the number of the next command without using it up.
    pub fn receive(&self, cmd_sn: u32, immediate: bool) -> Delivery {
        if immediate || cmd_sn == self.exp_cmd_sn && self.in_progress < self.depth {
            Delivery::Now
        } else if is_before(self.exp_cmd_sn, cmd_sn) && !is_before(self.max_cmd_sn(), cmd_sn) {
            Delivery::Early
        } else {
            Delivery::Ignore
        }
    }

    /// The expected command is delivered; it is in progress until [`CommandWindow::end`].
    pub fn begin(&mut self) {
        debug_assert!(self.in_progress < self.depth);
        self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        self.in_progress += 1;
    }

    /// One delivered command has ended: there is room for another.
    pub fn end(&mut self) {
        debug_assert!(self.in_progress > 0);
        self.in_progress = self.in_progress.saturating_sub(1);
    }

    /// How many numbered commands are in progress.
    pub fn in_progress(&self) -> u32 {
        self.in_progress
    }
}

/// StatSN of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusNumber {
    next: u32,
}

impl StatusNumber {
    /// Numbering that goes on with `next`.
    pub fn new(next: u32) -> Self {
        Self { next }
    }

    /// The number of the next status, without using it: for R2T and NOP-In that ask.
    pub fn peek(&self) -> u32 {
        self.next
    }

    /// The number for a status that is sent now.
    pub fn take(&mut self) -> u32 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }

    /// May the initiator say that it expects `exp_stat_sn`? It cannot expect what is beyond the next one.
    pub fn is_plausible(&self, exp_stat_sn: u32) -> bool {
        !is_before(self.next, exp_stat_sn)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_wrap() {
        assert!(is_before(u32::MAX, 0));
        assert!(!is_before(0, u32::MAX));
        assert!(!is_before(5, 5));
        let mut window = CommandWindow::new(u32::MAX, 4);
        assert_eq!(window.max_cmd_sn(), 2);
        assert_eq!(window.receive(u32::MAX, false), Delivery::Now);
        assert_eq!(window.receive(2, false), Delivery::Early);
        assert_eq!(window.receive(3, false), Delivery::Ignore);
        assert_eq!(window.receive(u32::MAX - 1, false), Delivery::Ignore);
        window.begin();
        assert_eq!((window.exp_cmd_sn(), window.max_cmd_sn()), (0, 2));
        let mut status = StatusNumber::new(u32::MAX);
        assert!(status.is_plausible(u32::MAX) && !status.is_plausible(0));
        assert_eq!((status.take(), status.take()), (u32::MAX, 0));
        assert!(status.is_plausible(1) && !status.is_plausible(2));
    }

    #[test]
    fn a_full_window_takes_only_immediate_commands() {
        let mut window = CommandWindow::new(10, 2);
        window.begin();
        window.begin();
        assert_eq!(window.max_cmd_sn(), 11, "MaxCmdSN = ExpCmdSN - 1: closed");
        assert_eq!(window.receive(12, false), Delivery::Ignore);
        assert_eq!(window.receive(12, true), Delivery::Now);
        window.end();
        assert_eq!(window.receive(12, false), Delivery::Now);
    }

    proptest! {
        #[test]
        fn max_cmd_sn_never_goes_back(first: u32, steps in proptest::collection::vec(any::<bool>(), 0..200)) {
            let mut window = CommandWindow::new(first, 8);
            let mut last = window.max_cmd_sn();
            for begin in steps {
                if begin && window.in_progress() < 8 {
                    window.begin();
                } else if !begin && window.in_progress() > 0 {
                    window.end();
                }
                prop_assert!(!is_before(window.max_cmd_sn(), last));
                last = window.max_cmd_sn();
            }
        }
    }
}
