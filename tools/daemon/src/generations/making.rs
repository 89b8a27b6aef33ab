//! Making images.

use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use admin_api::VolumeCreate;
use replication::events::Level;
use target_core::{
    control::ArrayControl as _,
    scsi_model::control::{Flags, OutVerb, Refusal, Request, VolumeNumber, VolumePair},
    volume::Volume as _,
};

use super::{
    Generations, State,
    book::{Generation, Member},
    choice::{Choice, Shape, Supply},
    tell, usage,
};
use crate::{config::Config, service::Service};

/// Primary to mirror.
pub(super) type Pairs = BTreeMap<u32, u32>;

/// Volumes that are made get numbers from here on, out of the way of those that people give.
const FIRST_NUMBER: u32 = 1001;

/// Who makes one.
#[derive(Debug)]
pub(super) enum Maker {
    /// An administrator, who may have given it a name.
    Hand(Option<String>),
    /// The rule of the same standards, whose expendable generations may be recycled for it.
    Rule {
        /// The wall clock.
        now_ms: u64,
    },
}

impl Generations {
    /// Makes an image of the standards, and tells of it. Gives its number.
    pub(super) async fn make(
        &self,
        service: &Service,
        state: &mut State,
        primaries: &[u32],
        maker: Maker,
    ) -> Result<u32, String> {
        let result = self.try_to_make(service, state, primaries, maker).await;
        if result.is_err() {
            // The reason for the failure is what the caller hears.
            for left in [
                self.look(service, state).await,
                self.let_go(service, state).await.map(drop),
            ] {
                if let Err(why) = left {
                    tell(service, Level::Error, why);
                }
            }
        }
        result
    }

