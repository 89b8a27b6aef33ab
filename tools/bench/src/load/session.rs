//! A session of the load generator: login, a look at the LUN, logout.
use super::Cfg;
use crate::outq::OutQ;
use crate::util::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};

#[derive(Clone, Default)]
pub(super) struct Slot {
    pub(super) busy: bool,
    pub(super) read: bool,
    pub(super) lba: u64,
    pub(super) len: usize,
    pub(super) got: usize,
    pub(super) t0: u64,
    pub(super) buf: Vec<u8>,
    pub(super) in_data: bool, // status seen, payload still arriving
}

pub struct Sess {
    pub(super) sock: TcpStream,
    pub(super) fd: RawFd,
    pub(super) inb: Vec<u8>,
    pub(super) ip: usize,
    pub(super) ie: usize,
    pub(super) skip: usize,              // payload bytes still to drop
    pub(super) skip_done: Option<usize>, // slot completed when `skip` reaches 0
    pub(super) out: OutQ,
    pub(super) want_out: bool,
    pub(super) cmdsn: u32,
    pub(super) maxcmdsn: u32,
    pub(super) expstatsn: u32,
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<usize>,
    pub(super) inflight: usize,
    // negotiated
    pub hd: bool,
    pub dd: bool,
    pub imm: bool,
    pub ir2t: bool,
    pub t_mrdsl: usize,
    pub fb: usize,
    pub mb: usize,
    pub blk: usize,
    pub blocks: u64,
    pub(super) seqpos: u64,
    pub(super) seqbase: u64,
    pub(super) seqlen: u64,
    pub(super) rng: Rng,
}

pub(super) type R<T> = Result<T, String>;
pub(super) fn es<E: std::fmt::Display>(w: &'static str) -> impl Fn(E) -> String {
    move |e| format!("{w}: {e}")
}

