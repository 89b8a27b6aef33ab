//! What a server is to know of us, and the requests that say so (RFC 4171 5.6.5.1, 5.6.5.2, 5.6.5.4).
//!
//! There are four. The first registers everything at once, and replaces what was there: a target restarted with less to
//! offer leaves nothing behind, and servers differ in which partial updates they take. The second deregisters nodes and nothing
//! else. The third looks up what the server knows, which also keeps the registration from expiring. The fourth
//! deregisters the entity with all there is in it.

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeSet;

use super::{
    attribute::{self, Attribute, ISCSI, TARGET, tag},
    message::{Message, flag, function},
};

/// A network entity with its portals and targets.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Registration {
    /// Entity identifier: 1 to 255 bytes, one of a kind at the server.
    pub entity: String,
    /// Where targets are reached.
    pub portals: Vec<RegisteredPortal>,
    /// The targets.
    pub nodes: Vec<RegisteredNode>,
}

/// A portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisteredPortal {
    /// Address and TCP port.
    pub address: SocketAddr,
    /// Portal group tag.
    pub group: u16,
    /// Where inquiries are answered, if at all.
    pub esi: Option<EsiWish>,
}

/// The wish to be asked from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EsiWish {
    /// TCP port of the portal's address.
    pub port: u16,
    /// Seconds between two inquiries; the server may choose others.
    pub interval: u32,
}

/// A target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredNode {
    /// iSCSI name.
    pub name: String,
    /// What people call it.
    pub alias: Option<String>,
    /// The portal groups through which it is reached; empty: all.
    pub portal_groups: Vec<u16>,
}

impl RegisteredNode {
    fn is_in_group(&self, group: u16) -> bool {
        self.portal_groups.is_empty() || self.portal_groups.contains(&group)
    }
}

impl Registration {
    /// Is there anything that an initiator could be told? An entity needs a node, and a node a portal to be of use.
    pub fn is_empty(&self) -> bool {
        self.portals.is_empty() || self.nodes.is_empty()
    }

    /// The same without inquiries, for a server that does not send any.
    #[must_use]
    pub fn without_esi(mut self) -> Self {
        for portal in &mut self.portals {
            portal.esi = None;
        }
        self
    }

