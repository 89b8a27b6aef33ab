//! The login phase (RFC 7143 6.3), from the initiator's side, without authentication; and what comes out of it.

use std::{fmt, io::Write as _};

use super::Session;
use crate::{
    arguments::Access,
    clock::now_ns,
    header::{FINAL, Header, IMMEDIATE, be16, opcode, padded, word},
    load::SessionError,
};

/// Login PDUs before it is given up.
const ROUNDS: usize = 12;

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// What was negotiated. The defaults are those of RFC 7143 13.
pub(in crate::load) struct Terms {
    pub(in crate::load) header_digest: bool,
    pub(in crate::load) data_digest: bool,
    pub(in crate::load) immediate_data: bool,
    pub(in crate::load) initial_r2t: bool,
    /// The longest data segment that the target receives.
    pub(in crate::load) longest_sent: usize,
    pub(in crate::load) first_burst: usize,
    max_burst: usize,
}

impl Terms {
    pub(super) fn before_login(access: &Access) -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            immediate_data: access.immediate.is_yes(),
            initial_r2t: true,
            longest_sent: 8192,
            first_burst: 65536,
            max_burst: 262_144,
        }
    }

    /// Takes over what the target says.
    fn hear(&mut self, text: &[u8]) {
        for pair in text.split(|byte| *byte == 0) {
            let pair = String::from_utf8_lossy(pair);
            let Some((key, value)) = pair.split_once('=') else {
                continue;
            };
            // A length of nothing would have the pipeline send for ever.
            let length = value.parse().ok().filter(|length| *length > 0);
            match (key, length) {
                ("HeaderDigest", _) => self.header_digest = value == "CRC32C",
                ("DataDigest", _) => self.data_digest = value == "CRC32C",
                ("InitialR2T", _) => self.initial_r2t = value == "Yes",
                ("ImmediateData", _) => self.immediate_data = value == "Yes",
                ("MaxRecvDataSegmentLength", Some(length)) => self.longest_sent = length,
                ("FirstBurstLength", Some(length)) => self.first_burst = length,
                ("MaxBurstLength", Some(length)) => self.max_burst = length,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "hd={} dd={} ImmediateData={} InitialR2T={} target MRDSL={} FirstBurst={} MaxBurst={}",
            self.header_digest,
            self.data_digest,
            self.immediate_data,
            self.initial_r2t,
            self.longest_sent,
            self.first_burst,
            self.max_burst
        )
    }
}

impl Session {
    /// From the first login PDU to the full feature phase.
    pub(super) fn negotiate(&mut self, access: &Access, index: u32) -> Result<(), SessionError> {
        let isid = isid(index);
        let (mut stage, mut tsih) = (SECURITY, 0);
        let mut text = format!(
            "InitiatorName={}\0TargetName={}\0SessionType=Normal\0AuthMethod=None\0",
            access.initiator, access.iqn
        );
        for _ in 0..ROUNDS {
            let next = if stage == SECURITY {
                OPERATIONAL
            } else {
                FULL_FEATURE
            };
            let mut request = Header::new(opcode::LOGIN | IMMEDIATE, FINAL | stage << 2 | next)
                .with(word::CMD_SN, self.cmd_sn)
                .with(word::EXP_STAT_SN, self.exp_stat_sn);
            request.set_data_length(text.len());
            request.0[8..14].copy_from_slice(&isid);
            request.0[14..16].copy_from_slice(&u16::to_be_bytes(tsih));
            let mut bytes = request.0.to_vec();
            bytes.extend_from_slice(text.as_bytes());
            bytes.resize(request.0.len() + padded(text.len()), 0);
            self.socket.write_all(&bytes).map_err(SessionError::Login)?;
            // Digests begin after the login, whatever was agreed until now.
            let agreed = (self.terms.header_digest, self.terms.data_digest);
            (self.terms.header_digest, self.terms.data_digest) = (false, false);
            let (answer, said) = self.answer().map_err(SessionError::Login)?;
            (self.terms.header_digest, self.terms.data_digest) = agreed;
            if answer.opcode() != opcode::LOGIN_RESPONSE {
                return Err(SessionError::LoginOpcode(answer.opcode()));
            }
            if answer.0[36] != 0 {
                return Err(SessionError::LoginStatus(answer.0[36], answer.0[37]));
            }
            tsih = be16(&answer.0, 14);
            self.exp_stat_sn = answer.word(word::STAT_SN).wrapping_add(1);
            self.max_cmd_sn = answer.word(word::MAX_CMD_SN);
            self.terms.hear(&said);
            let (transit, from, to) = (answer.is_final(), answer.0[1] >> 2 & 3, answer.0[1] & 3);
            if transit && to == FULL_FEATURE {
                return Ok(());
            }
            text = String::new();
            if transit && (from, to) == (SECURITY, OPERATIONAL) {
                stage = OPERATIONAL;
                text = offers(access);
            }
        }
        Err(SessionError::LoginEndless)
    }
}

/// Of the random kind (RFC 7143 11.12.5), and of this session.
fn isid(index: u32) -> [u8; 6] {
    let mut isid = [0; 6];
    isid[0] = 0x80;
    isid[1..5].copy_from_slice(&(std::process::id() << 12 ^ index).to_be_bytes());
    isid[5] = now_ns() as u8;
    isid
}

/// The keys of the operational stage.
fn offers(access: &Access) -> String {
    let digest = |wanted| if wanted { "CRC32C" } else { "None" };
    let yes_no = |yes| if yes { "Yes" } else { "No" };
    format!(
        "HeaderDigest={}\0DataDigest={}\0InitialR2T={}\0ImmediateData={}\0MaxRecvDataSegmentLength={}\0\
         FirstBurstLength={}\0MaxBurstLength={}\0MaxOutstandingR2T=1\0MaxConnections=1\0DefaultTime2Wait=2\0\
         DefaultTime2Retain=0\0ErrorRecoveryLevel=0\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0",
        digest(access.digest.of_headers()),
        digest(access.digest.of_data()),
        yes_no(access.initial_r2t.is_yes()),
        yes_no(access.immediate.is_yes()),
        access.mrdsl,
        access.first_burst,
        access.max_burst
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_target_says_counts_and_nonsense_does_not() {
        let mut terms = Terms::before_login(&Access::default());
        terms.hear(b"HeaderDigest=CRC32C\0DataDigest=None\0InitialR2T=No\0ImmediateData=No\0\xff\0novalue\0");
        assert!(terms.header_digest && !terms.data_digest && !terms.initial_r2t && !terms.immediate_data);
        terms.hear(b"MaxRecvDataSegmentLength=65536\0FirstBurstLength=0\0MaxBurstLength=many\0");
        assert_eq!(
            (terms.longest_sent, terms.first_burst, terms.max_burst),
            (65536, 65536, 262_144)
        );
    }
}
