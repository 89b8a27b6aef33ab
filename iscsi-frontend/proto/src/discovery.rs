//! SendTargets (RFC 7143 13.3, Appendix C): which targets are here, and at which addresses.
//!
//! In a discovery session `All` lists every target the initiator may see and a name lists that one. In a normal
//! session the answer is never about another target than the session's own. RFC 7143 Appendix C forbids `All` there;
//! libiscsi asks for it all the same, as do users, and naming the own target gives nothing away.
//!
//! A long answer leaves in pieces: Text Responses with the C bit and a target transfer tag, which the initiator
//! returns in empty Text Requests ([`AnswerInPieces`]).

use crate::keys::Key;
use crate::negotiation::SessionType;
use crate::text::{Pair, Pieces, REJECT, TextWriter, number};

/// A target as SendTargets shows it to one initiator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveredTarget {
    /// iSCSI name.
    pub name: String,
    /// Its portals. The one that the question came through belongs first.
    pub portals: Vec<DiscoveredPortal>,
}

/// One TargetAddress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveredPortal {
    /// `address:port`, an IPv6 address in brackets.
    pub address: String,
    /// Portal group tag.
    pub portal_group_tag: u16,
}

/// Writes the answer to `SendTargets=<value>`. `visible` are the targets that the initiator may see; `own` is the
/// target of a normal session.
pub fn answer(
    value: &str,
    session_type: SessionType,
    own: Option<&str>,
    visible: &[DiscoveredTarget],
    out: &mut TextWriter,
) {
    let wanted: &dyn Fn(&DiscoveredTarget) -> bool = match (session_type, value) {
        (SessionType::Discovery, "All") => &|_| true,
        (SessionType::Normal, "All" | "") => &|target| Some(target.name.as_str()) == own,
        (SessionType::Discovery, name) if is_name(name) => &|target| target.name == value,
        (SessionType::Normal, name) if is_name(name) => {
            &|target| target.name == value && Some(target.name.as_str()) == own
        }
        _ => return out.put(Key::SendTargets.name(), REJECT),
    };
    for target in visible.iter().filter(|target| wanted(target)) {
        out.put(Key::TargetName.name(), &target.name);
        for portal in &target.portals {
            let address = format!("{},{}", portal.address, portal.portal_group_tag);
            out.put(Key::TargetAddress.name(), &address);
        }
    }
}

/// What is wrong with an answer to SendTargets (RFC 7143 Appendix C).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The target does not answer this question.
    #[error("the target rejected SendTargets (RFC 7143 Appendix C)")]
    Rejected,
    /// TargetAddress stands before any TargetName.
    #[error("an address that belongs to no target (RFC 7143 Appendix C)")]
    AddressWithoutTarget,
    /// TargetAddress is not `address:port,tag`.
    #[error("a TargetAddress without a portal group tag (RFC 7143 13.8)")]
    BadAddress,
}

/// Reads an answer to SendTargets: the initiator's side of [`answer`]. Other keys are passed over.
pub fn targets(pairs: &[Pair<'_>]) -> Result<Vec<DiscoveredTarget>, DiscoveryError> {
    let mut found: Vec<DiscoveredTarget> = Vec::new();
    for pair in pairs {
        match Key::from_name(pair.key) {
            Some(Key::TargetName) => found.push(DiscoveredTarget {
                name: pair.value.to_owned(),
                portals: Vec::new(),
            }),
            Some(Key::TargetAddress) => {
                let target = found.last_mut().ok_or(DiscoveryError::AddressWithoutTarget)?;
                target
                    .portals
                    .push(portal(pair.value).ok_or(DiscoveryError::BadAddress)?);
            }
            Some(Key::SendTargets) => return Err(DiscoveryError::Rejected),
            _ => {}
        }
    }
    Ok(found)
}

/// One Text Response of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPiece {
    /// The data segment, without padding.
    pub data: Vec<u8>,
    /// C bit. With it the response carries a target transfer tag and no F bit (RFC 7143 11.11).
    pub cont: bool,
}

/// An answer that is sent piece by piece, one for each Text Request of the sequence.
#[derive(Clone, Debug)]
pub struct AnswerInPieces {
    pieces: Pieces,
    /// Bytes that the initiator takes in one PDU.
    limit: usize,
}

impl AnswerInPieces {
    /// The answer `text` to an initiator whose MaxRecvDataSegmentLength is `limit` bytes.
    pub fn new(text: TextWriter, limit: u32) -> Self {
        Self {
            pieces: Pieces::new(text.into_bytes()),
            limit: limit as usize,
        }
    }

    /// The next response.
    pub fn next_piece(&mut self) -> TextPiece {
        let data = self.pieces.next_piece(self.limit);
        TextPiece {
            data,
            cont: self.pieces.more(),
        }
    }
}

