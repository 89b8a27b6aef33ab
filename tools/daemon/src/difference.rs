//! What a reload would change, thing by thing and key by key: `holdfast reload --check`.
//!
//! A configuration is written down as the things it has (a table, a portal, a volume, a target, a LUN, an initiator's rule), each with what is
//! said of it; two of them are compared line by line. The structures are taken apart completely, so that no key can be forgotten
//! here when it is new there.

use std::fmt::{self, Display};

use admin_api::{Change, ChangeKind, Size};
use iscsi_frontend::{KeepaliveTimes, Portal};
use target_core::identities::ConfiguredDesignators;

use crate::config::{
    Admin, Authentication, Config, GenerationsConfig, InitiatorConfig, Isns, Link, LunConfig, LunConfigs,
    Media, Peer, Replication, Secret, SessionKeys, System, TargetConfig, VolumeConfig, algorithm_name,
};

/// What differs: what is new or has other keys in the order of `then`, then what is gone.
pub(crate) fn difference(now: &Config, then: &Config) -> Vec<Change> {
    let (now, then) = (Things::of(now), Things::of(then));
    let mut changes = Vec::new();
    for thing in &then.0 {
        match now.find(&thing.name) {
            None => changes.push(thing.whole(ChangeKind::Added)),
            Some(old) => old.changes_to(thing, &mut changes),
        }
    }
    let gone = now.0.iter().filter(|thing| then.find(&thing.name).is_none());
    changes.extend(gone.map(|thing| thing.whole(ChangeKind::Removed)));
    changes
}

/// A configuration, written down.
#[derive(Default)]
struct Things(Vec<Thing>);

/// Something that can be added and removed.
struct Thing {
    name: String,
    says: Vec<(&'static str, Said)>,
}

/// What is said of a thing under a key.
#[derive(Clone, PartialEq, Eq)]
struct Said {
    text: String,
    /// Compared, and never shown.
    secrets: Vec<Secret>,
}

impl Thing {
    fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            says: Vec::new(),
        }
    }

    fn says(mut self, key: &'static str, value: impl Display) -> Self {
        let said = Said {
            text: value.to_string(),
            secrets: Vec::new(),
        };
        self.says.push((key, said));
        self
    }

    /// As [`Self::says`], if there is anything to say.
    fn may_say(self, key: &'static str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.says(key, value),
            None => self,
        }
    }

    fn says_keys(mut self, keys: &SessionKeys) -> Self {
        for (key, value) in keys.said() {
            self = self.says(key, value);
        }
        self
    }

    fn says_authentication(mut self, authentication: &Authentication) -> Self {
        let Authentication { chap, mutual } = authentication;
        for (key, chaps) in [("chap", chap.as_slice()), ("mutual", mutual.as_slice())] {
            if !chaps.is_empty() {
                let said = Said {
                    text: list(chaps.iter().map(|chap| &chap.user)),
                    secrets: chaps.iter().map(|chap| chap.secret.clone()).collect(),
                };
                self.says.push((key, said));
            }
        }
        self
    }

    fn find(&self, key: &str) -> Option<&Said> {
        self.says
            .iter()
            .find(|(known, _)| *known == key)
            .map(|(_, said)| said)
    }

    /// It comes, or goes, with all that is said of it.
    fn whole(&self, change: ChangeKind) -> Change {
        let said = self.says.iter().map(|(key, said)| format!("{key} {}", said.text));
        let said = Some(list(said)).filter(|said| !said.is_empty());
        let (before, after) = match change {
            ChangeKind::Removed => (said, None),
            ChangeKind::Added | ChangeKind::Changed => (None, said),
        };
        Change {
            change,
            of: self.name.clone(),
            key: None,
            before,
            after,
        }
    }

    fn changes_to(&self, new: &Self, changes: &mut Vec<Change>) {
        let change = |key: &str, before: Option<&Said>, after: Option<&Said>| {
            let is_other_secret = before.map(|said| &said.text) == after.map(|said| &said.text);
            let after = after.map(|said| {
                let other = if is_other_secret { " (another secret)" } else { "" };
                format!("{}{other}", said.text)
            });
            Change {
                change: ChangeKind::Changed,
                of: new.name.clone(),
                key: Some(key.to_owned()),
                before: before.map(|said| said.text.clone()),
                after,
            }
        };
        for (key, said) in &new.says {
            let before = self.find(key);
            if before != Some(said) {
                changes.push(change(key, before, Some(said)));
            }
        }
        for (key, said) in &self.says {
            if new.find(key).is_none() {
                changes.push(change(key, Some(said), None));
            }
        }
    }
}