    /// Is a node of this name in it?
    pub(super) fn has_node(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.name == name)
    }

    /// Registers all of it in the place of whatever the entity had. `source` is one of its nodes.
    pub(super) fn register(&self, transaction: u16, source: &str) -> Message {
        let mut attributes = vec![
            Attribute::text(tag::ISCSI_NAME, source),
            Attribute::text(tag::ENTITY, &self.entity),
            Attribute::delimiter(),
            Attribute::text(tag::ENTITY, &self.entity),
            Attribute::number(tag::ENTITY_PROTOCOL, ISCSI),
        ];
        for portal in &self.portals {
            attributes.extend(Attribute::portal(portal.address));
            if let Some(esi) = portal.esi {
                attributes.push(Attribute::number(tag::ESI_INTERVAL, esi.interval));
                attributes.push(Attribute::number(tag::ESI_PORT, esi.port.into()));
            }
        }
        for node in &self.nodes {
            attributes.push(Attribute::text(tag::ISCSI_NAME, &node.name));
            attributes.push(Attribute::number(tag::ISCSI_NODE_TYPE, TARGET));
            if let Some(alias) = &node.alias {
                attributes.push(Attribute::text(tag::ISCSI_ALIAS, alias));
            }
            // Behind a node: through which portals it is reached, and in which group of its each is (RFC 4171 5.6.5.1). One tag
            // for several portals would do by the standard, but not for every server.
            for portal in &self.portals {
                attributes.push(if node.is_in_group(portal.group) {
                    Attribute::number(tag::PORTAL_GROUP_TAG, portal.group.into())
                } else {
                    // No tag: the node is not reached there (RFC 4171 3.4).
                    Attribute::empty(tag::PORTAL_GROUP_TAG)
                });
                attributes.push(Attribute::address(tag::GROUP_ADDRESS, portal.address.ip()));
                attributes.push(Attribute::number(tag::GROUP_PORT, portal.address.port().into()));
            }
        }
        request(function::REGISTER, flag::REPLACE, transaction, &attributes)
    }

    /// Asks what the server knows of it.
    pub(super) fn look_up(&self, transaction: u16, source: &str) -> Message {
        let attributes = [
            Attribute::text(tag::ISCSI_NAME, source),
            Attribute::text(tag::ENTITY, &self.entity),
            Attribute::delimiter(),
            Attribute::empty(tag::ENTITY),
            Attribute::empty(tag::PORTAL_ADDRESS),
            Attribute::empty(tag::PORTAL_PORT),
            Attribute::empty(tag::ISCSI_NAME),
        ];
        request(function::QUERY, 0, transaction, &attributes)
    }

    /// Is every portal and node of it in the answer to [`Self::look_up`]?
    pub(super) fn is_in(&self, answer: &[Attribute]) -> bool {
        let mut names = BTreeSet::new();
        let mut portals = BTreeSet::new();
        let mut address = None;
        // The message key comes back as well, and says nothing about what is there.
        let found = answer
            .iter()
            .skip_while(|attribute| attribute.tag != tag::DELIMITER);
        for attribute in found {
            match attribute.tag {
                tag::ISCSI_NAME => drop(names.insert(attribute.as_text().unwrap_or_default())),
                tag::PORTAL_ADDRESS => address = Some(attribute.value.as_slice()),
                tag::PORTAL_PORT => drop(portals.insert((address, attribute.as_number()))),
                _ => {}
            }
        }
        let has_portal = |portal: &RegisteredPortal| {
            let [address, port] = Attribute::portal(portal.address);
            portals.contains(&(Some(address.value.as_slice()), port.as_number()))
        };
        self.nodes.iter().all(|node| names.contains(node.name.as_str()))
            && self.portals.iter().all(has_portal)
    }

    /// Deregisters nodes.
    pub(super) fn deregister_nodes<'a>(
        transaction: u16,
        source: &str,
        names: impl Iterator<Item = &'a str>,
    ) -> Message {
        let mut attributes = vec![Attribute::text(tag::ISCSI_NAME, source), Attribute::delimiter()];
        attributes.extend(names.map(|name| Attribute::text(tag::ISCSI_NAME, name)));
        request(function::DEREGISTER, 0, transaction, &attributes)
    }

    /// Deregisters the entity and all there is in it.
    pub(super) fn deregister(&self, transaction: u16, source: &str) -> Message {
        let attributes = [
            Attribute::text(tag::ISCSI_NAME, source),
            Attribute::delimiter(),
            Attribute::text(tag::ENTITY, &self.entity),
        ];
        request(function::DEREGISTER, 0, transaction, &attributes)
    }
}

fn request(function: u16, flags: u16, transaction: u16, attributes: &[Attribute]) -> Message {
    let mut payload = Vec::new();
    for attribute in attributes {
        attribute.write(&mut payload);
    }
    Message {
        function,
        flags: flags | flag::CLIENT,
        transaction,
        payload,
    }
}

/// The addresses that a server elsewhere can tell initiators, of those that are open: `local` is the address that it is
/// reached from. A portal on all addresses is told as that one; one on loopback is of use on this machine only.
pub fn tellable(address: SocketAddr, local: IpAddr) -> Option<SocketAddr> {
    let local = local.to_canonical();
    let ip = address.ip();
    if ip.is_unspecified() {
        return (ip.is_ipv4() == local.is_ipv4()).then(|| SocketAddr::new(local, address.port()));
    }
    (!ip.to_canonical().is_loopback() || local.is_loopback()).then_some(address)
}

/// The number of the registration period in an answer, in seconds.
pub(super) fn period(answer: &[Attribute]) -> Option<u32> {
    let period = answer
        .iter()
        .rfind(|attribute| attribute.tag == tag::REGISTRATION_PERIOD)?;
    period.as_number().filter(|seconds| *seconds > 0)
}

/// Status and attributes of a response.
pub(super) fn response(
    message: &Message,
) -> Result<(super::message::Status, Vec<Attribute>), super::message::IsnsError> {
    let (status, rest) = attribute::word(&message.payload).ok_or(super::message::IsnsError::NoStatus)?;
    // What follows a refusal is of no interest, and some servers cut it short.
    let attributes = if status == 0 {
        attribute::parse(rest)?
    } else {
        Vec::new()
    };
    Ok((super::message::Status(status), attributes))
}
