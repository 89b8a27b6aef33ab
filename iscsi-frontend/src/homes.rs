//! Threads that sessions live on.
//!
//! A session is one task, which answers most commands where it stands and seldom has anything that another thread could do for it. Among
//! workers that take tasks from each other, whoever wakes a session has another worker wake up as well, to look for something to
//! take, and a session goes on now here, now there, without what a processor still knew of it. So each session gets a home: the thread
//! with the fewest sessions at the time, with a runtime of its own. There it stays, and there runs what it starts. Without homes sessions
//! share the workers of the runtime that serves.

use std::{io, sync::Arc, thread};

use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// See the module's page. Without any by default. The threads end when this is dropped, whatever runs on them.
#[derive(Debug, Default)]
pub struct Homes {
    homes: Vec<Home>,
    end: CancellationToken,
}

#[derive(Debug)]
struct Home {
    runtime: Handle,
    /// One more than there are connections that came in here.
    residents: Arc<()>,
}

impl Homes {
    /// So many threads.
    pub fn open(threads: usize) -> io::Result<Self> {
        let end = CancellationToken::new();
        let homes = (0..threads).map(|number| Home::open(number, end.clone()));
        Ok(Self {
            homes: homes.collect::<io::Result<_>>()?,
            end,
        })
    }

    /// Has a connection served: at the home with the fewest, if there are any.
    pub(crate) fn take_in<F>(
        &self,
        connections: &TaskTracker,
        socket: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let home = self
            .homes
            .iter()
            .min_by_key(|home| Arc::strong_count(&home.residents));
        let Some(home) = home else {
            connections.spawn(async move { serve(socket).await });
            return;
        };
        let resident = Arc::clone(&home.residents);
        let stay = async move {
            match move_in(socket) {
                Ok(socket) => serve(socket).await,
                Err(error) => tracing::warn!(%error, "a connection could not be taken in"),
            }
            drop(resident);
        };
        connections.spawn_on(stay, &home.runtime);
    }
}

impl Drop for Homes {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Home {
    fn open(number: usize, end: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name(format!("sessions-{number}"))
            .spawn(move || runtime.block_on(end.cancelled()))?;
        Ok(Self {
            runtime: handle,
            residents: Arc::default(),
        })
    }
}

/// The same connection; from now on the runtime that this is called on hears of it.
pub(crate) fn move_in(socket: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(socket.into_std()?)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, thread::ThreadId, time::Duration};

    use tokio::{net::TcpListener, sync::mpsc, time::timeout};

    use super::*;

    /// Connections of a listener, each with its other end.
    async fn connections(count: usize) -> Vec<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut pairs = Vec::new();
        for _ in 0..count {
            let (near, far) = tokio::join!(listener.accept(), TcpStream::connect(address));
            pairs.push((near.unwrap().0, far.unwrap()));
        }
        pairs
    }

    /// Where each of these connections is served, until its other end is closed.
    async fn served(homes: &Homes, pairs: Vec<(TcpStream, TcpStream)>) -> BTreeMap<usize, ThreadId> {
        let connections = TaskTracker::new();
        let (told, mut telling) = mpsc::unbounded_channel();
        let mut far_ends = Vec::new();
        for (number, (near, far)) in pairs.into_iter().enumerate() {
            far_ends.push(far);
            let told = told.clone();
            homes.take_in(&connections, near, move |socket| async move {
                told.send((number, thread::current().id())).unwrap();
                // The runtime of the home hears of it.
                socket.readable().await.unwrap();
            });
        }
        let mut places = BTreeMap::new();
        while places.len() < far_ends.len() {
            let (number, place) = telling.recv().await.unwrap();
            places.insert(number, place);
        }
        drop(far_ends);
        connections.close();
        timeout(Duration::from_secs(60), connections.wait())
            .await
            .expect("each hears that its other end is closed");
        places
    }

    #[tokio::test]
    async fn each_home_has_its_share_and_none_is_the_callers_thread() {
        let homes = Homes::open(2).unwrap();
        let places = served(&homes, connections(4).await).await;
        let own = thread::current().id();
        assert!(places.values().all(|place| *place != own), "{places:?}");
        assert_eq!(places[&0], places[&2]);
        assert_eq!(places[&1], places[&3]);
        assert_ne!(places[&0], places[&1]);
    }

    #[tokio::test]
    async fn a_home_that_was_left_is_taken_first() {
        let homes = Homes::open(2).unwrap();
        let first = served(&homes, connections(1).await).await;
        let stays = connections(1).await.remove(0);
        let tracker = TaskTracker::new();
        let (told, mut telling) = mpsc::unbounded_channel();
        homes.take_in(&tracker, stays.0, move |socket| async move {
            told.send(thread::current().id()).unwrap();
            socket.readable().await.unwrap();
        });
        assert_eq!(telling.recv().await.unwrap(), first[&0]);
        let next = served(&homes, connections(1).await).await;
        assert_ne!(next[&0], first[&0]);
    }

    #[tokio::test]
    async fn without_homes_the_runtime_that_serves_is_the_place() {
        let places = served(&Homes::default(), connections(2).await).await;
        let own = thread::current().id();
        assert!(places.values().all(|place| *place == own), "{places:?}");
    }
}