    async fn try_to_make(
        &self,
        service: &Service,
        state: &mut State,
        primaries: &[u32],
        maker: Maker,
    ) -> Result<u32, String> {
        let gone = |primary: &&u32| service.array.volume(VolumeNumber(**primary)).is_none();
        if let Some(primary) = primaries.iter().find(gone) {
            return Err(format!("there is no volume {primary}"));
        }
        let pairs = self
            .pick(service, state, primaries, matches!(maker, Maker::Rule { .. }))
            .await?;
        let number = self.establish_and_split(service, state, &pairs, maker).await?;
        let called = state
            .book
            .get(number)
            .map_or_else(|| number.to_string(), Generation::called);
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(primary, mirror)| format!("{primary} on {mirror}"))
            .collect();
        let text = format!("generation {called} was made: {}", pairs.join(", "));
        tell(service, Level::Info, text);
        Ok(number)
    }

    /// ESTABLISH and SPLIT INSTANT, each of all pairs at once.
    async fn establish_and_split(
        &self,
        service: &Service,
        state: &mut State,
        pairs: &Pairs,
        maker: Maker,
    ) -> Result<u32, String> {
        let before = state.book.clone();
        let mut book = before.clone();
        for (primary, mirror) in pairs {
            book.spent.remove(mirror);
            book.in_hand.insert(*mirror, *primary);
        }
        self.keep(state, book)?;
        if let Err(refusal) = control(
            service,
            OutVerb::Establish { remote: None },
            Flags::default(),
            pairs,
        )
        .await
        {
            // Nothing was changed: what was spent still is.
            self.keep(state, before)?;
            return Err(refusal.to_string());
        }
        let instant = Flags {
            instant: true,
            ..Flags::default()
        };
        // What fails from here on stays in hand, and `look` puts it down.
        control(service, OutVerb::Split, instant, pairs)
            .await
            .map_err(|refusal| refusal.to_string())?;
        let views = service.array.pairs();
        let members = pairs.iter().map(|(primary, mirror)| Member {
            primary: *primary,
            mirror: *mirror,
            split_at_ms: views
                .iter()
                .find(|pair| (pair.primary.0, pair.mirror.0) == (*primary, *mirror))
                .map_or(0, |pair| pair.split_at_ms),
        });
        let mut book = state.book.clone();
        let members = members.collect();
        let number = match maker {
            Maker::Hand(name) => book.add(name, false, members),
            Maker::Rule { now_ms } => {
                let primaries: Vec<u32> = pairs.keys().copied().collect();
                // With the generation: a crash makes neither two of one period nor none.
                if let Some(rule) = book.rules.iter_mut().find(|rule| rule.primaries == primaries) {
                    rule.made(now_ms);
                }
                book.add(None, true, members)
            }
        };
        book.in_hand
            .retain(|mirror, _| !pairs.values().any(|ours| ours == mirror));
        self.keep(state, book)?;
        Ok(number)
    }

    /// A mirror for each standard, none of them changed yet but that new volumes were made.
    async fn pick(
        &self,
        service: &Service,
        state: &mut State,
        primaries: &[u32],
        by_rule: bool,
    ) -> Result<Pairs, String> {
        let ruled = state.book.rules.iter().flat_map(|rule| &rule.primaries);
        let mut passed: BTreeMap<u32, String> = ruled
            .chain(primaries)
            .map(|primary| (*primary, format!("volume {primary} is a standard here")))
            .collect();
        loop {
            let config = service.config().await;
            let usage = usage(service, &config, &state.book);
            let shapes = shapes(service);
            let mut taken = passed.clone();
            let mut chosen: BTreeMap<u32, Choice> = BTreeMap::new();
            let mut lacking = None;
            for primary in primaries {
                let supply = Supply {
                    book: &state.book,
                    usage: &usage,
                    shapes: &shapes,
                    pool: &config.generations.pool,
                    on_demand: config.generations.directory.is_some(),
                    passed: &taken,
                };
                match supply.choose(*primary) {
                    Ok(choice) => {
                        if let Choice::Volume(mirror) = choice {
                            taken.insert(mirror, format!("volume {mirror} is taken for volume {primary}"));
                        }
                        chosen.insert(*primary, choice);
                    }
                    Err(reasons) => {
                        lacking = Some((*primary, reasons));
                        break;
                    }
                }
            }
            if let Some((primary, mut reasons)) = lacking {
                if by_rule && self.recycle(service, state, &config, primaries, &mut reasons)? {
                    continue;
                }
                return Err(no_mirror(primary, &reasons));
            }
            let there: Pairs = chosen
                .iter()
                .filter_map(|(primary, choice)| match choice {
                    Choice::Volume(mirror) => Some((*primary, *mirror)),
                    Choice::New => None,
                })
                .collect();
            // The engine knows more reasons than we do. One it refuses is passed over; it names the member.
            if let Some((mirror, why)) = refused(service, &there).await {
                if passed.insert(mirror, why.clone()).is_some() {
                    return Err(why);
                }
                continue;
            }
            let mut pairs = there;
            for (primary, _) in chosen.iter().filter(|(_, choice)| **choice == Choice::New) {
                let mirror = self.make_volume(service, state, *primary).await?;
                pairs.insert(*primary, mirror);
            }
            return Ok(pairs);
        }
    }

    /// Drops the oldest generation that the rule would drop anyway once the new one is there, if one may be.
    fn recycle(
        &self,
        service: &Service,
        state: &mut State,
        config: &Config,
        primaries: &[u32],
        reasons: &mut Vec<String>,
    ) -> Result<bool, String> {
        let rule = state.book.rules.iter().find(|rule| rule.primaries == primaries);
        let usage = usage(service, config, &state.book);
        let expendable = |all: &[Generation]| rule.map_or_else(Vec::new, |rule| rule.expendable(all));
        let with_all = expendable(&state.book.generations);
        let with_whole = expendable(&usage.whole(&state.book.generations));
        if with_whole.is_empty() && !with_all.is_empty() {
            reasons.push("the rule's newest generation is still being copied".to_owned());
        }
        for number in with_whole {
            let Some(generation) = state.book.get(number) else {
                continue;
            };
            if let Some(why) = usage.of_generation(generation) {
                reasons.push(format!("generation {} is in use: {why}", generation.called()));
                continue;
            }
            self.discard(service, state, number, "to be recycled: no other mirror is free")?;
            return Ok(true);
        }
        Ok(false)
    }

    /// A new volume like the standard, in the configured directory.
    async fn make_volume(&self, service: &Service, state: &mut State, primary: u32) -> Result<u32, String> {
        let config = service.config().await;
        let standard = config
            .volumes
            .get(&primary)
            .ok_or_else(|| format!("there is no volume {primary}"))?;
        let directory = config
            .generations
            .directory
            .as_deref()
            .ok_or("there is no directory")?;
        // What is in the images is nobody else's.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| format!("{}: {error}", directory.display()))?;
        let free = |number: &u32| {
            !config.volumes.contains_key(number)
                && !state.book.made.contains_key(number)
                && !image(directory, *number).exists()
        };
        let number = (FIRST_NUMBER..u32::MAX - 2)
            .find(free)
            .ok_or("all volume numbers are taken")?;
        let bytes = service
            .array
            .volume(VolumeNumber(primary))
            .map_or(0, |volume| volume.bytes());
        let file = std::path::absolute(image(directory, number)).map_err(|error| error.to_string())?;
        let name = file
            .to_str()
            .ok_or_else(|| format!("{} is not UTF-8", file.display()))?;
        let wanted = VolumeCreate {
            number: Some(number),
            name: format!("gen-{number}"),
            mirror: true,
            size: Some(bytes.to_string()),
            file: Some(name.to_owned()),
            memory: false,
            direct: false,
            block_size: standard.block_size,
            physical_block_size: Some(standard.physical_block_size),
            removable: false,
            thick: false,
        };
        // Written down before: after a crash in between it is known as ours.
        let mut book = state.book.clone();
        book.made.insert(number, file);
        book.in_hand.insert(number, primary);
        self.keep(state, book)?;
        service.create_volume(wanted).await?;
        Ok(number)
    }
}

