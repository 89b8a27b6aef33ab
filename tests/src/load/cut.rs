//! Pair commands among the load, and what they do to contents.
//!
//! For hosts, every pair command is an assignment at one instant: SPLIT gives the mirror what the primary holds, RESTORE the
//! primary what the mirror holds, CANCEL a mirror that was kept equal what the primary holds. A restore that is stopped, by CANCEL or by
//! SPLIT FORCE, gives the primary back what it held before, wherever it had not come to yet ([`Replaced`]). The instant lies somewhere between sending the command and its answer, so writes that
//! were in flight then, the *straddlers*, may be on either side of it, each as a whole; but not in any combination: if one
//! was answered before another was sent, no image has the later without the earlier.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fate, Load, Written, power::Stability};
use crate::{
    commands,
    initiator::{Completion, GOOD, Lost},
    stamps::{Picture, Stamp},
};

/// A pair command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// ESTABLISH.
    Establish {
        /// FULL.
        full: bool,
    },
    /// SPLIT.
    Split {
        /// INSTANT.
        instant: bool,
    },
    /// RESTORE.
    Restore {
        /// FULL.
        full: bool,
        /// PROTECTED.
        protected: bool,
    },
    /// SPLIT FORCE, which stops a protected restore.
    Stop,
    /// CANCEL.
    Cancel {
        /// FORCE.
        force: bool,
    },
}

const FORCE: u8 = 1 << 5;

impl Verb {
    /// Service action and flags.
    fn code(self) -> (u8, u8) {
        match self {
            Self::Establish { full } => (0, u8::from(full)),
            Self::Split { instant } => (1, u8::from(instant) << 1),
            Self::Restore { full, protected } => (2, u8::from(full) | u8::from(protected) << 2),
            Self::Stop => (1, FORCE),
            Self::Cancel { force: false } => (4, 0),
            Self::Cancel { force: true } => (4, FORCE),
        }
    }

    /// For figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Establish { .. } => "in ESTABLISH",
            Self::Split { .. } => "in SPLIT",
            Self::Restore { protected: false, .. } => "in RESTORE",
            Self::Restore { protected: true, .. } => "in RESTORE PROTECTED",
            Self::Stop => "in SPLIT FORCE",
            Self::Cancel { force: false } => "in CANCEL",
            Self::Cancel { force: true } => "in CANCEL FORCE",
        }
    }

    /// Does it take the mirror from its hosts?
    pub fn shuts_mirror(self) -> bool {
        matches!(
            self,
            Self::Establish { .. } | Self::Restore { protected: false, .. }
        )
    }
}

/// A pair command in flight.
#[derive(Debug)]
pub struct Cut {
    /// What it is.
    pub verb: Verb,
    /// Primary and mirror of each member.
    pub members: Vec<(u32, u32)>,
    pub(super) tag: u32,
    sent: u64,
    pub(super) assignments: Vec<Assignment>,
    /// May its images be judged write by write?
    pub(super) judged: bool,
    /// Volumes whose hosts may be turned away, or whose content may be replaced, from now on.
    disturbed: BTreeSet<u32>,
}

#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) from: u32,
    to: u32,
    /// What `from` may have held when the command was sent.
    pub(super) picture: Picture,
    /// And what a loss of power might have left of it.
    pub(super) stable: Option<Picture>,
}

/// What the primary of a restore held before it, for as long as the restore may be stopped.
#[derive(Debug)]
pub(super) struct Replaced {
    primary: u32,
    /// Writes that were sent later are not in the pictures.
    sent: u64,
    picture: Picture,
    /// What a loss of power might have left of it.
    stable: Option<Picture>,
}

impl Cut {
    pub(super) fn disturbs(&self, volume: u32) -> bool {
        self.disturbed.contains(&volume)
    }
}

/// How a pair command ended.
#[derive(Debug)]
pub enum CutEnd {
    /// GOOD: it is in force.
    Good,
    /// A unit attention, or BUSY, was reported instead: nothing has happened.
    Again,
    /// It was refused.
    Refused(Completion),
}