fn portal(value: &str) -> Option<DiscoveredPortal> {
    let (address, tag) = value.rsplit_once(',')?;
    let portal_group_tag = u16::try_from(number(tag)?).ok()?;
    (!address.is_empty()).then(|| DiscoveredPortal {
        address: address.to_owned(),
        portal_group_tag,
    })
}

fn is_name(value: &str) -> bool {
    ["iqn.", "eui.", "naa."]
        .iter()
        .any(|kind| value.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Collector, parse};

    fn visible() -> Vec<DiscoveredTarget> {
        let portal = |address: &str, portal_group_tag| DiscoveredPortal {
            address: address.into(),
            portal_group_tag,
        };
        vec![
            DiscoveredTarget {
                name: "iqn.2026-11.io.holdfast:a".into(),
                portals: vec![portal("127.0.0.1:3260", 1), portal("[::1]:3260", 2)],
            },
            DiscoveredTarget {
                name: "iqn.2026-11.io.holdfast:b".into(),
                portals: vec![portal("127.0.0.1:3260", 1)],
            },
        ]
    }

    fn ask(value: &str, session_type: SessionType, own: Option<&str>) -> String {
        let mut out = TextWriter::new();
        answer(value, session_type, own, &visible(), &mut out);
        String::from_utf8(out.into_bytes()).unwrap().replace('\0', " ")
    }

    const A: &str =
        "TargetName=iqn.2026-11.io.holdfast:a TargetAddress=127.0.0.1:3260,1 TargetAddress=[::1]:3260,2 ";
    const B: &str = "TargetName=iqn.2026-11.io.holdfast:b TargetAddress=127.0.0.1:3260,1 ";

    #[test]
    fn a_discovery_session_sees_all_or_the_one_named() {
        let ask = |value| ask(value, SessionType::Discovery, None);
        assert_eq!(ask("All"), format!("{A}{B}"));
        assert_eq!(ask("iqn.2026-11.io.holdfast:b"), B);
        assert_eq!(ask("iqn.2026-11.io.holdfast:none"), "");
        for wrong in ["Alle", "A", "all", ""] {
            assert_eq!(ask(wrong), "SendTargets=Reject ", "{wrong}");
        }
    }

    #[test]
    fn a_normal_session_sees_only_its_own_target() {
        let ask = |value| ask(value, SessionType::Normal, Some("iqn.2026-11.io.holdfast:b"));
        assert_eq!(ask("All"), B);
        assert_eq!(ask(""), B);
        assert_eq!(ask("iqn.2026-11.io.holdfast:b"), B);
        assert_eq!(ask("iqn.2026-11.io.holdfast:a"), "");
        assert_eq!(ask("Alle"), "SendTargets=Reject ");
    }

    #[test]
    fn the_initiator_reads_what_the_target_wrote() {
        let mut out = TextWriter::new();
        answer("All", SessionType::Discovery, None, &visible(), &mut out);
        assert_eq!(targets(&parse(&out.into_bytes()).unwrap()), Ok(visible()));
        for (text, error) in [
            (&b"SendTargets=Reject\0"[..], DiscoveryError::Rejected),
            (
                b"TargetAddress=127.0.0.1:3260,1\0",
                DiscoveryError::AddressWithoutTarget,
            ),
            (
                b"TargetName=iqn.a:b\0TargetAddress=127.0.0.1:3260\0",
                DiscoveryError::BadAddress,
            ),
            (
                b"TargetName=iqn.a:b\0TargetAddress=127.0.0.1:3260,65536\0",
                DiscoveryError::BadAddress,
            ),
        ] {
            assert_eq!(targets(&parse(text).unwrap()), Err(error));
        }
    }

    #[test]
    fn a_long_answer_is_sent_in_pieces_that_fit() {
        let portals = vec![DiscoveredPortal {
            address: "127.0.0.1:3260".into(),
            portal_group_tag: 1,
        }];
        let many: Vec<_> = (0..100)
            .map(|n| DiscoveredTarget {
                name: format!("iqn.2026-11.io.holdfast:{n}"),
                portals: portals.clone(),
            })
            .collect();
        let mut out = TextWriter::new();
        answer("All", SessionType::Discovery, None, &many, &mut out);
        let mut answer = AnswerInPieces::new(out, 512);
        let mut collector = Collector::default();
        let mut responses = 0;
        loop {
            let piece = answer.next_piece();
            assert!(piece.data.len() <= 512 && !piece.data.is_empty());
            collector.push(&piece.data).unwrap();
            responses += 1;
            if !piece.cont {
                break;
            }
        }
        assert!(responses > 10);
        assert_eq!(parse(&collector.take()).unwrap().len(), 200);
    }
}
