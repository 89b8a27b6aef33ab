//! Making images, and giving up mirrors that are not needed any more.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    book::{Book, Member, Spent},
    choice::{Choice, Shape, Supply},
    tell, usage,
};
use crate::{
    config::{Config, Media},
    service::Service,
};

/// Primary to mirror.
type Pairs = BTreeMap<u32, u32>;

impl Generations {
    /// Makes an image of the standards, and tells of it. Gives its number. `by_rule`: the rule's expendable generations may be
    /// recycled for it.
    pub(super) async fn make(
        &self,
        service: &Service,
        state: &mut State,
        primaries: &[u32],
        name: Option<String>,
        by_rule: bool,
    ) -> Result<u32, String> {
        let gone = |primary: &&u32| service.array.volume(VolumeNumber(**primary)).is_none();
        if let Some(primary) = primaries.iter().find(gone) {
            return Err(format!("there is no volume {primary}"));
        }
        let picked = self.pick(service, state, primaries, by_rule).await?;
        let Picked { pairs, made } = picked;
        let result = self
            .establish_and_split(service, state, &pairs, name, by_rule)
            .await;
        match &result {
            Ok(number) => {
                let generation = state.book.get(*number);
                let called = generation.map_or_else(|| number.to_string(), super::Generation::called);
                let pairs: Vec<String> = pairs
                    .iter()
                    .map(|(primary, mirror)| format!("{primary} on {mirror}"))
                    .collect();
                let text = format!("generation {called} was made: {}", pairs.join(", "));
                tell(service, Level::Info, text);
            }
            Err(_) => self.unmake(service, state, &made).await,
        }
        result
    }

