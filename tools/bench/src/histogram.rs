//! Times by their frequency.
//!
//! The buckets are log-linear: 64 to each power of two, so that a quantile is wrong by less than 1.6 %. A value below 64 has
//! a bucket of its own. Above, its highest bit says in which power of two it lies, and the six bits that follow where in it.

/// Buckets to each power of two.
const PER_POWER: usize = 64;
/// Enough for 2^45 nanoseconds, nine hours. What is longer counts as that.
const BUCKETS: usize = PER_POWER * 40;

/// Nanoseconds, each counted in the bucket that it falls into.
#[derive(Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: u64,
    longest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            count: 0,
            sum: 0,
            longest: 0,
        }
    }
}

impl Histogram {
    /// Counts a time of so many nanoseconds.
    pub(crate) fn add(&mut self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)] += 1;
        self.count += 1;
        self.sum += nanoseconds;
        self.longest = self.longest.max(nanoseconds);
    }

    /// Counts all that `other` did.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, others) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += others;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.longest = self.longest.max(other.longest);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.buckets.fill(0);
        (self.count, self.sum, self.longest) = (0, 0, 0);
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The longest, in nanoseconds.
    pub(crate) fn longest_ns(&self) -> u64 {
        self.longest
    }

    /// Microseconds that this share of the times does not exceed; 0 when there are none.
    #[expect(clippy::cast_sign_loss, reason = "the share of a count is not negative")]
    pub(crate) fn quantile_us(&self, share: f64) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut counted = 0;
        let found = self.buckets.iter().position(|count| {
            counted += count;
            counted >= wanted
        });
        found.map_or(self.longest, least) as f64 / 1000.0
    }

    /// The mean in microseconds; 0 when there are none.
    pub(crate) fn mean_us(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.sum as f64 / self.count as f64 / 1000.0
    }
}

/// The bucket of this value.
fn bucket(value: u64) -> usize {
    if value < PER_POWER as u64 {
        return value as usize;
    }
    let power = 63 - value.leading_zeros() as usize;
    let within = (value >> (power - 6)) as usize % PER_POWER;
    ((power - 5) * PER_POWER + within).min(BUCKETS - 1)
}

/// The least value that falls into this bucket.
fn least(bucket: usize) -> u64 {
    if bucket < PER_POWER {
        return bucket as u64;
    }
    let power = bucket / PER_POWER + 5;
    ((PER_POWER + bucket % PER_POWER) as u64) << (power - 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_begins_where_the_one_before_ends() {
        for index in 1..BUCKETS {
            assert_eq!(bucket(least(index)), index);
            assert_eq!(bucket(least(index) - 1), index - 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_right_to_a_sixtieth() {
        let mut histogram = Histogram::default();
        assert!(histogram.quantile_us(0.5).abs() < f64::EPSILON);
        (1..=1000).for_each(|microseconds| histogram.add(microseconds * 1000));
        for (share, right) in [(0.001, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let quantile = histogram.quantile_us(share);
            assert!(
                (right * (1.0 - 1.0 / 60.0)..=right).contains(&quantile),
                "{share}: {quantile}"
            );
        }
        assert!((histogram.mean_us() - 500.5).abs() < 1e-9);
        assert_eq!((histogram.count(), histogram.longest_ns()), (1000, 1_000_000));
    }

    #[test]
    fn merged_is_as_if_counted_together() {
        let (mut one, mut other, mut both) = <(Histogram, Histogram, Histogram)>::default();
        for value in 0..500_u64 {
            let of = if value % 3 == 0 { &mut one } else { &mut other };
            of.add(value * value);
            both.add(value * value);
        }
        one.merge(&other);
        assert_eq!(one.buckets, both.buckets);
        assert_eq!(
            (one.count, one.sum, one.longest),
            (both.count, both.sum, both.longest)
        );
        one.clear();
        assert_eq!((one.count(), one.longest_ns()), (0, 0));
        assert!(one.buckets.iter().all(|count| *count == 0));
    }
}
