//! Refusals for people: what, why, and what would be accepted, with the volumes' names.

use replication_engine::{command::Why, ids::VolumeId};
use target_core::{
    scsi_model::control::{Refusal, RefusalKind, VolumeNumber},
    volume::Volume,
};

use crate::array::Array;

/// A refusal of no particular member.
pub(super) fn refusal(kind: RefusalKind, message: impl Into<String>) -> Refusal {
    Refusal {
        kind,
        message: message.into(),
        member: None,
    }
}

/// 26h/00h at the mirror of that descriptor of a LIST.
pub(super) fn list_parameter(index: usize) -> RefusalKind {
    RefusalKind::InvalidParameter {
        byte: (8 + 8 * index + 4) as u16,
    }
}

impl Array {
    /// A volume as people know it: number and name.
    pub(super) fn name(&self, volume: VolumeNumber) -> String {
        if let Some(far) = self.remote.name(VolumeId(volume.0)) {
            return far;
        }
        match self.volume(volume) {
            Some(known) => format!("{} ({})", volume.0, known.info().name),
            None => volume.0.to_string(),
        }
    }

    /// The engine knows volumes of other systems by numbers that mean nothing to people.
    fn with_names(&self, text: String) -> String {
        self.remote.pairs().iter().fold(text, |text, pair| {
            let name = format!("{}:{}", pair.peer, pair.far.0);
            text.replace(&pair.foreign.to_string(), &name)
        })
    }

    fn name_of(&self, volume: VolumeId) -> String {
        self.name(VolumeNumber(volume.0))
    }

    pub(super) fn no_such_volume(&self, volume: VolumeNumber) -> Refusal {
        let known: Vec<String> = self
            .volumes()
            .iter()
            .map(|known| known.number().0.to_string())
            .collect();
        let message = match known.len() {
            0 => format!("there is no volume {}: this system has none", volume.0),
            1..=16 => format!("there is no volume {}: there are {}", volume.0, known.join(", ")),
            count => format!("there is no volume {} among the {count} of this system", volume.0),
        };
        refusal(RefusalKind::NoSuchVolume, message)
    }

    pub(super) fn no_such_pair(&self, primary: VolumeNumber, mirror: VolumeNumber) -> Refusal {
        let actual = self.pairs().into_iter().find(|pair| pair.mirror.0 == mirror.0);
        let message = match actual {
            Some(pair) => format!(
                "volume {} is not a mirror of volume {} but of volume {}",
                self.name(mirror),
                self.name(primary),
                self.name_of(pair.primary)
            ),
            None => format!(
                "volume {} is not a mirror of volume {}: `establish {} {}` makes it one",
                self.name(mirror),
                self.name(primary),
                primary.0,
                mirror.0
            ),
        };
        refusal(RefusalKind::NoSuchPair, message)
    }

    pub(super) fn not_the_only_pair(&self, primary: VolumeNumber, mirrors: &[VolumeId]) -> Refusal {
        let message = if mirrors.is_empty() {
            format!("volume {} has no mirror", self.name(primary))
        } else {
            let names: Vec<String> = mirrors.iter().map(|mirror| self.name_of(*mirror)).collect();
            format!(
                "volume {} has several mirrors, name one: {}",
                self.name(primary),
                names.join(", ")
            )
        };
        refusal(RefusalKind::NoSuchPair, message)
    }

    /// The engine's reason, in the terms of the control set.
    pub(crate) fn explain(&self, why: &Why) -> Refusal {
        match why {
            Why::State { .. } | Why::Conflict { .. } | Why::TooManyPairs { .. } => {
                refusal(RefusalKind::State, self.with_names(why.to_string()))
            }
            Why::NoSuchPair { primary, mirror } => {
                self.no_such_pair(VolumeNumber(primary.0), VolumeNumber(mirror.0))
            }
            Why::OtherStandard { mirror, standard } => {
                let message = format!(
                    "volume {} is a mirror of volume {}: `config release {}` or `cancel {} {}` lets it go",
                    self.name_of(*mirror),
                    self.name_of(*standard),
                    mirror.0,
                    standard.0,
                    mirror.0
                );
                refusal(RefusalKind::OtherStandard, message)
            }
            Why::Held { volume } => {
                let message = format!(
                    "volume {} is held: `config release {}` ends that",
                    self.name_of(*volume),
                    volume.0
                );
                refusal(RefusalKind::Held, message)
            }
            Why::NotReady { volume } => {
                let message = format!(
                    "volume {} was made not ready: `config ready {}` ends that",
                    self.name_of(*volume),
                    volume.0
                );
                refusal(RefusalKind::NotReady, message)
            }
            Why::NoSuchVolume { volume } => self.no_such_volume(VolumeNumber(volume.0)),
            Why::Geometry { a, b, what } => {
                let message = format!(
                    "volumes {} and {} differ in {what}: a mirror needs the same capacity and block size",
                    self.name_of(*a),
                    self.name_of(*b)
                );
                refusal(RefusalKind::Geometry, message)
            }
            Why::Journal | Why::Unstable { .. } => refusal(RefusalKind::Internal, why.to_string()),
        }
    }
}
