//! The floor's side of a login: what it is offered it takes.

use std::fmt::Write as _;

use super::{
    connection::{Connection, LONGEST_RECEIVED},
    payload::Sent,
    store::Store,
};
use crate::header::{FINAL, Header, opcode, word};

const LONGEST_FIRST_BURST: usize = 256 << 10;
const LONGEST_BURST: usize = 1 << 20;
const FULL_FEATURE: u8 = 3;

impl Connection {
    /// Answers a login PDU with this text.
    pub(super) fn negotiate(&mut self, store: &Store, header: &Header, text: &[u8]) {
        let flags = header.0[1];
        let (stage, next, transit) = (flags >> 2 & 3, flags & 3, header.is_final());
        if self.exp_cmd_sn == 0 {
            self.exp_cmd_sn = header.word(word::CMD_SN);
        }
        let mut said = String::new();
        for pair in text.split(|byte| *byte == 0) {
            let pair = String::from_utf8_lossy(pair);
            if let Some((key, value)) = pair.split_once('=')
                && let Some(answer) = self.take(store, key, value)
            {
                let _ = write!(said, "{key}={answer}\0");
            }
        }
        if stage == 0 && transit {
            said += "TargetPortalGroupTag=1\0";
        }
        let transit_flags = if transit { FINAL | next } else { 0 };
        let mut answer = Header::new(opcode::LOGIN_RESPONSE, stage << 2 | transit_flags)
            .with(word::ITT, header.word(word::ITT));
        answer.set_data_length(said.len());
        answer.0[8..14].copy_from_slice(&header.0[8..14]);
        answer.0[15] = 1;
        self.queue(answer, true, Some(Sent::Answer(said.into_bytes())), store);
        self.full_feature |= transit && next == FULL_FEATURE;
    }

    /// What is answered to a key; `None` to what needs no answer.
    fn take(&mut self, store: &Store, key: &str, value: &str) -> Option<String> {
        // A length of nothing would have answers of no end.
        let length = value.parse().ok().filter(|length| *length > 0);
        let digest = |wanted| if wanted { "CRC32C" } else { "None" }.to_owned();
        Some(match key {
            "InitiatorName" | "TargetName" | "SessionType" | "InitiatorAlias" => return None,
            "AuthMethod" => "None".to_owned(),
            "HeaderDigest" => {
                self.header_digest = value.starts_with("CRC32C");
                digest(self.header_digest)
            }
            "DataDigest" => {
                self.data_digest = value.starts_with("CRC32C");
                digest(self.data_digest)
            }
            "InitialR2T" => {
                self.initial_r2t = value == "Yes";
                value.to_owned()
            }
            "ImmediateData" => value.to_owned(),
            "MaxRecvDataSegmentLength" => {
                self.longest_sent = length.unwrap_or(8192).min(store.longest_segment());
                LONGEST_RECEIVED.to_string()
            }
            "FirstBurstLength" => {
                self.first_burst = length.unwrap_or(65536).min(LONGEST_FIRST_BURST);
                self.first_burst.to_string()
            }
            "MaxBurstLength" => {
                self.max_burst = length.unwrap_or(262_144).min(LONGEST_BURST);
                self.max_burst.to_string()
            }
            "MaxOutstandingR2T" | "MaxConnections" => "1".to_owned(),
            "DefaultTime2Wait" | "DefaultTime2Retain" | "ErrorRecoveryLevel" => "0".to_owned(),
            "DataPDUInOrder" | "DataSequenceInOrder" => "Yes".to_owned(),
            _ => "NotUnderstood".to_owned(),
        })
    }
}
