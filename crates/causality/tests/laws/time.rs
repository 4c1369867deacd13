//! Stamps grow but where a clock is set back, and a clock that runs away takes nobody along.

use std::time::Duration;

use annulus_causality::{HybridClock, Instant, MAX_SKEW, SkewError, Timestamp};
use proptest::prelude::*;

proptest! {
    #[test]
    fn while_no_clock_is_set_back_every_stamp_is_greater_than_all_given_or_observed_before(
        steps in prop::collection::vec((prop::option::of((0..200_000u64, any::<u16>())), 0..5_000u64), 1..60),
    ) {
        let mut clock = HybridClock::new();
        let mut greatest: Option<Timestamp> = None;
        let mut wall = 0;
        for (observed, passed) in steps {
            wall += passed;
            match observed {
                None => {
                    let stamp = clock.now(wall);
                    prop_assert!(Some(stamp) > greatest);
                    prop_assert!(stamp.millis >= wall);
                    greatest = Some(stamp);
                }
                Some((millis, logical)) => {
                    let stamp = Timestamp { millis, logical };
                    let refused = millis > wall + 60_000;
                    prop_assert_eq!(clock.observe(wall, stamp).is_err(), refused);
                    if !refused {
                        greatest = greatest.max(Some(stamp));
                    }
                }
            }
        }
    }
}

#[test]
fn stamps_of_one_millisecond_are_told_apart() {
    let mut clock = HybridClock::new();
    let stamps = [10, 10, 9, 11].map(|wall| clock.now(wall));
    assert_eq!(
        stamps,
        [(10, 0), (10, 1), (10, 2), (11, 0)].map(|(millis, logical)| Timestamp { millis, logical })
    );
}

#[test]
fn a_full_logical_counter_carries_into_the_next_millisecond() {
    let mut clock = HybridClock::new();
    clock
        .observe(
            10,
            Timestamp {
                millis: 10,
                logical: u16::MAX,
            },
        )
        .unwrap();
    assert_eq!(clock.now(10), Timestamp { millis: 11, logical: 0 });
}

proptest! {
    #[test]
    fn whatever_a_clock_has_shown_its_stamps_are_taken_by_others(
        steps in prop::collection::vec((prop::option::of((0..400_000u64, any::<u16>())), 0..300_000u64), 1..60),
    ) {
        let mut clock = HybridClock::new();
        for (observed, wall) in steps {
            if let Some((millis, logical)) = observed {
                let _ = clock.observe(wall, Timestamp { millis, logical });
            }
            let stamp = clock.now(wall);
            prop_assert!(stamp.millis >= wall);
            // A stamp at the very limit may carry into the next millisecond.
            prop_assert_eq!(HybridClock::new().observe(wall + 1, stamp), Ok(()));
        }
    }
}

#[test]
fn a_stamp_from_the_far_future_is_refused_and_changes_nothing() {
    let mut clock = HybridClock::new();
    let limit = 1_000 + MAX_SKEW.as_millis() as u64;
    let stamp = Timestamp {
        millis: limit + 1,
        logical: 0,
    };
    assert_eq!(
        clock.observe(1_000, stamp),
        Err(SkewError {
            stamp,
            wall_millis: 1_000
        })
    );
    assert_eq!(clock, HybridClock::new());
    assert_eq!(
        clock.observe(
            1_000,
            Timestamp {
                millis: limit,
                logical: 9
            }
        ),
        Ok(())
    );
    let message = SkewError {
        stamp,
        wall_millis: 1_000,
    }
    .to_string();
    assert_eq!(
        message,
        "the stamp 61001.0 is 60001 ms ahead of this node's clock (1000), more than the 60000 ms allowed"
    );
}

#[test]
fn the_last_stamp_of_all_does_not_overflow() {
    let mut clock = HybridClock::new();
    clock
        .observe(
            u64::MAX,
            Timestamp {
                millis: u64::MAX,
                logical: u16::MAX,
            },
        )
        .unwrap();
    assert_eq!(
        clock.now(u64::MAX),
        Timestamp {
            millis: u64::MAX,
            logical: u16::MAX
        }
    );
}

#[test]
fn an_instant_beyond_the_last_is_none_or_never() {
    let late = Instant::from_nanos(u64::MAX - 5);
    assert_eq!(late.checked_add(Duration::from_nanos(5)), Some(Instant::FAR_FUTURE));
    assert_eq!(late.checked_add(Duration::from_nanos(6)), None);
    assert_eq!(late + Duration::MAX, Instant::FAR_FUTURE);
    assert_eq!(Instant::ZERO.saturating_duration_since(late), Duration::ZERO);
    assert_eq!(
        late.saturating_duration_since(Instant::ZERO).as_nanos(),
        u128::from(late.nanos())
    );
}
