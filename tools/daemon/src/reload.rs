//! From what is served to what is to be served: the difference as a plan, before anything is touched.
//!
//! SIGHUP, `holdfast reload` and every administrative command come through here, so that there is one list of what can
//! change while serving. What cannot makes the plan fail as a whole.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use admin_api::Size;
use iscsi_frontend::{Algorithm, Portal};
use target_core::scsi_model::control::SystemId;

use crate::config::{
    Authentication, Config, Peer, QueueConfig, SessionKeys, TargetConfig, VolumeConfig, algorithm_name,
};

/// What is to be done, in this order (see `service::apply`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// Volumes to be opened.
    pub(crate) add_volumes: Vec<VolumeConfig>,
    /// Volumes that get another size: number and bytes.
    pub(crate) resize_volumes: Vec<(u32, u64)>,
    /// Volumes with another quota than they had, and it.
    pub(crate) quotas: Vec<(u32, u64)>,
    /// Portals to be opened.
    pub(crate) add_portals: Vec<SocketAddr>,
    /// Portals that are in another portal group than they were.
    pub(crate) regroup_portals: Vec<Portal>,
    /// Targets that are new, or whose LUNs or initiators differ.
    pub(crate) set_targets: Vec<TargetConfig>,
    /// Targets that go, by name.
    pub(crate) remove_targets: Vec<String>,
    /// Portals that go.
    pub(crate) remove_portals: Vec<SocketAddr>,
    /// Volumes that go.
    pub(crate) remove_volumes: Vec<u32>,
    /// The mirrors of generations come from somewhere else.
    pub(crate) generations: bool,
    /// Another name server is told, or none, or otherwise.
    pub(crate) isns: bool,
    /// Logins agree on other things.
    pub(crate) sessions: Option<SessionKeys>,
    /// Discovery sessions must prove this.
    pub(crate) discovery: Option<Authentication>,
    /// Sessions look at their sockets for so long before they sleep; zero: not at all.
    pub(crate) longest_look: Option<Duration>,
    /// Logins may use these hashes of CHAP, best first.
    pub(crate) chap_algorithms: Option<Vec<Algorithm>>,
    /// Peers that are new, or have another address.
    pub(crate) set_peers: Vec<(SystemId, Peer)>,
    /// Peers that go.
    pub(crate) remove_peers: Vec<SystemId>,
    /// Queues on disk that change, of peers that stay or come.
    pub(crate) queues: Vec<(SystemId, Option<QueueConfig>)>,
    /// Copies go at another pace, in bytes a second; 0: as fast as they can.
    pub(crate) copy_rate: Option<u64>,
    /// Copies mind the hosts' latency otherwise, in percent; 0: not at all.
    pub(crate) latency_factor: Option<u32>,
    /// Hosts' writes to async pairs may wait so long for the link; zero: not at all.
    pub(crate) longest_hold: Option<Duration>,
}