fn image(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("gen-{number}.img"))
}

fn no_mirror(primary: u32, reasons: &[String]) -> String {
    let reasons = match reasons.len() {
        0 => "none of its size is in the pool or spent".to_owned(),
        _ => reasons.join("; "),
    };
    format!(
        "there is no mirror for volume {primary}: {reasons}. Add volumes to generations.pool, or set generations.directory"
    )
}

fn shapes(service: &Service) -> BTreeMap<u32, Shape> {
    let volumes = service.array.volumes();
    let shapes = volumes.iter().map(|volume| {
        let info = volume.info();
        let shape = Shape {
            bytes: info.bytes(),
            block_size: info.block_size,
        };
        (info.number.0, shape)
    });
    shapes.collect()
}

/// The mirror that ESTABLISH would be refused for, and why.
async fn refused(service: &Service, pairs: &Pairs) -> Option<(u32, String)> {
    if pairs.is_empty() {
        return None;
    }
    let request = request(OutVerb::Establish { remote: None }, Flags::default(), pairs, true);
    let refusal = service.array.execute(request).await.err()?;
    let member = usize::from(refusal.member.unwrap_or(0));
    let mirror = pairs.values().nth(member).copied()?;
    Some((mirror, refusal.to_string()))
}

pub(super) async fn control(
    service: &Service,
    verb: OutVerb,
    flags: Flags,
    pairs: &Pairs,
) -> Result<(), Refusal> {
    service
        .array
        .execute(request(verb, flags, pairs, false))
        .await
        .map(|_| ())
}

fn request(verb: OutVerb, flags: Flags, pairs: &Pairs, dry_run: bool) -> Request {
    let members = pairs.iter().map(|(primary, mirror)| VolumePair {
        primary: VolumeNumber(*primary),
        mirror: Some(VolumeNumber(*mirror)),
    });
    Request::Out {
        verb,
        flags,
        members: members.collect(),
        dry_run,
    }
}
