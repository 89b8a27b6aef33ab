//! REPLICATION OUT: flags checked against what the verb takes, members resolved, then one engine command.

use std::sync::Arc;

use replication_engine::{
    command::{self, Command, PairView, Summary, Verb},
    ids::VolumeId,
};
use target_core::scsi_model::control::{
    Condition, Flags, OutVerb, Preview, Refusal, RefusalKind, VolumeNumber, VolumePair,
};

use super::{
    MOST_MEMBERS,
    backup::{BackupDone, BackupMember, BackupTerms},
    id, is,
    refusals::{list_parameter, refusal},
};
use crate::{array::Array, lock};

/// Byte of the CDB that holds FLAGS.
const FLAGS_BYTE: u16 = 2;

impl Array {
    pub(super) async fn out(
        self: &Arc<Self>,
        verb: &OutVerb,
        flags: Flags,
        members: &[VolumePair],
        dry_run: bool,
    ) -> Result<Summary, Refusal> {
        check_flags(verb, flags)?;
        if members.is_empty() || members.len() > MOST_MEMBERS {
            let message = format!(
                "{} pairs were given: 1 to {MOST_MEMBERS} are accepted",
                members.len()
            );
            return Err(refusal(RefusalKind::InvalidParameter { byte: 0 }, message));
        }
        if let Some(done) = self.out_of_remote(verb, flags, members, dry_run).await {
            return done;
        }
        let mut pairs = Vec::with_capacity(members.len());
        for (index, member) in members.iter().enumerate() {
            let pair = self
                .resolve(member)
                .map_err(|refusal| of_member(refusal, index, members.len()))?;
            if let Some(first) = pairs
                .iter()
                .position(|other: &(_, VolumeNumber)| other.1 == pair.1)
            {
                let message = format!(
                    "members {first} and {index} name the same mirror, {}",
                    self.name(pair.1)
                );
                let twice = refusal(list_parameter(index), message);
                return Err(of_member(twice, index, members.len()));
            }
            pairs.push(pair);
        }
        let command = match engine_verb(verb, flags) {
            Planned::Config(condition) => {
                let [(_, volume)] = pairs[..] else {
                    let kind = RefusalKind::InvalidField {
                        byte: FLAGS_BYTE,
                        bit: Some(7),
                    };
                    return Err(refusal(kind, "config takes one volume at a time, not a list"));
                };
                Command::Config {
                    condition,
                    volume: id(volume),
                    dry_run,
                }
            }
            Planned::Pair(verb) => {
                let views = self.pairs();
                for (index, pair) in pairs.iter().enumerate() {
                    self.check_in_use(verb, *pair, &views)
                        .map_err(|refusal| of_member(refusal, index, pairs.len()))?;
                }
                let members = pairs
                    .iter()
                    .map(|(primary, mirror)| (id(*primary), id(*mirror)))
                    .collect();
                Command::Pair {
                    verb,
                    members,
                    dry_run,
                }
            }
        };
        let checksummed: Vec<_> = pairs.iter().map(|(_, mirror)| id(*mirror)).collect();
        let compare = flags.checksum && !dry_run;
        if compare {
            self.compare_in(&checksummed, true);
        }
        self.command(command).await.map_err(|refused| {
            if compare {
                self.compare_in(&checksummed, false);
            }
            let refusal = self.explain(&refused.why);
            of_member(refusal, refused.member, pairs.len())
        })
    }

    /// The copies of these mirrors' pairs compare digests, if they are to.
    pub(super) fn compare_in(&self, mirrors: &[VolumeId], compare: bool) {
        let mut checksummed = lock(&self.checksummed);
        for mirror in mirrors {
            if compare {
                checksummed.insert(*mirror);
            } else {
                checksummed.remove(mirror);
            }
        }
    }

