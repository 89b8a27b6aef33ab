//! Every key of RFC 7143 12 and 13 in one table, with the rules the negotiation follows.
//!
//! What the table does not hold (X- keys of other vendors, iSER's keys) is answered NotUnderstood.

/// A key of RFC 7143 or RFC 7144. The order is that of [`KEYS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(
    missing_docs,
    reason = "each variant is the key of that name; its row in KEYS says what it is"
)]
pub enum Key {
    AuthMethod,
    ChapA,
    ChapI,
    ChapC,
    ChapN,
    ChapR,
    KrbApReq,
    KrbApRep,
    SrpU,
    SrpN,
    SrpG,
    SrpGroup,
    SrpS,
    SrpA,
    SrpB,
    SrpM,
    SrpHm,
    InitiatorName,
    InitiatorAlias,
    TargetName,
    TargetAlias,
    TargetAddress,
    TargetPortalGroupTag,
    SessionType,
    SendTargets,
    HeaderDigest,
    DataDigest,
    MaxConnections,
    InitialR2T,
    ImmediateData,
    MaxRecvDataSegmentLength,
    MaxBurstLength,
    FirstBurstLength,
    DefaultTime2Wait,
    DefaultTime2Retain,
    MaxOutstandingR2T,
    DataPduInOrder,
    DataSequenceInOrder,
    ErrorRecoveryLevel,
    TaskReporting,
    ProtocolLevel,
    IfMarker,
    OfMarker,
    IfMarkInt,
    OfMarkInt,
}

/// Which side may offer or declare a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Only the initiator.
    Initiator,
    /// Only the target.
    Target,
    /// Either.
    Both,
}

/// When a key may be sent (the Use line of RFC 7143 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// SecurityNegotiation stage only (RFC 7143 12).
    Security,
    /// LoginOperationalNegotiation stage only.
    Operational,
    /// LoginOperationalNegotiation stage and full feature phase.
    OperationalAndFullFeature,
    /// Either stage of login.
    AnyLogin,
    /// Either stage of login and full feature phase.
    Any,
    /// Full feature phase only.
    FullFeature,
}

/// How two offers make one value (RFC 7143 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The first of the offerer's list that the answerer takes (6.2.1). The words are all that exist.
    List(&'static [&'static str]),
    /// Yes when both say Yes (6.2.2).
    And,
    /// Yes when one says Yes (6.2.2).
    Or,
    /// The lesser of two numbers in the range (6.2.2).
    Minimum(u32, u32),
    /// The greater of two numbers in the range (6.2.2).
    Maximum(u32, u32),
    /// A number each side declares for itself, in the range; not answered.
    DeclaredNumber(u32, u32),
    /// A text the sender declares; not answered.
    DeclaredText,
    /// Part of the authentication exchange (RFC 7143 12).
    Authentication,
    /// The SendTargets request (RFC 7143 Appendix C).
    Request,
    /// Obsolete, always answered Reject (RFC 7143 13.25).
    Obsolete,
}

/// One row: all there is to know about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// The key.
    pub key: Key,
    /// Its name on the wire.
    pub name: &'static str,
    /// The section that defines it (RFC 7143).
    pub section: &'static str,
    /// Who may send it.
    pub sender: Sender,
    /// When.
    pub phase: Phase,
    /// Only on the leading connection of a session (LO).
    pub leading_only: bool,
    /// Means something in a discovery session.
    pub in_discovery: bool,
    /// How it is settled.
    pub rule: Rule,
    /// Value when never negotiated; empty when there is none.
    pub default: &'static str,
}

impl Key {
    /// The row of this key.
    pub fn spec(self) -> &'static KeySpec {
        &KEYS[self as usize]
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The key of that name. Names are case-sensitive (RFC 7143 6.1).
    pub fn from_name(name: &str) -> Option<Self> {
        KEYS.iter().find(|spec| spec.name == name).map(|spec| spec.key)
    }
}

impl Rule {
    /// True for the keys two sides settle by offer and answer in the operational stage.
    pub fn is_negotiated(self) -> bool {
        matches!(
            self,
            Self::List(_) | Self::And | Self::Or | Self::Minimum(..) | Self::Maximum(..)
        )
    }
}

