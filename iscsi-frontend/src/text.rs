//! Text requests in full feature phase (RFC 7143 11.10, 11.11): SendTargets and the few keys that may change.

use std::net::SocketAddr;

use bytes::Bytes;
use iscsi_proto::{
    bhs::{FINAL, Header, RESERVED_TAG, TextRequest, TextResponse},
    discovery::{self, AnswerInPieces, DiscoveredPortal, DiscoveredTarget},
    framer::Frame,
    login::Admission,
    misbehaviour::Misbehaviour,
    negotiation::{SessionType, negotiate_text},
    session::CommandWindow,
    text::{Collector, parse},
};

use crate::{link::Link, session::Session};

/// A text negotiation that goes over several PDUs.
#[derive(Debug, Default)]
pub(crate) struct TextExchange {
    collector: Collector,
    answer: Option<AnswerInPieces>,
}

impl Session {
    /// A Text Request that is next in order.
    pub(crate) fn text(&mut self, at: usize, pdu: &Bytes, frame: &Frame<'_>) -> Result<(), Misbehaviour> {
        let request = frame.bhs.view::<TextRequest>();
        let data = &pdu[frame.data.clone()];
        let refused = Misbehaviour::OutOfPlace(frame.bhs.opcode());
        let continues_answer =
            request.target_transfer_tag.get() != RESERVED_TAG && self.links[at].text.answer.is_some();
        if !continues_answer {
            // A new request, or the next part of one: an answer that was not fetched is forgotten.
            self.links[at].text.answer = None;
            if self.links[at].text.collector.push(data).is_err() {
                self.links[at].text = TextExchange::default();
                return Err(refused);
            }
            if request.continues() {
                self.links[at].send_text(&self.window, request, &[], false);
                return Ok(());
            }
            let text = self.links[at].text.collector.take();
            self.links[at].text.answer = Some(self.answer_text(at, &text).ok_or(refused)?);
        }
        if let Some(mut answer) = self.links[at].text.answer.take() {
            let piece = answer.next_piece();
            self.links[at].send_text(&self.window, request, &piece.data, !piece.cont);
            self.links[at].text.answer = piece.cont.then_some(answer);
        }
        Ok(())
    }

    /// The answer to one whole text; `None` when it breaks the rules.
    fn answer_text(&mut self, at: usize, text: &[u8]) -> Option<AnswerInPieces> {
        let pairs = parse(text).ok()?;
        let mut answer = negotiate_text(&pairs, &mut self.links[at].parameters).ok()?;
        if let Some(value) = &answer.send_targets {
            let own = self.handle.as_ref().map(|own| own.key.target.as_str());
            let session_type = if own.is_some() {
                SessionType::Normal
            } else {
                SessionType::Discovery
            };
            discovery::answer(
                value,
                session_type,
                own,
                &self.visible_targets(self.links[at].local),
                &mut answer.text,
            );
        }
        let limit = self.links[at].parameters.peer_max_recv_data_segment_length;
        Some(AnswerInPieces::new(answer.text, limit))
    }

    /// What this initiator may log in to, each with the portal it is talking to first.
    fn visible_targets(&self, local: SocketAddr) -> Vec<DiscoveredTarget> {
        let config = self.shared.config.load();
        let portals = self.shared.portals_seen_from(local);
        let mut visible = Vec::new();
        for access in &config.targets {
            let admits = |portal: &&crate::config::Portal| {
                let admission = access.admission(&self.initiator, portal.group, portal.address.ip());
                // Where it has moved to is said at login.
                matches!(admission, Admission::Admit(_) | Admission::Moved { .. })
            };
            let portals: Vec<_> = portals
                .iter()
                .filter(admits)
                .map(|portal| DiscoveredPortal {
                    address: portal.address.to_string(),
                    portal_group_tag: portal.group,
                })
                .collect();
            if !portals.is_empty() {
                visible.push(DiscoveredTarget {
                    name: access.target.name().to_owned(),
                    portals,
                });
            }
        }
        visible
    }
}

impl Link {
    fn send_text(&mut self, window: &CommandWindow, request: &TextRequest, data: &[u8], is_final: bool) {
        let mut response = TextResponse::new();
        response.initiator_task_tag = request.initiator_task_tag;
        response.lun = request.lun;
        // Any other tag than FFFFFFFFh says that there is more to come; one exchange at a time needs only one.
        response.target_transfer_tag = if is_final { RESERVED_TAG } else { 1 }.into();
        response.flags = match is_final {
            true => FINAL,
            false if data.is_empty() => 0,
            false => TextResponse::CONTINUE,
        };
        self.send_status(window, response, data);
    }
}