    /// The same question with no change, answered in tracks and bytes.
    pub(super) async fn preview(
        self: &Arc<Self>,
        verb: &OutVerb,
        flags: Flags,
        pair: VolumePair,
    ) -> Result<Preview, Refusal> {
        let summary = self.out(verb, flags, std::slice::from_ref(&pair), true).await?;
        let capacity = self.volume(pair.primary).map_or(0, |volume| volume.bytes());
        let bytes = summary.tracks.saturating_mul(u64::from(self.track_size()));
        Ok(Preview {
            tracks: summary.tracks,
            bytes: bytes.min(capacity),
        })
    }

    /// A command for a remote pair, if it is one.
    async fn out_of_remote(
        self: &Arc<Self>,
        verb: &OutVerb,
        flags: Flags,
        members: &[VolumePair],
        dry_run: bool,
    ) -> Option<Result<Summary, Refusal>> {
        if let OutVerb::Establish {
            remote: Some((peer, mode)),
        } = verb
        {
            let [
                VolumePair {
                    primary,
                    mirror: Some(mirror),
                },
            ] = members
            else {
                let message = "a remote pair is made by itself, not in a list, and its mirror is named";
                return Some(Err(refusal(RefusalKind::InvalidParameter { byte: 0 }, message)));
            };
            let made = self.establish_remote((*primary, *mirror), (peer, *mode), flags, dry_run);
            return Some(made.await);
        }
        if flags.remote {
            let member = |member: &VolumePair| BackupMember {
                primary: member.primary,
                mirror: member.mirror,
                peer: None,
            };
            let members: Vec<_> = members.iter().map(member).collect();
            let done = self.back_up(&members, &BackupTerms::default(), dry_run).await;
            return Some(done.map(|BackupDone { tracks, .. }| Summary { tracks }));
        }
        let config = matches!(verb, OutVerb::Config(_));
        for member in members.iter().filter(|_| !config) {
            let Ok((primary, mirror)) = self.resolve(member) else {
                continue;
            };
            if self.is_local_pair(primary, mirror) && !id(mirror).is_foreign() && !id(primary).is_foreign() {
                continue;
            }
            if self.is_ambiguous(primary, mirror) {
                let message = format!(
                    "several systems have a volume {} in a pair with volume {}: name it by its handle (SYSTEM:VOL on the command line)",
                    mirror.0, primary.0
                );
                return Some(Err(refusal(RefusalKind::NoSuchPair, message)));
            }
            let Some(pair) = self.remote_pair(primary, mirror) else {
                continue;
            };
            if members.len() > 1 {
                let all: Result<Vec<_>, _> = members.iter().map(|member| self.resolve(member)).collect();
                return Some(match all {
                    Ok(all) => self.out_list(verb, flags, &all, dry_run).await,
                    Err(refusal) => Err(refusal),
                });
            }
            return Some(self.out_remote(verb, flags, &pair, dry_run).await);
        }
        if matches!(verb, OutVerb::Swap | OutVerb::Suspend | OutVerb::OnLinkLoss(_)) {
            let message = format!("{} is for remote pairs, and this is none", verb.name());
            return Some(Err(refusal(RefusalKind::NoPath, message)));
        }
        None
    }

    /// A mirror that is about to stop answering hosts must not be reserved by one (S94).
    pub(super) fn check_in_use(
        &self,
        verb: Verb,
        (primary, mirror): (VolumeNumber, VolumeNumber),
        views: &[PairView],
    ) -> Result<(), Refusal> {
        let takes_away = matches!(
            verb,
            Verb::Establish { .. } | Verb::Restore { protected: false, .. }
        );
        let answers = || {
            views
                .iter()
                .find(|view| is(view, primary, mirror))
                .is_none_or(|view| view.mirror_ready)
        };
        if !takes_away || !answers() {
            return Ok(());
        }
        match self.host_use(mirror) {
            None => Ok(()),
            Some(why) => {
                let message = format!(
                    "volume {} is in use: {why}; release it there first",
                    self.name(mirror)
                );
                Err(refusal(RefusalKind::InUse, message))
            }
        }
    }
}

enum Planned {
    Pair(Verb),
    Config(command::Condition),
}

