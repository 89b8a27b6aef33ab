//! Replication requests over the admin socket.

use scsi_model::control::{PairSelector, Refusal, Reply, Request, VerifySummary};
use serde::{Deserialize, Serialize};

/// `POST /v1/control`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlRequest {
    /// What a C0h or C1h CDB would ask.
    pub request: Request,
}

/// Its answer: status 200 with `ok`, 409 with `refused`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlAnswer {
    /// Done.
    Ok(Reply),
    /// Refused; nothing was changed.
    Refused(Refusal),
}

impl From<Result<Reply, Refusal>> for ControlAnswer {
    fn from(result: Result<Reply, Refusal>) -> Self {
        match result {
            Ok(reply) => Self::Ok(reply),
            Err(refusal) => Self::Refused(refusal),
        }
    }
}

impl From<ControlAnswer> for Result<Reply, Refusal> {
    fn from(answer: ControlAnswer) -> Self {
        match answer {
            ControlAnswer::Ok(reply) => Ok(reply),
            ControlAnswer::Refused(refusal) => Err(refusal),
        }
    }
}

/// `POST /v1/wait`: answered as soon as every selected pair is in the state, or after the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    /// Which pairs.
    pub pairs: PairSelector,
    /// State code; `None` is "no copy runs".
    #[serde(default)]
    pub state: Option<u8>,
    /// Seconds; at most an hour is waited.
    pub timeout: u32,
}

/// Its answer: what VERIFY says at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitAnswer {
    /// The last VERIFY.
    pub verify: VerifySummary,
    /// The time was up before all pairs were in the state.
    pub timed_out: bool,
}

#[cfg(test)]
mod tests {
    use scsi_model::control::{Flags, OutVerb, RefusalKind, VolumeNumber, VolumePair};

    use super::*;

    #[test]
    fn shapes_are_pinned() {
        let request = ControlRequest {
            request: Request::Out {
                verb: OutVerb::Split,
                flags: Flags {
                    instant: true,
                    ..Flags::default()
                },
                members: vec![VolumePair {
                    primary: VolumeNumber(1),
                    mirror: Some(VolumeNumber(2)),
                }],
                dry_run: false,
            },
        };
        let text = r#"{"request":{"out":{"verb":"split","flags":{"full":false,"instant":true,"protected":false,"strict_hold":false,"remote":false,"force":false},"members":[{"primary":1,"mirror":2}],"dry_run":false}}}"#;
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert_eq!(serde_json::from_str::<ControlRequest>(text).unwrap(), request);

        let refused = ControlAnswer::Refused(Refusal {
            kind: RefusalKind::NoSuchPair,
            message: "no".to_owned(),
            member: None,
        });
        let text = r#"{"refused":{"kind":"no-such-pair","message":"no","member":null}}"#;
        assert_eq!(serde_json::to_string(&refused).unwrap(), text);
        assert_eq!(
            serde_json::to_string(&ControlAnswer::Ok(Reply::Done)).unwrap(),
            r#"{"ok":"done"}"#
        );
        let wait = r#"{"pairs":{"one":[1,2]},"state":2,"timeout":5}"#;
        assert_eq!(
            serde_json::to_string(&serde_json::from_str::<WaitRequest>(wait).unwrap()).unwrap(),
            wait
        );
    }
}
