//! The schedule of faults is a function of the seed: what strikes, whom, when and for how long, but not what meets it.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::nemesis::{Fault, Nemesis};

/// A fault, with its time.
pub(crate) struct Step {
    /// When it strikes, since the run began.
    pub(crate) at: Duration,
    /// When it is healed, since the run began.
    pub(crate) until: Duration,
    /// Its kind.
    pub(crate) nemesis: &'static Nemesis,
    /// What it is.
    pub(crate) fault: Box<dyn Fault>,
}

/// Draws the faults of a run. Every kind comes equally often; now and then two of different kinds overlap.
pub(crate) fn draw(seed: u64, kinds: &[&'static Nemesis], length: Duration, nodes: usize) -> Vec<Step> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut steps: Vec<Step> = Vec::new();
    let mut deck = Vec::new();
    // The first and the last twelfth are quiet: there is something to compare with.
    let (mut at, end) = (length / 12, length - length / 12);
    while !kinds.is_empty() {
        if deck.is_empty() {
            deck = kinds.to_vec();
            deck.shuffle(&mut rng);
        }
        let Some(nemesis) = deck.pop() else { break };
        let fault = (nemesis.draw)(&mut rng, nodes);
        let until = at + fault.lasts(duration(&mut rng).min(length / 4));
        if until > end {
            break;
        }
        steps.push(Step {
            at,
            until,
            nemesis,
            fault,
        });
        let overlaps = deck.last().is_some_and(|next| next.name != nemesis.name) && rng.random_bool(0.25);
        let gap = Duration::from_millis(rng.random_range(100..2500)).min(length / 12);
        at = if overlaps {
            at + (until - at) / 2
        } else {
            latest(&steps) + gap
        };
    }
    steps
}

/// Until when a fault is there.
fn latest(steps: &[Step]) -> Duration {
    steps.iter().map(|step| step.until).max().unwrap_or_default()
}

/// Short, long enough to be noticed by the failure detector, or longer than every time limit.
fn duration(rng: &mut StdRng) -> Duration {
    let range = match rng.random_range(0..10) {
        0..3 => 200..1_000,
        3..8 => 1_000..4_000,
        _ => 6_000..12_000,
    };
    Duration::from_millis(rng.random_range(range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::ALL;

    fn told(steps: &[Step]) -> Vec<String> {
        let tell = |step: &Step| {
            format!(
                "{:?} {:?} {} {}",
                step.at,
                step.until,
                step.nemesis.name,
                step.fault.detail()
            )
        };
        steps.iter().map(tell).collect()
    }

    #[test]
    fn the_schedule_is_a_function_of_the_seed() {
        let schedule = |seed| told(&draw(seed, &ALL, Duration::from_secs(60), 5));
        assert_eq!(schedule(7), schedule(7));
        assert_ne!(schedule(7), schedule(8));
    }

    #[test]
    fn faults_keep_within_the_run_and_one_kind_does_not_overlap_itself() {
        for seed in 0..200 {
            for seconds in [1, 5, 60] {
                let length = Duration::from_secs(seconds);
                let steps = draw(seed, &ALL, length, 5);
                assert!(!steps.is_empty(), "seed {seed}, {seconds} s");
                assert!(steps.iter().all(|step| step.at < step.until && step.until < length));
                for (index, step) in steps.iter().enumerate() {
                    let later = steps[index + 1..]
                        .iter()
                        .find(|later| later.nemesis.name == step.nemesis.name);
                    assert!(later.is_none_or(|later| later.at >= step.until), "{:?}", told(&steps));
                }
            }
        }
    }

    #[test]
    fn every_kind_comes_equally_often() {
        for seed in 0..50 {
            let steps = draw(seed, &ALL, Duration::from_secs(600), 5);
            let counts = ALL.map(|kind| steps.iter().filter(|step| step.nemesis.name == kind.name).count());
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(
                most.zip(least).is_some_and(|(most, least)| most - least <= 1),
                "{counts:?}"
            );
        }
    }
}
