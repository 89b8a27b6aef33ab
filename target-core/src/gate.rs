//! A gate that many pass at once and one can close: the lock of a path that must cost next to nothing.
//!
//! Passing is one atomic addition, leaving one subtraction. Whoever closes the gate then waits for those inside to
//! leave and has the place to itself until it opens it again. A plain volume closes its gate for the moment of a
//! COMPARE AND WRITE; `replication` closes one while a volume joins the engine.
//!
//! The word: bit 63 says closed, the rest counts those inside. Nobody enters while bit 63 is set, so that once the
//! word equals bit 63 alone the place is empty and stays so. Wake-ups follow the usual order (register, look
//! again, sleep), so none is lost.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

const CLOSED: u64 = 1 << 63;

/// See the module's page.
#[derive(Debug, Default)]
pub struct Gate {
    word: AtomicU64,
    /// The last one inside left a closed gate.
    drained: Notify,
    /// The gate opened.
    opened: Notify,
}

impl Gate {
    /// An open gate, nobody inside.
    pub fn new() -> Self {
        Self::default()
    }

    /// A closed gate, nobody inside.
    pub fn closed() -> Self {
        Self {
            word: AtomicU64::new(CLOSED),
            ..Self::default()
        }
    }

    /// Goes in, unless the gate is closed.
    pub fn enter(&self) -> Option<Pass<'_>> {
        self.count_in().then(|| Pass { gate: self })
    }

    /// As [`Self::enter`], with a pass that can go to another thread.
    pub fn enter_owned(self: &Arc<Self>) -> Option<OwnedPass> {
        self.count_in().then(|| OwnedPass { gate: self.clone() })
    }

    /// Goes in as soon as the gate is open.
    pub async fn enter_when_open(self: Arc<Self>) -> OwnedPass {
        loop {
            if let Some(pass) = self.enter_owned() {
                return pass;
            }
            self.wait_open().await;
        }
    }

    /// Closes the gate, after others that have closed it, and waits until everybody is out. Given up before the
    /// end, it leaves the gate open.
    pub async fn close_and_drain(&self) {
        while self.word.fetch_or(CLOSED, Ordering::AcqRel) & CLOSED != 0 {
            self.wait_open().await;
        }
        let reopen_if_given_up = Reopen { gate: self };
        wait_until(&self.drained, || self.word.load(Ordering::Acquire) == CLOSED).await;
        std::mem::forget(reopen_if_given_up);
    }

    /// [`Self::close_and_drain`] with a guard that opens the gate again when dropped.
    pub async fn exclusive(self: Arc<Self>) -> Exclusive {
        self.close_and_drain().await;
        Exclusive { gate: self }
    }

    /// Opens the gate.
    pub fn reopen(&self) {
        self.word.fetch_and(!CLOSED, Ordering::Release);
        self.opened.notify_waiters();
    }

    /// Is it closed at this moment?
    pub fn is_closed(&self) -> bool {
        self.word.load(Ordering::Acquire) & CLOSED != 0
    }

    fn count_in(&self) -> bool {
        let add = |word: u64| (word & CLOSED == 0).then_some(word + 1);
        self.word
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, add)
            .is_ok()
    }

    fn count_out(&self) {
        if self.word.fetch_sub(1, Ordering::Release) == CLOSED | 1 {
            self.drained.notify_waiters();
        }
    }

    async fn wait_open(&self) {
        wait_until(&self.opened, || !self.is_closed()).await;
    }
}

/// Being inside; leaves when dropped.
#[derive(Debug)]
pub struct Pass<'gate> {
    gate: &'gate Gate,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.count_out();
    }
}

/// Being inside; leaves when dropped, wherever that is.
#[derive(Debug)]
pub struct OwnedPass {
    gate: Arc<Gate>,
}

impl Drop for OwnedPass {
    fn drop(&mut self) {
        self.gate.count_out();
    }
}

/// Being alone behind the closed gate; opens it when dropped.
#[derive(Debug)]
pub struct Exclusive {
    gate: Arc<Gate>,
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        self.gate.reopen();
    }
}

struct Reopen<'gate> {
    gate: &'gate Gate,
}

impl Drop for Reopen<'_> {
    fn drop(&mut self) {
        self.gate.reopen();
    }
}

async fn wait_until(notify: &Notify, condition: impl Fn() -> bool + Send) {
    loop {
        let notified = notify.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if condition() {
            return;
        }
        notified.await;
    }
}

/// What the futures here promise to their callers.
fn _futures_are_send(gate: &Arc<Gate>) {
    fn send(_: impl Future + Send) {}
    send(gate.close_and_drain());
    send(gate.clone().exclusive());
    send(gate.clone().enter_when_open());
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicBool, time::Duration};

    use super::*;

    #[tokio::test]
    async fn closed_means_nobody_enters_and_everybody_is_out() {
        let gate = Arc::new(Gate::new());
        let inside = gate.enter_owned().unwrap();
        let closing = tokio::spawn({
            let gate = gate.clone();
            async move { gate.close_and_drain().await }
        });
        while !gate.is_closed() {
            tokio::task::yield_now().await;
        }
        assert!(gate.enter().is_none());
        assert!(!closing.is_finished());
        drop(inside);
        closing.await.unwrap();
        assert!(gate.enter().is_none());
        gate.reopen();
        assert!(gate.enter().is_some());
    }

    #[tokio::test]
    async fn a_close_given_up_leaves_the_gate_open() {
        let gate = Arc::new(Gate::new());
        let _inside = gate.enter_owned().unwrap();
        let closing = tokio::time::timeout(Duration::from_millis(5), gate.close_and_drain());
        assert!(closing.await.is_err());
        assert!(gate.enter().is_some());
    }

    /// Threads increment a plain pair of counters under a pass and check under exclusion that nobody is half way.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn exclusion_holds_under_threads() {
        let gate = Arc::new(Gate::new());
        let busy = Arc::new(AtomicU64::new(0));
        let alone = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let (gate, busy, alone) = (gate.clone(), busy.clone(), alone.clone());
            tasks.push(tokio::spawn(async move {
                for _ in 0..2000 {
                    let _pass = gate.clone().enter_when_open().await;
                    busy.fetch_add(1, Ordering::SeqCst);
                    assert!(!alone.load(Ordering::SeqCst));
                    busy.fetch_sub(1, Ordering::SeqCst);
                }
            }));
        }
        for _ in 0..2 {
            let (gate, busy, alone) = (gate.clone(), busy.clone(), alone.clone());
            tasks.push(tokio::spawn(async move {
                for _ in 0..500 {
                    let exclusive = gate.clone().exclusive().await;
                    assert!(!alone.swap(true, Ordering::SeqCst), "two are alone");
                    assert_eq!(busy.load(Ordering::SeqCst), 0);
                    alone.store(false, Ordering::SeqCst);
                    drop(exclusive);
                    tokio::task::yield_now().await;
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    }
}
