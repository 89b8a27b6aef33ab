//! Commands that wait, in the session that has them.
//!
//! A READ or WRITE that must wait, for a disk or for another system, needs no task: there is nothing to do for it until its answer comes,
//! and then the session is wanted anyway. So its future stays here. Each has a waker of its own, which writes
//! the command's tag on a list and wakes the session if nobody has yet; the session polls what is on the list. Commands
//! whose answers come together are found together by one wake of the session, and answered with one write.
//!
//! What may compute for long between two waits is run on a task of its own instead, where it holds nobody up.

use std::{
    collections::BTreeMap,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use target_core::target::ScsiResponse;

/// A command in progress.
pub(crate) type Running = Pin<Box<dyn Future<Output = ScsiResponse> + Send>>;

/// What came of looking at a command.
pub(crate) enum Look {
    Ended(ScsiResponse),
    Waits,
    /// It panicked.
    Lost,
}

/// Polls a command. A panic must end the command only.
pub(crate) fn look(future: &mut Running, waker: &Waker) -> Look {
    let mut context = Context::from_waker(waker);
    let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
    match polled {
        Ok(Poll::Ready(response)) => Look::Ended(response),
        Ok(Poll::Pending) => Look::Waits,
        Err(_) => Look::Lost,
    }
}

/// The commands, by initiator task tag.
#[derive(Default)]
pub(crate) struct Waiting {
    commands: BTreeMap<u32, Command>,
    woken: Arc<Woken>,
    /// Those being looked at; kept for its memory.
    looked_at: Vec<u32>,
}

struct Command {
    future: Running,
    call: Arc<Call>,
}

/// Whose answers may have come.
#[derive(Default)]
struct Woken {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    tags: Vec<u32>,
    /// The session, while it sleeps.
    session: Option<Waker>,
}

impl Woken {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command's waker. It may outlive the command; the tag's next command is then looked at once in vain.
struct Call {
    tag: u32,
    is_listed: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let session = {
            let mut list = self.woken.list();
            list.tags.push(self.tag);
            list.session.take()
        };
        if let Some(session) = session {
            session.wake();
        }
    }
}

impl Waiting {
    /// Begins a command. It is kept if it waits.
    pub(crate) fn begin(&mut self, tag: u32, mut future: Running) -> Look {
        let call = Arc::new(Call {
            tag,
            is_listed: AtomicBool::new(false),
            woken: Arc::clone(&self.woken),
        });
        let found = look(&mut future, &Waker::from(Arc::clone(&call)));
        if matches!(found, Look::Waits) {
            self.commands.insert(tag, Command { future, call });
        }
        found
    }

    /// Adds those that have ended to `ended`; one that was lost has no response. Ready once there is one.
    pub(crate) fn poll_ended(
        &mut self,
        context: &mut Context<'_>,
        ended: &mut Vec<(u32, Option<ScsiResponse>)>,
    ) -> Poll<()> {
        let mut called = mem::take(&mut self.looked_at);
        mem::swap(&mut called, &mut self.woken.list().tags);
        for tag in called.drain(..) {
            let Some(Command { future, call }) = self.commands.get_mut(&tag) else {
                continue;
            };
            // Whoever calls from here on is heard again, and what those before have done is seen below: a swap reads what they wrote.
            call.is_listed.swap(false, Ordering::AcqRel);
            let response = match look(future, &Waker::from(Arc::clone(call))) {
                Look::Waits => continue,
                Look::Ended(response) => Some(response),
                Look::Lost => None,
            };
            self.commands.remove(&tag);
            ended.push((tag, response));
        }
        self.looked_at = called;
        if !ended.is_empty() {
            return Poll::Ready(());
        }
        let mut list = self.woken.list();
        if list.tags.is_empty() {
            list.session = Some(context.waker().clone());
        } else {
            // One that goes on by itself. Others have their turn first.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Waiting {
    /// A command is never given up half way, whatever becomes of its session.
    fn drop(&mut self) {
        if self.commands.is_empty() {
            return;
        }
        // Without a runtime the process ends.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            for command in mem::take(&mut self.commands).into_values() {
                runtime.spawn(command.future);
            }
        }
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Waiting({} commands)", self.commands.len())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use tokio::sync::oneshot;

    use super::*;

    /// Counts how often the session was woken.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn answered_by(answer: oneshot::Receiver<ScsiResponse>) -> Running {
        Box::pin(async move { answer.await.unwrap() })
    }

    fn status(status: u8) -> ScsiResponse {
        ScsiResponse {
            status,
            ..ScsiResponse::default()
        }
    }

    #[test]
    fn answers_that_come_together_wake_the_session_once() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let context = &mut Context::from_waker(&waker);
        let mut waiting = Waiting::default();
        let mut answers = Vec::new();
        for tag in 0..8 {
            let (answer, answered) = oneshot::channel();
            assert!(matches!(waiting.begin(tag, answered_by(answered)), Look::Waits));
            answers.push(answer);
        }
        let mut ended = Vec::new();
        assert!(waiting.poll_ended(context, &mut ended).is_pending());
        for (tag, answer) in answers.into_iter().enumerate().skip(2) {
            answer.send(status(tag as u8)).unwrap();
        }
        // Of the first two nobody will ever answer, which this command takes for a fault of the program.
        assert_eq!(wakes.0.load(Ordering::Acquire), 1);
        assert!(waiting.poll_ended(context, &mut ended).is_ready());
        let mut ends: Vec<_> = ended
            .drain(..)
            .map(|(tag, response)| (tag, response.map(|response| response.status)))
            .collect();
        ends.sort_unstable();
        let answered = (2..8).map(|tag| (tag, Some(tag as u8)));
        assert_eq!(
            ends,
            [(0, None), (1, None)]
                .into_iter()
                .chain(answered)
                .collect::<Vec<_>>()
        );
        assert!(waiting.poll_ended(context, &mut ended).is_pending());
        assert_eq!(wakes.0.load(Ordering::Acquire), 1);
    }

    #[test]
    fn a_command_that_goes_on_by_itself_is_looked_at_again() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let context = &mut Context::from_waker(&waker);
        let mut waiting = Waiting::default();
        let mut turns = 0;
        let stubborn = poll_fn(move |context| {
            turns += 1;
            if turns == 4 {
                return Poll::Ready(status(2));
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        assert!(matches!(waiting.begin(7, Box::pin(stubborn)), Look::Waits));
        let mut ended = Vec::new();
        assert!(waiting.poll_ended(context, &mut ended).is_pending());
        assert!(waiting.poll_ended(context, &mut ended).is_pending());
        assert_eq!(
            wakes.0.load(Ordering::Acquire),
            2,
            "each time it asked for another"
        );
        assert!(waiting.poll_ended(context, &mut ended).is_ready());
        assert_eq!(ended[0].0, 7);
    }

    #[tokio::test]
    async fn what_waits_when_the_session_goes_runs_to_its_end() {
        let mut waiting = Waiting::default();
        let (answer, answered) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let command: Running = Box::pin(async move {
            answered.await.unwrap();
            end.send(()).unwrap();
            ScsiResponse::default()
        });
        assert!(matches!(waiting.begin(1, command), Look::Waits));
        drop(waiting);
        answer.send(()).unwrap();
        ended.await.unwrap();
    }

    #[test]
    fn what_ends_at_once_is_not_kept() {
        let mut waiting = Waiting::default();
        let begun = waiting.begin(1, Box::pin(std::future::ready(status(8))));
        assert!(matches!(begun, Look::Ended(response) if response.status == 8));
        assert!(waiting.commands.is_empty());
    }
}