impl Things {
    fn of(config: &Config) -> Self {
        let Config {
            source: _,
            system,
            portals,
            isns,
            sessions,
            discovery,
            longest_look,
            chap_algorithms,
            admin,
            replication,
            generations,
            link,
            peers,
            volumes,
            targets,
        } = config;
        let mut things = Self::default();
        things.system(system);
        let algorithms = chap_algorithms.iter().map(|algorithm| algorithm_name(*algorithm));
        let iscsi = Thing::new("iscsi")
            .says("chap_algorithms", list(algorithms))
            .says("look_before_sleep", longest_look.as_micros())
            .says_keys(sessions);
        things.0.push(iscsi);
        for Portal { address, group } in portals {
            things
                .0
                .push(Thing::new(format!("portal {address}")).says("group", group));
        }
        let authentication = Thing::new("iscsi.discovery").says_authentication(discovery);
        things.0.push(authentication);
        things.rest(admin, replication, generations);
        if let Some(Isns {
            server,
            entity,
            esi_interval,
        }) = isns
        {
            let isns = Thing::new("isns")
                .says("server", server)
                .may_say("entity", entity.as_ref())
                .says("esi_interval", esi_interval);
            things.0.push(isns);
        }
        if let Some(Link {
            listen,
            cert,
            key,
            ca,
        }) = link
        {
            let link = Thing::new("link")
                .says("listen", listen)
                .says("cert", cert.display())
                .says("key", key.display())
                .says("ca", ca.display());
            things.0.push(link);
        }
        for (id, peer) in peers {
            let Peer {
                address,
                compression: _,
                queue,
            } = peer;
            let mut peer = Thing::new(format!("peer {id}"))
                .says("address", address)
                .says("compression", peer.compression_name());
            if let Some(queue) = queue {
                peer = peer.says("queue", queue);
            }
            things.0.push(peer);
        }
        things.0.extend(volumes.values().map(volume));
        for target in targets.values() {
            things.target(target);
        }
        things
    }

    fn find(&self, name: &str) -> Option<&Thing> {
        self.0.iter().find(|thing| thing.name == name)
    }

    fn system(&mut self, system: &System) {
        let System {
            id,
            state_dir,
            track_size,
            workers,
            work_stealing,
        } = system;
        let system = Thing::new("system")
            .says("id", id)
            .says("state_dir", state_dir.display())
            .says("track_size", Size(u64::from(*track_size)))
            .says("workers", workers)
            .says("work_stealing", work_stealing);
        self.0.push(system);
    }

    fn rest(&mut self, admin: &Admin, replication: &Replication, generations: &GenerationsConfig) {
        let Admin { socket, http } = admin;
        let admin = Thing::new("admin").says("socket", socket.display());
        self.0.push(admin.may_say("http", http.as_ref()));
        let Replication {
            copy_rate,
            latency_factor,
            longest_hold,
            journal_limit,
            auto_resume,
            resume_by_command,
        } = replication;
        let replication = Thing::new("replication")
            .may_say("copy_rate", copy_rate.map(Size))
            .says(
                "latency_factor",
                format_args!("{}.{:02}", latency_factor / 100, latency_factor % 100),
            )
            .says("longest_hold", longest_hold.as_secs_f64())
            .may_say("journal_limit", journal_limit.map(Size))
            .says("auto_resume", auto_resume)
            .says("resume_by_command", format_args!("[{}]", list(resume_by_command)));
        self.0.push(replication);
        let GenerationsConfig { pool, directory } = generations;
        let generations = Thing::new("generations")
            .says("pool", format_args!("[{}]", list(pool)))
            .may_say("directory", directory.as_ref().map(|path| path.display()));
        self.0.push(generations);
    }