impl Plan {
    /// What differs between `now` and `then`, or everything that cannot change while serving, a sentence each.
    pub(crate) fn new(now: &Config, then: &Config) -> Result<Self, Vec<String>> {
        let mut refused = Vec::new();
        let mut fixed = |key: &str, same: bool| {
            if !same {
                refused.push(format!(
                    "{key} cannot change while serving: restart holdfastd to apply it"
                ));
            }
        };
        fixed("system.id", now.system.id == then.system.id);
        fixed("system.state_dir", now.system.state_dir == then.system.state_dir);
        fixed(
            "system.track_size",
            now.system.track_size == then.system.track_size,
        );
        fixed("system.workers", now.system.workers == then.system.workers);
        fixed(
            "system.work_stealing",
            now.system.work_stealing == then.system.work_stealing,
        );
        fixed("admin.socket", now.admin.socket == then.admin.socket);
        fixed("admin.http", now.admin.http == then.admin.http);
        fixed("link", now.link == then.link);
        fixed(
            "replication.journal_limit",
            now.replication.journal_limit == then.replication.journal_limit,
        );
        fixed(
            "replication.auto_resume",
            now.replication.auto_resume == then.replication.auto_resume,
        );
        fixed(
            "replication.resume_by_command",
            now.replication.resume_by_command == then.replication.resume_by_command,
        );
        let mut plan = Self::default();
        for (number, volume) in &then.volumes {
            match now.volumes.get(number) {
                None => plan.add_volumes.push(volume.clone()),
                Some(old) if old == volume => {}
                Some(old) if served_on(old, volume) => {
                    let another = |old: Option<u64>, new: Option<u64>| new.filter(|_| new != old);
                    let resized = another(old.size, volume.size);
                    plan.resize_volumes.extend(resized.map(|bytes| (*number, bytes)));
                    let limited = another(old.quota, volume.quota);
                    plan.quotas.extend(limited.map(|bytes| (*number, bytes)));
                }
                Some(_) => refused.push(format!(
                    "volume {number} can only change its size, and the quota it has, while serving: take it out, reload, and put it in again"
                )),
            }
        }
        for target in then.targets.values() {
            if let Some(old) = now.targets.get(&target.iqn)
                && old.relative_port_offset != target.relative_port_offset
            {
                let iqn = &target.iqn;
                refused.push(format!(
                    "relative_port_offset of target {iqn} cannot change while serving: take the target out, reload, and put it in again"
                ));
            }
        }
        plan.remove_volumes = now
            .volumes
            .keys()
            .filter(|number| !then.volumes.contains_key(number))
            .copied()
            .collect();
        let known = |(id, peer): &(&SystemId, &Peer)| now.peers.get(*id) != Some(*peer);
        let new = then.peers.iter().filter(known);
        plan.set_peers = new.map(|(id, peer)| (id.clone(), peer.clone())).collect();
        let queue_of =
            |config: &Config, id: &SystemId| config.peers.get(id).and_then(|peer| peer.queue.clone());
        let queues = then.peers.keys().map(|id| (id.clone(), queue_of(then, id)));
        plan.queues = queues.filter(|(id, queue)| queue_of(now, id) != *queue).collect();
        let gone = now.peers.keys().filter(|id| !then.peers.contains_key(*id));
        plan.remove_peers = gone.cloned().collect();
        plan.isns = now.isns != then.isns;
        plan.generations = now.generations != then.generations;
        plan.sessions = (now.sessions != then.sessions).then(|| then.sessions.clone());
        plan.discovery = (now.discovery != then.discovery).then(|| then.discovery.clone());
        plan.longest_look = (now.longest_look != then.longest_look).then_some(then.longest_look);
        plan.chap_algorithms =
            (now.chap_algorithms != then.chap_algorithms).then(|| then.chap_algorithms.clone());
        let copy_rate = then.replication.copy_rate;
        plan.copy_rate = (now.replication.copy_rate != copy_rate).then(|| copy_rate.unwrap_or(0));
        let latency_factor = then.replication.latency_factor;
        plan.latency_factor = (now.replication.latency_factor != latency_factor).then_some(latency_factor);
        let longest_hold = then.replication.longest_hold;
        plan.longest_hold = (now.replication.longest_hold != longest_hold).then_some(longest_hold);
        plan.set_targets = then
            .targets
            .values()
            .filter(|target| now.targets.get(&target.iqn) != Some(target))
            .cloned()
            .collect();
        plan.remove_targets = now
            .targets
            .keys()
            .filter(|iqn| !then.targets.contains_key(*iqn))
            .cloned()
            .collect();
        let moved = then.portals.iter().filter(|portal| {
            let mut before = now.portals.iter();
            before.any(|old| old.address == portal.address && old.group != portal.group)
        });
        plan.regroup_portals = moved.copied().collect();
        let address = |portal: &Portal| portal.address;
        let portals = |config: &Config| config.portals.iter().map(address).collect::<BTreeSet<_>>();
        let (old, new) = (portals(now), portals(then));
        plan.add_portals = new.difference(&old).copied().collect();
        plan.remove_portals = old.difference(&new).copied().collect();
        if refused.is_empty() {
            Ok(plan)
        } else {
            Err(refused)
        }
    }

