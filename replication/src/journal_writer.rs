//! The journal's one writer: a thread (a task, where a [`Machine`] gives turns) that appends what the engine's steps queued, makes it durable and says so.
//!
//! **Group commit.** [`JournalWriter::append`] only encodes a record into a queue; it is called under the engine's
//! mutex, so the queue has the order of the steps. The thread takes all that is queued, writes it at once, and one
//! `fdatasync` later every token in it is answered. While it waits for the disk the next batch gathers.
//!
//! **Rotation.** A file that has outgrown its limit (never less than four snapshots) is replaced: the array, asked by [`Notice::Full`], takes the engine's
//! mutex and hands over a snapshot. The snapshot says all that the records queued before it said, so those need not be
//! written any more: their tokens are answered when the new file is durable. Records queued after it follow it there.
//!
//! **Failure.** Once a write or a sync has failed nobody knows what is on the disk, and trying again could report
//! success for pages the kernel has dropped. The journal is failed for good: every token, now and later, is answered as
//! failed, until the daemon starts again and reads what the file really holds.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use replication_engine::{
    ids::Token,
    journal::{Header, Record, Writer},
};

use tokio::sync::Notify;

use crate::{
    journal_file::first_bytes,
    lock,
    machine::{Machine, Turn},
};

/// Where the writer puts its bytes: [`crate::journal_file::JournalDirectory`], or a faulty one in tests.
pub(crate) trait JournalStore: Send + 'static {
    /// Appends to the present file.
    fn append(&mut self, frames: &[u8]) -> io::Result<()>;
    /// Makes all appended bytes durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Starts the file of the next epoch, durably and atomically, with this content; then the old one goes.
    fn replace(&mut self, epoch: u64, content: &[u8]) -> io::Result<()>;
    /// Bytes in the present file.
    fn size(&self) -> u64;
}

/// What the writer tells the array. Called on the writer's thread: to be handed on, not worked on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// These are durable.
    Durable(Vec<Token>),
    /// These will never be.
    Failed(Vec<Token>),
    /// The file has outgrown its limit: [`JournalWriter::replace`] is wanted.
    Full,
    /// The journal has failed, for this reason. Said once, before the first `Failed`.
    Broken(String),
}

/// Where a file is replaced if nobody says otherwise, in bytes.
pub(crate) const DEFAULT_LIMIT: u64 = 16 << 20;

/// The queue's end of the journal.
pub(crate) struct JournalWriter {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Wake,
}

/// What the writer sleeps on.
enum Wake {
    Thread(Condvar),
    Task(Notify),
}

impl Wake {
    fn one(&self) {
        match self {
            Self::Thread(condition) => condition.notify_one(),
            Self::Task(notify) => notify.notify_one(),
        }
    }
}

struct Queue {
    /// Bytes above which a file is replaced, if it is large against its snapshot, too.
    limit: u64,
    /// Of the file in force, or of the one to be started.
    header: Header,
    /// Numbers the records of that file.
    writer: Writer,
    frames: Vec<u8>,
    tokens: Vec<Token>,
    /// `frames` starts a new file.
    fresh: bool,
    /// Size of the last snapshot, for the limit.
    snapshot: u64,
    /// A `Full` was said and not yet answered.
    asked: bool,
    failed: bool,
    stop: Option<Stop>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Write what is queued, then end.
    Orderly,
    /// End; what is queued was never promised to anybody.
    Abandon,
}

impl JournalWriter {
    /// Starts the writer, and with it a new file: `snapshot` is what it begins with. `limit`: see [`Tuning`].
    ///
    /// [`Tuning`]: crate::array::Tuning
    pub(crate) fn start(
        machine: &Arc<dyn Machine>,
        mut store: impl JournalStore,
        header: Header,
        snapshot: &[Record],
        limit: u64,
        notify: impl Fn(Notice) + Send + 'static,
    ) -> io::Result<Self> {
        let mut queue = Queue::new(header, limit);
        queue.begin(snapshot);
        // The first file is written here and now: nothing is served before it is durable.
        store.replace(queue.header.epoch, &queue.frames)?;
        queue.frames.clear();
        queue.fresh = false;
        queue.writer.synced(queue.writer.last());
        let turn = machine.journal_turn();
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            wake: match turn {
                None => Wake::Thread(Condvar::new()),
                Some(_) => Wake::Task(Notify::new()),
            },
        });
        let writing = Arc::clone(&shared);
        let thread = if let Some(turn) = turn {
            tokio::spawn(run_by_turns(writing, store, notify, Arc::clone(machine), turn));
            None
        } else {
            let thread = std::thread::Builder::new().name("journal".into());
            Some(thread.spawn(move || run(&writing, store, &notify))?)
        };
        Ok(Self {
            shared,
            thread: Mutex::new(thread),
        })
    }

    /// Queues a record. A token is answered once the record, and all before it, are durable, or have failed.
    pub(crate) fn append(&self, record: &Record, token: Option<Token>) {
        let mut queue = lock(&self.shared.queue);
        if !queue.failed {
            let Queue { writer, frames, .. } = &mut *queue;
            writer.append(record, frames);
        }
        queue.tokens.extend(token);
        drop(queue);
        self.shared.wake.one();
    }

    /// Hands over the snapshot that starts the next file: it says all that was queued so far.
    pub(crate) fn replace(&self, snapshot: &[Record]) {
        let mut queue = lock(&self.shared.queue);
        if !queue.failed {
            queue.header.epoch += 1;
            queue.begin(snapshot);
        }
        drop(queue);
        self.shared.wake.one();
    }

    /// Nothing can be made durable any more.
    pub(crate) fn failed(&self) -> bool {
        lock(&self.shared.queue).failed
    }

    /// Writes what is queued and ends the thread. Blocks; a task ends when it has had its turns.
    pub(crate) fn close(&self) {
        self.end(Stop::Orderly);
    }

    fn end(&self, how: Stop) {
        lock(&self.shared.queue).stop.get_or_insert(how);
        self.shared.wake.one();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            // A panic in the thread was reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        self.end(Stop::Abandon);
    }
}

