//! The OUT verbs: what they are given becomes one [`Request::Out`].

use admin_api::{ControlAnswer, GenerationRestore, PairState, QueryPair};
use scsi_model::control::{
    CopyMode, Flags, OutVerb, PairSelector, Preview, RefusalKind, Reply, Request, VolumeNumber, VolumePair,
};
use serde::Serialize;

use super::waiting;
use crate::{
    args::{
        CancelArgs, ConfigArgs, EstablishArgs, FarVolume, ForceArgs, GroupCommand, How, OnLinkLossArgs,
        PairArgs, RestoreArgs, RestoreOptions, SplitArgs, Wait,
    },
    failure::Failure,
    output::Output,
    system::System,
};

/// A verb ready to go.
struct Order {
    verb: OutVerb,
    flags: Flags,
    members: Vec<VolumePair>,
    /// What the pairs are once their copies have ended.
    goal: &'static [PairState],
    /// The generation that the pairs must be of still.
    generation: Option<u32>,
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct DoneDocument {
    verb: &'static str,
    done: bool,
    pairs: Vec<QueryPair>,
}

/// And for `--dry-run`.
#[derive(Debug, Serialize)]
pub(super) struct DryRunDocument {
    pub(super) verb: &'static str,
    pub(super) accepted: bool,
    /// `None` where nothing is copied by the verb.
    pub(super) tracks: Option<u64>,
    pub(super) bytes: Option<u64>,
}

const ESTABLISHED: &[PairState] = &[PairState::Duplex, PairState::Restored];
const SPLIT: &[PairState] = &[PairState::Split];
const RESTORED: &[PairState] = &[PairState::Restored];

pub(super) fn establish(system: &mut System, output: Output, args: &EstablishArgs) -> Result<(), Failure> {
    let (primary, mirror) = (&args.pair.primary, &args.pair.mirror);
    let (primary, mirror, remote) = match (mirror, args.mode) {
        (FarVolume::There(peer, number), mode) => {
            let mode = mode.map_or(CopyMode::Async, Into::into);
            let primary = system.primary_here(primary)?;
            (primary, VolumeNumber(*number), Some((peer.clone(), mode)))
        }
        (FarVolume::Here(_), None) => {
            let (primary, mirror) = system.numbers(primary, mirror)?;
            (primary, mirror, None)
        }
        (FarVolume::Here(_), Some(_)) => {
            return Err(Failure::Usage(
                "--mode is for remote pairs: `establish P SYSTEM:VOL --mode sync`".to_owned(),
            ));
        }
    };
    let flags = Flags {
        full: args.full,
        remote: remote.is_some(),
        checksum: args.checksum,
        ..Flags::default()
    };
    let members = vec![VolumePair {
        primary,
        mirror: Some(mirror),
    }];
    if args.on_link_loss.is_some() && remote.is_none() {
        return Err(Failure::Usage(
            "--on-link-loss is for remote pairs: `establish P SYSTEM:VOL --mode sync --on-link-loss refuse`"
                .to_owned(),
        ));
    }
    let order = Order {
        verb: OutVerb::Establish { remote },
        flags,
        members,
        goal: ESTABLISHED,
        generation: None,
    };
    let policy = args.on_link_loss.filter(|_| !args.how.dry_run);
    let Some(policy) = policy else {
        return give(system, output, &order, args.how, Some(args.wait));
    };
    send(system, &order, false)?;
    let policy = Order {
        verb: OutVerb::OnLinkLoss(policy.into()),
        flags: Flags::default(),
        members: order.members.clone(),
        goal: &[],
        generation: None,
    };
    send(system, &policy, false)?;
    given(system, output, &order, Some(args.wait))
}

pub(super) fn split(system: &mut System, output: Output, args: &SplitArgs) -> Result<(), Failure> {
    let mut flags = args.options.flags();
    let member = if args.remote {
        flags.remote = true;
        // M is a volume of the paired system: only its number can be known here.
        let number = match &args.pair.mirror {
            FarVolume::There(_, number) | FarVolume::Here(crate::args::VolumeName::Number(number)) => *number,
            FarVolume::Here(name) => {
                let text =
                    format!("split --remote takes the number of a volume of the paired system, not {name}");
                return Err(Failure::Usage(text));
            }
        };
        VolumePair {
            primary: system.primary_here(&args.pair.primary)?,
            mirror: Some(VolumeNumber(number)),
        }
    } else {
        system.pair(&args.pair)?
    };
    let wait = (!args.remote).then_some(args.wait);
    give(
        system,
        output,
        &Order {
            verb: OutVerb::Split,
            flags,
            members: vec![member],
            goal: SPLIT,
            generation: None,
        },
        args.how,
        wait,
    )
}

pub(super) fn restore(system: &mut System, output: Output, args: &RestoreArgs) -> Result<(), Failure> {
    let members = vec![system.pair(&args.pair)?];
    restore_members(system, output, members, None, args.options, args.how, args.wait)
}

/// RESTORE of these pairs, all or none; if they are of that generation still, when one is given.
pub(super) fn restore_members(
    system: &mut System,
    output: Output,
    members: Vec<VolumePair>,
    generation: Option<u32>,
    options: RestoreOptions,
    how: How,
    wait: Wait,
) -> Result<(), Failure> {
    let order = Order {
        verb: OutVerb::Restore,
        flags: options.flags(),
        members,
        goal: if options.protected { SPLIT } else { RESTORED },
        generation,
    };
    give(system, output, &order, how, Some(wait))
}

pub(super) fn config(system: &mut System, output: Output, args: &ConfigArgs) -> Result<(), Failure> {
    let volume = system.number(&args.volume)?;
    let members = vec![VolumePair {
        primary: volume,
        mirror: Some(volume),
    }];
    let verb = OutVerb::Config(args.condition.into());
    let order = Order {
        verb,
        flags: Flags::default(),
        members,
        goal: &[],
        generation: None,
    };
    if args.how.dry_run {
        return dry_run(system, output, &order);
    }
    send(system, &order, false)?;
    let name = system.called(volume);
    let document = DoneDocument {
        verb: "config",
        done: true,
        pairs: Vec::new(),
    };
    output.print(&document, |_| format!("volume {name}: done"))
}

pub(super) fn cancel(system: &mut System, output: Output, args: &CancelArgs) -> Result<(), Failure> {
    let flags = Flags {
        force: args.force,
        ..Flags::default()
    };
    let order = Order {
        verb: OutVerb::Cancel,
        flags,
        members: vec![system.pair(&args.pair)?],
        goal: &[],
        generation: None,
    };
    give(system, output, &order, args.how, None)
}

pub(super) fn swap(system: &mut System, output: Output, args: &ForceArgs) -> Result<(), Failure> {
    let flags = Flags {
        force: args.force,
        ..Flags::default()
    };
    let order = Order {
        verb: OutVerb::Swap,
        flags,
        members: vec![system.pair(&args.pair)?],
        goal: &[],
        generation: None,
    };
    give(system, output, &order, args.how, None)
}

pub(super) fn suspend(system: &mut System, output: Output, args: &PairArgs) -> Result<(), Failure> {
    let members = vec![system.pair(&args.pair)?];
    let order = Order {
        verb: OutVerb::Suspend,
        flags: Flags::default(),
        members,
        goal: &[],
        generation: None,
    };
    give(system, output, &order, args.how, None)
}

pub(super) fn on_link_loss(
    system: &mut System,
    output: Output,
    args: &OnLinkLossArgs,
) -> Result<(), Failure> {
    let order = Order {
        verb: OutVerb::OnLinkLoss(args.policy.into()),
        flags: Flags::default(),
        members: vec![system.pair(&args.pair)?],
        goal: &[],
        generation: None,
    };
    give(system, output, &order, args.how, None)
}

pub(super) fn group(system: &mut System, output: Output, command: &GroupCommand) -> Result<(), Failure> {
    let (verb, flags, pairs, goal, wait, how) = match command {
        GroupCommand::Establish {
            pairs,
            full,
            wait,
            how,
        } => {
            let flags = Flags {
                full: *full,
                ..Flags::default()
            };
            (
                OutVerb::Establish { remote: None },
                flags,
                pairs,
                ESTABLISHED,
                wait,
                how,
            )
        }
        GroupCommand::Split {
            pairs,
            options,
            wait,
            how,
        } => (OutVerb::Split, options.flags(), pairs, SPLIT, wait, how),
        GroupCommand::Restore {
            pairs,
            options,
            wait,
            how,
        } => {
            let goal = if options.protected { SPLIT } else { RESTORED };
            (OutVerb::Restore, options.flags(), pairs, goal, wait, how)
        }
    };
    let members = system.members(pairs)?;
    give(
        system,
        output,
        &Order {
            verb,
            flags,
            members,
            goal,
            generation: None,
        },
        *how,
        Some(*wait),
    )
}

/// Gives the order, waits if asked to, and says what has become of the pairs.
fn give(
    system: &mut System,
    output: Output,
    order: &Order,
    how: How,
    wait: Option<Wait>,
) -> Result<(), Failure> {
    if how.dry_run {
        return dry_run(system, output, order);
    }
    send(system, order, false)?;
    given(system, output, order, wait)
}

/// Waits if asked to, and says what has become of the pairs.
fn given(system: &mut System, output: Output, order: &Order, wait: Option<Wait>) -> Result<(), Failure> {
    let members: Vec<(VolumeNumber, VolumeNumber)> = order
        .members
        .iter()
        .filter_map(|member| Some((member.primary, member.mirror?)))
        .collect();
    let pairs = match wait {
        Some(Wait { wait: true, timeout }) => {
            waiting::until_settled(system, output, &members, order.goal, timeout)?
        }
        _ if order.flags.remote => Vec::new(),
        _ => after(system, &members)?,
    };
    let verb = order.verb.name();
    let document = DoneDocument {
        verb,
        done: true,
        pairs,
    };
    output.print(&document, |document| match &document.pairs[..] {
        [] => format!("{verb}: done"),
        pairs => {
            let line = |pair: &QueryPair| {
                format!(
                    "{}: {}",
                    crate::output::table::pair(pair),
                    crate::output::progress::how_far(pair)
                )
            };
            pairs.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    })
}

/// The pairs after the order; a pair that it dissolved is not among them.
fn after(system: &mut System, members: &[(VolumeNumber, VolumeNumber)]) -> Result<Vec<QueryPair>, Failure> {
    if let [(primary, mirror)] = members {
        return match system.query(PairSelector::One(*primary, *mirror)) {
            Ok(document) => Ok(document.pairs),
            Err(Failure::Refused(refusal)) if refusal.kind == RefusalKind::NoSuchPair => Ok(Vec::new()),
            Err(failure) => Err(failure),
        };
    }
    let mut pairs = system.query(PairSelector::All)?.pairs;
    pairs.retain(|pair| waiting::among(pair, members));
    Ok(pairs)
}

fn send(system: &mut System, order: &Order, dry_run: bool) -> Result<(), Failure> {
    let request = Request::Out {
        verb: order.verb.clone(),
        flags: order.flags,
        members: order.members.clone(),
        dry_run,
    };
    if let Some(generation) = order.generation {
        let wanted = GenerationRestore { generation, request };
        let answer: ControlAnswer = system
            .admin("generation")?
            .post("/v1/generation/restore", &wanted)??;
        return Ok(Result::from(answer).map(|_: Reply| ())?);
    }
    system.ask_for(&request, |reply| match reply {
        Reply::Done => Ok(()),
        other => Err(other),
    })
}

/// Would it be accepted, and what would it copy? All members together.
fn dry_run(system: &mut System, output: Output, order: &Order) -> Result<(), Failure> {
    send(system, order, true)?;
    let verb = order.verb.name();
    let mut document = DryRunDocument {
        verb,
        accepted: true,
        tracks: None,
        bytes: None,
    };
    if matches!(
        order.verb,
        OutVerb::Establish { .. } | OutVerb::Split | OutVerb::Restore
    ) && !order.flags.remote
    {
        let (mut tracks, mut bytes) = (0, 0);
        for pair in &order.members {
            let request = Request::Preview {
                verb: order.verb.clone(),
                flags: order.flags,
                pair: pair.clone(),
            };
            let Preview {
                tracks: more_tracks,
                bytes: more_bytes,
            } = system.ask_for(&request, |reply| match reply {
                Reply::Preview(preview) => Ok(preview),
                other => Err(other),
            })?;
            tracks += more_tracks;
            bytes += more_bytes;
        }
        (document.tracks, document.bytes) = (Some(tracks), Some(bytes));
    }
    output.print(&document, |document| match (document.tracks, document.bytes) {
        (Some(tracks), Some(bytes)) => {
            format!(
                "{verb} would be accepted and copy {tracks} tracks, {}",
                admin_api::Size(bytes).rounded()
            )
        }
        _ => format!("{verb} would be accepted"),
    })
}
