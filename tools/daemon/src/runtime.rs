//! What administrators changed while the daemon served: `runtime.json` in the state directory.
//!
//! The configuration file stays as its owner wrote it. What `holdfast volume` and `holdfast map` do is kept beside it, as
//! differences, and laid over the configuration at every start and reload: [`Runtime::merge`] gives the configuration that
//! is to be served. A difference whose object has gone from the file, or was changed there, is dropped: the file has the
//! say again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use admin_api::{MapRequest, Size, UnmapRequest, VolumeCreate};
use serde::{Deserialize, Serialize};
use target_core::{
    lun_map::LARGEST_LUN,
    state_file::{self, StateFileError},
};

use crate::config::{
    Config, LunConfig, RawSize, RawVolume, problem::Problems, validate_clash, validate_volume,
};

/// The differences.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Runtime {
    /// Volumes made.
    volumes: Vec<RawVolume>,
    /// Volumes of the configuration that were deleted.
    removed_volumes: BTreeSet<u32>,
    /// LUNs made.
    maps: BTreeSet<Map>,
    /// LUNs of the configuration that were taken away.
    removed_maps: BTreeSet<Map>,
    /// Volumes of the configuration that were resized.
    sizes: BTreeMap<u32, Resized>,
}

/// A LUN of a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Map {
    target: String,
    lun: u16,
    volume: u32,
    read_only: bool,
}

/// Bytes before, as configured, and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resized {
    configured: Option<u64>,
    bytes: u64,
}

/// How messages name the differences.
const SOURCE: &str = "runtime.json";

impl Runtime {
    fn path(state_dir: &Path) -> PathBuf {
        state_dir.join(SOURCE)
    }

    /// Those kept; none when there is no file.
    pub(crate) fn load(state_dir: &Path) -> Result<Self, StateFileError> {
        Ok(state_file::load(&Self::path(state_dir))?.unwrap_or_default())
    }

    /// Keeps them.
    pub(crate) fn store(&self, state_dir: &Path) -> Result<(), StateFileError> {
        state_file::store(&Self::path(state_dir), self)
    }

    /// The configuration with the differences laid over it. Differences that mean nothing any more are dropped from
    /// `self`; what clashes with the configuration is an error.
    pub(crate) fn merge(&mut self, config: &Config) -> Result<Config, Problems> {
        self.prune(config);
        let mut merged = config.clone();
        let mut problems = Problems::new(SOURCE);
        merged
            .volumes
            .retain(|number, _| !self.removed_volumes.contains(number));
        for (number, resized) in &self.sizes {
            if let Some(volume) = merged.volumes.get_mut(number) {
                volume.size = Some(resized.bytes);
            }
        }
        for raw in &self.volumes {
            let key = format!("volume {}", raw.number);
            let volume = validate_volume(&key, raw, &mut problems);
            validate_clash(&key, &volume, merged.volumes.values(), &mut problems);
            merged.volumes.entry(volume.number).or_insert(volume);
        }
        for map in &self.removed_maps {
            if let Some(target) = merged.targets.get_mut(&map.target) {
                target.luns.remove(&map.lun);
            }
        }
        for map in &self.maps {
            let lun = LunConfig {
                volume: map.volume,
                read_only: map.read_only,
            };
            let key = format!("LUN {} of {}", map.lun, map.target);
            let Some(target) = merged.targets.get_mut(&map.target) else {
                continue;
            };
            if target.luns.insert(map.lun, lun).is_some() {
                problems.add(key, format!("is in {} too", config.source));
            }
        }
        for (iqn, target) in &merged.targets {
            for (whose, lun, map) in target.all_luns() {
                if !merged.volumes.contains_key(&map.volume) {
                    let whose = whose.map_or_else(String::new, |whose| format!(" for {whose}"));
                    problems.add(
                        format!("LUN {lun} of {iqn}{whose}"),
                        format!("there is no volume {}", map.volume),
                    );
                }
            }
        }
        if problems.is_empty() {
            Ok(merged)
        } else {
            Err(problems)
        }
    }

