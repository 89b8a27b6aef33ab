//! An iSCSI session of our own: log in, send commands one at a time, log out.

mod connection;
mod url;

use iscsi_proto::{
    bhs::{
        self, AsyncMessage, DataIn, Header as _, LogoutRequest, NopIn, NopOut, ReadyToTransfer, ScsiCommand,
        ScsiResponse, opcode,
    },
    chap::{Credentials, Secret},
    initiator::{InitiatorConfig, InitiatorLogin, InitiatorOutcome, InitiatorProgress, data_out},
    login::LoginReply,
    negotiation::Offer,
};

use self::{
    connection::{Connection, Pdu, TIMEOUT},
    url::IscsiUrl,
};
use super::{
    TransportError,
    in_band::{Completion, InBand, PassThrough},
};
use crate::failure::Failure;

/// Who we are to a target, unless `$HOLDFAST_INITIATOR` says otherwise.
const INITIATOR: &str = "iqn.2026-11.io.holdfast:cli";

/// A session with one logical unit in view.
pub(crate) struct IscsiSession {
    connection: Connection,
    name: String,
    lun: [u8; 8],
    settled: InitiatorOutcome,
    /// CmdSN of the next command.
    cmd_sn: u32,
    /// StatSN expected next.
    exp_stat_sn: u32,
    task_tag: u32,
}

impl IscsiSession {
    /// Connects and logs in to what the URL names. A text that is no such URL is not repeated: there may be a secret in it.
    pub(crate) fn login(url: &str) -> Result<InBand<Self>, Failure> {
        let parsed: IscsiUrl = url
            .parse()
            .map_err(|error| Failure::Usage(format!("--iscsi: {error}")))?;
        // The secret of the URL is nothing for messages.
        let name = format!("iscsi://{}/{}/{}", parsed.portal, parsed.target, parsed.lun);
        let session = Self::begin(&parsed, &name).map_err(|why| TransportError::new(&name, why))?;
        Ok(InBand::new(session))
    }

    fn begin(url: &IscsiUrl, name: &str) -> Result<Self, String> {
        let mut connection = Connection::open(&url.portal)?;
        let initiator = std::env::var("HOLDFAST_INITIATOR").unwrap_or_else(|_| INITIATOR.to_owned());
        let mut isid = [0; 6];
        getrandom::fill(&mut isid).map_err(|error| error.to_string())?;
        // Type 10b: random (RFC 7143 11.12.5).
        isid[0] = 0x80;
        let mut config = InitiatorConfig::new(initiator, Some(url.target.clone()), isid);
        // Control commands and their replies are short: nothing to negotiate for speed, and TCP's checksum will do.
        config.keys = Offer {
            max_connections: 1,
            error_recovery_level: 0,
            ..Offer::default()
        };
        config.chap = url.chap.as_ref().map(|(user, secret)| Credentials {
            name: user.clone(),
            secret: Secret::new(secret.as_bytes()),
        });
        let mut entropy = [0; iscsi_proto::chap::ENTROPY_LENGTH];
        getrandom::fill(&mut entropy).map_err(|error| error.to_string())?;
        let mut login = InitiatorLogin::new(config, entropy, std::time::Duration::ZERO, TIMEOUT);
        let (settled, exp_stat_sn) = log_in(&mut connection, &mut login)?;
        connection.settle(&settled.connection);
        Ok(Self {
            connection,
            name: name.to_owned(),
            lun: encode_lun(url.lun),
            settled,
            cmd_sn: FIRST_CMD_SN,
            exp_stat_sn,
            task_tag: 1,
        })
    }

    fn next_tag(&mut self) -> u32 {
        // 0 was the login's, FFFFFFFFh means none.
        self.task_tag = if self.task_tag >= bhs::RESERVED_TAG - 1 {
            1
        } else {
            self.task_tag + 1
        };
        self.task_tag
    }

