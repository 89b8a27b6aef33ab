//! Generations: docs/generations.md says what they are and in which order things happen.
//!
//! [`book`], [`rule`], [`choice`] and [`mod@usage`] are pure: what is known, when a rule is due and what it lets go, which mirror
//! is next, and why one must stay. Here they meet the array: [`making`] makes images, [`dropping`] gives up mirrors and puts
//! things right after a failure, [`timer`] runs the rules.
//! One thing at a time: the mutex is held from the look at the pairs to the end of what follows from it.

pub(crate) mod book;
mod choice;
mod dropping;
mod making;
mod rule;
mod timer;
mod usage;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use admin_api::{
    ControlAnswer, GenerationCreate, GenerationMember, GenerationRestore, GenerationRule, GenerationRuleSet,
    GenerationsDocument, Period, QueryVolume, time::rfc3339,
};
use replication::{
    HostUse as _,
    events::{ArrayEvent, Level},
};
use target_core::{
    control::ArrayControl as _,
    scsi_model::control::{OutVerb, Request, VolumeNumber, VolumePair},
    state_file::StateFileError,
};
use tokio::sync::Mutex;

pub(crate) use self::timer::{now_ms, run};
use self::{
    book::{Book, Generation},
    making::Maker,
    rule::Rule,
    usage::Usage,
};
use crate::{
    config::{Config, validate_name},
    service::Service,
};

/// Most standards of one generation.
const MOST_STANDARDS: usize = 64;
/// Most generations that a rule keeps: a volume has at most 64 pairs, and the next image and a spent mirror are some too.
const MOST_KEPT: u32 = 60;

/// All generations of the system.
#[derive(Debug)]
pub(crate) struct Generations {
    state_dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    book: Book,
    /// Reasons that were said already, so that they are said once.
    said: BTreeMap<String, String>,
}

impl Generations {
    /// What is kept in the state directory.
    pub(crate) fn open(state_dir: PathBuf) -> Result<Self, StateFileError> {
        let state = State {
            book: Book::load(&state_dir)?,
            said: BTreeMap::new(),
        };
        Ok(Self {
            state_dir,
            state: Mutex::new(state),
        })
    }

    /// `generation create`.
    pub(crate) async fn create(
        &self,
        service: &Service,
        wanted: GenerationCreate,
    ) -> Result<admin_api::Generation, String> {
        let mut state = self.state.lock().await;
        let config = service.config().await;
        let primaries = standards(&config, &wanted.primaries)?;
        self.look(service, &mut state).await?;
        if let Some(name) = &wanted.name {
            validate_name(name).map_err(|error| format!("the name {error}"))?;
            if state.book.find(name).is_ok() {
                return Err(format!("there is a generation {name} already"));
            }
        }
        let number = self
            .make(service, &mut state, &primaries, Maker::Hand(wanted.name))
            .await?;
        // A volume may have been made for it.
        let config = service.config().await;
        let usage = usage(service, &config, &state.book);
        let generation = state.book.get(number).ok_or("it is gone already")?;
        Ok(document(service, &config, generation, &usage))
    }

    /// `generation list` and `generation rule show`.
    pub(crate) async fn list(&self, service: &Service) -> Result<GenerationsDocument, String> {
        let mut state = self.state.lock().await;
        let config = service.config().await;
        // What cannot be written down can still be looked at.
        self.look_or_tell(service, &mut state).await;
        let usage = usage(service, &config, &state.book);
        let volume = |number: &u32| named(&config, *number);
        let rules = state.book.rules.iter().map(|rule| GenerationRule {
            primaries: rule.primaries.iter().map(volume).collect(),
            every_seconds: rule.every,
            keep: rule.keep,
            max_age_seconds: rule.max_age,
            next_at: rfc3339(rule.next_at_ms),
        });
        let generations = state.book.generations.iter();
        Ok(GenerationsDocument {
            generations: generations
                .map(|generation| document(service, &config, generation, &usage))
                .collect(),
            rules: rules.collect(),
        })
    }

    /// `generation delete`.
    pub(crate) async fn delete(&self, service: &Service, text: &str) -> Result<Vec<String>, String> {
        let mut state = self.state.lock().await;
        let config = service.config().await;
        self.look(service, &mut state).await?;
        let generation = state.book.find(text)?.clone();
        if let Some(why) = usage(service, &config, &state.book).of_generation(&generation) {
            let text = format!("generation {} is in use: {why}", generation.called());
            tell(service, Level::Warning, format!("{text}; it was not deleted"));
            return Err(text);
        }
        let mut done = vec![self.discard(service, &mut state, generation.number, "as asked for")?];
        done.extend(self.let_go(service, &mut state).await?);
        Ok(done)
    }

