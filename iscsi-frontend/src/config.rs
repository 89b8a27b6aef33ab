//! What a frontend serves, to whom, and within which bounds.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use iscsi_proto::{
    login::{Admission, AuthPolicy},
    negotiation::Offer,
    nop::KeepaliveTimes,
};
use target_core::{
    initiator_pattern::{InitiatorPattern, most_specific},
    target::Target,
};

/// Everything a frontend is told. May be replaced while serving: [`crate::Frontend::reconfigure`].
#[derive(Debug, Clone, Default)]
pub struct FrontendConfig {
    /// Where to listen.
    pub portals: Vec<Portal>,
    /// What to serve.
    pub targets: Vec<TargetAccess>,
    /// What a discovery session must prove: nothing, by default.
    pub discovery: AuthPolicy,
    /// Where to tell what is served (RFC 4171), if anywhere.
    pub isns: Option<IsnsConfig>,
    /// Bounds and times.
    pub tuning: Tuning,
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Portal {
    /// Address and port; port 0 takes any free one.
    pub address: SocketAddr,
    /// Tag of its portal group (RFC 7143 4.2.7.1), not 0.
    pub group: u16,
}

impl From<SocketAddr> for Portal {
    /// In portal group 1.
    fn from(address: SocketAddr) -> Self {
        Self { address, group: 1 }
    }
}

/// A name server to register with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsnsConfig {
    /// `host:port` of the server.
    pub server: String,
    /// Entity identifier: 1 to 255 bytes, one of a kind at the server.
    pub entity: String,
    /// Seconds between the server's inquiries whether a portal is there; 0: none.
    pub esi_interval: u32,
}

/// One target and who may log in to it.
#[derive(Debug, Clone)]
pub struct TargetAccess {
    /// The target.
    pub target: Arc<Target>,
    /// A name for people, sent at login.
    pub alias: Option<String>,
    /// When silent initiators are asked with NOP-In, and given up. May change while serving.
    pub keepalive: KeepaliveTimes,
    /// Sessions are told at once when they get other LUNs (RFC 7143 11.9.1, event 0), beside the unit attention. May change while
    /// serving.
    pub announces_luns: bool,
    /// The portal groups it is reached through; empty: all.
    pub portal_groups: Vec<u16>,
    /// What sessions with it may agree on; `None`: [`Tuning::offer`]. Counts for logins.
    pub offer: Option<Offer>,
    /// Who may log in. None at all: anybody, but only through a loopback address.
    pub initiators: Vec<InitiatorRule>,
}

/// Admits one initiator, or all that a pattern names.
#[derive(Debug, Clone)]
pub struct InitiatorRule {
    /// Whom. Of the rules about an initiator that with the narrowest pattern counts.
    pub name: InitiatorPattern,
    /// What it must prove.
    pub auth: AuthPolicy,
    /// What its sessions may agree on; `None`: what those of the target may.
    pub offer: Option<Offer>,
    /// It is sent to another address instead of being admitted (RFC 7143 6.3.3, 13.8).
    pub moved: Option<Moved>,
}

/// Where an initiator finds a target that it does not find here any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// `host[:port]` or `[ipv6]:port`, as in TargetAddress.
    pub address: String,
    /// True to have the initiator remember it (status 0102h), false to have it ask again next time (0101h).
    pub permanent: bool,
}

