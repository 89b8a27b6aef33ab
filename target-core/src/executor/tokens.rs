//! POPULATE TOKEN and WRITE USING TOKEN.

use std::time::Duration;

use scsi_model::{
    copy_operations::Ended,
    plan::{Answer, ByteRange},
    rod_tokens::{self, PopulateToken, TokenSource, WriteUsingToken},
    sense::{Sense, SenseKey},
    sense_codes,
};

use super::{Outcome, Task, copy::piece_of, sense_of};
use crate::tokens::{Content, Token, TokenFailure};

const POPULATE_TOKEN: u8 = 0x10;
const WRITE_USING_TOKEN: u8 = 0x11;

impl Task {
    /// The unit is quiet.
    pub(super) fn populate_token(&self, plan: PopulateToken) -> Answer {
        let (nexus, list_id) = (self.itl.id, plan.list_id);
        let begun = self
            .unit
            .with_device(|device| device.begin_operation(nexus, list_id, POPULATE_TOKEN));
        if let Err(answer) = begun {
            return answer;
        }
        let bytes: u64 = plan.ranges.iter().map(|range| range.length).sum();
        let token = self.unit.tokens().make(
            self.unit.watched(),
            &self.identity,
            plan.ranges,
            Duration::from_secs(plan.inactivity.into()),
        );
        let end = Ended {
            count: bytes / u64::from(self.identity.block_size),
            segments: 0,
            failure: None,
            token,
        };
        let end = match end.token {
            Some(_) => end,
            None => Ended {
                count: 0,
                failure: Some(Sense::illegal(sense_codes::INSUFFICIENT_TOKEN_RESOURCES)),
                ..end
            },
        };
        self.unit
            .with_device(|device| device.end_operation(nexus, list_id, end))
    }

    pub(super) fn report_tokens(&self, allocation_length: u32) -> Outcome {
        let tokens = self.unit.tokens().of(self.unit.watched());
        let data = rod_tokens::report(tokens.iter().map(|token| token.body()));
        Outcome::Answer(Answer::data(data, allocation_length as usize))
    }

    pub(super) async fn write_using_token(&self, plan: WriteUsingToken) -> Answer {
        let (nexus, list_id) = (self.itl.id, plan.list_id);
        let begun = self
            .unit
            .with_device(|device| device.begin_operation(nexus, list_id, WRITE_USING_TOKEN));
        if let Err(answer) = begun {
            return answer;
        }
        let mut bytes = 0;
        let result = self.copy_from_token(&plan, &mut bytes).await;
        let end = Ended {
            count: bytes / u64::from(self.identity.block_size),
            segments: 0,
            failure: result.err().map(|failure| self.sense_of_token(&failure)),
            token: None,
        };
        self.unit
            .with_device(|device| device.end_operation(nexus, list_id, end))
    }

    async fn copy_from_token(&self, plan: &WriteUsingToken, bytes: &mut u64) -> Result<(), TokenFailure> {
        let TokenSource::Token(body) = &plan.source else {
            for range in &plan.ranges {
                self.go_on(plan.list_id)?;
                self.volume()
                    .zero(range.offset, range.length, true, self.write_through)
                    .await?;
                *bytes += range.length;
            }
            return Ok(());
        };
        let token = self.unit.tokens().find(body)?;
        if plan.delete {
            self.unit.tokens().delete(body);
        }
        let wanted: u64 = plan.ranges.iter().map(|range| range.length).sum();
        let start = plan.offset.saturating_mul(token.block_size.into());
        if start.saturating_add(wanted) > token.bytes() {
            return Err(sense_codes::INVALID_FIELD_IN_PARAMETER_LIST.into());
        }
        let mut from = start;
        for range in &plan.ranges {
            let mut done = 0;
            while done < range.length {
                self.go_on(plan.list_id)?;
                let place = token.place(from).ok_or(sense_codes::TOKEN_CORRUPT)?;
                let left = place.length.min(range.length - done);
                let piece = ByteRange {
                    offset: place.offset,
                    length: piece_of(range.offset + done, left, token.block_size),
                };
                self.copy_piece(&token, piece, range.offset + done).await?;
                done += piece.length;
                from += piece.length;
                *bytes += piece.length;
            }
        }
        Ok(())
    }

    async fn copy_piece(&self, token: &Token, from: ByteRange, to: u64) -> Result<(), TokenFailure> {
        if let Some(loan) = token.lend(from)?
            && self.volume().copy_in(to, loan).await
            // What was set aside meanwhile is not what was copied.
            && token.is_all_there(from)?
        {
            if self.write_through {
                self.volume().flush().await?;
            }
            return Ok(());
        }
        match token.content(from).await? {
            Content::Hole => {
                self.volume()
                    .zero(to, from.length, true, self.write_through)
                    .await?;
            }
            Content::Data(data) => self.volume().write(to, data, self.write_through).await?,
        }
        Ok(())
    }

    fn go_on(&self, list_id: u32) -> Result<(), TokenFailure> {
        if self.goes_on(list_id) {
            Ok(())
        } else {
            Err(TokenFailure::Aborted)
        }
    }

    /// Has nobody aborted this operation?
    pub(super) fn goes_on(&self, list_id: u32) -> bool {
        self.unit
            .with_device(|device| device.operation_goes_on(self.itl.id, list_id))
    }

    fn sense_of_token(&self, failure: &TokenFailure) -> Sense {
        match failure {
            TokenFailure::Token(sense_codes::INVALID_FIELD_IN_PARAMETER_LIST) => {
                Sense::invalid_parameter(8, None)
            }
            TokenFailure::Token(code) => Sense::illegal(*code),
            TokenFailure::Io(error) => sense_of(error, self.identity.block_size),
            TokenFailure::Aborted => Sense::new(SenseKey::CopyAborted, sense_codes::NO_ADDITIONAL_SENSE),
        }
    }
}
