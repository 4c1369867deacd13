//! Dropping what has expired changes nothing that a reader could see, then or later.

use annulus_causality::{CausalContext, ConflictPolicy, Dot, Object, Timestamp, Version};
use proptest::prelude::*;

use crate::dot;

/// After this no version of these tests lives, but for those that live for ever.
const LAST: u64 = 6;

/// An object of a few versions, each with its stamp and its end.
fn object() -> impl Strategy<Value = Object> {
    let version = (0..3u64, prop::option::of(1..=LAST)).prop_map(|(millis, expires)| {
        let stamp = Timestamp { millis, logical: 0 };
        (millis, stamp, expires)
    });
    prop::collection::vec(version, 0..5).prop_map(|versions| {
        let versions = versions.into_iter().zip(1..).map(|((millis, stamp, expires), node)| {
            let value = format!("{node}/{millis}").into();
            (dot(node, 1), Version::new(value, None, Vec::new(), stamp, expires))
        });
        let versions: Vec<(Dot, Version)> = versions.collect();
        let context = versions.iter().map(|(dot, _)| *dot).collect();
        Object::new(versions, context)
    })
}

proptest! {
    #[test]
    fn prop_a_reader_sees_the_same_before_and_after_what_has_expired_is_dropped(
        object in object(),
        at in 0..=LAST,
        is_lww in any::<bool>(),
    ) {
        let policy = if is_lww { ConflictPolicy::LastWriteWins } else { ConflictPolicy::Siblings };
        let expired = object.expired(at, policy);
        let dropped = object.write(dot(9, 1), None, Some(&expired), ConflictPolicy::Siblings);
        for later in at..=LAST + 1 {
            prop_assert_eq!(dropped.visible(later, policy), object.visible(later, policy));
        }
        let is_over = |version: &Version| version.expires.is_some_and(|expires| expires <= at);
        prop_assert!(dropped.versions().iter().all(|(_, version)| !is_over(version)), "something was left");
        if !is_lww {
            let over: CausalContext =
                object.versions().iter().filter(|(_, version)| is_over(version)).map(|(dot, _)| *dot).collect();
            prop_assert_eq!(expired, over);
        }
    }

    #[test]
    fn prop_the_first_expiry_is_that_of_the_version_that_goes_first(object in object()) {
        let first = (0..=LAST).find(|at| !object.expired(*at, ConflictPolicy::Siblings).is_empty());
        prop_assert_eq!(object.first_expiry(), first);
    }
}