    fn run(&mut self, cdb: [u8; 16], data_out: &[u8], data_in: u32) -> Result<Completion, String> {
        let tag = self.next_tag();
        let immediate = if self.settled.session.immediate_data {
            let most = self
                .settled
                .session
                .first_burst_length
                .min(self.settled.connection.peer_max_recv_data_segment_length);
            &data_out[..data_out.len().min(most as usize)]
        } else {
            &[]
        };
        let mut command = ScsiCommand::new();
        let (direction, length) = match (data_out.len(), data_in) {
            (0, 0) => (0, 0),
            (0, length) => (ScsiCommand::READ, length),
            (length, _) => (ScsiCommand::WRITE, length as u32),
        };
        // SIMPLE.
        command.flags |= direction | 1;
        command.lun = self.lun;
        command.initiator_task_tag = tag.into();
        command.expected_data_transfer_length = length.into();
        command.cmd_sn = self.cmd_sn.into();
        command.exp_stat_sn = self.exp_stat_sn.into();
        command.cdb = cdb;
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.connection.send(&command, immediate)?;
        self.follow(tag, data_out, data_in)
    }

    /// What comes until the command has ended.
    fn follow(&mut self, tag: u32, data_out: &[u8], data_in: u32) -> Result<Completion, String> {
        let mut received = vec![0; data_in as usize];
        let mut filled = 0;
        loop {
            let pdu = self.connection.receive()?;
            match pdu.bhs.opcode() {
                opcode::DATA_IN => {
                    let header: &DataIn = pdu.bhs.view();
                    let at = header.buffer_offset.get() as usize;
                    let place = received
                        .get_mut(at..at + pdu.data.len())
                        .ok_or("the target sent more data than was asked for")?;
                    place.copy_from_slice(&pdu.data);
                    filled = filled.max(at + pdu.data.len());
                    if header.has_status() {
                        self.heard(header.stat_sn.get());
                        received.truncate(filled);
                        return Ok(Completion {
                            status: header.status,
                            sense: Vec::new(),
                            data_in: received,
                        });
                    }
                }
                opcode::SCSI_RESPONSE => {
                    let header: &ScsiResponse = pdu.bhs.view();
                    if header.initiator_task_tag.get() != tag {
                        continue;
                    }
                    self.heard(header.stat_sn.get());
                    if header.response != 0 {
                        return Err(format!(
                            "the target failed to execute the command (response {:#x})",
                            header.response
                        ));
                    }
                    received.truncate(filled);
                    return Ok(Completion {
                        status: header.status,
                        sense: sense(&pdu.data),
                        data_in: received,
                    });
                }
                opcode::READY_TO_TRANSFER => self.answer_r2t(pdu.bhs.view(), data_out)?,
                opcode::NOP_IN => self.answer_nop(&pdu)?,
                // Other LUNs than before: the unit attention tells the same.
                opcode::ASYNC_MESSAGE if pdu.bhs.view::<AsyncMessage>().event == AsyncMessage::SCSI_EVENT => {
                    self.heard(pdu.bhs.view::<AsyncMessage>().stat_sn.get());
                }
                opcode::ASYNC_MESSAGE => return Err("the target ends the session".to_owned()),
                opcode::REJECT => {
                    return Err(format!(
                        "the target rejected our PDU (reason {:#x})",
                        pdu.bhs.0[2]
                    ));
                }
                other => {
                    return Err(format!(
                        "the target sent an unexpected PDU (operation code {other:#x})"
                    ));
                }
            }
        }
    }

    fn heard(&mut self, stat_sn: u32) {
        self.exp_stat_sn = stat_sn.wrapping_add(1);
    }

    fn answer_r2t(&mut self, request: &ReadyToTransfer, data: &[u8]) -> Result<(), String> {
        let most = self.settled.connection.peer_max_recv_data_segment_length.max(512) as usize;
        let answer = data_out(request, data, most, self.exp_stat_sn)
            .ok_or("the target asks for data that the command does not have")?;
        for (header, piece) in answer {
            self.connection.send(&header, piece)?;
        }
        Ok(())
    }

    fn answer_nop(&mut self, pdu: &Pdu) -> Result<(), String> {
        let ping: &NopIn = pdu.bhs.view();
        if ping.target_transfer_tag.get() == bhs::RESERVED_TAG {
            return Ok(());
        }
        let mut answer = NopOut::new();
        answer.opcode |= bhs::IMMEDIATE;
        answer.lun = ping.lun;
        answer.initiator_task_tag = bhs::RESERVED_TAG.into();
        answer.target_transfer_tag = ping.target_transfer_tag;
        answer.cmd_sn = self.cmd_sn.into();
        answer.exp_stat_sn = self.exp_stat_sn.into();
        self.connection.send(&answer, &pdu.data)
    }
}

