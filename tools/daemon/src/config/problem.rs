//! What is wrong with a configuration, all of it at once.

use std::fmt;

/// One fault: where, and what is accepted there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The key, like `volume[2].size` (counted from 1), or an environment variable.
    pub(crate) key: String,
    /// What is wrong and what is accepted.
    pub(crate) text: String,
}

/// The faults of one configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problems {
    file: String,
    found: Vec<Problem>,
}

impl Problems {
    pub(crate) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            found: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.found.push(Problem {
            key: key.into(),
            text: text.into(),
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn found(&self) -> &[Problem] {
        &self.found
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { key, text }) in self.found.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{}: {key}: {text}", self.file)?;
        }
        Ok(())
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {source}")]
    Read {
        /// Path.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line for each fault.
    #[error("{0}")]
    Invalid(Problems),
}

impl From<Problems> for ConfigError {
    fn from(problems: Problems) -> Self {
        Self::Invalid(problems)
    }
}

impl std::error::Error for Problems {}
