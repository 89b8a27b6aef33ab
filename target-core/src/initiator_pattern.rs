//! Whom a rule is about: one initiator, or all whose names fit a pattern.
//!
//! A pattern has one `*`, which stands for any text: what it says of a name is how it begins and how it ends. One pattern is
//! narrower than another when it begins and ends with what the other does, and with more. Of the patterns that a name fits the
//! narrowest counts, and there is always one when no two of a set clash ([`InitiatorPattern::clashes`]): those that a
//! name fits then lie one within the other. The name itself counts before any pattern.

/// An iSCSI name, or a pattern of such names. Both are kept in lower case, in which iSCSI names are compared (RFC 3722).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InitiatorPattern {
    start: String,
    /// What stands after the `*`; `None` without one.
    end: Option<String>,
}

impl InitiatorPattern {
    /// `*`: every initiator.
    pub fn any() -> Self {
        Self {
            start: String::new(),
            end: Some(String::new()),
        }
    }

    /// The initiator with this name.
    pub fn exactly(name: &str) -> Self {
        Self {
            start: name.to_lowercase(),
            end: None,
        }
    }

    /// A name, or a pattern with one `*`; `None` with several.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('*') {
            None => Some(Self::exactly(text)),
            Some((_, end)) if end.contains('*') => None,
            Some((start, end)) => Some(Self {
                start: start.to_lowercase(),
                end: Some(end.to_lowercase()),
            }),
        }
    }

    /// One initiator by its name, no pattern.
    pub fn is_exact(&self) -> bool {
        self.end.is_none()
    }

    /// How the names begin: all of it when it is a name.
    pub fn start(&self) -> &str {
        &self.start
    }

    /// Is it about the initiator with this name?
    pub fn matches(&self, name: &str) -> bool {
        self.fits(&name.to_lowercase())
    }

    /// As [`Self::matches`], of a name in lower case.
    fn fits(&self, name: &str) -> bool {
        match &self.end {
            None => name == self.start,
            Some(end) => name
                .strip_prefix(&self.start)
                .is_some_and(|rest| rest.ends_with(end.as_str())),
        }
    }

    /// Some names fit both patterns, and neither is the narrower one.
    pub fn clashes(&self, other: &Self) -> bool {
        let (Some(end), Some(other_end)) = (&self.end, &other.end) else {
            return false;
        };
        let (starts, started) = (
            self.start.starts_with(&other.start),
            other.start.starts_with(&self.start),
        );
        let (ends, ended) = (
            end.ends_with(other_end.as_str()),
            other_end.ends_with(end.as_str()),
        );
        let meet = (starts || started) && (ends || ended);
        meet && !(starts && ends) && !(started && ended)
    }

    /// The greater, the narrower, among patterns that one name fits.
    fn narrowness(&self) -> (bool, usize) {
        let end = self.end.as_ref().map_or(0, String::len);
        (self.is_exact(), self.start.len() + end)
    }
}

impl std::fmt::Display for InitiatorPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.end {
            None => f.write_str(&self.start),
            Some(end) => write!(f, "{}*{end}", self.start),
        }
    }
}

/// The one of `rules` that counts for the initiator with this name: that with the narrowest pattern.
pub fn most_specific<'a, T>(
    rules: impl IntoIterator<Item = (&'a InitiatorPattern, T)>,
    name: &str,
) -> Option<T> {
    let name = name.to_lowercase();
    rules
        .into_iter()
        .filter(|(pattern, _)| pattern.fits(&name))
        .max_by_key(|(pattern, _)| pattern.narrowness())
        .map(|(_, rule)| rule)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> InitiatorPattern {
        InitiatorPattern::parse(text).unwrap()
    }

    #[test]
    fn a_star_stands_for_any_text() {
        let debian = pattern("iqn.1993-08.org.Debian:*");
        assert!(debian.matches("iqn.1993-08.org.debian:01:a") && debian.matches("IQN.1993-08.org.debian:"));
        assert!(!debian.matches("iqn.1993-08.org.debian") && !debian.matches("x.iqn.1993-08.org.debian:"));
        let databases = pattern("iqn.*:db");
        assert!(databases.matches("iqn.2026-11.x:db") && !databases.matches("iqn.2026-11.x:db2"));
        assert!(!pattern("ab*bc").matches("abc"), "no byte counts twice");
        assert!(
            pattern("*").matches("")
                && pattern("*").matches("iqn.a")
                && pattern("*") == InitiatorPattern::any()
        );
        assert!(pattern("iqn.a").matches("IQN.A") && !pattern("iqn.a").matches("iqn.ab"));
        assert_eq!(InitiatorPattern::parse("iqn.*:*"), None);
        assert_eq!(pattern("iqn.*:DB").to_string(), "iqn.*:db");
    }

    #[test]
    fn the_narrowest_counts() {
        let rules = ["*", "iqn.2026-11.x:*", "iqn.2026-11.x:db*", "iqn.2026-11.x:db1"].map(pattern);
        let among = |rules: &[InitiatorPattern], name: &str| {
            most_specific(rules.iter().map(|rule| (rule, rule.to_string())), name)
        };
        for (name, rule) in [
            ("iqn.2026-11.x:db1", "iqn.2026-11.x:db1"),
            ("iqn.2026-11.x:db12", "iqn.2026-11.x:db*"),
            ("iqn.2026-11.x:web", "iqn.2026-11.x:*"),
            ("eui.0123456789abcdef", "*"),
        ] {
            assert_eq!(among(&rules, name).as_deref(), Some(rule), "{name}");
        }
        assert_eq!(among(&rules[1..], "eui.0"), None);
    }

    #[test]
    fn patterns_that_cross_clash() {
        for (one, other, clash) in [
            ("iqn.a:*", "iqn.*:db", true),
            ("iqn.a:*", "iqn.a:b*", false),
            ("iqn.a:*", "iqn.b:*", false),
            ("iqn.*:db", "iqn.*:web", false),
            ("iqn.a:*", "iqn.a:*db", false),
            ("iqn.a:x*", "iqn.a:*db", true),
            ("*", "iqn.*", false),
            ("iqn.a:b", "iqn.*:b", false),
        ] {
            let (one, other) = (pattern(one), pattern(other));
            assert_eq!(
                (one.clashes(&other), other.clashes(&one)),
                (clash, clash),
                "{one} {other}"
            );
        }
    }

    proptest! {
        /// Two patterns that one name fits clash, or every name that fits the narrower one fits the other too.
        #[test]
        fn a_name_has_one_narrowest_pattern(
            one in "[ab]{0,3}\\*[ab]{0,3}",
            other in "[ab]{0,3}\\*[ab]{0,3}",
            name in "[ab]{0,8}",
        ) {
            let (one, other) = (pattern(&one), pattern(&other));
            if one != other && one.matches(&name) && other.matches(&name) && !one.clashes(&other) {
                let (narrow, wide) = if one.narrowness() > other.narrowness() {
                    (one, other)
                } else {
                    (other, one)
                };
                prop_assert!(narrow.narrowness() > wide.narrowness());
                let fits_the_narrow = narrow.to_string().replace('*', &name);
                prop_assert!(narrow.matches(&fits_the_narrow) && wide.matches(&fits_the_narrow));
            }
        }
    }
}
