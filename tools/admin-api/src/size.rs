//! Sizes as people write them.

/// A number of bytes, written `10GiB`, `64KiB`, `512` or `1 TB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no size: a whole number of bytes, or one with a unit is accepted (KiB, MiB, GiB, TiB; KB, MB, GB, TB), like 10GiB"
)]
pub struct NoSize(pub String);

const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("B", 1),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

impl std::str::FromStr for Size {
    type Err = NoSize;

    fn from_str(text: &str) -> Result<Self, NoSize> {
        let no_size = || NoSize(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| no_size())?;
        let unit = unit.trim_start();
        let (_, factor) = UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .ok_or_else(no_size)?;
        number.checked_mul(*factor).map(Self).ok_or_else(no_size)
    }
}

impl std::fmt::Display for Size {
    /// The largest binary unit that divides it, so that it reads back as the same number.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = ["TiB", "GiB", "MiB", "KiB"].into_iter().zip([40, 30, 20, 10]);
        for (name, shift) in unit {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return f.pad(&format!("{}{name}", self.0 >> shift));
            }
        }
        f.pad(&self.0.to_string())
    }
}

impl Size {
    /// For people: at most one digit after the point, `1.5GiB`.
    pub fn rounded(self) -> String {
        for (name, shift) in ["TiB", "GiB", "MiB", "KiB"].into_iter().zip([40u32, 30, 20, 10]) {
            if self.0 >> shift != 0 {
                let tenths = u128::from(self.0) * 10 / (1u128 << shift);
                let (whole, tenth) = (tenths / 10, tenths % 10);
                return if tenth == 0 {
                    format!("{whole}{name}")
                } else {
                    format!("{whole}.{tenth}{name}")
                };
            }
        }
        format!("{}B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units() {
        assert_eq!("10GiB".parse(), Ok(Size(10 << 30)));
        assert_eq!("64kib".parse(), Ok(Size(65_536)));
        assert_eq!("512".parse(), Ok(Size(512)));
        assert_eq!("1 TB".parse(), Ok(Size(1_000_000_000_000)));
    }

    #[test]
    fn refusals() {
        for text in [
            "",
            "GiB",
            "1.5GiB",
            "-1",
            "10 parsecs",
            "99999999999999999999",
            "17179869184GiB",
        ] {
            assert_eq!(text.parse::<Size>(), Err(NoSize(text.to_owned())));
        }
    }

    #[test]
    fn rounded_for_people() {
        assert_eq!(Size(1 << 30).rounded(), "1GiB");
        assert_eq!(Size(3 << 29).rounded(), "1.5GiB");
        assert_eq!(Size(100).rounded(), "100B");
        assert_eq!(Size(u64::MAX).rounded(), "16777215.9TiB");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(bytes: u64) {
            prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
    }
}