/// An image taken, to be judged when it is next read.
#[derive(Debug)]
pub(super) struct Image {
    cut: usize,
    to: u32,
    /// Places in the log, ascending.
    straddlers: Vec<usize>,
    /// Sectors that hosts have written since.
    overwritten: BTreeSet<u64>,
}

impl Image {
    pub(super) fn overwrite(&mut self, volume: u32, first: u64, count: u64) {
        if volume == self.to {
            self.overwritten.extend(first..first + count);
        }
    }
}

impl Load {
    /// Sends a pair command into the load.
    pub fn begin_cut(&mut self, verb: Verb, members: &[(u32, u32)]) -> Result<(), Lost> {
        let (action, flags) = verb.code();
        let assignments: Vec<_> = members
            .iter()
            .flat_map(|(primary, mirror)| self.assignments(verb, *primary, *mirror))
            .collect();
        let mut disturbed: BTreeSet<u32> = assignments.iter().map(|assignment| assignment.to).collect();
        if verb.shuts_mirror() || matches!(verb, Verb::Cancel { .. }) {
            disturbed.extend(members.iter().map(|(_, mirror)| *mirror));
        }
        for op in self.ops.values_mut() {
            op.ambiguous |= disturbed.contains(&op.volume);
        }
        self.clock += 1;
        let (primary, _) = members[0];
        // Through a volume that answers commands in every state.
        let lun = super::lun(self.content_of(primary));
        let mut cut = Cut {
            verb,
            members: members.to_vec(),
            tag: 0,
            sent: self.clock,
            assignments,
            judged: true,
            disturbed,
        };
        let sent = self
            .session()
            .submit(lun, commands::pair_command(action, flags, members));
        cut.tag = sent.as_ref().copied().unwrap_or_default();
        (self.cut, self.cut_end) = (Some(cut), None);
        sent.map(|_| ())
    }

    fn assignments(&self, verb: Verb, primary: u32, mirror: u32) -> Vec<Assignment> {
        let gives = |from: u32, to: u32| Assignment {
            from,
            to,
            picture: self.pictures[&from].clone(),
            stable: self.stable.as_ref().map(|stable| stable.of(from).clone()),
        };
        match verb {
            Verb::Establish { .. } => Vec::new(),
            Verb::Split { .. } => vec![gives(self.content_of(primary), mirror)],
            Verb::Restore { .. } => vec![gives(mirror, primary)],
            Verb::Stop => self.going_back(mirror).into_iter().collect(),
            Verb::Cancel { .. } => {
                let was_equal = self.equal.contains_key(&mirror);
                let own = was_equal.then(|| gives(self.content_of(primary), mirror));
                own.into_iter().chain(self.going_back(mirror)).collect()
            }
        }
    }

    /// The primary of a restore from this mirror, as it may be when that is stopped now: each sector restored, or as it was.
    fn going_back(&self, mirror: u32) -> Option<Assignment> {
        let replaced = self.replaced.get(&mirror)?;
        let primary = replaced.primary;
        let mut picture = self.pictures[&primary].clone();
        picture.merge(&self.picture_now(replaced));
        let stable = self.stable.as_ref().map(|stable| {
            let mut stable = stable.of(primary).clone();
            stable.merge(&self.stable_now(replaced));
            stable
        });
        Some(Assignment {
            from: primary,
            to: primary,
            picture,
            stable,
        })
    }

    /// What the restore has replaced, with what hosts wrote since: that stays, restored or not.
    fn picture_now(&self, replaced: &Replaced) -> Picture {
        let mut picture = replaced.picture.clone();
        for written in self.written_since(replaced) {
            let Written {
                first, count, stamp, ..
            } = *written;
            if written.fate == Fate::Done && !written.ambiguous {
                picture.settle(first, count, stamp);
            } else {
                picture.begin(first, count, stamp);
            }
        }
        picture
    }

