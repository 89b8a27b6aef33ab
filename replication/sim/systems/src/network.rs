//! A network of streams: bytes are late, come in pieces, and stop after any one of them; what is cut is told to both ends, to one, or to
//! neither.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use link_proto::SystemId;
use replication::link::network::{Called, Calling, Network};
use replication_sim::rng::Rng;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::{Instant, Sleep, sleep},
};

use crate::{lock, trace::Trace};

/// Bytes that one way of a connection holds.
const ROOM: usize = 128 << 10;

/// The network between all systems of a run.
#[derive(Debug)]
pub struct Cables {
    state: Mutex<State>,
    trace: Arc<Trace>,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    nodes: Vec<Node>,
    /// By their two ends, the lower first.
    cables: BTreeMap<(usize, usize), Cable>,
    connections: u64,
}

#[derive(Debug)]
struct Node {
    id: SystemId,
    /// Goes up when it dies: what an earlier life has is dead.
    life: u64,
    calls: Option<mpsc::UnboundedSender<Called>>,
}

#[derive(Debug)]
struct Cable {
    /// New calls arrive.
    open: bool,
    /// Longest time of a byte on its way, in milliseconds.
    late_ms: u64,
    /// Bytes that still pass before it is cut, and how.
    left: Option<(u64, Cut)>,
    lines: Vec<Weak<Mutex<Line>>>,
}

/// What the ends learn of a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both are told.
    Told,
    /// Neither: what either sends is gone.
    Silent,
    /// What the lower end sends is gone, what the higher sends arrives.
    OneWay,
}

/// A connection.
#[derive(Debug)]
struct Line {
    number: u64,
    ends: (usize, usize),
    late_ms: u64,
    rng: Rng,
    /// From the first end to the second, and back.
    ways: [Way; 2],
}

