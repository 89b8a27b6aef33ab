//! A TCP proxy between two daemons that delays, throttles and cuts what passes.
//!
//! Each direction of a connection has two threads: one receives and notes when each piece is due, the other waits for that
//! moment and sends. So a delay takes nothing from the throughput, and the order never changes.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From who connected to the proxy to who it connects to.
    Forth,
    /// The other way.
    Back,
}

/// A listening proxy. Dropping it cuts every connection and listens no more.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    rules: Mutex<Rules>,
    /// The rules have changed.
    changed: Condvar,
}

#[derive(Debug)]
struct Rules {
    delay: Duration,
    /// Bytes a second each way.
    rate: Option<u64>,
    /// Nothing passes, and nobody is told.
    held: bool,
    /// New connections are closed at once.
    refused: bool,
    /// Bytes that may still pass each way before everything is cut.
    left: [Option<u64>; 2],
    /// Bytes that have passed each way.
    passed: [u64; 2],
    /// Both ends of every connection there was.
    connections: Vec<[TcpStream; 2]>,
    /// How many there were.
    accepted: u64,
    stopped: bool,
}

/// The most that is received at a time.
const PIECE: usize = 16 << 10;
/// Pieces on their way.
const PIECES: usize = 256;

impl Proxy {
    /// Listens on a port of its own for connections to `to`.
    pub fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            to,
            rules: Mutex::new(Rules {
                delay: Duration::ZERO,
                rate: None,
                held: false,
                refused: false,
                left: [None; 2],
                passed: [0; 2],
                connections: Vec::new(),
                accepted: 0,
                stopped: false,
            }),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What arrives from now on is sent so much later.
    pub fn delay(&self, delay: Duration) {
        self.shared.change(|rules| rules.delay = delay);
    }

    /// At most so many bytes a second each way; `None`: as fast as it goes.
    pub fn throttle(&self, rate: Option<u64>) {
        self.shared.change(|rules| rules.rate = rate);
    }

    /// Nothing passes any more, and neither end is told: a network that swallows packets. Undone by `false`.
    pub fn hold(&self, held: bool) {
        self.shared.change(|rules| rules.held = held);
    }

    /// New connections are closed at once. Undone by `false`.
    pub fn refuse(&self, refused: bool) {
        self.shared.change(|rules| rules.refused = refused);
    }

    /// Cuts every connection when so many more bytes have passed this way; not one more passes.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        self.shared.change(|rules| rules.left[way as usize] = Some(bytes));
        if bytes == 0 {
            self.cut();
        }
    }

    /// Cuts every connection now.
    pub fn cut(&self) {
        self.shared.change(Rules::cut);
    }

    /// Bytes that have passed this way.
    pub fn passed(&self, way: Way) -> u64 {
        self.shared.rules().passed[way as usize]
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.rules().accepted
    }

    /// Waits until so many connections pass through here, and can be cut. Who has connected may be earlier than that.
    pub fn wait_accepted(&self, count: u64) {
        let mut rules = self.shared.rules();
        while rules.accepted < count {
            rules = self
                .shared
                .changed
                .wait(rules)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|rules| {
            rules.stopped = true;
            rules.cut();
        });
        // The accepting thread wakes up and sees it.
        drop(TcpStream::connect(self.address));
    }
}