    fn prune(&mut self, config: &Config) {
        let configured = |map: &Map| {
            let lun = LunConfig {
                volume: map.volume,
                read_only: map.read_only,
            };
            config
                .targets
                .get(&map.target)
                .and_then(|target| target.luns.get(&map.lun))
                == Some(&lun)
        };
        self.removed_volumes
            .retain(|number| config.volumes.contains_key(number));
        self.removed_maps.retain(configured);
        self.maps.retain(|map| config.targets.contains_key(&map.target));
        self.sizes.retain(|number, resized| {
            config
                .volumes
                .get(number)
                .is_some_and(|volume| volume.size == resized.configured)
        });
    }

    /// A volume more. `served` is what is served now. Gives its number.
    pub(crate) fn create(&mut self, served: &Config, wanted: VolumeCreate) -> Result<u32, String> {
        let number = wanted.number.unwrap_or_else(|| lowest_free(served));
        if served.volumes.contains_key(&number) {
            return Err(format!(
                "there is a volume {number} already; leave --number out to take a free one"
            ));
        }
        let file = match (wanted.file, wanted.memory) {
            (None, false) => {
                let image = served.system.state_dir.join(format!("{}.img", wanted.name));
                Some(image.display().to_string())
            }
            (file, _) => file,
        };
        let raw = RawVolume {
            number,
            name: wanted.name,
            class: if wanted.mirror { "mirror" } else { "standard" }.to_owned(),
            size: wanted.size.map(RawSize::Text),
            file,
            memory: wanted.memory,
            direct: wanted.direct,
            block_size: wanted.block_size,
            physical_block_size: wanted.physical_block_size,
            removable: wanted.removable,
            thin: !wanted.thick,
            quota: None,
            naa: None,
            eui64: None,
            uuid: None,
            shared: None,
        };
        let mut problems = Problems::new("volume create");
        let volume = validate_volume("volume", &raw, &mut problems);
        validate_clash("volume", &volume, served.volumes.values(), &mut problems);
        if !problems.is_empty() {
            return Err(problems.to_string());
        }
        self.volumes.push(raw);
        Ok(number)
    }

    /// A volume less. One that a target still exports stays.
    pub(crate) fn delete(&mut self, served: &Config, number: u32) -> Result<(), String> {
        known(served, number)?;
        for target in served.targets.values() {
            if let Some((whose, lun, _)) = target.all_luns().find(|(_, _, map)| map.volume == number) {
                let iqn = &target.iqn;
                return Err(match whose {
                    None => format!("volume {number} is LUN {lun} of {iqn}: `holdfast unmap {number}` first"),
                    Some(whose) => format!(
                        "volume {number} is LUN {lun} of {iqn} for {whose}: take it out of that [[target.initiator]] and reload first"
                    ),
                });
            }
        }
        let made_here = self.volumes.iter().any(|volume| volume.number == number);
        self.volumes.retain(|volume| volume.number != number);
        if !made_here {
            self.removed_volumes.insert(number);
        }
        self.sizes.remove(&number);
        Ok(())
    }

    /// Another size. `configured` is the configuration without differences, `bytes_now` the volume's size.
    pub(crate) fn resize(
        &mut self,
        configured: &Config,
        number: u32,
        bytes_now: u64,
        size: &str,
    ) -> Result<u64, String> {
        let bytes = size.parse::<Size>().map_err(|error| error.to_string())?.0;
        if bytes < bytes_now {
            return Err(format!(
                "volume {number} has {} and only grows: what is beyond {} would be lost",
                Size(bytes_now),
                Size(bytes)
            ));
        }
        if let Some(volume) = self.volumes.iter_mut().find(|volume| volume.number == number) {
            volume.size = Some(RawSize::Bytes(bytes));
        } else if let Some(volume) = configured.volumes.get(&number) {
            self.sizes.insert(
                number,
                Resized {
                    configured: volume.size,
                    bytes,
                },
            );
        } else {
            return Err(format!("there is no volume {number}"));
        }
        Ok(bytes)
    }

    /// A LUN more. Gives its target and number.
    pub(crate) fn map(&mut self, served: &Config, wanted: &MapRequest) -> Result<(String, u16), String> {
        known(served, wanted.volume)?;
        let iqn = target_of(served, wanted.target.as_deref())?;
        let luns = &served.targets[&iqn].luns;
        let lun = match wanted.lun {
            Some(lun) => lun,
            None => (0..=LARGEST_LUN)
                .find(|lun| !luns.contains_key(lun))
                .ok_or_else(|| format!("{iqn} has no free LUN"))?,
        };
        if lun > LARGEST_LUN {
            return Err(format!("LUN {lun} is not accepted: 0 to {LARGEST_LUN} is"));
        }
        if let Some(map) = luns.get(&lun) {
            return Err(format!(
                "LUN {lun} of {iqn} is volume {} already",
                served.volume_named(map.volume)
            ));
        }
        let map = Map {
            target: iqn.clone(),
            lun,
            volume: wanted.volume,
            read_only: wanted.read_only,
        };
        if !self.removed_maps.remove(&map) {
            self.maps.insert(map);
        }
        Ok((iqn, lun))
    }

