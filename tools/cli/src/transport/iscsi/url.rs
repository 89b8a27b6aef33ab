//! `iscsi://[USER%SECRET@]HOST[:PORT]/IQN/LUN`, as libiscsi writes it.

use std::str::FromStr;

/// A logical unit of a target behind a portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IscsiUrl {
    /// CHAP user and secret.
    pub(super) chap: Option<(String, String)>,
    /// `HOST:PORT`.
    pub(super) portal: String,
    /// Target name.
    pub(super) target: String,
    /// LUN.
    pub(super) lun: u16,
}

/// A text that is no such URL. It is not repeated: there may be a secret in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no iSCSI URL ({0}): iscsi://[USER%SECRET@]HOST[:PORT]/IQN/LUN is accepted")]
pub(super) struct BadUrl(&'static str);

/// RFC 7143 4.2.6: the well-known port.
const PORT: &str = "3260";
const LARGEST_LUN: u16 = 0x3fff;

impl FromStr for IscsiUrl {
    type Err = BadUrl;

    fn from_str(url: &str) -> Result<Self, BadUrl> {
        let rest = url
            .strip_prefix("iscsi://")
            .ok_or(BadUrl("it does not begin with iscsi://"))?;
        // The last @ and the last two slashes: a secret may have any of these characters.
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (Some(credentials), rest),
            None => (None, rest),
        };
        let chap = credentials
            .map(|text| text.split_once('%').ok_or(BadUrl("no % between user and secret")))
            .transpose()?
            .map(|(user, secret)| (user.to_owned(), secret.to_owned()));
        let mut parts = rest.split('/');
        let (Some(portal), Some(target), Some(lun), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadUrl("host, target and LUN are needed"));
        };
        if portal.is_empty() || target.is_empty() {
            return Err(BadUrl("host, target and LUN are needed"));
        }
        let lun = lun
            .parse()
            .ok()
            .filter(|lun| *lun <= LARGEST_LUN)
            .ok_or(BadUrl("the LUN is no number up to 16383"))?;
        let has_port = portal
            .rsplit_once(':')
            .is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
        let portal = if has_port {
            portal.to_owned()
        } else {
            format!("{portal}:{PORT}")
        };
        Ok(Self {
            chap,
            portal,
            target: target.to_lowercase(),
            lun,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> IscsiUrl {
        url.parse().unwrap()
    }

    #[test]
    fn all_parts() {
        let url = parse("iscsi://me%s3cr@t/%1@example.org:3261/iqn.2026-11.X:y/7");
        assert_eq!(url.chap, Some(("me".to_owned(), "s3cr@t/%1".to_owned())));
        assert_eq!(url.portal, "example.org:3261");
        assert_eq!((url.target.as_str(), url.lun), ("iqn.2026-11.x:y", 7));
    }

    #[test]
    fn the_well_known_port() {
        assert_eq!(parse("iscsi://127.0.0.1/iqn.a/0").portal, "127.0.0.1:3260");
        assert_eq!(parse("iscsi://[::1]/iqn.a/0").portal, "[::1]:3260");
        assert_eq!(parse("iscsi://[::1]:9/iqn.a/0").portal, "[::1]:9");
    }

    #[test]
    fn refusals() {
        for url in [
            "http://a/b/0",
            "iscsi://a/b",
            "iscsi://a/b/0/1",
            "iscsi:///b/0",
            "iscsi://a/b/x",
            "iscsi://a/b/16384",
            "iscsi://me@a/b/0",
        ] {
            assert!(url.parse::<IscsiUrl>().is_err(), "{url}");
        }
    }
}