impl Sess {
    /// Connect, log in (no authentication) and, unless `bare`, clear unit attentions and read the capacity.
    pub fn open(c: &Cfg, id: u32, nsess: u32, bare: bool) -> R<Sess> {
        let sock = TcpStream::connect(&c.addr).map_err(es("connect"))?;
        sock.set_nodelay(true).ok();
        sock.set_read_timeout(Some(std::time::Duration::from_secs(10)))
            .ok();
        let mut s = Sess {
            fd: sock.as_raw_fd(),
            sock,
            inb: vec![0; 512 * 1024 + c.mrdsl],
            ip: 0,
            ie: 0,
            skip: 0,
            skip_done: None,
            out: OutQ::default(),
            want_out: false,
            cmdsn: 1,
            maxcmdsn: 1,
            expstatsn: 0,
            slots: vec![Slot::default(); c.qd],
            free: (0..c.qd).rev().collect(),
            inflight: 0,
            hd: false,
            dd: false,
            imm: c.immediate,
            ir2t: true,
            t_mrdsl: 8192,
            fb: 65536,
            mb: 262144,
            blk: 512,
            blocks: 0,
            seqpos: 0,
            seqbase: 0,
            seqlen: 0,
            rng: Rng(c.seed.wrapping_mul(0x9E3779B97F4A7C15) ^ ((id as u64 + 1) << 20) | 1),
        };
        if bare {
            s.inb = vec![0; 16384];
        }
        s.login(c, id)?;
        if !bare {
            s.scan(c, id, nsess)?;
        }
        Ok(s)
    }
    fn login(&mut self, c: &Cfg, id: u32) -> R<()> {
        let mut isid = [0u8; 6];
        isid[0] = 0x80; // random type
        isid[1..5].copy_from_slice(&(std::process::id() << 12 ^ id).to_be_bytes());
        isid[5] = (now_ns() & 0xff) as u8;
        let dg = |b: bool| if b { "CRC32C" } else { "None" };
        let yn = |b: bool| if b { "Yes" } else { "No" };
        let sec = format!(
            "InitiatorName={}\0TargetName={}\0SessionType=Normal\0AuthMethod=None\0",
            c.initiator, c.iqn
        );
        let ops = format!(
            "HeaderDigest={}\0DataDigest={}\0InitialR2T={}\0ImmediateData={}\0MaxRecvDataSegmentLength={}\0FirstBurstLength={}\0MaxBurstLength={}\0MaxOutstandingR2T=1\0MaxConnections=1\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0ErrorRecoveryLevel=0\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0",
            dg(c.hdig),
            dg(c.ddig),
            yn(c.initial_r2t),
            yn(c.immediate),
            c.mrdsl,
            c.first_burst,
            c.max_burst
        );
        let mut csg = 0u8;
        let mut text = sec;
        let mut tsih = 0u16;
        for _ in 0..12 {
            let nsg = if csg == 0 { 1 } else { 3 };
            let mut h = [0u8; 48];
            h[0] = 0x43;
            h[1] = 0x80 | (csg << 2) | nsg;
            p24(&mut h, 5, text.len());
            h[8..14].copy_from_slice(&isid);
            h[14..16].copy_from_slice(&tsih.to_be_bytes());
            p32(&mut h, 16, 0);
            p32(&mut h, 24, self.cmdsn);
            p32(&mut h, 28, self.expstatsn);
            let mut b = h.to_vec();
            b.extend_from_slice(text.as_bytes());
            b.resize(48 + pad4(text.len()), 0);
            self.sock.write_all(&b).map_err(es("login send"))?;
            let mut r = [0u8; 48];
            self.sock.read_exact(&mut r).map_err(es("login recv"))?;
            let mut d = vec![0u8; pad4(be24(&r, 5))];
            self.sock.read_exact(&mut d).map_err(es("login recv data"))?;
            if r[0] & 0x3f != 0x23 {
                return Err(format!("login answered with opcode {:#x}", r[0]));
            }
            if r[36] != 0 {
                return Err(format!("login status {:#04x}{:02x}", r[36], r[37]));
            }
            tsih = be16(&r, 14);
            self.expstatsn = be32(&r, 24).wrapping_add(1);
            self.maxcmdsn = be32(&r, 32);
            for kv in d[..be24(&r, 5)].split(|x| *x == 0) {
                let kv = String::from_utf8_lossy(kv);
                if let Some((k, v)) = kv.split_once('=') {
                    let num = || v.parse::<usize>().unwrap_or(0);
                    match k {
                        "HeaderDigest" => self.hd = v == "CRC32C",
                        "DataDigest" => self.dd = v == "CRC32C",
                        "InitialR2T" => self.ir2t = v == "Yes",
                        "ImmediateData" => self.imm = v == "Yes",
                        "MaxRecvDataSegmentLength" => self.t_mrdsl = num(),
                        "FirstBurstLength" => self.fb = num(),
                        "MaxBurstLength" => self.mb = num(),
                        _ => {}
                    }
                }
            }
            let (t, rc, rn) = (r[1] & 0x80 != 0, (r[1] >> 2) & 3, r[1] & 3);
            if t && rn == 3 {
                return Ok(());
            }
            if t && rc == 0 && rn == 1 {
                csg = 1;
                text = ops.clone();
            } else {
                text = String::new();
            }
        }
        Err("login did not converge".into())
    }
    /// One READ(16) of `bytes`; gives its nanoseconds.
    pub fn read_once(&mut self, lun: u8, lba: u64, bytes: usize) -> R<u64> {
        self.io_once(lun, 0x88, lba, &[], bytes)
    }
    /// One WRITE(16) with immediate data; gives its nanoseconds.
    pub fn write_once(&mut self, lun: u8, lba: u64, data: &[u8]) -> R<u64> {
        self.io_once(lun, 0x8a, lba, data, data.len())
    }
    fn io_once(&mut self, lun: u8, opcode: u8, lba: u64, data: &[u8], bytes: usize) -> R<u64> {
        let mut cdb = [0u8; 16];
        cdb[0] = opcode;
        p64(&mut cdb, 2, lba);
        p32(&mut cdb, 10, (bytes / self.blk) as u32);
        let begun = now_ns();
        // A unit attention is news, not a failure.
        for _ in 0..4 {
            match self.command(lun, &cdb, data, bytes)?.0 {
                0 => return Ok(now_ns() - begun),
                2 => {}
                status => return Err(format!("opcode {opcode:#x} ended with status {status:#x}")),
            }
        }
        Err(format!(
            "opcode {opcode:#x} ends with CHECK CONDITION again and again"
        ))
    }
    /// One command at a time, before the load starts. Returns (status, data).
    fn cmd1(&mut self, lun: u8, cdb: &[u8], dlen: usize) -> R<(u8, Vec<u8>)> {
        self.command(lun, cdb, &[], dlen)
    }
    fn command(&mut self, lun: u8, cdb: &[u8], data: &[u8], dlen: usize) -> R<(u8, Vec<u8>)> {
        let mut h = [0u8; 48];
        h[0] = 0x01;
        h[1] = 0x81
            | match (data.is_empty(), dlen) {
                (false, _) => 0x20,
                (true, 0) => 0,
                (true, _) => 0x40,
            };
        h[9] = lun;
        p24(&mut h, 5, data.len());
        p32(&mut h, 16, 0x7fff_0000);
        p32(&mut h, 20, dlen as u32);
        p32(&mut h, 24, self.cmdsn);
        p32(&mut h, 28, self.expstatsn);
        h[32..32 + cdb.len()].copy_from_slice(cdb);
        self.cmdsn = self.cmdsn.wrapping_add(1);
        let mut b = h.to_vec();
        if self.hd {
            b.extend_from_slice(&crc32c::crc32c(&h).to_le_bytes());
        }
        b.extend_from_slice(data);
        self.sock.write_all(&b).map_err(es("cmd send"))?;
        let mut got = Vec::new();
        loop {
            let mut r = [0u8; 52];
            let hl = if self.hd { 52 } else { 48 };
            self.sock.read_exact(&mut r[..hl]).map_err(es("cmd recv"))?;
            let n = be24(&r, 5);
            let mut d = vec![0u8; pad4(n) + if self.dd && n > 0 { 4 } else { 0 }];
            self.sock.read_exact(&mut d).map_err(es("cmd recv data"))?;
            d.truncate(n);
            self.maxcmdsn = be32(&r, 32);
            match r[0] & 0x3f {
                0x25 => {
                    got.extend_from_slice(&d);
                    if r[1] & 1 != 0 {
                        self.expstatsn = be32(&r, 24).wrapping_add(1);
                        return Ok((r[3], got));
                    }
                }
                0x21 => {
                    self.expstatsn = be32(&r, 24).wrapping_add(1);
                    return Ok((r[3], got));
                }
                o => return Err(format!("unexpected opcode {o:#x} while scanning")),
            }
        }
    }
    fn scan(&mut self, c: &Cfg, id: u32, n: u32) -> R<()> {
        for _ in 0..8 {
            if self.cmd1(c.lun, &[0; 6], 0)?.0 == 0 {
                break;
            }
        }
        let mut cdb = [0u8; 16];
        cdb[0] = 0x9e;
        cdb[1] = 0x10;
        cdb[13] = 32;
        let (st, d) = self.cmd1(c.lun, &cdb, 32)?;
        if st == 0 && d.len() >= 12 {
            self.blocks = be64(&d, 0) + 1;
            self.blk = be32(&d, 8) as usize;
        } else {
            let (st, d) = self.cmd1(c.lun, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8)?;
            if st != 0 || d.len() < 8 {
                return Err(format!("READ CAPACITY failed, status {st:#x}"));
            }
            self.blocks = be32(&d, 0) as u64 + 1;
            self.blk = be32(&d, 4) as usize;
        }
        if !c.bs.is_multiple_of(self.blk) {
            return Err(format!("block size {} is not a multiple of {}", c.bs, self.blk));
        }
        let span = if c.span > 0 {
            (c.span / self.blk as u64).min(self.blocks)
        } else {
            self.blocks
        };
        self.blocks = span;
        let per = (c.bs / self.blk) as u64;
        // Each session has its own stretch: sequential streams and verified content must not collide.
        let units = span / per;
        let share = (units / n as u64).max(1);
        self.seqbase = share * id as u64 % units;
        self.seqlen = share;
        if c.verify && units >= n as u64 {
            self.blocks = share * n as u64 * per; // only what a fill covers
        }
        Ok(())
    }
    pub fn describe(&self) -> String {
        format!(
            "hd={} dd={} ImmediateData={} InitialR2T={} target MRDSL={} FirstBurst={} MaxBurst={} block={} blocks={} cmd window={}",
            self.hd,
            self.dd,
            self.imm,
            self.ir2t,
            self.t_mrdsl,
            self.fb,
            self.mb,
            self.blk,
            self.blocks,
            self.maxcmdsn.wrapping_sub(self.cmdsn).wrapping_add(1)
        )
    }
    pub fn logout(mut self) {
        let mut h = [0u8; 48];
        h[0] = 0x46;
        h[1] = 0x80;
        p32(&mut h, 16, 0x7fff_0001);
        p32(&mut h, 24, self.cmdsn);
        p32(&mut h, 28, self.expstatsn);
        self.sock.set_nonblocking(false).ok();
        let mut b = h.to_vec();
        if self.hd {
            b.extend_from_slice(&crc32c::crc32c(&h).to_le_bytes());
        }
        let _ = self.sock.write_all(&b);
        let mut r = [0u8; 48];
        let _ = self
            .sock
            .set_read_timeout(Some(std::time::Duration::from_millis(500)));
        let _ = self.sock.read_exact(&mut r);
    }
}
