//! What a session is shown: its own writes, and nothing that it has seen replaced.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Conflicts, Operation, Outcome, Replaces};

use super::gone::gone_from;
use super::key::{Sight, Write};
use super::words::{at, sight_of, write_of};
use super::{Found, Promise};

/// Goes through each session's requests of the key, one after the other, with what the session has seen by then.
///
/// In an `lww` bucket stamps decide, and a hidden value may show again; where values expire, clocks decide. There nothing is said.
pub(super) fn check(found: &mut Found<'_>) {
    let key = found.key;
    if key.sessions.is_empty() || key.conflicts == Conflicts::Lww || key.ttl_us.is_some() {
        return;
    }
    let gone = gone_from(key);
    let mut reported = BTreeSet::new();
    for operations in key.sessions.values() {
        let mut seen = Seen::default();
        for &operation in operations {
            let written = key.writes.binary_search_by_key(&operation.number, Write::number);
            match (written, Sight::of_read(operation)) {
                (Ok(place), _) => seen.add_write(&key.writes[place], place),
                (_, Some(sight)) => {
                    let wrong = seen.unlike(found, &sight, &gone).into_iter();
                    for (value, by, detail) in wrong.filter(|(value, ..)| reported.insert(*value)) {
                        let operations = [Some(value), by, Some(operation.number)];
                        found.broken(Promise::Session, Some(value), &operations, detail);
                    }
                    seen.add_sight(found, &sight, operation);
                }
                _ => {}
            }
        }
    }
}

/// What one session has seen of a key.
#[derive(Default)]
struct Seen<'a> {
    /// Its acknowledged values, by number, with the place of the write, until they were found replaced.
    own: BTreeMap<u64, usize>,
    /// Values that were there when it last looked, its own ones among them.
    there: BTreeSet<u64>,
    /// Values that it has seen replaced, and by which of its requests.
    replaced: BTreeMap<u64, &'a Operation>,
}

impl<'a> Seen<'a> {
    fn add_write(&mut self, write: &Write<'a>, place: usize) {
        if write.acknowledged.is_none() {
            return;
        }
        let is_blind = *write.replaces == Replaces::Known;
        let replaces = |value: &u64| *value != write.number() && (is_blind || write.names().contains(value));
        let gone = self.there.iter().copied().filter(replaces).collect();
        self.lose(gone, write.operation);
        if write.is_put && !self.replaced.contains_key(&write.number()) {
            self.own.insert(write.number(), place);
            self.there.insert(write.number());
        }
    }

    fn add_sight(&mut self, found: &Found<'_>, sight: &Sight<'_>, read: &'a Operation) {
        let gone = self
            .there
            .iter()
            .copied()
            .filter(|&value| !sight.shows(value))
            .collect();
        self.lose(gone, read);
        // What nobody wrote is told elsewhere.
        let written = sight
            .values
            .iter()
            .filter(|&&value| found.key.write_of(value).is_some());
        self.there.extend(written);
    }

    fn lose(&mut self, gone: Vec<u64>, by: &'a Operation) {
        for value in gone {
            self.there.remove(&value);
            self.own.remove(&value);
            self.replaced.entry(value).or_insert(by);
        }
    }

    /// What a sight shows, or does not, though the session has seen otherwise: which value, by which request, and in words.
    fn unlike(&self, found: &Found<'_>, sight: &Sight<'_>, gone: &[u64]) -> Vec<(u64, Option<u64>, String)> {
        let missing = |&(&value, &place): &(&u64, &usize)| !sight.shows(value) && gone[place] > sight.end_us;
        let missing = self.own.iter().filter(missing).map(|(&value, &place)| {
            let write = write_of(&found.key.writes[place]);
            (
                value,
                None,
                format!("its session does not see {write}: {}", sight_of(sight)),
            )
        });
        let back = sight.values.iter().filter_map(|value| {
            let by = self.replaced.get(value)?;
            let how = match by.outcome {
                Outcome::Read { .. } => "was not shown any more by",
                _ => "was replaced by",
            };
            let (request, when) = (by.number, at(by.start_us));
            let detail = format!(
                "value {value}, which a session has seen, {how} its request {request} at {when}; it is back: {}",
                sight_of(sight)
            );
            Some((*value, Some(request), detail))
        });
        missing.chain(back).collect()
    }
}