#[derive(Debug, Default)]
struct Way {
    due: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// No more will come, in order.
    finished: bool,
    /// The ends are told that it is cut.
    broken: bool,
    /// What is sent is gone.
    swallows: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Cables {
    /// Between these systems, all of them open.
    pub fn new(ids: &[SystemId], mut rng: Rng, trace: Arc<Trace>) -> Arc<Self> {
        let node = |id: &SystemId| Node {
            id: id.clone(),
            life: 0,
            calls: None,
        };
        let nodes: Vec<_> = ids.iter().map(node).collect();
        let pairs = (0..ids.len()).flat_map(|low| (low + 1..ids.len()).map(move |high| (low, high)));
        let cables = pairs.map(|ends| {
            let cable = Cable {
                open: true,
                late_ms: *rng.pick(&[0, 1, 3, 20]).expect("not empty"),
                left: None,
                lines: Vec::new(),
            };
            (ends, cable)
        });
        let cables = cables.collect();
        let state = Mutex::new(State {
            rng,
            nodes,
            cables,
            connections: 0,
        });
        Arc::new(Self { state, trace })
    }

    /// Where what happens is told.
    pub fn trace(&self) -> &Arc<Trace> {
        &self.trace
    }

    /// What one life of a system sees of it.
    pub fn plug(self: &Arc<Self>, node: usize) -> Arc<Plug> {
        let life = lock(&self.state).nodes[node].life;
        let cables = Arc::clone(self);
        Arc::new(Plug { cables, node, life })
    }

    /// A system dies; the others are told, or not.
    pub fn kill(&self, node: usize, told: bool) {
        let mut state = lock(&self.state);
        state.nodes[node].life += 1;
        state.nodes[node].calls = None;
        for (ends, cable) in &mut state.cables {
            if ends.0 != node && ends.1 != node {
                continue;
            }
            for line in cable.living() {
                lock(&line).die(node, told);
            }
        }
    }

    /// Cuts what is between two systems now. `open`: it can be called again at once.
    pub fn cut(&self, ends: (usize, usize), cut: Cut, open: bool) {
        let mut state = lock(&self.state);
        let lost = state.rng.chance(500);
        let cable = state.cable(ends);
        (cable.open, cable.left) = (open, None);
        for line in cable.living() {
            lock(&line).cut(cut, lost);
        }
    }

    /// Cuts it after so many bytes more, of both directions together; it can be called again at once.
    pub fn cut_after(&self, ends: (usize, usize), bytes: u64, cut: Cut) {
        lock(&self.state).cable(ends).left = Some((bytes, cut));
    }

    /// It works. Connections that went silent stay so.
    pub fn mend(&self, ends: (usize, usize)) {
        let mut state = lock(&self.state);
        let cable = state.cable(ends);
        (cable.open, cable.left) = (true, None);
    }

    /// Bytes of connections made from now on are late by up to so much.
    pub fn be_late(&self, ends: (usize, usize), most_ms: u64) {
        lock(&self.state).cable(ends).late_ms = most_ms;
    }

    /// So many bytes want to pass over the cable; how many do. Those after them meet a cut.
    fn pass(&self, ends: (usize, usize), bytes: usize) -> (usize, Option<Cut>) {
        let mut state = lock(&self.state);
        let cable = state.cable(ends);
        let Some((left, cut)) = &mut cable.left else {
            return (bytes, None);
        };
        if *left > bytes as u64 {
            *left -= bytes as u64;
            return (bytes, None);
        }
        let (passes, cut) = (*left as usize, *cut);
        cable.left = None;
        self.trace.say(format!("the cable {ends:?} is cut ({cut:?})"));
        (passes, Some(cut))
    }
}

impl State {
    fn cable(&mut self, (one, other): (usize, usize)) -> &mut Cable {
        let ends = (one.min(other), one.max(other));
        self.cables.get_mut(&ends).expect("there is one between any two")
    }
}

impl Cable {
    /// The connections that somebody has an end of.
    fn living(&mut self) -> Vec<Arc<Mutex<Line>>> {
        self.lines.retain(|line| line.strong_count() > 0);
        self.lines.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Line {
    fn die(&mut self, node: usize, told: bool) {
        let dead = usize::from(self.ends.1 == node);
        // Its own end is broken both ways; the other reads to the end of what is on its way, and learns of it or not.
        for (at, way) in self.ways.iter_mut().enumerate() {
            let reads = at != dead;
            way.swallows = true;
            if !reads || told {
                way.broken = true;
            }
            way.wake();
        }
    }

    fn cut(&mut self, cut: Cut, lost: bool) {
        let lower = usize::from(self.ends.0 > self.ends.1);
        for (at, way) in self.ways.iter_mut().enumerate() {
            match cut {
                Cut::Told => way.broken = true,
                Cut::Silent => way.swallows = true,
                Cut::OneWay => way.swallows |= at == lower,
            }
            if lost && (way.broken || way.swallows) {
                way.due.clear();
                way.bytes = 0;
            }
            way.wake();
        }
    }
}

impl Way {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// See [`Cables::plug`].
#[derive(Debug)]
pub struct Plug {
    cables: Arc<Cables>,
    node: usize,
    life: u64,
}

impl Network for Plug {
    fn call(&self, address: &str) -> Calling {
        let (cables, node, life) = (Arc::clone(&self.cables), self.node, self.life);
        let peer: usize = address.parse().expect("addresses are numbers of systems");
        Box::pin(async move {
            let late = {
                let mut state = lock(&cables.state);
                let most = state.cable((node, peer)).late_ms;
                state.rng.below(most + 1)
            };
            sleep(Duration::from_millis(late)).await;
            let mut state = lock(&cables.state);
            let refused = || Err(io::ErrorKind::ConnectionRefused.into());
            let alive = state.nodes[node].life == life;
            let Some(calls) = state.nodes[peer].calls.clone().filter(|_| alive) else {
                return refused();
            };
            if !state.cable((node, peer)).open {
                return refused();
            }
            state.connections += 1;
            let line = Arc::new(Mutex::new(Line {
                number: state.connections,
                ends: (node, peer),
                late_ms: state.cable((node, peer)).late_ms,
                rng: Rng::new(state.rng.bits()),
                ways: [Way::default(), Way::default()],
            }));
            state.cable((node, peer)).lines.push(Arc::downgrade(&line));
            let end = |side| {
                Box::new(End {
                    line: Arc::clone(&line),
                    cables: Arc::clone(&cables),
                    side,
                    timer: None,
                })
            };
            let caller = state.nodes[node].id.clone();
            if calls.send((end(1), caller)).is_err() {
                return refused();
            }
            Ok((end(0) as _, state.nodes[peer].id.clone()))
        })
    }

    fn calls(&self) -> mpsc::UnboundedReceiver<Called> {
        let (sender, calls) = mpsc::unbounded_channel();
        let mut state = lock(&self.cables.state);
        if state.nodes[self.node].life == self.life {
            state.nodes[self.node].calls = Some(sender);
        }
        calls
    }

    fn jitter(&self) -> u32 {
        lock(&self.cables.state).rng.bits() as u32
    }
}

/// One end of a connection.
struct End {
    line: Arc<Mutex<Line>>,
    cables: Arc<Cables>,
    side: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "End({})", self.side)
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let line = Arc::clone(&self.line);
            let mut line = lock(&line);
            let (number, piece) = (line.number, line.rng.below(4));
            let tiny = line.rng.between(1, 64) as usize;
            let way = &mut line.ways[1 - self.side];
            let Some((due, bytes)) = way.due.front_mut() else {
                if way.broken {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                if way.finished {
                    return Poll::Ready(Ok(()));
                }
                way.reader = Some(context.waker().clone());
                return Poll::Pending;
            };
            if *due <= Instant::now() {
                let most = if piece == 0 { tiny } else { usize::MAX };
                let count = bytes.len().min(buffer.remaining()).min(most);
                let taken = bytes.split_to(count);
                if bytes.is_empty() {
                    way.due.pop_front();
                }
                way.bytes -= count;
                buffer.put_slice(&taken);
                if let Some(writer) = way.writer.take() {
                    writer.wake();
                }
                self.cables.trace.note(number * 2 + self.side as u64, &taken);
                return Poll::Ready(Ok(()));
            }
            way.reader = Some(context.waker().clone());
            let due = *due;
            drop(line);
            let mut timer = Box::pin(tokio::time::sleep_until(due));
            if timer.as_mut().poll(context).is_pending() {
                self.timer = Some(timer);
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let ends = {
            let mut line = lock(&self.line);
            let ends = line.ends;
            let way = &mut line.ways[self.side];
            if way.broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if way.swallows {
                return Poll::Ready(Ok(bytes.len()));
            }
            if way.bytes >= ROOM {
                way.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            ends
        };
        let (count, cut) = self.cables.pass(ends, bytes.len());
        self.send(&bytes[..count]);
        if let Some(cut) = cut {
            // What follows a byte that is gone is gone, too.
            lock(&self.line).ways[self.side].swallows = true;
            self.cables.cut(ends, cut, true);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl End {
    fn send(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut line = lock(&self.line);
        let most = line.late_ms;
        let late = line.rng.below(most + 1);
        let way = &mut line.ways[self.side];
        let mut due = Instant::now() + Duration::from_millis(late);
        if let Some((last, _)) = way.due.back() {
            // They arrive in their order.
            due = due.max(*last);
        }
        way.due.push_back((due, Bytes::copy_from_slice(bytes)));
        way.bytes += bytes.len();
        if let Some(reader) = way.reader.take() {
            reader.wake();
        }
    }

    fn finish(&self) {
        let mut line = lock(&self.line);
        let way = &mut line.ways[self.side];
        way.finished |= !way.swallows;
        if let Some(reader) = way.reader.take() {
            reader.wake();
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.finish();
        // Whoever writes to it learns that nobody reads, unless nothing arrives.
        let mut line = lock(&self.line);
        let silent = line.ways[self.side].swallows;
        let way = &mut line.ways[1 - self.side];
        way.broken |= !silent;
        way.wake();
    }
}
