//! Spans of time as people write them.

/// A number of seconds, written `90s`, `15m`, `1h`, `7d` or `2w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub u64);

/// A text that is no span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no span of time: a whole number above 0 with s, m, h, d or w is accepted, like 90s or 7d")]
pub struct NoPeriod(pub String);

impl Period {
    /// Seconds that are accepted. A hundred years: what is computed with it stays far from any limit.
    pub const RANGE: std::ops::RangeInclusive<u64> = 1..=36_525 * 86_400;
}

const UNITS: [(&str, u64); 5] = [
    ("w", 7 * 86_400),
    ("d", 86_400),
    ("h", 3_600),
    ("m", 60),
    ("s", 1),
];

impl std::str::FromStr for Period {
    type Err = NoPeriod;

    fn from_str(text: &str) -> Result<Self, NoPeriod> {
        let no_period = || NoPeriod(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| no_period())?;
        let (_, factor) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(no_period)?;
        number
            .checked_mul(*factor)
            .filter(|seconds| Self::RANGE.contains(seconds))
            .map(Self)
            .ok_or_else(no_period)
    }
}

impl std::fmt::Display for Period {
    /// The largest unit that divides it, so that it reads back as the same number.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = UNITS.iter().find(|(_, factor)| self.0.is_multiple_of(*factor));
        let (name, factor) = unit.unwrap_or(&("s", 1));
        f.pad(&format!("{}{name}", self.0 / factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_back() {
        for (text, seconds) in [
            ("90s", 90),
            ("15m", 900),
            ("1h", 3600),
            ("6d", 518_400),
            ("2w", 1_209_600),
        ] {
            assert_eq!(text.parse(), Ok(Period(seconds)));
            assert_eq!(Period(seconds).to_string(), text);
        }
        assert_eq!("7d".parse::<Period>().unwrap().to_string(), "1w");
        for text in [
            "",
            "1",
            "h",
            "0s",
            "-1h",
            "1.5h",
            "1 h",
            "99999999w",
            "99999999999999999999s",
        ] {
            assert!(text.parse::<Period>().is_err(), "{text:?}");
        }
    }
}
