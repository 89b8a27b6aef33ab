//! Text requests in full feature phase (RFC 7143 11.10, 11.11): SendTargets and the few keys that may change.

use bytes::Bytes;
use iscsi_proto::{
    bhs::{FINAL, Header, RESERVED_TAG, TextRequest, TextResponse},
    discovery::{self, AnswerInPieces, DiscoveredPortal, DiscoveredTarget},
    framer::Frame,
    login::Admission,
    misbehaviour::Misbehaviour,
    negotiation::{SessionType, negotiate_text},
    text::{Collector, parse},
};

use crate::connection::Connection;

/// A text negotiation that goes over several PDUs.
#[derive(Debug, Default)]
pub(crate) struct TextExchange {
    collector: Collector,
    answer: Option<AnswerInPieces>,
}

impl Connection {
    /// A Text Request that is next in order.
    pub(crate) fn text(&mut self, pdu: &Bytes, frame: &Frame<'_>) -> Result<(), Misbehaviour> {
        let request = frame.bhs.view::<TextRequest>();
        let data = &pdu[frame.data.clone()];
        let refused = Misbehaviour::OutOfPlace(frame.bhs.opcode());
        let continues_answer =
            request.target_transfer_tag.get() != RESERVED_TAG && self.text.answer.is_some();
        if !continues_answer {
            // A new request, or the next part of one: an answer that was not fetched is forgotten.
            self.text.answer = None;
            if self.text.collector.push(data).is_err() {
                self.text = TextExchange::default();
                return Err(refused);
            }
            if request.continues() {
                self.send_text(request, &[], false);
                return Ok(());
            }
            let text = self.text.collector.take();
            self.text.answer = Some(self.answer_text(&text).ok_or(refused)?);
        }
        if let Some(mut answer) = self.text.answer.take() {
            let piece = answer.next_piece();
            self.send_text(request, &piece.data, !piece.cont);
            self.text.answer = piece.cont.then_some(answer);
        }
        Ok(())
    }

    /// The answer to one whole text; `None` when it breaks the rules.
    fn answer_text(&mut self, text: &[u8]) -> Option<AnswerInPieces> {
        let pairs = parse(text).ok()?;
        let mut answer = negotiate_text(&pairs, &mut self.parameters).ok()?;
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
                &self.visible_targets(),
                &mut answer.text,
            );
        }
        let limit = self.parameters.peer_max_recv_data_segment_length;
        Some(AnswerInPieces::new(answer.text, limit))
    }

    /// What this initiator may log in to, each with the portal it is talking to first.
    fn visible_targets(&self) -> Vec<DiscoveredTarget> {
        let config = self.shared.config.load();
        let portals = self.shared.portals_seen_from(self.local);
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

    fn send_text(&mut self, request: &TextRequest, data: &[u8], is_final: bool) {
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
        response.stat_sn = self.status.take().into();
        response.exp_cmd_sn = self.window.exp_cmd_sn().into();
        response.max_cmd_sn = self.window.max_cmd_sn().into();
        self.out.push_copied(&response, data);
    }
}
