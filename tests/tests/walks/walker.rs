//! One walk: a connection, or several, of one session or of more, and what an initiator does on them.

use std::time::Duration;

use holdfast_tests::{
    random::Random,
    wire::{FINAL, Heard, IMMEDIATE, Pdu, READ, WRITE, Wire},
};

/// How long a walker listens for what it is answered, if it does at all.
const LISTEN: Duration = Duration::from_millis(3);

/// One connection of the walk.
struct Walker {
    random: Random,
    wire: Wire,
    isid: u8,
    /// Tags of commands it has sent.
    tags: Vec<u32>,
    /// R2Ts it has not answered.
    asked: Vec<Pdu>,
    closed: bool,
}

/// Connects, once or several times, and misbehaves until the target has had enough or the walk is over.
pub(crate) fn walk(port: u16, target: &str, random: &mut Random) {
    let mut walkers: Vec<Walker> = Vec::new();
    for _ in 0..=random.below(4) {
        let mut walker = Walker {
            wire: Wire::connect(port),
            isid: random.below(3) as u8,
            random: Random::new(random.number()),
            tags: Vec::new(),
            asked: Vec::new(),
            closed: false,
        };
        if let Some(first) = walkers.first().filter(|_| random.chance(70)) {
            (walker.wire.tsih, walker.wire.cmd_sn) = (first.wire.tsih, first.wire.cmd_sn);
            walker.isid = first.isid;
        }
        if walker.login(target) {
            walkers.push(walker);
        }
    }
    for _ in 0..random.below(80) {
        walkers.retain(|walker| !walker.closed);
        if walkers.is_empty() {
            return;
        }
        let at = random.below(walkers.len() as u64) as usize;
        let before = walkers[at].wire.cmd_sn;
        walkers[at].step();
        let (session, after) = (walkers[at].wire.tsih, walkers[at].wire.cmd_sn);
        // Commands are numbered for all connections of a session together.
        for walker in walkers.iter_mut().filter(|walker| walker.wire.tsih == session) {
            if walker.wire.cmd_sn == before {
                walker.wire.cmd_sn = after;
            }
        }
    }
}

