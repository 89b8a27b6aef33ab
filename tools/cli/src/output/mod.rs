//! What is printed: tables for people, one JSON document for programs.

pub(crate) mod bytes;
pub(crate) mod progress;
pub(crate) mod table;

use std::io::{self, Write as _};

use serde::Serialize;
use serde_json::json;

use crate::failure::Failure;

/// Where results go: always standard output; reasons and progress go to standard error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// One document, no prose.
    pub(crate) json: bool,
}

impl Output {
    /// The result, in the form that was asked for.
    pub(crate) fn print<D: Serialize>(
        self,
        document: &D,
        people: impl FnOnce(&D) -> String,
    ) -> Result<(), Failure> {
        let text = if self.json {
            serde_json::to_string(document).map_err(|error| Failure::Failed(error.to_string()))?
        } else {
            people(document)
        };
        Self::line(&text)
    }

    /// A line or several. Nothing for nothing.
    pub(crate) fn line(text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        if !text.is_empty() {
            writeln!(stdout, "{text}")?;
        }
        Ok(stdout.flush()?)
    }

    /// Why it failed. With `--json` programs get the reason as a document too, except where one was printed already.
    pub(crate) fn failure(self, failure: &Failure) {
        eprintln!("holdfast: {failure}");
        if !self.json
            || matches!(
                failure,
                Failure::VerifyNone(_) | Failure::VerifySome(_) | Failure::ReloadRefused
            )
        {
            return;
        }
        let refused = match failure {
            Failure::Refused(refusal) => Some(refusal),
            _ => None,
        };
        let document =
            json!({ "error": failure.to_string(), "exit_code": failure.code(), "refused": refused });
        // When standard output is gone the exit code is all there is left to say.
        let _ = Self::line(&document.to_string());
    }
}
