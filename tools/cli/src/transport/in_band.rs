//! In band: requests as C0h and C1h CDBs, through whatever passes SCSI commands through.

use std::time::Duration;

use scsi_model::{
    control::{self, DecodedReply, Refusal, RefusalKind, Reply, Request},
    sense::{Sense, SenseKey},
};

use super::{Answer, Transport, TransportError};

/// How a SCSI command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completion {
    /// Status code (SAM-5 5.3.1).
    pub(crate) status: u8,
    /// Sense data; empty when there is none.
    pub(crate) sense: Vec<u8>,
    /// What came, at most what was asked for.
    pub(crate) data_in: Vec<u8>,
}

/// Passes SCSI commands through to one logical unit.
pub(crate) trait PassThrough {
    /// One command. It has data out or data in, or neither.
    fn command(&mut self, cdb: [u8; 16], data_out: &[u8], data_in: u32)
    -> Result<Completion, TransportError>;

    /// For messages.
    fn name(&self) -> &str;

    /// See [`Transport::kernel`].
    fn kernel(&self) -> bool {
        false
    }
}

/// Requests over a pass-through.
pub(crate) struct InBand<P> {
    way: P,
}

const GOOD: u8 = 0x00;
const CHECK_CONDITION: u8 = 0x02;
const BUSY: u8 = 0x08;
const RESERVATION_CONFLICT: u8 = 0x18;
const TASK_SET_FULL: u8 = 0x28;

/// Room for 680 pairs; a reply that needs more is asked for again.
const ALLOCATION_LENGTH: u32 = 64 << 10;
/// What 3 bytes hold.
const LONGEST_REPLY: usize = (1 << 24) - 1;
/// Unit attentions that may be pending: one for each of their kinds is plenty.
const ATTENTIONS: u32 = 16;
/// How often a busy target is asked again.
const BUSY_RETRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

impl<P: PassThrough> InBand<P> {
    pub(crate) fn new(way: P) -> Self {
        Self { way }
    }

    /// One CDB: its data, or the refusal. Unit attentions are somebody else's news, and a busy target is asked again.
    fn exchange(&mut self, request: &Request, allocation: u32, continues: bool) -> Answer<Vec<u8>> {
        let encoded = control::encode_cdb(request, allocation, continues);
        let data_in = if matches!(request, Request::Out { .. }) {
            0
        } else {
            allocation
        };
        let (mut attentions, mut busy) = (0, 0);
        loop {
            let completion = self.way.command(encoded.cdb, &encoded.data_out, data_in)?;
            match completion.status {
                GOOD => return Ok(Ok(completion.data_in)),
                CHECK_CONDITION => {
                    let sense = Sense::decode(&completion.sense)
                        .ok_or_else(|| self.error("CHECK CONDITION with sense data that cannot be read"))?;
                    if sense.key == SenseKey::UnitAttention && attentions < ATTENTIONS {
                        attentions += 1;
                        continue;
                    }
                    return self.refused(&sense);
                }
                BUSY | TASK_SET_FULL if busy < BUSY_RETRIES => {
                    busy += 1;
                    std::thread::sleep(BUSY_PAUSE);
                }
                RESERVATION_CONFLICT => {
                    return Err(self.denied("RESERVATION CONFLICT: another host has the logical unit reserved; ask through another LUN"));
                }
                status => return Err(self.error(format_args!("the command ended with status {status:#04x}"))),
            }
        }
    }

    fn refused<T>(&self, sense: &Sense) -> Answer<T> {
        if let Some(mut refusal) = control::refusal_of(sense) {
            refusal.message = explain(&refusal);
            return Ok(Err(refusal));
        }
        let (code, qualifier) = (sense.additional.code, sense.additional.qualifier);
        Err(match (code, qualifier) {
            (0x20, 0x00) => self.error("this is no LUN of Holdfast: it does not know the replication commands (C0h, C1h)"),
            (0x20, 0x02) => self.denied(
                "this initiator may not control: `control = true` in its [[target.initiator]] lets it (ACCESS DENIED)",
            ),
            (0x25, 0x00) => self.error("there is no such LUN for this initiator"),
            _ => {
                let text = sense.additional.text().unwrap_or("unknown");
                self.denied(format_args!("{:?}, {code:02x}h/{qualifier:02x}h: {text}", sense.key))
            }
        })
    }