    /// The same, as a loss of power may leave it.
    fn stable_now(&self, replaced: &Replaced) -> Picture {
        let stable = replaced.stable.as_ref().unwrap_or(&replaced.picture);
        let mut stable = stable.clone();
        for written in self.written_since(replaced) {
            let Written {
                first, count, stamp, ..
            } = *written;
            if written.fate == Fate::Done && !written.ambiguous && written.stability != Stability::Cached {
                stable.settle(first, count, stamp);
            } else {
                stable.begin(first, count, stamp);
            }
        }
        stable
    }

    fn written_since(&self, replaced: &Replaced) -> impl Iterator<Item = &Written> {
        let (primary, sent) = (replaced.primary, replaced.sent);
        self.log.iter().filter(move |written| {
            written.volume == primary && written.sent > sent && written.fate != Fate::Declined
        })
    }

    /// Power was lost: what was stable of it is all that a restore may still go back to.
    pub(super) fn replaced_lose_power(&mut self) {
        for (mirror, replaced) in std::mem::take(&mut self.replaced) {
            let picture = self.stable_now(&replaced);
            let replaced = Replaced {
                sent: self.clock,
                stable: Some(picture.clone()),
                picture,
                ..replaced
            };
            self.replaced.insert(mirror, replaced);
        }
    }

    /// The restore from this mirror is over.
    pub fn forget_replaced(&mut self, mirror: u32) {
        self.replaced.remove(&mirror);
    }

    /// How the pair command ended, if it has.
    pub fn take_cut_end(&mut self) -> Option<CutEnd> {
        self.cut_end.take()
    }

    /// The pair command that a kill left without an answer.
    pub fn open_cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// Settles a command that a kill left without an answer: it is in force, it is not, or (`None`) nobody can tell.
    pub fn resolve_cut(&mut self, in_force: Option<bool>) {
        match in_force {
            Some(true) => self.finish_cut(),
            Some(false) => self.cut = None,
            None => {
                let old: Vec<(u32, Picture)> = self
                    .cut
                    .iter()
                    .flat_map(|cut| &cut.assignments)
                    .map(|assignment| (assignment.to, self.pictures[&assignment.to].clone()))
                    .collect();
                self.finish_cut();
                for (volume, picture) in old {
                    self.picture(volume).merge(&picture);
                    self.forget_image(volume);
                }
            }
        }
    }

    /// The volume takes no part in an image any more.
    pub fn forget_image(&mut self, volume: u32) {
        self.images.retain(|image| image.to != volume);
    }

    /// The volume whose content this one has.
    pub fn content_of(&self, volume: u32) -> u32 {
        let mut at = volume;
        while let Some(primary) = self.equal.get(&at) {
            at = *primary;
        }
        at
    }

    pub(super) fn cut_answered(&mut self, completion: Completion) {
        self.cut_end = Some(if completion.status == GOOD {
            self.finish_cut();
            CutEnd::Good
        } else {
            self.cut = None;
            if completion.is_unit_attention() || completion.is_busy() {
                CutEnd::Again
            } else {
                CutEnd::Refused(completion)
            }
        });
    }

