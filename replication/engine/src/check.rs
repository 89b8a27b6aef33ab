//! Do the two volumes of a pair hold the same wherever its bitmaps have no mark? They should, in COPY, DUPLEX, RESTORED and SPLIT; a
//! disk that lies, a cable or a fault of ours can make them differ without anybody knowing.
//!
//! Whoever asks compares large ranges beside everything else first, which says little of a track that is being written, and hands
//! what looks different to [`Input::Check`](crate::effects::Input::Check). That locks the tracks, shared: hosts read on, writes and copies of them wait, and what was under
//! way on either side has ended. Then the marks and the bytes are looked at once more, and what differs now does so without an excuse.
//!
//! What to do about it is a command of its own: [`RemoteAct::Adopt`](crate::command::RemoteAct::Adopt) marks tracks of a pair that is apart, [`RemoteAct::Owe`](crate::command::RemoteAct::Owe)
//! has them copied in one that is established. Neither needs the lock, for a mark too many only costs a copy.

use crate::{
    effects::{Effect, Effects, Found},
    engine::Engine,
    ids::{CheckId, PairId},
    job::{Job, Next, Work},
    state::PairState,
    track::TrackRange,
    track_lock::Mode,
};

impl Engine {
    /// The parts of these tracks that both volumes of the pair should hold the same in.
    pub fn comparable(&self, id: PairId, tracks: TrackRange) -> Vec<TrackRange> {
        let Some(pair) = self.pairs.get(&id).filter(|pair| is_settled(pair.meta.state)) else {
            return Vec::new();
        };
        if !self.is_within_reach(id.0) || pair.meta.primary.is_foreign() {
            return Vec::new();
        }
        let own = [
            &pair.bits.todo,
            &pair.bits.primary_changed,
            &pair.bits.mirror_changed,
        ];
        // What other pairs still bring to either is promised, and not there yet.
        let promised = [pair.meta.primary, id.0]
            .into_iter()
            .flat_map(|volume| self.incoming(volume))
            .map(|other| &self.pairs[&other].bits.todo);
        own.into_iter()
            .chain(promised)
            .fold(vec![tracks], |runs, marked| {
                runs.into_iter()
                    .flat_map(|run| crate::plan::gaps(marked, run))
                    .collect()
            })
    }

    /// A check arrives.
    pub(crate) fn check_begin(&mut self, id: CheckId, pair: PairId, tracks: TrackRange, out: &mut Effects) {
        if !self.is_comparable(pair, tracks) {
            return checked(id, Found::Marked, out);
        }
        let root = self.root(pair.0);
        if self.family(root).closed {
            return checked(id, Found::Busy, out);
        }
        let work = Work::Check {
            id,
            pair,
            flying: false,
        };
        self.admit(root, tracks, Some(Mode::Shared), work);
    }

    /// Looks at a check.
    pub(crate) fn advance_check(&mut self, job: &mut Job, out: &mut Effects) -> Next {
        let Work::Check { id, pair, flying } = job.work else {
            return Next::Over;
        };
        if !self.is_comparable(pair, job.tracks) {
            checked(id, Found::Marked, out);
            return Next::Over;
        }
        if flying {
            let found = match job.failures.pop() {
                None => Found::Equal,
                Some((_, crate::effects::Outcome::Differs)) => Found::Different,
                Some(_) => Found::Unreadable,
            };
            checked(id, found, out);
            return Next::Over;
        }
        let primary = self.pairs[&pair].meta.primary;
        let range = self.volume(primary).geometry.bytes_of(job.tracks);
        let token = self.part(job, 0);
        out.push(Effect::Compare {
            token,
            volumes: [primary, pair.0],
            range,
        });
        job.work = Work::Check {
            id,
            pair,
            flying: true,
        };
        Next::Keep
    }

    fn is_comparable(&self, id: PairId, tracks: TrackRange) -> bool {
        self.comparable(id, tracks)[..] == [tracks]
    }
}

/// Do both volumes hold the same in such a state, but for the marks?
fn is_settled(state: PairState) -> bool {
    matches!(
        state,
        PairState::Copy | PairState::Duplex | PairState::Restored | PairState::Split
    )
}

fn checked(id: CheckId, found: Found, out: &mut Effects) {
    out.push(Effect::Checked { id, found });
}
