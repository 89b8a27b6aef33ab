//! LIST with remote pairs in it, beside local ones or alone: all or nothing, and one instant for all.
//!
//! The engine takes all members in one command, as it does for local pairs; that is the instant, and the "all or nothing" of this
//! system. What followers have to know first is said before it: every pair is looked at, the command is tried without doing it, and
//! only then followers take their volumes back. If one of them refuses, those that have not are asked no more and those that
//! have are given their volumes again, with what they hold: nothing was copied yet.

use std::sync::Arc;

use link_proto::Action;
use replication_engine::{
    command::{Command, Summary, Verb},
    state::PairState,
};
use target_core::scsi_model::control::{Flags, OutVerb, Refusal, RefusalKind, VolumeNumber};

use super::{id, out::of_member, refusals::refusal, remote::of_peer};
use crate::{array::Array, remote::RemotePair};

impl Array {
    /// The members are pairs that are there, with their volumes as users name them.
    pub(super) async fn out_list(
        self: &Arc<Self>,
        verb: &OutVerb,
        flags: Flags,
        members: &[(VolumeNumber, VolumeNumber)],
        dry_run: bool,
    ) -> Result<Summary, Refusal> {
        let (verb, action) = match verb {
            OutVerb::Establish { .. } => (Verb::Establish { full: flags.full }, Action::Establish),
            OutVerb::Split => {
                let verb = Verb::Split {
                    instant: flags.instant,
                    strict_hold: flags.strict_hold,
                    force: flags.force,
                };
                (verb, Action::Split)
            }
            OutVerb::Restore => {
                let (full, protected) = (flags.full, flags.protected);
                let action = if protected {
                    Action::RestoreProtected
                } else {
                    Action::Restore
                };
                (Verb::Restore { full, protected }, action)
            }
            other => {
                let message = format!("{} takes a remote pair by itself, not in a list", other.name());
                return Err(refusal(RefusalKind::State, message));
            }
        };
        let _order = self.remote_orders().await;
        let views = self.pairs();
        let (mut pairs, mut remotes) = (Vec::new(), Vec::new());
        for (index, (primary, mirror)) in members.iter().enumerate() {
            let refused = |refusal| of_member(refusal, index, members.len());
            let (p, m) = self.place(*primary, *mirror);
            match self.remote_pair(p, m) {
                Some(pair) if !self.is_local_pair(*primary, *mirror) || id(m).is_foreign() => {
                    self.may_be_commanded(&pair, verb, flags).map_err(refused)?;
                    remotes.push((index, pair));
                }
                _ => self.check_in_use(verb, (p, m), &views).map_err(refused)?,
            }
            pairs.push((id(p), id(m)));
        }
        let command = |dry_run| Command::Pair {
            verb,
            members: pairs.clone(),
            dry_run,
        };
        let run = async |dry_run| {
            self.command(command(dry_run))
                .await
                .map_err(|refused| of_member(self.explain(&refused.why), refused.member, pairs.len()))
        };
        let would = run(true).await?;
        if dry_run {
            return Ok(would);
        }
        if action != Action::Establish {
            for (index, pair) in &remotes {
                self.end_backup(pair)
                    .map_err(|refusal| of_member(refusal, *index, members.len()))?;
            }
        }
        let mut taken = Vec::new();
        if action != Action::Split {
            for (index, pair) in &remotes {
                if let Err(refusal) = self.take_for_list(pair, action, flags.full).await {
                    self.give_back(&taken).await;
                    return Err(of_member(refusal, *index, members.len()));
                }
                taken.push(pair.clone());
            }
        }
        let mirrors: Vec<_> = pairs.iter().map(|(_, mirror)| *mirror).collect();
        if flags.checksum {
            self.compare_in(&mirrors, true);
        }
        let done = run(false).await;
        if done.is_err() {
            if flags.checksum {
                self.compare_in(&mirrors, false);
            }
            self.give_back(&taken).await;
        } else if action == Action::Split {
            for (_, pair) in &remotes {
                self.tell_now(pair).await;
            }
        }
        done
    }

    /// What a remote pair is refused for besides what the engine says.
    fn may_be_commanded(&self, pair: &RemotePair, verb: Verb, flags: Flags) -> Result<(), Refusal> {
        if !pair.leads {
            let message = format!("{} leads this pair: give the command there", pair.peer);
            return Err(refusal(RefusalKind::State, message));
        }
        match verb {
            Verb::Split { .. } => self.may_be_split(pair, flags),
            _ => self.must_be_up(pair),
        }
    }

    /// As for one pair: its volume is taken from its hosts, and its marks count.
    async fn take_for_list(
        self: &Arc<Self>,
        pair: &RemotePair,
        action: Action,
        full: bool,
    ) -> Result<(), Refusal> {
        let apart = self
            .view_of(pair.foreign_id())
            .is_some_and(|view| matches!(view.state, PairState::Split | PairState::Suspended));
        let failed = |error| of_peer(&error);
        if apart {
            self.compare_now(pair).await.map_err(failed)?;
            self.take_back(pair, action).await.map_err(failed)?;
        } else if full && action == Action::Establish {
            self.order(pair, action).await.map_err(failed)?;
            self.following(pair);
        }
        Ok(())
    }

    /// They go on as they were: what each is told by its state here.
    async fn give_back(self: &Arc<Self>, taken: &[RemotePair]) {
        for pair in taken {
            self.remote.forget_told(pair.foreign_id());
            self.tell_now(pair).await;
        }
    }
}
