//! The link: cut between any two messages; what is not ordered arrives in any order.

use super::*;

pub(super) type Delivery = (u64, Request, oneshot::Sender<Response>);

/// Both ways of the link. A connection has a number; what belongs to an earlier one is never delivered.
pub(super) struct Link {
    pub(super) dice: Dice,
    pub(super) slots: [Slot; 2],
    pub(super) up: AtomicBool,
    pub(super) connection: AtomicU64,
    /// Messages that still pass before it is cut.
    pub(super) left: AtomicU64,
    pub(super) cuts: watch::Sender<u64>,
    pub(super) serving: AtomicUsize,
    pub(super) served: Notify,
    pub(super) ledger: Arc<Ledger>,
}

pub(super) const UNCUT: u64 = u64::MAX;

impl Link {
    pub(super) fn is(&self, connection: u64) -> bool {
        self.up.load(Ordering::SeqCst) && self.connection.load(Ordering::SeqCst) == connection
    }

    /// One more message would pass. `false`: it does not.
    pub(super) fn passes(&self, connection: u64) -> bool {
        let fewer = |left: u64| (left != UNCUT).then(|| left.saturating_sub(1));
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer) == Ok(0) {
            self.cut();
        }
        self.is(connection)
    }

    pub(super) fn cut(&self) {
        self.left.store(UNCUT, Ordering::SeqCst);
        if self.is(self.connection.load(Ordering::SeqCst)) {
            self.note_equality();
        }
        if self.up.swap(false, Ordering::SeqCst) {
            let next = self.connection.fetch_add(1, Ordering::SeqCst) + 1;
            self.cuts.send_replace(next);
        }
    }

    /// In sync mode, what was acknowledged until now is on both sides if the pair is DUPLEX still.
    pub(super) fn note_equality(&self) {
        let now = self.ledger.now();
        let Some(near) = lock(&self.slots[0]).upgrade() else {
            return;
        };
        for volume in [1, 2] {
            if self.ledger.mode == CopyMode::Sync && state_of(&near, volume) == Some(PairState::Duplex) {
                self.ledger.equal_until(volume, now);
            }
        }
    }

    /// Both sides hear of the cut when all that had arrived is done, and only then are connected anew.
    pub(super) async fn settle(&self) {
        loop {
            let served = self.served.notified();
            tokio::pin!(served);
            served.as_mut().enable();
            if self.serving.load(Ordering::SeqCst) == 0 {
                break;
            }
            served.await;
        }
        for (slot, peer) in self.slots.iter().zip(["HF-B", "HF-A"]) {
            if let Some(array) = lock(slot).upgrade() {
                array.link_lost(&id(peer), "it was cut");
            }
        }
    }

    pub(super) async fn mend(&self) {
        if self.up.load(Ordering::SeqCst) {
            return;
        }
        self.settle().await;
        self.up.store(true, Ordering::SeqCst);
        for slot in &self.slots {
            if let Some(array) = lock(slot).upgrade() {
                array.link_found();
            }
        }
    }

    pub(super) async fn deliver(
        self: Arc<Self>,
        to: usize,
        from: SystemId,
        mut arriving: mpsc::UnboundedReceiver<Delivery>,
    ) {
        while let Some((connection, request, answer)) = arriving.recv().await {
            if self.dice.below(4) == 0 {
                tokio::task::yield_now().await;
            }
            self.serving.fetch_add(1, Ordering::SeqCst);
            let array = lock(&self.slots[to]).upgrade();
            let (true, Some(array)) = (self.passes(connection), array) else {
                self.done();
                continue;
            };
            let ordered = request.ordered();
            let serving = array.serve(&from, 7, request);
            drop(array);
            let link = Arc::clone(&self);
            let end = async move {
                if !ordered && link.dice.below(3) == 0 {
                    tokio::time::sleep(Duration::from_micros(link.dice.below(2000))).await;
                }
                let response = serving.await;
                if link.passes(connection) {
                    let _ = answer.send(response);
                }
                link.done();
            };
            if ordered {
                end.await;
            } else {
                tokio::spawn(end);
            }
        }
    }

    pub(super) fn done(&self) {
        if self.serving.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.served.notify_waiters();
        }
    }
}

pub(super) struct End {
    pub(super) link: Arc<Link>,
    pub(super) requests: mpsc::UnboundedSender<Delivery>,
}

impl Paths for End {
    fn request(&self, _: &SystemId, request: Request) -> PathFuture {
        let gone = || NoPath("the link is cut".to_owned());
        let mut cuts = self.link.cuts.subscribe();
        let connection = *cuts.borrow_and_update();
        if !self.link.is(connection) {
            return Box::pin(std::future::ready(Err(gone())));
        }
        let (answer, answered) = oneshot::channel();
        let _ = self.requests.send((connection, request, answer));
        Box::pin(async move {
            tokio::select! {
                biased;
                _ = cuts.changed() => Err(gone()),
                response = answered => response.map_err(|_| gone()),
            }
        })
    }

    fn knows(&self, _: &SystemId) -> bool {
        true
    }

    fn is_up(&self, _: &SystemId) -> bool {
        self.link.up.load(Ordering::SeqCst)
    }
}
