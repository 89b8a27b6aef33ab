//! One thread and epoll, level triggered.

use std::{
    collections::HashMap,
    io,
    net::{TcpListener, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    io::Errno,
    net::SendFlags,
};

use crate::{
    clock::now_ns,
    floor::{connection::Connection, store::Store},
};

/// Who has more answers waiting is not asked for more commands.
const WAITING: usize = 8 << 20;
const EVENTS: usize = 256;
/// How often it looks whether its time is over.
const LOOK: Duration = Duration::from_millis(500);

struct Peer {
    socket: TcpStream,
    connection: Box<Connection>,
    /// The socket took no more.
    is_stuck: bool,
}

/// Serves until the clock says `until`. `batch`: answers a whole receive with one `sendmsg`. For `spin_us` after the last event it
/// looks again without sleeping.
pub(in crate::floor) fn epoll(
    listener: &TcpListener,
    store: &Store,
    batch: bool,
    spin_us: u64,
    until: u64,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let listening = listener.as_raw_fd();
    epoll::add(&poll, listener, name(listening), EventFlags::IN)?;
    let mut peers: HashMap<u64, Peer> = HashMap::new();
    let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
    let mut last = 0;
    while now_ns() < until {
        let spinning = spin_us > 0 && now_ns() < last + spin_us * 1000;
        let timeout = if spinning { Duration::ZERO } else { LOOK };
        let timeout = Timespec::try_from(timeout).expect("half a second");
        events.clear();
        match epoll::wait(&poll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if spin_us > 0 && !events.is_empty() {
            last = now_ns();
        }
        for event in &events {
            let (flags, data) = (event.flags, event.data);
            if data.u64() == name(listening).u64() {
                accept(listener, &poll, &mut peers)?;
            } else if let Some(peer) = peers.get_mut(&data.u64())
                && peer.serve(store, &poll, flags, batch).is_err()
            {
                // Dropped, which closes it, which takes it out of the poll.
                peers.remove(&data.u64());
            }
        }
    }
    Ok(())
}

fn accept(listener: &TcpListener, poll: &OwnedFd, peers: &mut HashMap<u64, Peer>) -> io::Result<()> {
    while let Ok((socket, _)) = listener.accept() {
        let _ = socket.set_nodelay(true);
        socket.set_nonblocking(true)?;
        let name = name(socket.as_raw_fd());
        epoll::add(poll, &socket, name, EventFlags::IN)?;
        let peer = Peer {
            socket,
            connection: Box::default(),
            is_stuck: false,
        };
        peers.insert(name.u64(), peer);
    }
    Ok(())
}

/// A socket is known by its descriptor.
fn name(descriptor: i32) -> EventData {
    EventData::new_u64(u64::from(descriptor.unsigned_abs()))
}

impl Peer {
    /// Receives, answers, sends. An error ends the connection.
    fn serve(&mut self, store: &Store, poll: &OwnedFd, flags: EventFlags, batch: bool) -> io::Result<()> {
        if flags != EventFlags::OUT && self.connection.out.waiting() < WAITING {
            match self.connection.receive(store, &self.socket) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => self.connection.answer_all(store).map_err(|error| {
                    eprintln!("floor: {error}");
                    io::Error::other(error)
                })?,
                Err(Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.connection.out.is_empty() {
            return Ok(());
        }
        let is_stuck = !self.send(store, batch)?;
        if is_stuck != self.is_stuck {
            self.is_stuck = is_stuck;
            let mut interest = EventFlags::IN;
            interest.set(EventFlags::OUT, is_stuck);
            epoll::modify(poll, &self.socket, name(self.socket.as_raw_fd()), interest)?;
        }
        Ok(())
    }

    /// `true`: nothing is left.
    fn send(&mut self, store: &Store, batch: bool) -> io::Result<bool> {
        let out = &mut self.connection.out;
        if batch {
            return out.flush(&self.socket, store, SendFlags::DONTWAIT, &mut 0);
        }
        while !out.is_empty() {
            match out.send_one(&self.socket, store) {
                Ok(()) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}