    /// A LUN less. Gives its target and number.
    pub(crate) fn unmap(&mut self, served: &Config, wanted: &UnmapRequest) -> Result<(String, u16), String> {
        known(served, wanted.volume)?;
        let iqn = target_of(served, wanted.target.as_deref())?;
        let fits = |lun: &u16, map: &LunConfig| {
            map.volume == wanted.volume && wanted.lun.is_none_or(|wanted| wanted == *lun)
        };
        let found: Vec<(u16, bool)> = served.targets[&iqn]
            .luns
            .iter()
            .filter(|(lun, map)| fits(lun, map))
            .map(|(lun, map)| (*lun, map.read_only))
            .collect();
        let (lun, read_only) = match found[..] {
            [one] => one,
            [] => return Err(format!("volume {} has no such LUN of {iqn}", wanted.volume)),
            _ => {
                let luns: Vec<String> = found.iter().map(|(lun, _)| lun.to_string()).collect();
                return Err(format!(
                    "volume {} is LUN {} of {iqn}: say which with --lun",
                    wanted.volume,
                    luns.join(" and ")
                ));
            }
        };
        let map = Map {
            target: iqn.clone(),
            lun,
            volume: wanted.volume,
            read_only,
        };
        if !self.maps.remove(&map) {
            self.removed_maps.insert(map);
        }
        Ok((iqn, lun))
    }
}

/// From 1 on. There are fewer volumes than numbers.
fn lowest_free(served: &Config) -> u32 {
    (1..u32::MAX)
        .find(|number| !served.volumes.contains_key(number))
        .unwrap_or(0)
}

fn known(served: &Config, number: u32) -> Result<(), String> {
    if served.volumes.contains_key(&number) {
        return Ok(());
    }
    let numbers: Vec<String> = served.volumes.keys().map(ToString::to_string).collect();
    Err(format!(
        "there is no volume {number}; the volumes are {}",
        numbers.join(", ")
    ))
}