    fn target(&mut self, target: &TargetConfig) {
        let TargetConfig {
            iqn,
            alias,
            portal_groups,
            relative_port_offset,
            keepalive: KeepaliveTimes { interval, patience },
            announce_luns,
            redirect,
            keys,
            luns,
            initiators,
        } = target;
        let name = format!("target {iqn}");
        let mut thing = Thing::new(&name)
            .may_say("alias", alias.as_ref())
            .may_say("redirect", *redirect)
            .may_say("relative_port_offset", *relative_port_offset);
        if !portal_groups.is_empty() {
            thing = thing.says("portal_groups", format_args!("[{}]", list(portal_groups)));
        }
        let thing = thing
            .says("nop_interval", interval.map_or(0, |interval| interval.as_secs()))
            .says("nop_patience", patience.as_secs())
            .says("announce_luns", announce_luns)
            .says_keys(keys);
        self.0.push(thing);
        self.luns(&name, luns);
        for initiator in initiators {
            self.initiator(&name, initiator);
        }
    }

    fn initiator(&mut self, target: &str, initiator: &InitiatorConfig) {
        let InitiatorConfig {
            name,
            control,
            luns,
            authentication,
            keys,
            moved,
        } = initiator;
        let name = format!("{target} initiator {name}");
        let whose = luns.as_ref().map_or("the target's", |_| "its own");
        let moved = moved.map(|(to, permanent)| {
            let how = if permanent { "for good" } else { "for now" };
            format!("{to} {how}")
        });
        let thing = Thing::new(&name)
            .says("control", control)
            .says("luns", whose)
            .says_authentication(authentication)
            .may_say("moved", moved)
            .says_keys(keys);
        self.0.push(thing);
        self.luns(&name, luns.as_ref().unwrap_or(&LunConfigs::new()));
    }

    fn luns(&mut self, whose: &str, luns: &LunConfigs) {
        for (lun, LunConfig { volume, read_only }) in luns {
            let lun = Thing::new(format!("{whose} LUN {lun}"))
                .says("volume", volume)
                .says("read_only", read_only);
            self.0.push(lun);
        }
    }
}

fn volume(volume: &VolumeConfig) -> Thing {
    let VolumeConfig {
        number,
        name,
        mirror,
        size,
        media,
        direct,
        block_size,
        physical_block_size,
        removable,
        thin,
        quota,
        naa,
        designators: ConfiguredDesignators { eui64, uuid },
        shared,
    } = volume;
    let thing = Thing::new(format!("volume {number}"))
        .says("name", name)
        .says("class", if *mirror { "mirror" } else { "standard" })
        .may_say("size", size.map(Size));
    let thing = match media {
        Media::File(path) => thing.says("file", path.display()),
        Media::Memory => thing.says("memory", true),
    };
    thing
        .says("direct", direct)
        .says("block_size", block_size)
        .says("physical_block_size", physical_block_size)
        .says("removable", removable)
        .says("thin", thin)
        .may_say("quota", quota.map(Size))
        .may_say("naa", naa.as_ref().map(|id| Hex(id)))
        .may_say("eui64", eui64.as_ref().map(|id| Hex(id)))
        .may_say("uuid", uuid.as_ref().map(|id| Hex(id)))
        .may_say("shared", shared.as_ref())
}

/// Bytes in hexadecimal.
struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// With commas.
fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const SERVED: &str = r#"
[system]
id = "HF-A"
state_dir = "/var/lib/holdfast"

