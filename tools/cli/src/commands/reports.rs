//! The IN verbs: what there is, and how it is.

use std::io::{IsTerminal as _, stdout};

use admin_api::{PairState, QueryPair, VolumeDocument, VolumesDocument};
use scsi_model::control::{PairSelector, Reply, Request, SystemId, VolumeNumber};
use serde::Serialize;

use super::waiting::BEAT;
use crate::{
    args::{PendingArgs, QueryArgs, VolumeName},
    failure::Failure,
    output::{Output, progress, table},
    system::System,
    transport::host_device,
};

pub(super) fn setup(system: &mut System, output: Output) -> Result<(), Failure> {
    let mut volumes = match system.admin_if_any() {
        Some(admin) => admin.get::<VolumesDocument>("/v1/volumes")??.volumes,
        None => system.volumes()?.iter().map(VolumeDocument::from).collect(),
    };
    if system.kernel() {
        for volume in &mut volumes {
            volume.host_device = host_device(&volume.naa);
        }
    }
    let document = VolumesDocument {
        system: system.id()?.to_string(),
        volumes,
    };
    output.print(&document, |document| table::setup(&document.volumes))
}

pub(super) fn query(system: &mut System, output: Output, args: &QueryArgs) -> Result<(), Failure> {
    let selector = system.selector(args.primary.as_ref(), args.mirror.as_ref())?;
    if args.watch {
        if output.json {
            return Err(Failure::Usage(
                "--watch draws for people, --json is one document: give one of them".to_owned(),
            ));
        }
        return watch(system, selector);
    }
    let document = system.query(selector)?;
    output.print(&document, |document| table::pairs(&document.pairs))
}

/// Redraws until interrupted: on a terminal in place, elsewhere one below the other.
fn watch(system: &mut System, selector: PairSelector) -> Result<(), Failure> {
    const CLEAR: &str = "\x1b[H\x1b[2J";
    let clear = if stdout().is_terminal() { CLEAR } else { "" };
    loop {
        let document = system.query(selector)?;
        let copying = |pair: &&QueryPair| pair.pair_state().is_some_and(PairState::copying);
        let bars: Vec<String> = document
            .pairs
            .iter()
            .filter(copying)
            .map(|pair| {
                format!(
                    "{} {} {}",
                    table::pair(pair),
                    progress::bar(pair, 40),
                    progress::how_far(pair)
                )
            })
            .collect();
        let gap = if bars.is_empty() { "" } else { "\n\n" };
        Output::line(&format!(
            "{clear}{}{gap}{}",
            table::pairs(&document.pairs),
            bars.join("\n")
        ))?;
        std::thread::sleep(BEAT);
    }
}

#[derive(Debug, Serialize)]
struct PendingDocument {
    primary: u32,
    mirror: Option<u32>,
    side: &'static str,
    block_size: u32,
    extents: Vec<ExtentDocument>,
}

#[derive(Debug, Serialize)]
struct ExtentDocument {
    lba: u64,
    blocks: u64,
}

pub(super) fn pending(system: &mut System, output: Output, args: &PendingArgs) -> Result<(), Failure> {
    use scsi_model::control::PendingSide;
    let pair = system.pair(&args.pair)?;
    let side = args.side.into();
    let request = Request::ReadPendingMap {
        pair: pair.clone(),
        side,
    };
    let extents = system.ask_for(&request, |reply| match reply {
        Reply::Pending(extents) => Ok(extents),
        other => Err(other),
    })?;
    let block_size = system
        .volumes()?
        .iter()
        .find(|volume| volume.number == pair.primary)
        .map_or(512, |v| v.block_size);
    let document = PendingDocument {
        primary: pair.primary.0,
        mirror: pair.mirror.map(|mirror| mirror.0),
        side: match side {
            PendingSide::Union => "union",
            PendingSide::Primary => "primary",
            PendingSide::Mirror => "mirror",
            PendingSide::Remaining => "remaining",
        },
        block_size,
        extents: extents
            .iter()
            .map(|extent| ExtentDocument {
                lba: extent.lba,
                blocks: extent.blocks,
            })
            .collect(),
    };
    output.print(&document, |document| {
        let extents: Vec<_> = document
            .extents
            .iter()
            .map(|extent| (extent.lba, extent.blocks))
            .collect();
        table::extents(&extents, document.block_size)
    })
}

#[derive(Debug, Serialize)]
struct TableDocument {
    system: String,
    volume: u32,
    entries: Vec<TableEntry>,
}

#[derive(Debug, Serialize)]
struct TableEntry {
    kind: &'static str,
    role: &'static str,
    state: &'static str,
    other: u32,
    other_name: Option<String>,
    system: String,
    pending: u64,
    bytes_per_bit: u32,
}

pub(super) fn table(system: &mut System, output: Output, volume: &VolumeName) -> Result<(), Failure> {
    let volume = system.number(volume)?;
    let rows = system.ask_for(&Request::CopyManagementTable(volume), |reply| match reply {
        Reply::Table(rows) => Ok(rows),
        other => Err(other),
    })?;
    let id = system.id()?;
    let mut entries = Vec::new();
    for row in rows {
        entries.push(TableEntry {
            kind: if row.remote { "remote" } else { "local" },
            role: if row.primary { "primary" } else { "mirror" },
            state: PairState::from_code(row.status).map_or("unknown", PairState::name),
            other: row.other.0,
            other_name: name_of(system, &id, &row.system, row.other)?,
            system: row.system.to_string(),
            pending: row.pending,
            bytes_per_bit: row.bytes_per_bit,
        });
    }
    let document = TableDocument {
        system: id.to_string(),
        volume: volume.0,
        entries,
    };
    output.print(&document, |document| {
        let rows: Vec<[String; 7]> = document.entries.iter().map(row).collect();
        table::copy_table(&rows)
    })
}

fn row(entry: &TableEntry) -> [String; 7] {
    let name = entry
        .other_name
        .as_ref()
        .map(|name| format!(" ({name})"))
        .unwrap_or_default();
    [
        entry.kind.to_owned(),
        entry.role.to_owned(),
        entry.state.to_owned(),
        format!("{}{name}", entry.other),
        entry.system.clone(),
        entry.pending.to_string(),
        entry.bytes_per_bit.to_string(),
    ]
}

/// Names of another system's volumes are not known here.
fn name_of(
    system: &mut System,
    here: &SystemId,
    holder: &SystemId,
    volume: VolumeNumber,
) -> Result<Option<String>, Failure> {
    if here != holder {
        return Ok(None);
    }
    Ok(system
        .volumes()?
        .iter()
        .find(|other| other.number == volume)
        .map(|other| other.name.clone()))
}