/// The target that was named, or the only one.
fn target_of(served: &Config, wanted: Option<&str>) -> Result<String, String> {
    let names = || served.targets.keys().cloned().collect::<Vec<_>>().join(", ");
    match wanted.map(str::to_lowercase) {
        Some(iqn) if served.targets.contains_key(&iqn) => Ok(iqn),
        Some(iqn) => Err(format!("there is no target {iqn}; the targets are {}", names())),
        None if served.targets.len() == 1 => Ok(names()),
        None => Err(format!("say which target with --target: {}", names())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured() -> Config {
        Config::load(None, []).unwrap()
    }

    fn wanted(name: &str) -> VolumeCreate {
        serde_json::from_value(serde_json::json!({ "name": name, "size": "1GiB" })).unwrap()
    }

    fn map(volume: u32) -> MapRequest {
        MapRequest {
            volume,
            target: None,
            lun: None,
            read_only: false,
        }
    }

    fn unmap(volume: u32) -> UnmapRequest {
        UnmapRequest {
            volume,
            target: None,
            lun: None,
        }
    }

    const IQN: &str = "iqn.2026-11.io.holdfast:default";

    #[test]
    fn a_volume_made_mapped_unmapped_and_deleted_leaves_nothing() {
        let config = configured();
        let mut runtime = Runtime::default();
        assert_eq!(runtime.create(&config, wanted("db")), Ok(4));
        let served = runtime.merge(&config).unwrap();
        assert_eq!(
            served.volumes[&4].media,
            crate::config::Media::File("./holdfast-data/db.img".into())
        );
        assert_eq!(runtime.map(&served, &map(4)), Ok((IQN.to_owned(), 3)));
        let served = runtime.merge(&config).unwrap();
        assert_eq!(served.targets[IQN].luns[&3].volume, 4);
        assert!(runtime.delete(&served, 4).unwrap_err().contains("is LUN 3"));
        assert_eq!(runtime.unmap(&served, &unmap(4)), Ok((IQN.to_owned(), 3)));
        let served = runtime.merge(&config).unwrap();
        runtime.delete(&served, 4).unwrap();
        assert_eq!(runtime, Runtime::default());
    }

    #[test]
    fn refusals_of_create() {
        let config = configured();
        let mut runtime = Runtime::default();
        let mut refused = |create: VolumeCreate| runtime.create(&config, create).unwrap_err();
        assert!(
            refused(VolumeCreate {
                number: Some(1),
                ..wanted("x")
            })
            .contains("a volume 1 already")
        );
        assert!(refused(wanted("prod")).contains("taken by volume 1"));
        assert!(
            refused(VolumeCreate {
                block_size: 520,
                ..wanted("x")
            })
            .contains("512 or 4096")
        );
        assert!(
            refused(VolumeCreate {
                size: Some("ten".into()),
                ..wanted("x")
            })
            .contains("is no size")
        );
        assert_eq!(runtime, Runtime::default());
    }

    #[test]
    fn configured_objects_go_and_come_back_with_the_file() {
        let config = configured();
        let mut runtime = Runtime::default();
        runtime.unmap(&config, &unmap(3)).unwrap();
        let served = runtime.merge(&config).unwrap();
        runtime.delete(&served, 3).unwrap();
        let served = runtime.merge(&config).unwrap();
        assert!(!served.volumes.contains_key(&3) && !served.targets[IQN].luns.contains_key(&2));
        // The file forgets volume 3 as well: nothing is left to remember, and a new volume 3 is served.
        let mut without = config.clone();
        without.volumes.remove(&3);
        without.targets.get_mut(IQN).unwrap().luns.remove(&2);
        runtime.merge(&without).unwrap();
        assert_eq!(runtime, Runtime::default());
    }

    #[test]
    fn unmapping_and_mapping_a_configured_lun_again_leaves_nothing() {
        let config = configured();
        let mut runtime = Runtime::default();
        runtime.unmap(&config, &unmap(3)).unwrap();
        let served = runtime.merge(&config).unwrap();
        assert_eq!(runtime.map(&served, &map(3)), Ok((IQN.to_owned(), 2)));
        assert_eq!(runtime, Runtime::default());
    }

    #[test]
    fn a_resized_volume_keeps_its_size_until_the_file_says_another() {
        let config = configured();
        let mut runtime = Runtime::default();
        assert!(
            runtime
                .resize(&config, 1, 1 << 30, "512MiB")
                .unwrap_err()
                .contains("only grows")
        );
        assert!(runtime.resize(&config, 9, 0, "512MiB").is_err());
        assert_eq!(runtime.resize(&config, 1, 1 << 30, "2GiB"), Ok(2 << 30));
        assert_eq!(runtime.merge(&config).unwrap().volumes[&1].size, Some(2 << 30));
        let mut edited = config.clone();
        edited.volumes.get_mut(&1).unwrap().size = Some(3 << 30);
        assert_eq!(runtime.merge(&edited).unwrap().volumes[&1].size, Some(3 << 30));
    }

    #[test]
    fn clashes_with_an_edited_file_are_named() {
        let config = configured();
        let mut runtime = Runtime::default();
        runtime.create(&config, wanted("db")).unwrap();
        let mut edited = config.clone();
        let mut volume = config.volumes[&1].clone();
        (volume.number, volume.name) = (4, "db".to_owned());
        volume.media = crate::config::Media::Memory;
        edited.volumes.insert(4, volume);
        let problems = runtime.merge(&edited).unwrap_err().to_string();
        assert!(
            problems.contains("runtime.json: volume 4.number: 4 is taken by volume db"),
            "{problems}"
        );
    }

    #[test]
    fn they_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Runtime::load(directory.path()).unwrap(), Runtime::default());
        let mut runtime = Runtime::default();
        runtime.create(&configured(), wanted("db")).unwrap();
        runtime.unmap(&configured(), &unmap(2)).unwrap();
        runtime.resize(&configured(), 1, 0, "2GiB").unwrap();
        runtime.store(directory.path()).unwrap();
        assert_eq!(Runtime::load(directory.path()).unwrap(), runtime);
    }
}