    /// Makes the assignments of the command in flight.
    fn finish_cut(&mut self) {
        let cut = self.cut.take().expect("a command in flight");
        self.cuts += 1;
        for Assignment {
            from,
            to,
            mut picture,
            stable,
        } in cut.assignments
        {
            let straddlers = self.straddlers(from, cut.sent);
            let split = matches!(cut.verb, Verb::Split { .. });
            // What a RESTORE brings may still be in the mirror's cache; an image is stable.
            let mut kept = stable.filter(|_| !split);
            if let (Some(kept), Some(stable)) = (&mut kept, &self.stable) {
                kept.merge(stable.of(from));
            }
            for entry in straddlers.iter().copied().chain(self.straddlers(to, cut.sent)) {
                let Written {
                    first, count, stamp, ..
                } = self.log[entry];
                picture.begin(first, count, stamp);
                if let Some(kept) = &mut kept {
                    kept.begin(first, count, stamp);
                }
            }
            let stable = self.stable.as_ref().map(|stable| stable.of(to).clone());
            self.stable_content(to, kept.as_ref().unwrap_or(&picture));
            let old = self.pictures.insert(to, picture).expect("a volume of the shape");
            if matches!(cut.verb, Verb::Restore { .. }) {
                let replaced = Replaced {
                    primary: to,
                    sent: cut.sent,
                    picture: old,
                    stable,
                };
                self.replaced.insert(from, replaced);
            }
            self.forget_image(to);
            if split && cut.judged {
                self.images.push(Image {
                    cut: self.cuts,
                    to,
                    straddlers,
                    overwritten: BTreeSet::new(),
                });
            }
        }
    }

    /// Writes to a volume that were not answered yet at `sent`, among them those sent since.
    fn straddlers(&self, volume: u32, sent: u64) -> Vec<usize> {
        let entries = self.log.iter().enumerate();
        entries
            .filter(|(_, written)| {
                written.volume == volume
                    && written.fate != Fate::Declined
                    && written.answered.is_none_or(|answered| answered > sent)
                    && !self.is_forgotten(written)
            })
            .map(|(entry, _)| entry)
            .collect()
    }

    /// A write of a session that is gone has long landed or not when a command of this one is sent.
    fn is_forgotten(&self, written: &Written) -> bool {
        written.fate == Fate::Open && written.sent < self.connected_at
    }

    /// Judges the images that were read: `seen` has the stamps of each volume that could be.
    pub fn judge_images(&mut self, seen: &BTreeMap<u32, Vec<Stamp>>) {
        let (images, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.images)
            .into_iter()
            .partition(|image| seen.contains_key(&image.to));
        // Members of one command that cannot be read yet keep the others waiting.
        let waiting: BTreeSet<usize> = others.iter().map(|image: &Image| image.cut).collect();
        self.images = others;
        let mut cuts: BTreeMap<usize, Vec<Image>> = BTreeMap::new();
        for image in images {
            if waiting.contains(&image.cut) {
                self.images.push(image);
            } else {
                cuts.entry(image.cut).or_default().push(image);
            }
        }
        for images in cuts.values() {
            self.judge(images, seen);
        }
    }

    /// One command's images: is each straddler whole, and none there without those before it?
    fn judge(&mut self, images: &[Image], seen: &BTreeMap<u32, Vec<Stamp>>) {
        // (present, absent) by place in the log.
        let mut found: BTreeMap<usize, (bool, bool)> = BTreeMap::new();
        for image in images {
            let seen = &seen[&image.to];
            for (index, entry) in image.straddlers.iter().enumerate() {
                let written = &self.log[*entry];
                if written.stamp == 0 {
                    continue;
                }
                let found = found.entry(*entry).or_default();
                for lba in written.first..written.first + written.count {
                    let stamp = seen[lba as usize];
                    if stamp == written.stamp {
                        found.0 = true;
                    } else if !image.overwritten.contains(&lba) {
                        let covered = image.straddlers[index + 1..].iter().any(|later| {
                            let later = &self.log[*later];
                            later.stamp == stamp && (later.first..later.first + later.count).contains(&lba)
                        });
                        found.1 |= !covered;
                    }
                }
            }
        }
        self.tally.straddlers += found.len() as u64;
        let absent: Vec<_> = found.iter().filter(|(_, found)| found.1).collect();
        for (entry, (present, _)) in &absent {
            let written = &self.log[**entry];
            let Some(answered) = written.answered else {
                continue;
            };
            assert!(!present, "an image has half of a write: {written:?}");
            for (later, (present, _)) in &found {
                let later = &self.log[*later];
                assert!(
                    !(*present && later.sent > answered),
                    "an image has {later:?} but not {written:?}, which was answered before"
                );
            }
        }
    }
}
