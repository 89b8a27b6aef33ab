//! The ways to drive the floor's connections: epoll, blocking threads, tokio.
use super::{Store, connection::Conn};
use crate::util::*;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};

fn listen(addr: &str) -> std::net::TcpListener {
    std::net::TcpListener::bind(addr).expect("bind")
}

/// One thread, epoll, level triggered; `batch`: answer a whole receive with one sendmsg.
/// `spin_us`: look without sleeping for that long after the last event before going to sleep.
pub fn run_epoll(addr: &str, s: &Store, batch: bool, spin_us: u64, until: u64) {
    let l = listen(addr);
    l.set_nonblocking(true).unwrap();
    let ep = unsafe { libc::epoll_create1(0) };
    let add = |fd: RawFd, op: i32, f: i32| {
        let mut ev = libc::epoll_event {
            events: f as u32,
            u64: fd as u64,
        };
        unsafe { libc::epoll_ctl(ep, op, fd, &mut ev) };
    };
    let lf = l.as_raw_fd();
    add(lf, libc::EPOLL_CTL_ADD, libc::EPOLLIN);
    let mut conns: HashMap<RawFd, (Box<Conn>, bool)> = HashMap::new();
    let mut evs = vec![libc::epoll_event { events: 0, u64: 0 }; 256];
    let mut iov = Vec::new();
    let mut last = 0;
    while now_ns() < until {
        let wait = if spin_us > 0 && now_ns() < last + spin_us * 1000 {
            0
        } else {
            500
        };
        let n = unsafe { libc::epoll_wait(ep, evs.as_mut_ptr(), 256, wait) };
        if spin_us > 0 && n > 0 {
            last = now_ns();
        }
        for e in &evs[..n.max(0) as usize] {
            let fd = e.u64 as RawFd;
            if fd == lf {
                while let Ok((c, _)) = l.accept() {
                    c.set_nodelay(true).ok();
                    c.set_nonblocking(true).ok();
                    let f = c.as_raw_fd();
                    std::mem::forget(c);
                    conns.insert(f, (Box::default(), false));
                    add(f, libc::EPOLL_CTL_ADD, libc::EPOLLIN);
                }
                continue;
            }
            let Some((c, wout)) = conns.get_mut(&fd) else {
                continue;
            };
            let mut dead = false;
            if e.events & !(libc::EPOLLOUT as u32) != 0 && c.out.bytes < (8 << 20) {
                let r = c.recv(fd);
                if r == 0
                    || (r < 0 && std::io::Error::last_os_error().kind() != std::io::ErrorKind::WouldBlock)
                {
                    dead = true;
                } else if r > 0 {
                    c.received(r as usize);
                    if c.sink.is_none() {
                        dead = c.process(s).is_err();
                    }
                }
            }
            if !dead && !c.out.is_empty() {
                let mut calls = 0;
                match flush(c, fd, &mut iov, batch, &mut calls) {
                    Ok(done) => {
                        if done == *wout {
                            *wout = !done;
                            add(
                                fd,
                                libc::EPOLL_CTL_MOD,
                                libc::EPOLLIN | if *wout { libc::EPOLLOUT } else { 0 },
                            );
                        }
                    }
                    Err(_) => dead = true,
                }
            }
            if dead {
                conns.remove(&fd);
                unsafe { libc::close(fd) };
            }
        }
    }
}
fn flush(
    c: &mut Conn,
    fd: RawFd,
    iov: &mut Vec<libc::iovec>,
    batch: bool,
    calls: &mut u64,
) -> std::io::Result<bool> {
    if batch {
        return c.out.flush(fd, libc::MSG_DONTWAIT, iov, calls);
    }
    // one system call per PDU (header and its payload): what a naive target does
    while !c.out.is_empty() {
        c.out.iov(2, iov);
        if iov.len() == 2 && iov[1].iov_len <= 64 && iov[0].iov_len <= 64 {
            iov.truncate(1);
        }
        let r = unsafe { libc::writev(fd, iov.as_ptr(), iov.len() as i32) };
        if r < 0 {
            let e = std::io::Error::last_os_error();
            return if e.kind() == std::io::ErrorKind::WouldBlock {
                Ok(false)
            } else {
                Err(e)
            };
        }
        c.out.advance(r as usize);
    }
    Ok(true)
}