    /// The whole map, piece by piece: a cut list goes on where it was cut.
    fn pending_map(&mut self, request: &Request) -> Answer<Reply> {
        let mut all = Vec::new();
        let mut continues = false;
        loop {
            let data = match self.exchange(request, ALLOCATION_LENGTH, continues)? {
                Ok(data) => data,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let decoded = self.decode(request, &data)?;
            let Reply::Pending(extents) = decoded.reply else {
                return Err(self.error("no pending map"));
            };
            let more = decoded.needed > data.len() && !extents.is_empty();
            all.extend(extents);
            if !more {
                return Ok(Ok(Reply::Pending(all)));
            }
            continues = true;
        }
    }

    fn decode(&self, request: &Request, data: &[u8]) -> Result<DecodedReply, TransportError> {
        control::decode_reply(request, data).map_err(|error| self.error(error))
    }

    fn denied(&self, why: impl ToString) -> TransportError {
        TransportError::denied(self.way.name(), why)
    }

    fn error(&self, why: impl ToString) -> TransportError {
        TransportError::new(self.way.name(), why)
    }
}

impl<P: PassThrough> Transport for InBand<P> {
    fn execute(&mut self, request: &Request) -> Answer<Reply> {
        if matches!(request, Request::ReadPendingMap { .. }) {
            return self.pending_map(request);
        }
        let mut allocation = ALLOCATION_LENGTH;
        loop {
            let data = match self.exchange(request, allocation, false)? {
                Ok(data) => data,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let decoded = self.decode(request, &data)?;
            if decoded.needed <= data.len() || allocation as usize == LONGEST_REPLY {
                return Ok(Ok(decoded.reply));
            }
            allocation = decoded.needed.min(LONGEST_REPLY) as u32;
        }
    }

    fn kernel(&self) -> bool {
        self.way.kernel()
    }
}

/// Sense data has no room for the sentence that the admin socket gives: what would work, by the kind alone.
fn explain(refusal: &Refusal) -> String {
    match refusal.kind {
        RefusalKind::InvalidField { byte, .. } => {
            format!("not accepted by this verb: byte {byte} of the CDB; --help shows what each verb takes")
        }
        RefusalKind::InvalidParameter { byte } => format!("not accepted: byte {byte} of the parameter list"),
        RefusalKind::State => "not accepted in the pair's present state; `holdfast query` shows it".to_owned(),
        RefusalKind::Held => "the mirror is held; `holdfast config release VOL` ends that".to_owned(),
        RefusalKind::OtherStandard => {
            "the mirror belongs to another standard; `holdfast query` shows which: release it or cancel that pair first"
                .to_owned()
        }
        RefusalKind::Geometry => "the volumes differ in size or block size; `holdfast setup` shows both".to_owned(),
        RefusalKind::NoSuchPair => "there is no such pair; `holdfast query` shows those there are".to_owned(),
        RefusalKind::NoSuchVolume => "there is no such volume; `holdfast setup` shows those there are".to_owned(),
        RefusalKind::InUse => {
            "a host has the volume reserved, or it is in use; where the verb takes --force, that overrides".to_owned()
        }
        RefusalKind::NoPath => "there is no path to the peer; pairs of this system work without one".to_owned(),
        RefusalKind::PeerRefused => "the peer refused; its own `holdfast query` shows why".to_owned(),
        RefusalKind::NoHistory => "there is no history to copy differences by; --full copies everything".to_owned(),
        RefusalKind::NotReady => "the volume was made not ready; `holdfast config ready VOL` ends that".to_owned(),
        RefusalKind::Internal => format!("{}: the daemon's log says more", refusal.message),
    }
}

#[cfg(test)]
mod tests {
    use scsi_model::{
        control::{PairSelector, PendingExtent, PendingSide, VolumeNumber, VolumePair},
        sense::SenseFormat,
        sense_codes,
    };

    use super::*;

    /// Answers in turn, and keeps the CDBs.
    #[derive(Default)]
    struct Scripted {
        answers: Vec<Completion>,
        cdbs: Vec<[u8; 16]>,
    }

