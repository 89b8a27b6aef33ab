//! The pacer: how fast copies may run so that hosts' I/O takes at most a configured multiple of what it takes without them.
//!
//! It looks at windows of time, about a tenth of a second each. A window without copies (or with copies at the floor, which
//! hardly matter) tells what latency hosts have by themselves: the *baseline*. A window with copies is compared with it.
//! Above the factor the allowance falls by as much as the latency is too high, at most by half; below it, it grows by
//! a fifth. So it saws about the point where the hosts are just as slow as they may be. Without host I/O copies run
//! unlimited.
//!
//! Noise moves little: one window moves the baseline by an eighth of a doubling at most, a window of few I/Os says nothing
//! by itself and is added to the next, and one bad window takes at most half of the allowance. A workload that changes while a
//! long copy runs would leave the baseline wrong for ever; so while copies are held back, and when no baseline is
//! known, they go down to the floor for three windows every ten seconds, which measures it again.
//!
//! They never stop: [`FLOOR`] is always allowed.

/// Bytes a second that copies may always move.
pub const FLOOR: u64 = 4 << 20;

/// Windows with fewer I/Os of hosts are put together with the next.
const ENOUGH_IOS: u64 = 8;
/// But after so long hosts count as idle.
const IDLE: u64 = SECOND;
/// Windows of a probe that are measured; the one before them sees the end of the copies already under way.
const PROBE: u32 = 3;
/// Time between probes.
const PROBE_EVERY: u64 = 10 * SECOND;
const SECOND: u64 = 1_000_000_000;

/// What happened in a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Its length in nanoseconds.
    pub passed: u64,
    /// Hosts' I/Os that ended in it.
    pub ios: u64,
    /// Nanoseconds they took, together.
    pub nanos: u64,
    /// Bytes that copies moved in it.
    pub copied: u64,
    /// Some pair has something to copy.
    pub copying: bool,
}

/// See the module's page.
#[derive(Debug, Clone)]
pub struct Pacer {
    /// Percent of the baseline; 0: off.
    factor: u32,
    /// Nanoseconds of a host's I/O without copies.
    baseline: Option<u64>,
    /// `None`: no limit.
    allowed: Option<u64>,
    /// Windows that were too short to say anything.
    gathered: Window,
    /// Windows of the probe under way that are left, the first one not measured.
    probing: u32,
    /// What is allowed again after it.
    before_probe: Option<u64>,
    /// Nanoseconds since the baseline was last measured.
    age: u64,
}

impl Pacer {
    /// A pacer that lets hosts' I/O take `factor` percent of its baseline; 0: whatever it takes.
    pub fn new(factor: u32) -> Self {
        Self {
            factor,
            baseline: None,
            allowed: None,
            gathered: Window::default(),
            probing: 0,
            before_probe: None,
            age: 0,
        }
    }

    /// The latency of hosts' I/O without copies, in nanoseconds, when it is known.
    pub fn baseline(&self) -> Option<u64> {
        self.baseline
    }

    /// Takes in a window; says how many bytes a second copies may move in the next, `None` for as many as they like.
    pub fn observe(&mut self, window: &Window) -> Option<u64> {
        if self.factor == 0 {
            return None;
        }
        self.age = self.age.saturating_add(window.passed);
        if self.gathered.copying != window.copying {
            self.gathered = Window::default();
        }
        let all = &mut self.gathered;
        all.copying = window.copying;
        all.passed = all.passed.saturating_add(window.passed);
        all.ios += window.ios;
        all.nanos = all.nanos.saturating_add(window.nanos);
        all.copied = all.copied.saturating_add(window.copied);
        let idle = all.ios == 0 && all.passed >= IDLE;
        if all.ios < ENOUGH_IOS && !idle && all.passed < IDLE {
            return self.allowed;
        }
        let whole = core::mem::take(&mut self.gathered);
        self.judge(&whole);
        self.allowed
    }

    fn judge(&mut self, window: &Window) {
        if !window.copying {
            (self.probing, self.allowed) = (0, None);
            return self.measure(window);
        }
        if window.ios == 0 {
            (self.probing, self.allowed) = (0, None);
            return;
        }
        if self.probing > 0 {
            self.probing -= 1;
            if self.probing < PROBE {
                self.measure(window);
            }
            if self.probing == 0 {
                self.allowed = self.before_probe.take();
            }
            return;
        }
        let held_back = self.allowed.is_some();
        let Some(baseline) = self.baseline.filter(|_| !held_back || self.age < PROBE_EVERY) else {
            self.probing = PROBE + 1;
            self.before_probe = self.allowed.replace(FLOOR);
            return;
        };
        if self.allowed == Some(FLOOR) {
            self.measure(window);
        }
        self.steer(window, baseline);
    }

    fn steer(&mut self, window: &Window, baseline: u64) {
        let latency = window.nanos / window.ios.max(1);
        let limit = (u128::from(baseline) * u128::from(self.factor) / 100).max(1);
        let speed = u128::from(window.copied) * u128::from(SECOND) / u128::from(window.passed.max(1));
        let speed = u64::try_from(speed).unwrap_or(u64::MAX);
        if u128::from(latency) > limit {
            let from = self.allowed.unwrap_or(u64::MAX).min(speed.max(FLOOR));
            let fitting = u128::from(from) * limit / u128::from(latency);
            let fitting = u64::try_from(fitting).unwrap_or(u64::MAX);
            self.allowed = Some(fitting.max(from / 2).max(FLOOR));
        } else if let Some(allowed) = self.allowed {
            // What is allowed and not used is no limit.
            let unused = speed < allowed / 4;
            let more = allowed.saturating_add(allowed / 5);
            self.allowed = (!unused || allowed <= FLOOR * 4).then_some(more);
        }
    }

    fn measure(&mut self, window: &Window) {
        if window.ios == 0 {
            return;
        }
        let latency = (window.nanos / window.ios).max(1);
        self.age = 0;
        self.baseline = Some(match self.baseline {
            None => latency,
            Some(old) => {
                let latency = latency.clamp(old / 2, old.saturating_mul(2));
                (old - old / 8).saturating_add(latency / 8).max(1)
            }
        });
    }
}

#[cfg(test)]
mod tests;