impl PassThrough for IscsiSession {
    fn command(
        &mut self,
        cdb: [u8; 16],
        data_out: &[u8],
        data_in: u32,
    ) -> Result<Completion, TransportError> {
        self.run(cdb, data_out, data_in)
            .map_err(|why| TransportError::new(&self.name, why))
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for IscsiSession {
    /// Logs out. A target that does not answer is left alone: it notices the end of the connection.
    fn drop(&mut self) {
        let mut request = LogoutRequest::new();
        request.opcode |= bhs::IMMEDIATE;
        request.initiator_task_tag = self.next_tag().into();
        request.cmd_sn = self.cmd_sn.into();
        request.exp_stat_sn = self.exp_stat_sn.into();
        if self.connection.send(&request, &[]).is_ok() {
            self.connection.hurry();
            while self
                .connection
                .receive()
                .is_ok_and(|pdu| pdu.bhs.opcode() != opcode::LOGOUT_RESPONSE)
            {}
        }
    }
}

const FIRST_CMD_SN: u32 = 1;

/// The login phase. Gives what was settled, and the StatSN expected next.
fn log_in(
    connection: &mut Connection,
    login: &mut InitiatorLogin,
) -> Result<(InitiatorOutcome, u32), String> {
    let started = std::time::Instant::now();
    let mut request = login.start().map_err(|error| error.to_string())?;
    let mut exp_stat_sn = 0;
    loop {
        let header = request.header(FIRST_CMD_SN, exp_stat_sn);
        connection.send(&header, &request.data)?;
        let pdu = connection.receive()?;
        if pdu.bhs.opcode() != opcode::LOGIN_RESPONSE {
            return Err(format!(
                "the target answered the login with operation code {:#x}",
                pdu.bhs.opcode()
            ));
        }
        let response: &bhs::LoginResponse = pdu.bhs.view();
        exp_stat_sn = response.stat_sn.get().wrapping_add(1);
        let reply = LoginReply::received(response, pdu.data.clone());
        match login.handle(&reply, started.elapsed()) {
            InitiatorProgress::Send(next) => request = next,
            InitiatorProgress::Done(outcome) => return Ok((*outcome, exp_stat_sn)),
            InitiatorProgress::Failed(failure) => return Err(failure.to_string()),
        }
    }
}

/// Peripheral device addressing below 256, flat space addressing above (SAM-5 4.7).
fn encode_lun(lun: u16) -> [u8; 8] {
    let [high, low] = lun.to_be_bytes();
    let method = if high == 0 { 0 } else { 0x40 };
    [method | high, low, 0, 0, 0, 0, 0, 0]
}

/// The data segment of a SCSI Response: SenseLength, sense data (RFC 7143 11.4.7).
fn sense(segment: &[u8]) -> Vec<u8> {
    match segment {
        [high, low, rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            rest.get(..length).unwrap_or(rest).to_vec()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luns() {
        assert_eq!(encode_lun(5), [0, 5, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode_lun(0x1234), [0x52, 0x34, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn sense_is_cut_to_its_length() {
        assert_eq!(sense(&[0, 2, 0x70, 0, 9, 9]), [0x70, 0]);
        assert_eq!(sense(&[0, 9, 0x70]), [0x70]);
        assert!(sense(&[]).is_empty());
    }

    #[test]
    fn nobody_there_is_unreachable_and_the_secret_is_not_shown() {
        // Port 1 of this machine: nobody listens.
        let error = IscsiSession::login("iscsi://me%verysecret@127.0.0.1:1/iqn.2026-11.x:y/0")
            .err()
            .unwrap();
        let text = error.to_string();
        assert!(
            text.starts_with("iscsi://127.0.0.1:1/iqn.2026-11.x:y/0: "),
            "{text}"
        );
        assert!(!text.contains("verysecret"));
    }
}