/// Bounds and times. The defaults suit hosts on a local network.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// What sessions may agree on, where target and initiator do not say otherwise.
    pub offer: Offer,
    /// Commands in progress per session: how far MaxCmdSN is ahead.
    pub command_window: u32,
    /// Connections at once; more wait in the backlog of the socket.
    pub connections: usize,
    /// Connections of one address that have not logged in; more are closed at once.
    pub logins_per_address: usize,
    /// Time from connect to full feature phase.
    pub login_timeout: Duration,
    /// When silent initiators of discovery sessions are asked with NOP-In.
    pub keepalive: KeepaliveTimes,
    /// How long a stopping target waits for the logouts it asks for.
    pub logout_grace: Duration,
    /// Memory per connection for data asked for with R2T, in bytes.
    pub data_out_budget: usize,
    /// The longest write taken, in bytes of expected data transfer length.
    pub longest_write: u32,
    /// How long a session looks at its socket before it sleeps, where the next command is about to come; zero: not at all.
    pub longest_look: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            offer: Offer {
                max_connections: 4,
                ..Offer::default()
            },
            command_window: 128,
            connections: 1024,
            logins_per_address: 256,
            login_timeout: iscsi_proto::limits::LOGIN_TIMEOUT,
            keepalive: KeepaliveTimes::default(),
            logout_grace: Duration::from_secs(3),
            data_out_budget: 16 << 20,
            longest_write: 64 << 20,
            longest_look: Duration::ZERO,
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is nowhere to listen.
    #[error("no portal is configured")]
    NoPortal,
    /// Two portals with one address.
    #[error("portal {0} is configured twice")]
    PortalTwice(SocketAddr),
    /// Two targets with one name.
    #[error("target {0} is configured twice")]
    TargetTwice(String),
    /// A target for everybody that only non-loopback portals lead to.
    #[error(
        "target {0} has no initiator rules, so it is served on loopback only, and no loopback portal leads to it"
    )]
    Unreachable(String),
    /// Portal group tag 0.
    #[error("portal {0} has portal group tag 0")]
    ZeroGroup(SocketAddr),
    /// A command window outside of 1 to 65536.
    #[error("a command window of {0} is not between 1 and 65536")]
    CommandWindow(u32),
}

impl FrontendConfig {
    /// Checks everything that can be checked without opening anything.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.portals.is_empty() {
            return Err(ConfigError::NoPortal);
        }
        if !(1..=65_536).contains(&self.tuning.command_window) {
            return Err(ConfigError::CommandWindow(self.tuning.command_window));
        }
        let mut addresses = BTreeSet::new();
        for portal in &self.portals {
            if portal.group == 0 {
                return Err(ConfigError::ZeroGroup(portal.address));
            }
            // Port 0 is a different port each time.
            if portal.address.port() != 0 && !addresses.insert(portal.address) {
                return Err(ConfigError::PortalTwice(portal.address));
            }
        }
        let mut names = BTreeSet::new();
        for access in &self.targets {
            if !names.insert(access.target.name()) {
                return Err(ConfigError::TargetTwice(access.target.name().to_owned()));
            }
            let mut portals = self
                .portals
                .iter()
                .filter(|portal| access.is_in_group(portal.group));
            if !portals.any(|portal| access.is_reached_through(portal.address.ip())) {
                return Err(ConfigError::Unreachable(access.target.name().to_owned()));
            }
        }
        Ok(())
    }

    /// When silent initiators are asked in sessions with this target, or in discovery sessions.
    pub(crate) fn keepalive(&self, target: Option<&str>) -> KeepaliveTimes {
        target
            .and_then(|name| self.target(name))
            .map_or(self.tuning.keepalive, |access| access.keepalive)
    }

    /// What a session of this initiator with this target may agree on.
    pub(crate) fn offer(&self, target: &str, initiator: &str) -> &Offer {
        let access = self.target(target);
        let own = access.and_then(|access| access.rule(initiator)?.offer.as_ref());
        own.or_else(|| access?.offer.as_ref())
            .unwrap_or(&self.tuning.offer)
    }

    /// The target of this name (compared in lower case).
    pub(crate) fn target(&self, name: &str) -> Option<&TargetAccess> {
        self.targets
            .iter()
            .find(|access| access.target.name().eq_ignore_ascii_case(name))
    }
}

impl TargetAccess {
    /// A target that anybody on this machine may use through any portal group.
    pub fn open(target: Arc<Target>) -> Self {
        Self {
            target,
            alias: None,
            keepalive: KeepaliveTimes::default(),
            announces_luns: true,
            portal_groups: Vec::new(),
            offer: None,
            initiators: Vec::new(),
        }
    }

    pub(crate) fn is_in_group(&self, group: u16) -> bool {
        self.portal_groups.is_empty() || self.portal_groups.contains(&group)
    }

    /// May connections to this local address log in at all?
    pub(crate) fn is_reached_through(&self, local: IpAddr) -> bool {
        !self.initiators.is_empty() || local.to_canonical().is_loopback() || local.is_unspecified()
    }

    /// The rule about this initiator.
    fn rule(&self, initiator: &str) -> Option<&InitiatorRule> {
        let rules = self.initiators.iter().map(|rule| (&rule.name, rule));
        most_specific(rules, initiator)
    }