impl Walker {
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.below(of.len() as u64) as usize]
    }

    /// A login, most times one that succeeds. The walk goes on either way.
    fn login(&mut self, target: &str) -> bool {
        const KEYS: [&str; 22] = [
            "HeaderDigest=CRC32C",
            "HeaderDigest=None,CRC32C",
            "DataDigest=CRC32C",
            "DataDigest=",
            "InitialR2T=No",
            "InitialR2T=Yes",
            "ImmediateData=No",
            "MaxRecvDataSegmentLength=512",
            "MaxRecvDataSegmentLength=16777215",
            "MaxBurstLength=512",
            "MaxBurstLength=99999999999999999999",
            "FirstBurstLength=512",
            "MaxConnections=4",
            "MaxOutstandingR2T=65535",
            "DataPDUInOrder=No",
            "DataSequenceInOrder=No",
            "ErrorRecoveryLevel=1",
            "ErrorRecoveryLevel=2",
            "DefaultTime2Retain=1",
            "TaskReporting=FastAbort,ResponseFence,RFC3720",
            "iSCSIProtocolLevel=2",
            "X-org.example.walk=?",
        ];
        let isid = self.isid;
        let mut text =
            format!("InitiatorName=iqn.2026-11.test:walker TargetName={target} SessionType=Normal");
        for _ in 0..self.random.below(6) {
            text.push(' ');
            text.push_str(self.pick(&KEYS));
        }
        if self.random.chance(50) {
            text.push_str(" MaxConnections=4 ErrorRecoveryLevel=2");
        }
        if self.random.chance(4) {
            text = text.replace("Normal", "Discovery");
        }
        let stages = if self.random.chance(90) {
            FINAL | 1 << 2 | 3
        } else {
            self.random.number() as u8
        };
        let cid = self.random.below(4) as u16;
        let request = self
            .wire
            .login_request(stages, &text)
            .put(8, &[0x80, 0, 0, 0, 0, isid])
            .put(20, &cid.to_be_bytes());
        let request = if self.random.chance(8) {
            self.damaged(request)
        } else {
            request
        };
        self.wire.send(&request);
        for _ in 0..4 {
            match self.wire.listen(Duration::from_millis(500)) {
                Heard::Pdu(pdu) if pdu.bhs.0[0] == 0x23 && pdu.bhs.0[36] == 0 => {
                    self.wire.exp_stat_sn = pdu.get(24).wrapping_add(1);
                    if pdu.bhs.0[1] & 0x83 == 0x83 {
                        let text = String::from_utf8_lossy(&pdu.data).into_owned();
                        let has = |pair: &str| text.split('\0').any(|found| found == pair);
                        self.wire
                            .set_digests(has("HeaderDigest=CRC32C"), has("DataDigest=CRC32C"));
                        self.wire.tsih = u16::from_be_bytes([pdu.bhs.0[14], pdu.bhs.0[15]]);
                        return true;
                    }
                    // The target wants to negotiate on: let it.
                    let on = self.wire.login_request(FINAL | 1 << 2 | 3, "");
                    let on = on.put(8, &[0x80, 0, 0, 0, 0, isid]).put(20, &cid.to_be_bytes());
                    self.wire.send(&on);
                }
                Heard::Closed => {
                    self.closed = true;
                    return false;
                }
                Heard::Pdu(_) | Heard::Silence => return false,
            }
        }
        false
    }

    fn step(&mut self) {
        let pdu = match self.random.below(20) {
            0..=7 => self.command(),
            8..=11 => self.data_out(),
            12 | 13 => self.task_management(),
            14 => self.text(),
            15 => self.nop(),
            16 => self.snack(),
            17 if self.random.chance(20) => self.logout(),
            18 if self.random.chance(20) => Pdu::new(self.random.number() as u8, self.random.number() as u8),
            _ => return self.listen(),
        };
        let pdu = if self.random.chance(6) {
            self.damaged(pdu)
        } else {
            pdu
        };
        let numbered = !matches!(pdu.bhs.0[0] & 0x3f, 5 | 0x10) && pdu.bhs.0[0] & IMMEDIATE == 0;
        if numbered {
            self.wire.cmd_sn = self.wire.cmd_sn.wrapping_add(1);
        }
        if self.random.chance(3) {
            // In two pieces, or one of them only.
            let mut bytes = pdu.bytes(self.random.chance(50), self.random.chance(50));
            let cut = self.random.below(bytes.len() as u64) as usize;
            let rest = bytes.split_off(cut);
            self.wire.send_bytes(&bytes);
            if self.random.chance(30) {
                self.closed = true;
                return;
            }
            self.wire.send_bytes(&rest);
        } else {
            self.wire.send(&pdu);
        }
        if self.random.chance(30) {
            self.listen();
        }
    }

    /// Takes what has come.
    fn listen(&mut self) {
        loop {
            match self.wire.listen(LISTEN) {
                Heard::Pdu(pdu) => {
                    if matches!(pdu.bhs.0[0], 0x20..=0x24 | 0x26 | 0x32 | 0x3f) {
                        self.wire.exp_stat_sn = pdu.get(24).wrapping_add(1);
                    }
                    if pdu.bhs.0[0] == 0x31 && self.asked.len() < 16 {
                        self.asked.push(pdu);
                    }
                }
                Heard::Silence => return,
                Heard::Closed => {
                    self.closed = true;
                    return;
                }
            }
        }
    }

    fn numbers(&mut self, pdu: Pdu) -> Pdu {
        let (cmd_sn, exp_stat_sn) = (self.wire.cmd_sn, self.wire.exp_stat_sn);
        let off = |random: &mut Random| {
            if random.chance(4) {
                random.below(300) as u32
            } else {
                0
            }
        };
        let cmd_sn = cmd_sn
            .wrapping_add(off(&mut self.random))
            .wrapping_sub(off(&mut self.random));
        pdu.word(24, cmd_sn)
            .word(28, exp_stat_sn.wrapping_sub(off(&mut self.random)))
    }

    fn tag(&mut self) -> u32 {
        match self.random.below(10) {
            0 => self.random.number() as u32,
            1..=4 if !self.tags.is_empty() => {
                let tags = std::mem::take(&mut self.tags);
                let tag = self.pick(&tags);
                self.tags = tags;
                tag
            }
            _ => self.tags.len() as u32,
        }
    }

    fn command(&mut self) -> Pdu {
        // Of every group, with data in, data out and without; the last stand for any.
        const OPCODES: [u8; 40] = [
            0x00, 0x03, 0x08, 0x0a, 0x12, 0x15, 0x16, 0x17, 0x1a, 0x1b, 0x1d, 0x25, 0x28, 0x28, 0x28, 0x2a,
            0x2a, 0x2a, 0x2e, 0x2f, 0x34, 0x35, 0x41, 0x42, 0x4d, 0x55, 0x5a, 0x5e, 0x5f, 0x83, 0x84, 0x88,
            0x89, 0x8a, 0x8b, 0x93, 0x9e, 0xa0, 0xa3, 0xff,
        ];
        let mut cdb = [0; 16];
        if self.random.chance(20) {
            for byte in &mut cdb {
                *byte = self.random.number() as u8;
            }
        }
        cdb[0] = self.pick(&OPCODES);
        if cdb[0] == 0xff {
            cdb[0] = self.random.number() as u8;
        }
        let blocks = self.random.below(64) as u8;
        if matches!(cdb[0], 0x28 | 0x2a | 0x2e | 0x2f) {
            cdb[5] = self.random.number() as u8;
            cdb[8] = blocks;
        } else if matches!(cdb[0], 0x88 | 0x8a | 0x93) {
            cdb[9] = self.random.number() as u8;
            cdb[13] = blocks;
        } else if cdb[0] == 0x12 {
            cdb[4] = 0xff;
        }
        let direction = match cdb[0] {
            0x0a | 0x15 | 0x1d | 0x2a | 0x2e | 0x41 | 0x42 | 0x55 | 0x5f | 0x83 | 0x89 | 0x8a | 0x8b
            | 0x93 => WRITE,
            0x00 | 0x16 | 0x17 | 0x1b | 0x35 => 0,
            _ => READ,
        };
        let direction = if self.random.chance(95) {
            direction
        } else {
            self.pick(&[0, READ, WRITE, READ | WRITE])
        };
        let expected = match self.random.below(10) {
            0 => self.random.number() as u32,
            1 => 0,
            _ => u32::from(blocks) * 512,
        };
        let last = if self.random.chance(80) { FINAL } else { 0 };
        let immediate = if self.random.chance(10) { IMMEDIATE } else { 0 };
        let lun = if self.random.chance(95) {
            0
        } else {
            self.random.number() as u16
        };
        let tag = self.tag();
        if self.tags.len() < 64 {
            self.tags.push(tag);
        }
        let attribute = if self.random.chance(95) {
            self.random.below(4)
        } else {
            self.random.below(8)
        } as u8;
        let mut pdu = Pdu::new(0x01 | immediate, last | direction | attribute)
            .put(8, &lun.to_be_bytes())
            .word(16, tag)
            .word(20, expected)
            .put(32, &cdb);
        if direction & WRITE != 0 && self.random.chance(60) {
            let length = self.random.below(u64::from(expected.min(16384)) + 1) as usize;
            pdu = pdu.with_data(&vec![self.random.number() as u8; length]);
        }
        self.numbers(pdu)
    }

    fn data_out(&mut self) -> Pdu {
        let (mut tag, mut transfer_tag, mut offset, mut length) = (self.tag(), u32::MAX, 0, 512);
        if !self.asked.is_empty() && self.random.chance(85) {
            let place = self.random.below(self.asked.len() as u64) as usize;
            let r2t = self.asked.remove(place);
            (tag, transfer_tag) = (r2t.get(16), r2t.get(20));
            (offset, length) = (r2t.get(40), r2t.get(44).min(1 << 16));
        }
        if self.random.chance(10) {
            offset = offset.wrapping_add(self.random.below(5000) as u32);
        }
        if self.random.chance(10) {
            length = self.random.below(20000) as u32;
        }
        if self.random.chance(5) {
            transfer_tag = self.random.below(100) as u32;
        }
        let data_sn = if self.random.chance(90) {
            0
        } else {
            self.random.number() as u32
        };
        let last = if self.random.chance(90) { FINAL } else { 0 };
        self.wire
            .data_out(tag, transfer_tag, data_sn, 0, &vec![0xda; length as usize])
            .word(40, offset)
            .put(1, &[last])
    }

    fn task_management(&mut self) -> Pdu {
        let function = if self.random.chance(90) {
            self.random.below(13) as u8
        } else {
            self.random.number() as u8
        };
        let immediate = if self.random.chance(70) { IMMEDIATE } else { 0 };
        let (tag, referenced) = (self.tag(), self.tag());
        let pdu = Pdu::new(0x02 | immediate, FINAL | function & 0x7f)
            .word(16, tag ^ 0x8000_0000)
            .word(20, referenced)
            .word(32, self.wire.cmd_sn.wrapping_sub(1));
        self.numbers(pdu)
    }

    fn text(&mut self) -> Pdu {
        const TEXTS: [&[u8]; 6] = [
            b"SendTargets=All\0",
            b"SendTargets=\0",
            b"MaxRecvDataSegmentLength=1024\0",
            b"X-walk=1\0MaxBurstLength=512\0",
            b"=\0\0",
            b"",
        ];
        let text = self.pick(&TEXTS);
        let flags = self.pick(&[FINAL, FINAL, FINAL, 0x40, 0, 0xc0]);
        let transfer_tag = if self.random.chance(80) { u32::MAX } else { 1 };
        let tag = self.tag();
        let pdu = Pdu::new(0x04 | IMMEDIATE, flags)
            .word(16, tag)
            .word(20, transfer_tag)
            .with_data(text);
        self.numbers(pdu)
    }

    fn nop(&mut self) -> Pdu {
        let immediate = if self.random.chance(50) { IMMEDIATE } else { 0 };
        let (tag, transfer_tag) = (self.tag(), if self.random.chance(80) { u32::MAX } else { 3 });
        let length = self.random.below(600) as usize;
        let pdu = Pdu::new(immediate, FINAL)
            .word(16, tag)
            .word(20, transfer_tag)
            .with_data(&vec![1; length]);
        self.numbers(pdu)
    }

    /// RFC 7143 11.16: of any type, about anything.
    fn snack(&mut self) -> Pdu {
        let kind = self.random.below(5) as u8;
        let (tag, from, length) = (
            self.tag(),
            self.random.below(8) as u32,
            self.random.below(4) as u32,
        );
        Pdu::new(0x10, FINAL | kind)
            .word(16, tag)
            .word(20, u32::MAX)
            .word(28, self.wire.exp_stat_sn)
            .word(40, from)
            .word(44, length)
    }

    fn logout(&mut self) -> Pdu {
        let reason = self.random.below(4) as u8;
        let (tag, cid) = (self.tag(), self.random.below(4) as u16);
        let pdu = Pdu::new(0x06 | IMMEDIATE, FINAL | reason)
            .word(16, tag)
            .put(20, &cid.to_be_bytes());
        self.numbers(pdu)
    }

    /// The same with something wrong in it.
    fn damaged(&mut self, mut pdu: Pdu) -> Pdu {
        match self.random.below(4) {
            // Some bits of the header.
            0 | 1 => {
                for _ in 0..=self.random.below(4) {
                    let bit = self.random.below(48 * 8) as usize;
                    pdu.bhs.0[bit / 8] ^= 1 << (bit % 8);
                }
            }
            // A length that is not that of the data.
            2 => {
                let bits = self.random.below(24);
                let length = self.random.below(1 << bits) as u32;
                pdu.bhs.0[5..8].copy_from_slice(&length.to_be_bytes()[1..]);
            }
            // A number that nobody has given out.
            3 if self.random.chance(80) => {
                let word = 16 + 4 * self.random.below(8) as usize;
                pdu = pdu.word(word, self.random.number() as u32);
            }
            // Additional headers that are not there.
            _ => pdu.bhs.0[4] = self.random.number() as u8,
        }
        pdu
    }
}
