//! What only the admin socket does.

use admin_api::{
    Change, ChangeKind, DoneAnswer, EventsDocument, MapRequest, ReloadCheck, SessionsDocument, UnmapRequest,
    VolumeCreate, VolumeDelete, VolumeResize, VolumesDocument,
};
use serde::Serialize;

use crate::{
    args::{EventsArgs, MapArgs, ReloadArgs, UnmapArgs, VolumeCommand, VolumeCreateArgs},
    failure::Failure,
    output::{Output, table},
    system::System,
};

pub(super) fn volume(system: &mut System, output: Output, command: &VolumeCommand) -> Result<(), Failure> {
    const COMMAND: &str = "volume";
    system.admin(COMMAND)?;
    match command {
        VolumeCommand::Create(args) => post(system, output, COMMAND, "/v1/volume/create", &create(args)?),
        VolumeCommand::Delete { volume } => {
            let number = system.number(volume)?.0;
            post(
                system,
                output,
                COMMAND,
                "/v1/volume/delete",
                &VolumeDelete { number },
            )
        }
        VolumeCommand::Resize { volume, size } => {
            let number = system.number(volume)?.0;
            post(
                system,
                output,
                COMMAND,
                "/v1/volume/resize",
                &VolumeResize {
                    number,
                    size: size.to_string(),
                },
            )
        }
        VolumeCommand::List => {
            let document: VolumesDocument = system.admin(COMMAND)?.get("/v1/volumes")??;
            output.print(&document, |document| table::volumes(&document.volumes))
        }
    }
}

fn create(args: &VolumeCreateArgs) -> Result<VolumeCreate, Failure> {
    let file = match &args.file {
        None => None,
        Some(path) => {
            // The daemon may run in another directory.
            let path = std::path::absolute(path)?;
            let text = path
                .to_str()
                .ok_or_else(|| Failure::Usage(format!("{} is not UTF-8", path.display())))?;
            Some(text.to_owned())
        }
    };
    Ok(VolumeCreate {
        number: args.number,
        name: args.name.clone(),
        mirror: args.class == crate::args::Class::Mirror,
        size: args.size.map(|size| size.to_string()),
        file,
        memory: args.memory,
        direct: args.direct,
        block_size: args.block_size,
        physical_block_size: args.physical_block_size,
        removable: args.removable,
        thick: args.thick,
    })
}

pub(super) fn map(system: &mut System, output: Output, args: &MapArgs) -> Result<(), Failure> {
    system.admin("map")?;
    let request = MapRequest {
        volume: system.number(&args.volume)?.0,
        target: args.target.clone(),
        lun: args.lun,
        read_only: args.read_only,
    };
    post(system, output, "map", "/v1/map", &request)
}

pub(super) fn unmap(system: &mut System, output: Output, args: &UnmapArgs) -> Result<(), Failure> {
    system.admin("unmap")?;
    let request = UnmapRequest {
        volume: system.number(&args.volume)?.0,
        target: args.target.clone(),
        lun: args.lun,
    };
    post(system, output, "unmap", "/v1/unmap", &request)
}

pub(super) fn reload(system: &mut System, output: Output, args: &ReloadArgs) -> Result<(), Failure> {
    let nothing = serde_json::json!({});
    if !args.check {
        return post(system, output, "reload", "/v1/reload", &nothing);
    }
    let check: ReloadCheck = system.admin("reload")?.post("/v1/reload/check", &nothing)??;
    output.print(&check, reload_check)?;
    if check.refused.is_empty() {
        Ok(())
    } else {
        Err(Failure::ReloadRefused)
    }
}

/// A line for each difference: `+` comes, `-` goes, `~` is otherwise, `!` cannot be while serving.
fn reload_check(check: &ReloadCheck) -> String {
    let or_default = |value: &Option<String>| value.clone().unwrap_or_else(|| "(default)".to_owned());
    let change = |change: &Change| {
        let Change {
            change,
            of,
            key,
            before,
            after,
        } = change;
        let (sign, with) = match change {
            ChangeKind::Added => ('+', after),
            ChangeKind::Removed => ('-', before),
            ChangeKind::Changed => {
                let key = key.as_deref().unwrap_or_default();
                return format!("~ {of}, {key}: {} -> {}", or_default(before), or_default(after));
            }
        };
        let with = with.as_ref().map_or_else(String::new, |with| format!(": {with}"));
        format!("{sign} {of}{with}")
    };
    let refused = check.refused.iter().map(|text| format!("! {text}"));
    let lines: Vec<_> = check.changes.iter().map(change).chain(refused).collect();
    if lines.is_empty() {
        "nothing would change".to_owned()
    } else {
        lines.join("\n")
    }
}

pub(super) fn post(
    system: &mut System,
    output: Output,
    command: &str,
    path: &str,
    document: &impl Serialize,
) -> Result<(), Failure> {
    let answer: DoneAnswer = system.admin(command)?.post(path, document)??;
    output.print(&answer, |answer| answer.done.join("\n"))
}

pub(super) fn sessions(system: &mut System, output: Output) -> Result<(), Failure> {
    let document: SessionsDocument = system.admin("sessions")?.get("/v1/sessions")??;
    output.print(&document, |document| table::sessions(&document.sessions))
}

/// With `--follow` and `--json`, a document for each batch: a stream has no end to print one document at.
pub(super) fn events(system: &mut System, output: Output, args: &EventsArgs) -> Result<(), Failure> {
    const WAIT: u32 = 30;
    let admin = system.admin("events")?;
    let mut after = args.after;
    let mut wait = 0;
    loop {
        let document: EventsDocument = admin.get(&format!("/v1/events?after={after}&wait={wait}"))??;
        if document.missed {
            eprintln!("holdfast: some events after number {after} are gone");
        }
        if !(args.follow && document.events.is_empty()) {
            output.print(&document, |document| {
                document
                    .events
                    .iter()
                    .map(table::event)
                    .collect::<Vec<_>>()
                    .join("\n")
            })?;
        }
        if !args.follow {
            return Ok(());
        }
        (after, wait) = (document.last, WAIT);
    }
}