fn run(shared: &Shared, mut store: impl JournalStore, notify: &impl Fn(Notice)) {
    let mut batch = Batch::default();
    while shared.next(&mut batch) {
        shared.write(&mut store, &mut batch, notify);
    }
}

/// Likewise as a task, which writes when it is its turn.
async fn run_by_turns(
    shared: Arc<Shared>,
    mut store: impl JournalStore,
    notify: impl Fn(Notice) + Send,
    machine: Arc<dyn Machine>,
    first: Turn,
) {
    let Wake::Task(wake) = &shared.wake else { return };
    let (mut batch, mut turn) = (Batch::default(), Some(first));
    loop {
        let taken = lock(&shared.queue).take(&mut batch);
        match taken {
            Taken::Over => return,
            Taken::Nothing => wake.notified().await,
            Taken::All => {
                if let Some(turn) = turn.take().or_else(|| machine.journal_turn()) {
                    turn.await;
                }
                shared.write(&mut store, &mut batch, &notify);
            }
        }
    }
}

/// What there was to take of the queue.
enum Taken {
    /// The writer is to end.
    Over,
    Nothing,
    All,
}

/// What the thread writes at once.
#[derive(Default)]
struct Batch {
    frames: Vec<u8>,
    tokens: Vec<Token>,
    epoch: u64,
    /// Number of the last record.
    last: u64,
    fresh: bool,
    failed: bool,
}

impl Shared {
    /// Waits for something to do and takes all of it. `false`: it is over.
    fn next(&self, batch: &mut Batch) -> bool {
        let Wake::Thread(condition) = &self.wake else {
            return false;
        };
        let mut queue = lock(&self.queue);
        loop {
            match queue.take(batch) {
                Taken::Over => return false,
                Taken::All => return true,
                Taken::Nothing => queue = wait(condition, queue),
            }
        }
    }

    /// Makes a batch durable, and says so.
    fn write(&self, store: &mut impl JournalStore, batch: &mut Batch, notify: &impl Fn(Notice)) {
        let tokens = std::mem::take(&mut batch.tokens);
        if batch.failed {
            return notify(Notice::Failed(tokens));
        }
        match commit(store, batch, !tokens.is_empty()) {
            Ok(durable) => {
                let full = self.committed(batch, durable, store.size());
                if !tokens.is_empty() {
                    notify(Notice::Durable(tokens));
                }
                if full {
                    notify(Notice::Full);
                }
            }
            Err(error) => {
                {
                    let mut queue = lock(&self.queue);
                    queue.failed = true;
                    queue.frames = Vec::new();
                    queue.fresh = false;
                }
                notify(Notice::Broken(error.to_string()));
                notify(Notice::Failed(tokens));
            }
        }
    }

    /// Notes how far the journal is durable; says whether a new file is to be asked for.
    fn committed(&self, batch: &Batch, durable: bool, size: u64) -> bool {
        let mut queue = lock(&self.queue);
        // While this batch was written the next file may have been begun: its numbers and its size are others.
        if queue.header.epoch != batch.epoch {
            return false;
        }
        if durable {
            queue.writer.synced(batch.last);
        }
        let limit = queue.limit.max(4 * queue.snapshot);
        size > limit && !std::mem::replace(&mut queue.asked, true)
    }
}

fn wait<'a>(wake: &Condvar, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
    wake.wait(queue).unwrap_or_else(PoisonError::into_inner)
}

/// Whether what was written is durable, too.
fn commit(store: &mut impl JournalStore, batch: &Batch, sync: bool) -> io::Result<bool> {
    if batch.fresh {
        return store.replace(batch.epoch, &batch.frames).map(|()| true);
    }
    store.append(&batch.frames)?;
    // Records that nobody waits for become durable with the next one that somebody does.
    if sync {
        store.sync()?;
    }
    Ok(sync)
}

impl Queue {
    fn new(header: Header, limit: u64) -> Self {
        let writer = Writer::new(&header);
        let (frames, tokens) = (Vec::new(), Vec::new());
        Self {
            limit,
            header,
            writer,
            frames,
            tokens,
            fresh: false,
            snapshot: 0,
            asked: false,
            failed: false,
            stop: None,
        }
    }

    /// The next file begins, with this snapshot in place of whatever was queued.
    fn begin(&mut self, snapshot: &[Record]) {
        self.writer = Writer::new(&self.header);
        self.frames = first_bytes(&self.header);
        for record in snapshot {
            self.writer.append(record, &mut self.frames);
        }
        self.snapshot = self.frames.len() as u64;
        self.fresh = true;
        self.asked = false;
    }

    /// All there is to do.
    fn take(&mut self, batch: &mut Batch) -> Taken {
        match self.stop {
            Some(Stop::Abandon) => return Taken::Over,
            Some(Stop::Orderly) if self.is_empty() => return Taken::Over,
            _ if self.is_empty() => return Taken::Nothing,
            _ => {}
        }
        batch.frames.clear();
        std::mem::swap(&mut batch.frames, &mut self.frames);
        batch.tokens = std::mem::take(&mut self.tokens);
        batch.fresh = std::mem::take(&mut self.fresh);
        batch.epoch = self.header.epoch;
        batch.last = self.writer.last();
        batch.failed = self.failed;
        Taken::All
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.tokens.is_empty() && !self.fresh
    }
}

#[cfg(test)]
mod tests;