    /// Whether this initiator may log in through a portal of `group` at the address `local`.
    pub(crate) fn admission(&self, initiator: &str, group: u16, local: IpAddr) -> Admission {
        if !self.is_in_group(group) {
            return Admission::NotFound;
        }
        if self.initiators.is_empty() {
            return if local.to_canonical().is_loopback() {
                Admission::Admit(AuthPolicy::none())
            } else {
                Admission::NotAllowed
            };
        }
        match self.rule(initiator) {
            Some(InitiatorRule {
                moved: Some(Moved { address, permanent }),
                ..
            }) => Admission::Moved {
                permanent: *permanent,
                address: address.clone(),
            },
            Some(rule) => Admission::Admit(rule.auth.clone()),
            None => Admission::NotAllowed,
        }
    }
}

#[cfg(test)]
mod tests {
    use target_core::target::AccessRules;

    use super::*;

    fn access(initiators: &[&str]) -> TargetAccess {
        let rule = |name: &&str| InitiatorRule {
            name: InitiatorPattern::parse(name).unwrap(),
            auth: AuthPolicy::none(),
            offer: None,
            moved: None,
        };
        TargetAccess {
            initiators: initiators.iter().map(rule).collect(),
            ..TargetAccess::open(Target::new("iqn.2026-11.test:t", AccessRules::default()))
        }
    }

    fn admits(access: &TargetAccess, initiator: &str, local: &str) -> bool {
        matches!(
            access.admission(initiator, 1, local.parse().unwrap()),
            Admission::Admit(_)
        )
    }

    #[test]
    fn without_rules_only_this_machine_gets_in() {
        let open = access(&[]);
        assert!(admits(&open, "iqn.a", "127.0.0.1"));
        assert!(admits(&open, "iqn.a", "::1"));
        assert!(!admits(&open, "iqn.a", "192.0.2.1"));
    }

    #[test]
    fn rules_admit_by_name_and_in_any_case() {
        let ruled = access(&["iqn.A"]);
        assert!(admits(&ruled, "iqn.a", "192.0.2.1"));
        assert!(!admits(&ruled, "iqn.b", "127.0.0.1"));
        assert!(admits(&access(&["iqn.a", "*"]), "iqn.b", "192.0.2.1"));
        let pattern = access(&["iqn.a:*"]);
        assert!(admits(&pattern, "IQN.a:b", "192.0.2.1") && !admits(&pattern, "iqn.b", "192.0.2.1"));
    }

    #[test]
    fn the_narrowest_offer_counts() {
        let offer = |max_burst_length| {
            Some(Offer {
                max_burst_length,
                ..Offer::default()
            })
        };
        let mut target = access(&["*", "iqn.a:*", "iqn.b:*"]);
        let mut config = FrontendConfig::default();
        config.tuning.offer.max_burst_length = 1;
        let found = |target: &TargetAccess, initiator: &str| {
            let mut config = config.clone();
            config.targets = vec![target.clone()];
            config.offer("IQN.2026-11.test:t", initiator).max_burst_length
        };
        assert_eq!(found(&target, "iqn.a:1"), 1);
        target.offer = offer(2);
        target.initiators[1].offer = offer(3);
        let all = ["iqn.a:1", "iqn.b:1", "iqn.c"].map(|initiator| found(&target, initiator));
        assert_eq!(all, [3, 2, 2]);
    }

    #[test]
    fn a_group_the_target_is_not_in_hides_it() {
        let hidden = TargetAccess {
            portal_groups: vec![2],
            ..access(&["*"])
        };
        let local = "127.0.0.1".parse().unwrap();
        assert!(matches!(hidden.admission("iqn.a", 1, local), Admission::NotFound));
        assert!(matches!(hidden.admission("iqn.a", 2, local), Admission::Admit(_)));
    }

    #[test]
    fn mistakes_are_named() {
        let portal = |address: &str| Portal::from(address.parse::<SocketAddr>().unwrap());
        let mut config = FrontendConfig::default();
        assert_eq!(config.check(), Err(ConfigError::NoPortal));
        config.portals = vec![portal("192.0.2.1:3260")];
        assert_eq!(config.check(), Ok(()));
        config.targets = vec![access(&[])];
        assert_eq!(
            config.check(),
            Err(ConfigError::Unreachable("iqn.2026-11.test:t".into()))
        );
        config.targets = vec![access(&["*"]), access(&["*"])];
        assert_eq!(
            config.check(),
            Err(ConfigError::TargetTwice("iqn.2026-11.test:t".into()))
        );
        config.portals.push(portal("192.0.2.1:3260"));
        assert!(matches!(config.check(), Err(ConfigError::PortalTwice(_))));
    }
}