    /// What it does, a line each.
    pub(crate) fn describe(&self, now: &Config) -> Vec<String> {
        let mut lines = Vec::new();
        for volume in &self.add_volumes {
            lines.push(format!("volume {} ({}) added", volume.number, volume.name));
        }
        for (number, bytes) in &self.resize_volumes {
            lines.push(format!("volume {number} resized to {}", Size(*bytes)));
        }
        for (number, bytes) in &self.quotas {
            lines.push(format!("volume {number} may allocate {}", Size(*bytes)));
        }
        for portal in &self.add_portals {
            lines.push(format!("portal {portal} opened"));
        }
        for Portal { address, group } in &self.regroup_portals {
            lines.push(format!("portal {address} is in portal group {group}"));
        }
        for target in &self.set_targets {
            let what = if now.targets.contains_key(&target.iqn) {
                "changed"
            } else {
                "added"
            };
            lines.push(format!("target {} {what}", target.iqn));
        }
        lines.extend(
            self.remove_targets
                .iter()
                .map(|iqn| format!("target {iqn} removed")),
        );
        lines.extend(
            self.remove_portals
                .iter()
                .map(|portal| format!("portal {portal} closed")),
        );
        lines.extend(
            self.remove_volumes
                .iter()
                .map(|number| format!("volume {number} removed")),
        );
        for (id, peer) in &self.set_peers {
            let before = now.peers.get(id);
            if before.is_none_or(|before| before.address != peer.address) {
                let what = if before.is_some() { "is" } else { "added" };
                lines.push(format!("peer {id} {what} at {}", peer.address));
            }
            if before.map_or("none", Peer::compression_name) != peer.compression_name() {
                let name = peer.compression_name();
                lines.push(format!("data to peer {id} is compressed by {name}"));
            }
        }
        for (id, queue) in &self.queues {
            lines.push(match queue {
                Some(queue) => format!("peer {id} has a queue on disk: {queue}"),
                None => format!("peer {id} has no queue on disk"),
            });
        }
        lines.extend(self.remove_peers.iter().map(|id| format!("peer {id} removed")));
        if self.isns {
            lines.push("isns changed".to_owned());
        }
        if self.generations {
            lines.push("generations: pool or directory changed".to_owned());
        }
        for (key, value) in self.sessions.iter().flat_map(|keys| keys.changes(&now.sessions)) {
            lines.push(match value {
                Some(value) => format!("new sessions: {key} = {value}"),
                None => format!("new sessions: {key} as it is by default"),
            });
        }
        if let Some(Authentication { chap, mutual }) = &self.discovery {
            lines.push(match (chap.is_empty(), mutual) {
                (true, _) => "discovery sessions need not authenticate".to_owned(),
                (false, None) => "discovery sessions authenticate with CHAP".to_owned(),
                (false, Some(_)) => "discovery sessions authenticate with CHAP, both ways".to_owned(),
            });
        }
        match self.longest_look.map(|look| look.as_micros()) {
            Some(microseconds @ 1..) => lines.push(format!(
                "sessions look at their sockets for {microseconds} microseconds at most before they sleep"
            )),
            Some(0) => lines.push("sessions do not look at their sockets before they sleep".to_owned()),
            None => {}
        }
        if let Some(algorithms) = &self.chap_algorithms {
            let names: Vec<_> = algorithms
                .iter()
                .map(|algorithm| algorithm_name(*algorithm))
                .collect();
            lines.push(format!("logins with CHAP use {}", names.join(", ")));
        }
        match self.copy_rate {
            Some(bytes @ 1..) => lines.push(format!("copies go at {} a second at most", Size(bytes))),
            Some(0) => lines.push("copies go as fast as they can".to_owned()),
            None => {}
        }
        match self.latency_factor {
            Some(percent @ 1..) => lines.push(format!(
                "copies let hosts' I/O take {}.{:02} times as long at most",
                percent / 100,
                percent % 100
            )),
            Some(0) => lines.push("copies do not mind how long hosts' I/O takes".to_owned()),
            None => {}
        }
        match self.longest_hold {
            Some(Duration::ZERO) => lines.push("writes to async pairs do not wait for the link".to_owned()),
            Some(longest) => lines.push(format!(
                "writes to async pairs wait for the link {} s at most",
                longest.as_secs_f64()
            )),
            None => {}
        }
        if lines.is_empty() {
            lines.push("nothing has changed".to_owned());
        }
        lines
    }
}

