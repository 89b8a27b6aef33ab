//! The ways to a system. All of them carry the same [`Request`].

mod admin;
mod device;
mod in_band;
mod iscsi;
mod sysfs;

use std::time::{Duration, Instant};

use admin_api::WaitAnswer;
use scsi_model::control::{PairSelector, Refusal, Reply, Request};

pub(crate) use self::{admin::AdminSocket, device::ScsiDevice, iscsi::IscsiSession, sysfs::host_device};

/// Neither done nor refused as a replication command is.
#[derive(Debug, thiserror::Error)]
#[error("{way}: {why}")]
pub(crate) struct TransportError {
    way: String,
    why: String,
    reached: bool,
}

impl TransportError {
    /// The daemon or device could not be reached, or did not answer as one of ours does.
    #[expect(clippy::needless_pass_by_value, reason = "errors and texts, owned or not")]
    pub(crate) fn new(way: impl ToString, why: impl ToString) -> Self {
        Self {
            way: way.to_string(),
            why: why.to_string(),
            reached: false,
        }
    }

    /// It was reached, and does not let us.
    pub(crate) fn denied(way: impl ToString, why: impl ToString) -> Self {
        Self {
            reached: true,
            ..Self::new(way, why)
        }
    }

    /// Was it reached?
    pub(crate) fn reached(&self) -> bool {
        self.reached
    }
}

/// What a system said.
pub(crate) type Answer<T> = Result<Result<T, Refusal>, TransportError>;

/// A way to a system.
pub(crate) trait Transport {
    /// Has one request executed.
    fn execute(&mut self, request: &Request) -> Answer<Reply>;

    /// Waits until all of the pairs are in the state (`None`: until no copy runs), or the time is over.
    ///
    /// In band there is only VERIFY to ask: at once, then ever more seldom, up to once a second.
    fn wait(&mut self, pairs: PairSelector, state: Option<u8>, timeout: Duration) -> Answer<WaitAnswer> {
        let deadline = Instant::now() + timeout;
        let mut pause = Duration::from_millis(20);
        loop {
            let verify = match self.execute(&Request::Verify { pairs, state })? {
                Ok(Reply::Verify(verify)) => verify,
                Ok(other) => {
                    return Err(TransportError::new(
                        "VERIFY",
                        format!("unexpected answer {other:?}"),
                    ));
                }
                Err(refusal) => return Ok(Err(refusal)),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let reached = verify.in_state == verify.selected;
            if reached || left.is_zero() {
                return Ok(Ok(WaitAnswer {
                    verify,
                    timed_out: !reached,
                }));
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// The admin socket, if this is one.
    fn admin(&mut self) -> Option<&mut AdminSocket> {
        None
    }

    /// Is this a device of the kernel, so that the kernel's other devices of the same target can be looked for?
    fn kernel(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use scsi_model::control::VerifySummary;

    use super::*;

    /// In the state after so many questions.
    struct After(u32);

    impl Transport for After {
        fn execute(&mut self, _: &Request) -> Answer<Reply> {
            self.0 = self.0.saturating_sub(1);
            let in_state = u32::from(self.0 == 0);
            Ok(Ok(Reply::Verify(VerifySummary {
                selected: 1,
                in_state,
                ..VerifySummary::default()
            })))
        }
    }

    #[test]
    fn polling_ends_in_the_state() {
        let answer = After(3)
            .wait(PairSelector::All, None, Duration::from_secs(60))
            .unwrap()
            .unwrap();
        assert!(!answer.timed_out);
    }

    #[test]
    fn polling_ends_with_the_time() {
        let answer = After(1000)
            .wait(PairSelector::All, None, Duration::from_millis(50))
            .unwrap()
            .unwrap();
        assert!(answer.timed_out);
        assert_eq!(answer.verify.in_state, 0);
    }
}