/// The engine's verb. SWAP, SUSPEND and the policy never come this far: they are for remote pairs.
fn engine_verb(verb: &OutVerb, flags: Flags) -> Planned {
    let Flags {
        full,
        instant,
        protected,
        strict_hold,
        force,
        remote: _,
        checksum: _,
    } = flags;
    Planned::Pair(match verb {
        OutVerb::Establish { .. } => Verb::Establish { full },
        OutVerb::Split => Verb::Split {
            instant,
            strict_hold,
            force,
        },
        OutVerb::Restore => Verb::Restore { full, protected },
        OutVerb::Cancel | OutVerb::Swap | OutVerb::Suspend | OutVerb::OnLinkLoss(_) => Verb::Cancel { force },
        OutVerb::Config(condition) => {
            return Planned::Config(match condition {
                Condition::Hold => command::Condition::Hold,
                Condition::Release => command::Condition::Release,
                Condition::NotReady => command::Condition::NotReady,
                Condition::Ready => command::Condition::Ready,
            });
        }
    })
}

/// 24h/00h for a flag that the verb does not take.
fn check_flags(verb: &OutVerb, flags: Flags) -> Result<(), Refusal> {
    let taken: &[&str] = match verb {
        OutVerb::Establish { .. } => &["full", "remote", "checksum"],
        // FORCE stops a protected restore (docs/pairs.md, the transition table).
        OutVerb::Split => &["instant", "strict-hold", "force", "remote"],
        OutVerb::Restore => &["full", "protected", "checksum"],
        OutVerb::Cancel | OutVerb::Swap => &["force"],
        OutVerb::Config(_) | OutVerb::Suspend | OutVerb::OnLinkLoss(_) => &[],
    };
    let given = [
        (flags.full, "full"),
        (flags.instant, "instant"),
        (flags.protected, "protected"),
        (flags.strict_hold, "strict-hold"),
        (flags.remote, "remote"),
        (flags.force, "force"),
        (flags.checksum, "checksum"),
    ];
    for (at, (set, name)) in given.into_iter().enumerate() {
        if set && !taken.contains(&name) {
            let accepted = if taken.is_empty() {
                "none".to_owned()
            } else {
                taken.join(", ")
            };
            let message = format!(
                "{} does not take the flag {name}; it takes: {accepted}",
                verb.name()
            );
            let (byte, bit) = if name == "checksum" {
                (FLAGS_BYTE + 1, 4)
            } else {
                (FLAGS_BYTE, at as u8)
            };
            return Err(refusal(
                RefusalKind::InvalidField { byte, bit: Some(bit) },
                message,
            ));
        }
    }
    Ok(())
}

/// Says which member of a list was refused.
pub(super) fn of_member(mut refusal: Refusal, index: usize, members: usize) -> Refusal {
    if members > 1 {
        refusal.member = Some(index as u16);
    }
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_takes_its_flags_and_no_others() {
        let all = |index: usize| Flags {
            full: index == 0,
            instant: index == 1,
            protected: index == 2,
            strict_hold: index == 3,
            remote: index == 4,
            force: index == 5,
            checksum: index == 6,
        };
        let accepted = |verb: &OutVerb| {
            (0..7)
                .filter(|bit| check_flags(verb, all(*bit)).is_ok())
                .collect::<Vec<_>>()
        };
        assert_eq!(accepted(&OutVerb::Establish { remote: None }), [0, 4, 6]);
        assert_eq!(accepted(&OutVerb::Split), [1, 3, 4, 5]);
        assert_eq!(accepted(&OutVerb::Restore), [0, 2, 6]);
        assert_eq!(accepted(&OutVerb::Config(Condition::Hold)), [0; 0]);
        assert_eq!(accepted(&OutVerb::Cancel), [5]);
        assert_eq!(accepted(&OutVerb::Swap), [5]);
        assert_eq!(accepted(&OutVerb::Suspend), [0; 0]);
        let refused = check_flags(&OutVerb::Cancel, all(2)).unwrap_err();
        assert_eq!(
            refused.kind,
            RefusalKind::InvalidField {
                byte: 2,
                bit: Some(2)
            }
        );
    }
}