[iscsi]
portals = ["127.0.0.1:3260"]
max_connections = 2

[[volume]]
number = 1
name = "prod"
size = "10GiB"
file = "/srv/prod.img"

[[volume]]
number = 2
name = "bcv"
class = "mirror"
size = "10GiB"
memory = true

[[target]]
iqn = "iqn.2026-11.org.example:t1"
luns = [{ lun = 0, volume = 1 }, { lun = 1, volume = 2 }]

[[target.initiator]]
name = "iqn.1993-08.org.debian:*"
"#;

    fn parse(text: &str) -> Config {
        Config::parse("a.toml", text, []).unwrap()
    }

    /// What changes, a line each: how, what, which key, before, after.
    fn lines(now: &str, then: &str) -> Vec<String> {
        let line = |change: Change| {
            let Change {
                change,
                of,
                key,
                before,
                after,
            } = change;
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            format!(
                "{change:?} {of}; {}; {} => {}",
                or_dash(key),
                or_dash(before),
                or_dash(after)
            )
        };
        let changes = difference(&parse(now), &parse(then));
        changes.into_iter().map(line).collect()
    }

    #[test]
    fn nothing_differs_from_itself() {
        assert!(lines(SERVED, SERVED).is_empty());
    }

    #[test]
    fn what_comes_goes_and_is_otherwise() {
        let then = SERVED
            .replace("max_connections = 2", "keys = { data_digest = [\"CRC32C\"] }")
            .replace("number = 2\nname = \"bcv\"", "number = 3\nname = \"new\"")
            .replace("lun = 1, volume = 2", "lun = 4, volume = 3, read_only = true")
            .replace("\"10GiB\"\nfile", "\"20GiB\"\nfile")
            .replace(
                "debian:*\"",
                "debian:*\"\ncontrol = true\nluns = [{ lun = 7, volume = 1 }]",
            )
            .replace("\"127.0.0.1:3260\"", "\"127.0.0.1:3260\", \"[::1]:3260\"");
        let target = "target iqn.2026-11.org.example:t1";
        let initiator = format!("{target} initiator iqn.1993-08.org.debian:*");
        let memory = "size 10GiB, memory true, direct false, block_size 512, physical_block_size 512, removable false, thin true";
        assert_eq!(
            lines(SERVED, &then),
            [
                "Changed iscsi; data_digest; - => [\"CRC32C\"]".to_owned(),
                "Changed iscsi; max_connections; 2 => -".to_owned(),
                "Added portal [::1]:3260; -; - => group 1".to_owned(),
                "Changed volume 1; size; 10GiB => 20GiB".to_owned(),
                format!("Added volume 3; -; - => name new, class mirror, {memory}"),
                format!("Added {target} LUN 4; -; - => volume 3, read_only true"),
                format!("Changed {initiator}; control; false => true"),
                format!("Changed {initiator}; luns; the target's => its own"),
                format!("Added {initiator} LUN 7; -; - => volume 1, read_only false"),
                format!("Removed volume 2; -; name bcv, class mirror, {memory} => -"),
                format!("Removed {target} LUN 1; -; volume 2, read_only false => -"),
            ]
        );
    }

    /// A secret that changes is told of, and not told.
    #[test]
    fn secrets_are_compared_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = directory.path().join(name);
            fs::write(&path, format!("{name}-0123456789ab\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path.display().to_string()
        };
        let with = |path: &str| format!("{SERVED}chap = {{ user = \"host\", secret_file = \"{path}\" }}\n");
        let (one, other) = (with(&file("one")), with(&file("other")));
        let of = "Changed target iqn.2026-11.org.example:t1 initiator iqn.1993-08.org.debian:*; chap;";
        assert_eq!(
            lines(&one, &other),
            [format!("{of} host => host (another secret)")]
        );
        assert_eq!(lines(&one, SERVED), [format!("{of} host => -")]);
    }
}
