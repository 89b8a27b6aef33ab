//! Volumes that came back without their content.

use std::collections::BTreeSet;

use super::{
    image::Image,
    record::{Hold, PairMeta, VolumeConfig},
};
use crate::ids::{PairId, VolumeId};

impl Image {
    /// Dissolves the pairs of volumes whose bytes are gone: no copy may run to or from them, for what it brought would be
    /// zeros. The pairs' other volumes stay as they are, let go; one that a copy was bringing an image to is
    /// inconsistent. Returns the pairs as they were.
    pub fn dissolve_pairs_of(&mut self, lost: &BTreeSet<VolumeId>) -> Vec<(PairId, PairMeta)> {
        let concerns = |pair: PairId, meta: &PairMeta| lost.contains(&pair.0) || lost.contains(&meta.primary);
        let dissolved: Vec<(PairId, PairMeta)> = self
            .pairs
            .iter()
            .filter(|(pair, known)| concerns(**pair, &known.meta))
            .map(|(pair, known)| (*pair, known.meta))
            .collect();
        for (pair, meta) in &dissolved {
            self.pairs.remove(pair);
            let half = meta.state.is_copying();
            let half_primary = half && meta.state.restores();
            let half_mirror = half && !half_primary || meta.inconsistent;
            self.reconfigure(pair.0, |config| VolumeConfig {
                hold: Hold::None,
                inconsistent: config.inconsistent || half_mirror,
                ..config
            });
            self.reconfigure(meta.primary, |config| VolumeConfig {
                inconsistent: config.inconsistent || half_primary,
                ..config
            });
        }
        for volume in lost {
            // There is nothing on it, and that is consistent.
            self.reconfigure(*volume, |config| VolumeConfig {
                inconsistent: false,
                ..config
            });
        }
        dissolved
    }

    fn reconfigure(&mut self, volume: VolumeId, change: impl FnOnce(VolumeConfig) -> VolumeConfig) {
        if let Some(known) = self.volumes.get_mut(&volume) {
            known.config = change(known.config);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{command::VolumeSpec, journal::Record, pair_bits::PairBits, state::PairState};

    /// Mirrors 2.. of volume 1 in these states, held.
    fn image(states: &[PairState]) -> Image {
        let mut image = Image::new(4096);
        let spec = VolumeSpec {
            bytes: 1 << 20,
            block_size: 512,
        };
        for volume in (1_u32..).map(VolumeId).take(states.len() + 1) {
            image.apply(&Record::Volume { volume, spec }).unwrap();
            image
                .apply(&Record::Config(VolumeConfig {
                    volume,
                    hold: Hold::Own,
                    not_ready: false,
                    inconsistent: false,
                }))
                .unwrap();
        }
        for (mirror, state) in (2_u32..).map(VolumeId).zip(states) {
            let meta = PairMeta {
                primary: VolumeId(1),
                state: *state,
                mirror_ready: false,
                full: false,
                inconsistent: false,
                reason: 0,
                resumes: false,
                split_at_ms: 0,
            };
            let bits = Box::new(PairBits::new(256));
            let pair = PairId(mirror);
            image.apply(&Record::Pair { pair, meta, bits }).unwrap();
        }
        image
    }

    fn inconsistent(image: &Image) -> Vec<u32> {
        let volumes = image
            .volumes
            .iter()
            .filter(|(_, known)| known.config.inconsistent);
        volumes.map(|(volume, _)| volume.0).collect()
    }

    #[test]
    fn a_lost_mirror_leaves_a_half_restored_primary_inconsistent_and_other_pairs_alone() {
        let mut image = image(&[PairState::Restoring, PairState::Split]);
        let dissolved = image.dissolve_pairs_of(&[VolumeId(2)].into());
        assert_eq!(dissolved.len(), 1);
        assert_eq!(dissolved[0].1.state, PairState::Restoring);
        assert!(image.pairs.contains_key(&PairId(VolumeId(3))) && image.pairs.len() == 1);
        assert_eq!(inconsistent(&image), [1]);
        assert_eq!(image.volumes[&VolumeId(2)].config.hold, Hold::None);
        assert_eq!(image.volumes[&VolumeId(3)].config.hold, Hold::Own);
    }

    #[test]
    fn a_lost_primary_leaves_half_made_mirrors_inconsistent_and_whole_ones_good() {
        let mut image = image(&[
            PairState::Copy,
            PairState::Splitting,
            PairState::Duplex,
            PairState::Split,
            PairState::Restoring,
        ]);
        let dissolved = image.dissolve_pairs_of(&[VolumeId(1)].into());
        assert_eq!(dissolved.len(), 5);
        assert!(image.pairs.is_empty());
        assert_eq!(inconsistent(&image), [2, 3]);
        assert!(
            image
                .volumes
                .values()
                .skip(1)
                .all(|known| known.config.hold == Hold::None)
        );
    }

    #[test]
    fn nothing_lost_changes_nothing() {
        let mut image = image(&[PairState::Copy]);
        let before = image.clone();
        assert!(image.dissolve_pairs_of(&BTreeSet::new()).is_empty());
        assert!(image.dissolve_pairs_of(&[VolumeId(9)].into()).is_empty());
        assert_eq!(image, before);
    }
}