    /// `generation rule set`. Replaces the rule of the same standards.
    pub(crate) async fn set_rule(
        &self,
        service: &Service,
        wanted: GenerationRuleSet,
        now_ms: u64,
    ) -> Result<Vec<String>, String> {
        let mut state = self.state.lock().await;
        let config = service.config().await;
        let primaries = standards(&config, &wanted.primaries)?;
        if !(1..=MOST_KEPT).contains(&wanted.keep) {
            return Err(format!(
                "keep {} is not accepted: 1 to {MOST_KEPT} is",
                wanted.keep
            ));
        }
        for seconds in [Some(wanted.every_seconds), wanted.max_age_seconds]
            .into_iter()
            .flatten()
        {
            if !Period::RANGE.contains(&seconds) {
                return Err(format!(
                    "a time of {seconds} s is not accepted: 1 s to a hundred years is"
                ));
            }
        }
        for primary in &primaries {
            if let Some(other) = state.book.rule_of(*primary)
                && other.primaries != primaries
            {
                return Err(format!(
                    "volume {primary} is in the rule of volumes {} already: `generation rule clear {primary}` first",
                    list(&other.primaries)
                ));
            }
        }
        let rule = Rule {
            every: wanted.every_seconds,
            keep: wanted.keep,
            max_age: wanted.max_age_seconds,
            next_at_ms: now_ms,
            not_before_ms: 0,
            primaries,
        };
        let said = format!("rule set: {}", sentence(&config, &rule));
        let mut book = state.book.clone();
        book.rules.retain(|other| other.primaries != rule.primaries);
        book.rules.push(rule);
        self.keep(&mut state, book)?;
        tell(service, Level::Info, said.clone());
        Ok(vec![said])
    }

    /// `generation rule clear`. Its generations stay.
    pub(crate) async fn clear_rule(&self, service: &Service, primary: u32) -> Result<Vec<String>, String> {
        let mut state = self.state.lock().await;
        let Some(rule) = state.book.rule_of(primary).cloned() else {
            return Err(format!("volume {primary} is in no rule"));
        };
        let mut book = state.book.clone();
        book.rules.retain(|other| *other != rule);
        self.keep(&mut state, book)?;
        let config = service.config().await;
        let said = format!("rule cleared: {}", sentence(&config, &rule));
        tell(service, Level::Info, said.clone());
        let mut done = vec![said];
        done.extend(self.let_go(service, &mut state).await?);
        Ok(done)
    }

    /// RESTORE from a generation: the request, if its pairs are of that generation still. None can be dropped meanwhile.
    pub(crate) async fn restore(
        &self,
        service: &Service,
        wanted: GenerationRestore,
    ) -> Result<ControlAnswer, String> {
        let mut state = self.state.lock().await;
        self.look(service, &mut state).await?;
        let generation = state.book.find(&wanted.generation.to_string())?;
        let of_it = |pair: &VolumePair| {
            generation.members.iter().any(|member| {
                (Some(VolumeNumber(member.mirror)), VolumeNumber(member.primary))
                    == (pair.mirror, pair.primary)
            })
        };
        match &wanted.request {
            Request::Out {
                verb: OutVerb::Restore,
                members,
                ..
            } if members.iter().all(of_it) => {
                Ok(ControlAnswer::from(service.array.execute(wanted.request).await))
            }
            _ => Err(format!(
                "that is no RESTORE of pairs of generation {}",
                generation.called()
            )),
        }
    }

    /// Why a standard must not be deleted, if it must not: a later volume of its number would be in its rule.
    pub(crate) async fn needs(&self, number: u32) -> Option<String> {
        let state = self.state.lock().await;
        state
            .book
            .rule_of(number)
            .map(|_| format!("volume {number} is in a rule: `holdfast generation rule clear {number}` first"))
    }

    /// [`Self::look`], with an event in the place of an error.
    async fn look_or_tell(&self, service: &Service, state: &mut State) {
        const TOPIC: &str = "look";
        match self.look(service, state).await {
            Ok(()) => drop(state.said.remove(TOPIC)),
            Err(why) => say_once(service, state, TOPIC.to_owned(), why),
        }
    }

    /// The book is this one from now on, on disk first.
    fn keep(&self, state: &mut State, book: Book) -> Result<(), String> {
        book.store(&self.state_dir).map_err(|error| error.to_string())?;
        state.book = book;
        Ok(())
    }