    /// ESTABLISH and SPLIT INSTANT, each of all pairs at once.
    async fn establish_and_split(
        &self,
        service: &Service,
        state: &mut State,
        pairs: &Pairs,
        name: Option<String>,
        by_rule: bool,
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
        let split = control(service, OutVerb::Split, instant, pairs).await;
        let mut book = state.book.clone();
        if let Err(refusal) = split {
            put_down(&mut book, service);
            self.keep(state, book)?;
            return Err(refusal.to_string());
        }
        let views = service.array.pairs();
        let members = pairs.iter().map(|(primary, mirror)| Member {
            primary: *primary,
            mirror: *mirror,
            split_at_ms: views
                .iter()
                .find(|pair| (pair.primary.0, pair.mirror.0) == (*primary, *mirror))
                .map_or(0, |pair| pair.split_at_ms),
        });
        let number = book.add(name, by_rule, members.collect());
        book.in_hand.clear();
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
    ) -> Result<Picked, String> {
        let mut passed: BTreeMap<u32, String> = primaries
            .iter()
            .map(|primary| (*primary, format!("volume {primary} is a standard here")))
            .collect();
        loop {
            let config = service.config().await;
            let usage = usage(service, &config);
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
            let mut picked = Picked {
                pairs: there,
                made: BTreeSet::new(),
            };
            for (primary, _) in chosen.iter().filter(|(_, choice)| **choice == Choice::New) {
                match self.make_volume(service, state, *primary).await {
                    Ok(mirror) => {
                        picked.pairs.insert(*primary, mirror);
                        picked.made.insert(mirror);
                    }
                    Err(why) => {
                        self.unmake(service, state, &picked.made).await;
                        return Err(why);
                    }
                }
            }
            return Ok(picked);
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
        let expendable = rule.map_or_else(Vec::new, |rule| rule.expendable(&state.book.generations));
        let usage = usage(service, config);
        for number in expendable {
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
        std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let free = |number: &u32| {
            !config.volumes.contains_key(number)
                && !state.book.made.contains(number)
                && !image(directory, *number).exists()
        };
        let number = (1..u32::MAX - 2)
            .find(free)
            .ok_or("all volume numbers are taken")?;
        let bytes = service
            .array
            .volume(VolumeNumber(primary))
            .map_or(0, |volume| volume.bytes());
        let file = std::path::absolute(image(directory, number)).map_err(|error| error.to_string())?;
        let file = file
            .to_str()
            .ok_or_else(|| format!("{} is not UTF-8", file.display()))?;
        let wanted = VolumeCreate {
            number: Some(number),
            name: format!("gen-{number}"),
            mirror: true,
            size: Some(bytes.to_string()),
            file: Some(file.to_owned()),
            memory: false,
            block_size: standard.block_size,
            physical_block_size: Some(standard.physical_block_size),
            removable: false,
            thick: false,
        };
        // Written down before: after a crash in between it is known as ours.
        let mut book = state.book.clone();
        book.made.insert(number);
        book.in_hand.insert(number, primary);
        self.keep(state, book)?;
        let created = service.create_volume(wanted).await;
        if let Err(why) = created {
            let mut book = state.book.clone();
            book.made.remove(&number);
            book.in_hand.remove(&number);
            self.keep(state, book)?;
            return Err(why);
        }
        Ok(number)
    }

    /// Takes volumes away again that were made and then not used.
    async fn unmake(&self, service: &Service, state: &mut State, made: &BTreeSet<u32>) {
        for number in made {
            let paired = service.array.pairs().iter().any(|pair| pair.mirror.0 == *number);
            if paired {
                continue;
            }
            self.remove_volume(service, state, *number).await;
        }
    }

    /// Cancels the pairs of spent mirrors that are not needed, and deletes those volumes that were made on demand.
    pub(super) async fn let_go(&self, service: &Service, state: &mut State) -> Result<Vec<String>, String> {
        let mut done = Vec::new();
        for (mirror, spent) in state.book.surplus() {
            let config = service.config().await;
            let usage = usage(service, &config);
            if usage
                .of_mirror(mirror, &[replication_engine::state::PairState::Split])
                .is_some()
            {
                // It stays spent, and is looked at again with the next surplus.
                continue;
            }
            let mut book = state.book.clone();
            book.spent.remove(&mirror);
            book.in_hand.insert(mirror, spent.primary);
            self.keep(state, book)?;
            let pair = Pairs::from([(spent.primary, mirror)]);
            let cancelled = control(service, OutVerb::Cancel, Flags::default(), &pair).await;
            let mut book = state.book.clone();
            book.in_hand.remove(&mirror);
            if let Err(refusal) = cancelled {
                book.spent.insert(mirror, spent);
                self.keep(state, book)?;
                tell(
                    service,
                    Level::Warning,
                    format!("mirror {mirror} is not let go: {refusal}"),
                );
                continue;
            }
            if book.made.contains(&mirror) {
                if self.remove_volume(service, state, mirror).await {
                    done.push(format!("volume {mirror} was deleted with its file"));
                }
            } else {
                self.keep(state, book)?;
                done.push(format!("volume {mirror} is free in the pool"));
            }
        }
        Ok(done)
    }

    /// A volume that was made on demand goes, with its file: did it? One that cannot go is from then on as if it had been made
    /// by hand. Only a file of the name that it was given is removed.
    async fn remove_volume(&self, service: &Service, state: &mut State, number: u32) -> bool {
        let result = delete_with_file(service, number).await;
        let mut book = state.book.clone();
        book.made.remove(&number);
        book.in_hand.remove(&number);
        let kept = self.keep(state, book);
        for why in [result.as_ref().err(), kept.as_ref().err()].into_iter().flatten() {
            let text =
                format!("volume {number} is not needed any more and stays: {why}; `volume delete {number}`");
            tell(service, Level::Warning, text);
        }
        result.is_ok()
    }

    /// After a start: what was in hand when the daemon ended is no image. To be called before hosts get in.
    pub(crate) async fn recover(&self, service: &Service) -> Result<(), String> {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        if state.book.in_hand.is_empty() {
            return self.look(service, state);
        }
        let in_hand = state.book.in_hand.clone();
        let mut book = state.book.clone();
        put_down(&mut book, service);
        let unused: BTreeSet<u32> = in_hand
            .keys()
            .filter(|mirror| book.made.contains(mirror) && !book.spent.contains_key(mirror))
            .copied()
            .collect();
        self.keep(state, book)?;
        self.unmake(service, state, &unused).await;
        self.look(service, state)
    }
}

async fn delete_with_file(service: &Service, number: u32) -> Result<(), String> {
    let config = service.config().await;
    let Some(volume) = config.volumes.get(&number) else {
        return Ok(());
    };
    service.delete_volume(number).await?;
    let own_name = format!("gen-{number}.img");
    match &volume.media {
        Media::File(path) if path.file_name().is_some_and(|name| name == own_name.as_str()) => {
            std::fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Mirrors with no image, and those of them that were made for it.
struct Picked {
    pairs: Pairs,
    made: BTreeSet<u32>,
}

/// What is in hand is spent: a pair of ours with no image to keep.
fn put_down(book: &mut Book, service: &Service) {
    let views = service.array.pairs();
    for (mirror, primary) in std::mem::take(&mut book.in_hand) {
        let pair = views
            .iter()
            .find(|pair| (pair.primary.0, pair.mirror.0) == (primary, mirror));
        if let Some(pair) = pair {
            let spent = Spent {
                primary,
                split_at_ms: pair.split_at_ms,
            };
            book.spent.insert(mirror, spent);
        }
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

async fn control(service: &Service, verb: OutVerb, flags: Flags, pairs: &Pairs) -> Result<(), Refusal> {
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
