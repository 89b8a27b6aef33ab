//! The measured part: commands issued up to the queue depth, answers parsed as they come.
use super::{
    Cfg, Stats,
    session::{R, Sess},
};
use crate::outq::OutQ;
use crate::util::*;

impl Sess {
    pub(super) fn issue(
        &mut self,
        c: &Cfg,
        pat: &[u8],
        patcrc: &mut Vec<((usize, usize), u32)>,
        now: u64,
    ) -> bool {
        if self.maxcmdsn.wrapping_sub(self.cmdsn) as i32 <= -1 {
            return false;
        }
        let Some(si) = self.free.pop() else { return false };
        let per = (c.bs / self.blk) as u64;
        let units = self.blocks / per;
        let read = if c.fill {
            false
        } else {
            c.read_pct >= 100 || (c.read_pct > 0 && self.rng.next() % 100 < c.read_pct)
        };
        let unit = if c.seq || c.fill {
            let u = self.seqbase + self.seqpos;
            self.seqpos = (self.seqpos + 1) % self.seqlen;
            u
        } else if c.verify && c.read_pct < 100 {
            // writes in flight must not overlap reads: one stretch per slot
            let st = (self.seqlen / c.qd as u64).max(1);
            self.seqbase + (si as u64 * st + self.rng.next() % st) % self.seqlen
        } else {
            self.rng.next() % units
        };
        let lba = unit * per;
        let len = c.bs;
        let itt = si as u32;
        let (hd, dd, imm, ir2t, tm, fb) = (self.hd, self.dd, self.imm, self.ir2t, self.t_mrdsl, self.fb);
        let mut h = [0u8; 48];
        h[0] = 0x01;
        h[9] = c.lun;
        p32(&mut h, 16, itt);
        p32(&mut h, 20, len as u32);
        p32(&mut h, 24, self.cmdsn);
        p32(&mut h, 28, self.expstatsn);
        if lba + per <= 0xffff_ffff && per <= 0xffff {
            h[32] = if read { 0x28 } else { 0x2a };
            p32(&mut h, 34, lba as u32);
            h[39..41].copy_from_slice(&(per as u16).to_be_bytes());
        } else {
            h[32] = if read { 0x88 } else { 0x8a };
            p64(&mut h, 34, lba);
            p32(&mut h, 42, per as u32);
        }
        self.cmdsn = self.cmdsn.wrapping_add(1);
        let s = &mut self.slots[si];
        s.busy = true;
        s.read = read;
        s.lba = lba;
        s.len = len;
        s.got = 0;
        s.in_data = false;
        s.t0 = now;
        self.inflight += 1;
        if read {
            h[1] = 0x80 | 0x40 | 1;
            self.out.hdr(&h, hd);
            return true;
        }
        let src: *const u8 = if c.verify {
            s.buf.resize(len, 0);
            let a = lba * self.blk as u64 / 8;
            for (i, w) in s.buf.chunks_exact_mut(8).enumerate() {
                w.copy_from_slice(&stamp(a + i as u64, c.seed).to_le_bytes());
            }
            s.buf.as_ptr()
        } else {
            pat.as_ptr()
        };
        let ilen = if imm { len.min(fb).min(tm) } else { 0 };
        let unsol = if ir2t { ilen } else { len.min(fb) };
        h[1] = 0x20 | 1 | if unsol > ilen { 0 } else { 0x80 };
        p24(&mut h, 5, ilen);
        self.out.hdr(&h, hd);
        let mut crc = |off: usize, n: usize| -> Option<u32> {
            if !dd || c.verify || off + n > pat.len() {
                return None;
            }
            if let Some(x) = patcrc.iter().find(|x| x.0 == (off, n)) {
                return Some(x.1);
            }
            let v = crc32c::crc32c(&pat[off..off + n]);
            if patcrc.len() < 4096 {
                patcrc.push(((off, n), v));
            }
            Some(v)
        };
        if ilen > 0 {
            let k = crc(0, ilen);
            self.out.data(src, ilen, dd, k);
        }
        let mut off = ilen;
        let mut dsn = 0u32;
        while off < unsol {
            let n = (unsol - off).min(tm);
            let k = crc(off, n);
            Self::data_out(
                &mut self.out,
                c.lun,
                itt,
                0xffff_ffff,
                self.expstatsn,
                dsn,
                off,
                n,
                off + n == unsol,
                hd,
                dd,
                src,
                k,
            );
            off += n;
            dsn += 1;
        }
        true
    }
    #[allow(clippy::too_many_arguments)]
    pub(super) fn data_out(
        out: &mut OutQ,
        lun: u8,
        itt: u32,
        ttt: u32,
        ess: u32,
        dsn: u32,
        off: usize,
        n: usize,
        last: bool,
        hd: bool,
        dd: bool,
        src: *const u8,
        crc: Option<u32>,
    ) {
        let mut h = [0u8; 48];
        h[0] = 0x05;
        h[1] = if last { 0x80 } else { 0 };
        p24(&mut h, 5, n);
        h[9] = lun;
        p32(&mut h, 16, itt);
        p32(&mut h, 20, ttt);
        p32(&mut h, 28, ess);
        p32(&mut h, 36, dsn);
        p32(&mut h, 40, off as u32);
        out.hdr(&h, hd);
        out.data(unsafe { src.add(off) }, n, dd, crc);
    }
    pub(super) fn done(&mut self, si: usize, now: u64, st: &mut Stats, status: u8) {
        let s = &mut self.slots[si];
        if !s.busy {
            st.errs += 1;
            return;
        }
        if status != 0 || (s.read && s.got != s.len) {
            st.errs += 1;
        }
        if s.read {
            st.reads += 1
        } else {
            st.writes += 1
        }
        st.bytes += s.len as u64;
        st.lat.add(now.saturating_sub(s.t0));
        s.busy = false;
        self.free.push(si);
        self.inflight -= 1;
    }
    /// Parse everything buffered. `now` is taken once per receive call.
    pub(super) fn parse(&mut self, c: &Cfg, pat: &[u8], now: u64, st: &mut Stats) -> R<()> {
        let hl = if self.hd { 52 } else { 48 };
        loop {
            if self.skip > 0 {
                let n = self.skip.min(self.ie - self.ip);
                self.ip += n;
                self.skip -= n;
                if self.skip > 0 {
                    break;
                }
            }
            if let Some(si) = self.skip_done.take() {
                self.done(si, now, st, 0);
            }
            if self.ie - self.ip < hl {
                break;
            }
            let h: [u8; 48] = self.inb[self.ip..self.ip + 48].try_into().unwrap();
            if self.hd
                && c.check_digest
                && crc32c::crc32c(&h)
                    != u32::from_le_bytes(self.inb[self.ip + 48..self.ip + 52].try_into().unwrap())
            {
                return Err("header digest mismatch".into());
            }
            let dl = be24(&h, 5);
            let body = pad4(dl) + if self.dd && dl > 0 { 4 } else { 0 };
            let op = h[0] & 0x3f;
            let itt = be32(&h, 16);
            let whole = op != 0x25 || c.verify || (self.dd && c.check_digest);
            if whole && self.ie - self.ip < hl + body {
                if hl + body > self.inb.len() {
                    return Err(format!("PDU of {dl} bytes is larger than declared"));
                }
                break;
            }
            if op != 0x25 || h[1] & 1 != 0 {
                // status-bearing or window-bearing
                let m = be32(&h, 32);
                if m.wrapping_sub(self.maxcmdsn) as i32 > 0 {
                    self.maxcmdsn = m;
                }
            }
            match op {
                0x25 => {
                    let si = itt as usize;
                    if si >= self.slots.len() {
                        return Err("Data-In with unknown ITT".into());
                    }
                    let off = be32(&h, 40) as usize;
                    self.slots[si].got += dl;
                    if whole {
                        let d = &self.inb[self.ip + hl..self.ip + hl + pad4(dl)];
                        if self.dd && dl > 0 && c.check_digest {
                            let x = crc32c::crc32c(d);
                            let o = self.ip + hl + pad4(dl);
                            if x != u32::from_le_bytes(self.inb[o..o + 4].try_into().unwrap()) {
                                return Err("data digest mismatch".into());
                            }
                        }
                        if c.verify {
                            let a = (self.slots[si].lba * self.blk as u64 + off as u64) / 8;
                            for (i, w) in d[..dl].chunks_exact(8).enumerate() {
                                if u64::from_le_bytes(w.try_into().unwrap()) != stamp(a + i as u64, c.seed) {
                                    st.bad += 1;
                                    break;
                                }
                            }
                        }
                    }
                    self.ip += hl;
                    self.skip = body;
                    if h[1] & 1 != 0 {
                        self.expstatsn = be32(&h, 24).wrapping_add(1);
                        if h[3] != 0 {
                            st.errs += 1;
                        }
                        self.skip_done = Some(si);
                    }
                    continue;
                }
                0x21 => {
                    self.expstatsn = be32(&h, 24).wrapping_add(1);
                    if (itt as usize) < self.slots.len() {
                        let status = h[3] | h[2];
                        if status != 0 && st.errs < 3 {
                            let d = &self.inb[self.ip + hl..self.ip + hl + dl];
                            eprintln!(
                                "SCSI status {:#x} response {:#x} sense {:02x?}",
                                h[3],
                                h[2],
                                &d[..d.len().min(24)]
                            );
                        }
                        self.done(itt as usize, now, st, status);
                    }
                }
                0x31 => {
                    let si = itt as usize;
                    let off = be32(&h, 40) as usize;
                    let n = be32(&h, 44) as usize;
                    let ttt = be32(&h, 20);
                    let src: *const u8 = if c.verify {
                        self.slots[si].buf.as_ptr()
                    } else {
                        pat.as_ptr()
                    };
                    let (mut o, mut dsn) = (off, 0);
                    while o < off + n {
                        let k = (off + n - o).min(self.t_mrdsl);
                        Self::data_out(
                            &mut self.out,
                            c.lun,
                            itt,
                            ttt,
                            self.expstatsn,
                            dsn,
                            o,
                            k,
                            o + k == off + n,
                            self.hd,
                            self.dd,
                            src,
                            None,
                        );
                        o += k;
                        dsn += 1;
                    }
                }
                0x20 => {
                    if itt != 0xffff_ffff {
                        self.expstatsn = be32(&h, 24).wrapping_add(1);
                    }
                    let ttt = be32(&h, 20);
                    if ttt != 0xffff_ffff {
                        let mut r = [0u8; 48];
                        r[0] = 0x40;
                        r[1] = 0x80;
                        r[8..16].copy_from_slice(&h[8..16]);
                        p32(&mut r, 16, 0xffff_ffff);
                        p32(&mut r, 20, ttt);
                        p32(&mut r, 24, self.cmdsn);
                        p32(&mut r, 28, self.expstatsn);
                        self.out.hdr(&r, self.hd);
                    }
                }
                0x32 | 0x24 | 0x26 => {}
                0x3f => return Err(format!("Reject, reason {:#x}", h[2])),
                _ => return Err(format!("unexpected opcode {op:#x}")),
            }
            self.ip += hl + body;
        }
        if self.ip == self.ie {
            self.ip = 0;
            self.ie = 0;
        } else if self.inb.len() - self.ie < 65536 || self.ip > self.inb.len() / 2 {
            self.inb.copy_within(self.ip..self.ie, 0);
            self.ie -= self.ip;
            self.ip = 0;
        }
        Ok(())
    }
    /// One receive call. Ok(false): nothing there.
    pub(super) fn recv(&mut self, c: &Cfg, st: &mut Stats, flags: i32) -> R<bool> {
        st.sys_recv += 1;
        let r = if c.discard && self.ip == self.ie && self.skip >= 16384 {
            // Linux TCP: drop payload inside the kernel, without copying it out
            let r = unsafe {
                libc::recv(
                    self.fd,
                    self.inb.as_mut_ptr() as *mut _,
                    self.skip,
                    flags | libc::MSG_TRUNC,
                )
            };
            if r > 0 {
                self.skip -= r as usize;
                return Ok(true);
            }
            r
        } else {
            let r = unsafe {
                libc::recv(
                    self.fd,
                    self.inb.as_mut_ptr().add(self.ie) as *mut _,
                    self.inb.len() - self.ie,
                    flags,
                )
            };
            if r > 0 {
                self.ie += r as usize;
            }
            r
        };
        if r == 0 {
            return Err("target closed the connection".into());
        }
        if r < 0 {
            let e = std::io::Error::last_os_error();
            return match e.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(false),
                _ => Err(e.to_string()),
            };
        }
        Ok(true)
    }
}