/// Nothing differs but the size, and the quota if both have one.
fn served_on(old: &VolumeConfig, new: &VolumeConfig) -> bool {
    let still = VolumeConfig {
        size: new.size,
        quota: new.quota,
        ..old.clone()
    };
    still == *new && old.quota.is_some() == new.quota.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::embedded;
    use replication::link::Compression;

    fn config() -> Config {
        Config::load(None, []).unwrap()
    }

    fn refused(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut then = config();
        change(&mut then);
        Plan::new(&config(), &then).unwrap_err()
    }

    fn planned(change: impl FnOnce(&mut Config)) -> Plan {
        let mut then = config();
        change(&mut then);
        Plan::new(&config(), &then).unwrap()
    }

    fn portal(address: &str) -> Portal {
        Portal::from(address.parse::<SocketAddr>().unwrap())
    }

    #[test]
    fn nothing() {
        let plan = planned(|_| {});
        assert_eq!(plan, Plan::default());
        assert_eq!(plan.describe(&config()), ["nothing has changed"]);
    }

    #[test]
    fn the_limits_of_new_sessions_change_while_serving() {
        let text = |keys: &str| {
            let from = "[iscsi]\n";
            embedded::TEXT.replacen(from, &format!("{from}{keys}"), 1)
        };
        let parsed = |keys: &str| Config::parse("a.toml", &text(keys), []).unwrap();
        let now = parsed("max_connections = 2\nkeys = { immediate_data = false }\n");
        let then = parsed("keys = { max_connections = 3, data_digest = [\"CRC32C\"] }\n");
        assert_eq!(
            Plan::new(&now, &then).unwrap().describe(&now),
            [
                "new sessions: data_digest = [\"CRC32C\"]",
                "new sessions: max_connections = 3",
                "new sessions: immediate_data as it is by default",
            ]
        );
    }

    #[test]
    fn the_look_before_sleep_changes_while_serving() {
        let plan = planned(|then| then.longest_look = Duration::from_micros(50));
        assert_eq!(
            plan.describe(&config()),
            ["sessions look at their sockets for 50 microseconds at most before they sleep"]
        );
        let mut looking = config();
        looking.longest_look = Duration::from_micros(50);
        let plan = Plan::new(&looking, &config()).unwrap();
        assert_eq!(
            plan.describe(&looking),
            ["sessions do not look at their sockets before they sleep"]
        );
    }

    #[test]
    fn the_hashes_of_chap_change_while_serving() {
        let plan = planned(|then| then.chap_algorithms = vec![Algorithm::Sha256, Algorithm::Md5]);
        assert_eq!(plan.describe(&config()), ["logins with CHAP use SHA-256, MD5"]);
    }

    #[test]
    fn how_long_writes_wait_for_the_link_changes_while_serving() {
        let plan = planned(|then| then.replication.longest_hold = Duration::from_millis(500));
        assert_eq!(plan.longest_hold, Some(Duration::from_millis(500)));
        assert_eq!(
            plan.describe(&config()),
            ["writes to async pairs wait for the link 0.5 s at most"]
        );
        let plan = planned(|then| then.replication.longest_hold = Duration::ZERO);
        assert_eq!(
            plan.describe(&config()),
            ["writes to async pairs do not wait for the link"]
        );
    }

    #[test]
    fn the_pace_of_copies_changes_while_serving() {
        let plan = planned(|then| then.replication.copy_rate = Some(6 << 20));
        assert_eq!(plan.copy_rate, Some(6 << 20));
        assert_eq!(plan.describe(&config()), ["copies go at 6MiB a second at most"]);
        let plan = planned(|then| then.replication.latency_factor = 150);
        assert_eq!(
            plan.describe(&config()),
            ["copies let hosts' I/O take 1.50 times as long at most"]
        );
    }

    #[test]
    fn peers_come_move_and_go_while_serving_and_the_link_itself_does_not() {
        let id = |text: &str| SystemId::new(text).unwrap();
        let mut now = config();
        let peer = |address: &str, compression| Peer {
            address: address.to_owned(),
            compression,
            queue: None,
        };
        let (lz4, zstd) = (Some(Compression::Lz4), Some(Compression::Zstd));
        now.peers.insert(id("HF-B"), peer("a:1", None));
        now.peers.insert(id("HF-C"), peer("a:2", None));
        now.peers.insert(id("HF-E"), peer("a:4", lz4));
        let mut then = now.clone();
        then.peers.remove(&id("HF-B"));
        then.peers.insert(id("HF-C"), peer("b:2", None));
        then.peers.insert(id("HF-D"), peer("a:3", zstd));
        let queue = QueueConfig {
            file: "/q".into(),
            size: 1 << 30,
        };
        let queued = Peer {
            queue: Some(queue),
            ..peer("a:4", None)
        };
        then.peers.insert(id("HF-E"), queued);
        let plan = Plan::new(&now, &then).unwrap();
        let lines = [
            "peer HF-C is at b:2",
            "peer HF-D added at a:3",
            "data to peer HF-D is compressed by zstd",
            "data to peer HF-E is compressed by none",
            "peer HF-E has a queue on disk: 1GiB in /q",
            "peer HF-B removed",
        ];
        assert_eq!(plan.describe(&now), lines);
        let lines = refused(|then| {
            then.link = Some(crate::config::Link {
                listen: "127.0.0.1:3261".parse().unwrap(),
                cert: "a.pem".into(),
                key: "a.key".into(),
                ca: "ca.pem".into(),
            });
        });
        assert!(lines[0].starts_with("link cannot change"), "{lines:?}");
    }

    #[test]
    fn what_can_change() {
        let iqn = "iqn.2026-11.io.holdfast:default";
        let plan = planned(|then| {
            let bcv2 = then.volumes.remove(&3).unwrap();
            then.volumes.insert(
                4,
                VolumeConfig {
                    number: 4,
                    name: "x".into(),
                    ..bcv2
                },
            );
            then.volumes.get_mut(&1).unwrap().size = Some(2 << 30);
            then.targets.get_mut(iqn).unwrap().luns.remove(&2);
            then.targets.insert(
                "iqn.2026-11.x:y".into(),
                TargetConfig {
                    iqn: "iqn.2026-11.x:y".into(),
                    ..then.targets[iqn].clone()
                },
            );
            then.portals = vec![portal("[::1]:3260")];
        });
        assert_eq!(
            plan.describe(&config()),
            [
                "volume 4 (x) added",
                "volume 1 resized to 2GiB",
                "portal [::1]:3260 opened",
                "target iqn.2026-11.io.holdfast:default changed",
                "target iqn.2026-11.x:y added",
                "portal 127.0.0.1:3260 closed",
                "volume 3 removed",
            ]
        );
    }

    #[test]
    fn a_portal_goes_to_another_group_while_serving() {
        let plan = planned(|then| then.portals[0].group = 7);
        assert_eq!(
            plan.describe(&config()),
            ["portal 127.0.0.1:3260 is in portal group 7"]
        );
    }

    #[test]
    fn what_cannot_is_refused_whole() {
        let lines = refused(|then| {
            then.system.track_size = 1 << 17;
            then.admin.http = None;
            then.volumes.get_mut(&1).unwrap().thin = false;
            then.portals.clear();
        });
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(
            lines[0].starts_with("system.track_size cannot change"),
            "{lines:?}"
        );
        assert!(
            lines[2].starts_with("volume 1 can only change its size"),
            "{lines:?}"
        );
    }

    #[test]
    fn a_quota_is_raised_while_serving_and_neither_given_nor_taken() {
        let mut limited = config();
        limited.volumes.get_mut(&1).unwrap().quota = Some(1 << 30);
        let mut raised = limited.clone();
        raised.volumes.get_mut(&1).unwrap().quota = Some(2 << 30);
        let plan = Plan::new(&limited, &raised).unwrap();
        assert_eq!(plan.quotas, [(1, 2 << 30)]);
        assert_eq!(plan.describe(&limited), ["volume 1 may allocate 2GiB"]);
        assert!(Plan::new(&config(), &limited).is_err() && Plan::new(&limited, &config()).is_err());
    }
}