const DIGESTS: Rule = Rule::List(&["None", "CRC32C"]);
const LENGTH_MAX: u32 = (1 << 24) - 1;

const fn security(key: Key, name: &'static str, section: &'static str, sender: Sender) -> KeySpec {
    KeySpec {
        key,
        name,
        section,
        sender,
        phase: Phase::Security,
        leading_only: false,
        in_discovery: true,
        rule: Rule::Authentication,
        default: "",
    }
}

const fn declared(
    key: Key,
    name: &'static str,
    section: &'static str,
    sender: Sender,
    phase: Phase,
) -> KeySpec {
    KeySpec {
        key,
        name,
        section,
        sender,
        phase,
        leading_only: false,
        in_discovery: true,
        rule: Rule::DeclaredText,
        default: "",
    }
}

/// A key of the session: leading connection only.
const fn session(
    key: Key,
    name: &'static str,
    section: &'static str,
    in_discovery: bool,
    rule: Rule,
    default: &'static str,
) -> KeySpec {
    KeySpec {
        key,
        name,
        section,
        sender: Sender::Both,
        phase: Phase::Operational,
        leading_only: true,
        in_discovery,
        rule,
        default,
    }
}

/// A key of the connection.
const fn connection(
    key: Key,
    name: &'static str,
    section: &'static str,
    rule: Rule,
    default: &'static str,
) -> KeySpec {
    KeySpec {
        key,
        name,
        section,
        sender: Sender::Both,
        phase: Phase::Operational,
        leading_only: false,
        in_discovery: true,
        rule,
        default,
    }
}

