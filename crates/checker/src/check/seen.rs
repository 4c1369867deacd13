//! What must not be shown: nothing made up, given up, expired or replaced.

use std::collections::BTreeSet;

use crate::history::{Conflicts, Outcome};

use super::cover::{Covers, by_context, by_coordinator};
use super::key::Sight;
use super::words::{at, shown, sight_of, write_of};
use super::{Found, Promise};

/// Looks at each value wherever it is shown.
pub(super) fn check(found: &mut Found<'_>) {
    let key = found.key;
    let covers = [
        (Promise::Resurrected, by_context(key)),
        (Promise::Outlived, by_coordinator(key)),
    ];
    // Each promise and value once: a value that is wrong is often shown again and again.
    let mut reported = BTreeSet::new();
    let mut first = |promise, value| reported.insert((promise, value));
    for sight in &key.sights {
        if key.conflicts == Conflicts::Lww && sight.values.len() > 1 && first(Promise::Together, sight.values[0]) {
            several(found, sight);
        }
        for &value in &sight.values {
            let Some(place) = key.write_of(value) else {
                if first(Promise::MadeUp, value) {
                    nobodys(found, sight, value);
                }
                continue;
            };
            if let Some((promise, detail)) = alone(found, sight, place)
                && first(promise, value)
            {
                found.broken(promise, Some(value), &[Some(value), sight.number()], detail);
            }
            beside(found, sight, place, &mut first);
            for (promise, covers) in &covers {
                if let Some(by) = replaced(found, sight, &covers[place])
                    && first(*promise, value)
                {
                    back(found, sight, (*promise, place, by));
                }
            }
        }
    }
}

fn several(found: &mut Found<'_>, sight: &Sight<'_>) {
    let detail = format!("{}, and in an lww bucket one value is shown", sight_of(sight));
    let value = sight.values[0];
    found.broken(Promise::Together, Some(value), &[Some(value), sight.number()], detail);
}

fn nobodys(found: &mut Found<'_>, sight: &Sight<'_>, value: u64) {
    let detail = match value {
        0 => format!("{}: one of these is no number of a write", sight_of(sight)),
        _ => format!("{}: no write of this key wrote {value}", sight_of(sight)),
    };
    found.broken(Promise::MadeUp, Some(value), &[sight.number()], detail);
}

/// What is wrong with a value whatever else was written.
fn alone(found: &Found<'_>, sight: &Sight<'_>, place: usize) -> Option<(Promise, String)> {
    let key = found.key;
    let write = &key.writes[place];
    if write.start_us() > sight.end_us {
        let detail = format!("{} was not sent yet for {}", write_of(write), sight_of(sight));
        Some((Promise::MadeUp, detail))
    } else if write.operation.outcome == Outcome::Nothing {
        let detail = format!("{} is shown: {}", write_of(write), sight_of(sight));
        Some((Promise::Never, detail))
    } else if key.expired_us(write) < sight.start_us {
        let detail = format!(
            "{} was to be hidden from {} on, at the latest: {}",
            write_of(write),
            at(key.expired_us(write)),
            sight_of(sight)
        );
        Some((Promise::Expired, detail))
    } else {
        None
    }
}

/// Whoever joins a write to what there is drops what its context names: no object holds both.
fn beside(found: &mut Found<'_>, sight: &Sight<'_>, place: usize, first: &mut impl FnMut(Promise, u64) -> bool) {
    let key = found.key;
    if sight.values.len() < 2 || key.conflicts == Conflicts::Lww {
        return;
    }
    let write = &key.writes[place];
    for &value in write.names() {
        let is_beside = value != write.number() && sight.shows(value);
        if let Some(of) = key.write_of(value).filter(|_| is_beside)
            && first(Promise::Together, value)
        {
            let detail = format!(
                "{} is shown beside {}, whose context names it: {}",
                write_of(&key.writes[of]),
                write_of(write),
                sight_of(sight)
            );
            let operations = [Some(value), Some(write.number()), sight.number()];
            found.broken(Promise::Together, Some(value), &operations, detail);
        }
    }
}

fn replaced(found: &Found<'_>, sight: &Sight<'_>, covers: &Covers) -> Option<usize> {
    let is_judged = sight.is_final() || found.holds(Promise::Stale);
    covers.known_to(sight).filter(|_| is_judged)
}

fn back(found: &mut Found<'_>, sight: &Sight<'_>, (promise, value, by): (Promise, usize, usize)) {
    let (write, by) = (&found.key.writes[value], &found.key.writes[by]);
    let why = match promise {
        Promise::Outlived => "which was sent when all owners had it and replaces what its coordinator knows".to_owned(),
        _ => format!("whose context named {}", shown(by.names())),
    };
    let detail = format!(
        "{} was replaced by {}, {why}; it is back: {}",
        write_of(write),
        write_of(by),
        sight_of(sight)
    );
    let operations = [Some(write.number()), Some(by.number()), sight.number()];
    found.broken(promise, Some(write.number()), &operations, detail);
}