impl Rules {
    fn cut(&mut self) {
        for stream in self.connections.drain(..).flatten() {
            // One that has ended by itself is as cut as can be.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.left = [None; 2];
    }
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.rules());
        self.changed.notify_all();
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.rules().stopped {
                return;
            }
            if let Ok(stream) = stream {
                // Who cannot be connected sees the connection closed.
                let _ = self.connect(&stream);
            }
        }
    }

    fn connect(self: &Arc<Self>, from: &TcpStream) -> std::io::Result<()> {
        if self.rules().refused {
            return from.shutdown(Shutdown::Both);
        }
        let to = TcpStream::connect_timeout(&self.to, Duration::from_secs(5))?;
        from.set_nodelay(true)?;
        to.set_nodelay(true)?;
        let ends = [from.try_clone()?, to.try_clone()?];
        // Known before the first byte passes, so that no cut misses it.
        self.change(|rules| {
            rules.accepted += 1;
            rules.connections.push(ends);
        });
        for (way, from, to) in [(Way::Forth, from, &to), (Way::Back, &to, from)] {
            let (sender, receiver) = mpsc::sync_channel(PIECES);
            let (from, to) = (from.try_clone()?, to.try_clone()?);
            let (receiving, sending) = (Arc::clone(self), Arc::clone(self));
            thread::spawn(move || receiving.receive(from, &sender));
            thread::spawn(move || sending.send(way, to, &receiver));
        }
        Ok(())
    }

    /// An empty piece is the end.
    fn receive(&self, mut from: TcpStream, pieces: &SyncSender<(Instant, Vec<u8>)>) {
        loop {
            let mut piece = vec![0; PIECE];
            let count = from.read(&mut piece).unwrap_or(0);
            piece.truncate(count);
            let due = Instant::now() + self.rules().delay;
            if pieces.send((due, piece)).is_err() || count == 0 {
                return;
            }
        }
    }

    fn send(&self, way: Way, mut to: TcpStream, pieces: &Receiver<(Instant, Vec<u8>)>) {
        for (due, piece) in pieces {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut rules = self.rules();
            while rules.held && !rules.stopped {
                rules = self.changed.wait(rules).unwrap_or_else(PoisonError::into_inner);
            }
            let left = rules.left[way as usize];
            let count = left.map_or(piece.len(), |left| {
                piece.len().min(usize::try_from(left).unwrap_or(usize::MAX))
            });
            rules.passed[way as usize] += count as u64;
            if let Some(left) = &mut rules.left[way as usize] {
                *left -= count as u64;
            }
            let (rate, cut) = (rules.rate, rules.left[way as usize] == Some(0));
            drop(rules);
            let sent = to.write_all(&piece[..count]);
            if cut {
                self.change(Rules::cut);
                return;
            }
            if piece.is_empty() || sent.is_err() {
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
            if let Some(rate) = rate {
                thread::sleep(Duration::from_nanos(count as u64 * 1_000_000_000 / rate.max(1)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy to an echo.
    fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap());
        let caller = TcpStream::connect(proxy.address()).unwrap();
        caller.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (mut called, _) = listener.accept().unwrap();
        proxy.wait_accepted(1);
        thread::spawn(move || {
            let mut other = called.try_clone().unwrap();
            let _ = std::io::copy(&mut called, &mut other);
        });
        (proxy, caller)
    }

    #[test]
    fn what_passes_is_delayed_and_throttled_and_stays_as_it_is() {
        let (proxy, mut caller) = echo();
        proxy.delay(Duration::from_millis(50));
        let began = Instant::now();
        caller.write_all(b"holdfast").unwrap();
        let mut back = [0; 8];
        caller.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"holdfast");
        assert!(began.elapsed() >= Duration::from_millis(100));
        proxy.delay(Duration::ZERO);
        proxy.throttle(Some(1 << 20));
        let began = Instant::now();
        let sent: Vec<u8> = (0..256u32 << 10).map(|n| n as u8).collect();
        caller.write_all(&sent).unwrap();
        let mut back = vec![0; sent.len()];
        caller.read_exact(&mut back).unwrap();
        assert!(back == sent);
        assert!(began.elapsed() >= Duration::from_millis(200));
        assert_eq!(proxy.passed(Way::Forth), 8 + (256 << 10));
    }

    #[test]
    fn a_cut_lets_exactly_so_many_bytes_pass() {
        for bytes in [0, 1, 7, 70_000] {
            let (proxy, mut caller) = echo();
            proxy.cut_after(Way::Back, bytes);
            // It may be cut while this is written.
            let _ = caller.write_all(&vec![7; 100_000]);
            let mut back = Vec::new();
            let _ = caller.read_to_end(&mut back);
            assert!(back.len() as u64 <= bytes);
            assert_eq!(proxy.passed(Way::Back), bytes);
        }
    }

    #[test]
    fn a_held_connection_is_neither_served_nor_closed() {
        let (proxy, mut caller) = echo();
        proxy.hold(true);
        caller.write_all(b"holdfast").unwrap();
        caller.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut back = [0; 8];
        assert!(caller.read_exact(&mut back).is_err(), "nothing comes");
        caller.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        proxy.hold(false);
        caller.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"holdfast");
        proxy.refuse(true);
        let mut refused = TcpStream::connect(proxy.address()).unwrap();
        assert_eq!(refused.read(&mut back).unwrap_or(0), 0);
        assert_eq!(proxy.accepted(), 1);
    }
}
