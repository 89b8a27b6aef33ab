//! Volumes and pairs as they are named on the command line.

use std::{convert::Infallible, fmt, str::FromStr};

use scsi_model::control::SystemId;

/// A volume: a number, else a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VolumeName {
    /// Digits alone.
    Number(u32),
    /// Anything else.
    Name(String),
}

impl VolumeName {
    fn new(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Name(text.to_owned()), Self::Number)
    }
}

impl FromStr for VolumeName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// A volume of a pair: one of this system, or SYSTEM:VOL, where VOL is a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FarVolume {
    /// Of this system.
    Here(VolumeName),
    /// Of another one.
    There(SystemId, u32),
}

impl FromStr for FarVolume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((system, volume)) = text.split_once(':') else {
            return Ok(Self::Here(VolumeName::new(text)));
        };
        let system = SystemId::new(system).map_err(|error| error.to_string())?;
        let volume = volume.parse().map_err(|_| {
            format!("{volume:?} is no volume number, and the names of {system} are not known here")
        })?;
        Ok(Self::There(system, volume))
    }
}

/// P:M, a member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PairName {
    pub(crate) primary: FarVolume,
    pub(crate) mirror: FarVolume,
}

impl FromStr for PairName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((primary, mirror)) = text.split_once(':') else {
            return Err("a pair is written P:M".to_owned());
        };
        let primary = FarVolume::Here(VolumeName::new(primary));
        Ok(Self {
            primary,
            mirror: mirror.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_systems() {
        assert_eq!("12".parse(), Ok(VolumeName::Number(12)));
        assert_eq!("prod".parse(), Ok(VolumeName::Name("prod".to_owned())));
        assert_eq!(
            "bcv1".parse(),
            Ok(FarVolume::Here(VolumeName::Name("bcv1".to_owned())))
        );
        let there = FarVolume::There(SystemId::new("HF-B").unwrap(), 1);
        assert_eq!("HF-B:1".parse(), Ok(there.clone()));
        assert!("HF-B:prod".parse::<FarVolume>().is_err());
        assert!(":1".parse::<FarVolume>().is_err());
        assert_eq!(
            "3:HF-B:1".parse(),
            Ok(PairName {
                primary: FarVolume::Here(VolumeName::Number(3)),
                mirror: there
            })
        );
        assert!("3".parse::<PairName>().is_err());
    }
}
