//! [`Request`] to CDB, for the command line.

use super::{
    ANY_SETTLED, CHECKSUM, CONTINUE, DRY_RUN, EVERYTHING, FORCE, FULL, INSTANT, LIST, PROTECTED, REMOTE,
    REPLICATION_IN, REPLICATION_OUT, STRICT_HOLD, THIS_OR_ANY,
};
use crate::control::{
    Condition, CopyMode, Flags, OnLinkLoss, OutVerb, PairSelector, PendingSide, Request, VolumePair,
};

/// A CDB to be sent, with the data that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedCdb {
    /// The CDB.
    pub cdb: [u8; 16],
    /// The parameter list; empty when there is none.
    pub data_out: Vec<u8>,
}

/// Writes the CDB of a request. `continues` sets SELECT bit 7 of READ PENDING MAP; `allocation_length` (below 2^24)
/// goes into C0h.
pub fn encode_cdb(request: &Request, allocation_length: u32, continues: bool) -> EncodedCdb {
    let mut cdb = [0; 16];
    let mut data_out = Vec::new();
    if let Request::Out {
        verb,
        flags,
        members,
        dry_run,
    } = request
    {
        encode_out(&mut cdb, &mut data_out, verb, *flags, members);
        cdb[2] |= if *dry_run { DRY_RUN } else { 0 };
        cdb[12..15].copy_from_slice(&(data_out.len() as u32).to_be_bytes()[1..]);
    } else {
        encode_in(&mut cdb, request, continues);
        cdb[12..15].copy_from_slice(&allocation_length.min(0xFF_FFFF).to_be_bytes()[1..]);
    }
    EncodedCdb { cdb, data_out }
}

fn encode_in(cdb: &mut [u8; 16], request: &Request, continues: bool) {
    cdb[0] = REPLICATION_IN;
    match request {
        Request::Query(selector) => encode_selector(cdb, *selector),
        Request::Verify { pairs, state } => {
            cdb[1] = 0x01;
            cdb[2] = state.unwrap_or(ANY_SETTLED);
            encode_selector(cdb, *pairs);
        }
        Request::Setup => cdb[1] = 0x02,
        Request::ReportCapabilities => cdb[1] = 0x03,
        Request::ReadPendingMap { pair, side } => {
            cdb[1] = 0x04;
            cdb[2] = match side {
                PendingSide::Union => 0,
                PendingSide::Primary => 1,
                PendingSide::Mirror => 2,
                PendingSide::Remaining => 3,
            } | if continues { CONTINUE } else { 0 };
            encode_pair(cdb, pair);
        }
        Request::CopyManagementTable(volume) => {
            cdb[1] = 0x05;
            cdb[4..8].copy_from_slice(&volume.0.to_be_bytes());
        }
        Request::Preview { verb, flags, pair } => {
            cdb[1] = 0x06;
            cdb[2] = encode_flags(*flags);
            cdb[3] = encode_verb(verb).0;
            encode_pair(cdb, pair);
        }
        Request::Out { .. } => {}
    }
}

fn encode_out(
    cdb: &mut [u8; 16],
    data_out: &mut Vec<u8>,
    verb: &OutVerb,
    flags: Flags,
    members: &[VolumePair],
) {
    let (action, condition) = encode_verb(verb);
    cdb[0] = REPLICATION_OUT;
    cdb[1] = action;
    cdb[2] = encode_flags(flags);
    cdb[3] = condition | if flags.checksum { CHECKSUM } else { 0 };
    if let [only] = members {
        encode_pair(cdb, only);
    } else {
        cdb[2] |= LIST;
        data_out.extend((members.len() as u16).to_be_bytes());
        data_out.extend([0; 6]);
        for member in members {
            data_out.extend(member.primary.0.to_be_bytes());
            data_out.extend(member.mirror.map_or(THIS_OR_ANY, |mirror| mirror.0).to_be_bytes());
        }
    }
    if let OutVerb::Establish {
        remote: Some((peer, mode)),
    } = verb
    {
        data_out.extend(peer.to_wire());
        data_out.push(u8::from(*mode == CopyMode::Sync));
        data_out.extend([0; 15]);
        cdb[2] |= REMOTE;
    }
}

/// Service action and CONDITION.
fn encode_verb(verb: &OutVerb) -> (u8, u8) {
    match verb {
        OutVerb::Establish { .. } => (0x00, 0),
        OutVerb::Split => (0x01, 0),
        OutVerb::Restore => (0x02, 0),
        OutVerb::Config(Condition::Hold) => (0x03, 1),
        OutVerb::Config(Condition::Release) => (0x03, 2),
        OutVerb::Config(Condition::NotReady) => (0x03, 3),
        OutVerb::Config(Condition::Ready) => (0x03, 4),
        OutVerb::OnLinkLoss(OnLinkLoss::Refuse) => (0x03, 5),
        OutVerb::OnLinkLoss(OnLinkLoss::Mark) => (0x03, 6),
        OutVerb::Cancel => (0x04, 0),
        OutVerb::Swap => (0x05, 0),
        OutVerb::Suspend => (0x06, 0),
    }
}

fn encode_flags(flags: Flags) -> u8 {
    let bits = [
        (flags.full, FULL),
        (flags.instant, INSTANT),
        (flags.protected, PROTECTED),
        (flags.strict_hold, STRICT_HOLD),
        (flags.remote, REMOTE),
        (flags.force, FORCE),
    ];
    bits.into_iter()
        .filter(|(set, _)| *set)
        .fold(0, |byte, (_, bit)| byte | bit)
}

fn encode_pair(cdb: &mut [u8; 16], pair: &VolumePair) {
    cdb[4..8].copy_from_slice(&pair.primary.0.to_be_bytes());
    cdb[8..12].copy_from_slice(&pair.mirror.map_or(THIS_OR_ANY, |mirror| mirror.0).to_be_bytes());
}

fn encode_selector(cdb: &mut [u8; 16], selector: PairSelector) {
    let (primary, mirror) = match selector {
        PairSelector::All => (EVERYTHING, EVERYTHING),
        PairSelector::OfPrimary(primary) => (primary.0, THIS_OR_ANY),
        PairSelector::One(primary, mirror) => (primary.0, mirror.0),
    };
    cdb[4..8].copy_from_slice(&primary.to_be_bytes());
    cdb[8..12].copy_from_slice(&mirror.to_be_bytes());
}
