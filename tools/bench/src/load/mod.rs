//! Pipelined raw-PDU iSCSI initiator used as load generator.
mod pipeline;
mod session;

pub use session::Sess;

use session::{R, es};

use crate::util::*;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

#[derive(Clone)]
pub struct Cfg {
    pub addr: String,
    pub iqn: String,
    pub initiator: String,
    pub lun: u8,
    pub qd: usize,
    pub bs: usize,
    pub seq: bool,
    pub read_pct: u64,
    pub immediate: bool,
    pub initial_r2t: bool,
    pub mrdsl: usize,
    pub first_burst: usize,
    pub max_burst: usize,
    pub hdig: bool,
    pub ddig: bool,
    pub check_digest: bool,
    pub verify: bool,
    pub span: u64,
    pub seed: u64,
    pub discard: bool,
    pub fill: bool,
}
impl Cfg {
    pub fn from(a: &Args) -> Cfg {
        let dig = a.s("digest", "none");
        Cfg {
            addr: a.s("addr", "127.0.0.1:3260"),
            iqn: a.s("iqn", "iqn.2024-01.bench:floor"),
            initiator: a.s("initiator", "iqn.2024-01.bench:iload"),
            lun: a.n("lun", 0) as u8,
            qd: a.n("qd", 1) as usize,
            bs: a.n("bs", 4096) as usize,
            seq: a.has("seq"),
            read_pct: a.n("read", 100),
            immediate: a.s("immediate", "yes") == "yes",
            initial_r2t: a.s("initial-r2t", "no") == "yes",
            mrdsl: a.n("mrdsl", 262144) as usize,
            first_burst: a.n("first-burst", 262144) as usize,
            max_burst: a.n("max-burst", 1 << 20) as usize,
            hdig: dig == "both" || dig == "header",
            ddig: dig == "both" || dig == "data",
            check_digest: !a.has("no-check-digest"),
            verify: a.has("verify"),
            span: a.n("span", 0),
            seed: a.n("seed", 1),
            discard: !a.has("no-discard"),
            fill: false,
        }
    }
}

#[derive(Clone, Default)]
pub struct Stats {
    pub reads: u64,
    pub writes: u64,
    pub bytes: u64,
    pub errs: u64,
    pub bad: u64,
    pub lat: Hist,
    pub sys_send: u64,
    pub sys_recv: u64,
    pub sys_poll: u64,
}
impl Stats {
    pub fn merge(&mut self, o: &Stats) {
        self.reads += o.reads;
        self.writes += o.writes;
        self.bytes += o.bytes;
        self.errs += o.errs;
        self.bad += o.bad;
        self.lat.merge(&o.lat);
        self.sys_send += o.sys_send;
        self.sys_recv += o.sys_recv;
        self.sys_poll += o.sys_poll;
    }
    fn clear(&mut self) {
        let mut l = std::mem::take(&mut self.lat);
        l.clear();
        *self = Stats {
            lat: l,
            ..Default::default()
        };
    }
}

pub const WARM: u8 = 0;
pub const MEASURE: u8 = 1;
pub const STOP: u8 = 2;

/// Drive `sess` until the phase says stop. For `fill`, every session writes its stretch once.
pub fn worker(c: &Cfg, mut sess: Vec<Sess>, phase: Arc<AtomicU8>) -> R<(Stats, Vec<Sess>)> {
    let pat: Vec<u8> = (0..c.bs.max(4096))
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8))
        .collect();
    let mut patcrc = Vec::new();
    let mut st = Stats::default();
    let mut iov = Vec::with_capacity(512);
    let single = sess.len() == 1;
    let ep = unsafe { libc::epoll_create1(0) };
    for (i, s) in sess.iter_mut().enumerate() {
        if single {
            // blocking receive with a timeout: one system call less per turn
            s.sock
                .set_read_timeout(Some(std::time::Duration::from_millis(200)))
                .ok();
        } else {
            s.sock.set_nonblocking(true).ok();
        }
        let mut ev = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: i as u64,
        };
        unsafe { libc::epoll_ctl(ep, libc::EPOLL_CTL_ADD, s.fd, &mut ev) };
    }
    let mut budget: Vec<u64> = sess
        .iter()
        .map(|s| if c.fill { s.seqlen } else { u64::MAX })
        .collect();
    let mut cur = WARM;
    let mut evs: Vec<libc::epoll_event> = vec![libc::epoll_event { events: 0, u64: 0 }; 256];
    let mut todo: Vec<usize> = (0..sess.len()).collect();
    let mut stop_at = 0u64;
    loop {
        let p = phase.load(Relaxed);
        if p != cur {
            if p == MEASURE {
                st.clear();
            }
            cur = p;
            if p == STOP {
                stop_at = now_ns() + 5_000_000_000;
            }
        }
        let stopping = cur == STOP || (c.fill && budget.iter().all(|b| *b == 0));
        if stopping && sess.iter().all(|s| s.inflight == 0) {
            break;
        }
        if stopping && stop_at > 0 && now_ns() > stop_at {
            return Err("outstanding commands were not answered within 5 s".into());
        }
        let now = now_ns();
        for &i in &todo {
            let s = &mut sess[i];
            if !stopping {
                while budget[i] > 0 && s.issue(c, &pat, &mut patcrc, now) {
                    budget[i] -= 1;
                }
            }
            if !s.out.is_empty() {
                let e = s
                    .out
                    .flush(s.fd, libc::MSG_DONTWAIT, &mut iov, &mut st.sys_send)
                    .map_err(es("send"))?;
                if e == s.want_out {
                    s.want_out = !e;
                    let f = libc::EPOLLIN | if s.want_out { libc::EPOLLOUT } else { 0 };
                    let mut ev = libc::epoll_event {
                        events: f as u32,
                        u64: i as u64,
                    };
                    unsafe { libc::epoll_ctl(ep, libc::EPOLL_CTL_MOD, s.fd, &mut ev) };
                }
            }
        }
        todo.clear();
        if single && !sess[0].want_out {
            let s = &mut sess[0];
            if s.recv(c, &mut st, 0)? {
                s.parse(c, &pat, now_ns(), &mut st)?;
            }
            todo.push(0);
            continue;
        }
        st.sys_poll += 1;
        let n = unsafe { libc::epoll_wait(ep, evs.as_mut_ptr(), evs.len() as i32, 200) };
        for e in &evs[..n.max(0) as usize] {
            let i = e.u64 as usize;
            let s = &mut sess[i];
            if e.events & !(libc::EPOLLOUT as u32) != 0 && s.recv(c, &mut st, libc::MSG_DONTWAIT)? {
                s.parse(c, &pat, now_ns(), &mut st)?;
            }
            todo.push(i);
        }
        if n <= 0 {
            todo.extend(0..sess.len());
        }
    }
    unsafe { libc::close(ep) };
    Ok((st, sess))
}
