//! Which key is asked for next: all alike, or the first ones far more often than the others.

use rand::{Rng, RngExt};

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Distribution {
    /// Every key alike.
    Uniform,
    /// The k-th key in proportion to 1/k^S.
    Zipf,
}

pub(super) enum Keys {
    Uniform(u64),
    Zipf(Zipf),
}

impl Keys {
    pub(super) fn new(distribution: Distribution, count: u64, skew: f64) -> Self {
        match distribution {
            Distribution::Uniform => Self::Uniform(count),
            Distribution::Zipf => Self::Zipf(Zipf::new(count, skew)),
        }
    }

    /// The index of a key, from 0.
    pub(super) fn next(&self, random: &mut impl Rng) -> u64 {
        match self {
            Self::Uniform(count) => random.random_range(0..*count),
            Self::Zipf(zipf) => zipf.next(random) - 1,
        }
    }
}

/// The ring hashes names, so neighbours in the distribution are no neighbours in the cluster.
pub(super) fn name(index: u64) -> String {
    format!("key-{index:010}")
}

/// Draws from a zipf distribution without a table, by rejection-inversion, in about 1.1 tries a number: W. Hörmann,
/// G. Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions", ACM TOMACS 6 (1996).
pub(super) struct Zipf {
    count: f64,
    skew: f64,
    /// The integral of the density at the left and right end, and the width within which no test is needed.
    left: f64,
    right: f64,
    accepted: f64,
}

impl Zipf {
    pub(super) fn new(count: u64, skew: f64) -> Self {
        let mut zipf = Self {
            count: count as f64,
            skew,
            left: 0.0,
            right: 0.0,
            accepted: 0.0,
        };
        zipf.left = zipf.integral(1.5) - 1.0;
        zipf.right = zipf.integral(zipf.count + 0.5);
        zipf.accepted = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// A number from 1 to `count`.
    pub(super) fn next(&self, random: &mut impl Rng) -> u64 {
        loop {
            let area = self.right + random.random::<f64>() * (self.left - self.right);
            let point = self.inverse(area);
            let number = point.round().clamp(1.0, self.count);
            if number - point <= self.accepted || area >= self.integral(number + 0.5) - self.density(number) {
                return number as u64;
            }
        }
    }

    fn density(&self, x: f64) -> f64 {
        (-self.skew * x.ln()).exp()
    }

    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        log * exp_m1_over((1.0 - self.skew) * log)
    }

    fn inverse(&self, area: f64) -> f64 {
        // Rounding may carry it below the domain of the logarithm.
        let t = (area * (1.0 - self.skew)).max(-1.0);
        (area * ln_1p_over(t)).exp()
    }
}

/// (e^t − 1)/t, also where t is nearly 0 (an exponent of 1).
fn exp_m1_over(t: f64) -> f64 {
    if t.abs() > 1e-8 { t.exp_m1() / t } else { 1.0 + t / 2.0 }
}

/// ln(1 + t)/t, also where t is nearly 0.
fn ln_1p_over(t: f64) -> f64 {
    if t.abs() > 1e-8 { t.ln_1p() / t } else { 1.0 - t / 2.0 }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    /// The naive twin: each number's probability from its definition.
    fn probabilities(count: u64, skew: f64) -> Vec<f64> {
        let weights: Vec<f64> = (1..=count).map(|k| (k as f64).powf(-skew)).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }

    #[test]
    fn zipf_draws_each_number_as_often_as_its_definition_says() {
        const DRAWS: usize = 200_000;
        for (count, skew) in [(1, 0.99), (2, 1.0), (10, 0.5), (100, 0.99), (1000, 1.0), (50, 2.5)] {
            let (zipf, mut random) = (Zipf::new(count, skew), StdRng::seed_from_u64(7));
            let mut drawn = vec![0_u32; count as usize];
            for _ in 0..DRAWS {
                drawn[zipf.next(&mut random) as usize - 1] += 1;
            }
            for (index, probability) in probabilities(count, skew).into_iter().enumerate() {
                let expected = probability * DRAWS as f64;
                let tolerance = 6.0 * (expected * (1.0 - probability)).sqrt() + 1.0;
                let deviation = (f64::from(drawn[index]) - expected).abs();
                assert!(
                    deviation <= tolerance,
                    "count {count}, skew {skew}, number {}: {deviation}",
                    index + 1
                );
            }
        }
    }

    #[test]
    fn uniform_stays_in_its_range_and_reaches_its_ends() {
        let (keys, mut random) = (Keys::new(Distribution::Uniform, 3, 0.99), StdRng::seed_from_u64(7));
        let mut drawn = [false; 3];
        for _ in 0..1000 {
            drawn[keys.next(&mut random) as usize] = true;
        }
        assert_eq!(drawn, [true; 3]);
    }
}