    impl PassThrough for Scripted {
        fn command(&mut self, cdb: [u8; 16], _: &[u8], data_in: u32) -> Result<Completion, TransportError> {
            self.cdbs.push(cdb);
            let mut answer = self.answers.remove(0);
            answer.data_in.truncate(data_in as usize);
            Ok(answer)
        }

        fn name(&self) -> &'static str {
            "script"
        }
    }

    fn good(data_in: Vec<u8>) -> Completion {
        Completion {
            status: GOOD,
            sense: Vec::new(),
            data_in,
        }
    }

    fn check(sense: &Sense) -> Completion {
        Completion {
            status: CHECK_CONDITION,
            sense: sense.encode(SenseFormat::Fixed),
            data_in: Vec::new(),
        }
    }

    fn over(answers: Vec<Completion>) -> InBand<Scripted> {
        InBand::new(Scripted {
            answers,
            cdbs: Vec::new(),
        })
    }

    fn refusal(kind: RefusalKind) -> Completion {
        check(&control::sense_of(&Refusal {
            kind,
            message: String::new(),
            member: None,
        }))
    }

    /// A list header that says `count` extents of which `extents` are here.
    fn extents(extents: &[(u64, u64)], count: usize) -> Vec<u8> {
        let mut data = ((12 + 16 * count) as u32).to_be_bytes().to_vec();
        data.extend([1, 0, 0, 16]);
        data.extend((count as u32).to_be_bytes());
        data.extend([0; 4]);
        for (lba, blocks) in extents {
            data.extend(lba.to_be_bytes());
            data.extend(blocks.to_be_bytes());
        }
        data
    }

    /// An empty list of pair descriptors.
    fn no_pairs() -> Vec<u8> {
        let mut data = extents(&[], 0);
        data[6..8].copy_from_slice(&96u16.to_be_bytes());
        data
    }

    #[test]
    fn unit_attentions_and_busy_are_passed_over() {
        let attention = check(&Sense::new(
            SenseKey::UnitAttention,
            sense_codes::POWER_ON_OR_RESET,
        ));
        let busy = Completion {
            status: BUSY,
            ..good(Vec::new())
        };
        let mut way = over(vec![attention.clone(), busy, attention, good(no_pairs())]);
        assert_eq!(
            way.execute(&Request::Query(PairSelector::All)).unwrap(),
            Ok(Reply::Pairs(Vec::new()))
        );
        assert_eq!(way.way.cdbs.len(), 4);
    }

    #[test]
    fn refusals_say_what_would_work() {
        let mut way = over(vec![refusal(RefusalKind::Held)]);
        let refused = way.execute(&Request::Setup).unwrap().unwrap_err();
        assert_eq!(refused.kind, RefusalKind::Held);
        assert!(refused.message.contains("config release"), "{}", refused.message);
    }

    #[test]
    fn other_targets_and_other_initiators_are_told_apart() {
        for (code, says) in [
            (sense_codes::INVALID_OPERATION_CODE, "no LUN of Holdfast"),
            (sense_codes::ACCESS_DENIED_NO_RIGHTS, "control = true"),
        ] {
            let error = over(vec![check(&Sense::illegal(code))])
                .execute(&Request::Setup)
                .unwrap_err()
                .to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_cut_map_goes_on() {
        let pair = VolumePair {
            primary: VolumeNumber(1),
            mirror: Some(VolumeNumber(2)),
        };
        let request = Request::ReadPendingMap {
            pair,
            side: PendingSide::Union,
        };
        let mut way = over(vec![good(extents(&[(0, 8)], 2)), good(extents(&[(64, 8)], 1))]);
        let extent = |lba| PendingExtent { lba, blocks: 8 };
        assert_eq!(
            way.execute(&request).unwrap(),
            Ok(Reply::Pending(vec![extent(0), extent(64)]))
        );
        assert_eq!((way.way.cdbs[0][2], way.way.cdbs[1][2]), (0, 0x80));
    }

    #[test]
    fn a_cut_list_is_asked_for_whole() {
        let mut cut = no_pairs();
        cut[..4].copy_from_slice(&(100_000u32 - 4).to_be_bytes());
        let mut way = over(vec![good(cut), good(no_pairs())]);
        way.execute(&Request::Query(PairSelector::All)).unwrap().unwrap();
        assert_eq!(way.way.cdbs[1][12..15], [0x01, 0x86, 0xa0]);
    }
}