    /// Its mirrors are spent from now on. Gives a sentence.
    fn discard(
        &self,
        service: &Service,
        state: &mut State,
        number: u32,
        why: &str,
    ) -> Result<String, String> {
        let mut book = state.book.clone();
        let generation = book
            .drop_generation(number)
            .ok_or_else(|| format!("there is no generation {number}"))?;
        self.keep(state, book)?;
        state.said.remove(&format!("generation {number}"));
        let text = format!("generation {} was dropped, {why}", generation.called());
        tell(service, Level::Info, text.clone());
        Ok(text)
    }
}

/// An event.
fn tell(service: &Service, level: Level, text: String) {
    service.array.events().push(ArrayEvent::Told {
        kind: "generation",
        level,
        text,
    });
}

/// An event, unless the last one on this topic was the same.
fn say_once(service: &Service, state: &mut State, topic: String, text: String) {
    if state.said.get(&topic) != Some(&text) {
        tell(service, Level::Warning, text.clone());
        state.said.insert(topic, text);
    }
}

/// What happens with the volumes now. A volume that was made for a generation has a LUN because somebody wants to see it.
fn usage(service: &Service, config: &Config, book: &Book) -> Usage {
    let mut hosts = BTreeMap::new();
    for session in service.frontend.sessions() {
        let Some(target) = config.targets.get(&session.target.to_lowercase()) else {
            continue;
        };
        for (lun, map) in target.luns_of(&session.initiator) {
            let volume = map.volume;
            hosts.entry(volume).or_insert_with(|| {
                format!(
                    "volume {volume} is LUN {lun} of {}, where {} is logged in: unmap it when it is not needed there",
                    target.iqn, session.initiator
                )
            });
        }
    }
    for target in config.targets.values() {
        for (lun, map) in &target.luns {
            let volume = map.volume;
            if book.made.contains_key(&volume) {
                hosts.entry(volume).or_insert_with(|| {
                    format!(
                        "volume {volume} is LUN {lun} of {}: `unmap {volume}` when it is not needed there",
                        target.iqn
                    )
                });
            }
        }
    }
    for number in config.volumes.keys() {
        if let Some(why) = service.reservations.in_use(VolumeNumber(*number)) {
            hosts.insert(*number, format!("volume {number}: {why}"));
        }
    }
    Usage {
        pairs: service.array.pairs(),
        hosts,
    }
}

/// The standards of a generation, checked, in order.
fn standards(config: &Config, numbers: &[u32]) -> Result<Vec<u32>, String> {
    let distinct: BTreeSet<u32> = numbers.iter().copied().collect();
    if distinct.len() != numbers.len() {
        return Err(format!("a volume is named twice in {}", list(numbers)));
    }
    if distinct.is_empty() || distinct.len() > MOST_STANDARDS {
        return Err(format!(
            "{} standards were given: 1 to {MOST_STANDARDS} are accepted",
            distinct.len()
        ));
    }
    for number in &distinct {
        if !config.volumes.contains_key(number) {
            return Err(format!("there is no volume {number}"));
        }
        if config.generations.pool.contains(number) {
            return Err(format!(
                "volume {number} is in the pool: it is where generations go"
            ));
        }
    }
    Ok(distinct.into_iter().collect())
}

fn list(numbers: &[u32]) -> String {
    let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

fn sentence(config: &Config, rule: &Rule) -> String {
    let volumes: Vec<String> = rule
        .primaries
        .iter()
        .map(|number| config.volume_named(*number))
        .collect();
    let age = rule
        .max_age
        .map_or_else(String::new, |age| format!(", none older than {}", Period(age)));
    format!(
        "{} every {}, the newest {} kept{age}",
        volumes.join(", "),
        Period(rule.every),
        rule.keep
    )
}

fn named(config: &Config, number: u32) -> QueryVolume {
    QueryVolume {
        number,
        name: config.volumes.get(&number).map(|volume| volume.name.clone()),
    }
}

fn document(
    service: &Service,
    config: &Config,
    generation: &Generation,
    usage: &Usage,
) -> admin_api::Generation {
    let members = generation.members.iter().map(|member| {
        let pair = usage.pairs.iter().find(|pair| pair.mirror.0 == member.mirror);
        GenerationMember {
            primary: named(config, member.primary),
            mirror: named(config, member.mirror),
            state: pair.map_or("simplex", |pair| pair.state.name()).to_owned(),
            mirror_invalid: pair.map_or(0, |pair| pair.mirror_invalid),
            primary_invalid: pair.map_or(0, |pair| pair.primary_invalid),
            track_size: service.array.track_size(),
        }
    });
    admin_api::Generation {
        number: generation.number,
        name: generation.name.clone(),
        at: rfc3339(generation.at_ms),
        by_rule: generation.by_rule,
        in_use: usage.of_generation(generation),
        members: members.collect(),
    }
}