/// The table, in the order of [`Key`].
pub const KEYS: [KeySpec; 45] = {
    use Sender::{Both, Initiator, Target};
    [
        security(Key::AuthMethod, "AuthMethod", "12", Both),
        security(Key::ChapA, "CHAP_A", "12.1.3", Both),
        security(Key::ChapI, "CHAP_I", "12.1.3", Both),
        security(Key::ChapC, "CHAP_C", "12.1.3", Both),
        security(Key::ChapN, "CHAP_N", "12.1.3", Both),
        security(Key::ChapR, "CHAP_R", "12.1.3", Both),
        security(Key::KrbApReq, "KRB_AP_REQ", "12.1.1", Initiator),
        security(Key::KrbApRep, "KRB_AP_REP", "12.1.1", Target),
        security(Key::SrpU, "SRP_U", "12.1.2", Initiator),
        security(Key::SrpN, "SRP_N", "12.1.2", Target),
        security(Key::SrpG, "SRP_g", "12.1.2", Target),
        security(Key::SrpGroup, "SRP_GROUP", "12.1.2", Both),
        security(Key::SrpS, "SRP_s", "12.1.2", Target),
        security(Key::SrpA, "SRP_A", "12.1.2", Initiator),
        security(Key::SrpB, "SRP_B", "12.1.2", Target),
        security(Key::SrpM, "SRP_M", "12.1.2", Initiator),
        security(Key::SrpHm, "SRP_HM", "12.1.2", Target),
        declared(
            Key::InitiatorName,
            "InitiatorName",
            "13.5",
            Initiator,
            Phase::AnyLogin,
        ),
        declared(
            Key::InitiatorAlias,
            "InitiatorAlias",
            "13.7",
            Initiator,
            Phase::Any,
        ),
        declared(Key::TargetName, "TargetName", "13.4", Both, Phase::AnyLogin),
        declared(Key::TargetAlias, "TargetAlias", "13.6", Target, Phase::Any),
        declared(Key::TargetAddress, "TargetAddress", "13.8", Target, Phase::Any),
        declared(
            Key::TargetPortalGroupTag,
            "TargetPortalGroupTag",
            "13.9",
            Target,
            Phase::AnyLogin,
        ),
        declared(
            Key::SessionType,
            "SessionType",
            "13.21",
            Initiator,
            Phase::AnyLogin,
        ),
        KeySpec {
            rule: Rule::Request,
            ..declared(
                Key::SendTargets,
                "SendTargets",
                "13.3",
                Initiator,
                Phase::FullFeature,
            )
        },
        connection(Key::HeaderDigest, "HeaderDigest", "13.1", DIGESTS, "None"),
        connection(Key::DataDigest, "DataDigest", "13.1", DIGESTS, "None"),
        session(
            Key::MaxConnections,
            "MaxConnections",
            "13.2",
            false,
            Rule::Minimum(1, 65535),
            "1",
        ),
        session(Key::InitialR2T, "InitialR2T", "13.10", false, Rule::Or, "Yes"),
        session(
            Key::ImmediateData,
            "ImmediateData",
            "13.11",
            false,
            Rule::And,
            "Yes",
        ),
        KeySpec {
            phase: Phase::OperationalAndFullFeature,
            ..connection(
                Key::MaxRecvDataSegmentLength,
                "MaxRecvDataSegmentLength",
                "13.12",
                Rule::DeclaredNumber(512, LENGTH_MAX),
                "8192",
            )
        },
        session(
            Key::MaxBurstLength,
            "MaxBurstLength",
            "13.13",
            false,
            Rule::Minimum(512, LENGTH_MAX),
            "262144",
        ),
        session(
            Key::FirstBurstLength,
            "FirstBurstLength",
            "13.14",
            false,
            Rule::Minimum(512, LENGTH_MAX),
            "65536",
        ),
        session(
            Key::DefaultTime2Wait,
            "DefaultTime2Wait",
            "13.15",
            true,
            Rule::Maximum(0, 3600),
            "2",
        ),
        session(
            Key::DefaultTime2Retain,
            "DefaultTime2Retain",
            "13.16",
            true,
            Rule::Minimum(0, 3600),
            "20",
        ),
        session(
            Key::MaxOutstandingR2T,
            "MaxOutstandingR2T",
            "13.17",
            false,
            Rule::Minimum(1, 65535),
            "1",
        ),
        session(
            Key::DataPduInOrder,
            "DataPDUInOrder",
            "13.18",
            false,
            Rule::Or,
            "Yes",
        ),
        session(
            Key::DataSequenceInOrder,
            "DataSequenceInOrder",
            "13.19",
            false,
            Rule::Or,
            "Yes",
        ),
        session(
            Key::ErrorRecoveryLevel,
            "ErrorRecoveryLevel",
            "13.20",
            true,
            Rule::Minimum(0, 2),
            "0",
        ),
        session(
            Key::TaskReporting,
            "TaskReporting",
            "13.23",
            false,
            Rule::List(&["RFC3720", "ResponseFence", "FastAbort"]),
            "RFC3720",
        ),
        session(
            Key::ProtocolLevel,
            "iSCSIProtocolLevel",
            "13.24",
            false,
            Rule::Minimum(0, 31),
            "1",
        ),
        connection(Key::IfMarker, "IFMarker", "13.25", Rule::Obsolete, "No"),
        connection(Key::OfMarker, "OFMarker", "13.25", Rule::Obsolete, "No"),
        connection(Key::IfMarkInt, "IFMarkInt", "13.25", Rule::Obsolete, ""),
        connection(Key::OfMarkInt, "OFMarkInt", "13.25", Rule::Obsolete, ""),
    ]
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::text;

    #[test]
    fn the_table_stands_in_the_order_of_the_keys() {
        for (index, spec) in KEYS.iter().enumerate() {
            assert_eq!(spec.key as usize, index, "{}", spec.name);
            assert_eq!(Key::from_name(spec.name), Some(spec.key));
        }
        let names: BTreeSet<_> = KEYS.iter().map(|spec| spec.name).collect();
        assert_eq!(names.len(), KEYS.len());
        assert_eq!(Key::from_name("headerdigest"), None);
    }

    #[test]
    fn every_negotiated_key_has_a_default_inside_its_own_rule() {
        for spec in KEYS.iter().filter(|spec| spec.rule.is_negotiated()) {
            let fits = match spec.rule {
                Rule::List(words) => words.contains(&spec.default),
                Rule::And | Rule::Or => text::boolean(spec.default).is_some(),
                Rule::Minimum(low, high) | Rule::Maximum(low, high) => text::number(spec.default)
                    .is_some_and(|n| (u64::from(low)..=u64::from(high)).contains(&n)),
                _ => false,
            };
            assert!(fits, "{}", spec.name);
        }
    }
}
