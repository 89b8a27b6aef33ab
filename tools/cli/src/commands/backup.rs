//! `backup`: images at the far site (Fig. 4), of one instant, with hooks that freeze the application and thaw it again.
//!
//! Over the admin socket the backup can be cancelled by Ctrl-C, and its progress is shown. In band it is one command, which ends by itself.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use admin_api::{
    BackupAnswer, BackupCancel, BackupMember, BackupReport, BackupRequest, DoneAnswer, QueryPair,
};
use scsi_model::control::{Flags, OutVerb, PairSelector, Reply, Request, SystemId, VolumeNumber, VolumePair};
use serde::Serialize;

use super::{hooks, interrupt::Interrupt, pairs::DryRunDocument, waiting::BEAT};
use crate::{
    args::{BackupArgs, FarVolume, VolumeName},
    failure::Failure,
    output::{Output, progress::Progress},
    system::System,
    transport::{AdminSocket, TransportError},
};

/// How often is looked for an answer, and for Ctrl-C.
const LOOK: Duration = Duration::from_millis(100);

/// A volume, and where its image is to be.
struct Member {
    primary: VolumeNumber,
    mirror: VolumeNumber,
    /// The far system; `None`: this one, or it was not said which.
    system: Option<SystemId>,
    /// Both, for people.
    text: String,
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct BackupDocument {
    verb: &'static str,
    done: bool,
    pairs: Vec<QueryPair>,
    members: Vec<BackupMember>,
    /// `None`: in band it is not told.
    held_ms: Option<u64>,
}

pub(super) fn backup(system: &mut System, output: Output, args: &BackupArgs) -> Result<(), Failure> {
    let members = members(system, args)?;
    let mut order = Order {
        request: BackupRequest {
            id: number_of_its_own()?,
            members: members.iter().map(Member::named).collect(),
            timeout: args
                .timeout
                .map(|timeout| timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0)),
            dry_run: args.how.dry_run,
        },
        system,
        output,
        interrupt: Interrupt::listen()?,
    };
    if args.how.dry_run {
        order.give()?;
        let document = DryRunDocument {
            verb: OutVerb::Split.name(),
            accepted: true,
            tracks: None,
            bytes: None,
        };
        return output.print(&document, |_| "the backup would be accepted".to_owned());
    }
    hooks::run("--before", args.before.as_deref())?;
    let taken = order.give().and_then(|report| done(output, &members, report));
    // Whatever came of it: who was frozen is thawed, and of two failures the first counts.
    let thawed = hooks::run("--after", args.after.as_deref());
    taken.and(thawed)
}

/// Says that it is done.
fn done(output: Output, members: &[Member], report: Option<BackupReport>) -> Result<(), Failure> {
    let document = BackupDocument {
        verb: OutVerb::Split.name(),
        done: true,
        pairs: Vec::new(),
        members: members.iter().map(Member::named).collect(),
        held_ms: report.map(|report| report.held_ms),
    };
    output.print(&document, |document| {
        let mut lines: Vec<String> = members.iter().map(|member| member.text.clone()).collect();
        if let Some(held) = document.held_ms {
            lines.push(format!("later writes were held back for {held} ms"));
        }
        lines.join("\n")
    })
}

/// The volumes, each with its `--to`.
fn members(system: &mut System, args: &BackupArgs) -> Result<Vec<Member>, Failure> {
    let (volumes, mirrors) = (args.primaries.len(), args.to.len());
    if volumes != mirrors {
        let text = format!(
            "{volumes} volumes and {mirrors} times --to were given: each volume has its own, as in `backup 1 --to HF-B:2 4 --to HF-C:5`"
        );
        return Err(Failure::Usage(text));
    }
    let pairs = system.query(PairSelector::All)?.pairs;
    let named = args.primaries.iter().zip(&args.to);
    named
        .map(|(primary, to)| member(system, &pairs, primary, to))
        .collect()
}

fn member(
    system: &mut System,
    pairs: &[QueryPair],
    primary: &VolumeName,
    to: &FarVolume,
) -> Result<Member, Failure> {
    let primary = system.number(primary)?;
    let name = system.called(primary);
    let led = pairs.iter().filter(|pair| leads(pair, primary));
    let peers: Vec<&str> = led.filter_map(|pair| pair.peer.as_deref()).collect();
    let (mirror, peer) = match to {
        FarVolume::There(peer, number) => {
            let is_here = peers.is_empty() && *peer == system.id()?;
            if !peers.is_empty() && !peers.contains(&peer.as_str()) {
                let peers = peers.join(", ");
                let text =
                    format!("volume {name} is mirrored to {peers}, not to {peer}; nothing was backed up");
                return Err(Failure::Failed(text));
            }
            (VolumeNumber(*number), (!is_here).then(|| peer.clone()))
        }
        FarVolume::Here(VolumeName::Number(number)) => {
            let only = match peers[..] {
                [peer] => SystemId::new(peer).ok(),
                _ => None,
            };
            (VolumeNumber(*number), only)
        }
        FarVolume::Here(mirror) if peers.is_empty() => (system.number(mirror)?, None),
        FarVolume::Here(mirror) => {
            let text = format!("--to takes the number of a volume of the paired system, not {mirror}");
            return Err(Failure::Usage(text));
        }
    };
    let image = match &peer {
        Some(peer) => format!("{peer}:{}", mirror.0),
        None => system.called(mirror),
    };
    Ok(Member {
        primary,
        mirror,
        system: peer,
        text: format!("{name}: image at {image}"),
    })
}

