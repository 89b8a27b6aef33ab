//! What the daemon prints when it begins to serve: what there is, and what to try next.

use std::{fmt::Write as _, net::SocketAddr};

use admin_api::Size;

use crate::config::{Config, Media, embedded};

/// The text before the line `ready`.
pub(crate) fn text(config: &Config, portals: &[SocketAddr], bytes_of: impl Fn(u32) -> u64) -> String {
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a String takes all");
    line(format_args!(
        "holdfastd {}, system {}, from {}",
        env!("CARGO_PKG_VERSION"),
        config.system.id,
        config.source
    ));
    line(format_args!("state   {}", config.system.state_dir.display()));
    for portal in portals {
        line(format_args!("portal  {portal}"));
    }
    for target in config.targets.values() {
        let who = if target.initiators.is_empty() {
            "any initiator of this machine"
        } else {
            "listed initiators"
        };
        line(format_args!("target  {}  ({who})", target.iqn));
        for (lun, map) in &target.luns {
            let Some(volume) = config.volumes.get(&map.volume) else {
                continue;
            };
            let class = if volume.mirror { "mirror" } else { "standard" };
            let media = match &volume.media {
                Media::File(path) => path.display().to_string(),
                Media::Memory => "memory".to_owned(),
            };
            let size = Size(bytes_of(volume.number)).rounded();
            line(format_args!(
                "  LUN {lun:<3} volume {} {} ({class}, {size}, {media})",
                volume.number, volume.name
            ));
        }
    }
    line(format_args!("admin   {}", config.admin.socket.display()));
    if let Some(http) = config.admin.http {
        line(format_args!("http    http://{http}/"));
    }
    line(format_args!("try"));
    for command in commands(config, portals) {
        line(format_args!("  {command}"));
    }
    text
}

/// The next commands to try.
fn commands(config: &Config, portals: &[SocketAddr]) -> Vec<String> {
    let admin = if config.source == embedded::NAME && config.admin.socket.starts_with("./holdfast-data") {
        String::new()
    } else {
        format!("--admin {} ", config.admin.socket.display())
    };
    let mut commands = vec![format!("holdfast {admin}setup")];
    let standard = config.volumes.values().find(|volume| !volume.mirror);
    let mirror = config.volumes.values().find(|volume| volume.mirror);
    if let (Some(standard), Some(mirror)) = (standard, mirror) {
        let pair = format!("{} {}", standard.name, mirror.name);
        commands.push(format!("holdfast {admin}establish {pair} --wait"));
        commands.push(format!("holdfast {admin}split {pair}"));
        commands.push(format!("holdfast {admin}restore {pair} --protected --wait"));
        commands.push(format!("holdfast {admin}query --watch"));
    }
    if let Some(portal) = portals.first() {
        commands.push(format!("iscsiadm -m discovery -t sendtargets -p {portal}"));
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default() {
        let config = Config::load(None, []).unwrap();
        let portals = config.portals.iter().map(|portal| portal.address);
        let text = text(&config, &portals.collect::<Vec<_>>(), |_| 1 << 30);
        for line in [
            "portal  127.0.0.1:3260",
            "  LUN 1   volume 2 bcv1 (mirror, 1GiB, ./holdfast-data/bcv1.img)",
            "http    http://127.0.0.1:3280/",
            "  holdfast establish prod bcv1 --wait",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
        assert!(!text.lines().any(|line| line == "ready"));
    }
}
