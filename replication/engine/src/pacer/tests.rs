use proptest::prelude::*;

use super::*;

const WINDOW: u64 = SECOND / 10;

/// Hosts with a queue of fixed depth on a disk that copies slow down the more, the faster they go.
struct Machine {
    pacer: Pacer,
    /// Nanoseconds of an I/O without copies.
    alone: u64,
    /// Bytes a second of copies that double it.
    doubling: u64,
    /// Bytes a second of copies at most.
    fastest: u64,
    allowed: Option<u64>,
}

impl Machine {
    fn latency(&self, copying: bool) -> u64 {
        let speed = if copying {
            self.allowed.unwrap_or(u64::MAX).min(self.fastest)
        } else {
            0
        };
        self.alone + (u128::from(self.alone) * u128::from(speed) / u128::from(self.doubling)) as u64
    }

    /// A window with noise in percent; gives the latency without it.
    fn window(&mut self, copying: bool, ios: u64, noise: u64) -> u64 {
        let latency = self.latency(copying);
        let copied = if copying {
            self.allowed.unwrap_or(u64::MAX).min(self.fastest) / 10
        } else {
            0
        };
        self.allowed = self.pacer.observe(&Window {
            passed: WINDOW,
            ios,
            nanos: ios * (latency * noise / 100),
            copied,
            copying,
        });
        latency
    }
}

fn window() -> impl Strategy<Value = Window> {
    let some = || prop_oneof![Just(0u64), 0u64..100, any::<u64>()];
    (some(), some(), some(), some(), any::<bool>()).prop_map(|(passed, ios, nanos, copied, copying)| Window {
        passed,
        ios: ios.min(1 << 40),
        nanos,
        copied,
        copying,
    })
}

proptest! {
    #[test]
    fn copies_never_stop_whatever_is_measured(factor in 0u32..1000, windows in prop::collection::vec(window(), 1..200)) {
        let mut pacer = Pacer::new(factor);
        for window in windows {
            let allowed = pacer.observe(&window);
            prop_assert!(allowed.is_none_or(|rate| rate >= FLOOR));
            prop_assert!(factor > 0 || allowed.is_none());
            prop_assert!(window.copying || allowed.is_none() || window.ios < ENOUGH_IOS);
        }
    }

    #[test]
    fn hosts_stay_near_the_factor_and_copies_use_what_is_left(
        factor in 130u32..400,
        alone in 50_000u64..5_000_000,
        doubling in 50u64..1_000,
        noise in prop::collection::vec(80u64..125, 64),
        known in any::<bool>(),
    ) {
        let doubling = doubling << 20;
        let mut machine =
            Machine { pacer: Pacer::new(factor), alone, doubling, fastest: 4 << 30, allowed: None };
        let mut noise = noise.into_iter().cycle();
        if known {
            for _ in 0..20 {
                machine.window(false, 100, noise.next().unwrap());
            }
        }
        let mut steady: Vec<u64> = (0..400)
            .map(|_| machine.window(true, 100, noise.next().unwrap()))
            .skip(200)
            .collect();
        steady.sort_unstable();
        let limit = alone * u64::from(factor) / 100;
        let (median, most) = (steady[steady.len() / 2], steady[steady.len() - 1]);
        prop_assert!(median <= limit * 5 / 4, "median {median}, limit {limit}");
        prop_assert!(most <= limit * 2, "most {most}, limit {limit}");
        // At least a third of what the limit leaves to copies, or the floor.
        let left = u128::from(doubling) * u128::from(factor - 100) / 100;
        let used = u128::from(median - alone) * u128::from(doubling) / u128::from(alone);
        prop_assert!(used + 4096 >= (left / 3).min(u128::from(FLOOR)), "used {used} of {left}");

        // Without hosts' I/O it is as if there were no pacer, within two seconds.
        for _ in 0..20 {
            machine.window(true, 0, 100);
        }
        prop_assert_eq!(machine.allowed, None);
    }
}

#[test]
fn one_bad_window_costs_at_most_half_and_moves_the_baseline_little() {
    let mut machine = Machine {
        pacer: Pacer::new(200),
        alone: 100_000,
        doubling: 400 << 20,
        fastest: 200 << 20,
        allowed: None,
    };
    for _ in 0..20 {
        machine.window(false, 100, 100);
    }
    machine.window(false, 100, 5_000);
    let baseline = machine.pacer.baseline().unwrap();
    assert!((100_000..=115_000).contains(&baseline), "{baseline}");
    machine.window(true, 100, 100);
    assert_eq!(machine.allowed, None, "the hosts are as fast as they need to be");
    machine.window(true, 100, 5_000);
    assert_eq!(machine.allowed, Some(100 << 20));
    for _ in 0..10 {
        machine.window(true, 100, 100);
    }
    assert!(machine.allowed.is_none_or(|rate| rate >= 200 << 20));
}

#[test]
fn a_workload_that_changes_is_measured_anew_during_the_copy() {
    let mut machine = Machine {
        pacer: Pacer::new(200),
        alone: 100_000,
        doubling: 50 << 20,
        fastest: 1 << 30,
        allowed: None,
    };
    for _ in 0..20 {
        machine.window(false, 100, 100);
    }
    for _ in 0..50 {
        machine.window(true, 100, 100);
    }
    // The same hosts now ask for more at a time: eight times as long without any copy.
    machine.alone = 800_000;
    for _ in 0..1_000 {
        machine.window(true, 100, 100);
    }
    assert!(machine.pacer.baseline().unwrap() > 500_000);
    assert!(machine.allowed.unwrap() > 3 * FLOOR);
}
