//! How many bytes the copiers of all pairs may start to copy: what the configuration allows, and what the hosts' latency
//! leaves. Credit comes with time and is spent when a run starts; a run may be paid for afterwards, so that one that is
//! larger than a second's credit runs too. Copies that a host waits for are not held back.

use crate::{
    ids::Tick,
    pacer::{Pacer, Window},
};

/// See the module's page.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    configured: Bucket,
    left_by_hosts: Bucket,
    pacer: Pacer,
    /// Since the last adjustment.
    window: Window,
    adjusted: Tick,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: u64, latency_factor: u32) -> Self {
        Self {
            configured: Bucket::new(bytes_per_second, SECOND),
            left_by_hosts: Bucket::new(0, SECOND / 5),
            pacer: Pacer::new(latency_factor),
            window: Window::default(),
            adjusted: Tick(0),
        }
    }

    pub(crate) fn set_rate(&mut self, bytes_per_second: u64) {
        self.configured.rate = bytes_per_second;
    }

    pub(crate) fn set_latency_factor(&mut self, percent: u32) {
        self.pacer = Pacer::new(percent);
        self.left_by_hosts.set_rate(0);
    }

    pub(crate) fn hear_hosts(&mut self, ios: u64, nanos: u64) {
        self.window.ios += ios;
        self.window.nanos = self.window.nanos.saturating_add(nanos);
    }

    pub(crate) fn allowance(&self) -> Option<u64> {
        (self.left_by_hosts.rate > 0).then_some(self.left_by_hosts.rate)
    }

    /// Once a tick.
    pub(crate) fn adjust(&mut self, now: Tick, copying: bool) {
        let mut window = core::mem::take(&mut self.window);
        window.passed = now.0.saturating_sub(self.adjusted.0);
        window.copying = copying;
        self.adjusted = now;
        let allowed = self.pacer.observe(&window);
        self.left_by_hosts.set_rate(allowed.unwrap_or(0));
    }

    pub(crate) fn is_used_up(&mut self, now: Tick) -> bool {
        // Both, so that both go with the time.
        let (one, other) = (
            self.configured.is_used_up(now),
            self.left_by_hosts.is_used_up(now),
        );
        one || other
    }

    pub(crate) fn spend(&mut self, bytes: u64) {
        self.window.copied += bytes;
        self.configured.add(bytes, -1);
        self.left_by_hosts.add(bytes, -1);
    }

    /// What was paid for holes comes back.
    pub(crate) fn refund(&mut self, bytes: u64) {
        self.window.copied = self.window.copied.saturating_sub(bytes);
        self.configured.add(bytes, 1);
        self.left_by_hosts.add(bytes, 1);
    }
}

const SECOND: u64 = 1_000_000_000;

/// Credit for one rate. It may be in debt for the last runs.
#[derive(Debug, Clone)]
struct Bucket {
    /// Bytes a second; 0: no limit.
    rate: u64,
    /// Nanoseconds of credit that are kept at most.
    depth: u64,
    credit: i64,
    since: Tick,
}

impl Bucket {
    fn new(rate: u64, depth: u64) -> Self {
        Self {
            rate,
            depth,
            credit: 0,
            since: Tick(0),
        }
    }

    fn set_rate(&mut self, rate: u64) {
        if self.rate == 0 {
            self.credit = 0;
        }
        self.rate = rate;
    }

    fn is_used_up(&mut self, now: Tick) -> bool {
        if self.rate == 0 {
            return false;
        }
        let worth =
            |nanos: u64| i64::try_from(u128::from(self.rate) * u128::from(nanos) / u128::from(SECOND));
        let earned = worth(now.0.saturating_sub(self.since.0).min(self.depth)).unwrap_or(i64::MAX);
        if earned > 0 {
            self.since = now;
            let most = worth(self.depth).unwrap_or(i64::MAX);
            self.credit = self.credit.saturating_add(earned).min(most);
        }
        self.credit <= 0
    }

    fn add(&mut self, bytes: u64, sign: i64) {
        if self.rate > 0 {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            self.credit = self.credit.saturating_add(sign * bytes);
        }
    }
}