/// One blocking thread for each connection.
pub fn run_threads(addr: &str, s: &'static Store, until: u64) {
    let l = listen(addr);
    std::thread::spawn(move || {
        for c in l.incoming().flatten() {
            std::thread::spawn(move || {
                c.set_nodelay(true).ok();
                let fd = c.as_raw_fd();
                let mut k = Conn::default();
                let mut iov = Vec::new();
                loop {
                    let r = k.recv(fd);
                    if r <= 0 {
                        break;
                    }
                    k.received(r as usize);
                    if k.sink.is_none() && k.process(s).is_err() {
                        break;
                    }
                    let mut calls = 0;
                    if k.out.flush(fd, 0, &mut iov, &mut calls).is_err() {
                        break;
                    }
                }
            });
        }
    });
    while now_ns() < until {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// tokio, current-thread runtime, one task for each connection, vectored try_io send.
/// `handoff`: besides, send every command through the blocking pool, one `spawn_blocking` each (what `tokio::fs` or
/// a thread pool costs).
pub fn run_tokio(addr: &str, s: &'static Store, until: u64, multi: bool, handoff: bool) {
    let mut b = if multi {
        let mut b = tokio::runtime::Builder::new_multi_thread();
        b.worker_threads(2);
        b
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let rt = b.enable_io().enable_time().build().unwrap();
    let addr = addr.to_string();
    rt.block_on(async move {
        let l = tokio::net::TcpListener::bind(&addr).await.expect("bind");
        let acc = async move {
            loop {
                let Ok((c, _)) = l.accept().await else { continue };
                c.set_nodelay(true).ok();
                tokio::spawn(async move {
                    let fd = c.as_raw_fd();
                    let mut k = Box::<Conn>::default();
                    let mut iov: Vec<usize> = Vec::new();
                    loop {
                        if c.readable().await.is_err() {
                            return;
                        }
                        let r = c.try_io(tokio::io::Interest::READABLE, || {
                            let r = k.recv(fd);
                            if r < 0 {
                                Err(std::io::Error::last_os_error())
                            } else {
                                Ok(r)
                            }
                        });
                        match r {
                            Ok(0) => return,
                            Ok(n) => {
                                k.received(n as usize);
                                k.ios = 0;
                                if k.sink.is_none() && k.process(s).is_err() {
                                    return;
                                }
                                if handoff {
                                    let hs: Vec<_> =
                                        (0..k.ios).map(|_| tokio::task::spawn_blocking(|| ())).collect();
                                    for h in hs {
                                        let _ = h.await;
                                    }
                                }
                            }
                            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => continue,
                            Err(_) => return,
                        }
                        while !k.out.is_empty() {
                            let r = c.try_io(tokio::io::Interest::WRITABLE, || {
                                let mut v: Vec<libc::iovec> = Vec::with_capacity(64);
                                k.out.iov(512, &mut v);
                                let mut m: libc::msghdr = unsafe { std::mem::zeroed() };
                                m.msg_iov = v.as_mut_ptr();
                                m.msg_iovlen = v.len() as _;
                                let r = unsafe { libc::sendmsg(fd, &m, libc::MSG_NOSIGNAL) };
                                if r < 0 {
                                    Err(std::io::Error::last_os_error())
                                } else {
                                    Ok(r as usize)
                                }
                            });
                            match r {
                                Ok(n) => k.out.advance(n),
                                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                                    if c.writable().await.is_err() {
                                        return;
                                    }
                                }
                                Err(_) => return,
                            }
                        }
                        iov.clear();
                    }
                });
            }
        };
        let left = std::time::Duration::from_nanos(until.saturating_sub(now_ns()));
        let _ = tokio::time::timeout(left, acc).await;
    });
}
