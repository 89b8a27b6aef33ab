//! Names and aliases that a side declares during login.

use std::collections::BTreeMap;

use super::NegotiationError;
use crate::keys::{Key, Rule};
use crate::limits::DECLARATION_MAX;

/// The declared texts of one login: names, aliases, addresses.
///
/// RFC 7143 6.3 allows each key once. The same value again is let pass, because libiscsi repeats its names when it
/// enters the operational stage; another value is refused. TargetAddress may come often (RFC 7143 13.8).
#[derive(Debug, Default)]
pub struct Declarations(BTreeMap<Key, String>);

impl Declarations {
    /// Takes one declaration.
    pub fn declare(&mut self, key: Key, value: &str) -> Result<(), NegotiationError> {
        debug_assert_eq!(key.spec().rule, Rule::DeclaredText);
        if value.len() > DECLARATION_MAX {
            return Err(NegotiationError::BadDeclaration(key));
        }
        match self.0.get(&key) {
            Some(earlier) if earlier != value && key != Key::TargetAddress => {
                Err(NegotiationError::Repeated(key))
            }
            _ => {
                self.0.insert(key, value.to_owned());
                Ok(())
            }
        }
    }

    /// The value declared for `key`.
    pub fn get(&self, key: Key) -> Option<&str> {
        self.0.get(&key).map(String::as_str)
    }
}
