//! The detector agrees with phi as the paper defines it, computed the slow way.

use std::time::Duration;

use annulus_causality::Instant;
use annulus_membership::{Detector, Liveness, Timing};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::world::HEARTBEAT;

const WINDOW: usize = 64;

/// Keeps everything, and integrates the tail of the normal distribution numerically.
struct Naive {
    last: f64,
    intervals: Vec<f64>,
}

impl Naive {
    fn heard(&mut self, at: f64) {
        let interval = at - self.last;
        self.last = at;
        if interval >= 0.25 {
            self.intervals.push(interval.min(3.0));
        }
    }

    fn phi(&self, at: f64) -> f64 {
        let window = &self.intervals[self.intervals.len().saturating_sub(WINDOW)..];
        let (mean, deviation) = if window.is_empty() {
            (0.5, 0.125)
        } else {
            let count = window.len() as f64;
            let mean = window.iter().sum::<f64>() / count;
            let variance = window.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            (mean, variance.sqrt().max(0.125))
        };
        -log10_tail((at - self.last - mean) / deviation)
    }

    fn liveness(&self, at: f64) -> Liveness {
        let silence = at - self.last;
        match self.phi(at) {
            phi if phi >= 16.0 && silence >= 10.0 => Liveness::Down,
            phi if phi >= 8.0 && silence >= 1.5 => Liveness::Suspect,
            _ => Liveness::Alive,
        }
    }
}

/// log₁₀ of the probability that a standard normal variable exceeds `z`: Simpson's rule on the density, scaled by its
/// value at `z` so that nothing underflows.
fn log10_tail(z: f64) -> f64 {
    if z < 0.0 {
        return 0.0;
    }
    let (steps, width) = (2000, 12.0);
    let h = width / f64::from(steps);
    let scaled = |t: f64| (-(z * t) - t * t / 2.0).exp();
    let weight = |i: i32| {
        if i == 0 || i == steps {
            1.0
        } else if i % 2 == 1 {
            4.0
        } else {
            2.0
        }
    };
    let integral = (0..=steps).map(|i| weight(i) * scaled(f64::from(i) * h)).sum::<f64>() * h / 3.0;
    (-z * z / 2.0) * std::f64::consts::LOG10_E + (integral / (2.0 * std::f64::consts::PI).sqrt()).log10()
}

fn at(seconds: f64) -> Instant {
    Instant::from_nanos((seconds * 1e9).round() as u64)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prop_the_detector_is_phi_accrual(
        gaps in vec(prop_oneof![4 => 300u32..900, 1 => 0u32..300, 1 => 900u32..4000], 0..200),
        silence in 0u32..25_000,
    ) {
        let mut detector = Detector::new(Timing::of(HEARTBEAT), at(1.0));
        let mut naive = Naive { last: 1.0, intervals: Vec::new() };
        let mut now = 1000u32;
        for gap in gaps {
            now += gap;
            detector.heard(at(f64::from(now) / 1e3));
            naive.heard(f64::from(now) / 1e3);
        }
        let then = f64::from(now + silence) / 1e3;
        // Just before and just after, so that rounding does not decide.
        let (early, late) = (naive.liveness(then - 1e-3), naive.liveness(then + 1e-3));
        let got = detector.liveness(at(then));
        prop_assert!((early..=late).contains(&got), "{got:?} is not from {early:?} to {late:?}");
    }
}

#[test]
fn a_regular_peer_is_suspected_after_a_second_and_a_half_and_down_after_ten() {
    let mut detector = Detector::new(Timing::of(HEARTBEAT), at(0.0));
    (1..100).for_each(|beat| detector.heard(at(f64::from(beat) * 0.5)));
    assert_eq!(detector.suspect_at(), at(49.5 + 1.5));
    assert_eq!(detector.down_at(), at(49.5 + 10.0));
}

#[test]
fn an_irregular_peer_is_given_more_time() {
    let mut detector = Detector::new(Timing::of(HEARTBEAT), at(0.0));
    let mut now = 0.0;
    for beat in 0..64 {
        now += if beat % 2 == 0 { 0.3 } else { 1.1 };
        detector.heard(at(now));
    }
    let silence = detector.suspect_at().saturating_duration_since(at(now));
    assert!(silence > Duration::from_millis(2500), "{silence:?}");
}

#[test]
fn one_long_silence_does_not_make_the_detector_slow() {
    let mut detector = Detector::new(Timing::of(HEARTBEAT), at(0.0));
    (1..64).for_each(|beat| detector.heard(at(f64::from(beat) * 0.5)));
    detector.heard(at(90.0));
    let silence = detector.suspect_at().saturating_duration_since(at(90.0));
    assert!(silence < Duration::from_millis(2500), "{silence:?}");
}