/// Is it a remote pair that this system leads, of this volume?
fn leads(pair: &QueryPair, primary: VolumeNumber) -> bool {
    pair.role == "primary" && pair.peer.is_some() && pair.primary.number == primary.0
}

impl Member {
    fn named(&self) -> BackupMember {
        BackupMember {
            primary: self.primary.0,
            mirror: self.mirror.0,
            system: self.system.clone(),
        }
    }
}

/// The backup, ready to be taken.
struct Order<'a> {
    request: BackupRequest,
    system: &'a mut System,
    output: Output,
    interrupt: Interrupt,
}

impl Order<'_> {
    /// Has it taken, or cancels it; the report is not there in band.
    fn give(&mut self) -> Result<Option<BackupReport>, Failure> {
        if self.interrupt.raised() {
            return Err(Failure::Failed("interrupted; nothing was backed up".to_owned()));
        }
        let Some(admin) = self.system.admin_if_any() else {
            return self.give_in_band().map(|()| None);
        };
        let (asking, cancelling) = (admin.another()?, admin.another()?);
        let (answer, answered) = mpsc::channel();
        let request = self.request.clone();
        thread::spawn(move || {
            // Whoever waited for it may be gone.
            let _ = answer.send(asking.ask::<BackupAnswer>("/v1/backup", &request));
        });
        let answer = self.wait(&answered, &cancelling)?;
        match answer {
            BackupAnswer::Ok(report) => {
                if self.interrupt.raised() {
                    eprintln!("holdfast: the image was there before it could be cancelled");
                }
                Ok(Some(report))
            }
            BackupAnswer::Refused(refusal) => Err(refusal.into()),
        }
    }

    /// The answer; until it is there progress is shown, and Ctrl-C cancels.
    fn wait(
        &mut self,
        answered: &mpsc::Receiver<Result<BackupAnswer, TransportError>>,
        cancelling: &AdminSocket,
    ) -> Result<BackupAnswer, Failure> {
        let mut progress = Progress::new(self.output);
        let (mut shown, mut cancelled) = (Instant::now(), false);
        loop {
            match answered.recv_timeout(LOOK) {
                Ok(answer) => return Ok(answer?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let text = "whoever waited for the answer is gone; `holdfast events` says what has become of the backup";
                    return Err(Failure::Failed(text.to_owned()));
                }
            }
            if self.interrupt.raised() && !cancelled {
                // It may not have begun: then it is told again.
                let cancel = BackupCancel { id: self.request.id };
                let told = cancelling.post::<DoneAnswer>("/v1/backup/cancel", &cancel);
                cancelled = matches!(told, Ok(Ok(_)));
            }
            if shown.elapsed() >= BEAT {
                shown = Instant::now();
                // If the daemon is gone the backup's own answer says so.
                if let Ok(document) = self.system.query(PairSelector::All) {
                    progress.show(document.pairs.iter().filter(|pair| self.is_member(pair)));
                }
            }
        }
    }

    fn is_member(&self, pair: &QueryPair) -> bool {
        let mut members = self.request.members.iter();
        members.any(|member| leads(pair, VolumeNumber(member.primary)))
    }

    fn give_in_band(&mut self) -> Result<(), Failure> {
        if self.request.timeout.is_some() {
            let text = "backup --timeout works over the admin socket only: leave out --iscsi and --device";
            return Err(Failure::Usage(text.to_owned()));
        }
        let member = |member: &BackupMember| VolumePair {
            primary: VolumeNumber(member.primary),
            mirror: Some(VolumeNumber(member.mirror)),
        };
        let request = Request::Out {
            verb: OutVerb::Split,
            flags: Flags {
                remote: true,
                ..Flags::default()
            },
            members: self.request.members.iter().map(member).collect(),
            dry_run: self.request.dry_run,
        };
        self.system.ask_for(&request, |reply| match reply {
            Reply::Done => Ok(()),
            other => Err(other),
        })
    }
}

/// By which this backup can be cancelled, and no other.
fn number_of_its_own() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(u64::from_le_bytes(bytes))
}
