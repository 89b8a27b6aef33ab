//! What QUERY says of a copy under way.

use super::*;

/// Every kind of copy, hosts that write meanwhile to where they may, effects in any order, time passing: what is left of a
/// copy never grows, and where a rate is shown the time left is too.
#[test]
fn progress_never_goes_backwards() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let mut room = Room::new(seed, 2);
        let verb = match seed % 3 {
            0 => ESTABLISH,
            kind => {
                room.verb(ESTABLISH, &[(1, 2)]).unwrap();
                room.settle();
                room.verb(SPLIT, &[(1, 2)]).unwrap();
                room.settle();
                for _ in 0..20 {
                    let start = dice.below(BYTES - 8);
                    room.write(1, (start, start + 8), 7).unwrap();
                }
                if kind == 1 { RESTORE } else { ESTABLISH }
            }
        };
        room.verb(verb, &[(1, 2)]).unwrap();
        let view = |room: &Room| room.engine.pair(PairId(VolumeId(2))).unwrap();
        let state = view(&room).state;
        assert!(state.is_copying(), "{state:?}");
        let mut left = view(&room).remaining;
        for _ in 0..2_000 {
            match dice.below(10) {
                0 => {
                    let start = dice.below(BYTES - 8);
                    room.begin(1, HostIo::Write, (start, start + 1 + dice.below(8)), 9);
                }
                1 => room.tick(),
                _ => {
                    room.perform_one();
                }
            }
            let now = view(&room);
            if now.state != state {
                break;
            }
            assert!(
                now.remaining <= left,
                "seed {seed}: {} after {left}",
                now.remaining
            );
            assert_eq!(now.eta_seconds.is_some(), now.rate > 0);
            left = now.remaining;
        }
        room.settle();
        assert_eq!(view(&room).remaining, 0);
    }
}
