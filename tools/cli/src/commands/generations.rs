//! `generation`: images of standards, and the rules that make them.

use admin_api::{
    Generation, GenerationCreate, GenerationDelete, GenerationRuleClear, GenerationRuleSet,
    GenerationsDocument,
};
use scsi_model::control::{VolumeNumber, VolumePair};

use super::{administration::post, pairs};
use crate::{
    args::{CreateArgs, GenerationCommand, GenerationRestoreArgs, RuleCommand, RuleSetArgs, VolumeName},
    failure::Failure,
    output::{Output, table},
    system::System,
};

const COMMAND: &str = "generation";

pub(super) fn run(system: &mut System, output: Output, command: &GenerationCommand) -> Result<(), Failure> {
    system.admin(COMMAND)?;
    match command {
        GenerationCommand::Create(args) => create(system, output, args),
        GenerationCommand::List { primary } => list(system, output, primary.as_ref()),
        GenerationCommand::Restore(args) => restore(system, output, args),
        GenerationCommand::Delete { generation } => {
            let request = GenerationDelete {
                generation: generation.clone(),
            };
            post(system, output, COMMAND, "/v1/generation/delete", &request)
        }
        GenerationCommand::Rule(RuleCommand::Set(args)) => set_rule(system, output, args),
        GenerationCommand::Rule(RuleCommand::Show) => {
            let document = document(system)?;
            output.print(&document.rules, |rules| table::rules(rules))
        }
        GenerationCommand::Rule(RuleCommand::Clear { primary }) => {
            let primary = system.number(primary)?.0;
            let request = GenerationRuleClear { primary };
            post(system, output, COMMAND, "/v1/generation/rule/clear", &request)
        }
    }
}

fn document(system: &mut System) -> Result<GenerationsDocument, Failure> {
    Ok(system.admin(COMMAND)?.get("/v1/generations")??)
}

fn numbers(system: &mut System, names: &[VolumeName]) -> Result<Vec<u32>, Failure> {
    names
        .iter()
        .map(|name| system.number(name).map(|number| number.0))
        .collect()
}

/// A volume that there is: a list of nothing would hide a slip.
fn known(system: &mut System, name: &VolumeName) -> Result<u32, Failure> {
    let number = system.number(name)?;
    if system.volumes()?.iter().any(|volume| volume.number == number) {
        return Ok(number.0);
    }
    Err(Failure::Failed(format!("there is no volume {}", number.0)))
}

fn create(system: &mut System, output: Output, args: &CreateArgs) -> Result<(), Failure> {
    let request = GenerationCreate {
        primaries: numbers(system, &args.primaries)?,
        name: args.name.clone(),
    };
    let made: Generation = system.admin(COMMAND)?.post("/v1/generation/create", &request)??;
    output.print(&made, |made| format!("generation {}", table::generation(made)))
}

fn list(system: &mut System, output: Output, primary: Option<&VolumeName>) -> Result<(), Failure> {
    let mut document = document(system)?;
    if let Some(primary) = primary {
        let primary = known(system, primary)?;
        let has = |generation: &Generation| {
            generation
                .members
                .iter()
                .any(|member| member.primary.number == primary)
        };
        document.generations.retain(has);
        document
            .rules
            .retain(|rule| rule.primaries.iter().any(|volume| volume.number == primary));
    }
    output.print(&document, |document| table::generations(&document.generations))
}

fn restore(system: &mut System, output: Output, args: &GenerationRestoreArgs) -> Result<(), Failure> {
    let primary = system.number(&args.primary)?;
    let text = args.generation.as_str();
    let number: Option<u32> = text.parse().ok();
    let document = document(system)?;
    let generation = document
        .generations
        .iter()
        .find(|generation| match number {
            Some(number) => generation.number == number,
            None => generation.name.as_deref() == Some(text),
        })
        .ok_or_else(|| {
            Failure::Failed(format!(
                "there is no generation {text}; `generation list` shows all"
            ))
        })?;
    let members: Vec<VolumePair> = generation
        .members
        .iter()
        .filter(|member| args.all || member.primary.number == primary.0)
        .map(|member| VolumePair {
            primary: VolumeNumber(member.primary.number),
            mirror: Some(VolumeNumber(member.mirror.number)),
        })
        .collect();
    if !members.iter().any(|member| member.primary == primary) {
        let called = system.called(primary);
        return Err(Failure::Failed(format!(
            "generation {text} is not of volume {called}"
        )));
    }
    let number = Some(generation.number);
    pairs::restore_members(system, output, members, number, args.options, args.how, args.wait)
}

fn set_rule(system: &mut System, output: Output, args: &RuleSetArgs) -> Result<(), Failure> {
    let request = GenerationRuleSet {
        primaries: numbers(system, &args.primaries)?,
        every_seconds: args.every.0,
        keep: args.keep,
        max_age_seconds: args.max_age.map(|age| age.0),
    };
    post(system, output, COMMAND, "/v1/generation/rule/set", &request)
}
