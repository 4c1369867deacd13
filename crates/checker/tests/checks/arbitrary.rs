//! Random histories, right and wrong alike, dense enough that every rule and every excuse comes up.

use annulus_checker::{Action, Bucket, Conflicts, Fault, Final, History, Operation, Outcome, Record, Replaces};
use proptest::collection::vec;
use proptest::prelude::*;

/// Moments are few, so that many coincide.
const TICK_US: u64 = 100;
const NUMBERS: u64 = 24;

fn moment() -> impl Strategy<Value = u64> {
    (0..40u64).prop_map(|tick| tick * TICK_US)
}

fn values() -> impl Strategy<Value = Vec<u64>> {
    vec(prop_oneof![1 => 0..NUMBERS + 2, 6 => 1..=NUMBERS / 2], 0..4)
}

const NAMES: [&str; 4] = ["plain", "lww", "ttl", "both"];

/// Mostly one key, so that much happens to it.
fn key(home: usize) -> impl Strategy<Value = String> {
    let bucket = prop_oneof![6 => Just(home), 1 => 0..NAMES.len()];
    (bucket, proptest::bool::weighted(0.9)).prop_map(|(bucket, is_first)| {
        let key = if is_first { "k" } else { "j" };
        format!("{}/{key}", NAMES[bucket])
    })
}

fn node() -> impl Strategy<Value = String> {
    (1..4u8).prop_map(|number| format!("n{number}"))
}

fn replaces() -> impl Strategy<Value = Replaces> {
    prop_oneof![1 => Just(Replaces::Known), 3 => values().prop_map(Replaces::Shown)]
}

fn write_outcome() -> impl Strategy<Value = Outcome> {
    let written = (
        prop_oneof![0..4u8, Just(3u8)],
        prop_oneof![2 => Just(0u8), 1 => 1..3u8],
        prop_oneof![4 => Just(3u8), 1 => 2..5u8],
    );
    let written = written.prop_map(|(answered, fallbacks, n)| Outcome::Written { answered, fallbacks, n });
    prop_oneof![6 => written, 1 => Just(Outcome::Nothing), 1 => Just(Outcome::Unknown)]
}

fn asked() -> impl Strategy<Value = (Action, Outcome)> {
    let durable = || proptest::bool::weighted(0.8);
    let put = (replaces(), durable()).prop_map(|(replaces, durable)| Action::Put { replaces, durable });
    let delete = (replaces(), durable()).prop_map(|(replaces, durable)| Action::Delete { replaces, durable });
    let read = (values(), 0..4u8, Just(3u8)).prop_map(|(values, answered, n)| Outcome::Read { values, answered, n });
    let get = (proptest::bool::weighted(0.8), read);
    prop_oneof![
        4 => (put, write_outcome()),
        1 => (delete, write_outcome()),
        4 => get.prop_map(|(strict, read)| (Action::Get { strict }, read)),
        // Records that make no sense must not hurt.
        1 => (Just(Action::Get { strict: true }), write_outcome()),
    ]
}

fn operation(number: u64, home: usize) -> impl Strategy<Value = Operation> {
    let times = (moment(), 0..8u64, 0..8u64, proptest::bool::weighted(0.9));
    let who = (1..4u32, proptest::option::weighted(0.7, 1..3u64), node());
    (times, who, key(home), asked()).prop_map(move |(times, who, key, (action, outcome))| {
        let (start_us, lasts, patience, is_answered) = times;
        let (client, session, node) = who;
        Operation {
            number,
            client,
            session,
            node,
            key,
            start_us,
            end_us: is_answered.then_some(start_us + lasts * TICK_US),
            deadline_us: start_us + patience * TICK_US,
            action,
            outcome,
        }
    })
}

fn last(home: usize) -> impl Strategy<Value = Final> {
    (key(home), node(), 20..60u64, values()).prop_map(|(key, node, tick, values)| Final {
        key,
        node,
        at_us: tick * TICK_US,
        values,
    })
}

fn fault() -> impl Strategy<Value = Fault> {
    (".*", ".*", moment(), moment()).prop_map(|(name, detail, start_us, end_us)| Fault {
        name,
        detail,
        start_us,
        end_us,
    })
}

/// The skew that fits the moments of [`history`].
pub(crate) fn skew_us() -> impl Strategy<Value = u64> {
    (0..4u64).prop_map(|ticks| ticks * TICK_US)
}

/// Any history of these few keys.
pub(crate) fn history() -> impl Strategy<Value = History> {
    let of_home = |home: usize| {
        let operations: Vec<_> = (1..=NUMBERS).map(|number| operation(number, home)).collect();
        (operations, vec(last(home), 0..8))
    };
    let most = (0..NAMES.len()).prop_flat_map(of_home);
    (1..4u64, most, vec(fault(), 0..2), 0..=NUMBERS as usize).prop_map(
        |(ttl, (mut operations, finals), faults, count)| {
            operations.truncate(count);
            let mut history = History {
                operations,
                finals,
                faults,
                ..History::default()
            };
            let buckets = [
                ("lww", Conflicts::Lww, None),
                ("ttl", Conflicts::Siblings, Some(ttl)),
                ("both", Conflicts::Lww, Some(ttl)),
            ];
            for (name, conflicts, ttl_ms) in buckets {
                let name = name.to_owned();
                history.push(Record::Bucket(Bucket {
                    name,
                    conflicts,
                    ttl_ms,
                }));
            }
            history
        },
    )
}
