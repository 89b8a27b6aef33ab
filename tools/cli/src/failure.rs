//! How a command can fail, and the exit code of each way.

use std::process::ExitCode;

use admin_api::Problem;
use scsi_model::control::Refusal;

use crate::transport::TransportError;

/// Anything but "done".
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The system refused; nothing was changed.
    #[error("{}", refused(.0))]
    Refused(#[from] Refusal),
    /// An administrative request failed.
    #[error("{0}")]
    Problem(#[from] Problem),
    /// It was begun and went wrong.
    #[error("{0}")]
    Failed(String),
    /// The words make no sense together.
    #[error("{0}")]
    Usage(String),
    /// `reload --check`: it would be refused, as the answer says.
    #[error("a reload would change nothing: there is what cannot change while serving")]
    ReloadRefused,
    /// `verify`: no pair is in the state.
    #[error("none of the pairs is {0}")]
    VerifyNone(String),
    /// `verify`: some are.
    #[error("{0}")]
    VerifySome(String),
    /// `--wait` took too long.
    #[error("{0}")]
    TimedOut(String),
    /// No daemon, no device, no target; or it does not let us.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Nobody reads what we print.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

fn refused(refusal: &Refusal) -> String {
    match refusal.member {
        Some(index) => format!("pair {} of the list: {refusal}", u32::from(index) + 1),
        None => refusal.to_string(),
    }
}

impl Failure {
    /// docs/surface.md, "Exit codes".
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Problem(_) | Self::Failed(_) | Self::ReloadRefused | Self::Output(_) => {
                1
            }
            Self::Usage(_) => 2,
            Self::VerifyNone(_) => 3,
            Self::VerifySome(_) => 4,
            Self::TimedOut(_) => 5,
            Self::Transport(error) if error.reached() => 1,
            Self::Transport(_) => 6,
        }
    }

    /// The same for the end of `main`.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }
}

#[cfg(test)]
mod tests {
    use scsi_model::control::RefusalKind;

    use super::*;

    #[test]
    fn exit_codes_are_pinned() {
        let refusal = |member| Refusal {
            kind: RefusalKind::State,
            message: "no".to_owned(),
            member,
        };
        let text = String::new;
        let codes = [
            (Failure::Refused(refusal(None)), 1),
            (Failure::Problem(Problem { error: text() }), 1),
            (Failure::Failed(text()), 1),
            (Failure::ReloadRefused, 1),
            (Failure::Usage(text()), 2),
            (Failure::VerifyNone(text()), 3),
            (Failure::VerifySome(text()), 4),
            (Failure::TimedOut(text()), 5),
            (Failure::Transport(TransportError::new("x", "y")), 6),
            (Failure::Transport(TransportError::denied("x", "y")), 1),
        ];
        for (failure, code) in codes {
            assert_eq!(failure.code(), code, "{failure:?}");
        }
        assert_eq!(
            Failure::Refused(refusal(Some(1))).to_string(),
            "pair 2 of the list: no"
        );
    }
}
